//! What clients send: bytes to requests, one after the other, and what each of them asks for.

use super::{Server, Token, WORK_PER_REQUEST, WORK_PER_TURN};
use crate::api::{Action, Call, Facts};
use crate::http::{Method, Problem, Request, Response, Verdict};
use crate::log::Command;
use crate::model::Now;
use crate::server::connection::{Framing, Got, LINGER, Overdue, State};
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
        self.connections[index].reject(&response, &self.date.1);
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
        match action {
            Action::Answer(response) => self.answer(index, response, framing, headers, now),
            Action::Metrics => {
                self.metrics.refused.set(Limit::Tickets, self.api.tickets().1);
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
            if connection.tally.address.is_none() && connection.beyond.is_none() {
                connection.beyond = Some(Limit::ConnectionsPerAddress);
                self.refused += 1;
                self.metrics.refused.count(Limit::ConnectionsPerAddress);
            }
        }
    }

    pub(super) fn flush_connection(&mut self, index: usize, now: Now) {
        self.write_connection(index, now);
        self.weigh(index);
    }

    fn write_connection(&mut self, index: usize, now: Now) {
        let Some(connection) = self.connections.get_mut(index) else { return };
        let (could_read, waiting) = (connection.wants_request(), connection.output_bytes());
        let was_blocked = matches!(connection.deadline, Some((_, Overdue::Output)));
        match connection.flush() {
            Got::Gone => return self.doom(index),
            Got::More => {
                if !std::mem::replace(&mut connection.is_watched_for_room, true) {
                    self.blocked.push(Token(connection.tally.socket as usize));
                }
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
            State::Reading if was_blocked || !could_read => self.read_later(index),
            _ => {}
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
