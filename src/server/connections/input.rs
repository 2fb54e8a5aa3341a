//! Input from a client that has not been parsed yet.

/// The largest buffer that is kept for the next request or response. Larger ones are freed.
pub(super) const BUFFER_BYTES_KEPT: usize = 4096;

/// A buffer of unparsed input.
#[derive(Debug, Default)]
pub(in crate::server) struct Input {
    bytes: Vec<u8>,
    /// The index in `bytes` at which the next request begins.
    start: usize,
}

impl Input {
    /// The bytes that are not decoded yet.
    pub(in crate::server) fn unread(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// The size of the buffer.
    pub(super) fn held(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn append(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Drops the first `n` unread bytes, and memory that an idle connection does not need.
    pub(super) fn consume(&mut self, n: usize) {
        self.start += n;
        if self.start == self.bytes.len() {
            self.start = 0;
            self.bytes.clear();
            if self.bytes.capacity() > BUFFER_BYTES_KEPT {
                self.bytes = Vec::new();
            }
        } else if self.start > self.bytes.len() / 2 {
            // Each byte moves about once, however many requests were sent ahead.
            self.bytes.drain(..self.start);
            self.start = 0;
        }
    }
}
