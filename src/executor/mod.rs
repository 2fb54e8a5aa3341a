//! Runs plans: the state machines of runs, the worker pool, and the tools that steps call.
//!
//! [`Run`](run::Run), [`Scheduler`](scheduler::Scheduler) and [`Foreman`](foreman::Foreman) are pure: inputs and `now`
//! go in; records, jobs and cancellations come out. [`Executor`] and the pool are the shells around them, which own the
//! threads and the clock.

#[cfg(test)]
mod abandon_tests;
pub mod call;
pub mod change;
pub mod check;
pub mod complete;
mod context;
mod durations;
pub mod foreman;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod joiner;
pub mod ledger;
mod pool;
pub mod run;
pub mod scheduler;
pub mod template;
#[cfg(test)]
pub(crate) mod testing;
mod thread;
pub mod tool;
mod valve;

pub use context::{Context, PlanLimits};
pub use durations::Durations;
pub use run::{AttemptError, ChildCall, ChildEnd, ChildWish, NO_ROOM_WAIT, NewRun, ResumedRun};
pub use scheduler::Settings;
pub use thread::{Executor, ExecutorHandle, Unstarted};
