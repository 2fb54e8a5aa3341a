//! Deletes history over the limits: one node does it for all, in slices, on a connection of its own.
//!
//! It works like the store on disk: history is deleted segment by segment, and an ended run as a whole. Each step is a
//! transaction of its own for one project, which checks that the project is still as it was found; other nodes write in
//! the meantime. The floor of the project is raised first, and rows below it are removed afterwards, so that no append
//! waits while rows are deleted.

mod round;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_postgres::Row;

use super::codes::{count, damaged, get, id, int, ms, nat};
use super::connection::Connection;
use super::membership::Membership;
use super::read::{Readable, Reading, Value, rows_again};
use super::{sql, trim_sql};
use crate::log::store::{
    KEY_AGE_MS, NodeId, Retention, StoreError, TOMBSTONE_AGE_MS, TOMBSTONES_MAX, Times, Trimmed, segment,
};
use crate::model::{ProjectId, Timestamp};

/// As in the store on disk.
const MESSAGES_SLACK: u64 = 128;

/// Approximate maximum number of messages that one slice deletes: about 20 milliseconds of work.
const SLICE_MESSAGES: u64 = 5000;

/// Maximum number of messages in a segment: each counts for at least 96 bytes.
const SEGMENT_MESSAGES: u64 = segment::BYTES_MAX / 96 + 1;

/// Approximate maximum number of bytes of messages that one slice deletes.
const SLICE_BYTES: u64 = 16 * 1024 * 1024;

/// How long it goes on at most: each step is a commit.
const SLICE: Duration = if cfg!(test) { Duration::from_secs(60) } else { Duration::from_millis(20) };

/// A deleted run counts as this many messages.
const RUN_COST: u64 = 20;

/// Maximum number of projects over a limit that are examined at once.
const PROJECTS_SLICE: i64 = 200;

const OUTPUTS_SLICE: i64 = 16;
const PIECES_SLICE: i64 = 64;
const KEYS_SLICE: i64 = 2000;
const TICKETS_SLICE: i64 = 20_000;
const FORGOTTEN_SLICE: i64 = 1000;

/// How often expired rows are looked for.
const PACE: Duration = Duration::from_secs(1);

/// The largest part of the time that is spent on checking all projects.
const LOOK_PART: u32 = 20;

/// What takes no longer than this is not spared. In a test nothing is, however slow the machine is.
const LOOK_FREELY: Duration = if cfg!(test) { Duration::MAX } else { Duration::from_millis(2) };

/// How often a node that does not trim looks at all projects for what their keys weigh.
const KEYS_PACE: Duration = Duration::from_secs(30);

/// Lets go. See the top of this file.
pub(super) type Trimmer = Reading<Trimming>;

/// The settings of a [`Trimmer`].
pub(super) struct Trimming {
    conn: RefCell<Connection>,
    me: Arc<Membership>,
    trims: RefCell<Trims>,
}

#[derive(Default)]
struct Trims {
    looked: Option<Looked>,
    /// How many messages and ended runs a project may have.
    most: Option<(i64, i64)>,
    looked_for_ends_at: Option<Instant>,
    emptied: usize,
    /// This node trimmed the last time.
    has_duty: bool,
    /// Where it was found last that another node trims.
    is_anothers_since: Option<Instant>,
    /// Projects that have let a run go, or messages, and may hold nothing any more.
    shrunk: BTreeSet<i64>,
    /// For a test: how long a trim goes on.
    slice: Option<Duration>,
    outbox: Option<(Instant, Duration)>,
}

/// All projects, as they were at a look.
#[derive(Clone)]
struct Looked {
    messages: i64,
    runs: i64,
    keys: u64,
    /// The projects that are too large.
    too_large: Vec<i64>,
    at: Instant,
    took: Duration,
}

/// One trim.
struct Trim<'s> {
    store: &'s Trimmer,
    left_messages: u64,
    left_bytes: u64,
    messages: i64,
    runs: i64,
    until: Instant,
    /// So that it always gets on.
    has_done_any: bool,
    is_more: bool,
}

impl Readable for Trimming {
    fn rows(&self, sql: &'static str, values: &[Value<'_>]) -> Result<Vec<Row>, StoreError> {
        rows_again(&self.conn, sql, values)
    }

    fn node(&self) -> NodeId {
        self.me.node()
    }
}

impl Trimmer {
    pub(super) fn new(conn: Connection, me: Arc<Membership>) -> Self {
        Reading(Trimming { conn: RefCell::new(conn), me, trims: RefCell::default() })
    }

    /// For a test: how long a trim goes on.
    #[cfg(test)]
    pub(super) fn go_on_for(&self, slice: Duration) {
        self.trims.borrow_mut().slice = Some(slice);
    }

