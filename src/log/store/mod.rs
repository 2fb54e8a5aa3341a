//! What keeps the log. A store knows nothing of what it keeps beyond the columns it finds it by.

mod counts;
mod numbers;
mod outbox;
mod plans;
mod recovered;
mod rows;
pub(super) mod segment;
mod shared;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

pub use self::counts::StoreCounts;
pub(super) use self::numbers::{RunMap, RunSet};
pub use self::outbox::{Due, DueId, DueRow, DueTimes, OutboxChange};
pub use self::plans::{PlanChange, PlanCounts, PlanRow, WantedPlans};
pub use self::recovered::{EndedRun, Identity, OpenRun, Recovered, RecoveredProject};
// Of those that outlast the process.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub use self::recovered::Seed;
pub use self::rows::{Ends, KeyRow, Place, RunNumber, RunRow, StoredMessage, StoredOutput, Write};
pub(super) use self::rows::{KEY_AGE_MS, TOMBSTONE_AGE_MS, TOMBSTONES_MAX, item_weight, message_weight};
// A store of one writer alone has no use for some of them.
#[cfg_attr(not(feature = "postgres"), expect(unused_imports))]
pub use self::shared::{
    Beat, BeatError, FOLLOWED_MAX, Followed, Hints, Lease, NodeId, Outgoing, Standing, Tail, WishId, WishRow, Wishes,
};
use crate::model::{OutputStream, PlanName, ProjectId, RunId, RunStatus, StepId, Timestamp};

/// The reading half of a store. Between two calls on one of these nothing of it changes.
pub trait History {
    /// The `seq` of a project's newest message; 0 where it never had one.
    ///
    /// # Errors
    /// Where it can't be read.
    fn newest(&self, project: &ProjectId) -> Result<u64, StoreError>;

    /// The `seq` of the oldest message from which on a project's history is whole; one more than the newest where
    /// there is none.
    ///
    /// # Errors
    /// Where it can't be read.
    fn floor(&self, project: &ProjectId) -> Result<u64, StoreError>;

    /// Calls `each` with a project's messages behind `after` in order, until it says stop. With `run`, that run's
    /// alone, its first and last even where the rest is gone, and the turns of one that has not ended.
    ///
    /// # Errors
    /// Where they can't be read.
    fn messages(
        &self,
        project: &ProjectId,
        after: u64,
        run: Option<RunNumber>,
        each: &mut dyn FnMut(&StoredMessage) -> Flow,
    ) -> Result<(), StoreError>;

    /// Calls `each` with a project's messages before `before`, newest first, until it says stop.
    ///
    /// # Errors
    /// Where they can't be read.
    fn messages_before(
        &self,
        project: &ProjectId,
        before: u64,
        each: &mut dyn FnMut(&StoredMessage) -> Flow,
    ) -> Result<(), StoreError>;

    /// The number of the run of this id.
    ///
    /// # Errors
    /// Where it can't be read.
    fn run_number(&self, project: &ProjectId, run: &RunId) -> Result<Option<RunNumber>, StoreError>;

    /// Where a run begins and ends; none where it is not kept.
    ///
    /// # Errors
    /// Where it can't be read.
    fn ends(&self, number: RunNumber) -> Result<Option<Ends>, StoreError>;

    /// The state in which a run ended.
    ///
    /// # Errors
    /// Where it can't be read.
    fn ended_state(&self, number: RunNumber) -> Result<Option<Arc<[u8]>>, StoreError>;

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

    /// The plan and the inputs that a run was taken on with: JSON.
    ///
    /// # Errors
    /// Where they can't be read.
    fn document(&self, number: RunNumber) -> Result<Option<Arc<[u8]>>, StoreError>;

    /// How much is kept of a step's output.
    ///
    /// # Errors
    /// Where it can't be read.
    fn output(&self, number: RunNumber, step: &StepId) -> Result<Option<StoredOutput>, StoreError>;

