//! Deletes history over the limits, in slices, so that no commit waits long for it.
//!
//! The history of a project is deleted from its first segment upwards: a segment goes as a whole, and messages of
//! active runs that must outlive it are kept with these runs. An ended run is deleted as a whole, except its messages
//! above the floor, which belong to the project, and the pieces of its outputs and the items of its steps, which are no
//! longer visible and are deleted little by little.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, OptionalExtension, ToSql, params};

use super::packed::place_code;
use super::read::Totals;
use super::slice::{RUN_COST, Slice};
use super::{int, messages, nat, read, sql};
use crate::log::store::segment::Extent;
use crate::log::store::{Flow, PlaceInRun, Retention, TOMBSTONES_MAX, message_weight};
use crate::model::{ProjectId, Timestamp};

/// A project's count of messages may be above its limit by this part of it, so that a sweep, which has a price of its
/// own, is for many messages at once: 78 of 10,000. None if the limit is small.
const MESSAGES_SLACK: u64 = 128;

/// Pieces of outputs that a trim lets go: at most 4 MB, as a piece is what a step wrote at once, up to 64 KiB.
const PIECES_MAX: usize = 64;

/// Outputs without pieces that a trim lets go.
const OUTPUTS_MAX: usize = 16;

/// Items that a trim lets go: each takes as much as an output in a message may, and a little more.
const ITEMS_MAX: usize = 64;

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
const PAGES_SLICE: i64 = 256;

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
    /// Names of the projects that hold no message any more, or nothing, or are forgotten.
    changed: Vec<String>,
    /// Projects that have let a run go, or all messages.
    shrunk: BTreeSet<i64>,
    gone: BTreeMap<i64, Gone>,
    /// It kept messages with their runs.
    has_outlasting: bool,
    totals: Totals,
}

/// What became of a trim.
pub(super) struct Done {
    /// Names of the projects of which something else is known now.
    pub(super) changed: Vec<String>,
    /// It kept messages with their runs.
    pub(super) has_outlasting: bool,
    /// It let go of as much as it may.
    pub(super) is_spent: bool,
    /// What is left.
    pub(super) totals: Totals,
}

/// The deletions of a project.
#[derive(Default)]
struct Gone {
    ended_runs: i64,
    message_bytes: i64,
    run_bytes: i64,
}

/// A project's history.
struct History {
    project: i64,
    newest: u64,
    floor: u64,
}

/// What is to go of a project's history.
#[derive(Clone, Copy)]
enum Bound {
    /// What is before this message.
    Seq(u64),
    /// What was kept before this.
    Time(Timestamp),
    /// The oldest so many bytes, if its first segment has as many.
    Bytes(u64),
}

impl<'a> Trimmer<'a> {
    /// A trim of what weighs `totals`, that lets go of about `left` at most.
    pub(super) fn new(conn: &'a Connection, left: Slice, totals: Totals) -> Self {
        let (shrunk, gone) = (BTreeSet::new(), BTreeMap::new());
        Self { conn, left, changed: Vec::new(), shrunk, gone, has_outlasting: false, totals }
    }

    /// Writes how much less is kept.
    pub(super) fn finish(self) -> rusqlite::Result<Done> {
        for (project, Gone { ended_runs, message_bytes, run_bytes }) in &self.gone {
            self.run_sql(sql::PROJECT_SHRANK, params![project, ended_runs, message_bytes, run_bytes])?;
        }
        let Self { changed, has_outlasting, totals, .. } = self;
        Ok(Done { changed, has_outlasting, is_spent: self.left.is_spent(), totals })
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
        self.changed.extend(emptied.iter().map(ProjectId::to_string));
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
        // They may be the only ones that know it.
        let newest_run: i64 = self.conn.query_row(sql::NEWEST_RUN, [], |row| row.get(0))?;
        self.run_sql(sql::KEEP_NEWEST_RUN, params![newest_run])?;
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
        self.totals.keys -= dropped.values().sum::<i64>();
        Ok(count == KEYS_SLICE)
    }

    /// Is the time that `statement` looks up before this one? Whoever deletes begins to write, though nothing is there.
    fn is_before(&self, statement: &str, before: Timestamp) -> rusqlite::Result<bool> {
        let at: Option<i64> = self.conn.prepare_cached(statement)?.query_row([], |row| row.get(0))?;
        Ok(at.is_some_and(|at| at < int(before.as_millis())))
    }

