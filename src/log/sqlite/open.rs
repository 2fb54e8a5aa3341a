//! Creates, locks and checks the database file.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, MAIN_DB, OpenFlags, Transaction, TransactionBehavior, params};

use super::checkpoint::Checkpointer;
use super::migrate::migrate;
use super::{SqliteStore, damaged, explain, is_damage, outbox, plans, recover, sql};
use crate::auth::Instance;
use crate::clock;
use crate::log::store::{Identity, Seed};
use crate::model::Timestamp;

pub(super) const DATABASE: &str = "stepcast.db";

/// An empty file; the process that holds its lock may open the database. It is separate so that `sqlite3` can read or
/// back up the database while the server runs. The system releases the lock when the process ends.
const LOCK: &str = "lock";

/// How long a start waits for the lock. A server that was killed just now may have left it with a child that it was about
/// to make a command of, and one that ends has it until it has.
const LOCK_WAIT: Duration = Duration::from_secs(1);

/// How often it tries.
const LOCK_PACE: Duration = Duration::from_millis(10);

/// How long a commit waits for another program that holds the file, such as one that makes a backup.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Statements that are held prepared: more than there are.
const STATEMENTS: usize = 148;

/// Kibibytes of pages in memory, as SQLite wants it: negative.
const CACHE_KIB: i64 = -16 * 1024;

/// Bytes of a page in a file that is new. A commit writes every page that it touches as a whole, and most of what it
/// touches changes only a little.
const PAGE_BYTES: i64 = 1024;

/// Bytes in the write-ahead log at which a commit moves them into the file itself, and that it is cut back to after it was
/// larger.
pub(super) const WAL_BYTES_MAX: i64 = 32 * 1024 * 1024;

/// When what was written is on the disk itself, and not only with the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Synchronous {
    /// A little later: the end of the process loses nothing, that of the machine the last moments.
    #[default]
    Normal,
    /// Before anyone is told: the end of the machine loses nothing either.
    Full,
}

/// Why a directory can't be used.
#[derive(Debug)]
pub struct OpenError {
    path: PathBuf,
    problem: Problem,
}

#[derive(Debug)]
enum Problem {
    NoDirectory,
    Io(&'static str, io::Error),
    InUse,
    ReadOnly,
    NotOurs,
    Newer(i64),
    Damaged(String),
    NoWal(String),
    Other(rusqlite::Error),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.problem {
            Problem::NoDirectory => write!(f, "{path} is not a directory"),
            Problem::Io(what, error) => write!(f, "cannot {what} {path}: {error}"),
            Problem::InUse => write!(f, "{path} is in use by another stepcast process"),
            Problem::ReadOnly => write!(f, "{path} cannot be written: it is read-only"),
            Problem::NotOurs => write!(f, "{path} is a database of another program"),
            Problem::Newer(version) => write!(
                f,
                "{path} was written by a newer stepcast: it has format {version}, and this program supports formats up to {}",
                sql::SCHEMA_VERSION
            ),
            Problem::Damaged(why) => f.write_str(&damaged(&self.path, why)),
            Problem::NoWal(mode) => {
                write!(
                    f,
                    "{path} does not support a write-ahead log (journal mode is {mode}); is it on a network file system?"
                )
            }
            Problem::Other(error) => f.write_str(&explain(&self.path, error)),
        }
    }
}

impl std::error::Error for OpenError {}