    /// Appends these bytes of what a step wrote to `to`, as many of them as there are, and reads no others.
    ///
    /// # Errors
    /// Where they can't be read.
    fn output_bytes(
        &self,
        number: RunNumber,
        step: &StepId,
        stream: OutputStream,
        range: Range<u64>,
        to: &mut Vec<u8>,
    ) -> Result<(), StoreError>;

    /// The size of the whole output of a step whose message has only the beginning of it; nothing where that is not kept.
    ///
    /// # Errors
    /// Where it can't be read.
    fn whole_length(&self, number: RunNumber, step: &StepId) -> Result<Option<u64>, StoreError>;

    /// Appends these bytes of it to `to`, as many of them as there are: JSON.
    ///
    /// # Errors
    /// Where they can't be read.
    fn whole_bytes(
        &self,
        number: RunNumber,
        step: &StepId,
        range: Range<u64>,
        to: &mut Vec<u8>,
    ) -> Result<(), StoreError>;

    /// Calls `each` with what is kept of a step's items from this one on, in their order, until it says stop: rows, as
    /// [`ItemState::to_row`](crate::model::ItemState::to_row) makes them.
    ///
    /// # Errors
    /// Where they can't be read.
    fn items(
        &self,
        number: RunNumber,
        step: &StepId,
        from: u32,
        each: &mut dyn FnMut(u32, &[u8]) -> Flow,
    ) -> Result<(), StoreError>;

    /// The webhooks for which something waits, by their names, and how much.
    ///
    /// # Errors
    /// Where it can't be read.
    fn outbox(&self) -> Result<Vec<(Arc<str>, u64)>, StoreError>;

    /// Calls `each` with what of it is due for a webhook, what was put off least first, until it says stop.
    ///
    /// # Errors
    /// Where it can't be read.
    fn due(&self, webhook: &str, times: DueTimes, each: &mut dyn FnMut(&DueRow) -> Flow) -> Result<(), StoreError>;

    /// When the next of it is to be tried that is not due.
    ///
    /// # Errors
    /// Where it can't be read.
    fn next_due(&self, webhook: &str, times: DueTimes) -> Result<Option<Timestamp>, StoreError>;

    /// Calls `each` with stored plans until it says stop.
    ///
    /// # Errors
    /// Where they can't be read.
    fn plans(&self, wanted: WantedPlans<'_>, each: &mut dyn FnMut(&PlanRow) -> Flow) -> Result<(), StoreError>;

    /// The document of a stored plan: JSON.
    ///
    /// # Errors
    /// Where it can't be read.
    fn plan_document(&self, project: &ProjectId, name: &PlanName) -> Result<Option<Arc<[u8]>>, StoreError>;

    /// How much is stored, and of this project.
    ///
    /// # Errors
    /// Where it can't be read.
    fn plan_counts(&self, project: &ProjectId) -> Result<PlanCounts, StoreError>;

    /// The stored plan of this name.
    ///
    /// # Errors
    /// Where it can't be read.
    fn plan(&self, project: &ProjectId, name: &PlanName) -> Result<Option<PlanRow>, StoreError> {
        let mut found = None;
        self.plans(WantedPlans::Named(project, name), &mut |row| {
            found = Some(row.clone());
            Flow::Stop
        })?;
        Ok(found)
    }

    /// All of it.
    ///
    /// # Errors
    /// Where it can't be read.
    fn whole_output(&self, number: RunNumber, step: &StepId) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(length) = self.whole_length(number, step)? else { return Ok(None) };
        let mut json = Vec::new();
        self.whole_bytes(number, step, 0..length, &mut json)?;
        Ok(Some(json))
    }
}

/// A way to look at what is read: what it calls is called with all that is committed by then, and is not long about it.
pub(super) type Look<'a> =
    &'a mut dyn FnMut(&mut dyn FnMut(&dyn History) -> Result<(), StoreError>) -> Result<(), StoreError>;

