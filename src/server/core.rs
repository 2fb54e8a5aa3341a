//! The server without the operating system: sockets, readiness, answers and `now` come in; bytes leave through the
//! sockets, and commands through the [`Outbox`].
//!
//! Its state is in four parts that do not know each other. [`Admission`] enforces limits, [`Connections`] reads
//! requests and writes responses, [`Replies`] tracks questions to other threads, and the [`ConnectionManager`] knows
//! which stream follows which project. The server connects them: it defines the order of things in a turn, and what a
//! request, an answer and the start of a stream need from each part.

mod answers;
mod bundles;
mod conversations;
mod keys;
mod requests;
mod streams;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::admission::{Admission, Admitted, ConnectionLimits};
use super::connections::{Connection, Connections, Timeouts};
use super::date::Date;
use super::inbox::Inbox;
use super::intake::too_many_plans;
use super::key_wait::KeyWait;
use super::metrics::{Gauges, Metrics};
use super::refused::Limit;
use super::replies::{Outbox, Replies};
use super::socket::Socket;
use super::sockets::{Owner, PollToken, Sockets};
use super::tls::TlsCounts;
use super::turns::Turns;
use crate::api::{Api, Door};
use crate::cluster::Vitals;
use crate::executor::tool::UsageFaults;
use crate::http::{Limits, Problem, Response};
use crate::log::{StoreCounts, Watchers};
#[cfg(test)]
use crate::model::ProjectId;
use crate::model::{Now, SlabKey};
use crate::schedules;
use crate::stream::{CloseReason, ConnectionManager, Settings};
use crate::webhooks::Board;

/// The most writes of broadcasts before the other sockets are served again.
const FLUSH_WRITES_MAX: usize = 128;

/// The most streams checked per turn in the regular sweep.
const SWEEP_STREAMS_MAX: usize = 512;

/// The size of the buffer that all sockets are read into.
const SCRATCH_BYTES: usize = 64 * 1024;

/// The settings of the server.
#[derive(Debug, Clone)]
pub struct ServerSettings {
    /// The settings of streams.
    pub streams: Settings,
    /// The limits of a request.
    pub http: Limits,
    /// The timeouts of a connection.
    pub timeouts: Timeouts,
    /// All other limits.
    pub limits: ConnectionLimits,
}

/// What metrics show of a node of a cluster.
pub struct Node {
    /// Whether it is alive.
    pub vitals: Arc<Vitals>,
    /// Counts of the store.
    pub counts: Arc<StoreCounts>,
}

/// The server without the operating system.
pub struct Server<S> {
    api: Api,
    admission: Admission,
    sockets: Sockets,
    connections: Connections<S>,
    streams: ConnectionManager<S>,
    replies: Replies,
    turns: Turns,
    /// Requests that wait for keys of an identity provider.
    key_wait: KeyWait,
    /// The published numbers of streams per project.
    watchers: Watchers,
    /// Usage reported by tools that could not be read, by tool.
    usage_faults: BTreeMap<Arc<str>, Arc<UsageFaults>>,
    /// The state of the webhooks.
    webhooks: Arc<Board>,
    /// The outcomes of schedule firings.
    firings: Arc<schedules::Board>,
    /// The node of a cluster, if this server is one.
    node: Option<Node>,
    /// Counts of TLS, if it is enabled.
    tls: Option<Arc<TlsCounts>>,
    scratch: Box<[u8]>,
    date: Date,
    is_drained: bool,
    /// Whether all streams were ended because the server is stopping.
    are_streams_ended: bool,
    /// Counters.
    pub metrics: Metrics,
}

impl<S: Socket> Server<S> {
    /// Creates a server without connections. `seed` spreads reconnection times.
    pub fn new(settings: ServerSettings, api: Api, seed: u64) -> Self {
        let ServerSettings { streams, http, timeouts, limits } = settings;
        let streams = ConnectionManager::new(streams, api.signer().clone(), seed);
        Self {
            api,
            sockets: Sockets::default(),
            connections: Connections::new(http, timeouts, limits.buffer_bytes),
            admission: Admission::new(limits),
            streams,
            replies: Replies::default(),
            turns: Turns::default(),
            key_wait: KeyWait::default(),
            watchers: Watchers::default(),
            usage_faults: BTreeMap::new(),
            webhooks: Arc::default(),
            firings: Arc::default(),
            node: None,
            tls: None,
            scratch: vec![0; SCRATCH_BYTES].into_boxed_slice(),
            date: Date::default(),
            is_drained: false,
            are_streams_ended: false,
            metrics: Metrics::default(),
        }
    }

    /// Sets where to publish the numbers of streams per project.
    pub fn count_watchers(&mut self, watchers: Watchers) {
        self.watchers = watchers;
    }

