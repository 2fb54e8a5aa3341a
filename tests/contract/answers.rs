//! Steps that wait for a decision, through the frontends of agents.

use serde_json::{Value, json};

use crate::common::client::{Request, Response};
use crate::common::retold::{Frame, RetoldStream};
use crate::common::server::{Server, Setup};
use crate::common::token::token;
use crate::common::wait_for;

const AGUI: &str = "/api/projects/p/agui";
const CHAT: &str = "/api/projects/p/chat";

fn plan(inputs: Value) -> Value {
    let mut asked = json!({"message": "Go on?"});
    asked.as_object_mut().expect("an object").extend(inputs.as_object().expect("an object").clone());
    json!({"name": "n", "steps": [
        {"id": "ask", "tool": "approval", "inputs": asked},
        {"id": "after", "tool": "approval", "inputs": {"message": "And then?"}, "dependencies": ["ask"]},
    ]})
}

fn begin(run: &str, plan: &Value) -> Request {
    Request::post(AGUI, &json!({"threadId": "t", "runId": run, "forwardedProps": {"plan": plan}}))
}

fn resume(interrupt: &str, rest: Value) -> Request {
    let mut entry = json!({"interruptId": interrupt, "status": "resolved"});
    entry.as_object_mut().expect("an object").extend(rest.as_object().expect("an object").clone());
    Request::post(AGUI, &json!({"threadId": "t", "runId": "next", "protocolVersion": "1.0", "resume": [entry]}))
}

fn yes() -> Value {
    json!({"payload": {"approved": true}})
}

/// What a chat posts whose tool was answered.
fn approved(id: &str, approved: bool) -> Request {
    let run = id.split('/').next().expect("a run");
    let approval = json!({"id": id, "approved": approved});
    let part = json!({"type": "dynamic-tool", "toolCallId": id, "state": "approval-responded", "approval": approval});
    let messages = json!([{"id": "u", "role": "user", "parts": []}, {"id": run, "role": "assistant", "parts": [part]}]);
    Request::post(CHAT, &json!({"id": run, "messages": messages, "trigger": "submit-message", "messageId": run}))
}

/// The whole turn that comes of a call.
fn turn(server: &Server, request: Request) -> Vec<Frame> {
    let mut stream = RetoldStream::open(server.address, request);
    let frames = stream.rest();
    assert!(stream.is_at_its_end(), "the end is meant");
    frames
}

/// The ids of what the end of a turn asks.
fn asked(frames: &[Frame]) -> Vec<String> {
    let outcome = &frames.last().expect("an end").data["outcome"];
    assert_eq!(outcome["type"], "interrupt", "{frames:#?}");
    let interrupts = outcome["interrupts"].as_array().expect("a list").iter();
    interrupts.map(|interrupt| interrupt["id"].as_str().expect("an id").to_owned()).collect()
}

fn verdict(answer: &Response) -> (u16, String) {
    (answer.status, answer.code())
}

fn step(server: &Server, run: &str, at: usize) -> Value {
    server.get(&format!("/api/projects/p/workflows/{run}")).json()["steps"][at].clone()
}

#[test]
fn a_turn_ends_where_a_run_waits_and_the_answer_begins_the_next() {
    let server = Server::open();
    let first = turn(&server, begin("r", &plan(json!({}))));
    assert_eq!(asked(&first), ["r/ask/1"]);
    assert_eq!(asked(&turn(&server, begin("r", &json!({})))), ["r/ask/1"], "whoever comes is asked");
    let second = turn(&server, resume("r/ask/1", yes()));
    let started = &second[0].data;
    assert_eq!((&started["runId"], &started["parentRunId"]), (&json!("next"), &json!("r")));
    assert_eq!(asked(&second), ["r/after/1"]);
    let end = &second.last().expect("an end").data;
    assert_eq!((&end["threadId"], &end["runId"]), (&json!("t"), &json!("next")));
    let last = turn(&server, resume("r/after/1", json!({"payload": true})));
    assert_eq!(last.last().expect("an end").data["outcome"], json!({"type": "success"}));
}

#[test]
fn an_answer_that_comes_again_is_the_same_answer() {
    let server = Server::open();
    turn(&server, begin("r", &plan(json!({}))));
    for _ in 0..3 {
        assert_eq!(asked(&turn(&server, resume("r/ask/1", yes()))), ["r/after/1"]);
    }
    let other = server.call(resume("r/ask/1", json!({"payload": {"approved": false}})));
    assert_eq!(verdict(&other), (409, "already_decided".to_owned()));
    let chat = server.call(approved("r/ask/1", false));
    assert_eq!(verdict(&chat), (409, "already_decided".to_owned()));
    let said = server.get("/api/projects/p/workflows/r/events?limit=1000").json();
    let said = said["events"].as_array().expect("a list").iter();
    assert_eq!(said.filter(|event| event["payload"]["decision"].is_object()).count(), 1);
    turn(&server, resume("r/after/1", yes()));
    let over = turn(&server, resume("r/ask/1", yes()));
    assert_eq!(over.last().expect("an end").data["outcome"]["type"], "success", "also once the run has ended");
    let late = server.call(resume("r/after/1", json!({"payload": false})));
    assert_eq!(verdict(&late), (409, "run_ended".to_owned()));
}

