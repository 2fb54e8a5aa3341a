//! Requests to active runs, such as decisions and changes of a plan. The log checks that the run exists and passes the
//! request to the executor; the run decides, and its verdict comes back after the message that it caused. The client is
//! answered once the batch with both is committed, and its idempotency key is claimed in the same batch: so nobody is
//! told "yes" about something that a crash could undo, and a repeated call gets the same answer.
//!
//! Requests in progress are only in memory. A crash loses them together with the waiting connections; the client can
//! repeat the call and learns from its key, or from the refusal of the run, whether it was carried out. Requests from
//! other nodes stay in the store until they are answered, and are delivered again.

use std::collections::HashMap;
use std::sync::Arc;

use super::batch::Batch;
use super::claims::Earlier;
use super::wishes::Asked;
use super::{Journal, Outcome, RunEntry};
use crate::log::protocol::{Answer, Claim, Order, Refusal, ReplyTo, SteerRequest};
use crate::log::store::{RunNumber, StoreError, WishId};
use crate::model::{
    Now, ProjectId, Record, RunEvent, RunEventKind, RunId, Steer, SteeringError, SteeringId, StepStatus, StepUpdate,
    Verdict,
};

/// Wishes that may be on their way to runs; one more is refused. A wish is a body of at most `limits.body_bytes`, and a run
/// answers within a turn of the executor.
pub(super) const STEERINGS_MAX: usize = 256;

/// Wishes on their way.
#[derive(Default)]
pub(super) struct Steerings {
    newest: u64,
    on_their_way: HashMap<SteeringId, Wish>,
    /// There is nobody any more to whom they could go.
    is_over: bool,
}

/// A wish on its way.
pub(super) struct Wish {
    claim: Claim,
    /// Those who wait for the answer: several if the call was repeated meanwhile.
    waiters: Vec<Waiter>,
}

/// One who waits for the answer to a wish.
#[derive(Clone)]
pub(super) enum Waiter {
    Here(ReplyTo),
    /// Another node was asked, and has kept the wish under this number.
    Elsewhere(WishId),
}

impl Wish {
    /// Those who wait on this node. A wish of another node stays open for the next node that has the run.
    fn replies(&self) -> impl Iterator<Item = &ReplyTo> {
        self.waiters.iter().filter_map(|waiter| match waiter {
            Waiter::Here(reply) => Some(reply),
            Waiter::Elsewhere(_) => None,
        })
    }
}

/// A change of a wish, applied when the batch is committed.
pub(super) enum Move {
    /// One goes on its way.
    Begun(SteeringId, Wish),
    /// One more waits for its answer.
    Joined(SteeringId, Waiter),
    /// The run has decided: the body of the answer, or why not.
    Decided(SteeringId, Result<Arc<[u8]>, Refusal>),
    /// Another node is asked.
    Asked(WishId, Asked),
    /// One more waits for that one's answer.
    JoinedAsked(WishId, ReplyTo),
    /// Another node's wish is answered.
    Answered(WishId),
}

impl Journal {
    /// Handles a wish for a run. None if the answer comes later.
    pub(super) fn steer(
        &mut self,
        request: &SteerRequest,
        reply: &ReplyTo,
        batch: &mut Batch,
        now: Now,
    ) -> Result<Option<Answer>, StoreError> {
        let (project, run) = (request.project(), &request.run);
        if self.is_shared
            && self.run_here(project, run).is_none()
            && self.same_call(&request.claim, batch, now)?.is_none()
            && let Ok(number) = self.open_here_or_elsewhere(project, run, batch)?
        {
            return self.ask_elsewhere((request, number), reply, batch, now);
        }
        self.take_up(request, Waiter::Here(reply.clone()), batch, now)
    }

    /// Handles a wish for a run of this node. None if the answer comes later.
    pub(super) fn take_up(
        &mut self,
        request: &SteerRequest,
        waiter: Waiter,
        batch: &mut Batch,
        now: Now,
    ) -> Result<Option<Answer>, StoreError> {
        let SteerRequest { claim, run, by, what } = request;
        let project = request.project();
        if let Some(earlier) = self.same_call(claim, batch, now)? {
            return Ok(Some(earlier.answer_to(claim)));
        }
        if let Some((id, is_same)) = self.same_wish(claim, batch) {
            if is_same {
                let part = self.part(project, batch)?;
                batch.steer(part, Move::Joined(id, waiter));
            }
            return Ok((!is_same).then_some(Answer::Refused(Refusal::KeyReused)));
        }
        if let Some(refusal) = self.why_not_steer(request, batch, now)? {
            return Ok(Some(Answer::Refused(refusal)));
        }
        self.steerings.newest += 1;
        let id = SteeringId(self.steerings.newest);
        let steer = Box::new(Steer { id, by: by.clone(), what: what.clone() });
        let part = self.part(project, batch)?;
        batch.order(part, Order::Steer { project: project.clone(), run: run.clone(), steer });
        batch.steer(part, Move::Begun(id, Wish { claim: claim.clone(), waiters: vec![waiter] }));
        Ok(None)
    }

