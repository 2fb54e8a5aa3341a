//! The one place that reads a clock. Only shells ask it; whatever decides is told what time it is.

use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime};

use crate::model::{Now, Timestamp};

/// What time it is, on both clocks.
pub(crate) fn now() -> Now {
    Now { mono: mono(), wall: wall() }
}

/// What time it is by the clock that never goes back: since something here was asked first.
pub(crate) fn mono() -> Duration {
    static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
    ORIGIN.elapsed()
}

/// What time it is by the clock on the wall.
pub(crate) fn wall() -> Timestamp {
    SystemTime::now().into()
}
