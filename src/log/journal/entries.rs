//! In-memory entries of projects and runs, kept as long as they are needed.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::Journal;
use crate::log::store::{RunNumber, StoreError};
use crate::log::views::Snapshot;
use crate::model::{Plan, ProjectId, RunId, RunState, Timestamp};

/// The state of a project in memory.
#[derive(Default)]
pub(super) struct ProjectEntry {
    /// The store holds messages or runs of it.
    pub(super) is_kept: bool,
    pub(super) newest: u64,
    /// See [`Head::revision`](crate::log::store::Head::revision).
    pub(super) revision: u64,
    pub(super) last_activity: Timestamp,
    /// The loop is sent its messages.
    pub(super) is_watched: bool,
    /// Updates about items are delivered between the messages.
    pub(super) wants_items: bool,
    /// Runs that have not ended, in the order in which they were taken on.
    pub(super) open_runs: BTreeSet<RunNumber>,
    /// The same runs by their ids: the run of every message is looked up here.
    pub(super) open_by_id: HashMap<RunId, RunNumber>,
    /// The children among them, by their parents.
    pub(super) children: HashMap<RunId, BTreeSet<RunNumber>>,
    /// The run that ended last.
    pub(super) newest_ended: Option<RunNumber>,
}

/// The state in memory of an open run, or of the run of its project that ended last.
pub(super) struct RunEntry {
    /// Readers may hold it too: it is copied where it changes while one does, and only then.
    pub(super) state: Arc<RunState>,
    /// The size of the outputs in the state of an open run.
    pub(super) outputs_bytes: u64,
    /// None if it has ended.
    pub(super) plan: Option<Arc<Plan>>,
    pub(super) first_seq: Option<u64>,
    pub(super) last_seq: u64,
    /// Its newest snapshot, while nothing has changed since.
    pub(super) snapshot: Option<Arc<Snapshot>>,
    /// A step of it has, or had, items.
    pub(super) has_items: bool,
    /// Another node runs it: what it says is followed.
    pub(super) is_foreign: bool,
    /// The cancellation is stored, and the executor of this node was told.
    pub(super) is_cancelled: bool,
    /// It waits for others of its group to end.
    pub(super) is_held: bool,
    /// Something of it can't be read here.
    pub(super) is_broken: bool,
}

impl RunEntry {
    /// An ended run.
    pub(super) fn ended(state: RunState, first_seq: Option<u64>, last_seq: u64) -> Self {
        let state = Arc::new(state);
        Self {
            state,
            outputs_bytes: 0,
            plan: None,
            first_seq,
            last_seq,
            snapshot: None,
            has_items: false,
            is_foreign: false,
            is_cancelled: false,
            is_held: false,
            is_broken: false,
        }
    }
}

impl Journal {
    /// A project that holds nothing, is watched by nobody and shows no run is not held any more: the store has its newest
    /// `seq`, from which it goes on.
    pub(super) fn forget_if_empty(&mut self, project: &ProjectId) {
        let is_empty = |entry: &ProjectEntry| {
            !entry.is_kept && !entry.is_watched && entry.open_runs.is_empty() && entry.newest_ended.is_none()
        };
        if self.projects.get(project).is_some_and(is_empty) {
            self.projects.remove(project);
            self.touched.project(project);
        }
    }

    /// The state of a project. It is read from the store if it is not in memory.
    pub(super) fn entry(&mut self, project: &ProjectId) -> Result<&mut ProjectEntry, StoreError> {
        self.touched.project(project);
        match self.projects.entry(project.clone()) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(place) => {
                if let Some(&(newest, revision)) = self.fresh.get(project) {
                    return Ok(place.insert(ProjectEntry { newest, revision, ..ProjectEntry::default() }));
                }
                let entry = self.store.remains(project)?.map(|it| ProjectEntry {
                    newest: it.newest,
                    revision: it.revision,
                    last_activity: it.last_activity,
                    ..ProjectEntry::default()
                });
                if self.is_shared
                    && !self.store.recover_projects(std::slice::from_ref(project), &[])?.open_runs.is_empty()
                {
                    return Err(StoreError(
                        "another node has just started runs in a project that is new to this node".to_owned(),
                    ));
                }
                Ok(place.insert(entry.unwrap_or_default()))
            }
        }
    }

    /// The `seq` of a project's newest message.
    pub(super) fn newest(&self, project: &ProjectId) -> Result<u64, StoreError> {
        Ok(self.standing(project)?.0)
    }

    /// The same, with the project's revision.
    pub(super) fn standing(&self, project: &ProjectId) -> Result<(u64, u64), StoreError> {
        let held = self.projects.get(project).map(|entry| (entry.newest, entry.revision));
        if let Some(standing) = held.or_else(|| self.fresh.get(project).copied()) {
            return Ok(standing);
        }
        match self.is_shared {
            false => Ok((self.store.newest(project)?, 0)),
            true => {
                let standings = self.store.standings(std::slice::from_ref(project))?;
                Ok(standings.first().map(|it| (it.newest, it.revision)).unwrap_or_default())
            }
        }
    }

    /// Nothing of the project is delivered any more.
    pub(super) fn unwatch(&mut self, project: &ProjectId) {
        let Some(entry) = self.projects.get_mut(project) else { return };
        (entry.is_watched, entry.wants_items) = (false, false);
        self.touched.project(project);
        self.forget_if_empty(project);
    }

    pub(super) fn has_room_for(&self, project: &ProjectId) -> bool {
        self.projects.len() < self.limits.projects || self.projects.contains_key(project)
    }
}
