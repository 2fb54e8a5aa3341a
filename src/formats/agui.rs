//! AG-UI 1.0: <https://docs.ag-ui.com/spec/1.0>.
//!
//! Every stream starts with its prelude, at whatever message it begins. `RUN_STARTED` appears only there, because
//! clients treat it as an error during a run. An attempt at a step is a tool call, streamed text is an assistant
//! message, printed lines are an activity. Ids start with the id of the run, because a client with several runs keeps
//! the messages of all of them.

use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::encoder::Opening;
use super::frames::Frames;
use super::interrupt;
use super::part::{Call, CallResult, Log, LogChunk, Part, Text, as_text};
use super::state_document::StateDocument;
use super::story::{Move, Story};
use crate::model::{EndReason, RunStatus, StepStatus};

/// The version of the protocol.
const VERSION: &str = "1.0";

/// After this many deltas the whole state is sent: a client that could not apply a delta continues with what it has.
const CHANGES_BETWEEN_SNAPSHOTS: u32 = 100;

/// The type of the activities that printed lines are.
const LOG: &str = "STEP_LOG";

/// The part of the state that was sent.
#[derive(Debug)]
pub(super) struct AgUi {
    knows_cancelled: bool,
    in_turns: bool,
    document: StateDocument,
    changes: u32,
}

impl AgUi {
    pub(super) fn new(knows_cancelled: bool, in_turns: bool, story: &Story) -> Self {
        Self { knows_cancelled, in_turns, document: StateDocument::new(story), changes: 0 }
    }

    /// Does a stream end where the run is halted?
    pub(super) fn is_in_turns(&self) -> bool {
        self.in_turns
    }

    pub(super) fn memory(&self) -> usize {
        self.document.memory()
    }

    /// Writes the events for moves of the story.
    pub(super) fn tell(&mut self, moves: &[Move], story: &Story, to: &mut Frames) {
        moves.iter().for_each(|made| self.tell_move(made, story, to));
    }

    fn tell_move(&mut self, made: &Move, story: &Story, to: &mut Frames) {
        let mut say = |event: Value| push(to, story, event);
        match (made, story.part(made)) {
            (Move::StepOpened(step), _) => {
                say(json!({"type": "STEP_STARTED", "stepName": story.step(*step).id}));
            }
            (Move::StepClosed(step), _) => {
                say(json!({"type": "STEP_FINISHED", "stepName": story.step(*step).id}));
            }
            (Move::Called(_), Some(Part::Call(call))) => tell_call(call, story, &mut say),
            (Move::Answered(_), Some(Part::Call(call))) => say(result_event(call, story)),
            (Move::TextBegan(_), Some(Part::Text(text))) => say(text_start(text, story)),
            (Move::TextGrew(_, piece), Some(Part::Text(text))) => {
                say(json!({"type": "TEXT_MESSAGE_CONTENT", "messageId": text_id(text, story), "delta": piece}));
            }
            (Move::TextEnded(_), Some(Part::Text(text))) => {
                say(json!({"type": "TEXT_MESSAGE_END", "messageId": text_id(text, story)}));
            }
            (Move::LogBegan(_), Some(Part::Log(log))) => {
                let content = log_content(log, story, &[]);
                say(json!({"type": "ACTIVITY_SNAPSHOT", "messageId": log_id(log, story), "activityType": LOG,
                    "content": content}));
            }
            (Move::LogDropped(_), Some(Part::Log(log))) => {
                let operations = [
                    json!({"op": "remove", "path": "/chunks/0"}),
                    json!({"op": "add", "path": "/droppedBytes", "value": log.dropped_bytes}),
                ];
                say(log_delta(log, story, &operations));
            }
            (Move::LogGrew(_), Some(Part::Log(log))) => {
                let value = log.chunks.back().map(chunk_shown);
                say(log_delta(log, story, &[json!({"op": "add", "path": "/chunks/-", "value": value})]));
            }
            (Move::Replanned, _) => self.tell_state_anew(story, to),
            (Move::Moved(step), _) => self.tell_state(*step, story, to),
            (Move::Halted, _) if self.in_turns => self.tell_halt(story, to),
            (Move::Ended, _) => say(self.end(&Opening::default(), story)),
            _ => {}
        }
    }

    fn tell_state(&mut self, step: Option<usize>, story: &Story, to: &mut Frames) {
        let operations = self.document.update(story, step);
        if operations.is_empty() {
            return;
        }
        self.changes += 1;
        if self.changes >= CHANGES_BETWEEN_SNAPSHOTS {
            self.changes = 0;
            push(to, story, self.snapshot(story));
        } else {
            push(to, story, json!({"type": "STATE_DELTA", "delta": operations}));
        }
    }

    /// Steps stand elsewhere: a client that was sent differences could apply none of those that follow.
    fn tell_state_anew(&mut self, story: &Story, to: &mut Frames) {
        (self.document, self.changes) = (StateDocument::new(story), 0);
        push(to, story, self.snapshot(story));
    }

