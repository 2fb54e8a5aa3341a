//! Runs the plan's handlers after the outcome of a run is decided and before its last message: first those for the
//! outcome, then those for any outcome. They can't change it. Each of their messages contains the outcome, so a restart
//! in between continues with the same. A run without an opened level skips its handlers.

use serde_json::{Value, json};

use super::ending::Abort;
use super::{Course, Effects, Run};
use crate::model::{Cause, CauseKind, Deadline, HandlerKind, Now, RunOutcome, RunStatus, StepStatus, Told};

/// A run whose outcome is settled.
#[derive(Debug)]
pub(super) struct Handling {
    pub outcome: RunOutcome,
    /// When the handlers that have not ended are cancelled.
    pub until: Deadline,
}

impl Handling {
    /// What handlers may name as `run`.
    pub fn shown(&self) -> Value {
        let RunOutcome { status, reason, error } = &self.outcome;
        json!({"status": status, "reason": reason, "error": error})
    }
}

impl Run {
    /// The outcome is settled.
    pub(super) fn conclude(&mut self, outcome: RunOutcome, now: Now, out: &mut Effects) {
        if self.plan.steps.iter().all(|step| step.handler.is_none()) {
            return self.say_last(&outcome, now, out);
        }
        self.handle(outcome, Deadline::after(self.plan.handler_timeout, now));
        self.advance_handlers(now, out);
    }

    fn handle(&mut self, outcome: RunOutcome, until: Deadline) {
        // What ends the run early has no say any more.
        self.timeout = None;
        self.course = match self.ends_handlers && outcome.status != RunStatus::Cancelled {
            true => Course::Aborting(Abort::Cancelled),
            false => Course::Onward,
        };
        self.handling = Some(Box::new(Handling { outcome, until }));
    }

    /// Starts handlers whose turn it is, until one has to be waited for or the run has ended.
    pub(super) fn advance_handlers(&mut self, now: Now, out: &mut Effects) {
        let Some(outcome) = self.handling.as_ref().map(|handling| handling.outcome.clone()) else { return };
        if self.is_ended() {
            return;
        }
        let has_begun = self.state.current_level.is_some();
        for kind in [outcome.handlers(), HandlerKind::Exit].into_iter().filter(|_| has_begun) {
            let handlers = self.handlers_of(|handler| handler == kind);
            handlers.iter().for_each(|&step| self.start_handler(step, now, out));
            if handlers.iter().any(|&step| !self.state.steps[step].status.is_ended()) {
                return;
            }
        }
        for step in self.handlers_of(|_| true) {
            if self.state.steps[step].status == StepStatus::Pending {
                let cause = Cause { kind: CauseKind::Condition, step_id: None };
                self.skip(step, unfit_sentence(outcome.status, has_begun).to_owned(), cause, now, out);
            }
        }
        self.say_last(&outcome, now, out);
    }

    /// In an order in which each comes after those that it depends on.
    fn handlers_of(&self, among: impl Fn(HandlerKind) -> bool) -> Vec<usize> {
        let steps = self.plan.steps.iter().enumerate();
        let mut handlers: Vec<_> = steps.filter(|(_, step)| step.handler.is_some_and(&among)).collect();
        handlers.sort_by_key(|(_, step)| step.level);
        handlers.into_iter().map(|(at, _)| at).collect()
    }

    /// It waits for a worker, is skipped, or waits for others.
    fn start_handler(&mut self, step: usize, now: Now, out: &mut Effects) {
        // Also of one that had ended before a restart: those that depend on it ask for it.
        self.assign_blame(step);
        if self.state.steps[step].status != StepStatus::Pending {
            return;
        }
        if let Course::Aborting(abort) = self.course {
            return self.skip(step, self.abort_sentence(abort), abort.cause(), now, out);
        }
        if let Some(failed) = self.blame[step] {
            return self.skip_below(step, failed, now, out);
        }
        let has_ended = |&dependency: &usize| self.state.steps[dependency].status.is_ended();
        if self.plan.steps[step].dependencies.iter().all(has_ended) {
            self.make_ready(step);
        }
    }

    /// Goes on with handlers that messages tell of.
    pub(super) fn resume_handling(&mut self, now: Now) {
        let Some(outcome) = self.state.outcome.as_deref().cloned() else { return };
        let at = self.state.handling_since.unwrap_or(now.wall);
        let until = Deadline::restored(Told { at, lasts: self.plan.handler_timeout }, now);
        self.handle(outcome, until);
        let handlers = self.plan.steps.iter().zip(&self.state.steps).filter(|(step, _)| step.handler.is_some());
        let was_ending = handlers.into_iter().any(|(_, state)| state.status == StepStatus::Cancelled);
        if until.has_passed(now) {
            self.course = Course::Aborting(Abort::HandlerTimeout);
        } else if was_ending {
            self.course = Course::Aborting(Abort::Cancelled);
        }
    }

    /// Handlers that had begun go on from where they were.
    pub(super) fn reopen_handlers(&mut self, now: Now, out: &mut Effects) {
        for step in self.handlers_of(|_| true) {
            match self.state.steps[step].status {
                StepStatus::Running => self.run_again(self.unit(step), now, out),
                StepStatus::Retrying => self.wait_on(self.unit(step), now),
                _ => {}
            }
        }
        if let Course::Aborting(abort) = self.course {
            self.dismiss_all(abort, now, out);
        }
    }
}

/// Why a handler does not run.
fn unfit_sentence(status: RunStatus, has_begun: bool) -> &'static str {
    match status {
        _ if !has_begun => "no step of the run has started",
        RunStatus::Completed => "the run completed",
        RunStatus::Cancelled => "the run was cancelled",
        RunStatus::Queued | RunStatus::Running | RunStatus::Failed => "the run failed",
    }
}
