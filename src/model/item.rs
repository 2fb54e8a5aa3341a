//! The items of a `forEach` step. Each has the states of a step, within its step.
//!
//! An item has no numbered messages. Each change is stored as a record of its newest [`ItemState`], from which a
//! restart continues. The step's messages contain the totals, as [`ItemCounts`].

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{RunId, StepId, StepState, StepStatus, StepUpdate, Timestamp, Told, Usage};

/// The totals of a step's items.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ItemCounts {
    /// Completed items.
    pub done: usize,
    /// Items that have failed finally.
    pub failed: usize,
    /// Items that have started and not ended, including those that wait for a retry.
    #[serde(default)]
    pub running: usize,
    /// The number of items.
    pub total: usize,
}

impl ItemCounts {
    /// Whether any item has started. A step reports `running` once before that, and later as its items progress.
    pub fn have_begun(&self) -> bool {
        self.done + self.failed + self.running > 0
    }
}

/// The state of one item.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ItemState {
    /// Its index, counted from 0.
    pub item: u32,
    /// Its state.
    pub status: StepStatus,
    /// The newest attempt.
    pub attempt: u32,
    /// When its first attempt started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// Its duration in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<u64>,
    /// Its output, or the beginning of it if `output_bytes` is set.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "super::run_state::there")]
    pub output: Option<Arc<Value>>,
    /// The output was cut.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
    /// The size of the complete output, if it is cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_bytes: Option<u64>,
    /// Why it, or its newest attempt, failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Why it was cancelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The language model usage of its attempts, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Box<Usage>>,
    /// When the next attempt is due, while `retrying`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_retry_at: Option<Timestamp>,
    /// What only the run needs. It is stored, but not part of responses.
    #[serde(skip)]
    pub past: Past,
}

/// The history of an item's attempts, as far as a run needs it to resume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Past {
    /// The number of failed attempts that were to be retried.
    pub retries: u32,
    /// When the newest attempt started.
    pub attempt_started_at: Option<Timestamp>,
    /// If the newest attempt makes up for interrupted ones: when the first of these in a row started.
    pub interrupted_since: Option<Timestamp>,
    /// How many attempts in a row right before the newest were interrupted.
    pub interruptions: u32,
    /// When the wait for the next attempt began, and its length in milliseconds.
    wait: Option<(Timestamp, u64)>,
}

impl Past {
    /// The wait for the next attempt, while `retrying`.
    pub fn retry_wait(&self) -> Option<Told> {
        self.wait.map(|(at, ms)| Told { at, lasts: Duration::from_millis(ms) })
    }
}

/// The form in which an item is stored.
#[derive(Serialize, Deserialize)]
struct Row<S> {
    state: S,
    past: Past,
}

impl ItemState {
    /// The state of an item that has not started.
    pub fn pending(item: u32) -> Self {
        Self {
            item,
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
            usage: None,
            next_retry_at: None,
            past: Past::default(),
        }
    }

    /// Applies a change. If a running item is reported as running again, its attempt was interrupted, as for a step.
    pub fn apply(&mut self, attempt: u32, update: &StepUpdate, at: Timestamp) {
        self.attempt = attempt;
        (self.next_retry_at, self.past.wait) = (None, None);
        match update {
            StepUpdate::Running { .. } => self.start_attempt(at),
            StepUpdate::Retrying { error, delay, next_retry_at, .. } => {
                self.error = Some(error.clone());
                self.next_retry_at = Some(*next_retry_at);
                self.past.wait = Some((at, *delay));
                self.past.retries += 1;
            }
            // Items don't wait for decisions.
            StepUpdate::Waiting { .. } => {}
            StepUpdate::Completed { output, duration, truncated, output_bytes, .. } => {
                self.output = Some(output.clone());
                (self.truncated, self.output_bytes) = (*truncated, *output_bytes);
                self.duration = Some(*duration);
                self.error = None;
            }
            StepUpdate::Failed { error, duration, .. } => {
                self.error = Some(error.clone());
                self.duration = Some(*duration);
            }
            StepUpdate::Skipped { reason, .. } | StepUpdate::Cancelled { reason, .. } => {
                self.reason = Some(reason.clone());
                self.duration = self.started_at.map(|started| at.millis_since(started));
            }
        }
        self.status = update.status();
        if self.status.is_ended() {
            self.finished_at = Some(at);
        }
    }

    fn start_attempt(&mut self, at: Timestamp) {
        self.started_at.get_or_insert(at);
        let past = &mut self.past;
        (past.interrupted_since, past.interruptions) = match self.status {
            StepStatus::Running => {
                (past.interrupted_since.or(past.attempt_started_at), past.interruptions.saturating_add(1))
            }
            _ => (None, 0),
        };
        past.attempt_started_at = Some(at);
    }

    /// The item in the form in which it is stored.
    ///
    /// # Errors
    /// If it can't be serialized.
    pub fn to_row(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(&Row { state: self, past: self.past })
    }

