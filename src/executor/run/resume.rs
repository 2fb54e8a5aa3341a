//! How a run goes on after a crash or a restart: from its plan, the fold of its messages, and its whole outputs.
//!
//! Any prefix of a run's messages is a state to resume from; the log may end anywhere. A step that was running is run
//! again as a further attempt, at least once, unless its tool forbids it, or so many attempts in a row were interrupted
//! that it may well be what ends the server each time. That uses up none of its retries. A delay
//! keeps its end: it counts from the start of the attempt that was interrupted, or of the first of several in a row.
//! When within that attempt the tool asked for the delay no message tells; the start is the earliest that it can have
//! been, so a step is never later than its delay for a restart's sake.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::ending::Abort;
use super::step::{Live, Phase, Stopwatch};
use super::{Context, Course, Effects, INTERRUPTED, NewRun, Run};
use crate::model::{Deadline, Now, OnFailure, RunState, StepId, StepStatus, Told};

/// A run of which the log holds messages.
pub struct ResumedRun {
    /// What it was started with.
    pub new: NewRun,
    /// The fold of its messages.
    pub state: RunState,
    /// The whole outputs of the steps whose messages hold only the beginning. A template that names one which is
    /// missing here finds it undefined.
    pub whole_outputs: HashMap<StepId, Arc<Value>>,
    /// Someone had asked for its end.
    pub cancelled: bool,
}

impl Run {
    /// A run that goes on where its messages end, once [started](Run::start).
    pub fn resume(resumed: ResumedRun, context: Arc<Context>, now: Now) -> Self {
        let ResumedRun { new, state, mut whole_outputs, cancelled } = resumed;
        let mut run = Self::with_state(new, state, context);
        run.watch = Stopwatch::resume(run.state.started_at, now);
        run.level_watch = Stopwatch::resume(run.state.level_started_at, now);
        let timeout = run.state.started_at.zip(run.plan.timeout);
        run.timeout = timeout.map(|(at, lasts)| Deadline::restored(Told { at, lasts }, now));
        run.outputs = run.state.steps.iter().map(|step| output_of(step, &mut whole_outputs)).collect();
        for step in run.plan.clone().levels.iter().flatten() {
            run.settle_blame(*step);
        }
        run.course = run.course_so_far(cancelled, now);
        run
    }

    fn course_so_far(&self, cancelled: bool, now: Now) -> Course {
        let was_aborting = self.state.steps.iter().any(|step| step.status == StepStatus::Cancelled);
        let is_late = self.timeout.is_some_and(|timeout| timeout.has_passed(now));
        if cancelled {
            Course::Aborting(Abort::Cancelled)
        } else if is_late || (was_aborting && self.plan.timeout.is_some()) {
            Course::Aborting(Abort::Timeout)
        } else if was_aborting {
            Course::Aborting(Abort::Cancelled)
        } else if self.has_failed() && self.plan.on_failure == OnFailure::Stop {
            Course::Stopping
        } else {
            Course::Onward
        }
    }

    /// The open level's steps go on from where they were.
    pub(super) fn reopen_level(&mut self, now: Now, out: &mut Effects) {
        if !self.state.level_open {
            return;
        }
        let plan = self.plan.clone();
        let steps = &plan.levels[self.level()];
        self.open = steps.iter().filter(|&&step| !self.state.steps[step].status.is_ended()).count();
        for (rank, &step) in steps.iter().enumerate() {
            match self.state.steps[step].status {
                StepStatus::Pending => self.enqueue(rank, step, now, out),
                StepStatus::Running => self.run_again(rank, step, now, out),
                StepStatus::Retrying => self.wait_on(rank, step, now),
                StepStatus::Completed | StepStatus::Failed | StepStatus::Skipped | StepStatus::Cancelled => {}
            }
        }
        if let Course::Aborting(abort) = self.course {
            self.dismiss_all(abort, now, out);
        }
    }

    fn run_again(&mut self, rank: usize, step: usize, now: Now, out: &mut Effects) {
        self.revive(rank, step, Phase::Queued, now);
        match self.why_not_again(step) {
            Some(why) if !matches!(self.course, Course::Aborting(_)) => {
                self.fail_step(step, format!("{INTERRUPTED}{why}"), now, out);
            }
            _ if self.is_last_chance(step) => drop(self.suspects.insert(rank)),
            _ => drop(self.ready.insert(rank)),
        }
    }

    /// Will one interruption more be one too many?
    fn is_last_chance(&self, step: usize) -> bool {
        let Some(max) = self.context.interruptions_max else { return false };
        !self.only_waits(step) && self.state.steps[step].interruptions.saturating_add(2) >= max.get()
    }

    fn only_waits(&self, step: usize) -> bool {
        self.context.registry.tool(&self.plan.steps[step].tool).is_some_and(|tool| tool.only_waits())
    }

    /// Makes every step that was interrupted and waits to be run again a [suspect](Self::has_suspect).
    pub fn suspect_interrupted(&mut self) {
        if self.ready.is_empty() {
            return;
        }
        let plan = self.plan.clone();
        let level = &plan.levels[self.level()];
        let was_interrupted = |rank: &usize| {
            let step = level[*rank];
            self.state.steps[step].status == StepStatus::Running && !self.only_waits(step)
        };
        let interrupted: Vec<usize> = self.ready.iter().copied().filter(was_interrupted).collect();
        for rank in interrupted {
            self.ready.remove(&rank);
            self.suspects.insert(rank);
        }
    }

    /// Why a step whose newest attempt was interrupted is not run again, if it is not.
    fn why_not_again(&self, step: usize) -> Option<String> {
        // A tool that the operator has taken away can't be called; the attempt fails and names it.
        let tool = self.context.registry.tool(&self.plan.steps[step].tool)?;
        if !tool.rerun() {
            return Some("while this step ran, and its tool must not run twice".to_owned());
        }
        let interruptions = self.state.steps[step].interruptions.saturating_add(1);
        let max = self.context.interruptions_max?.get();
        let is_too_often = interruptions >= max && !tool.only_waits();
        is_too_often.then(|| {
            format!(
                "during each of the last {interruptions} attempts at this step, and executor.interruptions is {max}"
            )
        })
    }

    fn wait_on(&mut self, rank: usize, step: usize, now: Now) {
        let told = self.state.steps[step].retry_wait.unwrap_or(Told { at: now.wall, lasts: Duration::ZERO });
        self.revive(rank, step, Phase::Retrying { until: Deadline::restored(told, now) }, now);
    }

    fn revive(&mut self, rank: usize, step: usize, phase: Phase, now: Now) {
        let watch = Stopwatch::resume(self.state.steps[step].started_at, now);
        self.live.insert(step, Live::new(rank, watch, phase));
        self.set_deadline(step);
    }
}

/// What other steps see as the output of `step`.
fn output_of(step: &crate::model::StepState, whole: &mut HashMap<StepId, Arc<Value>>) -> Option<Arc<Value>> {
    match step.status {
        StepStatus::Completed if step.truncated => whole.remove(&step.id),
        StepStatus::Completed => step.output.clone(),
        StepStatus::Skipped => Some(Arc::new(Value::Null)),
        StepStatus::Failed if step.continued => Some(Arc::new(Value::Null)),
        _ => None,
    }
}
