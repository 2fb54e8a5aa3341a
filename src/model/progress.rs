//! `workflow_progress`: the state change of a step, and the progress of its run.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Approval, Decision, HandlerKind, ItemCounts, RunOutcome, StepId, StepStatus, Timestamp, Usage};

/// `workflow_progress`: a step moved.
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
    /// Of a handler: which kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handler: Option<HandlerKind>,
    /// Of a handler: what the run has come to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Box<RunOutcome>>,
    /// Where the step is now.
    #[serde(flatten)]
    pub update: StepUpdate,
    /// Bytes of the attempt's live output that were left out and not told in a chunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub omitted_bytes: Option<u64>,
    /// What the attempt that ended has used of a language model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Box<Usage>>,
    /// How far the step's items are, of a step that has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<ItemCounts>,
    /// What was decided, where the step ends with that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Box<Decision>>,
    /// Where the run is now, this update included.
    pub progress: Progress,
}

impl StepProgress {
    /// That `step` is there now, with `progress` of its run, and nothing besides.
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

    /// Does it tell how far the items of a step are that runs, and nothing else?
    pub fn counts_items(&self) -> bool {
        matches!(self.update, StepUpdate::Running { .. }) && self.items.is_some_and(|items| items.have_begun())
    }
}

/// Where a step is, and what is told of it there.
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
    /// An attempt failed, another will follow.
    Retrying {
        /// Why it failed.
        error: String,
        /// Milliseconds until the next attempt.
        delay: u64,
        /// Retries allowed in all.
        max_retries: u32,
        /// When the next attempt is due.
        next_retry_at: Timestamp,
    },
    /// Waits for a decision.
    Waiting {
        /// What it asks.
        message: String,
        /// The same with all that goes with it.
        approval: Box<Approval>,
    },
    /// Done, with its output.
    Completed {
        /// The output, or its beginning where `truncated`.
        output: Arc<Value>,
        /// Milliseconds from the first attempt's start.
        duration: u64,
        /// The output was cut to fit a message.
        #[serde(default, skip_serializing_if = "is_false")]
        truncated: bool,
        /// The whole output's size, where it was cut.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        output_bytes: Option<u64>,
        /// It was not run: the output is that of the run which this one goes on from.
        #[serde(default, skip_serializing_if = "is_false")]
        reused: bool,
    },
    /// Failed for good.
    Failed {
        /// Why.
        error: String,
        /// Milliseconds from the first attempt's start.
        duration: u64,
        /// The run goes on as if the step had completed with output null.
        #[serde(default, skip_serializing_if = "is_false")]
        continued: bool,
    },
    /// Never ran, and never will.
    Skipped {
        /// One sentence for people.
        reason: String,
        /// The same for programs.
        cause: Cause,
    },
    /// Was ended before it was done.
    Cancelled {
        /// One sentence for people.
        reason: String,
        /// The same for programs.
        cause: Cause,
    },
}

impl StepUpdate {
    /// The status of the step that it was said of.
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
    /// What kind of reason.
    pub kind: CauseKind,
    /// The step that caused it, where one did.
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
    /// The run took longer than it may.
    Timeout,
    /// The run waited longer than it may.
    QueueTimeout,
    /// The run has used as much as it may.
    Budget,
}

impl CauseKind {
    /// Itself, where it says that the whole run ends.
    pub fn of_run(self) -> Option<Self> {
        match self {
            Self::Condition | Self::UpstreamFailed => None,
            Self::RunFailed | Self::Cancelled | Self::Timeout | Self::Budget | Self::QueueTimeout => Some(self),
        }
    }
}

/// How far a run is, counted in steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Progress {
    /// Steps completed.
    pub completed: usize,
    /// Steps failed, those after which the run went on included.
    pub failed: usize,
    /// Steps that never ran, and never will.
    pub skipped: usize,
    /// Steps that were ended before they were done. Versions that counted them as skipped did not say it.
    #[serde(default)]
    pub cancelled: usize,
    /// Steps in all.
    pub total: usize,
    /// Those that have ended, of the total, rounded down.
    pub percent: u8,
}

impl Progress {
    /// Of `total` steps, none of which has ended.
    pub fn of(total: usize) -> Self {
        Self { total, ..Self::default() }
    }

    /// Steps that will not move again.
    pub fn ended(&self) -> usize {
        self.completed + self.failed + self.skipped + self.cancelled
    }

    /// A step has come to `status`; only where it ends is it counted.
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
