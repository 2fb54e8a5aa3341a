//! `workflow_progress`: the state change of a step, and the progress of its run.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Approval, Decision, HandlerKind, ItemCounts, RunOutcome, StepId, StepStatus, Timestamp, Usage};

/// `workflow_progress`: the state of a step changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StepProgress {
    /// The step.
    pub step_id: StepId,
    /// Its title.
    pub step_title: Arc<str>,
    /// Its level.
    pub level: usize,
    /// Counted from 1; 0 for a step that never ran; in `retrying` the attempt that failed.
    pub attempt: u32,
    /// For a handler: its kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handler: Option<HandlerKind>,
    /// For a handler: the outcome of the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Box<RunOutcome>>,
    /// The new state of the step.
    #[serde(flatten)]
    pub update: StepUpdate,
    /// Bytes of the attempt's live output that were omitted and not reported in a chunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub omitted_bytes: Option<u64>,
    /// The language model usage of the attempt that ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Box<Usage>>,
    /// The totals of the step's items, if it has `forEach`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<ItemCounts>,
    /// The decision, if the step ends with one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Box<Decision>>,
    /// The progress of the run, including this change.
    pub progress: Progress,
}

impl StepProgress {
    /// Reports that `step` is in this state, with `progress` of its run and nothing else.
    pub fn of(step: &StepId, title: &Arc<str>, update: StepUpdate, progress: Progress) -> Self {
        Self {
            step_id: step.clone(),
            step_title: title.clone(),
            level: 0,
            attempt: 0,
            handler: None,
            outcome: None,
            update,
            omitted_bytes: None,
            usage: None,
            items: None,
            decision: None,
            progress,
        }
    }

    /// Whether it only reports the totals of a running step's items.
    pub fn counts_items(&self) -> bool {
        matches!(self.update, StepUpdate::Running { .. }) && self.items.is_some_and(|items| items.have_begun())
    }
}

/// The new state of a step, with the members that depend on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum StepUpdate {
    /// An attempt has started.
    Running {
        /// The step's description.
        step_description: Arc<str>,
        /// One sentence for people.
        message: String,
    },
    /// An attempt failed and will be retried.
    Retrying {
        /// The error.
        error: String,
        /// Milliseconds until the next attempt.
        delay: u64,
        /// The maximum number of retries.
        max_retries: u32,
        /// When the next attempt is due.
        next_retry_at: Timestamp,
    },
    /// Waiting for a decision.
    Waiting {
        /// The question.
        message: String,
        /// The question with its settings.
        approval: Box<Approval>,
    },
    /// The step completed.
    Completed {
        /// The output, or its beginning if `truncated`.
        output: Arc<Value>,
        /// The time since the start of the first attempt, in milliseconds.
        duration: u64,
        /// Whether the output is cut.
        #[serde(default, skip_serializing_if = "is_false")]
        truncated: bool,
        /// The size of the complete output, if it is cut.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        output_bytes: Option<u64>,
        /// The step was not run: its output was reused from the run that this run retries.
        #[serde(default, skip_serializing_if = "is_false")]
        reused: bool,
    },
    /// Failed finally.
    Failed {
        /// The error.
        error: String,
        /// The time since the start of the first attempt, in milliseconds.
        duration: u64,
        /// The run continues as if the step had completed with output null.
        #[serde(default, skip_serializing_if = "is_false")]
        continued: bool,
    },
    /// The step did not and will not run.
    Skipped {
        /// One sentence for people.
        reason: String,
        /// The reason, for programs.
        cause: Cause,
    },
    /// The step was cancelled.
    Cancelled {
        /// One sentence for people.
        reason: String,
        /// The reason, for programs.
        cause: Cause,
    },
}

impl StepUpdate {
    /// The status of the step after this update.
    pub fn status(&self) -> StepStatus {
        match self {
            Self::Running { .. } => StepStatus::Running,
            Self::Retrying { .. } => StepStatus::Retrying,
            Self::Waiting { .. } => StepStatus::Waiting,
            Self::Completed { .. } => StepStatus::Completed,
            Self::Failed { .. } => StepStatus::Failed,
            Self::Skipped { .. } => StepStatus::Skipped,
            Self::Cancelled { .. } => StepStatus::Cancelled,
        }
    }
}

fn is_false(value: &bool) -> bool {
    !value
}

/// Why a step was skipped or cancelled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cause {
    /// The kind of reason.
    pub kind: CauseKind,
    /// The step that caused it, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_id: Option<StepId>,
}

/// The kinds of [`Cause`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CauseKind {
    /// The step's own condition was false.
    Condition,
    /// A step that it depends on, directly or not, failed.
    UpstreamFailed,
    /// The run failed elsewhere.
    RunFailed,
    /// The run was cancelled.
    Cancelled,
    /// The run exceeded its timeout.
    Timeout,
    /// The run exceeded its queue timeout.
    QueueTimeout,
    /// The run reached its budget.
    Budget,
}

impl CauseKind {
    /// For causes that end the whole run: the cause itself.
    pub fn of_run(self) -> Option<Self> {
        match self {
            Self::Condition | Self::UpstreamFailed => None,
            Self::RunFailed | Self::Cancelled | Self::Timeout | Self::Budget | Self::QueueTimeout => Some(self),
        }
    }
}

/// The progress of a run, counted in steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Progress {
    /// Completed steps.
    pub completed: usize,
    /// Failed steps, including those after which the run continued.
    pub failed: usize,
    /// Steps that did not and will not run.
    pub skipped: usize,
    /// Cancelled steps. Older versions counted them as skipped and did not write this member.
    #[serde(default)]
    pub cancelled: usize,
    /// The number of steps.
    pub total: usize,
    /// The share of ended steps in the total, rounded down.
    pub percent: u8,
}

impl Progress {
    /// The progress of `total` steps, none of which has ended.
    pub fn of(total: usize) -> Self {
        Self { total, ..Self::default() }
    }

    /// The number of ended steps.
    pub fn ended(&self) -> usize {
        self.completed + self.failed + self.skipped + self.cancelled
    }

    /// Counts a step that has changed to `status`, if that is final.
    pub fn count(&mut self, status: StepStatus) {
        match status {
            StepStatus::Pending | StepStatus::Running | StepStatus::Retrying | StepStatus::Waiting => return,
            StepStatus::Completed => self.completed += 1,
            StepStatus::Failed => self.failed += 1,
            StepStatus::Skipped => self.skipped += 1,
            StepStatus::Cancelled => self.cancelled += 1,
        }
        let percent = (self.ended() * 100).checked_div(self.total).unwrap_or(100);
        self.percent = u8::try_from(percent).unwrap_or(100);
    }
}
