//! How much history is kept, and what is deleted.

use crate::model::{ProjectId, Timestamp};

/// How much history is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Messages a project.
    pub messages: usize,
    /// Bytes in all.
    pub bytes: u64,
    /// Milliseconds.
    pub age_ms: u64,
    /// Ended runs a project.
    pub runs: usize,
}

/// What time it is for what is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// By the clock that history ages by.
    pub age: Timestamp,
    /// By the wall clock.
    pub wall: Timestamp,
}

/// What a trim came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trimmed {
    /// There is more to let go.
    pub is_more: bool,
    /// Projects that hold neither a message nor a run any more: of each its newest `seq` is left.
    pub emptied: Vec<ProjectId>,
    /// Of some that was let go too: whatever was read of them before is of another project of that name.
    pub has_forgotten: bool,
    /// What all keys weigh that are left.
    pub key_bytes: u64,
}
