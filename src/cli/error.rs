//! Why a command fails.

use std::{fmt, io};

use crate::auth::KeyError;
use crate::config::ConfigError;
use crate::model::Issue;
use crate::server::{HandleError, StartError};

/// Why a command fails, as it is told on stderr.
#[derive(Debug)]
pub struct CommandError(String);

impl CommandError {
    /// Something went wrong while doing `what`.
    pub(super) fn io(what: &str, error: &io::Error) -> Self {
        Self(format!("can't {what}: {error}"))
    }

    /// A plan from `source` is no good.
    pub(super) fn bad_plan(source: &str, issues: &[Issue]) -> Self {
        let lines: Vec<String> = issues.iter().map(|issue| format!("\n  {issue}")).collect();
        Self(format!("{source} can't be run:{}", lines.concat()))
    }

    /// A sentence.
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for CommandError {}

macro_rules! from {
    ($($error:ty),+) => {
        $(impl From<$error> for CommandError {
            fn from(error: $error) -> Self {
                Self(error.to_string())
            }
        })+
    };
}

from!(ConfigError, KeyError, StartError, HandleError);
