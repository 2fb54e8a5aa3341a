//! What a fleet shows while it works.

use std::sync::atomic::{AtomicU64, Ordering};

/// What the threads tell while they work.
#[derive(Debug, Default)]
pub struct Gauges {
    pub(super) greeted: AtomicU64,
    pub(super) at_goal: AtomicU64,
    pub(super) last_goal_ns: AtomicU64,
    pub(super) messages: AtomicU64,
    pub(super) begun: AtomicU64,
    pub(super) last_begun_ns: AtomicU64,
}

impl Gauges {
    /// Streams on which `connected` has come.
    pub fn greeted(&self) -> usize {
        self.greeted.load(Ordering::Relaxed) as usize
    }

    /// Subscribers that have the number of [`Fleet::set_goal`](super::Fleet::set_goal).
    pub fn at_goal(&self) -> usize {
        self.at_goal.load(Ordering::Relaxed) as usize
    }

    /// When the newest of those got there.
    pub fn last_goal_ns(&self) -> u64 {
        self.last_goal_ns.load(Ordering::Relaxed)
    }

    /// Streams on which `connected` has come so far, with those that have ended.
    pub fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    /// When the newest of those began.
    pub fn last_begun_ns(&self) -> u64 {
        self.last_begun_ns.load(Ordering::Relaxed)
    }

    /// Messages received.
    pub fn messages(&self) -> u64 {
        self.messages.load(Ordering::Relaxed)
    }
}
