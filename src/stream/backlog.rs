//! The newest frames of a channel, already encoded, in one bounded buffer that all its subscribers read from.
//!
//! A broadcast appends here once. A subscriber is a [`Cursor`] into the buffer: everything after its cursor is one
//! contiguous slice, so a burst of messages needs one write per socket. When the buffer is full, the oldest frames are
//! removed; a cursor that they leave behind is served from the log instead.
//!
//! Positions are those of a project. A backlog may hold only some of its messages, such as those of one run: then a
//! cursor between two of them has everything before the next one.

use std::collections::VecDeque;

use crate::log::{Frames, Row, RunNumber};

/// A subscriber's position: what it has been sent of its project. Packed, for there is one in every stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[repr(Rust, packed(4))]
pub struct Cursor {
    /// The last message that it has whole.
    pub seq: u64,
    /// How many bytes it has of the next.
    pub sent: u32,
}

impl Cursor {
    /// Behind message `seq`, between messages.
    pub fn after(seq: u64) -> Self {
        Self { seq, sent: 0 }
    }
}

/// The ring of frames.
#[derive(Debug)]
pub struct Backlog {
    bytes: Vec<u8>,
    /// Where the oldest frame starts in `bytes`; what lies before it is waiting to be cut off.
    start: usize,
    /// The stream offset of `bytes[0]`: marks count from the beginning of time, so that trimming moves none of them.
    base: u64,
    marks: VecDeque<Mark>,
    /// Everything after this position and up to `newest` is here.
    floor: u64,
    newest: u64,
}

#[derive(Debug, Clone, Copy)]
struct Mark {
    seq: u64,
    end: u64,
    run: Option<RunNumber>,
    is_last: bool,
}

/// At least this many marks are kept, whatever the limit of the backlog: 32 KiB. Only messages without bytes get this
/// far, because any other takes more than its mark.
const MARKS_MIN: usize = 1024;

/// One message of the backlog, as a filtering subscriber sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'b> {
    /// Its number.
    pub seq: u64,
    /// The event.
    pub bytes: &'b [u8],
    /// The run that it belongs to.
    pub run: Option<RunNumber>,
    /// Is it the last message of that run?
    pub is_last: bool,
}

impl Backlog {
    /// A backlog that starts with `frames`, which may be empty.
    pub fn new(frames: Frames) -> Self {
        let mut backlog = Self::after(frames.first_seq.saturating_sub(1));
        backlog.append(&frames);
        backlog
    }

    /// An empty one, of what comes after this position.
    pub fn after(position: u64) -> Self {
        Self { bytes: Vec::new(), start: 0, base: 0, marks: VecDeque::new(), floor: position, newest: position }
    }

    /// The position up to which it has come.
    pub fn newest(&self) -> u64 {
        self.newest
    }

