//! Steps that crash the server: they are retried, but not for ever.

use serde_json::{Value, json};

use crate::common::client::Request;
use crate::common::server::{Server, Setup, TempDirectory};
use crate::common::wait_for;

/// A tool that kills the process which started it, and one that takes a while.
const CONFIG: &str = r#"
[tools.bomb]
kind = "command"
argv = ["sh", "-c", "kill -9 $PPID"]

[tools.slow]
kind = "command"
argv = ["sleep", "1"]
"#;

const RUN: &str = "/api/projects/p/workflows/bomb";

/// More starts than there may be: one attempt is lost with the message that tells of it.
const STARTS_MAX: usize = 6;

/// Waits until the run of the bomb has ended; none where the server has.
fn outlived(mut server: Server) -> Option<Server> {
    let has_outlived = wait_for("an end", || {
        let status = Request::get(RUN).try_send(server.address).map(|answer| answer.json()["status"].clone());
        match status {
            _ if server.has_ended() => Some(false),
            Some(status) if status == "failed" => Some(true),
            _ => None,
        }
    });
    has_outlived.then_some(server)
}

fn count(messages: &[Value], step: &str, status: &str) -> usize {
    let payloads = messages.iter().map(|message| &message["payload"]);
    payloads.filter(|payload| payload["stepId"] == step && payload["status"] == status).count()
}

#[test]
fn a_step_that_kills_the_server_is_tried_three_times_and_other_runs_go_on() {
    let directory = TempDirectory::new();
    let setup = Setup::default().config(CONFIG).data(&directory.join("data"));
    let server = setup.clone().start();
    let steps = json!([{"id": "long", "tool": "delay", "inputs": {"ms": 3000}}, {"id": "slow", "tool": "slow"},
        {"id": "after", "tool": "echo", "dependencies": ["long", "slow"]}]);
    let other = server.submit("p", &json!({"name": "other", "steps": steps}));
    let steps = json!([{"id": "boom", "tool": "bomb"}, {"id": "later", "tool": "echo", "dependencies": ["boom"]}]);
    let bomb = json!({"plan": {"name": "bomb", "steps": steps}, "runId": "bomb"});
    // It may be gone before it has answered.
    Request::post("/api/projects/p/workflows", &bomb).try_send(server.address);
    assert!(outlived(server).is_none(), "it is killed");

    let mut starts = (0..STARTS_MAX).map(|_| setup.clone().launch().listening_or_gone().and_then(outlived));
    let server = starts.find_map(|server| server).expect("one that is not killed");
    let messages = server.messages("p", "bomb");
    assert_eq!((count(&messages, "boom", "running"), count(&messages, "later", "skipped")), (3, 1), "{messages:#?}");
    let last = &messages.last().expect("a message")["payload"];
    assert_eq!((&last["reason"], &last["failedSteps"]), (&json!("interrupted"), &json!(["boom"])));
    let error = last["error"].as_str().expect("a sentence");
    assert!(error.ends_with("(limit 3, executor.interruptions)"), "{error}");
    assert_eq!(server.messages("p", &other).last().expect("a message")["type"], "workflow_completed");
}
