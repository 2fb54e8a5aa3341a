//! The UI message stream of the Vercel AI SDK, version 1: <https://ai-sdk.dev/docs/ai-sdk-ui/stream-protocol>.
//!
//! A run is one assistant message. A stream always contains that message from its beginning, because a client that
//! resumes starts the message again. An attempt at a step is a tool part, streamed text is a text part. The run and
//! each step are data parts, which a client replaces in place. Printed lines are transient data parts, which a client
//! passes to the page and does not keep.
//!
//! A step that waits for a decision is a tool that requests approval. After the answer a client continues the message
//! that it has, and gets only the parts that it does not have yet.

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::frames::Frames;
use super::had::{CallHad, Had, take_text};
use super::part::{Call, CallResult, Log, LogChunk, Part, Text};
use super::state_document::{object, without_output};
use super::story::{Move, Story};
use crate::model::{RunState, RunStatus};

/// What tells that a stream has come to its end.
pub(super) const DONE: &str = "[DONE]";

/// Writes the chunks for moves of the story.
pub(super) fn tell(moves: &[Move], in_turns: bool, story: &Story, to: &mut Frames) {
    moves.iter().for_each(|made| tell_move(made, in_turns, story, to));
}

fn tell_move(made: &Move, in_turns: bool, story: &Story, to: &mut Frames) {
    match (made, story.part(made)) {
        (Move::Called(_), Some(Part::Call(call))) => to.push(&call_chunk(call, story)),
        (Move::Asked(_), Some(Part::Call(call))) => to.push(&approval_request(call, story)),
        (Move::Answered(_), Some(Part::Call(call))) => push_some(to, result_chunk(call, story)),
        (Move::TextBegan(_), Some(Part::Text(text))) => {
            to.push(&json!({"type": "text-start", "id": text_id(text, story)}));
        }
        (Move::TextGrew(_, piece), Some(Part::Text(text))) => {
            to.push(&json!({"type": "text-delta", "id": text_id(text, story), "delta": piece}));
        }
        (Move::TextEnded(_), Some(Part::Text(text))) => {
            to.push(&json!({"type": "text-end", "id": text_id(text, story)}));
        }
        (Move::LogGrew(_), Some(Part::Log(log))) => {
            if let Some(chunk) = log.chunks.back() {
                to.push(&log_chunk(log, chunk, log.bytes - chunk.text.len() as u64, story));
            }
        }
        (Move::Replanned, _) => {
            to.push(&plan_chunk(story));
            to.push(&run_chunk(story));
        }
        (Move::Moved(step), _) => {
            if let Some(step) = step.filter(|_| story.tells_steps()) {
                to.push(&step_chunk(step, story));
            }
            to.push(&run_chunk(story));
        }
        (Move::Halted, _) if in_turns => tell_halt(story, to),
        (Move::Ended, _) => tell_end(story, to),
        _ => {}
    }
}

/// Writes what a new stream is sent first: the message so far, or the part that the client lacks.
pub(super) fn prelude(in_turns: bool, had: Option<&Had>, story: &Story, to: &mut Frames) {
    to.push(&json!({"type": "start", "messageId": story.state.run_id}));
    to.push(&plan_chunk(story));
    to.push(&run_chunk(story));
    let mut texts_had = had.map(Had::texts).unwrap_or_default();
    for part in &story.parts {
        match (part, had) {
            (Part::Text(text), _) if !text.is_open && take_text(&mut texts_had, &text.text) => {}
            (Part::Call(call), Some(had)) => tell_lacking_call(call, had, story, to),
            _ => tell_part(part, story, to),
        }
    }
    if story.ending.is_some() {
        tell_end(story, to);
    } else if story.is_halted && in_turns {
        tell_halt(story, to);
    }
}

/// The last chunk before [`DONE`] of a stream that ends before its run.
pub(super) fn closing(message: &str) -> Value {
    json!({"type": "error", "errorText": message})
}

fn tell_part(part: &Part, story: &Story, to: &mut Frames) {
    match part {
        Part::Step(step) if story.tells_steps() => to.push(&step_chunk(*step, story)),
        Part::Step(_) => {}
        Part::Call(call) => tell_call(call, story, to),
        Part::Text(text) => tell_text(text, story, to),
        Part::Log(log) => {
            let mut at = log.dropped_bytes;
            for chunk in &log.chunks {
                to.push(&log_chunk(log, chunk, at, story));
                at += chunk.text.len() as u64;
            }
        }
    }
}

fn tell_call(call: &Call, story: &Story, to: &mut Frames) {
    to.push(&call_chunk(call, story));
    tell_rest_of_call(call, story, to);
}

fn tell_rest_of_call(call: &Call, story: &Story, to: &mut Frames) {
    if call.is_question {
        to.push(&approval_request(call, story));
    }
    push_some(to, result_chunk(call, story));
}

/// A call that is told again would be asked for again: of one that a client has it lacks the question and the result at most.
fn tell_lacking_call(call: &Call, had: &Had, story: &Story, to: &mut Frames) {
    match had.call(&story.attempt_id(call.step, call.attempt)) {
        None => tell_call(call, story, to),
        Some(CallHad::Call) => tell_rest_of_call(call, story, to),
        Some(CallHad::Question) => push_some(to, result_chunk(call, story)),
        Some(CallHad::Result) => {}
    }
}

fn approval_request(call: &Call, story: &Story) -> Value {
    let id = story.attempt_id(call.step, call.attempt);
    json!({"type": "tool-approval-request", "approvalId": id, "toolCallId": id})
}

/// The turn is over; people answer the tools that ask.
fn tell_halt(story: &Story, to: &mut Frames) {
    to.push(&finish("tool-calls", story));
    to.push_text(DONE);
}

