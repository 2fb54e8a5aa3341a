//! Answers to clients: at once, or when another thread has answered.

use super::Server;
use crate::api::{Ask, ChangeRequest, PlanRequest, Render, RerunRequest, Shown, claim_of_rerun, refusal};
use crate::http::{Problem, Response};
use crate::log::{Answer, Delivery, Query, Refusal, ReplyTo};
use crate::model::{Now, SlabKey, Taken};
use crate::server::admission::Metered;
use crate::server::exchange::Exchange;
use crate::server::socket::Socket;
use crate::server::waiting::{Waiting, What};

impl<S: Socket> Server<S> {
    pub(super) fn answer(&mut self, mut exchange: Exchange, shown: impl Into<Shown>, now: Now) {
        let mut shown = shown.into();
        for (name, value) in exchange.headers.drain(..) {
            shown.response = shown.response.header(name, value);
        }
        self.metrics.count_response(shown.response.status);
        self.connections.answer(&exchange, shown, self.date.at(now));
    }

    /// Passes a request to another thread that answers it.
    pub(super) fn ask(&mut self, exchange: Exchange, ask: Ask, render: Render, now: Now) {
        let metered = match self.meter(&ask, &render, now) {
            Ok(metered) => metered,
            Err(problem) => {
                self.metrics.count_problem(&problem);
                return self.answer(exchange, Response::from(problem), now);
            }
        };
        if let Ask::Publish(_, events) = &ask {
            self.metrics.messages_in += events.len() as u64;
        }
        let what = match &ask {
            Ask::Rerun(rerun) => What::Rerun(rerun.clone()),
            Ask::Change(change) => What::Change(change.clone()),
            Ask::Stored(stored) => What::Stored(stored.clone()),
            _ => What::Answer(render),
        };
        let to = self.connections.wait(Waiting { what, exchange, metered });
        self.replies.ask(to, ask);
    }

