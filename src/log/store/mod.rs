//! The store of the log. It knows nothing of what it stores except the columns by which it finds it.

mod counts;
mod failures;
mod history;
mod numbers;
mod outbox;
mod plans;
mod recovered;
mod rows;
pub(super) mod segment;
mod shared;
mod trim;

use std::sync::Arc;

pub use self::counts::StoreCounts;
pub use self::failures::{AppendError, Objection, StoreError};
pub(super) use self::history::Look;
pub use self::history::{Flow, History, Reader};
pub(super) use self::numbers::{RunMap, RunSet};
pub use self::outbox::{Due, DueId, DueRow, DueTimes, OutboxChange};
pub use self::plans::{PlanChange, PlanCounts, PlanRow, WantedPlans};
pub use self::recovered::{EndedRun, Identity, OpenRun, Recovered, RecoveredProject};
// For stores that outlast the process.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub use self::recovered::Seed;
pub use self::rows::{Ends, KeyRow, PlaceInRun, RunNumber, RunRow, StoredMessage, StoredOutput, Write};
pub(super) use self::rows::{KEY_AGE_MS, TOMBSTONE_AGE_MS, TOMBSTONES_MAX, item_weight, message_weight};
// A store of one writer alone has no use for some of them.
#[cfg_attr(not(feature = "postgres"), expect(unused_imports))]
pub use self::shared::{
    Beat, BeatError, FOLLOWED_MAX, Followed, Hints, Lease, NodeId, Outgoing, Standing, Tail, WishId, WishRow, Wishes,
};
pub use self::trim::{Retention, Times, Trimmed};
use crate::model::{ProjectId, Timestamp};

/// Keeps the log. Called from one thread.
///
/// # Several writers
/// A store may have several writers, each a [`Journal`](super::Journal) of its own. Messages, runs and keys are numbered
/// and bound by the writers, from what each knows: [`append`](Self::append) says what that is, and finds out whether it
/// still is so. What a writer then has to know of the others it reads again by
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
    /// Stores all of `entries`, or none of them. `wall` is the current time, for the times of last activity. The
    /// messages go on from `expected`, which names each project once that anything is kept of.
    ///
    /// # Errors
    /// If it can't, or another has written: nothing has changed then. Every project is named that there is a conflict of,
    /// which is where its newest message is not the one expected, where a run of it has an id that is taken, or a number
    /// that is not above all others, and where a key of it is bound. A store that no other can write to need not look for
    /// the last two.
    fn append(&mut self, expected: &[Head], entries: &[Write], wall: Timestamp) -> Result<(), AppendError>;

    /// Lets go of what is beyond `retention`, and of keys and projects whose time is over. Runs that have not ended stay.
    /// A store may take its time, so that no commit waits long for it.
    ///
    /// # Errors
    /// If it can't.
    fn trim(&mut self, retention: &Retention, now: Times) -> Result<Trimmed, StoreError>;

    /// Removes the oldest rows of each webhook that has more than `rows_max`. Returns the webhooks and how many rows
    /// were removed.
    ///
    /// # Errors
    /// If it can't.
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
        Ok(trimmed.inspect_err(|error| log::debug!("cannot trim history: {error}")).ok())
    }

    /// Is no other node alive that shares it?
    ///
    /// # Errors
    /// If that can't be read.
    fn is_alone(&self) -> Result<bool, StoreError> {
        Ok(true)
    }

    /// Writes something that nobody reads, to find out whether it can.
    ///
    /// # Errors
    /// If it can't, or takes nothing of this node any more.
    fn probe(&mut self) -> Result<(), BeatError>;

    /// Reads what a journal needs in memory.
    ///
    /// # Errors
    /// If it can't be read.
    fn recover(&self) -> Result<Recovered, StoreError>;

    /// The same, only for these projects, which another writer has written to. The caller has the plans of the runs in
    /// `known` as they were submitted: those that have not changed come without their documents, which may be large.
    ///
    /// # Errors
    /// If it can't be read.
    fn recover_projects(&self, projects: &[ProjectId], known: &[RunNumber]) -> Result<Recovered, StoreError> {
        Ok(self.recover()?.of(projects, known))
    }

    /// A project as it was left, also where it holds nothing any more.
    ///
    /// # Errors
    /// If it can't be read.
    fn remains(&self, project: &ProjectId) -> Result<Option<RecoveredProject>, StoreError>;

    /// The standings of these projects, in one call. Projects that never had anything are left out. Called before an
    /// answer is given from memory.
    ///
    /// # Errors
    /// If it can't be read.
    fn standings(&self, projects: &[ProjectId]) -> Result<Vec<Standing>, StoreError> {
        let standing = |project: &ProjectId| {
            let standing =
                |it: RecoveredProject| Standing { project: it.project, newest: it.newest, revision: it.revision };
            self.remains(project).map(|remains| remains.map(standing)).transpose()
        };
        projects.iter().filter_map(standing).collect()
    }

    /// The standings of projects that have something, in the order of their ids: at most `limit` of those after
    /// `after`. Called before projects are listed, and only if the store [is shared](Self::is_shared).
    ///
    /// # Errors
    /// If it can't be read.
    fn standings_after(&self, _after: Option<&ProjectId>, _limit: usize) -> Result<Vec<Standing>, StoreError> {
        Ok(Vec::new())
    }

    /// The stored data of a run.
    ///
    /// # Errors
    /// If it can't be read.
    fn run(&self, number: RunNumber) -> Result<Option<RunRow>, StoreError>;

    /// The stored data of the key of this name.
    ///
    /// # Errors
    /// If it can't be read.
    fn key(&self, project: &ProjectId, name: &str) -> Result<Option<KeyRow>, StoreError>;

    /// The weight of all keys of a project.
    ///
    /// # Errors
    /// If it can't be read.
    fn key_bytes(&self, project: &ProjectId) -> Result<u64, StoreError>;

    /// Do several nodes share it?
    fn is_shared(&self) -> bool {
        false
    }

    /// Joins the others as a new node, after this one was [fenced](AppendError::Fenced). Nothing that the former node had is
    /// this one's.
    ///
    /// # Errors
    /// If it can't now.
    fn rejoin(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    /// A reader for another thread, if the store has one. It must be dropped before the store.
    ///
    /// # Errors
    /// If it can't be made.
    fn reader(&self) -> Result<Option<Box<dyn Reader>>, StoreError> {
        Ok(None)
    }
}

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
