//! Several nodes over one database, from outside: whatever a client may do at one node, it may do at any other. What
//! happens to a node costs its clients a reconnect, and its runs another attempt.
//!
//! Nothing is measured in time. What has to happen is waited for. What must not happen is checked once everything that
//! could cause it has happened.

mod engine;
mod fail_over;
mod outage;
mod outgoing;
mod runs;
mod schedules;
mod start;
mod streams;
mod tickets;

use std::ops::Deref;

use serde_json::{Value, json};

use crate::common::client::{Request, Response};
use crate::common::postgres::{Disk, Postgres};
use crate::common::server::{Server, Setup};
use crate::common::stream::Event;
use crate::common::wait_for;

const STREAM: &str = "/api/sse/projects/p";
const EVENTS: &str = "/api/projects/p/events";
const RUNS: &str = "/api/projects/p/workflows";

/// How long a silent node is believed alive here, so that tests are quick.
const NODE_TTL: &str = "5s";

/// Where the nodes of a test keep what they keep.
struct Cluster {
    engine: Engine,
    url: String,
    setup: Setup,
    node_ttl: &'static str,
}

/// The engine of a test.
enum Engine {
    /// One that other tests use as well.
    Shared(&'static Postgres),
    /// One that the test may do anything to.
    Own(Postgres),
}

impl Deref for Engine {
    type Target = Postgres;

    fn deref(&self) -> &Postgres {
        match self {
            Self::Shared(engine) => engine,
            Self::Own(engine) => engine,
        }
    }
}

impl Cluster {
    /// With a database of its own; none where PostgreSQL is not installed, and the test is to be skipped.
    fn new() -> Option<Self> {
        Self::of(Engine::Shared(Postgres::shared()?))
    }

    /// With an engine of its own.
    fn with_engine() -> Option<Self> {
        Self::of(Engine::Own(Postgres::start_with(Disk::Unsynced, &[])?))
    }

    fn of(engine: Engine) -> Option<Self> {
        let url = engine.database();
        Some(Self { engine, url, setup: Setup::default(), node_ttl: NODE_TTL })
    }

    /// Changes what nodes are started with from here on.
    fn with(mut self, change: impl FnOnce(Setup) -> Setup) -> Self {
        self.setup = change(self.setup);
        self
    }

    /// Changes how long a silent node is believed alive.
    fn believing(mut self, node_ttl: &'static str) -> Self {
        self.node_ttl = node_ttl;
        self
    }

    /// What a node is started with.
    fn setup(&self) -> Setup {
        self.setup_at(&self.url)
    }

    /// The same, to whom the database is at this address.
    fn setup_at(&self, url: &str) -> Setup {
        self.setup.clone().flags(&["--cluster-node-ttl", self.node_ttl]).data_url(url)
    }

    fn node(&self) -> Server {
        self.setup().start()
    }

    /// So many nodes, started at the same time.
    fn nodes<const N: usize>(&self) -> [Server; N] {
        let starting = [(); N].map(|()| self.setup().launch());
        starting.map(|node| node.listening())
    }

    fn sql(&self, sql: &str) -> String {
        self.engine.sql(&self.url, sql)
    }
}

fn note(n: u64) -> Value {
    json!({"type": "note", "payload": {"n": n}})
}

/// Publishes `n` in the project `p`; its id.
fn publish(server: &Server, n: u64) -> String {
    id_of(&server.post(EVENTS, &note(n)))
}

fn id_of(answer: &Response) -> String {
    assert_eq!(answer.status, 202, "{answer:?}");
    answer.json()["ids"][0].as_str().expect("an id").to_owned()
}

/// What a stream shows of [`note`]s.
fn numbers(events: &[Event]) -> Vec<u64> {
    events.iter().filter_map(|event| event.message["payload"]["n"].as_u64()).collect()
}

fn seqs(events: &[Event]) -> Vec<u64> {
    events.iter().map(Event::seq).collect()
}

fn is_last(message: &Value) -> bool {
    message["type"] == "workflow_completed" || message["type"] == "workflow_failed"
}

fn state(server: &Server, run: &str) -> Value {
    let answer = server.get(&format!("{RUNS}/{run}"));
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

/// Waits until a step of a run is in this status, as this node sees it.
fn wait_for_step(server: &Server, run: &str, step: usize, status: &str) {
    wait_for(&format!("step {step} of {run} to be {status}"), || {
        (state(server, run)["steps"][step]["status"] == status).then_some(())
    });
}

/// All of a project's messages, of its history, as a node knows it.
fn history(server: &Server) -> Vec<Value> {
    let mut messages: Vec<Value> = Vec::new();
    let mut path = format!("{EVENTS}?limit=100");
    loop {
        let page = server.get(&path).json();
        messages.extend(page["events"].as_array().expect("a list").iter().cloned());
        match page["next"].as_str() {
            Some(next) => path = format!("{EVENTS}?limit=100&after={next}"),
            None => return messages,
        }
    }
}

/// A run that has ended: its messages as this node has them, which must be one beginning and one end.
fn whole_run(server: &Server, run: &str) -> Vec<Value> {
    let messages = server.messages("p", run);
    let of_kind = |is_it: fn(&Value) -> bool| messages.iter().filter(|message| is_it(message)).count();
    assert_eq!(of_kind(|message| message["type"] == "workflow_started"), 1, "{messages:#?}");
    assert_eq!(of_kind(is_last), 1, "exactly one last message: {messages:#?}");
    assert!(is_last(messages.last().expect("a message")), "{messages:#?}");
    messages
}

fn from(id: &str) -> Request {
    Request::get(STREAM).header("Last-Event-ID", id)
}
