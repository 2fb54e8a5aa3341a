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
    /// Another has written to these projects, which have come so far: whoever reads them anew may try again.
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

/// What a store has against a batch that it never keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Objection {
    /// Something in it is larger than the store takes.
    TooLarge(StoreError),
    /// It contradicts what is kept. That is a fault of whoever made the batch, never of whoever asked for what is in it.
    Contradiction(StoreError),
}

impl Objection {
    /// It, in a sentence.
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