    /// Reads back what [`to_row`](Self::to_row) gave.
    ///
    /// # Errors
    /// If `json` is not a stored item.
    pub fn from_row(json: &[u8]) -> serde_json::Result<Self> {
        let Row { state, past } = serde_json::from_slice::<Row<Self>>(json)?;
        Ok(Self { past, ..state })
    }

    /// The item as a step of its own. `step` is the step that it belongs to.
    #[must_use]
    pub fn as_step(&self, step: &StepState) -> StepState {
        StepState {
            id: self.id(&step.id),
            status: self.status,
            attempt: self.attempt,
            started_at: self.started_at,
            finished_at: self.finished_at,
            duration: self.duration,
            output: self.output.clone(),
            truncated: self.truncated,
            output_bytes: self.output_bytes,
            error: self.error.clone(),
            items: None,
            ..step.clone()
        }
    }

    /// The id of the item within its run: `id[3]`.
    pub fn id(&self, step: &StepId) -> StepId {
        step.of_item(self.item)
    }
}

/// The most bytes of an item's output, and of its error, that a stream shows. Longer ones are cut.
pub const ITEM_SHOWN_BYTES_MAX: usize = 1024;

/// An item as shown in streams.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ShownItem {
    item_id: StepId,
    #[serde(flatten)]
    state: ItemState,
}

/// The payload of `workflow_item`: the state of an item changed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ItemMessage<'a> {
    /// Its run.
    pub run_id: &'a RunId,
    /// Its step.
    pub step_id: &'a StepId,
    /// The item.
    #[serde(flatten)]
    pub item: ShownItem,
}

/// The payload of `workflow_items_snapshot`: the items of a step so far.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ItemsSnapshot<'a> {
    /// Its run.
    pub run_id: &'a RunId,
    /// The items.
    #[serde(flatten)]
    pub items: StepItems<'a>,
    /// The number of further steps with items, which did not fit.
    #[serde(skip_serializing_if = "is_zero")]
    pub omitted_steps: usize,
}

/// The items of a step, as far as they fit.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StepItems<'a> {
    /// The step.
    pub step_id: &'a StepId,
    /// The items that have started.
    pub items: Vec<ShownItem>,
    /// Whether there are more items.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
    /// If there are more, the last one in here: the list of the step's items continues after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<u32>,
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl ItemState {
    /// The form in streams: output and error are cut to this many bytes each.
    pub fn shown(&self, step: &StepId, bytes_max: usize) -> ShownItem {
        let mut state = self.clone();
        if let Some(output) = &self.output {
            let text = match &**output {
                Value::String(text) => text.clone(),
                json => json.to_string(),
            };
            if text.len() > bytes_max {
                state.output = Some(Arc::new(text[..text.floor_char_boundary(bytes_max)].into()));
                state.truncated = true;
                state.output_bytes.get_or_insert(text.len() as u64);
            }
        }
        if let Some(error) = &mut state.error {
            error.truncate(error.floor_char_boundary(bytes_max));
        }
        ShownItem { item_id: self.id(step), state }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    fn running() -> StepUpdate {
        StepUpdate::Running { step_description: "".into(), message: String::new() }
    }

    fn retrying(ms: u64) -> StepUpdate {
        StepUpdate::Retrying { error: "no".into(), delay: 7, max_retries: 3, next_retry_at: at(ms + 7) }
    }

    #[test]
    fn an_item_reads_back_with_what_became_of_its_attempts() {
        let mut item = ItemState::pending(3);
        item.apply(1, &running(), at(10));
        item.apply(1, &retrying(20), at(20));
        assert_eq!(item.past.retry_wait(), Some(Told { at: at(20), lasts: Duration::from_millis(7) }));
        let read_back = |item: &ItemState| ItemState::from_row(&item.to_row().expect("JSON")).expect("a row");
        assert_eq!(read_back(&item), item);
        item.apply(2, &running(), at(30));
        item.apply(3, &running(), at(40));
        item.apply(4, &running(), at(50));
        let Past { retries, interrupted_since, interruptions, .. } = item.past;
        assert_eq!((retries, interrupted_since, interruptions), (1, Some(at(30)), 2), "the first of two in a row");
        assert_eq!(read_back(&item), item);
    }

    #[test]
    fn an_output_that_is_null_is_there() {
        let mut item = ItemState::pending(0);
        item.apply(1, &running(), at(10));
        let output = Arc::new(Value::Null);
        let completed =
            StepUpdate::Completed { output, duration: 5, truncated: false, output_bytes: None, reused: false };
        item.apply(1, &completed, at(15));
        let shown = serde_json::to_value(&item).expect("JSON");
        let expected = json!({"item": 0, "status": "completed", "attempt": 1, "output": null, "duration": 5,
            "startedAt": "1970-01-01T00:00:00.010Z", "finishedAt": "1970-01-01T00:00:00.015Z"});
        assert_eq!(shown, expected, "and what the run alone needs is not shown");
        let back = ItemState::from_row(&item.to_row().expect("JSON")).expect("a row");
        assert_eq!(back.output, Some(Arc::new(Value::Null)));
    }
}
