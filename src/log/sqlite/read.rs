//! Lookups, and how the values of columns are decoded.

use std::cell::RefCell;
use std::num::NonZeroU64;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use rusqlite::types::Type;
use rusqlite::{Connection, Error, OptionalExtension, Row, ToSql, params};

use super::messages::{extent_of, first_of_open_run, messages, messages_before, messages_of_run};
use super::packed::{self, take_bytes, take_outer, unpack};
use super::pieces::Pieces;
use super::{explain, int, nat, outbox, plans, sql};
use crate::log::store::{
    DueRow, DueTimes, Ends, Flow, History, KeyRow, PlanCounts, PlanRow, RunNumber, RunRow, StoreError, StoredMessage,
    StoredOutput, WantedPlans,
};
use crate::model::{OutputStream, PlanName, ProjectId, RunId, RunStatus, StepId, Timestamp};

/// Among the streams of a step, its whole output.
pub(super) const WHOLE: i64 = 3;

/// Has the file open. Whoever does can be asked what it holds.
pub(super) trait Readable {
    fn conn(&self) -> &Connection;

    /// Of the file, for what goes wrong.
    fn path(&self) -> &Path;

    /// Where the pieces of outputs lie in them.
    fn pieces(&self) -> &RefCell<Pieces>;

    fn checked<T>(&self, result: rusqlite::Result<T>) -> Result<T, StoreError> {
        result.map_err(|error| StoreError(explain(self.path(), &error)))
    }
}

impl<R: Readable> History for R {
    fn newest(&self, project: &ProjectId) -> Result<u64, StoreError> {
        self.checked(newest(self.conn(), project))
    }

    fn floor(&self, project: &ProjectId) -> Result<u64, StoreError> {
        self.checked(floor(self.conn(), project))
    }

    fn messages(
        &self,
        project: &ProjectId,
        after: u64,
        run: Option<RunNumber>,
        each: &mut dyn FnMut(&StoredMessage) -> Flow,
    ) -> Result<(), StoreError> {
        self.checked(match run {
            None => messages(self.conn(), project, after, each),
            Some(run) => messages_of_run(self.conn(), run, after, each),
        })
    }

    fn messages_before(
        &self,
        project: &ProjectId,
        before: u64,
        each: &mut dyn FnMut(&StoredMessage) -> Flow,
    ) -> Result<(), StoreError> {
        self.checked(messages_before(self.conn(), project, before, each))
    }

    fn run_number(&self, project: &ProjectId, run: &RunId) -> Result<Option<RunNumber>, StoreError> {
        self.checked(run_by_id(self.conn(), project, run))
    }

    fn ends(&self, number: RunNumber) -> Result<Option<Ends>, StoreError> {
        self.checked(ends(self.conn(), number))
    }

    fn ended_state(&self, number: RunNumber) -> Result<Option<Arc<[u8]>>, StoreError> {
        self.checked(ended_state(self.conn(), number))
    }

    fn ended_summary(&self, number: RunNumber) -> Result<Option<Arc<[u8]>>, StoreError> {
        self.checked(ended_summary(self.conn(), number))
    }

    fn runs(
        &self,
        project: &ProjectId,
        before: Option<RunNumber>,
        ended_as: Option<RunStatus>,
        each: &mut dyn FnMut(RunNumber) -> Flow,
    ) -> Result<(), StoreError> {
        self.checked(runs(self.conn(), project, before, ended_as, each))
    }

    fn document(&self, number: RunNumber) -> Result<Option<Arc<[u8]>>, StoreError> {
        self.checked(run(self.conn(), number)).map(|row| row.map(|row| row.document))
    }

    fn output(&self, number: RunNumber, step: &StepId) -> Result<Option<StoredOutput>, StoreError> {
        self.checked(output(self.conn(), &mut self.pieces().borrow_mut(), number, step))
    }

    fn output_bytes(
        &self,
        number: RunNumber,
        step: &StepId,
        stream: OutputStream,
        range: Range<u64>,
        to: &mut Vec<u8>,
    ) -> Result<(), StoreError> {
        let head = self.checked(output_head(self.conn(), run_key(number), step))?;
        let Some((id, ..)) = head else { return Ok(()) };
        self.checked(self.pieces().borrow_mut().read(self.conn(), id, stream, range, to))
    }

    fn whole_length(&self, number: RunNumber, step: &StepId) -> Result<Option<u64>, StoreError> {
        self.checked(whole_length(self.conn(), number, step))
    }

