//! The TLS protocol of one connection, without its socket: ciphertext in, plaintext out, and the other way round.
//!
//! A session holds no buffers while no data is in transit: input is decrypted in a buffer that all connections share,
//! and output is encrypted into another. Thousands of idle streams hold only their keys.

use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, InsufficientSizeError, UnbufferedStatus};
use rustls::{Error, ProtocolVersion};

/// The most plaintext in one record.
pub(super) const RECORD_BYTES_MAX: usize = 16 * 1024;

/// The most bytes that a record adds: header, tag, nonce, and protocol messages sent before it.
pub(super) const RECORD_OVERHEAD: usize = 512;

/// The TLS state of one connection.
pub(super) struct Session {
    tls: UnbufferedServerConnection,
    /// The beginning of a record that is not complete.
    partial: Vec<u8>,
    /// Plaintext that did not fit into the reader's buffer, and how much of it was read since.
    plain: Vec<u8>,
    plain_read: usize,
    /// Whether the client has said that it will send no more.
    pub(super) has_ended: bool,
}

impl Session {
    pub(super) fn new(tls: UnbufferedServerConnection) -> Self {
        Self { tls, partial: Vec::new(), plain: Vec::new(), plain_read: 0, has_ended: false }
    }

    /// Whether the handshake is complete.
    pub(super) fn is_open(&self) -> bool {
        !self.tls.is_handshaking()
    }

    pub(super) fn is_tls13(&self) -> bool {
        self.tls.protocol_version() == Some(ProtocolVersion::TLSv1_3)
    }

    /// The number of bytes held.
    pub(super) fn held(&self) -> usize {
        self.partial.len() + self.plain.len()
    }

    /// Returns plaintext that did not fit before.
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

    /// Takes back plaintext that was returned, to return it again.
    pub(super) fn unread(&mut self, given: &[u8]) {
        self.plain.splice(..self.plain_read, given.iter().copied());
        self.plain_read = 0;
    }

    /// Copies the beginning of an incomplete record to the front of `scratch`. More input is to be read after it.
    pub(super) fn begin(&mut self, scratch: &mut [u8]) -> usize {
        scratch[..self.partial.len()].copy_from_slice(&self.partial);
        self.partial.len()
    }

    /// Decrypts `ciphertext`, which [begins](Self::begin) with the beginning of an incomplete record. Writes plaintext
    /// to `to` and appends protocol messages for the client to `replies`. Returns the number of bytes of plaintext.
    ///
    /// # Errors
    /// The problem with the ciphertext. `replies` holds the alert for the client.
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
                // The next calls return the alert for the client, and then an error again.
                Err(error) if failure.is_none() => failure = Some(error),
                Err(_) => break,
            }
            at += discard;
        }
        self.partial = if self.has_ended { Vec::new() } else { ciphertext[at..].to_vec() };
        failure.map_or(Ok(given), Err)
    }

    /// Encrypts `plain`, which fits into one record. Returns the number of bytes written to `out`.
    ///
    /// # Errors
    /// If the handshake is not complete, or the keys are used up.
    pub(super) fn encrypt(&mut self, plain: &[u8], out: &mut [u8]) -> Result<usize, Error> {
        let mut length = 0;
        loop {
            let UnbufferedStatus { state, .. } = self.tls.process_tls_records(&mut []);
            match state? {
                ConnectionState::WriteTraffic(mut traffic) => {
                    let record = traffic.encrypt(plain, &mut out[length..]);
                    return record.map(|n| length + n).map_err(|error| Error::General(error.to_string()));
                }
                // The session changes its keys in time, and tells the client.
                ConnectionState::EncodeTlsData(mut data) => {
                    let message = data.encode(&mut out[length..]);
                    length += message.map_err(|error| Error::General(error.to_string()))?;
                }
                ConnectionState::TransmitTlsData(data) => data.done(),
                _ => return Err(Error::HandshakeNotComplete),
            }
        }
    }

    /// Writes the message that ends the session. Returns the number of bytes written to `out`.
    pub(super) fn close(&mut self, out: &mut [u8]) -> usize {
        let UnbufferedStatus { state, .. } = self.tls.process_tls_records(&mut []);
        match state {
            Ok(ConnectionState::WriteTraffic(mut traffic)) => traffic.queue_close_notify(out).unwrap_or(0),
            _ => 0,
        }
    }
}

/// Appends a message to `replies`.
fn encode(mut data: EncodeTlsData<'_, ServerConnectionData>, replies: &mut Vec<u8>) -> Result<(), Error> {
    let begin = replies.len();
    if let Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) = data.encode(&mut []) {
        replies.resize(begin + required_size, 0);
        data.encode(&mut replies[begin..]).map_err(|error| Error::General(error.to_string()))?;
    }
    Ok(())
}
