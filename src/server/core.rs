//! The server without the operating system: sockets, readiness, answers and `now` come in; bytes go out through the
//! sockets, and commands through the [`Outbox`].

mod allowance;
mod answers;
mod requests;
mod shed;
mod streams;
mod token;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use slab::Slab;

use super::connection::{Connection, Overdue, State, Timeouts};
use super::inbox::Inbox;
use super::intake::too_many_plans;
use super::limits::{ConnectionLimits, Counts, PublishMeter, counted_address};
use super::metrics::{Gauges, Metrics};
use super::refused::Limit;
use super::socket::Socket;
use crate::api::{Api, Condition, Door, Facts, Full, PlanRequest};
use crate::http::{Limits, Problem, Response};
use crate::log::{Answer, Command, Watchers};
#[cfg(test)]
use crate::model::ProjectId;
use crate::model::{Now, Taken};
use crate::stream::{CloseReason, ConnectionManager, Settings, Tally};
use allowance::Allowance;
#[cfg(test)]
pub(super) use answers::CONGESTION_HOLD;
pub use token::Token;
use token::{GENERATION_MASK, Place};

/// Writes of broadcasts made before the other sockets are looked at again.
const FLUSH_WRITES_MAX: usize = 128;

/// Streams looked after in one turn's slice of the sweep.
const SWEEP_STREAMS_MAX: usize = 512;

/// What is done for connections in one turn, in bytes read and answered: more would keep the streams waiting. The rest is
/// done in the next turn. As much again is there for what was put off, and for bodies that are on their way.
const WORK_PER_TURN: usize = 1024 * 1024;

/// What a request costs besides, as if it were so many bytes: 256 of them are a turn's work, some 3 ms.
const WORK_PER_REQUEST: usize = 4096;

/// How long a connection beyond a limit may take to ask for what it is refused: others need its place in the reserve.
const REFUSED_WAIT: Duration = Duration::from_secs(2);

/// How often connections are looked over for deadlines.
const DEADLINE_SWEEP: Duration = Duration::from_millis(250);

/// What the server goes by.
#[derive(Debug, Clone)]
pub struct ServerSettings {
    /// How streams are kept.
    pub streams: Settings,
    /// How much of a request is taken.
    pub http: Limits,
    /// How long a connection may take.
    pub timeouts: Timeouts,
    /// How much of everything.
    pub limits: ConnectionLimits,
}

/// What the server wants carried out.
#[derive(Debug, Default)]
pub struct Outbox {
    /// By the log, as one batch.
    pub log: Vec<Command>,
    /// By the intake.
    pub intake: Vec<(u64, PlanRequest)>,
}

/// Connections, streams and calls; see the top of this file.
pub struct Server<S> {
    settings: ServerSettings,
    api: Api,
    /// Where each socket is, by its token.
    places: Slab<Place>,
    connections: Slab<Connection<S>>,
    streams: ConnectionManager<S>,
    /// Where it is said how many watch each project.
    watchers: Watchers,
    generation: u32,
    doomed: Vec<usize>,
    /// Connections that have more to read, of which no event will tell.
    unread: Vec<usize>,
    /// Connections that have more of an answer to write, of which no event will tell, in the order of their turns.
    unwritten: VecDeque<usize>,
    /// What was done for connections in this turn.
    work: usize,
    /// What of contents, of histories and of beginnings of streams may be sent just now.
    contents: Allowance,
    histories: Allowance,
    beginnings: Allowance,
    /// Who waits to have the log asked where a stream begins.
    postponed: VecDeque<u64>,
    /// What connections hold in all, but for what each of them may keep.
    held: usize,
    scratch: Box<[u8]>,
    outbox: Outbox,
    /// Answers to publishers that are too fast, each with the time at which it is given.
    held_answers: VecDeque<(Duration, u64, Answer)>,
    is_draining: bool,
    is_drained: bool,
    store_is_down: bool,
    /// The log has no room for more.
    is_behind: bool,
    /// Connections beyond a limit: the reserve is theirs.
    refused: usize,
    addresses: Counts<IpAddr>,
    tokens: Counts<u64>,
    meter: PublishMeter,
    next_deadline_sweep: Duration,
    /// Sockets that were full for the first time.
    blocked: Vec<Token>,
    date: (u64, String),
    random: u64,
    /// Everything that is counted.
    pub metrics: Metrics,
}

