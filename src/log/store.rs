//! What keeps the log. A store knows nothing of what it keeps beyond the columns it finds it by.

use std::fmt;
use std::sync::Arc;

use super::history::{History, Reader};
use super::{Recovered, RecoveredProject, RunNumber};
use crate::auth::TicketNote;
use crate::model::{OutputStream, ProjectId, RunId, RunStatus, StepId, Timestamp};

/// What a message takes beside its text, about the same in memory and on disk.
pub(super) const MESSAGE_OVERHEAD_BYTES: u64 = 96;

/// What a key takes beside its name and its answer.
const KEY_OVERHEAD_BYTES: u64 = 160;

/// How long a key is remembered, whatever becomes of its run, in milliseconds of the [clock](super::age) that history ages by.
pub(super) const KEY_AGE_MS: u64 = 24 * 60 * 60 * 1000;

/// How long the newest `seq` of a project is remembered that holds nothing any more: longer than anyone comes back with
/// one of its ids.
pub(super) const TOMBSTONE_AGE_MS: u64 = 90 * 24 * 60 * 60 * 1000;

/// Projects that hold nothing and are remembered, about: beyond them those go that have held nothing for the longest.
pub(super) const TOMBSTONES_MAX: usize = 100_000;

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
    /// What became of a ticket.
    Ticket(TicketNote),
}

/// A message as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredMessage {
    /// Its number in its project.
    pub seq: u64,
    /// When it was kept, by the [clock](super::age) that history ages by.
    pub at: Timestamp,
    /// The run that it belongs to.
    pub run: Option<RunNumber>,
    /// Its place in that run.
    pub place: Place,
    /// The message, on one line.
    pub json: Arc<[u8]>,
}

impl StoredMessage {
    /// Bytes that it counts for.
    pub(super) fn weight(&self) -> u64 {
        message_weight(&self.json)
    }
}

/// Bytes that a message of this text counts for.
pub(super) fn message_weight(json: &[u8]) -> u64 {
    json.len() as u64 + MESSAGE_OVERHEAD_BYTES
}

impl Place {
    /// Is a message in this place kept beyond the floor, while its run is kept and has ended or not?
    pub(super) fn outlasts_floor(self, run_has_ended: bool) -> bool {
        match self {
            Self::First | Self::Last => true,
            Self::Turn => !run_has_ended,
            Self::Middle => false,
        }
    }
}

/// A message's place in its run, which says how long it is kept at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
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
    /// As [`Claim::names`](super::Claim::names) has it.
    pub name: String,
    /// When it was used, by the [clock](super::age) that history ages by.
    pub at: Timestamp,
    /// Tells one call's body from another's.
    pub fingerprint: [u8; 32],
    /// What the call was answered.
    pub answer: Arc<[u8]>,
}

impl KeyRow {
    /// Bytes that it counts for.
    pub(super) fn weight(&self) -> u64 {
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

/// Why a store could not do its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreError(pub String);

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StoreError {}

/// How much history is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Messages a project.
    pub messages: usize,
    /// Bytes in all.
    pub bytes: u64,
    /// Milliseconds.
    pub age_ms: u64,
    /// Ended runs a project.
    pub runs: usize,
}

/// What time it is for what is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// By the clock that history ages by.
    pub age: Timestamp,
    /// By the wall clock.
    pub wall: Timestamp,
}

/// What a trim came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trimmed {
    /// There is more to let go.
    pub is_more: bool,
    /// Projects that hold neither a message nor a run any more: of each its newest `seq` is left.
    pub emptied: Vec<ProjectId>,
    /// Of some that was let go too: whatever was read of them before is of another project of that name.
    pub has_forgotten: bool,
    /// What all keys weigh that are left.
    pub key_bytes: u64,
}

/// Keeps the log. Called from one thread.
pub trait Store: History + Send {
    /// Keeps all of `batch`, or nothing of it; `wall` is what time it is, for those who ask when something last was.
    ///
    /// # Errors
    /// Where it can't; nothing has changed then.
    fn commit(&mut self, batch: &[Write], wall: Timestamp) -> Result<(), StoreError>;

    /// Lets go of what is beyond `retention`, and of keys and projects whose time is over. Runs that have not ended stay.
    /// A store may take its time, so that no commit waits long for it.
    ///
    /// # Errors
    /// Where it can't.
    fn trim(&mut self, retention: &Retention, now: Times) -> Result<Trimmed, StoreError>;

    /// Keeps all of `batch`, or nothing of it, and then lets go of what is too much. What came of that; nothing where that
    /// alone failed, and there is only more than there should be.
    ///
    /// # Errors
    /// Where it can't be kept; nothing has changed then.
    fn commit_and_trim(
        &mut self,
        batch: &[Write],
        retention: &Retention,
        now: Times,
    ) -> Result<Option<Trimmed>, StoreError> {
        self.commit(batch, now.wall)?;
        let trimmed = self.trim(retention, now);
        Ok(trimmed.inspect_err(|error| log::debug!("history can't be trimmed: {error}")).ok())
    }

    /// Writes something that nobody reads, to find out whether it can.
    ///
    /// # Errors
    /// Where it can't.
    fn probe(&mut self) -> Result<(), StoreError>;

    /// What a journal has to know of what is kept.
    ///
    /// # Errors
    /// Where it can't be read.
    fn recover(&self) -> Result<Recovered, StoreError>;

    /// A project as it was left, also where it holds nothing any more.
    ///
    /// # Errors
    /// Where it can't be read.
    fn remains(&self, project: &ProjectId) -> Result<Option<RecoveredProject>, StoreError>;

    /// What is kept of a run.
    ///
    /// # Errors
    /// Where it can't be read.
    fn run(&self, number: RunNumber) -> Result<Option<RunRow>, StoreError>;

    /// What is kept of the key of this name.
    ///
    /// # Errors
    /// Where it can't be read.
    fn key(&self, project: &ProjectId, name: &str) -> Result<Option<KeyRow>, StoreError>;

    /// What all keys of a project weigh.
    ///
    /// # Errors
    /// Where it can't be read.
    fn key_bytes(&self, project: &ProjectId) -> Result<u64, StoreError>;

    /// What a list shows of a run that has ended.
    ///
    /// # Errors
    /// Where it can't be read.
    fn ended_summary(&self, number: RunNumber) -> Result<Option<Arc<[u8]>>, StoreError>;

    /// Numbers of a project's runs, newest first, older than `before`; with `ended_as`, of those alone that ended so.
    ///
    /// # Errors
    /// Where they can't be read.
    fn runs(
        &self,
        project: &ProjectId,
        before: Option<RunNumber>,
        ended_as: Option<RunStatus>,
        each: &mut dyn FnMut(RunNumber) -> Flow,
    ) -> Result<(), StoreError>;

    /// A way to read what is committed on another thread, where there is one. It is let go before the store is.
    ///
    /// # Errors
    /// Where it can't be made.
    fn reader(&self) -> Result<Option<Box<dyn Reader>>, StoreError> {
        Ok(None)
    }
}

/// Whether a reader wants more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// The next one, please.
    More,
    /// That is enough.
    Stop,
}