/// A way to read a store beside the one who writes it, on another thread.
pub trait Reader: Send {
    /// Calls `look` with all that is committed by now.
    ///
    /// # Errors
    /// Where it can't be read, or what `look` says.
    fn look(&mut self, look: &mut dyn FnMut(&dyn History) -> Result<(), StoreError>) -> Result<(), StoreError>;
}

/// Keeps the log. Called from one thread.
///
/// # Several writers
/// A store may have several writers, each a [`Journal`](super::Journal) of its own. Messages, runs and keys are numbered
/// and bound by the writers, from what each knows: [`append`](Self::append) says what that is, and finds out whether it
/// still is so. What a writer then has to know of the others it reads anew by
/// [`recover_projects`](Self::recover_projects): their messages, the runs that they have taken on, which it follows and
/// never runs, and which of its own they asked to end. Keys are always asked of the store.
///
/// A store that several nodes share ([`is_shared`](Self::is_shared)) brings what one of a single writer need not:
/// - an answer for certain: where a connection is lost in the middle of `append`, it finds out whether the batch is kept
///   before it answers, for a batch that is refused is not to be there.
/// - who a node is, so that [`OpenRun::is_foreign`] is true, and a node that is thought to be gone appends nothing more:
///   [`AppendError::Fenced`]. A [`Lease`] says who is alive, and gives the runs of those who are not to another.
/// - a [`Tail`], which tells who follows and does not write what others have written.
/// - revisions: each append that changes anything of a project that its messages do not tell raises that project's, see
///   [`Write::raises_revision`]; one that expects another is a conflict.
/// - one clock that history ages by: the engine's.
/// - one answer to who has spent a ticket: [`AppendError::Spent`].
/// - one node that trims, and one that tells webhooks what waits in the outbox.
pub trait Store: History + Send {
    /// Keeps all of `entries`, or nothing of them; `wall` is what time it is, for those who ask when something last was.
    /// The messages go on from `expected`, which names each project once that anything is kept of.
    ///
    /// # Errors
    /// Where it can't, or another has written: nothing has changed then. Every project is named that there is a conflict of,
    /// which is where its newest message is not the one expected, where a run of it has an id that is taken, or a number
    /// that is not above all others, and where a key of it is bound. A store that no other can write to need not look for
    /// the last two.
    fn append(&mut self, expected: &[Head], entries: &[Write], wall: Timestamp) -> Result<(), AppendError>;

    /// Lets go of what is beyond `retention`, and of keys and projects whose time is over. Runs that have not ended stay.
    /// A store may take its time, so that no commit waits long for it.
    ///
    /// # Errors
    /// Where it can't.
    fn trim(&mut self, retention: &Retention, now: Times) -> Result<Trimmed, StoreError>;

    /// Gives the oldest up of what waits for each webhook that has more than so many rows: of which webhooks, and how many.
    ///
    /// # Errors
    /// Where it can't.
    fn trim_outbox(&mut self, rows_max: u64) -> Result<Vec<(Arc<str>, u64)>, StoreError>;

