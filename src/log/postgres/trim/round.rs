//! One trim: which messages and ended runs of which project are deleted next, until the slice is spent.

use std::time::Instant;

use tokio_postgres::Row;

use super::super::codes::{count, get, int, nat, timestamp};
use super::super::connection::{Step, Together};
use super::super::read::{Readable, Value};
use super::super::trim_sql;
use super::{MESSAGES_SLACK, PROJECTS_SLICE, RUN_COST, SEGMENT_MESSAGES, SLICE_MESSAGES, Trim};
use crate::log::store::{Retention, StoreError};
use crate::model::Timestamp;

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

impl Trim<'_> {
    pub(super) fn is_spent(&self) -> bool {
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
    pub(super) fn projects(&mut self, too_large: &[i64], retention: &Retention) -> Result<(), StoreError> {
        self.is_more |= too_large.len() == PROJECTS_SLICE as usize;
        for project in too_large {
            if self.is_spent() {
                break;
            }
            let Some(stretch) = self.stretch(trim_sql::PROJECT_SIZE, &[project])? else { continue };
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
        let rows = self.store.rows(trim_sql::OLDEST_ENDED_OF, &[&project, &int(count.min(room))])?;
        let runs = rows.iter().map(|row| get(row, 0)).collect::<Result<Vec<i64>, _>>()?;
        self.drop_runs(project, &runs)
    }

    /// Lets go of messages kept and runs ended before `before`.
    pub(super) fn age(&mut self, before: Timestamp) -> Result<(), StoreError> {
        while !self.is_spent() {
            let Some(oldest) = self.stretch(trim_sql::OLDEST_PROJECT, &[])? else { break };
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
    pub(super) fn bytes(&mut self, bytes_max: u64) -> Result<(), StoreError> {
        let bytes_max = int(bytes_max);
        while !self.is_spent() {
            let too_many = self.messages.saturating_add(self.runs).saturating_sub(bytes_max);
            if too_many <= 0 {
                break;
            }
            match (self.oldest_ended()?, self.stretch(trim_sql::OLDEST_PROJECT, &[])?) {
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
        let ended = |row: Row| Ok((get(&row, 0)?, timestamp(&row, 1)?, get(&row, 2)?));
        self.store.row(trim_sql::OLDEST_ENDED, &[])?.map(ended).transpose()
    }

    /// Moves a project's floor up, or until the slice is spent, and lets the segments go that are below it as a whole. Has it moved?
    fn sweep(&mut self, stretch: &Stretch, mut bound: Bound) -> Result<bool, StoreError> {
        let most = match bound {
            // Up to the end of its segment, to know that it is one.
            Bound::Seq(seq) => (seq.saturating_sub(stretch.swept) + SEGMENT_MESSAGES).min(self.left_messages),
            Bound::Time(_) | Bound::Bytes(_) => self.left_messages,
        };
        let limit = int(most.clamp(1, SLICE_MESSAGES) + 1);
        let rows = self.store.rows(trim_sql::EXTENTS, &[&stretch.project, &int(stretch.swept), &limit])?;
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
        if floor > stretch.floor && self.store.write_rows(trim_sql::RAISE_FLOOR, &raise)?.is_empty() {
            return Ok(false);
        }
        if end == stretch.swept {
            return Ok(true);
        }
        let sweep: [Value<'_>; 3] = [&stretch.project, &int(stretch.swept), &int(end)];
        let row = self.store.write_rows(trim_sql::SWEEP, &sweep)?;
        let weight: Option<i64> = row.first().map_or(Ok(None), |row| get(row, 0))?;
        self.messages -= weight.unwrap_or_default();
        Ok(weight.is_some())
    }

    /// The first message of a segment that is kept. `None` if none is.
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
        let rows = self.store.rows(trim_sql::WEIGHTS, &[&project, &int(segment.first_seq), &int(segment.count)])?;
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
        let steps: Vec<_> = runs.iter().map(|run| Step { sql: trim_sql::DROP_RUN, values: vec![run] }).collect();
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
    let last_at = timestamp(row, 2)?;
    Ok(Segment { first_seq: count(row, 0)?, count: count(row, 1)?, last_at, bytes: count(row, 3)? })
}
