//! Reads the file on a connection of its own, while someone else writes it: in WAL mode neither waits for the other.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use super::{explain, read};
use crate::log::RunNumber;
use crate::log::history::{Ends, History, Reader};
use crate::log::store::{Flow, StoreError, StoredMessage, StoredOutput};
use crate::model::{ProjectId, RunId, StepId};

/// A reader waits only for what is rare and short, such as another program that recovers the write-ahead log.
const BUSY_TIMEOUT: Duration = Duration::from_secs(1);

/// Statements that are held prepared: more than there are.
const STATEMENTS: usize = 32;

/// Kibibytes of pages in memory, as SQLite wants it: negative. Little: what is read is read in order, and what many
/// want is held encoded.
const CACHE_KIB: i64 = -4 * 1024;

/// A second way into the file of a [`SqliteStore`](super::SqliteStore).
pub(super) struct SqliteReader {
    conn: Connection,
    /// Of the file, for what goes wrong.
    path: PathBuf,
}

impl SqliteReader {
    pub(super) fn open(path: &Path) -> rusqlite::Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let conn = Connection::open_with_flags(path, flags)?;
        conn.set_prepared_statement_cache_capacity(STATEMENTS);
        conn.busy_timeout(BUSY_TIMEOUT)?;
        // As for the connection that writes.
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        conn.pragma_update(None, "query_only", true)?;
        conn.pragma_update(None, "cache_size", CACHE_KIB)?;
        Ok(Self { conn, path: path.to_owned() })
    }
}

impl Reader for SqliteReader {
    /// In one transaction, which is short: while it is open, the write-ahead log can't begin anew.
    fn look(&mut self, look: &mut dyn FnMut(&dyn History) -> Result<(), StoreError>) -> Result<(), StoreError> {
        let transaction = Transaction::new_unchecked(&self.conn, TransactionBehavior::Deferred);
        let transaction = transaction.map_err(|error| StoreError(explain(&self.path, &error)))?;
        look(&Moment { conn: &transaction, path: &self.path })
    }
}

/// The file as it was when it was first looked at in a transaction.
struct Moment<'a> {
    conn: &'a Connection,
    path: &'a Path,
}

impl Moment<'_> {
    fn checked<T>(&self, result: rusqlite::Result<T>) -> Result<T, StoreError> {
        result.map_err(|error| StoreError(explain(self.path, &error)))
    }
}

impl History for Moment<'_> {
    fn newest(&self, project: &ProjectId) -> Result<u64, StoreError> {
        self.checked(read::newest(self.conn, project))
    }

    fn floor(&self, project: &ProjectId) -> Result<u64, StoreError> {
        self.checked(read::floor(self.conn, project))
    }

    fn messages(
        &self,
        project: &ProjectId,
        after: u64,
        run: Option<RunNumber>,
        each: &mut dyn FnMut(&StoredMessage) -> Flow,
    ) -> Result<(), StoreError> {
        self.checked(match run {
            None => read::messages(self.conn, project, after, each),
            Some(run) => read::messages_of_run(self.conn, run, after, each),
        })
    }

    fn run_number(&self, project: &ProjectId, run: &RunId) -> Result<Option<RunNumber>, StoreError> {
        self.checked(read::run_by_id(self.conn, project, run))
    }

    fn ends(&self, _: &ProjectId, number: RunNumber) -> Result<Option<Ends>, StoreError> {
        self.checked(read::ends(self.conn, number))
    }

    fn ended_state(&self, number: RunNumber) -> Result<Option<Arc<[u8]>>, StoreError> {
        self.checked(read::ended_state(self.conn, number))
    }

    fn output(&self, number: RunNumber, step: &StepId) -> Result<Option<StoredOutput>, StoreError> {
        self.checked(read::output(self.conn, number, step))
    }
}
