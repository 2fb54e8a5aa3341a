//! The rows that a store keeps.

use std::num::NonZeroU64;
use std::sync::Arc;

use super::{OutboxChange, PlanChange, WishId, WishRow};
use crate::auth::TicketNote;
use crate::model::{OutputStream, ProjectId, RunId, RunStatus, StepId, Timestamp};

/// What a message takes beside its text, about the same in memory and on disk.
pub(in crate::log) const MESSAGE_OVERHEAD_BYTES: u64 = 96;

/// What an item takes beside its row.
const ITEM_OVERHEAD_BYTES: u64 = 48;

/// What a key takes beside its name and its answer.
const KEY_OVERHEAD_BYTES: u64 = 160;

/// How long a key is remembered, whatever becomes of its run, in milliseconds of the clock that history ages by.
pub(in crate::log) const KEY_AGE_MS: u64 = 24 * 60 * 60 * 1000;

/// How long the newest `seq` of a project is remembered that holds nothing any more: longer than anyone comes back with
/// one of its ids.
pub(in crate::log) const TOMBSTONE_AGE_MS: u64 = 90 * 24 * 60 * 60 * 1000;

/// Projects that hold nothing and are remembered, about: beyond them those go that have held nothing for the longest.
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
        /// What is kept of it. Boxed, for most of what is written are messages, which are half as large.
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
        /// What a list shows of it: JSON, and small.
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
    /// A run that was taken on in the same batch keeps what steps of another wrote and returned: a copy, which outlasts that
    /// run. Nothing of a step of which nothing is kept.
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
    /// What webhooks are to be told, or need not be any more.
    Outbox(OutboxChange),
    /// What becomes of a stored plan.
    Plan(PlanChange),
    /// A wish for a run of another node, until that one has answered it. Only where a store [is shared](super::Store::is_shared).
    Wish(Box<WishRow>),
    /// The answer to one: JSON, of whoever made it. It stays for whoever waits for it, for as long as a key does.
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

    /// Does it change something of its project that no message tells? An append with at least one of these raises the
    /// project's [revision](super::Head::revision) by one, wherever a store [is shared](super::Store::is_shared).
    pub(in crate::log) fn raises_revision(&self) -> bool {
        matches!(self, Self::RunCreated { .. } | Self::Document { .. } | Self::CancelRequested(_) | Self::Plan(_))
    }
}

/// A message as it is kept.
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
    /// Bytes that it counts for.
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

/// A message's place in its run, which says how long it is kept at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlaceInRun {
    /// `workflow_started`: kept as long as its run is.
    First,
    /// It changes its run's state: kept until its run has ended, so that a restart can fold that state again.
    Turn,
    /// Of no run, or it changes no state: goes when its time has come.
    Middle,
    /// `workflow_completed` or `workflow_failed`: kept as long as its run is.
    Last,
}

/// A run as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunRow {
    /// Its id.
    pub run: RunId,
    /// When it was taken on.
    pub created_at: Timestamp,
    /// The plan and its inputs.
    pub document: Arc<[u8]>,
    /// What the call was answered.
    pub answer: Arc<[u8]>,
    /// Tells one call's body from another's.
    pub fingerprint: [u8; 32],
}

/// A key as it is kept: what whoever makes its call again is answered.
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
    /// What the call was answered.
    pub answer: Arc<[u8]>,
}

impl KeyRow {
    /// Bytes that it counts for.
    pub(in crate::log) fn weight(&self) -> u64 {
        (self.name.len() + self.answer.len()) as u64 + KEY_OVERHEAD_BYTES
    }
}

/// What is kept of a step's output, by its size: the newest attempt's.
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
    /// Of its first, if it has begun.
    pub first: Option<u64>,
    /// Of its last, if it has ended.
    pub last: Option<u64>,
}

/// A run's number within its data directory: what messages are filtered by. Never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunNumber(pub NonZeroU64);
