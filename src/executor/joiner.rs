//! Joins a step's live output into few messages: bounded in rate, size and memory, and never splitting a character.
//!
//! The output of a slow step is sent as it arrives. That of a fast one is joined per stream until [`REFILL`] has passed
//! or a chunk is full. A step may send a burst of [`BURST`] messages, and one more each [`REFILL`] after that. Beyond
//! that the oldest text of a stream is omitted, because readers want the newest. Streams take turns, the longest
//! waiting first. Pure: `now` is passed in.

use std::collections::VecDeque;
use std::time::Duration;

use crate::model::OutputStream;

/// The largest chunk, in bytes.
pub const CHUNK_BYTES_MAX: usize = 16 * 1024;

/// The room of a chunk, wherever its end would split a character.
const CHUNK_ROOM: usize = CHUNK_BYTES_MAX - (char::MAX_LEN_UTF8 - 1);

/// The messages that a step may send at once.
const BURST: u32 = 10;

/// How long until one more may be sent.
const REFILL: Duration = Duration::from_millis(100);

/// How many messages of the burst are reserved for the end of an attempt, for the rest of stdout and stderr.
const RESERVE: u32 = 2;

/// How long a stream's text may grow before its oldest part is dropped. Twice the chunk, so that dropping, which moves
/// all that stays, happens once a chunk and not once a piece.
const TEXT_BYTES_MAX: usize = 2 * CHUNK_BYTES_MAX;

/// One live message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// The item that said it, of a step that has any.
    pub item: Option<u32>,
    /// Where it came out.
    pub stream: OutputStream,
    /// At most [`CHUNK_BYTES_MAX`] bytes.
    pub text: String,
    /// Bytes of this stream left out just before it.
    pub omitted: Option<u64>,
}

/// The live output of one step, over all its attempts. The items of a step share its rate.
#[derive(Debug, Default)]
pub struct Joiner {
    /// Streams that have spoken, those with text to send in order of arrival.
    streams: VecDeque<Pending>,
    allowance: Allowance,
    /// When a chunk that is not full may go out.
    joined_until: Duration,
    /// Omitted bytes of items that have ended, not yet reported.
    lost: u64,
}

impl Joiner {
    /// Takes what came out; what can be said by now.
    pub fn push(&mut self, item: Option<u32>, stream: OutputStream, bytes: &[u8], now: Duration) -> Vec<Chunk> {
        let at = self.streams.iter().position(|pending| (pending.item, pending.stream) == (item, stream));
        let mut pending = match at.and_then(|at| self.streams.remove(at)) {
            Some(pending) => pending,
            None => Pending::new(item, stream),
        };
        let was_idle = pending.text.is_empty();
        let mut chunks = Vec::new();
        for piece in bytes.chunks(CHUNK_BYTES_MAX) {
            pending.push(piece);
            while pending.is_full() && self.allowance.take(RESERVE, now) {
                chunks.push(pending.take());
                self.joined_until = now + REFILL;
            }
            if pending.text.len() > TEXT_BYTES_MAX {
                pending.trim(CHUNK_BYTES_MAX);
            }
        }
        let place = if was_idle { self.streams.len() } else { at.unwrap_or(self.streams.len()) };
        self.streams.insert(place, pending);
        chunks.append(&mut self.poll(now));
        chunks
    }

    /// When [`poll`](Self::poll) has something to give, on the clock that it is passed.
    pub fn due(&self) -> Option<Duration> {
        let free_at = self.allowance.free_at(RESERVE);
        if self.streams.iter().any(Pending::is_full) {
            return Some(free_at);
        }
        self.streams.iter().any(Pending::speaks).then(|| free_at.max(self.joined_until))
    }