    fn whole_bytes(
        &self,
        number: RunNumber,
        step: &StepId,
        range: Range<u64>,
        to: &mut Vec<u8>,
    ) -> Result<(), StoreError> {
        self.checked(whole_bytes(self.conn(), number, step, range, to))
    }

    fn items(
        &self,
        number: RunNumber,
        step: &StepId,
        from: u32,
        each: &mut dyn FnMut(u32, &[u8]) -> Flow,
    ) -> Result<(), StoreError> {
        self.checked(each_row(self.conn(), sql::ITEMS, params![run_key(number), step.as_str(), from], |row| {
            Ok(each(row.get(0)?, blob(row, 1)?))
        }))
    }

    fn outbox(&self) -> Result<Vec<(Arc<str>, u64)>, StoreError> {
        self.checked(outbox::counts(self.conn()))
    }

    fn due(&self, webhook: &str, times: DueTimes, each: &mut dyn FnMut(&DueRow) -> Flow) -> Result<(), StoreError> {
        self.checked(outbox::due(self.conn(), webhook, times, each))
    }

    fn next_due(&self, webhook: &str, times: DueTimes) -> Result<Option<Timestamp>, StoreError> {
        self.checked(outbox::next_due(self.conn(), webhook, times))
    }

    fn plans(&self, wanted: WantedPlans<'_>, each: &mut dyn FnMut(&PlanRow) -> Flow) -> Result<(), StoreError> {
        self.checked(plans::each(self.conn(), wanted, each))
    }

    fn plan_document(&self, project: &ProjectId, name: &PlanName) -> Result<Option<Arc<[u8]>>, StoreError> {
        self.checked(plans::document(self.conn(), project, name))
    }

    fn plan_counts(&self, project: &ProjectId) -> Result<PlanCounts, StoreError> {
        self.checked(plans::counts(self.conn(), project))
    }
}

/// A stream as `pieces.stream` holds it.
pub(super) fn stream_code(stream: OutputStream) -> i64 {
    match stream {
        OutputStream::Stdout => 0,
        OutputStream::Stderr => 1,
        OutputStream::Text => 2,
    }
}

/// A status as `runs.status` holds it, of a run that has ended; of one that goes on it is null.
pub(super) fn status_code(status: RunStatus) -> Option<i64> {
    match status {
        RunStatus::Queued | RunStatus::Running => None,
        RunStatus::Completed => Some(0),
        RunStatus::Failed => Some(1),
        RunStatus::Cancelled => Some(2),
    }
}

/// A run as the tables hold it.
pub(super) fn run_key(run: RunNumber) -> i64 {
    int(run.0.get())
}

pub(super) fn floor(conn: &Connection, project: &ProjectId) -> rusqlite::Result<u64> {
    Ok(id_and_floor(conn, project)?.map_or(1, |(_, floor)| floor))
}

pub(super) fn id_and_floor(conn: &Connection, project: &ProjectId) -> rusqlite::Result<Option<(i64, u64)>> {
    let mut floor = conn.prepare_cached(sql::FLOOR)?;
    floor.query_row([project.as_str()], |row| Ok((row.get(0)?, nat(row.get(1)?)))).optional()
}

fn newest(conn: &Connection, project: &ProjectId) -> rusqlite::Result<u64> {
    let newest = conn.prepare_cached(sql::NEWEST)?.query_row([project.as_str()], |row| row.get(0)).optional()?;
    Ok(newest.map_or(0, nat))
}

fn ends(conn: &Connection, number: RunNumber) -> rusqlite::Result<Option<Ends>> {
    let Some(run) = extent_of(conn, number)? else { return Ok(None) };
    if run.last.is_some() {
        return Ok(Some(Ends { first: run.first, last: run.last }));
    }
    let first = first_of_open_run(conn, number, run.project, run.since)?;
    Ok(Some(Ends { first: first.map(|message| message.seq), last: None }))
}

pub(super) fn run(conn: &Connection, number: RunNumber) -> rusqlite::Result<Option<RunRow>> {
    conn.prepare_cached(sql::RUN)?.query_row([run_key(number)], run_row).optional()
}

fn ended_state(conn: &Connection, number: RunNumber) -> rusqlite::Result<Option<Arc<[u8]>>> {
    let mut state = conn.prepare_cached(sql::STATE)?;
    state.query_row([run_key(number)], |row| Ok(take(&mut unpacked(row, 0)?.as_slice(), take_bytes)?.into())).optional()
}

