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

/// The result of a trim.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trimmed {
    /// There is more to remove.
    pub is_more: bool,
    /// Projects that have neither messages nor runs any more. Only their newest `seq` is left.
    pub emptied: Vec<ProjectId>,
    /// That was removed for some projects, too: a project of that name is a new one from now on.
    pub has_forgotten: bool,
    /// The weight of the keys that are left.
    pub key_bytes: u64,
}
