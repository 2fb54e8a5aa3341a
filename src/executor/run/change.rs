//! How a run continues with a changed plan: steps that have not started are added, removed or replaced. Steps that have
//! started stay as they are, with the same indices.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use serde_json::{Value, json};

use super::eager::Eager;
use super::{Course, Effects, Run, Unit, unit};
use crate::executor::change::{CHANGES_MAX, check_change, read_kept};
use crate::model::{
    FIRST_REVISION, Issue, Now, Plan, PlanChange, PlanChanged, Progress, Record, RunEventKind, RunStatus,
    SteeringError, StepId, StepStatus, noted_document, open_change,
};

/// What an output has a change of the plan under.
const CHANGE: &str = "$plan";

/// Maps steps of the plan to their numbers. A plan may change while it runs; a step keeps its number until the run ends.
#[derive(Debug)]
pub(super) struct StepNumbers {
    /// The number of each step, by index in the plan.
    numbers: Vec<usize>,
    /// The index of the step in the plan, by number; none if the step was removed.
    steps: Vec<Option<usize>>,
}

impl StepNumbers {
    /// The numbers of a plan that has not changed since the run began.
    pub fn of(steps: usize) -> Self {
        Self { numbers: (0..steps).collect(), steps: (0..steps).map(Some).collect() }
    }

    pub fn number(&self, step: usize) -> usize {
        self.numbers[step]
    }

    /// None if the step is gone.
    pub fn step(&self, number: usize) -> Option<usize> {
        self.steps.get(number).copied().flatten()
    }

    /// Applies a change of the plan: `now` has the new index of each step, `steps` is their new number.
    fn change(&mut self, now: &[Option<usize>], steps: usize) {
        let before = std::mem::replace(&mut self.numbers, vec![usize::MAX; steps]);
        self.steps.fill(None);
        for (number, step) in before.into_iter().zip(now) {
            if let Some(step) = *step {
                self.numbers[step] = number;
            }
        }
        for (step, number) in self.numbers.iter_mut().enumerate() {
            if *number == usize::MAX {
                *number = self.steps.len();
                self.steps.push(None);
            }
            self.steps[*number] = Some(step);
        }
    }
}

impl Run {
    /// Someone changes the plan. What they are answered.
    pub(super) fn change_plan(
        &mut self,
        change: &PlanChange,
        by: &str,
        now: Now,
        out: &mut Effects,
    ) -> Result<Value, SteeringError> {
        let mark = out.records.len();
        self.may_change(change)?;
        let plan = self.changed_plan(change)?;
        self.take_plan(plan, change, by, now, out);
        self.keep_plan(change, mark, out);
        let plan = &self.plan;
        Ok(json!({"runId": self.state.run_id, "revision": plan.revision, "added": change.added,
            "removed": change.removed, "changed": change.changed, "levels": plan.level_ids(),
            "stepCount": plan.step_count(), "totalLevels": plan.levels.len()}))
    }

    /// A step has completed whose tool may plan: the change that its output has, checked. None if it has none, or none
    /// but of what stays as others have left it.
    ///
    /// # Errors
    /// Why it can't be made, in a sentence.
    pub(super) fn change_of(&self, step: usize, output: &Value) -> Result<Option<PlanChange>, String> {
        let may_plan = |name: &str| self.context.registry.tool(name).is_some_and(|tool| tool.may_plan());
        let Some(change) = output.get(CHANGE).filter(|_| may_plan(&self.plan.steps[step].tool)) else {
            return Ok(None);
        };
        if self.course != Course::Onward || self.handling.is_some() {
            // Nothing begins any more, whatever the plan is.
            return Ok(None);
        }
        let refused = |why: String| format!("its plan change was rejected: {why}");
        let source = self.plan.source.as_deref().ok_or_else(|| refused("the plan can't be read".to_owned()))?;
        let by = &self.plan.steps[step].id;
        let Some(change) = open_change(source, by, &change.to_string()) else { return Ok(None) };
        let change = check_change(source, self.plan.revision, &change, Some(by), &self.context)
            .map_err(|issues| refused(sentence(&issues)))?;
        self.may_change(&change).map_err(|error| refused(why(&error)))?;
        Ok(Some(change))
    }

    /// Makes the change that a step returned which has just completed: the records from `mark` on report it.
    pub(super) fn change_by_step(
        &mut self,
        change: &PlanChange,
        by: &StepId,
        mark: usize,
        now: Now,
        out: &mut Effects,
    ) {
        // It was checked just before, so there is a plan.
        if let Ok(plan) = self.changed_plan(change) {
            self.take_plan(plan, change, &format!("step:{by}"), now, out);
            self.keep_plan(change, mark, out);
        }
    }

