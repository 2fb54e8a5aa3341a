//! Stored plans and their schedules: a time fires once, whatever the number of nodes.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Cluster, RUNS, whole_run};
use crate::common::client::Request;
use crate::common::server::Server;
use crate::common::wait_for;

const PLAN: &str = "/api/projects/p/plans/tick";

fn put(node: &Server, body: &Value) {
    let request = Request::new("PUT", PLAN).header("Content-Type", "application/json").body(body.to_string());
    let answer = node.call(request);
    assert!(matches!(answer.status, 200 | 201), "{answer:?}");
}

fn runs(node: &Server) -> Vec<Value> {
    node.get(&format!("{RUNS}?limit=100")).json()["workflows"].as_array().expect("a list").clone()
}

#[test]
fn a_plan_that_is_stored_at_one_node_is_run_and_removed_at_another() {
    let Some(cluster) = Cluster::new() else { return };
    let [a, b] = cluster.nodes();
    put(
        &a,
        &json!({"plan": {"name": "tick", "steps": [{"id": "a", "tool": "echo", "inputs": {"n": "{{ inputs.n }}"}}]},
        "inputs": {"n": 1}}),
    );
    assert_eq!(b.get(PLAN).json()["inputs"], json!({"n": 1}));
    let run = b.submit("p", &json!({"stored": "tick", "inputs": {"n": 2}}));
    assert_eq!(whole_run(&a, &run).last().expect("some")["payload"]["outputs"]["a"]["n"], 2);
    assert_eq!(b.call(Request::new("DELETE", PLAN)).status, 204);
    assert_eq!(a.get(PLAN).code(), "unknown_plan");
}

#[test]
fn each_time_of_a_schedule_fires_once_over_three_nodes_one_of_which_is_killed() {
    let Some(cluster) = Cluster::new() else { return };
    let [a, b, c] = cluster.nodes();
    let plan = json!({"name": "tick", "steps": [{"id": "a", "tool": "echo"}]});
    put(&a, &json!({"plan": plan, "schedule": {"cron": "* * * * * *"}}));
    wait_for("some firings", || (runs(&b).len() >= 3).then_some(()));
    a.kill();
    let before = runs(&b).len();
    wait_for("more of them", || (runs(&b).len() >= before + 5).then_some(()));
    put(&b, &json!({"plan": plan}));
    let fired = runs(&c);
    for run in &fired {
        whole_run(&c, run["runId"].as_str().expect("an id"));
    }
    // A time is of a whole second: no second has two of them.
    let seconds: BTreeSet<&str> = fired.iter().map(|run| &run["startedAt"].as_str().expect("a time")[..19]).collect();
    assert!(seconds.len() + 2 >= fired.len(), "two firings of one second: {fired:#?}");
}
