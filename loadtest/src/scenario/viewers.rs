//! How soon what is said reaches the last of many viewers, which is written to last: what a step prints, or, of a server
//! that runs no plans (the floor), an event. With viewers that read, as they come, and with others that have their
//! sockets' buffers filled: what is between the two is not the server's, but what reading costs on the same machine.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;

use super::steps::{settings, wait_for_streams};
use super::workflow::{nanoseconds, submit};
use crate::failure::{Outcome, failure};
use crate::fleet::Fleet;
use crate::follower::{Caller, Follower};
use crate::latency::Latencies;
use crate::server::Server;
use crate::watch::Watch;

/// A program that prints what time it is, so slowly that nothing is joined: a line is a message.
pub(super) const CLOCK_TOOL: &str = r#"
[tools.clock]
kind = "command"
argv = ["sh", "-c", "i=0; while [ $i -lt $1 ]; do date +%s%N; sleep 0.15; i=$((i+1)); done", "clock", "{{ inputs.lines }}"]
"#;

/// How often an event says what time it is.
const PACE: Duration = Duration::from_millis(150);

/// What the viewers before the last one do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Others {
    /// They read what comes.
    Read,
    /// They leave it in their sockets.
    Wait,
}

/// What the time of a step's output is called.
pub(super) fn output_name(others: Others) -> &'static str {
    match others {
        Others::Read => "output to the last viewer",
        Others::Wait => "output to the last viewer, others read later",
    }
}

/// What that of an event is.
pub(super) fn event_name(others: Others) -> &'static str {
    match others {
        Others::Read => "event to the last viewer",
        Others::Wait => "event to the last viewer, others read later",
    }
}

/// All viewers but the last: those that read, or those that wait.
fn crowd(
    server: &Server,
    project: &str,
    viewers: usize,
    others: Others,
    watch: &mut Watch,
) -> Outcome<(Option<Fleet>, Vec<Follower>)> {
    let count = viewers.saturating_sub(1);
    if others == Others::Wait {
        let opened = (0..count).map(|_| Follower::start(server.target(), project));
        return Ok((None, opened.collect::<Outcome<_>>()?));
    }
    let fleet = Fleet::open_new(&settings(server, project, count))?;
    wait_for_streams(watch, &fleet, count)?;
    Ok((Some(fleet), Vec::new()))
}

/// From when a program says what time it is to when the viewer has it who came last, and is written to last.
pub(super) fn output(
    server: &Server,
    viewers: usize,
    lines: usize,
    others: Others,
    watch: &mut Watch,
) -> Outcome<Latencies> {
    let project = if others == Others::Read { "output" } else { "unread" };
    let _crowd = crowd(server, project, viewers, others, watch)?;
    let mut follower = Follower::start(server.target(), project)?;
    let step = json!({"id": "clock", "tool": "clock", "inputs": {"lines": lines}});
    submit(&mut Caller::start(server.target())?, project, &json!({"name": "clock", "steps": [step]}).to_string())?;
    let mut latencies = Latencies::default();
    loop {
        let message = follower.next_message()?;
        match message["type"].as_str() {
            Some("workflow_step_output") => {
                let chunk = message["payload"]["chunk"].as_str();
                record(&mut latencies, chunk.and_then(|chunk| chunk.lines().last()?.parse().ok()));
            }
            Some("workflow_completed") => return Ok(latencies),
            Some("workflow_failed") => return failure(format!("the clock failed: {message}")),
            _ => {}
        }
    }
}

/// From when an event is published to when the viewer has it who came last.
pub(super) fn events(
    server: &Server,
    viewers: usize,
    lines: usize,
    others: Others,
    watch: &mut Watch,
) -> Outcome<Latencies> {
    let project = if others == Others::Read { "events" } else { "unread-events" };
    let _crowd = crowd(server, project, viewers, others, watch)?;
    let mut follower = Follower::start(server.target(), project)?;
    let mut caller = Caller::start(server.target())?;
    let mut latencies = Latencies::default();
    for _ in 0..lines {
        std::thread::sleep(PACE);
        let event = json!({"type": "load", "payload": {"chunk": now().to_string(), "filling": "x".repeat(160)}});
        caller.post(&format!("/api/projects/{project}/events"), &event.to_string())?;
        let message = follower.next_message()?;
        record(&mut latencies, message["payload"]["chunk"].as_str().and_then(|chunk| chunk.parse().ok()));
    }
    Ok(latencies)
}

fn record(latencies: &mut Latencies, said: Option<u64>) {
    latencies.record(now().saturating_sub(said.unwrap_or(0)));
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, nanoseconds)
}
