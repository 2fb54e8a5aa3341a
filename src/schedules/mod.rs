//! The scheduler: starts the runs of stored plans whose [schedule](crate::model::schedule) is due.
//!
//! The log stores the results of each schedule with its plan, and each firing together with its run, so that a crash at
//! any moment neither loses a firing nor repeats it.
//!
//! | part | what it is |
//! |---|---|
//! | `board` | how often, for the metrics |
//! | `scheduler` | the thread |

mod board;
mod scheduler;

pub(crate) use self::board::{Board, FIRING_WORDS};
pub(crate) use self::scheduler::{Scheduler, SchedulerHandle};
