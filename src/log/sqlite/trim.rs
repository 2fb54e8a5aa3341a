//! Lets go of what is too much, in slices, so that no commit waits long for it.
//!
//! A project's history is swept from its floor upwards. A run goes whole, but for its messages above the floor, which
//! are their project's, and the pieces of its outputs, which go little by little.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, OptionalExtension, ToSql, params};

use super::read::count_and_bytes;
use super::{int, nat, read, sql};
use crate::log::store::{Flow, MESSAGE_OVERHEAD_BYTES, Retention, TOMBSTONES_MAX};
use crate::model::{ProjectId, Timestamp};

/// Messages that a trim lets go at least, if there are so many too much: some 2 ms.
const MESSAGES_MIN: u64 = 1000;

/// Bytes of messages that a trim lets go at least.
const BYTES_MIN: u64 = 4 * 1024 * 1024;

/// A project's count of messages may be above its limit by this part of it, so that a sweep, which has a price of its
/// own, is for many messages at once: 78 of 10,000. None where the limit is small.
const MESSAGES_SLACK: u64 = 128;

/// Messages that came within so many milliseconds count as of the same age, for the same reason.
const AGE_SLACK_MS: u64 = 1000;

/// A run that goes counts as so many messages.
const RUN_COST: u64 = 20;

/// Pieces of outputs that a trim lets go: at most 4 MB, as a piece is what a step wrote at once, up to 64 KiB.
const PIECES_MAX: usize = 64;

/// Outputs without pieces that a trim lets go.
const OUTPUTS_MAX: usize = 16;

/// Keys that a trim lets go.
const KEYS_SLICE: i64 = 2000;

/// Projects that a trim forgets.
const PROJECTS_SLICE: i64 = 1000;

/// How many projects come to hold nothing until those are counted that do.
pub(super) const EMPTIED_MAX: usize = 1000;

/// How often tickets that have ended are looked for.
pub(super) const TICKETS_PACE_MS: u64 = 1000;

/// Notes that a look lets go: more than a server can write until the next one.
const TICKET_NOTES_SLICE: i64 = 20_000;

/// Free pages that stay in the file, to be used again; beyond these and an eighth of the file it shrinks.
const FREE_PAGES_MIN: i64 = 256;

/// Pages by which the file shrinks at once: each is one page moved.
const PAGES_SLICE: i64 = 64;

/// An amount of messages.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Slice {
    pub(super) messages: u64,
    pub(super) bytes: u64,
}

impl Slice {
    pub(super) fn add(&mut self, other: Self) {
        self.messages += other.messages;
        self.bytes += other.bytes;
    }

    /// What may be let go after so much was written: twice that, so that it never grows without end.
    pub(super) fn to_let_go(self) -> Self {
        Self { messages: MESSAGES_MIN.max(2 * self.messages), bytes: BYTES_MIN.max(2 * self.bytes) }
    }

    fn is_spent(self) -> bool {
        self.messages == 0 || self.bytes == 0
    }

    fn spend(&mut self, messages: u64, bytes: u64) {
        self.messages = self.messages.saturating_sub(messages);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// Gives some free pages at the end of the file back, if there are many. `true` where there are more to give back.
pub(super) fn give_pages_back(conn: &Connection) -> rusqlite::Result<bool> {
    let pages: i64 = conn.prepare_cached(sql::PAGES)?.query_row([], |row| row.get(0))?;
    let free: i64 = conn.prepare_cached(sql::FREE_PAGES)?.query_row([], |row| row.get(0))?;
    let too_many = free - FREE_PAGES_MIN.max(pages / 8);
    if too_many <= 0 {
        return Ok(false);
    }
    // A row for each page, and a page only if its row is asked for.
    conn.pragma(None, "incremental_vacuum", too_many.min(PAGES_SLICE), |_| Ok(()))?;
    Ok(too_many > PAGES_SLICE)
}

/// One trim, within a transaction that someone else begins and ends.
pub(super) struct Trimmer<'a> {
    conn: &'a Connection,
    left: Slice,
    /// Names of the projects that hold no message any more, or are forgotten.
    changed: Vec<String>,
    /// Projects that have let a run go, or all messages.
    shrunk: BTreeSet<i64>,
}

/// A project's history.
struct History {
    project: i64,
    newest: u64,
    floor: u64,
}

/// The message that a sweep is about to pass, and what it passed before.
struct Sweep {
    seq: u64,
    at: Timestamp,
    /// Bytes of messages passed.
    bytes: i64,
    /// Those of them that outlast the floor, and count for their runs from now on.
    outlasting_bytes: i64,
}

impl<'a> Trimmer<'a> {
    /// A trim that lets go of about `left` at most.
    pub(super) fn new(conn: &'a Connection, left: Slice) -> Self {
        Self { conn, left, changed: Vec::new(), shrunk: BTreeSet::new() }
    }

