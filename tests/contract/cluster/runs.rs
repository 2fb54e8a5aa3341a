//! Each run belongs to a node, but clients that watch, steer or read it need not know which.

use std::sync::Barrier;
use std::thread;

use serde_json::{Value, json};

use super::{Cluster, RUNS, is_last, state, wait_for_step, whole_run};
use crate::common::client::{Request, Response};
use crate::common::server::{Server, TempDirectory};
use crate::common::wait_for;

fn waits() -> Value {
    json!({"name": "waits", "steps": [{"id": "wait", "tool": "delay", "inputs": {"ms": 600_000}}]})
}

fn asks() -> Value {
    json!({"name": "asks", "steps": [
        {"id": "ask", "tool": "approval", "inputs": {"message": "May it go on?"}},
        {"id": "after", "tool": "echo", "dependencies": ["ask"], "inputs": {"was": "{{ steps.ask.output }}"}},
    ]})
}

/// Asks all nodes the same at the same time.
fn at_once(nodes: &[Server], request: &Request) -> Vec<Response> {
    let together = Barrier::new(nodes.len());
    let ask = |node: &Server| {
        together.wait();
        node.call(request.clone())
    };
    thread::scope(|scope| {
        let asking: Vec<_> = nodes.iter().map(|node| scope.spawn(|| ask(node))).collect();
        asking.into_iter().map(|asks| asks.join().expect("no panic")).collect()
    })
}

#[test]
fn a_run_is_watched_listed_and_read_at_any_node() {
    let Some(cluster) = Cluster::new() else { return };
    let [a, b, c] = cluster.nodes();
    let plan = json!({"name": "n", "steps": [
        {"id": "first", "tool": "echo", "inputs": {"n": 41}},
        {"id": "second", "tool": "echo", "dependencies": ["first"], "inputs": {"n": "{{ steps.first.output.n + 1 }}"}},
        {"id": "third", "tool": "fail", "dependencies": ["second"], "inputs": {"message": "so be it"}},
    ]});
    let run = a.submit("p", &plan);
    let watched = whole_run(&b, &run);
    assert_eq!(watched, whole_run(&a, &run));
    assert_eq!(watched, whole_run(&c, &run));
    for node in [&a, &b, &c] {
        let listed = node.get(RUNS).json();
        assert_eq!(
            (&listed["workflows"][0]["runId"], &listed["workflows"][0]["status"]),
            (&json!(run), &json!("failed"))
        );
        let state = state(node, &run);
        assert_eq!(state["steps"][1]["output"]["n"], 42, "{state}");
        let output = node.get(&format!("{RUNS}/{run}/steps/second/output"));
        assert_eq!((output.status, output.json()), (200, json!({"n": 42})));
        assert_eq!(node.get(&format!("{RUNS}/{run}/plan")).status, 200);
        let listed = node.get("/api/projects").json();
        assert_eq!(listed["projects"][0]["projectId"], "p", "{listed}");
    }
}

#[test]
fn a_snapshot_of_another_nodes_run_is_what_its_messages_tell() {
    let Some(cluster) = Cluster::new() else { return };
    let [a, b] = cluster.nodes();
    let run = a.submit("p", &waits());
    wait_for_step(&b, &run, 0, "running");
    let mut stream = b.stream(super::STREAM);
    let snapshot = stream.take(2).remove(1);
    assert_eq!((snapshot.kind(), &snapshot.message["payload"]["runId"]), ("workflow_snapshot", &json!(run)));
    assert_eq!(snapshot.message["payload"]["steps"][0]["status"], "running");
    assert_eq!(b.post(&format!("{RUNS}/{run}/cancel"), &json!({})).status, 202);
    stream.until(is_last);
}