fn tell_text(text: &Text, story: &Story, to: &mut Frames) {
    let id = text_id(text, story);
    to.push(&json!({"type": "text-start", "id": id}));
    to.push(&json!({"type": "text-delta", "id": id, "delta": text.text}));
    if !text.is_open {
        to.push(&json!({"type": "text-end", "id": id}));
    }
}

fn tell_end(story: &Story, to: &mut Frames) {
    let error = story.state.error.as_deref().unwrap_or("the run failed");
    match story.ending.map(|ending| ending.status) {
        Some(RunStatus::Completed) => to.push(&finish("stop", story)),
        Some(RunStatus::Cancelled) => to.push(&json!({"type": "abort", "reason": error})),
        _ => {
            to.push(&json!({"type": "error", "errorText": error}));
            to.push(&finish("error", story));
        }
    }
    to.push_text(DONE);
}

/// What the run has used goes with the message, as its metadata.
fn finish(reason: &str, story: &Story) -> Value {
    let mut finish = json!({"type": "finish", "finishReason": reason});
    if let Some(usage) = &story.state.usage {
        finish["messageMetadata"] = json!({ "usage": usage });
    }
    finish
}

fn push_some(to: &mut Frames, chunk: Option<Value>) {
    if let Some(chunk) = chunk {
        to.push(&chunk);
    }
}

/// The server calls its tools itself (`providerExecuted`): a page is not asked to, and sends nothing back for them.
#[derive(Serialize)]
#[serde(tag = "type", rename = "tool-input-available", rename_all = "camelCase")]
struct CallChunk<'a> {
    tool_call_id: String,
    tool_name: &'a str,
    /// As it stands in the plan.
    input: &'a RawValue,
    dynamic: bool,
    provider_executed: bool,
    title: &'a str,
}

fn call_chunk<'a>(call: &'a Call, story: &'a Story) -> CallChunk<'a> {
    let step = story.step(call.step);
    CallChunk {
        tool_call_id: story.attempt_id(call.step, call.attempt),
        tool_name: &step.tool,
        input: serde_json::from_str(&call.inputs).unwrap_or(RawValue::NULL),
        dynamic: true,
        provider_executed: true,
        title: &step.title,
    }
}

fn result_chunk(call: &Call, story: &Story) -> Option<Value> {
    let id = story.attempt_id(call.step, call.attempt);
    let available = |output: Value| {
        json!({"type": "tool-output-available", "toolCallId": id, "output": output, "dynamic": true,
            "providerExecuted": true})
    };
    Some(match call.result.as_ref()? {
        CallResult::Output(value) => available((**value).clone()),
        CallResult::CutOutput(text, bytes) => available(json!({"truncated": true, "output": text,
            "outputBytes": bytes, "whole": story.head.output_path(call.step)})),
        CallResult::Denied(_) => json!({"type": "tool-output-denied", "toolCallId": id}),
        CallResult::Error(error) => json!({"type": "tool-output-error", "toolCallId": id, "errorText": error,
            "dynamic": true, "providerExecuted": true}),
    })
}

/// The plan, sent at the beginning of a stream and when it has changed.
fn plan_chunk(story: &Story) -> Value {
    let RunState { run_id, plan_name, revision, levels, steps, .. } = &story.state;
    let mut data = json!({"projectId": story.head.project, "runId": run_id, "planName": plan_name,
        "revision": revision});
    if story.tells_steps() {
        let step = |(step, head): (&std::sync::Arc<crate::model::StepState>, &super::head::StepHead)| {
            json!({"id": step.id, "title": step.title, "description": head.description, "tool": step.tool,
                "level": step.level})
        };
        data["levels"] = json!(levels);
        data["steps"] = steps.iter().zip(&story.head.steps).map(step).collect();
    }
    json!({"type": "data-plan", "id": run_id, "data": data})
}

/// The run, without its steps.
fn run_chunk(story: &Story) -> Value {
    let RunState { run_id, status, progress, current_level, started_at, finished_at, error, usage, .. } = &story.state;
    let mut data = Map::new();
    data.insert("runId".to_owned(), json!(run_id));
    data.insert("status".to_owned(), json!(status));
    data.insert("progress".to_owned(), json!(progress));
    let more = [
        ("currentLevel", current_level.map(|level| json!(level))),
        ("openLevels", story.open_levels().map(|levels| json!(levels))),
        ("startedAt", started_at.map(|at| json!(at))),
        ("finishedAt", finished_at.map(|at| json!(at))),
        ("error", error.as_ref().map(|error| json!(error))),
        ("usage", usage.as_ref().map(|usage| json!(usage))),
    ];
    data.extend(more.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    json!({"type": "data-workflow", "id": run_id, "data": data})
}

fn step_chunk(step: usize, story: &Story) -> Value {
    let step = story.step(step);
    json!({"type": "data-step", "id": step.id, "data": object(&without_output(step))})
}

/// Printed lines. `at` is where they stand among all bytes that the attempt printed, so that a page can tell what it has.
fn log_chunk(log: &Log, chunk: &LogChunk, at: u64, story: &Story) -> Value {
    let mut data = json!({"stepId": story.step(log.step).id, "attempt": log.attempt, "stream": chunk.stream,
        "at": at, "text": chunk.text});
    if let Some(bytes) = chunk.omitted_bytes {
        data["omittedBytes"] = json!(bytes);
    }
    let id = story.attempt_id(log.step, log.attempt) + "/log";
    json!({"type": "data-log", "id": id, "data": data, "transient": true})
}

fn text_id(text: &Text, story: &Story) -> String {
    story.attempt_id(text.step, text.attempt) + "/text"
}
