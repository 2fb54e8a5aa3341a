//! The [`Scheduler`] and its [`Ledger`] as one: commands, reports, receipts and `now` go in; jobs, and batches for the
//! log, come out. Pure but for the flags of attempts that are cancelled; the [shell](super::Executor) feeds it and acts.

use std::sync::Arc;
use std::time::Duration;

use super::context::Context;
use super::ledger::{Ledger, Limits};
use super::run::{AttemptError, BEFORE_IT_BEGAN};
use super::scheduler::{Actions, Command, Durability, Job, Report, Scheduler, Settings};
use crate::model::{Now, Record};

/// See the [module](self).
pub struct Foreman {
    scheduler: Scheduler,
    ledger: Ledger,
    /// What came of the inputs since the last turn.
    actions: Actions,
}

impl Foreman {
    /// One without runs.
    pub fn new(settings: Settings, limits: Limits, context: Arc<Context>) -> Self {
        let scheduler = Scheduler::new(settings, context);
        Self { scheduler, ledger: Ledger::new(limits), actions: Actions::default() }
    }

    /// Does what it is told.
    pub fn command(&mut self, command: Command, now: Now) {
        self.scheduler.command(command, now, &mut self.actions);
    }

    /// Hears a worker.
    pub fn report(&mut self, report: Report, now: Now) {
        self.scheduler.report(report, now, &mut self.actions);
    }

    /// The log has kept so many of its batches so far.
    pub fn note_kept(&mut self, batches: u64) {
        self.ledger.note_kept(batches);
    }

    /// The store takes nothing any more, or everything again.
    pub fn set_store_down(&mut self, is_down: bool) {
        self.ledger.set_down(is_down);
    }

    /// Does what is due and cancels what should end; the jobs for the workers, never more than are free. To be called
    /// after every batch of inputs, and at [`next_deadline`](Self::next_deadline).
    pub fn turn(&mut self, now: Now) -> Vec<Job> {
        self.scheduler.hold_up(self.ledger.holds_up());
        self.scheduler.turn(now, &mut self.actions);
        self.actions.cancels.drain(..).for_each(|cancel| cancel.cancel());
        let mut begin = self.write_down();
        for Job { call, .. } in self.ledger.take_cancelled() {
            let result = Err(AttemptError::Passing(BEFORE_IT_BEGAN.to_owned()));
            self.scheduler.report(Report::Finished { call, result }, now, &mut self.actions);
        }
        self.write_down();
        for job in self.ledger.release() {
            self.scheduler.release(job.call, now, &mut self.actions);
            begin.push(job);
        }
        self.scheduler.hold_up(self.ledger.holds_up());
        begin
    }

    /// Writes down what runs said. The jobs that may begin meanwhile.
    fn write_down(&mut self) -> Vec<Job> {
        self.ledger.push(std::mem::take(&mut self.actions.records));
        let mut jobs = std::mem::take(&mut self.actions.jobs);
        let withheld = jobs.extract_if(.., |job| job.durability == Durability::First);
        withheld.for_each(|job| self.ledger.withhold(job));
        jobs
    }

    /// Hands the log the next batch, where there is one. `send` gives it back where the log has no room.
    pub fn hand_over(&mut self, now: Now, send: impl FnOnce(Vec<Record>) -> Result<(), Vec<Record>>) {
        if let Some(batch) = self.ledger.next_batch()
            && let Err(batch) = send(batch)
        {
            self.ledger.give_back(batch, now.mono);
        }
    }

    /// When the next [`turn`](Self::turn) is due without any input, on the monotonic clock; zero for at once.
    pub fn next_deadline(&self) -> Option<Duration> {
        [self.scheduler.next_deadline(), self.ledger.next_deadline()].into_iter().flatten().min()
    }

    /// Has a shutdown come to its end?
    pub fn is_done(&self) -> bool {
        self.scheduler.is_done()
    }

    /// What it knows of the log.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// What the log was not handed.
    pub fn into_rest(self) -> Vec<Record> {
        self.ledger.into_rest()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executor::testing::{context, new_run, plan};

    #[test]
    fn an_attempt_used_its_time_up_before_the_log_had_kept_that_it_runs() {
        let settings = Settings { workers: 1, active_runs_max: 1, grace: Duration::ZERO };
        let mut foreman = Foreman::new(settings, Limits::default(), context());
        let (mut now, second) = (Now::default(), Duration::from_secs(1));
        let mut once = plan(&["a"]);
        (once.steps[0].tool, once.steps[0].timeout) = ("once".into(), Some(second));
        foreman.command(Command::Start(new_run("r", once)), now);
        assert!(foreman.turn(now).is_empty(), "it is not kept yet that it runs");
        foreman.hand_over(now, |_| Ok(()));
        foreman.set_store_down(true);
        now = now.plus(60 * second);
        assert!(foreman.turn(now).is_empty());
        foreman.set_store_down(false);
        foreman.note_kept(1);
        let job = foreman.turn(now).pop().expect("it begins");
        assert_eq!((foreman.next_deadline(), job.launch.cancel.is_cancelled()), (Some(now.mono + second), false));
        now = now.plus(second);
        foreman.turn(now);
        assert!(job.launch.cancel.is_cancelled(), "from then on its time runs");
    }

    #[test]
    fn a_shutdown_waited_on_for_a_job_that_had_been_withheld_from_the_workers() {
        let settings = Settings { workers: 1, active_runs_max: 1, grace: Duration::ZERO };
        let (mut foreman, now) = (Foreman::new(settings, Limits::default(), context()), Now::default());
        let mut once = plan(&["a"]);
        once.steps[0].tool = "once".into();
        foreman.command(Command::Start(new_run("r", once)), now);
        assert!(foreman.turn(now).is_empty(), "it is not kept yet that it runs");
        foreman.command(Command::Shutdown, now);
        assert!(foreman.turn(now).is_empty());
        assert_eq!(foreman.next_deadline(), Some(Duration::ZERO), "nothing runs any more");
        foreman.turn(now);
        assert!(foreman.is_done());
    }
}
