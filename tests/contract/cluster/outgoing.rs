//! Messages that an application publishes in its own transaction.

use serde_json::json;

use super::{Cluster, EVENTS, STREAM, history, numbers, publish};
use crate::common::wait_for;

const TABLE: &str = "CREATE TABLE orders (n int)";

fn call(n: u64) -> String {
    format!("SELECT stepcast_publish('p', 'order_shipped', '{{\"n\": {n}}}')")
}

#[test]
fn what_was_committed_everyone_sees_and_what_was_rolled_back_nobody() {
    let Some(cluster) = Cluster::new() else { return };
    let nodes = cluster.nodes::<3>();
    let mut streams: Vec<_> = nodes.iter().map(|node| node.stream(STREAM)).collect();
    cluster.sql(TABLE);
    let mut session = cluster.engine.session(&cluster.url);
    for (n, end) in [(1, "COMMIT"), (2, "ROLLBACK"), (3, "COMMIT")] {
        ["BEGIN", &format!("INSERT INTO orders VALUES ({n})"), &call(n), end].iter().for_each(|sql| session.run(sql));
    }
    session.run(&call(4));
    for stream in &mut streams {
        let events = stream.until(|message| message["payload"]["n"] == 4);
        assert_eq!(numbers(&events), [1, 3, 4]);
        assert_eq!(events.last().expect("some").kind(), "order_shipped");
    }
    assert_eq!(history(&nodes[1]).len(), 3);
    assert_eq!(cluster.sql("SELECT count(*) FROM orders"), "2");
}

#[test]
fn an_open_transaction_holds_nobody_up() {
    let Some(cluster) = Cluster::new() else { return };
    let nodes = cluster.nodes::<2>();
    let mut stream = nodes[1].stream(STREAM);
    let mut open = cluster.engine.session(&cluster.url);
    open.run("BEGIN");
    open.run(&call(100));
    (0..10).for_each(|n| drop(publish(&nodes[n as usize % 2], n)));
    cluster.sql(&call(50));
    let seen = stream.until(|message| message["payload"]["n"] == 50);
    assert_eq!(numbers(&seen), (0..10).chain([50]).collect::<Vec<_>>());
    open.run("COMMIT");
    let seen = stream.until(|message| message["payload"]["n"] == 100);
    assert_eq!(numbers(&seen), [100], "its place is behind what was published before it was committed");
}

#[test]
fn what_is_no_message_is_refused_in_the_applications_transaction() {
    let Some(cluster) = Cluster::new() else { return };
    let node = cluster.node();
    for (project, kind, payload) in [
        ("", "note", "{}"),
        ("a b", "note", "{}"),
        ("p", "workflow_started", "{}"),
        ("p", "stream_reset", "{}"),
        ("p", "Note", "{}"),
        ("p", "note", "5"),
        ("p", "note", "[]"),
    ] {
        let sql = format!("SELECT stepcast_publish('{project}', '{kind}', '{payload}')");
        cluster.engine.try_sql(&cluster.url, &sql).expect_err(&sql);
    }
    cluster.sql(&call(1));
    wait_for("the one that is a message", || (history(&node).len() == 1).then_some(()));
    assert_eq!(node.get(EVENTS).json()["events"][0]["payload"], json!({"n": 1}));
}

#[test]
fn what_was_committed_while_no_node_ran_is_published_by_the_next() {
    let Some(cluster) = Cluster::new() else { return };
    let node = cluster.node();
    node.kill();
    (1..=3).for_each(|n| drop(cluster.sql(&call(n))));
    let node = cluster.node();
    wait_for("all three", || (history(&node).len() == 3).then_some(()));
}

#[test]
fn what_many_transactions_publish_while_nodes_are_killed_comes_once() {
    let Some(cluster) = Cluster::new() else { return };
    let [a, b] = cluster.nodes();
    let many = |from: u64, to: u64| {
        let sql = "SELECT stepcast_publish('p', 'order_shipped', json_build_object('n', n)) FROM generate_series";
        cluster.sql(&format!("{sql}({from}, {to}) n"));
    };
    many(1, 200);
    a.kill();
    many(201, 400);
    let seen = wait_for("all of them", || Some(history(&b)).filter(|messages| messages.len() >= 400));
    let numbers: Vec<_> = seen.iter().filter_map(|message| message["payload"]["n"].as_u64()).collect();
    assert_eq!(numbers, (1..=400).collect::<Vec<_>>());
}
