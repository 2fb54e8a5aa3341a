//! The connection manager: streams in a slab, channels with the sets of their keys, and the writes to streams.
//!
//! `broadcast` only appends to backlogs and begins rounds. [`flush`](ConnectionManager::flush) makes the writes, one
//! per stream for everything that it lacks, in slices, so that a channel with many thousands of streams does not block
//! the loop. Nothing is freed inside a turn: a stream that ends is marked, and [`reap`](ConnectionManager::reap)
//! removes it at the end of the turn.

mod beginnings;
mod bundles;
mod invariants;
mod pages;
mod retelling;
mod rounds;
mod upkeep;
mod writes;

use std::collections::VecDeque;
use std::io::Write;
use std::time::Duration;

use slab::Slab;

use super::backlog::Cursor;
use super::paging::Paging;
use super::subscriber::{CloseReason, Extra, KnownItems, NEVER, Pending, Phase, Stream, Transport};
use super::sweep::Sweep;
use super::watched::{Wanted, Watched};
use crate::auth::IdSigner;
use crate::formats::Format;
use crate::log::{Frames, RunNumber, StartingPosition, Subscription, View};
use crate::model::{Now, ProjectId, SlabKey, Timestamp};

/// The settings of the manager.
#[derive(Debug, Clone)]
pub struct Settings {
    /// A stream that was sent nothing for this long gets a heartbeat; none where zero.
    pub heartbeat: Duration,
    /// A stream that takes nothing for this long, though something waits, is closed.
    pub stall_timeout: Duration,
    /// A closed stream gets a random reconnection time between this and twice this, in milliseconds.
    pub retry_ms: u64,
    /// The most bytes that one project's backlog holds.
    pub backlog_bytes: usize,
    /// The most bytes that all backlogs hold together; beyond it each holds its equal share, but never less than
    /// 16 KiB.
    pub backlogs_bytes: usize,
    /// How long a project without streams is kept, for clients that come back.
    pub linger: Duration,
}

/// A project's backlog is never trimmed below this, however many projects there are.
pub const BACKLOG_BYTES_MIN: usize = 16 * 1024;

/// A stream whose full socket has accepted nothing for this long does not slow publishers down.
const STUCK_AFTER: Duration = Duration::from_millis(200);

/// How long the result of a check of all streams of a project is used.
const CONGESTION_KNOWN_FOR: Duration = Duration::from_millis(10);

/// Bytes of a backlog that are copied at a time for a stream of one run alone, which holds them until they are taken.
const GATHER_BYTES_MAX: usize = 16 * 1024;

/// What the manager asks the loop to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// A stream is behind the backlog: read on for it from the log, then call [`ConnectionManager::page`],
    /// [`skip`](ConnectionManager::skip) or [`page_refused`](ConnectionManager::page_refused): exactly one of them,
    /// even if the stream has ended meanwhile, because the number of pages under way is limited.
    ReadPage {
        /// For whom.
        stream: SlabKey,
        /// From which project.
        project: ProjectId,
        /// Behind this message.
        after: u64,
        /// This run's messages alone.
        only_run: Option<RunNumber>,
        /// How the stream is shown them.
        view: View,
        /// About how many bytes at most.
        bytes_max: usize,
    },
    /// A channel of a run lacks the messages of the run after a position: read them, then call
    /// [`ConnectionManager::row`] or [`row_refused`](ConnectionManager::row_refused). A channel has one such read under
    /// way at a time.
    ReadRow {
        /// For whom.
        channel: SlabKey,
        /// The project.
        project: ProjectId,
        /// The run.
        run: RunNumber,
        /// Retold so.
        format: Format,
        /// Behind this position.
        after: u64,
        /// About how many bytes at most.
        bytes_max: usize,
    },
    /// A stream needs the state of the items of running steps: read it, then call [`ConnectionManager::page`] or
    /// [`page_refused`](ConnectionManager::page_refused), as for a page.
    ReadItems {
        /// For whom.
        stream: SlabKey,
        /// The project.
        project: ProjectId,
        /// Only of this run.
        only_run: Option<RunNumber>,
        /// Where the stream is.
        after: u64,
    },
    /// No stream of this project shows items any more; updates about them are no longer needed.
    IgnoreItems(ProjectId),
    /// Nobody watches this project any more; its messages need not come.
    Unwatch(ProjectId),
}

