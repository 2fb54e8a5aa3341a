//! Counts of firings of schedules, for the metrics.

use std::sync::atomic::{AtomicU64, Ordering};

/// The outcomes of a firing.
pub(crate) const FIRING_WORDS: [&str; 4] = ["fired", "skipped", "missed", "failed"];

/// Counted by the scheduler, read by the loop.
#[derive(Debug, Default)]
pub(crate) struct Board([AtomicU64; FIRING_WORDS.len()]);

/// The outcome of a firing: an index into [`FIRING_WORDS`].
#[derive(Debug, Clone, Copy)]
pub(super) enum Fate {
    Fired,
    Skipped,
    Missed,
    Failed,
}

impl Board {
    pub(super) fn count(&self, fate: Fate, more: u64) {
        self.0[fate as usize].fetch_add(more, Ordering::Relaxed);
    }

    /// All counts, in the order of [`FIRING_WORDS`].
    pub(crate) fn counts(&self) -> [u64; FIRING_WORDS.len()] {
        std::array::from_fn(|at| self.0[at].load(Ordering::Relaxed))
    }
}
