//! Positions of the pieces of an output, so that a part of it is found without reading what comes before.
//!
//! An output only grows: a piece does not change as long as its output exists, and no number of an output is used
//! again. So known positions stay valid, and only newer pieces have to be looked up.

use std::collections::VecDeque;
use std::ops::Range;

use rusqlite::{Connection, params};

use super::read::{blob, each_row, stream_code};
use super::{nat, sql};
use crate::log::store::Flow;
use crate::model::OutputStream;

/// Streams of outputs whose pieces are remembered. The one that was not asked for the longest goes first.
const STREAMS_MAX: usize = 64;

/// There is a mark for about this many bytes, so finding an offset reads at most this much more.
const MARK_BYTES: u64 = 64 * 1024;

/// What was found out about the streams of outputs, the one asked for last at the front.
#[derive(Default)]
pub(super) struct Pieces {
    streams: VecDeque<Stream>,
}

/// The pieces of one stream of an output.
struct Stream {
    output: i64,
    code: i64,
    /// Bytes that they are together.
    length: u64,
    /// The id of the newest.
    newest: i64,
    /// Of some pieces the offset at which they begin, and their id.
    marks: Vec<(u64, i64)>,
}

impl Pieces {
    /// How long this stream of an output is.
    pub(super) fn length(&mut self, conn: &Connection, output: i64, stream: OutputStream) -> rusqlite::Result<u64> {
        self.stream(conn, output, stream).map(|stream| stream.length)
    }

    /// Appends the `range` of this stream of an output to `to`, as much of it as there is.
    pub(super) fn read(
        &mut self,
        conn: &Connection,
        output: i64,
        stream: OutputStream,
        range: Range<u64>,
        to: &mut Vec<u8>,
    ) -> rusqlite::Result<()> {
        let stream = self.stream(conn, output, stream)?;
        if range.is_empty() || range.start >= stream.length {
            return Ok(());
        }
        let (mut at, first) = stream.mark_before(range.start);
        each_row(conn, sql::PIECES, params![output, stream.code, first], |row| {
            let piece = blob(row, 0)?;
            let within = |offset: u64| offset.saturating_sub(at).min(piece.len() as u64) as usize;
            to.extend_from_slice(&piece[within(range.start)..within(range.end)]);
            at += piece.len() as u64;
            Ok(if at < range.end { Flow::More } else { Flow::Stop })
        })
    }

    /// What is known of a stream, with what has come since it was.
    fn stream(&mut self, conn: &Connection, output: i64, stream: OutputStream) -> rusqlite::Result<&Stream> {
        let code = stream_code(stream);
        let known = self.streams.iter().position(|known| known.output == output && known.code == code);
        let known = known.and_then(|index| self.streams.remove(index));
        let mut known = known.unwrap_or(Stream { output, code, length: 0, newest: 0, marks: Vec::new() });
        known.catch_up(conn)?;
        self.streams.truncate(STREAMS_MAX - 1);
        self.streams.push_front(known);
        Ok(&self.streams[0])
    }
}

impl Stream {
    fn catch_up(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        let behind = self.newest;
        each_row(conn, sql::PIECE_SIZES, params![self.output, self.code, behind], |row| {
            let id = row.get(0)?;
            if self.marks.last().is_none_or(|(at, _)| self.length - at >= MARK_BYTES) {
                self.marks.push((self.length, id));
            }
            self.newest = id;
            self.length += nat(row.get(1)?);
            Ok(Flow::More)
        })
    }

    /// The last mark at or before `offset`; the first piece if there is none.
    fn mark_before(&self, offset: u64) -> (u64, i64) {
        let behind = self.marks.partition_point(|(at, _)| *at <= offset);
        behind.checked_sub(1).and_then(|last| self.marks.get(last)).copied().unwrap_or_default()
    }
}
