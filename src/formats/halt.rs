//! Detects when a run is halted: a step waits for a decision, and nothing else is active until someone decides.
//!
//! The messages of a run don't tell that. It follows from the states of its steps and from its plan. If the plan is not
//! known, a step that has not started is assumed to depend on the waiting step: a client that is asked too early is
//! asked again, but one that is never asked would wait forever.

use std::collections::BTreeSet;

use super::head::{RunHead, StepHead};
use crate::model::{RunState, Scheduling, StepId, StepState, StepStatus};

/// The steps that a halt hangs on. All of the plan is looked over only where one waits and none goes on.
#[derive(Debug, Default)]
pub(super) struct Watch {
    waiting: BTreeSet<StepId>,
    going_on: BTreeSet<StepId>,
    /// How often all of the plan was looked over.
    #[cfg(test)]
    pub(super) looks: usize,
}

impl Watch {
    /// The run has moved in more than a step.
    pub(super) fn renew(&mut self, state: &RunState) {
        self.waiting.clear();
        self.going_on.clear();
        state.steps.iter().for_each(|step| self.note(step));
    }

    /// A step has moved.
    pub(super) fn note(&mut self, step: &StepState) {
        let goes_on = matches!(step.status, StepStatus::Running | StepStatus::Retrying);
        put(&mut self.waiting, &step.id, step.status == StepStatus::Waiting);
        put(&mut self.going_on, &step.id, goes_on && step.handler.is_none());
    }

    /// Is the run halted?
    pub(super) fn is_halted(&mut self, state: &RunState, head: &RunHead) -> bool {
        if self.waiting.is_empty() || !self.going_on.is_empty() {
            return false;
        }
        #[cfg(test)]
        {
            self.looks += 1;
        }
        is_halted(state, head)
    }
}

fn put(steps: &mut BTreeSet<StepId>, id: &StepId, is_one: bool) {
    match (is_one, steps.contains(id)) {
        (true, false) => _ = steps.insert(id.clone()),
        (false, true) => _ = steps.remove(id),
        _ => {}
    }
}

/// Is a run halted of which a step waits, and none goes on?
fn is_halted(state: &RunState, head: &RunHead) -> bool {
    let steps = state.steps.iter().map(AsRef::as_ref).enumerate();
    let mut pending = steps.filter(|(_, step)| step.handler.is_none() && step.status == StepStatus::Pending);
    let may_start = |(at, step): (usize, &StepState)| may_start(step, head.steps.get(at), state);
    !state.status.is_ended() && (starts_nothing(state, head) || !pending.any(may_start))
}

/// A level brings all of its steps along, whatever becomes of one of them. Without levels nothing starts once one has failed.
fn starts_nothing(state: &RunState, head: &RunHead) -> bool {
    let has_failed = |step: &StepState| step.status == StepStatus::Failed && !step.continued;
    state.scheduling == Scheduling::Eager && head.stops_on_failure && state.steps.iter().any(|step| has_failed(step))
}

fn may_start(step: &StepState, head: Option<&StepHead>, state: &RunState) -> bool {
    let has_ended = |id| state.position(id).is_some_and(|at| state.steps[at].status.is_ended());
    match (state.scheduling, head.and_then(|head| head.dependencies.as_ref())) {
        (Scheduling::Levels, _) => state.is_open(step.level),
        (Scheduling::Eager, Some(dependencies)) => dependencies.iter().all(has_ended),
        (Scheduling::Eager, None) => false,
    }
}
