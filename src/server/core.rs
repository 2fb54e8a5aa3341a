//! The server without the operating system: sockets, readiness, answers and `now` come in; bytes go out through the
//! sockets, and commands through the [`Outbox`].

use std::net::IpAddr;
use std::time::Duration;

use slab::Slab;

use super::attach::{self, Attaching, Beginning, Greeting};
use super::connection::{Connection, Framing, Got, LINGER, Overdue, Socket, State, Timeouts, Waiting, What};
use super::inbox::Inbox;
use super::limits::{ConnectionLimits, Counts, PublishMeter, counted_address, forwarded_address};
use super::metrics::{Gauges, Metrics};
use crate::api::{Action, Api, Ask, Call, Condition, Door, Facts, PlanRequest, Render, StreamRequest};
use crate::http::{Limits, Method, Problem, Request, Response, Verdict, write_stream_head};
use crate::log::{Answer, Attached, Command, Delivery, Query, Refusal, ReplyTo, Resume};
use crate::model::{Now, ProjectId};
use crate::stream::{CloseReason, ConnectionManager, Effect, NewStream, Settings, StreamKey, Tally};

/// Writes of broadcasts made before the other sockets are looked at again.
const FLUSH_WRITES_MAX: usize = 512;

/// Streams looked after in one turn's slice of the sweep.
const SWEEP_STREAMS_MAX: usize = 512;

/// Requests of one connection served before the other sockets get their turn.
const REQUESTS_MAX: usize = 64;

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

/// Which socket: what the poll knows it by. Even numbers are connections, odd ones streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token(pub usize);

impl Token {
    fn connection(index: usize) -> Self {
        Self(index * 2)
    }

    fn stream(index: usize) -> Self {
        Self(index * 2 + 1)
    }

    fn is_connection(self) -> bool {
        self.0.is_multiple_of(2)
    }

    /// The place in its slab.
    fn index(self) -> usize {
        self.0 / 2
    }
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
    scratch: Box<[u8]>,
    outbox: Outbox,
    is_draining: bool,
    is_drained: bool,
    store_is_down: bool,
    /// The log has no room for more.
    is_behind: bool,
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
            scratch: vec![0; 64 * 1024].into_boxed_slice(),
            outbox: Outbox::default(),
            is_draining: false,
            is_drained: false,
            store_is_down: false,
            is_behind: false,
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
        let in_use = self.connections.len() + self.streams.len();
        let limits = &self.settings.limits;
        if in_use >= limits.connections + limits.reserve {
            self.metrics.connections_dropped += 1;
            return Err(socket);
        }
        self.generation = (self.generation + 1) & GENERATION_MASK;
        let mut connection = Connection::new(socket, self.generation);
        connection.is_refused = in_use >= limits.connections;
        connection.door = door;
        connection.is_proxy = limits.trusted_proxies.iter().any(|cidr| cidr.contains(peer));
        if !connection.is_proxy {
            connection.tally.address = self.addresses.take(counted_address(peer), limits.per_address);
            connection.is_refused |= connection.tally.address.is_none();
        }
        connection.deadline = Some((now.mono + self.settings.timeouts.header, Overdue::Idle));
        self.metrics.connections_accepted += 1;
        Ok(Token::connection(self.connections.insert(connection)))
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

