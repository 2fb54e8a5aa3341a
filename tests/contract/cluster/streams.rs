//! Streams and publishers at different nodes.

use std::thread;

use serde_json::json;

use super::{Cluster, EVENTS, RUNS, STREAM, from, history, note, numbers, publish, seqs, whole_run};
use crate::common::client::Request;

#[test]
fn what_is_published_at_one_node_is_seen_at_all_in_order_and_with_the_same_ids() {
    let Some(cluster) = Cluster::new() else { return };
    let nodes = cluster.nodes::<3>();
    let mut streams: Vec<_> = nodes.iter().map(|node| node.stream(STREAM)).collect();
    streams.iter_mut().for_each(|stream| assert_eq!(stream.take(1)[0].kind(), "connected"));
    let ids: Vec<_> = (0..30).map(|n| publish(&nodes[n as usize % 3], n)).collect();
    for stream in &mut streams {
        let events = stream.take(30);
        assert_eq!(numbers(&events), (0..30).collect::<Vec<_>>());
        assert_eq!(seqs(&events), (1..=30).collect::<Vec<_>>());
        assert_eq!(events.iter().map(|event| event.id()).collect::<Vec<_>>(), ids);
    }
}

/// Where nobody follows the project there. Where someone does, what others write comes by itself, a moment later.
#[test]
fn who_was_answered_at_one_node_finds_it_at_another_at_once() {
    let Some(cluster) = Cluster::new() else { return };
    let nodes = cluster.nodes::<2>();
    for n in 0..20 {
        publish(&nodes[n as usize % 2], n);
        assert_eq!(history(&nodes[(n as usize + 1) % 2]).len() as u64, n + 1);
    }
    let connected = nodes[0].stream(STREAM).next().expect("connected");
    assert_eq!(connected.seq(), 20, "it begins behind what was answered");
}

#[test]
fn a_run_that_was_answered_at_one_node_is_known_at_another_that_follows_its_project() {
    let Some(cluster) = Cluster::new() else { return };
    let [a, b] = cluster.nodes();
    let _stream = b.stream(STREAM);
    for _ in 0..10 {
        let run = a.submit("p", &json!({"name": "n", "steps": [{"id": "a", "tool": "echo"}]}));
        assert_eq!(b.get(&format!("{RUNS}/{run}")).status, 200);
        whole_run(&b, &run);
    }
}

#[test]
fn a_reconnect_at_another_node_goes_on_without_a_gap_or_a_double() {
    let Some(cluster) = Cluster::new() else { return };
    let nodes = cluster.nodes::<3>();
    let mut last = nodes[0].stream(STREAM).next().expect("connected").id().to_owned();
    let mut seen = Vec::new();
    for round in 0..12 {
        (0..5).for_each(|n| drop(publish(&nodes[(round + n) % 3], (5 * round + n) as u64)));
        let mut stream = nodes[round % 3].stream_of(from(&last));
        let connected = stream.next().expect("connected");
        assert_eq!(connected.message["payload"]["resume"], "resumed");
        // Fewer than there are: the next node sends the rest.
        let events = stream.take(if round < 11 { 4 } else { 16 });
        last = events.last().expect("some").id().to_owned();
        seen.extend(numbers(&events));
    }
    assert_eq!(seen, (0..60).collect::<Vec<_>>());
}

#[test]
fn a_reconnect_at_a_node_that_started_later_goes_on() {
    let Some(cluster) = Cluster::new() else { return };
    let first = cluster.node();
    let ids: Vec<_> = (0..3).map(|n| publish(&first, n)).collect();
    let second = cluster.node();
    first.kill();
    let events = second.stream_of(from(&ids[0])).take(3);
    assert_eq!((events[0].message["payload"]["resume"].as_str(), numbers(&events)), (Some("resumed"), vec![1, 2]));
    assert_ne!(publish(&second, 3), ids[2]);
}