impl<S: Socket> Server<S> {
    /// A server without connections. `seed` spreads reconnection times.
    pub fn new(settings: ServerSettings, api: Api, seed: u64) -> Self {
        Self {
            streams: ConnectionManager::new(settings.streams.clone(), seed),
            watchers: Watchers::default(),
            settings,
            api,
            places: Slab::new(),
            connections: Slab::new(),
            generation: 0,
            doomed: Vec::new(),
            unread: Vec::new(),
            unwritten: VecDeque::new(),
            work: 0,
            contents: Allowance::default(),
            histories: Allowance::default(),
            beginnings: Allowance::default(),
            postponed: VecDeque::new(),
            held: 0,
            scratch: vec![0; 64 * 1024].into_boxed_slice(),
            outbox: Outbox::default(),
            held_answers: VecDeque::new(),
            is_draining: false,
            is_drained: false,
            store_is_down: false,
            is_behind: false,
            refused: 0,
            addresses: Counts::default(),
            tokens: Counts::default(),
            meter: PublishMeter::default(),
            next_deadline_sweep: Duration::ZERO,
            blocked: Vec::new(),
            date: (u64::MAX, String::new()),
            random: seed.rotate_left(32) | 1,
            metrics: Metrics::default(),
        }
    }

    /// From now on it is said here how many watch each project.
    pub fn count_watchers(&mut self, watchers: Watchers) {
        self.watchers = watchers;
    }

    /// A client has connected. The token to watch its socket by, for what comes in alone, as long as it is not among
    /// the [blocked](Self::take_blocked); or the socket back where there is no room even to say so.
    ///
    /// # Errors
    /// The socket, to be closed.
    pub fn accept(&mut self, socket: S, peer: IpAddr, door: Door, now: Now) -> Result<Token, S> {
        let in_use = self.connections.len() + self.streams.len() - self.refused;
        let limits = &self.settings.limits;
        let is_proxy = limits.trusted_proxies.iter().any(|cidr| cidr.contains(peer));
        let mut beyond = (in_use >= limits.connections).then_some(Limit::Connections);
        let mut address = None;
        if !is_proxy && beyond.is_none() {
            address = self.addresses.take(counted_address(peer), limits.per_address);
            beyond = address.is_none().then_some(Limit::ConnectionsPerAddress);
        }
        // Whoever is one too many takes no place but of the reserve: else one address alone could take all.
        if beyond.is_some() && self.refused >= limits.reserve {
            self.metrics.connections_dropped += 1;
            self.metrics.refused.count(Limit::Reserve);
            return Err(socket);
        }
        self.generation = (self.generation + 1) & GENERATION_MASK;
        let mut connection = Connection::new(socket, self.generation);
        (connection.door, connection.is_proxy, connection.tally.address) = (door, is_proxy, address);
        let mut patience = self.settings.timeouts.header;
        if let Some(limit) = beyond {
            (connection.beyond, patience) = (beyond, patience.min(REFUSED_WAIT));
            self.refused += 1;
            self.metrics.refused.count(limit);
        }
        connection.deadline = Some((now.mono + patience, Overdue::Idle));
        self.metrics.connections_accepted += 1;
        let place = self.places.vacant_entry();
        let token = Token(place.key());
        connection.tally.socket = place.key() as u32;
        place.insert(Place::Connection(self.connections.insert(connection) as u32));
        Ok(token)
    }

    /// A connection was closed for want of a descriptor.
    pub fn count_unheard(&mut self) {
        self.metrics.connections_dropped += 1;
        self.metrics.refused.count(Limit::Descriptors);
    }

    /// A socket that can't be watched is given up, with its connection or stream.
    pub fn abandon(&mut self, token: Token) {
        match self.places.get(token.0) {
            Some(&Place::Connection(index)) => self.doom(index as usize),
            Some(&Place::Stream(index)) => self.streams.hangup(index as usize),
            None => {}
        }
    }

    /// The socket that a token names.
    pub fn socket(&mut self, token: Token) -> Option<&mut S> {
        match *self.places.get(token.0)? {
            Place::Connection(index) => {
                self.connections.get_mut(index as usize).map(|connection| &mut connection.socket)
            }
            Place::Stream(index) => self.streams.socket(index as usize),
        }
    }

