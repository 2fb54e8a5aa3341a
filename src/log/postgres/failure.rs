//! Errors of calls to the database, as far as callers distinguish them.

use std::fmt;

use tokio_postgres::error::{DbError, Severity};

use crate::log::store::StoreError;

/// Why a call failed, or may have failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// There was no connection: nothing was asked.
    Unreachable(String),
    /// The connection was lost before the answer: what was asked may have been done.
    Lost(String),
    /// The same, because nothing came in time.
    Late(String),
    /// The engine said no: nothing was done.
    Refused(Box<DbError>),
}

/// The error codes that the statements of this program raise, and a few of the engine.
pub(super) mod code {
    /// The node is thought to be gone.
    pub(in crate::log::postgres) const FENCED: &str = "SC001";
    /// Others have written, in the midst of a transaction: `DETAIL` has the projects, their newest `seq` and their revision.
    pub(in crate::log::postgres) const CONFLICT: &str = "SC002";
    /// Something is taken that the batch wants.
    pub(in crate::log::postgres) const TAKEN: &str = "SC003";
    /// A ticket was spent before: `DETAIL` has which of those given.
    pub(in crate::log::postgres) const SPENT: &str = "SC004";
    pub(in crate::log::postgres) const UNIQUE: &str = "23505";
    /// Constraints on runs that another node may have taken.
    pub(in crate::log::postgres) const RUNS: [&str; 3] =
        ["stepcast_runs_pkey", "stepcast_runs_by_id", "stepcast_documents_pkey"];
    pub(in crate::log::postgres) const DEADLOCK: &str = "40P01";
    pub(in crate::log::postgres) const SERIALIZATION: &str = "40001";
    /// A statement that this connection has prepared is not there.
    pub(in crate::log::postgres) const NO_STATEMENT: &str = "26000";
    pub(in crate::log::postgres) const READ_ONLY: &str = "25006";
    /// The class of what is wrong with a connection.
    pub(in crate::log::postgres) const CONNECTION: &str = "08";
    pub(in crate::log::postgres) const COMPLETION_UNKNOWN: &str = "40003";
    /// The classes of what is never taken, whenever it is tried: data, and constraints.
    pub(in crate::log::postgres) const NEVER: [&str; 2] = ["22", "23"];
    /// Codes for values that are too large.
    pub(in crate::log::postgres) const TOO_LARGE: [&str; 2] = ["54000", "53400"];
}

/// Why a statement may be gone.
const ABOUT_POOLERS: &str = "if a connection pooler is in front of it, use session mode, or PgBouncer 1.21 or newer with \
                             max_prepared_statements";

impl Failure {
    /// The engine's word for it, where it said anything.
    pub(super) fn code(&self) -> Option<&str> {
        match self {
            Self::Refused(error) => Some(error.code().code()),
            Self::Unreachable(_) | Self::Lost(_) | Self::Late(_) => None,
        }
    }

    /// The detail of the error.
    pub(super) fn detail(&self) -> &str {
        match self {
            Self::Refused(error) => error.detail().unwrap_or_default(),
            Self::Unreachable(_) | Self::Lost(_) | Self::Late(_) => "",
        }
    }

    /// Is it one of these constraints that was in the way?
    pub(super) fn is_of(&self, constraints: [&str; 3]) -> bool {
        match self {
            Self::Refused(error) => error.constraint().is_some_and(|name| constraints.contains(&name)),
            Self::Unreachable(_) | Self::Lost(_) | Self::Late(_) => false,
        }
    }

    /// Two were in each other's way: it may be tried again at once.
    pub(super) fn is_clash(&self) -> bool {
        matches!(self.code(), Some(code::DEADLOCK | code::SERIALIZATION))
    }

    /// The error, with the address of the database.
    pub(super) fn at(self, address: &str) -> StoreError {
        StoreError(format!("{address}: {self}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(why) | Self::Lost(why) | Self::Late(why) => f.write_str(why),
            Self::Refused(error) if error.code().code() == code::NO_STATEMENT => {
                write!(f, "{}; {ABOUT_POOLERS}", error.message())
            }
            Self::Refused(error) => f.write_str(error.message()),
        }
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        let leaves_open = |said: &DbError| {
            matches!(said.parsed_severity(), Some(Severity::Fatal | Severity::Panic))
                || leaves_open(said.severity(), said.code().code())
        };
        match error.as_db_error() {
            Some(said) if leaves_open(said) => Self::Lost(said.message().to_owned()),
            Some(said) => Self::Refused(Box::new(said.clone())),
            None => Self::Lost(in_words(&error)),
        }
    }
}

/// Does this leave it open whether the transaction has committed? Whatever ends the connection may come in the middle
/// of a `COMMIT`, and a pooler says it of the engine behind it, in its own words.
fn leaves_open(severity: &str, code: &str) -> bool {
    matches!(severity, "FATAL" | "PANIC") || code.starts_with(code::CONNECTION) || code == code::COMPLETION_UNKNOWN
}

/// An error with what it comes from.
fn in_words(error: &tokio_postgres::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_engine_or_a_pooler_says_that_dies_in_a_commit_leaves_open_whether_it_is_kept() {
        for (severity, code) in [
            ("FATAL", "57P01"),
            ("FATAL", "08P01"),
            ("PANIC", "53100"),
            ("PANIC", "58030"),
            ("ERROR", "08006"),
            ("ERROR", "40003"),
        ] {
            assert!(leaves_open(severity, code), "{severity} {code}");
        }
        for code in ["23505", "40001", "40P01", "SC001", "53100", "57014"] {
            assert!(!leaves_open("ERROR", code), "{code}");
        }
    }
}
