//! Deletes history over the limits: one node does it for all, in slices, on a connection of its own.
//!
//! It works like the store on disk: history is deleted segment by segment, and an ended run as a whole. Each step is a
//! transaction of its own for one project, which checks that the project is still as it was found; other nodes write in
//! the meantime. The floor of the project is raised first, and rows below it are removed afterwards, so that no append
//! waits while rows are deleted.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_postgres::Row;

use super::codes::{count, damaged, get, id, int, ms, nat};
use super::connection::{Connection, Step, Together};
use super::membership::Membership;
use super::read::{Readable, Reading, Value, rows_again};
use super::sql;
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

/// A project's history.
struct Stretch {
    project: i64,
    newest: u64,
    floor: u64,
    swept: u64,
    ended_runs: u64,
    floor_at: Option<Timestamp>,
}

/// The part to delete.
#[derive(Clone, Copy)]
enum Bound {
    /// Everything before this message.
    Seq(u64),
    /// Everything stored before this time.
    Time(Timestamp),
    /// This many of the oldest bytes, if its first segment has as many.
    Bytes(u64),
}

/// Messages that lie together.
struct Segment {
    first_seq: u64,
    count: u64,
    last_at: Timestamp,
    bytes: u64,
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
        let keys = self.gone(sql::DROP_KEYS, &[&ms(before(KEY_AGE_MS)), &KEYS_SLICE])?;
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
                self.write_rows(sql::TRIM_OUTBOX, &[&&*webhook, &int(too_many)])?;
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
            let rows = self.rows(sql::SHRUNK, &[])?;
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
        let row = self.row(sql::TOTALS, &[&messages_max, &runs_max, &PROJECTS_SLICE])?;
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
        let pieces = self.gone(sql::DROP_PIECES, &[&OUTPUTS_SLICE, &PIECES_SLICE])?;
        if pieces == nat(PIECES_SLICE) {
            return Ok(true);
        }
        let outputs = self.gone(sql::DROP_OUTPUTS, &[&OUTPUTS_SLICE])?;
        Ok(outputs == nat(OUTPUTS_SLICE))
    }

    /// Notes about tickets that make no difference any more, and wishes that nobody waits for.
    fn drop_what_has_ended(&self, now: Times) -> Result<(), StoreError> {
        let mut trims = self.trims.borrow_mut();
        if trims.looked_for_ends_at.is_some_and(|at| at.elapsed() < PACE) {
            return Ok(());
        }
        trims.looked_for_ends_at = Some(Instant::now());
        self.write_rows(sql::DROP_TICKETS, &[&ms(now.wall), &TICKETS_SLICE])?;
        self.write_rows(sql::DROP_WISHES, &[&int(KEY_AGE_MS)]).map(drop)
    }

    /// Notes the projects that have become empty.
    fn note_empty(&self, now: Timestamp) -> Result<Vec<ProjectId>, StoreError> {
        let shrunk: Vec<i64> = self.trims.borrow().shrunk.iter().copied().collect();
        if shrunk.is_empty() {
            return Ok(Vec::new());
        }
        let rows = self.write_rows(sql::NOTE_EMPTY, &[&shrunk, &ms(now)])?;
        let emptied = rows.iter().map(|row| id(row, 0, ProjectId::parse)).collect::<Result<Vec<_>, _>>()?;
        self.trims.borrow_mut().shrunk.clear();
        Ok(emptied)
    }

    /// Forgets projects that have been empty for long, and now and then those beyond the limit. Were there any?
    fn forget_projects(&self, before: Timestamp, emptied: usize) -> Result<bool, StoreError> {
        let mut gone = self.write_rows(sql::FORGET_PROJECTS, &[&ms(before), &FORGOTTEN_SLICE])?;
        let so_far = self.trims.borrow().emptied + emptied;
        let are_many = so_far >= FORGOTTEN_SLICE as usize;
        self.trims.borrow_mut().emptied = if are_many { 0 } else { so_far };
        if are_many {
            let too_many = int(self.number(sql::EMPTY_PROJECTS, &[])?) - TOMBSTONES_MAX as i64;
            if too_many > 0 {
                gone.extend(self.write_rows(sql::FORGET_PROJECTS, &[&i64::MAX, &too_many])?);
            }
        }
        Ok(!gone.is_empty())
    }
}