    /// The turn is over. A client takes one for an error whose steps are open, and needs the state as it is at the halt.
    fn tell_halt(&self, story: &Story, to: &mut Frames) {
        for step in story.open_steps() {
            push(to, story, json!({"type": "STEP_FINISHED", "stepName": story.step(step).id}));
        }
        push(to, story, self.snapshot(story));
        push(to, story, interrupted(&Opening::default(), story));
    }

    fn snapshot(&self, story: &Story) -> Value {
        json!({"type": "STATE_SNAPSHOT", "snapshot": self.document.whole(&story.state)})
    }

    /// Writes what a new stream is sent first.
    pub(super) fn prelude(&self, opening: &Opening<'_>, story: &Story, to: &mut Frames) {
        let (thread, run) = names(opening, story);
        let mut started = json!({"type": "RUN_STARTED", "threadId": thread, "runId": run, "protocolVersion": VERSION});
        if run != story.state.run_id.as_str() {
            started["parentRunId"] = json!(story.state.run_id);
        }
        let mut say = |event: Value| push(to, story, event);
        say(started);
        say(self.snapshot(story));
        say(messages_snapshot(opening.messages, story));
        // Results come one by one after the messages: a client puts each right after its call, as if it had watched
        // from the start, and not after all its earlier messages.
        let calls = story.parts.iter().filter_map(|part| match part {
            Part::Call(call) if call.result.is_some() => Some(result_event(call, story)),
            _ => None,
        });
        calls.for_each(&mut say);
        if story.is_halted && self.in_turns {
            return say(interrupted(opening, story));
        }
        for step in story.open_steps() {
            say(json!({"type": "STEP_STARTED", "stepName": story.step(step).id}));
        }
        for part in &story.parts {
            if let Part::Text(text @ Text { is_open: true, .. }) = part {
                say(text_start(text, story));
            }
        }
        if story.ending.is_some() {
            say(self.end(opening, story));
        }
    }

    /// The run's last event.
    fn end(&self, opening: &Opening<'_>, story: &Story) -> Value {
        let (thread, run) = names(opening, story);
        let error = story.state.error.as_deref().unwrap_or("the run failed");
        let mut end = match story.ending.map(|ending| (ending.status, ending.reason)) {
            Some((RunStatus::Completed, _)) => {
                json!({"type": "RUN_FINISHED", "threadId": thread, "runId": run, "result": result(story),
                    "outcome": {"type": "success"}})
            }
            Some((RunStatus::Cancelled, _)) if self.knows_cancelled => {
                json!({"type": "RUN_FINISHED", "threadId": thread, "runId": run, "outcome": {"type": "cancelled"}})
            }
            Some((RunStatus::Cancelled, _)) => json!({"type": "RUN_ERROR", "message": error, "code": "cancelled"}),
            Some((_, reason)) => json!({"type": "RUN_ERROR", "message": error, "code": code(reason)}),
            None => {
                json!({"type": "RUN_ERROR", "message": "the server is closing this stream; the run continues", "code": "stream_closing"})
            }
        };
        let usage = super::usage::by_model(&story.state);
        if !usage.is_empty() {
            end["usage"] = json!(usage);
        }
        end
    }
}

/// The last event of a stream that ends before its run.
pub(super) fn closing(message: &str) -> Value {
    json!({"type": "RUN_ERROR", "message": message, "code": "stream_closing"})
}

fn push(to: &mut Frames, story: &Story, mut event: Value) {
    event["timestamp"] = json!(story.at.as_millis());
    to.push(&event);
}

/// What the thread and the run are called.
fn names<'a>(opening: &Opening<'a>, story: &'a Story) -> (&'a str, &'a str) {
    let Opening { thread, run, .. } = opening;
    (thread.unwrap_or(story.head.project.as_str()), run.unwrap_or(story.state.run_id.as_str()))
}

/// The last event of a turn. The usage of the run is sent at the end of the run, so that the sum over its turns counts
/// nothing twice.
fn interrupted(opening: &Opening<'_>, story: &Story) -> Value {
    let (thread, run) = names(opening, story);
    json!({"type": "RUN_FINISHED", "threadId": thread, "runId": run,
        "outcome": {"type": "interrupt", "interrupts": interrupt::all(story)}})
}

/// The error code of a run that failed. Where its state alone is known, that a step failed is all that can be told.
fn code(reason: Option<EndReason>) -> Value {
    match reason {
        Some(reason) => json!(reason),
        None => json!("failed"),
    }
}

fn tell_call(call: &Call, story: &Story, say: &mut impl FnMut(Value)) {
    let id = call_id(call, story);
    say(json!({"type": "TOOL_CALL_START", "toolCallId": id, "toolCallName": story.step(call.step).tool}));
    say(json!({"type": "TOOL_CALL_ARGS", "toolCallId": id, "delta": call.inputs}));
    say(json!({"type": "TOOL_CALL_END", "toolCallId": id}));
}

