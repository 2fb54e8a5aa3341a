//! The store on disk: one SQLite file in a directory of its own, written by one process at a time.
//!
//! A batch is one transaction, in WAL mode: what `commit` has acknowledged survives a kill of the process and, with
//! [`Synchronous::Full`], a power failure. The file is the only source of truth: in memory there are only a cache of
//! project ids, which is dropped whenever a transaction fails, and the list of projects to check when trimming.
//!
//! - [`sql`]: all statements except those of [`outbox`] and [`plans`], which are in their files
//! - [`write`]: writes batches, with the help of [`known`]
//! - [`read`]: lookups; [`messages`]: reads messages from their segments; [`pieces`]: finds parts of outputs
//! - [`reader`]: lookups beside the writer
//! - [`trim`]: deletes history over the limits, in [slices](slice)
//! - [`checkpoint`]: keeps the write-ahead log short
//! - [`open`]: creates, locks and checks the file; [`recover`]: reads what a start continues from

mod checkpoint;
mod known;
mod messages;
mod migrate;
mod open;
mod outbox;
mod packed;
mod pieces;
mod plans;
mod read;
mod reader;
mod recover;
mod slice;
mod sql;
mod trim;
mod write;

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};

pub use open::Synchronous;

use self::checkpoint::Checkpointer;
use self::known::Memory;
use self::packed::Packer;
use self::pieces::Pieces;
use self::read::{Readable, Totals};
use self::reader::SqliteReader;
use self::slice::Slice;
use self::trim::Trimmer;
use self::write::Writer;
use super::store::{
    AppendError, BeatError, Head, KEY_AGE_MS, KeyRow, Objection, Retention, RunRow, Store, StoreError,
    TOMBSTONE_AGE_MS, Times, Trimmed, Write,
};
use super::store::{Reader, Recovered, RecoveredProject, RunNumber};
use crate::model::{ProjectId, Timestamp};

/// How often it is kept where the clock stands that history ages by, where no message keeps it: a process that ends
/// before that ages nothing.
const CLOCK_PACE_MS: u64 = 10 * 60 * 1000;

/// Keeps the log in a directory; see the top of this file.
pub struct SqliteStore {
    conn: Connection,
    /// Of the file, for what goes wrong.
    path: PathBuf,
    memory: Memory,
    packer: Packer,
    /// Projects to look at when trimming, by their ids.
    grown: BTreeSet<i64>,
    /// There may be messages that outlast their segments.
    has_outlasting: bool,
    /// What was written since the last trim, which lets go of more than that where it must.
    written: Slice,
    /// When tickets were looked at last.
    tickets_trimmed_at: Option<Timestamp>,
    /// Where the clock stood that history ages by when that was kept last.
    clock: Timestamp,
    /// Projects that came to hold nothing since those were counted that do.
    emptied: usize,
    checkpointer: Checkpointer,
    pieces: RefCell<Pieces>,
    /// Held while the file is open. The field comes after `conn`, so that it is dropped after it.
    _lock: File,
}

impl SqliteStore {
    /// Writes a batch and, if asked to, trims history, in one transaction. None if a project is not as it is expected
    /// to be: such projects, as they are.
    fn write_all(
        &mut self,
        expected: &[Head],
        batch: &[Write],
        wall: Timestamp,
        trim: Option<(&Retention, Times)>,
    ) -> rusqlite::Result<Result<Option<Trimmed>, Vec<Head>>> {
        let transaction = Transaction::new_unchecked(&self.conn, TransactionBehavior::Immediate)?;
        let mut writer = Writer::new(&transaction, &mut self.memory, &mut self.packer, self.has_outlasting, wall);
        let conflicts = writer.conflicts(expected)?;
        if !conflicts.is_empty() {
            return Ok(Err(conflicts));
        }
        batch.iter().try_for_each(|write| writer.write(write))?;
        let (grown, written, clock) = writer.finish()?;
        // Where the transaction fails there is nothing to let go of them, and that is all.
        self.grown.extend(grown);
        self.written.add(written);
        let totals = self.memory.totals(&transaction)?;
        let work = trim.map(|(retention, now)| self.let_go(&transaction, totals, retention, now)).transpose()?;
        transaction.commit()?;
        self.clock = self.clock.max(clock);
        self.checkpointer.committed(batch);
        Ok(Ok(work.map(|work| self.note(work))))
    }

    fn trim_all(&mut self, retention: &Retention, now: Times) -> rusqlite::Result<Trimmed> {
        // Begins to write only where there is something to let go.
        let transaction = Transaction::new_unchecked(&self.conn, TransactionBehavior::Deferred)?;
        let totals = self.memory.totals(&transaction)?;
        let work = self.let_go(&transaction, totals, retention, now)?;
        transaction.commit()?;
        Ok(self.note(work))
    }

