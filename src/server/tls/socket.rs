//! A socket that speaks TLS. Its users read and write plaintext.
//!
//! It behaves like a plain socket. Above all, bytes that it reports as written have left: if the socket below takes
//! only part of a record, the last byte of the record is not reported until the rest is taken, and nothing is encrypted
//! meanwhile. So a user that has written everything may close at once, and a client that does not read is noticed. And
//! a read that returns less than there was room for has emptied the socket below, as the edge-triggered poll requires.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::TlsCounts;
use super::counts::HandshakeFailure;
use super::session::{RECORD_BYTES_MAX, RECORD_OVERHEAD, Session};
use crate::server::socket::Socket;

/// The size of one read of ciphertext: the largest record with the overhead that the protocol allows.
const READ_BYTES: usize = 20 * 1024;

/// The most reads of the socket below per call, which limits what one client can have decrypted before others get their
/// turn.
const READS_MAX: usize = 4;

/// The most bytes of protocol messages that may wait to be written. A client that causes more does not read.
const REPLIES_BYTES_MAX: usize = 128 * 1024;

/// The cost of answering a handshake, about 150 us, in bytes of requests. With it a turn of the loop answers about
/// twenty, and thousands of clients that reconnect at once delay no streams.
const HANDSHAKE_TOLL: usize = 48 * 1024;

/// The buffers for ciphertext that all connections share.
pub(super) struct Scratch {
    incoming: Box<[u8]>,
    outgoing: Box<[u8]>,
}

impl Default for Scratch {
    fn default() -> Self {
        let bytes = |length| vec![0; length].into_boxed_slice();
        Self { incoming: bytes(READ_BYTES), outgoing: bytes(RECORD_BYTES_MAX + RECORD_OVERHEAD) }
    }
}

/// The phase of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing was received.
    Silent,
    /// The handshake is under way.
    Shaking,
    /// Data can be sent and received.
    Open,
    /// The end of the session was sent.
    Finished,
    /// The connection has failed.
    Broken,
}

/// A TLS connection over the socket `below`.
pub(in crate::server) struct TlsSocket<T: Socket> {
    below: T,
    session: Session,
    phase: Phase,
    /// Ciphertext that the socket below has not taken.
    pub(super) outgoing: Vec<u8>,
    /// Whether the last byte of plaintext in `outgoing` was not reported as written.
    owes_a_byte: bool,
    /// Whether a handshake was answered whose cost is not counted yet.
    has_toll: bool,
    /// Shared by all connections. Never contended: it is locked only so that sockets can be moved between threads.
    scratch: Arc<Mutex<Scratch>>,
    counts: Arc<TlsCounts>,
}

impl<T: Socket> TlsSocket<T> {
    pub(super) fn new(below: T, session: Session, scratch: Arc<Mutex<Scratch>>, counts: Arc<TlsCounts>) -> Self {
        let (phase, outgoing, owes_a_byte, has_toll) = (Phase::Silent, Vec::new(), false, false);
        Self { below, session, phase, outgoing, owes_a_byte, has_toll, scratch, counts }
    }

    /// The socket below, to register it with the poll.
    pub(in crate::server) fn below(&mut self) -> &mut T {
        &mut self.below
    }

