//! Writes a batch within a transaction that the caller begins and ends.
//!
//! Messages are collected, and written at the end: one segment for each project, or an addition to its last segment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rusqlite::{CachedStatement, Connection, OptionalExtension, Row, params};

use super::known::{Known, Memory, OpenRun, known};
use super::packed::{Packer, put_bytes, put_message, put_outer};
use super::slice::Slice;
use super::{int, messages, nat, outbox, plans, read, sql};
use crate::auth::TicketNote;
use crate::log::store::segment::Extent;
use crate::log::store::{Head, KeyRow, PlaceInRun, RunMap, RunNumber, RunRow, StoredMessage, Write, item_weight};
use crate::model::{ProjectId, RunStatus, StepId, Timestamp};

/// Bytes of a whole output that are one row: what is read of it is read by rows, each of them whole.
const WHOLE_PIECE_BYTES: usize = 64 * 1024;

/// Room that a new segment has from the beginning.
const SEGMENT_ROOM: usize = 2 * 1024;

/// One batch on its way into the file.
pub(super) struct Writer<'a> {
    conn: &'a Connection,
    memory: &'a mut Memory,
    packer: &'a mut Packer,
    /// There may be messages that outlast their segments.
    has_outlasting: bool,
    grown: BTreeMap<i64, Growth>,
    /// The last messages of runs.
    lasts: RunMap<StoredMessage>,
    /// What time it is by the wall clock.
    wall: Timestamp,
    statements: Statements<'a>,
}

/// Statements that one batch may run many times.
#[derive(Default)]
struct Statements<'a> {
    new_run: Option<CachedStatement<'a>>,
    new_document: Option<CachedStatement<'a>>,
    end_run: Option<CachedStatement<'a>>,
    new_state: Option<CachedStatement<'a>>,
}

/// What a batch adds to a project.
#[derive(Default)]
struct Growth {
    newest: u64,
    newest_at: Timestamp,
    newest_run: i64,
    messages: u64,
    /// It holds more than before.
    is_active: bool,
    /// When the oldest message was kept, of a project that statements none.
    filled_at: Option<Timestamp>,
    segments: Vec<Growing>,
    ended_runs: i64,
    message_bytes: i64,
    run_bytes: i64,
    key_bytes: i64,
}

impl Growth {
    /// Adds a message to the project's last segment, or to a new one; that one's extent with it.
    fn add(&mut self, conn: &Connection, known: &Known, message: &StoredMessage) -> rusqlite::Result<Extent> {
        if self.segments.is_empty()
            && let Some(extent) = known.tail.filter(|tail| tail.takes(message, false))
        {
            let messages = messages::segment(conn, known.id, extent.first_seq)?;
            // A damaged segment is left as it is.
            self.segments.extend(messages.map(|messages| Growing { extent, is_new: false, messages }));
        }
        match self.segments.last_mut().filter(|last| last.extent.takes(message, last.is_new)) {
            Some(last) => last.extent.add(message),
            None => {
                let (extent, messages) = (Extent::begin(message), Vec::with_capacity(SEGMENT_ROOM));
                self.segments.push(Growing { extent, is_new: true, messages });
            }
        }
        let last = self.segments.last_mut().expect("pushed just above where there was none");
        put_message(&mut last.messages, message);
        Ok(last.extent)
    }
}

/// The row id of an output and of its project.
#[derive(Clone, Copy)]
struct OutputKey {
    project: i64,
    id: i64,
}

/// A segment that is added to.
struct Growing {
    extent: Extent,
    /// It is not in the file yet.
    is_new: bool,
    messages: Vec<u8>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(
        conn: &'a Connection,
        memory: &'a mut Memory,
        packer: &'a mut Packer,
        has_outlasting: bool,
        wall: Timestamp,
    ) -> Self {
        let (grown, lasts, statements) = (BTreeMap::new(), RunMap::default(), Statements::default());
        Self { conn, memory, packer, has_outlasting, grown, lasts, wall, statements }
    }

