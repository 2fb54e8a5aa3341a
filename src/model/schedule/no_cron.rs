//! A stand-in for schedules in a program that was built without them.

use std::convert::Infallible;

use super::firing::Due;
use crate::model::Timestamp;

/// There is none.
#[derive(Debug, Clone)]
pub struct Schedule(Infallible);

/// Why there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleError {
    /// The field of the schedule that is wrong.
    pub field: &'static str,
    /// The problem.
    pub message: String,
}

impl Schedule {
    /// Never made.
    ///
    /// # Errors
    /// Always.
    pub fn parse(_: &str, _: &str) -> Result<Self, ScheduleError> {
        let message = "this program was built without schedules".to_owned();
        Err(ScheduleError { field: "cron", message })
    }

    /// The first time behind `after`.
    pub fn next(&self, _: Timestamp) -> Option<Timestamp> {
        match self.0 {}
    }

    /// The times behind `after`, up to `until` and including it.
    pub(super) fn due(&self, _: Timestamp, _: Timestamp) -> Option<Due> {
        match self.0 {}
    }
}
