//! A run's events as CloudEvents 1.0.

use serde_json::{Value, json};

use crate::common::client::Request;
use crate::common::server::Server;

const RUNS: &str = "/api/projects/p/workflows";
const BATCH: &str = "application/cloudevents-batch+json";

/// A run that has ended, with a step of each kind of end.
fn ended_run(server: &Server) -> String {
    let retry = json!({"maxRetries": 1, "backoff": "fixed", "initialDelay": 1});
    let plan = json!({"name": "n", "onFailure": "continue", "steps": [
        {"id": "fine", "tool": "echo", "inputs": {"n": 1}},
        {"id": "bad", "tool": "fail", "inputs": {"message": "no \"luck\""}, "retryPolicy": retry},
        {"id": "after", "tool": "echo", "inputs": {}, "dependencies": ["bad"]},
    ]});
    let run = server.submit("p", &plan);
    server.stream(&format!("/api/sse/projects/p?runId={run}")).rest();
    run
}

#[test]
fn a_runs_events_are_cloudevents_for_whoever_asks_for_them() {
    let server = Server::open();
    let run = ended_run(&server);
    let path = format!("{RUNS}/{run}/events");
    let messages = server.get(&path).json()["events"].clone();
    let answer = server.call(Request::get(&path).header("Accept", BATCH));
    assert_eq!((answer.status, answer.header("content-type")), (200, Some(BATCH)));
    assert_eq!((answer.header("vary"), answer.header("link")), (Some("Accept"), None));
    let events = answer.json();
    let (events, messages) = (events.as_array().expect("a list"), messages.as_array().expect("a list"));
    assert_eq!(events.len(), messages.len());
    for (event, message) in events.iter().zip(messages) {
        let payload = &message["payload"];
        let mut expected = json!({
            "specversion": "1.0",
            "id": message["id"],
            "source": format!("/projects/p/runs/{run}"),
            "type": event["type"],
            "time": payload["timestamp"],
            "datacontenttype": "application/json",
            "sequence": format!("{:020}", message["seq"].as_u64().expect("a number")),
            "data": payload,
        });
        if let Some(step) = payload.get("stepId") {
            expected["subject"] = step.clone();
        }
        assert_eq!(*event, expected);
    }
    let types: Vec<&str> = events.iter().filter_map(|event| event["type"].as_str()).collect();
    for expected in [
        "io.serverlessworkflow.workflow.started.v1",
        "io.serverlessworkflow.task.started.v1",
        "io.serverlessworkflow.task.completed.v1",
        "dev.stepcast.task.retrying.v1",
        "io.serverlessworkflow.task.retried.v1",
        "io.serverlessworkflow.task.faulted.v1",
        "dev.stepcast.task.skipped.v1",
        "dev.stepcast.workflow.level-started.v1",
        "dev.stepcast.workflow.level-completed.v1",
    ] {
        assert!(types.contains(&expected), "{expected} in {types:?}");
    }
    assert_eq!(types.last(), Some(&"io.serverlessworkflow.workflow.faulted.v1"));
}

#[test]
fn pages_of_cloudevents_lead_to_the_next_by_a_link() {
    let server = Server::open();
    let run = ended_run(&server);
    let path = format!("{RUNS}/{run}/events");
    let whole = server.get(&format!("{path}?format=cloudevents")).json();
    let (mut next, mut events) = (Some(format!("{path}?format=cloudevents&limit=4")), Vec::new());
    while let Some(page) = next {
        let answer = server.get(&page);
        let shown: Vec<Value> = serde_json::from_value(answer.json()).expect("a list");
        assert!(!shown.is_empty() && shown.len() <= 4);
        events.extend(shown);
        let link = answer.header("link").and_then(|link| link.strip_prefix('<')?.strip_suffix(">; rel=\"next\""));
        next = link.map(str::to_owned);
    }
    assert_eq!(json!(events), whole);
    assert_eq!(server.get(&format!("{path}?format=xml")).code(), "invalid_parameter");
    assert_eq!(server.get(&format!("{RUNS}/nope/events?format=cloudevents")).status, 404);
}