    /// The bytes that its frames take.
    pub fn bytes(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// The bytes that it holds on to, room to grow included.
    pub fn memory(&self) -> usize {
        self.bytes.capacity() + self.marks.capacity() * size_of::<Mark>()
    }

    /// Appends the project's next messages. Those that it has already are skipped. Messages after a gap replace the
    /// content: a stream before the gap reads on from the log.
    pub fn append(&mut self, frames: &Frames) {
        if frames.first_seq > self.newest + 1 {
            log::error!(
                "internal error: a backlog that ends with message {} was given message {}",
                self.newest,
                frames.first_seq
            );
            self.restart_after(frames.first_seq - 1);
        }
        let known = usize::try_from((self.newest + 1).saturating_sub(frames.first_seq)).unwrap_or(usize::MAX);
        if known >= frames.marks.len() {
            return;
        }
        let from = if known == 0 { 0 } else { frames.marks[known - 1].end };
        let offset = self.base + self.bytes.len() as u64;
        self.bytes.extend_from_slice(&frames.bytes[from..]);
        self.marks.extend(frames.marks.iter().zip(frames.first_seq..).skip(known).map(|(mark, seq)| Mark {
            seq,
            end: offset + (mark.end - from) as u64,
            run: mark.run,
            is_last: mark.is_last,
        }));
        self.newest = frames.first_seq + frames.marks.len() as u64 - 1;
    }

    /// Takes a row of messages with others between them that say nothing here. As with those of a project, what is not
    /// known of between the two replaces what there is.
    pub fn append_row(&mut self, row: &Row) {
        if row.after > self.newest {
            self.restart_after(row.after);
        }
        let known = row.marks.partition_point(|mark| mark.seq <= self.newest);
        let from = known.checked_sub(1).map_or(0, |last| row.marks[last].end);
        let offset = self.base + self.bytes.len() as u64;
        self.bytes.extend_from_slice(&row.bytes[from..]);
        self.marks.extend(row.marks[known..].iter().map(|mark| Mark {
            seq: mark.seq,
            end: offset + (mark.end - from) as u64,
            run: None,
            is_last: mark.is_last,
        }));
        self.newest = self.newest.max(row.up_to);
    }

    /// Takes one message, at a position after all others.
    pub(super) fn push(&mut self, seq: u64, bytes: &[u8], run: Option<RunNumber>, is_last: bool) {
        self.bytes.extend_from_slice(bytes);
        self.marks.push_back(Mark { seq, end: self.base + self.bytes.len() as u64, run, is_last });
        self.newest = seq;
    }

    /// Everything after this position is in the backlog.
    pub(super) fn floor(&self) -> u64 {
        self.floor
    }

    /// Lets everything go; what comes after this position is next.
    pub(super) fn restart_after(&mut self, position: u64) {
        self.base += self.bytes.len() as u64;
        self.bytes.clear();
        self.marks.clear();
        (self.start, self.floor, self.newest) = (0, position, position);
    }

    /// Lets the oldest frames go until at most `bytes_max` are left, but never the newest one. Nor do their marks take more
    /// than that, for frames may be empty.
    pub fn trim(&mut self, bytes_max: usize) {
        let marks_max = MARKS_MIN.max(bytes_max / size_of::<Mark>());
        while (self.bytes() > bytes_max || self.marks.len() > marks_max) && self.marks.len() > 1 {
            let Some(oldest) = self.marks.pop_front() else { break };
            self.floor = oldest.seq;
            self.start = (oldest.end - self.base) as usize;
        }
        self.compact();
    }

    /// Moves what is left to the front once half of the bytes are dead, so that each byte moves about once.
    fn compact(&mut self) {
        if self.start <= self.bytes.len() / 2 {
            return;
        }
        self.bytes.copy_within(self.start.., 0);
        self.bytes.truncate(self.bytes.len() - self.start);
        self.base += self.start as u64;
        self.start = 0;
        if self.bytes.capacity() > 4 * self.bytes.len().max(1024) {
            self.bytes.shrink_to(2 * self.bytes.len());
        }
    }

    /// Can a subscriber at `seq` go on from here?
    pub fn reaches(&self, seq: u64) -> bool {
        seq >= self.floor
    }

    /// The bytes after `cursor`; empty if it has everything, none if the cursor has left the backlog.
    pub fn bytes_after(&self, cursor: Cursor) -> Option<&[u8]> {
        if cursor.seq >= self.newest {
            return Some(&[]);
        }
        let from = self.start_of(self.messages_up_to(cursor.seq)?) + cursor.sent as usize;
        Some(&self.bytes[from..])
    }

    /// The next message after message `seq`, whole.
    pub fn frame_after(&self, seq: u64) -> Option<Frame<'_>> {
        let index = self.messages_up_to(seq)?;
        let mark = self.marks.get(index)?;
        let to = (mark.end - self.base) as usize;
        Some(Frame {
            seq: mark.seq,
            bytes: &self.bytes[self.start_of(index)..to],
            run: mark.run,
            is_last: mark.is_last,
        })
    }

