//! Routes requests: from the input of clients to the part that handles each request.

use super::Server;
use crate::api::{Action, Call, Door, Sender};
use crate::http::{Problem, Request, Response, Verdict};
use crate::model::Now;
use crate::server::connections::Overdue;
use crate::server::exchange::{Exchange, Framing};
use crate::server::metrics::Metrics;
use crate::server::refused::Limit;
use crate::server::socket::Socket;

/// The most requests of one connection that are served before the other sockets.
const REQUESTS_MAX: usize = 64;

impl<S: Socket> Server<S> {
    pub(super) fn read_connection(&mut self, index: usize, to_the_end: bool, now: Now) {
        if self.connections.read(index, &mut self.scratch, to_the_end) {
            self.serve_requests(index, now);
        }
    }

    /// Serves the requests in the input one after the other, until one has to wait, there are no more, or it is the
    /// turn of other connections.
    pub(super) fn serve_requests(&mut self, index: usize, now: Now) {
        let waited = self.connections.output_bytes(index);
        let served = (0..REQUESTS_MAX).take_while(|_| self.serve_next(index, now)).count();
        if served == REQUESTS_MAX {
            self.connections.read_later(index);
        }
        self.connections.charge(index, served, waited);
        self.connections.flush(index, now);
    }

    /// Serves one request, if it is complete. Returns `true` if there may be another after it.
    fn serve_next(&mut self, index: usize, now: Now) -> bool {
        let Some(input) = self.connections.take_input(index) else { return false };
        match self.connections.decode(index, &input, now) {
            Verdict::NeedMore { .. } => {
                self.connections.give_back(index, input, 0);
                false
            }
            Verdict::Complete { request, consumed } => {
                let waits_for_keys = self.serve_request(index, &request, now);
                self.metrics.requests += u64::from(!waits_for_keys);
                self.connections.give_back(index, input, if waits_for_keys { 0 } else { consumed });
                !waits_for_keys
            }
            Verdict::Reject(problem) => {
                self.reject(index, problem, input.unread(), now);
                false
            }
        }
    }

    /// Returns `true` if the request waits for keys and has to be decoded again.
    fn serve_request(&mut self, index: usize, request: &Request, now: Now) -> bool {
        self.count_forwarded(index, request);
        let caller = self.connections.caller(index);
        let is_last = caller.requests >= self.admission.requests_max();
        if is_last && request.keep_alive {
            self.metrics.refused.count(Limit::RequestsPerConnection);
        }
        let mut facts = self.admission.facts(caller.door, caller.beyond, now);
        facts.is_cut_off = self.node.as_ref().is_some_and(|node| node.vitals.is_cut_off(now.mono));
        let Call { action, headers } = self.api.handle(request, &facts);
        if self.admission.is_log_full()
            && let Action::Busy(_) | Action::Answer(Response { status: 503, .. }) = &action
        {
            self.metrics.refused.count(Limit::LogQueue);
        }
        if let Action::Busy(_) = &action
            && let Some(note) = self.api.extend_ticket(request, &facts)
        {
            self.replies.note(note);
        }
        let exchange = Exchange { index, framing: Framing::of(request, is_last), headers };
        match action {
            Action::AwaitKeys(problem) => return self.await_keys(exchange, problem, now),
            action => self.carry_out(action, exchange, now),
        }
        false
    }