#[test]
fn who_gives_up_rejects_what_waits_and_goes_on_with_what_was_decided() {
    let server = Server::open();
    let given_up = |id: &str| resume(id, json!({"status": "cancelled"}));
    turn(&server, begin("r", &plan(json!({}))));
    let decision = Request::post("/api/projects/p/workflows/r/steps/ask/decision", &json!({"decision": "approve"}));
    assert_eq!(server.call(decision).status, 200);
    wait_for("the next question", || (step(&server, "r", 1)["status"] == "waiting").then_some(()));
    assert_eq!(asked(&turn(&server, given_up("r/ask/1"))), ["r/after/1"]);
    assert_eq!(step(&server, "r", 0)["decision"]["decision"], "approve");
    for _ in 0..2 {
        let end = turn(&server, given_up("r/after/1"));
        assert_eq!(end.last().expect("an end").kind(), "RUN_ERROR");
    }
    assert_eq!(step(&server, "r", 1)["decision"]["decision"], "reject");
}

#[test]
fn what_is_no_answer_is_refused_before_the_stream_begins_and_the_run_waits_on() {
    let server = Server::open();
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]});
    turn(&server, begin("r", &plan(json!({"schema": schema}))));
    let large = "x".repeat(65_536);
    for (request, status, code) in [
        (resume("r/ask/1", yes()), 422, "invalid_payload"),
        (resume("r/ask/1", json!({"payload": {"approved": true, "payload": {"n": "1"}}})), 422, "invalid_payload"),
        (resume("r/ask/1", json!({"payload": {"approved": true, "payload": large}})), 413, "payload_too_large"),
        (resume("r/ask/1", json!({"payload": {"n": 1}})), 422, "invalid_body"),
        (resume("r/ask/1", json!({})), 422, "invalid_body"),
        (resume("ask", yes()), 422, "invalid_body"),
        (resume("other/ask/1", yes()), 404, "unknown_run"),
        (resume("r/none/1", yes()), 404, "unknown_step"),
        (resume("r/after/1", yes()), 409, "not_waiting"),
        (approved("r/ask/1", true), 422, "invalid_payload"),
        (approved("other/ask/1", true), 404, "unknown_run"),
    ] {
        let answer = server.call(request);
        assert_eq!(verdict(&answer), (status, code.to_owned()), "{}", answer.text());
    }
    assert_eq!(step(&server, "r", 0)["status"], "waiting");
    let answer = json!({"payload": {"approved": true, "payload": {"n": 1}}});
    assert_eq!(asked(&turn(&server, resume("r/ask/1", answer))), ["r/after/1"]);
}

#[test]
fn an_answer_that_cannot_be_keeps_no_other_from_counting() {
    let server = Server::open();
    let asks = |id: &str| json!({"id": id, "tool": "approval", "inputs": {"message": "Go on?"}});
    turn(&server, begin("r", &json!({"name": "n", "steps": [asks("one"), asks("two")]})));
    let decision = Request::post("/api/projects/p/workflows/r/steps/one/decision", &json!({"decision": "approve"}));
    assert_eq!(server.call(decision).status, 200);
    let entry =
        |step: &str, yes: bool| json!({"interruptId": format!("r/{step}/1"), "status": "resolved", "payload": yes});
    let resumed = |entries: &[Value]| {
        server.call(Request::post(AGUI, &json!({"threadId": "t", "runId": "next", "resume": entries})))
    };
    for entries in [vec![entry("two", true), entry("two", false)], vec![entry("two", true); 257]] {
        assert_eq!(verdict(&resumed(&entries)), (422, "invalid_body".to_owned()));
    }
    let answer = resumed(&[entry("one", false), entry("two", true)]);
    assert_eq!(verdict(&answer), (409, "already_decided".to_owned()));
    assert!(
        answer.text().contains("r/one/1: ") && answer.text().contains("1 of 2 answers were accepted"),
        "{}",
        answer.text()
    );
    let end = turn(&server, begin("r", &json!({})));
    assert_eq!(end.last().expect("an end").data["outcome"], json!({"type": "success"}), "the other one counts");
}

