//! What a plan says about the start, the inputs and the retries of its runs: groups of runs, time in the queue,
//! parameters, and which failures are retried.

use serde_json::{Value, json};

use crate::common::client::{Request, Response};
use crate::common::server::{Server, Setup, TempDirectory};

const RUNS: &str = "/api/projects/p/workflows";

fn endless(concurrency: Value) -> Value {
    json!({"name": "n", "concurrency": concurrency, "steps": [{"id": "a", "tool": "delay", "inputs": {"ms": 600_000}}]})
}

fn submit(server: &Server, plan: &Value, inputs: &Value) -> Response {
    server.post(RUNS, &json!({"plan": plan, "inputs": inputs}))
}

fn run_of(answer: &Response) -> String {
    assert_eq!(answer.status, 202, "{answer:?}");
    answer.json()["runId"].as_str().expect("a run id").to_owned()
}

fn status(server: &Server, run: &str) -> String {
    server.get(&format!("{RUNS}/{run}")).json()["status"].as_str().expect("a status").to_owned()
}

fn cancel(server: &Server, run: &str) {
    assert_eq!(server.post(&format!("{RUNS}/{run}/cancel"), &json!({})).status, 202);
}

/// Waits until a run has said its first message.
fn begins(server: &Server, run: &str) {
    let mut stream = server.stream(&format!("/api/sse/projects/p?runId={run}"));
    while stream.next().expect("a message").kind() != "workflow_started" {}
}

fn last(server: &Server, run: &str) -> Value {
    server.messages("p", run).pop().expect("a message")
}

#[test]
fn of_a_group_only_so_many_run_however_many_are_submitted_at_once() {
    let server = Server::open();
    let plan = json!({"name": "n", "concurrency": {"group": "{{ inputs.env }}", "limit": 1},
        "steps": [{"id": "a", "tool": "delay", "inputs": {"ms": 20}}]});
    let runs: Vec<String> = std::thread::scope(|scope| {
        let (address, body) = (server.address, json!({"plan": plan, "inputs": {"env": "live"}}));
        let one = |_| {
            let body = body.clone();
            scope.spawn(move || run_of(&Request::post(RUNS, &body).send(address)))
        };
        let all: Vec<_> = (0..12).map(one).collect();
        all.into_iter().map(|run| run.join().expect("it is submitted")).collect()
    });
    let other = run_of(&submit(&server, &plan, &json!({"env": "test"})));
    let mut spans: Vec<(String, String)> = Vec::new();
    for run in &runs {
        let messages = server.messages("p", run);
        let at = |message: &Value| message["payload"]["timestamp"].as_str().expect("a time").to_owned();
        spans.push((at(&messages[0]), at(messages.last().expect("a message"))));
        assert_eq!(server.get(&format!("{RUNS}/{run}")).json()["concurrencyGroup"], "live");
    }
    spans.sort();
    assert!(spans.windows(2).all(|pair| pair[0].1 <= pair[1].0), "one after the other: {spans:?}");
    assert_eq!(last(&server, &other)["type"], "workflow_completed");
}

#[test]
fn a_run_of_a_full_group_waits_is_refused_or_takes_its_place() {
    let directory = TempDirectory::new();
    let setup = || Setup::default().data(&directory.join("data"));
    let server = setup().start();
    let of = |on_conflict: &str| endless(json!({"group": "g", "onConflict": on_conflict}));
    let first = run_of(&submit(&server, &of("queue"), &json!({})));
    begins(&server, &first);
    let second = run_of(&submit(&server, &of("queue"), &json!({})));
    let refused = submit(&server, &of("reject"), &json!({}));
    assert_eq!((refused.status, refused.code().as_str()), (409, "concurrency_conflict"));
    let detail = refused.json()["detail"].as_str().expect("text").to_owned();
    assert!(detail.contains("\"g\"") && detail.contains(&first) && detail.contains(&second), "{detail}");
    server.kill();
    let server = setup().start();
    assert_eq!([status(&server, &first), status(&server, &second)], ["running", "queued"]);
    cancel(&server, &first);
    begins(&server, &second);
    let third = run_of(&submit(&server, &of("cancel"), &json!({})));
    assert_eq!(last(&server, &second)["payload"]["reason"], "cancelled");
    begins(&server, &third);
    cancel(&server, &third);
}

