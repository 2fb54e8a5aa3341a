//! Requests to runs of other nodes. A request is stored until the node that has the run has answered it: that node
//! handles it like one of its own clients, and stores the answer in the batch with its effect. So a request is executed
//! once, by whichever node has the run at that time, and is refused for the same reasons as at that node.
//!
//! The client waits for the answer, but only for a limited time and not while the store is down. Then it is told that
//! the store is unavailable, although the request may still be executed. If it repeats the call, its key or the refusal
//! of the run tells.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::batch::Batch;
use super::steering::{Move, STEERINGS_MAX, Waiter};
use super::{Journal, Outcome};
use crate::log::protocol::{Answer, Claim, Command, Fingerprint, Refusal, ReplyTo, SteerRequest};
use crate::log::store::{RunNumber, StoreError, WishId, WishRow, Write};
use crate::model::{Now, ProjectId, RunId, Steering, SteeringError};

/// How long the answer of another node is waited for: longer than another takes to be gone and its runs to be taken over.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// How many answered wishes are remembered. The tail may have read some of them as open just before they were answered;
/// it has at most one such result under way.
const ANSWERED_MAX: usize = 4 * STEERINGS_MAX;

/// The wishes for other nodes, and those of other nodes.
#[derive(Default)]
pub(super) struct Wishes {
    /// Wishes whose answers clients of this node wait for.
    asked: HashMap<WishId, Asked>,
    waiting: Arc<WaitingWishes>,
    /// The newest that were answered here.
    answered: BTreeSet<WishId>,
    in_order: VecDeque<WishId>,
}

/// A wish that another node was asked for.
pub(super) struct Asked {
    claim: Claim,
    /// Who waits for the answer: more than one where the call has come again meanwhile.
    replies: Vec<ReplyTo>,
    until: Duration,
}

/// The wishes whose answers a journal waits for: said whenever that changes, for the thread that looks for them.
#[derive(Debug, Default)]
pub struct WaitingWishes(Mutex<Vec<WishId>>);

impl WaitingWishes {
    /// All of them.
    pub fn all(&self) -> Vec<WishId> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Wishes {
    pub(super) fn has_asked(&mut self, id: WishId, asked: Asked) {
        self.asked.insert(id, asked);
        self.say();
    }

    /// One more waits for the answer.
    pub(super) fn has_joined(&mut self, id: WishId, reply: ReplyTo) {
        self.asked.entry(id).and_modify(|asked| asked.replies.push(reply));
    }

    pub(super) fn note_answered(&mut self, id: WishId) {
        if self.answered.insert(id) {
            self.in_order.push_back(id);
        }
        if self.in_order.len() > ANSWERED_MAX
            && let Some(oldest) = self.in_order.pop_front()
        {
            self.answered.remove(&oldest);
        }
    }

    fn say(&self) {
        let all = self.asked.keys().copied().collect();
        *self.waiting.0.lock().unwrap_or_else(PoisonError::into_inner) = all;
    }

    /// When someone has waited too long.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        self.asked.values().map(|asked| asked.until).min()
    }
}

impl Journal {
    /// The wishes whose answers are waited for here.
    pub fn waiting_wishes(&self) -> Arc<WaitingWishes> {
        self.wishes.waiting.clone()
    }