    fn may_change(&self, change: &PlanChange) -> Result<(), SteeringError> {
        if change.of_revision != self.plan.revision {
            return Err(SteeringError::StaleRevision { current: self.plan.revision });
        }
        for id in change.removed.iter().chain(&change.changed) {
            let step = self.state.step(id).ok_or(SteeringError::StaleRevision { current: self.plan.revision })?;
            if self.plan.kept(id).is_some() {
                // It is not run: its output is that of the run which this one goes on from.
                return Err(SteeringError::StepStarted { step: id.clone(), status: StepStatus::Completed });
            }
            if step.status != StepStatus::Pending || step.attempt > 0 {
                return Err(SteeringError::StepStarted { step: id.clone(), status: step.status });
            }
        }
        if self.course != Course::Onward || self.handling.is_some() {
            return Err(SteeringError::RunEnding);
        }
        if self.plan.revision - FIRST_REVISION >= CHANGES_MAX {
            return Err(SteeringError::TooManyChanges { limit: CHANGES_MAX });
        }
        Ok(())
    }

    /// The plan that comes of a change, its steps in levels that what has started and what is over leave open.
    fn changed_plan(&self, change: &PlanChange) -> Result<Plan, SteeringError> {
        let invalid = |message| {
            let issues = vec![Issue { path: String::new(), message, step_id: None }];
            SteeringError::InvalidChange { issues }
        };
        let mut plan = match &change.plan {
            Some(plan) => Plan::clone(plan),
            None => read_kept(change.document.as_bytes(), &self.context).map_err(invalid)?,
        };
        // What belongs to the run, and not to its steps, is as it was.
        plan.inputs = self.plan.inputs.clone();
        (plan.concurrency, plan.retry_of) = (self.plan.concurrency.clone(), self.plan.retry_of.clone());
        plan.parent = self.plan.parent.clone();
        plan.revision = self.plan.revision + 1;
        let opened = match self.eager {
            Some(_) => self.state.open_levels.iter().map(|open| open.level + 1).max().unwrap_or(0),
            None => self.state.current_level.map_or(0, |level| level + 1),
        };
        plan.place_steps(|id| self.started_in(id), |level| self.has_completed(level), opened);
        Ok(plan)
    }

    /// The level of a step that has started.
    fn started_in(&self, id: &StepId) -> Option<usize> {
        let step = self.state.position(id)?;
        let has_started = self.state.steps[step].status != StepStatus::Pending;
        has_started.then(|| self.plan.steps[step].level)
    }

    /// Was the completion of a level reported?
    fn has_completed(&self, level: usize) -> bool {
        match (&self.eager, self.plan.levels.get(level)) {
            (_, None) => false,
            (Some(_), Some(steps)) => !steps.is_empty() && self.unended[level] == 0 && !self.state.is_open(level),
            (None, Some(_)) => self
                .state
                .current_level
                .is_some_and(|current| level < current || (level == current && !self.state.level_open)),
        }
    }

    /// From here on the run has this plan.
    fn take_plan(&mut self, plan: Plan, change: &PlanChange, by: &str, now: Now, out: &mut Effects) {
        let has_begun = self.state.status != RunStatus::Queued;
        let before = std::mem::replace(&mut self.plan, Arc::new(plan));
        if has_begun {
            let said = self.plan_changed(change, by);
            self.emit(RunEventKind::PlanChanged(said), now, out);
        } else {
            self.state.plan_anew(&self.plan);
        }
        self.move_steps(&before);
        if has_begun && self.is_going {
            self.look_at_what_waits(now, out);
        }
    }

    fn plan_changed(&self, change: &PlanChange, by: &str) -> PlanChanged {
        let plan = &self.plan;
        let mut progress = Progress::of(plan.step_count());
        let removed: BTreeSet<&StepId> = change.removed.iter().collect();
        let stay = self.state.steps.iter().filter(|step| step.handler.is_none() && !removed.contains(&step.id));
        stay.for_each(|step| progress.count(step.status));
        let among: BTreeSet<&StepId> = change.added.iter().chain(&change.changed).collect();
        PlanChanged {
            revision: plan.revision,
            added: change.added.clone(),
            removed: change.removed.clone(),
            changed: change.changed.clone(),
            steps: plan.planned_steps(|id| among.contains(id)),
            levels: plan.level_ids(),
            step_count: plan.step_count(),
            total_levels: plan.levels.len(),
            by: by.into(),
            progress,
        }
    }

