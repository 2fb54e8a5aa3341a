//! From a request to a stream, and what streams need from the log.

use std::sync::Arc;

use super::Server;
use super::conversations::is_long_over;
use crate::api::{Door, Otherwise, Render};
use crate::auth::Spending;
use crate::http::{Response, write_stream_head};
use crate::log::{Answer, Query, Refusal, ReplyTo, Spends, StartingPosition, Subscription, View};
use crate::model::{Now, ProjectId, SlabKey, Taken};
use crate::server::admission::Permit;
use crate::server::connections::Departed;
use crate::server::exchange::Exchange;
use crate::server::refused::Limit;
use crate::server::socket::Socket;
use crate::server::waiting::{Waiting, What};
use crate::stream::{ConnectionManager, Effect, Transport};

/// The most reads of a stream's socket before the connection is closed.
const READS_MAX: usize = 4;

impl<S: Socket> Server<S> {
    pub(super) fn read_stream(&mut self, index: usize) {
        let Some(socket) = self.streams.socket(index) else { return };
        // The client of a stream has nothing to send. What it sends is read and dropped, but its leaving is noticed.
        for _ in 0..READS_MAX {
            match socket.read(&mut self.scratch) {
                Ok(0) => return self.streams.hangup(index),
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                Err(_) => return self.streams.hangup(index),
            }
        }
        // A client that sends so much does not want a stream.
        self.streams.hangup(index);
    }

    /// Begins a stream, or asks the log for its start.
    pub(super) fn subscribe(
        &mut self,
        exchange: Exchange,
        wanted: Arc<Subscription>,
        spends: Option<Spending>,
        now: Now,
    ) {
        let head_only = exchange.framing.head_only;
        // For the stream of one run, only the log knows whether the run exists.
        if head_only && wanted.run.is_none() {
            return self.answer_stream_head(&exchange, wanted.view, now);
        }
        let Ok(permit) = self.permit_for(&wanted, spends.is_some(), head_only) else {
            return self.refuse_stream(exchange, &[&wanted.project], wanted.is_event_source, spends, now);
        };
        let start = if spends.is_none() { self.streams.starting_position(&wanted) } else { None };
        match start {
            Some(start) => self.begin_stream(exchange, &wanted, &start, permit, now),
            None => {
                let what = What::Stream { wanted, spends, permit, otherwise: None, held: None };
                let to = self.connections.wait(Waiting { what, exchange, metered: None });
                self.replies.postpone(to);
                self.ask_where_to_begin(now);
            }
        }
    }

    /// Begins the stream of a frontend. If its run is not known, does `otherwise`.
    pub(super) fn subscribe_or(
        &mut self,
        exchange: Exchange,
        wanted: Arc<Subscription>,
        otherwise: Otherwise,
        held: Taken<usize>,
        now: Now,
    ) {
        let Ok(permit) = self.permit_for(&wanted, false, exchange.framing.head_only) else {
            return self.refuse_stream(exchange, &[&wanted.project], wanted.is_event_source, None, now);
        };
        let begins_at_once = wanted.run.is_some() && !matches!(otherwise, Otherwise::Decide(_));
        let what = What::Stream { wanted, spends: None, permit, otherwise: Some(otherwise), held: Some(held) };
        let to = self.connections.wait(Waiting { what, exchange, metered: None });
        if begins_at_once {
            self.replies.postpone(to);
            self.ask_where_to_begin(now);
        } else {
            self.does_otherwise(to, now);
        }
    }

    /// Takes a permit for one more stream of its auth token. `None` if such streams are not counted.
    ///
    /// # Errors
    /// If the token has too many streams, or the store can't record that the ticket is spent.
    pub(super) fn permit_for(
        &mut self,
        wanted: &Subscription,
        spends_ticket: bool,
        head_only: bool,
    ) -> Result<Option<Permit>, ()> {
        if self.admission.is_store_down() && spends_ticket {
            return Err(());
        }
        let Some(token) = wanted.token_key.filter(|_| !head_only) else { return Ok(None) };
        let permit = self.admission.permit_for_stream(token);
        if permit.is_none() {
            self.metrics.refused.count(Limit::StreamsPerToken);
        }
        permit.map(Some).ok_or(())
    }

    /// Asks the log for the starts of streams, as far as the allowance for snapshots permits.
    pub(super) fn ask_where_to_begin(&mut self, now: Now) {
        while let Some(to) = self.replies.next_postponed(now) {
            self.ask_where_it_begins(to);
        }
    }