    /// Those projects that have not come as far as is expected, or further.
    pub(super) fn conflicts(&mut self, expected: &[Head]) -> rusqlite::Result<Vec<Head>> {
        let mut conflicts = Vec::new();
        for Head { project, newest, .. } in expected {
            let known = known(self.conn, &mut self.memory.projects, project)?;
            if known.newest != *newest {
                conflicts.push(Head { project: project.clone(), newest: known.newest, revision: 0 });
            }
        }
        Ok(conflicts)
    }

    pub(super) fn write(&mut self, write: &Write) -> rusqlite::Result<()> {
        match write {
            Write::Message(message, project) => self.write_message(message, project),
            Write::RunCreated { number, project, row } => self.write_run(*number, project, row),
            Write::Document { number, document } => self.write_document(*number, document),
            Write::Key(row) => self.write_key(row),
            Write::CancelRequested(number) => self.run_sql(sql::CANCEL_RUN, params![read::run_key(*number)]).map(drop),
            Write::RunEnded { number, status, summary, state, last_seq } => {
                self.write_end(*number, *status, summary, state, *last_seq)
            }
            Write::Output { number, step, attempt, stream, bytes } => {
                let Some(output) = self.output_of(*number, step, Some(*attempt))? else { return Ok(()) };
                self.write_piece(output, read::stream_code(*stream), bytes)
            }
            Write::Whole { number, step, json } => self.write_whole(*number, step, json),
            Write::OutputsKept { number, of, steps } => {
                steps.iter().try_for_each(|step| self.keep_output(*number, *of, step))
            }
            Write::Item { number, step, item, row } => self.write_item(*number, step, *item, row),
            Write::Ticket(note) => self.write_ticket(note),
            Write::Outbox(change) => outbox::change(self.conn, change),
            Write::Plan(change) => plans::change(self.conn, change),
            // Of stores that are shared alone.
            Write::Wish(_) | Write::WishAnswered { .. } | Write::Drained(_) => Ok(()),
        }
    }

    /// Writes what was gathered. The projects that grew, by how much all did together, and where the clock stood.
    pub(super) fn finish(mut self) -> rusqlite::Result<(BTreeSet<i64>, Slice, Timestamp)> {
        let (mut grown, mut written, mut clock) = (BTreeSet::new(), Slice::default(), Timestamp::default());
        let mut totals = self.memory.totals(self.conn)?;
        for (id, growth) in std::mem::take(&mut self.grown) {
            self.write_segments(id, &growth.segments)?;
            let Growth { newest, newest_at, newest_run, messages, .. } = growth;
            let Growth { ended_runs, message_bytes, run_bytes, key_bytes, .. } = growth;
            let active_at = growth.is_active.then(|| int(self.wall.as_millis()));
            let (newest, newest_at) = (int(newest), int(newest_at.as_millis()));
            let bytes = (key_bytes, message_bytes, run_bytes);
            let values = params![id, newest, active_at, ended_runs, bytes.0, bytes.1, bytes.2, newest_at, newest_run];
            self.run_sql(sql::PROJECT_GREW, values)?;
            if let Some(at) = growth.filled_at {
                self.run_sql(sql::PROJECT_FILLED, params![id, int(at.as_millis())])?;
            }
            totals.messages += message_bytes;
            totals.runs += run_bytes;
            totals.keys += key_bytes;
            written.add(Slice { messages, bytes: nat(message_bytes) });
            clock = clock.max(growth.newest_at);
            grown.insert(id);
        }
        self.memory.note_totals(totals);
        Ok((grown, written, clock))
    }

    fn write_segments(&mut self, project: i64, segments: &[Growing]) -> rusqlite::Result<()> {
        for Growing { extent, is_new, messages } in segments {
            let packed = self.packer.pack(messages);
            let (first_seq, count) = (int(extent.first_seq), int(extent.count));
            let (last_at, bytes) = (int(extent.last_at.as_millis()), int(extent.bytes));
            if *is_new {
                let first_at = int(extent.first_at.as_millis());
                let mut new = self.conn.prepare_cached(sql::NEW_SEGMENT)?;
                new.execute((project, first_seq, count, first_at, last_at, bytes, packed))?;
            } else {
                let mut grew = self.conn.prepare_cached(sql::SEGMENT_GREW)?;
                grew.execute((project, first_seq, count, last_at, bytes, packed))?;
            }
        }
        Ok(())
    }