/// Counts of what has happened so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Streams added.
    pub opened: u64,
    /// Streams ended, in the order of [`CloseReason::ALL`].
    pub closed: [u64; CloseReason::ALL.len()],
    /// Messages handed to sockets.
    pub messages: u64,
    /// Bytes handed to sockets.
    pub bytes: u64,
    /// Writes made for broadcasts.
    pub writes: u64,
    /// Pages asked from the log.
    pub pages: u64,
}

/// Streams and what they watch; see the top of this file.
pub struct ConnectionManager<S> {
    settings: Settings,
    streams: Slab<Stream<S>>,
    generation: u32,
    watched: Watched,
    /// Writes the ids of positions.
    signer: IdSigner,
    /// Channels with a round in progress, in the order of their turns. One that is gone may be named here until its turn.
    dirty: VecDeque<u32>,
    doomed: Vec<u32>,
    /// Sockets that were full for the first time.
    blocked: Vec<u32>,
    effects: Vec<Effect>,
    /// Projects that more or fewer watch than were said to.
    recounted: Vec<ProjectId>,
    paging: Paging,
    sweep: Sweep,
    random: u64,
    /// From when to how much later a client that is sent away is to come back, in milliseconds.
    reconnection: (u64, u64),
    stats: Stats,
    /// The beginnings of rounds that have ended since they were last taken.
    rounds_ended: Vec<Duration>,
}

impl<S: Write> ConnectionManager<S> {
    /// A manager without streams, which writes ids with `signer`. `seed` spreads reconnection times.
    pub fn new(settings: Settings, signer: IdSigner, seed: u64) -> Self {
        Self {
            reconnection: (settings.retry_ms, settings.retry_ms),
            settings,
            streams: Slab::new(),
            generation: 0,
            watched: Watched::default(),
            signer,
            dirty: VecDeque::new(),
            doomed: Vec::new(),
            blocked: Vec::new(),
            effects: Vec::new(),
            recounted: Vec::new(),
            paging: Paging::default(),
            sweep: Sweep::default(),
            random: seed | 1,
            stats: Stats::default(),
            rounds_ended: Vec::new(),
        }
    }

    /// Starts to hold a project's backlog. `newest` are its newest messages; where there are none, an empty row that
    /// says what comes next. A project that is open already takes what it has not got.
    pub fn open_project(&mut self, project: &ProjectId, newest: Frames, now: Now) {
        if self.is_open(project) {
            return self.broadcast(project, &newest, now);
        }
        let share = self.backlog_share();
        self.watched.open(project, self.signer.tag(project), newest, share, now.mono);
    }

    /// Is the project's backlog held?
    pub fn is_open(&self, project: &ProjectId) -> bool {
        self.watched.project(project).is_some()
    }

    /// Are more than half of the project's streams behind? Then messages are published faster than they can be read.
    /// Streams that read nothing do not count.
    pub fn is_congested(&mut self, project: &ProjectId, now: Now) -> bool {
        let Some(held) = self.watched.project(project) else { return false };
        if held.behind <= held.watchers / 2 {
            return false;
        }
        match held.congestion {
            Some((until, is_congested)) if now.mono < until => is_congested,
            _ => {
                let now_ms = wrapping_ms(now.mono);
                let stuck = |&key: &u32| self.streams[key as usize].is_stuck(now_ms, STUCK_AFTER);
                let stuck = self.watched.streams_of(held).filter(stuck).count();
                let is_congested = held.behind - stuck > (held.watchers - stuck) / 2;
                let until = now.mono + CONGESTION_KNOWN_FOR;
                self.watched.note_congestion(project, until, is_congested);
                is_congested
            }
        }
    }

    /// The number of the newest message in the project's backlog, where that is held.
    pub fn newest(&self, project: &ProjectId) -> Option<u64> {
        self.watched.project(project).map(|project| project.backlog.newest())
    }

    /// May a stream that has everything up to `seq` go on without the log?
    pub fn reaches(&self, project: &ProjectId, seq: u64) -> bool {
        let backlog = self.watched.project(project).map(|project| &project.backlog);
        backlog.is_some_and(|backlog| backlog.reaches(seq) && seq <= backlog.newest())
    }

