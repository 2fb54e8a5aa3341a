//! Steps that wait for a decision, and the people who decide.

use std::thread;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::common::client::{Request, Response};
#[cfg(feature = "sqlite")]
use crate::common::server::TempDirectory;
use crate::common::server::{Server, Setup, run};
use crate::common::token::token;
use crate::common::wait_for;

/// A step `ask` that waits, and one that comes after it.
fn plan(inputs: Value) -> Value {
    let mut asked = json!({"message": "Deploy {{ inputs.what }}?"});
    asked.as_object_mut().expect("an object").extend(inputs.as_object().expect("an object").clone());
    json!({"name": "n", "inputs": {"what": "it"}, "steps": [
        {"id": "ask", "tool": "approval", "inputs": asked},
        {"id": "after", "tool": "echo", "dependencies": ["ask"], "inputs": {"was": "{{ steps.ask.output }}"}},
    ]})
}

fn decision(run: &str, body: &Value) -> Request {
    Request::post(&format!("/api/projects/p/workflows/{run}/steps/ask/decision"), body)
}

fn step(server: &Server, run: &str) -> Value {
    let run = server.get(&format!("/api/projects/p/workflows/{run}")).json();
    run["steps"][0].clone()
}

fn wait_until_asked(server: &Server, run: &str) -> Value {
    wait_for("the question", || Some(step(server, run)).filter(|step| step["status"] == "waiting"))
}

fn asked(server: &Server, inputs: Value) -> String {
    let run = server.submit("p", &plan(inputs));
    wait_until_asked(server, &run);
    run
}

fn verdict(answer: &Response) -> (u16, String) {
    (answer.status, if answer.status == 200 { String::new() } else { answer.code() })
}

#[test]
fn a_step_waits_until_someone_decides_and_its_output_says_who_did() {
    let server = Server::open();
    let run = asked(&server, json!({"expires": "10m"}));
    let waiting = step(&server, &run);
    assert_eq!(
        (&waiting["approval"]["message"], &waiting["approval"]["onExpire"]),
        (&json!("Deploy it?"), &json!("fail"))
    );
    assert!(waiting["approval"]["expiresAt"].is_string());
    let metrics = server.get("/metrics").text();
    assert!(metrics.contains("stepcast_steps_waiting 1"), "{metrics}");
    let approve = json!({"decision": "approve", "payload": {"n": 1}});
    let answer = server.call(decision(&run, &approve).header("Idempotency-Key", "k"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let decided = answer.json();
    assert_eq!((&decided["decision"], &decided["by"]), (&json!("approve"), &json!("anonymous")));
    let again = server.call(decision(&run, &approve).header("Idempotency-Key", "k"));
    assert_eq!((again.status, again.header("idempotent-replay"), again.json()), (200, Some("true"), decided));
    let other = server.call(decision(&run, &json!({"decision": "reject"})).header("Idempotency-Key", "k"));
    assert_eq!(verdict(&other), (422, "idempotency_key_reused".to_owned()));

    let messages = server.messages("p", &run);
    let of = |id: &str, status: &str| {
        let mut payloads = messages.iter().map(|message| &message["payload"]);
        payloads.find(|it| it["stepId"] == id && it["status"] == status).expect("a message").clone()
    };
    assert_eq!(of("ask", "waiting")["message"], "Deploy it?");
    let done = of("ask", "completed");
    assert_eq!((&done["decision"]["by"], &done["output"]["payload"]), (&json!("anonymous"), &json!({"n": 1})));
    assert_eq!(of("after", "completed")["output"]["was"], done["output"]);
    let late = server.call(decision(&run, &json!({"decision": "reject"})));
    assert_eq!(verdict(&late), (409, "run_ended".to_owned()));
    assert!(server.get("/metrics").text().contains("stepcast_decisions_total{decision=\"approve\"} 1"));
}

#[test]
fn what_is_no_decision_of_a_step_that_waits_is_refused_and_it_waits_on() {
    let server = Server::open();
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]});
    let run = asked(&server, json!({"schema": schema}));
    let approve = json!({"decision": "approve", "payload": {"n": 1}});
    for (request, status, code) in [
        (decision("nope", &approve), 404, "unknown_run"),
        (Request::post(&format!("/api/projects/p/workflows/{run}/steps/x/decision"), &approve), 404, "unknown_step"),
        (Request::post(&format!("/api/projects/p/workflows/{run}/steps/after/decision"), &approve), 409, "not_waiting"),
        (decision(&run, &json!({"decision": "later"})), 422, "invalid_body"),
        (decision(&run, &json!({"decision": "approve"})), 422, "invalid_payload"),
        (decision(&run, &json!({"decision": "approve", "payload": {"n": "1"}})), 422, "invalid_payload"),
        (decision(&run, &json!({"decision": "approve", "payload": "x".repeat(65_536)})), 413, "payload_too_large"),
    ] {
        let answer = server.call(request);
        assert_eq!(verdict(&answer), (status, code.to_owned()), "{}", answer.text());
        if code == "invalid_payload" {
            assert!(answer.json()["issues"][0]["path"].as_str().is_some_and(|path| path.starts_with("payload")));
        }
    }
    assert_eq!(step(&server, &run)["status"], "waiting");
    assert_eq!(server.call(decision(&run, &json!({"decision": "reject"}))).status, 200, "a reject needs no payload");
    let last = server.messages("p", &run).pop().expect("a message");
    assert_eq!(last["payload"]["error"], "step ask failed: rejected by anonymous");
    let bad = plan(json!({"schema": {"tipe": "object"}, "onExpire": "shrug"}));
    let paths = server.post("/api/workflow/check", &bad).json()["issues"].clone();
    let paths: Vec<_> = paths.as_array().expect("a list").iter().map(|issue| issue["path"].clone()).collect();
    assert_eq!(paths, ["steps[0].inputs.schema", "steps[0].inputs.onExpire"]);
}

