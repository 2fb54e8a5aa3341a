//! SIGTERM: what is dropped, what is finished, and what the next start continues.

use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::common::client::Request;
use crate::common::server::{Server, Setup, TempDirectory, TempFile, program};
use crate::common::stream::{Event, Sse};
use crate::common::{is_alive, wait_for};

const STREAM: &str = "/api/sse/projects/p";

/// A tool whose step ends when the file `gate` is there.
fn gated(directory: &TempDirectory) -> Setup {
    let gate = directory.join("gate");
    let script = format!("until [ -e '{}' ]; do sleep 0.01; done; echo through", gate.display());
    let config = format!("[tools.gated]\nkind = \"command\"\nargv = [\"sh\", \"-c\", \"{script}\"]\n");
    Setup::default().config(&config).data(&directory.join("data"))
}

fn open_gate(directory: &TempDirectory) {
    std::fs::write(directory.join("gate"), "").expect("a file");
}

fn plan() -> Value {
    json!({"name": "gated", "steps": [
        {"id": "first", "tool": "echo"},
        {"id": "waits", "tool": "gated", "dependencies": ["first"]},
        {"id": "last", "tool": "echo", "dependencies": ["waits"]},
    ]})
}

fn until_running(server: &Server, run: &str, step: &str) {
    let mut stream = server.stream(&format!("{STREAM}?runId={run}"));
    stream.until(|message| message["payload"]["status"] == "running" && message["payload"]["stepId"] == step);
}

fn until_draining(server: &Server) {
    wait_for("no new work", || (server.get("/readyz").status == 503).then_some(()));
}

fn moves<'e>(events: &'e [Event], step: &str) -> Vec<(&'e str, u64)> {
    let payloads = events.iter().map(|event| &event.message["payload"]);
    let of_step = payloads.filter(|payload| payload["stepId"] == step && payload["status"].is_string());
    of_step.map(|it| (it["status"].as_str().expect("text"), it["attempt"].as_u64().expect("a number"))).collect()
}

#[test]
fn what_a_shutdown_leaves_unfinished_goes_on_after_the_next_start() {
    let directory = TempDirectory::new();
    let setup = gated(&directory).flags(&["--executor-grace", "50ms"]);
    let mut server = setup.clone().start();
    let run = server.submit("p", &plan());
    until_running(&server, &run, "waits");
    let mut seen = server.stream(&format!("{STREAM}?runId={run}"));
    server.signal(Signal::TERM);
    assert_eq!(server.wait(), Some(0));
    let mut events = seen.rest();
    assert_eq!(events.pop().expect("a last message").message["payload"]["reason"], "shutdown");
    assert!(!events.iter().any(|event| event.kind() == "workflow_failed"), "it has not ended: {events:#?}");

    let server = setup.start();
    let path = format!("/api/projects/p/workflows/{run}");
    let state = server.get(&path).json();
    assert_eq!((&state["status"], &state["steps"][0]["status"]), (&json!("running"), &json!("completed")));
    open_gate(&directory);
    let last_seen = events.last().expect("connected at least").id().to_owned();
    let request = Request::get(&format!("{STREAM}?runId={run}")).header("Last-Event-ID", &last_seen);
    events.extend(server.stream_of(request).rest());
    assert_eq!(moves(&events, "first"), [("running", 1), ("completed", 1)], "it is not run again");
    assert_eq!(moves(&events, "waits"), [("running", 1), ("running", 2), ("completed", 2)]);
    assert_eq!(moves(&events, "last"), [("running", 1), ("completed", 1)]);
    let last: Vec<u64> = events.iter().filter(|event| event.kind() == "workflow_completed").map(Event::seq).collect();
    assert_eq!(last.len(), 1, "one last message: {events:#?}");
    assert_eq!(server.get(&path).json()["status"], "completed");
}

#[test]
fn a_run_that_ends_within_the_grace_is_seen_to_its_end_by_all() {
    let directory = TempDirectory::new();
    let mut server = gated(&directory).flags(&["--executor-grace", "5m"]).start();
    let plan = json!({"name": "short", "steps": [{"id": "waits", "tool": "gated"}]});
    let run = server.submit("p", &plan);
    until_running(&server, &run, "waits");
    let mut watching: Vec<Sse> = (0..5).map(|_| server.stream(STREAM)).collect();
    watching.iter_mut().for_each(|stream| drop(stream.next()));
    server.signal(Signal::TERM);
    until_draining(&server);
    assert_eq!(server.get("/healthz").status, 200);
    assert_eq!(server.post("/api/projects/p/workflows", &plan).status, 503);
    open_gate(&directory);
    let mut retries = Vec::new();
    for stream in &mut watching {
        let events = stream.rest();
        let [.., last, closing] = &events[..] else { panic!("{events:#?}") };
        assert_eq!((last.kind(), closing.kind()), ("workflow_completed", "stream_closing"), "{events:#?}");
        assert_eq!((&closing.message["payload"]["reason"], &closing.id), (&json!("shutdown"), &None));
        retries.push(closing.retry.expect("a retry field"));
    }
    assert_eq!(server.wait(), Some(0));
    // Five draws of one number out of 2,000 would be.
    retries.dedup();
    assert!(retries.len() > 1, "they would all come back at once: {retries:?}");
}