    /// The names of the projects of which something else is known now, and whether it let go of as much as it may.
    pub(super) fn finish(self) -> (Vec<String>, bool) {
        (self.changed, self.left.is_spent())
    }

    /// The projects that have come to hold nothing.
    pub(super) fn take_emptied(&mut self, now: Timestamp) -> rusqlite::Result<Vec<ProjectId>> {
        let mut emptied = Vec::new();
        for project in std::mem::take(&mut self.shrunk) {
            let values = params![project, int(now.as_millis())];
            read::each_row(self.conn, sql::PROJECT_EMPTIED, values, |row| {
                emptied.push(read::id(row, 0, ProjectId::parse)?);
                Ok(Flow::More)
            })?;
        }
        Ok(emptied)
    }

    /// Forgets projects that have held nothing since before `before`, and with `is_counted` also those beyond as many as
    /// may be. Were there any?
    pub(super) fn forget_projects(&mut self, before: Timestamp, is_counted: bool) -> rusqlite::Result<bool> {
        let known = self.changed.len();
        if self.is_before(sql::LONGEST_EMPTY, before)? {
            self.forget(int(before.as_millis()), PROJECTS_SLICE)?;
        }
        if is_counted {
            let mut count = self.conn.prepare_cached(sql::EMPTY_PROJECTS)?;
            let empty: i64 = count.query_row([], |row| row.get(0))?;
            let too_many = empty - TOMBSTONES_MAX as i64;
            if too_many > 0 {
                self.forget(i64::MAX, too_many)?;
            }
        }
        Ok(self.changed.len() > known)
    }

    fn forget(&mut self, before: i64, max: i64) -> rusqlite::Result<()> {
        let changed = &mut self.changed;
        read::each_row(self.conn, sql::FORGET_PROJECTS, params![before, max], |row| {
            changed.push(row.get(0)?);
            Ok(Flow::More)
        })
    }

    /// Lets keys go that were used before `before`. `true` where there may be more.
    pub(super) fn trim_keys(&mut self, before: Timestamp) -> rusqlite::Result<bool> {
        if !self.is_before(sql::OLDEST_KEY, before)? {
            return Ok(false);
        }
        let mut dropped: BTreeMap<i64, i64> = BTreeMap::new();
        let mut count = 0;
        read::each_row(self.conn, sql::DROP_KEYS, params![int(before.as_millis()), KEYS_SLICE], |row| {
            *dropped.entry(row.get(0)?).or_default() += row.get::<_, i64>(1)?;
            count += 1;
            Ok(Flow::More)
        })?;
        for (project, bytes) in &dropped {
            self.run_sql(sql::PROJECT_KEYS, params![project, -bytes])?;
        }
        if count > 0 {
            self.run_sql(sql::ADD_TO_TOTALS, params![0, 0, -dropped.values().sum::<i64>(), 0])?;
        }
        Ok(count == KEYS_SLICE)
    }

    /// Is the time that `statement` looks up before this one? Whoever deletes begins to write, though nothing is there.
    fn is_before(&self, statement: &str, before: Timestamp) -> rusqlite::Result<bool> {
        let at: Option<i64> = self.conn.prepare_cached(statement)?.query_row([], |row| row.get(0))?;
        Ok(at.is_some_and(|at| at < int(before.as_millis())))
    }

    /// Keeps where the clock stands.
    pub(super) fn keep_clock(&self, clock: Timestamp) -> rusqlite::Result<()> {
        self.run_sql(sql::ADD_TO_TOTALS, params![0, 0, 0, int(clock.as_millis())]).map(drop)
    }

    /// Goes by the counts of messages and ended runs. Those of `projects` that are still too large.
    pub(super) fn trim_projects(
        &mut self,
        projects: &BTreeSet<i64>,
        retention: &Retention,
    ) -> rusqlite::Result<BTreeSet<i64>> {
        let mut still_too_large = BTreeSet::new();
        for &project in projects {
            if self.left.is_spent() || !self.trim_project(project, retention)? {
                still_too_large.insert(project);
            }
        }
        Ok(still_too_large)
    }

