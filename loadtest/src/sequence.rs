//! Has a subscriber every message of its project, once and in order? `seq` tells: it counts without a gap.

/// The number of the newest message that a subscriber has.
#[derive(Debug, Default, Clone, Copy)]
pub struct Sequence {
    last: Option<u64>,
}

/// How a number fits behind the ones before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is the one that was due.
    Next,
    /// So many before it never came.
    Lost(u64),
    /// It, or a later one, has come before.
    Repeated,
}

impl Sequence {
    /// One that has everything up to `seq`.
    pub fn after(seq: u64) -> Self {
        Self { last: Some(seq) }
    }

    /// The newest number, where any has come.
    pub fn last(self) -> Option<u64> {
        self.last
    }

    /// A stream begins at the position `seq`. One that goes on must do so exactly where the one before it ended.
    pub fn begin(&mut self, seq: u64, is_resumed: bool) -> Verdict {
        let verdict = match self.last {
            Some(last) if is_resumed && seq > last => Verdict::Lost(seq - last),
            Some(last) if is_resumed && seq < last => Verdict::Repeated,
            _ => Verdict::Next,
        };
        self.last = Some(seq);
        verdict
    }

    /// The server says that it goes on from `seq`, whatever lies between: a gap that is told is not a message lost.
    pub fn reset(&mut self, seq: u64) {
        self.last = Some(seq);
    }

    /// The next message has come. After a gap it goes on behind it, so that one gap is counted once.
    pub fn take(&mut self, seq: u64) -> Verdict {
        let due = self.last.map_or(seq, |last| last + 1);
        if seq < due {
            return Verdict::Repeated;
        }
        self.last = Some(seq);
        if seq == due { Verdict::Next } else { Verdict::Lost(seq - due) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_and_repeats_are_seen_and_counted_once() {
        let mut sequence = Sequence::default();
        assert_eq!(sequence.begin(4, false), Verdict::Next);
        for (seq, verdict) in [
            (5, Verdict::Next),
            (6, Verdict::Next),
            (6, Verdict::Repeated),
            (9, Verdict::Lost(2)),
            (10, Verdict::Next),
            (8, Verdict::Repeated),
            (11, Verdict::Next),
        ] {
            assert_eq!(sequence.take(seq), verdict, "{seq}");
        }
        assert_eq!(sequence.last(), Some(11));
    }

    #[test]
    fn a_gap_that_is_told_is_no_loss() {
        let mut sequence = Sequence::after(3);
        sequence.reset(90);
        assert_eq!((sequence.take(91), sequence.last()), (Verdict::Next, Some(91)));
    }

    #[test]
    fn a_resumed_stream_goes_on_where_the_last_one_ended() {
        for (seq, is_resumed, verdict) in [
            (7, true, Verdict::Next),
            (9, true, Verdict::Lost(2)),
            (6, true, Verdict::Repeated),
            (9, false, Verdict::Next),
        ] {
            assert_eq!(Sequence::after(7).begin(seq, is_resumed), verdict, "{seq}");
        }
        let mut resumed = Sequence::after(0);
        resumed.begin(0, true);
        assert_eq!(resumed.take(1), Verdict::Next);
        assert_eq!(Sequence::after(0).take(2), Verdict::Lost(1));
    }
}