#[test]
fn a_second_signal_ends_it_at_once_and_the_run_goes_on_later() {
    let directory = TempDirectory::new();
    let setup = gated(&directory).flags(&["--executor-grace", "10m"]);
    let mut server = setup.clone().start();
    let run = server.submit("p", &plan());
    until_running(&server, &run, "waits");
    server.signal(Signal::TERM);
    until_draining(&server);
    server.signal(Signal::TERM);
    server.wait();
    open_gate(&directory);
    let server = setup.start();
    let messages = server.messages("p", &run);
    assert_eq!(messages.last().expect("a message")["type"], "workflow_completed");
    assert_eq!(messages[0]["payload"]["runId"], run.as_str());
}

/// A tool that does not listen to SIGTERM, nor does what it starts. It leaves both ids in `file`.
fn deaf(directory: &TempDirectory) -> String {
    let file = directory.join("pids");
    let script = format!(
        "trap '' TERM HUP INT; sh -c 'echo $$; exec sleep 600' >{file}.new & until [ -s {file}.new ]; do :; done; \
         echo $$ >>{file}.new; mv {file}.new {file}; while :; do sleep 600 & wait; done",
        file = file.display()
    );
    format!("[tools.deaf]\nkind = \"command\"\nargv = [\"sh\", \"-c\", \"{script}\"]\n")
}

fn deaf_plan() -> Value {
    json!({"name": "deaf", "steps": [{"id": "a", "tool": "deaf"}]})
}

fn pids(directory: &TempDirectory) -> Vec<u64> {
    let file = directory.join("pids");
    let text = wait_for("the tool's start", || std::fs::read_to_string(&file).ok());
    let pids: Vec<u64> = text.lines().map(|line| line.parse().expect("a process id")).collect();
    assert_eq!(pids.len(), 2, "{text}");
    assert!(pids.iter().all(|pid| is_alive(*pid)));
    pids
}

fn until_dead(pids: &[u64]) {
    wait_for("the end of the tool", || (!pids.iter().any(|pid| is_alive(*pid))).then_some(()));
}

#[test]
fn a_second_signal_left_the_tools_alive() {
    let directory = TempDirectory::new();
    let setup = Setup::default().data(&directory.join("data")).flags(&["--executor-grace", "10m"]);
    let mut run = None;
    for (first, second) in [(Signal::TERM, Signal::TERM), (Signal::HUP, Signal::INT)] {
        let mut server = setup.clone().config(&deaf(&directory)).start();
        run.get_or_insert_with(|| server.submit("p", &deaf_plan()));
        let pids = pids(&directory);
        server.signal(first);
        until_draining(&server);
        server.signal(second);
        server.wait();
        until_dead(&pids);
        std::fs::remove_file(directory.join("pids")).expect("it is there");
    }
    let server = setup.config("[tools.deaf]\nkind = \"command\"\nargv = [\"true\"]\n").start();
    let messages = server.messages("p", &run.expect("submitted"));
    let moves = messages.iter().map(|message| &message["payload"]["status"]).filter(|status| status.is_string());
    let moves: Vec<_> = moves.collect();
    assert_eq!(moves, ["running", "running", "running", "completed"], "that we killed it is no failure of the step's");
}

#[test]
fn a_signal_that_does_not_ask_left_the_tools_alive() {
    let directory = TempDirectory::new();
    let mut server = Setup::default().config(&deaf(&directory)).start();
    server.submit("p", &deaf_plan());
    let pids = pids(&directory);
    server.signal(Signal::QUIT);
    assert_eq!(server.wait(), Some(0));
    until_dead(&pids);
}

#[test]
fn a_hangup_ended_the_server_and_not_its_tools() {
    let directory = TempDirectory::new();
    let mut server = gated(&directory).flags(&["--executor-grace", "1ms"]).start();
    let run = server.submit("p", &plan());
    until_running(&server, &run, "waits");
    server.signal(Signal::HUP);
    assert_eq!(server.wait(), Some(0), "as after SIGTERM");
}

#[test]
fn under_nohup_a_hangup_is_nothing() {
    let mut server = Setup::default().after("trap '' HUP").start();
    server.signal(Signal::HUP);
    server.carry_out(&json!({"name": "n", "steps": [{"id": "a", "tool": "delay", "inputs": {"ms": 50}}]}));
    assert!(!server.has_ended());
    server.signal(Signal::TERM);
    assert_eq!(server.wait(), Some(0));
}

#[test]
fn a_second_signal_to_run_left_the_tools_alive() {
    let directory = TempDirectory::new();
    let (config, plan) = (TempFile::new(".toml", &deaf(&directory)), TempFile::new(".json", &deaf_plan().to_string()));
    let mut command = program();
    command.args(["run", plan.text(), "--json", "--config", config.text()]).stdout(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    let pids = pids(&directory);
    signal(&child, Signal::HUP);
    signal(&child, Signal::INT);
    let status = wait_for("the end of the process", || child.try_wait().expect("a child"));
    // As after SIGHUP or SIGINT: which of two that wait is taken first is not told.
    assert!(matches!(status.code(), Some(129 | 130)), "{status}");
    until_dead(&pids);
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).expect("it runs");
}
