//! What the journal does about runs: takes them on, folds what they say, and lets those go that have ended.

use std::sync::Arc;

use super::batch::Batch;
use super::claims::Earlier;
use super::commit::{JSON_BYTES_KEPT, Said};
use super::outputs::WHOLE_BYTES_MAX;
use super::{Journal, RunEntry};
use crate::log::lookup::lists::summary_json;
use crate::log::protocol::{Answer, Order, Refusal, Submission};
use crate::log::store::{RunNumber, RunRow, StoreError, Write};
use crate::model::{Now, Plan, ProjectId, Record, RunEvent, RunId, RunState, StepId, Timestamp, json_within};

impl Journal {
    pub(super) fn submit(&mut self, new: &Submission, batch: &mut Batch, now: Now) -> Result<Answer, StoreError> {
        let project = new.project();
        if let Some(earlier) = self.same_call(&new.claim, batch, now)? {
            let answer = earlier.answer_to(&new.claim);
            let is_bound = matches!(answer, Answer::Accepted { .. });
            return match is_bound && !self.bind(&new.claim, &earlier, batch, now)? {
                true => Ok(Answer::Refused(Refusal::TooManyKeys(self.limits.key_bytes))),
                false => Ok(answer),
            };
        }
        if self.open_runs >= self.limits.open_runs {
            return Ok(Answer::Refused(Refusal::TooManyRuns(self.limits.open_runs)));
        }
        let of_project = self.projects.get(project).map_or(0, |entry| entry.open_runs.len());
        if of_project >= self.limits.project_runs {
            return Ok(Answer::Refused(Refusal::TooManyProjectRuns(self.limits.project_runs)));
        }
        if !self.has_room_for(project) {
            return Ok(Answer::Refused(Refusal::TooManyProjects(self.limits.projects)));
        }
        let earlier = Earlier { fingerprint: new.claim.fingerprint.value, answer: new.answer.clone() };
        if !self.bind(&new.claim, &earlier, batch, now)? {
            return Ok(Answer::Refused(Refusal::TooManyKeys(self.limits.key_bytes)));
        }
        let number = self.open_new(new, now.wall)?;
        let (project, run) = (project.clone(), new.run.clone());
        let part = self.part(&project, batch)?;
        batch.order(part, Order::Start { project, run, plan: new.plan.clone(), created_at: now.wall });
        let row = RunRow {
            run: new.run.clone(),
            created_at: now.wall,
            document: new.document.clone(),
            answer: new.answer.clone(),
            fingerprint: new.claim.fingerprint.value,
        };
        batch.create(part, number, row);
        Ok(Answer::Accepted { body: new.answer.clone(), replayed: false })
    }

    /// A run begins to be folded; its number.
    fn open_new(&mut self, new: &Submission, now: Timestamp) -> Result<RunNumber, StoreError> {
        let number = RunNumber(self.next_number);
        self.next_number = self.next_number.saturating_add(1);
        self.entry(new.project())?.last_activity = now;
        let state = RunState::new(new.run.clone(), &new.plan, now);
        self.hold(number, new.project(), new.plan.clone(), state)?;
        Ok(number)
    }

    /// A run that has not ended is held.
    pub(super) fn hold(
        &mut self,
        number: RunNumber,
        project: &ProjectId,
        plan: Arc<Plan>,
        state: RunState,
    ) -> Result<&mut RunEntry, StoreError> {
        let entry = self.entry(project)?;
        entry.is_kept = true;
        entry.open_runs.insert(number);
        entry.open_by_id.insert(state.run_id.clone(), number);
        let last_seq = entry.newest;
        let state = Arc::new(state);
        self.touched.run(project, number);
        let run = RunEntry {
            state,
            outputs_bytes: 0,
            plan: Some(plan),
            first_seq: None,
            last_seq,
            snapshot: None,
            is_foreign: false,
            is_cancelled: false,
        };
        self.open_runs += 1;
        Ok(self.runs.entry(number).insert_entry(run).into_mut())
    }

    pub(super) fn cancel(&mut self, project: &ProjectId, run: &RunId, batch: &mut Batch) -> Result<Answer, StoreError> {
        let number = match self.open_here_or_elsewhere(project, run)? {
            Ok(number) => number,
            Err(refusal) => return Ok(Answer::Refused(refusal)),
        };
        let part = self.part(project, batch)?;
        batch.write(part, Write::CancelRequested(number));
        let held = self.open_run(project, run);
        let here = held.and_then(|number| self.runs.get_mut(&number)).filter(|entry| !entry.is_foreign);
        if let Some(entry) = here {
            entry.is_cancelled = true;
            batch.order(part, Order::Cancel { project: project.clone(), run: run.clone() });
        }
        Ok(Answer::CancelAccepted)
    }

    /// A run that has not ended as far as anyone here knows, or why it can't be asked to end.
    pub(super) fn open_here_or_elsewhere(
        &self,
        project: &ProjectId,
        run: &RunId,
    ) -> Result<Result<RunNumber, Refusal>, StoreError> {
        if let Some(number) = self.open_run(project, run) {
            return Ok(Ok(number));
        }
        Ok(match self.store.run_number(project, run)? {
            None => Err(Refusal::UnknownRun),
            Some(number) if self.has_ended(number)? => Err(Refusal::RunEnded),
            // Another node has taken it on since this one last read of its project.
            Some(number) => Ok(number),
        })
    }