    /// Keeps where the clock stands.
    pub(super) fn keep_clock(&self, clock: Timestamp) -> rusqlite::Result<()> {
        self.run_sql(sql::KEEP_CLOCK, params![int(clock.as_millis())]).map(drop)
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
        let mut floor = history.floor;
        if history.newest + 1 - floor > messages_max + slack {
            floor = self.sweep(&history, Bound::Seq(history.newest + 1 - messages_max))?;
        }
        let runs_too_many = nat(ended_runs).saturating_sub(retention.runs as u64);
        let runs_are_left = runs_too_many > 0 && !self.trim_runs(project, runs_too_many)?;
        Ok(!runs_are_left && history.newest + 1 - floor <= messages_max + slack)
    }

    /// Lets go of the oldest `count` runs of a project that have ended; `false` where there are more to let go.
    fn trim_runs(&mut self, project: i64, count: u64) -> rusqlite::Result<bool> {
        let (mut oldest, mut has_room) = (Vec::new(), true);
        read::each_row(self.conn, sql::OLDEST_ENDED_OF, params![project, int(count)], |row| {
            oldest.push(row.get(0)?);
            has_room = self.left.has_room_for_runs(oldest.len());
            Ok(if has_room { Flow::More } else { Flow::Stop })
        })?;
        for run in &oldest {
            if self.left.is_spent() {
                return Ok(false);
            }
            self.drop_run(*run)?;
        }
        Ok(has_room || oldest.len() as u64 == count)
    }

