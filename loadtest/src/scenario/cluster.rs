//! What several nodes over one PostgreSQL cost, beside the bare engine: publishes through the log, from a publisher at one
//! node to a subscriber at another, runs of three steps, how soon another node goes on with the runs of one that was
//! killed, and a node's memory. The engine is started here and syncs.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use super::shown::{LATENCY_COLUMNS, latency_cells, report};
use super::steps::{NO_BOUNDS, check_published};
use super::workflow::{chain, nanoseconds, peer_rate, submit};
use crate::failure::{Outcome, failure};
use crate::flight::Flight;
use crate::follower::{Caller, Follower};
use crate::latency::Latencies;
use crate::options::{Options, Parameter, Scenario};
use crate::peers::Peer;
use crate::postgres::{Disk, Postgres};
use crate::publisher::{Pace, Plan, Publisher};
use crate::report::{Report, Table};
use crate::server::{Choice, Data, Server, Setup, TemporaryDirectory};
use crate::watch::Watch;

pub const SCENARIO: Scenario = Scenario {
    name: "cluster",
    about: "several nodes on one PostgreSQL, compared with PostgreSQL alone: publishing, node to node latency, runs, takeover, memory",
    parameters: &[
        Parameter {
            name: "in-flight",
            default: "1,8,64",
            help: "publish requests in flight, and rows per call to PostgreSQL alone",
        },
        Parameter { name: "payload", default: "250", help: "size of each payload in bytes" },
        Parameter { name: "runs", default: "64", help: "runs in flight" },
        Parameter { name: "seconds", default: "4", help: "measured seconds of each part" },
        Parameter {
            name: "latencies",
            default: "1000",
            help: "messages sent from one node to the other, one after another",
        },
        Parameter {
            name: "apart",
            default: "20",
            help: "milliseconds between two such messages; a node notifies others every 10 ms",
        },
        Parameter { name: "take-overs", default: "3", help: "number of nodes to kill" },
        Parameter {
            name: "ttl",
            default: "15",
            help: "seconds after which a silent node counts as failed (cluster.node_ttl)",
        },
        Parameter { name: "shared-buffers", default: "128", help: "shared_buffers of PostgreSQL, in MiB" },
    ],
    data: &[Data::Temporary],
    limit_s: 300,
    run,
};

/// What is around a payload in a message.
const ENVELOPE_BYTES: usize = 50;

/// What passes before a rate counts.
const WARM_UP: Duration = Duration::from_millis(500);

const PROJECT: &str = "logged";

/// A program that outlives any wait of this scenario.
const TOOL: &str = "[tools.stay]\nkind = \"command\"\nargv = [\"sleep\", \"600\"]\n";

/// What all parts are carried out with.
struct Parts<'a> {
    options: &'a Options,
    engine: &'a Postgres,
    time: Duration,
}

fn run(options: &Options, data: Data, watch: &mut Watch) -> Outcome<Report> {
    let mut report = report(options, data);
    let buffers = format!("shared_buffers={}MB", options.number::<u32>("shared-buffers")?);
    let settings = [buffers.as_str(), "max_wal_size=2GB"];
    let Some(engine) = Postgres::start_with(Disk::Synced, &settings) else {
        return failure("PostgreSQL is not installed (apt-get install postgresql)");
    };
    let parts = Parts { options, engine: &engine, time: Duration::from_secs_f64(options.number("seconds")?) };
    let published = parts.publishes(watch, &mut report)?;
    report.table(published);
    report.table(parts.across_nodes()?);
    parts.runs(watch, &mut report)?;
    report.table(parts.take_overs()?);
    parts.memory(data, &mut report)?;
    Ok(report)
}

