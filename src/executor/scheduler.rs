//! All runs, the queue of runs that need a worker, and the busy workers. [`suspects`] are steps that are tried alone.
//! Pure: commands, reports and `now` go in, [`Actions`] come out; the [shell](super::Executor) feeds it and acts.
//!
//! Runs take turns: each turn gives one step of one run to a worker, so a run of 10,000 steps delays another by no more
//! than one step. A worker counts as busy until it reports, even if its run no longer waits for it. The state of a step
//! is the concern of its [run](super::run::Run); the scheduler only routes the reports.

mod departure;
mod queue;
mod suspects;
mod words;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use self::departure::Departure;
use self::queue::{Queue, ResumedOrNew};
use self::suspects::Suspects;
pub use self::words::{Actions, CallId, Command, Durability, Job, Report};
use super::call::{Unheard, attempt, is_instant};
use super::context::Context;
use super::run::{ABANDON_AFTER, Effects, Launch, NewRun, Run, Unit};
use super::tool::CancelToken;
use crate::model::{Now, ProjectId, Record, RunId, RunStatus, Steer, SteeringError, Verdict};

/// How many ready steps are looked at in one [turn](Scheduler::turn). Each may evaluate a condition; with more of them
/// the thread comes back for the rest after it has looked at what came in.
const PICKS_PER_TURN_MAX: usize = 256;

/// How many waiting runs begin in one [turn](Scheduler::turn).
const BEGINNINGS_PER_TURN_MAX: usize = 256;

/// What an executor is given to work with.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Tool calls at a time.
    pub workers: usize,
    /// Runs between their first message and their last. More wait, first come, first served; how many may, the log
    /// decides before it accepts one.
    ///
    /// A run that an active run may wait for needs no slot, or all slots could wait for each other: children, and what
    /// a child waits for of its concurrency group.
    pub active_runs_max: usize,
    /// What attempts get at a shutdown before they are cancelled.
    pub grace: Duration,
}

/// All runs of an executor.
pub struct Scheduler {
    settings: Settings,
    context: Arc<Context>,
    stage: Stage,
    /// The ledger is full: nothing begins.
    is_held_up: bool,
    /// Accepted, not begun.
    waiting: Queue,
    /// Begun, not ended.
    runs: HashMap<RunKey, Entry>,
    keys: HashMap<(ProjectId, RunId), RunKey>,
    /// Runs with a step that is ready, each once, in the order of their turns.
    line: VecDeque<RunKey>,
    /// Steps that are tried one at a time.
    suspects: Suspects,
    /// One entry for each run that has a deadline.
    deadlines: BTreeSet<(Duration, RunKey)>,
    /// The calls of the busy workers; at most `settings.workers`.
    calls: HashMap<CallId, CallTarget>,
    /// The departure of runs that were dropped.
    departure: Option<Departure>,
    /// The newest key and call id given out.
    newest: u64,
}

/// Counts up, so that a key of a run that has ended names nothing.
type RunKey = u64;

struct Entry {
    run: Run,
    name: (ProjectId, RunId),
    /// An earlier process left it active.
    is_resumed: bool,
    /// Its entry in the line.
    in_line: bool,
    /// Its entry among those that have a suspect.
    is_suspected: bool,
    /// Its entry among the deadlines.
    due: Option<Duration>,
}

/// The attempt that a call makes, to which its reports go.
#[derive(Debug, Clone, Copy)]
struct CallTarget {
    run: RunKey,
    unit: Unit,
    attempt: u32,
}

impl CallTarget {
    fn of(run: RunKey, launch: &Launch) -> Self {
        Self { run, unit: launch.unit, attempt: launch.attempt }
    }
}

/// How far a shutdown has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// None was asked for.
    Serving,
    /// What runs may end by itself until then.
    Draining { until: Duration },
    /// Runs are abandoned; their workers are awaited until then.
    Leaving { until: Duration },
    /// Nothing is left to wait for.
    Done,
}

impl Scheduler {
    /// One without runs.
    pub fn new(settings: Settings, context: Arc<Context>) -> Self {
        Self {
            settings,
            context,
            stage: Stage::Serving,
            is_held_up: false,
            waiting: Queue::default(),
            runs: HashMap::new(),
            keys: HashMap::new(),
            line: VecDeque::new(),
            suspects: Suspects::default(),
            deadlines: BTreeSet::new(),
            calls: HashMap::new(),
            departure: None,
            newest: 0,
        }
    }

