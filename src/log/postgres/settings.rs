//! How a node shares its store with others.

use std::time::Duration;

/// How a node shares its store with others. All of them have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PostgresSettings {
    /// How long a node is thought to be alive that says nothing.
    pub ttl: Duration,
    /// How it hears of what others write.
    pub wake: PostgresWake,
}

/// How a node hears of what others write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PostgresWake {
    /// They notify it.
    #[default]
    Notify,
    /// It polls: behind a pooler that shares connections, no notification comes.
    Poll,
}

/// The longest call, as a part of `ttl`: after a lost connection, the rest of the time is for finding out whether it
/// committed.
const CALL_PART: u32 = 3;

impl PostgresSettings {
    /// How long a call may take before its connection is dropped.
    pub(super) fn call_max(&self) -> Duration {
        self.ttl / CALL_PART
    }
}
