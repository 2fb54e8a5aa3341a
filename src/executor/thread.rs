//! The executor's thread: feeds the [`Foreman`] with commands, reports, receipts and the time, and carries out its
//! results.
//!
//! A turn takes all waiting input, reads the clock once, passes all records to the log as one batch, and then lets
//! workers start. It never waits for the log, which may still be writing: an attempt that is lost in a crash is made
//! again. Only if a tool must not run twice, its job is held back until the log has stored that it runs.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Select, Sender, TryRecvError, bounded, unbounded};

use super::context::Context;
use super::foreman::Foreman;
use super::ledger::Limits;
use super::pool::{self, FromWorker, Panicked};
use super::run::{ChildEnd, ChildWish, NewRun, ResumedRun};
use super::scheduler::{Command, Job, Settings};
use super::valve::Valve;
use crate::clock;
use crate::model::{Now, ProjectId, Record, RunId, Steer};

/// How many reports wait for the executor before workers do. See the pool for what they may weigh.
const REPORTS_MAX: usize = 1024;

/// How many commands, and how many reports, one turn takes.
const BATCH_MAX: usize = 1024;

/// The thread's name.
const NAME: &str = "executor";

/// The thread that owns all runs, and its workers.
pub struct Executor {
    handle: ExecutorHandle,
    thread: JoinHandle<Result<Vec<Record>, Panicked>>,
}

/// An executor that already accepts commands, and carries them out once it is [started](Self::start). So its callers
/// and the threads that it calls can be connected before any of them starts.
pub struct Unstarted {
    handle: ExecutorHandle,
    told: Receiver<Message>,
    children: Sender<ChildWish>,
    wishes: Receiver<ChildWish>,
}

/// Sends commands to an executor; clones use the same one. Nothing here blocks.
///
/// The channel is unbounded: the number of runs is limited where they are accepted (`limits.queued_runs`). Once the
/// executor has stopped, commands are lost; the next start resumes from the log.
#[derive(Clone)]
pub struct ExecutorHandle {
    messages: Sender<Message>,
    receipts: Arc<Receipts>,
}

/// A message to the executor.
enum Message {
    Command(Command),
    StoreIsDown(bool),
    LetGo,
    Abandon(u64),
    /// Look at the receipts.
    Receipt,
}

/// How many batches the log has kept. The executor is woken for it only where it waits for that.
#[derive(Debug, Default)]
struct Receipts {
    kept: AtomicU64,
    is_awaited: AtomicBool,
}

impl Unstarted {
    /// A new executor.
    pub fn new() -> Self {
        let (messages, told) = unbounded();
        // A step that waits for a child has wished it once: there are never more than such steps.
        let (children, wishes) = unbounded();
        Self { handle: ExecutorHandle { messages, receipts: Arc::default() }, told, children, wishes }
    }

    /// To tell it what to do.
    pub fn handle(&self) -> ExecutorHandle {
        self.handle.clone()
    }

    /// What its runs want of their children.
    pub fn children(&self) -> Receiver<ChildWish> {
        self.wishes.clone()
    }

    /// Starts the executor's thread and its workers. `send` hands the log a batch of records, and gives it back where the
    /// log has no room for it now; it must not block. For each batch the log says once that it is
    /// [kept](ExecutorHandle::kept), or thrown away. `answer` tells it, on the same way, that all runs are
    /// [abandoned](ExecutorHandle::abandon), and says whether there was room.
    ///
    /// # Errors
    /// If the system grants no thread or descriptor more.
    pub fn start(
        self,
        settings: Settings,
        context: Arc<Context>,
        send: impl FnMut(Vec<Record>) -> Result<(), Vec<Record>> + Send + 'static,
        answer: impl FnMut(u64) -> bool + Send + 'static,
    ) -> io::Result<Executor> {
        let Self { handle, told, children, wishes } = self;
        drop(wishes);
        let (reports, reported) = bounded(REPORTS_MAX);
        let valve = Arc::new(Valve::new()?);
        let jobs = pool::spawn(settings.workers.max(1), &context, &reports, &valve)?;
        let foreman = Foreman::new(settings, Limits::default(), context);
        let receipts = handle.receipts.clone();
        let shell = Shell { foreman, told, receipts, reported, jobs, send, answer, valve, children };
        let thread = thread::Builder::new().name(NAME.to_owned()).spawn(move || shell.run())?;
        Ok(Executor { handle, thread })
    }
}

