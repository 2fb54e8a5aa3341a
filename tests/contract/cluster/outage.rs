//! The database is down or does not respond: streams stay open, publishers are told, and everything recovers by itself.

use serde_json::json;

use super::{Cluster, EVENTS, RUNS, STREAM, history, note, numbers, publish, wait_for_step, whole_run};
use crate::common::postgres::{Ending, Postgres};
use crate::common::proxy::Proxy;
use crate::common::server::Server;
use crate::common::stream::Sse;
use crate::common::wait_for;

/// Waits until a publish is refused for want of the store.
fn wait_until_refused(node: &Server) {
    wait_for("a publish to be refused", || {
        let answer = node.post(EVENTS, &note(u64::MAX));
        (answer.status != 202).then(|| assert_eq!((answer.status, answer.code().as_str()), (503, "store_unavailable")))
    });
}

/// Publishes `n` as soon as that can be; how often it was refused before.
fn publish_when_it_can_be(node: &Server, n: u64) {
    wait_for("a publish to be taken", || match node.post(EVENTS, &note(n)) {
        answer if answer.status == 202 => Some(()),
        answer => {
            assert_eq!((answer.status, answer.code().as_str()), (503, "store_unavailable"));
            None
        }
    });
}

fn open(node: &Server) -> Sse {
    let mut stream = node.stream(STREAM);
    assert_eq!(stream.take(1)[0].kind(), "connected");
    stream
}

/// What a stream that was never closed shows up to `n`, which nobody published before.
fn shows_all_up_to(stream: &mut Sse, n: u64) {
    let events = stream.until(|message| message["payload"]["n"] == n);
    let seqs = super::seqs(&events);
    assert!(seqs.windows(2).all(|pair| pair[1] == pair[0] + 1), "no gap, nothing twice: {seqs:?}");
}

fn an_engine_that_ends_and_comes_back(ending: Ending) {
    let Some(cluster) = Cluster::with_engine() else { return };
    let nodes = cluster.nodes::<2>();
    let mut streams: Vec<_> = nodes.iter().map(open).collect();
    publish(&nodes[0], 1);
    cluster.engine.stop(ending);
    for node in &nodes {
        wait_until_refused(node);
        assert_eq!(node.get("/healthz").status, 200);
    }
    cluster.engine.resume();
    for (n, node) in (2..).zip(&nodes) {
        publish_when_it_can_be(node, n);
    }
    for stream in &mut streams {
        shows_all_up_to(stream, 3);
    }
    assert_eq!(history(&nodes[0]), history(&nodes[1]));
    for node in &nodes {
        wait_for("readyz", || (node.get("/readyz").status == 200).then_some(()));
    }
}

#[test]
fn streams_stay_open_while_the_engine_restarts() {
    an_engine_that_ends_and_comes_back(Ending::Fast);
}

#[test]
fn streams_stay_open_while_the_engine_crashes_and_recovers() {
    an_engine_that_ends_and_comes_back(Ending::Killed);
}

#[test]
fn readyz_is_red_while_the_engine_is_away_and_green_again() {
    let Some(cluster) = Cluster::with_engine() else { return };
    let node = cluster.node();
    wait_for("readyz", || (node.get("/readyz").status == 200).then_some(()));
    cluster.engine.stop(Ending::Immediate);
    wait_for("red", || (node.get("/readyz").status == 503).then_some(()));
    assert_eq!(node.get("/healthz").status, 200);
    cluster.engine.resume();
    wait_for("green", || (node.get("/readyz").status == 200).then_some(()));
}

/// Node `a` reaches the engine through a proxy, `b` by itself.
struct ProxiedNode {
    proxy: Proxy,
    a: Server,
    b: Server,
}

