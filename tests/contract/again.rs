//! What is asked for a second time: a run that is run again, and a call that is made again.

use serde_json::{Value, json};

use crate::common::client::{Request, Response};
use crate::common::server::{Server, Setup};
use crate::common::token::token;

const RUNS: &str = "/api/projects/p/workflows";

/// A plan with numbers that programs which read JSON write in another way, and with white space of its author's.
const NUMBERS: &str = r#"{"plan": {"name": "numbers",
    "steps": [{"id": "a", "tool": "echo", "inputs": {"n": 9007199254740993, "f": 2.0, "e": 1e3}}]}, "inputs": {"x": 1.10}}"#;

fn post_text(server: &Server, path: &str, body: &str) -> Response {
    server.call(Request::new("POST", path).header("Content-Type", "application/json").body(body))
}

fn run_of(answer: &Response) -> String {
    assert_eq!(answer.status, 202, "{answer:?}");
    answer.json()["runId"].as_str().expect("a run id").to_owned()
}

fn plan_of(server: &Server, run: &str) -> String {
    server.get(&format!("{RUNS}/{run}/plan")).text()
}

#[test]
fn a_run_that_was_run_again_had_other_numbers_in_its_plan() {
    let server = Server::open();
    let first = post_text(&server, RUNS, NUMBERS);
    let run = run_of(&first);
    let rerun = |run: &str| server.call(Request::new("POST", &format!("{RUNS}/{run}/rerun")));
    let second = rerun(&run);
    let again = run_of(&second);
    assert!(again != run && again.starts_with("run_"), "{again}");
    let (one, other) = (first.json(), second.json());
    let shape = |answer: &Value| json!([answer["planName"], answer["status"], answer["sseUrl"], answer["planSummary"]]);
    assert_eq!(shape(&one), shape(&other));
    let third = run_of(&rerun(&again));
    for run in [&run, &again, &third] {
        let plan = plan_of(&server, run);
        for number in [r#""n":9007199254740993"#, r#""f":2.0"#, r#""e":1e3"#, r#""x":1.10"#] {
            assert!(plan.contains(number), "{number} of {run}: {plan}");
        }
    }
    let outputs = |run: &str| {
        let messages = server.messages("p", run);
        messages.last().expect("a message")["payload"]["outputs"].clone()
    };
    assert_eq!(outputs(&run), outputs(&third));
    assert_eq!(rerun("none").code(), "unknown_run");
    let elsewhere = server.call(Request::new("POST", &format!("/api/projects/q/workflows/{run}/rerun")));
    assert_eq!(elsewhere.status, 404);
}

#[test]
fn a_run_is_run_again_once_for_each_key_and_only_by_those_who_may_run() {
    let server = Setup::default().with_tokens().start();
    let may_run = token(&["p"], "run subscribe");
    let submitted = Request::post(RUNS, &serde_json::from_str(NUMBERS).expect("JSON")).token(&may_run);
    let run = run_of(&server.call(submitted));
    let rerun = |token: &str, key: Option<&str>| {
        let request = Request::new("POST", &format!("{RUNS}/{run}/rerun")).token(token);
        server.call(if let Some(key) = key { request.header("Idempotency-Key", key) } else { request })
    };
    assert_eq!(rerun(&token(&["p"], "subscribe"), None).status, 403);
    assert_eq!(rerun(&token(&["q"], "run"), None).status, 403);
    let (first, second) = (rerun(&may_run, Some("k")), rerun(&may_run, Some("k")));
    assert_eq!((first.status, first.header("Idempotent-Replay")), (202, None), "{first:?}");
    assert_eq!((second.status, second.header("Idempotent-Replay")), (202, Some("true")), "{second:?}");
    assert_eq!(first.body, second.body);
    let other = Request::new("POST", &format!("{RUNS}/{}/rerun", run_of(&first))).token(&may_run);
    assert_eq!(server.call(other.header("Idempotency-Key", "k")).code(), "idempotency_key_reused", "of another run");
    let submitted = Request::post(RUNS, &serde_json::from_str(NUMBERS).expect("JSON")).token(&may_run);
    assert_eq!(server.call(submitted.header("Idempotency-Key", "k")).code(), "idempotency_key_reused", "a submission");
}
