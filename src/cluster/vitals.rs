//! The state of this node in the cluster: written by its threads, shown by the loop.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How long nothing that this node has written may fail to come back before it is reported as not ready.
const ROUND_TRIP_MAX: Duration = Duration::from_secs(15);

/// See the top of this file. Times are of the monotonic clock.
#[derive(Debug)]
pub(crate) struct Vitals {
    beaten_at: AtomicU64,
    looked_at: AtomicU64,
    came_back_at: AtomicU64,
    nodes: AtomicU64,
    fences: AtomicU64,
    taken_over: AtomicU64,
}

/// The values that the loop shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shown {
    /// How long ago the last successful renewal was sent.
    pub(crate) lease_age: Duration,
    /// How long ago this node had read everything that others had written.
    pub(crate) tail_lag: Duration,
    /// How long ago this node last read back something that it had written.
    pub(crate) round_trip_age: Duration,
    /// Live nodes, including this one.
    pub(crate) nodes: u64,
    /// How often this node was fenced.
    pub(crate) fences: u64,
    /// Failed nodes whose runs it has taken over.
    pub(crate) taken_over: u64,
}

impl Vitals {
    /// For a node that has joined at `now`.
    pub(crate) fn new(now: Duration) -> Self {
        let at = || AtomicU64::new(millis(now));
        Self {
            beaten_at: at(),
            looked_at: at(),
            came_back_at: at(),
            nodes: AtomicU64::new(1),
            fences: AtomicU64::new(0),
            taken_over: AtomicU64::new(0),
        }
    }

    pub(super) fn has_beaten(&self, began: Duration, nodes: u64, dead: u64) {
        self.beaten_at.store(millis(began), Ordering::Relaxed);
        self.nodes.store(nodes, Ordering::Relaxed);
        self.taken_over.fetch_add(dead, Ordering::Relaxed);
    }

    pub(super) fn is_fenced(&self) {
        self.fences.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn has_looked(&self, began: Duration) {
        self.looked_at.store(millis(began), Ordering::Relaxed);
    }

    pub(super) fn has_come_back(&self, now: Duration) {
        self.came_back_at.store(millis(now), Ordering::Relaxed);
    }

    /// Whether nothing that this node has written has come back for too long.
    pub(crate) fn is_cut_off(&self, now: Duration) -> bool {
        self.shown(now).round_trip_age >= ROUND_TRIP_MAX
    }

    /// All values.
    pub(crate) fn shown(&self, now: Duration) -> Shown {
        let since = |at: &AtomicU64| now.saturating_sub(Duration::from_millis(at.load(Ordering::Relaxed)));
        Shown {
            lease_age: since(&self.beaten_at),
            tail_lag: since(&self.looked_at),
            round_trip_age: since(&self.came_back_at),
            nodes: self.nodes.load(Ordering::Relaxed),
            fences: self.fences.load(Ordering::Relaxed),
            taken_over: self.taken_over.load(Ordering::Relaxed),
        }
    }
}

fn millis(at: Duration) -> u64 {
    u64::try_from(at.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_cut_off_while_nothing_comes_back_for_15_seconds() {
        let at = Duration::from_secs;
        let vitals = Vitals::new(at(100));
        assert!(!vitals.is_cut_off(at(114)));
        assert!(vitals.is_cut_off(at(115)));
        vitals.has_come_back(at(116));
        assert!(!vitals.is_cut_off(at(117)));
        vitals.has_beaten(at(110), 3, 1);
        let shown = vitals.shown(at(120));
        assert_eq!((shown.lease_age, shown.tail_lag, shown.round_trip_age), (at(10), at(20), at(4)));
        assert_eq!((shown.nodes, shown.taken_over, shown.fences), (3, 1, 0));
    }
}
