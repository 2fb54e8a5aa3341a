//! One subscriber: a socket, a cursor, and little else.

use std::io::{ErrorKind, Write};
use std::ops::Deref;
use std::time::Duration;

use super::backlog::{Backlog, Cursor};
use super::bundle::Apart;
use super::paging::PageReservation;
use crate::formats::Names;
use crate::http::{Coding, sse};
use crate::log::{RunNumber, SharedBytes};
use crate::model::Timestamp;

/// What a stream is written to.
#[derive(Debug)]
pub struct Transport<S> {
    /// Where its bytes go.
    pub socket: S,
    /// What the poll knows the socket by. The manager only carries it.
    pub token: u32,
    /// How its bytes are framed.
    pub coding: Coding,
    /// What is written before anything else, as it is: the response's head.
    pub preface: Vec<u8>,
}

impl<S> Transport<S> {
    /// A socket to which nothing is written before.
    pub fn new(socket: S) -> Self {
        Self { socket, token: 0, coding: Coding::default(), preface: Vec::new() }
    }
}

/// Why a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CloseReason {
    /// The client left.
    ClientGone,
    /// The server stops.
    Shutdown,
    /// Its token ended.
    TokenExpired,
    /// It took nothing for too long.
    Stalled,
    /// The run that it followed has ended.
    RunOver,
    /// What it was to be sent next is no longer kept.
    Expired,
}

impl CloseReason {
    /// All reasons.
    pub const ALL: [Self; 6] =
        [Self::ClientGone, Self::Shutdown, Self::TokenExpired, Self::Stalled, Self::RunOver, Self::Expired];

    /// As `stream_closing` and the metrics name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClientGone => "client_gone",
            Self::Shutdown => "shutdown",
            Self::TokenExpired => "token_expired",
            Self::Stalled => "stalled",
            Self::RunOver => "run_over",
            Self::Expired => "expired",
        }
    }
}

/// Whether a stream can be written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Takes bytes.
    Open,
    /// Its socket is full since this moment; the poll tells when that ends.
    Blocked { since: Moment },
    /// To be taken out at the end of the turn.
    Doomed(CloseReason),
}

/// Milliseconds, wrapping. Packed, so that a phase takes five bytes of a stream and not eight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(Rust, packed)]
pub(super) struct Moment(pub(super) u32);

/// The end of a token that has none, or only in 2106 or later.
pub(super) const NEVER: u32 = u32::MAX;

/// A stream in the slab. There may be many thousands, mostly idle: a test holds its size.
pub(super) struct Stream<S> {
    pub(super) socket: S,
    /// What it watches, and its place there.
    pub(super) channel: u32,
    pub(super) place: u32,
    pub(super) generation: u32,
    pub(super) phase: Phase,
    /// The poll tells when its socket has room: it was full before.
    pub(super) is_watched_for_room: bool,
    /// It is counted as behind.
    pub(super) is_counted_behind: bool,
    pub(super) cursor: Cursor,
    /// When it was last written to, in milliseconds, wrapping.
    pub(super) wrote_at: u32,
    /// The second at which its token ends; [`NEVER`] where it does not.
    pub(super) expires_at_secs: u32,
    /// What the poll knows its socket by.
    pub(super) token: u32,
    pub(super) extra: Option<Box<Extra>>,
}

/// Bytes on their way out.
#[derive(Debug)]
pub(super) enum Pending {
    /// For this stream alone.
    Own(Vec<u8>),
    /// A page that other streams may be sent too.
    Page(SharedBytes),
}

impl Default for Pending {
    fn default() -> Self {
        Self::Own(Vec::new())
    }
}

impl Deref for Pending {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Page(bytes) => bytes,
        }
    }
}

