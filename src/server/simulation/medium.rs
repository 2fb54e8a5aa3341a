//! What outlasts the process: the next process finds what this one has stored.

use crate::log::{MemoryStore, Store};
use crate::model::Timestamp;

/// See the top of this file.
pub(super) trait Medium: Sized {
    type Store: Store + 'static;

    /// A new one, and the store in it.
    fn new(now: Timestamp) -> (Self, Self::Store);

    /// The store as the next process finds it, once one was killed; none if it is the same.
    fn reopen(&mut self, now: Timestamp) -> Option<Self::Store>;
}

/// Memory, played as if it were kept.
pub(super) struct Memory;

impl Medium for Memory {
    type Store = MemoryStore;

    fn new(_: Timestamp) -> (Self, MemoryStore) {
        (Self, MemoryStore::new())
    }

    fn reopen(&mut self, _: Timestamp) -> Option<MemoryStore> {
        None
    }
}

#[cfg(feature = "sqlite")]
pub(super) use directory::Directory;

#[cfg(feature = "sqlite")]
mod directory {
    use std::path::{Path, PathBuf};
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::Medium;
    use crate::log::{Seed, SqliteStore, Synchronous};
    use crate::model::Timestamp;

    /// What a killed process leaves: the file, and what was not yet moved into it.
    const FILES: [&str; 2] = ["stepcast.db", "stepcast.db-wal"];

    /// A directory of the file system. Each process has a copy of its own of what the one before it left, made while that
    /// still had it open: so nothing is there that only an orderly end would have written.
    pub(in super::super) struct Directory {
        path: PathBuf,
        /// Processes so far.
        opened: u64,
    }

    impl Medium for Directory {
        type Store = SqliteStore;

        fn new(now: Timestamp) -> (Self, SqliteStore) {
            static MADE: AtomicU64 = AtomicU64::new(0);
            let name = format!("stepcast-world-{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
            let directory = Self { path: std::env::temp_dir().join(name), opened: 0 };
            let store = open(&directory.current(), now);
            (directory, store)
        }

        fn reopen(&mut self, now: Timestamp) -> Option<SqliteStore> {
            let left = self.current();
            self.opened += 1;
            let found = self.current();
            std::fs::create_dir(&found).expect("a new directory");
            for name in FILES {
                std::fs::copy(left.join(name), found.join(name)).expect("it is there while it is open");
            }
            // Who has it open goes on undisturbed until it is let go.
            std::fs::remove_dir_all(&left).expect("ours");
            Some(open(&found, now))
        }
    }

    impl Directory {
        fn current(&self) -> PathBuf {
            self.path.join(self.opened.to_string())
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }

    fn open(path: &Path, now: Timestamp) -> SqliteStore {
        let seed = Seed { master_key: [7; 32], instance: [1; 6] };
        SqliteStore::open(path, Synchronous::Normal, &seed, now).expect("it can be opened").0
    }
}
