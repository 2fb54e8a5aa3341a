//! How a run continues after a crash or a restart: from its plan, the fold of its messages, and its whole outputs.
//!
//! A run can resume after any prefix of its messages, because the log may end anywhere. A step that was running is run
//! again as a further attempt (at least once), unless its tool forbids that, or unless so many consecutive attempts
//! were interrupted that the step may be what ends the server each time. This does not count as a retry. A delay keeps
//! its end: it counts from the start of the interrupted attempt, or of the first of several in a row. No message tells
//! when within that attempt the tool asked for the delay; the start is the earliest possible time, so a restart never
//! makes a step late.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::ending::Abort;
use super::step::{Live, Phase, Stopwatch};
use super::{Context, Course, Effects, INTERRUPTED, NewRun, Run, Unit};
use crate::model::{Deadline, ItemState, Now, OnFailure, RunState, StepId, StepStatus, Told};

/// A run with messages in the log.
pub struct ResumedRun {
    /// The run as it was started.
    pub new: NewRun,
    /// The fold of its messages.
    pub state: RunState,
    /// The whole outputs of the steps whose messages hold only the beginning. A template that names one which is
    /// missing here finds it undefined.
    pub whole_outputs: HashMap<StepId, Arc<Value>>,
    /// What is stored of the items of steps that continue. Their whole outputs are with those of steps, under `id[3]`.
    pub items: HashMap<StepId, Vec<ItemState>>,
    /// Someone had asked for its end.
    pub cancelled: bool,
}

impl Run {
    /// A run that goes on where its messages end, once [started](Run::start).
    pub fn resume(resumed: ResumedRun, context: Arc<Context>, now: Now) -> Self {
        let ResumedRun { new, state, mut whole_outputs, items, cancelled } = resumed;
        let mut run = Self::with_state(new, state, context);
        run.watch = Stopwatch::resume(run.state.started_at, now);
        let open = run.state.open_levels.iter();
        run.level_watches = open.map(|open| (open.level, Stopwatch::resume(Some(open.started_at), now))).collect();
        let timeout = run.state.started_at.zip(run.plan.timeout);
        run.timeout = timeout.map(|(at, lasts)| Deadline::restored(Told { at, lasts }, now));
        run.outputs = run.state.steps.iter().map(|step| output_of(step, &mut whole_outputs)).collect();
        run.kept_items = items;
        run.whole_outputs.extend(whole_outputs);
        for step in run.plan.clone().levels.iter().flatten() {
            run.assign_blame(*step);
        }
        run.note_durations();
        run.meet_what_has_ended();
        run.course = run.course_so_far(cancelled, now);
        run.ends_handlers = cancelled;
        run.resume_handling(now);
        run
    }

    /// Notes the durations of steps that the previous process has measured.
    fn note_durations(&self) {
        for (step, state) in self.plan.steps.iter().zip(&self.state.steps) {
            if let Some(duration) = state.duration.filter(|_| state.status == StepStatus::Completed && !state.reused) {
                self.context.durations.note(&self.project, &self.plan, step, duration);
            }
        }
    }

    /// The course of the run. If its end was partly reported, it stays so. An end that was not reported is decided as
    /// the previous process would have: a run with nothing left to wait for ends as its steps have ended, even if its
    /// timeout has passed by now.
    fn course_so_far(&self, cancelled: bool, now: Now) -> Course {
        if let Some(cause) = self.state.ending {
            return Abort::of_cause(cause).map_or(Course::Stopping, Course::Aborting);
        }
        if cancelled {
            return Course::Aborting(Abort::Cancelled);
        }
        if self.waited_too_long() {
            return Course::Aborting(Abort::QueueTimeout);
        }
        if self.has_used_up() {
            return Course::Aborting(Abort::Budget);
        }
        let course = match self.has_failed() && self.plan.on_failure == OnFailure::Stop {
            true => Course::Stopping,
            false => Course::Onward,
        };
        let is_late = self.timeout.is_some_and(|timeout| timeout.has_passed(now));
        if is_late && self.has_to_wait(course) { Course::Aborting(Abort::Timeout) } else { course }
    }

    /// Is there a step whose end takes time? What is kept of another run, or below a failed step, ends at once.
    fn has_to_wait(&self, course: Course) -> bool {
        let mut steps = (0..self.plan.step_count()).filter(|&step| !self.state.steps[step].status.is_ended());
        let has_begun = |step: usize| self.state.steps[step].status != StepStatus::Pending;
        let takes_time =
            |step: usize| self.blame[step].is_none() && self.plan.kept(&self.plan.steps[step].id).is_none();
        match course {
            Course::Onward => steps.any(|step| has_begun(step) || takes_time(step)),
            _ => steps.any(|step| {
                let is_in_open_level = self.eager.is_none() && Some(self.plan.steps[step].level) == self.open_level();
                has_begun(step) || (is_in_open_level && takes_time(step))
            }),
        }
    }