/// What only some streams have, and most of those only for a while.
#[derive(Debug, Default)]
pub(super) struct Extra {
    /// Bytes that go before anything from the backlog.
    pub(super) pending: Pending,
    pub(super) pending_sent: usize,
    /// End it once `pending` is written.
    pub(super) ending: Option<CloseReason>,
    /// It waits for a page of the log.
    pub(super) awaits_page: bool,
    /// The page that has been asked for, or has come and is not yet written.
    pub(super) reservation: Option<PageReservation>,
    pub(super) only_run: Option<RunNumber>,
    pub(super) heartbeat_as_message: bool,
    pub(super) coding: Coding,
    /// What its client calls the thread and the run, as the end of its run names them.
    pub(super) names: Option<Box<Names>>,
    /// Where it is in each project of its bundle, while it has not joined the others.
    pub(super) apart: Option<Apart>,
    /// Where it has asked for items, what it knows of them.
    pub(super) items: KnownItems,
}

/// What a stream that has asked for items knows of them. Any other one lacks nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum KnownItems {
    /// How they were, and all that was said since.
    #[default]
    All,
    /// It is to be shown how they are once it has all messages.
    Lacking,
    /// That has been asked for.
    Asked,
}

impl Extra {
    /// Is there a reason to keep it once nothing is pending?
    fn is_lasting(&self) -> bool {
        let is_behind = self.awaits_page || self.apart.is_some();
        let is_busy = self.ending.is_some() || is_behind || self.items != KnownItems::All;
        is_busy || self.is_gathered() || self.heartbeat_as_message || self.names.is_some()
    }

    /// Does it get something else than the bytes that lie in a backlog, so that they are gathered for it?
    pub(super) fn is_gathered(&self) -> bool {
        self.only_run.is_some() || self.coding != Coding::Chunked
    }

    /// Makes these frames what is pending; others may be sent them too.
    pub(super) fn put_shared(&mut self, frames: &SharedBytes) {
        match self.coding {
            Coding::Chunked => (self.pending, self.pending_sent) = (Pending::Page(frames.clone()), 0),
            Coding::UntilClose => self.put(frames.to_vec()),
        }
    }

    /// Makes `frames`, which are in the form of this stream's channel, what is pending.
    pub(super) fn put(&mut self, frames: Vec<u8>) {
        self.pending = Pending::Own(self.coding.encoded(frames));
        self.pending_sent = 0;
    }

    /// Makes `frames` what is pending, and the end of the stream after them.
    pub(super) fn put_last(&mut self, mut frames: Vec<u8>, reason: CloseReason) {
        if let Some(names) = &self.names {
            frames = names.put_into(frames);
        }
        let mut bytes = self.coding.encoded(frames);
        bytes.extend_from_slice(self.coding.end());
        (self.pending, self.pending_sent, self.ending) = (Pending::Own(bytes), 0, Some(reason));
    }

    pub(super) fn has_pending(&self) -> bool {
        self.pending_sent < self.pending.len()
    }
}

/// What one write did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wrote {
    /// Took this many bytes, all there were.
    All(usize),
    /// Took this many and is full.
    Some(usize),
    /// The other side is gone.
    Gone,
}

/// Writes once. A socket that takes less than it was given is full: the poll is edge-triggered and will tell.
pub(super) fn write_once(socket: &mut impl Write, bytes: &[u8]) -> Wrote {
    loop {
        return match socket.write(bytes) {
            Ok(0) if !bytes.is_empty() => Wrote::Gone,
            Ok(n) if n == bytes.len() => Wrote::All(n),
            Ok(n) => Wrote::Some(n),
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock => Wrote::Some(0),
                ErrorKind::Interrupted => continue,
                _ => Wrote::Gone,
            },
        };
    }
}

impl<S> Stream<S> {
    /// Where it is in each project of its bundle, if it has one and has not joined the others there.
    pub(super) fn apart(&self) -> Option<&Apart> {
        self.extra.as_ref()?.apart.as_ref()
    }
}

impl<S: Write> Stream<S> {
    /// Writes what is pending. `true` where nothing is left of it and the stream takes more.
    pub(super) fn write_pending(&mut self, now_ms: u32, bytes_out: &mut u64) -> bool {
        let Some(extra) = &mut self.extra else { return true };
        if extra.has_pending() {
            let wrote = write_once(&mut self.socket, &extra.pending[extra.pending_sent..]);
            if let Wrote::All(n) | Wrote::Some(n) = wrote {
                extra.pending_sent += n;
            }
            if !self.note_write(wrote, now_ms, bytes_out) {
                return false;
            }
        }
        self.drop_spent_extra();
        true
    }