#[test]
fn a_run_that_waits_longer_than_it_may_ends_over_a_restart_too() {
    let directory = TempDirectory::new();
    let setup = || Setup::default().data(&directory.join("data"));
    let server = setup().start();
    let first = run_of(&submit(&server, &endless(json!({"group": "g"})), &json!({})));
    begins(&server, &first);
    let mut waits = endless(json!({"group": "g"}));
    waits["queueTimeout"] = json!(300);
    let second = run_of(&submit(&server, &waits, &json!({})));
    server.kill();
    let server = setup().start();
    let messages = server.messages("p", &second);
    let kinds: Vec<&Value> = messages.iter().map(|message| &message["type"]).collect();
    assert_eq!(kinds, ["workflow_started", "workflow_progress", "workflow_failed"]);
    assert_eq!(messages[1]["payload"]["cause"]["kind"], "queue_timeout");
    let said = &messages[2]["payload"];
    assert_eq!(said["reason"], "queue_timeout");
    assert_eq!(said["error"], "the run did not start within 300 ms (the plan's queueTimeout)");
    assert_eq!(status(&server, &first), "running");
    cancel(&server, &first);
}

#[test]
fn inputs_are_checked_and_completed_by_the_plans_parameters() {
    let server = Server::open();
    let plan = json!({"name": "n", "parameters": {"type": "object", "required": ["env"], "properties": {
        "env": {"enum": ["test", "live"]}, "count": {"type": "integer", "default": 3}}},
        "steps": [{"id": "a", "tool": "echo", "inputs": {"n": "{{ inputs.count }}"}}]});
    let bad = submit(&server, &plan, &json!({"env": "moon", "count": "x"}));
    assert_eq!((bad.status, bad.code().as_str()), (422, "invalid_plan"));
    let issues = bad.json()["issues"].clone();
    let paths: Vec<&Value> = issues.as_array().expect("issues").iter().map(|issue| &issue["path"]).collect();
    assert_eq!(paths, ["inputs.env", "inputs.count"]);
    assert_eq!(server.post("/api/workflow/check", &plan).status, 200, "inputs come with the run");
    let run = run_of(&submit(&server, &plan, &json!({"env": "live"})));
    assert_eq!(last(&server, &run)["payload"]["outputs"]["a"], json!({"n": 3}));
    assert_eq!(server.get(&format!("{RUNS}/{run}/plan")).json()["plan"]["parameters"], plan["parameters"]);
}

#[test]
fn only_failures_that_are_named_are_retried() {
    let tool = |name: &str, script: &str| {
        format!("[tools.{name}]\nkind = \"command\"\nargv = [\"sh\", \"-c\", \"{script}\"]\n")
    };
    let config = [tool("three", "exit 3"), tool("killed", "kill -9 $$")].concat();
    let server = Setup::default().config(&config).start();
    let attempts = |tool: &str, retry_on: Value| {
        let policy = json!({"maxRetries": 1, "initialDelay": 1, "retryOn": retry_on});
        let steps = json!([{"id": "a", "tool": tool, "retryPolicy": policy}]);
        let messages = server.carry_out(&json!({"name": "n", "steps": steps}));
        messages.iter().filter(|message| message["payload"]["status"] == "running").count()
    };
    assert_eq!(attempts("three", Value::Null), 2);
    assert_eq!(attempts("three", json!({"exitCodes": ["2-5"]})), 2);
    assert_eq!(attempts("three", json!({"exitCodes": [1]})), 1);
    assert_eq!(attempts("killed", json!({"exitCodes": [1]})), 1);
    assert_eq!(attempts("killed", json!({"errors": ["signal"]})), 2);
    let bad = json!({"name": "n", "steps": [{"id": "a", "tool": "three",
        "retryPolicy": {"maxRetries": 1, "retryOn": {"statuses": ["6xx"]}}}]});
    let refused = server.call(Request::post(RUNS, &bad));
    assert_eq!(refused.json()["issues"][0]["path"], "steps[0].retryPolicy.retryOn.statuses[0]");
}

#[cfg(feature = "http-tool")]
#[test]
fn answers_and_lost_connections_are_retried_where_they_are_named() {
    let asked = Server::open();
    let gone = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    let tool =
        |name: &str, url: &str| format!("[tools.{name}]\nkind = \"http\"\nmethod = \"GET\"\nurl = \"http://{url}\"\n");
    let config = [tool("missing", &format!("{}/nowhere", asked.address)), tool("gone", &gone.to_string())].concat();
    let server = Setup::default().config(&config).start();
    let attempts = |tool: &str, retry_on: Value| {
        let policy = json!({"maxRetries": 1, "initialDelay": 1, "retryOn": retry_on});
        let steps = json!([{"id": "a", "tool": tool, "retryPolicy": policy}]);
        let messages = server.carry_out(&json!({"name": "n", "steps": steps}));
        messages.iter().filter(|message| message["payload"]["status"] == "running").count()
    };
    assert_eq!(attempts("missing", json!({"statuses": ["4xx"]})), 2);
    assert_eq!(attempts("missing", json!({"statuses": [429, "5xx"]})), 1);
    assert_eq!(attempts("gone", json!({"statuses": ["5xx"]})), 1);
    assert_eq!(attempts("gone", json!({"errors": ["connection"]})), 2);
}
