//! Runs: accepts them, folds their messages, and forgets those that have ended.

use std::collections::HashMap;
use std::sync::Arc;

use super::batch::Batch;
use super::claims::Earlier;
use super::commit::{JSON_BYTES_KEPT, Said};
use super::outputs::WHOLE_BYTES_MAX;
use super::{Journal, RunEntry};
use crate::log::lookup::lists::summary_json;
use crate::log::protocol::{Answer, Order, Refusal, Submission};
use crate::log::store::{RunNumber, RunRow, StoreError, Write};
use crate::model::{
    Now, Plan, ProjectId, Record, RunEvent, RunEventKind, RunId, RunState, RunStatus, StepId, Timestamp, json_within,
};

/// The run that a new one goes on from, and what of its outputs the new one's steps may name that no message has whole.
#[derive(Default)]
struct Retried {
    of: Option<RunNumber>,
    whole_outputs: HashMap<StepId, Arc<serde_json::Value>>,
}

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
        if let Some(earlier) = self.fired_before(new, batch)? {
            return Ok(Answer::Accepted { body: earlier.answer, replayed: true });
        }
        if self.open_here(batch) >= self.limits.open_runs {
            return Ok(Answer::Refused(Refusal::TooManyRuns(self.limits.open_runs)));
        }
        let of_project = self.projects.get(project).map_or(0, |entry| entry.open_runs.len());
        if of_project >= self.limits.project_runs {
            return Ok(Answer::Refused(Refusal::TooManyProjectRuns(self.limits.project_runs)));
        }
        if !self.has_room_for(project) {
            return Ok(Answer::Refused(Refusal::TooManyProjects(self.limits.projects)));
        }
        if !self.may_be_child(new) {
            return Ok(Answer::Refused(Refusal::RunEnded));
        }
        if !self.may_begin(project, new.origin.as_ref(), batch)? {
            return Ok(Answer::Refused(Refusal::PreconditionFailed));
        }
        if let Some(refusal) = self.conflict(new) {
            return Ok(Answer::Refused(refusal));
        }
        let Some(retried) = self.retried(new)? else { return Ok(Answer::Refused(Refusal::UnknownRun)) };
        let earlier = Earlier { fingerprint: new.claim.fingerprint.value, answer: new.answer.clone() };
        if !self.bind(&new.claim, &earlier, batch, now)? {
            return Ok(Answer::Refused(Refusal::TooManyKeys(self.limits.key_bytes)));
        }
        let is_held = self.make_way(new, batch)?;
        let number = self.open_new(new, now.wall, is_held)?;
        let (project, run) = (project.clone(), new.run.clone());
        let part = self.part(&project, batch)?;
        let Retried { of, whole_outputs } = retried;
        let (plan, created_at) = (new.plan.clone(), now.wall);
        batch.order(part, Order::Start { project, run, plan, created_at, whole_outputs, is_held });
        if is_held {
            batch.hold(part, number, true);
        }
        let row = RunRow {
            run: new.run.clone(),
            created_at: now.wall,
            document: new.document.clone(),
            answer: new.answer.clone(),
            fingerprint: new.claim.fingerprint.value,
        };
        batch.create(part, number, row);
        if let Some(origin) = &new.origin {
            self.note_origin(new.project(), &new.run, origin, batch)?;
        }
        if let Some(of) = of {
            batch.write(part, Write::OutputsKept { number, of, steps: new.plan.reused_steps().into() });
        }
        Ok(Answer::Accepted { body: new.answer.clone(), replayed: false })
    }

    /// Runs that have not ended and are run here. Where a store is shared, those of others are no load of this node.
    fn open_here(&self, batch: &Batch) -> usize {
        match self.is_shared {
            true => self.ours.len() + batch.taken_on(),
            false => self.open_runs,
        }
    }

    /// The run that a run continues from; none if it is gone.
    fn retried(&self, new: &Submission) -> Result<Option<Retried>, StoreError> {
        let Some(retry_of) = &new.plan.retry_of else { return Ok(Some(Retried::default())) };
        let Some(of) = self.store.run_number(new.project(), &retry_of.run)? else { return Ok(None) };
        let mut whole_outputs = HashMap::new();
        for step in new.plan.kept_wholes() {
            if let Some(output) = self.whole_output(of, step)? {
                whole_outputs.insert(step.clone(), output);
            }
        }
        Ok(Some(Retried { of: Some(of), whole_outputs }))
    }

    /// A run begins to be folded; its number.
    fn open_new(&mut self, new: &Submission, now: Timestamp, is_held: bool) -> Result<RunNumber, StoreError> {
        let number = match self.is_shared {
            true => self.numbers.next(self.next_number, now),
            false => self.next_number,
        };
        self.next_number = number.saturating_add(1);
        let number = RunNumber(number);
        self.entry(new.project())?.last_activity = now;
        let state = RunState::new(new.run.clone(), &new.plan, now);
        self.hold(number, new.project(), new.plan.clone(), state)?.is_held = is_held;
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
        let last_seq = self.entry(project)?.newest;
        let has_items = state.steps.iter().any(|step| step.items.is_some());
        let run = RunEntry {
            state: Arc::new(state),
            outputs_bytes: 0,
            plan: Some(plan),
            first_seq: None,
            last_seq,
            snapshot: None,
            has_items,
            is_foreign: false,
            is_cancelled: false,
            is_held: false,
            is_broken: false,
        };
        self.hold_entry(number, project, run)
    }

    /// The same for a run that is already folded.
    pub(super) fn hold_entry(
        &mut self,
        number: RunNumber,
        project: &ProjectId,
        run: RunEntry,
    ) -> Result<&mut RunEntry, StoreError> {
        let entry = self.entry(project)?;
        entry.is_kept = true;
        entry.open_runs.insert(number);
        entry.open_by_id.insert(run.state.run_id.clone(), number);
        if let Some(parent) = &run.state.parent {
            self.note_child(project, number, parent);
        }
        self.touched.run(project, number);
        self.open_runs += 1;
        Ok(self.runs.entry(number).insert_entry(run).into_mut())
    }

    pub(super) fn cancel(&mut self, project: &ProjectId, run: &RunId, batch: &mut Batch) -> Result<Answer, StoreError> {
        let number = match self.open_here_or_elsewhere(project, run, batch)? {
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
        batch: &Batch,
    ) -> Result<Result<RunNumber, Refusal>, StoreError> {
        if let Some(number) = self.open_run(project, run) {
            return Ok(Ok(number));
        }
        Ok(match self.store.run_number(project, run)? {
            None => Err(Refusal::UnknownRun),
            Some(number) if batch.ends(number) || self.has_ended(number)? => Err(Refusal::RunEnded),
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
            Record::Plan { project, run, plan, document, events } => {
                self.keep_plan((project, run), plan, document, batch)?;
                events.iter().try_for_each(|event| self.say(project, event, batch, now))
            }
            Record::Verdict { project, run, verdict } => self.hear_verdict((project, run), verdict, batch, now),
            Record::Item { project, run, step, state } => self.keep_item(project, run, step, state, batch),
        }
    }

    /// A run has another plan. Where it has begun, what it says of that is folded; else it is what it was taken on with.
    fn keep_plan(
        &mut self,
        (project, run): (&ProjectId, &RunId),
        plan: &Arc<Plan>,
        document: &Arc<[u8]>,
        batch: &mut Batch,
    ) -> Result<(), StoreError> {
        let Some(number) = self.run_here(project, run) else { return Ok(()) };
        let part = self.part(project, batch)?;
        batch.write(part, Write::Document { number, document: document.clone() });
        if let Some(entry) = self.runs.get_mut(&number) {
            (entry.snapshot, entry.plan) = (None, Some(plan.clone()));
            if entry.state.status == RunStatus::Queued {
                Arc::make_mut(&mut entry.state).plan_anew(plan);
            }
        }
        self.touched.run(project, number);
        Ok(())
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
                log::warn!("the output of step {step} of run {run} is too large to be stored in full");
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
            log::error!("ignored a message of run {}, which has already ended", event.run_id);
            return Ok(());
        };
        let (seq, part) = self.number(project, Said::Run(number, event), batch, now)?;
        batch.work_of(part).count(event);
        if let Some((tool, used)) = self.runs.get(&number).and_then(|run| run.state.usage_told_by(event)) {
            batch.work_of(part).count_usage(tool, used);
        }
        if let Some(run) = self.runs.get_mut(&number) {
            // Before anything else: it holds the state too.
            run.snapshot = None;
            let left_out = run.fold().apply(event, self.limits.state_outputs_bytes);
            run.has_items |= matches!(&event.kind, RunEventKind::Progress(said) if said.items.is_some());
            run.first_seq.get_or_insert(seq);
            run.last_seq = seq;
            if let Some((step, output)) = left_out {
                self.keep_whole(project, &event.run_id, &step, &output, batch)?;
            }
        }
        self.note_wait(number, event);
        self.touched.run(project, number);
        self.tell(part, (project, number, seq), event, batch);
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
        self.waits.remove(&number);
        let part = self.part(project, batch)?;
        let mut group = None;
        if let Some(run) = self.runs.get_mut(&number) {
            group = run.plan.take().and_then(|plan| plan.concurrency.clone());
            let state = &mut self.json_text;
            state.clear();
            serde_json::to_writer(&mut *state, &*run.state).map_err(|error| StoreError(error.to_string()))?;
            let (status, summary, state) = (run.state.status, summary_json(&run.state)?, state.as_slice().into());
            batch.write(part, Write::RunEnded { number, status, summary, state, last_seq: seq });
            self.json_text.clear();
            self.json_text.shrink_to(JSON_BYTES_KEPT);
        }
        self.end_family(project, event, number, batch)?;
        let entry = self.entry(project)?;
        entry.open_runs.remove(&number);
        entry.open_by_id.remove(&event.run_id);
        if let Some(concurrency) = group {
            self.release_next(project, &concurrency.group, batch)?;
        }
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

    /// Drops ended runs that are no longer shown to new streams: the store has their state.
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
