//! Runs that cannot continue because something stored about them cannot be read: the log writes their last messages
//! itself.

use std::sync::Arc;

use super::batch::Batch;
use super::{CommitError, Journal, Outcome};
use crate::log::protocol::Command;
use crate::log::store::{OpenRun, StoreError};
use crate::model::{Budget, FIRST_REVISION, Now, OnFailure, Plan, Record, Scheduling};

/// A run that can't go on, and why.
pub(super) type Unreadable = (OpenRun, String);

impl Journal {
    fn last_words_of(&self, (run, why): &Unreadable, now: Now) -> Vec<Record> {
        log::error!("run {} cannot continue: {why}", run.run);
        let why = format!("the run cannot continue after the restart: {why}");
        self.last_words(&run.project, &run.run, why, now)
    }

    /// The same for runs that were taken over. The records are made by the log, not by the executor: if the store is
    /// down, they are not held back, but made again.
    pub(super) fn end_taken_over(&mut self, now: Now, outcome: &mut Outcome) {
        if self.unreadable.is_empty() || self.is_down() {
            return;
        }
        let mut runs = std::mem::take(&mut self.unreadable).into_iter();
        while let Some(run) = runs.next() {
            let words = self.last_words_of(&run, now);
            if !words.is_empty() && self.is_put_off(words, now, outcome) {
                let left = if self.is_fenced() { Vec::new() } else { std::iter::once(run).chain(runs).collect() };
                self.unreadable.extend(left);
                return;
            }
        }
    }

    /// Runs whose plan this program does not understand get their last message, for nobody else can give it to them.
    pub(super) fn end_unreadable(
        &mut self,
        runs: Vec<Unreadable>,
        now: Now,
        outcome: &mut Outcome,
    ) -> Result<(), StoreError> {
        let records: Vec<_> = runs.iter().flat_map(|run| self.last_words_of(run, now)).collect();
        if records.is_empty() {
            return Ok(());
        }
        let mut batch = Batch::default();
        match self.commit(&[Command::Records(records.clone())], &mut batch, now, outcome) {
            Ok(()) => {
                // The executor has handed nothing over so far.
                batch.kept = 0;
                batch.release(outcome);
            }
            Err(CommitError::Down(error)) => return Err(error),
            Err(CommitError::Fenced) => {
                return Err(StoreError("this node lost its lease: the other nodes treat it as failed".to_owned()));
            }
            Err(CommitError::Refused(objection)) => {
                if self.is_as_before(objection.why(), &batch, now, outcome) {
                    self.keep_records(&records, now, outcome);
                }
                if self.is_down() {
                    return Err(objection.why().clone());
                }
            }
        }
        Ok(())
    }
}

/// A stand-in for a plan that can't be read.
pub(super) fn stand_in(run: &OpenRun) -> Plan {
    Plan {
        parent: None,
        name: run.run.as_str().into(),
        description: Arc::default(),
        steps: Vec::new(),
        levels: Vec::new(),
        inputs: serde_json::Map::new(),
        estimated_duration: 0,
        timeout: None,
        on_failure: OnFailure::Stop,
        scheduling: Scheduling::Levels,
        handler_timeout: crate::model::HANDLERS_TIMEOUT,
        budget: Budget::default(),
        revision: FIRST_REVISION,
        source: None,
        queue_timeout: None,
        concurrency: None,
        parameters: None,
        retry_of: None,
    }
}
