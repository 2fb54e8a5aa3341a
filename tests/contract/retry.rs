//! Retries of a run that failed or was cancelled: completed steps are kept, and everything else runs.

use std::fs;

use serde_json::{Value, json};

use crate::common::client::{Request, Response};
use crate::common::server::{Server, Setup, TempDirectory};

const RUNS: &str = "/api/projects/p/workflows";

/// A step's output of more bytes than a message shows here.
const BIG_BYTES: usize = 3000;

/// Tools that note in a file which step called them; `gated` fails until there is a gate.
struct Shop {
    directory: TempDirectory,
}

impl Shop {
    fn open() -> Self {
        Self { directory: TempDirectory::new() }
    }

    fn config(&self) -> String {
        let (calls, gate) = (self.directory.join("calls"), self.directory.join("gate"));
        let note = format!("echo $STEPCAST_STEP_ID >> '{}'", calls.display());
        let tool = |name: &str, script: &str| {
            format!("[tools.{name}]\nkind = \"command\"\nargv = [\"sh\", \"-c\", \"{note}; {script}\"]\n")
        };
        [
            "[limits]\noutput_bytes = \"1KiB\"\n".to_owned(),
            tool("work", "echo done"),
            tool("big", &format!("head -c {BIG_BYTES} /dev/zero | tr '\\\\0' x")),
            tool("gated", &format!("test -e '{}'", gate.display())),
            tool("count", "wc -c"),
        ]
        .concat()
    }

    fn setup(&self) -> Setup {
        Setup::default().config(&self.config()).data(&self.directory.join("data"))
    }

    fn open_gate(&self) {
        fs::write(self.directory.join("gate"), "").expect("it can be written to");
    }