impl Executor {
    /// As [`Unstarted::start`], for an executor without earlier commands, which is never told to drop its runs.
    ///
    /// # Errors
    /// The same.
    pub fn start(
        settings: Settings,
        context: Arc<Context>,
        send: impl FnMut(Vec<Record>) -> Result<(), Vec<Record>> + Send + 'static,
    ) -> io::Result<Self> {
        Unstarted::new().start(settings, context, send, |_| true)
    }

    /// To tell it what to do.
    pub fn handle(&self) -> ExecutorHandle {
        self.handle.clone()
    }

    /// Waits until a [shutdown](ExecutorHandle::shutdown) is complete. Returns the records that the log had no room
    /// for. Workers whose tools ignore the cancel are abandoned.
    ///
    /// # Errors
    /// If the executor has ended before, because one of its threads panicked. Its runs have stopped; another executor
    /// can resume them from the log, preferably in another process.
    pub fn join(self) -> Result<Vec<Record>, Panicked> {
        self.thread.join().unwrap_or_else(|_| Err(Panicked { thread: NAME.to_owned() }))
    }
}

impl ExecutorHandle {
    /// Runs a plan.
    pub fn start(&self, new: NewRun) {
        self.send(Command::Start(new));
    }

    /// Goes on with a run that an earlier process left active.
    pub fn resume(&self, resumed: ResumedRun) {
        self.send(Command::Resume(Box::new(resumed)));
    }

    /// A run that was held may begin. Nothing happens where there is no such run, or not any more.
    pub fn release(&self, project: ProjectId, run: RunId) {
        self.send(Command::Release { project, run });
    }

    /// Ends a run. Nothing happens where there is no such run, or not any more.
    pub fn cancel(&self, project: ProjectId, run: RunId) {
        self.send(Command::Cancel { project, run });
    }

    /// Has a run do something. What came of it, or why nothing did, is among its records: [`Record::Verdict`].
    pub fn steer(&self, project: ProjectId, run: RunId, steer: Box<Steer>) {
        self.send(Command::Steer { project, run, steer });
    }

    /// A child of a run has ended, or never was.
    pub fn child_ended(&self, project: ProjectId, parent: RunId, child: RunId, end: ChildEnd) {
        self.send(Command::ChildEnded { project, parent, child, end });
    }

    /// Starts no attempt more, gives those that run their grace, then stops; asked a second time, stops at once.
    pub fn shutdown(&self) {
        self.send(Command::Shutdown);
    }

    /// The log has stored `batches` more batches of records, the oldest first.
    pub fn kept(&self, batches: u64) {
        self.receipts.kept.fetch_add(batches, Ordering::SeqCst);
        if self.receipts.is_awaited.swap(false, Ordering::SeqCst) {
            self.tell(Message::Receipt);
        }
    }

    /// The log's store takes nothing any more, or everything again: while it is down nothing begins, and all else goes on.
    pub fn store_is_down(&self, is_down: bool) {
        self.tell(Message::StoreIsDown(is_down));
    }

    /// Ends all attempts and forgets all runs without records: other nodes continue them. Earlier commands have no
    /// effect any more; later ones are about new runs. A command's process group has a second and a half from its
    /// SIGTERM to its SIGKILL.
    ///
    /// Called when the node is fenced, so that nothing runs here any more, whatever the log waits for. The log is told
    /// afterwards, and [abandons](Self::abandon) what it may have begun in between.
    pub fn let_go(&self) {
        self.tell(Message::LetGo);
    }

    /// [Lets go](Self::let_go), unless that was done for this number or a larger one, and answers with the number after
    /// all earlier records: once every worker has returned, or after three seconds. A worker that has not returned by
    /// then is busy until its tool returns, and its result is discarded.
    pub fn abandon(&self, number: u64) {
        self.tell(Message::Abandon(number));
    }

