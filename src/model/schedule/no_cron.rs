//! A stand-in for schedules in a program that was built without them.

use std::convert::Infallible;

use super::firing::Due;
use crate::model::Timestamp;

/// Can't be created.
#[derive(Debug, Clone)]
pub struct Schedule(Infallible);

/// Why a schedule is invalid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleError {
    /// The field of the schedule that is wrong.
    pub field: &'static str,
    /// The problem.
    pub message: String,
}

impl Schedule {
    /// Always fails.
    ///
    /// # Errors
    /// Always.
    pub fn parse(_: &str, _: &str) -> Result<Self, ScheduleError> {
        let message = "this program was built without schedules".to_owned();
        Err(ScheduleError { field: "cron", message })
    }

    /// The first time after `after`.
    pub fn next(&self, _: Timestamp) -> Option<Timestamp> {
        match self.0 {}
    }

    /// The times after `after`, up to and including `until`.
    pub(super) fn due(&self, _: Timestamp, _: Timestamp) -> Option<Due> {
        match self.0 {}
    }
}