    /// Has a run that is not held as one that goes on ended, as far as the store knows?
    fn has_ended(&self, number: RunNumber) -> Result<bool, StoreError> {
        Ok(self.store.ends(number)?.is_none_or(|ends| ends.last.is_some()))
    }

    pub(super) fn record(&mut self, record: &Record, batch: &mut Batch, now: Now) -> Result<(), StoreError> {
        match record {
            Record::Event { project, event } => self.say(project, event, batch, now),
            Record::Output { project, run, step, attempt, stream, bytes } => {
                if let Some(number) = self.run_here(project, run) {
                    let (step, attempt, stream, bytes) = (step.clone(), *attempt, *stream, bytes.clone());
                    let part = self.part(project, batch)?;
                    batch.write(part, Write::Output { number, step, attempt, stream, bytes });
                }
                Ok(())
            }
            Record::Whole { project, run, step, output } => self.keep_whole(project, run, step, output, batch),
        }
    }

    fn keep_whole(
        &self,
        project: &ProjectId,
        run: &RunId,
        step: &StepId,
        output: &serde_json::Value,
        batch: &mut Batch,
    ) -> Result<(), StoreError> {
        if let Some(number) = self.run_here(project, run) {
            let Some(json) = json_within(output, WHOLE_BYTES_MAX) else {
                log::warn!("the output of step {step} of run {run} is too large to be kept whole");
                return Ok(());
            };
            let part = self.part(project, batch)?;
            batch.write(part, Write::Whole { number, step: step.clone(), json: json.into() });
        }
        Ok(())
    }

    /// A run speaks.
    pub(super) fn say(
        &mut self,
        project: &ProjectId,
        event: &RunEvent,
        batch: &mut Batch,
        now: Now,
    ) -> Result<(), StoreError> {
        let Some(number) = self.run_here(project, &event.run_id) else {
            log::error!("a message of run {} came after its last", event.run_id);
            return Ok(());
        };
        let (seq, part) = self.number(project, Said::Run(number, event), batch, now)?;
        batch.work_of(part).count(event);
        if let Some(run) = self.runs.get_mut(&number) {
            // Before anything else: it holds the state too.
            run.snapshot = None;
            let left_out = run.fold().apply(event, self.limits.state_outputs_bytes);
            run.first_seq.get_or_insert(seq);
            run.last_seq = seq;
            if let Some((step, output)) = left_out {
                self.keep_whole(project, &event.run_id, &step, &output, batch)?;
            }
        }
        self.touched.run(project, number);
        self.tell(project, event, number, seq, batch);
        if event.is_last() {
            self.end_run(project, event, number, seq, batch)?;
        }
        Ok(())
    }

    /// A run has had its last message: its state is kept, and it is shown as the newest that ended.
    fn end_run(
        &mut self,
        project: &ProjectId,
        event: &RunEvent,
        number: RunNumber,
        seq: u64,
        batch: &mut Batch,
    ) -> Result<(), StoreError> {
        self.open_runs -= 1;
        if let Some(run) = self.runs.get_mut(&number) {
            run.plan = None;
            let state = &mut self.json_text;
            state.clear();
            serde_json::to_writer(&mut *state, &*run.state).map_err(|error| StoreError(error.to_string()))?;
            let (status, summary, state) = (run.state.status, summary_json(&run.state)?, state.as_slice().into());
            let part = batch.part(project, seq);
            batch.write(part, Write::RunEnded { number, status, summary, state, last_seq: seq });
            self.json_text.clear();
            self.json_text.shrink_to(JSON_BYTES_KEPT);
        }
        let entry = self.entry(project)?;
        entry.open_runs.remove(&number);
        entry.open_by_id.remove(&event.run_id);
        self.show_ended(number, project, event.timestamp)
    }

    /// A run is its project's newest ended one.
    pub(super) fn show_ended(
        &mut self,
        number: RunNumber,
        project: &ProjectId,
        ended_at: Timestamp,
    ) -> Result<(), StoreError> {
        if let Some(older) = self.entry(project)?.newest_ended.replace(number)
            && let Some(older_ended_at) = self.runs.remove(&older).and_then(|run| run.state.finished_at)
        {
            self.recent.remove(&(older_ended_at, older));
        }
        self.recent.insert((ended_at, number), project.clone());
        Ok(())
    }

    /// Runs that are no longer shown to whoever comes are not held any more: the store has their state.
    pub(super) fn forget_ended(&mut self, now: Timestamp) {
        while let Some(((ended_at, _), _)) = self.recent.first_key_value()
            && now.millis_since(*ended_at) > self.limits.recent_ms
            && let Some(((_, number), project)) = self.recent.pop_first()
        {
            self.runs.remove(&number);
            if let Some(entry) = self.projects.get_mut(&project) {
                entry.newest_ended = entry.newest_ended.filter(|&newest| newest != number);
                self.forget_if_empty(&project);
            }
        }
    }

    /// The number of a run that has not ended and is run here: what another node's says is not for this one to write.
    pub(super) fn run_here(&self, project: &ProjectId, run: &RunId) -> Option<RunNumber> {
        let number = self.open_run(project, run)?;
        self.runs.get(&number).filter(|entry| !entry.is_foreign).map(|_| number)
    }

    /// The number of a run that has not ended.
    pub(super) fn open_run(&self, project: &ProjectId, run: &RunId) -> Option<RunNumber> {
        self.projects.get(project)?.open_by_id.get(run).copied()
    }
}
