//! What happens when the store rejects a batch for good: each command, and the messages of each run, are committed
//! separately. Those that are rejected even then go no further: the publisher or submitter gets an error, and a run
//! that cannot be stored ends. Nobody else is affected.

use super::batch::Batch;
use super::{CommitError, Journal, Outcome};
use crate::log::protocol::{Answer, Command, Order, Refusal};
use crate::log::store::{Objection, StoreError};
use crate::model::{EndReason, Now, ProjectId, Record, RunEvent, RunEventKind, RunFailed, RunId, RunStarted};

/// What became of something that was to be kept by itself.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Kept,
    /// It will never be stored.
    Refused(Objection),
    /// The store is down, and it waits until it is not.
    PutOff,
}

impl Journal {
    /// Keeps each of the commands by itself that the store refused together. Was everything kept?
    pub(super) fn keep_apart(&mut self, commands: &[Command], now: Now, outcome: &mut Outcome) -> bool {
        let mut is_kept = true;
        for command in commands {
            is_kept &= match command {
                Command::Records(records) => {
                    let is_kept = self.keep_records(records, now, outcome);
                    if !self.is_down() {
                        outcome.orders.push(Order::Kept(1));
                    }
                    is_kept
                }
                Command::Drain(outgoing) => outgoing
                    .iter()
                    .all(|it| self.keep_alone(&Command::Drain(vec![it.clone()]), now, outcome) == Fate::Kept),
                other => match self.keep_alone(other, now, outcome) {
                    Fate::PutOff => self.put_off(std::slice::from_ref(other), outcome),
                    fate => fate == Fate::Kept,
                },
            };
        }
        is_kept
    }

    /// Keeps what each run says by itself. Was all of it kept? Where the store is down, what is left waits.
    pub(super) fn keep_records(&mut self, records: &[Record], now: Now, outcome: &mut Outcome) -> bool {
        let mut left = records.to_vec();
        let mut is_kept = true;
        while let Some((project, run)) = left.first().map(|first| (first.project().clone(), first.run().clone())) {
            let is_theirs = |record: &Record| *record.project() == project && *record.run() == run;
            let theirs = left.iter().filter(|record| is_theirs(record)).cloned().collect();
            match self.keep_alone(&Command::Records(theirs), now, outcome) {
                Fate::PutOff => return self.put_off(&[Command::Records(left)], outcome),
                fate => is_kept &= fate == Fate::Kept,
            }
            left.retain(|record| !is_theirs(record));
        }
        is_kept
    }

    /// Must what a run says by itself wait until the store takes something?
    pub(super) fn is_put_off(&mut self, records: Vec<Record>, now: Now, outcome: &mut Outcome) -> bool {
        self.keep_alone(&Command::Records(records), now, outcome) == Fate::PutOff
    }

    fn keep_alone(&mut self, command: &Command, now: Now, outcome: &mut Outcome) -> Fate {
        if self.is_down() {
            return Fate::PutOff;
        }
        match self.commit_alone(command, now, outcome) {
            Fate::Refused(objection) => self.refuse(command, objection, now, outcome),
            fate => fate,
        }
    }

    fn commit_alone(&mut self, command: &Command, now: Now, outcome: &mut Outcome) -> Fate {
        let mut batch = Batch::default();
        match self.commit(std::slice::from_ref(command), &mut batch, now, outcome) {
            Ok(()) => {
                // This is told once for all records that came together.
                batch.kept = 0;
                batch.release(outcome);
                Fate::Kept
            }
            Err(CommitError::Refused(objection)) => match self.is_as_before(objection.why(), &batch, now, outcome) {
                true => Fate::Refused(objection),
                false => Fate::PutOff,
            },
            Err(CommitError::Down(error)) => {
                self.begin_outage(&error, &batch, now, outcome);
                Fate::PutOff
            }
            Err(CommitError::Fenced) => {
                self.fence(&batch, now, outcome);
                Fate::PutOff
            }
        }
    }