    fn trim_project(&mut self, project: i64, retention: &Retention) -> rusqlite::Result<bool> {
        let mut size = self.conn.prepare_cached(sql::PROJECT_SIZE)?;
        let found = size.query_row([project], |row| Ok((history(row)?, row.get::<_, i64>(3)?))).optional()?;
        // It was forgotten.
        let Some((history, ended_runs)) = found else { return Ok(true) };
        let messages_max = retention.messages as u64;
        let slack = messages_max / MESSAGES_SLACK;
        let floor = match history.newest + 1 - history.floor > messages_max + slack {
            true => self.sweep(&history, |sweep| history.newest + 1 - sweep.seq <= messages_max)?,
            false => history.floor,
        };
        let mut runs_too_many = nat(ended_runs).saturating_sub(retention.runs as u64);
        while runs_too_many > 0 && !self.left.is_spent() {
            let mut oldest = self.conn.prepare_cached(sql::OLDEST_ENDED_OF)?;
            let Some(run) = oldest.query_row([project], |row| row.get(0)).optional()? else { break };
            self.drop_run(run)?;
            runs_too_many -= 1;
        }
        Ok(runs_too_many == 0 && history.newest + 1 - floor <= messages_max + slack)
    }

    /// Lets go of messages kept and runs ended before `before`.
    pub(super) fn trim_age(&mut self, before: Timestamp) -> rusqlite::Result<()> {
        let before = before.as_millis() - before.as_millis() % AGE_SLACK_MS;
        let before = Timestamp::from_millis(before);
        while !self.left.is_spent() {
            match self.oldest_projects()?.first() {
                Some((oldest, at)) if *at < before => drop(self.sweep(oldest, |sweep| sweep.at >= before)?),
                _ => break,
            }
        }
        while !self.left.is_spent() {
            match self.oldest_ended_run()? {
                Some((run, at)) if at < before => self.drop_run(run)?,
                _ => break,
            }
        }
        Ok(())
    }

    /// Lets the oldest go until all weigh no more than `bytes_max`: messages where those weigh more, runs where these
    /// do.
    pub(super) fn trim_bytes(&mut self, bytes_max: u64) -> rusqlite::Result<()> {
        let bytes_max = int(bytes_max);
        while !self.left.is_spent() {
            let (messages, runs) = self.totals()?;
            if messages.saturating_add(runs) <= bytes_max {
                break;
            }
            let ended = self.oldest_ended_run()?;
            let oldest = self.oldest_projects()?;
            match (ended, oldest.first()) {
                (Some((run, _)), None) => self.drop_run(run)?,
                (Some((run, _)), Some(_)) if runs > messages => self.drop_run(run)?,
                (_, Some((project, _))) => {
                    let next_at = oldest.get(1).map(|(_, at)| at.plus_millis(AGE_SLACK_MS));
                    self.sweep(project, |sweep| {
                        let (messages, runs) = (messages - sweep.bytes, runs + sweep.outlasting_bytes);
                        let is_another_turn = next_at.is_some_and(|next_at| sweep.at > next_at);
                        messages + runs <= bytes_max || (ended.is_some() && runs > messages) || is_another_turn
                    })?;
                }
                (None, None) => break,
            }
        }
        Ok(())
    }

    /// Lets some pieces go of outputs that were let go. `true` where there may be more.
    pub(super) fn drop_pieces(&mut self) -> rusqlite::Result<bool> {
        let mut left = PIECES_MAX;
        for _ in 0..OUTPUTS_MAX {
            let mut let_go = self.conn.prepare_cached(sql::LET_GO)?;
            let Some(output): Option<i64> = let_go.query_row([], |row| row.get(0)).optional()? else {
                return Ok(false);
            };
            let dropped = self.run_sql(sql::DROP_SOME_PIECES, params![output, left as i64])?;
            if dropped == left {
                break;
            }
            left -= dropped;
            self.run_sql(sql::DROP_OUTPUT, params![output])?;
        }
        Ok(true)
    }