    fn carry_out(&mut self, action: Action, exchange: Exchange, now: Now) {
        match action {
            Action::Answer(response) => self.answer(exchange, response, now),
            Action::AwaitKeys(problem) => self.answer(exchange, Response::from(problem), now),
            Action::Metrics => {
                self.metrics.refused.set(Limit::Tickets, self.api.tickets().1);
                let mut text = self.metrics.render(&self.gauges());
                text.push_str(&self.metrics.render_usage(&self.usage_faults));
                text.push_str(&self.metrics.render_webhooks(&self.webhooks.counts()));
                text.push_str(&Metrics::render_firings(self.firings.counts()));
                if let Some(tls) = &self.tls {
                    text.push_str(&Metrics::render_tls(tls));
                }
                if let Some(node) = &self.node {
                    text.push_str(&Metrics::render_node(&node.vitals, &node.counts, now));
                }
                let response = Response::new(200).content("text/plain; version=0.0.4; charset=utf-8", text);
                self.answer(exchange, response, now);
            }
            Action::Webhooks => self.answer(exchange, Response::json(200, self.webhooks.json()), now),
            Action::Echo(arrived) => {
                let response = arrived.answer(self.sender(exchange.index));
                self.answer(exchange, response, now);
            }
            Action::Subscribers(project) => {
                let body = format!("{{\"count\":{}}}", self.streams.subscribers(&project));
                self.answer(exchange, Response::json(200, body), now);
            }
            Action::Busy(projects) => self.answer_busy(&exchange, &projects, now),
            Action::Ask(ask, render) => self.ask(exchange, ask, render, now),
            Action::Subscribe(wanted, spends) => self.subscribe(exchange, wanted, spends, now),
            Action::SubscribeToSeveral(wanted, spends) => self.subscribe_to_several(exchange, wanted, spends, now),
            Action::Converse(wanted, otherwise) => self.converse(exchange, wanted, otherwise, now),
        }
    }

    /// The sender of a connection's requests.
    fn sender(&self, index: usize) -> Sender {
        Sender {
            is_trusted_proxy: self.connections.token_of_proxy(index).is_some(),
            address: self.sockets.address(self.connections.token(index)),
            body_bytes_max: self.connections.body_bytes_max(),
        }
    }

    /// Counts a connection of a trusted proxy for the address that it forwards.
    fn count_forwarded(&mut self, index: usize, request: &Request) {
        let Some(token) = self.connections.token_of_proxy(index) else { return };
        // Its permit is returned before it takes another.
        self.sockets.count_for(token, None);
        let counted = self.admission.count_forwarded(request.headers.all("x-forwarded-for"));
        if counted.is_err() {
            self.connections.set_beyond(index, Limit::ConnectionsPerAddress);
            self.metrics.refused.count(Limit::ConnectionsPerAddress);
        }
        self.sockets.count_for(token, counted.unwrap_or_else(Some));
    }

    /// Answers an invalid or late request, and closes. `input` is what was read of it: if its head is complete, a page
    /// of a listed origin may read the answer.
    fn reject(&mut self, index: usize, problem: Problem, input: &[u8], now: Now) {
        self.metrics.count_response(problem.status);
        self.metrics.count_problem(&problem);
        let headers = self.api.headers_of_refusal(input);
        let response = headers.into_iter().fold(Response::from(problem), |to, (name, value)| to.header(name, value));
        self.connections.reject(index, response, self.date.at(now));
    }

    /// Ends overdue connections, and forgets expired tickets.
    pub(super) fn end_overdue(&mut self, now: Now) {
        let Some(overdue) = self.connections.take_overdue(now) else { return };
        for (index, what) in overdue {
            what.limit().into_iter().for_each(|limit| self.metrics.refused.count(limit));
            match what {
                Overdue::Idle | Overdue::Output | Overdue::Leave => self.connections.doom(index),
                Overdue::Head => self.time_out(index, ("head", what, "limits.header_timeout"), now),
                Overdue::Body => self.time_out(index, ("body", what, "limits.body_timeout"), now),
            }
        }
        self.api.forget_expired(&self.admission.facts(Door::Main, None, now));
    }

    fn time_out(&mut self, index: usize, (part, what, key): (&str, Overdue, &str), now: Now) {
        let limit = self.connections.time_limit(what);
        let detail = format!("the request {part} was not received in time (limit {limit:?}, {key})");
        let input = self.connections.give_up_input(index);
        self.reject(index, Problem::timeout(detail), input.unread(), now);
        self.connections.flush(index, now);
    }

    /// Closes the connections that hold most, if all of them together hold too much.
    pub(super) fn shed(&mut self, now: Now) {
        for index in self.connections.overweight(|token| self.sockets.address(token)) {
            self.metrics.refused.count(Limit::BufferBytes);
            if self.connections.takes_refusal(index) {
                self.reject(index, self.connections.refusal_of_weight(), &[], now);
                self.connections.flush(index, now);
            } else {
                self.connections.doom(index);
            }
            self.connections.lighten(index);
        }
    }
}
