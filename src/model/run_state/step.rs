//! The state of one step of a run, according to the messages so far.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::model::{Approval, Decision, HandlerKind, ItemCounts, StepId, StepStatus, Timestamp, Told, Usage};

/// One step of a [`RunState`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StepState {
    /// The step.
    pub id: StepId,
    /// Its title.
    pub title: Arc<str>,
    /// The tool that it calls.
    pub tool: Arc<str>,
    /// Its level.
    pub level: usize,
    /// For a handler: its kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handler: Option<HandlerKind>,
    /// Its state.
    pub status: StepStatus,
    /// The newest attempt; 0 before the first.
    pub attempt: u32,
    /// When its first attempt started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// Its duration in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<u64>,
    /// Its output, or the beginning of it if `output_bytes` is set.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "there")]
    pub output: Option<Arc<Value>>,
    /// Whether the output is cut.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
    /// The size of the complete output, if it is cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_bytes: Option<u64>,
    /// Why it, or its newest attempt, failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Why it was skipped or cancelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The step was not run: its output was reused from the run that this run retries.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reused: bool,
    /// When the next attempt is due, while `retrying`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_retry_at: Option<Timestamp>,
    /// The question, while `waiting`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Box<Approval>>,
    /// The decision, if the step waited for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Box<Decision>>,
    /// Whether it failed and the run continued.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub continued: bool,
    /// The usage of its attempts so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Box<Usage>>,
    /// The progress of its items, if it has `forEach`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<ItemCounts>,
    /// When it became `waiting`. For the executor; not part of responses.
    #[serde(skip)]
    pub waiting_since: Option<Timestamp>,
    /// The wait for the next attempt, while `retrying`. For the executor; not part of responses.
    #[serde(skip)]
    pub retry_wait: Option<Told>,
    /// The number of failed attempts that were to be retried, without interrupted ones: the retries used up. For the
    /// executor; not part of responses.
    #[serde(skip)]
    pub retries: u32,
    /// When the newest attempt started. For the executor.
    #[serde(skip)]
    pub attempt_started_at: Option<Timestamp>,
    /// If the newest attempt makes up for an interrupted one: when that one started, or the first of several in a row.
    /// For the executor.
    #[serde(skip)]
    pub interrupted_since: Option<Timestamp>,
    /// How many attempts in a row right before the newest were interrupted. For the executor.
    #[serde(skip)]
    pub interruptions: u32,
}

/// Reads a value that is present. Null counts as a value: it is an output like any other.
pub(in crate::model) fn there<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Arc<Value>>, D::Error> {
    Value::deserialize(from).map(|value| Some(Arc::new(value)))
}

impl StepState {
    /// The state of a step that has not started.
    pub(super) fn pending(id: &StepId, title: &Arc<str>, tool: &Arc<str>, level: usize) -> Self {
        Self {
            id: id.clone(),
            title: title.clone(),
            tool: tool.clone(),
            level,
            handler: None,
            status: StepStatus::Pending,
            attempt: 0,
            started_at: None,
            finished_at: None,
            duration: None,
            output: None,
            truncated: false,
            output_bytes: None,
            error: None,
            reason: None,
            next_retry_at: None,
            approval: None,
            decision: None,
            continued: false,
            waiting_since: None,
            reused: false,
            usage: None,
            items: None,
            retry_wait: None,
            retries: 0,
            attempt_started_at: None,
            interrupted_since: None,
            interruptions: 0,
        }
    }

    /// Starts another attempt. If one is already running it was interrupted: in all other cases its end is reported.
    pub(super) fn start_attempt(&mut self, at: Timestamp) {
        self.started_at.get_or_insert(at);
        (self.interrupted_since, self.interruptions) = match self.status {
            StepStatus::Running => {
                (self.interrupted_since.or(self.attempt_started_at), self.interruptions.saturating_add(1))
            }
            _ => (None, 0),
        };
        self.attempt_started_at = Some(at);
    }
}