    fn let_go(
        &self,
        conn: &Connection,
        totals: Totals,
        retention: &Retention,
        now: Times,
    ) -> rusqlite::Result<TrimWork> {
        let before = |ms: u64| Timestamp::from_millis(now.age.as_millis().saturating_sub(ms));
        let mut trimmer = Trimmer::new(conn, self.written.to_let_go(), totals);
        let still_too_large = trimmer.trim_projects(&self.grown, retention)?;
        trimmer.trim_age(before(retention.age_ms))?;
        trimmer.trim_bytes(retention.bytes)?;
        let pieces_are_left = trimmer.drop_pieces()?;
        let items_are_left = trimmer.drop_items()?;
        let keys_are_left = trimmer.trim_keys(before(KEY_AGE_MS))?;
        let tickets_are_due =
            self.tickets_trimmed_at.is_none_or(|at| now.age.millis_since(at) >= trim::TICKETS_PACE_MS);
        if tickets_are_due {
            trimmer.trim_tickets(now.wall)?;
        }
        let emptied = trimmer.take_emptied(now.age)?;
        let are_many = self.emptied + emptied.len() >= trim::EMPTIED_MAX;
        let has_forgotten = trimmer.forget_projects(before(TOMBSTONE_AGE_MS), are_many)?;
        let clock_is_due = now.age.millis_since(self.clock) >= CLOCK_PACE_MS;
        if clock_is_due {
            trimmer.keep_clock(now.age)?;
        }
        let trim::Done { changed, has_outlasting, is_spent, totals } = trimmer.finish()?;
        let is_more = is_spent || pieces_are_left || items_are_left || keys_are_left || !still_too_large.is_empty();
        Ok(TrimWork {
            emptied_so_far: if are_many { 0 } else { self.emptied + emptied.len() },
            tickets_at: tickets_are_due.then_some(now.age),
            clock: clock_is_due.then_some(now.age),
            trimmed: Trimmed { is_more, emptied, has_forgotten, key_bytes: nat(totals.keys) },
            changed,
            has_outlasting,
            totals,
            still_too_large,
        })
    }

    /// The deletions of a trim are committed.
    fn note(&mut self, work: TrimWork) -> Trimmed {
        work.changed.iter().for_each(|name| self.memory.forget(name));
        self.memory.note_totals(work.totals);
        self.has_outlasting |= work.has_outlasting;
        self.grown = work.still_too_large;
        self.written = Slice::default();
        self.emptied = work.emptied_so_far;
        self.tickets_trimmed_at = work.tickets_at.or(self.tickets_trimmed_at);
        self.clock = work.clock.unwrap_or(self.clock);
        // It is told, whatever becomes of the pages.
        let pages_are_left = trim::give_pages_back(&self.conn).unwrap_or_else(|error| {
            log::debug!("cannot shrink the database file: {error}");
            false
        });
        Trimmed { is_more: pages_are_left || work.trimmed.is_more, ..work.trimmed }
    }

    /// What came of a batch. Where it was not committed, what is held of the file may be of what it wrote.
    fn written<T>(&mut self, result: rusqlite::Result<Result<T, Vec<Head>>>) -> Result<T, AppendError> {
        if !matches!(&result, Ok(Ok(_))) {
            self.memory.forget_all();
        }
        if let Err(error) = &result
            && let Some(objection) = objection(&self.path, error)
        {
            return Err(AppendError::Refused(objection));
        }
        self.checked(result)?.map_err(AppendError::Conflict)
    }

    /// What is held of the file may be of what was not committed.
    fn forget_where_failed<T>(&mut self, result: &rusqlite::Result<T>) {
        if result.is_err() {
            self.memory.forget_all();
        }
    }
}

/// The deletions of a trim before they are committed.
struct TrimWork {
    trimmed: Trimmed,
    /// Names of projects of which something else is known now.
    changed: Vec<String>,
    has_outlasting: bool,
    /// What is left.
    totals: Totals,
    still_too_large: BTreeSet<i64>,
    emptied_so_far: usize,
    tickets_at: Option<Timestamp>,
    clock: Option<Timestamp>,
}

impl Readable for SqliteStore {
    fn conn(&self) -> &Connection {
        &self.conn
    }

    fn path(&self) -> &Path {
        &self.path
    }

    fn pieces(&self) -> &RefCell<Pieces> {
        &self.pieces
    }
}

