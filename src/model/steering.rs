//! Requests to change an active run, and the run's answers.
//!
//! Only the run decides, so of two conflicting requests one succeeds and the other gets the reason. All types
//! serialize: if several nodes share a store, a request travels to the node that owns the run.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Issue, PlanChange, StepId, StepStatus, Timestamp};

/// Names a wish while it is on its way. Never used twice by one log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SteeringId(pub u64);

/// A wish on its way to a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Steer {
    /// What its [`Verdict`] is marked with.
    pub id: SteeringId,
    /// Whose wish it is: the subject of their token.
    pub by: Arc<str>,
    /// What they want.
    pub what: Steering,
}

/// What someone wants of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Steering {
    /// A step that waits for a decision is decided.
    Decide(Decide),
    /// The plan changes.
    Change(Box<PlanChange>),
}

/// A decision for a step that waits for one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decide {
    /// The step.
    pub step: StepId,
    /// What is decided.
    pub choice: Choice,
    /// What goes with it.
    pub payload: Option<Arc<Value>>,
}

/// What can be decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Choice {
    /// Go on.
    Approve,
    /// Don't.
    Reject,
}

impl Choice {
    /// As on the wire.
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

/// What a run says to a wish. It travels to the log behind the message that came of the wish, so that whoever hears yes
/// hears of something that is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Of which wish.
    pub id: SteeringId,
    /// The body of the answer, or why it can't be.
    pub answer: Result<Value, SteeringError>,
}

/// Why a run does not do what someone wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum SteeringError {
    /// It has ended.
    RunEnded,
    /// The server shuts down. The next start goes on with the run.
    ShuttingDown,
    /// It has no such step.
    UnknownStep,
    /// The step waits for no decision.
    NotWaiting {
        /// Where it is.
        status: StepStatus,
    },
    /// The step was decided before.
    AlreadyDecided {
        /// How.
        choice: Choice,
        /// By whom; by nobody where the time for it had passed.
        by: Option<Arc<str>>,
        /// When.
        at: Timestamp,
    },
    /// The plan has another revision than the change is of.
    StaleRevision {
        /// That one.
        current: u32,
    },
    /// A step that is to be replaced or removed has started.
    StepStarted {
        /// It.
        step: StepId,
        /// Where it is.
        status: StepStatus,
    },
    /// Nothing begins any more: a step has failed, or the run was asked to end.
    RunEnding,
    /// The plan has changed as often as it may.
    TooManyChanges {
        /// That often.
        limit: u32,
    },
    /// The plan can't be read that comes of the change.
    InvalidChange {
        /// What is wrong with it.
        issues: Vec<Issue>,
    },
    /// The step says who may decide, and whoever asks is none of them.
    NotADecider,
    /// What goes with the decision is not what the step asks for.
    InvalidPayload {
        /// What is wrong with it.
        issues: Vec<Issue>,
    },
}
