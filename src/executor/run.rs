//! The state machine of one run, from its first message to its last. Pure: no clock, no thread, no channel. `now` is
//! passed in, and the actions to take are returned as [`Effects`].
//!
//! Every message passes through one function, which also applies it to the [`RunState`]. In addition the run holds only
//! what no message tells: clocks, whole outputs, and which steps a worker has. It never asks for more than one
//! deadline, holds its ready steps until a scheduler [takes](Run::take) them, and ignores reports of attempts that it
//! has given up.

mod approval;
mod attempt;
mod budget;
mod change;
mod child;
mod cut;
mod eager;
mod ending;
mod handlers;
mod items;
mod levels;
mod metrics;
mod resume;
mod retry;
mod say;
mod scope;
#[cfg(test)]
pub(crate) mod simulation;
mod steer;
mod step;
mod step_end;
#[cfg(test)]
mod tests;
mod unit;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::context::Context;
use super::template::Scope;
use super::tool::CancelToken;
use crate::model::{
    Deadline, FIRST_REVISION, Failure, ItemState, Now, Plan, ProjectId, Record, RunEventKind, RunId, RunStarted,
    RunState, RunStatus, Step, StepId, StepStatus, Timestamp,
};
use change::StepNumbers;
pub use child::{ChildCall, ChildEnd, ChildWish, NO_ROOM_WAIT};
use eager::Eager;
use ending::Abort;
use handlers::Handling;
use items::Each;
pub use resume::ResumedRun;
use step::{Live, Phase, Stopwatch};
use unit::Standing;
pub use unit::Unit;

/// How long an attempt that was asked to end may ignore it before its step goes on without it: the 5 s between a
/// command's SIGTERM and SIGKILL, and 2 s for the rest.
pub const ABANDON_AFTER: Duration = Duration::from_secs(7);

/// The error of a step that was running when the server stopped and is not run again begins with this.
const INTERRUPTED: &str = "interrupted: the server stopped ";

/// The error of an attempt that was cancelled before a worker had it.
pub(super) const BEFORE_IT_BEGAN: &str = "cancelled before it started";

/// The parts of a new run.
#[derive(Debug, Clone)]
pub struct NewRun {
    /// The project of its messages.
    pub project: ProjectId,
    /// Its id.
    pub run: RunId,
    /// The plan to execute.
    pub plan: Arc<Plan>,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// Where the jitter of its retries comes from.
    pub seed: u64,
    /// It may not begin before it is released.
    pub is_held: bool,
    /// The whole outputs kept from the run that it continues from, where messages have only the beginning.
    pub whole_outputs: HashMap<StepId, Arc<Value>>,
}

/// The actions that a run asks for.
#[derive(Debug, Default)]
pub struct Effects {
    /// For the log, in order.
    pub records: Vec<Record>,
    /// Attempts that should end.
    pub cancels: Vec<CancelToken>,
    /// Wishes for children, in order.
    pub children: Vec<ChildWish>,
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
    /// What its reports are for.
    pub unit: Unit,
    /// Counted from 1.
    pub attempt: u32,
    /// The values that templates of its inputs may name.
    pub scope: Scope,
    /// Says when to give up.
    pub cancel: CancelToken,
}

/// Why an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttemptError {
    /// The tool failed; another attempt may do better.
    Passing(String),
    /// It took too long; another attempt may do better.
    TimedOut(String),
    /// As `Passing`, but not before this much time has passed.
    Busy(String, Duration),
    /// The tool failed, and says of what; another attempt may do better, but not before so much time has passed.
    Known {
        /// Why.
        error: String,
        /// What made it fail.
        failure: Failure,
        /// How long another attempt is to wait.
        wait: Option<Duration>,
    },
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
    /// Whole outputs of steps whose turn has not come, and which are not run.
    whole_outputs: HashMap<StepId, Arc<Value>>,
    /// By step: the failed step that it is or descends from.
    blame: Vec<Option<usize>>,
    /// By step: which is to have a worker first.
    ranks: Vec<usize>,
    /// Steps have names that last while their plan changes.
    numbers: StepNumbers,
    /// What its documents say of the run that it goes on from, once its plan has changed.
    retry_of_text: Option<Arc<str>>,
    /// It was started here: what waits for a worker is known.
    is_going: bool,
    /// What waits for a worker, with its rank.
    ready: BTreeSet<(usize, Unit)>,
    /// The same for units that may have ended the process: after one more interruption they fail.
    suspects: BTreeSet<(usize, Unit)>,
    live: BTreeMap<Unit, Live>,
    /// The items of each running step that has items, by its number.
    each: BTreeMap<u32, Each>,
    /// The stored states of items of steps that were not continued yet after a restart.
    kept_items: HashMap<StepId, Vec<ItemState>>,
    /// By level: its steps that have not ended.
    unended: Vec<usize>,
    /// Where steps wait for no level.
    eager: Option<Eager>,
    /// Once its outcome is settled, and its plan has handlers.
    handling: Option<Box<Handling>>,
    /// Its cancel was asked for: whatever else it ends for, its handlers end, too.
    ends_handlers: bool,
    /// One entry for each live unit that has a deadline.
    deadlines: BTreeSet<(Duration, Unit)>,
    timeout: Option<Deadline>,
    watch: Stopwatch,
    /// The stopwatch of each open level.
    level_watches: BTreeMap<usize, Stopwatch>,
}

