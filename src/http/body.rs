//! The content of an answer: a source that is taken piece by piece, as far as the client takes it.
//!
//! Nothing of it is copied on the way: whoever writes it is shown the bytes that come next, and says how many of them
//! have gone. How many there are in all is known before the first.

use std::collections::VecDeque;
use std::sync::Arc;

/// The content of an answer, handed out as it is taken; see the top of this file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    source: Source,
    /// The number of bytes that have not been taken.
    left: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    /// Part of the program.
    Static(&'static [u8]),
    /// Made for this answer; from this byte on it is left.
    Owned(Vec<u8>, usize),
    /// Held by others too.
    Shared(Arc<[u8]>, usize),
    /// Held elsewhere: what has come of it so far. Of the first piece it is left from this byte on.
    Pulled(VecDeque<Vec<u8>>, usize),
}

/// The next part of a [`Body`].
#[derive(Debug, PartialEq, Eq)]
pub enum Next<'b> {
    /// These bytes, none only where at most none were asked for.
    Bytes(&'b [u8]),
    /// Bytes that have not been [given](Body::give) yet.
    Awaited,
    /// Nothing: all of it has been taken.
    End,
}

impl Body {
    fn new(source: Source, bytes: usize) -> Self {
        Self { source, left: bytes as u64 }
    }

    /// `bytes` bytes that are held elsewhere, and [given](Self::give) in order.
    pub fn pulled(bytes: u64) -> Self {
        Self { source: Source::Pulled(VecDeque::new(), 0), left: bytes }
    }

    /// The number of bytes that have not been taken.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// As [`left`](Self::left), as memory counts.
    pub fn len(&self) -> usize {
        usize::try_from(self.left).unwrap_or(usize::MAX)
    }

    /// Whether all of it has been taken.
    pub fn is_empty(&self) -> bool {
        self.left == 0
    }

    /// The bytes that come next, at most `max`. They come again until they are [said to be taken](Self::took).
    pub fn next(&self, max: usize) -> Next<'_> {
        if self.left == 0 {
            return Next::End;
        }
        let most = self.len().min(max);
        let bytes = match &self.source {
            Source::Static(bytes) => *bytes,
            Source::Owned(bytes, from) => &bytes[*from..],
            Source::Shared(bytes, from) => &bytes[*from..],
            Source::Pulled(pieces, from) => match pieces.front() {
                Some(piece) => &piece[*from..],
                None => return Next::Awaited,
            },
        };
        Next::Bytes(&bytes[..most.min(bytes.len())])
    }

    /// The first `n` bytes that [`next`](Self::next) gave have gone.
    pub fn took(&mut self, n: usize) {
        debug_assert!(n <= self.len(), "more was taken than there is");
        self.left -= n as u64;
        match &mut self.source {
            Source::Static(bytes) => *bytes = &bytes[n..],
            Source::Owned(_, from) | Source::Shared(_, from) => *from += n,
            Source::Pulled(pieces, from) => {
                *from += n;
                if pieces.front().is_some_and(|piece| *from >= piece.len()) {
                    pieces.pop_front();
                    *from = 0;
                }
            }
        }
    }

    /// The next bytes have come. `false` if there are none, or more than promised, or none were requested: then the
    /// promised length can't be kept.
    #[must_use]
    pub fn give(&mut self, piece: Vec<u8>) -> bool {
        let is_kept = !piece.is_empty() && piece.len() as u64 <= self.lacking();
        if let (true, Source::Pulled(pieces, _)) = (is_kept, &mut self.source) {
            pieces.push_back(piece);
        }
        is_kept
    }

    /// Bytes that are still to be [given](Self::give).
    pub fn lacking(&self) -> u64 {
        match &self.source {
            Source::Pulled(_, from) => self.left - (self.held() - from) as u64,
            Source::Static(_) | Source::Owned(..) | Source::Shared(..) => 0,
        }
    }

    /// Bytes of memory that it keeps from being freed: all of a piece until its last byte has gone.
    pub fn held(&self) -> usize {
        match &self.source {
            Source::Static(_) => 0,
            Source::Owned(bytes, _) => bytes.len(),
            Source::Shared(bytes, _) => bytes.len(),
            Source::Pulled(pieces, _) => pieces.iter().map(Vec::len).sum(),
        }
    }
}

impl From<&'static [u8]> for Body {
    fn from(bytes: &'static [u8]) -> Self {
        Self::new(Source::Static(bytes), bytes.len())
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        text.as_bytes().into()
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        let length = bytes.len();
        Self::new(Source::Owned(bytes, 0), length)
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        text.into_bytes().into()
    }
}

impl From<Arc<[u8]>> for Body {
    fn from(bytes: Arc<[u8]>) -> Self {
        let length = bytes.len();
        Self::new(Source::Shared(bytes, 0), length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All that comes, at most `max` bytes at a time, of which every other time one alone is taken.
    fn drained(mut body: Body, max: usize) -> Vec<u8> {
        let (mut all, mut turn) = (Vec::new(), 0);
        while let Next::Bytes(bytes) = body.next(max) {
            assert!((1..=max).contains(&bytes.len()));
            turn += 1;
            let n = if turn % 2 == 0 { 1 } else { bytes.len() };
            all.extend_from_slice(&bytes[..n]);
            body.took(n);
        }
        assert!(body.is_empty() && body.next(max) == Next::End);
        all
    }

    fn pulled(pieces: &[&str]) -> Body {
        let mut body = Body::pulled(pieces.iter().map(|piece| piece.len() as u64).sum());
        pieces.iter().for_each(|piece| assert!(body.give(piece.as_bytes().to_vec())));
        body
    }

    #[test]
    fn whatever_holds_the_bytes_they_come_in_order_and_once() {
        for max in [1, 2, 3, 100] {
            for body in [
                Body::from("0123456789"),
                Body::from("0123456789".to_owned()),
                Body::from(Arc::<[u8]>::from(b"0123456789".as_slice())),
                pulled(&["0123", "4", "56789"]),
            ] {
                assert_eq!(body.left(), 10);
                assert_eq!(drained(body, max), b"0123456789");
            }
        }
        assert_eq!(Body::from("").next(1), Next::End);
    }

    #[test]
    fn what_is_held_elsewhere_is_awaited_and_no_more_is_given_than_was_promised() {
        let mut body = Body::pulled(5);
        assert_eq!((body.next(9), body.held(), body.lacking()), (Next::Awaited, 0, 5));
        assert!(body.give(b"abc".to_vec()) && !body.give(b"def".to_vec()) && !body.give(Vec::new()));
        body.took(2);
        assert_eq!((body.next(9), body.held(), body.lacking()), (Next::Bytes(b"c"), 3, 2));
        body.took(1);
        assert_eq!((body.next(9), body.held(), body.left()), (Next::Awaited, 0, 2));
        assert!(body.give(b"de".to_vec()) && !Body::from("abc").give(b"d".to_vec()));
        assert_eq!(drained(body, 9), b"de");
    }
}
