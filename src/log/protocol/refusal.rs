//! Why the log refuses a command.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::{RunId, SteeringError};

/// Why a command was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// No such run.
    UnknownRun,
    /// The run has no such step.
    UnknownStep,
    /// No item of this number has begun.
    UnknownItem,
    /// The output was replaced by that of another attempt, or let go, while it was read.
    OutputReplaced,
    /// There is no stored plan of this name.
    UnknownPlan,
    /// What the call was to change is not as it has to be.
    PreconditionFailed,
    /// This many plans are stored in the project: as many as may.
    TooManyStoredPlans(u64),
    /// This many stored plans have a schedule: as many as may.
    TooManySchedules(u64),
    /// Stored plans take as much as they may of these bytes.
    TooManyPlanBytes(u64),
    /// The run has ended.
    RunEnded,
    /// The run goes on.
    RunNotEnded,
    /// The idempotency key or run id was used with another body.
    KeyReused,
    /// So many runs of the new one's group go on: as many as may.
    ConcurrencyConflict {
        /// The group.
        group: Arc<str>,
        /// Its runs, the oldest first.
        runs: Vec<RunId>,
    },
    /// This many runs are active or wait: as many as may.
    TooManyRuns(usize),
    /// This many runs of the project are active or wait: as many as may.
    TooManyProjectRuns(usize),
    /// This many projects are kept: as many as may.
    TooManyProjects(usize),
    /// The project's keys take as much as they may of these bytes, which are for the keys of all.
    TooManyKeys(u64),
    /// The store does not take anything now.
    StoreUnavailable,
    /// The store takes no such thing, now or later: it is too large.
    TooLarge,
    /// The store takes no such thing, now or later: what this server makes of it contradicts what is kept.
    NotKept,
    /// The store does not take anything now: it is kept that the run was asked to end once it does, if nothing ends the
    /// process before.
    CancelHeldBack,
    /// The ticket was spent on another node, and no message id of the project came with it.
    TicketSpent,
    /// As many wishes as may be are on their way to runs.
    TooManySteerings(usize),
    /// The run does not do it.
    Steering(SteeringError),
}