    /// The chunks that can be sent now.
    pub fn poll(&mut self, now: Duration) -> Vec<Chunk> {
        let mut chunks = Vec::new();
        while let Some(at) = self.ready(now)
            && self.allowance.take(RESERVE, now)
            && let Some(mut pending) = self.streams.remove(at)
        {
            chunks.push(pending.take());
            self.streams.push_back(pending);
            self.joined_until = now + REFILL;
        }
        chunks
    }

    fn ready(&self, now: Duration) -> Option<usize> {
        let is_joined = self.joined_until <= now;
        self.streams.iter().position(|pending| pending.is_full() || (is_joined && pending.speaks()))
    }

    /// All that pends of one item, or of a step that has none, because the attempt has ended, with the reserve. Where even that is used up (attempts that fail
    /// fast, one after another) the oldest of each stream counts as left out.
    pub fn finish(&mut self, item: Option<u32>, now: Duration) -> Vec<Chunk> {
        let streams = std::mem::take(&mut self.streams).into_iter();
        let (mut own, others): (VecDeque<_>, VecDeque<_>) = streams.partition(|pending| pending.item == item);
        self.streams = others;
        let chunks = self.close(&mut own, now);
        match item {
            // Its next attempt, if any, begins again.
            Some(_) => self.lost += own.iter().map(|pending| pending.omitted).sum::<u64>(),
            None => self.streams.append(&mut own),
        }
        chunks
    }

    fn close(&mut self, streams: &mut VecDeque<Pending>, now: Duration) -> Vec<Chunk> {
        streams.iter_mut().for_each(Pending::close);
        let wanted: Vec<usize> = streams.iter().map(|pending| pending.text.len().div_ceil(CHUNK_ROOM)).collect();
        let mut granted = vec![0; wanted.len()];
        for round in 0..wanted.iter().copied().max().unwrap_or(0) {
            for (stream, wanted) in wanted.iter().enumerate() {
                if round < *wanted && self.allowance.take(0, now) {
                    granted[stream] += 1;
                }
            }
        }
        let mut chunks = Vec::new();
        for ((pending, wanted), granted) in streams.iter_mut().zip(wanted).zip(granted) {
            if granted < wanted {
                pending.trim(granted * CHUNK_ROOM);
            }
            while pending.speaks() {
                chunks.push(pending.take());
            }
        }
        chunks
    }

    /// The omitted bytes that no chunk has reported; the caller reports them.
    pub fn take_omitted(&mut self) -> Option<u64> {
        let pending: u64 = self.streams.iter_mut().map(|pending| std::mem::take(&mut pending.omitted)).sum();
        let omitted = pending + std::mem::take(&mut self.lost);
        (omitted > 0).then_some(omitted)
    }
}

/// How many messages a step may send: a bucket that holds [`BURST`] of them and is filled again at one each [`REFILL`].
#[derive(Debug, Default)]
struct Allowance {
    /// When it is full again.
    full_at: Duration,
}

impl Allowance {
    /// When it holds one more than `reserve`.
    fn free_at(&self, reserve: u32) -> Duration {
        self.full_at.saturating_sub(REFILL * (BURST - 1 - reserve))
    }

    /// Takes one, where it holds more than `reserve`.
    fn take(&mut self, reserve: u32, now: Duration) -> bool {
        let is_free = self.free_at(reserve) <= now;
        if is_free {
            self.full_at = self.full_at.max(now) + REFILL;
        }
        is_free
    }
}

/// One stream's text that has not gone out.
#[derive(Debug)]
struct Pending {
    item: Option<u32>,
    stream: OutputStream,
    text: String,
    /// The beginning of a character whose end has not come yet; at most 3 bytes.
    partial: Vec<u8>,
    omitted: u64,
}

impl Pending {
    fn new(item: Option<u32>, stream: OutputStream) -> Self {
        Self { item, stream, text: String::new(), partial: Vec::new(), omitted: 0 }
    }

    fn speaks(&self) -> bool {
        !self.text.is_empty()
    }

    fn is_full(&self) -> bool {
        self.text.len() >= CHUNK_BYTES_MAX
    }

