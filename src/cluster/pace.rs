//! How often a node renews its lease, reads and notifies.

use std::time::Duration;

/// What is left of a lease when its node fences itself, so that whoever takes over finds nobody at work: for a third of a
/// short lease at most.
const MARGIN_MAX: Duration = Duration::from_secs(2);

/// How often a node beats at least: with each beat it looks whether another has gone, so that runs wait little longer than a
/// lease for the next node.
const BEAT_MAX: Duration = Duration::from_millis(1500);

/// How often all standings are compared where others wake this node up.
const LOOK_EACH: Duration = Duration::from_secs(1);

/// See the top of this file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// How long a node is believed alive that says nothing.
    pub(crate) ttl: Duration,
    /// How often it is looked what others have written though nobody has told of it.
    pub(crate) look_each: Duration,
    /// Do nodes wake each other up?
    pub(crate) wakes: bool,
}

impl Pace {
    /// Of nodes that wake each other up.
    pub(crate) fn notified(ttl: Duration) -> Self {
        Self { ttl, look_each: LOOK_EACH, wakes: true }
    }

    /// Of nodes that look by themselves so often.
    pub(crate) fn polling(ttl: Duration, look_each: Duration) -> Self {
        Self { ttl, look_each, wakes: false }
    }

    /// From one beat to the next.
    pub(super) fn beat_each(self) -> Duration {
        (self.ttl / 3).min(BEAT_MAX)
    }

    /// How long after the beginning of the last beat that was taken a node fences itself.
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