    /// Appends, and then lets go of what is too much. What came of that; nothing where that alone failed, and there is only
    /// more than there should be.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    fn append_and_trim(
        &mut self,
        expected: &[Head],
        entries: &[Write],
        retention: &Retention,
        now: Times,
    ) -> Result<Option<Trimmed>, AppendError> {
        self.append(expected, entries, now.wall)?;
        let trimmed = self.trim(retention, now);
        Ok(trimmed.inspect_err(|error| log::debug!("history can't be trimmed: {error}")).ok())
    }

    /// Is no other node alive that shares it?
    ///
    /// # Errors
    /// Where that can't be read.
    fn is_alone(&self) -> Result<bool, StoreError> {
        Ok(true)
    }

    /// Writes something that nobody reads, to find out whether it can.
    ///
    /// # Errors
    /// Where it can't, or takes nothing of this node any more.
    fn probe(&mut self) -> Result<(), BeatError>;

    /// What a journal has to know of what is kept.
    ///
    /// # Errors
    /// Where it can't be read.
    fn recover(&self) -> Result<Recovered, StoreError>;

    /// The same, but of these projects alone. For those that another has written to. Whoever asks has the plans of the runs of
    /// `known` as they were submitted: those of them that are so still come without their documents, which may be large.
    ///
    /// # Errors
    /// Where it can't be read.
    fn recover_projects(&self, projects: &[ProjectId], known: &[RunNumber]) -> Result<Recovered, StoreError> {
        Ok(self.recover()?.of(projects, known))
    }

    /// A project as it was left, also where it holds nothing any more.
    ///
    /// # Errors
    /// Where it can't be read.
    fn remains(&self, project: &ProjectId) -> Result<Option<RecoveredProject>, StoreError>;

    /// Where these projects stand, in one call for all: nothing of those that there never was anything of. For who is about to
    /// answer of what it has in memory of them.
    ///
    /// # Errors
    /// Where it can't be read.
    fn standings(&self, projects: &[ProjectId]) -> Result<Vec<Standing>, StoreError> {
        let standing = |project: &ProjectId| {
            let standing =
                |it: RecoveredProject| Standing { project: it.project, newest: it.newest, revision: it.revision };
            self.remains(project).map(|remains| remains.map(standing)).transpose()
        };
        projects.iter().filter_map(standing).collect()
    }

    /// Where the projects stand that hold something, in the order of their ids, at most so many of those behind `after`: for who
    /// is about to list them. Asked where the store [is shared](Self::is_shared) alone.
    ///
    /// # Errors
    /// Where it can't be read.
    fn standings_behind(&self, _after: Option<&ProjectId>, _limit: usize) -> Result<Vec<Standing>, StoreError> {
        Ok(Vec::new())
    }

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

    /// Do several nodes share it?
    fn is_shared(&self) -> bool {
        false
    }

    /// Joins the others as a new node, after this one was [fenced](AppendError::Fenced). Nothing that the former node had is
    /// this one's.
    ///
    /// # Errors
    /// Where it can't now.
    fn rejoin(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    /// A way to read what is committed on another thread, where there is one. It is let go before the store is.
    ///
    /// # Errors
    /// Where it can't be made.
    fn reader(&self) -> Result<Option<Box<dyn Reader>>, StoreError> {
        Ok(None)
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

/// How far a project has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The project.
    pub project: ProjectId,
    /// The `seq` of its newest message; 0 where it never had one.
    pub newest: u64,
    /// How often something of it changed that no message tells; 0 always where a store has one writer.
    pub revision: u64,
}

/// Why a batch is not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AppendError {
    /// Another has written to these projects, which have come so far: whoever reads them anew may try again.
    Conflict(Vec<Head>),
    /// These tickets were spent before, by their places among what was to be kept. Whoever leaves them out may try again.
    Spent(Vec<usize>),
    /// This node is thought to be gone: its runs are another's now, or soon. It appends nothing before it has
    /// [joined again](Store::rejoin).
    Fenced,
    /// The store can't now. It may later.
    Down(StoreError),
    /// The store never keeps this batch, though it may keep others.
    Refused(Objection),
}

/// What a store has against a batch that it never keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Objection {
    /// Something in it is larger than the store takes.
    TooLarge(StoreError),
    /// It contradicts what is kept. That is a fault of whoever made the batch, never of whoever asked for what is in it.
    Contradiction(StoreError),
}

impl Objection {
    /// It, in a sentence.
    pub fn why(&self) -> &StoreError {
        match self {
            Self::TooLarge(why) | Self::Contradiction(why) => why,
        }
    }
}

impl fmt::Display for Objection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.why().fmt(f)
    }
}

impl From<StoreError> for AppendError {
    fn from(error: StoreError) -> Self {
        Self::Down(error)
    }
}

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

/// Whether a reader wants more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// The next one, please.
    More,
    /// That is enough.
    Stop,
}
