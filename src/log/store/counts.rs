//! Counters of a store that several nodes share: written by its writer, read by the metrics.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::AppendError;
use crate::model::Histogram;

/// See the top of this file. Held for no longer than it takes to count.
#[derive(Debug, Default)]
pub struct StoreCounts(Mutex<Counted>);

#[derive(Debug, Default)]
struct Counted {
    appends: Histogram,
    conflicts: u64,
}

impl StoreCounts {
    /// An append took so long, and this came of it.
    pub fn count_append(&self, took: Duration, result: &Result<(), AppendError>) {
        let mut counted = self.lock();
        match result {
            Ok(()) => counted.appends.record(took),
            Err(AppendError::Conflict(_)) => counted.conflicts += 1,
            Err(_) => {}
        }
    }

    /// How long appends took that are kept.
    pub fn appends(&self) -> Histogram {
        self.lock().appends
    }

    /// Appends before which another had written.
    pub fn conflicts(&self) -> u64 {
        self.lock().conflicts
    }

    fn lock(&self) -> MutexGuard<'_, Counted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
