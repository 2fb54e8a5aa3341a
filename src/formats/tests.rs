//! Runs retold, by this program's own reading of events. What the real clients make of them is tested in `tests/agents`.

mod agui_client;
mod ai_client;
mod bounds;
mod cuts;
mod halts;
mod replanned;

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::http::{contents, events};
use crate::model::{Draft, ProjectId, RunEvent, RunId, RunState, Timestamp};

fn events_of(chunks: &[u8]) -> Vec<Value> {
    let mut reader = events::EventReader::new(1 << 24);
    let read = reader.push(&contents(chunks)).expect("fits");
    read.into_iter().map(|event| serde_json::from_str(&event.data).unwrap_or(Value::String(event.data))).collect()
}

/// What is written, as events.
fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<Value> {
    let mut chunks = Vec::new();
    write(&mut chunks);
    events_of(&chunks)
}

fn head(plan: &Value) -> Arc<RunHead> {
    let read = Draft::read(plan, 10_000).finish().expect("a plan");
    let state = RunState::new(RunId::parse("r").expect("an id"), &read, Timestamp::from_millis(0));
    let document = json!({"plan": plan, "inputs": {}}).to_string();
    Arc::new(RunHead::new(ProjectId::parse("p").expect("an id"), &state, document.as_bytes()))
}

fn said(kind: &str, mut payload: Value) -> RunEvent {
    payload["runId"] = json!("r");
    payload["timestamp"] = json!("1970-01-01T00:00:01.000Z");
    RunEvent::from_payload(kind, payload.to_string().as_bytes()).expect("a message")
}

fn simplest() -> Vec<RunEvent> {
    let progress = json!({"completed": 0, "failed": 0, "skipped": 0, "cancelled": 0, "total": 1, "percent": 0});
    let step = |status: Value| {
        let mut payload = json!({"stepId": "a", "stepTitle": "a", "level": 0, "attempt": 1, "progress": progress});
        payload.as_object_mut().expect("an object").extend(status.as_object().expect("an object").clone());
        said("workflow_progress", payload)
    };
    vec![
        said(
            "workflow_started",
            json!({"planName": "p", "stepCount": 1, "totalLevels": 1, "estimatedDuration": 0, "parallelizable": false,
                "levels": [["a"]]}),
        ),
        said("workflow_level_started", json!({"level": 0, "totalLevels": 1, "steps": ["a"]})),
        step(json!({"status": "running", "stepDescription": "", "message": "Running a"})),
        said("workflow_step_output", json!({"stepId": "a", "attempt": 1, "stream": "text", "chunk": "Hel"})),
        said("workflow_step_output", json!({"stepId": "a", "attempt": 1, "stream": "text", "chunk": "lo"})),
        step(json!({"status": "completed", "output": {"n": 1}, "duration": 5})),
        said(
            "workflow_level_completed",
            json!({"level": 0, "totalLevels": 1, "completedSteps": ["a"], "failedSteps": [], "skippedSteps": [],
                "executionTime": 5, "efficiency": 1.0}),
        ),
        said(
            "workflow_completed",
            json!({"planName": "p", "outputs": {"a": {"n": 1}},
                "performanceMetrics": {"totalExecutionTime": 5, "criticalPath": ["a"], "stepTime": 5}}),
        ),
    ]
}

fn types(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().or(event.as_str()).unwrap_or_default()).collect()
}

#[test]
fn the_simplest_run_in_both_formats() {
    let plan = json!({"name": "p", "steps": [{"id": "a", "tool": "echo", "inputs": {"x": 1.0, "apiKey": "k"}}]});
    let expected: [(Format, &[&str]); 2] = [
        (
            Format::AgUi { knows_cancelled: true, in_turns: true },
            &[
                "RUN_STARTED",
                "STATE_SNAPSHOT",
                "MESSAGES_SNAPSHOT",
                "STATE_DELTA",
                "STATE_DELTA",
                "STEP_STARTED",
                "TOOL_CALL_START",
                "TOOL_CALL_ARGS",
                "TOOL_CALL_END",
                "STATE_DELTA",
                "TEXT_MESSAGE_START",
                "TEXT_MESSAGE_CONTENT",
                "TEXT_MESSAGE_CONTENT",
                "TEXT_MESSAGE_END",
                "TOOL_CALL_RESULT",
                "STATE_DELTA",
                "STEP_FINISHED",
                "STATE_DELTA",
                "STATE_DELTA",
                "RUN_FINISHED",
            ],
        ),
        (
            Format::AiSdk { in_turns: true },
            &[
                "start",
                "data-plan",
                "data-workflow",
                "data-workflow",
                "data-workflow",
                "tool-input-available",
                "data-step",
                "data-workflow",
                "text-start",
                "text-delta",
                "text-delta",
                "text-end",
                "tool-output-available",
                "data-step",
                "data-workflow",
                "data-workflow",
                "data-workflow",
                "finish",
                "[DONE]",
            ],
        ),
    ];
    for (format, expected) in expected {
        let mut encoder = Encoder::new(format, head(&plan));
        let mut bytes = Vec::new();
        encoder.prelude(&Opening::default(), "0", &mut bytes);
        for (n, event) in simplest().iter().enumerate() {
            encoder.tell(event, &n.to_string(), &mut bytes);
        }
        assert_eq!(types(&events_of(&bytes)), expected, "{format:?}");
        assert!(encoder.is_over());
        let text = String::from_utf8(bytes).expect("text");
        assert!(text.contains(r#"{\"x\":1.0,\"apiKey\":\"***\"}"#) || text.contains(r#"{"x":1.0,"apiKey":"***"}"#));
    }
}
