//! The position in a list of runs where a page begins.

use std::fmt;
use std::str::FromStr;

use crate::log::store::RunNumber;
use crate::model::{IdError, RunId};

/// How a position is written, so that it is none of a run's ids: in front of its number.
const POSITION_MARK: char = '~';

/// The position in a list of runs after which a page begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Position {
    /// After this run; if it is no longer stored, after every run that has ended.
    Run(RunId),
    /// Behind where a page ended, whatever has become of its last run.
    Number(RunNumber),
}

impl FromStr for Position {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let number = text.strip_prefix(POSITION_MARK).and_then(|number| number.parse().ok());
        match number {
            Some(number) => Ok(Self::Number(RunNumber(number))),
            None => RunId::parse(text).map(Self::Run),
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run(run) => run.fmt(f),
            Self::Number(number) => write!(f, "{POSITION_MARK}{}", number.0),
        }
    }
}