/// What is kept with a run that has ended of its messages: the first and the last.
pub(super) fn outer_messages(conn: &Connection, number: RunNumber) -> rusqlite::Result<Vec<StoredMessage>> {
    let mut state = conn.prepare_cached(sql::STATE)?;
    let outer = state.query_row([run_key(number)], |row| {
        let rest = unpacked(row, 0)?;
        let (mut left, mut outer) = (rest.as_slice(), Vec::new());
        take(&mut left, take_bytes)?;
        while !left.is_empty() {
            outer.push(take(&mut left, take_outer)?);
        }
        Ok(outer)
    });
    Ok(outer.optional()?.unwrap_or_default())
}

fn ended_summary(conn: &Connection, number: RunNumber) -> rusqlite::Result<Option<Arc<[u8]>>> {
    conn.prepare_cached(sql::SUMMARY)?.query_row([run_key(number)], |row| Ok(unpacked(row, 0)?.into())).optional()
}

fn run_by_id(conn: &Connection, project: &ProjectId, run: &RunId) -> rusqlite::Result<Option<RunNumber>> {
    let mut statement = conn.prepare_cached(sql::RUN_BY_ID)?;
    statement.query_row([project.as_str(), run.as_str()], |row| run_number(row, 0)).optional()
}

pub(super) fn key(conn: &Connection, project: &ProjectId, name: &str) -> rusqlite::Result<Option<KeyRow>> {
    let key = |row: &Row<'_>| {
        let (at, fingerprint, answer) = (timestamp(row, 0)?, row.get(1)?, bytes(row, 2)?);
        Ok(KeyRow { project: project.clone(), name: name.to_owned(), at, fingerprint, answer })
    };
    conn.prepare_cached(sql::KEY)?.query_row((project.as_str(), name), key).optional()
}

pub(super) fn key_bytes(conn: &Connection, project: &ProjectId) -> rusqlite::Result<u64> {
    let bytes = conn.prepare_cached(sql::KEY_BYTES)?.query_row([project.as_str()], |row| row.get(0)).optional()?;
    Ok(bytes.map_or(0, nat))
}

/// What is kept, by its weight.
#[derive(Debug, Clone, Copy)]
pub(super) struct Totals {
    pub(super) messages: i64,
    pub(super) runs: i64,
    pub(super) keys: i64,
}

pub(super) fn totals(conn: &Connection) -> rusqlite::Result<Totals> {
    let totals = |row: &Row<'_>| Ok(Totals { messages: row.get(0)?, runs: row.get(1)?, keys: row.get(2)? });
    conn.prepare_cached(sql::TOTALS)?.query_row([], totals)
}

fn runs(
    conn: &Connection,
    project: &ProjectId,
    before: Option<RunNumber>,
    ended_as: Option<RunStatus>,
    each: &mut dyn FnMut(RunNumber) -> Flow,
) -> rusqlite::Result<()> {
    let before = before.map_or(i64::MAX, run_key);
    let each = |row: &Row<'_>| Ok(each(run_number(row, 0)?));
    match ended_as {
        None => each_row(conn, sql::RUNS, params![project.as_str(), before], each),
        Some(status) => {
            each_row(conn, sql::RUNS_ENDED_AS, params![project.as_str(), before, status_code(status)], each)
        }
    }
}

fn output(
    conn: &Connection,
    pieces: &mut Pieces,
    run: RunNumber,
    step: &StepId,
) -> rusqlite::Result<Option<StoredOutput>> {
    let Some((id, attempt, _)) = output_head(conn, run_key(run), step)? else { return Ok(None) };
    let mut length = |stream| pieces.length(conn, id, stream);
    let (stdout, stderr) = (length(OutputStream::Stdout)?, length(OutputStream::Stderr)?);
    Ok(Some(StoredOutput { attempt, stdout, stderr, text: length(OutputStream::Text)? }))
}

fn whole_length(conn: &Connection, run: RunNumber, step: &StepId) -> rusqlite::Result<Option<u64>> {
    let Some((id, ..)) = output_head(conn, run_key(run), step)? else { return Ok(None) };
    let length: i64 = conn.prepare_cached(sql::PIECES_BYTES)?.query_row((id, WHOLE), |row| row.get(0))?;
    Ok((length > 0).then(|| nat(length)))
}

