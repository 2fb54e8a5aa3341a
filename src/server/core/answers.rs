//! What clients are answered: at once, or when another thread has spoken.

use std::time::Duration;

use super::Server;
use super::token::{Waiter, reply_number, waiter};
use crate::api::{Ask, OUTPUT_PIECE_BYTES, Render, Shown, claim_of_rerun, refusal};
use crate::http::{Problem, Response, write_stream_head};
use crate::log::{Answer, Command, Delivery, Query, Refusal, ReplyTo, View};
use crate::model::{Now, ProjectId, Taken};
use crate::server::attach;
use crate::server::connection::{Exchange, State, Waiting, What};
use crate::server::limits::Metered;
use crate::server::socket::Socket;

/// How long the answer to a publish waits while more than half of the project's watchers are behind. Publishers that
/// wait for their answers then take the pace of those who read, instead of driving all of them out of the backlog, and
/// at last out of history.
pub(in crate::server) const CONGESTION_HOLD: Duration = Duration::from_millis(10);

impl<S: Socket> Server<S> {
    pub(super) fn answer(&mut self, exchange: Exchange, shown: impl Into<Shown>, now: Now) {
        let mut shown = shown.into();
        for (name, value) in exchange.headers {
            shown.response = shown.response.header(name, value);
        }
        self.metrics.count_response(shown.response.status);
        self.refresh_date(now);
        self.connections[exchange.index].answer(shown, exchange.framing, &self.date.1);
    }

    /// Answers 200 and, unless only the head was asked for, the one message that says when to come back.
    pub(super) fn answer_busy(&mut self, exchange: &Exchange, project: &ProjectId, now: Now) {
        let mut answer = self.stream_head(exchange, View::Events, now);
        if !exchange.framing.head_only {
            let base = self.settings.streams.retry_ms.max(1);
            let retry = base + self.next_random() % base;
            let mut events = Vec::new();
            attach::write_busy(&mut events, project, retry);
            let coding = exchange.framing.coding();
            answer.append(&mut coding.encoded(events));
            answer.extend_from_slice(coding.end());
        }
        self.metrics.streams_refused += 1;
        let connection = &mut self.connections[exchange.index];
        connection.write_raw(&answer);
        connection.state = State::Closing;
    }

    pub(super) fn stream_head(&mut self, exchange: &Exchange, view: View, now: Now) -> Vec<u8> {
        self.refresh_date(now);
        self.metrics.count_response(200);
        let mut head = Vec::with_capacity(512);
        write_stream_head(
            &mut head,
            view.content_type(),
            exchange.framing.coding(),
            &self.date.1,
            exchange.headers.iter().map(|(name, value)| (*name, value.as_str())),
        );
        head
    }

    pub(super) fn ask(&mut self, exchange: Exchange, ask: Ask, render: Render, now: Now) {
        let mut metered = None;
        if let (Ask::Publish(_, events), Render::Published { token_key: Some(token), .. }) = (&ask, &render) {
            let rate = self.settings.limits.publish_rate;
            metered = self.meter.hold(*token, events.len(), rate, now.mono);
            if metered.is_none() {
                let detail = format!(
                    "too many messages are published with this token (limit {rate} a second, limits.publish_rate)"
                );
                let problem = Problem::too_many("publish_rate", detail, 1);
                self.count_refused(&problem);
                return self.answer(exchange, Response::from(problem), now);
            }
        }
        let what = match &ask {
            Ask::Rerun(rerun) => What::Rerun(rerun.clone()),
            _ => What::Answer(render),
        };
        let to = self.wait(exchange, what, metered);
        let reply = ReplyTo::Loop(to);
        match ask {
            Ask::Publish(project, events) => {
                self.metrics.messages_in += events.len() as u64;
                self.outbox.log.push(Command::Publish { project, events, reply });
            }
            Ask::Cancel(project, run) => self.outbox.log.push(Command::Cancel { project, run, reply: Some(reply) }),
            Ask::Read(query) => self.outbox.log.push(Command::Read { query, reply }),
            Ask::Rerun(rerun) => {
                let query = Query::Document { project: rerun.project, run: rerun.run };
                self.outbox.log.push(Command::Read { query, reply });
            }
            Ask::Plan(request) => self.outbox.intake.push((to, request)),
        }
    }

