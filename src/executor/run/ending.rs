//! How runs end, whether early or not.

use crate::model::{
    Cause, CauseKind, EndReason, Now, PerformanceMetrics, RunCompleted, RunEventKind, RunFailed, RunOutcome, StepId,
    StepState, StepStatus, StepUpdate,
};

use super::step::{Leave, Phase, millis};
use super::{Course, Effects, INTERRUPTED, Run, Unit, cut, metrics};

/// Why a run ends before its steps do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Abort {
    Cancelled,
    Timeout,
    /// It waited too long, and never began.
    QueueTimeout,
    /// Its handlers took longer than they may.
    HandlerTimeout,
    /// As much was used as may be.
    Budget,
}

impl Abort {
    pub(super) fn cause(self) -> Cause {
        let kind = match self {
            Self::Cancelled => CauseKind::Cancelled,
            Self::Timeout | Self::HandlerTimeout => CauseKind::Timeout,
            Self::QueueTimeout => CauseKind::QueueTimeout,
            Self::Budget => CauseKind::Budget,
        };
        Cause { kind, step_id: None }
    }

    /// The reason for which a step was ended, if that was an early end of the run.
    pub(super) fn of_cause(cause: CauseKind) -> Option<Self> {
        match cause {
            CauseKind::Cancelled => Some(Self::Cancelled),
            CauseKind::Timeout => Some(Self::Timeout),
            CauseKind::QueueTimeout => Some(Self::QueueTimeout),
            CauseKind::Budget => Some(Self::Budget),
            CauseKind::Condition | CauseKind::UpstreamFailed | CauseKind::RunFailed => None,
        }
    }

    fn end_reason(self) -> EndReason {
        match self {
            Self::Cancelled => EndReason::Cancelled,
            Self::Timeout | Self::HandlerTimeout => EndReason::Timeout,
            Self::QueueTimeout => EndReason::QueueTimeout,
            Self::Budget => EndReason::Budget,
        }
    }
}

impl Run {
    /// Asks everything that runs to end, and ends everything that waits.
    pub(super) fn abort(&mut self, abort: Abort, now: Now, out: &mut Effects) {
        if let Course::Aborting(before) = self.course {
            if abort == Abort::Cancelled {
                self.finish_nothing(now, out);
                self.cancel_while_aborting(before);
            }
            // A run that was cancelled before it began has nothing else that would end it.
            return self.advance(now, out);
        }
        if abort == Abort::Cancelled && !self.is_end_told() {
            self.handling = None;
        }
        self.course = Course::Aborting(abort);
        self.dismiss_all(abort, now, out);
        self.advance(now, out);
    }

    /// Was the reason of the end reported? Until then a cancel may still replace it. This is the same after a restart,
    /// which knows that a cancel was requested, but not when.
    fn is_end_told(&self) -> bool {
        self.state.outcome.is_some() || self.state.ending.is_some()
    }

    /// Cancels a run that is ending for another reason. If that reason was reported, it stays, and no handler begins.
    fn cancel_while_aborting(&mut self, before: Abort) {
        if self.handling.is_some() || before == Abort::Cancelled {
            return;
        }
        match self.is_end_told() {
            true => self.ends_handlers = true,
            false => self.course = Course::Aborting(Abort::Cancelled),
        }
    }

    /// The steps that have begun: those with a worker are asked to leave, the rest end.
    pub(super) fn dismiss_all(&mut self, abort: Abort, now: Now, out: &mut Effects) {
        self.ready.clear();
        self.suspects.clear();
        self.forget_queued_items();
        let units: Vec<_> = self.live.keys().copied().collect();
        for unit in units {
            let Some(live) = self.live.get_mut(&unit) else { continue };
            match &mut live.phase {
                Phase::Calling { .. } => self.ask_to_leave(unit, now, out),
                Phase::Finishing { .. } if abort == Abort::Budget => {}
                Phase::Finishing { .. } => self.ask_to_leave(unit, now, out),
                Phase::Leaving { why, .. } => *why = Leave::RunEnds,
                Phase::Joining { run, .. } => {
                    let run = run.clone();
                    self.give_child_up(run, out);
                    self.end_cancelled(unit, abort, now, out);
                }
                Phase::Queued | Phase::Delaying { .. } | Phase::Retrying { .. } | Phase::Waiting { .. } => {
                    self.end_cancelled(unit, abort, now, out);
                }
                // Its items come next.
                Phase::Spread { .. } => {}
            }
        }
        let spread: Vec<u32> = self.each.keys().copied().collect();
        spread.into_iter().for_each(|step| self.end_if_idle(Unit { step, item: None }, now, out));
    }

    pub(super) fn end_cancelled(&mut self, unit: Unit, abort: Abort, now: Now, out: &mut Effects) {
        if unit.item.is_some() {
            return self.cancel_item(unit, abort, now, out);
        }
        let step = self.index(unit);
        let update = StepUpdate::Cancelled { reason: self.abort_sentence(abort), cause: abort.cause() };
        self.end_step(step, update, now, out);
    }

    /// After the last level: completed, unless a step failed and was not continued over.
    pub(super) fn end_in_time(&mut self, now: Now, out: &mut Effects) {
        if self.has_failed() {
            return self.fail_of_steps(now, out);
        }
        self.conclude(RunOutcome::completed(), now, out);
    }

