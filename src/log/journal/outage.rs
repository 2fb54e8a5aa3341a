//! Behaviour while the store cannot be written to: publishing and plans are refused, messages of runs are held back,
//! and reading works. A request to cancel a run is held back too, because the executor has already been told. The store
//! is tried periodically; once it can be written to, what was held back is committed first.
//!
//! The in-memory state is a fold of what the store contains. After a failed commit it is ahead of the store, so it is
//! discarded and read again: there is no second way to build it.

use std::time::Duration;

use super::batch::Batch;
use super::fence::without_records;
use super::load::Loaded;
use super::{CommitError, Journal, Outcome};
use crate::log::protocol::{Answer, Command, Delivery, Order, Refusal, ReplyTo};
use crate::log::store::{BeatError, RunSet, StoreError};
use crate::model::{Now, ProjectId, RunId};

/// How often the store is tried.
const RETRY: Duration = Duration::from_millis(250);

/// See the top of this file.
pub(super) struct Outage {
    /// When the store is tried next. Not known until the next batch comes where the last try may have taken long: what time
    /// it was before that says nothing.
    pub(super) retry_at: Option<Duration>,
    /// Records of runs, bounded by the executor, which keeps its records while the store is down; and cancellations, at
    /// most one per open run.
    pub(super) held: Vec<Command>,
    /// Those who wait until that is stored.
    barriers: Vec<ReplyTo>,
    /// The reason that was logged last, so that the log is not filled with one line.
    reason: String,
}

impl Journal {
    /// Is the store down?
    pub fn is_down(&self) -> bool {
        self.outage.is_some()
    }

    /// Records that wait for the store.
    pub fn held_back(&self) -> usize {
        let held = self.outage.iter().flat_map(|outage| &outage.held);
        held.map(|command| if let Command::Records(records) = command { records.len() } else { 0 }).sum()
    }

    /// Replies when everything so far is stored.
    pub(super) fn reach(&mut self, reply: ReplyTo, outcome: &mut Outcome) {
        match &mut self.outage {
            Some(outage) => outage.barriers.push(reply),
            None => outcome.reply(&reply, Answer::Reached),
        }
    }

    /// Holds records of runs back, and refuses everything else.
    pub(super) fn put_off(&mut self, commands: &[Command], outcome: &mut Outcome) -> bool {
        for command in commands {
            match command {
                // Records of runs that other nodes may have taken over are never stored.
                Command::Records(_) if self.is_fenced() => outcome.orders.push(Order::Kept(1)),
                Command::Records(_) => self.hold_back(command.clone()),
                Command::Cancel { project, run, reply } => {
                    let refusal = self.hold_cancel(project, run);
                    reply.iter().for_each(|reply| outcome.reply(reply, Answer::Refused(refusal.clone())));
                }
                Command::Publish { reply, .. }
                | Command::Submit { reply, .. }
                | Command::Steer { reply, .. }
                | Command::Outbox { reply, .. }
                | Command::Plan { reply, .. }
                | Command::Note { reply: Some(reply), .. } => {
                    outcome.reply(reply, Answer::Refused(Refusal::StoreUnavailable));
                }
                _ => {}
            }
        }
        false
    }

    fn hold_back(&mut self, command: Command) {
        if let Some(outage) = &mut self.outage {
            outage.held.push(command);
        }
    }

    /// That a run was asked to end is kept once that can be. Where nobody can tell now whether it is open, it may be.
    fn hold_cancel(&mut self, project: &ProjectId, run: &RunId) -> Refusal {
        let is_open = match self.is_open(project, run) {
            Ok(is_open) => is_open,
            Err(refusal) => return refusal,
        };
        let held = self.outage.iter().flat_map(|outage| &outage.held);
        let cancels = held.filter_map(|command| match command {
            Command::Cancel { project, run, .. } => Some((project, run)),
            _ => None,
        });
        let is_held = cancels.clone().any(|held| held == (project, run));
        if !is_held && cancels.count() < self.limits.open_runs {
            self.hold_back(Command::Cancel { project: project.clone(), run: run.clone(), reply: None });
        }
        if is_open { Refusal::CancelHeldBack } else { Refusal::StoreUnavailable }
    }

    /// Is it known that a run is open? Where not, it may be all the same.
    ///
    /// # Errors
    /// It is not: there is no such run, or it has ended.
    fn is_open(&self, project: &ProjectId, run: &RunId) -> Result<bool, Refusal> {
        if self.is_stale {
            return Ok(false);
        }
        match self.open_here_or_elsewhere(project, run, &Batch::default()) {
            Ok(Ok(_)) => Ok(self.open_run(project, run).is_some()),
            Ok(Err(refusal)) => Err(refusal),
            Err(_) => Ok(false),
        }
    }

    /// Where it is time, the store is tried with what was held back; `true` once it has taken that.
    pub(super) fn has_come_back(&mut self, now: Now, outcome: &mut Outcome) -> bool {
        let Some(outage) = &mut self.outage else { return true };
        if outage.retry_at.is_none_or(|at| now.mono < at) {
            return false;
        }
        let held = std::mem::take(&mut outage.held);
        match self.rejoin(now).and_then(|()| self.try_again(&held, now, outcome)) {
            Ok(batch) => {
                let barriers = self.end_outage(outcome);
                match batch {
                    Some(batch) => batch.release(outcome),
                    None => drop(self.keep_apart(&held, now, outcome)),
                }
                barriers.into_iter().for_each(|reply| self.reach(reply, outcome));
                !self.is_down()
            }
            Err(error) => {
                let held = if self.is_fenced() { without_records(held, outcome) } else { held };
                self.prolong_outage(&error, held, now);
                false
            }
        }
    }