    /// Takes a call's messages from the publish rate of its token.
    fn meter(&mut self, ask: &Ask, render: &Render, now: Now) -> Result<Option<Taken<Metered>>, Problem> {
        match (ask, render) {
            (Ask::Publish(_, events), Render::Published { token_key: Some(token), .. }) => {
                self.admission.meter(*token, events.len(), now.mono).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Handles output of the log.
    pub(super) fn deliver(&mut self, delivery: Delivery, now: Now) {
        match delivery {
            Delivery::Frames { project, frames } => {
                self.metrics.messages_logged += frames.marks.len() as u64;
                self.streams.broadcast(&project, &frames, now);
            }
            Delivery::Opened { project, frames } => self.streams.open_project(&project, frames, now),
            Delivery::Reply { to: ReplyTo::Connection(to), answer } => self.receive_answer(to, answer, now),
            Delivery::Reply { to: ReplyTo::Stream(key), answer } => self.continue_stream(key, answer, now),
            Delivery::Reply { to: ReplyTo::Channel(key), answer } => self.continue_channel(key, answer, now),
            // The log's thread has answered callers elsewhere.
            Delivery::Reply { to: ReplyTo::Caller(_), .. } => {}
            Delivery::Tickets(notes) => self.api.learn_of_tickets(&notes),
            Delivery::Worked(work) => self.metrics.work.add(&work),
            Delivery::StoreIsDown(is_down) => {
                self.admission.set_store_down(is_down);
                self.metrics.store_is_down = is_down;
            }
        }
    }

    fn receive_answer(&mut self, to: SlabKey, answer: Answer, now: Now) {
        if self.connections.is_sending(to) {
            return self.connections.go_on(to, answer);
        }
        match answer {
            Answer::StartsAt(start) => self.start_stream(to, *start, now),
            answer @ Answer::Published { .. } if self.outruns_its_watchers(to, now) => {
                self.replies.hold(to, answer, now);
            }
            answer @ Answer::Published { .. } => {
                // Publishers that outrun their streams must not slow down history for those streams.
                self.connections.note_publish(now);
                self.replies.note_publish(now);
                self.give(to, answer, now);
            }
            Answer::Document(document) if self.run_stored(to, &document) || self.begins_stored(to, &document) => {}
            Answer::Document(document) => self.go_on_with(to, &document),
            Answer::Ended(ended) => self.run_again(to, |rerun| rerun.retry(ended)),
            Answer::Accepted { .. } if self.has_decided(to, None, now) => {}
            Answer::Refused(refused) if self.has_decided(to, Some(&refused), now) => {}
            Answer::Accepted { body, .. } if self.has_begun(to, &body) => {}
            Answer::Refused(Refusal::UnknownRun) if self.does_otherwise(to, now) => {}
            Answer::Refused(refused) if self.recall(to, &refused) => {}
            answer => self.give(to, answer, now),
        }
    }

    /// Submits a stored plan for the request that waits for it, which then waits for the run. `false` if the request
    /// did not ask for a stored plan.
    fn run_stored(&mut self, to: SlabKey, document: &[u8]) -> bool {
        let Some(waiting) = self.connections.waiting(to) else { return false };
        if !matches!(waiting.what, What::Stored(_)) {
            return false;
        }
        if let What::Stored(stored) = std::mem::replace(&mut waiting.what, What::Answer(Render::Accepted)) {
            self.replies.ask(to, Ask::Plan(stored.plan(document)));
        }
        true
    }

    /// Continues a rerun or a change with the document of the run: the request then waits for the new run, or for the
    /// change.
    fn go_on_with(&mut self, to: SlabKey, document: &[u8]) {
        let Some(waiting) = self.connections.waiting(to) else { return };
        let change = match &waiting.what {
            What::Rerun(_) => return self.run_again(to, |rerun| rerun.plan(document)),
            What::Change(change) => ChangeRequest::clone(change).plan(document),
            _ => return,
        };
        waiting.what = What::Answer(Render::Steered);
        self.replies.ask(to, Ask::Plan(change));
    }

    fn run_again(&mut self, to: SlabKey, plan: impl FnOnce(RerunRequest) -> PlanRequest) {
        let Some(waiting) = self.connections.waiting(to) else { return };
        if let What::Rerun(rerun) = std::mem::replace(&mut waiting.what, What::Answer(Render::Accepted)) {
            self.replies.ask(to, Ask::Plan(plan(*rerun)));
        }
    }

    /// If the run or stored plan is gone, asks whether it was run again before under the same key. Returns whether it
    /// does.
    fn recall(&mut self, to: SlabKey, refused: &Refusal) -> bool {
        let Some(waiting) = self.connections.waiting(to) else { return false };
        let claim = match &waiting.what {
            What::Rerun(rerun) => claim_of_rerun(rerun),
            What::Stored(stored) => stored.claim(),
            _ => return false,
        };
        let claim = Box::new(claim);
        if !claim.is_named() || !matches!(refused, Refusal::UnknownRun | Refusal::UnknownPlan) {
            return false;
        }
        waiting.what = What::Answer(Render::Accepted);
        let query = Query::Recall { claim, otherwise: Box::new(refusal(refused)) };
        self.replies.read(query, ReplyTo::Connection(to));
        true
    }

    /// Whether this publisher publishes to a project most of whose streams are behind.
    fn outruns_its_watchers(&mut self, to: SlabKey, now: Now) -> bool {
        match self.connections.waiting(to).map(|waiting| &waiting.what) {
            Some(What::Answer(Render::Published { project, .. })) => self.streams.is_congested(project, now),
            _ => false,
        }
    }

    /// Sends the held answers that are due.
    pub(super) fn give_held_answers(&mut self, now: Now) {
        while let Some((to, answer)) = self.replies.next_due(now) {
            self.give(to, answer, now);
        }
    }

    /// Sends an answer to the request that waits for it.
    fn give(&mut self, to: SlabKey, answer: Answer, now: Now) {
        let Some(waiting) = self.connections.waiting(to) else { return };
        match &answer {
            Answer::Refused(refused) => self.metrics.count_problem(&refusal(refused)),
            _ => drop(waiting.metered.take().map(Taken::keep)),
        }
        let render = match &waiting.what {
            What::Answer(render) => render,
            What::Rerun(_) | What::Stored(_) => &Render::Accepted,
            What::Change(_) => &Render::Steered,
            What::Stream { .. } | What::Bundle(_) => return self.refuse_waiting_stream(to, answer, now),
            // The log was not asked for it.
            What::Keys => return,
        };
        let shown = render.show(answer, self.api.signer(), |project| self.streams.subscribers(project));
        self.answer_waiting(to, shown, now);
    }

    pub(super) fn answer_waiting(&mut self, to: SlabKey, shown: impl Into<Shown>, now: Now) {
        if let Some(waiting) = self.connections.take_waiting(to) {
            self.finish(waiting.exchange, shown, now);
        }
    }

    /// Answers a request that waited, and serves those that the client sent after it.
    pub(super) fn finish(&mut self, exchange: Exchange, shown: impl Into<Shown>, now: Now) {
        let index = exchange.index;
        self.answer(exchange, shown, now);
        self.serve_requests(index, now);
        self.connections.read_rest(index);
    }
}