    /// Remembers what a write did; `true` where the stream takes more.
    pub(super) fn note_write(&mut self, wrote: Wrote, now_ms: u32, bytes_out: &mut u64) -> bool {
        match wrote {
            Wrote::All(n) => {
                *bytes_out += n as u64;
                self.wrote_at = now_ms;
                self.phase = Phase::Open;
            }
            Wrote::Some(n) => {
                *bytes_out += n as u64;
                self.phase = Phase::Blocked { since: Moment(now_ms) };
            }
            Wrote::Gone => self.phase = Phase::Doomed(CloseReason::ClientGone),
        }
        matches!(wrote, Wrote::All(_))
    }

    /// Gives back what is no longer needed, so that an idle stream weighs its slab entry alone.
    pub(super) fn drop_spent_extra(&mut self) {
        if let Some(extra) = &mut self.extra {
            extra.pending = Pending::default();
            extra.pending_sent = 0;
            if !extra.awaits_page {
                extra.reservation = None;
            }
            if !extra.is_lasting() {
                self.extra = None;
            }
        }
    }

    /// Makes up to about `bytes_max` bytes after its cursor pending, only messages of its own run. Nothing must be
    /// pending before. Returns the number of messages. `is_of_run`: the backlog has only this run.
    pub(super) fn gather(&mut self, backlog: &Backlog, bytes_max: usize, is_of_run: bool) -> u64 {
        let Cursor { mut seq, sent } = self.cursor;
        let (mut gathered, mut end) = (0, backlog.newest());
        let (mut bytes, mut is_over) = (Vec::new(), false);
        let extra = self.extra();
        while let Some(frame) = backlog.frame_after(seq) {
            seq = frame.seq;
            if extra.only_run.is_some() && frame.run != extra.only_run {
                continue;
            }
            bytes.extend_from_slice(frame.bytes);
            gathered += 1;
            is_over = frame.is_last && (is_of_run || extra.only_run.is_some());
            if is_over || bytes.len() >= bytes_max {
                end = seq;
                break;
            }
        }
        match is_over {
            true => extra.put_last(bytes, CloseReason::RunOver),
            false => extra.put(bytes),
        }
        // It may already have a part of the first message.
        extra.pending_sent = (sent as usize).min(extra.pending.len());
        self.cursor = Cursor::after(end);
        gathered
    }

    /// Has its token ended?
    pub(super) fn has_expired(&self, now: Timestamp) -> bool {
        self.expires_at_secs != NEVER && now.as_secs() >= u64::from(self.expires_at_secs)
    }

    /// Is there something that it was not sent, because its socket is full or a page has yet to come?
    pub(super) fn is_behind(&self) -> bool {
        match self.phase {
            Phase::Blocked { .. } => true,
            Phase::Open => self.extra.as_ref().is_some_and(|extra| extra.awaits_page),
            Phase::Doomed(_) => false,
        }
    }

    /// Has its socket been full for this long, and taken nothing meanwhile?
    pub(super) fn is_stuck(&self, now_ms: u32, after: Duration) -> bool {
        match self.phase {
            Phase::Blocked { since: Moment(since) } => u128::from(now_ms.wrapping_sub(since)) >= after.as_millis(),
            Phase::Open | Phase::Doomed(_) => false,
        }
    }

    /// Its extra part, made where it has none.
    pub(super) fn extra(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
    }

    /// The comment that keeps the stream alive, in its framing.
    pub(super) fn comment(&self) -> &'static [u8] {
        match self.extra.as_ref().map_or_else(Coding::default, |extra| extra.coding) {
            Coding::Chunked => sse::COMMENT_CHUNK,
            Coding::UntilClose => sse::COMMENT,
        }
    }

    /// What the stream knows about items.
    pub(super) fn known_items(&self) -> KnownItems {
        self.extra.as_ref().map_or(KnownItems::All, |extra| extra.items)
    }

    /// The run that it follows alone.
    pub(super) fn only_run(&self) -> Option<RunNumber> {
        self.extra.as_ref().and_then(|extra| extra.only_run)
    }
}
