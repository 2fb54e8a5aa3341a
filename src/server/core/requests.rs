//! What clients send: bytes to requests, one after the other, and what each of them asks for.

use super::{Server, Token, WORK_PER_REQUEST, WORK_PER_TURN};
use crate::api::{Action, Call, Facts};
use crate::http::{Method, Problem, Request, Response, Verdict};
use crate::log::Command;
use crate::model::Now;
use crate::server::connection::{BODY_BYTES_A_FLUSH_MAX, Exchange, Flushed, Framing, Got, LINGER, Overdue, State};
use crate::server::limits::{counted_address, forwarded_address};
use crate::server::refused::Limit;
use crate::server::socket::Socket;

/// Requests of one connection served before the other sockets get their turn.
const REQUESTS_MAX: usize = 64;

impl<S: Socket> Server<S> {
    pub(super) fn read_connection(&mut self, index: usize, to_the_end: bool, now: Now) {
        if self.work >= WORK_PER_TURN || self.holds_too_much() {
            // It is read in the next turn, after the streams, and after those that hold most were let go.
            return self.read_later(index);
        }
        let Some(connection) = self.connections.get_mut(index) else { return };
        let (got, bytes) = connection.read(&mut self.scratch, &self.settings.http, to_the_end);
        self.work += bytes;
        match got {
            Got::Gone => return self.doom(index),
            Got::More if connection.wants_request() || matches!(connection.state, State::Closing) => {
                self.read_later(index);
            }
            Got::More | Got::All => {}
        }
        self.serve_requests(index, now);
    }

    /// A connection is read at the end of the turn, whatever the poll says: once, however often this is called.
    pub(super) fn read_later(&mut self, index: usize) {
        if let Some(connection) = self.connections.get_mut(index)
            && !std::mem::replace(&mut connection.is_listed, true)
        {
            self.unread.push(index);
        }
    }

