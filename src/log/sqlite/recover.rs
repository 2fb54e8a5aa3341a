//! Reads what a start continues from.

use std::collections::BTreeSet;
use std::num::NonZeroU64;

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{int, nat, read, sql};
use crate::auth::{Instance, TicketNote};
use crate::log::store::{EndedRun, Ends, Flow, Identity, OpenRun, Recovered, RecoveredProject};
use crate::model::{ProjectId, Timestamp};

pub(super) const MASTER_KEY: &str = "master_key";
pub(super) const INSTANCE: &str = "instance";

pub(super) fn identity(conn: &Connection, now: Timestamp) -> rusqlite::Result<Identity> {
    Ok(Identity {
        master_key: conn.query_row(sql::META, [MASTER_KEY], |row| row.get(0))?,
        instance: instance(conn)?,
        tickets: tickets(conn, now)?,
    })
}

pub(super) fn recover(conn: &Connection) -> rusqlite::Result<Recovered> {
    let clock = conn.query_row(sql::CLOCK, [], |row| read::timestamp(row, 0))?;
    Ok(Recovered {
        projects: projects(conn)?,
        open_runs: open_runs(conn)?,
        ended_runs: ended_runs(conn, clock)?,
        next_run_number: next_run_number(conn)?,
        clock,
        key_bytes: nat(read::totals(conn)?.keys),
    })
}

/// A project as it was left.
pub(super) fn remains(conn: &Connection, project: &ProjectId) -> rusqlite::Result<Option<RecoveredProject>> {
    conn.prepare_cached(sql::REMAINS)?.query_row([project.as_str()], recovered_project).optional()
}

/// The ids of all projects that hold something.
pub(super) fn project_ids(conn: &Connection) -> rusqlite::Result<BTreeSet<i64>> {
    let mut ids = BTreeSet::new();
    read::each_row(conn, sql::PROJECT_IDS, params![], |row| {
        ids.insert(row.get(0)?);
        Ok(Flow::More)
    })?;
    Ok(ids)
}

fn instance(conn: &Connection) -> rusqlite::Result<Instance> {
    conn.query_row(sql::META, [INSTANCE], |row| {
        let instance = row.get_ref(0)?.as_blob().ok().and_then(|text| std::str::from_utf8(text).ok());
        instance.and_then(Instance::parse).ok_or_else(|| read::damaged(0, Type::Blob, "invalid instance id"))
    })
}

fn projects(conn: &Connection) -> rusqlite::Result<Vec<RecoveredProject>> {
    let mut projects = Vec::new();
    read::each_row(conn, sql::KEPT_PROJECTS, params![], |row| {
        projects.push(recovered_project(row)?);
        Ok(Flow::More)
    })?;
    Ok(projects)
}

fn recovered_project(row: &Row<'_>) -> rusqlite::Result<RecoveredProject> {
    Ok(RecoveredProject {
        project: read::id(row, 0, ProjectId::parse)?,
        newest: nat(row.get(1)?),
        revision: 0,
        last_activity: read::timestamp(row, 2)?,
    })
}

fn open_runs(conn: &Connection) -> rusqlite::Result<Vec<OpenRun>> {
    let mut runs = Vec::new();
    read::each_row(conn, sql::OPEN_RUNS, params![], |row| {
        let number = read::run_number(row, 0)?;
        let kept = read::run(conn, number)?.ok_or_else(|| read::damaged(0, Type::Integer, "a run has no plan"))?;
        runs.push(OpenRun {
            number,
            project: read::id(row, 1, ProjectId::parse)?,
            run: kept.run,
            created_at: kept.created_at,
            document: Some(kept.document),
            cancelled: row.get(2)?,
            is_foreign: false,
        });
        Ok(Flow::More)
    })?;
    Ok(runs)
}

fn ended_runs(conn: &Connection, clock: Timestamp) -> rusqlite::Result<Vec<EndedRun>> {
    let since = clock.as_millis().saturating_sub(Recovered::ENDED_RUNS_MS);
    let mut runs = Vec::new();
    read::each_row(conn, sql::ENDED_SINCE, params![int(since)], |row| {
        let (number, ended_at) = (read::run_number(row, 0)?, read::timestamp(row, 2)?);
        let ends = Ends { first: row.get::<_, Option<i64>>(3)?.map(nat), last: row.get::<_, Option<i64>>(4)?.map(nat) };
        runs.push(EndedRun { number, project: read::id(row, 1, ProjectId::parse)?, ended_at, ends });
        Ok(Flow::More)
    })?;
    Ok(runs)
}

fn next_run_number(conn: &Connection) -> rusqlite::Result<NonZeroU64> {
    let last: i64 = conn.query_row(sql::NEWEST_RUN, [], |row| row.get(0))?;
    Ok(NonZeroU64::MIN.saturating_add(nat(last)))
}

fn tickets(conn: &Connection, now: Timestamp) -> rusqlite::Result<Vec<TicketNote>> {
    let mut notes = Vec::new();
    read::each_row(conn, sql::TICKETS, params![int(now.as_millis())], |row| {
        let note = row.get_ref(0)?.as_blob().ok().and_then(|json| serde_json::from_slice(json).ok());
        notes.push(note.ok_or_else(|| read::damaged(0, Type::Blob, "invalid ticket note"))?);
        Ok(Flow::More)
    })?;
    Ok(notes)
}