    /// The connection waits for an answer; the number that it will come with.
    pub(super) fn wait(&mut self, exchange: Exchange, what: What, metered: Option<Taken<Metered>>) -> u64 {
        let index = exchange.index;
        let connection = &mut self.connections[index];
        connection.state = State::Waiting(Box::new(Waiting { what, exchange, metered }));
        reply_number(Waiter::Connection { index: index as u32, generation: connection.generation })
    }

    pub(super) fn deliver(&mut self, delivery: Delivery, now: Now) {
        match delivery {
            Delivery::Frames { project, frames } => {
                self.metrics.messages_logged += frames.marks.len() as u64;
                self.streams.broadcast(&project, &frames, now);
            }
            Delivery::Opened { project, frames } => self.streams.open_project(&project, frames, now),
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
        if let Some(index) = self.sending(to) {
            return self.continue_answer(index, answer);
        }
        match (waiter(to), answer) {
            (Waiter::Stream(key), answer) => self.continue_stream(key, answer, now),
            (Waiter::Connection { .. }, Answer::Attached(attached)) => self.attach(to, *attached, now),
            (Waiter::Connection { .. }, answer @ Answer::Published { .. }) if self.outruns_its_watchers(to, now) => {
                self.held_answers.push_back((now.mono + CONGESTION_HOLD, to, answer));
            }
            (Waiter::Connection { .. }, answer @ Answer::Published { .. }) => {
                // Those who drive their own watchers into history are not to slow down its way to them.
                [&mut self.contents, &mut self.histories, &mut self.beginnings]
                    .into_iter()
                    .for_each(|allowance| allowance.note_publish(now.mono));
                self.render_answer(to, answer, now);
            }
            (Waiter::Connection { .. }, Answer::Document(document)) => self.run_again(to, &document),
            (Waiter::Connection { .. }, Answer::Refused(refused)) if self.recall(to, &refused) => {}
            (Waiter::Connection { .. }, answer) => self.render_answer(to, answer, now),
        }
    }

    /// What a run was made of is a plan like any other from here on, and whoever asked for it waits for its run.
    fn run_again(&mut self, to: u64, document: &[u8]) {
        let Some(index) = self.waiting(to) else { return };
        let State::Waiting(waiting) = &mut self.connections[index].state else { return };
        if let What::Rerun(rerun) = std::mem::replace(&mut waiting.what, What::Answer(Render::Accepted)) {
            self.outbox.intake.push((to, rerun.plan(document)));
        }
    }

    /// A run that is gone can't be run again; but it may have been before, under the same key.
    fn recall(&mut self, to: u64, refused: &Refusal) -> bool {
        let Some(index) = self.waiting(to) else { return false };
        let State::Waiting(waiting) = &mut self.connections[index].state else { return false };
        let What::Rerun(rerun) = &waiting.what else { return false };
        let claim = Box::new(claim_of_rerun(rerun));
        if !claim.is_named() || *refused != Refusal::UnknownRun {
            return false;
        }
        waiting.what = What::Answer(Render::Accepted);
        let query = Query::Recall { claim, otherwise: Box::new(refusal(refused)) };
        self.outbox.log.push(Command::Read { query, reply: ReplyTo::Loop(to) });
        true
    }

    fn render_answer(&mut self, to: u64, answer: Answer, now: Now) {
        let Some(index) = self.waiting(to) else { return };
        if let Answer::Refused(refused) = &answer {
            self.count_refused(&refusal(refused));
        }
        let State::Waiting(waiting) = &mut self.connections[index].state else { return };
        if !matches!(answer, Answer::Refused(_)) {
            waiting.metered.take().map(Taken::keep);
        }
        let render = match &waiting.what {
            What::Answer(render) => render,
            What::Rerun(_) => &Render::Accepted,
            What::Stream(_) => return self.refuse_attach(to, answer, now),
        };
        let shown = render.show(answer, self.api.signer(), |project| self.streams.subscribers(project));
        self.answer_waiting(to, shown, now);
    }

    /// Does this publisher publish to a project most of whose watchers are behind?
    fn outruns_its_watchers(&mut self, to: u64, now: Now) -> bool {
        let waiting = self.waiting(to).map(|index| &self.connections[index].state);
        match waiting {
            Some(State::Waiting(waiting)) => match &waiting.what {
                What::Answer(Render::Published { project, .. }) => self.streams.is_congested(project, now),
                _ => false,
            },
            _ => false,
        }
    }

    /// Gives the answers that were held back for long enough.
    pub(super) fn release_held_answers(&mut self, now: Now) {
        while self.held_answers.front().is_some_and(|(until, ..)| now.mono >= *until)
            && let Some((_, to, answer)) = self.held_answers.pop_front()
        {
            self.render_answer(to, answer, now);
        }
    }

    pub(super) fn answer_waiting(&mut self, to: u64, shown: impl Into<Shown>, now: Now) {
        if let Some(waiting) = self.take_waiting(to) {
            self.finish_waiting(waiting.exchange, shown, now);
        }
    }

    pub(super) fn finish_waiting(&mut self, exchange: Exchange, shown: impl Into<Shown>, now: Now) {
        let index = exchange.index;
        self.answer(exchange, shown, now);
        self.serve_requests(index, now);
        // What the client sent while it waited may not have been read.
        if self.connections.get(index).is_some_and(|connection| connection.has_unread) {
            self.read_later(index);
        }
    }

    /// Asks the log for what comes next of content that it holds, where it is time for that.
    pub(super) fn fetch_next(&mut self, index: usize) {
        let Some(connection) = self.connections.get_mut(index) else { return };
        if let State::Sending(sending) = &mut connection.state
            && let Some(rest) = sending.next_to_fetch()
        {
            let waiter = Waiter::Connection { index: index as u32, generation: connection.generation };
            let query = Query::OutputRest { rest, bytes_max: OUTPUT_PIECE_BYTES };
            self.outbox.log.push(Command::Read { query, reply: ReplyTo::Loop(reply_number(waiter)) });
        }
    }

    /// More has come of content that the log holds. Where that is not to be had any more, nothing but the end of the
    /// connection tells it: the length was promised.
    fn continue_answer(&mut self, index: usize, answer: Answer) {
        let State::Sending(sending) = &mut self.connections[index].state else { return };
        let goes_on = match answer {
            Answer::OutputRest { bytes, rest } => sending.go_on(bytes, rest),
            answer => {
                log::warn!("the rest of an output can't be read, and the connection is closed: {answer:?}");
                false
            }
        };
        match goes_on {
            true => self.write_later(index),
            false => self.doom(index),
        }
    }

    /// The connection that waits for this answer, if it still does.
    pub(super) fn waiting(&self, to: u64) -> Option<usize> {
        self.asking(to).filter(|&index| matches!(self.connections[index].state, State::Waiting(_)))
    }

    /// The connection that waits for more of its content by this answer, if it still does.
    fn sending(&self, to: u64) -> Option<usize> {
        self.asking(to).filter(|&index| matches!(self.connections[index].state, State::Sending(_)))
    }

    /// The connection that asked for this answer, if it is still there.
    fn asking(&self, to: u64) -> Option<usize> {
        let Waiter::Connection { index, generation } = waiter(to) else { return None };
        let connection = self.connections.get(index as usize)?;
        (connection.generation == generation).then_some(index as usize)
    }

    pub(super) fn take_waiting(&mut self, to: u64) -> Option<Waiting> {
        let index = self.waiting(to)?;
        match std::mem::replace(&mut self.connections[index].state, State::Reading) {
            State::Waiting(waiting) => Some(*waiting),
            _ => None,
        }
    }

    pub(super) fn refresh_date(&mut self, now: Now) {
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
