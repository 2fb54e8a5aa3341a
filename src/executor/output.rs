//! Joins a step's live output into few messages: bounded in rate, in size and in memory, whole characters always.
//!
//! A slow step's output goes out as it comes. A fast one's is joined per stream, and a stream's oldest text is left out
//! where a message can't hold it all: who follows a tail wants the newest. The streams take turns, longest waiting
//! first. Pure: `now` is passed in.

use std::collections::VecDeque;
use std::time::Duration;

use crate::model::OutputStream;

/// The largest chunk, in bytes.
pub const CHUNK_BYTES_MAX: usize = 16 * 1024;

/// The most messages of a step in any [`RATE_WINDOW`].
const MESSAGES_MAX: usize = 10;

/// See [`MESSAGES_MAX`].
const RATE_WINDOW: Duration = Duration::from_secs(1);

/// The pace while a step runs: 8 a second, so that 2 of the 10 are left for what pends on stdout and stderr when it
/// ends.
const PACE: Duration = Duration::from_millis(125);

/// How long a stream's text may grow before its oldest part is dropped. Twice the chunk, so that dropping, which moves
/// all that stays, happens once a chunk and not once a piece.
const TEXT_BYTES_MAX: usize = 2 * CHUNK_BYTES_MAX;

/// One live message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Where it came out.
    pub stream: OutputStream,
    /// At most [`CHUNK_BYTES_MAX`] bytes.
    pub text: String,
    /// Bytes of this stream left out just before it.
    pub omitted: Option<u64>,
}

/// The live output of one step, over all its attempts.
#[derive(Debug, Default)]
pub struct Joiner {
    /// Streams that have spoken, those with text to send in order of arrival.
    streams: VecDeque<Pending>,
    /// When the newest messages went out, at most [`MESSAGES_MAX`].
    sent: VecDeque<Duration>,
}

impl Joiner {
    /// Takes what came out.
    pub fn push(&mut self, stream: OutputStream, bytes: &[u8]) {
        let at = self.streams.iter().position(|pending| pending.stream == stream);
        let mut pending = match at.and_then(|at| self.streams.remove(at)) {
            Some(pending) => pending,
            None => Pending::new(stream),
        };
        let was_idle = pending.text.is_empty();
        pending.push(bytes);
        let place = if was_idle { self.streams.len() } else { at.unwrap_or(self.streams.len()) };
        self.streams.insert(place, pending);
    }

    /// When [`poll`](Self::poll) has something to give, on the clock that it is passed.
    pub fn due(&self) -> Option<Duration> {
        self.streams.iter().any(Pending::speaks).then(|| self.free_at(PACE))
    }

    /// The next message, where there is one and its time has come.
    pub fn poll(&mut self, now: Duration) -> Option<Chunk> {
        if now < self.free_at(PACE) {
            return None;
        }
        let at = self.streams.iter().position(Pending::speaks)?;
        let mut pending = self.streams.remove(at)?;
        let chunk = pending.take();
        self.streams.push_back(pending);
        self.note_sent(now);
        Some(chunk)
    }

    /// All that pends, because the attempt has ended: one message a stream, ahead of the pace. Where even the second's
    /// allowance is used up (attempts that fail fast, one after another) the text counts as left out instead.
    pub fn finish(&mut self, now: Duration) -> Vec<Chunk> {
        let mut chunks = Vec::new();
        for at in 0..self.streams.len() {
            self.streams[at].close();
            if !self.streams[at].speaks() {
                continue;
            }
            if now >= self.free_at(Duration::ZERO) {
                chunks.push(self.streams[at].take());
                self.note_sent(now);
            } else {
                self.streams[at].omit_all();
            }
        }
        chunks
    }

    /// The earliest moment of the next message, `pace` after the last one and within the rate.
    fn free_at(&self, pace: Duration) -> Duration {
        let Some(&last) = self.sent.back() else { return Duration::ZERO };
        let oldest = if self.sent.len() < MESSAGES_MAX { None } else { self.sent.front() };
        oldest.map_or(Duration::ZERO, |&oldest| oldest + RATE_WINDOW).max(last + pace)
    }

    fn note_sent(&mut self, now: Duration) {
        if self.sent.len() == MESSAGES_MAX {
            self.sent.pop_front();
        }
        self.sent.push_back(now);
    }
}

/// One stream's text that has not gone out.
#[derive(Debug)]
struct Pending {
    stream: OutputStream,
    text: String,
    /// The beginning of a character whose end has not come yet; at most 3 bytes.
    partial: Vec<u8>,
    omitted: u64,
}

impl Pending {
    fn new(stream: OutputStream) -> Self {
        Self { stream, text: String::new(), partial: Vec::new(), omitted: 0 }
    }