    /// A socket has something to read, or its other side has closed: then `is_closed`, and it is read to its end.
    pub fn readable(&mut self, token: Token, is_closed: bool, now: Now) {
        match self.places.get(token.0) {
            Some(&Place::Connection(index)) => self.read_connection(index as usize, is_closed, now),
            Some(&Place::Stream(index)) => self.read_stream(index as usize),
            None => {}
        }
    }

    /// A socket takes bytes again.
    pub fn writable(&mut self, token: Token, now: Now) {
        match self.places.get(token.0) {
            Some(&Place::Connection(index)) => self.writable_connection(index as usize, now),
            Some(&Place::Stream(index)) => self.streams.writable(index as usize, now),
            None => {}
        }
    }

    /// Another thread speaks.
    pub fn receive(&mut self, inbox: Inbox, now: Now) {
        match inbox {
            Inbox::Log(deliveries) => deliveries.into_iter().for_each(|delivery| self.deliver(delivery, now)),
            Inbox::Answer(to, response) => self.answer_waiting(to, *response, now),
            Inbox::Drained => self.is_drained = true,
        }
    }

    /// The rest of a turn, once everything that came has been looked at: writes, deadlines, and the end of what has
    /// ended. `true` where there is more to do at once.
    pub fn end_turn(&mut self, now: Now) -> bool {
        self.release_held_answers(now);
        self.ask_where_to_begin(now);
        self.write_bodies(now);
        self.work = 0;
        let mut unread = std::mem::take(&mut self.unread);
        // Whoever asks little is not to wait behind those who send much.
        unread.sort_by_key(|&index| self.connections.get(index).map_or(0, |connection| connection.weight));
        for index in unread {
            if let Some(connection) = self.connections.get_mut(index) {
                connection.is_listed = false;
                self.read_connection(index, true, now);
            }
        }
        self.work = 0;
        self.shed(now);
        let has_more_writes = self.streams.flush(FLUSH_WRITES_MAX, now);
        let has_more_streams = self.streams.tick(SWEEP_STREAMS_MAX, now);
        if now.mono >= self.next_deadline_sweep {
            self.next_deadline_sweep = now.mono + DEADLINE_SWEEP;
            self.sweep_deadlines(now);
            let facts = self.facts(None, now);
            self.api.forget_expired(&facts);
        }
        self.reap(now);
        self.carry_out_effects(now);
        let has_more_contents = !self.unwritten.is_empty() && self.contents.has_any(now.mono);
        has_more_writes || has_more_streams || !self.unread.is_empty() || has_more_contents
    }

    /// When there is something to do next though nothing comes.
    pub fn next_deadline(&self) -> Option<Duration> {
        let connections = (!self.connections.is_empty()).then_some(self.next_deadline_sweep);
        [connections, self.next_release(), self.streams.next_deadline()].into_iter().flatten().min()
    }

    /// When the next of what is held back goes on, where anything is.
    pub(super) fn next_release(&self) -> Option<Duration> {
        let answer = self.held_answers.front().map(|(until, ..)| *until);
        let waiting = [
            (&self.contents, !self.unwritten.is_empty()),
            (&self.histories, self.streams.waits_for_pages()),
            (&self.beginnings, !self.postponed.is_empty()),
        ];
        let allowed = waiting.into_iter().filter(|(_, waits)| *waits).filter_map(|(allowance, _)| allowance.next_at());
        allowed.chain(answer).min()
    }

    /// Takes what is to be carried out.
    pub fn take_outbox(&mut self) -> Outbox {
        // The next turn will want about as much room as this one: growing to it moves every command several times.
        let next = Outbox { log: Vec::with_capacity(self.outbox.log.len()), intake: Vec::new() };
        std::mem::replace(&mut self.outbox, next)
    }

    /// Takes the sockets that were full for the first time: they are to be watched for room too from now on. Most never
    /// are, and watching all for it would cost each an event when it connects.
    pub fn take_blocked(&mut self) -> Vec<Token> {
        let streams = self.streams.take_blocked().into_iter().map(|socket| Token(socket as usize));
        self.blocked.extend(streams);
        std::mem::take(&mut self.blocked)
    }

