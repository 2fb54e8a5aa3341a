//! What happens to runs during an upgrade.

use serde_json::Value;

use super::{gated, open_gate, run_to_the_gate, upgrade};
use crate::common::server::TempDirectory;

fn attempts(messages: &[Value], step: &str) -> Vec<(String, u64)> {
    let of_step =
        messages.iter().map(|it| &it["payload"]).filter(|it| it["stepId"] == step && it["status"].is_string());
    of_step.map(|it| (it["status"].as_str().expect("text").to_owned(), it["attempt"].as_u64().expect("one"))).collect()
}

fn ends(messages: &[Value]) -> usize {
    messages.iter().filter(|it| it["type"] == "workflow_completed" || it["type"] == "workflow_failed").count()
}

#[test]
fn a_step_that_ends_within_its_grace_is_not_run_again() {
    let directory = TempDirectory::new();
    let server = gated(&directory).flags(&["--executor-grace", "5m"]).start();
    let run = run_to_the_gate(&server);
    upgrade(&server);
    server.until_logged("is ready to take over", 1);
    open_gate(&directory);
    let _serves = server.until_upgraded(1);
    let messages = server.messages("p", &run);
    assert_eq!(attempts(&messages, "waits"), [("running".into(), 1), ("completed".into(), 1)]);
    assert_eq!(attempts(&messages, "last"), [("running".into(), 1), ("completed".into(), 1)]);
    assert_eq!(ends(&messages), 1);
}

#[test]
fn a_step_that_does_not_is_run_again_by_the_new_process_and_the_run_ends_once() {
    let directory = TempDirectory::new();
    let server = gated(&directory).flags(&["--executor-grace", "10ms"]).start();
    let run = run_to_the_gate(&server);
    upgrade(&server);
    let _serves = server.until_upgraded(1);
    open_gate(&directory);
    let messages = server.messages("p", &run);
    assert_eq!(attempts(&messages, "waits"), [("running".into(), 1), ("running".into(), 2), ("completed".into(), 2)]);
    assert_eq!(ends(&messages), 1);
}
