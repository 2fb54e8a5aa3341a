//! Steps that run a stored plan: the child run that they start, and how they end when it ends.
//!
//! The child's id is derived from the parent, the step and the number of its failures so far. An attempt that repeats
//! one that a crash interrupted has the same child, and joins it in whatever state it is. An attempt after a failure
//! has another child.

use std::time::Duration;

use serde_json::{Map, Value};

use super::step::{Leave, Phase, TimeLimit};
use super::{AttemptError, Effects, Run, Unit};
use crate::model::{CHILD_DEPTH_MAX, Now, Parent, PlanName, ProjectId, RunId, StepId, StepStatus, Usage};

/// Why an item fails that wants a child: a child is known by its step.
const ITEMS_RUN_NOTHING: &str = "a stored plan can't be run with forEach; use a separate step";

/// How soon an attempt may be made again where there was no room for the child.
pub const NO_ROOM_WAIT: Duration = Duration::from_secs(5);

/// A wish for a child.
#[derive(Debug, Clone, PartialEq)]
pub enum ChildWish {
    /// Start it, unless it has begun.
    Begin(Box<ChildCall>),
    /// Cancel it.
    Cancel(ProjectId, RunId),
    /// Forget all earlier wishes that are not carried out: the runs that had them were dropped.
    Forget,
}

/// The result of a child.
#[derive(Debug, Clone, PartialEq)]
pub struct ChildEnd {
    /// What its step gets.
    pub result: Result<Value, AttemptError>,
    /// Its use of language models, including its own children.
    pub usage: Option<Box<Usage>>,
}

impl ChildEnd {
    /// The result of a child that never began.
    pub fn never_began(error: AttemptError) -> Self {
        Self { result: Err(error), usage: None }
    }
}

/// A child that is to begin.
#[derive(Debug, Clone, PartialEq)]
pub struct ChildCall {
    /// The project of both.
    pub project: ProjectId,
    /// The child's id.
    pub run: RunId,
    /// The step that starts it.
    pub parent: Parent,
    /// The stored plan that it runs.
    pub plan: PlanName,
    /// Laid over the stored inputs.
    pub inputs: Map<String, Value>,
}

impl Run {
    /// The attempt wants a child: from here on it waits for that alone.
    pub(super) fn call_plan(
        &mut self,
        unit: Unit,
        (name, inputs): (String, Map<String, Value>),
        timeout: Option<TimeLimit>,
        now: Now,
        out: &mut Effects,
    ) {
        if unit.item.is_some() {
            return self.fail_attempt(unit, AttemptError::Lasting(ITEMS_RUN_NOTHING.to_owned()), now, out);
        }
        let parent = self.as_parent(&self.plan.steps[self.index(unit)].id);
        let plan = match PlanName::parse(&name) {
            Ok(_) if parent.depth > CHILD_DEPTH_MAX => {
                let error = format!("runs can't be nested more than {CHILD_DEPTH_MAX} levels deep");
                return self.fail_attempt(unit, AttemptError::Lasting(error), now, out);
            }
            Err(error) => return self.fail_attempt(unit, AttemptError::Lasting(error.to_string()), now, out),
            Ok(plan) => plan,
        };
        let run = child_id(&self.project, &parent, self.standing(unit).retries);
        let project = self.project.clone();
        out.children.push(ChildWish::Begin(Box::new(ChildCall { project, run: run.clone(), parent, plan, inputs })));
        self.set_phase(unit, Phase::Joining { run, timeout });
    }