    /// A plan that the intake has no room for is refused.
    pub fn refuse_plan(&mut self, to: u64, now: Now) {
        let problem = Problem::too_many("too_many_plans", too_many_plans(), 1);
        self.count_refused(&problem);
        self.answer_waiting(to, Response::from(problem), now);
    }

    /// Takes no new work from now on.
    pub fn drain(&mut self) {
        self.is_draining = true;
    }

    /// Rounds of writes have ended; `clock` tells when.
    pub fn record_fanouts(&mut self, clock: impl FnOnce() -> Now) {
        let rounds = self.streams.take_rounds_ended();
        if !rounds.is_empty() {
            let now = clock();
            rounds.into_iter().for_each(|since| self.metrics.fan_out.record(now.mono.saturating_sub(since)));
        }
    }

    /// Has all work stopped, so that the streams can be ended?
    pub fn is_drained(&self) -> bool {
        self.is_drained
    }

    /// Whether the log has room for what comes.
    pub fn set_behind(&mut self, is_behind: bool) {
        self.is_behind = is_behind;
    }

    fn condition(&self) -> Condition {
        if self.is_draining {
            Condition::Draining
        } else if self.store_is_down {
            Condition::StoreDown
        } else if self.is_behind {
            Condition::Overloaded
        } else {
            Condition::Serving
        }
    }

    /// Ends all streams, each with its own time to come back at.
    pub fn end_streams(&mut self, now: Now) {
        self.streams.close_all(CloseReason::Shutdown, now);
    }

    /// Are answers still owed, or on their way out?
    pub fn owes_answers(&self) -> bool {
        self.connections
            .iter()
            .any(|(_, connection)| matches!(connection.state, State::Waiting(_)) || connection.has_output())
    }

    /// What is the case just now, for the metrics.
    pub fn gauges(&self) -> Gauges {
        let (projects, backlog_bytes) = self.streams.backlog_memory();
        Gauges {
            connections: self.connections.len(),
            streams: self.streams.len(),
            connections_max: self.settings.limits.connections,
            refused: self.refused,
            buffer_bytes: self.held,
            tickets: self.api.tickets().0,
            projects_watched: projects,
            backlog_bytes,
            stream_stats: self.streams.stats(),
        }
    }

    /// The number of the newest message that was broadcast, where the project is watched.
    #[cfg(test)]
    pub(super) fn newest_broadcast(&self, project: &ProjectId) -> Option<u64> {
        self.streams.newest(project)
    }

    /// How many addresses and tokens are counted: none once everyone has left.
    #[cfg(test)]
    pub(super) fn counted(&mut self) -> (usize, usize) {
        (self.addresses.len(), self.tokens.len())
    }

    /// `beyond` is the limit that the caller's connection is beyond.
    fn facts(&self, beyond: Option<Limit>, now: Now) -> Facts {
        let limits = &self.settings.limits;
        let full = beyond.map(|limit| match limit {
            Limit::ConnectionsPerAddress => Full::OfAddress(limits.per_address),
            _ => Full::Connections(limits.connections),
        });
        Facts { now, condition: self.condition(), full, door: Door::Main }
    }

    fn doom(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        if !matches!(connection.state, State::Doomed) {
            // Where it waited for a stream, what was taken for that goes back. What it publishes is published all the same.
            if let State::Waiting(waiting) = std::mem::replace(&mut connection.state, State::Doomed) {
                waiting.metered.map(Taken::keep);
            }
            // Nothing is due of it any more: a deadline would bring it back to life, only to end it twice.
            self.connections[index].deadline = None;
            self.doomed.push(index);
        }
    }

    /// Takes out what has ended in this turn.
    fn reap(&mut self, now: Now) {
        for (_, tally, _) in self.streams.reap(now) {
            self.release(tally);
        }
        for index in std::mem::take(&mut self.doomed) {
            let connection = self.connections.remove(index);
            self.refused -= usize::from(connection.beyond.is_some());
            self.held -= connection.weight;
            self.release(connection.tally);
        }
        if self.connections.is_empty() && self.connections.capacity() > 1024 {
            self.connections.shrink_to_fit();
        }
        if self.places.len() < self.places.capacity() / 4 {
            self.places.shrink_to_fit();
        }
    }

    /// A socket is gone.
    fn release(&mut self, tally: Tally) {
        self.places.remove(tally.socket as usize);
        self.addresses.release(tally.address);
        self.tokens.release(tally.token);
    }
}
