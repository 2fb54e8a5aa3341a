//! A store that fails: nothing can be stored, but what has to end still ends.

use std::fs;

use serde_json::{Value, json};

use super::run_path;
use crate::common::client::Response;
use crate::common::server::{Server, Setup, TempDirectory};
use crate::common::{is_alive, wait_for};
use crate::store::{fill_disk, kept, limit_files, publish_until_full};

/// A run of one step, and the process of its tool.
struct Begun {
    run: String,
    pid: u64,
}

/// A server whose tools `waits` and `floods` say in `directory` which process they are.
fn start(directory: &TempDirectory) -> Server {
    let script = |then: &str| format!("echo $$ > '{}'/$STEPCAST_STEP_ID; exec {then}", directory.path().display());
    let tool = |name: &str, then: &str| {
        format!("[tools.{name}]\nkind = \"command\"\nargv = [\"sh\", \"-c\", \"{}\"]\n", script(then))
    };
    let setup: Setup = kept(directory).config(&(tool("waits", "sleep 600") + &tool("floods", "yes")));
    setup.start()
}

fn begin(server: &Server, directory: &TempDirectory, step: Value) -> Begun {
    let pid = directory.join(step["id"].as_str().expect("an id"));
    let run = server.submit("p", &json!({"name": "n", "steps": [step]}));
    let pid = wait_for("the tool", || fs::read_to_string(&pid).ok()?.trim().parse().ok());
    Begun { run, pid }
}

fn cancel(server: &Server, run: &str) -> Response {
    server.post(&format!("{}/cancel", run_path("p", run)), &Value::Null)
}

/// What a run said in the end, but for its output, and why it ended.
fn assert_ended(server: &Server, run: &str, status: &str, reason: &str) {
    let messages = server.messages("p", run);
    let told = messages.iter().filter(|message| message["type"] != "workflow_step_output");
    let told: Vec<_> = told.map(|message| (&message["type"], &message["payload"]["status"])).collect();
    let expected = [
        ("workflow_started", None),
        ("workflow_level_started", None),
        ("workflow_progress", Some("running")),
        ("workflow_progress", Some(status)),
        ("workflow_level_completed", None),
        ("workflow_failed", None),
    ];
    let expected = expected.map(|(kind, status)| (json!(kind), json!(status)));
    assert_eq!(told, expected.iter().map(|(kind, status)| (kind, status)).collect::<Vec<_>>());
    assert_eq!(messages.last().expect("a last one")["payload"]["reason"], reason);
}

#[test]
fn while_the_disk_was_full_no_step_timed_out_and_no_cancel_was_carried_out() {
    let directory = TempDirectory::new();
    let server = start(&directory);
    let late = begin(&server, &directory, json!({"id": "late", "tool": "waits", "timeout": 4000}));
    let quiet = begin(&server, &directory, json!({"id": "quiet", "tool": "waits"}));
    let loud = begin(&server, &directory, json!({"id": "loud", "tool": "floods"}));
    fill_disk(&server, &directory);
    publish_until_full(&server, &mut Vec::new());

    for Begun { run, .. } in [&quiet, &loud] {
        let answer = cancel(&server, run);
        assert_eq!((answer.status, answer.code().as_str()), (503, "store_unavailable"), "it is not kept: {answer:?}");
    }
    for Begun { pid, .. } in [&late, &quiet, &loud] {
        wait_for("the tool's end", || (!is_alive(*pid)).then_some(()));
    }
    assert_eq!((server.get("/readyz").status, server.get("/healthz").status), (503, 200), "nothing is kept yet");

    limit_files(&server, None);
    wait_for("room", || (server.get("/readyz").status == 200).then_some(()));
    assert_ended(&server, &late.run, "failed", "step_failed");
    for Begun { run, .. } in [&quiet, &loud] {
        assert_ended(&server, run, "cancelled", "cancelled");
        assert_eq!(cancel(&server, run).status, 409);
    }
}