    /// Open steps continue where they were, and steps that wait for nothing become ready.
    pub(super) fn reopen(&mut self, now: Now, out: &mut Effects) {
        self.give_orphans_up(out);
        if self.handling.is_some() {
            return self.reopen_handlers(now, out);
        }
        let plan = self.plan.clone();
        let (is_eager, open) = (self.eager.is_some(), self.open_level());
        let levels = plan.levels.iter().enumerate().filter(|(level, _)| is_eager || open == Some(*level));
        for &step in levels.flat_map(|(_, steps)| steps) {
            match self.state.steps[step].status {
                StepStatus::Pending if is_eager => self.reconsider(step, now, out),
                StepStatus::Pending => self.enqueue(step, now, out),
                StepStatus::Running if plan.steps[step].for_each.is_some() => self.spread_again(step, now, out),
                StepStatus::Running => self.run_again(self.unit(step), now, out),
                StepStatus::Retrying => self.wait_on(self.unit(step), now),
                StepStatus::Waiting => self.revive(self.unit(step), self.waiting_phase(step, now), now),
                StepStatus::Completed | StepStatus::Failed | StepStatus::Skipped | StepStatus::Cancelled => {}
            }
        }
        self.kept_items = HashMap::new();
        if is_eager {
            self.close_what_is_over(now, out);
        }
        if let Course::Aborting(abort) = self.course {
            self.dismiss_all(abort, now, out);
        }
    }

    pub(super) fn run_again(&mut self, unit: Unit, now: Now, out: &mut Effects) {
        self.revive(unit, Phase::Queued, now);
        match self.why_not_again(unit) {
            Some(why) if !matches!(self.course, Course::Aborting(_)) => {
                self.fail_unit(unit, format!("{INTERRUPTED}{why}"), now, out);
            }
            _ if self.is_last_chance(unit) => drop(self.suspects.insert((self.rank(unit), unit))),
            _ => drop(self.ready.insert((self.rank(unit), unit))),
        }
    }

    /// Will one interruption more be one too many?
    fn is_last_chance(&self, unit: Unit) -> bool {
        let Some(max) = self.context.interruptions_max else { return false };
        !self.only_waits(self.index(unit)) && self.standing(unit).interruptions.saturating_add(2) >= max.get()
    }

    fn only_waits(&self, step: usize) -> bool {
        self.context.registry.tool(&self.plan.steps[step].tool).is_some_and(|tool| tool.only_waits())
    }

    /// Makes every step that was interrupted and waits to be run again a [suspect](Self::has_suspect).
    pub fn suspect_interrupted(&mut self) {
        if self.ready.is_empty() {
            return;
        }
        let was_interrupted = |&(_, unit): &(usize, Unit)| {
            self.standing(unit).status == StepStatus::Running && !self.only_waits(self.index(unit))
        };
        let (interrupted, others) = self.ready.iter().partition(|waiting| was_interrupted(waiting));
        self.ready = others;
        self.suspects.append(&mut { interrupted });
    }

    /// Why a step whose newest attempt was interrupted is not run again, if it is not.
    pub(super) fn why_not_again(&self, unit: Unit) -> Option<String> {
        // A tool that the operator has taken away can't be called; the attempt fails and names it.
        let tool = self.context.registry.tool(&self.plan.steps[self.index(unit)].tool)?;
        if !tool.rerun() {
            let what = if unit.item.is_some() { "item" } else { "step" };
            return Some(format!("while this {what} ran, and its tool must not run twice"));
        }
        let interruptions = self.standing(unit).interruptions.saturating_add(1);
        let max = self.context.interruptions_max?.get();
        let is_too_often = interruptions >= max && !tool.only_waits();
        is_too_often.then(|| {
            format!(
                "during each of the last {interruptions} attempts at this step (limit {max}, executor.interruptions)"
            )
        })
    }

    pub(super) fn wait_on(&mut self, unit: Unit, now: Now) {
        let told = self.standing(unit).retry_wait.unwrap_or(Told { at: now.wall, lasts: Duration::ZERO });
        self.revive(unit, Phase::Retrying { until: Deadline::restored(told, now) }, now);
    }

    fn revive(&mut self, unit: Unit, phase: Phase, now: Now) {
        let watch = Stopwatch::resume(self.standing(unit).started_at, now);
        self.live.insert(unit, Live::new(watch, phase));
        self.set_deadline(unit);
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