impl SqliteStore {
    /// Opens the store in `directory`, which is made where there is none, and reads whose it is.
    ///
    /// Damage is found where it is read: the head of the file and the tables' structure here, and more of it when a
    /// journal [recovers](crate::log::Store::recover) from it. A page of old history that is broken shows when that history is asked for. Checking all of a large file would
    /// take longer than anyone wants to wait for a start.
    ///
    /// # Errors
    /// [`OpenError`] says in a sentence what is the matter with which path.
    pub fn open(
        directory: &Path,
        synchronous: Synchronous,
        seed: &Seed,
        now: Timestamp,
    ) -> Result<(Self, Identity), OpenError> {
        // A name that begins with "file:" would mean something else to SQLite; an absolute one does not.
        let directory = &std::path::absolute(directory).map_err(io_problem("find", directory))?;
        make_directory(directory)?;
        let lock = lock(directory)?;
        let path = directory.join(DATABASE);
        make_file(&path)?;
        let checked = |result: rusqlite::Result<Connection>| result.map_err(|error| sqlite_problem(&path, error));
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let conn = checked(Connection::open_with_flags(&path, flags))?;
        let (identity, projects) = prepare(&conn, &path, synchronous, seed, now)?;
        let outlasting = conn.query_row(sql::HAS_OUTLASTING, [], |row| row.get(0));
        let has_outlasting = outlasting.map_err(|error| sqlite_problem(&path, error))?;
        let checkpointer = Checkpointer::start(&path).map_err(|error| sqlite_problem(&path, error))?;
        let store = Self {
            conn,
            path,
            memory: Default::default(),
            packer: Default::default(),
            grown: projects,
            has_outlasting,
            written: Default::default(),
            tickets_trimmed_at: None,
            clock: Timestamp::default(),
            emptied: 0,
            checkpointer,
            pieces: RefCell::default(),
            _lock: lock,
        };
        Ok((store, identity))
    }
}

impl SqliteStore {
    /// Could this program open the store in `directory`? Reads what format it has, and may do so while another process has
    /// it open. A directory without a store is as good as one with.
    ///
    /// # Errors
    /// It is not ours, or of a later format.
    pub fn check(directory: &Path) -> Result<(), OpenError> {
        let directory = &std::path::absolute(directory).map_err(io_problem("find", directory))?;
        let path = directory.join(DATABASE);
        if !path.exists() {
            return Ok(());
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let failed = |error| sqlite_problem(&path, error);
        let conn = Connection::open_with_flags(&path, flags).map_err(failed)?;
        conn.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
        let found = check_version(&conn).map_err(failed)?;
        found.map(drop).map_err(|problem| OpenError { path: path.clone(), problem })
    }
}

/// Makes the connection fit for use. Whose file it is, and all projects' ids, so that the first trim looks at each.
fn prepare(
    conn: &Connection,
    path: &Path,
    synchronous: Synchronous,
    seed: &Seed,
    now: Timestamp,
) -> Result<(Identity, BTreeSet<i64>), OpenError> {
    let problem = |problem| OpenError { path: path.to_owned(), problem };
    let failed = |error| sqlite_problem(path, error);
    if conn.is_readonly(MAIN_DB).map_err(failed)? {
        return Err(problem(Problem::ReadOnly));
    }
    let found = check_version(conn).map_err(failed)?.map_err(problem)?;
    let mode = set_up(conn, synchronous).map_err(failed)?;
    if mode != "wal" {
        return Err(problem(Problem::NoWal(mode)));
    }
    match found {
        Found::New => make_tables(conn, seed),
        Found::Earlier(version) => migrate(conn, version, now),
        Found::Current => Ok(()),
    }
    .map_err(failed)?;
    Ok((recover::identity(conn, now).map_err(failed)?, recover::project_ids(conn).map_err(failed)?))
}

fn make_directory(directory: &Path) -> Result<(), OpenError> {
    if directory.is_dir() {
        return Ok(());
    }
    if directory.exists() {
        return Err(OpenError { path: directory.to_owned(), problem: Problem::NoDirectory });
    }
    let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.map_err(io_problem("create the directory", directory))
}

fn lock(directory: &Path) -> Result<File, OpenError> {
    let path = directory.join(LOCK);
    let opened = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = opened.map_err(io_problem("write", &path))?;
    let began = clock::mono();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if clock::mono() - began < LOCK_WAIT => thread::sleep(LOCK_PACE),
            Err(TryLockError::WouldBlock) => {
                return Err(OpenError { path: directory.to_owned(), problem: Problem::InUse });
            }
            Err(TryLockError::Error(error)) => return Err(io_problem("lock", &path)(error)),
        }
    }
}