    /// Looks at what has been read: requests, one after the other, until one has to wait, there is no more, or the others
    /// must have their turn.
    pub(super) fn serve_requests(&mut self, index: usize, now: Now) {
        let output_bytes = |server: &Self| server.connections.get(index).map_or(0, |one| one.output_bytes());
        let (mut left, before) = (REQUESTS_MAX, output_bytes(self));
        while self.serve_next(index, now) {
            left -= 1;
            if left == 0 {
                self.read_later(index);
                break;
            }
        }
        self.work += (REQUESTS_MAX - left) * WORK_PER_REQUEST + output_bytes(self).saturating_sub(before);
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
                connection.requests = connection.requests.saturating_add(1);
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
    pub(super) fn reject(&mut self, index: usize, problem: Problem, input: &[u8], now: Now) {
        self.metrics.count_response(problem.status);
        self.count_refused(&problem);
        self.refresh_date(now);
        let headers = self.api.headers_of_refusal(input);
        let response = headers.into_iter().fold(Response::from(problem), |to, (name, value)| to.header(name, value));
        self.connections[index].reject(response, &self.date.1);
    }

    fn serve_request(&mut self, index: usize, request: &Request, now: Now) {
        let is_last = self.connections[index].requests >= self.settings.limits.requests_per_connection;
        if is_last && request.keep_alive {
            self.metrics.refused.count(Limit::RequestsPerConnection);
        }
        let framing = Framing {
            version: request.version,
            keep_alive: request.keep_alive && !is_last,
            head_only: request.method == Method::Head,
        };
        self.count_forwarded(index, request);
        let connection = &self.connections[index];
        let facts = Facts { door: connection.door, ..self.facts(connection.beyond, now) };
        let Call { action, headers } = self.api.handle(request, &facts);
        if self.is_behind
            && let Action::Busy(_) | Action::Answer(Response { status: 503, .. }) = &action
        {
            self.metrics.refused.count(Limit::LogQueue);
        }
        let exchange = Exchange { index, framing, headers };
        match action {
            Action::Answer(response) => self.answer(exchange, response, now),
            Action::Metrics => {
                self.metrics.refused.set(Limit::Tickets, self.api.tickets().1);
                let text = self.metrics.render(&self.gauges());
                let response = Response::new(200).content("text/plain; version=0.0.4; charset=utf-8", text);
                self.answer(exchange, response, now);
            }
            Action::Subscribers(project) => {
                let body = format!("{{\"count\":{}}}", self.streams.subscribers(&project));
                self.answer(exchange, Response::json(200, body), now);
            }
            Action::Busy(project) => {
                if let Some(note) = self.api.extend_ticket(request, &facts) {
                    self.outbox.log.push(Command::Note { note, reply: None });
                }
                self.answer_busy(&exchange, &project, now);
            }
            Action::Ask(ask, render) => self.ask(exchange, ask, render, now),
            Action::Stream(wanted) => self.begin_stream(exchange, *wanted, now),
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
            if connection.tally.address.is_none() && connection.beyond.is_none() {
                connection.beyond = Some(Limit::ConnectionsPerAddress);
                self.refused += 1;
                self.metrics.refused.count(Limit::ConnectionsPerAddress);
            }
        }
    }

    pub(super) fn flush_connection(&mut self, index: usize, now: Now) {
        self.write_connection(index, now);
        self.fetch_next(index);
        self.weigh(index);
    }

    fn write_connection(&mut self, index: usize, now: Now) {
        let Some(connection) = self.connections.get_mut(index) else { return };
        if let State::Doomed = connection.state {
            return;
        }
        let (could_read, waiting) = (connection.wants_request(), connection.output_bytes());
        let was_blocked = matches!(connection.deadline, Some((_, Overdue::Output)));
        let room = match self.contents.has_any(now.mono) {
            true => WORK_PER_TURN.saturating_sub(self.work).min(BODY_BYTES_A_FLUSH_MAX),
            false => 0,
        };
        let (flushed, body_bytes) = connection.flush(room);
        self.work += body_bytes;
        self.contents.spend(body_bytes, now.mono);
        match flushed {
            Flushed::Gone => return self.doom(index),
            Flushed::Full => {
                if !std::mem::replace(&mut connection.is_watched_for_room, true) {
                    self.blocked.push(Token(connection.tally.socket as usize));
                }
                // Only what is taken gives more time, not what is sent meanwhile.
                if !was_blocked || body_bytes > 0 || connection.output_bytes() < waiting {
                    connection.deadline = Some((now.mono + self.settings.timeouts.output, Overdue::Output));
                }
                return;
            }
            Flushed::More | Flushed::Awaits | Flushed::All => {}
        }
        if was_blocked {
            connection.deadline = None;
        }
        match flushed {
            Flushed::More => return self.write_later(index),
            Flushed::Awaits => return,
            _ => {}
        }
        match connection.state {
            State::Closing if connection.is_half_closed => self.doom(index),
            State::Closing if connection.deadline.is_none() => {
                connection.socket.finish();
                connection.deadline = Some((now.mono + LINGER, Overdue::Leave));
                if connection.has_unread {
                    self.read_later(index);
                }
            }
            // Requests, and the deadline of the next, were put off until here; so was what has not been read.
            State::Reading if was_blocked || !could_read => self.read_later(index),
            _ => {}
        }
    }

    /// A socket has room again: what is small is written at once, content in turn with that of others.
    pub(super) fn writable_connection(&mut self, index: usize, now: Now) {
        match self.connections.get(index).map(|connection| &connection.state) {
            Some(State::Sending(_)) => self.write_later(index),
            _ => self.flush_connection(index, now),
        }
    }

    /// A connection is written to at the end of the turn, whatever the poll says: once, however often this is called.
    pub(super) fn write_later(&mut self, index: usize) {
        if let Some(connection) = self.connections.get_mut(index)
            && let State::Sending(sending) = &mut connection.state
            && !std::mem::replace(&mut sending.is_queued, true)
        {
            self.unwritten.push_back(index);
        }
    }

    /// Writes a piece of all content that is on its way, of as much as one turn has time for; the rest is first in the next.
    pub(super) fn write_bodies(&mut self, now: Now) {
        self.work = 0;
        for _ in 0..self.unwritten.len() {
            if self.work >= WORK_PER_TURN || !self.contents.has_any(now.mono) {
                return;
            }
            let Some(index) = self.unwritten.pop_front() else { return };
            if let Some(connection) = self.connections.get_mut(index)
                && let State::Sending(sending) = &mut connection.state
                && std::mem::take(&mut sending.is_queued)
            {
                self.flush_connection(index, now);
            }
        }
    }

    pub(super) fn sweep_deadlines(&mut self, now: Now) {
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
                Overdue::Idle => self.metrics.refused.count(Limit::IdleTimeout),
                Overdue::Output => self.metrics.refused.count(Limit::StallTimeout),
                Overdue::Head => self.metrics.refused.count(Limit::HeaderTimeout),
                Overdue::Body => self.metrics.refused.count(Limit::BodyTimeout),
                Overdue::Leave => {}
            }
            match what {
                Overdue::Idle | Overdue::Output | Overdue::Leave => self.doom(index),
                Overdue::Head => self.time_out(index, "the head did not come in time", now),
                Overdue::Body => self.time_out(index, "the body did not come in time", now),
            }
        }
    }

    /// A problem that arises at a limit is counted as that.
    pub(super) fn count_refused(&mut self, problem: &Problem) {
        if let Some(limit) = Limit::of_code(problem.code) {
            self.metrics.refused.count(limit);
        }
    }

    fn time_out(&mut self, index: usize, detail: &'static str, now: Now) {
        let (input, start, _) = self.connections[index].take_input();
        self.reject(index, Problem::timeout(detail), &input[start..], now);
        self.flush_connection(index, now);
    }
}
