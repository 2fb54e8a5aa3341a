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
mod hands;
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

pub(crate) use self::fence_thread::FenceThread;
pub(crate) use self::hands::{Hands, PendingHands};
pub(crate) use self::lease_thread::{LeaseHandle, LeaseThread};
pub(crate) use self::pace::Pace;
pub(crate) use self::pulse::SharedPulse;
pub(crate) use self::tail_thread::{TailHandle, TailThread};
pub(crate) use self::vitals::Vitals;
pub(crate) use self::wakes::{Bell, Rung};