    /// Where `cursor` is after `written` more bytes, and how many messages those complete.
    pub fn advance(&self, cursor: Cursor, written: usize) -> (Cursor, usize) {
        let Some(before) = self.messages_up_to(cursor.seq) else { return (cursor, 0) };
        let to = self.base + (self.start_of(before) + cursor.sent as usize + written) as u64;
        let done = self.marks.partition_point(|mark| mark.end <= to);
        if done == self.marks.len() {
            return (Cursor::after(self.newest), done - before);
        }
        let sent = u32::try_from(to - self.base - self.start_of(done) as u64).unwrap_or(u32::MAX);
        let seq = done.checked_sub(1).map_or(self.floor, |last| self.marks[last].seq);
        (Cursor { seq: seq.max(cursor.seq), sent }, done - before)
    }

    /// The number of its messages up to `seq`; none if `seq` has left the backlog.
    fn messages_up_to(&self, seq: u64) -> Option<usize> {
        // Most often none is left out: then the place of a message is its distance.
        let place = usize::try_from(seq.checked_sub(self.floor)?).unwrap_or(usize::MAX);
        match place.checked_sub(1).map(|last| self.marks.get(last)) {
            None => Some(0),
            Some(Some(mark)) if mark.seq == seq => Some(place),
            _ => Some(self.marks.partition_point(|mark| mark.seq <= seq)),
        }
    }

