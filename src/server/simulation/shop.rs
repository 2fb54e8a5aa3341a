//! The executor and its workers, played: the scheduler is the real one, the tools are played by the test.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::executor::run::Launch;
use crate::executor::scheduler::{Actions, Job, Report, Scheduler};
use crate::executor::testing::Rng;
use crate::executor::tool::Outcome;
use crate::executor::{AttemptError, Command, Context, NewRun, ResumedRun, Settings};
use crate::model::{Now, OutputStream, ProjectId, Record, RunId};

/// See the [module](self).
pub(super) struct Shop {
    scheduler: Scheduler,
    context: Arc<Context>,
    commands: VecDeque<Command>,
    reports: VecDeque<Report>,
    jobs: Vec<Job>,
}

impl Shop {
    pub(super) fn new(context: &Arc<Context>) -> Self {
        let settings = Settings { workers: 4, active_runs_max: 3, grace: Duration::from_secs(10) };
        let scheduler = Scheduler::new(settings, context.clone());
        Self {
            scheduler,
            context: context.clone(),
            commands: VecDeque::new(),
            reports: VecDeque::new(),
            jobs: Vec::new(),
        }
    }

    pub(super) fn start(&mut self, new: NewRun) {
        self.commands.push_back(Command::Start(new));
    }

    pub(super) fn resume(&mut self, resumed: ResumedRun) {
        self.commands.push_back(Command::Resume(Box::new(resumed)));
    }

    pub(super) fn cancel(&mut self, project: ProjectId, run: RunId) {
        self.commands.push_back(Command::Cancel { project, run });
    }

    pub(super) fn shut_down(&mut self) {
        self.commands.push_back(Command::Shutdown);
    }

    pub(super) fn is_done(&self) -> bool {
        self.scheduler.is_done()
    }

    /// When it has something to do next though nothing comes.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        self.scheduler.next_deadline()
    }

    /// Has it something to do now?
    pub(super) fn has_news(&self, now: Now) -> bool {
        let is_due = self.scheduler.next_deadline().is_some_and(|at| at <= now.mono);
        !self.is_done() && (is_due || !self.commands.is_empty() || !self.reports.is_empty())
    }

    pub(super) fn is_working(&self) -> bool {
        !self.jobs.is_empty()
    }

    /// A turn of the executor; what the log is to keep. `each` looks at every job that it gives out.
    pub(super) fn turn(&mut self, now: Now, each: impl FnMut(&Launch)) -> Vec<Record> {
        if self.is_done() {
            return Vec::new();
        }
        let mut actions = Actions::default();
        self.reports.drain(..).for_each(|report| self.scheduler.report(report, now, &mut actions));
        self.commands.drain(..).for_each(|command| self.scheduler.command(command, now, &mut actions));
        self.scheduler.turn(now, &mut actions);
        actions.cancels.iter().for_each(crate::executor::tool::CancelToken::cancel);
        actions.jobs.iter().map(|job| &job.launch).for_each(each);
        self.jobs.append(&mut actions.jobs);
        actions.records
    }

    /// One of the jobs says something.
    pub(super) fn speak(&mut self, rng: &mut Rng) {
        if self.jobs.is_empty() {
            return;
        }
        let call = self.jobs[rng.below(self.jobs.len())].call;
        let text = if rng.one_in(8) { "long\n".repeat(800) } else { format!("é{}\n", rng.below(100)) };
        self.reports.push_back(Report::Output { call, stream: OutputStream::Stdout, bytes: text.into_bytes() });
    }

    /// One of the jobs comes to its end.
    pub(super) fn finish(&mut self, rng: &mut Rng) {
        if self.jobs.is_empty() {
            return;
        }
        let Job { call, launch } = self.jobs.swap_remove(rng.below(self.jobs.len()));
        let step = &launch.plan.steps[launch.step];
        let inputs = self.context.engine.render(&step.inputs, &launch.scope);
        let result = match (&*step.tool, inputs) {
            _ if launch.cancel.is_cancelled() => Err(AttemptError::Passing("cancelled".to_owned())),
            (_, Err(error)) => Err(AttemptError::Lasting(error.to_string())),
            ("fail", Ok(_)) => Err(AttemptError::Passing("as it was told".to_owned())),
            ("delay", Ok(inputs)) => Ok(Outcome::After(Duration::from_millis(300), Value::Object(inputs))),
            _ if rng.one_in(8) => Err(AttemptError::Passing("broken".to_owned())),
            _ if rng.one_in(10) => Ok(Outcome::Output(json!("large ".repeat(200)))),
            (_, Ok(inputs)) => Ok(Outcome::Output(Value::Object(inputs))),
        };
        self.reports.push_back(Report::Finished { call, result });
    }
}