    /// The last message.
    pub(super) fn say_last(&mut self, outcome: &RunOutcome, now: Now, out: &mut Effects) {
        match (outcome.reason, &outcome.error) {
            (Some(reason), Some(error)) => self.say_failed(error.clone(), reason, now, out),
            _ => self.say_completed(now, out),
        }
    }

    fn say_completed(&mut self, now: Now, out: &mut Effects) {
        let (outputs, truncated) = cut::run_outputs(&self.state, cut::RUN_OUTPUT_BYTES_MAX);
        let completed = RunCompleted {
            plan_name: self.plan.name.clone(),
            outputs,
            truncated,
            failed_steps: self.steps_that(StepStatus::Failed),
            failed_handlers: self.state.failed_handlers(),
            performance_metrics: PerformanceMetrics {
                total_execution_time: self.watch.elapsed_ms(now),
                critical_path: metrics::critical_path(&self.plan, &self.state),
                step_time: metrics::step_time(&self.state),
            },
            usage: self.state.usage.clone(),
        };
        self.emit(RunEventKind::Completed(completed), now, out);
    }

    /// Before the last level: what has not started never will. Inside the bracket of its level where that is open.
    pub(super) fn end_early(&mut self, now: Now, out: &mut Effects) {
        let plan = self.plan.clone();
        plan.levels.iter().flatten().for_each(|&step| self.assign_blame(step));
        for level in self.state.open_levels.clone().iter().map(|open| open.level) {
            self.skip_rest_of(level, now, out);
            self.complete_level(level, now, out);
        }
        (0..plan.levels.len()).for_each(|level| self.skip_rest_of(level, now, out));
        match self.abort_reason() {
            Some(abort) => self.fail(self.abort_sentence(abort), abort.end_reason(), now, out),
            None => self.fail_of_steps(now, out),
        }
    }

    fn abort_reason(&self) -> Option<Abort> {
        match self.course {
            Course::Aborting(abort) => Some(abort),
            Course::Onward | Course::Stopping => None,
        }
    }

    fn skip_rest_of(&mut self, level: usize, now: Now, out: &mut Effects) {
        if self.unended[level] == 0 {
            return;
        }
        for rank in 0..self.plan.levels[level].len() {
            let step = self.plan.levels[level][rank];
            if self.state.steps[step].status == StepStatus::Pending {
                self.skip_at_end(step, now, out);
            }
        }
    }

    fn skip_at_end(&mut self, step: usize, now: Now, out: &mut Effects) {
        match (self.abort_reason(), self.blame[step]) {
            (Some(abort), _) => self.skip(step, self.abort_sentence(abort), abort.cause(), now, out),
            (None, Some(failed)) => self.skip_below(step, failed, now, out),
            (None, None) => {
                let cause = Cause { kind: CauseKind::RunFailed, step_id: None };
                self.skip(step, "the run failed before this step could start".to_owned(), cause, now, out);
            }
        }
    }

    fn fail_of_steps(&mut self, now: Now, out: &mut Effects) {
        let in_order = self.plan.levels.iter().flatten().map(|&step| &self.state.steps[step]);
        let mut fatal = in_order.filter(|step| step.status == StepStatus::Failed && !step.continued);
        let first = fatal.clone().next();
        // A real failure takes precedence over an interruption as the reason.
        let is_interrupted = |step: &StepState| step.error.as_ref().is_some_and(|error| error.starts_with(INTERRUPTED));
        let of_its_own = fatal.find(|step| !is_interrupted(step));
        let reason = if of_its_own.is_some() { EndReason::StepFailed } else { EndReason::Interrupted };
        let error = of_its_own.or(first).map_or_else(String::new, |step| {
            format!("step {} failed: {}", step.id, step.error.as_deref().unwrap_or("no reason given"))
        });
        self.fail(error, reason, now, out);
    }

    fn fail(&mut self, error: String, reason: EndReason, now: Now, out: &mut Effects) {
        self.conclude(RunOutcome::failed(error, reason), now, out);
    }

    fn say_failed(&mut self, error: String, reason: EndReason, now: Now, out: &mut Effects) {
        let failed = RunFailed {
            plan_name: self.plan.name.clone(),
            error,
            reason,
            failed_steps: self.steps_that(StepStatus::Failed),
            cancelled_steps: self.steps_that(StepStatus::Cancelled),
            failed_handlers: self.state.failed_handlers(),
            usage: self.state.usage.clone(),
        };
        self.emit(RunEventKind::Failed(failed), now, out);
    }

    /// The steps whose end is `status`.
    fn steps_that(&self, status: StepStatus) -> Vec<StepId> {
        let ended_so = self.state.steps.iter().filter(|step| step.status == status && step.handler.is_none());
        ended_so.map(|step| step.id.clone()).collect()
    }

    pub(super) fn abort_sentence(&self, abort: Abort) -> String {
        match abort {
            Abort::Cancelled => "the run was cancelled".to_owned(),
            Abort::HandlerTimeout => {
                let limit = millis(self.plan.handler_timeout);
                format!("the handlers took longer than {limit} ms (the plan's handlerTimeout)")
            }
            Abort::QueueTimeout => {
                let limit = millis(self.plan.queue_timeout.unwrap_or_default());
                format!("the run did not start within {limit} ms (the plan's queueTimeout)")
            }
            Abort::Budget => self.budget_sentence(),
            Abort::Timeout => {
                format!(
                    "the run timed out after {} ms (the plan's timeout)",
                    millis(self.plan.timeout.unwrap_or_default())
                )
            }
        }
    }
}