impl Trim<'_> {
    fn is_spent(&self) -> bool {
        let is_time_over = self.has_done_any && Instant::now() >= self.until;
        self.left_messages == 0 || self.left_bytes == 0 || is_time_over
    }

    fn has_shrunk(&mut self, project: i64) {
        self.store.trims.borrow_mut().shrunk.insert(project);
        self.has_done_any = true;
    }

    fn spend(&mut self, messages: u64, bytes: u64) {
        self.left_messages = self.left_messages.saturating_sub(messages);
        self.left_bytes = self.left_bytes.saturating_sub(bytes);
    }

    /// Goes by the counts of messages and ended runs.
    fn projects(&mut self, too_large: &[i64], retention: &Retention) -> Result<(), StoreError> {
        self.is_more |= too_large.len() == PROJECTS_SLICE as usize;
        for project in too_large {
            if self.is_spent() {
                break;
            }
            let Some(stretch) = self.stretch(sql::PROJECT_SIZE, &[project])? else { continue };
            let messages_max = retention.messages as u64;
            if stretch.newest + 1 - stretch.floor > messages_max + messages_max / MESSAGES_SLACK {
                self.sweep(&stretch, Bound::Seq(stretch.newest + 1 - messages_max))?;
            }
            self.drop_oldest_runs(*project, stretch.ended_runs.saturating_sub(retention.runs as u64))?;
        }
        Ok(())
    }

    fn drop_oldest_runs(&mut self, project: i64, count: u64) -> Result<(), StoreError> {
        let room = self.left_messages.div_ceil(RUN_COST);
        if count == 0 || room == 0 {
            return Ok(());
        }
        self.is_more |= room < count;
        let rows = self.store.rows(sql::OLDEST_ENDED_OF, &[&project, &int(count.min(room))])?;
        let runs = rows.iter().map(|row| get(row, 0)).collect::<Result<Vec<i64>, _>>()?;
        self.drop_runs(project, &runs)
    }

    /// Lets go of messages kept and runs ended before `before`.
    fn age(&mut self, before: Timestamp) -> Result<(), StoreError> {
        while !self.is_spent() {
            let Some(oldest) = self.stretch(sql::OLDEST_PROJECT, &[])? else { break };
            if oldest.floor_at.is_none_or(|at| at >= before) || !self.sweep(&oldest, Bound::Time(before))? {
                break;
            }
        }
        while !self.is_spent() {
            match self.oldest_ended()? {
                Some((run, at, project)) if at < before => self.drop_runs(project, &[run])?,
                _ => break,
            }
        }
        Ok(())
    }

    /// Lets the oldest go until all weigh no more: messages where those weigh more, runs where these do.
    fn bytes(&mut self, bytes_max: u64) -> Result<(), StoreError> {
        let bytes_max = int(bytes_max);
        while !self.is_spent() {
            let too_many = self.messages.saturating_add(self.runs).saturating_sub(bytes_max);
            if too_many <= 0 {
                break;
            }
            match (self.oldest_ended()?, self.stretch(sql::OLDEST_PROJECT, &[])?) {
                (Some((run, _, project)), None) => self.drop_runs(project, &[run])?,
                (Some((run, _, project)), Some(_)) if self.runs > self.messages => self.drop_runs(project, &[run])?,
                (_, Some(oldest)) => {
                    let messages = self.messages;
                    self.sweep(&oldest, Bound::Bytes(nat(too_many)))?;
                    if self.messages == messages {
                        // The rest of the segment is within the limit.
                        break;
                    }
                }
                (None, None) => break,
            }
        }
        Ok(())
    }

    fn stretch(&self, sql: &'static str, values: &[Value<'_>]) -> Result<Option<Stretch>, StoreError> {
        let stretch = |row: Row| {
            let floor_at: Option<i64> = get(&row, 5)?;
            Ok(Stretch {
                project: get(&row, 0)?,
                newest: count(&row, 1)?,
                floor: count(&row, 2)?,
                swept: count(&row, 3)?,
                ended_runs: count(&row, 4)?,
                floor_at: floor_at.map(|at| Timestamp::from_millis(nat(at))),
            })
        };
        self.store.row(sql, values)?.map(stretch).transpose()
    }

    fn oldest_ended(&self) -> Result<Option<(i64, Timestamp, i64)>, StoreError> {
        let ended = |row: Row| Ok((get(&row, 0)?, super::codes::timestamp(&row, 1)?, get(&row, 2)?));
        self.store.row(sql::OLDEST_ENDED, &[])?.map(ended).transpose()
    }

    /// Moves a project's floor up, or until the slice is spent, and lets the segments go that are below it as a whole. Has it moved?
    fn sweep(&mut self, stretch: &Stretch, mut bound: Bound) -> Result<bool, StoreError> {
        let most = match bound {
            // Up to the end of its segment, to know that it is one.
            Bound::Seq(seq) => (seq.saturating_sub(stretch.swept) + SEGMENT_MESSAGES).min(self.left_messages),
            Bound::Time(_) | Bound::Bytes(_) => self.left_messages,
        };
        let limit = int(most.clamp(1, SLICE_MESSAGES) + 1);
        let rows = self.store.rows(sql::EXTENTS, &[&stretch.project, &int(stretch.swept), &limit])?;
        let segments = rows.iter().map(segment).collect::<Result<Vec<_>, _>>()?;
        let mut end = stretch.swept;
        let mut floor = None;
        for segment in &segments {
            let kept = match self.is_spent() {
                true => Some(segment.first_seq),
                false => self.first_kept(stretch.project, segment, bound)?,
            };
            if kept.is_some() {
                floor = kept;
                break;
            }
            self.spend(segment.count, segment.bytes);
            end = segment.first_seq + segment.count;
            if let Bound::Bytes(left) = &mut bound {
                *left = 0;
            }
        }
        let floor = floor.unwrap_or(end).max(stretch.floor);
        if (floor, end) == (stretch.floor, stretch.swept) {
            return Ok(false);
        }
        // Whatever comes of it.
        self.has_shrunk(stretch.project);
        let raise: [Value<'_>; 3] = [&stretch.project, &int(stretch.floor), &int(floor)];
        if floor > stretch.floor && self.store.write_rows(sql::RAISE_FLOOR, &raise)?.is_empty() {
            return Ok(false);
        }
        if end == stretch.swept {
            return Ok(true);
        }
        let sweep: [Value<'_>; 3] = [&stretch.project, &int(stretch.swept), &int(end)];
        let row = self.store.write_rows(sql::SWEEP, &sweep)?;
        let weight: Option<i64> = row.first().map_or(Ok(None), |row| get(row, 0))?;
        self.messages -= weight.unwrap_or_default();
        Ok(weight.is_some())
    }

    /// The first message of a segment that is kept; nothing where none is.
    fn first_kept(&self, project: i64, segment: &Segment, bound: Bound) -> Result<Option<u64>, StoreError> {
        let next_seq = segment.first_seq + segment.count;
        match bound {
            Bound::Seq(seq) => Ok((seq < next_seq).then_some(seq.max(segment.first_seq))),
            Bound::Time(before) => Ok((segment.last_at >= before).then_some(segment.first_seq)),
            Bound::Bytes(0) => Ok(Some(segment.first_seq)),
            Bound::Bytes(bytes) if bytes < segment.bytes => self.seq_after(project, segment, bytes),
            Bound::Bytes(_) => Ok(None),
        }
    }

    /// The first message of a segment after at least this many bytes, if there is one.
    fn seq_after(&self, project: i64, segment: &Segment, bytes: u64) -> Result<Option<u64>, StoreError> {
        let rows = self.store.rows(sql::WEIGHTS, &[&project, &int(segment.first_seq), &int(segment.count)])?;
        let mut passed = 0;
        for (row, seq) in rows.iter().zip(segment.first_seq..) {
            if passed >= bytes {
                return Ok(Some(seq));
            }
            passed += count(row, 0)?;
        }
        Ok(None)
    }

    fn drop_runs(&mut self, project: i64, runs: &[i64]) -> Result<(), StoreError> {
        self.has_shrunk(project);
        let steps: Vec<_> = runs.iter().map(|run| Step { sql: sql::DROP_RUN, values: vec![run] }).collect();
        let mut conn = self.store.conn.borrow_mut();
        let dropped = conn.run(Together::No, &steps).map_err(|failure| failure.at(conn.address().shown()));
        drop(conn);
        for row in dropped?.iter().flatten() {
            let weight: Option<i64> = get(row, 0)?;
            self.runs -= weight.unwrap_or_default();
            self.spend(RUN_COST, nat(weight.unwrap_or_default()));
        }
        Ok(())
    }
}

fn segment(row: &Row) -> Result<Segment, StoreError> {
    let last_at = super::codes::timestamp(row, 2)?;
    Ok(Segment { first_seq: count(row, 0)?, count: count(row, 1)?, last_at, bytes: count(row, 3)? })
}
