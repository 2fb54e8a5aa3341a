//! The threads that keep this node among others that share its store.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};

use super::error::StartError;
use super::storage::Shared;
use super::threads::spawn;
use crate::cluster::{
    Bell, FenceThread, Hands, LeaseHandle, LeaseThread, Pace, Rung, SharedPulse, TailHandle, TailThread, Vitals,
};
use crate::config::{ClusterConfig, Wake};
use crate::executor::ExecutorHandle;
use crate::log::{Command, LogHandle, Standing, Standings, WaitingWishes, WishId};
use crate::model::ProjectId;

/// What makes this server a node.
pub(super) struct Membership {
    lease: LeaseHandle,
    tail: TailHandle,
    fence: Sender<()>,
    threads: Vec<JoinHandle<()>>,
}

/// What a node goes by that has joined others.
pub(super) struct Joined {
    pub(super) shared: Shared,
    pub(super) pace: Pace,
    /// When it began to join, on the monotonic clock.
    pub(super) at: Duration,
    /// What others are to be told.
    pub(super) wakes: (Bell, Rung),
    pub(super) vitals: Arc<Vitals>,
}

/// The log and the executor, as the threads here have them.
pub(super) struct OwnHands {
    pub(super) log: LogHandle,
    pub(super) executor: ExecutorHandle,
    pub(super) standings: Arc<Standings>,
    pub(super) wishes: Arc<WaitingWishes>,
}

/// How often a node does what it does by itself.
pub(super) fn pace(config: &ClusterConfig) -> Pace {
    match config.wake {
        Wake::Notify => Pace::notified(config.node_ttl),
        Wake::Poll => Pace::polling(config.node_ttl, config.poll),
    }
}

impl Membership {
    /// Starts the threads.
    ///
    /// # Errors
    /// Where the system grants none.
    pub(super) fn start(joined: Joined, hands: OwnHands) -> Result<Self, StartError> {
        let Joined { shared: Shared { lease, tail, .. }, pace, at, wakes: (bell, rung), vitals } = joined;
        let (hands, pulse) = (Arc::new(hands) as Arc<dyn Hands>, SharedPulse::new(pace, at));
        let (fence, closed) = bounded(0);
        let fencing =
            FenceThread { pace, pulse: pulse.clone(), vitals: Arc::clone(&vitals), hands: Arc::clone(&hands), closed };
        let (beating, lease) =
            LeaseThread::new(lease, pace, pulse.clone(), rung, Arc::clone(&vitals), Arc::clone(&hands));
        let (looking, tail) = TailThread::new(tail, pace, (pulse, bell), vitals, hands);
        let threads = vec![
            spawn("fence", move || fencing.run())?,
            spawn("lease", move || beating.run())?,
            spawn("tail", move || looking.run())?,
        ];
        Ok(Self { lease, tail, fence, threads })
    }

    /// Leaves the others. Where nothing runs here any more they go on with what is left of this node's runs at once.
    pub(super) fn end(self, is_drained: bool) {
        self.tail.close();
        self.lease.close(is_drained);
        drop(self.fence);
        if is_drained {
            self.threads.into_iter().for_each(|thread| drop(thread.join()));
        }
    }
}

impl Hands for OwnHands {
    /// The executor is told first: nothing is to run here any more, whatever the log waits for.
    fn fence(&self) {
        self.executor.let_go();
        // Fails where the log has ended, and then nothing runs.
        let _ = self.log.send(vec![Command::Fence]);
    }

    fn try_send(&self, commands: Vec<Command>) -> Result<(), Vec<Command>> {
        self.log.try_send(commands)
    }

    fn is_log_idle(&self) -> bool {
        self.log.waiting() == 0
    }

    fn standings(&self, of: Option<&[ProjectId]>) -> Vec<Standing> {
        match of {
            Some(projects) => self.standings.of(projects),
            None => self.standings.all(),
        }
    }

    fn put_off(&self) -> Vec<ProjectId> {
        self.standings.put_off()
    }

    fn joined_at(&self) -> Duration {
        self.standings.joined_at()
    }

    fn wishes(&self) -> Vec<WishId> {
        self.wishes.all()
    }
}
