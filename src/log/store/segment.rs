//! Which messages are stored together in a segment. A store deletes history one segment at a time, so this determines
//! how coarse deletion is.
//!
//! The messages that a commit adds to a project form one segment, or several if there are many; messages that follow
//! soon after are added to the last segment while it is small. A limit on the number of messages is exact, and so is a
//! limit on bytes as far as clients can see. But a segment of which only the end is kept stays in the file as a whole
//! until the end goes too, so the file may hold up to [`BYTES_MAX`] more than the limit. All messages of a segment have
//! the age of its last one, so a message may be kept for up to [`SPAN_MS`] longer than the limit.

use super::StoredMessage;
use crate::model::Timestamp;

/// The largest weight of a segment of more than one message.
pub(in crate::log) const BYTES_MAX: u64 = 64 * 1024;

/// The largest weight of a segment whose messages came with several commits: this much is rewritten with each commit.
pub(in crate::log) const JOINED_BYTES_MAX: u64 = 4 * 1024;

/// Milliseconds between the first message of a segment and the last, at most.
pub(in crate::log) const SPAN_MS: u64 = 500;

/// Consecutive messages of one project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::log) struct Extent {
    pub(in crate::log) first_seq: u64,
    pub(in crate::log) count: u64,
    /// When the first was kept.
    pub(in crate::log) first_at: Timestamp,
    /// When the last was.
    pub(in crate::log) last_at: Timestamp,
    /// Their weight.
    pub(in crate::log) bytes: u64,
}

impl Extent {
    /// A segment that begins with `message`.
    pub(in crate::log) fn begin(message: &StoredMessage) -> Self {
        let StoredMessage { seq, at, .. } = *message;
        Self { first_seq: seq, count: 1, first_at: at, last_at: at, bytes: message.weight() }
    }

    /// Does `message`, which is the next, belong to it? `is_new`: it was begun by the same commit.
    pub(in crate::log) fn takes(&self, message: &StoredMessage, is_new: bool) -> bool {
        let bytes_max = if is_new { BYTES_MAX } else { JOINED_BYTES_MAX };
        self.bytes + message.weight() <= bytes_max && message.at.millis_since(self.first_at) <= SPAN_MS
    }

    pub(in crate::log) fn add(&mut self, message: &StoredMessage) {
        debug_assert_eq!(message.seq, self.next_seq(), "messages come without a gap");
        self.count += 1;
        self.last_at = message.at;
        self.bytes += message.weight();
    }

    /// Behind its last message.
    pub(in crate::log) fn next_seq(&self) -> u64 {
        self.first_seq + self.count
    }
}
