//! A body that is being sent: a source after the head of a response, written in bounded pieces.

use std::io::ErrorKind;

use crate::api::OUTPUT_PIECE_BYTES;
use crate::http::{Body, Next};
use crate::log::Rest;
use crate::server::socket::Socket;

/// The result of writing to a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flushed {
    /// Everything was written.
    All,
    /// The socket is full; the poll reports when it has room.
    Full,
    /// The limit of one write was reached; there is more, without another event.
    More,
    /// The next bytes have not arrived yet.
    Awaits,
    /// The other side is gone.
    Gone,
}

/// The body of a response that is being sent.
#[derive(Debug)]
pub(super) struct Sending {
    /// The rest of the response.
    body: Body,
    /// The part that the log still holds, unless it was already requested.
    rest: Option<Box<Rest>>,
    /// Whether the connection closes after it.
    pub(super) is_last: bool,
    /// Whether it is in the list of connections with more to write.
    pub(super) is_queued: bool,
}

impl Sending {
    pub(super) fn new(body: Body, rest: Option<Box<Rest>>, is_last: bool) -> Self {
        Self { body, rest, is_last, is_queued: false }
    }

    /// The bytes of it in memory.
    pub(super) fn held(&self) -> usize {
        self.body.held()
    }

    /// The next request to the log: one piece is fetched while the one before it is written.
    pub(super) fn next_to_fetch(&mut self) -> Option<Box<Rest>> {
        if self.body.held() > OUTPUT_PIECE_BYTES { None } else { self.rest.take() }
    }

    /// Adds a fetched piece. Returns `false` if it does not match the promised length.
    #[must_use]
    pub(super) fn go_on(&mut self, piece: Vec<u8>, rest: Option<Box<Rest>>) -> bool {
        self.rest = rest;
        self.body.give(piece) && self.rest.is_some() == (self.body.lacking() > 0)
    }

    /// Writes at most `bytes_max` bytes. Returns the result, and how many bytes were written.
    pub(super) fn write(&mut self, socket: &mut impl Socket, bytes_max: usize) -> (Flushed, usize) {
        let mut written = 0;
        loop {
            let bytes = match self.body.next(bytes_max - written) {
                Next::Bytes([]) => return (Flushed::More, written),
                Next::Bytes(bytes) => bytes,
                Next::Awaited => return (Flushed::Awaits, written),
                Next::End => return (Flushed::All, written),
            };
            match socket.write(bytes) {
                Ok(0) => return (Flushed::Gone, written),
                Ok(n) => {
                    self.body.took(n);
                    written += n;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return (Flushed::Full, written),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return (Flushed::Gone, written),
            }
        }
    }
}
