//! Handlers: steps of a plan that run after the outcome of its run is decided, and can't change it.

use serde::{Deserialize, Serialize};

use super::{EndReason, RunStatus};

/// When a handler runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum HandlerKind {
    /// Where the run has reached its end.
    #[serde(rename = "onSuccess")]
    Success,
    /// Where it did not, and nobody cancelled it.
    #[serde(rename = "onFailure")]
    Failure,
    /// Where it was cancelled.
    #[serde(rename = "onCancel")]
    Cancel,
    /// Always, after the others.
    #[serde(rename = "onExit")]
    Exit,
}

impl HandlerKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Success, Self::Failure, Self::Cancel, Self::Exit];

    /// As in a plan.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "onSuccess",
            Self::Failure => "onFailure",
            Self::Cancel => "onCancel",
            Self::Exit => "onExit",
        }
    }

    /// The same inside of a plan's `handlers`.
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
    /// The status that it ends with.
    pub status: RunStatus,
    /// What kind of end, where it did not reach its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<EndReason>,
    /// One sentence, where it did not reach its own end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl RunOutcome {
    /// The run has reached its end.
    pub fn completed() -> Self {
        Self { status: RunStatus::Completed, reason: None, error: None }
    }

    /// It has not.
    pub fn failed(error: String, reason: EndReason) -> Self {
        Self { status: reason.run_status(), reason: Some(reason), error: Some(error) }
    }

    /// The handlers that it is for, beside those that always run.
    pub fn handlers(&self) -> HandlerKind {
        match self.status {
            RunStatus::Completed => HandlerKind::Success,
            RunStatus::Cancelled => HandlerKind::Cancel,
            RunStatus::Queued | RunStatus::Running | RunStatus::Failed => HandlerKind::Failure,
        }
    }
}
