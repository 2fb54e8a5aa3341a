//! One run, from its first message to its last. Pure: no clock, no thread, no channel; `now` is passed in and what is
//! to be done comes out as [`Effects`].
//!
//! Every message goes through one door, which folds it into the [`RunState`] that it is also read from; beside that the
//! run holds only what no message tells: clocks, whole outputs, and which steps a worker has. It never asks for more
//! than one deadline, holds its ready steps until a scheduler [takes](Run::take) them, and ignores reports of attempts
//! that it has given up.

mod attempt;
mod cut;
mod ending;
mod metrics;
mod resume;
mod retry;
mod say;
#[cfg(test)]
pub(crate) mod simulation;
mod step;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::context::Context;
use super::template::Scope;
use super::tool::CancelToken;
use crate::model::{
    Cause, CauseKind, Deadline, LevelStarted, Now, OnFailure, Plan, ProjectId, Record, RunEventKind, RunId, RunStarted,
    RunState, RunStatus, StepStatus, StepUpdate, Timestamp,
};
use ending::Abort;
pub use resume::ResumedRun;
use step::{Live, Phase, Stopwatch};

/// How long an attempt that was asked to end may ignore it before its step goes on without it: the 5 s between a
/// command's SIGTERM and SIGKILL, and 2 s for the rest.
pub const ABANDON_AFTER: Duration = Duration::from_secs(7);

/// What the error of a step begins with that was running when the server stopped and is not run again.
const INTERRUPTED: &str = "interrupted: the server stopped ";

/// The error of an attempt that was cancelled before a worker had it.
pub(super) const BEFORE_IT_BEGAN: &str = "cancelled before it began";

/// What a run is made of.
#[derive(Debug, Clone)]
pub struct NewRun {
    /// Whose log it speaks to.
    pub project: ProjectId,
    /// Its id.
    pub run: RunId,
    /// What it executes.
    pub plan: Arc<Plan>,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// Where the jitter of its retries comes from.
    pub seed: u64,
}

/// What a run wants done.
#[derive(Debug, Default)]
pub struct Effects {
    /// For the log, in order.
    pub records: Vec<Record>,
    /// Attempts that should end.
    pub cancels: Vec<CancelToken>,
}

/// One attempt, for a worker to make.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The run's project.
    pub project: ProjectId,
    /// The run.
    pub run: RunId,
    /// The run's plan.
    pub plan: Arc<Plan>,
    /// The step's index there.
    pub step: usize,
    /// Counted from 1.
    pub attempt: u32,
    /// What the templates of its inputs may name.
    pub scope: Scope,
    /// Says when to give up.
    pub cancel: CancelToken,
}

/// Why an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttemptError {
    /// The tool failed; another attempt may do better.
    Passing(String),
    /// As `Passing`, but not before this much time has passed.
    Busy(String, Duration),
    /// Another attempt would fail the same way: inputs that can't be filled in or that the tool refuses.
    Lasting(String),
}

/// One run.
pub struct Run {
    project: ProjectId,
    plan: Arc<Plan>,
    context: Arc<Context>,
    inputs: Arc<Value>,
    seed: u64,
    state: RunState,
    course: Course,
    /// By step: its whole output; null where it was skipped or continued over.
    outputs: Vec<Option<Arc<Value>>>,
    /// By step: the failed step that it is or descends from.
    blame: Vec<Option<usize>>,
    /// Ranks, within the open level, of the steps that wait for a worker.
    ready: BTreeSet<usize>,
    /// The same of those that may be what ended the process: one interruption more, and they fail.
    suspects: BTreeSet<usize>,
    live: BTreeMap<usize, Live>,
    /// Steps of the open level that have not ended.
    open: usize,
    /// One entry for each live step that has a deadline.
    deadlines: BTreeSet<(Duration, usize)>,
    timeout: Option<Deadline>,
    watch: Stopwatch,
    level_watch: Stopwatch,
}

/// Where a run is heading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Course {
    /// Level after level.
    Onward,
    /// A step failed: the open level finishes, then the run ends.
    Stopping,
    /// What runs is asked to end, then the run ends.
    Aborting(Abort),
}

impl Run {
    /// A run that has not said anything yet.
    pub fn new(new: NewRun, context: Arc<Context>) -> Self {
        let state = RunState::new(new.run.clone(), &new.plan, new.created_at);
        Self::with_state(new, state, context)
    }

    fn with_state(new: NewRun, state: RunState, context: Arc<Context>) -> Self {
        let steps = new.plan.steps.len();
        Self {
            project: new.project,
            inputs: Arc::new(Value::Object(new.plan.inputs.clone())),
            plan: new.plan,
            context,
            seed: new.seed,
            state,
            course: Course::Onward,
            outputs: vec![None; steps],
            blame: vec![None; steps],
            ready: BTreeSet::new(),
            suspects: BTreeSet::new(),
            live: BTreeMap::new(),
            open: 0,
            deadlines: BTreeSet::new(),
            timeout: None,
            watch: Stopwatch::default(),
            level_watch: Stopwatch::default(),
        }
    }

