//! Migrates the tables of earlier formats to the current one. No other file knows the earlier formats.

use rusqlite::types::Type;
use rusqlite::{Connection, Row, Transaction, TransactionBehavior, params};

use super::packed::{Packer, place_of, put_bytes, put_message, put_outer};
use super::{int, nat, outbox, plans, read, sql};
use crate::log::store::segment::Extent;
use crate::log::store::{Flow, StoredMessage};
use crate::model::Timestamp;

/// From the tables of format 1 to these. What aged by the wall clock ages from the newest message on that is not of the
/// future (`?now`, which is put in); keys come out of their runs. A key weighs as
/// [`KeyRow::weight`](crate::log::store::KeyRow) has it (160).
const FROM_FORMAT_1: &str = "
    ALTER TABLE projects ADD COLUMN emptied_at INTEGER;
    ALTER TABLE projects ADD COLUMN key_bytes INTEGER NOT NULL DEFAULT 0;
    CREATE INDEX projects_emptied ON projects (emptied_at) WHERE emptied_at IS NOT NULL;
    CREATE TABLE keys (
        id INTEGER PRIMARY KEY,
        project INTEGER NOT NULL,
        name TEXT NOT NULL,
        at INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        fingerprint BLOB NOT NULL,
        answer BLOB NOT NULL
    );
    CREATE UNIQUE INDEX keys_by_name ON keys (project, name);
    CREATE INDEX keys_by_age ON keys (at);
    ALTER TABLE totals ADD COLUMN key_bytes INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE totals ADD COLUMN clock INTEGER NOT NULL DEFAULT 0;
    UPDATE totals SET clock = coalesce(
        (SELECT max(last_activity) FROM projects WHERE last_activity <= ?now),
        (SELECT max(last_activity) FROM projects), 0);
    INSERT OR REPLACE INTO keys (project, name, at, bytes, fingerprint, answer)
        SELECT project, 'k' || idempotency_key, min(created_at, (SELECT clock FROM totals)),
            length('k' || idempotency_key) + length(answer) + 160, fingerprint, answer
        FROM runs JOIN documents ON run = number WHERE idempotency_key IS NOT NULL ORDER BY number;
    UPDATE projects SET
        key_bytes = (SELECT coalesce(sum(bytes), 0) FROM keys WHERE project = projects.id),
        emptied_at = CASE WHEN floor_at IS NULL AND NOT EXISTS (SELECT 1 FROM runs WHERE project = projects.id)
            THEN (SELECT clock FROM totals) END;
    UPDATE totals SET key_bytes = (SELECT coalesce(sum(bytes), 0) FROM keys);
    DROP INDEX runs_by_key;
    ALTER TABLE runs DROP COLUMN idempotency_key;
";

/// From the tables of format 2 to these, before what takes more than SQL. The sequence of runs is the largest number that
/// one ever had.
const FROM_FORMAT_2: &str = "
    ALTER TABLE projects ADD COLUMN message_bytes INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE projects ADD COLUMN run_bytes INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE projects ADD COLUMN newest_at INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE projects ADD COLUMN newest_run INTEGER NOT NULL DEFAULT 0;
    INSERT INTO meta SELECT 'clock', clock FROM totals;
    INSERT INTO meta SELECT 'newest_run', seq FROM sqlite_sequence WHERE name = 'runs';
    DROP TABLE totals;
    DROP INDEX runs_by_id;
    DROP INDEX runs_of_project;
    DROP INDEX runs_by_status;
    DROP INDEX runs_by_end;
    ALTER TABLE runs RENAME TO old_runs;
    ALTER TABLE documents RENAME TO old_documents;
    ALTER TABLE states RENAME TO old_states;
";

/// Then the runs, each since the message before its first. Of those that go on what the floor has passed.
const MOVE_RUNS: &str = "
    INSERT INTO runs (number, project, run_id, created_at, since, ended_at, first_seq, last_seq, status, cancelled,
            bytes, fingerprint)
        SELECT number, project, run_id, created_at, coalesce(first - 1, newest), ended_at,
            CASE WHEN ended_at IS NOT NULL THEN coalesce(first, last_seq) END, last_seq, status, cancelled, bytes,
            fingerprint
        FROM (SELECT *, (SELECT min(id) & 0xFFFFFFFFFF FROM messages WHERE run = number) AS first FROM old_runs)
            JOIN projects ON id = project
        ORDER BY number;
    INSERT INTO outlasting
        SELECT run, messages.id & 0xFFFFFFFFFF, at, place, json
        FROM messages JOIN runs ON number = run JOIN projects ON projects.id = project
        WHERE ended_at IS NULL AND place <> 0 AND messages.id & 0xFFFFFFFFFF < floor
        ORDER BY run, messages.id;
";

/// Row: run, document, answer.
const DOCUMENTS: &str = "SELECT run, document, answer FROM old_documents ORDER BY run";

/// Row: run, summary, state.
const STATES: &str = "SELECT run, summary, state FROM old_states ORDER BY run";

/// The first and the last message of a run. Parameter: run. Row: seq, when, run, place, text.
const OUTER: &str = "
    SELECT id & 0xFFFFFFFFFF, at, run, place, json FROM messages WHERE run = ?1 AND place IN (1, 3) ORDER BY id";

/// What the floor has not passed. Row: seq, when, run, place, text, project.
const MESSAGES: &str = "
    SELECT messages.id & 0xFFFFFFFFFF, at, run, place, json, projects.id
    FROM messages JOIN projects ON projects.id = messages.id >> 40
    WHERE messages.id & 0xFFFFFFFFFF >= floor ORDER BY messages.id";

