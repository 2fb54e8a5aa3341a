//! Decides whether history has grown enough to be trimmed. A trim costs about half of a small commit, so it waits until
//! a small share of the limit has been added, or some time has passed.

use crate::log::store::{Retention, Write};
use crate::model::Timestamp;

/// The growth that starts a trim, as a part of the limit: 157 of 10,000 messages.
const PART: u64 = 64;

/// The growth since the last trim.
#[derive(Debug, Default)]
pub(super) struct Growth {
    messages: u64,
    bytes: u64,
    ended_runs: u64,
    trimmed_at: Timestamp,
}

impl Growth {
    /// Just trimmed.
    pub(super) fn none(now: Timestamp) -> Self {
        Self { trimmed_at: now, ..Self::default() }
    }

    /// These came.
    pub(super) fn add(&mut self, writes: &[Write]) {
        for write in writes {
            self.bytes += write.history_bytes();
            self.messages += u64::from(matches!(write, Write::Message(..)));
            self.ended_runs += u64::from(matches!(write, Write::RunEnded { .. }));
        }
    }

    /// Is it worth a trim?
    pub(super) fn is_enough(&self, retention: &Retention, now: Timestamp) -> bool {
        self.messages > retention.messages as u64 / PART
            || self.bytes > retention.bytes / PART
            || self.ended_runs > retention.runs as u64 / PART
            || now.millis_since(self.trimmed_at) > retention.age_ms / PART
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::store::PlaceInRun;
    use crate::log::testing::{KEEP_ALL, created, ended, message, number};

    #[test]
    fn a_part_of_what_may_be_kept_is_enough_whatever_it_is_of() {
        let retention = Retention { messages: 640, bytes: 6400, age_ms: 64_000, runs: 64 };
        let at = Timestamp::from_millis;
        let mut growth = Growth::none(at(5000));
        assert!(!growth.is_enough(&retention, at(6000)) && growth.is_enough(&retention, at(6001)), "of age");
        growth.add(&[created(1, 101)]);
        assert!(growth.is_enough(&retention, at(5000)), "of bytes");
        let mut growth = Growth::none(at(0));
        let messages: Vec<_> = (1..=11).map(|seq| message(seq, 0, None, PlaceInRun::Middle)).collect();
        growth.add(&messages[..10]);
        let by_count = Retention { messages: 640, ..KEEP_ALL };
        assert!(!growth.is_enough(&by_count, at(0)));
        growth.add(&messages[10..]);
        assert!(growth.is_enough(&by_count, at(0)), "of messages");
        let mut growth = Growth::none(at(0));
        growth.add(&[message(1, 0, Some(number(1)), PlaceInRun::Last), ended(1, 1)]);
        assert!(!growth.is_enough(&KEEP_ALL, at(0)));
        assert!(growth.is_enough(&Retention { runs: 10, ..KEEP_ALL }, at(0)), "small limits are kept to the letter");
    }
}