    /// The fold of all messages so far.
    #[cfg(test)]
    pub fn state(&self) -> &RunState {
        &self.state
    }

    /// Has it had its last message?
    pub fn is_ended(&self) -> bool {
        self.state.status.is_ended()
    }

    /// Does a step wait for a worker?
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Does a step wait for a worker whose attempts were interrupted so often that the next is its last? One such is to be
    /// tried at a time, whatever its run: beside the one that ends the process all others would be taken for it.
    pub fn has_suspect(&self) -> bool {
        !self.suspects.is_empty()
    }

    /// When [`tick`](Self::tick) should be called, on the monotonic clock.
    pub fn next_deadline(&self) -> Option<Duration> {
        let first = self.deadlines.first().map(|&(at, _)| at);
        [first, self.timeout.map(Deadline::at)].into_iter().flatten().min()
    }

    /// Does an attempt run, or a delay that ends by `until`?
    pub fn is_busy(&self, until: Duration) -> bool {
        self.live.values().any(|live| match live.phase {
            Phase::Calling { .. } | Phase::Leaving { .. } => true,
            Phase::Delaying { until: due, .. } => due.at() <= until,
            Phase::Queued | Phase::Retrying { .. } => false,
        })
    }

    /// Begins, or goes on where its messages ended.
    pub fn start(&mut self, now: Now, out: &mut Effects) {
        match self.state.status {
            RunStatus::Queued => self.begin(now, out),
            RunStatus::Running => self.reopen_level(now, out),
            RunStatus::Completed | RunStatus::Failed | RunStatus::Cancelled => return,
        }
        self.advance(now, out);
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Now, out: &mut Effects) {
        if self.timeout.is_some_and(|timeout| timeout.has_passed(now)) {
            self.timeout = None;
            self.abort(Abort::Timeout, now, out);
        }
        while let Some(&(at, step)) = self.deadlines.first()
            && at <= now.mono
        {
            self.step_due(step, now, out);
        }
        self.advance(now, out);
    }

    /// Ends it as soon as what runs has ended. One that has not begun says its first message and its last.
    pub fn cancel(&mut self, now: Now, out: &mut Effects) {
        if self.is_ended() {
            return;
        }
        if self.state.status == RunStatus::Queued {
            self.begin(now, out);
        }
        self.abort(Abort::Cancelled, now, out);
    }

    /// Gives it up without a word, so that another process can go on with it. What comes back should be cancelled.
    pub fn interrupt(self) -> Vec<CancelToken> {
        let tokens = self.live.into_values().filter_map(|live| match live.phase {
            Phase::Calling { cancel, .. } | Phase::Leaving { cancel, .. } => Some(cancel),
            Phase::Queued | Phase::Delaying { .. } | Phase::Retrying { .. } => None,
        });
        tokens.collect()
    }

    fn begin(&mut self, now: Now, out: &mut Effects) {
        self.watch = Stopwatch::start(now);
        self.timeout = self.plan.timeout.map(|limit| Deadline::after(limit, now));
        let started = RunStarted {
            plan_name: self.plan.name.clone(),
            step_count: self.plan.steps.len(),
            total_levels: self.plan.levels.len(),
            estimated_duration: self.plan.estimated_duration,
            parallelizable: self.plan.levels.iter().any(|level| level.len() > 1),
            levels: self.state.levels.to_vec(),
        };
        self.emit(RunEventKind::Started(started), now, out);
    }

    /// Closes levels and opens them, until a step has to be waited for or the run has ended.
    fn advance(&mut self, now: Now, out: &mut Effects) {
        while !self.is_ended() && !self.is_waiting() {
            if self.state.level_open {
                self.complete_level(now, out);
                continue;
            }
            match self.course {
                Course::Aborting(abort) => self.end_early(Some(abort), now, out),
                Course::Stopping => self.end_early(None, now, out),
                Course::Onward => self.open_level(now, out),
            }
        }
    }

    fn is_waiting(&self) -> bool {
        let steps = if matches!(self.course, Course::Aborting(_)) { self.live.len() } else { self.open };
        self.state.level_open && steps > 0
    }

    fn open_level(&mut self, now: Now, out: &mut Effects) {
        let level = self.state.current_level.map_or(0, |level| level + 1);
        let plan = self.plan.clone();
        let Some(steps) = plan.levels.get(level) else { return self.end_in_time(now, out) };
        self.level_watch = Stopwatch::start(now);
        self.open = steps.len();
        let (total_levels, ids) = (plan.levels.len(), self.state.levels[level].clone());
        self.emit(RunEventKind::LevelStarted(LevelStarted { level, total_levels, steps: ids }), now, out);
        for (rank, &step) in steps.iter().enumerate() {
            self.enqueue(rank, step, now, out);
        }
    }