    /// Adds a stream to an open project and writes what it lacks.
    ///
    /// # Errors
    /// The socket comes back where the project is not open.
    pub fn add_sse(
        &mut self,
        transport: Transport<S>,
        wanted: &Subscription,
        start: &StartingPosition,
        now: Now,
    ) -> Result<SlabKey, S> {
        let index = self.streams.vacant_key() as u32;
        let run = start.run.filter(|_| wanted.view.format().is_some());
        let watches = Wanted { project: &wanted.project, view: wanted.view, run, after: start.after };
        let Some((channel, place)) = self.watched.join(watches, index) else { return Err(transport.socket) };
        let extra = Extra {
            ending: start.is_told().then_some(CloseReason::RunOver),
            only_run: if run.is_some() { None } else { start.run },
            names: wanted.said.as_ref().map(|said| said.names.clone()).filter(|names| !names.is_empty()).map(Box::new),
            items: if wanted.view == View::Items { KnownItems::Lacking } else { KnownItems::All },
            ..Extra::default()
        };
        let cursor = self.watched.cursor_from(channel, start.after);
        Ok(self.add(transport, wanted, (channel, place), cursor, extra, now))
    }

    /// Adds a stream at its place in a channel, and writes what it lacks.
    fn add(
        &mut self,
        transport: Transport<S>,
        wanted: &Subscription,
        (channel, place): (u32, u32),
        cursor: Cursor,
        extra: Extra,
        now: Now,
    ) -> SlabKey {
        let Transport { socket, token, coding, preface } = transport;
        let entry = self.streams.vacant_entry();
        let index = entry.key() as u32;
        self.generation = self.generation.wrapping_add(1);
        let end_of_token = |at: Timestamp| u32::try_from(at.as_millis().div_ceil(1000)).unwrap_or(NEVER);
        let key = SlabKey::new(index, self.generation);
        entry.insert(Stream {
            socket,
            channel,
            place,
            generation: self.generation,
            phase: Phase::Open,
            is_watched_for_room: false,
            is_counted_behind: false,
            cursor,
            wrote_at: wrapping_ms(now.mono),
            expires_at_secs: wanted.expires_at.map_or(NEVER, end_of_token),
            token,
            // What is not needed is freed with the first write.
            extra: Some(Box::new(Extra {
                pending: Pending::Own(preface),
                heartbeat_as_message: wanted.heartbeat_as_message,
                coding,
                ..extra
            })),
        });
        self.stats.opened += 1;
        self.count_anew(channel);
        self.serve(index, now);
        key
    }

    /// Ends a stream at once. A key whose stream is gone changes nothing.
    pub fn remove_sse(&mut self, key: SlabKey, reason: CloseReason) {
        if self.is_current(key) {
            self.doom(key.index() as u32, reason);
        }
    }

    /// The poll says that a stream takes bytes again.
    pub fn writable(&mut self, index: usize, now: Now) {
        let Some(stream) = self.streams.get_mut(index) else { return };
        let Phase::Blocked { since } = stream.phase else { return };
        stream.phase = Phase::Open;
        let bytes_before = self.stats.bytes;
        self.serve(index as u32, now);
        let stream = &mut self.streams[index];
        if self.stats.bytes == bytes_before && matches!(stream.phase, Phase::Blocked { .. }) {
            // The poll was wrong: nothing was taken, and the time without anything goes on.
            stream.phase = Phase::Blocked { since };
            self.recount(index as u32);
        }
    }

    /// The poll says that a stream's client has left.
    pub fn hangup(&mut self, index: usize) {
        if self.streams.contains(index) {
            self.doom(index as u32, CloseReason::ClientGone);
        }
    }

    /// The socket of a stream, for the loop to read and drop what its client sends.
    pub fn socket(&mut self, index: usize) -> Option<&mut S> {
        self.streams.get_mut(index).map(|stream| &mut stream.socket)
    }

    /// Streams closed from now on are told to come back as soon as another process can have taken over, ten each
    /// millisecond.
    pub fn expect_back_soon(&mut self) {
        const NOT_BEFORE_MS: u64 = 100;
        const STREAMS_PER_MS: u64 = 10;
        self.reconnection = (NOT_BEFORE_MS, NOT_BEFORE_MS.max(self.streams.len() as u64 / STREAMS_PER_MS));
    }

