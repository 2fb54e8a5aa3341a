//! Combines the [`Scheduler`] and its [`Ledger`]: commands, reports, receipts and `now` go in; jobs, and batches for
//! the log, come out. Pure except for the cancellation flags of attempts; the [shell](super::Executor) feeds it and
//! acts.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::context::Context;
use super::ledger::{Ledger, Limits, OFFER_AGAIN};
use super::run::{AttemptError, BEFORE_IT_BEGAN, ChildWish};
use super::scheduler::{Actions, Command, Durability, Job, Report, Scheduler, Settings};
use crate::model::{Now, Record};

/// See the [module](self).
pub struct Foreman {
    scheduler: Scheduler,
    ledger: Ledger,
    /// The results of the inputs since the last turn.
    actions: Actions,
    /// Children to cancel, each with the number of batches that must be stored first. If a child ended before the
    /// reason was stored, its step would join it again after a crash, and fail.
    given_up: VecDeque<(u64, ChildWish)>,
    /// The largest number of an [`abandon`](Self::abandon) so far.
    abandoned: u64,
    /// Numbers to answer, and when that is tried again after the log had no room.
    unanswered: Vec<u64>,
    answer_at: Option<Duration>,
}

impl Foreman {
    /// One without runs.
    pub fn new(settings: Settings, limits: Limits, context: Arc<Context>) -> Self {
        let scheduler = Scheduler::new(settings, context);
        let (actions, given_up, unanswered) = Default::default();
        Self { scheduler, ledger: Ledger::new(limits), actions, given_up, abandoned: 0, unanswered, answer_at: None }
    }

    /// Carries out a command.
    pub fn command(&mut self, command: Command, now: Now) {
        self.scheduler.command(command, now, &mut self.actions);
    }

    /// Hears a worker.
    pub fn report(&mut self, report: Report, now: Now) {
        self.scheduler.report(report, now, &mut self.actions);
    }

    /// Ends all attempts, forgets all runs, and says nothing more of them.
    pub fn let_go(&mut self, now: Now) {
        self.scheduler.let_go(now, &mut self.actions);
        self.given_up.clear();
        self.ledger.forget().for_each(|job| self.scheduler.forget_call(job.call));
        self.actions.children.push(ChildWish::Forget);
    }

    /// [Lets go](Self::let_go), unless that was done for this number or a larger one, and [answers](Self::answer) once that
    /// is done.
    pub fn abandon(&mut self, number: u64, now: Now) {
        if number > self.abandoned {
            self.abandoned = number;
            self.let_go(now);
        }
        self.unanswered.push(number);
    }

    /// Tells which [`abandon`](Self::abandon) is done. `send` says whether the log had room for that.
    pub fn answer(&mut self, now: Now, mut send: impl FnMut(u64) -> bool) {
        self.answer_at = None;
        if self.scheduler.is_letting_go() {
            return;
        }
        let sent = self.unanswered.iter().take_while(|number| send(**number)).count();
        self.unanswered.drain(..sent);
        self.answer_at = (!self.unanswered.is_empty()).then_some(now.mono + OFFER_AGAIN);
    }

    /// The log has stored `batches` of its batches so far.
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
        self.actions.kills.drain(..).for_each(|kill| kill.kill());
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
        let given_up = self.actions.children.extract_if(.., |wish| matches!(wish, ChildWish::Cancel(..)));
        let mark = self.ledger.mark();
        self.given_up.extend(given_up.map(|wish| (mark, wish)));
        begin
    }

    /// Takes the wishes for children: starts at once, cancellations once their reason is stored.
    pub fn take_children(&mut self) -> Vec<ChildWish> {
        let mut wishes = std::mem::take(&mut self.actions.children);
        let due = self.given_up.partition_point(|(number, _)| *number <= self.ledger.kept());
        wishes.extend(self.given_up.drain(..due).map(|(_, wish)| wish));
        wishes
    }

    /// Would anything go on if the log had kept more?
    pub fn awaits_receipt(&self) -> bool {
        !self.given_up.is_empty() || self.ledger.awaits_receipt()
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
        [self.scheduler.next_deadline(), self.ledger.next_deadline(), self.answer_at].into_iter().flatten().min()
    }

    /// Is a shutdown complete?
    pub fn is_done(&self) -> bool {
        self.scheduler.is_done()
    }

    /// The ledger of the log.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The records that the log was not handed.
    pub fn into_rest(self) -> Vec<Record> {
        self.ledger.into_rest()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executor::testing::{context, new_run, plan};
    use crate::executor::tool::Outcome;

    /// A crash between the two had the next attempt join the child again, and fail of its end.
    #[test]
    fn a_child_was_asked_to_end_before_it_was_kept_that_its_step_waits_for_it_no_more() {
        let settings = Settings { workers: 1, active_runs_max: 1, grace: Duration::ZERO };
        let mut foreman = Foreman::new(settings, Limits::default(), context());
        let (mut now, second) = (Now::default(), Duration::from_secs(1));
        let mut calls = plan(&["a"]);
        calls.steps[0].timeout = Some(second);
        foreman.command(Command::Start(new_run("r", calls)), now);
        let call = foreman.turn(now).pop().expect("it begins").call;
        foreman.hand_over(now, |_| Ok(()));
        let result = Ok(Outcome::Plan { name: "nightly".to_owned(), inputs: serde_json::Map::default() });
        foreman.report(Report::Finished { call, result }, now);
        foreman.turn(now);
        let [ChildWish::Begin(child)] = &foreman.take_children()[..] else { panic!("it begins at once") };
        now = now.plus(second);
        foreman.turn(now);
        assert_eq!(foreman.take_children(), [], "nothing is kept yet");
        foreman.note_kept(1);
        foreman.hand_over(now, |_| Ok(()));
        foreman.turn(now);
        assert_eq!((foreman.take_children(), foreman.awaits_receipt()), (vec![], true), "nor is that it took too long");
        foreman.note_kept(2);
        let given_up = ChildWish::Cancel(child.project.clone(), child.run.clone());
        assert_eq!((foreman.take_children(), foreman.awaits_receipt()), (vec![given_up], false));
    }

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
