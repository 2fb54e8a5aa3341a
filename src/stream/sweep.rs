//! The sweep over all streams that checks for expired tokens, stalls and idle streams: when it is due, and how far it
//! has got.

use std::ops::Range;
use std::time::Duration;

/// A round in slices. Pure.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sweep {
    /// The slab place that is next, while one is in progress.
    next: Option<usize>,
    due: Duration,
}

impl Sweep {
    /// When the next one begins, if none is in progress.
    pub(super) fn due(&self) -> Duration {
        self.due
    }

    /// Is one in progress?
    pub(super) fn is_on(&self) -> bool {
        self.next.is_some()
    }

    /// Begins one; the next is due `interval` later.
    pub(super) fn begin(&mut self, now: Duration, interval: Duration) {
        *self = Self { next: Some(0), due: now + interval };
    }

    /// The next places of the slab to look at, `count_max` of them at most. Ends the round where it has `capacity`.
    pub(super) fn take(&mut self, count_max: usize, capacity: usize) -> Range<usize> {
        let from = self.next.unwrap_or_default();
        let to = (from + count_max).min(capacity);
        self.next = (to < capacity).then_some(to);
        from..to
    }
}