    /// Which steps have called a tool, in their order.
    fn calls(&self) -> Vec<String> {
        let text = fs::read_to_string(self.directory.join("calls")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

/// `a` and `big` complete, `gated` fails, and `last` is not reached.
fn plan() -> Value {
    json!({"name": "n", "steps": [
        {"id": "a", "tool": "work", "inputs": {"to": "{{ inputs.to }}"}},
        {"id": "big", "tool": "big"},
        {"id": "gated", "tool": "gated", "dependencies": ["a", "big"]},
        {"id": "last", "tool": "count", "dependencies": ["gated"], "inputs": {"text": "{{ steps.big.output }}"}},
    ], "inputs": {"to": "x"}})
}

fn retry(server: &Server, run: &str, body: &Value) -> Response {
    server.post(&format!("{RUNS}/{run}/retry"), body)
}

fn run_of(answer: &Response) -> String {
    assert_eq!(answer.status, 202, "{answer:?}");
    answer.json()["runId"].as_str().expect("a run id").to_owned()
}

fn state(server: &Server, run: &str) -> Value {
    server.get(&format!("{RUNS}/{run}")).json()
}

/// A run of which two steps completed.
fn failed(server: &Server, plan: &Value) -> String {
    let run = server.submit("p", plan);
    assert_eq!(server.messages("p", &run).last().expect("a message")["type"], "workflow_failed");
    run
}

fn ends_as(server: &Server, run: &str) -> String {
    let messages = server.messages("p", run);
    messages.last().expect("a message")["type"].as_str().expect("text").to_owned()
}

#[test]
fn what_completed_is_not_run_again() {
    let shop = Shop::open();
    let server = shop.setup().start();
    let run = failed(&server, &plan());
    assert_eq!(shop.calls().len(), 3);
    shop.open_gate();
    let answer = server.call(Request::new("POST", &format!("{RUNS}/{run}/retry")));
    let second = run_of(&answer);
    assert_eq!(answer.json()["retryOf"], json!(run));
    assert_eq!(answer.json()["reusedSteps"], json!(["a", "big"]));
    let messages = server.messages("p", &second);
    assert_eq!(messages.last().expect("a message")["type"], "workflow_completed");
    assert_eq!(messages[0]["payload"]["retryOf"], json!(run));
    assert_eq!(shop.calls()[3..], ["gated", "last"], "and nothing else");
    let of_a: Vec<_> = messages.iter().filter(|message| message["payload"]["stepId"] == "a").collect();
    let [of_a] = of_a[..] else { panic!("{of_a:?}") };
    let said = ["status", "reused", "attempt", "output"].map(|key| of_a["payload"][key].clone());
    assert_eq!(said, [json!("completed"), json!(true), json!(0), json!("done")]);

    let state = state(&server, &second);
    assert_eq!((&state["retryOf"], &state["reusedSteps"]), (&json!(run), &json!(["a", "big"])));
    assert_eq!(state["steps"][1]["output"], json!("x".repeat(BIG_BYTES)), "whole");
    let output = |step: &str| server.get(&format!("{RUNS}/{second}/steps/{step}/output")).text();
    assert_eq!((output("a"), output("big")), ("done".to_owned(), "x".repeat(BIG_BYTES)));
    let written = json!({"text": "x".repeat(BIG_BYTES)}).to_string().len() + "\n".len();
    assert_eq!(output("last").trim(), written.to_string(), "templates see all of it");
    let listed = server.get(RUNS).json();
    assert_eq!(listed["workflows"][0]["retryOf"], json!(run));
    let shown = server.get(&format!("{RUNS}/{second}/plan")).json();
    assert_eq!((&shown["retryOf"], &shown["reusedSteps"]), (&json!(run), &json!(["a", "big"])));
    assert!(!shown.to_string().contains("xxx"), "without outputs");
}

#[test]
fn a_retry_is_kept_once_it_is_accepted_and_outlasts_the_run_that_it_goes_on_from() {
    let shop = Shop::open();
    let server = shop.setup().start();
    let run = failed(&server, &plan());
    shop.open_gate();
    let second = run_of(&retry(&server, &run, &json!({"runId": "again"})));
    server.kill();
    let server = shop.setup().flags(&["--history-runs", "1"]).start();
    assert_eq!(ends_as(&server, &second), "workflow_completed");
    let calls = shop.calls();
    assert_eq!(calls.iter().filter(|step| ["a", "big"].contains(&step.as_str())).count(), 2, "{calls:?}");
    while server.get(&format!("{RUNS}/{run}")).status != 404 {
        server.post("/api/projects/p/events", &json!({"type": "note", "payload": {}}));
    }
    let output = server.get(&format!("{RUNS}/{second}/steps/big/output")).text();
    assert_eq!(output, "x".repeat(BIG_BYTES));
    assert_eq!(retry(&server, &run, &json!({})).code(), "unknown_run");
    assert_eq!(run_of(&retry(&server, &second, &json!({"from": ["last"]}))).get(..4), Some("run_"));
}

#[test]
fn a_retry_of_a_retry_keeps_what_the_first_run_did() {
    let shop = Shop::open();
    let server = shop.setup().start();
    let run = failed(&server, &plan());
    let second = run_of(&retry(&server, &run, &json!({})));
    assert_eq!(ends_as(&server, &second), "workflow_failed");
    shop.open_gate();
    let third = run_of(&retry(&server, &second, &json!({})));
    assert_eq!(ends_as(&server, &third), "workflow_completed");
    assert_eq!(state(&server, &third)["retryOf"], json!(second));
    let mut calls = shop.calls();
    calls[..2].sort();
    assert_eq!(calls, ["a", "big", "gated", "gated", "gated", "last"]);
}

#[test]
fn steps_that_are_named_or_changed_run_again_with_all_that_depends_on_them() {
    let shop = Shop::open();
    shop.open_gate();
    let server = shop.setup().start();
    let run = server.submit("p", &plan());
    assert_eq!(ends_as(&server, &run), "workflow_completed");
    assert_eq!(retry(&server, &run, &json!({})).code(), "run_completed");
    let reused = |body: Value| {
        let answer = retry(&server, &run, &body);
        assert_eq!(ends_as(&server, &run_of(&answer)), "workflow_completed");
        answer.json()["reusedSteps"].clone()
    };
    assert_eq!(reused(json!({"from": ["gated"]})), json!(["a", "big"]));
    assert_eq!(reused(json!({"from": ["last"]})), json!(["a", "big", "gated"]));
    assert_eq!(reused(json!({"from": ["last"], "inputs": {"to": "y"}})), json!(["big"]), "`a` names the input");
    assert_eq!(reused(json!({"from": ["last"], "inputs": {"other": 1}})), json!(["a", "big", "gated"]));
    let mut changed = plan();
    changed["steps"][1]["inputs"] = json!({"n": 1});
    changed["steps"][0]["title"] = json!("Another title");
    assert_eq!(reused(json!({"from": ["last"], "plan": changed})), json!(["a"]));

    let bad = retry(&server, &run, &json!({"from": ["none"]}));
    assert_eq!((bad.status, bad.json()["issues"][0]["path"].clone()), (422, json!("from[0]")));
    let bad = retry(&server, &run, &json!({"from": ["last"], "plan": {"name": "n", "steps": []}}));
    assert_eq!(bad.code(), "invalid_plan");
    assert_eq!(retry(&server, &run, &json!({"form": []})).code(), "invalid_body");
    assert_eq!(retry(&server, "none", &json!({})).code(), "unknown_run");
}

#[test]
fn a_run_that_goes_on_is_not_gone_on_from_and_a_key_is_good_for_one_retry() {
    let shop = Shop::open();
    let server = shop.setup().start();
    let endless = json!({"name": "n", "steps": [{"id": "a", "tool": "work"},
        {"id": "b", "tool": "delay", "inputs": {"ms": 600_000}, "dependencies": ["a"]}]});
    let run = server.submit("p", &endless);
    assert_eq!(retry(&server, &run, &json!({})).code(), "run_not_ended");
    let mut stream = server.stream(&format!("/api/sse/projects/p?runId={run}"));
    while stream.next().expect("a message").message["payload"]["stepId"] != "b" {}
    assert_eq!(server.post(&format!("{RUNS}/{run}/cancel"), &json!({})).status, 202);
    assert_eq!(ends_as(&server, &run), "workflow_failed");
    let keyed = |body: Value| {
        let request = Request::post(&format!("{RUNS}/{run}/retry"), &body);
        server.call(request.header("Idempotency-Key", "k"))
    };
    let (first, second) = (keyed(json!({})), keyed(json!({})));
    assert_eq!((first.status, second.header("Idempotent-Replay")), (202, Some("true")), "{second:?}");
    assert_eq!((first.json()["reusedSteps"].clone(), &first.body), (json!(["a"]), &second.body));
    assert_eq!(keyed(json!({"from": ["a"]})).code(), "idempotency_key_reused");
}

#[test]
fn the_terminal_goes_on_from_a_run_of_a_server_or_of_a_directory() {
    let shop = Shop::open();
    let server = shop.setup().start();
    let run = failed(&server, &plan());
    let url = format!("http://{}", server.address);
    let resume = |more: &[&str]| {
        crate::common::server::run(&[&["run", "--resume", &run, "--project", "p"], more].concat(), &[], "")
    };
    let (status, _, said) = resume(&["--url", &url, "--from", "none"]);
    assert_eq!(status, 1);
    assert!(said.contains("from[0]: unknown step \"none\""), "{said}");
    let (status, shown, said) = resume(&["--url", &url, "--json"]);
    assert_eq!(status, 1, "the gate is closed still: {said}");
    assert!(shown.contains("workflow_failed") && shown.contains("\"reused\":true"), "{shown}");
    shop.open_gate();
    server.kill();
    let data = shop.directory.join("data");
    let file = crate::common::server::TempFile::new(".toml", &shop.config());
    let data = data.to_str().expect("plain characters");
    let (status, shown, said) = resume(&["--data", data, "--config", file.text(), "--json"]);
    assert_eq!(status, 0, "{shown} {said}");
    assert_eq!(shop.calls().iter().filter(|step| *step == "a").count(), 1);
}
