//! What keeps a node among others that share its store: it says that it is alive, takes over from those that are not, lets
//! go of everything where it is itself thought to be gone, and finds out what the others have written.
//!
//! Three threads, each a thin shell about a machine that has no clock and no engine of its own:
//!
//! | thread | machine | what it does |
//! |---|---|---|
//! | `lease` | `Pulse`, `Wakes` | beats, takes over, wakes others up |
//! | `fence` | `Pulse` | fences this node in time though the engine does not answer |
//! | `tail` | `Looks` | finds what others have written, and has the log tell it |
//!
//! Everything here goes by the monotonic clock. What time it is for a lease is the engine's to say.

mod fence_thread;
mod lease_thread;
mod looks;
mod pace;
mod pulse;
mod tail_thread;
#[cfg(test)]
mod tests;
mod trouble;
mod vitals;
mod wakes;

use std::time::Duration;

pub(crate) use self::fence_thread::FenceThread;
pub(crate) use self::lease_thread::{LeaseHandle, LeaseThread};
pub(crate) use self::pace::Pace;
pub(crate) use self::pulse::SharedPulse;
pub(crate) use self::tail_thread::{TailHandle, TailThread};
pub(crate) use self::vitals::Vitals;
pub(crate) use self::wakes::{Bell, Rung};
use crate::log::Command;
use crate::log::{Standing, WishId};
use crate::model::ProjectId;

/// Whom the threads here tell what they have found out, and ask how far the log is.
pub(crate) trait Hands: Send + Sync {
    /// This node is thought to be gone: whatever runs here ends, and the log lets go of it.
    fn fence(&self);

    /// Hands them over if there is room.
    ///
    /// # Errors
    /// They come back.
    fn try_send(&self, commands: Vec<Command>) -> Result<(), Vec<Command>>;

    /// Does anything wait for the log?
    fn is_log_idle(&self) -> bool;

    /// How far the log is with the projects that it follows; of these alone, where there are any.
    fn standings(&self, of: Option<&[ProjectId]>) -> Vec<Standing>;

    /// Projects to which nothing that applications have published can be numbered now.
    fn put_off(&self) -> Vec<ProjectId>;

    /// When this node began to join the others again the last time, on the monotonic clock; zero where it never has.
    fn joined_at(&self) -> Duration;

    /// The wishes whose answers the log waits for.
    fn wishes(&self) -> Vec<WishId>;
}