/// SQLite would make it for everyone to read. What it puts beside it has the same mode.
fn make_file(path: &Path) -> Result<(), OpenError> {
    let made = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
    made.map(drop).map_err(io_problem("write", path))
}

/// What a file holds that this program can go on with.
enum Found {
    /// Nothing.
    New,
    /// The tables of an earlier format.
    Earlier(i64),
    /// Its own.
    Current,
}

fn check_version(conn: &Connection) -> rusqlite::Result<Result<Found, Problem>> {
    let version: i64 = conn.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let application: i64 = conn.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let tables: i64 = conn.query_row(sql::TABLES, [], |row| row.get(0))?;
    Ok(match (application, version) {
        (0, 0) if tables == 0 => Ok(Found::New),
        (sql::APPLICATION_ID, sql::SCHEMA_VERSION) => Ok(Found::Current),
        (sql::APPLICATION_ID, 1..sql::SCHEMA_VERSION) => Ok(Found::Earlier(version)),
        (sql::APPLICATION_ID, version) if version > sql::SCHEMA_VERSION => Err(Problem::Newer(version)),
        (sql::APPLICATION_ID, version) => Err(Problem::Damaged(format!("format {version} does not exist"))),
        _ => Err(Problem::NotOurs),
    })
}

/// The journal mode that SQLite chose in the end.
fn set_up(conn: &Connection, synchronous: Synchronous) -> rusqlite::Result<String> {
    conn.set_prepared_statement_cache_capacity(STATEMENTS);
    conn.busy_timeout(BUSY_TIMEOUT)?;
    // One query plan for each statement. Otherwise the plan depends on the bound values, and SQLite prepares a cached
    // statement again whenever these are cleared, which is at every use.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    // Both before there is a table, or never.
    conn.pragma_update(None, "page_size", PAGE_BYTES)?;
    conn.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    let mode = conn.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    let synchronous = match synchronous {
        Synchronous::Normal => "NORMAL",
        Synchronous::Full => "FULL",
    };
    conn.pragma_update(None, "synchronous", synchronous)?;
    conn.pragma_update(None, "cache_size", CACHE_KIB)?;
    conn.pragma_update(None, "temp_store", "MEMORY")?;
    let page_bytes: i64 = conn.pragma_query_value(None, "page_size", |row| row.get(0))?;
    conn.pragma_update(None, "wal_autocheckpoint", WAL_BYTES_MAX / page_bytes)?;
    conn.pragma_update(None, "journal_size_limit", WAL_BYTES_MAX)?;
    Ok(mode)
}

fn make_tables(conn: &Connection, seed: &Seed) -> rusqlite::Result<()> {
    let transaction = Transaction::new_unchecked(conn, TransactionBehavior::Immediate)?;
    transaction.execute_batch(sql::SCHEMA)?;
    transaction.execute_batch(sql::HISTORY_SCHEMA)?;
    transaction.execute_batch(outbox::SCHEMA)?;
    transaction.execute_batch(plans::SCHEMA)?;
    transaction.execute_batch(sql::ITEMS_SCHEMA)?;
    let instance = Instance::from_random(seed.instance).to_string();
    transaction.execute(sql::PUT_META, params![recover::MASTER_KEY, seed.master_key])?;
    transaction.execute(sql::PUT_META, params![recover::INSTANCE, instance.as_bytes()])?;
    transaction.pragma_update(None, "application_id", sql::APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", sql::SCHEMA_VERSION)?;
    transaction.commit()?;
    // The keys must outlast the machine's end too: what clients hold is signed with them.
    conn.pragma(None, "wal_checkpoint", "TRUNCATE", |_| Ok(()))
}

fn io_problem(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    let path = path.to_owned();
    move |error| OpenError { path, problem: Problem::Io(what, error) }
}

fn sqlite_problem(path: &Path, error: rusqlite::Error) -> OpenError {
    let problem = match error.sqlite_error_code() {
        _ if is_damage(&error) => Problem::Damaged(error.to_string()),
        Some(ErrorCode::ReadOnly) => Problem::ReadOnly,
        _ => Problem::Other(error),
    };
    OpenError { path: path.to_owned(), problem }
}
