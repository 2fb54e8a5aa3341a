//! Why a store operation fails.

use std::fmt;

use super::Head;

/// Why a store could not do its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreError(pub String);

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StoreError {}

/// Why a batch is not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AppendError {
    /// Another writer has written to these projects. These are their heads now. The caller may read the projects and
    /// try again.
    Conflict(Vec<Head>),
    /// These tickets were spent before, by their places among what was to be kept. Whoever leaves them out may try again.
    Spent(Vec<usize>),
    /// This node is thought to be gone: its runs are another's now, or soon. It appends nothing before it has
    /// [joined again](super::Store::rejoin).
    Fenced,
    /// The store can't now. It may later.
    Down(StoreError),
    /// The store never keeps this batch, though it may keep others.
    Refused(Objection),
}

/// Why a store will never accept a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Objection {
    /// Something in it is larger than the store takes.
    TooLarge(StoreError),
    /// It contradicts the stored data. The journal that made the batch is at fault, not the client.
    Contradiction(StoreError),
}

impl Objection {
    /// The reason.
    pub fn why(&self) -> &StoreError {
        match self {
            Self::TooLarge(why) | Self::Contradiction(why) => why,
        }
    }
}

impl fmt::Display for Objection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.why().fmt(f)
    }
}

impl From<StoreError> for AppendError {
    fn from(error: StoreError) -> Self {
        Self::Down(error)
    }
}