#[test]
fn nodes_that_publish_to_one_project_number_it_together() {
    let Some(cluster) = Cluster::new() else { return };
    let nodes = cluster.nodes::<3>();
    const EACH: u64 = 100;
    let mut streams: Vec<_> = nodes.iter().map(|node| node.stream(STREAM)).collect();
    thread::scope(|scope| {
        for (part, node) in (0..).zip(&nodes) {
            scope.spawn(move || (0..EACH).for_each(|n| drop(publish(node, part * EACH + n))));
        }
    });
    let told: Vec<_> = streams.iter_mut().map(|stream| stream.take(1 + 3 * EACH as usize).split_off(1)).collect();
    assert_eq!(seqs(&told[0]), (1..=3 * EACH).collect::<Vec<_>>());
    for other in &told[1..] {
        assert!(other.iter().map(|event| &event.raw).eq(told[0].iter().map(|event| &event.raw)));
    }
    for part in 0..3 {
        let own: Vec<u64> = numbers(&told[0]).into_iter().filter(|n| n / EACH == part).collect();
        assert_eq!(own, (part * EACH..(part + 1) * EACH).collect::<Vec<_>>(), "each publisher's own are in its order");
    }
}

#[test]
fn a_list_is_all_or_nothing_between_those_of_other_nodes() {
    let Some(cluster) = Cluster::new() else { return };
    let nodes = cluster.nodes::<2>();
    thread::scope(|scope| {
        for node in &nodes {
            scope.spawn(move || {
                for _ in 0..20 {
                    let list: Vec<_> = (0..5).map(note).collect();
                    assert_eq!(node.post(EVENTS, &json!(list)).status, 202);
                }
            });
        }
    });
    let messages = history(&nodes[0]);
    assert_eq!(messages.len(), 200);
    for list in messages.chunks(5) {
        let ns: Vec<_> = list.iter().map(|message| message["payload"]["n"].as_u64()).collect();
        assert_eq!(ns, (0..5).map(Some).collect::<Vec<_>>());
    }
}

#[test]
fn a_stream_of_several_projects_goes_on_at_another_node() {
    let Some(cluster) = Cluster::new() else { return };
    let [a, b] = cluster.nodes();
    let path = "/api/sse?projects=x,y";
    let id = a.stream(path).take(2)[0].id().to_owned();
    for (node, project) in [(&a, "x"), (&b, "y"), (&a, "y"), (&b, "x")] {
        assert_eq!(node.post(&format!("/api/projects/{project}/events"), &note(0)).status, 202);
    }
    let mut stream = b.stream_of(Request::get(path).header("Last-Event-ID", &id));
    let events = stream.take(6).split_off(2);
    let mut told: Vec<_> = events.iter().map(|event| (event.message["projectId"].as_str(), event.seq())).collect();
    told.sort_unstable();
    assert_eq!(told, [(Some("x"), 1), (Some("x"), 2), (Some("y"), 1), (Some("y"), 2)]);
}

#[test]
fn each_node_counts_its_own_subscribers() {
    let Some(cluster) = Cluster::new() else { return };
    let nodes = cluster.nodes::<2>();
    let mut stream = nodes[0].stream(STREAM);
    stream.take(1);
    let counts = nodes.each_ref().map(|node| node.get("/api/projects/p/subscribers").json()["count"].clone());
    assert_eq!(counts, [json!(1), json!(0)]);
}

#[test]
fn nodes_that_hear_of_nothing_look_for_themselves() {
    let Some(cluster) = Cluster::new() else { return };
    let cluster = cluster.with(|setup| setup.flags(&["--cluster-wake", "poll", "--cluster-poll", "50ms"]));
    let [a, b] = cluster.nodes();
    let mut stream = b.stream(STREAM);
    stream.take(1);
    (0..10).for_each(|n| drop(publish(&a, n)));
    assert_eq!(numbers(&stream.take(10)), (0..10).collect::<Vec<_>>());
    let run =
        a.submit("p", &json!({"name": "n", "steps": [{"id": "wait", "tool": "delay", "inputs": {"ms": 600_000}}]}));
    assert_eq!(b.post(&format!("{}/{run}/cancel", RUNS), &json!({})).status, 202);
    assert_eq!(whole_run(&b, &run).last().expect("some")["payload"]["reason"], "cancelled");
}
