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
    /// When it moved for the last time.
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
    /// What it asks, while `waiting`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Box<Approval>>,
    /// What was decided, where it waited for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Box<Decision>>,
    /// It failed and the run went on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub continued: bool,
    /// What its attempts so far have used together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Box<Usage>>,
    /// How far its items are, of a step that has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<ItemCounts>,
    /// Since when it has been `waiting`. For the executor; answers don't carry it.
    #[serde(skip)]
    pub waiting_since: Option<Timestamp>,
    /// The wait for the next attempt, while `retrying`. For the executor; answers don't carry it.
    #[serde(skip)]
    pub retry_wait: Option<Told>,
    /// Attempts that failed and were to be followed by another: retries used up. An attempt that was interrupted is not
    /// among them. For the executor; answers don't carry it.
    #[serde(skip)]
    pub retries: u32,
    /// When the newest attempt started. For the executor.
    #[serde(skip)]
    pub attempt_started_at: Option<Timestamp>,
    /// Where the newest attempt makes up for one that was interrupted: when that one started, or of several in a row the
    /// first. For the executor.
    #[serde(skip)]
    pub interrupted_since: Option<Timestamp>,
    /// How many attempts just before the newest were interrupted, in a row. For the executor.
    #[serde(skip)]
    pub interruptions: u32,
}

/// A value that is there, also where it is null: null is an output like any other.
pub(in crate::model) fn there<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Arc<Value>>, D::Error> {
    Value::deserialize(from).map(|value| Some(Arc::new(value)))
}

impl StepState {
    /// Of a step that has not been started.
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

    /// Another attempt starts. One that is said to run at that time was interrupted: nothing else leaves it unsaid how an
    /// attempt ended.
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
