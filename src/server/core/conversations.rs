//! Chat frontends that send a message: from the run that they want to follow to its stream, with its plan if it has yet
//! to be started.
//!
//! The log is asked where the stream begins. If it knows no such run, the plan goes to the intake like any other, and
//! once the log has accepted it, the log is asked again. One request waits during all of this, and its client may
//! leave: a run that was started continues.
//!
//! If a frontend decides steps that wait, the decisions go to the log first, one after the other. The stream begins
//! after all of them.

use std::sync::Arc;

use serde::Deserialize;

use super::Server;
use crate::api::{Ask, Otherwise, RESUME_GRACE_MS};
use crate::http::{Problem, Response};
use crate::log::{Refusal, StartingPosition, Subscription};
use crate::model::{Now, RunId, SlabKey};
use crate::server::exchange::Exchange;
use crate::server::socket::Socket;
use crate::server::waiting::{Waiting, What};

impl<S: Socket> Server<S> {
    /// Begins the stream of a run. If the run is not known, does `otherwise`.
    pub(super) fn converse(&mut self, exchange: Exchange, wanted: Arc<Subscription>, otherwise: Otherwise, now: Now) {
        match otherwise {
            Otherwise::Refuse(problem) if wanted.run.is_none() => self.refuse(exchange, *problem, now),
            otherwise => match self.turns.take(weight(&wanted, &otherwise)) {
                Ok(held) => self.subscribe_or(exchange, wanted, otherwise, held, now),
                Err(problem) => self.refuse(exchange, problem, now),
            },
        }
    }

    fn refuse(&mut self, exchange: Exchange, problem: Problem, now: Now) {
        self.metrics.count_problem(&problem);
        self.answer(exchange, Response::from(problem), now);
    }

    /// If the log does not know the run, does what the request asks for in that case. Returns `false` if it asks for
    /// nothing.
    pub(super) fn does_otherwise(&mut self, to: SlabKey, now: Now) -> bool {
        let Some(Waiting { what: What::Stream { otherwise, .. }, .. }) = self.connections.waiting(to) else {
            return false;
        };
        match otherwise.take() {
            None => return false,
            Some(Otherwise::Begin(plan)) => self.replies.ask(to, Ask::Plan(*plan)),
            Some(Otherwise::BeginStored(stored)) => {
                *otherwise = Some(Otherwise::BeginStored(stored.clone()));
                self.replies.ask(to, Ask::Stored(stored));
            }
            Some(Otherwise::Decide(mut decisions)) => match decisions.pop() {
                Ok(Some(request)) => {
                    *otherwise = Some(Otherwise::Decide(decisions));
                    self.replies.ask(to, Ask::Steer(Box::new(request)));
                }
                Ok(None) => self.replies.postpone(to),
                Err(problem) => self.refuse_conversation(to, problem, now),
            },
            Some(Otherwise::Refuse(problem)) => self.refuse_conversation(to, *problem, now),
            Some(Otherwise::Nothing) => self.answer_waiting(to, Response::new(204), now),
        }
        true
    }

    fn refuse_conversation(&mut self, to: SlabKey, problem: Problem, now: Now) {
        self.metrics.count_problem(&problem);
        self.answer_waiting(to, Response::from(problem), now);
    }

    /// A step was decided, or the decision was refused: decides the next step, or begins the stream. Returns `false` if
    /// the request has no decisions.
    pub(super) fn has_decided(&mut self, to: SlabKey, refused: Option<&Refusal>, now: Now) -> bool {
        let Some(Waiting { what: What::Stream { otherwise, .. }, .. }) = self.connections.waiting(to) else {
            return false;
        };
        let Some(Otherwise::Decide(decisions)) = otherwise else { return false };
        decisions.note(refused);
        self.does_otherwise(to, now)
    }

    /// Starts the run of the stored plan that a frontend has named. Returns `false` if the request is not a frontend's.
    pub(super) fn begins_stored(&mut self, to: SlabKey, document: &[u8]) -> bool {
        let Some(Waiting { what: What::Stream { otherwise, .. }, .. }) = self.connections.waiting(to) else {
            return false;
        };
        let Some(Otherwise::BeginStored(stored)) = otherwise.take() else { return false };
        self.replies.ask(to, Ask::Plan(stored.plan(document)));
        true
    }

    /// The log has accepted a run. If a stream waits for that, asks the log for its start.
    pub(super) fn has_begun(&mut self, to: SlabKey, answer: &[u8]) -> bool {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Begun {
            run_id: RunId,
        }
        let Some(Waiting { what: What::Stream { wanted, .. }, .. }) = self.connections.waiting(to) else {
            return false;
        };
        // The stored answer of another server may name no run. Then the client gets that answer.
        let Ok(Begun { run_id }) = serde_json::from_slice(answer) else { return false };
        Arc::make_mut(wanted).run = Some(run_id);
        self.replies.postpone(to);
        true
    }
}

/// The memory of a waiting request.
fn weight(wanted: &Subscription, otherwise: &Otherwise) -> usize {
    let said = wanted.said.as_ref().map_or(0, |said| said.bytes());
    match otherwise {
        Otherwise::Begin(plan) => said + plan.body.len(),
        Otherwise::BeginStored(stored) => said + stored.body.len(),
        Otherwise::Decide(decisions) => said + decisions.bytes(),
        Otherwise::Refuse(_) | Otherwise::Nothing => said,
    }
}

/// Whether the run ended so long ago that there is nothing to resume.
pub(super) fn is_long_over(start: &StartingPosition, now: Now) -> bool {
    let ended_at = start.retold.as_ref().and_then(|retold| retold.ended_at);
    ended_at.is_some_and(|at| now.wall.millis_since(at) > RESUME_GRACE_MS)
}