/// At the end.
const SUM_UP: &str = "
    DROP TABLE messages;
    DROP TABLE old_runs;
    DROP TABLE old_documents;
    DROP TABLE old_states;
    UPDATE projects SET
        message_bytes = (SELECT coalesce(sum(bytes), 0) FROM segments WHERE id >= projects.id << 40
            AND id < (projects.id + 1) << 40),
        run_bytes = (SELECT coalesce(sum(bytes + (SELECT coalesce(sum(bytes), 0) FROM outputs WHERE run = number)), 0)
            FROM runs WHERE project = projects.id);
";

/// All of it or nothing: a process that is killed meanwhile leaves what was there.
pub(super) fn migrate(conn: &Connection, from: i64, now: Timestamp) -> rusqlite::Result<()> {
    let transaction = Transaction::new_unchecked(conn, TransactionBehavior::Immediate)?;
    if from < 2 {
        transaction.execute_batch(&FROM_FORMAT_1.replace("?now", &int(now.as_millis()).to_string()))?;
    }
    if from < 3 {
        from_format_2(&transaction)?;
    }
    if from < 4 {
        transaction.execute_batch(outbox::SCHEMA)?;
    }
    if from < 5 {
        transaction.execute_batch(plans::SCHEMA)?;
        transaction.execute_batch(sql::ITEMS_SCHEMA)?;
    }
    transaction.pragma_update(None, "user_version", sql::SCHEMA_VERSION)?;
    transaction.commit()
}

fn from_format_2(conn: &Connection) -> rusqlite::Result<()> {
    conn.execute_batch(FROM_FORMAT_2)?;
    conn.execute_batch(sql::HISTORY_SCHEMA)?;
    conn.execute_batch(MOVE_RUNS)?;
    let mut packer = Packer::default();
    pack_documents(conn, &mut packer)?;
    pack_states(conn, &mut packer)?;
    pack_messages(conn, &mut packer)?;
    conn.execute_batch(SUM_UP)
}

fn pack_documents(conn: &Connection, packer: &mut Packer) -> rusqlite::Result<()> {
    let mut new = conn.prepare_cached(sql::NEW_DOCUMENT)?;
    read::each_row(conn, DOCUMENTS, params![], |row| {
        let mut document = Vec::new();
        put_bytes(&mut document, read::blob(row, 1)?);
        put_bytes(&mut document, read::blob(row, 2)?);
        new.execute((row.get::<_, i64>(0)?, packer.pack(&document)))?;
        Ok(Flow::More)
    })
}

fn pack_states(conn: &Connection, packer: &mut Packer) -> rusqlite::Result<()> {
    let mut new = conn.prepare_cached(sql::NEW_STATE)?;
    let mut grew = conn.prepare_cached(sql::RUN_GREW)?;
    read::each_row(conn, STATES, params![], |row| {
        let run: i64 = row.get(0)?;
        let (mut rest, mut bytes) = (Vec::new(), 0);
        put_bytes(&mut rest, read::blob(row, 2)?);
        read::each_row(conn, OUTER, params![run], |row| {
            let message = message(row)?;
            bytes += message.weight();
            put_outer(&mut rest, &message);
            Ok(Flow::More)
        })?;
        let summary = packer.pack(read::blob(row, 1)?).to_vec();
        new.execute((run, summary, packer.pack(&rest)))?;
        grew.execute((run, int(bytes)))?;
        Ok(Flow::More)
    })
}

fn pack_messages(conn: &Connection, packer: &mut Packer) -> rusqlite::Result<()> {
    let mut segment: Option<(i64, Extent, Vec<u8>)> = None;
    let mut write = |(project, extent, messages): (i64, Extent, Vec<u8>)| {
        let (first_seq, count, bytes) = (int(extent.first_seq), int(extent.count), int(extent.bytes));
        let (first_at, last_at) = (int(extent.first_at.as_millis()), int(extent.last_at.as_millis()));
        let mut new = conn.prepare_cached(sql::NEW_SEGMENT)?;
        new.execute((project, first_seq, count, first_at, last_at, bytes, packer.pack(&messages))).map(drop)
    };
    read::each_row(conn, MESSAGES, params![], |row| {
        let (message, project) = (message(row)?, row.get(5)?);
        match &mut segment {
            Some((of, extent, messages)) if *of == project && extent.takes(&message, true) => {
                extent.add(&message);
                put_message(messages, &message);
            }
            _ => {
                let mut messages = Vec::new();
                put_message(&mut messages, &message);
                let full = segment.replace((project, Extent::begin(&message), messages));
                full.map_or(Ok(()), &mut write)?;
            }
        }
        Ok(Flow::More)
    })?;
    segment.map_or(Ok(()), write)
}

fn message(row: &Row<'_>) -> rusqlite::Result<StoredMessage> {
    let (run, place): (Option<i64>, i64) = (row.get(2)?, row.get(3)?);
    let place = u8::try_from(place).ok().and_then(place_of);
    Ok(StoredMessage {
        seq: nat(row.get(0)?),
        at: read::timestamp(row, 1)?,
        run: run.map(|_| read::run_number(row, 2)).transpose()?,
        place: place.ok_or_else(|| read::damaged(3, Type::Integer, "invalid message place"))?,
        json: read::blob(row, 4)?.into(),
    })
}
