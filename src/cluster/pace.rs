//! How often a node renews its lease, reads and notifies.

use std::time::Duration;

/// How much of a lease is left when its node fences itself, so that a node that takes over finds nothing running: at most
/// a third of a short lease.
const MARGIN_MAX: Duration = Duration::from_secs(2);

/// The maximum time between two renewals: each one also checks whether another node has failed, so that its runs wait
/// little longer than a lease for the next node.
const BEAT_MAX: Duration = Duration::from_millis(1500);

/// How often the positions of all projects are compared if nodes notify each other.
const LOOK_EACH: Duration = Duration::from_secs(1);

/// See the top of this file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// How long a node may be silent before it counts as failed.
    pub(crate) ttl: Duration,
    /// How often to read what other nodes have written without a notification.
    pub(crate) look_each: Duration,
    /// Whether nodes notify each other.
    pub(crate) wakes: bool,
}

impl Pace {
    /// For nodes that notify each other.
    pub(crate) fn notified(ttl: Duration) -> Self {
        Self { ttl, look_each: LOOK_EACH, wakes: true }
    }

    /// For nodes that poll at this interval.
    pub(crate) fn polling(ttl: Duration, look_each: Duration) -> Self {
        Self { ttl, look_each, wakes: false }
    }

    /// The time between two renewals.
    pub(super) fn beat_each(self) -> Duration {
        (self.ttl / 3).min(BEAT_MAX)
    }

    /// How long after sending its last successful renewal a node fences itself.
    pub(super) fn fence_after(self) -> Duration {
        self.ttl - MARGIN_MAX.min(self.ttl / 3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_a_node_that_is_gone_waited_for_a_third_of_a_long_lease_more() {
        for ttl in [3, 6, 15, 300] {
            assert!(Pace::notified(Duration::from_secs(ttl)).beat_each() < Duration::from_secs(2), "{ttl}");
        }
    }

    #[test]
    fn a_node_beats_at_least_twice_before_it_fences_itself_and_fences_itself_before_others_do() {
        for (ttl, fences) in [(3, 2), (6, 4), (15, 13), (300, 298)] {
            let pace = Pace::notified(Duration::from_secs(ttl));
            assert_eq!(pace.fence_after().as_secs(), fences, "{ttl}");
            assert!(2 * pace.beat_each() <= pace.fence_after() && pace.fence_after() < pace.ttl);
        }
    }
}
