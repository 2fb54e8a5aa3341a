//! Which messages of a project are requested.

use crate::model::TypeFilter;

/// What is wanted of a project's messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedEvents {
    /// Only those behind this one.
    pub after: Option<u64>,
    /// Only those before this one.
    pub before: Option<u64>,
    /// From the newest of them on, or else from the oldest.
    pub newest_first: bool,
    /// Only those.
    pub types: TypeFilter,
    /// At most so many.
    pub limit: usize,
}
