//! The intake thread: it parses and validates plans, so that a large plan blocks neither the loop nor the runs.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::inbox::{Inbox, InboxSender};
use crate::api::{PlanRequest, Prepared, prepare};
use crate::executor::Context;
use crate::http::Response;
use crate::log::{Command, LogHandle, PlanCommand, Query, ReplyTo};
use crate::model::{RunId, SlabKey};

/// The most plans that may wait to be checked. Further ones are refused with 429. Each is a body of at most
/// `limits.body_bytes`.
const WAITING_PLANS_MAX: usize = 256;

/// The error for a plan that does not fit.
pub(super) fn too_many_plans() -> String {
    format!("too many plans are waiting to be validated (limit {WAITING_PLANS_MAX}, not configurable)")
}

/// The most plans that are passed to the log together.
const BATCH_MAX: usize = 64;

/// How many ids' worth of random bits to read at once. The system call takes longer than making an id.
pub(super) const IDS_AT_ONCE: usize = 32;

/// A plan, and the request that waits for the answer.
pub(super) struct Work {
    pub(super) to: SlabKey,
    pub(super) request: PlanRequest,
}

/// The state of the intake.
pub(super) struct Intake {
    pub(super) context: Arc<Context>,
    pub(super) steps_max: usize,
    pub(super) log: LogHandle,
    pub(super) inbox: InboxSender,
    pub(super) random: fn() -> [u8; 16 * IDS_AT_ONCE],
}

impl Intake {
    /// The sender for plans, and the function that the thread runs. The thread ends when the sender is dropped.
    pub(super) fn into_work(self) -> (Sender<Work>, impl FnOnce() + Send) {
        let (sender, receiver) = bounded(WAITING_PLANS_MAX);
        (sender, move || self.run(&receiver))
    }

    fn run(self, work: &Receiver<Work>) {
        let mut ids = Vec::new();
        while let Ok(first) = work.recv() {
            let waiting = std::iter::once(first).chain(work.try_iter().take(BATCH_MAX - 1));
            let commands: Vec<Command> = waiting.filter_map(|work| self.take(work, self.next_id(&mut ids))).collect();
            if !commands.is_empty() && self.log.send(commands).is_err() {
                return;
            }
        }
    }

    /// An id that no other run has. `left` are the unused random bits.
    fn next_id(&self, left: &mut Vec<[u8; 16]>) -> RunId {
        if left.is_empty() {
            left.extend((self.random)().as_chunks().0);
        }
        RunId::from_random(left.pop().expect("filled just above"))
    }

    /// The command for the log. `None` if the plan is answered here.
    fn take(&self, Work { to, request }: Work, made_up: RunId) -> Option<Command> {
        let response = match prepare(request, &self.context, self.steps_max, made_up) {
            Ok(Prepared::Run(submission)) => {
                return Some(Command::Submit { submission, reply: ReplyTo::Connection(to) });
            }
            Ok(Prepared::Steer(request)) => return Some(Command::Steer { request, reply: ReplyTo::Connection(to) }),
            Ok(Prepared::Store(plan)) => {
                return Some(Command::Plan { command: PlanCommand::Put(plan), reply: ReplyTo::Connection(to) });
            }
            Ok(Prepared::Recall(claim, otherwise)) => {
                return Some(Command::Read {
                    query: Query::Recall { claim, otherwise },
                    reply: ReplyTo::Connection(to),
                });
            }
            Ok(Prepared::Checked(response)) => response,
            Err(problem) => Response::from(problem),
        };
        self.inbox.send(Inbox::Answer(to, Box::new(response)));
        None
    }
}
