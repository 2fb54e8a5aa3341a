//! The log: messages that come as one batch, to each kind of store.

use std::time::Duration;

use stepcast::bench::{
    Command, Instance, Journal, LogLimits, MemoryStore, Now, PublishedEvent, ReplyTo, Retention, ServerKeys, SlabKey,
    Store, Timestamp,
};

use super::streams::{payload, project};
use super::work::{Done, Work, used};

/// A batch of so many messages, kept in memory.
pub fn memory(batch: u64) -> Done<Work> {
    append(Box::new(MemoryStore::new()), batch, ())
}

/// A batch of so many messages, kept by SQLite.
#[cfg(feature = "sqlite")]
pub fn sqlite(batch: u64) -> Done<Work> {
    use stepcast::bench::{Seed, SqliteStore, Synchronous};

    let directory = directory::Directory::new()?;
    let seed = Seed { master_key: [7; 32], instance: [7; 6] };
    let (store, _) = SqliteStore::open(directory.path(), Synchronous::Normal, &seed, Timestamp::default())?;
    append(Box::new(store), batch, directory)
}

fn append<T: 'static>(store: Box<dyn Store>, batch: u64, kept: T) -> Done<Work> {
    let signer = ServerKeys::derive(&[7; 32]).id_signer(Instance::from_random([7; 6]));
    let retention = Retention { messages: 10_000, bytes: 1 << 30, age_ms: 7 * 24 * 3_600_000, runs: 1000 };
    let limits = LogLimits {
        retention,
        open_runs: 10,
        project_runs: usize::MAX,
        projects: 10,
        key_bytes: 1 << 20,
        state_outputs_bytes: 1 << 20,
        plans: Default::default(),
        recent_ms: 1000,
    };
    let no_plan = Box::new(|_: &[u8]| Err("no plan is kept here".to_owned()));
    let mut now = Now { mono: Duration::ZERO, wall: Timestamp::from_millis(1_700_000_000_000) };
    let (mut journal, _) = Journal::open(store, signer, limits, no_plan, now)?;
    let (project, payload) = (project()?, payload());
    Ok(Box::new(move || {
        let _ = &kept;
        now = now.plus(Duration::from_millis(1));
        let publish = |number: u64| Command::Publish {
            project: project.clone(),
            events: vec![PublishedEvent { message_type: "note".into(), payload: payload.clone() }],
            reply: ReplyTo::Connection(SlabKey::new(number as u32, 0)),
        };
        used(journal.handle((0..batch).map(publish).collect(), now).deliveries.len())
    }))
}

#[cfg(feature = "sqlite")]
mod directory {
    use std::path::{Path, PathBuf};
    use std::sync::atomic::{AtomicU32, Ordering};

    /// Removed at the end.
    pub struct Directory(PathBuf);

    impl Directory {
        pub fn new() -> std::io::Result<Self> {
            static MADE: AtomicU32 = AtomicU32::new(0);
            let name = format!("parts-{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
            let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
            std::fs::create_dir_all(&path)?;
            Ok(Self(path))
        }

        pub fn path(&self) -> &Path {
            &self.0
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}
