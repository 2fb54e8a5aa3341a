//! Input from a client that has not been parsed yet.

/// A buffer of at most this size is kept for the next request or answer; a larger one is given back.
pub(super) const BUFFER_BYTES_KEPT: usize = 4096;

/// See the top of this file.
#[derive(Debug, Default)]
pub(in crate::server) struct Input {
    bytes: Vec<u8>,
    /// Where in `bytes` the next request begins.
    start: usize,
}

impl Input {
    /// The bytes not decoded yet.
    pub(in crate::server) fn unread(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// The bytes that it holds.
    pub(super) fn held(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn append(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Lets go of the first `n` bytes of what was unread, and of what an idle connection does not need.
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
