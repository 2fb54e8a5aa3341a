//! A bundle: a set of projects that is followed by streams of several projects.
//!
//! All streams of the same set share one bundle and its rounds. A round contains what the projects have broadcast since
//! the last round, each message with an id that names the position in every project after it; the same bytes are sent
//! to all streams that have received the previous round. Such a stream has *joined*, and needs no memory beyond its
//! slab entry. A stream at another position, because it reads from history or its socket was full, is [`Apart`]: it has
//! a position in each project, and is sent what it lacks in pieces until it has caught up. A piece depends only on
//! where it begins, so streams at the same position share pieces too.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::log::{SharedBytes, Subscription};
use crate::model::ProjectId;

/// How many pieces are kept for other streams at the same position.
const PIECES_MAX: usize = 4;

/// In a bundle of fewer streams it is unlikely that a piece is of use to another one.
const STREAMS_THAT_SHARE: usize = 8;

/// The subscription of a stream of several projects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleSubscription {
    /// The subscription of each project, in the order of their ids; at least one.
    pub parts: Vec<Arc<Subscription>>,
    /// Projects that the subscriber watched before and may not watch any more.
    pub forbidden: Vec<ProjectId>,
}

/// See the top of this file.
pub(super) struct Bundle {
    /// The slab places of its projects, in their order.
    parts: Box<[u32]>,
    /// Rounds that have begun. Who has joined has the pieces of all of them, or of all but the last.
    round: u64,
    /// How often there was something new. This many rounds are enough.
    news: u64,
    /// How many streams have joined.
    joined: u32,
    /// None while all streams that have joined have everything.
    work: Option<Box<Work>>,
}

#[derive(Default)]
struct Work {
    /// Parts with messages that are in no round yet, and the message up to which rounds have them.
    late: Vec<(u8, u64)>,
    /// The content of the current round.
    of_round: Option<Arc<Piece>>,
    /// Newest last.
    pieces: VecDeque<Arc<Piece>>,
}

/// A stretch of what a bundle's streams are sent.
pub(super) struct Piece {
    /// Where a stream is that lacks it: a position for each part.
    pub(super) from: Box<[u64]>,
    /// Where it is then.
    pub(super) to: Box<[u64]>,
    pub(super) bytes: SharedBytes,
}

/// Where a stream is that has not joined.
#[derive(Debug)]
pub(super) struct Apart {
    pub(super) at: Box<[u64]>,
    /// The part whose history it waits for, where it waits for any.
    pub(super) part: u8,
}

impl BundleSubscription {
    /// The first part, which says what is wanted of the stream as a whole, as every other does.
    pub fn first(&self) -> &Arc<Subscription> {
        self.parts.first().expect("a stream has at least one project")
    }

    /// Its projects.
    pub fn projects(&self) -> impl Iterator<Item = &ProjectId> {
        self.parts.iter().map(|part| &part.project)
    }
}

impl Piece {
    /// How many messages it holds.
    pub(super) fn messages(&self) -> u64 {
        self.to.iter().zip(&self.from).map(|(to, from)| to - from).sum()
    }
}

impl Bundle {
    /// A bundle of these projects, in this order, without streams.
    pub(super) fn new(parts: Box<[u32]>) -> Self {
        Self { parts, round: 0, news: 0, joined: 0, work: None }
    }

    pub(super) fn parts(&self) -> &[u32] {
        &self.parts
    }

    /// How often there was something new.
    pub(super) fn news(&self) -> u64 {
        self.news
    }

    pub(super) fn is_late(&self) -> bool {
        self.work.as_ref().is_some_and(|work| !work.late.is_empty())
    }

    /// One of its projects, at this slab place, broadcasts the messages after `from`.
    pub(super) fn note_late(&mut self, project: u32, from: u64) {
        let Ok(part) = self.parts.binary_search(&project) else { return };
        self.news += 1;
        // If no stream has joined, none is at the position of the rounds.
        if self.joined > 0 {
            let late = &mut self.work.get_or_insert_default().late;
            if !late.iter().any(|(known, _)| usize::from(*known) == part) {
                late.push((part as u8, from));
            }
        }
    }

