//! The clocks that the loop and the log read.

use std::time::{Instant, SystemTime};

use crate::model::{Now, Timestamp};

/// Reads both clocks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    origin: Instant,
}

impl Default for Clock {
    fn default() -> Self {
        Self { origin: Instant::now() }
    }
}

impl Clock {
    pub(super) fn now(&self) -> Now {
        Now { mono: self.origin.elapsed(), wall: Timestamp::from(SystemTime::now()) }
    }
}