    fn write_message(&mut self, message: &StoredMessage, project: &ProjectId) -> rusqlite::Result<()> {
        let known = known(self.conn, &mut self.memory.projects, project)?;
        let growth = self.grown.entry(known.id).or_default();
        if message.seq != known.newest + 1 {
            return Err(out_of_order());
        }
        (known.newest, growth.newest, known.is_emptied) = (message.seq, message.seq, false);
        growth.is_active = true;
        growth.messages += 1;
        growth.message_bytes += int(message.weight());
        growth.newest_at = growth.newest_at.max(message.at);
        if known.tail.is_none() {
            growth.filled_at = Some(message.at);
        }
        known.tail = Some(growth.add(self.conn, known, message)?);
        match (message.run, message.place) {
            (Some(run), PlaceInRun::Last) => drop(self.lasts.insert(run, message.clone())),
            (Some(run), place) => self.note_first(run, place, message)?,
            (None, _) => {}
        }
        Ok(())
    }

    /// The first message of a run is kept with it at its end, and so is remembered until then.
    fn note_first(&mut self, number: RunNumber, place: PlaceInRun, message: &StoredMessage) -> rusqlite::Result<()> {
        if place == PlaceInRun::First
            && !self.memory.runs.contains_key(&number)
            && let Some(run) = self.open_run(number)?
        {
            self.memory.runs.insert(number, run);
        }
        if let Some(run) = self.memory.runs.get_mut(&number) {
            run.first.get_or_insert_with(|| message.clone());
        }
        Ok(())
    }

    fn write_run(&mut self, number: RunNumber, project: &ProjectId, row: &RunRow) -> rusqlite::Result<()> {
        let known = known(self.conn, &mut self.memory.projects, project)?;
        let growth = self.grown.entry(known.id).or_default();
        let bytes = int((row.document.len() + row.answer.len()) as u64);
        growth.is_active = true;
        growth.run_bytes += bytes;
        growth.newest_run = growth.newest_run.max(read::run_key(number));
        let (project, since, created_at) = (known.id, known.newest, row.created_at);
        let was_emptied = std::mem::take(&mut known.is_emptied);
        self.memory.runs.insert(number, OpenRun { project, created_at, since, first: None });
        let number = read::run_key(number);
        let (run_id, fingerprint) = (row.run.as_str(), row.fingerprint.as_slice());
        let values = params![number, project, run_id, int(created_at.as_millis()), int(since), fingerprint, bytes];
        statements(&mut self.statements.new_run, self.conn, sql::NEW_RUN)?.execute(values)?;
        let mut document = Vec::with_capacity(row.document.len() + row.answer.len() + 8);
        put_bytes(&mut document, &row.document);
        put_bytes(&mut document, &row.answer);
        statements(&mut self.statements.new_document, self.conn, sql::NEW_DOCUMENT)?
            .execute((number, self.packer.pack(&document)))?;
        if was_emptied {
            self.run_sql(sql::PROJECT_ACTIVE, params![project])?;
        }
        Ok(())
    }

    fn write_document(&mut self, number: RunNumber, document: &[u8]) -> rusqlite::Result<()> {
        let (Some(project), Some(row)) = (self.project_of(number)?, read::run(self.conn, number)?) else {
            return Ok(());
        };
        let more = int(document.len() as u64) - int(row.document.len() as u64);
        let mut packed = Vec::with_capacity(document.len() + row.answer.len() + 8);
        put_bytes(&mut packed, document);
        put_bytes(&mut packed, &row.answer);
        let number = read::run_key(number);
        self.conn.prepare_cached(sql::PUT_DOCUMENT)?.execute((number, self.packer.pack(&packed)))?;
        self.run_sql(sql::RUN_GREW, params![number, more])?;
        self.grown.entry(project).or_default().run_bytes += more;
        Ok(())
    }

    fn write_key(&mut self, row: &KeyRow) -> rusqlite::Result<()> {
        let known = known(self.conn, &mut self.memory.projects, &row.project)?;
        let project = known.id;
        let growth = self.grown.entry(project).or_default();
        let mut replaced = self.conn.prepare_cached(sql::REPLACED_KEY)?;
        let replaced: Option<i64> = replaced.query_row((project, &row.name), |row| row.get(0)).optional()?;
        let (at, bytes) = (int(row.at.as_millis()), int(row.weight()));
        let more = bytes - replaced.unwrap_or_default();
        growth.key_bytes += more;
        let values = params![project, row.name, at, bytes, row.fingerprint.as_slice(), &*row.answer];
        self.run_sql(sql::NEW_KEY, values).map(drop)
    }

