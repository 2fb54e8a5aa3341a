//! What keeps the log. A store knows nothing of what it keeps beyond the columns it finds it by.

use std::fmt;
use std::sync::Arc;

use super::history::{History, Reader};
use super::{Recovered, RunNumber};
use crate::auth::TicketNote;
use crate::model::{OutputStream, ProjectId, RunId, RunStatus, StepId, Timestamp};

/// What a message takes beside its text, about the same in memory and on disk.
pub(super) const MESSAGE_OVERHEAD_BYTES: u64 = 96;

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
    /// When it was kept.
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
        self.json.len() as u64 + MESSAGE_OVERHEAD_BYTES
    }
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
    /// The call's idempotency key.
    pub idempotency_key: Option<String>,
    /// Tells one call's body from another's.
    pub fingerprint: [u8; 32],
}

/// A step's output as it is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoredOutput {
    /// The pieces of the newest attempt, by where they came out.
    pub stdout: Vec<u8>,
    /// See `stdout`.
    pub stderr: Vec<u8>,
    /// See `stdout`.
    pub text: Vec<u8>,
    /// The whole output, where its message has only the beginning: JSON.
    pub whole: Option<Arc<[u8]>>,
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

/// Keeps the log. Called from one thread.
pub trait Store: History + Send {
    /// Keeps all of `batch`, or nothing of it.
    ///
    /// # Errors
    /// Where it can't; nothing has changed then.
    fn commit(&mut self, batch: &[Write]) -> Result<(), StoreError>;

    /// Lets go of what is beyond `retention`. Runs that have not ended stay. `true` where there is more to let go:
    /// a store may take its time, so that no commit waits long for it.
    ///
    /// # Errors
    /// Where it can't.
    fn trim(&mut self, retention: &Retention, now: Timestamp) -> Result<bool, StoreError>;

    /// Writes something that nobody reads, to find out whether it can.
    ///
    /// # Errors
    /// Where it can't.
    fn probe(&mut self) -> Result<(), StoreError>;

    /// What a journal has to know of what is kept.
    ///
    /// # Errors
    /// Where it can't be read.
    fn recover(&self, now: Timestamp) -> Result<Recovered, StoreError>;

    /// What is kept of a run.
    ///
    /// # Errors
    /// Where it can't be read.
    fn run(&self, number: RunNumber) -> Result<Option<RunRow>, StoreError>;

    /// The number of the run that was taken on with this idempotency key at `since` or later.
    ///
    /// # Errors
    /// Where it can't be read.
    fn run_by_key(&self, project: &ProjectId, key: &str, since: Timestamp) -> Result<Option<RunNumber>, StoreError>;

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
