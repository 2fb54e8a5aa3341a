//! Opens the store of the log, and returns what a start finds in it.

use std::sync::Arc;

use super::error::StartError;
#[cfg(feature = "postgres")]
use super::error::failed;
use super::settings::secrets;
use crate::auth::{Instance, ServerKeys, TicketKey, TicketNote};
use crate::config::{Config, DataLocation, PostgresUrl};
use crate::log::{Lease, MemoryStore, Store, StoreCounts, Tail};
use crate::model::Timestamp;
use crate::random;

/// A store, and what belongs to it.
pub(super) struct Storage {
    pub(super) store: Box<dyn Store>,
    /// Signs ids. It stays the same as long as the data exists.
    pub(super) keys: ServerKeys,
    /// Signs tickets. It depends on the JWT secret, so that replacing the secret invalidates its tickets.
    pub(super) ticket_key: TicketKey,
    /// Identifies the data in message ids.
    pub(super) instance: Instance,
    /// The notes about tickets.
    pub(super) tickets: Vec<TicketNote>,
    /// Whether it outlasts the process.
    pub(super) is_durable: bool,
    /// Set if other nodes share the store.
    pub(super) shared: Option<Shared>,
}

/// What connects this node with others that share its store.
pub(super) struct Shared {
    pub(super) lease: Box<dyn Lease>,
    pub(super) tail: Box<dyn Tail>,
    pub(super) counts: Arc<StoreCounts>,
}

/// Opens the store that `config` names.
///
/// # Errors
/// The problem, in a sentence with the path of the store.
pub(super) fn open(config: &Config, now: Timestamp) -> Result<Storage, StartError> {
    match &config.data {
        DataLocation::Memory => in_memory(config),
        DataLocation::Directory(path) => in_directory(config, path, now),
        DataLocation::Postgres(url) => in_postgres(config, url, now),
    }
}

/// Checks what can be checked of the store that `config` names while another process has it open.
///
/// # Errors
/// If this program can't use it.
pub(super) fn check(config: &Config) -> Result<(), StartError> {
    match &config.data {
        #[cfg(feature = "sqlite")]
        DataLocation::Directory(path) => {
            crate::log::SqliteStore::check(path).map_err(|error| StartError(error.to_string()))
        }
        _ => Ok(()),
    }
}

/// Derives the keys from the secret, if there is one. So a restarted server recognizes ids of the process before as
/// genuine, even if it can't continue from them.
fn in_memory(config: &Config) -> Result<Storage, StartError> {
    let key = match secrets(config).next() {
        Some(secret) => secret.to_vec(),
        None => random::bits::<32>()?.to_vec(),
    };
    let ticket_keys = secrets(config).skip(1).map(|secret| ServerKeys::derive(secret).ticket_key());
    Ok(Storage {
        store: Box::new(MemoryStore::new()),
        keys: ServerKeys::derive(&key),
        ticket_key: ticket_keys.fold(ServerKeys::derive(&key).ticket_key(), TicketKey::or),
        instance: Instance::from_random(random::bits()?),
        tickets: Vec::new(),
        is_durable: false,
        shared: None,
    })
}

/// A store whose keys were derived from the secret.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
fn durable(config: &Config, store: Box<dyn Store>, identity: crate::log::Identity, shared: Option<Shared>) -> Storage {
    let ticket_key = |secret: &[u8]| ServerKeys::derive(&[&identity.master_key, secret].concat()).ticket_key();
    Storage {
        store,
        keys: ServerKeys::derive(&identity.master_key),
        ticket_key: secrets(config).map(ticket_key).reduce(TicketKey::or).unwrap_or_else(|| ticket_key(&[])),
        instance: identity.instance,
        tickets: identity.tickets,
        is_durable: true,
        shared,
    }
}

#[cfg(feature = "postgres")]
fn in_postgres(config: &Config, url: &PostgresUrl, now: Timestamp) -> Result<Storage, StartError> {
    use crate::config::Wake;
    use crate::log::{Opened, PostgresSettings, PostgresStore, PostgresWake, Seed};

    let wake = match config.cluster.wake {
        Wake::Notify => PostgresWake::Notify,
        Wake::Poll => PostgresWake::Poll,
    };
    let settings = PostgresSettings { ttl: config.cluster.node_ttl, wake };
    let seed = Seed { master_key: random::bits()?, instance: random::bits()? };
    let opened = PostgresStore::open(url.expose(), &seed, settings, now);
    let Opened { mut store, identity, lease, tail, counts } = opened.map_err(|error| StartError(error.to_string()))?;
    store.trim_beside().map_err(|error| failed("start the thread that trims history", &error))?;
    let shared = Shared { lease: Box::new(lease), tail: Box::new(tail), counts };
    Ok(durable(config, Box::new(store), identity, Some(shared)))
}

#[cfg(not(feature = "postgres"))]
fn in_postgres(_: &Config, url: &PostgresUrl, _: Timestamp) -> Result<Storage, StartError> {
    Err(StartError(format!("cannot store data in {url}: this program was built without the feature postgres")))
}

#[cfg(feature = "sqlite")]
fn in_directory(config: &Config, path: &std::path::Path, now: Timestamp) -> Result<Storage, StartError> {
    use crate::config::Synchronous as Wanted;
    use crate::log::{Seed, SqliteStore, Synchronous};

    let synchronous = match config.store.synchronous {
        Wanted::Normal => Synchronous::Normal,
        Wanted::Full => Synchronous::Full,
    };
    let seed = Seed { master_key: random::bits()?, instance: random::bits()? };
    let opened = SqliteStore::open(path, synchronous, &seed, now);
    let (store, identity) = opened.map_err(|error| StartError(error.to_string()))?;
    Ok(durable(config, Box::new(store), identity, None))
}

#[cfg(not(feature = "sqlite"))]
fn in_directory(_: &Config, path: &std::path::Path, _: Timestamp) -> Result<Storage, StartError> {
    let path = path.display();
    Err(StartError(format!(
        "cannot store data in {path}: this program was built without the feature sqlite; use --data none"
    )))
}