    /// Is a wish that another node was asked for on its way to its run?
    pub(super) fn is_granted(&self, id: WishId, batch: &Batch) -> bool {
        let is_it = |waiter: &Waiter| matches!(waiter, Waiter::Elsewhere(waits) if *waits == id);
        let moved_now = batch.steerings().any(|moved| match moved {
            Move::Begun(_, wish) => wish.waiters.iter().any(is_it),
            Move::Joined(_, waiter) => is_it(waiter),
            Move::Answered(answered) => *answered == id,
            _ => false,
        });
        moved_now || self.steerings.on_their_way.values().any(|wish| wish.waiters.iter().any(is_it))
    }

    /// Is there nobody any more to whom wishes could go?
    pub(super) fn is_steering_over(&self) -> bool {
        self.steerings.is_over
    }

    fn why_not_steer(&self, request: &SteerRequest, batch: &Batch, now: Now) -> Result<Option<Refusal>, StoreError> {
        let (project, claim) = (request.project(), &request.claim);
        if let Err(refusal) = self.open_here_or_elsewhere(project, &request.run, batch)? {
            return Ok(Some(refusal));
        }
        if self.run_here(project, &request.run).is_none() {
            // Another writer's, of a store by which no wish comes to it.
            return Ok(Some(Refusal::StoreUnavailable));
        }
        if self.steerings.is_over {
            return Ok(Some(Refusal::Steering(SteeringError::ShuttingDown)));
        }
        if self.steerings.on_their_way.len() + batch.steerings_begun() >= STEERINGS_MAX {
            return Ok(Some(Refusal::TooManySteerings(STEERINGS_MAX)));
        }
        // The answer is not known yet. So the keys may exceed their limit by the answers of the wishes that are under
        // way.
        let call = Earlier { fingerprint: claim.fingerprint.value, answer: Arc::default() };
        let has_room = self.has_room_to_bind(claim, &call, batch, now)?;
        Ok((!has_room).then_some(Refusal::TooManyKeys(self.limits.key_bytes)))
    }

    /// The wish on its way that has the key of this call, and whether it is the same call.
    fn same_wish(&self, claim: &Claim, batch: &Batch) -> Option<(SteeringId, bool)> {
        claim.key.as_ref()?;
        let begun = batch.steerings().filter_map(|moved| match moved {
            Move::Begun(id, wish) => Some((id, wish)),
            _ => None,
        });
        let is_decided = |id: &SteeringId| {
            batch.steerings().any(|moved| matches!(moved, Move::Decided(decided, _) if decided == id))
        };
        let mut open = self.steerings.on_their_way.iter().chain(begun).filter(|(id, _)| !is_decided(id));
        let (id, wish) =
            open.find(|(_, wish)| (&wish.claim.project, &wish.claim.key) == (&claim.project, &claim.key))?;
        Some((*id, wish.claim.fingerprint.value == claim.fingerprint.value))
    }

    /// A run has decided.
    pub(super) fn hear_verdict(
        &self,
        (project, run): (&ProjectId, &RunId),
        verdict: &Verdict,
        batch: &mut Batch,
        now: Now,
    ) -> Result<(), StoreError> {
        let Some((claim, waiters)) = self.wish_of(verdict.id, batch) else { return Ok(()) };
        let is_open = self.run_here(project, run).is_some();
        let answer = match &verdict.answer {
            // The verdict is not stored if the log has ended the run itself.
            Ok(_) if !is_open => Err(Refusal::Steering(SteeringError::RunEnded)),
            Ok(body) => {
                let body: Arc<[u8]> = body.to_string().into_bytes().into();
                let call = Earlier { fingerprint: claim.fingerprint.value, answer: body.clone() };
                self.bind_all_the_same(&claim, &call, batch, now)?;
                Ok(body)
            }
            Err(error) => Err(Refusal::Steering(error.clone())),
        };
        for waiter in waiters {
            match (waiter, &answer) {
                // The next node that has the run does it.
                (Waiter::Here(_), _) | (_, Err(Refusal::Steering(SteeringError::ShuttingDown))) => {}
                (Waiter::Elsewhere(id), _) => self.answer_wish(project, id, &as_answer(&answer), batch)?,
            }
        }
        let part = self.part(project, batch)?;
        batch.steer(part, Move::Decided(verdict.id, answer));
        Ok(())
    }