    /// See [`Store::trim`](crate::log::store::Store::trim).
    pub(super) fn let_go(&self, retention: &Retention, now: Times) -> Result<Trimmed, StoreError> {
        if !self.has_to_trim()? {
            return Ok(Trimmed { key_bytes: self.key_bytes_of_all()?, ..Trimmed::default() });
        }
        let before = |age_ms: u64| Timestamp::from_millis(now.age.as_millis().saturating_sub(age_ms));
        let messages_max = retention.messages as u64;
        let most = (int(messages_max.saturating_add(messages_max / MESSAGES_SLACK)), int(retention.runs as u64));
        self.trims.borrow_mut().most = Some(most);
        let looked = self.look_at_all()?;
        let mut trim = Trim {
            store: self,
            left_messages: SLICE_MESSAGES,
            left_bytes: SLICE_BYTES,
            messages: looked.messages,
            runs: looked.runs,
            until: Instant::now() + self.trims.borrow().slice.unwrap_or(SLICE),
            has_done_any: false,
            is_more: false,
        };
        trim.projects(&looked.too_large, retention)?;
        trim.age(before(retention.age_ms))?;
        trim.bytes(retention.bytes)?;
        let mut is_more = trim.is_more || trim.is_spent();
        let (messages, runs) = (trim.messages, trim.runs);
        if let Some(looked) = &mut self.trims.borrow_mut().looked {
            // What was deleted is not counted again.
            (looked.messages, looked.runs) = (messages, runs);
        }
        is_more |= self.drop_outputs()?;
        let keys = self.gone(trim_sql::DROP_KEYS, &[&ms(before(KEY_AGE_MS)), &KEYS_SLICE])?;
        self.drop_what_has_ended(now)?;
        let emptied = self.note_empty(now.age)?;
        let has_forgotten = self.forget_projects(before(TOMBSTONE_AGE_MS), emptied.len())?;
        is_more |= keys == nat(KEYS_SLICE);
        Ok(Trimmed { is_more, emptied, has_forgotten, key_bytes: self.key_bytes_of_all()? })
    }

    /// See [`Store::trim_outbox`](crate::log::store::Store::trim_outbox).
    pub(super) fn let_due_go(&self, rows_max: u64) -> Result<Vec<(Arc<str>, u64)>, StoreError> {
        let looked = self.trims.borrow().outbox;
        if looked.is_some_and(|(at, took)| took > LOOK_FREELY && at.elapsed() < took * LOOK_PART)
            || !self.has_duty("webhooks")?
        {
            return Ok(Vec::new());
        }
        let began = Instant::now();
        let waiting = crate::log::store::History::outbox(self)?;
        self.trims.borrow_mut().outbox = Some((began, began.elapsed()));
        let mut gone = Vec::new();
        for (webhook, rows) in waiting {
            let too_many = rows.saturating_sub(rows_max);
            if too_many > 0 {
                self.write_rows(trim_sql::TRIM_OUTBOX, &[&&*webhook, &int(too_many)])?;
                gone.push((webhook, too_many));
            }
        }
        Ok(gone)
    }

    /// The weight of all keys: as of just now or, if another node trims, within the last [`KEYS_PACE`].
    pub(super) fn key_bytes_of_all(&self) -> Result<u64, StoreError> {
        let known = {
            let trims = self.trims.borrow();
            let is_recent = |it: &&Looked| trims.is_anothers_since.is_some() && it.at.elapsed() < KEYS_PACE;
            trims.looked.as_ref().filter(is_recent).map(|looked| looked.keys)
        };
        if let Some(keys) = known {
            return Ok(keys);
        }
        self.look_at_all().map(|looked| looked.keys)
    }

    /// Is that this node's to do?
    fn has_duty(&self, duty: &str) -> Result<bool, StoreError> {
        let node = self.node();
        let row = self.row(sql::HAS_DUTY, &[&duty, &&node.0[..]])?;
        row.map_or(Ok(false), |row| get(&row, 0))
    }

    fn has_to_trim(&self) -> Result<bool, StoreError> {
        let is_anothers_since = self.trims.borrow().is_anothers_since;
        if is_anothers_since.is_some_and(|at| at.elapsed() < PACE) {
            return Ok(false);
        }
        let has_duty = self.has_duty("trim")?;
        let is_new = has_duty && !self.trims.borrow().has_duty;
        if is_new {
            // Whoever trimmed before may have gone in the middle of it.
            let rows = self.rows(trim_sql::SHRUNK, &[])?;
            let shrunk = rows.iter().map(|row| get(row, 0)).collect::<Result<Vec<i64>, _>>()?;
            self.trims.borrow_mut().shrunk.extend(shrunk);
        }
        let mut trims = self.trims.borrow_mut();
        trims.has_duty = has_duty;
        trims.is_anothers_since = (!has_duty).then(Instant::now);
        Ok(has_duty)
    }

