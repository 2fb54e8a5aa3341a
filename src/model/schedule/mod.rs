//! Schedules of stored plans: when one fires, and the results so far.
//!
//! | part | what it is |
//! |---|---|
//! | `cron` | the times of a pattern in a time zone; no clock |
//! | `firing` | the results of one schedule; no clock, no thread |

#[cfg(feature = "schedules")]
mod cron;
#[cfg(not(feature = "schedules"))]
#[path = "no_cron.rs"]
mod cron;
mod firing;

pub use self::cron::Schedule;
pub use self::firing::{Firings, Verdict};

/// Fire times that are shown of a schedule.
pub const SHOWN_TIMES: usize = 3;
