//! What a start continues from, independent of the kind of store.

use std::num::NonZeroU64;
use std::sync::Arc;

use super::{Ends, RunNumber};
use crate::auth::{Instance, TicketNote};
use crate::model::{ProjectId, RunId, Timestamp, is_noted};

/// Random bits, for a store that is new.
pub struct Seed {
    /// See [`Identity::master_key`].
    pub master_key: [u8; 32],
    /// Names the store.
    pub instance: [u8; 6],
}

/// The identity of the server that wrote a store: what verifies the ids and tickets that clients hold.
pub struct Identity {
    /// The server derives its keys from this. Created with the store.
    pub master_key: [u8; 32],
    /// Names the store in message ids, made when it was new.
    pub instance: Instance,
    /// The tickets to remember, in the order in which they were noted.
    pub tickets: Vec<TicketNote>,
}

/// The part of a store that a journal keeps in memory. Messages are read when they are needed.
pub struct Recovered {
    /// All projects that hold something, by their ids.
    pub projects: Vec<RecoveredProject>,
    /// Runs that have not ended, in the order in which they were taken on. The state of each is the fold of its
    /// messages, over that of a run of its plan before the first.
    pub open_runs: Vec<OpenRun>,
    /// Runs that ended within the last [`ENDED_RUNS_MS`](Self::ENDED_RUNS_MS) before `clock`, the one that ended last at
    /// the end.
    pub ended_runs: Vec<EndedRun>,
    /// The number of the next run; no run ever had it.
    pub next_run_number: NonZeroU64,
    /// Where the clock stood that history ages by.
    pub clock: Timestamp,
    /// The weight of all keys.
    pub key_bytes: u64,
}

/// A project as it was left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveredProject {
    /// The project.
    pub project: ProjectId,
    /// The `seq` of its newest message, kept or not; 0 where it never had one.
    pub newest: u64,
    /// See [`Head::revision`](super::Head::revision).
    pub revision: u64,
    /// When something was kept of it for the last time, by the wall clock.
    pub last_activity: Timestamp,
}

/// A run to go on with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenRun {
    /// Its number.
    pub number: RunNumber,
    /// Its project.
    pub project: ProjectId,
    /// Its id.
    pub run: RunId,
    /// When it was taken on.
    pub created_at: Timestamp,
    /// The plan and its inputs. None if the caller [knows](super::Store::recover_projects) the run and its plan has not
    /// changed.
    pub document: Option<Arc<[u8]>>,
    /// It was asked to end.
    pub cancelled: bool,
    /// Another node has taken it on and goes on with it. Never so in a store of one writer.
    pub is_foreign: bool,
}

/// A run that ended a moment ago.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndedRun {
    /// Its number.
    pub number: RunNumber,
    /// Its project.
    pub project: ProjectId,
    /// When its last message was kept, by the clock that history ages by.
    pub ended_at: Timestamp,
    /// Where it begins and ends.
    pub ends: Ends,
}

impl Recovered {
    /// Keeps only these projects, and drops the documents of the runs in `known` whose plans have not changed.
    pub(in crate::log) fn of(mut self, projects: &[ProjectId], known: &[RunNumber]) -> Self {
        self.projects.retain(|it| projects.contains(&it.project));
        self.open_runs.retain(|it| projects.contains(&it.project));
        self.ended_runs.retain(|it| projects.contains(&it.project));
        for run in self.open_runs.iter_mut().filter(|run| known.contains(&run.number)) {
            run.document = run.document.take().filter(|document| is_noted(document));
        }
        self
    }

    /// Runs that ended within this many milliseconds are in [`ended_runs`](Self::ended_runs). It is a little longer
    /// than new streams are shown an ended run.
    pub const ENDED_RUNS_MS: u64 = 5 * 60 * 1000;
}