    /// The totals of all projects, and those that are too large: as of just now, or a little older if checking takes
    /// long.
    fn look_at_all(&self) -> Result<Looked, StoreError> {
        let (known, (messages_max, runs_max)) = {
            let trims = self.trims.borrow();
            (trims.looked.clone(), trims.most.unwrap_or((i64::MAX, i64::MAX)))
        };
        if let Some(known) = known.filter(|it| it.took > LOOK_FREELY && it.at.elapsed() < it.took * LOOK_PART) {
            return Ok(known);
        }
        let at = Instant::now();
        let row = self.row(trim_sql::TOTALS, &[&messages_max, &runs_max, &PROJECTS_SLICE])?;
        let row = row.ok_or_else(|| damaged("an answer is missing"))?;
        let (messages, runs, keys) = (get(&row, 0)?, get(&row, 1)?, count(&row, 2)?);
        let looked = Looked { messages, runs, keys, too_large: get(&row, 3)?, at, took: at.elapsed() };
        self.trims.borrow_mut().looked = Some(looked.clone());
        Ok(looked)
    }

    fn number(&self, sql: &'static str, values: &[Value<'_>]) -> Result<u64, StoreError> {
        self.row(sql, values)?.map_or(Ok(0), |row| count(&row, 0))
    }

    /// The rows of what writes, and is never done twice.
    fn write_rows(&self, sql: &'static str, values: &[Value<'_>]) -> Result<Vec<Row>, StoreError> {
        let mut conn = self.conn.borrow_mut();
        let rows = conn.query(sql, values);
        rows.map_err(|failure| failure.at(conn.address().shown()))
    }

    /// The number of deleted rows.
    fn gone(&self, sql: &'static str, values: &[Value<'_>]) -> Result<u64, StoreError> {
        self.write_rows(sql, values)?.first().map_or(Ok(0), |row| count(row, 0))
    }

    /// Deletes some pieces of dropped outputs. `true` if there may be more.
    fn drop_outputs(&self) -> Result<bool, StoreError> {
        let pieces = self.gone(trim_sql::DROP_PIECES, &[&OUTPUTS_SLICE, &PIECES_SLICE])?;
        if pieces == nat(PIECES_SLICE) {
            return Ok(true);
        }
        let outputs = self.gone(trim_sql::DROP_OUTPUTS, &[&OUTPUTS_SLICE])?;
        Ok(outputs == nat(OUTPUTS_SLICE))
    }

    /// Notes about tickets that make no difference any more, and wishes that nobody waits for.
    fn drop_what_has_ended(&self, now: Times) -> Result<(), StoreError> {
        let mut trims = self.trims.borrow_mut();
        if trims.looked_for_ends_at.is_some_and(|at| at.elapsed() < PACE) {
            return Ok(());
        }
        trims.looked_for_ends_at = Some(Instant::now());
        self.write_rows(trim_sql::DROP_TICKETS, &[&ms(now.wall), &TICKETS_SLICE])?;
        self.write_rows(trim_sql::DROP_WISHES, &[&int(KEY_AGE_MS)]).map(drop)
    }

    /// Notes the projects that have become empty.
    fn note_empty(&self, now: Timestamp) -> Result<Vec<ProjectId>, StoreError> {
        let shrunk: Vec<i64> = self.trims.borrow().shrunk.iter().copied().collect();
        if shrunk.is_empty() {
            return Ok(Vec::new());
        }
        let rows = self.write_rows(trim_sql::NOTE_EMPTY, &[&shrunk, &ms(now)])?;
        let emptied = rows.iter().map(|row| id(row, 0, ProjectId::parse)).collect::<Result<Vec<_>, _>>()?;
        self.trims.borrow_mut().shrunk.clear();
        Ok(emptied)
    }

    /// Forgets projects that have been empty for long, and now and then those beyond the limit. Were there any?
    fn forget_projects(&self, before: Timestamp, emptied: usize) -> Result<bool, StoreError> {
        let mut gone = self.write_rows(trim_sql::FORGET_PROJECTS, &[&ms(before), &FORGOTTEN_SLICE])?;
        let so_far = self.trims.borrow().emptied + emptied;
        let are_many = so_far >= FORGOTTEN_SLICE as usize;
        self.trims.borrow_mut().emptied = if are_many { 0 } else { so_far };
        if are_many {
            let too_many = int(self.number(trim_sql::EMPTY_PROJECTS, &[])?) - TOMBSTONES_MAX as i64;
            if too_many > 0 {
                gone.extend(self.write_rows(trim_sql::FORGET_PROJECTS, &[&i64::MAX, &too_many])?);
            }
        }
        Ok(!gone.is_empty())
    }
}