/// It lies in pieces, of which only those are read that hold any of the range.
fn whole_bytes(
    conn: &Connection,
    run: RunNumber,
    step: &StepId,
    range: Range<u64>,
    to: &mut Vec<u8>,
) -> rusqlite::Result<()> {
    let Some((id, ..)) = output_head(conn, run_key(run), step)? else { return Ok(()) };
    let (mut at, mut first) = (0, None);
    each_row(conn, sql::PIECE_SIZES, params![id, WHOLE, 0], |row| {
        let end = at + nat(row.get(1)?);
        if end > range.start {
            first = Some(row.get::<_, i64>(0)?);
            return Ok(Flow::Stop);
        }
        at = end;
        Ok(Flow::More)
    })?;
    let Some(first) = first.filter(|_| !range.is_empty()) else { return Ok(()) };
    each_row(conn, sql::PIECES, params![id, WHOLE, first], |row| {
        let piece = blob(row, 0)?;
        let within = |offset: u64| offset.saturating_sub(at).min(piece.len() as u64) as usize;
        to.extend_from_slice(&piece[within(range.start)..within(range.end)]);
        at += piece.len() as u64;
        Ok(if at < range.end { Flow::More } else { Flow::Stop })
    })
}

/// Of a step's output: its id, its attempt, what its pieces weigh.
pub(super) fn output_head(conn: &Connection, run: i64, step: &StepId) -> rusqlite::Result<Option<(i64, u32, i64)>> {
    let mut head = conn.prepare_cached(sql::OUTPUT)?;
    head.query_row((run, step.as_str()), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).optional()
}

/// Hands the rows of `statement` to `each`, one at a time, until it says stop.
pub(super) fn each_row(
    conn: &Connection,
    statement: &str,
    values: &[&dyn ToSql],
    mut each: impl FnMut(&Row<'_>) -> rusqlite::Result<Flow>,
) -> rusqlite::Result<()> {
    let mut statement = conn.prepare_cached(statement)?;
    let mut rows = statement.query(values)?;
    while let Some(row) = rows.next()? {
        if each(row)? == Flow::Stop {
            break;
        }
    }
    Ok(())
}

pub(super) fn run_number(row: &Row<'_>, column: usize) -> rusqlite::Result<RunNumber> {
    let number = NonZeroU64::new(nat(row.get(column)?));
    number.map(RunNumber).ok_or_else(|| damaged(column, Type::Integer, "invalid run number"))
}

pub(super) fn timestamp(row: &Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
    row.get(column).map(|ms| Timestamp::from_millis(nat(ms)))
}

/// An id as a `parse` of it makes it.
pub(super) fn id<T, E>(row: &Row<'_>, column: usize, parse: fn(&str) -> Result<T, E>) -> rusqlite::Result<T> {
    let text = row.get_ref(column)?.as_str().map_err(|_| damaged(column, Type::Text, "invalid text"))?;
    parse(text).map_err(|_| damaged(column, Type::Text, "invalid id"))
}

/// A column that does not hold what it holds in every file that this program wrote.
pub(super) fn damaged(column: usize, of_type: Type, what: &'static str) -> Error {
    Error::FromSqlConversionFailure(column, of_type, what.into())
}

fn bytes(row: &Row<'_>, column: usize) -> rusqlite::Result<Arc<[u8]>> {
    blob(row, column).map(Arc::from)
}

pub(super) fn blob<'r>(row: &'r Row<'_>, column: usize) -> rusqlite::Result<&'r [u8]> {
    row.get_ref(column)?.as_blob().map_err(|_| damaged(column, Type::Blob, "invalid bytes"))
}

/// A packed column, unpacked.
pub(super) fn unpacked(row: &Row<'_>, column: usize) -> rusqlite::Result<Vec<u8>> {
    unpack(blob(row, column)?).ok_or_else(|| damaged(column, Type::Blob, "invalid compressed data"))
}

/// Takes something off the front of what was a packed column.
pub(super) fn take<'a, T>(from: &mut &'a [u8], what: impl FnOnce(&mut &'a [u8]) -> Option<T>) -> rusqlite::Result<T> {
    what(from).ok_or_else(|| damaged(0, Type::Blob, "compressed data is too short"))
}

pub(super) fn outlasting(row: &Row<'_>) -> rusqlite::Result<StoredMessage> {
    let place = u8::try_from(row.get::<_, i64>(3)?).ok().and_then(packed::place_of);
    Ok(StoredMessage {
        seq: nat(row.get(0)?),
        at: timestamp(row, 1)?,
        run: Some(run_number(row, 2)?),
        place: place.ok_or_else(|| damaged(3, Type::Integer, "invalid message place"))?,
        json: bytes(row, 4)?,
    })
}

fn run_row(row: &Row<'_>) -> rusqlite::Result<RunRow> {
    let packed = unpacked(row, 3)?;
    let mut left = packed.as_slice();
    Ok(RunRow {
        run: id(row, 0, RunId::parse)?,
        created_at: timestamp(row, 1)?,
        fingerprint: row.get(2)?,
        document: take(&mut left, take_bytes)?.into(),
        answer: take(&mut left, take_bytes)?.into(),
    })
}