impl ProxiedNode {
    fn new(cluster: &Cluster) -> Self {
        let proxy = Proxy::new(cluster.engine.address());
        let name = cluster.url.rsplit_once('/').expect("a path").1;
        let a = cluster.setup_at(&Postgres::url_at(proxy.address(), name)).start();
        Self { proxy, a, b: cluster.node() }
    }
}

#[test]
fn a_node_whose_connections_are_cut_goes_on() {
    let Some(cluster) = Cluster::new() else { return };
    let ProxiedNode { proxy, a, b } = ProxiedNode::new(&cluster);
    let mut streams = [open(&a), open(&b)];
    for n in 0..10 {
        proxy.cut();
        publish_when_it_can_be(&a, 2 * n);
        publish(&b, 2 * n + 1);
    }
    for stream in &mut streams {
        shows_all_up_to(stream, 19);
    }
    let kept: Vec<_> = history(&b).iter().filter_map(|message| message["payload"]["n"].as_u64()).collect();
    assert_eq!(
        kept,
        (0..20).collect::<Vec<_>>(),
        "each once: what was refused was not kept, what was kept was answered"
    );
}

#[test]
fn a_node_whose_connections_stall_is_fenced_and_comes_back() {
    let Some(cluster) = Cluster::new() else { return };
    let ProxiedNode { proxy, a, b } = ProxiedNode::new(&cluster);
    let mut streams = [open(&a), open(&b)];
    let plan = json!({"name": "n", "steps": [{"id": "wait", "tool": "delay", "inputs": {"ms": 600_000}}]});
    let run = a.submit("p", &plan);
    wait_for_step(&b, &run, 0, "running");
    proxy.stall();
    wait_until_refused(&a);
    wait_for("red", || (a.get("/readyz").status == 503).then_some(()));
    // Another has its run by then, or will have.
    wait_for("the run to be taken over", || (b.metric("stepcast_takeovers_total") >= 1.0).then_some(()));
    assert_eq!(b.post(&format!("{RUNS}/{run}/cancel"), &json!({})).status, 202);
    let messages = whole_run(&b, &run);
    publish(&b, 1);
    proxy.go_on();
    publish_when_it_can_be(&a, 2);
    for stream in &mut streams {
        shows_all_up_to(stream, 2);
    }
    assert_eq!(whole_run(&a, &run), messages);
    wait_for("green", || (a.get("/readyz").status == 200).then_some(()));
}

#[test]
fn runs_go_on_after_an_outage_that_was_longer_than_any_lease() {
    let Some(cluster) = Cluster::with_engine() else { return };
    let nodes = cluster.nodes::<2>();
    let plan = json!({"name": "n", "steps": [
        {"id": "wait", "tool": "delay", "inputs": {"ms": 100}},
        {"id": "ask", "tool": "approval", "dependencies": ["wait"], "inputs": {"message": "Go on?"}},
    ]});
    let runs = [nodes[0].submit("p", &plan), nodes[1].submit("p", &plan)];
    runs.iter().for_each(|run| wait_for_step(&nodes[0], run, 1, "waiting"));
    cluster.engine.stop(Ending::Fast);
    for node in &nodes {
        wait_for("the node to fence itself", || (node.metric("stepcast_fences_total") >= 1.0).then_some(()));
    }
    cluster.engine.resume();
    for run in &runs {
        let path = format!("{RUNS}/{run}/steps/ask/decision");
        wait_for("a decision to be taken", || {
            let answer = nodes[1].post(&path, &json!({"decision": "approve"}));
            (answer.status == 200).then_some(())
        });
        assert_eq!(whole_run(&nodes[0], run).last().expect("some")["type"], "workflow_completed");
    }
}

#[test]
fn a_node_that_starts_while_the_engine_is_away_says_so_and_ends() {
    let Some(cluster) = Cluster::with_engine() else { return };
    cluster.engine.stop(Ending::Fast);
    let (status, said) = cluster.setup().launch().refusal();
    assert_eq!(status, Some(1), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    assert!(numbers(&[]).is_empty());
}