    /// Where the frame of this place starts in `bytes`.
    fn start_of(&self, place: usize) -> usize {
        place.checked_sub(1).map_or(self.start, |last| (self.marks[last].end - self.base) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(first_seq: u64, texts: &[&str]) -> Frames {
        let mut frames = Frames::starting_at(first_seq);
        for text in texts {
            frames.bytes.extend_from_slice(text.as_bytes());
            frames.mark(None, false);
        }
        frames
    }

    #[test]
    fn everything_behind_a_cursor_is_one_slice() {
        let mut backlog = Backlog::new(frames(1, &[]));
        assert_eq!((backlog.newest(), backlog.bytes_after(Cursor::after(0))), (0, Some(&b""[..])));
        backlog.append(&frames(1, &["one", "two"]));
        backlog.append(&frames(2, &["two", "three"]));
        assert_eq!(backlog.newest(), 3);
        assert_eq!(backlog.bytes_after(Cursor::after(0)), Some(&b"onetwothree"[..]));
        assert_eq!(backlog.bytes_after(Cursor { seq: 1, sent: 2 }), Some(&b"othree"[..]));
        assert_eq!(backlog.bytes_after(Cursor::after(3)), Some(&b""[..]));
        assert_eq!(backlog.bytes_after(Cursor::after(9)), Some(&b""[..]), "a cursor ahead waits");
    }

    #[test]
    fn a_cursor_advances_by_bytes_over_frames() {
        let backlog = Backlog::new(frames(5, &["aaa", "bb", "c"]));
        let start = Cursor::after(4);
        for (written, expected) in [
            (0, Cursor::after(4)),
            (1, Cursor { seq: 4, sent: 1 }),
            (3, Cursor::after(5)),
            (4, Cursor { seq: 5, sent: 1 }),
            (6, Cursor::after(7)),
        ] {
            assert_eq!(backlog.advance(start, written).0, expected, "{written} bytes");
        }
        assert_eq!(backlog.advance(Cursor { seq: 4, sent: 2 }, 2), (Cursor { seq: 5, sent: 1 }, 1));
    }

    #[test]
    fn what_is_trimmed_is_out_of_reach_and_the_newest_stays() {
        let mut backlog = Backlog::new(frames(1, &["aaaa", "bbbb", "cccc"]));
        backlog.trim(8);
        assert_eq!(backlog.bytes_after(Cursor::after(0)), None);
        assert_eq!(backlog.bytes_after(Cursor::after(1)), Some(&b"bbbbcccc"[..]));
        assert!(!backlog.reaches(0) && backlog.reaches(1));
        backlog.trim(0);
        assert_eq!((backlog.bytes(), backlog.newest()), (4, 3));
        backlog.append(&frames(4, &["dd"]));
        assert_eq!(backlog.bytes_after(Cursor::after(2)), Some(&b"ccccdd"[..]));
        assert_eq!(backlog.frame_after(3).map(|frame| frame.bytes), Some(&b"dd"[..]));
    }

    #[test]
    fn a_gap_is_never_handed_out() {
        let mut backlog = Backlog::new(frames(1, &["one", "two"]));
        backlog.append(&frames(5, &["five"]));
        assert_eq!((backlog.newest(), backlog.bytes()), (5, 4));
        assert_eq!(backlog.bytes_after(Cursor::after(2)), None, "read on from the log");
        assert_eq!(backlog.bytes_after(Cursor { seq: 1, sent: 1 }), None);
        assert_eq!(backlog.bytes_after(Cursor::after(4)), Some(&b"five"[..]));
        backlog.append(&frames(6, &["six"]));
        assert_eq!(backlog.bytes_after(Cursor::after(4)), Some(&b"fivesix"[..]));
    }

    #[test]
    fn messages_that_say_nothing_keep_the_memory_bounded_too() {
        let mut backlog = Backlog::new(frames(1, &["one"]));
        for seq in 2..=100_000 {
            backlog.append(&frames(seq, &[""]));
            backlog.trim(1000);
        }
        assert_eq!((backlog.newest(), backlog.bytes_after(Cursor::after(99_999))), (100_000, Some(&b""[..])));
        assert_eq!(backlog.bytes_after(Cursor::after(0)), None);
        assert!(backlog.memory() < 128 * 1024, "{} bytes", backlog.memory());
    }

    /// Messages of one run: of each its number and its text.
    fn row(after: u64, messages: &[(u64, &str)], up_to: u64) -> Row {
        let mut row = Row::after(after);
        for (seq, text) in messages {
            row.bytes.extend_from_slice(text.as_bytes());
            row.mark(*seq, false);
        }
        row.up_to = up_to;
        row
    }

    #[test]
    fn of_some_messages_alone_everything_behind_a_cursor_is_one_slice_too() {
        let mut backlog = Backlog::after(10);
        backlog.append_row(&row(10, &[(12, "aa"), (20, "bbb")], 25));
        assert_eq!(backlog.newest(), 25);
        for (seq, expected) in [(10, "aabbb"), (11, "aabbb"), (12, "bbb"), (19, "bbb"), (20, ""), (25, ""), (30, "")] {
            assert_eq!(backlog.bytes_after(Cursor::after(seq)), Some(expected.as_bytes()), "behind {seq}");
        }
        assert_eq!(backlog.bytes_after(Cursor::after(9)), None);
        for (from, written, expected) in [
            (10, 1, (Cursor { seq: 10, sent: 1 }, 0)),
            (11, 1, (Cursor { seq: 11, sent: 1 }, 0)),
            (11, 2, (Cursor::after(12), 1)),
            (11, 4, (Cursor { seq: 12, sent: 2 }, 1)),
            (15, 1, (Cursor { seq: 15, sent: 1 }, 0)),
            (15, 3, (Cursor::after(25), 1)),
        ] {
            assert_eq!(backlog.advance(Cursor::after(from), written), expected, "{written} bytes behind {from}");
        }
        assert_eq!(backlog.frame_after(13).map(|frame| (frame.seq, frame.bytes)), Some((20, &b"bbb"[..])));
        backlog.append_row(&row(15, &[(20, "bbb"), (26, "c")], 26));
        assert_eq!(backlog.bytes_after(Cursor::after(25)), Some(&b"c"[..]));
        backlog.trim(3);
        assert_eq!(
            (backlog.bytes_after(Cursor::after(19)), backlog.bytes_after(Cursor::after(20))),
            (None, Some(&b"c"[..]))
        );
        backlog.append_row(&row(40, &[(41, "d")], 41));
        assert_eq!(backlog.bytes_after(Cursor::after(26)), None, "read on from the log");
    }

    #[test]
    fn a_long_life_keeps_the_memory_bounded() {
        let mut backlog = Backlog::new(frames(1, &[]));
        for seq in 1..=10_000 {
            backlog.append(&frames(seq, &["0123456789"]));
            backlog.trim(1000);
        }
        assert_eq!((backlog.newest(), backlog.bytes()), (10_000, 1000));
        assert!(backlog.memory() < 16 * 1024, "{}", backlog.memory());
    }
}
