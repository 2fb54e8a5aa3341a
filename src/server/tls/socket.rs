//! A socket that speaks TLS: what is read and written is what is inside.
//!
//! Its owner knows it as any other. Above all, what it says it has written has left: of a record that the socket below
//! has taken only a part of, the last byte is not counted until it has taken the rest, and nothing is encrypted
//! meanwhile. So whoever is told that all was written may close at once, and a client that does not read is noticed. And
//! a read that gives less than there was room for has emptied the socket below, as the poll, which tells of nothing twice,
//! needs it.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::TlsCounts;
use super::counts::HandshakeFailure;
use super::session::{RECORD_BYTES_MAX, RECORD_OVERHEAD, Session};
use crate::server::socket::Socket;

/// Ciphertext that is read at a time: the largest record fits, with what the protocol allows it besides.
const READ_BYTES: usize = 20 * 1024;

/// Reads made of the socket below in one: what a client can have decrypted in vain before others get their turn.
const READS_MAX: usize = 4;

/// What may wait to be said of the protocol itself. A client that makes more of it does not read.
const REPLIES_BYTES_MAX: usize = 128 * 1024;

/// What answering a handshake costs, as if it were so many bytes of requests: some 150 us. So a turn of the loop answers
/// about twenty, and thousands that come back at once hold up nobody's stream.
const HANDSHAKE_TOLL: usize = 48 * 1024;

/// Where ciphertext of all connections passes through.
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

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing has come.
    Silent,
    /// The handshake goes on.
    Shaking,
    /// Anything may be said.
    Open,
    /// All is said.
    Finished,
    /// Nothing more can be said or heard.
    Broken,
}

/// See the top of this file.
pub(in crate::server) struct TlsSocket<T: Socket> {
    below: T,
    session: Session,
    phase: Phase,
    /// Ciphertext that the socket below has not taken.
    pub(super) outgoing: Vec<u8>,
    /// The last byte of what is in there was not counted as written.
    owes_a_byte: bool,
    /// A handshake was answered, which nobody has counted so far.
    has_toll: bool,
    /// Of all connections together. Never locked by two threads at a time, but for sockets to be movable.
    scratch: Arc<Mutex<Scratch>>,
    counts: Arc<TlsCounts>,
}

impl<T: Socket> TlsSocket<T> {
    pub(super) fn new(below: T, session: Session, scratch: Arc<Mutex<Scratch>>, counts: Arc<TlsCounts>) -> Self {
        let (phase, outgoing, owes_a_byte, has_toll) = (Phase::Silent, Vec::new(), false, false);
        Self { below, session, phase, outgoing, owes_a_byte, has_toll, scratch, counts }
    }

    /// The socket below, to be watched.
    pub(in crate::server) fn below(&mut self) -> &mut T {
        &mut self.below
    }

    /// Writes what waits. An error, `WouldBlock` among them, where some of it still does.
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

    /// Reads from the socket below until there is nothing, or `to` is full; how many bytes of plaintext came, and whether
    /// there may be more.
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
            // A record of a handshake begins with 22, a method with a letter.
            if ciphertext.first().is_some_and(u8::is_ascii_alphabetic) {
                self.refuse_plain_http();
                return Err(self.fail(HandshakeFailure::PlainHttp, &"the client speaks plain HTTP"));
            }
        }
        let taken = self.session.take_in(ciphertext, to, &mut self.outgoing);
        self.has_toll |= self.phase == Phase::Shaking && !self.session.is_open() && !self.outgoing.is_empty();
        // Where there is no room for it, the poll tells when there is.
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

    /// Nothing more can be said or heard.
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

    /// Tells a client that speaks plain HTTP, in plain HTTP, what is spoken here.
    fn refuse_plain_http(&mut self) {
        const PROBLEM: &str = r#"{"status":400,"title":"Bad Request","detail":"this port speaks TLS: use https://","code":"https_expected"}"#;
        let head =
            "HTTP/1.1 400 Bad Request\r\nContent-Type: application/problem+json\r\nConnection: close\r\nContent-Length";
        // It has said little so far, and fits.
        let _ = self.below.write(format!("{head}: {}\r\n\r\n{PROBLEM}", PROBLEM.len()).as_bytes());
        self.below.finish();
    }

    /// Says that nothing more will be said, where that can be said: not within a record.
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
            // Less than there is room for would say that there is no more.
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
        // The first byte may have left with the record before it.
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

    /// Writes what waits.
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
