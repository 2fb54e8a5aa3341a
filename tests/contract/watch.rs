//! `stepcast watch` and `demo`: the program as its own client.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Stdio};
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::common::client::Request;
use crate::common::server::{Server, Setup, program, run};
use crate::common::{token, wait_for};

/// The program as it watches; ends with the test.
struct Watcher {
    child: Child,
    out: BufReader<ChildStdout>,
    /// What it says beside what it shows.
    said: Arc<Mutex<String>>,
}

impl Watcher {
    fn start(args: &[&str]) -> Self {
        let mut command = program();
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let out = BufReader::new(child.stdout.take().expect("piped"));
        let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
        let said = Arc::new(Mutex::new(String::new()));
        let kept = said.clone();
        std::thread::spawn(move || {
            let mut line = String::new();
            while stderr.read_line(&mut line).is_ok_and(|n| n > 0) {
                kept.lock().expect("nobody panics here").push_str(&std::mem::take(&mut line));
            }
        });
        Self { child, out, said }
    }

    fn watch(server: &Server, args: &[&str]) -> Self {
        let url = format!("http://{}", server.address);
        Self::start(&[&["watch", "p", "--url", &url], args].concat())
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        self.out.read_line(&mut line).expect("UTF-8");
        (!line.is_empty()).then(|| line.trim_end().to_owned())
    }

    /// Lines up to the first that holds `text`, with it.
    fn until(&mut self, text: &str) -> Vec<String> {
        let mut seen = Vec::new();
        loop {
            let line = self.line().unwrap_or_else(|| panic!("no {text:?} in {seen:#?}, {}", self.said()));
            seen.push(line);
            if seen.last().is_some_and(|line| line.contains(text)) {
                return seen;
            }
        }
    }

    fn said(&self) -> String {
        self.said.lock().expect("nobody panics here").clone()
    }

    fn wait_until_it_says(&self, text: &str) {
        wait_for(text, || self.said().contains(text).then_some(()));
    }

    fn interrupt(&self) {
        let pid = Pid::from_raw(self.child.id().try_into().expect("a process id")).expect("not 0");
        kill_process(pid, Signal::INT).expect("it runs");
    }

