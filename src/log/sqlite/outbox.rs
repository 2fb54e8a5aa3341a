//! Events for webhooks in the file: tables, statements and their use.

use std::sync::Arc;

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{int, nat, read};
use crate::log::store::{Due, DueId, DueRow, DueTimes, Flow, OutboxChange};
use crate::model::{Notable, ProjectId, RunId, Timestamp};

/// Makes the tables, which came with format 4:
///
/// - `outbox`: `next_at` and `at` are of the wall clock, `notable` as [`notable_code`]. Numbers are never used again, so
///   that what is said of a row that is gone is said of no other.
/// - `outbox_counts`: how many rows wait for a webhook, so that nothing has to be counted.
pub(super) const SCHEMA: &str = "
    CREATE TABLE outbox (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        webhook TEXT NOT NULL,
        next_at INTEGER NOT NULL,
        attempts INTEGER NOT NULL,
        project TEXT NOT NULL,
        run INTEGER NOT NULL,
        run_id TEXT NOT NULL,
        seq INTEGER NOT NULL,
        notable INTEGER NOT NULL,
        at INTEGER NOT NULL
    );
    CREATE INDEX outbox_of_webhook ON outbox (webhook);
    CREATE INDEX outbox_by_time ON outbox (webhook, next_at);
    CREATE TABLE outbox_counts (webhook TEXT PRIMARY KEY, waiting INTEGER NOT NULL) WITHOUT ROWID;
";

/// Parameters: webhook, when it is due, project, run, its id, `seq`, what, when.
pub(super) const NEW: &str = "
    INSERT INTO outbox (webhook, next_at, attempts, project, run, run_id, seq, notable, at)
    VALUES (?1, ?2, 0, ?3, ?4, ?5, ?6, ?7, ?8)";
/// Parameters: webhook, more rows.
pub(super) const COUNT: &str = "
    INSERT INTO outbox_counts VALUES (?1, ?2)
    ON CONFLICT (webhook) DO UPDATE SET waiting = waiting + excluded.waiting";
/// Parameters: id, attempts, when.
pub(super) const PUT_OFF: &str = "UPDATE outbox SET attempts = ?2, next_at = ?3 WHERE id = ?1";
/// Parameter: id. Row: webhook.
pub(super) const SETTLE: &str = "DELETE FROM outbox WHERE id = ?1 RETURNING webhook";
/// Parameter: webhook.
pub(super) const LET_GO: &str = "DELETE FROM outbox WHERE webhook = ?1";
/// Parameters: webhook, how many.
pub(super) const LET_OLDEST_GO: &str = "
    DELETE FROM outbox WHERE id IN (
        SELECT id FROM outbox INDEXED BY outbox_of_webhook WHERE webhook = ?1 ORDER BY id LIMIT ?2)";
/// Row: webhook, how many wait.
pub(super) const COUNTS: &str = "SELECT webhook, waiting FROM outbox_counts WHERE waiting > 0 ORDER BY webhook";
/// Parameters: webhook, now. What is due, what was put off least first.
pub(super) const DUE: &str = "
    SELECT id, attempts, next_at, project, run, run_id, seq, notable, at
    FROM outbox INDEXED BY outbox_by_time WHERE webhook = ?1 AND next_at <= ?2 ORDER BY next_at, id";
/// The same of what is due because a clock was set back. Parameters: webhook, horizon.
pub(super) const DUE_BEYOND: &str = "
    SELECT id, attempts, next_at, project, run, run_id, seq, notable, at
    FROM outbox INDEXED BY outbox_by_time WHERE webhook = ?1 AND next_at > ?2 ORDER BY next_at, id";
/// Null where there is none. Parameters: webhook, now, horizon.
pub(super) const NEXT: &str = "
    SELECT min(next_at) FROM outbox INDEXED BY outbox_by_time WHERE webhook = ?1 AND next_at > ?2 AND next_at <= ?3";

pub(super) fn change(conn: &Connection, change: &OutboxChange) -> rusqlite::Result<()> {
    match change {
        OutboxChange::Due(due) => add(conn, due),
        OutboxChange::PutOff { id, attempts, next_at } => {
            let values = params![int(id.0), attempts, int(next_at.as_millis())];
            conn.prepare_cached(PUT_OFF)?.execute(values).map(drop)
        }
        OutboxChange::Done(id) => {
            let webhook: Option<String> =
                conn.prepare_cached(SETTLE)?.query_row([int(id.0)], |row| row.get(0)).optional()?;
            webhook.map_or(Ok(()), |webhook| count(conn, &webhook, -1))
        }
        OutboxChange::LetGo(webhook) => {
            let gone = conn.prepare_cached(LET_GO)?.execute([&**webhook])?;
            count(conn, webhook, -int(gone as u64))
        }
    }
}