    fn push(&mut self, bytes: &[u8]) {
        let joined;
        let bytes = if self.partial.is_empty() {
            bytes
        } else {
            joined = [std::mem::take(&mut self.partial).as_slice(), bytes].concat();
            joined.as_slice()
        };
        self.decode(bytes);
    }

    fn decode(&mut self, bytes: &[u8]) {
        let mut chunks = bytes.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            self.text.push_str(chunk.valid());
            let invalid = chunk.invalid();
            if chunks.peek().is_none() && is_beginning(invalid) {
                self.partial = invalid.to_vec();
            } else if !invalid.is_empty() {
                self.text.push(char::REPLACEMENT_CHARACTER);
            }
        }
    }

    /// Closes the text that was held back, which never got its end.
    fn close(&mut self) {
        if !std::mem::take(&mut self.partial).is_empty() {
            self.text.push(char::REPLACEMENT_CHARACTER);
        }
    }

    /// The oldest of it, as much as one chunk holds.
    fn take(&mut self) -> Chunk {
        let end = self.text.floor_char_boundary(CHUNK_BYTES_MAX);
        let rest = self.text.split_off(end);
        let omitted = std::mem::take(&mut self.omitted);
        let text = std::mem::replace(&mut self.text, rest);
        Chunk { item: self.item, stream: self.stream, text, omitted: (omitted > 0).then_some(omitted) }
    }

    /// Leaves out the oldest part, so that at most `max` bytes stay.
    fn trim(&mut self, max: usize) {
        let excess = self.text.len().saturating_sub(max);
        let cut = self.text.ceil_char_boundary(excess);
        self.text.drain(..cut);
        self.omitted += cut as u64;
    }
}