    /// What it shows until its end, and its exit status.
    fn end(mut self) -> (String, Option<i32>) {
        let mut rest = String::new();
        self.out.read_to_string(&mut rest).expect("UTF-8");
        let child = &mut self.child;
        let status = wait_for("the end of the watcher", || child.try_wait().expect("a child"));
        (rest, status.code())
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // Fails where it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn echo_then(tool: &str, inputs: Value) -> Value {
    json!({"name": "two", "steps": [
        {"id": "a", "tool": "echo", "inputs": {"n": 1}},
        {"id": "b", "tool": tool, "inputs": inputs, "dependencies": ["a"]},
    ]})
}

#[test]
fn a_run_is_watched_to_its_end_and_the_exit_status_tells_how_it_ended() {
    let server = Server::open();
    for (plan, status, verdict) in [
        (echo_then("delay", json!({"ms": 50})), 0, "two completed after"),
        (echo_then("fail", json!({"message": "out of paper"})), 1, "error b: out of paper"),
    ] {
        let run = server.submit("p", &plan);
        let (shown, code) = Watcher::watch(&server, &["--run", &run]).end();
        assert_eq!(code, Some(status), "{shown}");
        assert!(shown.contains(&format!("run {run} started: two, 2 steps in 2 levels")), "{shown}");
        assert!(shown.contains(verdict) && !shown.contains('\x1b'), "{shown}");
    }
}

#[test]
fn json_is_what_the_server_says() {
    let server = Server::open();
    let run = server.submit("p", &echo_then("echo", json!({})));
    let expected = server.messages("p", &run);
    let (shown, code) = Watcher::watch(&server, &["--run", &run, "--json"]).end();
    let messages: Vec<Value> = shown.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!((messages[0]["type"].as_str(), code), (Some("connected"), Some(0)));
    assert_eq!(messages[1..], expected);
}

#[test]
fn who_comes_late_sees_the_run_as_it_is_and_ctrl_c_is_no_failure() {
    let server = Server::open();
    let run = server.submit("p", &echo_then("delay", json!({"ms": 600_000})));
    let at = format!("/api/projects/p/workflows/{run}");
    wait_for("the second step", || (server.get(&at).json()["steps"][1]["status"] == "running").then_some(()));
    let mut watcher = Watcher::watch(&server, &[]);
    let label: String = run.chars().take(10).collect();
    let seen = watcher.until("level 2 of 2 started: b");
    assert!(seen.iter().any(|line| line.contains(&format!("{label} a: completed"))), "{seen:#?}");
    assert_eq!(server.post("/api/projects/p/events", &json!({"type": "note", "payload": {"n": 1}})).status, 202);
    watcher.until(r#"note {"n":1}"#);
    // No name of a message but those of runs and streams means anything to it.
    assert_eq!(server.post("/api/projects/p/events", &json!({"type": "heartbeat", "payload": {"n": 2}})).status, 202);
    watcher.until(r#"heartbeat {"n":2}"#);
    assert_eq!(server.post(&format!("{at}/cancel"), &json!({})).status, 202);
    watcher.until("two cancelled after");
    watcher.until("steps");
    watcher.interrupt();
    assert_eq!(watcher.end().1, Some(0));
}

#[cfg(feature = "sqlite")]
#[test]
fn a_server_that_is_killed_and_started_again_costs_no_line_and_doubles_none() {
    let directory = crate::common::server::TempDirectory::new();
    let setup = Setup::default().data(directory.path()).flags(&["--sse-retry", "50ms"]);
    let server = setup.clone().start();
    let address = server.address;
    let steps = (0..12).map(|n| {
        let dependencies: Vec<_> = (n > 0).then(|| format!("s{}", n - 1)).into_iter().collect();
        json!({"id": format!("s{n}"), "tool": "delay", "inputs": {"ms": 30}, "dependencies": dependencies})
    });
    let run = server.submit("p", &json!({"name": "chain", "steps": steps.collect::<Vec<_>>()}));
    let mut json = Watcher::watch(&server, &["--run", &run, "--json"]);
    let mut plain = Watcher::watch(&server, &[]);
    let mut lines = json.until(r#""status":"completed""#);
    let mut shown = plain.until("completed after");
    server.kill();
    json.wait_until_it_says("reconnecting");
    plain.wait_until_it_says("reconnecting");
    let server = setup.listen(address).start();

    let (rest, status) = json.end();
    assert_eq!(status, Some(0), "{rest}");
    lines.extend(rest.lines().map(str::to_owned));
    let messages: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let of_the_run: Vec<_> = messages.into_iter().filter(|message| message["type"] != "connected").collect();
    assert_eq!(of_the_run, server.messages("p", &run), "all of it, once, in order");

    shown.extend(plain.until("chain completed after"));
    assert!(plain.said().contains("reconnected"), "{}", plain.said());
    for n in 0..12 {
        let completed = shown.iter().filter(|line| line.contains(&format!(" s{n}: completed"))).count();
        assert_eq!(completed, 1, "s{n} in {shown:#?}");
    }
}

#[test]
fn a_server_that_has_forgotten_is_told_of() {
    let setup = Setup::default().flags(&["--sse-retry", "50ms"]);
    let server = setup.clone().start();
    let address = server.address;
    let run = server.submit("p", &echo_then("delay", json!({"ms": 600_000})));
    let mut plain = Watcher::watch(&server, &[]);
    let mut one = Watcher::watch(&server, &["--run", &run]);
    plain.until("b: started");
    one.until("b: started");
    server.kill();
    plain.wait_until_it_says("reconnecting");
    one.wait_until_it_says("reconnecting");
    let server = setup.listen(address).start();
    plain.wait_until_it_says("are no longer available");
    assert_eq!(server.post("/api/projects/p/events", &json!({"type": "note", "payload": {}})).status, 202);
    let seen = plain.until("note {}");
    assert!(seen.iter().any(|line| line.contains("two not finished")), "{seen:#?}");
    one.wait_until_it_says(&format!("run {run} does not exist in project p"));
    assert_eq!(one.end().1, Some(1));
}

#[test]
fn refusals_are_sentences_and_end_it() {
    let server = Setup::default().with_tokens().start();
    let url = format!("http://{}", server.address);
    let for_p = token::token(&["p"], "subscribe");
    let watch = |project: &str, args: &[&str], token: &str| {
        let environment: &[(&str, &str)] = if token.is_empty() { &[] } else { &[("STEPCAST_TOKEN", token)] };
        let (code, _, said) = run(&[&["watch", project, "--url", &url], args].concat(), environment, "");
        assert_eq!(code, 1, "{said}");
        said
    };
    let said = watch("p", &[], "");
    assert!(said.contains("requires an access token; pass --token or set STEPCAST_TOKEN"), "{said}");
    let said = watch("p", &["--token", "nonsense"], &for_p);
    assert!(said.contains("rejected the access token") && !said.contains("nonsense"), "{said}");
    let said = watch("q", &[], &for_p);
    assert!(said.contains("does not allow watching project q"), "{said}");
    let said = watch("p", &["--run", "r"], &for_p);
    assert!(said.contains("run r does not exist in project p"), "{said}");
    drop(server);
    let said = watch("p", &[], &for_p);
    assert!(said.contains(&format!("cannot follow {url}: ")), "{said}");
}

#[test]
fn the_demo_shows_where_to_look_and_leaves_nothing_behind() {
    let scratch = crate::common::server::TempDirectory::new();
    let mut command = program();
    command.args(["demo", "--listen", "127.0.0.1:0"]).env("TMPDIR", scratch.path());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("the program starts");
    let out = BufReader::new(child.stdout.take().expect("piped"));
    let mut demo = Watcher { child, out, said: Arc::default() };
    let seen = demo.until("curl -N http://");
    let url = seen.last().and_then(|line| line.split_once("http://")).expect("a url").1;
    let address = url.split('/').next().expect("an address").parse().expect("an address");
    assert_eq!(Request::get("/readyz").send(address).status, 200);
    demo.until("level 2 of 4 started");
    demo.interrupt();
    assert_eq!(demo.end().1, Some(0));
    let left: Vec<_> = std::fs::read_dir(scratch.path()).expect("a directory").collect();
    assert!(left.is_empty(), "{left:?}");
}