    /// Sets the tools whose unreadable usage metrics show.
    pub fn show_usage_faults(&mut self, faults: &BTreeMap<Arc<str>, Arc<UsageFaults>>) {
        self.usage_faults.clone_from(faults);
    }

    /// Sets the webhooks that metrics show.
    pub fn show_webhooks(&mut self, webhooks: Arc<Board>) {
        self.webhooks = webhooks;
    }

    /// Sets the schedules that metrics show.
    pub fn show_firings(&mut self, firings: Arc<schedules::Board>) {
        self.firings = firings;
    }

    /// Sets the node that metrics show.
    pub fn show_node(&mut self, node: Node) {
        self.node = Some(node);
    }

    /// Sets the TLS counters that metrics show.
    pub fn show_tls(&mut self, counts: Arc<TlsCounts>) {
        self.tls = Some(counts);
    }

    /// Accepts a client. Returns the token to poll its socket for input; once it is among the
    /// [blocked](Self::take_blocked), poll it for room, too.
    ///
    /// # Errors
    /// The socket, to be closed: there is not even room to refuse it.
    pub fn accept(&mut self, socket: S, peer: IpAddr, door: Door, now: Now) -> Result<PollToken, S> {
        let open = self.connections.len() + self.streams.len();
        let Some(Admitted { counted, is_proxy, beyond }) = self.admission.admit(peer, open) else {
            self.metrics.count_dropped(Limit::Reserve);
            return Err(socket);
        };
        if let Some(limit) = beyond {
            self.metrics.refused.count(limit);
        }
        self.metrics.connections_accepted += 1;
        let token = self.sockets.next_token();
        let index = self.connections.add(Connection::new(socket, token, door, is_proxy, beyond), now);
        self.sockets.add(index, counted);
        Ok(token)
    }

    /// Counts a connection that was closed because there was no descriptor.
    pub fn count_unheard(&mut self) {
        self.metrics.count_dropped(Limit::Descriptors);
    }

    /// Closes the connection or stream of a socket that can't be polled.
    pub fn abandon(&mut self, token: PollToken) {
        match self.sockets.owner(token) {
            Some(Owner::Connection(index)) => self.connections.doom(index as usize),
            Some(Owner::Stream(index)) => self.streams.hangup(index as usize),
            None => {}
        }
    }

    /// The socket that belongs to a token.
    pub fn socket(&mut self, token: PollToken) -> Option<&mut S> {
        match self.sockets.owner(token)? {
            Owner::Connection(index) => self.connections.socket(index as usize),
            Owner::Stream(index) => self.streams.socket(index as usize),
        }
    }

    /// Reads from a socket that is readable. If the other side has closed (`is_closed`), reads to the end.
    pub fn readable(&mut self, token: PollToken, is_closed: bool, now: Now) {
        match self.sockets.owner(token) {
            Some(Owner::Connection(index)) => self.read_connection(index as usize, is_closed, now),
            Some(Owner::Stream(index)) => self.read_stream(index as usize),
            None => {}
        }
    }

    /// Continues to write to a socket that has room again.
    pub fn writable(&mut self, token: PollToken, now: Now) {
        match self.sockets.owner(token) {
            Some(Owner::Connection(index)) => self.connections.writable(index as usize, now),
            Some(Owner::Stream(index)) => self.streams.writable(index as usize, now),
            None => {}
        }
    }

    /// Handles a message of another thread.
    pub fn receive(&mut self, inbox: Inbox, now: Now) {
        match inbox {
            Inbox::Log(deliveries) => deliveries.into_iter().for_each(|delivery| self.deliver(delivery, now)),
            Inbox::Answer(to, response) => self.answer_waiting(to, *response, now),
            Inbox::Keys(news) => self.receive_keys(news),
            Inbox::Drained => self.is_drained = true,
        }
    }

    /// Ends a turn, after all events of the turn: writes, checks deadlines, and removes what has ended. Returns `true`
    /// if there is more to do at once.
    pub fn end_turn(&mut self, now: Now) -> bool {
        self.give_held_answers(now);
        self.ask_where_to_begin(now);
        self.ask_where_bundles_begin(now);
        self.end_key_wait(now);
        self.connections.renew_budget();
        self.connections.write_bodies(now);
        self.connections.renew_budget();
        for index in self.connections.take_unread() {
            self.read_connection(index, true, now);
        }
        self.connections.renew_budget();
        self.shed(now);
        if self.are_streams_ended {
            self.end_streams(now);
        }
        let has_more_writes = self.streams.flush(FLUSH_WRITES_MAX, now);
        let has_more_streams = self.streams.tick(SWEEP_STREAMS_MAX, now);
        self.end_overdue(now);
        self.reap(now);
        self.tell_watchers();
        self.read_on(now);
        let has_more_to_begin = self.replies.has_next_bundle(now);
        has_more_writes || has_more_streams || has_more_to_begin || self.connections.is_busy(now)
    }

