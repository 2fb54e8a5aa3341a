//! Collects the notifications for other nodes while it is too early to send them.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::model::ProjectId;

/// Minimum time between two notifications: sending more would overload the database.
const PACE: Duration = Duration::from_millis(10);

/// See the top of this file. Its size is bounded by the number of projects.
#[derive(Debug, Default)]
pub(super) struct Wakes {
    projects: BTreeSet<ProjectId>,
    has_wishes: bool,
    told_at: Option<Duration>,
}

impl Wakes {
    fn add(&mut self, projects: Vec<ProjectId>, has_wishes: bool) {
        self.projects.extend(projects);
        self.has_wishes |= has_wishes;
    }

    /// When the collected notifications are due.
    pub(super) fn due_at(&self) -> Option<Duration> {
        let has_any = self.has_wishes || !self.projects.is_empty();
        has_any.then(|| self.told_at.map_or(Duration::ZERO, |at| at + PACE))
    }

    /// The notifications that are due now.
    pub(super) fn take(&mut self, now: Duration) -> Option<(Vec<ProjectId>, bool)> {
        self.due_at().filter(|at| now >= *at)?;
        self.told_at = Some(now);
        let projects = std::mem::take(&mut self.projects).into_iter().collect();
        Some((projects, std::mem::take(&mut self.has_wishes)))
    }
}

/// Requests notifications of other nodes. Never blocks.
#[derive(Clone)]
pub(crate) struct Bell {
    wakes: Arc<Mutex<Wakes>>,
    bell: Sender<()>,
}

/// The other end of a [`Bell`].
pub(crate) struct Rung {
    wakes: Arc<Mutex<Wakes>>,
    pub(super) rung: Receiver<()>,
}

impl Bell {
    /// Both ends.
    pub(crate) fn new() -> (Self, Rung) {
        let (bell, rung) = bounded(1);
        let wakes = Arc::<Mutex<Wakes>>::default();
        (Self { wakes: Arc::clone(&wakes), bell }, Rung { wakes, rung })
    }

    /// These projects have new messages, and possibly there are new requests.
    pub(crate) fn ring(&self, moved: Vec<ProjectId>, has_wishes: bool) {
        if moved.is_empty() && !has_wishes {
            return;
        }
        lock(&self.wakes).add(moved, has_wishes);
        self.rouse();
    }

    /// Wakes the lease thread to check what else is due.
    pub(crate) fn rouse(&self) {
        // If it is full, it has already rung.
        let _ = self.bell.try_send(());
    }
}

impl Rung {
    pub(super) fn lock(&self) -> MutexGuard<'_, Wakes> {
        lock(&self.wakes)
    }
}

fn lock(wakes: &Mutex<Wakes>) -> MutexGuard<'_, Wakes> {
    wakes.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_at_once_and_what_follows_it_together() {
        let project = |name: &str| ProjectId::parse(name).expect("an id");
        let at = Duration::from_millis;
        let mut wakes = Wakes::default();
        assert_eq!((wakes.due_at(), wakes.take(at(0))), (None, None));
        wakes.add(vec![project("a")], false);
        assert_eq!(wakes.take(at(100)), Some((vec![project("a")], false)));
        wakes.add(vec![project("b"), project("a")], false);
        wakes.add(vec![project("b")], true);
        assert_eq!((wakes.take(at(109)), wakes.due_at()), (None, Some(at(110))));
        assert_eq!(wakes.take(at(110)), Some((vec![project("a"), project("b")], true)));
        assert_eq!((wakes.due_at(), wakes.take(at(200))), (None, None));
    }
}
