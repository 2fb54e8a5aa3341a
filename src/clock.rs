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

/// What time it is by the system's own clock that never goes back, which other processes read too.
pub(crate) fn since_boot() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// What time it is by the clock on the wall.
pub(crate) fn wall() -> Timestamp {
    SystemTime::now().into()
}
