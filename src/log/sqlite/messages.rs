//! Reads messages: from the segments of their project, and those of runs that outlive the segments.

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::packed::{Lying, take_message, unpack};
use super::read::{
    blob, damaged, each_row, id_and_floor, outer_messages, outlasting, run_key, take, timestamp, unpacked,
};
use super::{int, nat, sql};
use crate::log::store::segment::Extent;
use crate::log::store::{Flow, RunNumber, StoredMessage};
use crate::model::ProjectId;

/// The range of a project's messages in which those of a run are.
pub(super) struct RunExtent {
    pub(super) project: i64,
    /// The floor of the project.
    pub(super) floor: u64,
    /// The run has no message up to this `seq`.
    pub(super) since: u64,
    pub(super) first: Option<u64>,
    /// None if it goes on.
    pub(super) last: Option<u64>,
}

pub(super) fn extent_of(conn: &Connection, run: RunNumber) -> rusqlite::Result<Option<RunExtent>> {
    let mut extent = conn.prepare_cached(sql::RUN_EXTENT)?;
    let extent = extent.query_row([run_key(run)], |row| {
        let (first, last): (Option<i64>, Option<i64>) = (row.get(3)?, row.get(4)?);
        let (project, floor, since) = (row.get(0)?, nat(row.get(1)?), nat(row.get(2)?));
        Ok(RunExtent { project, floor, since, first: first.map(nat), last: last.map(nat) })
    });
    extent.optional()
}

pub(super) fn messages(
    conn: &Connection,
    project: &ProjectId,
    after: u64,
    each: &mut dyn FnMut(&StoredMessage) -> Flow,
) -> rusqlite::Result<()> {
    let Some((id, floor)) = id_and_floor(conn, project)? else { return Ok(()) };
    each_message(conn, id, floor.max(after.saturating_add(1)), |seq, lying| Ok(each(&lying.to_stored(seq))))
}

/// A segment is unpacked from its front, so that of one at a time it is known where its messages lie before they are handed
/// on from its end.
pub(super) fn messages_before(
    conn: &Connection,
    project: &ProjectId,
    before: u64,
    each: &mut dyn FnMut(&StoredMessage) -> Flow,
) -> rusqlite::Result<()> {
    let Some((id, floor)) = id_and_floor(conn, project)? else { return Ok(()) };
    each_row(conn, sql::SEGMENTS_BEFORE, params![id, int(before.min(sql::SEQ_END))], |row| {
        let (first, messages) = (nat(row.get(0)?), unpacked(row, 1)?);
        let (mut left, mut lying) = (messages.as_slice(), Vec::new());
        while !left.is_empty() {
            lying.push(take(&mut left, take_message)?);
        }
        let numbered = (first..).zip(lying).filter(|(seq, _)| (floor..before).contains(seq));
        let numbered: Vec<_> = numbered.collect();
        let stopped = numbered.into_iter().rev().any(|(seq, lying)| each(&lying.to_stored(seq)) == Flow::Stop);
        Ok(if stopped || first <= floor { Flow::Stop } else { Flow::More })
    })
}

/// The messages of a run lie among its project's; those that outlast the floor are kept with the run once their segment
/// was let go.
pub(super) fn messages_of_run(
    conn: &Connection,
    number: RunNumber,
    after: u64,
    each: &mut dyn FnMut(&StoredMessage) -> Flow,
) -> rusqlite::Result<()> {
    let Some(run) = extent_of(conn, number)? else { return Ok(()) };
    match run.last {
        None => messages_of_open_run(conn, number, &run, after, each),
        Some(last) => messages_of_ended_run(conn, number, &run, last, after, each),
    }
}

pub(super) fn messages_of_open_run(
    conn: &Connection,
    number: RunNumber,
    run: &RunExtent,
    after: u64,
    each: &mut dyn FnMut(&StoredMessage) -> Flow,
) -> rusqlite::Result<()> {
    let mut flow = Flow::More;
    each_row(conn, sql::OUTLASTING, params![run_key(number), int(after)], |row| {
        flow = each(&outlasting(row)?);
        Ok(flow)
    })?;
    if flow == Flow::Stop {
        return Ok(());
    }
    each_message(conn, run.project, run.since.max(after).saturating_add(1), |seq, lying| {
        let is_its = lying.run == Some(number) && (seq >= run.floor || lying.place.outlasts_floor(false));
        Ok(if is_its { each(&lying.to_stored(seq)) } else { Flow::More })
    })
}