#[test]
fn of_many_who_decide_at_once_one_is_told_yes() {
    let server = Server::open();
    let run = asked(&server, json!({}));
    let address = server.address;
    let threads: Vec<_> = (0..8)
        .map(|n| {
            let word = if n % 2 == 0 { "approve" } else { "reject" };
            let request = decision(&run, &json!({"decision": word, "payload": n}));
            thread::spawn(move || (n, request.send(address)))
        })
        .collect();
    let answers: Vec<_> = threads.into_iter().map(|thread| thread.join().expect("an answer")).collect();
    let (yes, no): (Vec<_>, Vec<_>) = answers.iter().partition(|(_, answer)| answer.status == 200);
    assert_eq!(yes.len(), 1);
    for (_, answer) in no {
        assert!(answer.status == 409 && ["already_decided", "run_ended"].contains(&answer.code().as_str()));
    }
    server.messages("p", &run);
    assert_eq!(step(&server, &run)["decision"]["payload"], yes[0].0, "the one that was told so");
}

#[test]
fn the_scope_says_who_may_and_the_token_who_did() {
    let server = Setup::default().with_tokens().start();
    let watcher = token(&["p"], "run subscribe");
    let decider = token(&["p"], "approve");
    let submitted = server.call(Request::post("/api/projects/p/workflows", &plan(json!({}))).token(&watcher)).json();
    let run = submitted["runId"].as_str().expect("an id").to_owned();
    let path = format!("/api/projects/p/workflows/{run}");
    wait_for("the question", || {
        let run = server.call(Request::get(&path).token(&watcher)).json();
        (run["steps"][0]["status"] == "waiting").then_some(())
    });
    let approve = json!({"decision": "approve"});
    let refused = server.call(decision(&run, &approve).token(&watcher));
    assert_eq!((refused.status, refused.code().as_str()), (403, "scope_missing"));
    let decided = server.call(decision(&run, &approve).token(&decider));
    assert_eq!(decided.status, 200, "{}", decided.text());
    assert_eq!(decided.json()["by"], "tester");
}

#[cfg(feature = "sqlite")]
#[test]
fn a_wait_and_a_decision_outlive_a_kill() {
    let directory = TempDirectory::new();
    let setup = Setup::default().data(&directory.join("data"));
    let server = setup.clone().start();
    let run = asked(&server, json!({"expires": "10m"}));
    let before = step(&server, &run);
    server.kill();
    let server = setup.clone().start();
    let after = wait_until_asked(&server, &run);
    assert_eq!((&after["approval"], &after["attempt"]), (&before["approval"], &json!(1)), "it is not asked anew");
    let approve = json!({"decision": "approve", "payload": 7});
    let answer = server.call(decision(&run, &approve).header("Idempotency-Key", "k"));
    assert_eq!(answer.status, 200);
    server.kill();
    let server = setup.start();
    assert_eq!(step(&server, &run)["decision"]["payload"], 7, "who was told yes was told so for good");
    let again = server.call(decision(&run, &approve).header("Idempotency-Key", "k"));
    assert_eq!((again.status, again.json()), (200, answer.json()));
    assert_eq!(server.messages("p", &run).pop().expect("a message")["type"], "workflow_completed");
}

#[cfg(feature = "sqlite")]
#[test]
fn a_wait_that_expires_while_no_server_runs_is_over_at_the_next_start() {
    let directory = TempDirectory::new();
    let setup = Setup::default().data(&directory.join("data"));
    let server = setup.clone().start();
    let run = asked(&server, json!({"expires": 1500, "onExpire": "approve"}));
    let expires_at = step(&server, &run)["approval"]["expiresAt"].clone();
    server.kill();
    let server = setup.start();
    let messages = server.messages("p", &run);
    let ended = messages.iter().map(|message| &message["payload"]).find(|it| it["status"] == "completed");
    let ended = ended.expect("it completes");
    assert_eq!((&ended["decision"]["decision"], &ended["decision"]["expired"]), (&json!("approve"), &json!(true)));
    assert!(ended["timestamp"].as_str() >= expires_at.as_str(), "not before its time: {ended} {expires_at}");
}

#[test]
fn a_shutdown_does_not_wait_for_who_decides_and_a_cancel_ends_the_wait() {
    let mut server = Server::open();
    let run = asked(&server, json!({}));
    assert_eq!(server.post(&format!("/api/projects/p/workflows/{run}/cancel"), &json!({})).status, 202);
    assert_eq!(server.messages("p", &run).pop().expect("a message")["payload"]["reason"], "cancelled");
    asked(&server, json!({}));
    server.signal(Signal::TERM);
    assert_eq!(server.wait(), Some(0));
}

#[test]
fn plans_with_approvals_are_checked_on_the_command_line() {
    let (status, ..) = run(&["check", "-"], &[], &plan(json!({})).to_string());
    assert_eq!(status, 0);
}
