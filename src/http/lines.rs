//! Finds lines that end in CRLF in a growing input without scanning a byte twice.

use std::ops::Range;

use memchr::memchr;

/// The position up to which lines of an input have been found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Lines {
    start: usize,
    scanned: usize,
}

/// A line ended with LF instead of CRLF. RFC 9112 allows servers to accept that, but a server that does and one that
/// does not disagree about the end of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BareLineFeed;

impl Lines {
    /// Lines from the offset `at`.
    pub(super) fn starting_at(at: usize) -> Self {
        Self { start: at, scanned: at }
    }

    /// The start of the first incomplete line.
    pub(super) fn start(&self) -> usize {
        self.start
    }

    /// The next line, without its CRLF; `None` while `input`, which only ever grows, does not hold its end.
    pub(super) fn next(&mut self, input: &[u8]) -> Result<Option<Range<usize>>, BareLineFeed> {
        let unseen = input.get(self.scanned..).unwrap_or_default();
        let Some(distance) = memchr(b'\n', unseen) else {
            self.scanned = self.scanned.max(input.len());
            return Ok(None);
        };
        let line_feed = self.scanned + distance;
        if line_feed == self.start || input[line_feed - 1] != b'\r' {
            return Err(BareLineFeed);
        }
        let line = self.start..line_feed - 1;
        *self = Self::starting_at(line_feed + 1);
        Ok(Some(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found_as_they_come() {
        let input = b"ab\r\n\r\nc\r\r\nd";
        let mut lines = Lines::default();
        let mut found = Vec::new();
        for end in 0..=input.len() {
            while let Some(line) = lines.next(&input[..end]).expect("no bare LF") {
                found.push(&input[line]);
            }
        }
        assert_eq!(found, [&b"ab"[..], b"", b"c\r"]);
        assert_eq!(lines.start(), 10);
    }

    #[test]
    fn a_bare_line_feed_is_an_error_even_after_the_cr_of_another_line() {
        for bad in [&b"\n"[..], b"a\n", b"a\r\n\n", b"a\r \n"] {
            let mut lines = Lines::default();
            let end = std::iter::from_fn(|| lines.next(bad).transpose()).find(Result::is_err);
            assert_eq!(end, Some(Err(BareLineFeed)), "{bad:?}");
        }
    }
}