#[test]
fn live_output_and_what_a_step_has_printed_so_far_are_seen_at_any_node() {
    let Some(cluster) = Cluster::new() else { return };
    let directory = TempDirectory::new();
    let gate = directory.join("gate");
    let script = format!("echo one; until [ -e '{}' ]; do sleep 0.02; done; echo two", gate.display());
    let tool = format!("[tools.talk]\nkind = \"command\"\nargv = [\"sh\", \"-c\", \"{script}\"]\n");
    let [a, b] = cluster.with(|setup| setup.config(&tool)).nodes();
    let run = a.submit("p", &json!({"name": "n", "steps": [{"id": "talk", "tool": "talk"}]}));
    let mut stream = b.stream(&format!("{}?runId={run}", super::STREAM));
    let seen = stream.until(|message| message["type"] == "workflow_step_output");
    assert_eq!(seen.last().expect("some").message["payload"]["chunk"], "one\n");
    wait_for("what it printed", || {
        let output = b.get(&format!("{RUNS}/{run}/steps/talk/output"));
        (output.status == 200 && output.text().starts_with("one")).then_some(())
    });
    std::fs::write(gate, "").expect("the directory can be written to");
    stream.until(is_last);
    assert_eq!(b.get(&format!("{RUNS}/{run}/steps/talk/output")).text(), "one\ntwo");
}

#[test]
fn a_cancel_at_another_node_is_carried_out_once() {
    let Some(cluster) = Cluster::new() else { return };
    let [a, b] = cluster.nodes();
    let run = a.submit("p", &waits());
    wait_for_step(&a, &run, 0, "running");
    assert_eq!(b.post(&format!("{RUNS}/{run}/cancel"), &json!({})).status, 202);
    let messages = whole_run(&b, &run);
    assert_eq!(messages.last().expect("some")["payload"]["reason"], "cancelled");
    assert_eq!(whole_run(&a, &run), messages);
    assert_eq!(b.post(&format!("{RUNS}/{run}/cancel"), &json!({})).status, 409);
}

#[test]
fn a_decision_at_another_node_is_answered_with_what_came_of_it() {
    let Some(cluster) = Cluster::new() else { return };
    let nodes = cluster.nodes::<3>();
    let run = nodes[0].submit("p", &asks());
    wait_for_step(&nodes[1], &run, 0, "waiting");
    let path = format!("{RUNS}/{run}/steps/ask/decision");
    let approve = json!({"decision": "approve", "payload": {"n": 1}});
    let keyed = |node: &Server| node.call(Request::post(&path, &approve).header("Idempotency-Key", "k"));
    let first = keyed(&nodes[1]);
    assert_eq!((first.status, &first.json()["decision"]), (200, &json!("approve")), "{first:?}");
    let again = keyed(&nodes[2]);
    assert_eq!((again.status, again.header("Idempotent-Replay"), again.json()), (200, Some("true"), first.json()));
    let messages = whole_run(&nodes[1], &run);
    assert_eq!(messages.last().expect("some")["payload"]["outputs"]["after"]["was"]["payload"], json!({"n": 1}));
    let late = nodes[2].post(&path, &json!({"decision": "reject"}));
    assert_eq!(late.status, 409, "{late:?}");
}

#[test]
fn of_decisions_at_all_nodes_at_once_one_counts() {
    let Some(cluster) = Cluster::new() else { return };
    let nodes = cluster.nodes::<3>();
    for _ in 0..5 {
        let run = nodes[0].submit("p", &asks());
        wait_for_step(&nodes[0], &run, 0, "waiting");
        let request = Request::post(&format!("{RUNS}/{run}/steps/ask/decision"), &json!({"decision": "approve"}));
        let mut statuses: Vec<u16> = at_once(&nodes, &request).iter().map(|answer| answer.status).collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 409, 409]);
        let decided = |message: &&Value| message["payload"]["decision"].is_object();
        assert_eq!(whole_run(&nodes[1], &run).iter().filter(decided).count(), 1);
    }
}