    /// Asks the log for the start of this waiting stream. If the project was dropped meanwhile, the log was told first,
    /// so it sends the project's newest messages again.
    pub(super) fn ask_where_it_begins(&mut self, to: SlabKey) {
        let note = |spends: &Option<Spending>| {
            spends.as_ref().and_then(|it| Some(Spends { note: it.note()?.clone(), is_proven: it.is_proven() }))
        };
        match self.connections.waiting(to).map(|waiting| &waiting.what) {
            Some(What::Stream { wanted, spends, .. }) => self.replies.subscribe(to, wanted.clone(), note(spends)),
            Some(What::Bundle(waiting)) => {
                // With the first part, the log stores that the ticket is spent.
                let mut note = note(&waiting.spends);
                for part in waiting.unknown() {
                    self.replies.subscribe(to, part.clone(), note.take());
                }
            }
            _ => {}
        }
    }

    /// Handles the start of a stream.
    pub(super) fn start_stream(&mut self, to: SlabKey, mut start: StartingPosition, now: Now) {
        if let Some(backlog) = start.backlog.take() {
            self.streams.open_project(&start.project, backlog, now);
        }
        self.catch_up(&mut start, now);
        if self.connections.waiting(to).is_some_and(|waiting| matches!(waiting.what, What::Bundle(_))) {
            return self.start_part(to, start, now);
        }
        if !start.is_over && !self.streams.is_open(&start.project) {
            self.note_spent(to);
            return self.ask_where_it_begins(to);
        }
        let Some(Waiting { what: What::Stream { wanted, spends, permit, otherwise, .. }, exchange, .. }) =
            self.connections.take_waiting(to)
        else {
            return;
        };
        let is_to_resume = matches!(otherwise, Some(Otherwise::Nothing));
        if start.is_over || (is_to_resume && is_long_over(&start, now)) {
            return self.finish(exchange, Response::new(204), now);
        }
        if exchange.framing.head_only {
            self.answer_stream_head(&exchange, wanted.view, now);
            return self.connections.flush(exchange.index, now);
        }
        if let Some(spends) = spends {
            spends.keep();
        }
        self.begin_stream(exchange, &wanted, &start, permit, now);
    }

    /// The log has sent the start of a stream, and has therefore stored that its ticket is spent.
    pub(super) fn note_spent(&mut self, to: SlabKey) {
        let spends = match self.connections.waiting(to).map(|waiting| &mut waiting.what) {
            Some(What::Stream { spends, .. }) => spends,
            Some(What::Bundle(waiting)) => &mut waiting.spends,
            _ => return,
        };
        spends.iter_mut().for_each(Spending::note_kept);
    }

    /// Sends messages that came with the start to streams that already watch the run.
    fn catch_up(&mut self, start: &mut StartingPosition, now: Now) {
        let (Some(run), Some(retold)) = (start.run, &mut start.retold) else { return };
        if let Some(row) = retold.row.take() {
            self.streams.catch_up(&start.project, run, retold.format, &row, now);
        }
    }

    /// Turns a connection into a stream. Responses to earlier requests may not be written yet; they go before the head
    /// of the stream.
    fn begin_stream(
        &mut self,
        exchange: Exchange,
        wanted: &Subscription,
        start: &StartingPosition,
        permit: Option<Permit>,
        now: Now,
    ) {
        self.metrics.count_resume(start.resume);
        self.replies.spend_on_beginning(start.bytes(), now);
        self.hand_over(&exchange, wanted.view, permit, now, |streams, transport| {
            streams.begin(transport, wanted, start, now)
        });
    }

    /// Passes the socket of a connection to a stream, if that begins.
    pub(super) fn hand_over(
        &mut self,
        exchange: &Exchange,
        view: View,
        permit: Option<Permit>,
        now: Now,
        begin: impl FnOnce(&mut ConnectionManager<S>, Transport<S>) -> Result<SlabKey, S>,
    ) {
        let Departed { socket, token, output: mut preface, has_unread } = self.connections.depart(exchange.index);
        self.write_stream_head(&mut preface, exchange, view, now);
        let transport = Transport { socket, token: token.0 as u32, coding: exchange.framing.coding(), preface };
        match begin(&mut self.streams, transport) {
            Ok(key) => {
                self.sockets.hand_to_stream(token, key.index(), permit);
                if has_unread {
                    self.read_stream(key.index());
                }
            }
            Err(_) => self.sockets.remove(token),
        }
    }

    fn write_stream_head(&mut self, to: &mut Vec<u8>, exchange: &Exchange, view: View, now: Now) {
        self.metrics.count_response(200);
        to.reserve(512);
        let headers = exchange.headers.iter().map(|(name, value)| (*name, value.as_str()));
        let headers = headers.chain(view.headers().iter().copied());
        write_stream_head(to, view.content_type(), exchange.framing.coding(), self.date.at(now), headers);
    }

    /// Answers `HEAD` like a `GET` that would get a stream.
    pub(super) fn answer_stream_head(&mut self, exchange: &Exchange, view: View, now: Now) {
        let mut head = Vec::new();
        self.write_stream_head(&mut head, exchange, view, now);
        self.connections.answer_framed(exchange, &head);
    }