    /// Does what it is told.
    pub fn command(&mut self, command: Command, now: Now, out: &mut Actions) {
        match command {
            Command::Start(new) if self.is_let_in(&new) => self.begin(ResumedOrNew::New(new), now, out),
            Command::Start(new) => self.waiting.push(ResumedOrNew::New(new), now),
            Command::Release { project, run } => {
                let child = self.waiting.release(&(project, run));
                if let Some(child) = child.filter(|_| self.stage == Stage::Serving) {
                    self.begin(child, now, out);
                }
            }
            // As its end would have come had the process that heard of the wish gone on: it waits for nothing.
            Command::Resume(resumed)
                if self.stage == Stage::Serving && resumed.cancelled && resumed.state.status == RunStatus::Queued =>
            {
                self.end_waiting(ResumedOrNew::Resumed(resumed), now, out, Run::start);
            }
            // It was active before, within the limit of then, and its clock runs.
            Command::Resume(resumed)
                if self.stage == Stage::Serving
                    && (resumed.state.status == RunStatus::Running || self.is_let_in(&resumed.new)) =>
            {
                self.begin(ResumedOrNew::Resumed(resumed), now, out);
            }
            Command::Resume(resumed) => self.waiting.push(ResumedOrNew::Resumed(resumed), now),
            Command::Cancel { project, run } => self.cancel((project, run), now, out),
            Command::Steer { project, run, steer } => self.steer((project, run), *steer, now, out),
            Command::ChildEnded { project, parent, child, end } => {
                if let Some(&key) = self.keys.get(&(project, parent)) {
                    self.with_run(key, out, |run, effects| run.child_ended(&child, end, now, effects));
                }
            }
            Command::Shutdown => self.shutdown(now, out),
        }
    }

    /// Does a run begin at once? A child that waits for no group does: its parent has a slot, and where the child
    /// waited for another, none might ever be left.
    fn is_let_in(&self, new: &NewRun) -> bool {
        new.plan.parent.is_some() && !new.is_held && self.stage == Stage::Serving
    }

    /// Hears a worker.
    pub fn report(&mut self, report: Report, now: Now, out: &mut Actions) {
        match report {
            Report::Output { call, stream, bytes } => {
                let Some(&CallTarget { run, unit, attempt }) = self.calls.get(&call) else { return };
                self.with_run(run, out, |run, effects| run.output((unit, attempt), stream, bytes, now, effects));
            }
            Report::Usage { call, usage } => {
                let Some(&CallTarget { run, unit, attempt }) = self.calls.get(&call) else { return };
                self.with_run(run, out, |run, effects| run.note_usage((unit, attempt), usage, now, effects));
            }
            Report::Finished { call, result } => {
                self.note_back(call);
                let Some(CallTarget { run, unit, attempt }) = self.calls.remove(&call) else { return };
                self.with_run(run, out, |run, effects| run.finish((unit, attempt), result, now, effects));
            }
        }
    }

    /// A job that was kept back, as [`Durability::First`] says, is handed to a worker.
    pub fn release(&mut self, call: CallId, now: Now, out: &mut Actions) {
        if let Some(&CallTarget { run, unit, attempt }) = self.calls.get(&call) {
            self.with_run(run, out, |run, _| run.release((unit, attempt), now));
        }
    }

    /// Says whether runs that wait, and attempts, may begin. All else goes on.
    pub fn hold_up(&mut self, is_held_up: bool) {
        self.is_held_up = is_held_up;
    }

    /// Does what is due, begins what waits, hands steps to free workers. To be called after every batch of commands and
    /// reports, and at [`next_deadline`](Self::next_deadline).
    pub fn turn(&mut self, now: Now, out: &mut Actions) {
        while let Some(&(at, key)) = self.deadlines.first()
            && at <= now.mono
        {
            self.with_run(key, out, |run, effects| run.tick(now, effects));
        }
        while let Some(late) = self.waiting.pop_late(now) {
            self.end_waiting(late, now, out, Run::start);
        }
        if self.stage == Stage::Serving {
            self.begin_waiting(now, out);
            self.dispatch(now, out);
        }
        self.see_off(now, out);
        self.move_stage(now, out);
    }

    /// When the next [`turn`](Self::turn) is due without any input, on the monotonic clock; zero for at once.
    pub fn next_deadline(&self) -> Option<Duration> {
        let runs = self.deadlines.first().map(|&(at, _)| at);
        let own = match self.stage {
            Stage::Serving => (self.can_begin() || self.can_dispatch()).then_some(Duration::ZERO),
            // A withheld call ends after the turn, and nothing else may come.
            Stage::Leaving { .. } if self.calls.is_empty() => Some(Duration::ZERO),
            Stage::Draining { until } | Stage::Leaving { until } => Some(until),
            Stage::Done => None,
        };
        [runs, own, self.waiting.next_deadline(), self.departure_due()].into_iter().flatten().min()
    }

