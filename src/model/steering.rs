//! Requests to change an active run, and the run's answers.
//!
//! Only the run decides, so of two conflicting requests one succeeds and the other gets the reason. All types
//! serialize: if several nodes share a store, a request travels to the node that owns the run.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Issue, PlanChange, StepId, StepStatus, Timestamp};

/// Identifies a steering request while it is pending. A log never reuses one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SteeringId(pub u64);

/// A steering request on its way to a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Steer {
    /// Identifies its [`Verdict`].
    pub id: SteeringId,
    /// The token subject of its author.
    pub by: Arc<str>,
    /// The requested change.
    pub what: Steering,
}

/// A requested change of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Steering {
    /// Decide a waiting step.
    Decide(Decide),
    /// Change the plan.
    Change(Box<PlanChange>),
}

/// A decision for a waiting step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decide {
    /// The step.
    pub step: StepId,
    /// Approve or reject.
    pub choice: Choice,
    /// The payload.
    pub payload: Option<Arc<Value>>,
}

/// The possible decisions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Choice {
    /// Approve.
    Approve,
    /// Reject.
    Reject,
}

impl Choice {
    /// Its name in the wire format.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Reject => "reject",
        }
    }

    /// Reads [`as_str`](Self::as_str) back.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Approve, Self::Reject].into_iter().find(|choice| choice.as_str() == text)
    }
}

/// The answer of a run to a request. It goes to the log after the message that the request caused, so that a positive
/// answer means that this message is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The request that it answers.
    pub id: SteeringId,
    /// The body of the response, or the error.
    pub answer: Result<Value, SteeringError>,
}

/// Why a run refuses a requested change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum SteeringError {
    /// The run has ended.
    RunEnded,
    /// The server is shutting down. The run resumes at its next start.
    ShuttingDown,
    /// The run has no such step.
    UnknownStep,
    /// The step is not waiting for a decision.
    NotWaiting {
        /// The step's state.
        status: StepStatus,
    },
    /// The step was already decided.
    AlreadyDecided {
        /// The decision.
        choice: Choice,
        /// The subject that decided; none if the approval expired.
        by: Option<Arc<str>>,
        /// The time of the decision.
        at: Timestamp,
    },
    /// The plan's revision is not the one that the change applies to.
    StaleRevision {
        /// The plan's revision.
        current: u32,
    },
    /// A step to replace or remove has started.
    StepStarted {
        /// The step.
        step: StepId,
        /// Its state.
        status: StepStatus,
    },
    /// No step can start any more: a step has failed, or the run is being cancelled.
    RunEnding,
    /// The plan was changed too many times.
    TooManyChanges {
        /// The limit.
        limit: u32,
    },
    /// The changed plan can't be read.
    InvalidChange {
        /// The problem.
        issues: Vec<Issue>,
    },
    /// The author is not one of the step's deciders.
    NotADecider,
    /// The payload does not match the step's schema.
    InvalidPayload {
        /// The problem.
        issues: Vec<Issue>,
    },
}
