//! Rows of events for webhooks: stored with the message that causes them, until they are delivered or given up.

use std::sync::Arc;

use super::RunNumber;
use crate::model::{Notable, ProjectId, RunId, Timestamp};

/// A row's number. None is used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DueId(pub u64);

/// An event for one webhook. Its content is in the message, as long as the message is stored.
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

/// An event that waits to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueRow {
    /// Its number.
    pub id: DueId,
    /// The event.
    pub due: Due,
    /// The number of failed attempts.
    pub attempts: u32,
    /// The time of the next attempt, by the wall clock.
    pub next_at: Timestamp,
}

/// A change of what waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutboxChange {
    /// Adds an event, to be sent at once.
    Due(Box<Due>),
    /// Sets the number of failed attempts and the time of the next. No effect if the event does not wait.
    PutOff {
        /// The row.
        id: DueId,
        /// How often.
        attempts: u32,
        /// When.
        next_at: Timestamp,
    },
    /// Removes an event that was delivered, or given up.
    Done(DueId),
    /// Removes all events of this webhook.
    LetGo(Arc<str>),
}

/// What time it is for what waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DueTimes {
    /// By the wall clock.
    pub now: Timestamp,
    /// An event whose next attempt is later than this is due, too: the clock was set back since it was put off.
    pub horizon: Timestamp,
}

impl DueTimes {
    /// Is an event due whose next attempt is at `next_at`?
    pub(in crate::log) fn has_come(&self, next_at: Timestamp) -> bool {
        next_at <= self.now || next_at > self.horizon
    }
}
