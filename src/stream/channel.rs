//! A channel: a set of streams that follow the same thing, how far the newest broadcast has got among them, and the
//! source that they are written from.
//!
//! All streams of a channel are sent the same messages in the same form. A channel exists as long as a stream follows
//! it; the next stream after that opens it again.

use std::time::Duration;

use super::backlog::Backlog;
use super::bundle::Bundle;
use super::retold::Retold;
use crate::log::{RunNumber, View};

/// See the top of this file. There may be as many channels as streams, so a test checks its size.
pub(super) struct Channel {
    pub(super) source: Source,
    /// Tells it from earlier channels at its index.
    pub(super) generation: u32,
    /// Slab keys of its streams, side by side; a stream knows its place here.
    streams: Vec<u32>,
    /// The round of writes in progress; most of the time there is none.
    pass: Option<Box<Pass>>,
}

/// Where a channel's streams are written from.
pub(super) enum Source {
    /// From the backlog of this project: its messages as they are broadcast.
    Events { project: u32 },
    /// From this backlog: the project's messages in lines, written once for all its streams.
    Lines { project: u32, backlog: Box<Backlog> },
    /// From this backlog: the project's messages, with updates about items between them.
    Items { project: u32, backlog: Box<Backlog> },
    /// From a backlog of one run of the project, retold in a format.
    Retold(Box<Retold>),
    /// From the backlogs of several projects, by what they are to each other.
    Several(Bundle),
}

/// One round over a channel's streams. It may take several slices; what is broadcast meanwhile makes another round.
#[derive(Debug, Clone, Copy)]
struct Pass {
    /// The place of the stream that is next.
    next: usize,
    /// Everything up to this message was there when the round began.
    newest: u64,
    /// When the oldest message that it carries was broadcast.
    since: Duration,
}

/// The next action of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Write to this stream.
    Of(u32),
    /// None: the round has ended that began with a message broadcast then.
    Ended { since: Duration },
    /// There is no round.
    Idle,
}

/// A stream that took the place of one that left.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moved {
    pub(super) key: u32,
    /// It moved from where the round in progress has not been yet to where it has.
    pub(super) misses_its_turn: bool,
}

impl Source {
    /// The projects that it draws on; at least one.
    pub(super) fn projects(&self) -> &[u32] {
        match self {
            Self::Events { project } | Self::Lines { project, .. } | Self::Items { project, .. } => {
                std::slice::from_ref(project)
            }
            Self::Retold(retold) => std::slice::from_ref(&retold.project),
            Self::Several(bundle) => bundle.parts(),
        }
    }

    /// What several projects are to each other, where it draws on several.
    pub(super) fn bundle(&self) -> Option<&Bundle> {
        match self {
            Self::Events { .. } | Self::Lines { .. } | Self::Items { .. } | Self::Retold(_) => None,
            Self::Several(bundle) => Some(bundle),
        }
    }

    /// The run that it tells alone.
    pub(super) fn run(&self) -> Option<RunNumber> {
        match self {
            Self::Events { .. } | Self::Lines { .. } | Self::Items { .. } | Self::Several(_) => None,
            Self::Retold(retold) => Some(retold.run),
        }
    }

    /// Does it hold a message that ends its streams?
    pub(super) fn has_end(&self) -> bool {
        matches!(self, Self::Retold(retold) if retold.has_end())
    }

    /// How its streams are shown messages.
    pub(super) fn view(&self) -> View {
        match self {
            Self::Events { .. } | Self::Several(_) => View::Events,
            Self::Lines { .. } => View::Text,
            Self::Items { .. } => View::Items,
            Self::Retold(retold) => View::Format(retold.format),
        }
    }

    /// Its own backlog, if it has one.
    pub(super) fn own_backlog(&self) -> Option<&Backlog> {
        match self {
            Self::Events { .. } | Self::Several(_) => None,
            Self::Lines { backlog, .. } | Self::Items { backlog, .. } => Some(backlog),
            Self::Retold(retold) => Some(retold.backlog()),
        }
    }

    /// Limits its own backlog to `bytes_max`, and drops what is no longer needed.
    pub(super) fn trim(&mut self, bytes_max: usize) {
        match self {
            Self::Events { .. } => {}
            Self::Lines { backlog, .. } | Self::Items { backlog, .. } => backlog.trim(bytes_max),
            Self::Retold(retold) => retold.trim(bytes_max),
            Self::Several(bundle) => bundle.let_go(),
        }
    }
}

impl Channel {
    /// A channel that nobody watches yet.
    pub(super) fn new(source: Source, generation: u32) -> Self {
        Self { source, generation, streams: Vec::new(), pass: None }
    }

    /// The keys of its streams.
    pub(super) fn streams(&self) -> &[u32] {
        &self.streams
    }

    /// Adds a stream; its place.
    pub(super) fn insert(&mut self, key: u32) -> u32 {
        self.streams.push(key);
        (self.streams.len() - 1) as u32
    }

    /// Takes the stream at `place` out; the one that moved there, if one did.
    pub(super) fn remove(&mut self, place: u32) -> Option<Moved> {
        let place = place as usize;
        self.streams.swap_remove(place);
        let from = self.streams.len();
        if from < self.streams.capacity() / 4 {
            self.streams.shrink_to(2 * from);
        }
        let key = *self.streams.get(place)?;
        let misses_its_turn = self.pass.as_ref().is_some_and(|pass| place < pass.next && pass.next <= from);
        Some(Moved { key, misses_its_turn })
    }

    /// There are new messages up to `newest`. Does a round have to begin for them?
    pub(super) fn begin_pass(&mut self, newest: u64, now: Duration) -> bool {
        if self.pass.is_some() {
            return false;
        }
        self.pass = Some(Box::new(Pass { next: 0, newest, since: now }));
        true
    }

    /// The next turn of the round, with messages up to `newest`. Messages that came since the round began make another
    /// round.
    pub(super) fn turn(&mut self, newest: u64) -> Turn {
        let Some(pass) = &mut self.pass else { return Turn::Idle };
        if pass.next >= self.streams.len() && pass.newest < newest {
            (pass.next, pass.newest) = (0, newest);
        }
        match self.streams.get(pass.next) {
            Some(&key) => Turn::Of(key),
            None => {
                let since = pass.since;
                self.pass = None;
                Turn::Ended { since }
            }
        }
    }

    /// Is it the first stream's turn?
    pub(super) fn is_at_start(&self) -> bool {
        self.pass.as_ref().is_some_and(|pass| pass.next == 0)
    }

    /// The stream whose turn it was has had it.
    pub(super) fn end_turn(&mut self) {
        self.pass.iter_mut().for_each(|pass| pass.next += 1);
    }

    /// Room for keys of streams.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.streams.capacity()
    }
}
