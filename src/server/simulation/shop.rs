//! The executor and its workers in a world: the foreman is the real one, and the test plays the tools.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::executor::call::{Unheard, attempt};
use crate::executor::foreman::Foreman;
use crate::executor::ledger::Limits;
use crate::executor::run::AttemptError;
use crate::executor::scheduler::{Command, Job, Report};
use crate::executor::testing::Rng;
use crate::executor::tool::{Call, Outcome, Tool, ToolError};
use crate::executor::{ChildEnd, ChildWish, Context, NewRun, ResumedRun, Settings};
use crate::model::{Now, OutputStream, Plan, ProjectId, Record, RunId, Steer};

/// So small that each is met.
const LIMITS: Limits = Limits { batches: 2, records: 60, bytes: 40_000, loud_bytes: 12_000 };

/// What waits for the log at most: what may be before anything is held up, what each of four tools says before it is
/// paused, and of each run that is active, or cancelled before it is, some messages for each of its steps and their items.
const RECORDS_MAX: usize = 60 + 4 * 2 * SHUT_PIECES_MAX + 9 * 60;

/// How often a tool says something while it should not, before it is paused.
const SHUT_PIECES_MAX: usize = 8;

/// What the test plays, `echo` but for workers.
pub(super) struct Work {
    /// What it answers may change the plan of its run.
    pub(super) may_plan: bool,
}

impl Tool for Work {
    fn may_plan(&self) -> bool {
        self.may_plan
    }

    fn call(&self, _: &Call<'_>) -> Result<Outcome, ToolError> {
        unreachable!("the test plays the workers")
    }
}

/// See the [module](self).
pub(super) struct Shop {
    foreman: Foreman,
    context: Arc<Context>,
    commands: VecDeque<Command>,
    reports: VecDeque<Report>,
    jobs: Vec<Begun>,
    /// Batches that the log has kept.
    kept: u64,
    is_store_down: bool,
    /// Runs that were asked to end since the last turn.
    cancelled: Vec<(ProjectId, RunId)>,
    wishes: Vec<ChildWish>,
    news: Vec<&'static str>,
}

/// A tool that runs.
struct Begun {
    job: Job,
    at: Duration,
    /// How often it has written since the log was last behind.
    pieces: usize,
}

impl Shop {
    pub(super) fn new(context: &Arc<Context>) -> Self {
        let settings = Settings { workers: 4, active_runs_max: 3, grace: Duration::from_secs(10) };
        Self {
            foreman: Foreman::new(settings, LIMITS, context.clone()),
            context: context.clone(),
            commands: VecDeque::new(),
            reports: VecDeque::new(),
            jobs: Vec::new(),
            kept: 0,
            is_store_down: false,
            cancelled: Vec::new(),
            wishes: Vec::new(),
            news: Vec::new(),
        }
    }

    pub(super) fn start(&mut self, new: NewRun) {
        self.commands.push_back(Command::Start(new));
    }

    pub(super) fn resume(&mut self, resumed: ResumedRun) {
        self.commands.push_back(Command::Resume(Box::new(resumed)));
    }

    pub(super) fn cancel(&mut self, project: ProjectId, run: RunId) {
        self.cancelled.push((project.clone(), run.clone()));
        self.commands.push_back(Command::Cancel { project, run });
    }

    pub(super) fn release(&mut self, project: ProjectId, run: RunId) {
        self.commands.push_back(Command::Release { project, run });
    }

    pub(super) fn steer(&mut self, project: ProjectId, run: RunId, steer: Box<Steer>) {
        self.commands.push_back(Command::Steer { project, run, steer });
    }

    pub(super) fn child_ended(&mut self, project: ProjectId, parent: RunId, child: RunId, end: ChildEnd) {
        self.commands.push_back(Command::ChildEnded { project, parent, child, end });
    }

    /// What was wished of children since the last call.
    pub(super) fn take_wishes(&mut self) -> Vec<ChildWish> {
        std::mem::take(&mut self.wishes)
    }

    pub(super) fn kept(&mut self, batches: u64) {
        self.kept += batches;
    }

    pub(super) fn store_is_down(&mut self, is_down: bool) {
        self.is_store_down = is_down;
    }

    pub(super) fn shut_down(&mut self) {
        self.commands.push_back(Command::Shutdown);
    }

    pub(super) fn is_done(&self) -> bool {
        self.foreman.is_done()
    }

    /// Is it done, and was the log handed all that it said?
    pub(super) fn has_ended(&self) -> bool {
        self.is_done() && !self.foreman.ledger().has_batch()
    }