impl Store for SqliteStore {
    /// No other writes to the file: what it holds is known without looking, and no run or key is another's.
    fn append(&mut self, expected: &[Head], entries: &[Write], wall: Timestamp) -> Result<(), AppendError> {
        let result = self.write_all(expected, entries, wall, None);
        self.written(result).map(drop)
    }

    /// In slices: what is too much goes over several calls where it is more than a thousand messages and twice what
    /// was written since the last.
    fn trim(&mut self, retention: &Retention, now: Times) -> Result<Trimmed, StoreError> {
        let result = self.trim_all(retention, now);
        self.forget_where_failed(&result);
        self.checked(result)
    }

    /// In one transaction; where that fails it may have been for what was to go, and the batch is kept by itself.
    fn append_and_trim(
        &mut self,
        expected: &[Head],
        entries: &[Write],
        retention: &Retention,
        now: Times,
    ) -> Result<Option<Trimmed>, AppendError> {
        let result = self.write_all(expected, entries, now.wall, Some((retention, now)));
        match self.written(result) {
            Err(AppendError::Down(_) | AppendError::Refused(_)) => {
                self.append(expected, entries, now.wall).map(|()| None)
            }
            other => other,
        }
    }

    /// Begins to write only where there is something to give up.
    fn trim_outbox(&mut self, rows_max: u64) -> Result<Vec<(Arc<str>, u64)>, StoreError> {
        let trim = || {
            let transaction = Transaction::new_unchecked(&self.conn, TransactionBehavior::Deferred)?;
            let gone = outbox::trim(&transaction, rows_max)?;
            transaction.commit().map(|()| gone)
        };
        self.checked(trim())
    }

    fn probe(&mut self) -> Result<(), BeatError> {
        Ok(self.checked(self.conn.execute(sql::PROBE, []).map(drop))?)
    }

    fn recover(&self) -> Result<Recovered, StoreError> {
        self.checked(recover::recover(&self.conn))
    }

    fn remains(&self, project: &ProjectId) -> Result<Option<RecoveredProject>, StoreError> {
        self.checked(recover::remains(&self.conn, project))
    }

    fn run(&self, number: RunNumber) -> Result<Option<RunRow>, StoreError> {
        self.checked(read::run(&self.conn, number))
    }

    fn key(&self, project: &ProjectId, name: &str) -> Result<Option<KeyRow>, StoreError> {
        self.checked(read::key(&self.conn, project, name))
    }

    fn key_bytes(&self, project: &ProjectId) -> Result<u64, StoreError> {
        self.checked(read::key_bytes(&self.conn, project))
    }

    fn reader(&self) -> Result<Option<Box<dyn Reader>>, StoreError> {
        let reader = self.checked(SqliteReader::open(&self.path))?;
        Ok(Some(Box::new(reader)))
    }
}

/// What went wrong with the file at `path`, in one sentence.
fn explain(path: &Path, error: &rusqlite::Error) -> String {
    if is_damage(error) {
        return damaged(path, &error.to_string());
    }
    let path = path.display();
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => format!("{path} cannot grow: the disk is full"),
        Some(ErrorCode::ReadOnly) => format!("{path} cannot be written: it is read-only"),
        Some(ErrorCode::SystemIoFailure) => format!("{path} cannot be read or written: {error}"),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => format!("{path} is locked by another program"),
        _ => format!("{path}: {error}"),
    }
}

fn damaged(path: &Path, why: &str) -> String {
    format!("{} is damaged ({why}): restore it from a backup, or move it away to start empty", path.display())
}

/// Why what was to be written never can be, whatever the disk does, where `error` says that.
fn objection(path: &Path, error: &rusqlite::Error) -> Option<Objection> {
    use ErrorCode::{ConstraintViolation, TooBig, TypeMismatch};
    let objection = match error.sqlite_error_code()? {
        TooBig => Objection::TooLarge,
        ConstraintViolation | TypeMismatch => Objection::Contradiction,
        _ => return None,
    };
    Some(objection(StoreError(explain(path, error))))
}

/// Says `error` that the file's parts are there, but do not hold what this program puts into them?
fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::Error;
    match error {
        Error::FromSqlConversionFailure(..) | Error::InvalidColumnType(..) | Error::IntegralValueOutOfRange(..) => true,
        Error::QueryReturnedNoRows => true,
        // "no such table" and the like have no code of their own.
        Error::SqliteFailure(failure, _) => {
            matches!(failure.code, ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt | ErrorCode::Unknown)
        }
        Error::SqlInputError { .. } => true,
        _ => false,
    }
}

/// A number as SQLite holds it. None that is counted comes near the end of its range.
fn int(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// [`int`], back.
fn nat(n: i64) -> u64 {
    u64::try_from(n).unwrap_or_default()
}
