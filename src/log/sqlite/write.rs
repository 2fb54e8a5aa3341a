//! Carries a batch of writes out, within a transaction that someone else begins and ends.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use rusqlite::{CachedStatement, Connection, OptionalExtension, params};

use super::trim::Slice;
use super::{int, nat, read, sql};
use crate::auth::TicketNote;
use crate::log::store::{Head, KeyRow, MESSAGE_OVERHEAD_BYTES, RunNumber, RunRow, StoredMessage, Write};
use crate::model::{ProjectId, RunStatus, StepId, Timestamp};

/// Projects whose ids are held in memory; at the limit all are forgotten, and looked up again.
const KNOWN_MAX: usize = 100_000;

/// Bytes of a whole output that are one row: what is read of it is read by rows, each of them whole.
const WHOLE_PIECE_BYTES: usize = 64 * 1024;

/// What is known of a project without looking.
pub(super) struct Known {
    id: i64,
    /// It holds no message, so that the next one is its oldest.
    is_empty: bool,
    /// The `seq` of its newest message.
    newest: u64,
}

/// One batch on its way into the file.
pub(super) struct Writer<'a> {
    conn: &'a Connection,
    known: &'a mut HashMap<ProjectId, Known>,
    new_message: CachedStatement<'a>,
    grown: HashMap<i64, Growth>,
    /// Projects of which a run has ended.
    ended: BTreeSet<i64>,
    message_bytes: i64,
    run_bytes: i64,
    key_bytes: i64,
    messages: u64,
    /// Where the clock stood with the newest message.
    clock: Timestamp,
    /// What time it is by the wall clock.
    wall: Timestamp,
}

/// What a batch adds to a project.
struct Growth {
    newest: u64,
    /// When the oldest message was kept, of a project that held none.
    filled_at: Option<Timestamp>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(
        conn: &'a Connection,
        known: &'a mut HashMap<ProjectId, Known>,
        wall: Timestamp,
    ) -> rusqlite::Result<Self> {
        Ok(Self {
            conn,
            known,
            new_message: conn.prepare_cached(sql::NEW_MESSAGE)?,
            grown: HashMap::new(),
            ended: BTreeSet::new(),
            message_bytes: 0,
            run_bytes: 0,
            key_bytes: 0,
            messages: 0,
            clock: Timestamp::default(),
            wall,
        })
    }

    /// Those projects that have not come as far as is expected, or further.
    pub(super) fn conflicts(&mut self, expected: &[Head]) -> rusqlite::Result<Vec<Head>> {
        let mut conflicts = Vec::new();
        for Head { project, newest } in expected {
            let known = known(self.conn, self.known, project)?;
            if known.newest != *newest {
                conflicts.push(Head { project: project.clone(), newest: known.newest });
            }
        }
        Ok(conflicts)
    }

    pub(super) fn write(&mut self, write: &Write) -> rusqlite::Result<()> {
        match write {
            Write::Message(message, project) => self.write_message(message, project),
            Write::RunCreated { number, project, row } => self.write_run(*number, project, row),
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
            Write::Ticket(note) => self.write_ticket(note),
        }
    }

    /// Writes what was summed up. The projects that grew, by how much all did together, and where the clock stood.
    pub(super) fn finish(self) -> rusqlite::Result<(BTreeSet<i64>, Slice, Timestamp)> {
        let mut grew = self.conn.prepare_cached(sql::PROJECT_GREW)?;
        for (id, growth) in &self.grown {
            grew.execute((id, int(growth.newest), int(self.wall.as_millis())))?;
            if let Some(at) = growth.filled_at {
                self.run_sql(sql::PROJECT_FILLED, params![id, int(at.as_millis())])?;
            }
        }
        if self.message_bytes != 0 || self.run_bytes != 0 || self.key_bytes != 0 {
            let clock = int(self.clock.as_millis());
            self.run_sql(sql::ADD_TO_TOTALS, params![self.message_bytes, self.run_bytes, self.key_bytes, clock])?;
        }
        let mut grown = self.ended;
        grown.extend(self.grown.keys());
        Ok((grown, Slice { messages: self.messages, bytes: nat(self.message_bytes) }, self.clock))
    }

    fn write_message(&mut self, message: &StoredMessage, project: &ProjectId) -> rusqlite::Result<()> {
        let known = known(self.conn, self.known, project)?;
        let filled_at = std::mem::take(&mut known.is_empty).then_some(message.at);
        known.newest = message.seq;
        let (id, at) = (known.id, int(message.at.as_millis()));
        let (run, place) = (message.run.map(read::run_key), read::place_code(message.place));
        self.new_message.execute((id, int(message.seq), at, run, place, &*message.json))?;
        self.message_bytes += int(message.weight());
        self.messages += 1;
        self.clock = self.clock.max(message.at);
        match self.grown.entry(id) {
            Entry::Occupied(mut growth) => {
                growth.get_mut().newest = message.seq;
            }
            Entry::Vacant(place) => {
                place.insert(Growth { newest: message.seq, filled_at });
            }
        }
        Ok(())
    }

    fn write_run(&mut self, number: RunNumber, project: &ProjectId, row: &RunRow) -> rusqlite::Result<()> {
        let project = known(self.conn, self.known, project)?.id;
        let number = read::run_key(number);
        let created_at = int(row.created_at.as_millis());
        let bytes = int((row.document.len() + row.answer.len()) as u64);
        let (run_id, fingerprint) = (row.run.as_str(), row.fingerprint.as_slice());
        let values = params![number, project, run_id, created_at, fingerprint, bytes];
        self.run_sql(sql::NEW_RUN, values)?;
        self.run_sql(sql::NEW_DOCUMENT, params![number, &*row.document, &*row.answer])?;
        self.run_bytes += bytes;
        self.run_sql(sql::PROJECT_ACTIVE, params![project, int(self.wall.as_millis())]).map(drop)
    }