    fn speaks(&self) -> bool {
        !self.text.is_empty()
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
            if self.text.len() > TEXT_BYTES_MAX {
                self.trim();
            }
        }
    }

    /// What was held back never got its end.
    fn close(&mut self) {
        if !std::mem::take(&mut self.partial).is_empty() {
            self.text.push(char::REPLACEMENT_CHARACTER);
        }
    }

    fn take(&mut self) -> Chunk {
        self.trim();
        let omitted = std::mem::take(&mut self.omitted);
        Chunk { stream: self.stream, text: std::mem::take(&mut self.text), omitted: (omitted > 0).then_some(omitted) }
    }

    /// Leaves out the oldest part, so that the rest fits one chunk.
    fn trim(&mut self) {
        let excess = self.text.len().saturating_sub(CHUNK_BYTES_MAX);
        let cut = self.text.ceil_char_boundary(excess);
        self.text.drain(..cut);
        self.omitted += cut as u64;
    }

    fn omit_all(&mut self) {
        self.omitted += self.text.len() as u64;
        self.text.clear();
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
        Chunk { stream, text: text.to_owned(), omitted: None }
    }

    #[test]
    fn the_first_piece_goes_out_at_once_and_so_does_all_that_is_slow() {
        let mut joiner = Joiner::default();
        for second in 0..5 {
            joiner.push(Stdout, b"tick\n");
            assert_eq!(joiner.poll(at(1000 * second)), Some(chunk(Stdout, "tick\n")));
            assert_eq!((joiner.poll(at(1000 * second)), joiner.due()), (None, None), "nothing is left");
        }
    }

    #[test]
    fn fast_pieces_are_joined_until_the_next_may_go() {
        let mut joiner = Joiner::default();
        joiner.push(Stdout, b"a");
        assert_eq!(joiner.poll(at(0)), Some(chunk(Stdout, "a")));
        joiner.push(Stdout, b"b");
        joiner.push(Stdout, b"c");
        assert_eq!(joiner.poll(at(10)), None);
        assert_eq!(joiner.due(), Some(at(125)));
        assert_eq!(joiner.poll(at(125)), Some(chunk(Stdout, "bc")));
    }

    #[test]
    fn streams_are_kept_apart_in_order_of_arrival() {
        let mut joiner = Joiner::default();
        for (stream, text) in [(Stderr, "e1"), (Stdout, "o1"), (Stderr, "e2"), (Stdout, "o2")] {
            joiner.push(stream, text.as_bytes());
        }
        assert_eq!(joiner.poll(at(0)), Some(chunk(Stderr, "e1e2")));
        joiner.push(Stderr, b"e3");
        assert_eq!(joiner.poll(at(125)), Some(chunk(Stdout, "o1o2")), "it has waited longer");
        assert_eq!(joiner.poll(at(250)), Some(chunk(Stderr, "e3")));
    }

    #[test]
    fn at_most_ten_messages_in_any_second_attempts_that_fail_fast_included() {
        let mut joiner = Joiner::default();
        let (mut sent, mut bytes) = (Vec::new(), 0);
        for ms in 0..5000 {
            joiner.push(if ms % 2 == 0 { Stdout } else { Stderr }, b"x");
            let chunks: Vec<_> = joiner.poll(at(ms)).into_iter().collect();
            let chunks = chunks.into_iter().chain(if ms % 37 == 0 { joiner.finish(at(ms)) } else { Vec::new() });
            for chunk in chunks {
                sent.push(ms);
                bytes += chunk.text.len() as u64 + chunk.omitted.unwrap_or(0);
            }
        }
        assert!(sent.windows(11).all(|window| window[10] - window[0] >= 1000), "{sent:?}");
        assert!((4000..=5000).contains(&bytes), "what is left out is counted: {bytes}");
    }

    #[test]
    fn what_is_too_much_for_a_message_is_counted_and_the_newest_kept() {
        for size in [CHUNK_BYTES_MAX + 1, TEXT_BYTES_MAX, TEXT_BYTES_MAX + 1, 10 * TEXT_BYTES_MAX] {
            let mut joiner = Joiner::default();
            let text = "x".repeat(size - 3) + "end";
            for piece in text.as_bytes().chunks(1000) {
                joiner.push(Stdout, piece);
                let held: usize = joiner.streams.iter().map(|pending| pending.text.len()).sum();
                assert!(held <= TEXT_BYTES_MAX, "bounded memory");
            }
            let sent = joiner.poll(at(0)).expect("a chunk");
            assert_eq!(sent.text.len(), CHUNK_BYTES_MAX);
            assert!(sent.text.ends_with("end"));
            assert_eq!(sent.omitted, Some((size - CHUNK_BYTES_MAX) as u64));
        }
    }

    #[test]
    fn any_split_of_the_bytes_gives_the_same_text() {
        let bytes = "aé€😀z".as_bytes();
        let invalid = [b"a\xff".as_slice(), "é".as_bytes(), b"\xe2\x82", b"b\xf0\x9f\x98"].concat();
        let table = [("whole characters", bytes, "aé€😀z"), ("invalid bytes", &invalid, "a\u{fffd}é\u{fffd}b\u{fffd}")];
        for (name, bytes, text) in table {
            for first in 0..=bytes.len() {
                for second in first..=bytes.len() {
                    let mut joiner = Joiner::default();
                    for piece in [&bytes[..first], &bytes[first..second], &bytes[second..]] {
                        joiner.push(Stdout, piece);
                    }
                    assert_eq!(joiner.finish(at(0)), [chunk(Stdout, text)], "{name}, split at {first} and {second}");
                }
            }
        }
    }

    #[test]
    fn a_trimmed_chunk_begins_with_a_whole_character() {
        let mut joiner = Joiner::default();
        joiner.push(Stdout, "€".repeat(CHUNK_BYTES_MAX / 3 + 1).as_bytes());
        let sent = joiner.poll(at(0)).expect("a chunk");
        assert_eq!((sent.text.len() % 3, sent.omitted), (0, Some(3)));
    }

    #[test]
    fn the_end_of_an_attempt_flushes_every_stream() {
        let mut joiner = Joiner::default();
        joiner.push(Stdout, b"first");
        assert!(joiner.poll(at(0)).is_some());
        joiner.push(Stdout, b"second");
        joiner.push(Stderr, b"trouble");
        assert_eq!(joiner.finish(at(1)), [chunk(Stdout, "second"), chunk(Stderr, "trouble")]);
        assert_eq!((joiner.finish(at(2)), joiner.due()), (Vec::new(), None));
    }
}
