//! Which messages of a project are requested.

use crate::model::TypeFilter;

/// The messages of a project that a call asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedEvents {
    /// Only those after this.
    pub after: Option<u64>,
    /// Only those before this one.
    pub before: Option<u64>,
    /// From the newest of them on, or else from the oldest.
    pub newest_first: bool,
    /// Only those.
    pub types: TypeFilter,
    /// The maximum number.
    pub limit: usize,
}
