//! The position of each project that a journal follows: those with subscribers, and those with runs of this node. It is
//! published with each batch for the thread that reads what other nodes have written, together with the time when this
//! node last joined the cluster, for the threads that watch its lease.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::{Journal, ProjectEntry};
use crate::log::store::Standing;
use crate::model::ProjectId;

/// Projects that are passed over at most: those beyond hold up what was published after them.
const PUT_OFF_MAX: usize = 1024;

/// See the top of this file.
#[derive(Debug, Default)]
pub struct Standings {
    followed: Mutex<HashMap<ProjectId, (u64, u64)>>,
    /// In milliseconds of the monotonic clock; 0 where it never has.
    joined_at: AtomicU64,
    put_off: Mutex<BTreeSet<ProjectId>>,
}

impl Standings {
    /// All standings, in no order.
    pub fn all(&self) -> Vec<Standing> {
        let standings = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        let standing = |(project, &(newest, revision)): (&ProjectId, &(u64, u64))| Standing {
            project: project.clone(),
            newest,
            revision,
        };
        standings.iter().map(standing).collect()
    }

    /// The standings of those of these projects that are followed.
    pub fn of(&self, projects: &[ProjectId]) -> Vec<Standing> {
        let standings = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        let standing = |project: &ProjectId| {
            let &(newest, revision) = standings.get(project)?;
            Some(Standing { project: project.clone(), newest, revision })
        };
        projects.iter().filter_map(standing).collect()
    }

    /// New projects whose published messages wait because there are too many projects.
    pub fn put_off(&self) -> Vec<ProjectId> {
        self.put_off.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// There is no room for a project. Is that news?
    pub(super) fn put_off_project(&self, project: &ProjectId) -> bool {
        let mut put_off = self.put_off.lock().unwrap_or_else(PoisonError::into_inner);
        put_off.len() < PUT_OFF_MAX && put_off.insert(project.clone())
    }

    /// There is room again.
    pub(super) fn put_off_none(&self) {
        self.put_off.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// When this node began to join the others again the last time; zero where it never has.
    pub fn joined_at(&self) -> Duration {
        Duration::from_millis(self.joined_at.load(Ordering::Acquire))
    }

    pub(super) fn has_joined(&self, began: Duration) {
        self.joined_at.store(u64::try_from(began.as_millis()).unwrap_or(u64::MAX), Ordering::Release);
    }

    fn say(&self, said: impl Iterator<Item = (ProjectId, Option<(u64, u64)>)>) {
        let mut standings = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        for (project, standing) in said {
            match standing {
                Some(standing) => drop(standings.insert(project, standing)),
                None => drop(standings.remove(&project)),
            }
        }
    }

    fn say_all(&self, all: HashMap<ProjectId, (u64, u64)>) {
        *self.followed.lock().unwrap_or_else(PoisonError::into_inner) = all;
    }
}

impl Journal {
    /// The standings of the followed projects. Empty if no other node can write to the store.
    pub fn standings(&self) -> Arc<Standings> {
        self.standings.clone()
    }

    /// Does someone tell this journal what others write to the project?
    pub(super) fn follows(&self, project: &ProjectId) -> bool {
        self.projects.get(project).is_some_and(|entry| self.is_followed(entry))
    }

    pub(super) fn is_followed(&self, entry: &ProjectEntry) -> bool {
        entry.is_watched || entry.open_runs.iter().any(|number| self.ours.contains(number))
    }

    fn followed(&self, project: &ProjectId) -> Option<(u64, u64)> {
        let entry = self.projects.get(project).filter(|entry| self.is_followed(entry))?;
        Some((entry.newest, entry.revision))
    }

    /// Publishes the standings of the projects that have been touched.
    pub(super) fn say_standings<'a>(&self, touched: impl Iterator<Item = &'a ProjectId>) {
        if self.is_shared {
            self.standings.say(touched.map(|project| (project.clone(), self.followed(project))));
        }
    }

    /// Publishes all standings.
    pub(super) fn say_all_standings(&self) {
        if self.is_shared {
            let followed = |project: &ProjectId| Some((project.clone(), self.followed(project)?));
            self.standings.say_all(self.projects.keys().filter_map(followed).collect());
        }
    }
}