    /// Ends the outage. Returns those who wait for that.
    fn end_outage(&mut self, outcome: &mut Outcome) -> Vec<ReplyTo> {
        log::info!("the store can be written to again");
        outcome.deliveries.push(Delivery::StoreIsDown(false));
        outcome.orders.push(Order::StoreIsDown(false));
        self.outage.take().map_or_else(Vec::new, |outage| outage.barriers)
    }

    /// Makes a batch of what was held back; none if the store refuses it as a whole.
    fn try_again(&mut self, held: &[Command], now: Now, outcome: &mut Outcome) -> Result<Option<Batch>, StoreError> {
        if self.is_stale {
            self.reload(None, &RunSet::default(), now)?.let_out(outcome);
        }
        match self.store.probe() {
            Ok(()) => {}
            Err(BeatError::Down(error)) => return Err(error),
            Err(BeatError::Fenced) => return Err(self.is_refused_as_gone(&Batch::default(), now, outcome)),
        }
        let mut batch = Batch::with_room_for(held);
        match self.commit(held, &mut batch, now, outcome) {
            Ok(()) => Ok(Some(batch)),
            Err(CommitError::Refused(objection)) => {
                let is_as_before = self.is_as_before(objection.why(), &batch, now, outcome);
                if is_as_before { Ok(None) } else { Err(objection.why().clone()) }
            }
            Err(CommitError::Down(error)) => {
                self.forget_failed_commit(&batch, now, outcome);
                Err(error)
            }
            Err(CommitError::Fenced) => Err(self.is_refused_as_gone(&batch, now, outcome)),
        }
    }

    fn is_refused_as_gone(&mut self, batch: &Batch, now: Now, outcome: &mut Outcome) -> StoreError {
        self.fence(batch, now, outcome);
        StoreError("this node lost its lease: the other nodes treat it as failed".to_owned())
    }

    pub(super) fn begin_outage(&mut self, error: &StoreError, batch: &Batch, now: Now, outcome: &mut Outcome) {
        log::error!("the store cannot be written to: {error}");
        self.forget_failed_commit(batch, now, outcome);
        let retry_at = self.retry_at(now);
        self.outage = Some(Outage { retry_at, held: Vec::new(), barriers: Vec::new(), reason: error.0.clone() });
        outcome.deliveries.push(Delivery::StoreIsDown(true));
        outcome.orders.push(Order::StoreIsDown(true));
    }

    /// The store is tried at once.
    pub(super) fn retry_now(&mut self, now: Now) {
        if let Some(outage) = &mut self.outage {
            outage.retry_at = Some(now.mono);
        }
    }

    /// A batch has come.
    pub(super) fn note_retry(&mut self, now: Now) {
        if let Some(outage) = &mut self.outage {
            outage.retry_at.get_or_insert(now.mono + RETRY);
        }
    }

    /// When the store is tried next that has failed in a batch that came at `now`.
    fn retry_at(&self, now: Now) -> Option<Duration> {
        (!self.is_shared).then(|| now.mono + RETRY)
    }

    /// Drops the records of runs that are held back.
    pub(super) fn drop_held_records(&mut self, outcome: &mut Outcome) {
        if let Some(outage) = &mut self.outage {
            outage.held = without_records(std::mem::take(&mut outage.held), outcome);
        }
    }

    fn prolong_outage(&mut self, error: &StoreError, held: Vec<Command>, now: Now) {
        let retry_at = self.retry_at(now);
        let Some(outage) = &mut self.outage else { return };
        (outage.retry_at, outage.held) = (retry_at, held);
        if outage.reason != error.0 {
            log::error!("the store still cannot be written to: {error}");
            outage.reason.clone_from(&error.0);
        }
    }

    /// The state in memory is ahead of the store. Reads it again: all of it or, if the store is shared and may have
    /// much of other nodes, the projects of the batch. If that fails, all is read again before the store is tried next.
    pub(super) fn forget_failed_commit(&mut self, batch: &Batch, now: Now, outcome: &mut Outcome) {
        self.rewind(batch, |_| true);
        let is_all = !self.is_shared || self.is_stale || self.is_fenced();
        self.is_stale = true;
        let reloaded = match is_all {
            true => self.reload(None, &RunSet::default(), now),
            false => self.reload_parts(batch, now),
        };
        match reloaded {
            Ok(loaded) => loaded.let_out(outcome),
            Err(error) => log::error!("cannot read the log: {error}"),
        }
    }

    fn reload_parts(&mut self, batch: &Batch, now: Now) -> Result<Loaded, StoreError> {
        let projects: Vec<_> = batch.heads().iter().map(|head| head.project.clone()).collect();
        let loaded = match projects.is_empty() {
            true => Loaded::default(),
            false => self.reload(Some(&projects), &batch.runs(), now)?,
        };
        self.is_stale = false;
        Ok(loaded)
    }
}