#[test]
fn who_may_not_decide_answers_nothing() {
    let server = Setup::default().with_tokens().start();
    let all = token(&["p", "q"], "subscribe run approve");
    let watcher = token(&["p"], "subscribe run");
    let others = token(&["q"], "subscribe run approve");
    let blind = token(&["p"], "approve");
    turn(&server, begin("r", &plan(json!({}))).token(&watcher));
    for (token, code) in [(&watcher, "scope_missing"), (&others, "project_forbidden"), (&blind, "scope_missing")] {
        for request in [resume("r/ask/1", yes()), approved("r/ask/1", true)] {
            assert_eq!(verdict(&server.call(request.token(token))), (403, code.to_owned()));
        }
    }
    let entry = json!({"interruptId": "r/ask/1", "status": "resolved", "payload": true});
    let elsewhere = Request::post("/api/projects/q/agui", &json!({"threadId": "t", "runId": "n", "resume": [entry]}));
    assert_eq!(verdict(&server.call(elsewhere.token(&all))), (404, "unknown_run".to_owned()));
    let next = turn(&server, resume("r/ask/1", yes()).token(&all));
    assert_eq!(asked(&next), ["r/after/1"]);
}

#[test]
fn a_chat_is_told_what_it_lacks_behind_its_answer_and_no_more() {
    let server = Server::open();
    let message = json!({"id": "u", "role": "user", "parts": [{"type": "text", "text": "hi"}]});
    let body = json!({"id": "c", "messages": [message], "trigger": "submit-message", "plan": plan(json!({}))});
    let kinds = |frames: &[Frame]| -> Vec<String> {
        let told = frames.iter().map(|frame| frame.kind().to_owned());
        told.filter(|kind| !kind.starts_with("data-")).collect()
    };
    let first = turn(&server, Request::post(CHAT, &body));
    assert_eq!(kinds(&first), ["start", "tool-input-available", "tool-approval-request", "finish", "[DONE]"]);
    let again = turn(&server, Request::get(&format!("{CHAT}/c/stream")));
    assert_eq!(kinds(&again), kinds(&first), "a page that is loaded anew is asked, too");
    let ask = ["tool-input-available", "tool-approval-request"];
    for _ in 0..2 {
        let second = kinds(&turn(&server, approved("c/ask/1", true)));
        let rest: Vec<_> = second.iter().filter(|kind| !ask.contains(&kind.as_str())).collect();
        assert_eq!(rest, ["start", "tool-output-available", "finish", "[DONE]"], "{second:?}");
    }
    let last = kinds(&turn(&server, approved("c/after/1", false)));
    assert_eq!(&last[last.len() - 3..], ["error", "finish", "[DONE]"], "{last:?}");
    assert!(last.contains(&"tool-output-denied".to_owned()), "{last:?}");
}

#[test]
fn who_only_watches_is_not_sent_away() {
    let server = Server::open();
    turn(&server, begin("r", &plan(json!({}))));
    let open = |format: &str| {
        let path = format!("/api/sse/projects/p?runId=r&format={format}");
        RetoldStream::open(server.address, Request::get(&path))
    };
    let mut watchers = ["agui", "ai"].map(open);
    watchers.iter_mut().for_each(|watcher| drop(watcher.until(|frame| frame.id.is_some())));
    assert_eq!(asked(&turn(&server, resume("r/ask/1", yes()))), ["r/after/1"]);
    turn(&server, resume("r/after/1", yes()));
    for watcher in &mut watchers {
        let frames = watcher.rest();
        assert!(watcher.is_at_its_end());
        let ends = frames.iter().filter(|frame| ["RUN_FINISHED", "finish"].contains(&frame.kind())).count();
        assert_eq!(ends, 1, "{frames:#?}");
    }
}

#[test]
fn a_stored_plan_is_begun_by_its_name() {
    let server = Setup::default().with_tokens().start();
    let all = token(&["p"], "subscribe run");
    let stored = json!({"plan": {"name": "stored", "steps": [{"id": "a", "tool": "echo", "inputs": {"to": "{{ inputs.to }}"}}]},
        "inputs": {"to": "one"}});
    let put = Request::new("PUT", "/api/projects/p/plans/daily").header("Content-Type", "application/json");
    assert_eq!(server.call(put.body(stored.to_string()).token(&all)).status, 201);
    let body = json!({"runId": "r", "forwardedProps": {"template": "daily", "inputs": {"to": "two"}}});
    let told = turn(&server, Request::post(AGUI, &body).token(&all));
    assert_eq!(told.last().expect("an end").data["result"]["outputs"]["a"]["to"], "two");
    let again = turn(&server, Request::post(AGUI, &body).token(&all));
    assert_eq!(again.last().expect("an end").id, told.last().expect("an end").id, "the same run");
    let chat = json!({"id": "c", "messages": [], "template": "daily"});
    let chatted = turn(&server, Request::post(CHAT, &chat).token(&all));
    assert_eq!(chatted.last().expect("an end").kind(), "[DONE]");
    let none = json!({"forwardedProps": {"template": "none"}});
    assert_eq!(verdict(&server.call(Request::post(AGUI, &none).token(&all))), (404, "unknown_plan".to_owned()));
    let watcher = token(&["p"], "subscribe");
    let body = json!({"forwardedProps": {"template": "daily"}});
    let refused = server.call(Request::post(AGUI, &body).token(&watcher));
    assert_eq!(verdict(&refused), (403, "scope_missing".to_owned()));
}