    /// Is everything in memory as it was before the batch that the store refused? Where that can't be read, it is down.
    pub(super) fn is_as_before(&mut self, error: &StoreError, batch: &Batch, now: Now, outcome: &mut Outcome) -> bool {
        self.forget_failed_commit(batch, now, outcome);
        if self.is_stale && !self.is_down() {
            self.begin_outage(error, &Batch::default(), now, outcome);
        }
        !self.is_stale
    }

    /// Nothing comes of a command.
    fn refuse(&mut self, command: &Command, objection: Objection, now: Now, outcome: &mut Outcome) -> Fate {
        let refusal = match objection {
            Objection::TooLarge(_) => Refusal::TooLarge,
            Objection::Contradiction(_) => Refusal::NotKept,
        };
        let reply = match command {
            Command::Records(records) => {
                let Some(first) = records.first() else { return Fate::Refused(objection) };
                self.refuse_verdicts(records, &refusal, outcome);
                return self.end_refused(first.project(), first.run(), objection, now, outcome);
            }
            Command::Publish { reply, .. }
            | Command::Submit { reply, .. }
            | Command::Steer { reply, .. }
            | Command::Outbox { reply, .. }
            | Command::Plan { reply, .. } => Some(reply),
            Command::Cancel { reply, .. } | Command::Note { reply, .. } => reply.as_ref(),
            Command::Drain(outgoing) => {
                let dropped = outgoing.iter().map(Self::dropped).collect();
                self.commit_alone(&Command::Drain(dropped), now, outcome);
                return Fate::Refused(objection);
            }
            _ => None,
        };
        log::error!("the store rejected a client's data for good: {objection}");
        if let Some(reply) = reply {
            outcome.reply(reply, Answer::Refused(refusal));
        }
        Fate::Refused(objection)
    }

    /// A record of a run will never be stored, so the run ends here, without the outputs in its state, which may be
    /// what is too large. If even that is refused, the run stays open, and the next start continues it.
    fn end_refused(
        &mut self,
        project: &ProjectId,
        run: &RunId,
        objection: Objection,
        now: Now,
        outcome: &mut Outcome,
    ) -> Fate {
        log::error!("ending run {run}: the store rejected one of its messages for good: {objection}");
        let Some(number) = self.run_here(project, run) else { return Fate::Refused(objection) };
        if let Some(entry) = self.runs.get_mut(&number) {
            entry.snapshot = None;
            entry.fold().leave_all_out();
        }
        let words = self.last_words(project, run, format!("a message of the run cannot be stored: {objection}"), now);
        match self.commit_alone(&Command::Records(words), now, outcome) {
            Fate::PutOff => return Fate::PutOff,
            Fate::Refused(objection) => {
                log::error!("the store also rejected the last message of run {run}: {objection}")
            }
            Fate::Kept => {}
        }
        // Whoever runs it is not to go on.
        outcome.orders.push(Order::Cancel { project: project.clone(), run: run.clone() });
        Fate::Refused(objection)
    }

    /// What ends a run that can't go on, for nobody else can say that.
    pub(super) fn last_words(&self, project: &ProjectId, run: &RunId, error: String, now: Now) -> Vec<Record> {
        let entry = self.open_run(project, run).and_then(|number| self.runs.get(&number));
        let Some(entry) = entry else { return Vec::new() };
        let plan_name = entry.state.plan_name.clone();
        let begun = entry.first_seq.is_none().then(|| RunEventKind::Started(RunStarted::empty(plan_name.clone())));
        let failed = RunEventKind::Failed(RunFailed {
            failed_handlers: Vec::new(),
            plan_name,
            error,
            reason: EndReason::Interrupted,
            failed_steps: Vec::new(),
            cancelled_steps: Vec::new(),
            usage: entry.state.usage.clone(),
        });
        let words = begun.into_iter().chain([failed]).map(|kind| {
            let event = RunEvent { run_id: run.clone(), timestamp: now.wall, kind };
            Record::Event { project: project.clone(), event }
        });
        words.collect()
    }
}
