//! The rows that a store keeps.

use std::num::NonZeroU64;
use std::sync::Arc;

use super::{OutboxChange, PlanChange, WishId, WishRow};
use crate::auth::TicketNote;
use crate::model::{OutputStream, ProjectId, RunId, RunStatus, StepId, Timestamp};

/// The overhead of a message, about the same in memory and on disk.
pub(in crate::log) const MESSAGE_OVERHEAD_BYTES: u64 = 96;

/// The overhead of an item.
const ITEM_OVERHEAD_BYTES: u64 = 48;

/// The overhead of a key.
const KEY_OVERHEAD_BYTES: u64 = 160;

/// How long a key is remembered, whatever becomes of its run, in milliseconds of the clock that history ages by.
pub(in crate::log) const KEY_AGE_MS: u64 = 24 * 60 * 60 * 1000;

/// How long the newest `seq` of a project is remembered that holds nothing any more: longer than anyone comes back with
/// one of its ids.
pub(in crate::log) const TOMBSTONE_AGE_MS: u64 = 90 * 24 * 60 * 60 * 1000;

/// About how many empty projects are remembered. Beyond this number, those that have been empty for the longest are
/// forgotten.
pub(in crate::log) const TOMBSTONES_MAX: usize = 100_000;

/// One thing to keep.
#[derive(Debug, Clone)]
pub enum Write {
    /// A message.
    Message(StoredMessage, ProjectId),
    /// A run was taken on.
    RunCreated {
        /// Its number; the newest run has the largest.
        number: RunNumber,
        /// Its project.
        project: ProjectId,
        /// The row. Boxed, because most writes are messages, which are half as large.
        row: Box<RunRow>,
    },
    /// The plan of a run that goes on is another.
    Document {
        /// The run.
        number: RunNumber,
        /// The plan and its inputs, as [`RunRow::document`].
        document: Arc<[u8]>,
    },
    /// A call was carried out under a key, which had no other use for a day.
    Key(Box<KeyRow>),
    /// A run was asked to end.
    CancelRequested(RunNumber),
    /// A run has ended in this state.
    RunEnded {
        /// The run.
        number: RunNumber,
        /// That one's word for it.
        status: RunStatus,
        /// The summary that lists show: small JSON.
        summary: Arc<[u8]>,
        /// The serialized [`RunState`](crate::model::RunState).
        state: Arc<[u8]>,
        /// The `seq` of its last message.
        last_seq: u64,
    },
    /// A piece of a step's output.
    Output {
        /// The run.
        number: RunNumber,
        /// The step.
        step: StepId,
        /// The attempt; a later one's first piece replaces an earlier one's, and what an earlier one says after it is dropped.
        attempt: u32,
        /// Where it came out.
        stream: OutputStream,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// The whole of an output that was cut for its message.
    Whole {
        /// The run.
        number: RunNumber,
        /// The step.
        step: StepId,
        /// JSON.
        json: Arc<[u8]>,
    },
    /// Copies outputs of steps of another run to a run that is created in the same batch. The copy outlasts the other
    /// run. A step without a stored output is skipped.
    OutputsKept {
        /// The new run.
        number: RunNumber,
        /// The other one.
        of: RunNumber,
        /// The steps.
        steps: Arc<[StepId]>,
    },
    /// An item of a step has moved: its row takes the place of the one before.
    Item {
        /// The run.
        number: RunNumber,
        /// The step.
        step: StepId,
        /// Its place.
        item: u32,
        /// See [`ItemState::to_row`](crate::model::ItemState::to_row).
        row: Arc<[u8]>,
    },
    /// What became of a ticket.
    Ticket(TicketNote),
    /// A change of the outbox of webhooks.
    Outbox(OutboxChange),
    /// What becomes of a stored plan.
    Plan(PlanChange),
    /// A wish for a run of another node, until that one has answered it. Only where a store [is shared](super::Store::is_shared).
    Wish(Box<WishRow>),
    /// The answer to a wish, as JSON that the journal writes. It is stored for those who wait for it, as long as a key.
    WishAnswered {
        /// The wish.
        id: WishId,
        /// The answer.
        answer: Arc<[u8]>,
    },
    /// What applications have published within transactions of their own is numbered in this batch, and waits no more. One that
    /// does not wait any more is a conflict of its project.
    Drained(Arc<[u64]>),
}

impl Write {
    /// Bytes that it adds to history, about.
    pub(in crate::log) fn history_bytes(&self) -> u64 {
        match self {
            Self::Message(message, _) => message.weight(),
            Self::RunCreated { row, .. } => (row.document.len() + row.answer.len()) as u64,
            Self::RunEnded { summary, state, .. } => (summary.len() + state.len()) as u64,
            Self::Output { bytes, .. } => bytes.len() as u64,
            Self::Whole { json, .. } => json.len() as u64,
            Self::Document { document, .. } => document.len() as u64,
            Self::OutputsKept { .. } => 0,
            Self::Item { row, .. } => item_weight(row),
            Self::Key(_) | Self::CancelRequested(_) | Self::Ticket(_) | Self::Outbox(_) | Self::Plan(_) => 0,
            Self::Wish(_) | Self::WishAnswered { .. } | Self::Drained(_) => 0,
        }
    }

