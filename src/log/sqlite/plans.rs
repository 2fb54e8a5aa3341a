//! Stored plans in the file: tables, statements and their use.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{int, nat, read};
use crate::log::store::{Flow, PlanChange, PlanCounts, PlanRow, WantedPlans};
use crate::model::{PlanName, ProjectId, RunId};

/// Makes the tables, which came with format 5:
///
/// - `plans`: all times are of the wall clock. What is large stands in `plan_documents`, so that a list reads none of it.
/// - `plan_counts`: of each project, and under the empty name of all: how many plans, how many of them with a schedule, and
///   what they weigh, so that nothing has to be counted.
pub(super) const SCHEMA: &str = "
    CREATE TABLE plans (
        id INTEGER PRIMARY KEY,
        project TEXT NOT NULL,
        name TEXT NOT NULL,
        tag TEXT NOT NULL,
        updated_at INTEGER NOT NULL,
        summary BLOB NOT NULL,
        schedule BLOB,
        scheduled_at INTEGER NOT NULL,
        firings BLOB NOT NULL,
        last_run TEXT,
        document_bytes INTEGER NOT NULL
    );
    CREATE UNIQUE INDEX plans_by_name ON plans (project, name);
    CREATE INDEX plans_scheduled ON plans (project, name) WHERE schedule IS NOT NULL;
    CREATE TABLE plan_documents (plan INTEGER PRIMARY KEY, document BLOB NOT NULL);
    CREATE TABLE plan_counts (
        project TEXT PRIMARY KEY,
        plans INTEGER NOT NULL,
        scheduled INTEGER NOT NULL,
        bytes INTEGER NOT NULL
    ) WITHOUT ROWID;
";

/// What [`plan_row`] reads.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, project, name, tag, updated_at, summary, schedule, scheduled_at, firings, last_run, document_bytes
            FROM plans ",
            $rest
        )
    };
}

/// Parameters: project, name.
pub(super) const FIND: &str = select!("WHERE project = ?1 AND name = ?2");
/// By their names. Parameter: project.
pub(super) const OF_PROJECT: &str = select!("WHERE project = ?1 ORDER BY name");
/// Those that have a schedule, by their projects and names.
pub(super) const SCHEDULED: &str =
    select!("INDEXED BY plans_scheduled WHERE schedule IS NOT NULL ORDER BY project, name");
/// Parameters: project, name. Row: document.
pub(super) const DOCUMENT: &str = "
    SELECT document FROM plan_documents WHERE plan = (SELECT id FROM plans WHERE project = ?1 AND name = ?2)";
/// Parameters: project, name, tag, when, summary, schedule, since when, firings, newest run, bytes. Row: id.
pub(super) const PUT: &str = "
    INSERT INTO plans (project, name, tag, updated_at, summary, schedule, scheduled_at, firings, last_run, document_bytes)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
    ON CONFLICT (project, name) DO UPDATE SET tag = ?3, updated_at = ?4, summary = ?5, schedule = ?6, scheduled_at = ?7,
        firings = ?8, last_run = ?9, document_bytes = ?10
    RETURNING id";
/// Parameters: plan, document.
pub(super) const PUT_DOCUMENT: &str = "INSERT OR REPLACE INTO plan_documents VALUES (?1, ?2)";
/// Parameter: id.
pub(super) const REMOVE: &str = "DELETE FROM plans WHERE id = ?1";
/// Parameter: plan.
pub(super) const REMOVE_DOCUMENT: &str = "DELETE FROM plan_documents WHERE plan = ?1";
/// Parameters: project, more plans, more with a schedule, more bytes.
pub(super) const COUNT: &str = "
    INSERT INTO plan_counts VALUES (?1, ?2, ?3, ?4)
    ON CONFLICT (project) DO UPDATE SET
        plans = plans + excluded.plans, scheduled = scheduled + excluded.scheduled, bytes = bytes + excluded.bytes";
/// Parameter: project.
pub(super) const DROP_COUNTS: &str = "DELETE FROM plan_counts WHERE project = ?1 AND plans = 0";
/// Parameter: project. Row: plans, with a schedule, bytes.
pub(super) const COUNTS: &str = "SELECT plans, scheduled, bytes FROM plan_counts WHERE project = ?1";

/// The name under which all plans are counted: no project's.
const ALL: &str = "";

pub(super) fn change(conn: &Connection, change: &PlanChange) -> rusqlite::Result<()> {
    let (project, name) = change.name();
    let earlier = find(conn, project, name)?;
    match change {
        PlanChange::Put(row, document) => {
            let id = put(conn, row)?;
            if let Some(document) = document {
                conn.prepare_cached(PUT_DOCUMENT)?.execute(params![id, &**document])?;
            }
            count(conn, project, earlier.as_ref().map(|(_, row)| row), Some(row))
        }
        PlanChange::Removed(..) => {
            let Some((id, row)) = earlier else { return Ok(()) };
            conn.prepare_cached(REMOVE)?.execute([id])?;
            conn.prepare_cached(REMOVE_DOCUMENT)?.execute([id])?;
            count(conn, project, Some(&row), None)
        }
    }
}