    /// Another node has the run: it is asked.
    pub(super) fn ask_elsewhere(
        &mut self,
        (request, number): (&SteerRequest, RunNumber),
        reply: &ReplyTo,
        batch: &mut Batch,
        now: Now,
    ) -> Result<Option<Answer>, StoreError> {
        let SteerRequest { claim, run, .. } = request;
        if let Some((id, is_same)) = self.same_asked(claim, batch) {
            if is_same {
                let part = self.part(&claim.project, batch)?;
                batch.steer(part, Move::JoinedAsked(id, reply.clone()));
            }
            return Ok((!is_same).then_some(Answer::Refused(Refusal::KeyReused)));
        }
        if self.is_steering_over() {
            return Ok(Some(Answer::Refused(Refusal::Steering(SteeringError::ShuttingDown))));
        }
        let asked_now = batch.steerings().filter(|moved| matches!(moved, Move::Asked(..))).count();
        if self.wishes.asked.len() + asked_now >= STEERINGS_MAX {
            return Ok(Some(Answer::Refused(Refusal::TooManySteerings(STEERINGS_MAX))));
        }
        let id = WishId(self.numbers.bits());
        let wish = Wanted::of(request).to_json()?;
        let part = self.part(&claim.project, batch)?;
        let row = WishRow { id, project: claim.project.clone(), run: run.clone(), number, wish };
        batch.write(part, Write::Wish(Box::new(row)));
        let asked = Asked { claim: claim.clone(), replies: vec![reply.clone()], until: now.mono + WAIT_MAX };
        batch.steer(part, Move::Asked(id, asked));
        Ok(None)
    }

    /// The wish that another node was asked for with the key of this call, and whether it is the same call.
    fn same_asked(&self, claim: &Claim, batch: &Batch) -> Option<(WishId, bool)> {
        claim.key.as_ref()?;
        let asked_now = batch.steerings().filter_map(|moved| match moved {
            Move::Asked(id, asked) => Some((id, asked)),
            _ => None,
        });
        let mut asked = self.wishes.asked.iter().chain(asked_now);
        let (id, asked) =
            asked.find(|(_, asked)| (&asked.claim.project, &asked.claim.key) == (&claim.project, &claim.key))?;
        Some((*id, asked.claim.fingerprint.value == claim.fingerprint.value))
    }

    /// Takes news of wishes out of `commands`. Clients of this node get the answers to their wishes; the wishes of
    /// other nodes are returned as commands.
    pub(super) fn hear_wishes(&mut self, commands: &mut Vec<Command>, outcome: &mut Outcome) -> Vec<Command> {
        let mut to_do = Vec::new();
        for command in commands.extract_if(.., |command| matches!(command, Command::Wishes(_))) {
            let Command::Wishes(wishes) = command else { continue };
            for (id, answer) in wishes.answered {
                let Some(asked) = self.wishes.asked.remove(&id) else { continue };
                asked.replies.iter().for_each(|to| outcome.reply(to, answer_of(&answer)));
            }
            to_do.extend(wishes.open.into_iter().map(|row| Command::Grant(Box::new(row))));
            self.wishes.say();
        }
        to_do
    }

    /// Has a run of this node do what another node was asked for, unless it is about to.
    pub(super) fn grant(&mut self, row: &WishRow, batch: &mut Batch, now: Now) -> Result<(), StoreError> {
        let WishRow { id, project, run, number, .. } = row;
        // Where this node is about to end, the next one that has the run does it.
        if self.wishes.answered.contains(id) || self.is_granted(*id, batch) || self.is_steering_over() {
            return Ok(());
        }
        let Some(request) = Wanted::read(row) else {
            log::warn!("cannot read the request of another node for run {run}");
            return self.answer_wish(project, *id, &Answer::Refused(Refusal::StoreUnavailable), batch);
        };
        match self.open_here_or_elsewhere(project, run, batch)? {
            Err(refusal) => return self.answer_wish(project, *id, &Answer::Refused(refusal), batch),
            Ok(other) if other != *number => {
                return self.answer_wish(project, *id, &Answer::Refused(Refusal::RunEnded), batch);
            }
            // The run was taken over just now and does not continue yet, or another node has it by now. The wish comes
            // again.
            Ok(_) if self.run_here(project, run).is_none() => return Ok(()),
            Ok(_) => {}
        }
        match self.take_up(&request, Waiter::Elsewhere(*id), batch, now)? {
            Some(answer) => self.answer_wish(project, *id, &answer, batch),
            None => Ok(()),
        }
    }