    fn write_end(
        &mut self,
        number: RunNumber,
        status: RunStatus,
        summary: &[u8],
        state: &[u8],
        last_seq: u64,
    ) -> rusqlite::Result<()> {
        let Some(run) = self.open_run(number)? else { return Ok(()) };
        let last = match self.lasts.remove(&number) {
            Some(last) => Some(last),
            None => messages::message(self.conn, run.project, last_seq)?,
        };
        let first = match run.first {
            Some(first) => Some(first),
            None => messages::first_of_open_run(self.conn, number, run.project, run.since)?,
        };
        let first_seq = first.as_ref().or(last.as_ref()).map(|message| int(message.seq));
        let ended_at = last.as_ref().map_or(run.created_at, |last| last.at);
        let first = first.filter(|first| first.place == PlaceInRun::First);
        let outer: Vec<_> = first.into_iter().chain(last.filter(|last| last.place == PlaceInRun::Last)).collect();
        let bytes = (summary.len() + state.len()) as u64 + outer.iter().map(StoredMessage::weight).sum::<u64>();
        let mut rest = Vec::with_capacity(state.len() + 1024);
        put_bytes(&mut rest, state);
        outer.iter().for_each(|message| put_outer(&mut rest, message));
        let (key, ended_at) = (read::run_key(number), int(ended_at.as_millis()));
        let values = params![key, first_seq, int(last_seq), ended_at, read::status_code(status), int(bytes)];
        statements(&mut self.statements.end_run, self.conn, sql::END_RUN)?.execute(values)?;
        let summary = self.packer.pack(summary).to_vec();
        statements(&mut self.statements.new_state, self.conn, sql::NEW_STATE)?.execute((
            key,
            summary,
            self.packer.pack(&rest),
        ))?;
        if self.has_outlasting {
            self.run_sql(sql::DROP_OUTLASTING, params![key])?;
        }
        let growth = self.grown.entry(run.project).or_default();
        growth.ended_runs += 1;
        growth.run_bytes += int(bytes);
        Ok(())
    }