    /// Lets go of messages kept and runs ended before `before`.
    pub(super) fn trim_age(&mut self, before: Timestamp) -> rusqlite::Result<()> {
        while !self.left.is_spent() {
            match self.oldest_project()? {
                Some((oldest, at)) if at < before => {
                    if self.sweep(&oldest, Bound::Time(before))? == oldest.floor {
                        break;
                    }
                }
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
            let Totals { messages, runs, .. } = self.totals;
            let too_many = messages.saturating_add(runs).saturating_sub(bytes_max);
            if too_many <= 0 {
                break;
            }
            match (self.oldest_ended_run()?, self.oldest_project()?) {
                (Some((run, _)), None) => self.drop_run(run)?,
                (Some((run, _)), Some(_)) if runs > messages => self.drop_run(run)?,
                (_, Some((project, _))) => {
                    self.sweep(&project, Bound::Bytes(nat(too_many)))?;
                    if self.totals.messages == messages {
                        // What is left of the segment is not too much.
                        break;
                    }
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

    /// Lets some items go of runs that were let go. `true` where there may be more.
    pub(super) fn drop_items(&mut self) -> rusqlite::Result<bool> {
        let mut left = ITEMS_MAX;
        loop {
            let mut let_go = self.conn.prepare_cached(sql::ITEMS_LET_GO)?;
            let Some(run): Option<i64> = let_go.query_row([], |row| row.get(0)).optional()? else {
                return Ok(false);
            };
            let dropped = self.run_sql(sql::DROP_SOME_ITEMS, params![run, left as i64])?;
            if dropped == left {
                return Ok(true);
            }
            left -= dropped;
            self.run_sql(sql::ITEMS_ARE_GONE, params![run])?;
        }
    }

    /// Lets notes about tickets go that make no difference at `now`. No others: a stream that goes on needs them, and their
    /// number is bounded where tickets are spent.
    pub(super) fn trim_tickets(&mut self, now: Timestamp) -> rusqlite::Result<()> {
        self.run_sql(sql::DROP_TICKETS, params![int(now.as_millis()), TICKET_NOTES_SLICE]).map(drop)
    }

    /// Moves a project's floor up, or until the slice is spent, and lets the segments go that are below it as a whole. The
    /// floor. What it has passed of another segment stays there, and counts, until the rest is passed too.
    fn sweep(&mut self, history: &History, mut bound: Bound) -> rusqlite::Result<u64> {
        let (mut bytes, mut first_left) = (0, None);
        read::each_row(self.conn, sql::EXTENTS, params![history.project], |row| {
            let extent = messages::extent(row)?;
            let kept = match self.left.is_spent() {
                true => Some(extent.first_seq),
                false => self.first_kept(history.project, &extent, bound)?,
            };
            if let Some(seq) = kept {
                first_left = Some((extent, seq));
                return Ok(Flow::Stop);
            }
            self.left.spend(extent.count, extent.bytes);
            bytes += int(extent.bytes);
            if let Bound::Bytes(left) = &mut bound {
                *left = 0;
            }
            Ok(Flow::More)
        })?;
        let next = history.newest + 1;
        let (end, floor) = first_left.map_or((next, next), |(extent, seq)| (extent.first_seq, seq));
        let floor = floor.max(history.floor);
        if bytes > 0 {
            self.keep_outlasting(history.project, end)?;
            self.run_sql(sql::DROP_SEGMENTS, params![history.project, int(end)])?;
            self.totals.messages -= bytes;
            self.gone.entry(history.project).or_default().message_bytes += bytes;
        }
        let floor_at = first_left.map(|(extent, _)| int(extent.first_at.as_millis()));
        self.run_sql(sql::MOVE_FLOOR, params![history.project, int(floor), floor_at])?;
        if first_left.is_none() {
            let mut name = self.conn.prepare_cached(sql::PROJECT_NAME)?;
            self.changed.push(name.query_row([history.project], |row| row.get(0))?);
            self.shrunk.insert(history.project);
        }
        Ok(floor)
    }

    /// The first message of a segment that is kept. `None` if none is.
    fn first_kept(&self, project: i64, extent: &Extent, bound: Bound) -> rusqlite::Result<Option<u64>> {
        match bound {
            Bound::Seq(seq) => Ok((seq < extent.next_seq()).then_some(seq.max(extent.first_seq))),
            Bound::Time(before) => Ok((extent.last_at >= before).then_some(extent.first_seq)),
            Bound::Bytes(0) => Ok(Some(extent.first_seq)),
            Bound::Bytes(bytes) if bytes < extent.bytes => self.seq_after(project, extent, bytes),
            Bound::Bytes(_) => Ok(None),
        }
    }

    /// The first message of a segment that so many bytes are before, if any is.
    fn seq_after(&self, project: i64, extent: &Extent, bytes: u64) -> rusqlite::Result<Option<u64>> {
        let (mut passed, mut found) = (0, None);
        messages::each_message(self.conn, project, extent.first_seq, |seq, lying| {
            let is_found = passed >= bytes;
            passed += message_weight(lying.json);
            found = (is_found && seq < extent.next_seq()).then_some(seq);
            Ok(if is_found { Flow::Stop } else { Flow::More })
        })?;
        Ok(found)
    }

    /// What goes below `end` of runs that go on, and outlasts the floor, is kept with them.
    fn keep_outlasting(&mut self, project: i64, end: u64) -> rusqlite::Result<()> {
        let mut runs = BTreeSet::new();
        let mut since = end;
        read::each_row(self.conn, sql::OPEN_RUNS_OF, params![project], |row| {
            since = since.min(nat(row.get(1)?));
            // Those that are younger have nothing there.
            let is_older = nat(row.get(1)?) + 1 < end;
            if is_older {
                runs.insert(read::run_number(row, 0)?);
            }
            Ok(if is_older { Flow::More } else { Flow::Stop })
        })?;
        if runs.is_empty() {
            return Ok(());
        }
        self.has_outlasting = true;
        let mut keep = self.conn.prepare_cached(sql::NEW_OUTLASTING)?;
        messages::each_message(self.conn, project, since + 1, |seq, lying| {
            if seq >= end {
                return Ok(Flow::Stop);
            }
            if let Some(run) = lying.run.filter(|run| lying.place != PlaceInRun::Middle && runs.contains(run)) {
                let (at, place) = (int(lying.at.as_millis()), place_code(lying.place));
                keep.execute((read::run_key(run), int(seq), at, place, lying.json))?;
            }
            Ok(Flow::More)
        })
    }

    fn drop_run(&mut self, run: i64) -> rusqlite::Result<()> {
        let mut weight = self.conn.prepare_cached(sql::RUN_WEIGHT)?;
        let weight = weight.query_row([run], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        let (project, bytes, outputs): (i64, i64, Option<i64>) = weight;
        if outputs.is_some() {
            self.run_sql(sql::LET_OUTPUTS_GO, params![run])?;
        }
        for statement in [sql::LET_ITEMS_GO].iter().chain(&sql::DROP_RUN) {
            self.run_sql(statement, params![run])?;
        }
        let bytes_of_all = bytes + outputs.unwrap_or_default();
        let gone = self.gone.entry(project).or_default();
        gone.ended_runs += 1;
        gone.run_bytes += bytes_of_all;
        self.totals.runs -= bytes_of_all;
        self.shrunk.insert(project);
        self.left.spend(RUN_COST, nat(bytes));
        Ok(())
    }

    /// The project whose oldest message is the oldest, and when that was kept.
    fn oldest_project(&self) -> rusqlite::Result<Option<(History, Timestamp)>> {
        let mut oldest = self.conn.prepare_cached(sql::OLDEST_PROJECT)?;
        oldest.query_row([], |row| Ok((history(row)?, read::timestamp(row, 3)?))).optional()
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
