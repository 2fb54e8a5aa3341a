//! Facts about the file that are known without reading it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use rusqlite::{Connection, OptionalExtension};

use super::read::Totals;
use super::{messages, nat, read, sql};
use crate::log::store::segment::Extent;
use crate::log::store::{RunMap, StoredMessage};
use crate::model::{ProjectId, Timestamp};

/// Projects whose ids are held in memory; at the limit all are forgotten, and looked up again.
const KNOWN_MAX: usize = 100_000;

/// What is known of the file without looking. All of it is forgotten where a transaction fails.
#[derive(Default)]
pub(super) struct Memory {
    pub(super) projects: HashMap<ProjectId, Known>,
    /// Runs that go on.
    pub(super) runs: RunMap<OpenRun>,
    pub(super) totals: Option<Totals>,
}

impl Memory {
    /// What everything weighs.
    pub(super) fn totals(&mut self, conn: &Connection) -> rusqlite::Result<Totals> {
        match self.totals {
            Some(totals) => Ok(totals),
            None => Ok(*self.totals.insert(read::totals(conn)?)),
        }
    }

    pub(super) fn note_totals(&mut self, totals: Totals) {
        self.totals = Some(totals);
    }

    pub(super) fn forget(&mut self, project: &str) {
        self.projects.remove(project);
    }

    pub(super) fn forget_all(&mut self) {
        *self = Self::default();
    }
}

/// What is known of a project.
pub(super) struct Known {
    pub(super) id: i64,
    pub(super) newest: u64,
    /// It holds neither a message nor a run.
    pub(super) is_emptied: bool,
    /// Its last segment; none if it holds no message, so that the next one is its oldest.
    pub(super) tail: Option<Extent>,
}

/// What is known of a run that goes on.
pub(super) struct OpenRun {
    pub(super) project: i64,
    pub(super) created_at: Timestamp,
    pub(super) since: u64,
    /// Its first message, once there is one.
    pub(super) first: Option<StoredMessage>,
}

/// What is known about a project, which is created if there is none.
pub(super) fn known<'k>(
    conn: &Connection,
    known: &'k mut HashMap<ProjectId, Known>,
    project: &ProjectId,
) -> rusqlite::Result<&'k mut Known> {
    if known.len() >= KNOWN_MAX && !known.contains_key(project) {
        known.clear();
    }
    let place = match known.entry(project.clone()) {
        Entry::Occupied(known) => return Ok(known.into_mut()),
        Entry::Vacant(place) => place,
    };
    let found = match look_up(conn, project)? {
        Some(found) => found,
        None => {
            conn.prepare_cached(sql::NEW_PROJECT)?.execute([project.as_str()])?;
            Known { id: conn.last_insert_rowid(), newest: 0, is_emptied: false, tail: None }
        }
    };
    Ok(place.insert(found))
}

pub(super) fn look_up(conn: &Connection, project: &ProjectId) -> rusqlite::Result<Option<Known>> {
    let mut found = conn.prepare_cached(sql::PROJECT)?;
    let found = found.query_row([project.as_str()], |row| {
        let known = Known { id: row.get(0)?, newest: nat(row.get(1)?), is_emptied: row.get(3)?, tail: None };
        Ok((known, row.get::<_, bool>(2)?))
    });
    let Some((mut known, holds_no_message)) = found.optional()? else { return Ok(None) };
    if !holds_no_message {
        let mut last = conn.prepare_cached(sql::LAST_SEGMENT)?;
        known.tail = Some(last.query_row([known.id], messages::extent)?);
    }
    Ok(Some(known))
}