impl Parts<'_> {
    fn node(&self, url: &str, flags: &[&str]) -> Outcome<Server> {
        let flags = [&NO_BOUNDS[..], &["--limits-queued-runs", "100000"], flags].concat();
        Server::start_with(&self.options.server, &Setup { url: Some(url), ..Setup::new(Data::None, &flags) })
    }

    fn publishes(&self, watch: &mut Watch, report: &mut Report) -> Outcome<Table> {
        let columns = ["together", "bare rows/s", "messages/s", "ratio", "answer p50 ms", "answer p99 ms"];
        let mut table = Table::new("publishes", &columns);
        let payload: usize = self.options.number("payload")?;
        for together in self.options.numbers("in-flight")? {
            let url = self.engine.database();
            let bare = self.engine.bare_rate(&url, together, payload + ENVELOPE_BYTES, self.time);
            let node = self.node(&url, &[])?;
            let publisher = Publisher::start(Plan {
                target: node.target(),
                projects: vec![PROJECT.to_owned()],
                payload_bytes: payload,
                batch: 1,
                connections: together,
                pace: Pace::BackToBack,
                requests: u64::MAX,
                token: None,
            })?;
            let so_far = || format!("{} messages", publisher.accepted());
            watch.pass("publishes", WARM_UP, so_far)?;
            let (began, before) = (Instant::now(), publisher.accepted());
            watch.pass("publishes", self.time, so_far)?;
            let rate = (publisher.accepted() - before) as f64 / began.elapsed().as_secs_f64();
            let published = publisher.stop()?;
            check_published(report, "publishes", &published);
            node.stop()?;
            let answers = [json!(published.answers.ms(0.5)), json!(published.answers.ms(0.99))];
            table.row([&[json!(together), json!(bare), json!(rate), json!(rate / bare)][..], &answers].concat());
        }
        report.note("bare rows/s: pgbench on one connection; each call checks a lease, advances a head and inserts that many rows");
        Ok(table)
    }

    /// From the call at one node until a subscriber of the other has the message, one after another.
    fn across_nodes(&self) -> Outcome<Table> {
        let url = self.engine.database();
        let (a, b) = (self.node(&url, &[])?, self.node(&url, &[])?);
        let mut latencies = Latencies::default();
        let (mut caller, mut follower) = (Caller::start(a.target())?, Follower::start(b.target(), PROJECT)?);
        let path = format!("/api/projects/{PROJECT}/events");
        for _ in 0..self.options.number("latencies")? {
            let began = Instant::now();
            match caller.post(&path, r#"{"type":"note","payload":{}}"#)? {
                202 => {}
                status => return failure(format!("a publish request was answered with {status}")),
            }
            follower.wait_for("note", None)?;
            latencies.record(nanoseconds(began.elapsed()));
            std::thread::sleep(Duration::from_millis(self.options.number("apart")?));
        }
        let mut table = Table::new("from node to node", &[&["what", "times"][..], &LATENCY_COLUMNS].concat());
        let cells = [json!("publish at one, subscriber at the other"), json!(latencies.len())];
        table.row([&cells[..], &latency_cells(&latencies)].concat());
        a.stop()?;
        b.stop()?;
        Ok(table)
    }

    fn runs(&self, watch: &mut Watch, report: &mut Report) -> Outcome<()> {
        let in_flight = self.options.number("runs")?;
        let node = self.node(&self.engine.database(), &[])?;
        let mut flight = Flight::new(node.target(), "flight", &chain(3).to_string(), in_flight)?;
        let began = Instant::now();
        let ours = flight.keep_up(self.time)? as f64 / began.elapsed().as_secs_f64();
        report.figure("runs of three steps", ours, "/s");
        drop(flight);
        node.stop()?;
        let peer = Peer::find("restate")?;
        if let Some(lack) = peer.lack() {
            report.note(format!("restate: {lack}"));
            return Ok(());
        }
        let server = Server::start(&Choice::Peer { peer, is_pinned: false }, Data::None, &[])?;
        let theirs = peer_rate(&server, in_flight, self.time, watch)?;
        server.stop()?;
        report.figure("restate's runs of three steps", theirs, "/s");
        report.figure("times restate's", ours / theirs, "");
        Ok(())
    }

    /// From the kill of a node until the other has begun its step anew, as a subscriber there sees it.
    fn take_overs(&self) -> Outcome<Table> {
        let directory = TemporaryDirectory::new()?;
        let config = directory.path().join("stepcast.toml");
        std::fs::write(&config, TOOL)?;
        let (config, ttl) = (config.to_string_lossy().into_owned(), format!("{}s", self.options.number::<u32>("ttl")?));
        let flags = ["--config", &config, "--cluster-node-ttl", &ttl, "--executor-grace", "100ms"];
        let mut table = Table::new("take-over", &["node", "seconds"]);
        let url = self.engine.database();
        let stays = self.node(&url, &flags)?;
        let mut follower = Follower::start(stays.target(), "taken")?;
        let plan = json!({"name": "stays", "steps": [{"id": "s", "tool": "stay"}]}).to_string();
        for n in 0..self.options.number::<u64>("take-overs")? {
            let goes = self.node(&url, &flags)?;
            submit(&mut Caller::start(goes.target())?, "taken", &plan)?;
            follower.wait_for("workflow_progress", Some("running"))?;
            goes.signal(Signal::KILL)?;
            let began = Instant::now();
            let again = follower.wait_for("workflow_progress", Some("running"))?;
            if again["payload"]["attempt"] != 2 {
                return failure(format!("the step was not run again: {again}"));
            }
            table.row(vec![json!(n + 1), json!(began.elapsed().as_secs_f64())]);
        }
        stays.stop()?;
        Ok(table)
    }

    /// What a node holds that has published and run a little, against a server on SQLite that has done the same.
    fn memory(&self, data: Data, report: &mut Report) -> Outcome<()> {
        let node = self.node(&self.engine.database(), &[])?;
        let ours = held(&node)?;
        node.stop()?;
        let alone = Server::start(&self.options.server, data, &NO_BOUNDS)?;
        let theirs = held(&alone)?;
        alone.stop()?;
        let mib = |kib: u64| kib as f64 / 1024.0;
        report.figure("memory of a node", mib(ours), "MiB");
        report.figure("memory of a server on SQLite", mib(theirs), "MiB");
        report.figure("more than that", mib(ours) - mib(theirs), "MiB");
        Ok(())
    }
}

fn held(server: &Server) -> Outcome<u64> {
    const TIMES: usize = 200;
    let (mut caller, mut follower) = (Caller::start(server.target())?, Follower::start(server.target(), PROJECT)?);
    let plan = chain(3).to_string();
    for _ in 0..TIMES {
        caller.post(&format!("/api/projects/{PROJECT}/events"), r#"{"type":"note","payload":{}}"#)?;
        submit(&mut caller, PROJECT, &plan)?;
        follower.wait_for("workflow_completed", None)?;
    }
    match server.memory() {
        Some(memory) => Ok(memory.anonymous_kib),
        None => failure("cannot read the memory of the process"),
    }
}