/// Where a run is heading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Course {
    /// Step after step.
    Onward,
    /// A step failed: the open level finishes, or what has begun where steps wait for no level; then the run ends.
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
        let mut unended = vec![0; new.plan.levels.len()];
        for (step, state) in new.plan.steps.iter().zip(&state.steps) {
            if step.handler.is_none() {
                unended[step.level] += usize::from(!state.status.is_ended());
            }
        }
        let expected = |step: &Step| context.durations.expected(&new.project, &new.plan, step);
        let ranks = unit::ranks(&new.plan, expected);
        Self {
            project: new.project,
            inputs: Arc::new(Value::Object(new.plan.inputs.clone())),
            ranks,
            numbers: StepNumbers::of(steps),
            retry_of_text: None,
            is_going: false,
            eager: Eager::of(&new.plan),
            plan: new.plan,
            context,
            seed: new.seed,
            state,
            course: Course::Onward,
            outputs: vec![None; steps],
            whole_outputs: new.whole_outputs,
            blame: vec![None; steps],
            ready: BTreeSet::new(),
            suspects: BTreeSet::new(),
            live: BTreeMap::new(),
            each: BTreeMap::new(),
            kept_items: HashMap::new(),
            unended,
            handling: None,
            ends_handlers: false,
            deadlines: BTreeSet::new(),
            timeout: None,
            watch: Stopwatch::default(),
            level_watches: BTreeMap::new(),
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

    /// Does a step wait whose attempts were interrupted so often that the next one is its last? Only one such step of
    /// all runs is tried at a time: if it ends the process, the others would be suspected too.
    pub fn has_suspect(&self) -> bool {
        !self.suspects.is_empty()
    }

    /// When [`tick`](Self::tick) should be called, on the monotonic clock.
    pub fn next_deadline(&self) -> Option<Duration> {
        let first = self.deadlines.first().map(|&(at, _)| at);
        let handlers = self.handling.as_ref().filter(|_| self.course == Course::Onward);
        [first, self.timeout.map(Deadline::at), handlers.map(|handling| handling.until.at())]
            .into_iter()
            .flatten()
            .min()
    }

    /// Does a step of another run wait for its end?
    pub fn is_child(&self) -> bool {
        self.plan.parent.is_some()
    }

    /// The concurrency group of its plan.
    pub fn group(&self) -> Option<(ProjectId, Arc<str>)> {
        self.plan.concurrency.as_ref().map(|concurrency| (self.project.clone(), concurrency.group.clone()))
    }

    /// Does an attempt run, or a delay that ends by `until`?
    pub fn is_busy(&self, until: Duration) -> bool {
        self.live.values().any(|live| match live.phase {
            Phase::Calling { .. } | Phase::Leaving { .. } | Phase::Finishing { .. } => true,
            Phase::Delaying { until: due, .. } => due.at() <= until,
            Phase::Queued
            | Phase::Retrying { .. }
            | Phase::Joining { .. }
            | Phase::Spread { .. }
            | Phase::Waiting { .. } => false,
        })
    }

    /// Begins, or goes on where its messages ended.
    pub fn start(&mut self, now: Now, out: &mut Effects) {
        self.is_going = true;
        match self.state.status {
            RunStatus::Queued => {
                self.begin(now, out);
                if self.waited_too_long() {
                    return self.abort(Abort::QueueTimeout, now, out);
                }
            }
            RunStatus::Running => {}
            RunStatus::Completed | RunStatus::Failed | RunStatus::Cancelled => return,
        }
        self.reopen(now, out);
        self.keep_budget(now, out);
        self.advance(now, out);
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Now, out: &mut Effects) {
        if self.handling.as_ref().is_some_and(|handling| handling.until.has_passed(now)) {
            self.abort(Abort::HandlerTimeout, now, out);
        }
        if self.timeout.is_some_and(|timeout| timeout.has_passed(now)) {
            self.timeout = None;
            self.abort(Abort::Timeout, now, out);
        }
        while let Some(&(at, unit)) = self.deadlines.first()
            && at <= now.mono
        {
            self.unit_due(unit, now, out);
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

    /// Had it waited longer than it may when it said its first message? What the wall clock said then decides, so that this
    /// is the same after a restart.
    fn waited_too_long(&self) -> bool {
        let waited = self.state.started_at.map(|at| Duration::from_millis(at.millis_since(self.state.created_at)));
        waited.zip(self.plan.queue_timeout).is_some_and(|(waited, limit)| waited >= limit)
    }

    /// Gives it up without a word, so that another process can go on with it. What comes back should be cancelled.
    pub fn interrupt(self) -> Vec<CancelToken> {
        let tokens = self.live.into_values().filter_map(|live| match live.phase {
            Phase::Calling { cancel, .. } | Phase::Leaving { cancel, .. } | Phase::Finishing { cancel, .. } => {
                Some(cancel)
            }
            Phase::Queued
            | Phase::Delaying { .. }
            | Phase::Retrying { .. }
            | Phase::Joining { .. }
            | Phase::Spread { .. }
            | Phase::Waiting { .. } => None,
        });
        tokens.collect()
    }

    fn begin(&mut self, now: Now, out: &mut Effects) {
        self.watch = Stopwatch::start(now);
        self.timeout = self.plan.timeout.map(|limit| Deadline::after(limit, now));
        let started = RunStarted {
            parent: self.plan.parent.clone(),
            plan_name: self.plan.name.clone(),
            step_count: self.plan.step_count(),
            total_levels: self.plan.levels.len(),
            estimated_duration: self.plan.estimated_duration,
            parallelizable: self.plan.levels.iter().any(|level| level.len() > 1),
            levels: self.state.levels.to_vec(),
            scheduling: self.plan.scheduling,
            revision: self.plan.revision,
            steps: match self.plan.revision {
                FIRST_REVISION => Vec::new(),
                _ => self.plan.planned_steps(|_| true),
            },
            retry_of: self.state.retry_of.clone(),
        };
        self.emit(RunEventKind::Started(started), now, out);
    }

    /// Goes on until a step has to be waited for or the run has ended. One that has not begun does not.
    fn advance(&mut self, now: Now, out: &mut Effects) {
        match self.eager {
            _ if self.state.status == RunStatus::Queued => {}
            _ if self.handling.is_some() => self.advance_handlers(now, out),
            Some(_) => self.advance_eagerly(now, out),
            None => self.advance_by_levels(now, out),
        }
    }

    /// The work that a step is.
    fn unit(&self, step: usize) -> Unit {
        Unit::of_step(self.numbers.number(step))
    }

    /// The index of a unit's step in the plan. Every unit with state has one.
    fn index(&self, unit: Unit) -> usize {
        self.numbers.step(unit.step as usize).unwrap_or(usize::MAX)
    }

    /// Which is to have a worker first. The first item of a step has the step's rank; those after it come after all whole
    /// steps, and take turns with the items of others.
    fn rank(&self, unit: Unit) -> usize {
        self.ranks[self.index(unit)] + unit.item.unwrap_or(0) as usize * self.ranks.len()
    }

    /// A step waits for a worker.
    fn make_ready(&mut self, step: usize) {
        self.ready.insert((self.ranks[step], self.unit(step)));
    }

    /// Where the attempts at a unit are.
    fn standing(&self, unit: Unit) -> Standing {
        match unit.item {
            None => Standing::of_step(&self.state.steps[self.index(unit)]),
            Some(item) => {
                self.each.get(&unit.step).map_or_else(Standing::default, |each| Standing::of_item(each.state(item)))
            }
        }
    }

    /// Notes the failed step, if any, that `step` is or descends from. Its dependencies have been noted before it.
    fn assign_blame(&mut self, step: usize) {
        let state = &self.state.steps[step];
        self.blame[step] = if state.status == StepStatus::Failed && !state.continued {
            Some(step)
        } else {
            self.plan.steps[step].dependencies.iter().find_map(|&dependency| self.blame[dependency])
        };
    }

    fn has_failed(&self) -> bool {
        let mut steps = self.state.steps.iter().filter(|step| step.handler.is_none());
        steps.any(|step| step.status == StepStatus::Failed && !step.continued)
    }
}
