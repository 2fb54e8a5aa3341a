//! The clock by which stored messages age.
//!
//! It advances with the monotonic clock while a process runs, and stands still in between. So a wall clock that is set
//! forward by fifty years (boards without a battery-backed clock start in 1970), or back, ages nothing. The cost: a
//! server that is off half of the time keeps its history twice as long.
//!
//! The store records this clock with each message, and from time to time when there are none.

use std::time::Duration;

use crate::model::{Now, Timestamp};

/// See the top of this file.
#[derive(Debug, Clone, Copy)]
pub(super) struct AgeClock {
    /// Where it stood at `since` of the monotonic clock.
    at: Timestamp,
    since: Duration,
}

impl AgeClock {
    /// A clock that begins now.
    pub(super) fn new(now: Now) -> Self {
        Self { at: Timestamp::default(), since: now.mono }
    }

    /// Sets the clock to at least `kept`, the time that the store has recorded.
    pub(super) fn go_on_from(&mut self, kept: Timestamp, now: Now) {
        *self = Self { at: self.at(now).max(kept), since: now.mono };
    }

    /// The time of this clock.
    pub(super) fn at(&self, now: Now) -> Timestamp {
        let passed = now.mono.saturating_sub(self.since).as_millis();
        self.at.plus_millis(u64::try_from(passed).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(mono: u64, wall: u64) -> Now {
        Now { mono: Duration::from_millis(mono), wall: Timestamp::from_millis(wall) }
    }

    #[test]
    fn only_time_that_a_process_has_seen_moves_it() {
        let mut clock = AgeClock::new(at(500, 1_000_000));
        assert_eq!(clock.at(at(700, 1)).as_millis(), 200, "whatever the wall clock says");
        clock.go_on_from(Timestamp::from_millis(5000), at(700, 1));
        assert_eq!(clock.at(at(710, 9_000_000_000)).as_millis(), 5010);
        clock.go_on_from(Timestamp::from_millis(4000), at(720, 1));
        assert_eq!(clock.at(at(730, 1)).as_millis(), 5030, "it never goes back");
    }
}