/// Calls `each` with those wanted until it says stop.
pub(super) fn each(
    conn: &Connection,
    wanted: WantedPlans<'_>,
    each: &mut dyn FnMut(&PlanRow) -> Flow,
) -> rusqlite::Result<()> {
    let mut found = |row: &Row<'_>| Ok(each(&plan_row(row)?.1));
    match wanted {
        WantedPlans::Named(project, name) => {
            read::each_row(conn, FIND, params![project.as_str(), name.as_str()], &mut found)
        }
        WantedPlans::OfProject(project) => read::each_row(conn, OF_PROJECT, params![project.as_str()], &mut found),
        WantedPlans::Scheduled => read::each_row(conn, SCHEDULED, params![], &mut found),
    }
}

pub(super) fn document(conn: &Connection, project: &ProjectId, name: &PlanName) -> rusqlite::Result<Option<Arc<[u8]>>> {
    let mut find = conn.prepare_cached(DOCUMENT)?;
    find.query_row((project.as_str(), name.as_str()), |row| Ok(read::blob(row, 0)?.into())).optional()
}

pub(super) fn counts(conn: &Connection, project: &ProjectId) -> rusqlite::Result<PlanCounts> {
    let mut find = conn.prepare_cached(COUNTS)?;
    let mut counts = |project: &str| -> rusqlite::Result<[u64; 3]> {
        let row = find.query_row([project], |row| Ok([nat(row.get(0)?), nat(row.get(1)?), nat(row.get(2)?)]));
        Ok(row.optional()?.unwrap_or_default())
    };
    let [of_project, ..] = counts(project.as_str())?;
    let [_, scheduled, bytes] = counts(ALL)?;
    Ok(PlanCounts { of_project, scheduled, bytes })
}

fn find(conn: &Connection, project: &ProjectId, name: &PlanName) -> rusqlite::Result<Option<(i64, PlanRow)>> {
    conn.prepare_cached(FIND)?.query_row((project.as_str(), name.as_str()), plan_row).optional()
}

fn put(conn: &Connection, row: &PlanRow) -> rusqlite::Result<i64> {
    let values = params![
        row.project.as_str(),
        row.name.as_str(),
        &*row.tag,
        int(row.updated_at.as_millis()),
        &*row.summary,
        row.schedule.as_deref(),
        int(row.scheduled_at.as_millis()),
        &*row.firings,
        row.last_run.as_ref().map(RunId::as_str),
        int(row.document_bytes),
    ];
    conn.prepare_cached(PUT)?.query_row(values, |row| row.get(0))
}

fn count(
    conn: &Connection,
    project: &ProjectId,
    earlier: Option<&PlanRow>,
    later: Option<&PlanRow>,
) -> rusqlite::Result<()> {
    let counted =
        |row: Option<&PlanRow>| row.map_or([0; 3], |row| [1, i64::from(row.schedule.is_some()), int(row.weight())]);
    let (earlier, later) = (counted(earlier), counted(later));
    let [plans, scheduled, bytes] = std::array::from_fn(|at| later[at] - earlier[at]);
    for name in [project.as_str(), ALL] {
        conn.prepare_cached(COUNT)?.execute((name, plans, scheduled, bytes))?;
    }
    conn.prepare_cached(DROP_COUNTS)?.execute([project.as_str()]).map(drop)
}

fn plan_row(row: &Row<'_>) -> rusqlite::Result<(i64, PlanRow)> {
    let bytes = |at| -> rusqlite::Result<Arc<[u8]>> { Ok(read::blob(row, at)?.into()) };
    let has = |at| -> rusqlite::Result<bool> { Ok(row.get_ref(at)? != rusqlite::types::ValueRef::Null) };
    let plan = PlanRow {
        project: read::id(row, 1, ProjectId::parse)?,
        name: read::id(row, 2, PlanName::parse)?,
        tag: row.get::<_, String>(3)?.into(),
        updated_at: read::timestamp(row, 4)?,
        summary: bytes(5)?,
        schedule: if has(6)? { Some(bytes(6)?) } else { None },
        scheduled_at: read::timestamp(row, 7)?,
        firings: bytes(8)?,
        last_run: if has(9)? { Some(read::id(row, 9, RunId::parse)?) } else { None },
        document_bytes: nat(row.get(10)?),
    };
    Ok((row.get(0)?, plan))
}
