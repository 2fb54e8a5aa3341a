//! HTTP connections that are not event streams: what they read and write, and in which order.
//!
//! They are read and written in pieces of bounded size. A connection with more work than its piece is put in a list,
//! and continues after the others. The work for all of them in one turn is bounded too, so that no stream waits for
//! them. The memory of their requests and responses is accounted for. Nothing is freed inside a turn: a connection that
//! ends is marked, and [`reap`](Connections::reap) removes it at the end of the turn.

mod connection;
mod deadlines;
mod input;
mod reading;
mod sending;
mod weight;
mod writing;

use std::collections::VecDeque;
use std::time::Duration;

use slab::Slab;

pub(super) use self::connection::Connection;
use self::connection::State;
pub(super) use self::deadlines::Overdue;
pub use self::deadlines::Timeouts;
pub(super) use self::input::Input;
use super::allowance::Allowance;
use super::exchange::Exchange;
use super::refused::Limit;
use super::socket::Socket;
use super::sockets::PollToken;
use super::waiting::Waiting;
use crate::api::Door;
use crate::http::Limits;
use crate::log::Rest;
use crate::model::{Now, SlabKey, Taken};

/// The work for connections in one turn, in bytes read and written. More would delay streams, so the rest is done in
/// the next turn. The same amount is available for deferred work, and again for bodies that are being sent.
const WORK_PER_TURN: usize = 1024 * 1024;

/// The fixed cost of a request in bytes: 256 requests are the work of a turn, about 3 ms.
const WORK_PER_REQUEST: usize = 4096;

/// How long a connection beyond a limit may take to send the request that is refused: others need its place in the
/// reserve.
const REFUSED_WAIT: Duration = Duration::from_secs(2);

/// How often deadlines of connections are checked.
const SWEEP_INTERVAL: Duration = Duration::from_millis(250);

/// All HTTP connections.
pub(super) struct Connections<S> {
    http: Limits,
    timeouts: Timeouts,
    /// The most bytes that all of them may hold together.
    buffer_bytes_max: usize,
    slab: Slab<Connection<S>>,
    generation: u32,
    doomed: Vec<usize>,
    /// Connections that have more to read, without another event.
    unread: Vec<usize>,
    /// Connections that have more of a response to write, without another event, in the order of their turns.
    unwritten: VecDeque<usize>,
    /// The work done in this turn.
    work: usize,
    /// Whether reading has stopped: what clients send is for another process.
    is_deaf: bool,
    /// The bytes of large responses that may be sent now.
    contents: Allowance,
    /// The bytes that all of them buffer, beyond the free allowance of each.
    weight: usize,
    /// Sockets that were full for the first time.
    blocked: Vec<PollToken>,
    /// Requests to the log for the rest of responses.
    fetches: Vec<(SlabKey, Box<Rest>)>,
    next_sweep: Duration,
}

/// The sender of a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caller {
    /// Where its connection came in.
    pub(super) door: Door,
    /// The limit that the connection is beyond.
    pub(super) beyond: Option<Limit>,
    /// The number of its requests.
    pub(super) requests: u32,
}

/// A connection that becomes a stream.
#[derive(Debug)]
pub(super) struct Departed<S> {
    pub(super) socket: S,
    pub(super) token: PollToken,
    /// The bytes that were not written yet.
    pub(super) output: Vec<u8>,
    /// Whether there are unread bytes that the poll will not report again.
    pub(super) has_unread: bool,
}

impl<S: Socket> Connections<S> {
    /// None, that may hold so much together.
    pub(super) fn new(http: Limits, timeouts: Timeouts, buffer_bytes_max: usize) -> Self {
        Self {
            http,
            timeouts,
            buffer_bytes_max,
            slab: Slab::new(),
            generation: 0,
            doomed: Vec::new(),
            unread: Vec::new(),
            unwritten: VecDeque::new(),
            work: 0,
            is_deaf: false,
            contents: Allowance::default(),
            weight: 0,
            blocked: Vec::new(),
            fetches: Vec::new(),
            next_sweep: Duration::ZERO,
        }
    }