    /// A child has ended, or never began. Its usage counts for its step, which reports it with the end of the attempt.
    /// It is reported once: after a crash the next attempt, which joins the same child, reports it again.
    pub fn child_ended(&mut self, child: &RunId, end: ChildEnd, now: Now, out: &mut Effects) {
        let waits = |phase: &Phase| matches!(phase, Phase::Joining { run, .. } if run == child);
        let unit = self.live.iter().find(|(_, live)| waits(&live.phase)).map(|(unit, _)| *unit);
        let Some(unit) = unit else { return };
        if let (Some(used), Some(live)) = (end.usage, self.live.get_mut(&unit)) {
            Usage::add_to(&mut live.usage, &used);
        }
        match end.result {
            Ok(output) => self.complete_unit(unit, output, now, out),
            Err(error) => self.fail_attempt(unit, error, now, out),
        }
        self.keep_budget(now, out);
        self.advance(now, out);
    }

    /// After a restart: children of attempts that are over may go on, where the process ended between the attempt's last
    /// message and the wish for the end of its child.
    pub(super) fn give_orphans_up(&self, out: &mut Effects) {
        let steps = self.plan.steps.iter().zip(&self.state.steps);
        for (step, state) in steps.filter(|(_, state)| state.attempt > 0) {
            if !self.context.registry.tool(&step.tool).is_some_and(|tool| tool.runs_plans()) {
                continue;
            }
            let is_over = match state.status {
                // The last of its children has ended, for the step has its output; unless an attempt completed without the
                // child that an interrupted one had asked for.
                StepStatus::Completed => state.interruptions > 0,
                // It begins again, or ends with its child cancelled.
                StepStatus::Running => false,
                status => status.is_ended() || status == StepStatus::Waiting,
            };
            let parent = self.as_parent(&step.id);
            for failures in 0..state.retries + u32::from(is_over) {
                self.give_child_up(child_id(&self.project, &parent, failures), out);
            }
        }
    }

    /// An attempt that replaces an interrupted one is over, or will not begin. If it has not joined the child of the
    /// interrupted attempt, nobody will: cancels that child.
    pub(super) fn give_interrupted_child_up(&self, unit: Unit, out: &mut Effects) {
        let (step, standing) = (&self.plan.steps[self.index(unit)], self.standing(unit));
        let phase = self.live.get(&unit).map(|live| &live.phase);
        let is_joining = matches!(phase, Some(Phase::Joining { .. }));
        // The attempt was interrupted, and has not begun again.
        let is_to_begin = standing.status == StepStatus::Running && matches!(phase, Some(Phase::Queued));
        let runs_plans = self.context.registry.tool(&step.tool).is_some_and(|tool| tool.runs_plans());
        let was_interrupted = standing.interruptions > 0 || is_to_begin;
        if was_interrupted && runs_plans && !is_joining && unit.item.is_none() {
            self.give_child_up(child_id(&self.project, &self.as_parent(&step.id), standing.retries), out);
        }
    }

    /// What a child of a step knows about this run.
    pub(super) fn as_parent(&self, step: &StepId) -> Parent {
        let depth = self.plan.parent.as_ref().map_or(0, |parent| parent.depth) + 1;
        Parent { run_id: self.state.run_id.clone(), step_id: step.clone(), depth }
    }

    /// The child of a step is not waited for any more.
    pub(super) fn give_child_up(&self, run: RunId, out: &mut Effects) {
        out.children.push(ChildWish::Cancel(self.project.clone(), run));
    }

    /// The attempt took too long: so did its child.
    pub(super) fn time_child_out(&mut self, unit: Unit, now: Now, out: &mut Effects) {
        let Some(live) = self.live.get(&unit) else { return };
        let Phase::Joining { run, timeout: Some(TimeLimit { limit, .. }) } = &live.phase else { return };
        let (run, limit) = (run.clone(), *limit);
        self.give_child_up(run, out);
        self.leave(unit, Leave::TimedOut(limit), now, out);
    }
}

/// The id of a child: a hash of 128 bits, so that it is the same wherever it is computed.
pub(super) fn child_id(project: &ProjectId, parent: &Parent, failures: u32) -> RunId {
    let Parent { run_id, step_id, .. } = parent;
    let text = format!("child {failures} of step {step_id} of run {run_id} in {project}");
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    RunId::from_random(digest.as_ref().first_chunk().copied().unwrap_or_default())
}