    /// The level that was opened last.
    fn level(&self) -> usize {
        self.state.current_level.unwrap_or(0)
    }

    /// A step's level has come: it waits for a worker, or is skipped below one that failed.
    fn enqueue(&mut self, rank: usize, step: usize, now: Now, out: &mut Effects) {
        self.settle_blame(step);
        match self.blame[step] {
            Some(failed) => self.skip_below(step, failed, now, out),
            None => {
                self.ready.insert(rank);
            }
        }
    }

    /// Notes which failed step, if any, `step` is or descends from. Its dependencies are settled before it.
    fn settle_blame(&mut self, step: usize) {
        let state = &self.state.steps[step];
        self.blame[step] = if state.status == StepStatus::Failed && !state.continued {
            Some(step)
        } else {
            self.plan.steps[step].dependencies.iter().find_map(|&dependency| self.blame[dependency])
        };
    }

    fn has_failed(&self) -> bool {
        self.state.steps.iter().any(|step| step.status == StepStatus::Failed && !step.continued)
    }

    /// Should the step run? Where not, it has been skipped, or has failed with the condition's error.
    fn passes_condition(&mut self, step: usize, now: Now, out: &mut Effects) -> bool {
        let Some(condition) = self.plan.steps[step].conditional.clone() else { return true };
        match self.context.engine.is_true(&condition, &self.scope(step)) {
            Ok(true) => return true,
            Ok(false) => {
                let cause = Cause { kind: CauseKind::Condition, step_id: None };
                self.skip(step, "its condition is false".to_owned(), cause, now, out);
            }
            Err(error) => self.fail_step(step, format!("its condition can't be evaluated: {error}"), now, out),
        }
        false
    }

    /// What the step's expressions may name: the outputs that it [references](crate::model::Step::references) alone.
    fn scope(&self, step: usize) -> Scope {
        let scope = Scope::of_run(&self.project, &self.state.run_id, self.inputs.clone());
        self.plan.steps[step].references.iter().fold(scope, |scope, &other| match &self.outputs[other] {
            Some(output) => scope.with_step(self.plan.steps[other].id.clone(), output.clone()),
            None => scope,
        })
    }

    fn fail_step(&mut self, step: usize, error: String, now: Now, out: &mut Effects) {
        let continued = self.plan.steps[step].continue_on_failure;
        if continued {
            self.outputs[step] = Some(Arc::new(Value::Null));
        } else if self.course == Course::Onward && self.plan.on_failure == OnFailure::Stop {
            self.course = Course::Stopping;
        }
        let duration = self.duration(step, now);
        self.end_step(step, StepUpdate::Failed { error, duration, continued }, now, out);
        self.settle_blame(step);
    }

    fn complete(&mut self, step: usize, output: Value, now: Now, out: &mut Effects) {
        let output = Arc::new(output);
        let shown = cut::cut(&output, self.context.output_bytes_max);
        if shown.cut_from.is_some() {
            let (project, run, id) =
                (self.project.clone(), self.state.run_id.clone(), self.plan.steps[step].id.clone());
            out.records.push(Record::Whole { project, run, step: id, output: output.clone() });
        }
        self.outputs[step] = Some(output);
        let update = StepUpdate::Completed {
            output: shown.value,
            duration: self.duration(step, now),
            truncated: shown.cut_from.is_some(),
            output_bytes: shown.cut_from,
        };
        self.end_step(step, update, now, out);
    }

    fn skip_below(&mut self, step: usize, failed: usize, now: Now, out: &mut Effects) {
        let failed = self.plan.steps[failed].id.clone();
        let reason = format!("step {failed}, on which it depends, failed");
        self.skip(step, reason, Cause { kind: CauseKind::UpstreamFailed, step_id: Some(failed) }, now, out);
    }

    fn skip(&mut self, step: usize, reason: String, cause: Cause, now: Now, out: &mut Effects) {
        self.outputs[step] = Some(Arc::new(Value::Null));
        self.end_step(step, StepUpdate::Skipped { reason, cause }, now, out);
    }

    /// Says a step's last message. Steps of levels that never open end here too, without having been counted as open.
    fn end_step(&mut self, step: usize, update: StepUpdate, now: Now, out: &mut Effects) {
        self.open = self.open.saturating_sub(1);
        let attempt = self.state.steps[step].attempt;
        self.say(step, attempt, update, now, out);
        if let Some(live) = self.live.remove(&step) {
            live.due.map(|due| self.deadlines.remove(&(due, step)));
        }
    }

    /// Milliseconds since the step's first attempt; 0 where there was none.
    fn duration(&self, step: usize, now: Now) -> u64 {
        self.live.get(&step).map_or(0, |live| live.watch.elapsed_ms(now))
    }
}