    /// Has a shutdown come to its end?
    pub fn is_done(&self) -> bool {
        self.stage == Stage::Done
    }

    fn can_begin(&self) -> bool {
        let has_slot = self.runs.len() < self.settings.active_runs_max;
        !self.is_held_up && (has_slot && self.waiting.has_next() || self.waiting.has_awaited())
    }

    fn can_dispatch(&self) -> bool {
        let is_ready = !self.line.is_empty() || self.can_try_suspect();
        !self.is_held_up && is_ready && self.calls.len() < self.settings.workers
    }

    fn begin_waiting(&mut self, now: Now, out: &mut Actions) {
        for _ in 0..BEGINNINGS_PER_TURN_MAX {
            if !self.can_begin() {
                return;
            }
            if let Some(next) = self.waiting.pop_awaited().or_else(|| self.waiting.pop()) {
                self.begin(next, now, out);
            }
        }
    }

    fn begin(&mut self, next: ResumedOrNew, now: Now, out: &mut Actions) {
        let name = next.name();
        if self.keys.contains_key(&name) {
            log::error!("run {} of project {} was started twice", name.1, name.0);
            return;
        }
        let is_resumed = matches!(next, ResumedOrNew::Resumed(_));
        let run = next.into_run(self.context.clone(), now);
        let key = self.next_id();
        self.keys.insert(name.clone(), key);
        self.runs.insert(key, Entry { run, name, is_resumed, in_line: false, is_suspected: false, due: None });
        self.with_run(key, out, |run, effects| run.start(now, effects));
        if is_resumed {
            self.suspect_all_interrupted(out);
        }
    }

    fn dispatch(&mut self, now: Now, out: &mut Actions) {
        let mut instant = VecDeque::new();
        for _ in 0..PICKS_PER_TURN_MAX {
            if !self.can_dispatch() {
                // Only now, so that a level's steps have begun before the first of them is done, as with workers.
                let Some((target, launch)) = instant.pop_front() else { return };
                self.carry_out(target, &launch, now, out);
                continue;
            }
            let launched = match self.can_try_suspect() {
                true => self.try_suspect(now, out),
                false => self.take_turn(now, out),
            };
            instant.extend(launched.and_then(|(target, launch)| self.call(target, launch, out)));
        }
        instant.into_iter().for_each(|(target, launch)| self.carry_out(target, &launch, now, out));
    }

    /// An attempt of the run whose turn it is.
    fn take_turn(&mut self, now: Now, out: &mut Actions) -> Option<(CallTarget, Launch)> {
        let key = self.line.pop_front()?;
        self.runs.get_mut(&key)?.in_line = false;
        let launch = self.with_run(key, out, |run, effects| run.take(now, effects)).flatten()?;
        Some((CallTarget::of(key, &launch), launch))
    }

    /// Makes an attempt that takes no time.
    fn carry_out(&mut self, target: CallTarget, launch: &Launch, now: Now, out: &mut Actions) {
        let result = attempt(&self.context, launch, &Unheard);
        let at = (target.unit, target.attempt);
        self.with_run(target.run, out, |run, effects| run.finish(at, result, now, effects));
    }

    /// Hands an attempt to a worker, or back where it takes no time.
    fn call(&mut self, target: CallTarget, launch: Launch, out: &mut Actions) -> Option<(CallTarget, Launch)> {
        let is_resumed = self.runs.get(&target.run).is_some_and(|entry| entry.is_resumed);
        let wanted = &launch.plan.steps[launch.step];
        let tool = self.context.registry.tool(&wanted.tool);
        let is_first = is_resumed || tool.is_some_and(|tool| !tool.rerun());
        if !is_first && tool.is_some_and(|tool| is_instant(&**tool, &wanted.inputs)) {
            return Some((target, launch));
        }
        let call = CallId(self.next_id());
        self.calls.insert(call, target);
        let durability = if is_first { Durability::First } else { Durability::Later };
        if is_first {
            self.with_run(target.run, out, |run, _| run.withhold((target.unit, target.attempt)));
        }
        out.jobs.push(Job { call, launch, durability });
        None
    }

    fn cancel(&mut self, name: (ProjectId, RunId), now: Now, out: &mut Actions) {
        if let Some(&key) = self.keys.get(&name) {
            self.with_run(key, out, |run, effects| run.cancel(now, effects));
        } else if let Some(waiting) = self.waiting.take(&name) {
            self.end_waiting(waiting, now, out, Run::cancel);
        }
    }

