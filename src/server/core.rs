//! The server without the operating system: sockets, readiness, answers and `now` come in; bytes go out through the
//! sockets, and commands through the [`Outbox`].

mod answers;
mod requests;
mod shed;
mod streams;
mod token;

use std::net::IpAddr;
use std::time::Duration;

use slab::Slab;

use super::connection::{Connection, Overdue, Socket, State, Timeouts, What};
use super::inbox::Inbox;
use super::limits::{ConnectionLimits, Counts, PublishMeter, counted_address};
use super::metrics::{Gauges, Metrics};
use super::refused::Limit;
use crate::api::{Api, Condition, Door, Facts, PlanRequest};
use crate::http::{Limits, Problem};
use crate::log::Command;
use crate::model::Now;
use crate::stream::{CloseReason, ConnectionManager, Settings, StreamKey, Tally};
use token::GENERATION_MASK;
pub use token::Token;

/// Writes of broadcasts made before the other sockets are looked at again.
const FLUSH_WRITES_MAX: usize = 512;

/// Streams looked after in one turn's slice of the sweep.
const SWEEP_STREAMS_MAX: usize = 512;

/// What is done for connections in one turn, in bytes read and answered: more would keep the streams waiting. The rest is
/// done in the next turn. As much again is there for what was put off.
const WORK_PER_TURN: usize = 4 * 1024 * 1024;

/// What a request costs besides, as if it were so many bytes: 1,024 of them are a turn's work, some 10 ms.
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
    connections: Slab<Connection<S>>,
    streams: ConnectionManager<S>,
    generation: u32,
    doomed: Vec<usize>,
    /// Connections that have more to read, of which no event will tell.
    unread: Vec<usize>,
    /// What was done for connections in this turn.
    work: usize,
    /// What connections hold in all, but for what each of them may keep.
    held: usize,
    scratch: Box<[u8]>,
    outbox: Outbox,
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
    /// Sockets that became streams: the poll is to know them by these from now on.
    moved: Vec<StreamKey>,
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
            settings,
            api,
            connections: Slab::new(),
            generation: 0,
            doomed: Vec::new(),
            unread: Vec::new(),
            work: 0,
            held: 0,
            scratch: vec![0; 64 * 1024].into_boxed_slice(),
            outbox: Outbox::default(),
            is_draining: false,
            is_drained: false,
            store_is_down: false,
            is_behind: false,
            refused: 0,
            addresses: Counts::default(),
            tokens: Counts::default(),
            meter: PublishMeter::default(),
            next_deadline_sweep: Duration::ZERO,
            moved: Vec::new(),
            date: (u64::MAX, String::new()),
            random: seed.rotate_left(32) | 1,
            metrics: Metrics::default(),
        }
    }

    /// A client has connected. The token to watch its socket by, or the socket back where there is no room even to say
    /// so.
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
            (connection.is_refused, patience) = (true, patience.min(REFUSED_WAIT));
            self.refused += 1;
            self.metrics.refused.count(limit);
        }
        connection.deadline = Some((now.mono + patience, Overdue::Idle));
        self.metrics.connections_accepted += 1;
        Ok(Token::connection(self.connections.insert(connection)))
    }

    /// A connection was closed for want of a descriptor.
    pub fn count_unheard(&mut self) {
        self.metrics.connections_dropped += 1;
        self.metrics.refused.count(Limit::Descriptors);
    }

    /// A connection whose socket can't be watched is given up.
    pub fn abandon(&mut self, token: Token) {
        if token.is_connection() && self.connections.contains(token.index()) {
            self.doom(token.index());
        }
    }

    /// The socket that a token names.
    pub fn socket(&mut self, token: Token) -> Option<&mut S> {
        match token.is_connection() {
            true => self.connections.get_mut(token.index()).map(|connection| &mut connection.socket),
            false => self.streams.socket(token.index()),
        }
    }

    /// A socket has something to read, or its other side has closed: then `is_closed`, and it is read to its end.
    pub fn readable(&mut self, token: Token, is_closed: bool, now: Now) {
        match token.is_connection() {
            true => self.read_connection(token.index(), is_closed, now),
            false => self.read_stream(token.index()),
        }
    }

    /// A socket takes bytes again.
    pub fn writable(&mut self, token: Token, now: Now) {
        match token.is_connection() {
            true => self.flush_connection(token.index(), now),
            false => self.streams.writable(token.index(), now),
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
            let facts = self.facts(false, now);
            self.api.forget_expired(&facts);
        }
        self.reap(now);
        self.carry_out_effects();
        has_more_writes || has_more_streams || !self.unread.is_empty()
    }

    /// When there is something to do next though nothing comes.
    pub fn next_deadline(&self) -> Option<Duration> {
        let connections = (!self.connections.is_empty()).then_some(self.next_deadline_sweep);
        [connections, self.streams.next_deadline()].into_iter().flatten().min()
    }

    /// Takes what is to be carried out.
    pub fn take_outbox(&mut self) -> Outbox {
        // The next turn will want about as much room as this one: growing to it moves every command several times.
        let next = Outbox { log: Vec::with_capacity(self.outbox.log.len()), intake: Vec::new() };
        std::mem::replace(&mut self.outbox, next)
    }

    /// Takes the streams that began: each with its socket, to be watched by the token from now on.
    pub fn take_moved(&mut self) -> Vec<Token> {
        std::mem::take(&mut self.moved).into_iter().map(|key| Token::stream(key.index())).collect()
    }

    /// A plan that the intake has no room for is refused.
    pub fn refuse_plan(&mut self, to: u64, now: Now) {
        let problem = Problem::too_many("too_many_plans", "as many plans wait to be checked as may", 1);
        self.count_refused(&problem);
        self.answer_waiting(to, problem.into(), now);
    }

    /// Takes no new work from now on.
    pub fn drain(&mut self) {
        self.is_draining = true;
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

    /// How many addresses and tokens are counted: none once everyone has left.
    #[cfg(test)]
    pub(super) fn counted(&self) -> (usize, usize) {
        (self.addresses.len(), self.tokens.len())
    }

    fn facts(&self, is_full: bool, now: Now) -> Facts {
        Facts { now, condition: self.condition(), is_full, door: Door::Main }
    }

    fn doom(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        if !matches!(connection.state, State::Doomed) {
            if let State::Waiting(waiting) = std::mem::replace(&mut connection.state, State::Doomed)
                && let What::Stream(attaching) = waiting.what
            {
                self.tokens.release(attaching.tally.token);
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
            self.refused -= usize::from(connection.is_refused);
            self.held -= connection.weight;
            self.release(connection.tally);
        }
        if self.connections.is_empty() && self.connections.capacity() > 1024 {
            self.connections.shrink_to_fit();
        }
    }

    fn release(&mut self, tally: Tally) {
        self.addresses.release(tally.address);
        self.tokens.release(tally.token);
    }
}
