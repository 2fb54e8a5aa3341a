//! A ticket is valid at any node; once spent, it is spent at all of them.

use std::sync::Barrier;
use std::thread;

use serde_json::json;

use super::{Cluster, STREAM};
use crate::common::client::Request;
use crate::common::server::{Server, Setup};
use crate::common::stream::Sse;
use crate::common::token::token;
use crate::common::wait_for;

fn ticket(node: &Server) -> String {
    let request = Request::post("/api/sse/ticket", &json!({"projectId": "p"})).token(&token(&["p"], "subscribe"));
    node.call(request).json()["ticket"].as_str().expect("a ticket").to_owned()
}

fn with(ticket: &str) -> Request {
    Request::get(&format!("{STREAM}?ticket={ticket}")).header("Accept", "text/event-stream")
}

fn is_let_in(node: &Server, request: Request) -> bool {
    let mut stream = Sse::try_open(node.address, request, false).expect("an answer");
    match stream.head.status {
        200 => stream.next().expect("a first message").kind() == "connected",
        403 => false,
        _ => panic!("{:?}", stream.head),
    }
}

#[test]
fn a_ticket_of_one_node_opens_a_stream_at_another_and_is_spent_at_all() {
    let Some(cluster) = Cluster::new() else { return };
    let nodes = cluster.with(Setup::with_tokens).nodes::<3>();
    let ticket = ticket(&nodes[0]);
    let mut stream = nodes[1].stream_of(with(&ticket));
    let id = stream.next().expect("connected").id().to_owned();
    for node in &nodes {
        assert!(!is_let_in(node, with(&ticket)), "a spent ticket alone opens nothing");
        let in_query = node.get(&format!("{STREAM}?ticket={ticket}&lastEventId={id}"));
        assert_eq!(in_query.code(), "ticket_spent", "an address can be passed on");
        let back = node.stream_of(with(&ticket).header("Last-Event-ID", &id)).next().expect("connected");
        assert_eq!(back.message["payload"]["resume"], "resumed");
    }
}

#[test]
fn a_spent_ticket_is_refused_by_a_node_that_starts_later() {
    let Some(cluster) = Cluster::new() else { return };
    let cluster = cluster.with(Setup::with_tokens);
    let first = cluster.node();
    let ticket = ticket(&first);
    let id = first.stream_of(with(&ticket)).next().expect("connected").id().to_owned();
    let second = cluster.node();
    assert!(!is_let_in(&second, with(&ticket)));
    second.stream_of(with(&ticket).header("Last-Event-ID", &id)).next().expect("connected");
}

#[test]
fn a_ticket_that_another_node_had_spent_was_taken_for_one_that_has_expired_unused() {
    let Some(cluster) = Cluster::new() else { return };
    let setup = |setup: Setup| setup.with_tokens().flags(&["--auth-ticket-ttl", "2s"]);
    let [one, other] = cluster.with(setup).nodes::<2>();
    let (spent, unused) = (ticket(&one), ticket(&one));
    let id = one.stream_of(with(&spent)).next().expect("connected").id().to_owned();
    let head = || Request::new("HEAD", &format!("{STREAM}?ticket={unused}"));
    wait_for("their time to be over", || (other.call(head()).status == 403).then_some(()));
    let back = other.stream_of(with(&spent).header("Last-Event-ID", &id)).next().expect("connected");
    assert_eq!(back.message["payload"]["resume"], "resumed");
}

#[test]
fn a_ticket_that_is_used_at_all_nodes_at_once_lets_one_in() {
    let Some(cluster) = Cluster::new() else { return };
    let nodes = cluster.with(Setup::with_tokens).nodes::<3>();
    for _ in 0..10 {
        let ticket = ticket(&nodes[0]);
        let together = Barrier::new(nodes.len());
        let ask = |node: &Server| {
            together.wait();
            is_let_in(node, with(&ticket))
        };
        let let_in = thread::scope(|scope| {
            let asking: Vec<_> = nodes.iter().map(|node| scope.spawn(|| ask(node))).collect();
            asking.into_iter().map(|asks| asks.join().expect("no panic")).filter(|is_in| *is_in).count()
        });
        assert_eq!(let_in, 1);
    }
}