    fn write_key(&mut self, row: &KeyRow) -> rusqlite::Result<()> {
        let project = known(self.conn, self.known, &row.project)?.id;
        let mut replaced = self.conn.prepare_cached(sql::REPLACED_KEY)?;
        let replaced: Option<i64> = replaced.query_row((project, &row.name), |row| row.get(0)).optional()?;
        let (at, bytes) = (int(row.at.as_millis()), int(row.weight()));
        self.run_sql(sql::NEW_KEY, params![project, row.name, at, bytes, row.fingerprint.as_slice(), &*row.answer])?;
        let more = bytes - replaced.unwrap_or_default();
        self.key_bytes += more;
        self.run_sql(sql::PROJECT_KEYS, params![project, more]).map(drop)
    }

    fn write_end(
        &mut self,
        number: RunNumber,
        status: RunStatus,
        summary: &[u8],
        state: &[u8],
        last_seq: u64,
    ) -> rusqlite::Result<()> {
        let number = read::run_key(number);
        let bytes = int((summary.len() + state.len()) as u64);
        let mut end = self.conn.prepare_cached(sql::END_RUN)?;
        let ended = end
            .query_row((number, int(last_seq), bytes, read::status_code(status)), |row| Ok((row.get(0)?, row.get(1)?)));
        let Some((project, floor)): Option<(i64, i64)> = ended.optional()? else { return Ok(()) };
        self.run_sql(sql::NEW_STATE, params![number, summary, state])?;
        self.run_sql(sql::COUNT_ENDED, params![project, 1])?;
        self.run_bytes += bytes;
        self.ended.insert(project);
        let turns = read::count_and_bytes(self.conn, sql::TURNS_BELOW_FLOOR, number, floor)?;
        if turns.0 > 0 {
            self.run_sql(sql::DROP_TURNS_BELOW_FLOOR, params![number, floor])?;
            self.run_bytes -= turns.0 * int(MESSAGE_OVERHEAD_BYTES) + turns.1;
        }
        Ok(())
    }

    /// The output of a step, made where there is none. One of an earlier attempt than `attempt` gives way to a new one.
    /// None where there is no such run, or it holds that of a later attempt.
    fn output_of(&mut self, run: RunNumber, step: &StepId, attempt: Option<u32>) -> rusqlite::Result<Option<i64>> {
        let run = read::run_key(run);
        if let Some((id, of_attempt, bytes)) = read::output_head(self.conn, run, step)? {
            if attempt.is_none_or(|attempt| attempt == of_attempt) {
                return Ok(Some(id));
            }
            if attempt.is_some_and(|attempt| attempt < of_attempt) {
                return Ok(None);
            }
            self.run_sql(sql::LET_OUTPUT_GO, params![id])?;
            self.run_bytes -= bytes;
        }
        let made = self.run_sql(sql::NEW_OUTPUT, params![run, step.as_str(), attempt.unwrap_or_default()])?;
        Ok((made > 0).then(|| self.conn.last_insert_rowid()))
    }

    fn write_piece(&mut self, output: i64, stream: i64, bytes: &[u8]) -> rusqlite::Result<()> {
        self.run_sql(sql::NEW_PIECE, params![output, stream, bytes])?;
        self.grow_output(output, int(bytes.len() as u64))
    }

    fn write_whole(&mut self, run: RunNumber, step: &StepId, json: &Arc<[u8]>) -> rusqlite::Result<()> {
        let Some(output) = self.output_of(run, step, None)? else { return Ok(()) };
        let mut replaced = self.conn.prepare_cached(sql::PIECES_BYTES)?;
        let replaced: i64 = replaced.query_row((output, read::WHOLE), |row| row.get(0))?;
        self.run_sql(sql::DROP_PIECES, params![output, read::WHOLE])?;
        self.grow_output(output, -replaced)?;
        json.chunks(WHOLE_PIECE_BYTES).try_for_each(|piece| self.write_piece(output, read::WHOLE, piece))
    }

    fn grow_output(&mut self, output: i64, bytes: i64) -> rusqlite::Result<()> {
        self.run_bytes += bytes;
        self.run_sql(sql::OUTPUT_GREW, params![output, bytes]).map(drop)
    }

    fn write_ticket(&mut self, note: &TicketNote) -> rusqlite::Result<()> {
        let text = serde_json::to_vec(note).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
        self.run_sql(sql::NEW_TICKET, params![int(note.until().as_millis()), text]).map(drop)
    }

    fn run_sql(&self, statement: &str, values: &[&dyn rusqlite::ToSql]) -> rusqlite::Result<usize> {
        self.conn.prepare_cached(statement)?.execute(values)
    }
}

/// What is known of a project; it is made where there is none.
fn known<'k>(
    conn: &Connection,
    known: &'k mut HashMap<ProjectId, Known>,
    project: &ProjectId,
) -> rusqlite::Result<&'k mut Known> {
    if !known.contains_key(project) {
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        let found = conn
            .prepare_cached(sql::PROJECT)?
            .query_row([project.as_str()], |row| {
                Ok(Known { id: row.get(0)?, is_empty: row.get(1)?, newest: nat(row.get(2)?) })
            })
            .optional()?;
        let found = match found {
            Some(found) => found,
            None => {
                conn.prepare_cached(sql::NEW_PROJECT)?.execute([project.as_str()])?;
                Known { id: conn.last_insert_rowid(), is_empty: true, newest: 0 }
            }
        };
        known.insert(project.clone(), found);
    }
    Ok(known.get_mut(project).expect("inserted just above"))
}
