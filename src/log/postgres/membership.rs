//! The identity of this node in the cluster, as far as all of its threads need it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::OpenError;
use crate::log::store::{NodeId, StoreError};
use crate::random;

/// See the top of this file.
pub(super) struct Membership {
    node: AtomicU64,
    ttl: Duration,
    /// The time of the last renewal that the engine has confirmed.
    alive_at: Mutex<Instant>,
    /// What others are notified over.
    channel: String,
}

impl Membership {
    pub(super) fn new(node: NodeId, ttl: Duration, alive_at: Instant, channel: String) -> Self {
        let node = AtomicU64::new(u64::from_be_bytes(node.0));
        Self { node, ttl, alive_at: Mutex::new(alive_at), channel }
    }

    pub(super) fn node(&self) -> NodeId {
        NodeId(self.node.load(Ordering::Acquire).to_be_bytes())
    }

    pub(super) fn ttl(&self) -> Duration {
        self.ttl
    }

    pub(super) fn channel(&self) -> &str {
        &self.channel
    }

    /// The node is another from here on: it said so at this time.
    pub(super) fn becomes(&self, node: NodeId, at: Instant) {
        self.node.store(u64::from_be_bytes(node.0), Ordering::Release);
        self.is_alive(node, at);
    }

    /// This node has said at this time that it is alive, and was heard.
    pub(super) fn is_alive(&self, node: NodeId, at: Instant) {
        let mut alive_at = self.alive_at.lock().unwrap_or_else(PoisonError::into_inner);
        if node == self.node() {
            *alive_at = (*alive_at).max(at);
        }
    }

    /// Do the others think that it is gone, for all that this machine knows?
    pub(super) fn is_over(&self) -> bool {
        self.alive_at.lock().unwrap_or_else(PoisonError::into_inner).elapsed() >= self.ttl
    }
}

/// An id that no node ever had.
pub(super) fn new_node() -> Result<NodeId, StoreError> {
    random::bits().map(NodeId).map_err(|error| StoreError(error.to_string()))
}

impl From<StoreError> for OpenError {
    fn from(error: StoreError) -> Self {
        Self(error.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn that_a_node_was_alive_as_another_is_nothing_to_the_one_that_it_is_now() {
        let (began, former, node) = (Instant::now(), NodeId([1; 8]), NodeId([2; 8]));
        let me = Membership::new(former, Duration::from_nanos(1), began, String::new());
        me.becomes(node, began);
        while began.elapsed() < Duration::from_nanos(1) {}
        let later = began + Duration::from_secs(3600);
        me.is_alive(former, later);
        assert!(me.is_over());
        me.is_alive(node, later);
        assert!(!me.is_over());
    }
}
