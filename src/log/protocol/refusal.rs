//! Why the log refuses a command.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::{RunId, SteeringError};

/// Why a command was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// The run does not exist.
    UnknownRun,
    /// The run has no such step.
    UnknownStep,
    /// No item with this number has started.
    UnknownItem,
    /// Another attempt replaced the output, or it was deleted, while it was read.
    OutputReplaced,
    /// No stored plan has this name.
    UnknownPlan,
    /// A precondition of the call is not met.
    PreconditionFailed,
    /// The project has as many stored plans as the limit allows: this many.
    TooManyStoredPlans(u64),
    /// Too many stored plans have a schedule; the limit.
    TooManySchedules(u64),
    /// The stored plans have reached their limit of this many bytes.
    TooManyPlanBytes(u64),
    /// The run has ended.
    RunEnded,
    /// The run has not ended.
    RunNotEnded,
    /// The idempotency key or run id was used with another body.
    KeyReused,
    /// The concurrency group of the run is full, and nothing may wait for it.
    ConcurrencyConflict {
        /// The group.
        group: Arc<str>,
        /// Its runs, the oldest first.
        runs: Vec<RunId>,
    },
    /// Too many runs are active or queued; the limit.
    TooManyRuns(usize),
    /// Too many runs of the project are active or queued; the limit.
    TooManyProjectRuns(usize),
    /// Too many projects exist; the limit.
    TooManyProjects(usize),
    /// The idempotency keys of the project have reached their share of this limit in bytes, which applies to all projects.
    TooManyKeys(u64),
    /// The store cannot be written to now.
    StoreUnavailable,
    /// The store rejects this for good: it is too large.
    TooLarge,
    /// The store rejects this for good: it contradicts what is stored.
    NotKept,
    /// The store does not take anything now: it is kept that the run was asked to end once it does, if nothing ends the
    /// process before.
    CancelHeldBack,
    /// The ticket was used on another node, and the request has no message id of the project.
    TicketSpent,
    /// Too many requests to runs are in progress.
    TooManySteerings(usize),
    /// The run refuses the request.
    Steering(SteeringError),
}