    /// Lets notes about tickets go that make no difference at `now`. No others: a stream that goes on needs them, and their
    /// number is bounded where tickets are spent.
    pub(super) fn trim_tickets(&mut self, now: Timestamp) -> rusqlite::Result<()> {
        self.run_sql(sql::DROP_TICKETS, params![int(now.as_millis()), TICKET_NOTES_SLICE]).map(drop)
    }

    /// Moves a project's floor up to the first message at which `is_enough`, or until the slice is spent. The floor.
    fn sweep(&mut self, history: &History, is_enough: impl Fn(&Sweep) -> bool) -> rusqlite::Result<u64> {
        let mut sweep = Sweep { seq: history.floor, at: Timestamp::default(), bytes: 0, outlasting_bytes: 0 };
        let mut floor_at = None;
        let mut floor = history.newest + 1;
        let left = &mut self.left;
        read::each_row(self.conn, sql::WALK, params![history.project, int(history.floor)], |row| {
            (sweep.seq, sweep.at) = (nat(row.get(0)?), read::timestamp(row, 1)?);
            if left.is_spent() || is_enough(&sweep) {
                (floor, floor_at) = (sweep.seq, Some(int(sweep.at.as_millis())));
                return Ok(Flow::Stop);
            }
            let bytes = row.get::<_, i64>(2)? + int(MESSAGE_OVERHEAD_BYTES);
            left.spend(1, nat(bytes));
            sweep.bytes += bytes;
            sweep.outlasting_bytes += if row.get(3)? { bytes } else { 0 };
            Ok(Flow::More)
        })?;
        self.run_sql(sql::SWEEP, params![history.project, int(history.floor), int(floor)])?;
        self.run_sql(sql::MOVE_FLOOR, params![history.project, int(floor), floor_at])?;
        self.run_sql(sql::ADD_TO_TOTALS, params![-sweep.bytes, sweep.outlasting_bytes, 0, 0])?;
        if floor_at.is_none() {
            let mut name = self.conn.prepare_cached(sql::PROJECT_NAME)?;
            self.changed.push(name.query_row([history.project], |row| row.get(0))?);
            self.shrunk.insert(history.project);
        }
        Ok(floor)
    }

    fn drop_run(&mut self, run: i64) -> rusqlite::Result<()> {
        let mut size = self.conn.prepare_cached(sql::RUN_SIZE)?;
        let (project, bytes, floor, outputs): (i64, i64, i64, i64) =
            size.query_row([run], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
        let (count, text_bytes) = count_and_bytes(self.conn, sql::BELOW_FLOOR, run, floor)?;
        self.run_sql(sql::DROP_BELOW_FLOOR, params![run, floor])?;
        for statement in sql::DROP_RUN {
            self.run_sql(statement, params![run])?;
        }
        self.run_sql(sql::COUNT_ENDED, params![project, -1])?;
        let bytes = bytes + outputs + text_bytes + count * int(MESSAGE_OVERHEAD_BYTES);
        self.run_sql(sql::ADD_TO_TOTALS, params![0, -bytes, 0, 0])?;
        self.shrunk.insert(project);
        self.left.spend(RUN_COST, nat(bytes - outputs));
        Ok(())
    }

    /// Bytes of messages, bytes of runs.
    fn totals(&self) -> rusqlite::Result<(i64, i64)> {
        self.conn.prepare_cached(sql::TOTALS)?.query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
    }

    /// The two projects whose oldest messages are the oldest, and when those were kept.
    fn oldest_projects(&self) -> rusqlite::Result<Vec<(History, Timestamp)>> {
        let mut oldest = self.conn.prepare_cached(sql::OLDEST_PROJECTS)?;
        oldest.query_map([], |row| Ok((history(row)?, read::timestamp(row, 3)?)))?.collect()
    }

    fn oldest_ended_run(&self) -> rusqlite::Result<Option<(i64, Timestamp)>> {
        let mut oldest = self.conn.prepare_cached(sql::OLDEST_ENDED)?;
        oldest.query_row([], |row| Ok((row.get(0)?, read::timestamp(row, 1)?))).optional()
    }

    fn run_sql(&self, statement: &str, values: &[&dyn ToSql]) -> rusqlite::Result<usize> {
        self.conn.prepare_cached(statement)?.execute(values)
    }
}

fn history(row: &rusqlite::Row<'_>) -> rusqlite::Result<History> {
    Ok(History { project: row.get(0)?, newest: nat(row.get(1)?), floor: nat(row.get(2)?) })
}
