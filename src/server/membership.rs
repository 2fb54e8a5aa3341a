//! The threads that make this node a member of a cluster that shares a store.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};

use super::error::StartError;
use super::storage::Shared;
use super::threads::spawn;
use crate::clock;
use crate::cluster::{
    Bell, FenceThread, Hands, LeaseHandle, LeaseThread, Pace, PendingHands, Rung, SharedPulse, TailHandle, TailThread,
    Vitals,
};
use crate::config::{ClusterConfig, Wake};
use crate::executor::ExecutorHandle;
use crate::log::{Command, LogHandle, Standing, Standings, StoreCounts, Tail, WaitingWishes, WishId};
use crate::model::ProjectId;

/// A node that has joined the cluster and only stays alive so far, because reading everything that it continues may
/// take longer than the other nodes would wait. If the start fails, it stops reporting that it is alive.
pub(super) struct Joined {
    pub(super) vitals: Arc<Vitals>,
    pub(super) counts: Arc<StoreCounts>,
    pace: Pace,
    hands: Arc<PendingHands>,
    pulse: SharedPulse,
    /// The bell of the lease thread.
    bell: Bell,
    lease: LeaseHandle,
    fence: Sender<()>,
    tail: Box<dyn Tail>,
    threads: Vec<JoinHandle<()>>,
}

/// The membership of this server in a cluster.
pub(super) struct Membership {
    lease: LeaseHandle,
    tail: TailHandle,
    fence: Sender<()>,
    threads: Vec<JoinHandle<()>>,
}

/// The log and the executor.
pub(super) struct OwnHands {
    pub(super) log: LogHandle,
    pub(super) executor: ExecutorHandle,
    pub(super) standings: Arc<Standings>,
    pub(super) wishes: Arc<WaitingWishes>,
}

impl Joined {
    /// Creates the membership of a node that began to join at `at`, on the monotonic clock. `rung` tells what to wake
    /// other nodes for.
    ///
    /// # Errors
    /// If the system can't start threads.
    pub(super) fn start(
        shared: Shared,
        config: &ClusterConfig,
        at: Duration,
        (bell, rung): (Bell, Rung),
    ) -> Result<Self, StartError> {
        let Shared { lease, tail, counts } = shared;
        let pace = pace(config);
        let (hands, pulse) = (Arc::<PendingHands>::default(), SharedPulse::new(pace, at));
        let (vitals, theirs) = (Arc::new(Vitals::new(at)), Arc::clone(&hands) as Arc<dyn Hands>);
        let (fence, closed) = bounded(0);
        let fencing =
            FenceThread { pace, pulse: pulse.clone(), vitals: Arc::clone(&vitals), hands: Arc::clone(&theirs), closed };
        let (beating, lease) = LeaseThread::new(lease, pace, pulse.clone(), rung, Arc::clone(&vitals), theirs);
        let threads = vec![spawn("fence", move || fencing.run())?, spawn("lease", move || beating.run())?];
        Ok(Self { vitals, counts, pace, hands, pulse, bell, lease, fence, tail, threads })
    }

    /// Whether the node is fenced. Then the runs that it has found may belong to other nodes.
    pub(super) fn is_fenced(&self) -> bool {
        self.hands.is_fenced()
    }

    /// Starts to take over what other nodes leave, and to follow what they write, now that the log and the executor are
    /// running.
    ///
    /// # Errors
    /// If the system can't start a thread.
    pub(super) fn begin(self, own: OwnHands) -> Result<Membership, StartError> {
        let Self { pace, hands, pulse, bell, lease, fence, tail, mut threads, vitals, .. } = self;
        hands.begin(Arc::new(own));
        pulse.hurry(clock::mono());
        bell.rouse();
        let (looking, tail) = TailThread::new(tail, pace, (pulse, bell), vitals, hands);
        threads.push(spawn("tail", move || looking.run())?);
        Ok(Membership { lease, tail, fence, threads })
    }
}

/// The interval of a node's regular work.
fn pace(config: &ClusterConfig) -> Pace {
    match config.wake {
        Wake::Notify => Pace::notified(config.node_ttl),
        Wake::Poll => Pace::polling(config.node_ttl, config.poll),
    }
}

impl Membership {
    /// Leaves the cluster. If no run is active here any more, other nodes continue what is left of this node's runs at
    /// once.
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
    /// Tells the executor first: nothing may run here any more, whatever the log waits for.
    fn fence(&self) {
        self.executor.let_go();
        // Fails if the log has ended, and then nothing runs.
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
