//! Answers of the log.

use std::collections::HashMap;
use std::sync::Arc;

use super::{ChildResult, DuePage, Output, Refusal, Rest, ScheduledPlan, StartingPosition};
use crate::http::Problem;
use crate::log::frames::{Page, Row};
use crate::model::{RunState, StepId, Timestamp};

/// What a command is answered.
#[derive(Debug)]
pub enum Answer {
    /// The messages are kept.
    Published {
        /// The first one's `seq`.
        first_seq: u64,
        /// How many.
        count: usize,
    },
    /// The run is taken on, or has done what was wanted of it.
    Accepted {
        /// What the caller gets.
        body: Arc<[u8]>,
        /// It was taken on before.
        replayed: bool,
    },
    /// The run was asked to end.
    CancelAccepted,
    /// The plan is stored.
    PlanStored {
        /// There was none of its name before.
        is_new: bool,
        /// Tells its document from another.
        tag: Arc<str>,
        /// When.
        updated_at: Timestamp,
    },
    /// The plan is removed.
    PlanRemoved,
    /// A stored plan, or that of a run.
    StoredPlan {
        /// Its document.
        body: Vec<u8>,
        /// Tells it from another.
        tag: Arc<str>,
    },
    /// The plans that have a schedule.
    Schedules(Vec<ScheduledPlan>),
    /// Whether a run has ended.
    HasEnded(bool),
    /// What the step gets that has begun a run; nothing while that goes on.
    ChildResult(Option<ChildResult>),
    /// The note is kept.
    Noted,
    /// Everything that came before is kept, or refused.
    Reached,
    /// A stream may begin, or begin anew.
    StartsAt(Box<StartingPosition>),
    /// The messages asked for.
    Page(Page),
    /// The messages asked for, retold.
    Row(Row),
    /// A body, whole.
    Json(Vec<u8>),
    /// A list of events, whole.
    Batch {
        /// JSON.
        body: Vec<u8>,
        /// The id of its last message, where more follow it.
        next: Option<String>,
    },
    /// The beginning of a body that is read piece by piece.
    LongJson {
        /// Bytes that there are in all.
        length: u64,
        /// The first of them.
        bytes: Vec<u8>,
        /// Where the others are.
        rest: Option<Box<Rest>>,
    },
    /// A run's plan and inputs.
    Document(Arc<[u8]>),
    /// A run that can be gone on from.
    Ended(Arc<RunAtItsEnd>),
    /// A step's output, or the beginning of what was selected of it.
    Output(Box<Output>),
    /// What a webhook is to be told.
    Due(DuePage),
    /// What comes behind that.
    OutputRest {
        /// The bytes.
        bytes: Vec<u8>,
        /// What is left then.
        rest: Option<Box<Rest>>,
    },
    /// It can't be done.
    Refused(Refusal),
    /// It can't be done, as whoever asked knew.
    Problem(Box<Problem>),
}

/// A run as it ended.
#[derive(Debug, PartialEq)]
pub struct RunAtItsEnd {
    /// What it was made of.
    pub document: Arc<[u8]>,
    /// How it ended.
    pub state: Arc<RunState>,
    /// Of the steps that wrote something, or of whose output messages have only the beginning, the bytes that are kept.
    pub output_bytes: HashMap<StepId, u64>,
}

/// How a stream begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resume {
    /// Without a position shown.
    Fresh,
    /// At the position shown.
    Resumed,
    /// Elsewhere, because the position shown can't be gone on from.
    Reset(ResetReason),
}

/// Why a position can't be gone on from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ResetReason {
    /// It is none of this log's.
    UnknownId,
    /// What came behind it is no longer kept.
    Expired,
    /// The log is not that far.
    Ahead,
}

impl ResetReason {
    /// As on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnknownId => "unknown_id",
            Self::Expired => "expired",
            Self::Ahead => "ahead",
        }
    }
}