    /// Writes the waiting ciphertext. Returns an error, perhaps `WouldBlock`, if some of it still waits.
    fn write_outgoing(&mut self) -> io::Result<()> {
        while !self.outgoing.is_empty() {
            match self.below.write(&self.outgoing) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(n) if n == self.outgoing.len() => self.outgoing = Vec::new(),
                Ok(n) => drop(self.outgoing.drain(..n)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads from the socket below until it is empty or `to` is full. Returns the number of bytes of plaintext, and
    /// whether there may be more.
    fn read_below(&mut self, to: &mut [u8], scratch: &mut Scratch) -> io::Result<(usize, bool)> {
        let mut given = 0;
        for _ in 0..READS_MAX {
            if given == to.len() || self.session.has_ended {
                return Ok((given, given == to.len()));
            }
            let begin = self.session.begin(&mut scratch.incoming);
            let room = scratch.incoming.len() - begin;
            if room == 0 {
                return Err(self.fail(HandshakeFailure::Protocol, &"a message is too long"));
            }
            let n = match self.below.read(&mut scratch.incoming[begin..]) {
                Ok(0) => {
                    self.session.has_ended = true;
                    return Ok((given, false));
                }
                Ok(n) => n,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock || given > 0 => return Ok((given, false)),
                Err(error) => return Err(error),
            };
            given += self.take_in(&mut scratch.incoming[..begin + n], &mut to[given..])?;
            if n < room {
                return Ok((given, false));
            }
        }
        Ok((given, true))
    }

    fn take_in(&mut self, ciphertext: &mut [u8], to: &mut [u8]) -> io::Result<usize> {
        if self.phase == Phase::Silent {
            self.phase = Phase::Shaking;
            // A handshake record begins with the byte 22, an HTTP method with a letter.
            if ciphertext.first().is_some_and(u8::is_ascii_alphabetic) {
                self.refuse_plain_http();
                return Err(self.fail(HandshakeFailure::PlainHttp, &"the client speaks plain HTTP"));
            }
        }
        let taken = self.session.take_in(ciphertext, to, &mut self.outgoing);
        self.has_toll |= self.phase == Phase::Shaking && !self.session.is_open() && !self.outgoing.is_empty();
        // If there is no room, the poll reports when there is.
        let _ = self.write_outgoing();
        let given = taken.map_err(|error| self.fail(HandshakeFailure::Protocol, &error))?;
        if self.outgoing.len() > REPLIES_BYTES_MAX {
            return Err(self.fail(HandshakeFailure::Protocol, &"the client does not read"));
        }
        if self.phase == Phase::Shaking && self.session.is_open() {
            self.phase = Phase::Open;
            self.counts.count_handshake(self.session.is_tls13());
        }
        Ok(given)
    }

    /// Marks the connection as failed.
    fn fail(&mut self, failure: HandshakeFailure, why: &dyn std::fmt::Display) -> io::Error {
        match std::mem::replace(&mut self.phase, Phase::Broken) {
            Phase::Shaking => {
                self.counts.count_failure(failure);
                log::debug!("a TLS handshake failed: {why}");
            }
            _ => log::debug!("a TLS connection failed: {why}"),
        }
        ErrorKind::InvalidData.into()
    }

    /// Answers a client that speaks plain HTTP, in plain HTTP.
    fn refuse_plain_http(&mut self) {
        const PROBLEM: &str = r#"{"status":400,"title":"Bad Request","detail":"this port speaks TLS: use https://","code":"https_expected"}"#;
        let head =
            "HTTP/1.1 400 Bad Request\r\nContent-Type: application/problem+json\r\nConnection: close\r\nContent-Length";
        // Nothing was written before, so this fits.
        let _ = self.below.write(format!("{head}: {}\r\n\r\n{PROBLEM}", PROBLEM.len()).as_bytes());
        self.below.finish();
    }

    /// Sends the end of the session, unless part of a record still waits.
    fn say_end(&mut self) {
        if self.phase == Phase::Open && self.write_outgoing().is_ok() {
            let scratch = Arc::clone(&self.scratch);
            let out = &mut lock(&scratch).outgoing;
            let length = self.session.close(out);
            let _ = self.below.write(&out[..length]);
        }
        if self.phase == Phase::Open {
            self.phase = Phase::Finished;
        }
    }
}

fn lock(scratch: &Mutex<Scratch>) -> MutexGuard<'_, Scratch> {
    scratch.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T: Socket> Read for TlsSocket<T> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if self.phase == Phase::Broken {
            return Err(ErrorKind::InvalidData.into());
        }
        let mut given = self.session.read_plain(to);
        let scratch = Arc::clone(&self.scratch);
        let (more, has_more) = self.read_below(&mut to[given..], &mut lock(&scratch))?;
        given += more;
        if has_more && given < to.len() {
            // A shorter result would mean that there is no more.
            self.session.unread(&to[..given]);
            return Err(ErrorKind::Interrupted.into());
        }
        match given {
            0 if !self.session.has_ended && !to.is_empty() => Err(ErrorKind::WouldBlock.into()),
            _ => Ok(given),
        }
    }
}

impl<T: Socket> Write for TlsSocket<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.phase {
            Phase::Open if bytes.is_empty() => return Ok(0),
            Phase::Open => self.write_outgoing()?,
            Phase::Silent | Phase::Shaking => return Err(ErrorKind::WouldBlock.into()),
            Phase::Finished | Phase::Broken => return Err(ErrorKind::BrokenPipe.into()),
        }
        // The first byte may have been sent with the record before.
        let mut taken = usize::from(std::mem::take(&mut self.owes_a_byte));
        let scratch = Arc::clone(&self.scratch);
        let out = &mut lock(&scratch).outgoing;
        while taken < bytes.len() {
            let end = bytes.len().min(taken + RECORD_BYTES_MAX);
            let length = self.session.encrypt(&bytes[taken..end], out);
            let length = length.map_err(|error| self.fail(HandshakeFailure::Protocol, &error))?;
            match self.below.write(&out[..length]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(n) => self.outgoing.extend_from_slice(&out[n..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.outgoing.extend_from_slice(&out[..length]),
                Err(error) => return Err(error),
            }
            taken = end;
            if !self.outgoing.is_empty() {
                self.owes_a_byte = true;
                taken -= 1;
                break;
            }
        }
        if taken == 0 { Err(ErrorKind::WouldBlock.into()) } else { Ok(taken) }
    }

    /// Writes the waiting ciphertext.
    fn flush(&mut self) -> io::Result<()> {
        self.write_outgoing()
    }
}

impl<T: Socket> Socket for TlsSocket<T> {
    fn finish(&mut self) {
        self.say_end();
        self.below.finish();
    }

    fn held(&self) -> usize {
        self.session.held() + self.outgoing.len()
    }

    fn take_toll(&mut self) -> usize {
        if std::mem::take(&mut self.has_toll) { HANDSHAKE_TOLL } else { 0 }
    }
}

impl<T: Socket> Drop for TlsSocket<T> {
    fn drop(&mut self) {
        match self.phase {
            Phase::Shaking if self.session.has_ended => self.counts.count_failure(HandshakeFailure::Closed),
            Phase::Shaking => self.counts.count_failure(HandshakeFailure::Cut),
            _ => self.say_end(),
        }
    }
}