    /// Does it change something in its project that no message shows? An append with at least one of these raises the
    /// project's [revision](super::Head::revision) by one, wherever a store [is shared](super::Store::is_shared).
    pub(in crate::log) fn raises_revision(&self) -> bool {
        matches!(self, Self::RunCreated { .. } | Self::Document { .. } | Self::CancelRequested(_) | Self::Plan(_))
    }
}

/// A stored message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredMessage {
    /// Its number in its project.
    pub seq: u64,
    /// When it was kept, by the clock that history ages by.
    pub at: Timestamp,
    /// The run that it belongs to.
    pub run: Option<RunNumber>,
    /// Its place in that run.
    pub place: PlaceInRun,
    /// The message, on one line.
    pub json: Arc<[u8]>,
}

impl StoredMessage {
    /// The bytes that it counts for.
    pub(in crate::log) fn weight(&self) -> u64 {
        message_weight(&self.json)
    }
}

/// Bytes that an item of this row counts for.
pub(in crate::log) fn item_weight(row: &[u8]) -> u64 {
    row.len() as u64 + ITEM_OVERHEAD_BYTES
}

/// Bytes that a message of this text counts for.
pub(in crate::log) fn message_weight(json: &[u8]) -> u64 {
    json.len() as u64 + MESSAGE_OVERHEAD_BYTES
}

impl PlaceInRun {
    /// Is a message in this place kept beyond the floor, while its run is kept and has ended or not?
    pub(in crate::log) fn outlasts_floor(self, run_has_ended: bool) -> bool {
        match self {
            Self::First | Self::Last => true,
            Self::Turn => !run_has_ended,
            Self::Middle => false,
        }
    }
}

/// The place of a message in its run. It decides how long the message is stored at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlaceInRun {
    /// `workflow_started`: kept as long as its run is.
    First,
    /// It changes its run's state: kept until its run has ended, so that a restart can fold that state again.
    Turn,
    /// It belongs to no run, or changes no state: stored until retention removes it.
    Middle,
    /// `workflow_completed` or `workflow_failed`: kept as long as its run is.
    Last,
}

/// The row of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunRow {
    /// Its id.
    pub run: RunId,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// The plan and its inputs.
    pub document: Arc<[u8]>,
    /// The answer to the call.
    pub answer: Arc<[u8]>,
    /// Tells one call's body from another's.
    pub fingerprint: [u8; 32],
}

/// The row of a key: the answer for whoever repeats the call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRow {
    /// The project whose key it is.
    pub project: ProjectId,
    /// As `Claim::names` has it.
    pub name: String,
    /// When it was used, by the clock that history ages by.
    pub at: Timestamp,
    /// Tells one call's body from another's.
    pub fingerprint: [u8; 32],
    /// The answer to the call.
    pub answer: Arc<[u8]>,
}

impl KeyRow {
    /// The bytes that it counts for.
    pub(in crate::log) fn weight(&self) -> u64 {
        (self.name.len() + self.answer.len()) as u64 + KEY_OVERHEAD_BYTES
    }
}

/// The sizes of the stored output of a step: that of the newest attempt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoredOutput {
    /// That attempt.
    pub attempt: u32,
    /// Bytes of what it wrote, by where they came out.
    pub stdout: u64,
    /// See `stdout`.
    pub stderr: u64,
    /// See `stdout`.
    pub text: u64,
}

impl StoredOutput {
    /// Bytes that came out there.
    pub fn length(&self, stream: OutputStream) -> u64 {
        match stream {
            OutputStream::Stdout => self.stdout,
            OutputStream::Stderr => self.stderr,
            OutputStream::Text => self.text,
        }
    }
}

/// The `seq`s of a run's outer messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ends {
    /// The `seq` of its first message, if the run has begun.
    pub first: Option<u64>,
    /// The `seq` of its last message, if the run has ended.
    pub last: Option<u64>,
}

/// A run's number within its data directory: what messages are filtered by. Never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunNumber(pub NonZeroU64);