    /// How long a client may take for `what`.
    pub(super) fn time_limit(&self, what: Overdue) -> Duration {
        self.timeouts.of(what)
    }

    /// Adds a connection, and returns its index.
    pub(super) fn add(&mut self, mut connection: Connection<S>, now: Now) -> usize {
        self.generation = self.generation.wrapping_add(1);
        connection.generation = self.generation;
        let patience = self.timeouts.header;
        let patience = if connection.beyond.is_some() { patience.min(REFUSED_WAIT) } else { patience };
        connection.deadline = Some((now.mono + patience, Overdue::Idle));
        self.slab.insert(connection)
    }

    /// Stops reading, and decodes no further request.
    pub(super) fn stop_reading(&mut self) {
        self.is_deaf = true;
    }

    /// Takes the connections whose requests are all answered: their sockets, doors and unread input. No other method
    /// works afterwards.
    pub(super) fn take_passable(&mut self) -> Vec<(S, Door, Vec<u8>)> {
        let passable = |connection: &Connection<S>| {
            matches!(connection.state, State::Reading) && !connection.has_output() && connection.beyond.is_none()
        };
        let all = std::mem::take(&mut self.slab).into_iter().map(|(_, connection)| connection);
        let passed = all.filter(passable).map(|mut connection| {
            let input = connection.take_input().unread().to_vec();
            (connection.socket, connection.door, input)
        });
        passed.collect()
    }

    /// Adds the input of a connection that another process has passed on between two requests.
    pub(super) fn feed(&mut self, index: usize, input: &[u8], now: Now) {
        let Some(connection) = self.slab.get_mut(index) else { return };
        if connection.beyond.is_none() {
            connection.deadline = Some((now.mono + self.timeouts.idle, Overdue::Idle));
        }
        connection.feed(input);
    }

    /// The number of connections.
    pub(super) fn len(&self) -> usize {
        self.slab.len()
    }

    pub(super) fn socket(&mut self, index: usize) -> Option<&mut S> {
        self.slab.get_mut(index).map(|connection| &mut connection.socket)
    }

    /// The poll token of a connection's socket.
    pub(super) fn token(&self, index: usize) -> PollToken {
        self.slab[index].token()
    }

    /// The largest body of a request.
    pub(super) fn body_bytes_max(&self) -> usize {
        self.http.body_bytes
    }

    /// The poll token of a connection's socket, if the connection counts for a forwarded address.
    pub(super) fn token_of_proxy(&self, index: usize) -> Option<PollToken> {
        let connection = &self.slab[index];
        (connection.is_proxy && connection.beyond.is_none()).then(|| connection.token())
    }

    /// Refuses all further requests of a connection, because it is beyond a limit.
    pub(super) fn set_beyond(&mut self, index: usize, limit: Limit) {
        self.slab[index].beyond = Some(limit);
    }

    pub(super) fn caller(&self, index: usize) -> Caller {
        let Connection { door, beyond, requests, .. } = self.slab[index];
        Caller { door, beyond, requests }
    }

    /// Begins the next of the parts into which the work of a turn is divided.
    pub(super) fn renew_budget(&mut self) {
        self.work = 0;
    }

    /// Whether there is more to do at once.
    pub(super) fn is_busy(&mut self, now: Now) -> bool {
        !self.unread.is_empty() || (!self.unwritten.is_empty() && self.contents.has_any(now.mono))
    }

    /// Whether any response is outstanding or still being written.
    pub(super) fn owes_answers(&self) -> bool {
        let is_owed = |connection: &Connection<S>| matches!(connection.state, State::Waiting(_));
        self.slab.iter().any(|(_, connection)| is_owed(connection) || connection.has_output())
    }

    /// Takes the sockets that were full for the first time.
    pub(super) fn take_blocked(&mut self) -> Vec<PollToken> {
        std::mem::take(&mut self.blocked)
    }

