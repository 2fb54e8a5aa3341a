//! Runs whose steps start as soon as their dependencies have ended. A level opens with the first of its steps that
//! changes its state and closes with the last, so levels overlap. Steps to be skipped because another failed are
//! skipped at once.

use std::collections::VecDeque;

use super::{Course, Effects, Run};
use crate::model::{Now, Plan, Scheduling, StepStatus};

/// What an eager run knows about its steps besides their messages.
#[derive(Debug)]
pub(super) struct Eager {
    /// By step: those that depend on it.
    dependents: Vec<Vec<usize>>,
    /// By step: how many of those that it depends on have not ended well.
    unmet: Vec<usize>,
    /// Steps that have ended, and whose dependents have not been looked at.
    ended: VecDeque<usize>,
}

impl Eager {
    /// The state of a run of `plan` in which no step has ended; none if the plan runs level by level.
    pub fn of(plan: &Plan) -> Option<Self> {
        if plan.scheduling != Scheduling::Eager {
            return None;
        }
        let mut dependents = vec![Vec::new(); plan.steps.len()];
        for (at, step) in plan.steps.iter().enumerate() {
            step.dependencies.iter().for_each(|&dependency| dependents[dependency].push(at));
        }
        let unmet = plan.steps.iter().map(|step| step.dependencies.len()).collect();
        Some(Self { dependents, unmet, ended: VecDeque::new() })
    }

    /// Steps that have ended and were not handled, by their new indexes.
    pub fn into_ended(self, now: &[Option<usize>]) -> VecDeque<usize> {
        self.ended.into_iter().filter_map(|step| now[step]).collect()
    }

    /// A step has ended.
    pub fn note_end(&mut self, step: usize) {
        self.ended.push_back(step);
    }

    /// A step has ended well: those that wait for nothing more.
    fn meet(&mut self, step: usize) -> Vec<usize> {
        let unmet = &mut self.unmet;
        let is_met = |&dependent: &usize| {
            unmet[dependent] -= 1;
            unmet[dependent] == 0
        };
        self.dependents[step].iter().copied().filter(is_met).collect()
    }
}

impl Run {
    /// Looks at what has ended, and ends the run where nothing is left to wait for.
    pub(super) fn advance_eagerly(&mut self, now: Now, out: &mut Effects) {
        if self.is_ended() {
            return;
        }
        while let Some(step) = self.eager.as_mut().and_then(|eager| eager.ended.pop_front()) {
            self.follow_up(step, now, out);
        }
        if self.live.is_empty() && self.ready.is_empty() {
            match self.course {
                Course::Onward => self.end_in_time(now, out),
                Course::Stopping | Course::Aborting(_) => self.end_early(now, out),
            }
        }
    }

    /// A step is about to move: its level is open.
    pub(super) fn enter_level(&mut self, step: usize, now: Now, out: &mut Effects) {
        let level = self.plan.steps[step].level;
        if !self.state.is_open(level) {
            self.start_level(level, now, out);
        }
    }

    /// A step has ended: so may have its level; others are ready now, or will never be.
    fn follow_up(&mut self, step: usize, now: Now, out: &mut Effects) {
        self.close_if_over(self.plan.steps[step].level, now, out);
        if self.course != Course::Onward {
            return;
        }
        if self.has_ended_well(step) {
            let met = self.eager.as_mut().map(|eager| eager.meet(step));
            met.into_iter().flatten().for_each(|dependent| self.come_to(dependent, now, out));
            return;
        }
        let dependents = self.eager.as_ref().map(|eager| eager.dependents[step].clone());
        for dependent in dependents.into_iter().flatten() {
            if self.state.steps[dependent].status == StepStatus::Pending {
                self.skip_if_blamed(dependent, now, out);
            }
        }
    }

    /// Nothing keeps a step from starting any more.
    fn come_to(&mut self, step: usize, now: Now, out: &mut Effects) {
        if self.is_kept(step) {
            self.enter_level(step, now, out);
            return self.reuse(step, now, out);
        }
        self.make_ready(step);
    }

    fn close_if_over(&mut self, level: usize, now: Now, out: &mut Effects) {
        if self.unended[level] == 0 && self.state.is_open(level) {
            self.complete_level(level, now, out);
        }
    }

    /// Is it as good as done for those that depend on it?
    fn has_ended_well(&self, step: usize) -> bool {
        let status = self.state.steps[step].status;
        status.is_ended() && status != StepStatus::Cancelled && self.blame[step].is_none()
    }

    fn skip_if_blamed(&mut self, step: usize, now: Now, out: &mut Effects) {
        self.assign_blame(step);
        if let Some(failed) = self.blame[step] {
            self.enter_level(step, now, out);
            self.skip_below(step, failed, now, out);
        }
    }

    /// Takes note of what had ended well before this process began.
    pub(super) fn meet_what_has_ended(&mut self) {
        self.meet_all_but(VecDeque::new());
    }

    /// Takes note of what has ended well, but for those that are still to be looked at.
    pub(super) fn meet_all_but(&mut self, ended: VecDeque<usize>) {
        let Some(mut eager) = self.eager.take() else { return };
        let is_met = |step: &usize| self.has_ended_well(*step) && !ended.contains(step);
        (0..self.state.steps.len()).filter(is_met).for_each(|step| drop(eager.meet(step)));
        eager.ended = ended;
        self.eager = Some(eager);
    }

    /// A step that has not started, after a restart: what its dependencies' ends meant for it may not have been said.
    pub(super) fn reconsider(&mut self, step: usize, now: Now, out: &mut Effects) {
        if self.course != Course::Onward {
            return;
        }
        self.skip_if_blamed(step, now, out);
        let is_met = self.eager.as_ref().is_some_and(|eager| eager.unmet[step] == 0);
        if is_met && self.blame[step].is_none() {
            self.come_to(step, now, out);
        }
    }

    /// Closes levels whose last step ended just before the process did.
    pub(super) fn close_what_is_over(&mut self, now: Now, out: &mut Effects) {
        for open in self.state.open_levels.clone().iter() {
            self.close_if_over(open.level, now, out);
        }
    }
}
