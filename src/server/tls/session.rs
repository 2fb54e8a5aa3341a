//! One connection's side of the protocol, without its socket: ciphertext in, plaintext out, and the other way round.
//!
//! It holds no buffers of its own while nothing is on its way: what comes in is taken out of a scratch that all
//! connections share, and what goes out is put into another. Thousands of idle streams hold their keys alone.

use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, InsufficientSizeError, UnbufferedStatus};
use rustls::{Error, ProtocolVersion};

/// The most plaintext that one record holds.
pub(super) const RECORD_BYTES_MAX: usize = 16 * 1024;

/// What a record takes besides: header, tag, nonce, and what of the protocol goes in front of it.
pub(super) const RECORD_OVERHEAD: usize = 512;

/// See the top of this file.
pub(super) struct Session {
    tls: UnbufferedServerConnection,
    /// The beginning of a record whose end has not come.
    partial: Vec<u8>,
    /// Plaintext that there was no room for, and how much of it has been read since.
    plain: Vec<u8>,
    plain_read: usize,
    /// Its client has said that it will send no more.
    pub(super) has_ended: bool,
}

impl Session {
    pub(super) fn new(tls: UnbufferedServerConnection) -> Self {
        Self { tls, partial: Vec::new(), plain: Vec::new(), plain_read: 0, has_ended: false }
    }

    /// Is the handshake over, so that something can be said?
    pub(super) fn is_open(&self) -> bool {
        !self.tls.is_handshaking()
    }

    pub(super) fn is_tls13(&self) -> bool {
        self.tls.protocol_version() == Some(ProtocolVersion::TLSv1_3)
    }

    /// Bytes that it holds.
    pub(super) fn held(&self) -> usize {
        self.partial.len() + self.plain.len()
    }

    /// Hands out plaintext that there was no room for before.
    pub(super) fn read_plain(&mut self, to: &mut [u8]) -> usize {
        let left = &self.plain[self.plain_read..];
        let n = left.len().min(to.len());
        to[..n].copy_from_slice(&left[..n]);
        self.plain_read += n;
        if self.plain_read == self.plain.len() {
            (self.plain, self.plain_read) = (Vec::new(), 0);
        }
        n
    }

    /// `given` was handed out, and is to be handed out again.
    pub(super) fn unread(&mut self, given: &[u8]) {
        self.plain.splice(..self.plain_read, given.iter().copied());
        self.plain_read = 0;
    }

    /// Puts the beginning of a record whose end has not come to the front of `scratch`, behind which more is to be read.
    pub(super) fn begin(&mut self, scratch: &mut [u8]) -> usize {
        scratch[..self.partial.len()].copy_from_slice(&self.partial);
        self.partial.len()
    }

    /// Takes in `ciphertext`, which [begins](Self::begin) with what had come of a record before. Puts plaintext into `to`,
    /// and what is to be said in return behind `replies`; how many bytes of plaintext that were.
    ///
    /// # Errors
    /// What is wrong with it. `replies` tells the client.
    pub(super) fn take_in(
        &mut self,
        ciphertext: &mut [u8],
        to: &mut [u8],
        replies: &mut Vec<u8>,
    ) -> Result<usize, Error> {
        let (mut at, mut given, mut failure) = (0, 0, None);
        loop {
            let UnbufferedStatus { mut discard, state } = self.tls.process_tls_records(&mut ciphertext[at..]);
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        discard += record.discard;
                        let n = record.payload.len().min(to.len() - given);
                        to[given..given + n].copy_from_slice(&record.payload[..n]);
                        self.plain.extend_from_slice(&record.payload[n..]);
                        given += n;
                    }
                }
                Ok(ConnectionState::EncodeTlsData(data)) => encode(data, replies)?,
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => self.has_ended = true,
                Ok(_) => {
                    at += discard;
                    break;
                }
                // What tells the client comes with the next calls, and a failure behind it.
                Err(error) if failure.is_none() => failure = Some(error),
                Err(_) => break,
            }
            at += discard;
        }
        self.partial = if self.has_ended { Vec::new() } else { ciphertext[at..].to_vec() };
        failure.map_or(Ok(given), Err)
    }

    /// Encrypts `plain`, of one record at most; how many bytes of `out` that took.
    ///
    /// # Errors
    /// The handshake is not over, or the keys are used up.
    pub(super) fn encrypt(&mut self, plain: &[u8], out: &mut [u8]) -> Result<usize, Error> {
        let mut length = 0;
        loop {
            let UnbufferedStatus { state, .. } = self.tls.process_tls_records(&mut []);
            match state? {
                ConnectionState::WriteTraffic(mut traffic) => {
                    let record = traffic.encrypt(plain, &mut out[length..]);
                    return record.map(|n| length + n).map_err(|error| Error::General(error.to_string()));
                }
                // Keys are changed in time, of which the client is told.
                ConnectionState::EncodeTlsData(mut data) => {
                    let message = data.encode(&mut out[length..]);
                    length += message.map_err(|error| Error::General(error.to_string()))?;
                }
                ConnectionState::TransmitTlsData(data) => data.done(),
                _ => return Err(Error::HandshakeNotComplete),
            }
        }
    }

    /// Says that nothing more will be said; how many bytes of `out` that took.
    pub(super) fn close(&mut self, out: &mut [u8]) -> usize {
        let UnbufferedStatus { state, .. } = self.tls.process_tls_records(&mut []);
        match state {
            Ok(ConnectionState::WriteTraffic(mut traffic)) => traffic.queue_close_notify(out).unwrap_or(0),
            _ => 0,
        }
    }
}

/// Writes a message behind `replies`.
fn encode(mut data: EncodeTlsData<'_, ServerConnectionData>, replies: &mut Vec<u8>) -> Result<(), Error> {
    let begin = replies.len();
    if let Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) = data.encode(&mut []) {
        replies.resize(begin + required_size, 0);
        data.encode(&mut replies[begin..]).map_err(|error| Error::General(error.to_string()))?;
    }
    Ok(())
}