    /// Refuses a stream whose token has too many, or whose ticket can't be spent.
    pub(super) fn refuse_stream(
        &mut self,
        exchange: Exchange,
        projects: &[&ProjectId],
        is_event_source: bool,
        spends: Option<Spending>,
        now: Now,
    ) {
        if is_event_source {
            self.postpone(spends, now);
            return self.answer_busy(&exchange, projects.iter().copied(), now);
        }
        let problem = self.admission.refusal_of_stream();
        self.answer(exchange, Response::from(problem), now);
    }

    /// Refuses a waiting stream, as the log has answered.
    pub(super) fn refuse_waiting_stream(&mut self, to: SlabKey, answer: Answer, now: Now) {
        let Some(Waiting { what, exchange, .. }) = self.connections.take_waiting(to) else { return };
        let (parts, spends) = match what {
            What::Stream { wanted, spends, .. } => (vec![wanted], spends),
            What::Bundle(waiting) => (waiting.wanted.parts.clone(), waiting.spends),
            What::Answer(_) | What::Rerun(_) | What::Change(_) | What::Stored(_) | What::Keys => return,
        };
        let passes = matches!(answer, Answer::Refused(Refusal::StoreUnavailable | Refusal::TooManyProjects(_)));
        if passes && parts.iter().all(|part| part.is_event_source) {
            self.postpone(spends, now);
            self.answer_busy(&exchange, parts.iter().map(|part| &part.project), now);
            return self.connections.flush(exchange.index, now);
        }
        let shown = Render::Body.show(answer, self.api.signer(), |_| 0);
        self.finish(exchange, shown, now);
    }

    /// Restores the full lifetime of the ticket of a stream that can't begin now.
    fn postpone(&mut self, spends: Option<Spending>, now: Now) {
        if let Some(spends) = spends {
            let facts = self.admission.facts(Door::Main, None, now);
            self.replies.note(self.api.postpone_ticket(spends, &facts));
        }
    }

    /// Answers 200 and, unless only the head was requested, the one message that says when to reconnect.
    pub(super) fn answer_busy<'p>(
        &mut self,
        exchange: &Exchange,
        projects: impl IntoIterator<Item = &'p ProjectId>,
        now: Now,
    ) {
        let mut answer = Vec::new();
        self.write_stream_head(&mut answer, exchange, View::Events, now);
        if !exchange.framing.head_only {
            answer.append(&mut self.streams.busy(projects, exchange.framing.coding()));
        }
        self.metrics.streams_refused += 1;
        self.connections.answer_framed(exchange, &answer);
    }

    /// Handles history for a stream that is behind.
    pub(super) fn continue_stream(&mut self, key: SlabKey, answer: Answer, now: Now) {
        match answer {
            Answer::Page(page) => {
                self.replies.spend_on_page(page.bytes.len(), now);
                self.streams.page(key, page, now);
            }
            Answer::StartsAt(start) => {
                self.metrics.count_resume(start.resume);
                self.streams.skip(key, &start, now);
            }
            answer => {
                log::warn!("cannot read history for a stream: {answer:?}");
                self.streams.page_refused(key, now);
            }
        }
    }

    /// Handles messages of a run, for all its streams in a format.
    pub(super) fn continue_channel(&mut self, key: SlabKey, answer: Answer, now: Now) {
        match answer {
            Answer::Row(row) => self.streams.row(key, &row, now),
            Answer::Refused(Refusal::UnknownRun) => self.streams.run_gone(key, now),
            answer => {
                log::warn!("cannot read a run for a stream in another format: {answer:?}");
                self.streams.row_refused(key);
            }
        }
    }

    /// Asks the log for what responses and streams need to continue.
    pub(super) fn read_on(&mut self, now: Now) {
        while let Some((to, rest)) = self.connections.next_fetch() {
            self.replies.read_on(to, rest);
        }
        for effect in self.streams.take_effects(self.replies.pages_in_flight_max(now)) {
            match effect {
                Effect::Unwatch(project) => self.replies.unwatch(project),
                Effect::IgnoreItems(project) => self.replies.ignore_items(project),
                Effect::ReadItems { stream, project, only_run, after } => {
                    self.replies.read_items(project, only_run, after, ReplyTo::Stream(stream));
                }
                Effect::ReadRow { channel, project, run, format, after, bytes_max } => {
                    let query = Query::Row { project, run, format, after, bytes_max };
                    self.replies.read(query, ReplyTo::Channel(channel));
                }
                Effect::ReadPage { stream, project, after, only_run: run, view, bytes_max } => {
                    let query = Query::Page { project, after, run, view, bytes_max };
                    self.replies.read(query, ReplyTo::Stream(stream));
                }
            }
        }
    }
    /// Publishes the changed numbers of streams per project.
    pub(super) fn tell_watchers(&mut self) {
        let recounted = self.streams.take_recounted();
        if !recounted.is_empty() {
            let watched = |(project, count)| (project, Some(count).filter(|&count| count > 0));
            self.watchers.say(recounted.into_iter().map(watched));
        }
    }
}