fn result_event(call: &Call, story: &Story) -> Value {
    let id = call_id(call, story);
    json!({"type": "TOOL_CALL_RESULT", "messageId": format!("{id}/result"), "toolCallId": id, "role": "tool",
        "content": result_content(call, story)})
}

fn result_content(call: &Call, story: &Story) -> String {
    match &call.result {
        None => String::new(),
        Some(CallResult::Output(value)) => as_text(value),
        Some(CallResult::Error(error) | CallResult::Denied(error)) => json!({ "error": error }).to_string(),
        Some(CallResult::CutOutput(text, bytes)) => {
            format!("{text}\n[truncated: {bytes} bytes in total, available at {}]", story.head.output_path(call.step))
        }
    }
}

fn text_start(text: &Text, story: &Story) -> Value {
    json!({"type": "TEXT_MESSAGE_START", "messageId": text_id(text, story), "role": "assistant"})
}

/// Everything that the client keeps, but for the results of calls; before it what the client has of its own.
fn messages_snapshot(others: Option<&RawValue>, story: &Story) -> Value {
    let prefix = format!("{}/", story.state.run_id);
    let mut messages = others.map(|others| foreign(others, &prefix)).unwrap_or_default();
    messages.extend(story.parts.iter().filter_map(|part| message(part, story)));
    // Activities of this type that are not named here stay: they belong to other runs.
    let metadata = json!({"@ag-ui/client": {"authoritativeActivityTypes": []}});
    json!({"type": "MESSAGES_SNAPSHOT", "messages": messages, "metadata": metadata})
}

/// A client's messages, but for those of this run. What lacks an id is none.
fn foreign(messages: &RawValue, prefix: &str) -> Vec<Value> {
    let messages: Vec<Map<String, Value>> = serde_json::from_str(messages.get()).unwrap_or_default();
    let id = |message: &Map<String, Value>| message.get("id").and_then(Value::as_str).map(str::to_owned);
    let is_foreign = |message: &Map<String, Value>| id(message).is_some_and(|id| !id.starts_with(prefix));
    messages.into_iter().filter(is_foreign).map(Value::Object).collect()
}

fn message(part: &Part, story: &Story) -> Option<Value> {
    match part {
        Part::Step(_) => None,
        Part::Call(call) => {
            let id = call_id(call, story);
            let function = json!({"name": story.step(call.step).tool, "arguments": call.inputs});
            let call = json!({"id": id, "type": "function", "function": function});
            Some(json!({"id": id, "role": "assistant", "toolCalls": [call]}))
        }
        Part::Text(text) => Some(json!({"id": text_id(text, story), "role": "assistant", "content": text.text})),
        Part::Log(log) => {
            let chunks: Vec<_> = log.chunks.iter().map(chunk_shown).collect();
            let content = log_content(log, story, &chunks);
            Some(json!({"id": log_id(log, story), "role": "activity", "activityType": LOG, "content": content}))
        }
    }
}

fn log_content(log: &Log, story: &Story, chunks: &[Value]) -> Value {
    let mut content = json!({"stepId": story.step(log.step).id, "attempt": log.attempt, "chunks": chunks});
    if log.dropped_bytes > 0 {
        content["droppedBytes"] = json!(log.dropped_bytes);
    }
    content
}

fn log_delta(log: &Log, story: &Story, operations: &[Value]) -> Value {
    json!({"type": "ACTIVITY_DELTA", "messageId": log_id(log, story), "activityType": LOG, "patch": operations})
}

fn chunk_shown(chunk: &LogChunk) -> Value {
    let mut shown = json!({"stream": chunk.stream, "text": chunk.text});
    if let Some(bytes) = chunk.omitted_bytes {
        shown["omittedBytes"] = json!(bytes);
    }
    shown
}

/// The outputs of a run that completed, but for those that are not small; where any is missing, where all are.
fn result(story: &Story) -> Value {
    let (mut outputs, mut left) = (Map::new(), super::STATE_OUTPUTS_BYTES_MAX);
    for step in story.state.steps.iter().filter(|_| story.tells_steps()) {
        let output = step.output.clone().filter(|_| step.status == StepStatus::Completed).unwrap_or_default();
        let bytes = as_text(&output).len();
        if bytes <= super::OUTPUT_BYTES_MAX && bytes <= left && !step.truncated {
            left -= bytes;
            outputs.insert(step.id.to_string(), (*output).clone());
        }
    }
    match outputs.len() == story.state.steps.len() {
        true => json!({ "outputs": outputs }),
        false => json!({"outputs": outputs, "whole": story.head.run_path()}),
    }
}

fn call_id(call: &Call, story: &Story) -> String {
    story.attempt_id(call.step, call.attempt)
}

fn text_id(text: &Text, story: &Story) -> String {
    story.attempt_id(text.step, text.attempt) + "/text"
}

fn log_id(log: &Log, story: &Story) -> String {
    story.attempt_id(log.step, log.attempt) + "/log"
}
