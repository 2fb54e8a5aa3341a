//! A stream for people: lines of text instead of events, as `curl` asks for them.

use serde_json::json;

use crate::common::client::{Connection, Request};
use crate::common::server::{Server, Setup};
use crate::common::stream::Sse;
use crate::common::stream_body::StreamBody;

fn open(server: &Server, request: Request) -> StreamBody {
    let mut connection = Connection::open(server.address);
    connection.write(&request.bytes(server.address));
    let head = connection.head().expect("an answer");
    assert_eq!((head.status, head.header("Content-Type")), (200, Some("text/plain; charset=utf-8")), "{head:?}");
    assert_eq!((head.header("X-Accel-Buffering"), head.header("Transfer-Encoding")), (Some("no"), Some("chunked")));
    StreamBody::new(connection, &head)
}

fn until(connection: &mut StreamBody, text: &str) -> Vec<String> {
    let mut seen = Vec::new();
    loop {
        let line = connection.line().unwrap_or_else(|| panic!("no {text:?} in {seen:#?}"));
        seen.push(line);
        if seen.last().is_some_and(|line| line.contains(text)) {
            return seen;
        }
    }
}

fn plan() -> serde_json::Value {
    json!({"name": "two", "steps": [
        {"id": "a", "tool": "echo"},
        {"id": "b", "tool": "fail", "inputs": {"message": "out\u{1b}[2J of paper"}, "dependencies": ["a"]},
    ]})
}

#[test]
fn a_stream_as_text_is_a_line_for_each_message() {
    let server = Server::open();
    let mut by_header = open(&server, Request::get("/api/sse/projects/p").header("Accept", "text/plain"));
    let mut by_query = open(&server, Request::get("/api/sse/projects/p?view=text").header("Accept", "*/*"));
    let mut events = server.stream("/api/sse/projects/p");
    for connection in [&mut by_header, &mut by_query] {
        assert!(connection.line().is_some_and(|line| line.trim_start().starts_with("connected {")));
    }
    let first = server.submit("p", &plan());
    server.submit("p", &plan());
    assert_eq!(server.post("/api/projects/p/events", &json!({"type": "note", "payload": {"n": 1}})).status, 202);
    let mut ends = 0;
    let mut has_note = false;
    let messages = events.until(|message| {
        ends += usize::from(message["type"] == "workflow_failed");
        has_note |= message["type"] == "note";
        ends == 2 && has_note
    });
    let expected = messages.len() - 1;
    for connection in [&mut by_header, &mut by_query] {
        let lines: Vec<String> = (0..expected).map(|_| connection.line().expect("a line")).collect();
        let count = |text: &str| lines.iter().filter(|line| line.contains(text)).count();
        assert_eq!(
            (count(" a: started: a"), count(" b: failed after "), count("run failed: ")),
            (2, 2, 2),
            "{lines:#?}"
        );
        assert!(count("out of paper") >= 2, "{lines:#?}");
        assert_eq!(count(r#" note {"n":1}"#), 1, "{lines:#?}");
        assert!(
            lines.iter().any(|line| line.contains(&format!("run {first} started: two, 2 steps in 2 levels"))),
            "{lines:#?}"
        );
        assert!(lines.iter().all(|line| !line.contains('\u{1b}')), "{lines:#?}");
    }
}

#[test]
fn text_of_one_run_ends_with_it_and_history_is_told_too() {
    let server = Server::open();
    let run = server.submit("p", &plan());
    server.messages("p", &run);
    let mut one = open(&server, Request::get(&format!("/api/sse/projects/p?view=text&runId={run}")));
    let lines = one.rest();
    assert!(lines[1].contains("started: two"), "{lines:#?}");
    assert!(lines.last().is_some_and(|line| line.contains("run failed")) && one.is_at_its_end(), "{lines:#?}");
    let mut late = open(&server, Request::get("/api/sse/projects/p?view=text"));
    until(&mut late, &format!("run {run} is failed: two (2/2, 100%)"));
    until(&mut late, " b: failed: ");
}

#[test]
fn only_who_asks_for_text_gets_it() {
    let server = Server::open();
    for accept in ["text/event-stream", "*/*", "text/event-stream, text/plain", "text/plain;q=0.5, text/event-stream"] {
        Sse::open(server.address, Request::get("/api/sse/projects/p").header("Accept", accept));
    }
    let request = Request::get("/api/sse/projects/p").header("Accept", "text/event-stream;q=0.5, text/plain");
    until(&mut open(&server, request), "connected {");
    assert_eq!(server.get("/api/sse/projects/p?view=html").status, 400);
}

#[test]
fn a_silent_stream_of_text_has_heartbeats_because_proxies_end_what_is_silent() {
    let server = Setup::default().flags(&["--sse-heartbeat", "50ms"]).start();
    for query in ["view=text", "view=text&heartbeat=message"] {
        let mut quiet = open(&server, Request::get(&format!("/api/sse/projects/p?{query}")));
        until(&mut quiet, "connected {");
        until(&mut quiet, " heartbeat");
        until(&mut quiet, " heartbeat");
    }
}
