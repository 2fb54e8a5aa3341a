//! Starts over a store that others share, which is slow.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};

use super::super::storage::{Shared, Storage};
use super::Builder;
use crate::auth::{Instance, ServerKeys};
use crate::config::{AuthMode, Config, ListenAddress};
use crate::log::fake_engine::{FakeLease, TTL_MS};
use crate::log::faulty::Disk;
use crate::log::{Beat, BeatError, Lease, MemoryStore, StoreError};
use crate::model::ProjectId;

/// Says when it has said that it is alive.
struct Telling {
    lease: FakeLease<MemoryStore>,
    renewed: Sender<()>,
}

impl Lease for Telling {
    fn beat(&mut self) -> Result<Beat, BeatError> {
        self.lease.beat()
    }

    fn renew(&mut self) -> Result<Beat, BeatError> {
        let renewed = self.lease.renew();
        // Once is enough.
        let _ = self.renewed.try_send(());
        renewed
    }

    fn wake(&mut self, projects: &[ProjectId], has_wishes: bool) -> Result<(), StoreError> {
        self.lease.wake(projects, has_wishes)
    }

    fn leave(&mut self) -> Result<(), StoreError> {
        self.lease.leave()
    }
}

#[test]
fn a_node_beats_while_all_that_it_goes_on_with_is_read() {
    let disk = Disk::shared_by_nodes(MemoryStore::new());
    let (identity, (renewed, is_renewed)) = (disk.join(), bounded(1));
    let slow = disk.clone();
    disk.pass_ms(TTL_MS - 1);
    disk.delay(Box::new(move || {
        is_renewed.recv_timeout(Duration::from_secs(60)).expect("it says that it is alive");
        slow.pass_ms(TTL_MS - 1);
    }));

    let listen = ListenAddress::parse("127.0.0.1:0").expect("an address");
    let mut config = Config { listen, ..Config::default() };
    config.auth.mode = AuthMode::None;
    let keys = ServerKeys::derive(&[1; 32]);
    let storage = Storage {
        store: Box::new(disk.store_as(&identity)),
        ticket_key: keys.ticket_key(),
        keys,
        instance: Instance::from_random([1; 6]),
        tickets: Vec::new(),
        is_durable: true,
        shared: Some(Shared {
            lease: Box::new(Telling { lease: disk.lease(&identity), renewed }),
            tail: Box::new(disk.tail(&identity, 1)),
            counts: Arc::default(),
        }),
    };
    let server = Builder::new(config).start_over(|_| Ok(storage)).expect("it starts");
    let project = "p".parse().expect("an id");
    let published = server.handle().broadcast(&project, &serde_json::json!({"type": "note", "payload": {}}));
    assert!(published.is_ok(), "it is the node that it was: {published:?}");
    server.stop().expect("it ends");
}