    /// A socket has something to read, or its other side has closed.
    pub fn readable(&mut self, token: Token, now: Now) {
        match token.is_connection() {
            true => self.read_connection(token.index(), now),
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
        for index in std::mem::take(&mut self.unread) {
            self.read_connection(index, now);
        }
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
        std::mem::take(&mut self.outbox)
    }

    /// Takes the streams that began: each with its socket, to be watched by the token from now on.
    pub fn take_moved(&mut self) -> Vec<Token> {
        std::mem::take(&mut self.moved).into_iter().map(|key| Token::stream(key.index())).collect()
    }

    /// A plan that the intake has no room for is refused.
    pub fn refuse_plan(&mut self, to: u64, now: Now) {
        let problem = Problem::too_many("too_many_requests", "as many plans wait to be checked as may", 1);
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

    fn read_stream(&mut self, index: usize) {
        let Some(socket) = self.streams.socket(index) else { return };
        // A client of a stream has nothing to say; what it says is read and dropped, its leaving is not.
        for _ in 0..4 {
            match socket.read(&mut self.scratch) {
                Ok(0) => return self.streams.hangup(index),
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                Err(_) => return self.streams.hangup(index),
            }
        }
        // Whoever talks that much is no subscriber.
        self.streams.hangup(index);
    }

    fn read_connection(&mut self, index: usize, now: Now) {
        let Some(connection) = self.connections.get_mut(index) else { return };
        match connection.read(&mut self.scratch, &self.settings.http) {
            Got::Gone => return self.doom(index),
            Got::More if connection.wants_request() || matches!(connection.state, State::Closing) => {
                self.unread.push(index);
            }
            Got::More | Got::All => {}
        }
        self.serve_requests(index, now);
    }

    /// Looks at what has been read: requests, one after the other, until one has to wait, there is no more, or the others
    /// must have their turn.
    fn serve_requests(&mut self, index: usize, now: Now) {
        let mut left = REQUESTS_MAX;
        while self.serve_next(index, now) {
            left -= 1;
            if left == 0 {
                self.unread.push(index);
                break;
            }
        }
        self.flush_connection(index, now);
    }

    /// Serves one request, if all of it has been read. `true` where there may be another behind it.
    fn serve_next(&mut self, index: usize, now: Now) -> bool {
        let Some(connection) = self.connections.get_mut(index) else { return false };
        if !connection.wants_request() {
            return false;
        }
        let (input, start, decoder) = connection.take_input();
        match decoder.decode(&input[start..], &self.settings.http) {
            Verdict::NeedMore { phase, send_continue } => {
                connection.consume(input, 0);
                connection.set_deadline(phase, now.mono, &self.settings.timeouts);
                if send_continue {
                    connection.write_raw(b"HTTP/1.1 100 Continue\r\n\r\n");
                }
                if connection.is_half_closed {
                    connection.state = State::Closing;
                }
                false
            }
            Verdict::Complete { request, consumed } => {
                connection.end_wait();
                self.metrics.requests += 1;
                self.serve_request(index, &request, now);
                if let Some(connection) = self.connections.get_mut(index) {
                    connection.consume(input, consumed);
                }
                true
            }
            Verdict::Reject(problem) => {
                self.reject(index, problem, &input[start..], now);
                false
            }
        }
    }

    /// Answers what is no request, or none that came in time, and closes. `input` is what there is of it: where its head
    /// is whole, a page of a listed origin may read why.
    fn reject(&mut self, index: usize, problem: Problem, input: &[u8], now: Now) {
        self.metrics.count_response(problem.status);
        self.refresh_date(now);
        let headers = self.api.headers_of_refusal(input);
        let response = headers.into_iter().fold(Response::from(problem), |to, (name, value)| to.header(name, value));
        self.connections[index].reject(&response, &self.date.1);
    }

    fn serve_request(&mut self, index: usize, request: &Request, now: Now) {
        let framing = Framing {
            version: request.version,
            keep_alive: request.keep_alive,
            head_only: request.method == Method::Head,
        };
        self.count_forwarded(index, request);
        let connection = &self.connections[index];
        let facts = Facts { door: connection.door, ..self.facts(connection.is_refused, now) };
        let Call { action, headers } = self.api.handle(request, &facts);
        match action {
            Action::Answer(response) => self.answer(index, response, framing, headers, now),
            Action::Metrics => {
                let text = self.metrics.render(&self.gauges());
                let response = Response::new(200).content("text/plain; version=0.0.4; charset=utf-8", text);
                self.answer(index, response, framing, headers, now);
            }
            Action::Subscribers(project) => {
                let body = format!("{{\"count\":{}}}", self.streams.subscribers(&project));
                self.answer(index, Response::json(200, body), framing, headers, now);
            }
            Action::Busy(project) => {
                if let Some(note) = self.api.extend_ticket(request, &facts) {
                    self.outbox.log.push(Command::Note { note, reply: None });
                }
                self.answer_busy(index, &project, framing, headers, now);
            }
            Action::Ask(ask, render) => self.ask(index, ask, render, framing, headers, now),
            Action::Stream(wanted) => self.begin_stream(index, *wanted, framing, headers, now),
        }
    }

    /// A connection of a trusted proxy counts for the address that it forwards.
    fn count_forwarded(&mut self, index: usize, request: &Request) {
        let connection = &mut self.connections[index];
        if !connection.is_proxy {
            return;
        }
        let limits = &self.settings.limits;
        let forwarded = forwarded_address(request.headers.all("x-forwarded-for"), &limits.trusted_proxies);
        self.addresses.release(connection.tally.address.take());
        if let Some(address) = forwarded {
            connection.tally.address = self.addresses.take(counted_address(address), limits.per_address);
            connection.is_refused |= connection.tally.address.is_none();
        }
    }

    fn answer(
        &mut self,
        index: usize,
        mut response: Response,
        framing: Framing,
        headers: Vec<(&'static str, String)>,
        now: Now,
    ) {
        for (name, value) in headers {
            response = response.header(name, value);
        }
        self.metrics.count_response(response.status);
        self.refresh_date(now);
        self.connections[index].answer(&response, framing, &self.date.1);
    }

    /// Answers 200 and, unless only the head was asked for, the one message that says when to come back.
    fn answer_busy(
        &mut self,
        index: usize,
        project: &ProjectId,
        framing: Framing,
        headers: Vec<(&'static str, String)>,
        now: Now,
    ) {
        let mut body = self.stream_head(&headers, now);
        if !framing.head_only {
            let base = self.settings.streams.retry_ms.max(1);
            let retry = base + self.next_random() % base;
            attach::write_busy(&mut body, project, retry);
        }
        self.metrics.streams_refused += 1;
        let connection = &mut self.connections[index];
        connection.write_raw(&body);
        connection.state = State::Closing;
    }

    fn stream_head(&mut self, headers: &[(&'static str, String)], now: Now) -> Vec<u8> {
        self.refresh_date(now);
        self.metrics.count_response(200);
        let mut head = Vec::with_capacity(512);
        write_stream_head(&mut head, &self.date.1, headers.iter().map(|(name, value)| (*name, value.as_str())));
        head
    }

    fn ask(
        &mut self,
        index: usize,
        ask: Ask,
        render: Render,
        framing: Framing,
        headers: Vec<(&'static str, String)>,
        now: Now,
    ) {
        if let (Ask::Publish(_, events), Render::Published { token_key: Some(token), .. }) = (&ask, &render) {
            let rate = self.settings.limits.publish_rate;
            if !self.meter.take(*token, events.len(), rate, now.mono) {
                let detail = format!("this token may publish {rate} messages a second");
                let problem = Problem::too_many("publish_rate", detail, 1);
                return self.answer(index, problem.into(), framing, headers, now);
            }
        }
        let to = self.wait(index, What::Answer(render), framing, headers);
        let reply = ReplyTo::Loop(to);
        match ask {
            Ask::Publish(project, events) => {
                self.metrics.messages_in += events.len() as u64;
                self.outbox.log.push(Command::Publish { project, events, reply });
            }
            Ask::Cancel(project, run) => self.outbox.log.push(Command::Cancel { project, run, reply }),
            Ask::Read(query) => self.outbox.log.push(Command::Read { query, reply }),
            Ask::Plan(request) => self.outbox.intake.push((to, request)),
        }
    }

    /// The connection waits for an answer; the number that it will come with.
    fn wait(&mut self, index: usize, what: What, framing: Framing, headers: Vec<(&'static str, String)>) -> u64 {
        let connection = &mut self.connections[index];
        connection.state = State::Waiting(Box::new(Waiting { what, framing, headers }));
        reply_number(Waiter::Connection { index: index as u32, generation: connection.generation })
    }

    fn begin_stream(
        &mut self,
        index: usize,
        wanted: StreamRequest,
        framing: Framing,
        headers: Vec<(&'static str, String)>,
        now: Now,
    ) {
        // Of one run's stream only the log knows whether there is any.
        if framing.head_only && wanted.run.is_none() {
            return self.answer_stream_head(index, &headers, now);
        }
        if self.store_is_down && wanted.spends.is_some() {
            // That the ticket is spent could not be kept.
            return self.refuse_stream(index, &wanted, framing, headers, now);
        }
        let limit = self.settings.limits.streams_per_token;
        let token = match wanted.principal.token_key() {
            Some(key) if !framing.head_only => match self.tokens.take(key, limit) {
                Some(number) => Some(number),
                None => return self.refuse_stream(index, &wanted, framing, headers, now),
            },
            _ => None,
        };
        let attaching = Attaching {
            project: wanted.project.clone(),
            expires_at: wanted.principal.expires_at(),
            heartbeat_as_message: wanted.heartbeat_as_message,
            is_event_source: wanted.is_event_source,
            spends: wanted.spends.clone(),
            query: attach::query(&wanted),
            tally: Tally { address: self.connections[index].tally.address, token },
        };
        match attach::resume_position(&wanted) {
            Some(position) if wanted.spends.is_none() && self.streams.reaches(&wanted.project, position) => {
                let beginning = Beginning {
                    project: &wanted.project,
                    position,
                    resume: Resume::Resumed,
                    run: None,
                    snapshots: &[],
                };
                self.metrics.count_resume(Resume::Resumed);
                let head = self.stream_head(&headers, now);
                let new = beginning.stream(&attaching, head, self.greeting(), self.api.signer());
                self.become_stream(index, &wanted.project, new, now);
            }
            _ => {
                if let Some(note) = wanted.spends.clone() {
                    self.outbox.log.push(Command::Note { note, reply: None });
                }
                let query = attaching.query.clone();
                let to = self.wait(index, What::Stream(Box::new(attaching)), framing, headers);
                self.outbox.log.push(Command::Read { query, reply: ReplyTo::Loop(to) });
            }
        }
    }

    /// What `HEAD` gets where a `GET` would get a stream.
    fn answer_stream_head(&mut self, index: usize, headers: &[(&'static str, String)], now: Now) {
        let head = self.stream_head(headers, now);
        let connection = &mut self.connections[index];
        connection.write_raw(&head);
        connection.state = State::Closing;
    }

    /// The token has as many streams as it may, or its ticket can't be spent.
    fn refuse_stream(
        &mut self,
        index: usize,
        wanted: &StreamRequest,
        framing: Framing,
        headers: Vec<(&'static str, String)>,
        now: Now,
    ) {
        if let Some(note) = &wanted.spends {
            let facts = self.facts(false, now);
            self.api.refund_ticket(note, &facts);
        }
        if wanted.is_event_source {
            return self.answer_busy(index, &wanted.project, framing, headers, now);
        }
        let limit = self.settings.limits.streams_per_token;
        let problem = match self.condition().refusal() {
            Some(refusal) => refusal,
            None => Problem::too_many("too_many_streams", format!("this token may have {limit} streams"), 5),
        };
        self.answer(index, problem.into(), framing, headers, now);
    }

    fn greeting(&self) -> Greeting {
        Greeting {
            retry_ms: self.settings.streams.retry_ms,
            heartbeat_ms: u64::try_from(self.settings.streams.heartbeat.as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// The connection's socket goes on as a stream. Answers to requests before this one may still be on their way: they
    /// go ahead of the stream's head.
    fn become_stream(&mut self, index: usize, project: &ProjectId, mut new: NewStream, now: Now) {
        let mut connection = self.connections.remove(index);
        if connection.has_output() {
            let mut preface = connection.take_output();
            preface.append(&mut new.preface);
            new.preface = preface;
        }
        let tally = new.tally;
        match self.streams.add_sse(project, connection.socket, new, now) {
            Ok(key) => self.moved.push(key),
            Err(_) => self.release(tally),
        }
    }

    fn deliver(&mut self, delivery: Delivery, now: Now) {
        match delivery {
            Delivery::Frames { project, frames } => {
                self.metrics.messages_logged += frames.marks.len() as u64;
                self.streams.broadcast(&project, &frames, now);
            }
            Delivery::Reply { to: ReplyTo::Loop(to), answer } => self.receive_answer(to, answer, now),
            // Whoever waits elsewhere has been answered by the log's thread.
            Delivery::Reply { to: ReplyTo::Caller(_), .. } => {}
            Delivery::Worked(work) => self.metrics.work.add(&work),
            Delivery::StoreIsDown(is_down) => {
                self.store_is_down = is_down;
                self.metrics.store_is_down = is_down;
            }
        }
    }

    fn receive_answer(&mut self, to: u64, answer: Answer, now: Now) {
        match (waiter(to), answer) {
            (Waiter::Stream(key), answer) => self.continue_stream(key, answer, now),
            (Waiter::Connection { .. }, Answer::Attached(attached)) => self.attach(to, *attached, now),
            (Waiter::Connection { .. }, answer) => {
                let Some(index) = self.waiting(to) else { return };
                let State::Waiting(waiting) = &self.connections[index].state else { return };
                let response = match &waiting.what {
                    What::Answer(render) => {
                        render.response(answer, self.api.signer(), |project| self.streams.subscribers(project))
                    }
                    What::Stream(_) => return self.refuse_attach(index, answer, now),
                };
                self.answer_waiting(to, response, now);
            }
        }
    }

    /// The log says where a stream begins.
    fn attach(&mut self, to: u64, mut attached: Attached, now: Now) {
        if let Some(backlog) = attached.backlog.take() {
            self.streams.open_project(&attached.project, backlog, now);
        }
        if !attached.is_over && !self.streams.is_open(&attached.project) {
            return self.attach_again(to);
        }
        let Some((index, waiting)) = self.take_waiting(to) else { return };
        let What::Stream(attaching) = waiting.what else { return };
        if attached.is_over {
            self.tokens.release(attaching.tally.token);
            return self.finish_waiting(index, Response::new(204), waiting.framing, waiting.headers, now);
        }
        if waiting.framing.head_only {
            self.answer_stream_head(index, &waiting.headers, now);
            return self.flush_connection(index, now);
        }
        self.metrics.count_resume(attached.resume);
        let head = self.stream_head(&waiting.headers, now);
        let beginning = Beginning::of(&attaching.project, &attached);
        let new = beginning.stream(&attaching, head, self.greeting(), self.api.signer());
        self.become_stream(index, &attaching.project, new, now);
    }

    /// The project was let go while the log answered. The log is told of that before it is asked again, so that it hands
    /// the project's newest messages out anew.
    fn attach_again(&mut self, to: u64) {
        if let Some(index) = self.waiting(to)
            && let State::Waiting(waiting) = &self.connections[index].state
            && let What::Stream(attaching) = &waiting.what
        {
            let query = attaching.query.clone();
            self.outbox.log.push(Command::Read { query, reply: ReplyTo::Loop(to) });
        }
    }

    /// A stream does not begin.
    fn refuse_attach(&mut self, index: usize, answer: Answer, now: Now) {
        let State::Waiting(waiting) = std::mem::replace(&mut self.connections[index].state, State::Reading) else {
            return;
        };
        let What::Stream(attaching) = waiting.what else { return };
        self.tokens.release(attaching.tally.token);
        if let Some(note) = &attaching.spends {
            let facts = self.facts(false, now);
            self.api.refund_ticket(note, &facts);
        }
        let passes = matches!(answer, Answer::Refused(Refusal::StoreUnavailable | Refusal::TooManyProjects));
        if passes && attaching.is_event_source {
            self.answer_busy(index, &attaching.project, waiting.framing, waiting.headers, now);
            return self.flush_connection(index, now);
        }
        let response = Render::Body.response(answer, self.api.signer(), |_| 0);
        self.finish_waiting(index, response, waiting.framing, waiting.headers, now);
    }

    /// History for a stream that is behind.
    fn continue_stream(&mut self, key: StreamKey, answer: Answer, now: Now) {
        match answer {
            Answer::Page(page) => self.streams.page(key, page, now),
            Answer::Attached(attached) => {
                let mut told = Vec::new();
                Beginning::of(&attached.project, &attached).write_reset(&mut told);
                self.metrics.count_resume(attached.resume);
                self.streams.skip(key, told, attached.position, now);
            }
            answer => {
                log::warn!("a stream's history can't be read: {answer:?}");
                self.streams.page_refused(key);
            }
        }
    }

    fn answer_waiting(&mut self, to: u64, response: Response, now: Now) {
        if let Some((index, waiting)) = self.take_waiting(to) {
            self.finish_waiting(index, response, waiting.framing, waiting.headers, now);
        }
    }

    fn finish_waiting(
        &mut self,
        index: usize,
        response: Response,
        framing: Framing,
        headers: Vec<(&'static str, String)>,
        now: Now,
    ) {
        self.answer(index, response, framing, headers, now);
        self.serve_requests(index, now);
        // What the client sent while it waited may not have been read.
        if self.connections.get(index).is_some_and(|connection| connection.has_unread) {
            self.unread.push(index);
        }
    }

    /// The connection that waits for this answer, if it still does.
    fn waiting(&self, to: u64) -> Option<usize> {
        let Waiter::Connection { index, generation } = waiter(to) else { return None };
        let connection = self.connections.get(index as usize)?;
        let is_it = connection.generation == generation && matches!(connection.state, State::Waiting(_));
        is_it.then_some(index as usize)
    }

    fn take_waiting(&mut self, to: u64) -> Option<(usize, Waiting)> {
        let index = self.waiting(to)?;
        match std::mem::replace(&mut self.connections[index].state, State::Reading) {
            State::Waiting(waiting) => Some((index, *waiting)),
            _ => None,
        }
    }

    fn flush_connection(&mut self, index: usize, now: Now) {
        let Some(connection) = self.connections.get_mut(index) else { return };
        let (could_read, waiting) = (connection.wants_request(), connection.output_bytes());
        let was_blocked = matches!(connection.deadline, Some((_, Overdue::Output)));
        match connection.flush() {
            Got::Gone => return self.doom(index),
            Got::More => {
                // Only what is taken gives more time, not what is sent meanwhile.
                if !was_blocked || connection.output_bytes() < waiting {
                    connection.deadline = Some((now.mono + self.settings.timeouts.output, Overdue::Output));
                }
                return;
            }
            Got::All => {}
        }
        if was_blocked {
            connection.deadline = None;
        }
        match connection.state {
            State::Closing if connection.is_half_closed => self.doom(index),
            State::Closing if connection.deadline.is_none() => {
                connection.socket.finish();
                connection.deadline = Some((now.mono + LINGER, Overdue::Leave));
            }
            // Requests, and the deadline of the next, were put off until here; so was what has not been read.
            State::Reading if was_blocked || !could_read => self.unread.push(index),
            _ => {}
        }
    }

    fn sweep_deadlines(&mut self, now: Now) {
        let overdue: Vec<(usize, Overdue)> = self
            .connections
            .iter()
            .filter_map(|(index, connection)| match connection.deadline {
                Some((at, what)) if now.mono >= at => Some((index, what)),
                _ => None,
            })
            .collect();
        for (index, what) in overdue {
            match what {
                Overdue::Idle | Overdue::Output | Overdue::Leave => self.doom(index),
                Overdue::Head => self.time_out(index, "the head did not come in time", now),
                Overdue::Body => self.time_out(index, "the body did not come in time", now),
            }
        }
    }

    fn time_out(&mut self, index: usize, detail: &'static str, now: Now) {
        let (input, start, _) = self.connections[index].take_input();
        self.reject(index, Problem::timeout(detail), &input[start..], now);
        self.flush_connection(index, now);
    }

    fn carry_out_effects(&mut self) {
        for effect in self.streams.take_effects() {
            self.outbox.log.push(match effect {
                Effect::Unwatch(project) => Command::Unwatch(project),
                Effect::ReadPage { stream, project, after, only_run, bytes_max } => Command::Read {
                    query: Query::Page { project, after, run: only_run, bytes_max },
                    reply: ReplyTo::Loop(reply_number(Waiter::Stream(stream))),
                },
            });
        }
        for took in self.streams.take_fanouts() {
            self.metrics.fan_out.record(took);
        }
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

    fn refresh_date(&mut self, now: Now) {
        let secs = now.wall.as_secs();
        if self.date.0 != secs {
            let time = std::time::UNIX_EPOCH + Duration::from_secs(secs);
            self.date = (secs, httpdate::fmt_http_date(time));
        }
    }

    fn next_random(&mut self) -> u64 {
        // xorshift64: spreads reconnects, guards nothing.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}

/// Who waits for an answer, as a number that other threads can carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waiter {
    Connection { index: u32, generation: u32 },
    Stream(StreamKey),
}

const STREAM_BIT: u64 = 1 << 63;

/// Generations are 31 bits wide, so that the bit that tells streams from connections has its place.
const GENERATION_MASK: u32 = u32::MAX >> 1;

fn reply_number(waiter: Waiter) -> u64 {
    let (bit, generation, index) = match waiter {
        Waiter::Connection { index, generation } => (0, generation, index),
        Waiter::Stream(key) => (STREAM_BIT, key.generation(), key.index() as u32),
    };
    bit | u64::from(generation & GENERATION_MASK) << 32 | u64::from(index)
}

fn waiter(number: u64) -> Waiter {
    let index = number as u32;
    let generation = (number >> 32) as u32 & GENERATION_MASK;
    match number & STREAM_BIT {
        0 => Waiter::Connection { index, generation },
        _ => Waiter::Stream(StreamKey::new(index, generation)),
    }
}
