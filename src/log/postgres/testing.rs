//! A PostgreSQL server for unit tests, like the one for the contract tests.

#[path = "../../../tests/common/postgres.rs"]
pub(in crate::log) mod engine;

use std::time::Duration;

use super::{Opened, PostgresLease, PostgresSettings, PostgresStore, PostgresTail, PostgresWake};
use crate::log::store::{Identity, Lease, Seed};
use crate::model::Timestamp;

pub(super) const SEED: Seed = Seed { master_key: [7; 32], instance: [8; 6] };

pub(super) const SETTINGS: PostgresSettings =
    PostgresSettings { ttl: Duration::from_secs(15), wake: PostgresWake::Notify };

/// A database of a test's own, opened again and again, by one node at a time.
pub(in crate::log) struct SharedStore {
    pub(super) url: String,
    lease: Option<PostgresLease>,
}

/// A store that was opened.
pub(in crate::log) struct OpenedStore {
    pub(in crate::log) store: Box<PostgresStore>,
    pub(in crate::log) identity: Identity,
}

impl SharedStore {
    /// None if there is no PostgreSQL, which is said.
    pub(in crate::log) fn new() -> Option<Self> {
        Some(Self { url: engine::Postgres::shared()?.database(), lease: None })
    }

    /// The node before has left.
    pub(in crate::log) fn open(&mut self) -> OpenedStore {
        if let Some(mut lease) = self.lease.take() {
            lease.leave().expect("it can be told");
        }
        let Opened { store, identity, lease, .. } = open(&self.url, SETTINGS);
        self.lease = Some(lease);
        OpenedStore { store: Box::new(store), identity }
    }
}

/// One more node.
pub(super) fn open(url: &str, settings: PostgresSettings) -> Opened {
    PostgresStore::open(url, &SEED, settings, Timestamp::from_millis(0)).unwrap_or_else(|error| panic!("{error}"))
}

/// The parts of one more node.
pub(super) fn node(url: &str) -> (PostgresStore, PostgresLease, PostgresTail) {
    let Opened { store, lease, tail, .. } = open(url, SETTINGS);
    (store, lease, tail)
}