    /// Ends every stream with a `stream_closing` that says why.
    pub fn close_all(&mut self, reason: CloseReason, now: Now) {
        let keys: Vec<u32> = self.streams.iter().map(|(index, _)| index as u32).collect();
        for key in keys {
            self.close(key, reason, now);
        }
    }

    /// Takes the streams out that have ended: their sockets and poll tokens. Streams that would miss the current round
    /// by that are written to here, so take effects after this.
    pub fn reap(&mut self, now: Now) -> Vec<(S, u32, CloseReason)> {
        let mut ended = Vec::new();
        while let Some(index) = self.doomed.pop() {
            let stream = self.streams.remove(index as usize);
            self.count_anew(stream.channel);
            if stream.apart().is_none()
                && let Some(bundle) = self.watched.bundle_mut(stream.channel)
            {
                bundle.part();
            }
            if let Some(moved) = self.watched.leave(stream.channel, stream.place, now.mono) {
                self.streams[moved.key as usize].place = stream.place;
                if moved.misses_its_turn {
                    self.serve(moved.key, now);
                }
            }
            let Phase::Doomed(reason) = stream.phase else { unreachable!("only the doomed are reaped") };
            self.stats.closed[CloseReason::ALL.iter().position(|&r| r == reason).unwrap_or_default()] += 1;
            ended.push((stream.socket, stream.token, reason));
        }
        if !ended.is_empty() && self.streams.len() < self.streams.capacity() / 4 {
            self.streams.shrink_to_fit();
        }
        self.check_invariants();
        ended
    }

    /// Takes the sockets, by what the poll knows them by, that were full for the first time: the poll is to tell of room in them from
    /// now on.
    pub fn take_blocked(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.blocked)
    }

    /// Takes the rounds that have ended since the last call: for each, when the oldest message was broadcast that it
    /// carried. Its last write may have been made a moment ago, which only a clock read now can tell.
    pub fn take_rounds_ended(&mut self) -> Vec<Duration> {
        std::mem::take(&mut self.rounds_ended)
    }

    /// Streams in all.
    pub(crate) fn len(&self) -> usize {
        self.streams.len()
    }

    /// The streams of several projects among them.
    pub(crate) fn of_several(&self) -> usize {
        let bundles = self.watched.channels().filter(|(_, channel)| channel.source.bundle().is_some());
        bundles.map(|(_, channel)| channel.streams().len()).sum()
    }

    /// Streams of one project.
    pub fn subscribers(&self, project: &ProjectId) -> usize {
        self.watched.project(project).map_or(0, |project| project.watchers)
    }

    /// Takes the projects whose number of streams has changed since the last call, with these numbers.
    pub fn take_recounted(&mut self) -> Vec<(ProjectId, usize)> {
        let recounted = std::mem::take(&mut self.recounted).into_iter();
        recounted.map(|project| (project.clone(), self.subscribers(&project))).collect()
    }

    fn count_anew(&mut self, channel: u32) {
        for project in self.watched.projects_of(channel) {
            if self.recounted.last() != Some(&project.id) {
                self.recounted.push(project.id.clone());
            }
        }
    }

    /// Projects with a backlog, and the bytes that all backlogs hold.
    pub fn backlog_memory(&self) -> (usize, usize) {
        self.watched.memory()
    }

    /// The counts so far.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    pub(super) fn is_current(&self, key: SlabKey) -> bool {
        self.streams.get(key.index()).is_some_and(|stream| stream.generation == key.generation())
    }

    fn backlog_share(&self) -> usize {
        let share = self.settings.backlogs_bytes / self.watched.backlogs().max(1);
        share.clamp(BACKLOG_BYTES_MIN, self.settings.backlog_bytes.max(BACKLOG_BYTES_MIN))
    }

    /// When a client that is sent away is to come back: each at another time.
    fn reconnection_ms(&mut self) -> u64 {
        let (base, spread) = self.reconnection;
        base + self.next_random() % spread.max(1)
    }

    fn next_random(&mut self) -> u64 {
        // xorshift64: spreads reconnects, guards nothing.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}

/// Milliseconds on a clock of 32 bits: differences are right for 49 days.
fn wrapping_ms(mono: Duration) -> u32 {
    mono.as_millis() as u32
}
