//! How much a trim deletes at once.

/// A trim may always delete this many messages at once, however few were written before.
const MESSAGES_MIN: u64 = 1000;

/// A trim may always delete this many bytes of messages at once.
const BYTES_MIN: u64 = 4 * 1024 * 1024;

/// A deleted run counts as this many messages.
pub(super) const RUN_COST: u64 = 20;

/// An amount of messages.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Slice {
    pub(super) messages: u64,
    pub(super) bytes: u64,
}

impl Slice {
    pub(super) fn add(&mut self, other: Self) {
        self.messages += other.messages;
        self.bytes += other.bytes;
    }

    /// How much may be deleted after this much was written: twice as much, so that the backlog cannot grow without bound.
    pub(super) fn to_let_go(self) -> Self {
        Self { messages: MESSAGES_MIN.max(2 * self.messages), bytes: BYTES_MIN.max(2 * self.bytes) }
    }

    pub(super) fn is_spent(self) -> bool {
        self.messages == 0 || self.bytes == 0
    }

    pub(super) fn has_room_for_runs(self, runs: usize) -> bool {
        runs as u64 * RUN_COST < self.messages
    }

    pub(super) fn spend(&mut self, messages: u64, bytes: u64) {
        self.messages = self.messages.saturating_sub(messages);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}