    fn send(&self, command: Command) {
        self.tell(Message::Command(command));
    }

    fn tell(&self, message: Message) {
        if self.messages.send(message).is_err() {
            log::debug!("the executor has stopped");
        }
    }
}

struct Shell<S, A> {
    foreman: Foreman,
    told: Receiver<Message>,
    receipts: Arc<Receipts>,
    reported: Receiver<FromWorker>,
    jobs: Sender<Job>,
    send: S,
    answer: A,
    valve: Arc<Valve>,
    children: Sender<ChildWish>,
}

impl<S: FnMut(Vec<Record>) -> Result<(), Vec<Record>>, A: FnMut(u64) -> bool> Shell<S, A> {
    fn run(mut self) -> Result<Vec<Record>, Panicked> {
        let mut has_owner = true;
        while !self.foreman.is_done() {
            if !self.has_receipt() {
                self.wait(has_owner);
            }
            let now = clock::now();
            self.foreman.note_kept(self.receipts.kept.load(Ordering::SeqCst));
            has_owner = self.take_inputs(has_owner, now)?;
            let jobs = self.foreman.turn(now);
            self.foreman.hand_over(now, &mut self.send);
            self.foreman.answer(now, &mut self.answer);
            self.valve.set_shut(self.foreman.ledger().is_loud());
            self.begin(jobs);
            for wish in self.foreman.take_children() {
                // Nobody is there any more where the server ends: the next start wishes it again.
                let _ = self.children.send(wish);
            }
        }
        Ok(self.foreman.into_rest())
    }

    /// Has the log kept something that was waited for? Where not, it tells when it has.
    fn has_receipt(&self) -> bool {
        if !self.foreman.awaits_receipt() {
            return false;
        }
        self.receipts.is_awaited.store(true, Ordering::SeqCst);
        self.receipts.kept.load(Ordering::SeqCst) != self.foreman.ledger().kept()
    }

    /// Until something comes in or is due.
    fn wait(&self, has_owner: bool) {
        let mut select = Select::new();
        select.recv(&self.reported);
        if has_owner {
            select.recv(&self.told);
        }
        match self.foreman.next_deadline() {
            Some(at) => {
                let _ = select.ready_timeout(at.saturating_sub(clock::mono()));
            }
            None => {
                select.ready();
            }
        }
    }