    /// Removes connections and streams that have ended in this turn.
    fn reap(&mut self, now: Now) {
        for (_, token, _) in self.streams.reap(now) {
            self.sockets.remove(PollToken(token as usize));
        }
        self.connections.reap(|token| self.sockets.remove(token));
        self.sockets.shrink();
    }

    /// When there is something to do next, even if no event comes.
    pub fn next_deadline(&self) -> Option<Duration> {
        let deadlines = [
            self.connections.next_deadline(),
            self.next_release(),
            self.streams.next_deadline(),
            self.key_wait.deadline(),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// When to continue the next thing that is held back, if any.
    pub(super) fn next_release(&self) -> Option<Duration> {
        let replies = self.replies.next_deadline(self.streams.waits_for_pages());
        [self.connections.next_release(), replies].into_iter().flatten().min()
    }

    /// Takes the commands for other threads.
    pub fn take_outbox(&mut self) -> Outbox {
        Outbox { keys: self.key_wait.take_wish(), ..self.replies.take_outbox() }
    }

    /// Takes the sockets that were full for the first time: poll them for room, too, from now on. Most never get full,
    /// and polling all for room would cost each an event when it connects.
    pub fn take_blocked(&mut self) -> Vec<PollToken> {
        let mut blocked = self.connections.take_blocked();
        blocked.extend(self.streams.take_blocked().into_iter().map(|token| PollToken(token as usize)));
        blocked
    }

    /// Refuses a plan for which the intake has no room.
    pub fn refuse_plan(&mut self, to: SlabKey, now: Now) {
        let problem = Problem::too_many("too_many_plans", too_many_plans(), 1);
        self.metrics.count_problem(&problem);
        self.answer_waiting(to, Response::from(problem), now);
    }

    /// Refuses new work from now on.
    pub fn drain(&mut self) {
        self.admission.drain();
    }

    /// Whether all work has stopped, so that the streams can be ended.
    pub fn is_drained(&self) -> bool {
        self.is_drained
    }

    /// Whether the queue of the log is full.
    pub fn set_log_full(&mut self, is_full: bool) {
        self.admission.set_log_full(is_full);
    }

    /// Records rounds of writes that have ended. `clock` returns the time at which they have.
    pub fn record_fanouts(&mut self, clock: impl FnOnce() -> Now) {
        let rounds = self.streams.take_rounds_ended();
        if !rounds.is_empty() {
            let now = clock();
            rounds.into_iter().for_each(|since| self.metrics.fan_out.record(now.mono.saturating_sub(since)));
        }
    }

    /// Ends all streams, each with its own reconnection time, and from now on also the streams that were requested
    /// before and begin only now.
    pub fn end_streams(&mut self, now: Now) {
        self.are_streams_ended = true;
        self.streams.close_all(CloseReason::Shutdown, now);
    }

    /// Reads no more requests, and ends all streams so that they soon reconnect to the process that takes over.
    pub fn leave_to_another(&mut self, now: Now) {
        self.connections.stop_reading();
        self.streams.expect_back_soon();
        self.end_streams(now);
    }

    /// Takes the connections that another process can continue: their sockets, where they came in, and input that was
    /// read but not answered.
    pub fn take_passable(&mut self) -> Vec<(S, Door, Vec<u8>)> {
        self.connections.take_passable()
    }

    /// Adds the input of a connection that another process has passed on.
    pub fn feed(&mut self, token: PollToken, input: &[u8], now: Now) {
        let Some(Owner::Connection(index)) = self.sockets.owner(token) else { return };
        self.connections.feed(index as usize, input, now);
        if !input.is_empty() {
            self.serve_requests(index as usize, now);
        }
    }

    /// Whether any response is outstanding or still being written.
    pub fn owes_answers(&self) -> bool {
        self.connections.owes_answers()
    }

    /// The current gauges.
    pub fn gauges(&self) -> Gauges {
        let (projects, backlog_bytes) = self.streams.backlog_memory();
        Gauges {
            connections: self.connections.len(),
            streams: self.streams.len(),
            retold: self.streams.retold(),
            streams_of_several: self.streams.of_several(),
            connections_max: self.admission.connections_max(),
            refused: self.admission.refused(),
            buffer_bytes: self.connections.held(),
            tickets: self.api.tickets().0,
            projects_watched: projects,
            backlog_bytes,
            stream_stats: self.streams.stats(),
        }
    }
}

#[cfg(test)]
impl<S: Socket> Server<S> {
    /// The number of the newest broadcast message, if the project is watched.
    pub(super) fn newest_broadcast(&self, project: &ProjectId) -> Option<u64> {
        self.streams.newest(project)
    }

    /// The number of counted addresses and tokens: 0 once everyone has left.
    pub(super) fn counted(&self) -> (usize, usize) {
        self.admission.counted()
    }
}
