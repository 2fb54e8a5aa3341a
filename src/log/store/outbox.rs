//! Rows of events for webhooks: stored with the message that causes them, until they are delivered or given up.

use std::sync::Arc;

use super::RunNumber;
use crate::model::{Notable, ProjectId, RunId, Timestamp};

/// A row's number. None is used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DueId(pub u64);

/// One thing that one webhook is to be told. What is said of it stands in the message, as long as that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// The webhook's name.
    pub webhook: Arc<str>,
    /// The run's project.
    pub project: ProjectId,
    /// The run.
    pub run: RunId,
    /// Its number.
    pub number: RunNumber,
    /// The `seq` of the message.
    pub seq: u64,
    /// What happened.
    pub notable: Notable,
    /// When, by the wall clock.
    pub at: Timestamp,
}

/// The same as it waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueRow {
    /// Its number.
    pub id: DueId,
    /// What is to be told.
    pub due: Due,
    /// How often it was tried in vain.
    pub attempts: u32,
    /// When it is to be tried next, by the wall clock.
    pub next_at: Timestamp,
}

/// A change of what waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutboxChange {
    /// This is to be told, at once.
    Due(Box<Due>),
    /// It was tried so often in vain, and is to be tried again then. Nothing where it does not wait.
    PutOff {
        /// The row.
        id: DueId,
        /// How often.
        attempts: u32,
        /// When.
        next_at: Timestamp,
    },
    /// It was told, or is given up.
    Done(DueId),
    /// Everything that waits for this webhook is given up.
    LetGo(Arc<str>),
}

/// What time it is for what waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DueTimes {
    /// By the wall clock.
    pub now: Timestamp,
    /// What is to be tried later than this was put off by a clock that was set back since: it is due, too.
    pub horizon: Timestamp,
}

impl DueTimes {
    /// Is what is to be tried at `next_at` due?
    pub(in crate::log) fn has_come(&self, next_at: Timestamp) -> bool {
        next_at <= self.now || next_at > self.horizon
    }
}
