//! Starts the runs that steps of other runs wait for (child runs), and reports their failure where the log does not.
//!
//! The log tells the executor that a child has ended when it stores that end. Two cases are left to this file: a child
//! that cannot start, and a child that had ended before its step asked for it, as can happen after a crash.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::distribution::child_end;
use crate::api::{PlanRequest, Prepared, Purpose, prepare, refusal};
use crate::auth::Principal;
use crate::executor::{AttemptError, ChildCall, ChildEnd, ChildWish, Context, ExecutorHandle, NO_ROOM_WAIT};
use crate::log::{Answer, Command, LogHandle, Query, Refusal, ReplyTo};
use crossbeam_channel::{Receiver, RecvTimeoutError};

/// The delay before a child is started again that the store could not accept.
const ASK_AGAIN: Duration = Duration::from_millis(250);

/// The thread for child runs.
pub(super) struct Children {
    pub(super) wishes: Receiver<ChildWish>,
    pub(super) log: LogHandle,
    pub(super) executor: ExecutorHandle,
    pub(super) nursery: Nursery,
}

/// Decides what to do about requests for children, and keeps those to repeat. It has no thread and no clock.
pub(super) struct Nursery {
    context: Arc<Context>,
    steps_max: usize,
    put_off: VecDeque<Box<ChildCall>>,
}

/// The log and the executor, as a [`Nursery`] uses them.
pub(super) trait Elders {
    /// Asks the log, and waits for the answer. `None` if the log has ended.
    fn ask(&mut self, command: impl FnOnce(ReplyTo) -> Command) -> Option<Answer>;

    /// Tells the executor how a child has ended.
    fn tell(&mut self, child: &ChildCall, end: ChildEnd);
}

/// The log has ended.
#[derive(Debug)]
pub(super) struct LogHasEnded;

/// The result of a request for a child.
enum Fate {
    Begun,
    Failed(AttemptError),
    /// The request has to be repeated.
    PutOff,
}

impl Children {
    /// Runs until the executor or the log has ended.
    pub(super) fn run(mut self) {
        // New requests don't delay the repetition.
        let mut ask_again_at = None;
        loop {
            let next = match ask_again_at {
                None => self.wishes.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(at) => self.wishes.recv_deadline(at),
            };
            let mut elders = (&self.log, &self.executor);
            let done = match next {
                Ok(wish) => self.nursery.hear(wish, &mut elders),
                Err(RecvTimeoutError::Timeout) => {
                    ask_again_at = None;
                    self.nursery.ask_again(&mut elders)
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if done.is_err() {
                return;
            }
            ask_again_at = match self.nursery.has_put_off() {
                false => None,
                true => ask_again_at.or_else(|| Some(Instant::now() + ASK_AGAIN)),
            };
        }
    }
}

impl Elders for (&LogHandle, &ExecutorHandle) {
    fn ask(&mut self, command: impl FnOnce(ReplyTo) -> Command) -> Option<Answer> {
        self.0.ask(command)
    }

    fn tell(&mut self, child: &ChildCall, end: ChildEnd) {
        self.1.child_ended(child.project.clone(), child.parent.run_id.clone(), child.run.clone(), end);
    }
}

impl Nursery {
    /// Creates a nursery without requests.
    pub(super) fn new(context: Arc<Context>, steps_max: usize) -> Self {
        Self { context, steps_max, put_off: VecDeque::new() }
    }

    /// Carries out a request.
    pub(super) fn hear(&mut self, wish: ChildWish, elders: &mut impl Elders) -> Result<(), LogHasEnded> {
        match wish {
            ChildWish::Begin(child) => self.begin(child, elders),
            ChildWish::Cancel(project, run) => {
                self.put_off.retain(|child| child.project != project || child.run != run);
                ask(elders, |reply| Command::Cancel { project, run, reply: Some(reply) }).map(drop)
            }
            ChildWish::Forget => {
                self.put_off.clear();
                Ok(())
            }
        }
    }

    /// Repeats the requests that were put off.
    pub(super) fn ask_again(&mut self, elders: &mut impl Elders) -> Result<(), LogHasEnded> {
        let put_off = std::mem::take(&mut self.put_off);
        put_off.into_iter().try_for_each(|child| self.begin(child, elders))
    }

    /// Whether there are requests to repeat.
    pub(super) fn has_put_off(&self) -> bool {
        !self.put_off.is_empty()
    }

    fn begin(&mut self, child: Box<ChildCall>, elders: &mut impl Elders) -> Result<(), LogHasEnded> {
        match self.submit(&child, elders)? {
            Fate::PutOff => self.put_off.push_back(child),
            Fate::Failed(error) => elders.tell(&child, ChildEnd::never_began(error)),
            Fate::Begun => {
                let query = Query::ChildResult { project: child.project.clone(), run: child.run.clone() };
                match ask(elders, |reply| Command::Read { query, reply })? {
                    Answer::ChildResult(Some(result)) => elders.tell(&child, child_end(result)),
                    // The child is active: the log will report its end.
                    Answer::ChildResult(None) => {}
                    // Whether the child has ended is unknown, and its end is not reported a second time.
                    _ => self.put_off.push_back(child),
                }
            }
        }
        Ok(())
    }

    fn submit(&self, child: &ChildCall, elders: &mut impl Elders) -> Result<Fate, LogHasEnded> {
        let query = Query::StoredDocument { project: child.project.clone(), name: child.plan.clone() };
        let document = match ask(elders, |reply| Command::Read { query, reply })? {
            Answer::Document(document) => document,
            Answer::Refused(Refusal::UnknownPlan) => {
                let error = format!("the project has no stored plan named {}", child.plan);
                return rejoin(child, error, elders);
            }
            _ => return Ok(Fate::PutOff),
        };
        let request = PlanRequest {
            body: document.to_vec(),
            purpose: Purpose::Child(Box::new(child.clone())),
            idempotency_key: None,
            principal: Principal::anyone(),
        };
        let submission = match prepare(request, &self.context, self.steps_max, child.run.clone()) {
            Ok(Prepared::Run(submission)) => submission,
            Ok(_) => return rejoin(child, "the stored plan did not start a run".to_owned(), elders),
            Err(problem) => return rejoin(child, problem.detail.into_owned(), elders),
        };
        Ok(match ask(elders, |reply| Command::Submit { submission, reply })? {
            Answer::Accepted { .. } => Fate::Begun,
            Answer::Refused(Refusal::StoreUnavailable) => Fate::PutOff,
            Answer::Refused(refused) => {
                Fate::Failed(AttemptError::Busy(refusal(&refused).detail.into_owned(), NO_ROOM_WAIT))
            }
            answer => Fate::Failed(AttemptError::Passing(format!("unexpected answer of the log: {answer:?}"))),
        })
    }
}

/// It can't begin, as `error` says; but it may have begun before, when its plan was stored and could be run.
fn rejoin(child: &ChildCall, error: String, elders: &mut impl Elders) -> Result<Fate, LogHasEnded> {
    let query = Query::Document { project: child.project.clone(), run: child.run.clone() };
    Ok(match ask(elders, |reply| Command::Read { query, reply })? {
        Answer::Document(_) => Fate::Begun,
        Answer::Refused(Refusal::UnknownRun) => Fate::Failed(AttemptError::Lasting(error)),
        _ => Fate::PutOff,
    })
}

fn ask(elders: &mut impl Elders, command: impl FnOnce(ReplyTo) -> Command) -> Result<Answer, LogHasEnded> {
    elders.ask(command).ok_or(LogHasEnded)
}
