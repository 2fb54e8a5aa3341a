//! A watched project: its backlog, the set of its streams, and how far the newest broadcast has got among them.

use std::time::Duration;

use super::backlog::Backlog;
use crate::log::{Frames, View};
use crate::model::ProjectId;

/// A project that someone watches, or watched a moment ago.
pub(super) struct Project {
    pub(super) id: ProjectId,
    pub(super) backlog: Backlog,
    /// The same in lines for people, while anyone is shown them.
    told: Option<Told>,
    /// Slab keys of its streams, side by side; a stream knows its place here.
    pub(super) streams: Vec<u32>,
    /// How many of them are behind.
    pub(super) behind: usize,
    /// Whether they are too slow for what is published, and how long that may be believed.
    pub(super) congestion: Option<(Duration, bool)>,
    /// The round of writes in progress.
    pub(super) pass: Option<Pass>,
    /// Since when nobody watches.
    pub(super) idle_since: Option<Duration>,
}

/// A backlog that only those read who are shown messages in lines. What is broadcast is put into words once for all of
/// them.
struct Told {
    backlog: Backlog,
    readers: usize,
}

/// One round over a project's streams. It may take several slices; what is broadcast meanwhile makes another round.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pass {
    /// The place of the stream that is next.
    pub(super) next: usize,
    /// Everything up to this message was there when the round began.
    pub(super) newest: u64,
    /// When the oldest message that it carries was broadcast.
    pub(super) since: Duration,
}

/// A stream that took the place of one that left.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moved {
    pub(super) key: u32,
    /// It moved from where the round in progress has not been yet to where it has.
    pub(super) misses_its_turn: bool,
}

impl Project {
    pub(super) fn new(id: ProjectId, frames: Frames, now: Duration) -> Self {
        Self {
            id,
            backlog: Backlog::new(frames),
            told: None,
            streams: Vec::new(),
            behind: 0,
            congestion: None,
            pass: None,
            idle_since: Some(now),
        }
    }

    /// What those are written from who are shown messages like this.
    pub(super) fn backlog(&self, view: View) -> &Backlog {
        match (view, &self.told) {
            (View::Text, Some(told)) => &told.backlog,
            _ => &self.backlog,
        }
    }

    /// Takes the next messages, and lets the oldest go that are more than `bytes_max`.
    pub(super) fn append(&mut self, frames: &Frames, bytes_max: usize) {
        if let Some(told) = &mut self.told {
            told.backlog.append(&frames.told(told.backlog.newest() + 1));
        }
        self.backlog.append(frames);
        self.trim(bytes_max);
    }

    /// Holds each backlog to `bytes_max`.
    pub(super) fn trim(&mut self, bytes_max: usize) {
        self.backlog.trim(bytes_max);
        self.told.iter_mut().for_each(|told| told.backlog.trim(bytes_max));
    }

    /// The bytes that its backlogs hold on to.
    pub(super) fn memory(&self) -> usize {
        self.backlog.memory() + self.told.as_ref().map_or(0, |told| told.backlog.memory())
    }

    /// Adds a stream that is shown messages like this; its place.
    pub(super) fn insert(&mut self, key: u32, view: View) -> u32 {
        self.idle_since = None;
        if view == View::Text {
            let next = self.backlog.newest() + 1;
            let nothing_yet = || Told { backlog: Backlog::new(Frames::starting_at(next)), readers: 0 };
            self.told.get_or_insert_with(nothing_yet).readers += 1;
        }
        self.streams.push(key);
        (self.streams.len() - 1) as u32
    }

    /// Takes the stream at `place` out, which was shown messages like this; the one that moved there, if one did.
    pub(super) fn remove(&mut self, place: u32, view: View, now: Duration) -> Option<Moved> {
        let place = place as usize;
        if view == View::Text
            && let Some(told) = &mut self.told
        {
            told.readers -= 1;
            self.told.take_if(|told| told.readers == 0);
        }
        self.streams.swap_remove(place);
        let from = self.streams.len();
        if self.streams.is_empty() {
            self.idle_since = Some(now);
            self.streams = Vec::new();
            self.pass = None;
        } else if self.streams.len() < self.streams.capacity() / 4 {
            self.streams.shrink_to(2 * self.streams.len());
        }
        let key = *self.streams.get(place)?;
        let misses_its_turn = self.pass.is_some_and(|pass| place < pass.next && pass.next <= from);
        Some(Moved { key, misses_its_turn })
    }

    /// A message came: is this the first one that nobody has been sent yet?
    pub(super) fn begin_pass(&mut self, now: Duration) -> bool {
        if self.pass.is_some() || self.streams.is_empty() {
            return false;
        }
        self.pass = Some(Pass { next: 0, newest: self.backlog.newest(), since: now });
        true
    }
}
