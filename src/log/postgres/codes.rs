//! Values of columns, and how they are read.

use std::num::NonZeroU64;
use std::sync::Arc;

use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

use crate::log::store::{PlaceInRun, RunNumber, StoreError, StoredMessage};
use crate::model::{Notable, OutputStream, RunStatus, Timestamp};

/// Among the streams of a step, its whole output.
pub(super) const WHOLE: i16 = 3;

/// A number as the engine holds it. None that is counted comes near the end of its range.
pub(super) fn int(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// [`int`], back.
pub(super) fn nat(n: i64) -> u64 {
    u64::try_from(n).unwrap_or_default()
}

/// A time as the engine holds it.
pub(super) fn ms(at: Timestamp) -> i64 {
    int(at.as_millis())
}

pub(super) fn run_key(run: RunNumber) -> i64 {
    int(run.0.get())
}

pub(super) fn stream_code(stream: OutputStream) -> i16 {
    match stream {
        OutputStream::Stdout => 0,
        OutputStream::Stderr => 1,
        OutputStream::Text => 2,
    }
}

/// A status of a run that has ended; none of one that goes on.
pub(super) fn status_code(status: RunStatus) -> Option<i16> {
    match status {
        RunStatus::Queued | RunStatus::Running => None,
        RunStatus::Completed => Some(0),
        RunStatus::Failed => Some(1),
        RunStatus::Cancelled => Some(2),
    }
}

pub(super) fn place_code(place: PlaceInRun) -> i16 {
    match place {
        PlaceInRun::Middle => 0,
        PlaceInRun::First => 1,
        PlaceInRun::Turn => 2,
        PlaceInRun::Last => 3,
    }
}

fn place_of(code: i16) -> Option<PlaceInRun> {
    [PlaceInRun::Middle, PlaceInRun::First, PlaceInRun::Turn, PlaceInRun::Last]
        .into_iter()
        .find(|place| place_code(*place) == code)
}

pub(super) fn notable_code(notable: Notable) -> i16 {
    match notable {
        Notable::RunCompleted => 0,
        Notable::RunFailed => 1,
        Notable::RunCancelled => 2,
        Notable::StepWaiting => 3,
    }
}

pub(super) fn notable_of(code: i16) -> Option<Notable> {
    Notable::ALL.into_iter().find(|notable| notable_code(*notable) == code)
}

/// A column.
pub(super) fn get<'r, T: FromSql<'r>>(row: &'r Row, column: usize) -> Result<T, StoreError> {
    row.try_get(column).map_err(|error| damaged(&error.to_string()))
}

/// A column that counts something.
pub(super) fn count(row: &Row, column: usize) -> Result<u64, StoreError> {
    get(row, column).map(nat)
}

pub(super) fn timestamp(row: &Row, column: usize) -> Result<Timestamp, StoreError> {
    count(row, column).map(Timestamp::from_millis)
}

pub(super) fn bytes(row: &Row, column: usize) -> Result<Arc<[u8]>, StoreError> {
    get::<&[u8]>(row, column).map(Arc::from)
}

/// An id as a `parse` of it makes it.
pub(super) fn id<T, E>(row: &Row, column: usize, parse: fn(&str) -> Result<T, E>) -> Result<T, StoreError> {
    parse(get(row, column)?).map_err(|_| damaged("invalid id"))
}

pub(super) fn run_number(row: &Row, column: usize) -> Result<RunNumber, StoreError> {
    number_of(get(row, column)?)
}

fn number_of(number: i64) -> Result<RunNumber, StoreError> {
    NonZeroU64::new(nat(number)).map(RunNumber).ok_or_else(|| damaged("invalid run number"))
}

/// A message, whose columns are, in order: seq, when, run, place, text.
pub(super) fn message(row: &Row, column: usize) -> Result<StoredMessage, StoreError> {
    let run: Option<i64> = get(row, column + 2)?;
    Ok(StoredMessage {
        seq: count(row, column)?,
        at: timestamp(row, column + 1)?,
        run: run.map(number_of).transpose()?,
        place: place_of(get(row, column + 3)?).ok_or_else(|| damaged("invalid message place"))?,
        json: bytes(row, column + 4)?,
    })
}

/// The error for a column with a value that this program never writes.
pub(super) fn damaged(what: &str) -> StoreError {
    StoreError(format!("the tables contain invalid data: {what}"))
}
