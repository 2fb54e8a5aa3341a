//! While the store takes nothing: publishers and plans are refused, what runs say is held back, reading goes on. The
//! store is tried again and again; when it takes something, what was held back comes first.
//!
//! What is in memory is a fold of what the store holds. A commit that failed has left it ahead of that, so it is thrown
//! away and read anew: there is no second way for it to come to be.

use std::time::Duration;

use super::batch::Batch;
use super::journal::{Journal, Outcome};
use super::store::StoreError;
use super::{Answer, Command, Delivery, Refusal, ReplyTo};
use crate::model::{Now, Record};

/// How often the store is tried.
const RETRY: Duration = Duration::from_millis(250);

/// See the top of this file.
pub(super) struct Outage {
    /// When the store is tried next.
    pub(super) retry_at: Duration,
    /// What runs said meanwhile. Bounded by whoever hands it over: the executor waits while the store is down.
    held: Vec<Record>,
    /// Who waits until that is kept.
    barriers: Vec<ReplyTo>,
    /// What was logged of it, so that the log is not filled with the same line.
    reason: String,
}

impl Journal {
    /// Is the store down?
    pub fn is_down(&self) -> bool {
        self.outage.is_some()
    }

    /// Records that wait for the store.
    pub fn held_back(&self) -> usize {
        self.outage.as_ref().map_or(0, |outage| outage.held.len())
    }

    /// Tells whoever waits for it that everything so far is kept, or will when it is.
    pub(super) fn reach(&mut self, reply: ReplyTo, outcome: &mut Outcome) {
        match &mut self.outage {
            Some(outage) => outage.barriers.push(reply),
            None => outcome.reply(&reply, Answer::Reached),
        }
    }

    /// Keeps what `commands` change and tells everyone, or refuses it. Was it kept?
    pub(super) fn keep(&mut self, commands: &[Command], now: Now, outcome: &mut Outcome) -> bool {
        if self.outage.is_some() && !self.has_come_back(now, outcome) {
            return self.put_off(commands, outcome);
        }
        match self.commit(commands, now) {
            Ok(batch) => {
                batch.release(outcome);
                true
            }
            Err(error) => {
                self.begin_outage(&error, now, outcome);
                self.put_off(commands, outcome)
            }
        }
    }

    /// What runs say is held back, whoever waits for an answer is refused. Never kept.
    fn put_off(&mut self, commands: &[Command], outcome: &mut Outcome) -> bool {
        if let Some(outage) = &mut self.outage {
            outage.hold(commands);
        }
        refuse(commands, outcome);
        false
    }

    /// Where it is time, the store is tried with what was held back; `true` once it has taken that.
    fn has_come_back(&mut self, now: Now, outcome: &mut Outcome) -> bool {
        let Some(outage) = &mut self.outage else { return true };
        if now.mono < outage.retry_at {
            return false;
        }
        let held = [Command::Records(std::mem::take(&mut outage.held))];
        match self.try_again(&held, now) {
            Ok(batch) => {
                log::info!("the store takes messages again");
                let barriers = self.outage.take().map_or_else(Vec::new, |outage| outage.barriers);
                outcome.deliveries.push(Delivery::StoreIsDown(false));
                batch.release(outcome);
                barriers.iter().for_each(|reply| outcome.reply(reply, Answer::Reached));
                true
            }
            Err(error) => {
                self.prolong_outage(&error, now);
                self.put_off(&held, outcome)
            }
        }
    }

    fn try_again(&mut self, held: &[Command], now: Now) -> Result<Batch, StoreError> {
        if self.is_stale {
            self.reload(now)?;
        }
        self.store.probe()?;
        let result = self.commit(held, now);
        if result.is_err() {
            self.forget_failed_commit(now);
        }
        result
    }

    fn begin_outage(&mut self, error: &StoreError, now: Now, outcome: &mut Outcome) {
        log::error!("the store takes nothing: {error}");
        self.forget_failed_commit(now);
        let retry_at = now.mono + RETRY;
        self.outage = Some(Outage { retry_at, held: Vec::new(), barriers: Vec::new(), reason: error.0.clone() });
        outcome.deliveries.push(Delivery::StoreIsDown(true));
    }

    fn prolong_outage(&mut self, error: &StoreError, now: Now) {
        let Some(outage) = &mut self.outage else { return };
        outage.retry_at = now.mono + RETRY;
        if outage.reason != error.0 {
            log::error!("the store still takes nothing: {error}");
            outage.reason.clone_from(&error.0);
        }
    }

    /// What is in memory is ahead of the store. Where it can't be read anew now, it is before the store is tried next.
    fn forget_failed_commit(&mut self, now: Now) {
        self.is_stale = true;
        if let Err(error) = self.reload(now) {
            log::error!("the log can't be read: {error}");
        }
    }
}

impl Outage {
    fn hold(&mut self, commands: &[Command]) {
        for command in commands {
            if let Command::Records(records) = command {
                self.held.extend_from_slice(records);
            }
        }
    }
}

/// Whoever waits for something to be kept is told that it was not.
fn refuse(commands: &[Command], outcome: &mut Outcome) {
    for command in commands {
        match command {
            Command::Publish { reply, .. }
            | Command::Submit { reply, .. }
            | Command::Cancel { reply, .. }
            | Command::Note { reply: Some(reply), .. } => {
                outcome.reply(reply, Answer::Refused(Refusal::StoreUnavailable));
            }
            _ => {}
        }
    }
}
