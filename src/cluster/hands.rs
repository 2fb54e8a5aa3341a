//! Receives what the threads of this module have found out. A node renews its lease from the moment it joins, but its
//! log exists only once all of it has been read, which may take longer than a lease lasts: until then there are
//! [`PendingHands`].

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use crate::log::{Command, Standing, WishId};
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

    /// Can this node go on with runs that it takes over?
    fn is_ready(&self) -> bool {
        true
    }
}

/// Hands that a node gets later. Until then it only stays alive; see the top of this file.
#[derive(Default)]
pub(crate) struct PendingHands {
    hands: OnceLock<Arc<dyn Hands>>,
    /// The node was fenced before it had any. Locked while it is decided whether it has.
    is_fenced: Mutex<bool>,
}

impl PendingHands {
    /// Was the node fenced before it had any? Then the runs that it has found are not its own.
    pub(crate) fn is_fenced(&self) -> bool {
        *self.lock()
    }

    /// The node has these from now on. Where it was fenced before, they are told that now.
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
