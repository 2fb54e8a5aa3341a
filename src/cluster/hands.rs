//! Receives what the threads of this module have found out. A node renews its lease from the moment it joins, but its
//! log exists only once all of it has been read, which may take longer than a lease lasts: until then there are
//! [`PendingHands`].

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use crate::log::{Command, Standing, WishId};
use crate::model::ProjectId;

/// The receiver of what the threads of this module find out; it also tells them how far the log is.
pub(crate) trait Hands: Send + Sync {
    /// This node has lost its lease: its runs are stopped, and the log forgets them.
    fn fence(&self);

    /// Passes commands on if there is room.
    ///
    /// # Errors
    /// Returns the commands.
    fn try_send(&self, commands: Vec<Command>) -> Result<(), Vec<Command>>;

    /// Whether commands are waiting for the log.
    fn is_log_idle(&self) -> bool;

    /// The position of each project that the log follows, or only of the given projects.
    fn standings(&self, of: Option<&[ProjectId]>) -> Vec<Standing>;

    /// Projects for which published messages of applications cannot be numbered now.
    fn put_off(&self) -> Vec<ProjectId>;

    /// When this node last began to join the cluster again, on the monotonic clock; zero if it never has.
    fn joined_at(&self) -> Duration;

    /// The requests whose answers the log waits for.
    fn wishes(&self) -> Vec<WishId>;

    /// Whether this node can continue runs that it takes over.
    fn is_ready(&self) -> bool {
        true
    }
}

/// A receiver that is set later. Until then the node only renews its lease; see the top of this file.
#[derive(Default)]
pub(crate) struct PendingHands {
    hands: OnceLock<Arc<dyn Hands>>,
    /// The node was fenced before the receiver was set. Locked while this is decided.
    is_fenced: Mutex<bool>,
}

impl PendingHands {
    /// Whether the node was fenced before the receiver was set. Then the runs that it has found are not its own.
    pub(crate) fn is_fenced(&self) -> bool {
        *self.lock()
    }

    /// Sets the receiver. If the node was fenced before, the receiver is told now.
    pub(crate) fn begin(&self, hands: Arc<dyn Hands>) {
        let is_fenced = self.lock();
        let hands = self.hands.get_or_init(|| hands);
        let was_fenced = *is_fenced;
        drop(is_fenced);
        if was_fenced {
            hands.fence();
        }
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.is_fenced.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hands for PendingHands {
    fn fence(&self) {
        let mut is_fenced = self.lock();
        match self.hands.get() {
            None => *is_fenced = true,
            Some(hands) => {
                drop(is_fenced);
                hands.fence();
            }
        }
    }

    fn try_send(&self, commands: Vec<Command>) -> Result<(), Vec<Command>> {
        match self.hands.get() {
            None => Err(commands),
            Some(hands) => hands.try_send(commands),
        }
    }

    fn is_log_idle(&self) -> bool {
        self.hands.get().is_some_and(|hands| hands.is_log_idle())
    }

    fn standings(&self, of: Option<&[ProjectId]>) -> Vec<Standing> {
        self.hands.get().map(|hands| hands.standings(of)).unwrap_or_default()
    }

    fn put_off(&self) -> Vec<ProjectId> {
        self.hands.get().map(|hands| hands.put_off()).unwrap_or_default()
    }

    fn joined_at(&self) -> Duration {
        self.hands.get().map(|hands| hands.joined_at()).unwrap_or_default()
    }

    fn wishes(&self) -> Vec<WishId> {
        self.hands.get().map(|hands| hands.wishes()).unwrap_or_default()
    }

    fn is_ready(&self) -> bool {
        self.hands.get().is_some()
    }
}
