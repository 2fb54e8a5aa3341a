//! Answers of the log.

use std::collections::HashMap;
use std::sync::Arc;

use super::{ChildResult, DuePage, Output, Refusal, Rest, ScheduledPlan, StartingPosition};
use crate::http::Problem;
use crate::log::frames::{Page, Row};
use crate::model::{RunState, StepId, Timestamp};

/// The answer to a command.
#[derive(Debug)]
pub enum Answer {
    /// The messages are stored.
    Published {
        /// The `seq` of the first.
        first_seq: u64,
        /// The number of messages.
        count: usize,
    },
    /// The run is accepted, or has carried out the request.
    Accepted {
        /// The response for the caller.
        body: Arc<[u8]>,
        /// The call was a repetition.
        replayed: bool,
    },
    /// The run was asked to end.
    CancelAccepted,
    /// The plan is stored.
    PlanStored {
        /// There was no plan of this name before.
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
    /// The stored plans that have a schedule.
    Schedules(Vec<ScheduledPlan>),
    /// Whether a run has ended.
    HasEnded(bool),
    /// The result for the step that started the run; nothing while the run is active.
    ChildResult(Option<ChildResult>),
    /// The note is stored.
    Noted,
    /// All earlier commands are stored or refused.
    Reached,
    /// A stream may begin, or begin again.
    StartsAt(Box<StartingPosition>),
    /// The requested messages.
    Page(Page),
    /// The requested messages, in another format.
    Row(Row),
    /// A complete body.
    Json(Vec<u8>),
    /// A complete list of events.
    Batch {
        /// JSON.
        body: Vec<u8>,
        /// The id of its last message, if more follow.
        next: Option<String>,
    },
    /// The beginning of a body that is read in pieces.
    LongJson {
        /// Total number of bytes.
        length: u64,
        /// The first bytes.
        bytes: Vec<u8>,
        /// How to read the rest.
        rest: Option<Box<Rest>>,
    },
    /// A run's plan and inputs.
    Document(Arc<[u8]>),
    /// A run that can be run again from.
    Ended(Arc<RunAtItsEnd>),
    /// The output of a step, or the beginning of the selected part.
    Output(Box<Output>),
    /// The events that are due for a webhook.
    Due(DuePage),
    /// The next piece.
    OutputRest {
        /// The bytes.
        bytes: Vec<u8>,
        /// The rest after it.
        rest: Option<Box<Rest>>,
    },
    /// The command is refused.
    Refused(Refusal),
    /// The call is refused, with the problem that it came with.
    Problem(Box<Problem>),
}

/// An ended run.
#[derive(Debug, PartialEq)]
pub struct RunAtItsEnd {
    /// Its plan and inputs.
    pub document: Arc<[u8]>,
    /// How it ended.
    pub state: Arc<RunState>,
    /// The bytes stored for each step that wrote output, or whose return value is only in part in its message.
    pub output_bytes: HashMap<StepId, u64>,
}

/// How a stream begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resume {
    /// Without a position from the client.
    Fresh,
    /// After the position that the client gave.
    Resumed,
    /// Elsewhere, because the stream cannot continue from that position.
    Reset(ResetReason),
}

/// Why a stream cannot continue from a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ResetReason {
    /// It is not a position of this log.
    UnknownId,
    /// Messages after it have been deleted.
    Expired,
    /// The log has not reached it.
    Ahead,
}

impl ResetReason {
    /// The word used in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnknownId => "unknown_id",
            Self::Expired => "expired",
            Self::Ahead => "ahead",
        }
    }
}