    /// Takes what waits. The last handle's end counts as the wish to stop.
    fn take_inputs(&mut self, has_owner: bool, now: Now) -> Result<bool, Panicked> {
        for report in self.reported.try_iter().take(BATCH_MAX) {
            self.foreman.report(report?, now);
        }
        for _ in 0..BATCH_MAX {
            match self.told.try_recv() {
                Ok(Message::Command(command)) => self.foreman.command(command, now),
                Ok(Message::StoreIsDown(is_down)) => self.foreman.set_store_down(is_down),
                Ok(Message::LetGo) => self.foreman.let_go(now),
                Ok(Message::Abandon(number)) => self.foreman.abandon(number, now),
                Ok(Message::Receipt) => {}
                Err(TryRecvError::Disconnected) if has_owner => {
                    self.foreman.command(Command::Shutdown, now);
                    return Ok(false);
                }
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
        }
        Ok(has_owner)
    }

    fn begin(&self, jobs: Vec<Job>) {
        for job in jobs {
            if self.jobs.try_send(job).is_err() {
                // The scheduler hands out no more jobs than workers are free, and the channel has room for as many.
                log::error!("no worker is free to take a job");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::executor::run::{Effects, Run};
    use crate::executor::testing::{context, context_with, new_run, plan, retries};
    use crate::executor::tool::{Call, Outcome, Tool, ToolError};
    use crate::model::{OutputStream, RunEvent, RunEventKind};

    fn settings(workers: usize) -> Settings {
        Settings { workers, active_runs_max: 8, grace: Duration::ZERO }
    }

    fn executor(context: Arc<Context>) -> (Executor, Receiver<Record>) {
        let (sender, records) = unbounded();
        let hand_over = move |batch: Vec<Record>| {
            assert!(!batch.is_empty());
            batch.into_iter().for_each(|record| drop(sender.send(record)));
            Ok(())
        };
        (Executor::start(settings(2), context, hand_over).expect("threads"), records)
    }

    fn events(records: &Receiver<Record>) -> impl Iterator<Item = RunEvent> + '_ {
        records.iter().flat_map(|record| record.events().to_vec())
    }

    /// Says that it has begun, and ends when it is cancelled.
    struct Patient {
        begun: Sender<()>,
    }

    impl Tool for Patient {
        fn call(&self, call: &Call<'_>) -> Result<Outcome, ToolError> {
            call.output.write(OutputStream::Text, b"waiting");
            let _ = self.begun.send(());
            let fd = call.cancel.wake_fd().map_err(|error| error.to_string())?;
            let mut fds = [rustix::event::PollFd::from_borrowed_fd(fd, rustix::event::PollFlags::IN)];
            rustix::event::poll(&mut fds, None).map_err(|error| error.to_string())?;
            Err("cancelled".into())
        }
    }

    fn patient_run(context_of: Sender<()>) -> (Executor, Receiver<Record>) {
        let (executor, records) = executor(context_with(|registry| {
            registry.insert("patient", Patient { begun: context_of });
        }));
        let mut waits = plan(&["a"]);
        waits.steps[0].tool = "patient".into();
        executor.handle().start(new_run("r", waits));
        (executor, records)
    }

    /// Must not run twice, and says when it runs.
    struct Once {
        begun: Sender<()>,
    }

    impl Tool for Once {
        fn call(&self, _: &Call<'_>) -> Result<Outcome, ToolError> {
            let _ = self.begun.send(());
            Ok(Outcome::Output(json!(null)))
        }

        fn rerun(&self) -> bool {
            false
        }
    }

    #[test]
    fn a_tool_that_must_not_run_twice_began_before_it_was_kept_that_it_runs() {
        let (begun, has_begun) = bounded(1);
        let context = context_with(|registry| registry.insert("once", Once { begun }));
        let (sender, batches) = unbounded();
        let hand_over = move |batch: Vec<Record>| sender.send(batch).map_err(|error| error.0);
        let executor = Executor::start(settings(2), context, hand_over).expect("threads");
        let mut once = plan(&["a"]);
        once.steps[0].tool = "once".into();
        executor.handle().start(new_run("r", once));
        batches.recv().expect("that it runs");
        // Another run comes and goes meanwhile: nobody waits for the log.
        executor.handle().start(new_run("other", plan(&["a"])));
        let is_last = |record: &Record| matches!(record, Record::Event { event, .. } if event.is_last());
        assert!(batches.iter().any(|batch| batch.iter().any(is_last)));
        assert!(has_begun.try_recv().is_err(), "it has not begun yet");
        executor.handle().kept(1);
        has_begun.recv().expect("it begins once that is kept");
        executor.handle().shutdown();
        executor.join().expect("no panic");
    }

    #[test]
    fn what_an_executor_is_told_before_it_starts_it_does_then() {
        let unstarted = Unstarted::new();
        unstarted.handle().start(new_run("r", plan(&["a"])));
        let (sender, batches) = unbounded();
        let hand_over = move |batch: Vec<Record>| sender.send(batch).map_err(|error| error.0);
        let executor = unstarted.start(settings(1), context(), hand_over, |_| true).expect("threads");
        let is_last = |record: &Record| matches!(record, Record::Event { event, .. } if event.is_last());
        assert!(batches.iter().any(|batch| batch.iter().any(is_last)));
        executor.handle().shutdown();
        executor.join().expect("no panic");
    }

    #[test]
    fn a_plan_runs_to_its_end() {
        let (executor, records) = executor(context());
        let mut three = plan(&["a", "b: a", "c: b"]);
        for (step, input) in
            three.steps.iter_mut().zip([json!(1), json!("{{ steps.a.output }}"), json!("{{ steps.b.output }}")])
        {
            step.inputs.insert("x".to_owned(), input);
        }
        executor.handle().start(new_run("r", three));
        let last = events(&records).find(RunEvent::is_last).expect("a last message");
        let RunEventKind::Completed(completed) = last.kind else { panic!("not completed: {last:?}") };
        assert_eq!(completed.outputs["c"], json!({"x": {"x": {"x": 1}}}), "outputs flow on");
        executor.handle().shutdown();
        executor.join().expect("no panic");
    }

    #[test]
    fn a_run_whose_tool_was_taken_away_between_two_starts_ends_and_names_it() {
        let (executor, records) = executor(context());
        let mut gone = plan(&["a", "b: a"]);
        (gone.steps[0].tool, gone.steps[0].retry) = ("gone".into(), retries(3, 0));
        let new = new_run("r", gone);
        let (mut run, mut effects) = (Run::new(new.clone(), context()), Effects::default());
        run.start(Now::default(), &mut effects);
        run.take(Now::default(), &mut effects).expect("it runs when the process ends");
        let state = run.state().clone();
        executor.handle().kept(1);
        executor.handle().resume(ResumedRun {
            new,
            state,
            whole_outputs: HashMap::new(),
            items: HashMap::new(),
            cancelled: false,
        });
        let last = events(&records).find(RunEvent::is_last).expect("a last message");
        let RunEventKind::Failed(failed) = last.kind else { panic!("not failed: {last:?}") };
        assert_eq!(failed.error, "step a failed: the tool gone is no longer configured");
        executor.handle().shutdown();
        executor.join().expect("no panic");
        assert!(!events(&records).any(|event| event.is_last()), "one last message");
    }

    #[test]
    fn a_cancel_reaches_a_tool_that_runs() {
        let (begun, has_begun) = bounded(1);
        let (executor, records) = patient_run(begun);
        has_begun.recv().expect("it begins");
        let run = new_run("r", plan(&["a"]));
        executor.handle().cancel(run.project, run.run);
        let types: Vec<_> = events(&records).map(|event| event.message_type()).take(7).collect();
        let expected = ["started", "level_started", "progress", "step_output", "progress", "level_completed", "failed"];
        assert_eq!(types, expected.map(|kind| format!("workflow_{kind}")));
        executor.handle().shutdown();
        executor.join().expect("no panic");
    }

    #[test]
    fn a_shutdown_cancels_what_outlasts_its_grace_and_leaves_the_run_open() {
        let (begun, has_begun) = bounded(1);
        let (executor, records) = patient_run(begun);
        has_begun.recv().expect("it begins");
        executor.handle().shutdown();
        executor.join().expect("no panic");
        assert!(!events(&records).any(|event| event.is_last()), "the next start goes on with it");
    }

    /// Panics with a value that panics again where it is dropped, out of reach of what catches a tool's panics.
    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("again");
        }
    }

    struct Miner;

    impl Tool for Miner {
        fn call(&self, _: &Call<'_>) -> Result<Outcome, ToolError> {
            std::panic::panic_any(Bomb)
        }
    }

    #[test]
    fn a_panic_of_a_worker_outside_its_tool_ends_the_executor_and_is_told() {
        let (executor, _records) = executor(context_with(|registry| registry.insert("miner", Miner)));
        let mut mined = plan(&["a"]);
        mined.steps[0].tool = "miner".into();
        executor.handle().start(new_run("r", mined));
        let Panicked { thread } = executor.join().expect_err("it has ended");
        assert!(thread.starts_with("worker-"), "{thread}");
    }

    #[test]
    fn a_panic_of_the_executors_own_thread_is_told() {
        let executor = Executor::start(settings(1), context(), |_| panic!("no log")).expect("threads");
        executor.handle().start(new_run("r", plan(&["a"])));
        assert!(matches!(executor.join(), Err(Panicked { thread }) if thread == NAME));
    }

    #[test]
    fn the_end_of_the_last_handle_is_a_shutdown() {
        let (executor, records) = executor(context());
        drop(executor);
        assert!(records.recv().is_err(), "the thread has let go of its log");
    }
}