/// Lets the oldest rows go of each webhook that has more than so many: how many.
pub(super) fn trim(conn: &Connection, rows_max: u64) -> rusqlite::Result<Vec<(Arc<str>, u64)>> {
    let mut gone = Vec::new();
    for (webhook, waiting) in counts(conn)? {
        let too_many = waiting.saturating_sub(rows_max);
        if too_many > 0 {
            conn.prepare_cached(LET_OLDEST_GO)?.execute((&*webhook, int(too_many)))?;
            count(conn, &webhook, -int(too_many))?;
            gone.push((webhook, too_many));
        }
    }
    Ok(gone)
}

/// The webhooks for which something waits, by their names, and how much.
pub(super) fn counts(conn: &Connection) -> rusqlite::Result<Vec<(Arc<str>, u64)>> {
    let mut counts = Vec::new();
    read::each_row(conn, COUNTS, params![], |row| {
        counts.push((row.get::<_, String>(0)?.into(), nat(row.get(1)?)));
        Ok(Flow::More)
    })?;
    Ok(counts)
}

/// Calls `each` with what is due.
pub(super) fn due(
    conn: &Connection,
    webhook: &str,
    times: DueTimes,
    each: &mut dyn FnMut(&DueRow) -> Flow,
) -> rusqlite::Result<()> {
    let webhook: Arc<str> = webhook.into();
    let mut flow = Flow::More;
    for (statement, bound) in [(DUE, times.now), (DUE_BEYOND, times.horizon)] {
        if flow == Flow::More {
            read::each_row(conn, statement, params![&*webhook, int(bound.as_millis())], |row| {
                flow = each(&due_row(row, &webhook)?);
                Ok(flow)
            })?;
        }
    }
    Ok(())
}

/// When the next is to be tried that is not due.
pub(super) fn next_due(conn: &Connection, webhook: &str, times: DueTimes) -> rusqlite::Result<Option<Timestamp>> {
    let values = params![webhook, int(times.now.as_millis()), int(times.horizon.as_millis())];
    let next: Option<i64> = conn.prepare_cached(NEXT)?.query_row(values, |row| row.get(0))?;
    Ok(next.map(|at| Timestamp::from_millis(nat(at))))
}

fn add(conn: &Connection, due: &Due) -> rusqlite::Result<()> {
    let at = int(due.at.as_millis());
    let (project, run) = (due.project.as_str(), due.run.as_str());
    let (number, code) = (read::run_key(due.number), notable_code(due.notable));
    let values = params![&*due.webhook, at, project, number, run, int(due.seq), code, at];
    conn.prepare_cached(NEW)?.execute(values)?;
    count(conn, &due.webhook, 1)
}

fn count(conn: &Connection, webhook: &str, more: i64) -> rusqlite::Result<()> {
    conn.prepare_cached(COUNT)?.execute((webhook, more)).map(drop)
}

fn due_row(row: &Row<'_>, webhook: &Arc<str>) -> rusqlite::Result<DueRow> {
    let notable = notable_of(row.get(7)?).ok_or_else(|| read::damaged(7, Type::Integer, "unknown event kind"))?;
    let due = Due {
        webhook: webhook.clone(),
        project: read::id(row, 3, ProjectId::parse)?,
        number: read::run_number(row, 4)?,
        run: read::id(row, 5, RunId::parse)?,
        seq: nat(row.get(6)?),
        notable,
        at: read::timestamp(row, 8)?,
    };
    Ok(DueRow { id: DueId(nat(row.get(0)?)), due, attempts: row.get(1)?, next_at: read::timestamp(row, 2)? })
}

fn notable_code(notable: Notable) -> i64 {
    match notable {
        Notable::RunCompleted => 0,
        Notable::RunFailed => 1,
        Notable::RunCancelled => 2,
        Notable::StepWaiting => 3,
    }
}

fn notable_of(code: i64) -> Option<Notable> {
    Notable::ALL.into_iter().find(|notable| notable_code(*notable) == code)
}
