//! Errors of commands.

use std::{fmt, io};

use crate::auth::KeyError;
use crate::config::ConfigError;
use crate::model::Issue;
use crate::random::NoRandomness;
use crate::server::{HandleError, StartError};

/// Why a command fails, as printed on stderr.
#[derive(Debug)]
pub struct CommandError(Why);

#[derive(Debug)]
enum Why {
    Said(String),
    /// Whoever read stdout has seen enough, as `head` has.
    ReaderGone,
}

impl CommandError {
    /// Something went wrong while doing `what`.
    pub(super) fn io(what: &str, error: &io::Error) -> Self {
        Self::new(format!("cannot {what}: {error}"))
    }

    /// Something could not be written to stdout.
    pub(super) fn stdout(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self(Why::ReaderGone),
            _ => Self::io("write to standard output", error),
        }
    }

    /// The plan from `source` is invalid.
    pub(super) fn bad_plan(source: &str, issues: &[Issue]) -> Self {
        let lines: Vec<String> = issues.iter().map(|issue| format!("\n  {issue}")).collect();
        Self::new(format!("{source} is not a valid plan:{}", lines.concat()))
    }

    /// A sentence.
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self(Why::Said(text.into()))
    }

    /// Did it fail only because the reader of standard output is gone?
    pub(super) fn is_reader_gone(&self) -> bool {
        matches!(self.0, Why::ReaderGone)
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Why::Said(text) => f.write_str(text),
            Why::ReaderGone => f.write_str("the reader of standard output is gone"),
        }
    }
}

impl std::error::Error for CommandError {}

macro_rules! from {
    ($($error:ty),+) => {
        $(impl From<$error> for CommandError {
            fn from(error: $error) -> Self {
                Self::new(error.to_string())
            }
        })+
    };
}

from!(ConfigError, KeyError, StartError, HandleError, NoRandomness);
