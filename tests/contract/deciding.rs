//! Decisions from the terminal: `stepcast decide`, and the questions of `stepcast run`.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};

use crate::common::client::Request;
use crate::common::server::{Server, Setup, TempDirectory, TempFile, program, run};
use crate::common::terminal::terminal;
use crate::common::token::token;
use crate::common::wait_for;

/// A run whose step `ask` waits; with a token where the server asks for one.
fn asked(server: &Server, schema: &Value, token: Option<&str>) -> String {
    let inputs = json!({"message": "Go?", "schema": schema});
    let plan = json!({"name": "n", "steps": [{"id": "ask", "tool": "approval", "inputs": inputs}]});
    let submitted = Request::post("/api/projects/p/workflows", &plan);
    let submitted = server.call(token.map_or(submitted.clone(), |token| submitted.token(token)));
    let run = submitted.json()["runId"].as_str().expect("it is accepted").to_owned();
    wait_for("the question", || Some(()).filter(|()| step(server, &run, token)["status"] == "waiting"));
    run
}

fn step(server: &Server, run: &str, token: Option<&str>) -> Value {
    let request = Request::get(&format!("/api/projects/p/workflows/{run}"));
    let answer = server.call(token.map_or(request.clone(), |token| request.token(token)));
    answer.json()["steps"][0].clone()
}

fn decide(server: &Server, words: &[&str], environment: &[(&str, &str)]) -> (i32, String, String) {
    let url = format!("http://{}", server.address);
    run(&[&["decide", "p"], words, &["--url", &url]].concat(), environment, "")
}

