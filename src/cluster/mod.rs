//! Keeps this node a member of a cluster that shares a store: it renews the lease of the node, takes over the runs of
//! failed nodes, stops everything if this node has lost its own lease (fencing), and reads what other nodes have
//! written.
//!
//! There are three threads. Each is a thin shell around a state machine that has neither a clock nor a database:
//!
//! | thread | state machine | what it does |
//! |---|---|---|
//! | `lease` | `Pulse`, `Wakes` | renews the lease, takes over runs, notifies other nodes |
//! | `fence` | `Pulse` | fences this node in time even if the database does not answer |
//! | `tail` | `Looks` | reads what other nodes have written, and passes it to the log |
//!
//! All times here are of the monotonic clock. Only the clock of the database decides whether a lease has expired.

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