    /// The claim of a wish that is under way, and those who wait for its answer.
    fn wish_of(&self, id: SteeringId, batch: &Batch) -> Option<(Claim, Vec<Waiter>)> {
        let begun = batch.steerings().find_map(|moved| match moved {
            Move::Begun(begun, wish) if *begun == id => Some(wish),
            _ => None,
        });
        let wish = self.steerings.on_their_way.get(&id).or(begun)?;
        let joined = batch.steerings().filter_map(|moved| match moved {
            Move::Joined(joined, waiter) if *joined == id => Some(waiter),
            _ => None,
        });
        Some((wish.claim.clone(), wish.waiters.iter().chain(joined).cloned().collect()))
    }

    /// Applies the changes of a committed batch to the wishes, and replies to those that it answers.
    pub(super) fn apply_steerings(&mut self, batch: &mut Batch) {
        for moved in batch.take_steerings() {
            match moved {
                Move::Begun(id, wish) => drop(self.steerings.on_their_way.insert(id, wish)),
                Move::Joined(id, waiter) => {
                    self.steerings.on_their_way.entry(id).and_modify(|wish| wish.waiters.push(waiter));
                }
                Move::Decided(id, answer) => {
                    let Some(wish) = self.steerings.on_their_way.remove(&id) else { continue };
                    wish.replies().for_each(|to| batch.tell(to.clone(), as_answer(&answer)));
                }
                Move::Asked(id, asked) => self.wishes.has_asked(id, asked),
                Move::JoinedAsked(id, reply) => self.wishes.has_joined(id, reply),
                Move::Answered(id) => self.wishes.note_answered(id),
            }
        }
    }

    /// What runs said will never be kept, and with it what came of wishes.
    pub(super) fn refuse_verdicts(&mut self, records: &[Record], refusal: &Refusal, outcome: &mut Outcome) {
        for record in records {
            if let Record::Verdict { verdict, .. } = record
                && let Some(wish) = self.steerings.on_their_way.remove(&verdict.id)
            {
                wish.replies().for_each(|to| outcome.reply(to, Answer::Refused(refusal.clone())));
            }
        }
    }

    /// Refuses the wishes that have not reached their runs; clients may try again.
    pub(super) fn refuse_steerings(&mut self, refusal: &Refusal, outcome: &mut Outcome) {
        for (_, wish) in self.steerings.on_their_way.drain() {
            wish.replies().for_each(|to| outcome.reply(to, Answer::Refused(refusal.clone())));
        }
    }

    /// Refuses all wishes from now on.
    pub(super) fn end_steering(&mut self, outcome: &mut Outcome) {
        self.steerings.is_over = true;
        for (_, wish) in self.steerings.on_their_way.drain() {
            let refused = || Answer::Refused(Refusal::Steering(SteeringError::ShuttingDown));
            wish.replies().for_each(|to| outcome.reply(to, refused()));
        }
    }

    /// A run has said something: are as many of its steps waiting for a decision as before?
    pub(super) fn note_wait(&mut self, number: RunNumber, event: &RunEvent) {
        let RunEventKind::Progress(said) = &event.kind else { return };
        if matches!(said.update, StepUpdate::Waiting { .. }) || self.waits.contains_key(&number) {
            self.count_waits(number);
        }
    }

    /// Counts those of a run's steps that wait for a decision.
    pub(super) fn count_waits(&mut self, number: RunNumber) {
        let waits = |run: &RunEntry| run.state.steps.iter().filter(|step| step.status == StepStatus::Waiting).count();
        match self.runs.get(&number).map_or(0, waits) {
            0 => drop(self.waits.remove(&number)),
            count => drop(self.waits.insert(number, count)),
        }
    }
}

fn as_answer(answer: &Result<Arc<[u8]>, Refusal>) -> Answer {
    match answer {
        Ok(body) => Answer::Accepted { body: body.clone(), replayed: false },
        Err(refusal) => Answer::Refused(refusal.clone()),
    }
}