#[test]
fn a_plan_is_changed_at_another_node_and_a_stale_change_is_told_the_revision() {
    let Some(cluster) = Cluster::new() else { return };
    let [a, b] = cluster.nodes();
    let run = a.submit("p", &asks());
    wait_for_step(&a, &run, 0, "waiting");
    let patch = |node: &Server, change: &Value| {
        let request = Request::new("PATCH", &format!("{RUNS}/{run}/plan"));
        node.call(request.header("Content-Type", "application/json").body(change.to_string()))
    };
    let added = json!({"id": "new", "tool": "echo", "inputs": {"n": 7}, "dependencies": ["ask"]});
    let change = json!({"expectedRevision": 1, "add": [added]});
    let changed = patch(&b, &change);
    assert_eq!((changed.status, &changed.json()["revision"]), (200, &json!(2)), "{changed:?}");
    assert_eq!(state(&b, &run)["revision"], 2);
    let stale = patch(&b, &change);
    assert_eq!((stale.status, stale.code().as_str(), &stale.json()["revision"]), (409, "stale_revision", &json!(2)));
    let wrong = patch(&b, &json!({"expectedRevision": 2, "remove": ["never"]}));
    assert_eq!(wrong.status, 422, "{wrong:?}");
    let decided = b.post(&format!("{RUNS}/{run}/steps/ask/decision"), &json!({"decision": "approve"}));
    assert_eq!(decided.status, 200, "{decided:?}");
    assert_eq!(whole_run(&b, &run).last().expect("some")["payload"]["outputs"]["new"], json!({"n": 7}));
}

#[test]
fn a_key_that_comes_to_all_nodes_at_once_makes_one_run() {
    let Some(cluster) = Cluster::new() else { return };
    let nodes = cluster.nodes::<3>();
    for n in 0..5 {
        let request = Request::post(RUNS, &waits()).header("Idempotency-Key", &format!("k{n}"));
        let answers = at_once(&nodes, &request);
        assert!(answers.iter().all(|answer| answer.status == 202 && answer.json() == answers[0].json()), "{answers:?}");
        let replays = answers.iter().filter(|answer| answer.header("Idempotent-Replay") == Some("true"));
        assert_eq!(replays.count(), 2);
        assert_eq!(nodes[2].get(RUNS).json()["workflows"].as_array().expect("a list").len(), n + 1);
        let other = Request::post(RUNS, &asks()).header("Idempotency-Key", &format!("k{n}"));
        assert_eq!(nodes[n % 3].call(other).code(), "idempotency_key_reused");
    }
}

#[test]
fn an_id_that_comes_to_all_nodes_at_once_makes_one_run() {
    let Some(cluster) = Cluster::new() else { return };
    let nodes = cluster.nodes::<3>();
    for n in 0..5 {
        let body = json!({"plan": waits(), "runId": format!("mine-{n}")});
        let answers = at_once(&nodes, &Request::post(RUNS, &body));
        assert!(answers.iter().all(|answer| answer.status == 202 && answer.json() == answers[0].json()), "{answers:?}");
        assert_eq!(nodes[2].get(RUNS).json()["workflows"].as_array().expect("a list").len(), n + 1);
    }
}

#[test]
fn a_run_goes_on_from_another_nodes_and_is_run_again_anywhere() {
    let Some(cluster) = Cluster::new() else { return };
    let [a, b] = cluster.nodes();
    let steps = json!([{"id": "good", "tool": "echo", "inputs": {"n": 1}},
        {"id": "bad", "tool": "fail", "inputs": {"message": "no"}, "dependencies": ["good"]}]);
    let run = a.submit("p", &json!({"name": "n", "steps": steps}));
    whole_run(&b, &run);
    for how in ["retry", "rerun"] {
        let answer = b.post(&format!("{RUNS}/{run}/{how}"), &json!({}));
        assert_eq!(answer.status, 202, "{answer:?}");
        let next = answer.json()["runId"].as_str().expect("an id").to_owned();
        let messages = whole_run(&a, &next);
        assert_eq!(messages.last().expect("some")["type"], "workflow_failed");
        assert_eq!(state(&a, &next)["steps"][0]["output"], json!({"n": 1}));
    }
}
