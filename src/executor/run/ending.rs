//! How levels and runs end, early or not.

use crate::model::{
    Cause, CauseKind, Deadline, EndReason, LevelCompleted, Now, PerformanceMetrics, RunCompleted, RunEventKind,
    RunFailed, StepId, StepState, StepStatus, StepUpdate,
};

use super::step::{Leave, Phase, millis};
use super::{ABANDON_AFTER, Course, Effects, INTERRUPTED, Run, cut, metrics};

/// Why a run ends before its steps do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Abort {
    Cancelled,
    Timeout,
}

impl Abort {
    fn cause(self) -> Cause {
        let kind = match self {
            Self::Cancelled => CauseKind::Cancelled,
            Self::Timeout => CauseKind::Timeout,
        };
        Cause { kind, step_id: None }
    }

    fn end_reason(self) -> EndReason {
        match self {
            Self::Cancelled => EndReason::Cancelled,
            Self::Timeout => EndReason::Timeout,
        }
    }
}

impl Run {
    /// Asks everything that runs to end, and ends everything that waits.
    pub(super) fn abort(&mut self, abort: Abort, now: Now, out: &mut Effects) {
        if matches!(self.course, Course::Aborting(_)) {
            return;
        }
        self.course = Course::Aborting(abort);
        self.dismiss_all(abort, now, out);
        self.advance(now, out);
    }

    /// The steps of the open level that have begun: those with a worker are asked to leave, the rest end.
    pub(super) fn dismiss_all(&mut self, abort: Abort, now: Now, out: &mut Effects) {
        self.ready.clear();
        self.suspects.clear();
        let steps: Vec<_> = self.live.keys().copied().collect();
        for step in steps {
            let Some(live) = self.live.get_mut(&step) else { continue };
            match &mut live.phase {
                Phase::Calling { cancel, .. } => {
                    out.cancels.push(cancel.clone());
                    let until = Deadline::after(ABANDON_AFTER, now);
                    live.phase = Phase::Leaving { cancel: cancel.clone(), until, why: Leave::RunEnds };
                    self.set_deadline(step);
                }
                Phase::Leaving { why, .. } => *why = Leave::RunEnds,
                Phase::Queued | Phase::Delaying { .. } | Phase::Retrying { .. } => {
                    self.end_cancelled(step, abort, now, out);
                }
            }
        }
    }

    pub(super) fn end_cancelled(&mut self, step: usize, abort: Abort, now: Now, out: &mut Effects) {
        let update = StepUpdate::Cancelled { reason: self.abort_sentence(abort), cause: abort.cause() };
        self.end_step(step, update, now, out);
    }

    pub(super) fn complete_level(&mut self, now: Now, out: &mut Effects) {
        let level = self.level();
        let execution_time = self.level_watch.elapsed_ms(now);
        let ended = |among: fn(StepStatus) -> bool| -> Vec<StepId> {
            let steps = self.plan.levels[level].iter().map(|&step| &self.state.steps[step]);
            steps.filter(|step| among(step.status)).map(|step| step.id.clone()).collect()
        };
        let completed = LevelCompleted {
            level,
            total_levels: self.plan.levels.len(),
            completed_steps: ended(|status| status == StepStatus::Completed),
            failed_steps: ended(|status| status == StepStatus::Failed),
            skipped_steps: ended(|status| status == StepStatus::Skipped),
            cancelled_steps: ended(|status| status == StepStatus::Cancelled),
            execution_time,
            efficiency: metrics::efficiency(&self.plan, &self.state, level, execution_time),
        };
        self.emit(RunEventKind::LevelCompleted(completed), now, out);
    }

    /// After the last level: completed, unless a step failed and was not continued over.
    pub(super) fn end_in_time(&mut self, now: Now, out: &mut Effects) {
        if self.has_failed() {
            return self.fail_of_steps(now, out);
        }
        let (outputs, truncated) = cut::run_outputs(&self.state, cut::RUN_OUTPUT_BYTES_MAX);
        let completed = RunCompleted {
            plan_name: self.plan.name.clone(),
            outputs,
            truncated,
            failed_steps: self.steps_that(StepStatus::Failed),
            performance_metrics: PerformanceMetrics {
                total_execution_time: self.watch.elapsed_ms(now),
                critical_path: metrics::critical_path(&self.plan, &self.state),
                step_time: metrics::step_time(&self.state),
            },
        };
        self.emit(RunEventKind::Completed(completed), now, out);
    }

    /// Before the last level: what has not started never will.
    pub(super) fn end_early(&mut self, abort: Option<Abort>, now: Now, out: &mut Effects) {
        for level in self.state.current_level.unwrap_or(0)..self.plan.levels.len() {
            for rank in 0..self.plan.levels[level].len() {
                let step = self.plan.levels[level][rank];
                self.settle_blame(step);
                if self.state.steps[step].status == StepStatus::Pending {
                    self.skip_at_end(step, abort, now, out);
                }
            }
        }
        match abort {
            Some(abort) => self.fail(self.abort_sentence(abort), abort.end_reason(), now, out),
            None => self.fail_of_steps(now, out),
        }
    }

    fn skip_at_end(&mut self, step: usize, abort: Option<Abort>, now: Now, out: &mut Effects) {
        match (abort, self.blame[step]) {
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
        // A failure of its own is the reason before an interruption is.
        let is_interrupted = |step: &StepState| step.error.as_ref().is_some_and(|error| error.starts_with(INTERRUPTED));
        let of_its_own = fatal.find(|step| !is_interrupted(step));
        let reason = if of_its_own.is_some() { EndReason::StepFailed } else { EndReason::Interrupted };
        let error = of_its_own.or(first).map_or_else(String::new, |step| {
            format!("step {} failed: {}", step.id, step.error.as_deref().unwrap_or("no reason given"))
        });
        self.fail(error, reason, now, out);
    }

    fn fail(&mut self, error: String, reason: EndReason, now: Now, out: &mut Effects) {
        let failed = RunFailed {
            plan_name: self.plan.name.clone(),
            error,
            reason,
            failed_steps: self.steps_that(StepStatus::Failed),
            cancelled_steps: self.steps_that(StepStatus::Cancelled),
        };
        self.emit(RunEventKind::Failed(failed), now, out);
    }

    /// The steps whose end is `status`.
    fn steps_that(&self, status: StepStatus) -> Vec<StepId> {
        let ended_so = self.state.steps.iter().filter(|step| step.status == status);
        ended_so.map(|step| step.id.clone()).collect()
    }

    fn abort_sentence(&self, abort: Abort) -> String {
        match abort {
            Abort::Cancelled => "the run was cancelled".to_owned(),
            Abort::Timeout => {
                format!(
                    "the run timed out after {} ms (the plan's timeout)",
                    millis(self.plan.timeout.unwrap_or_default())
                )
            }
        }
    }
}