    /// A wish of another node is answered.
    pub(super) fn answer_wish(
        &self,
        project: &ProjectId,
        id: WishId,
        answer: &Answer,
        batch: &mut Batch,
    ) -> Result<(), StoreError> {
        let answer = WishAnswer::of(answer).to_json()?;
        let part = self.part(project, batch)?;
        batch.write(part, Write::WishAnswered { id, answer });
        batch.steer(part, Move::Answered(id));
        Ok(())
    }

    /// Refuses the wishes that have waited too long, or all of them while the store is down or when this node ends.
    pub(super) fn give_wishes_up(&mut self, now: Now, outcome: &mut Outcome) {
        if self.wishes.asked.is_empty() {
            return;
        }
        let gives_up = self.is_down() || self.is_steering_over();
        for (_, asked) in self.wishes.asked.extract_if(|_, asked| gives_up || asked.until <= now.mono) {
            asked.replies.iter().for_each(|to| outcome.reply(to, Answer::Refused(Refusal::StoreUnavailable)));
        }
        self.wishes.say();
    }
}

/// A wish, as it is stored for the node that has the run.
#[derive(Debug, Serialize, Deserialize)]
struct Wanted {
    by: Arc<str>,
    what: Steering,
    key: Option<String>,
    claimed: Option<RunId>,
    /// The digests of the call's JSON value and of its bytes.
    fingerprints: [[u8; 32]; 2],
}

impl Wanted {
    fn of(request: &SteerRequest) -> Self {
        let SteerRequest { claim: Claim { key, run, fingerprint, .. }, by, what, .. } = request.clone();
        Self { by, what, key, claimed: run, fingerprints: [fingerprint.value, fingerprint.bytes] }
    }

    fn read(row: &WishRow) -> Option<SteerRequest> {
        let Self { by, what, key, claimed, fingerprints: [value, bytes] } = serde_json::from_slice(&row.wish).ok()?;
        let fingerprint = Fingerprint { value, bytes };
        let claim = Claim { project: row.project.clone(), key, run: claimed, fingerprint };
        Some(SteerRequest { claim, run: row.run.clone(), by, what })
    }

    fn to_json(&self) -> Result<Arc<[u8]>, StoreError> {
        json(self)
    }
}

/// An answer, as it is stored for the node that waits for it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WishAnswer {
    /// The body of the answer, to the byte, for its key is bound with the same.
    Accepted {
        body: String,
        replayed: bool,
    },
    Refused(Refusal),
}

impl WishAnswer {
    fn of(answer: &Answer) -> Self {
        match answer {
            Answer::Accepted { body, replayed } => {
                Self::Accepted { body: String::from_utf8_lossy(body).into_owned(), replayed: *replayed }
            }
            Answer::Refused(refusal) => Self::Refused(refusal.clone()),
            other => {
                debug_assert!(false, "no answer to a wish: {other:?}");
                Self::Refused(Refusal::StoreUnavailable)
            }
        }
    }

    fn to_json(&self) -> Result<Arc<[u8]>, StoreError> {
        json(self)
    }
}

/// The answer of another node; an empty one means that the run has ended without an answer.
fn answer_of(kept: &[u8]) -> Answer {
    if kept.is_empty() {
        return Answer::Refused(Refusal::Steering(SteeringError::RunEnded));
    }
    match serde_json::from_slice(kept) {
        Ok(WishAnswer::Accepted { body, replayed }) => Answer::Accepted { body: body.into_bytes().into(), replayed },
        Ok(WishAnswer::Refused(refusal)) => Answer::Refused(refusal),
        Err(error) => {
            log::warn!("cannot read the answer of another node: {error}");
            Answer::Refused(Refusal::StoreUnavailable)
        }
    }
}

fn json(value: &impl Serialize) -> Result<Arc<[u8]>, StoreError> {
    serde_json::to_vec(value).map(Into::into).map_err(|error| StoreError(error.to_string()))
}