    /// The next request to the log, and the connection that waits for it.
    pub(super) fn next_fetch(&mut self) -> Option<(SlabKey, Box<Rest>)> {
        self.fetches.pop()
    }

    /// Notes a publish to a project whose streams keep up.
    pub(super) fn note_publish(&mut self, now: Now) {
        self.contents.note_publish(now.mono);
    }

    /// When large responses that are held back may continue, if there are any.
    pub(super) fn next_release(&self) -> Option<Duration> {
        if self.unwritten.is_empty() { None } else { self.contents.next_at() }
    }

    /// When [`take_overdue`](Self::take_overdue) has something to do next.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        (!self.slab.is_empty()).then_some(self.next_sweep)
    }

    /// The connections that are overdue, if it is time to check.
    pub(super) fn take_overdue(&mut self, now: Now) -> Option<Vec<(usize, Overdue)>> {
        if now.mono < self.next_sweep {
            return None;
        }
        self.next_sweep = now.mono + SWEEP_INTERVAL;
        let deadlines = self.slab.iter().filter_map(|(index, connection)| Some((index, connection.deadline?)));
        let overdue = deadlines.filter(|(_, (at, _))| now.mono >= *at).map(|(index, (_, what))| (index, what));
        Some(overdue.collect())
    }

    /// Makes a request wait for an answer, and returns the key for that answer.
    pub(super) fn wait(&mut self, waiting: Waiting) -> SlabKey {
        // A late answer to an earlier request of this connection must not answer this one.
        self.generation = self.generation.wrapping_add(1);
        let index = waiting.exchange.index;
        let connection = &mut self.slab[index];
        connection.generation = self.generation;
        connection.state = State::Waiting(Box::new(waiting));
        SlabKey::new(index as u32, self.generation)
    }

    /// The request that waits for this answer, if it still does.
    pub(super) fn waiting(&mut self, to: SlabKey) -> Option<&mut Waiting> {
        match &mut self.asking(to)?.state {
            State::Waiting(waiting) => Some(waiting),
            _ => None,
        }
    }

    /// Like [`waiting`](Self::waiting), and ends the wait.
    pub(super) fn take_waiting(&mut self, to: SlabKey) -> Option<Waiting> {
        self.waiting(to)?;
        match std::mem::replace(&mut self.slab[to.index()].state, State::Reading) {
            State::Waiting(waiting) => Some(*waiting),
            _ => None,
        }
    }

    /// The connection that asked for this answer, if it is still there.
    fn asking(&mut self, to: SlabKey) -> Option<&mut Connection<S>> {
        self.slab.get_mut(to.index()).filter(|connection| connection.generation == to.generation())
    }

    /// Removes a connection whose socket becomes that of a stream.
    pub(super) fn depart(&mut self, index: usize) -> Departed<S> {
        let mut connection = self.slab.remove(index);
        self.weight -= connection.weight;
        Departed {
            token: connection.token(),
            output: connection.take_output(),
            has_unread: connection.has_unread || connection.is_half_closed,
            socket: connection.socket,
        }
    }

    /// Ends a connection. Its buffers stay until the end of the turn, but what was taken for its request is given back
    /// at once.
    pub(super) fn doom(&mut self, index: usize) {
        let connection = &mut self.slab[index];
        if matches!(connection.state, State::Doomed) {
            return;
        }
        if let State::Waiting(waiting) = std::mem::replace(&mut connection.state, State::Doomed) {
            // The messages are published anyway.
            waiting.metered.map(Taken::keep);
        }
        // A deadline would only end it a second time.
        connection.deadline = None;
        self.doomed.push(index);
    }

    /// Removes the ended connections. `forget` gets the poll token of each.
    pub(super) fn reap(&mut self, mut forget: impl FnMut(PollToken)) {
        while let Some(index) = self.doomed.pop() {
            let connection = self.slab.remove(index);
            self.weight -= connection.weight;
            forget(connection.token());
        }
        if self.slab.is_empty() && self.slab.capacity() > 1024 {
            self.slab.shrink_to_fit();
        }
    }
}
