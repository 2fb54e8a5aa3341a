//! From a request to a stream, and what streams need of the log.

use super::Server;
use super::token::{Place, Waiter, reply_number};
use crate::api::{Render, StreamRequest};
use crate::auth::Spending;
use crate::http::{Problem, Response};
use crate::log::{Answer, Attached, Command, Query, Refusal, ReplyTo, View};
use crate::model::{Now, ProjectId};
use crate::server::attach::{self, Attaching, Beginning, Greeting};
use crate::server::connection::{Exchange, State, Waiting, What};
use crate::server::refused::Limit;
use crate::server::socket::Socket;
use crate::stream::{Effect, NewStream, PAGES_IN_FLIGHT_MAX, StreamKey};

/// Pages asked for and not yet come while others publish: what is on its way can't be held back any more.
const PAGES_IN_FLIGHT_BOUNDED: usize = 4;

impl<S: Socket> Server<S> {
    pub(super) fn read_stream(&mut self, index: usize) {
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

    pub(super) fn begin_stream(&mut self, exchange: Exchange, mut wanted: StreamRequest, now: Now) {
        let (index, framing) = (exchange.index, exchange.framing);
        // Of one run's stream only the log knows whether there is any.
        if framing.head_only && wanted.run.is_none() {
            return self.answer_stream_head(&exchange, wanted.view, now);
        }
        if self.store_is_down && wanted.spends.is_some() {
            // That the ticket is spent could not be kept.
            return self.refuse_stream(exchange, wanted, now);
        }
        let limit = self.settings.limits.streams_per_token;
        let place = match wanted.principal.token_key() {
            Some(key) if !framing.head_only => match self.tokens.hold(key, limit) {
                Some(place) => Some(place),
                None => {
                    self.metrics.refused.count(Limit::StreamsPerToken);
                    return self.refuse_stream(exchange, wanted, now);
                }
            },
            _ => None,
        };
        let reaches = |seq| self.streams.reaches(&wanted.project, seq);
        let beginning = attach::beginning_in_backlog(&wanted, self.streams.newest(&wanted.project), reaches);
        let mut attaching = Attaching {
            project: wanted.project.clone(),
            expires_at: wanted.principal.expires_at(),
            heartbeat_as_message: wanted.heartbeat_as_message,
            view: wanted.view,
            coding: framing.coding(),
            is_event_source: wanted.is_event_source,
            query: attach::query(&wanted),
            spends: wanted.spends.take(),
            place,
            tally: self.connections[index].tally,
        };
        match beginning {
            Some((position, resume)) => {
                let beginning = Beginning { project: &wanted.project, position, resume, run: None, snapshots: &[] };
                self.metrics.count_resume(resume);
                let head = self.stream_head(&exchange, attaching.view, now);
                let tally = attaching.keep();
                let new = beginning.stream(&attaching, tally, head, self.greeting(), self.api.signer());
                self.become_stream(index, &wanted.project, new, now);
            }
            _ => {
                let to = self.wait(exchange, What::Stream(Box::new(attaching)), None);
                self.postponed.push_back(to);
                self.ask_where_to_begin(now);
            }
        }
    }

    /// What `HEAD` gets where a `GET` would get a stream.
    fn answer_stream_head(&mut self, exchange: &Exchange, view: View, now: Now) {
        let head = self.stream_head(exchange, view, now);
        let connection = &mut self.connections[exchange.index];
        connection.write_raw(&head);
        connection.state = State::Closing;
    }

    /// The token has as many streams as it may, or its ticket can't be spent.
    fn refuse_stream(&mut self, exchange: Exchange, wanted: StreamRequest, now: Now) {
        if wanted.is_event_source {
            self.postpone(wanted.spends, now);
            return self.answer_busy(&exchange, &wanted.project, now);
        }
        let limit = self.settings.limits.streams_per_token;
        let problem = match self.condition().refusal() {
            Some(refusal) => refusal,
            None => Problem::too_many(
                "too_many_streams",
                format!("too many streams of this token are open (limit {limit}, limits.streams_per_token)"),
                5,
            ),
        };
        self.answer(exchange, Response::from(problem), now);
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
        self.held -= connection.weight;
        if connection.has_output() {
            let mut preface = connection.take_output();
            preface.append(&mut new.preface);
            new.preface = preface;
        }
        let tally = new.tally;
        // What the poll has told of so far it will not tell again.
        let has_unread = connection.has_unread || connection.is_half_closed;
        match self.streams.add_sse(project, connection.socket, new, now) {
            Ok(key) => {
                self.places[tally.socket as usize] = Place::Stream(key.index() as u32);
                if has_unread {
                    self.read_stream(key.index());
                }
            }
            Err(_) => self.release(tally),
        }
    }

    /// The log says where a stream begins.
    pub(super) fn attach(&mut self, to: u64, mut attached: Attached, now: Now) {
        if let Some(backlog) = attached.backlog.take() {
            self.streams.open_project(&attached.project, backlog, now);
        }
        if !attached.is_over && !self.streams.is_open(&attached.project) {
            return self.ask_where_it_begins(to);
        }
        let Some(Waiting { what: What::Stream(mut attaching), exchange, .. }) = self.take_waiting(to) else { return };
        let index = exchange.index;
        if attached.is_over {
            return self.finish_waiting(exchange, Response::new(204), now);
        }
        if exchange.framing.head_only {
            self.answer_stream_head(&exchange, attaching.view, now);
            return self.flush_connection(index, now);
        }
        self.metrics.count_resume(attached.resume);
        let head = self.stream_head(&exchange, attaching.view, now);
        let tally = attaching.keep();
        let beginning = Beginning::of(&attaching.project, &attached);
        let new = beginning.stream(&attaching, tally, head, self.greeting(), self.api.signer());
        self.beginnings.spend(new.preface.len(), now.mono);
        self.become_stream(index, &attaching.project, new, now);
    }

    /// Where a ticket is spent for a stream that can't be had just now, it has its time anew.
    fn postpone(&mut self, spends: Option<Spending>, now: Now) {
        if let Some(spends) = spends {
            let facts = self.facts(None, now);
            let note = self.api.postpone_ticket(spends, &facts);
            self.outbox.log.push(Command::Note { note, reply: None });
        }
    }

    /// Asks the log where streams begin, as many as snapshots may be sent just now.
    pub(super) fn ask_where_to_begin(&mut self, now: Now) {
        while !self.postponed.is_empty() && self.beginnings.has_any(now.mono) {
            self.postponed.pop_front().into_iter().for_each(|to| self.ask_where_it_begins(to));
        }
    }

    /// Asks the log where the stream begins that waits for this answer. Where the project was let go while the log
    /// answered, it is told of that before it is asked again, so that it hands the project's newest messages out anew.
    fn ask_where_it_begins(&mut self, to: u64) {
        if let Some(index) = self.waiting(to)
            && let State::Waiting(waiting) = &self.connections[index].state
            && let What::Stream(attaching) = &waiting.what
        {
            self.outbox.log.push(attaching.command(ReplyTo::Loop(to)));
        }
    }

    /// A stream does not begin.
    pub(super) fn refuse_attach(&mut self, to: u64, answer: Answer, now: Now) {
        let Some(Waiting { what: What::Stream(mut attaching), exchange, .. }) = self.take_waiting(to) else { return };
        let passes = matches!(answer, Answer::Refused(Refusal::StoreUnavailable | Refusal::TooManyProjects(_)));
        if passes && attaching.is_event_source {
            self.postpone(attaching.spends.take(), now);
            self.answer_busy(&exchange, &attaching.project, now);
            return self.flush_connection(exchange.index, now);
        }
        let shown = Render::Body.show(answer, self.api.signer(), |_| 0);
        self.finish_waiting(exchange, shown, now);
    }

    /// History for a stream that is behind.
    pub(super) fn continue_stream(&mut self, key: StreamKey, answer: Answer, now: Now) {
        match answer {
            Answer::Page(page) => {
                self.histories.spend(page.bytes.len(), now.mono);
                self.streams.page(key, page, now);
            }
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

    pub(super) fn carry_out_effects(&mut self, now: Now) {
        let watched = |(project, count)| (project, Some(count).filter(|&count| count > 0));
        let recounted = self.streams.take_recounted();
        if !recounted.is_empty() {
            self.watchers.say(recounted.into_iter().map(watched));
        }
        let pages = match (self.histories.has_any(now.mono), self.histories.is_bounded(now.mono)) {
            (true, false) => PAGES_IN_FLIGHT_MAX,
            (true, true) => PAGES_IN_FLIGHT_BOUNDED,
            (false, _) => 0,
        };
        for effect in self.streams.take_effects(pages) {
            self.outbox.log.push(match effect {
                Effect::Unwatch(project) => Command::Unwatch(project),
                Effect::ReadPage { stream, project, after, only_run, view, bytes_max } => Command::Read {
                    query: Query::Page { project, after, run: only_run, view, bytes_max },
                    reply: ReplyTo::Loop(reply_number(Waiter::Stream(stream))),
                },
            });
        }
    }
}
