//! The executor's thread: the shell that feeds the [`Scheduler`] commands, reports and the time, and carries out what comes
//! of it.
//!
//! A turn takes everything that waits, reads the clock once, hands all records to the log as one batch, and only then lets
//! workers begin, so that an attempt the log knows nothing of was never made.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, Select, Sender, TryRecvError, bounded, unbounded};

use super::context::Context;
use super::pool;
use super::run::{NewRun, ResumedRun};
use super::scheduler::{Actions, Command, Job, Report, Scheduler, Settings};
use crate::model::{Now, ProjectId, Record, RunId, Timestamp};

/// How many reports wait for the executor before workers do. See the pool for what they may weigh.
const REPORTS_MAX: usize = 1024;

/// How many commands, and how many reports, one turn takes.
const BATCH_MAX: usize = 1024;

/// The thread that owns all runs, and its workers.
pub struct Executor {
    handle: ExecutorHandle,
    thread: JoinHandle<()>,
}

/// Tells an executor what to do; clones speak to the same one. Nothing here blocks.
///
/// The channel behind it has no bound of its own: whoever accepts runs has bounded them before (`limits.queued_runs`), and a
/// sender that blocked here could wait for an executor that waits for the log that waits for the sender. Once the executor
/// has stopped, what it is told is lost; the next start resumes from the log.
#[derive(Clone)]
pub struct ExecutorHandle {
    commands: Sender<Command>,
}

impl Executor {
    /// Starts the executor's thread and its workers. `records` takes each turn's records, in order; it may block, and
    /// everything waits for it then.
    ///
    /// # Errors
    /// Where the system grants no thread more.
    pub fn start(
        settings: Settings,
        context: Arc<Context>,
        records: impl FnMut(Vec<Record>) + Send + 'static,
    ) -> io::Result<Self> {
        let (commands, commanded) = unbounded();
        let (reports, reported) = bounded(REPORTS_MAX);
        let jobs = pool::spawn(settings.workers.max(1), &context, &reports)?;
        let scheduler = Scheduler::new(settings, context);
        let shell = Shell { scheduler, commanded, reported, jobs, records, origin: Instant::now() };
        let thread = thread::Builder::new().name("executor".to_owned()).spawn(move || shell.run())?;
        Ok(Self { handle: ExecutorHandle { commands }, thread })
    }

    /// To tell it what to do.
    pub fn handle(&self) -> ExecutorHandle {
        self.handle.clone()
    }

    /// Waits until a [shutdown](ExecutorHandle::shutdown) is through. Workers whose tool ignores its cancel are left behind.
    pub fn join(self) {
        if self.thread.join().is_err() {
            log::error!("the executor's thread panicked");
        }
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

    /// Ends a run. Nothing happens where there is no such run, or not any more.
    pub fn cancel(&self, project: ProjectId, run: RunId) {
        self.send(Command::Cancel { project, run });
    }

    /// Starts no attempt more, gives those that run their grace, then stops; asked a second time, stops at once.
    pub fn shutdown(&self) {
        self.send(Command::Shutdown);
    }

    fn send(&self, command: Command) {
        if self.commands.send(command).is_err() {
            log::debug!("the executor has stopped");
        }
    }
}

struct Shell<R> {
    scheduler: Scheduler,
    commanded: Receiver<Command>,
    reported: Receiver<Report>,
    jobs: Sender<Job>,
    records: R,
    origin: Instant,
}

impl<R: FnMut(Vec<Record>)> Shell<R> {
    fn run(mut self) {
        let mut has_owner = true;
        while !self.scheduler.is_done() {
            self.wait(has_owner);
            let now = self.now();
            let mut actions = Actions::default();
            has_owner = self.take_inputs(has_owner, now, &mut actions);
            self.scheduler.turn(now, &mut actions);
            self.act(actions);
        }
    }

    /// Until something comes in or is due.
    fn wait(&self, has_owner: bool) {
        let mut select = Select::new();
        select.recv(&self.reported);
        if has_owner {
            select.recv(&self.commanded);
        }
        match self.scheduler.next_deadline() {
            Some(at) => {
                let _ = select.ready_timeout(at.saturating_sub(self.origin.elapsed()));
            }
            None => {
                select.ready();
            }
        }
    }

    /// Takes what waits. The last handle's end counts as the wish to stop.
    fn take_inputs(&mut self, has_owner: bool, now: Now, actions: &mut Actions) -> bool {
        for report in self.reported.try_iter().take(BATCH_MAX) {
            self.scheduler.report(report, now, actions);
        }
        for _ in 0..BATCH_MAX {
            match self.commanded.try_recv() {
                Ok(command) => self.scheduler.command(command, now, actions),
                Err(TryRecvError::Disconnected) if has_owner => {
                    self.scheduler.command(Command::Shutdown, now, actions);
                    return false;
                }
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
        }
        has_owner
    }

    fn act(&mut self, actions: Actions) {
        if !actions.records.is_empty() {
            (self.records)(actions.records);
        }
        for cancel in actions.cancels {
            cancel.cancel();
        }
        for job in actions.jobs {
            if self.jobs.try_send(job).is_err() {
                // The scheduler hands out no more jobs than workers are free, and the channel has room for as many.
                log::error!("no worker takes a job");
            }
        }
    }

    fn now(&self) -> Now {
        Now { mono: self.elapsed(), wall: Timestamp::from(SystemTime::now()) }
    }

    fn elapsed(&self) -> Duration {
        self.origin.elapsed()
    }
}
