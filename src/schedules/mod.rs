//! The scheduler: has the log begin the runs of stored plans whose [schedule](crate::model::schedule) is due.
//!
//! The log keeps what has come of each schedule with the plan, and the firing of a run together with the run, so that a
//! crash at any moment neither loses a firing nor makes it twice.
//!
//! | part | what it is |
//! |---|---|
//! | `board` | how often, for the metrics |
//! | `scheduler` | the thread |

mod board;
mod scheduler;

pub(crate) use self::board::{Board, FIRING_WORDS};
pub(crate) use self::scheduler::{Scheduler, SchedulerHandle};
