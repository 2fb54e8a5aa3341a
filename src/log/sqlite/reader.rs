//! Reads the file on a connection of its own while another connection writes: in WAL mode neither waits for the other.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use super::explain;
use super::pieces::Pieces;
use super::read::Readable;
use crate::log::store::{History, Reader, StoreError};

/// A reader waits only for what is rare and short, such as another program that recovers the write-ahead log.
const BUSY_TIMEOUT: Duration = Duration::from_secs(1);

/// Statements that are held prepared: more than there are.
const STATEMENTS: usize = 40;

/// Kibibytes of pages in memory, as SQLite wants it: negative. Little: what is read is read in order, and what many
/// want is held encoded.
const CACHE_KIB: i64 = -4 * 1024;

/// A second way into the file of a [`SqliteStore`](super::SqliteStore).
pub(super) struct SqliteReader {
    conn: Connection,
    /// Of the file, for what goes wrong.
    path: PathBuf,
    pieces: RefCell<Pieces>,
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
        Ok(Self { conn, path: path.to_owned(), pieces: RefCell::default() })
    }
}

impl Reader for SqliteReader {
    /// In one transaction, which is short: while it is open, the write-ahead log can't begin again.
    fn look(&mut self, look: &mut dyn FnMut(&dyn History) -> Result<(), StoreError>) -> Result<(), StoreError> {
        let transaction = Transaction::new_unchecked(&self.conn, TransactionBehavior::Deferred);
        let transaction = transaction.map_err(|error| StoreError(explain(&self.path, &error)))?;
        look(&Moment { conn: &transaction, path: &self.path, pieces: &self.pieces })
    }
}

/// The file as it was when it was first looked at in a transaction.
struct Moment<'a> {
    conn: &'a Connection,
    path: &'a Path,
    pieces: &'a RefCell<Pieces>,
}

impl Readable for Moment<'_> {
    fn conn(&self) -> &Connection {
        self.conn
    }

    fn path(&self) -> &Path {
        self.path
    }

    fn pieces(&self) -> &RefCell<Pieces> {
        self.pieces
    }
}