    /// A run that waits says its first message and its last.
    fn end_waiting(
        &mut self,
        waiting: ResumedOrNew,
        now: Now,
        out: &mut Actions,
        end: impl FnOnce(&mut Run, Now, &mut Effects),
    ) {
        let mut effects = Effects::default();
        let mut run = waiting.into_run(self.context.clone(), now);
        end(&mut run, now, &mut effects);
        debug_assert!(run.is_ended(), "it never began");
        out.take(effects);
    }

    fn steer(&mut self, name: (ProjectId, RunId), steer: Steer, now: Now, out: &mut Actions) {
        if let Some(&key) = self.keys.get(&name) {
            self.with_run(key, out, |run, effects| run.steer(steer, now, effects));
        } else if self.waiting.has(&name) {
            let context = self.context.clone();
            self.waiting.change(&name, |waiting| {
                let mut run = waiting.into_run(context, now);
                let mut effects = Effects::default();
                run.steer(steer, now, &mut effects);
                out.take(effects);
                ResumedOrNew::Made { run: Box::new(run), name: name.clone() }
            });
        } else {
            let (project, run) = name;
            // The log learns the end of a run after its earlier records, so it took this run for open.
            let is_over = matches!(self.stage, Stage::Leaving { .. } | Stage::Done);
            let error = if is_over { SteeringError::ShuttingDown } else { SteeringError::RunEnded };
            let verdict = Box::new(Verdict { id: steer.id, answer: Err(error) });
            out.records.push(Record::Verdict { project, run, verdict });
        }
    }

    /// Lets `act` on a run, takes what comes of it, and puts the run where it belongs now.
    fn with_run<T>(
        &mut self,
        key: RunKey,
        out: &mut Actions,
        act: impl FnOnce(&mut Run, &mut Effects) -> T,
    ) -> Option<T> {
        let entry = self.runs.get_mut(&key)?;
        let mut effects = Effects::default();
        let result = act(&mut entry.run, &mut effects);
        out.take(effects);
        if entry.run.has_ready() && !entry.in_line {
            entry.in_line = true;
            self.line.push_back(key);
        }
        if entry.run.has_suspect() && !entry.is_suspected {
            entry.is_suspected = true;
            self.suspects.wait(key);
        }
        let due = entry.run.next_deadline().filter(|_| !entry.run.is_ended());
        if due != entry.due {
            entry.due.map(|due| self.deadlines.remove(&(due, key)));
            due.map(|due| self.deadlines.insert((due, key)));
            entry.due = due;
        }
        if entry.run.is_ended()
            && let Some(ended) = self.runs.remove(&key)
        {
            self.keys.remove(&ended.name);
        }
        Some(result)
    }

    fn shutdown(&mut self, now: Now, out: &mut Actions) {
        if self.stage == Stage::Serving {
            self.stage = Stage::Draining { until: now.mono + self.settings.grace };
        } else {
            self.interrupt(out);
            self.stage = Stage::Done;
        }
    }

    fn move_stage(&mut self, now: Now, out: &mut Actions) {
        if let Stage::Draining { until } = self.stage
            && (until <= now.mono || !self.runs.values().any(|entry| entry.run.is_busy(until)))
        {
            self.interrupt(out);
            self.stage = Stage::Leaving { until: now.mono + ABANDON_AFTER };
        }
        if let Stage::Leaving { until } = self.stage
            && (until <= now.mono || self.calls.is_empty())
        {
            self.stage = Stage::Done;
        }
    }

    /// Gives all runs up as they are, for the next start to go on with; their messages say nothing of it.
    fn interrupt(&mut self, out: &mut Actions) {
        let (runs, departure) = (&self.runs, &self.departure);
        self.calls.retain(|call, target| {
            let is_let_go = departure.as_ref().is_some_and(|departure| departure.awaits(*call));
            is_let_go || runs.get(&target.run).is_some_and(|entry| entry.run.is_calling(target.unit, target.attempt))
        });
        out.cancels.extend(self.forget_runs());
    }

    /// Forgets all runs. Returns the calls to cancel.
    fn forget_runs(&mut self) -> Vec<CancelToken> {
        self.keys.clear();
        self.waiting.clear();
        self.line.clear();
        self.suspects = Suspects::default();
        self.deadlines.clear();
        self.runs.drain().flat_map(|(_, entry)| entry.run.interrupt()).collect()
    }

    fn next_id(&mut self) -> u64 {
        self.newest += 1;
        self.newest
    }
}

#[cfg(test)]
mod tests;
