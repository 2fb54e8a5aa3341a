//! Fencing: this node has lost its lease, so other nodes may already run its runs. It forgets what it knows about its
//! runs and stores nothing more that they said. The executor is told to abandon them; once it has, this node joins the
//! cluster again as a new node.
//!
//! In the meantime it behaves as if the store were down: changes are refused, reading works, and subscribers receive
//! what other nodes write. A request to cancel a run is stored once the node has joined again, because it ends that run
//! wherever it is running by then.

use super::batch::Batch;
use super::{Journal, Outcome};
use crate::log::protocol::{Command, Order, Refusal};
use crate::log::store::StoreError;
use crate::model::Now;

/// See the top of this file.
pub(super) struct Fence {
    /// The number of the order to abandon all runs.
    number: u64,
    /// That has happened.
    is_let_go: bool,
}

impl Journal {
    /// Is this node thought to be gone?
    pub(super) fn is_fenced(&self) -> bool {
        self.fence.is_some()
    }

    /// How often this node was thought to be gone.
    pub fn fences(&self) -> u64 {
        self.fences
    }

    /// This node is thought to be gone; nothing is kept of `batch`.
    pub(super) fn fence(&mut self, batch: &Batch, now: Now, outcome: &mut Outcome) {
        if !self.is_shared || self.is_fenced() {
            return;
        }
        self.fences += 1;
        self.fence = Some(Fence { number: self.fences, is_let_go: false });
        self.ours.clear();
        self.held.clear();
        self.unreadable.clear();
        self.runs.values_mut().for_each(|run| run.is_foreign = true);
        outcome.orders.push(Order::Abandon(self.fences));
        self.refuse_steerings(&Refusal::StoreUnavailable, outcome);
        match self.is_down() {
            true => {
                log::error!("{FENCED}");
                self.forget_failed_commit(batch, now, outcome);
            }
            false => self.begin_outage(&StoreError(FENCED.to_owned()), batch, now, outcome),
        }
        self.drop_held_records(outcome);
    }

    /// The executor has dropped all runs for this order: this node may join again. Commands that came with the answer
    /// are older, or come from threads that do not know that the node has joined again.
    pub(super) fn has_abandoned(&mut self, number: u64, writes: &mut Vec<Command>, now: Now, outcome: &mut Outcome) {
        if self.fence.as_ref().is_none_or(|fence| fence.number != number) {
            return;
        }
        self.put_off(&std::mem::take(writes), outcome);
        if let Some(fence) = &mut self.fence {
            fence.is_let_go = true;
        }
        self.retry_now(now);
    }

    /// Joins the others again, where nothing of what it was is left.
    pub(super) fn rejoin(&mut self, now: Now) -> Result<(), StoreError> {
        match &self.fence {
            None => return Ok(()),
            Some(fence) if !fence.is_let_go => {
                return Err(StoreError("this node has not stopped all of its runs yet".to_owned()));
            }
            Some(_) => self.store.rejoin()?,
        }
        log::info!("this node has joined the cluster again");
        self.fence = None;
        self.standings.has_joined(now.mono);
        // Nobody tells what came in between.
        self.is_stale = true;
        Ok(())
    }
}

/// Nothing of what runs said before is kept. They need not wait for it.
pub(super) fn without_records(held: Vec<Command>, outcome: &mut Outcome) -> Vec<Command> {
    let (records, rest): (Vec<_>, Vec<_>) = held.into_iter().partition(|it| matches!(it, Command::Records(_)));
    if !records.is_empty() {
        outcome.orders.push(Order::Kept(records.len() as u64));
    }
    rest
}

const FENCED: &str = "this node lost its lease, and the other nodes treat it as failed";