pub(super) fn messages_of_ended_run(
    conn: &Connection,
    number: RunNumber,
    run: &RunExtent,
    last: u64,
    after: u64,
    each: &mut dyn FnMut(&StoredMessage) -> Flow,
) -> rusqlite::Result<()> {
    let first = run.first.unwrap_or(last);
    let outer = match first.max(after.saturating_add(1)) < run.floor {
        true => outer_messages(conn, number)?,
        false => Vec::new(),
    };
    let kept = outer.iter().filter(|message| message.seq > after && message.seq < run.floor);
    for message in kept {
        if each(message) == Flow::Stop {
            return Ok(());
        }
    }
    let from = run.floor.max(first).max(after.saturating_add(1));
    if from > last {
        return Ok(());
    }
    each_message(conn, run.project, from, |seq, lying| {
        let flow = if lying.run == Some(number) { each(&lying.to_stored(seq)) } else { Flow::More };
        Ok(if seq >= last { Flow::Stop } else { flow })
    })
}

/// The first message of a run that goes on.
pub(super) fn first_of_open_run(
    conn: &Connection,
    number: RunNumber,
    project: i64,
    since: u64,
) -> rusqlite::Result<Option<StoredMessage>> {
    let mut first = None;
    each_row(conn, sql::OUTLASTING, params![run_key(number), 0], |row| {
        first = Some(outlasting(row)?);
        Ok(Flow::Stop)
    })?;
    if first.is_some() {
        return Ok(first);
    }
    each_message(conn, project, since.saturating_add(1), |seq, lying| {
        if lying.run != Some(number) {
            return Ok(Flow::More);
        }
        first = Some(lying.to_stored(seq));
        Ok(Flow::Stop)
    })?;
    Ok(first)
}

/// A project's message, where its segment is kept.
pub(super) fn message(conn: &Connection, project: i64, seq: u64) -> rusqlite::Result<Option<StoredMessage>> {
    let mut found = None;
    each_message(conn, project, seq, |at, lying| {
        found = (at == seq).then(|| lying.to_stored(seq));
        Ok(Flow::Stop)
    })?;
    Ok(found)
}

/// Hands the messages of a project from one on to `each`, those below the floor among them that are still there, until
/// it says stop.
pub(super) fn each_message(
    conn: &Connection,
    project: i64,
    from: u64,
    mut each: impl FnMut(u64, Lying<'_>) -> rusqlite::Result<Flow>,
) -> rusqlite::Result<()> {
    each_row(conn, sql::SEGMENTS, params![project, int(from)], |row| {
        let (mut seq, messages) = (nat(row.get(0)?), unpacked(row, 1)?);
        let mut left = messages.as_slice();
        while !left.is_empty() {
            let lying = take_message(&mut left).ok_or_else(|| damaged(1, Type::Blob, "invalid message segment"))?;
            if seq >= from && each(seq, lying)? == Flow::Stop {
                return Ok(Flow::Stop);
            }
            seq += 1;
        }
        Ok(Flow::More)
    })
}

/// The messages of a segment, unpacked. `None` if they are damaged.
pub(super) fn segment(conn: &Connection, project: i64, first_seq: u64) -> rusqlite::Result<Option<Vec<u8>>> {
    conn.prepare_cached(sql::SEGMENT)?.query_row((project, int(first_seq)), |row| Ok(unpack(blob(row, 0)?)))
}

/// A row that begins with a segment's first message.
pub(super) fn extent(row: &Row<'_>) -> rusqlite::Result<Extent> {
    let (first_seq, count) = (nat(row.get(0)?), nat(row.get(1)?));
    Ok(Extent { first_seq, count, first_at: timestamp(row, 2)?, last_at: timestamp(row, 3)?, bytes: nat(row.get(4)?) })
}
