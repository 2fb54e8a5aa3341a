//! Why a server cannot start.

use std::{fmt, io};

use crate::random::NoRandomness;

/// Why a server cannot start.
#[derive(Debug)]
pub struct StartError(pub(super) String);

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StartError {}

impl From<NoRandomness> for StartError {
    fn from(error: NoRandomness) -> Self {
        Self(error.to_string())
    }
}

/// An error of the operating system while doing `what`.
pub(super) fn failed(what: &str, error: &io::Error) -> StartError {
    StartError(format!("cannot {what}: {error}"))
}