/// Could more bytes make a character of this?
fn is_beginning(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use OutputStream::{Stderr, Stdout};

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn chunk(stream: OutputStream, text: &str) -> Chunk {
        Chunk { item: None, stream, text: text.to_owned(), omitted: None }
    }

    /// Uses the burst up, so that only what is refilled is left.
    fn spent(now: Duration) -> Joiner {
        let mut joiner = Joiner::default();
        let full = "x".repeat(CHUNK_BYTES_MAX);
        for _ in 0..BURST - RESERVE {
            assert_eq!(joiner.push(None, Stdout, full.as_bytes(), now), [chunk(Stdout, &full)]);
        }
        assert_eq!((joiner.poll(now), joiner.due()), (Vec::new(), None), "nothing is left");
        joiner
    }

    #[test]
    fn a_piece_goes_out_at_once_and_so_does_all_that_is_slow() {
        let mut joiner = spent(at(0));
        for second in 1..5 {
            assert_eq!(joiner.push(None, Stdout, b"tick\n", at(1000 * second)), [chunk(Stdout, "tick\n")]);
            assert_eq!(joiner.due(), None);
        }
    }

    #[test]
    fn fast_pieces_are_joined_until_the_next_may_go() {
        let mut joiner = Joiner::default();
        assert_eq!(joiner.push(None, Stdout, b"a", at(0)), [chunk(Stdout, "a")]);
        assert_eq!(joiner.push(None, Stdout, b"b", at(1)), []);
        assert_eq!(joiner.push(None, Stdout, b"c", at(10)), []);
        assert_eq!((joiner.due(), joiner.poll(at(99))), (Some(at(100)), Vec::new()));
        assert_eq!(joiner.poll(at(100)), [chunk(Stdout, "bc")]);
    }

    #[test]
    fn streams_are_kept_apart_in_order_of_arrival() {
        let mut joiner = spent(at(0));
        for (stream, text) in [(Stderr, "e1"), (Stdout, "o1"), (Stderr, "e2"), (Stdout, "o2")] {
            assert_eq!(joiner.push(None, stream, text.as_bytes(), at(0)), []);
        }
        assert_eq!(joiner.poll(at(100)), [chunk(Stderr, "e1e2")]);
        assert_eq!(joiner.push(None, Stderr, b"e3", at(101)), []);
        assert_eq!(joiner.poll(at(200)), [chunk(Stdout, "o1o2")], "it has waited longer");
        assert_eq!(joiner.poll(at(300)), [chunk(Stderr, "e3")]);
    }

    #[test]
    fn ten_messages_at_once_and_ten_a_second_attempts_that_fail_fast_included() {
        let mut joiner = Joiner::default();
        let (mut sent, mut bytes) = (Vec::new(), 0);
        for ms in 0..5000 {
            let mut chunks = joiner.push(None, if ms % 2 == 0 { Stdout } else { Stderr }, b"x", at(ms));
            chunks.append(&mut joiner.poll(at(ms)));
            if ms % 37 == 0 {
                chunks.append(&mut joiner.finish(None, at(ms)));
                bytes += joiner.take_omitted().unwrap_or(0);
            }
            for chunk in chunks {
                sent.push(ms);
                bytes += chunk.text.len() as u64 + chunk.omitted.unwrap_or(0);
            }
        }
        for (n, first) in sent.iter().enumerate() {
            let allowed = |last: u64| u64::from(BURST) + (last - first) / 100;
            assert!((1..).zip(&sent[n..]).all(|(count, &last)| count <= allowed(last)), "{sent:?}");
        }
        assert!((50..=60).contains(&sent.len()), "it uses what it may: {sent:?}");
        assert!((4900..=5000).contains(&bytes), "what is left out is counted: {bytes}");
    }

    #[test]
    fn a_burst_that_the_allowance_holds_was_cut() {
        let text: String = (0..8000).map(|n| format!("line {n}\n")).collect();
        for size in [54 * 1024, 8 * CHUNK_BYTES_MAX, 9 * CHUNK_BYTES_MAX] {
            let text = &text.repeat(2)[..size];
            for piece in [7, 1000, 4096, 16 * 1024, size] {
                let mut joiner = Joiner::default();
                let pieces = text.as_bytes().chunks(piece);
                let mut chunks: Vec<Chunk> = pieces.flat_map(|piece| joiner.push(None, Stdout, piece, at(0))).collect();
                chunks.append(&mut joiner.finish(None, at(1)));
                assert!(chunks.iter().all(|chunk| chunk.omitted.is_none() && chunk.text.len() <= CHUNK_BYTES_MAX));
                assert_eq!(chunks.iter().map(|chunk| chunk.text.as_str()).collect::<String>(), text);
                assert_eq!(joiner.take_omitted(), None);
                assert!(chunks.len() <= BURST as usize, "{} of {size} bytes in {piece}", chunks.len());
            }
        }
    }

    #[test]
    fn what_is_too_much_is_counted_and_the_newest_kept() {
        for size in [TEXT_BYTES_MAX + 1, 10 * TEXT_BYTES_MAX] {
            let mut joiner = spent(at(0));
            let text = "x".repeat(size - 3) + "end";
            for piece in text.as_bytes().chunks(1000) {
                assert_eq!(joiner.push(None, Stdout, piece, at(0)), []);
                let held: usize = joiner.streams.iter().map(|pending| pending.text.len()).sum();
                assert!(held <= TEXT_BYTES_MAX, "bounded memory");
            }
            let chunks = joiner.finish(None, at(0));
            let shown: usize = chunks.iter().map(|chunk| chunk.text.len()).sum();
            assert!(chunks.last().is_some_and(|chunk| chunk.text.ends_with("end")));
            assert!(shown >= CHUNK_BYTES_MAX && chunks.len() <= RESERVE as usize);
            assert_eq!(chunks[0].omitted, Some((size - shown) as u64));
        }
    }

    #[test]
    fn what_was_left_out_at_the_end_of_a_step_was_never_told() {
        let mut joiner = spent(at(0));
        joiner.push(None, Stdout, b"first", at(0));
        joiner.push(None, Stderr, b"trouble", at(0));
        assert_eq!(joiner.finish(None, at(0)), [chunk(Stdout, "first"), chunk(Stderr, "trouble")]);
        joiner.push(None, Stdout, b"second", at(1));
        assert_eq!(
            (joiner.finish(None, at(2)), joiner.take_omitted(), joiner.take_omitted()),
            (Vec::new(), Some(6), None)
        );
    }

    #[test]
    fn at_the_end_no_stream_takes_anothers_place() {
        let mut joiner = spent(at(0));
        joiner.push(None, Stdout, "o".repeat(TEXT_BYTES_MAX).as_bytes(), at(0));
        joiner.push(None, Stderr, b"fatal", at(0));
        let chunks = joiner.finish(None, at(0));
        assert_eq!(chunks.len(), 2);
        assert_eq!((chunks[0].text.len(), chunks[0].omitted), (CHUNK_ROOM, Some((TEXT_BYTES_MAX - CHUNK_ROOM) as u64)));
        assert_eq!(chunks[1], chunk(Stderr, "fatal"));
    }

    #[test]
    fn any_split_of_the_bytes_gives_the_same_text() {
        let bytes = "aé€😀z".as_bytes();
        let invalid = [b"a\xff".as_slice(), "é".as_bytes(), b"\xe2\x82", b"b\xf0\x9f\x98"].concat();
        let table = [("whole characters", bytes, "aé€😀z"), ("invalid bytes", &invalid, "a\u{fffd}é\u{fffd}b\u{fffd}")];
        for (name, bytes, text) in table {
            for first in 0..=bytes.len() {
                for second in first..=bytes.len() {
                    let mut joiner = spent(at(0));
                    for piece in [&bytes[..first], &bytes[first..second], &bytes[second..]] {
                        assert_eq!(joiner.push(None, Stdout, piece, at(0)), []);
                    }
                    assert_eq!(
                        joiner.finish(None, at(0)),
                        [chunk(Stdout, text)],
                        "{name}, split at {first} and {second}"
                    );
                }
            }
        }
    }

    #[test]
    fn chunks_begin_and_end_with_whole_characters() {
        let mut joiner = Joiner::default();
        let text = "€".repeat(CHUNK_BYTES_MAX);
        let mut chunks = joiner.push(None, Stdout, text.as_bytes(), at(0));
        chunks.append(&mut joiner.finish(None, at(0)));
        assert!(chunks.iter().all(|chunk| chunk.text.chars().all(|c| c == '€') && chunk.text.len() <= CHUNK_BYTES_MAX));
        assert_eq!(chunks.iter().map(|chunk| chunk.text.as_str()).collect::<String>(), text);
    }

    #[test]
    fn items_share_what_their_step_may_say_and_each_ends_by_itself() {
        let mut joiner = Joiner::default();
        let said = |item: u32, text: &str| Chunk { item: Some(item), ..chunk(Stdout, text) };
        assert_eq!(joiner.push(Some(1), Stdout, b"a", at(0)), [said(1, "a")]);
        assert_eq!(joiner.push(Some(2), Stdout, b"b", at(1)), []);
        assert_eq!(joiner.push(Some(1), Stdout, b"c", at(1)), []);
        assert_eq!(joiner.finish(Some(1), at(2)), [said(1, "c")], "the other goes on");
        assert_eq!(joiner.poll(at(100)), [said(2, "b")]);
        let mut spent = spent(at(0));
        for item in 0..5 {
            assert_eq!(spent.push(Some(item), Stdout, b"12345", at(0)), []);
            let chunks = spent.finish(Some(item), at(0));
            assert_eq!(chunks.len(), usize::from(item < RESERVE), "the reserve is the step's");
        }
        assert_eq!((spent.take_omitted(), spent.streams.len()), (Some(15), 1), "what was left out is told once");
    }
}