#[test]
fn the_terminal_approves_with_a_payload_and_rejects() {
    let server = Server::open();
    let schema = json!({"type": "object", "required": ["nodes"], "properties": {"nodes": {"type": "integer"}}});
    let run = asked(&server, &schema, None);
    let (status, _, said) = decide(&server, &[&run, "ask", "approve", "--payload", r#"{"nodes": "many"}"#], &[]);
    assert!(status == 1 && said.contains("payload.nodes"), "it says what is wrong: {said}");
    let (status, shown, said) = decide(&server, &[&run, "ask", "approve", "--payload", r#"{"nodes": 3}"#], &[]);
    assert_eq!((status, shown.as_str()), (0, "ask: approved, by anonymous\n"), "{said}");
    wait_for("the end", || Some(()).filter(|()| step(&server, &run, None)["status"] == "completed"));
    assert_eq!(step(&server, &run, None)["output"]["payload"], json!({"nodes": 3}));

    let run = asked(&server, &json!(true), None);
    let (status, shown, said) = decide(&server, &[&run, "ask", "reject"], &[]);
    assert_eq!((status, shown.as_str()), (0, "ask: rejected, by anonymous\n"), "{said}");
    wait_for("the end", || Some(()).filter(|()| step(&server, &run, None)["status"] == "failed"));
}

#[test]
fn the_terminal_says_why_nothing_is_decided() {
    let server = Server::open();
    let run = asked(&server, &json!(true), None);
    for (words, expected) in [
        (["none", "ask", "approve"], "cannot decide step ask: "),
        ([&run, "other", "approve"], "cannot decide step other: step not found in this run"),
    ] {
        let (status, shown, said) = decide(&server, &words, &[]);
        assert_eq!((status, shown.as_str()), (1, ""));
        assert!(said.contains(expected), "{said}");
    }
    assert_eq!(decide(&server, &[&run, "ask", "maybe"], &[]).0, 2, "no command");
    assert_eq!(decide(&server, &[&run, "ask", "approve"], &[]).0, 0);
    let (status, _, said) = decide(&server, &[&run, "ask", "reject"], &[]);
    let is_told = said.contains("was decided by anonymous") || said.contains("the run has ended");
    assert!(status == 1 && is_told, "{said}");
}

#[test]
fn a_token_decides_only_with_the_scope_approve() {
    let server = Setup::default().with_tokens().start();
    let runner = token(&["p"], "run subscribe");
    let run = asked(&server, &json!(true), Some(&runner));
    let (status, _, said) = decide(&server, &[&run, "ask", "approve"], &[("STEPCAST_TOKEN", &runner)]);
    assert!(status == 1 && said.contains("approve"), "{said}");
    let decider = token(&["p"], "approve");
    let (status, shown, said) = decide(&server, &[&run, "ask", "approve"], &[("STEPCAST_TOKEN", &decider)]);
    assert_eq!((status, shown.as_str()), (0, "ask: approved, by tester\n"), "{said}");
}

/// The head and body of a request.
fn request(socket: &mut impl Read) -> String {
    let mut text = Vec::new();
    while !text.ends_with(b"}") {
        let mut part = [0; 1024];
        let length = socket.read(&mut part).expect("a request");
        text.extend_from_slice(&part[..length]);
    }
    String::from_utf8(text).expect("UTF-8")
}

#[test]
fn a_decision_whose_answer_is_lost_is_sent_again_with_the_same_key() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let server = thread::spawn(move || {
        let first = request(&mut listener.accept().expect("a connection").0);
        let (mut socket, _) = listener.accept().expect("another connection");
        let second = request(&mut socket);
        socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{\"by\":\"ann\"}").expect("it is read");
        [first, second]
    });
    let (status, shown, said) = run(&["decide", "p", "r", "ask", "approve", "--url", &url], &[], "");
    assert_eq!((status, shown.as_str()), (0, "ask: approved, by ann\n"), "{said}");
    let requests = server.join().expect("it serves");
    assert!(requests[0].contains("\r\nIdempotency-Key: "), "{}", requests[0]);
    assert_eq!(requests[0], requests[1]);
}

/// What a program writes to a terminal, as it comes.
fn written(mut terminal: File) -> Arc<Mutex<String>> {
    let all = Arc::new(Mutex::new(String::new()));
    let shared = all.clone();
    thread::spawn(move || {
        let mut part = [0; 4096];
        while let Ok(length @ 1..) = terminal.read(&mut part) {
            shared.lock().expect("no panic").push_str(&String::from_utf8_lossy(&part[..length]));
        }
    });
    all
}

#[test]
fn a_question_in_the_terminal_was_written_over_by_what_ran_beside() {
    const QUESTION: &str = "approve? [y/n] ";
    let directory = TempDirectory::new();
    let done = directory.join("done");
    let busy = "[tools.busy]\nkind = \"command\"\nargv = [\"sh\", \"-c\", 'sleep 0.5; touch \"$1\"', \"busy\", \"{{ inputs.file }}\"]\n";
    let config = TempFile::new(".toml", busy);
    let plan = json!({"name": "n", "steps": [
        {"id": "ask", "tool": "approval", "inputs": {"message": "Go?"}},
        {"id": "busy", "title": "Be busy", "tool": "busy", "inputs": {"file": done}}]});
    let plan = TempFile::new(".json", &plan.to_string());
    let (master, other) = terminal();
    let mut command = program();
    command.args(["run", plan.text(), "--config", config.text()]).env("TERM", "xterm");
    command.stdin(other.try_clone().expect("ours")).stdout(other.try_clone().expect("ours")).stderr(other);
    let mut child = command.spawn().expect("the program starts");
    drop(command);
    let mut master = File::from(master);
    let screen = written(master.try_clone().expect("ours"));
    let text = || screen.lock().expect("no panic").clone();
    wait_for("the question", || Some(()).filter(|()| text().contains(QUESTION)));
    wait_for("the step beside", || Some(()).filter(|()| done.exists()));
    master.write_all(b"y\n").expect("it is typed");
    assert!(child.wait().expect("it ends").success(), "{}", text());
    let all = wait_for("the summary", || Some(text()).filter(|text| text.contains("2 completed")));
    let (_, after) = all.split_once(QUESTION).expect("it was asked");
    assert!(after.starts_with("y\r\n"), "nothing but the answer is behind the question: {after:?}");
    assert!(after.contains("Be busy"), "what came meanwhile is shown then: {after:?}");
}