    /// When it has something to do next though nothing comes.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        self.foreman.next_deadline()
    }

    /// Has it something to do now?
    pub(super) fn has_news(&self, now: Now) -> bool {
        let ledger = self.foreman.ledger();
        let is_due = self.foreman.next_deadline().is_some_and(|at| at <= now.mono);
        let has_come = !self.commands.is_empty() || !self.reports.is_empty();
        let is_told = self.kept != ledger.kept() && self.foreman.awaits_receipt();
        ledger.has_batch() || (!self.is_done() && (is_due || has_come || is_told))
    }

    pub(super) fn is_working(&self) -> bool {
        !self.jobs.is_empty()
    }

    /// What was met since the last call.
    pub(super) fn take_news(&mut self) -> impl Iterator<Item = &'static str> {
        self.news.drain(..)
    }

    /// A turn of the executor; `send` hands the log what it is to keep. `each` looks at every job that begins.
    pub(super) fn turn(
        &mut self,
        now: Now,
        each: impl FnMut(&Job),
        send: impl FnOnce(Vec<Record>) -> Result<(), Vec<Record>>,
    ) {
        if self.is_done() {
            return self.foreman.hand_over(now, send);
        }
        self.foreman.note_kept(self.kept);
        self.foreman.set_store_down(self.is_store_down);
        self.reports.drain(..).for_each(|report| self.foreman.report(report, now));
        self.commands.drain(..).for_each(|command| self.foreman.command(command, now));
        let jobs = self.foreman.turn(now);
        jobs.iter().for_each(each);
        self.check_in_time(now);
        assert!(!self.is_store_down || jobs.is_empty(), "it begins though nothing can be kept");
        assert!(self.foreman.ledger().records() <= RECORDS_MAX, "{:?}", self.foreman.ledger());
        self.jobs.extend(jobs.into_iter().map(|job| Begun { job, at: now.mono, pieces: 0 }));
        self.foreman.hand_over(now, send);
        self.wishes.append(&mut self.foreman.take_children());
    }

    /// Whatever the log and its store do, no attempt is left alone that has taken its time, or whose run is to end.
    fn check_in_time(&mut self, now: Now) {
        for Begun { job: Job { launch, .. }, at, .. } in &self.jobs {
            let step = &launch.plan.steps[launch.step];
            let is_late = step.timeout.is_some_and(|timeout| at.saturating_add(timeout) <= now.mono);
            let is_of_run = |(of, run): &(ProjectId, RunId)| (of, run) == (&launch.project, &launch.run);
            // What runs because a run was cancelled goes on.
            let is_unwanted = step.handler.is_none() && self.cancelled.iter().any(is_of_run);
            let is_cancelled = launch.cancel.is_cancelled();
            assert!(is_cancelled || !is_late, "{} runs since {at:?}, and its time is {:?}", step.id, step.timeout);
            assert!(is_cancelled || !is_unwanted, "{} runs though run {} was cancelled", step.id, launch.run);
            if self.is_store_down && is_cancelled {
                self.news.push(if is_late { "timeout while down" } else { "ended while down" });
            }
        }
        self.cancelled.clear();
    }

    /// One of the jobs says something, unless it is paused.
    pub(super) fn speak(&mut self, rng: &mut Rng) {
        if self.jobs.is_empty() {
            return;
        }
        let at = rng.below(self.jobs.len());
        let Begun { job, pieces, .. } = &mut self.jobs[at];
        *pieces = if self.foreman.ledger().is_loud() { *pieces + 1 } else { 0 };
        if *pieces > SHUT_PIECES_MAX {
            return self.news.push("paused");
        }
        let text = if rng.one_in(8) { "long\n".repeat(800) } else { format!("é{}\n", rng.below(100)) };
        let (call, stream) = (job.call, OutputStream::Stdout);
        self.reports.push_back(Report::Output { call, stream, bytes: text.into_bytes() });
    }

    /// One of the jobs comes to its end.
    pub(super) fn finish(&mut self, rng: &mut Rng) {
        if self.jobs.is_empty() {
            return;
        }
        let Job { call, launch, .. } = self.jobs.swap_remove(rng.below(self.jobs.len())).job;
        let step = &launch.plan.steps[launch.step];
        let inputs = self.context.engine.render(&step.inputs, &launch.scope);
        let result = match (&*step.tool, inputs) {
            _ if launch.cancel.is_cancelled() => Err(AttemptError::Passing("cancelled".to_owned())),
            (_, Err(error)) => Err(AttemptError::Lasting(error.to_string())),
            ("fail", Ok(_)) => Err(AttemptError::Passing("as it was told".to_owned())),
            ("delay", Ok(inputs)) => Ok(Outcome::After(Duration::from_millis(300), Value::Object(inputs))),
            ("approval" | "plan", Ok(_)) => attempt(&self.context, &launch, &Unheard),
            ("planner", Ok(_)) => Ok(Outcome::Output(other_plan(&launch.plan, rng))),
            _ if rng.one_in(8) => Err(AttemptError::Passing("broken".to_owned())),
            _ if rng.one_in(10) => Ok(Outcome::Output(json!("large ".repeat(200)))),
            (_, Ok(inputs)) => Ok(Outcome::Output(Value::Object(inputs))),
        };
        self.reports.push_back(Report::Finished { call, result });
    }
}

/// A change of its plan, as a step answers that may make one.
fn other_plan(plan: &Plan, rng: &mut Rng) -> Value {
    let new = json!({"id": format!("p{}", rng.below(1000)), "tool": "work", "inputs": {"p": 1}});
    let any = &plan.steps[rng.below(plan.steps.len())].id;
    match rng.below(3) {
        0 => json!({"$plan": {"add": [new], "remove": [any]}}),
        1 => json!({"note": "as it was"}),
        _ => json!({"$plan": {"add": [new]}}),
    }
}