    /// What is known of an active run. `None` if it is not active.
    fn open_run(&mut self, number: RunNumber) -> rusqlite::Result<Option<OpenRun>> {
        if let Some(run) = self.memory.runs.remove(&number) {
            return Ok(Some(run));
        }
        let mut found = self.conn.prepare_cached(sql::OPEN_RUN)?;
        let run = |row: &Row<'_>| {
            let (project, created_at, since) = (row.get(0)?, read::timestamp(row, 1)?, nat(row.get(2)?));
            Ok(OpenRun { project, created_at, since, first: None })
        };
        found.query_row([read::run_key(number)], run).optional()
    }

    /// The output of a step, made where there is none. One of an earlier attempt than `attempt` gives way to a new one.
    /// None if there is no such run, or it holds that of a later attempt.
    fn output_of(
        &mut self,
        run: RunNumber,
        step: &StepId,
        attempt: Option<u32>,
    ) -> rusqlite::Result<Option<OutputKey>> {
        let Some(project) = self.project_of(run)? else { return Ok(None) };
        let run = read::run_key(run);
        if let Some((id, of_attempt, bytes)) = read::output_head(self.conn, run, step)? {
            if attempt.is_none_or(|attempt| attempt == of_attempt) {
                return Ok(Some(OutputKey { project, id }));
            }
            if attempt.is_some_and(|attempt| attempt < of_attempt) {
                return Ok(None);
            }
            self.run_sql(sql::LET_OUTPUT_GO, params![id])?;
            self.grown.entry(project).or_default().run_bytes -= bytes;
        }
        self.run_sql(sql::NEW_OUTPUT, params![run, step.as_str(), attempt.unwrap_or_default()])?;
        Ok(Some(OutputKey { project, id: self.conn.last_insert_rowid() }))
    }

    fn project_of(&self, run: RunNumber) -> rusqlite::Result<Option<i64>> {
        if let Some(run) = self.memory.runs.get(&run) {
            return Ok(Some(run.project));
        }
        let mut project = self.conn.prepare_cached(sql::PROJECT_OF_RUN)?;
        project.query_row([read::run_key(run)], |row| row.get(0)).optional()
    }

    fn write_piece(&mut self, output: OutputKey, stream: i64, bytes: &[u8]) -> rusqlite::Result<()> {
        self.run_sql(sql::NEW_PIECE, params![output.id, stream, bytes])?;
        self.grow_output(output, int(bytes.len() as u64))
    }

    fn write_whole(&mut self, run: RunNumber, step: &StepId, json: &Arc<[u8]>) -> rusqlite::Result<()> {
        let Some(output) = self.output_of(run, step, None)? else { return Ok(()) };
        let mut replaced = self.conn.prepare_cached(sql::PIECES_BYTES)?;
        let replaced: i64 = replaced.query_row((output.id, read::WHOLE), |row| row.get(0))?;
        self.run_sql(sql::DROP_PIECES, params![output.id, read::WHOLE])?;
        self.grow_output(output, -replaced)?;
        json.chunks(WHOLE_PIECE_BYTES).try_for_each(|piece| self.write_piece(output, read::WHOLE, piece))
    }

    /// A run keeps what a step of another wrote and returned, where anything is kept of that.
    fn keep_output(&mut self, run: RunNumber, of: RunNumber, step: &StepId) -> rusqlite::Result<()> {
        let Some(project) = self.project_of(run)? else { return Ok(()) };
        let Some((id, _, bytes)) = read::output_head(self.conn, read::run_key(of), step)? else { return Ok(()) };
        self.run_sql(sql::KEEP_OUTPUT, params![read::run_key(run), read::run_key(of), step.as_str()])?;
        self.run_sql(sql::KEEP_PIECES, params![self.conn.last_insert_rowid(), id])?;
        self.grown.entry(project).or_default().run_bytes += bytes;
        Ok(())
    }

    fn grow_output(&mut self, output: OutputKey, bytes: i64) -> rusqlite::Result<()> {
        self.grown.entry(output.project).or_default().run_bytes += bytes;
        self.run_sql(sql::OUTPUT_GREW, params![output.id, bytes]).map(drop)
    }

    fn write_item(&mut self, run: RunNumber, step: &StepId, item: u32, row: &[u8]) -> rusqlite::Result<()> {
        let Some(project) = self.project_of(run)? else { return Ok(()) };
        let run = read::run_key(run);
        let mut replaced = self.conn.prepare_cached(sql::ITEM_BYTES)?;
        let replaced: Option<i64> = replaced.query_row((run, step.as_str(), item), |row| row.get(0)).optional()?;
        let more = match replaced {
            Some(bytes) => int(row.len() as u64) - bytes,
            None => int(item_weight(row)),
        };
        self.run_sql(sql::PUT_ITEM, params![run, step.as_str(), item, row])?;
        self.run_sql(sql::RUN_GREW, params![run, more])?;
        self.grown.entry(project).or_default().run_bytes += more;
        Ok(())
    }

    fn write_ticket(&mut self, note: &TicketNote) -> rusqlite::Result<()> {
        let text = serde_json::to_vec(note).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
        self.run_sql(sql::NEW_TICKET, params![int(note.until().as_millis()), text]).map(drop)
    }

    fn run_sql(&self, statement: &str, values: &[&dyn rusqlite::ToSql]) -> rusqlite::Result<usize> {
        self.conn.prepare_cached(statement)?.execute(values)
    }
}

/// A statement, found by its text at its first use alone.
fn statements<'s, 'a>(
    place: &'s mut Option<CachedStatement<'a>>,
    conn: &'a Connection,
    statement: &str,
) -> rusqlite::Result<&'s mut CachedStatement<'a>> {
    if place.is_none() {
        *place = Some(conn.prepare_cached(statement)?);
    }
    Ok(place.as_mut().expect("set just above"))
}

fn out_of_order() -> rusqlite::Error {
    rusqlite::Error::ToSqlConversionFailure("a message is out of order".into())
}