    /// The positions of streams that have every round, one for each part; `newest` gives the newest messages.
    pub(super) fn position(&self, newest: impl Fn(u32) -> u64) -> Box<[u64]> {
        let mut position: Box<[u64]> = self.parts.iter().map(|&project| newest(project)).collect();
        for (part, from) in self.work.iter().flat_map(|work| &work.late) {
            position[usize::from(*part)] = *from;
        }
        position
    }

    /// Begins a round that brings this piece to all streams that have joined. The rest is left for the next round.
    pub(super) fn begin_round(&mut self, piece: Arc<Piece>, newest: impl Fn(u32) -> u64, streams: usize) {
        let work = self.work.get_or_insert_default();
        let parts = &self.parts;
        work.late.retain_mut(|(part, from)| {
            *from = piece.to[usize::from(*part)];
            *from < newest(parts[usize::from(*part)])
        });
        self.news += u64::from(!work.late.is_empty());
        work.of_round = Some(piece.clone());
        self.round += 1;
        self.keep(piece, streams);
    }

    /// Ends a round: all streams that have joined have it.
    pub(super) fn end_round(&mut self) {
        if let Some(work) = &mut self.work {
            work.of_round = None;
        }
        self.work.take_if(|work| work.late.is_empty() && work.pieces.is_empty());
    }

    /// Nobody has joined any more: rounds bring nothing.
    pub(super) fn have_nobody_late(&mut self) {
        if let Some(work) = &mut self.work {
            work.late.clear();
            work.of_round = None;
        }
    }

    /// The piece that a stream lacks which has joined and has this round.
    pub(super) fn lacked_by(&self, round: u64) -> Option<&Arc<Piece>> {
        let of_round = self.work.as_ref().and_then(|work| work.of_round.as_ref());
        of_round.filter(|_| round < self.round)
    }

    /// The round that a stream has which joins now.
    pub(super) fn round(&self) -> u64 {
        self.round
    }

    pub(super) fn joined(&self) -> u32 {
        self.joined
    }

    /// A stream joins.
    pub(super) fn join(&mut self) {
        self.joined += 1;
    }

    /// A stream that had joined is gone, or goes apart.
    pub(super) fn part(&mut self) {
        self.joined -= 1;
    }

    /// The piece that begins here, if it is kept.
    pub(super) fn kept(&self, at: &[u64]) -> Option<Arc<Piece>> {
        self.work.as_ref()?.pieces.iter().find(|piece| *piece.from == *at).cloned()
    }

    /// Keeps a piece for others, where there are enough that one may want it.
    pub(super) fn keep(&mut self, piece: Arc<Piece>, streams: usize) {
        if streams < STREAMS_THAT_SHARE {
            return;
        }
        let pieces = &mut self.work.get_or_insert_default().pieces;
        if pieces.iter().any(|kept| kept.from == piece.from) {
            return;
        }
        if pieces.len() == PIECES_MAX {
            pieces.pop_front();
        }
        pieces.push_back(piece);
    }

    /// Drops what only serves streams that come back.
    pub(super) fn let_go(&mut self) {
        if let Some(work) = &mut self.work {
            work.pieces.clear();
        }
        self.work.take_if(|work| work.late.is_empty() && work.of_round.is_none());
    }

    /// The bytes that it holds on to.
    pub(super) fn memory(&self) -> usize {
        let Some(work) = &self.work else { return 0 };
        let of_round = work.of_round.iter().filter(|piece| !work.pieces.iter().any(|kept| Arc::ptr_eq(kept, piece)));
        of_round.chain(&work.pieces).map(|piece| piece.bytes.len()).sum()
    }
}
