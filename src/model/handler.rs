//! Handlers: steps of a plan that run after the outcome of its run is decided, and can't change it.

use serde::{Deserialize, Serialize};

use super::{EndReason, RunStatus};

/// When a handler runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum HandlerKind {
    /// If the run has completed.
    #[serde(rename = "onSuccess")]
    Success,
    /// If the run has failed and was not cancelled.
    #[serde(rename = "onFailure")]
    Failure,
    /// If the run was cancelled.
    #[serde(rename = "onCancel")]
    Cancel,
    /// Always, after the other handlers.
    #[serde(rename = "onExit")]
    Exit,
}

impl HandlerKind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Success, Self::Failure, Self::Cancel, Self::Exit];

    /// The name of the field in a plan.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "onSuccess",
            Self::Failure => "onFailure",
            Self::Cancel => "onCancel",
            Self::Exit => "onExit",
        }
    }

    /// The name of the field inside `handlers`.
    pub fn path_in_handlers(self) -> &'static str {
        match self {
            Self::Success => "handlers.onSuccess",
            Self::Failure => "handlers.onFailure",
            Self::Cancel => "handlers.onCancel",
            Self::Exit => "handlers.onExit",
        }
    }
}

/// The outcome of a run, before its last message. Handlers may name it as `run`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunOutcome {
    /// The status with which the run ends.
    pub status: RunStatus,
    /// The reason, if the run did not complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<EndReason>,
    /// The error in one sentence, if the run did not complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl RunOutcome {
    /// The run has completed.
    pub fn completed() -> Self {
        Self { status: RunStatus::Completed, reason: None, error: None }
    }

    /// The run has not completed.
    pub fn failed(error: String, reason: EndReason) -> Self {
        Self { status: reason.run_status(), reason: Some(reason), error: Some(error) }
    }

    /// The handlers for this outcome, apart from those that always run.
    pub fn handlers(&self) -> HandlerKind {
        match self.status {
            RunStatus::Completed => HandlerKind::Success,
            RunStatus::Cancelled => HandlerKind::Cancel,
            RunStatus::Queued | RunStatus::Running | RunStatus::Failed => HandlerKind::Failure,
        }
    }
}
