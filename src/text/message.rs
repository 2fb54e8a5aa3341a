//! The messages of an event stream as lines: `curl -H 'Accept: text/plain'` shows them. Pure.
//!
//! `22:13:20.042 run_JVFNoA fetch: started: Read the index`. Times are UTC; lines without a time have the same
//! indentation.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::event::{described, label, output_line};
use super::format::share;
use super::harmless::{last_state, neutral, one_line, shortened};
use crate::model::{RunEvent, RunEventKind, RunState, StepStatus, Timestamp};

/// The longest payload of a publisher's message that is shown, in characters.
const PAYLOAD_CHARS_MAX: usize = 1000;

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(rename = "type")]
    message_type: &'a str,
    #[serde(borrow)]
    payload: &'a RawValue,
}

/// Appends to `to` what the blocks in `frames` say, which are whole. Comments say nothing; the server's own heartbeats are
/// kept away by the caller, for a publisher may name a message so.
pub fn tell(frames: &[u8], to: &mut Vec<u8>) {
    for line in frames.split(|byte| *byte == b'\n') {
        let Some(data) = line.strip_prefix(b"data: ") else { continue };
        let Ok(envelope) = serde_json::from_slice::<Envelope>(data) else { continue };
        for line in lines(envelope.message_type, envelope.payload.get()) {
            to.extend_from_slice(line.trim_end().as_bytes());
            to.push(b'\n');
        }
    }
}

/// The line that keeps a stream alive while there is nothing to tell.
pub fn heartbeat(now: Timestamp) -> String {
    format!("{} heartbeat\n", time(Some(now)))
}

fn lines(kind: &str, payload: &str) -> Vec<String> {
    if let Ok(event) = RunEvent::from_payload(kind, payload.as_bytes()) {
        return event_lines(&event);
    }
    match kind {
        "workflow_snapshot" => match RunState::from_json(payload.as_bytes()) {
            Ok(state) => state_lines(&state),
            Err(_) => Vec::new(),
        },
        _ => vec![format!("{} {kind} {}", time(None), shortened(&one_line(payload), PAYLOAD_CHARS_MAX))],
    }
}

fn event_lines(event: &RunEvent) -> Vec<String> {
    let (time, label) = (time(Some(event.timestamp)), label(&event.run_id));
    let RunEventKind::StepOutput(said) = &event.kind else {
        return vec![format!("{time} {label} {}", described(event))];
    };
    let omitted = said.omitted_bytes.map(|bytes| format!("({bytes} bytes omitted)"));
    let texts =
        omitted.into_iter().chain(said.chunk.split_terminator('\n').map(|line| neutral(last_state(line)).into_owned()));
    let lines = texts.map(|text| output_line(&said.step_id, said.stream, &text));
    let indent = " ".repeat(time.len() + 1 + label.len());
    let begin = |n| if n == 0 { format!("{time} {label}") } else { indent.clone() };
    lines.enumerate().map(|(n, line)| format!("{} {line}", begin(n))).collect()
}

fn state_lines(state: &RunState) -> Vec<String> {
    let (time, label) = (time(state.started_at), label(&state.run_id));
    let (name, status) = (one_line(&state.plan_name), state.status.as_str());
    let head = format!("{time} {label} run {} is {status}: {name} ({})", state.run_id, share(&state.progress));
    let moved = state.steps.iter().filter(|step| step.status != StepStatus::Pending);
    let steps = moved.map(|step| {
        let error = step.error.as_deref().map(|error| format!(": {}", one_line(error))).unwrap_or_default();
        let status = serde_json::to_string(&step.status).unwrap_or_default();
        format!("{} {}: {}{error}", " ".repeat(time.len() + 1 + label.len()), step.id, status.trim_matches('"'))
    });
    std::iter::once(head).chain(steps).collect()
}

/// The time of day, or as much space.
fn time(at: Option<Timestamp>) -> String {
    const TIME: std::ops::Range<usize> = "2023-11-14T".len().."2023-11-14T22:13:20.042".len();
    let text = at.map(|at| at.to_string());
    let text = text.as_deref().and_then(|text| text.get(TIME)).unwrap_or_default();
    format!("{text:<width$}", width = TIME.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(frames: &str) -> String {
        let mut to = Vec::new();
        tell(frames.as_bytes(), &mut to);
        String::from_utf8(to).expect("UTF-8")
    }

    #[test]
    fn messages_are_told_in_lines() {
        let head = r#""runId":"run_abcdefghijk","timestamp":"2023-11-14T22:13:20.042Z""#;
        let output = |chunk: &str| {
            format!(
                r#"{{"type":"workflow_step_output","payload":{{{head},"stepId":"a","attempt":1,"stream":"stdout","chunk":"{chunk}"}}}}"#
            )
        };
        let table = [
            (":".to_owned(), ""),
            (
                r#"data: {"type":"heartbeat","payload":{"from":"a publisher"}}"#.to_owned(),
                "             heartbeat {\"from\":\"a publisher\"}\n",
            ),
            ("data: no JSON".to_owned(), ""),
            (format!("id: x\ndata: {}", output("one")), "22:13:20.042 run_abcdef a | one\n"),
            (
                format!("data: {}", output(r"one\n\u001b[2Jtwo\n")),
                "22:13:20.042 run_abcdef a | one\n                        a | two\n",
            ),
            (format!("data: {}", output(r"10%\r50%\r100%\n")), "22:13:20.042 run_abcdef a | 100%\n"),
            (format!("data: {}", output(r"10%\r50%\r")), "22:13:20.042 run_abcdef a | 50%\n"),
            (
                format!("data: {}", output(r"\u001b]8;;file:///x\u001b\\link\u001b]8;;\u0007\r\n")),
                "22:13:20.042 run_abcdef a | link\n",
            ),
            (
                format!(
                    r#"data: {{"type":"workflow_level_started","payload":{{{head},"level":0,"totalLevels":2,"steps":["a","b"]}}}}"#
                ),
                "22:13:20.042 run_abcdef level 1 of 2 started: a, b\n",
            ),
            (r#"data: {"type":"note","payload":{"n":"\u001b"}}"#.to_owned(), "             note {\"n\":\"\\u001b\"}\n"),
        ];
        for (frame, expected) in table {
            assert_eq!(told(&format!("{frame}\n\n")), expected, "{frame}");
        }
    }
}