    /// Moves what is known about the steps to their new indexes. The state has them already.
    fn move_steps(&mut self, before: &Plan) {
        let plan = self.plan.clone();
        let indexes: HashMap<&StepId, usize> = plan.steps.iter().enumerate().map(|(at, step)| (&step.id, at)).collect();
        let now: Vec<Option<usize>> = before.steps.iter().map(|step| indexes.get(&step.id).copied()).collect();
        let mut outputs = vec![None; plan.steps.len()];
        for (output, step) in std::mem::take(&mut self.outputs).into_iter().zip(&now) {
            if let Some(step) = *step {
                outputs[step] = output;
            }
        }
        self.outputs = outputs;
        self.numbers.change(&now, plan.steps.len());
        self.ranks = unit::ranks(&plan, |step| self.context.durations.expected(&self.project, &plan, step));
        self.unended = vec![0; plan.levels.len()];
        for (step, state) in plan.steps.iter().zip(&self.state.steps).take(plan.step_count()) {
            self.unended[step.level] += usize::from(!state.status.is_ended());
        }
        self.blame = vec![None; plan.steps.len()];
        plan.levels.iter().flatten().for_each(|&step| self.assign_blame(step));
        let ended = self.eager.take().map(|eager| eager.into_ended(&now));
        self.eager = Eager::of(&plan);
        if let Some(ended) = ended {
            self.meet_all_but(ended);
        }
        self.ready = self.ranked_anew(&self.ready);
        self.suspects = self.ranked_anew(&self.suspects);
    }

    /// The waiting units whose steps have begun, with their new ranks.
    fn ranked_anew(&self, waiting: &BTreeSet<(usize, Unit)>) -> BTreeSet<(usize, Unit)> {
        let has_begun = |unit: Unit| {
            let step = self.numbers.step(unit.step as usize);
            step.is_some_and(|step| self.state.steps[step].status != StepStatus::Pending)
        };
        let begun = waiting.iter().filter(|(_, unit)| has_begun(*unit));
        begun.map(|&(_, unit)| (self.rank(unit), unit)).collect()
    }

    /// Steps that have not started may be ready now, or will never be.
    fn look_at_what_waits(&mut self, now: Now, out: &mut Effects) {
        let plan = self.plan.clone();
        let (is_eager, open) = (self.eager.is_some(), self.open_level());
        let levels = plan.levels.iter().enumerate().filter(|(level, _)| is_eager || open == Some(*level));
        for &step in levels.flat_map(|(_, steps)| steps) {
            if self.state.steps[step].status != StepStatus::Pending {
                continue;
            }
            match is_eager {
                true => self.reconsider(step, now, out),
                false => self.enqueue(step, now, out),
            }
        }
        if is_eager {
            // The steps that a level still waited for may be gone.
            self.close_what_is_over(now, out);
        }
    }

    /// Stores the new plan together with the records since `mark`.
    fn keep_plan(&mut self, change: &PlanChange, mark: usize, out: &mut Effects) {
        let mut events = Vec::new();
        let mut others = Vec::new();
        let mut behind = Vec::new();
        let mut is_told = self.state.status == RunStatus::Queued;
        for record in out.records.split_off(mark) {
            match record {
                Record::Event { event, .. } if !is_told => {
                    is_told = matches!(event.kind, RunEventKind::PlanChanged(_));
                    events.push(event);
                }
                record if is_told => behind.push(record),
                record => others.push(record),
            }
        }
        let retry_of = self.retry_of_text();
        let (revision, levels) = (self.plan.revision, self.plan.level_ids());
        let document = noted_document(change.document.as_bytes(), revision, &levels, retry_of.as_deref());
        out.records.append(&mut others);
        out.records.push(Record::Plan {
            project: self.project.clone(),
            run: self.state.run_id.clone(),
            plan: self.plan.clone(),
            document: document.into(),
            events,
        });
        out.records.append(&mut behind);
    }
}

impl Run {
    /// What is stored of the run that this one continues from, as JSON. It is written once, because it may be large.
    fn retry_of_text(&mut self) -> Option<Arc<str>> {
        let retry_of = self.plan.retry_of.as_ref()?;
        if self.retry_of_text.is_none() {
            self.retry_of_text = serde_json::to_string(&**retry_of).ok().map(Arc::from);
        }
        self.retry_of_text.clone()
    }
}

fn sentence(issues: &[Issue]) -> String {
    issues.iter().map(Issue::to_string).collect::<Vec<_>>().join("; ")
}

fn why(error: &SteeringError) -> String {
    match error {
        SteeringError::StepStarted { step, status } => {
            format!("step {step} is {}: only steps that have not started can be changed", status.as_str())
        }
        SteeringError::RunEnding => "the run is ending".to_owned(),
        SteeringError::TooManyChanges { limit } => {
            format!("the plan was changed too many times (limit {limit}, not configurable)")
        }
        SteeringError::StaleRevision { current } => format!("the plan is now at revision {current}"),
        _ => "the change can't be made now".to_owned(),
    }
}
