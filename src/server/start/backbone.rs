//! Starts the log and the executor, which pass work to each other.

use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::Receiver;

use super::super::error::{StartError, failed};
use super::super::inbox::InboxSender;
use super::super::membership::{Joined, Membership, OwnHands};
use super::super::threads::{watch_executor, watch_log};
use super::bells::Bells;
use crate::clock;
use crate::config::Config;
use crate::executor::{ChildWish, Context, Executor, ExecutorHandle, Settings, Unstarted};
use crate::log::{self, Journal, LogHandle, Outcome, Standings, WaitingWishes};

/// The log and the executor while a server starts.
pub(super) struct Backbone {
    pub(super) log: LogHandle,
    pub(super) executor: ExecutorHandle,
    executor_thread: Executor,
    log_threads: Vec<JoinHandle<()>>,
    standings: Arc<Standings>,
    waiting_wishes: Arc<WaitingWishes>,
    out: Box<dyn FnMut(Outcome)>,
}

impl Backbone {
    /// Starts both. Also returns the requests of steps that run stored plans.
    pub(super) fn start(
        config: &Config,
        context: &Arc<Context>,
        journal: Journal,
        bells: Bells,
        inbox: &InboxSender,
        is_shared: bool,
    ) -> Result<(Self, Receiver<ChildWish>), StartError> {
        let unstarted = Unstarted::new();
        let (executor, wishes) = (unstarted.handle(), unstarted.children());
        let (standings, waiting_wishes) = (journal.standings(), journal.waiting_wishes());
        let out = bells.distribute(executor.clone(), inbox.clone(), is_shared);
        let log = log::start(journal, clock::now, out.clone());
        let (log, log_threads) = log.map_err(|error| failed("start the log", &error))?;
        let executor_thread = start_executor(unstarted, config, context, &log)?;
        let out = Box::new(out);
        Ok((Self { log, executor, executor_thread, log_threads, standings, waiting_wishes, out }, wishes))
    }

    /// Hands out what an earlier process has left to do, and then starts the work of a node. The executor gets its runs
    /// before it can be told that they no longer belong to it. If that is already known, it does not get them.
    pub(super) fn go_on(
        &mut self,
        mut left: Outcome,
        joined: Option<Joined>,
    ) -> Result<Option<Membership>, StartError> {
        if joined.as_ref().is_some_and(Joined::is_fenced) {
            left.orders.clear();
        }
        (self.out)(left);
        let hands = OwnHands {
            log: self.log.clone(),
            executor: self.executor.clone(),
            standings: Arc::clone(&self.standings),
            wishes: Arc::clone(&self.waiting_wishes),
        };
        joined.map(|joined| joined.begin(hands)).transpose()
    }

    /// Starts threads that watch the log and the executor.
    pub(super) fn watch(self, inbox: &InboxSender) -> Result<Vec<JoinHandle<()>>, StartError> {
        let mut watching = vec![watch_executor(self.executor_thread, self.log, inbox.clone())?];
        for thread in self.log_threads {
            watching.push(watch_log(thread)?);
        }
        Ok(watching)
    }
}

fn start_executor(
    executor: Unstarted,
    config: &Config,
    context: &Arc<Context>,
    log: &LogHandle,
) -> Result<Executor, StartError> {
    let settings = Settings {
        workers: config.executor.workers,
        active_runs_max: config.limits.active_runs,
        grace: config.executor.grace,
    };
    let (log, same_way) = (log.clone(), log.clone());
    let send = move |records| log.try_send_records(records);
    let answer = move |number| same_way.try_send(vec![log::Command::Abandoned(number)]).is_ok();
    let executor = executor.start(settings, context.clone(), send, answer);
    executor.map_err(|error| failed("start the executor", &error))
}
