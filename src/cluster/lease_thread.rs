//! The thread that renews the lease of this node, takes over runs of failed nodes, and notifies other nodes. It waits
//! for the database, and nothing waits for it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, select};

use super::pulse::SharedPulse;
use super::trouble::{Trouble, level};
use super::vitals::Vitals;
use super::wakes::Rung;
use super::{Hands, Pace};
use crate::clock;
use crate::log::{Beat, Command, Lease, StoreError};
use crate::model::ProjectId;

/// How soon to offer the log again what it had no room for.
const NO_ROOM_WAIT: Duration = Duration::from_millis(50);

/// See the top of this file.
pub(crate) struct LeaseThread {
    lease: Box<dyn Lease>,
    pace: Pace,
    pulse: SharedPulse,
    rung: Rung,
    vitals: Arc<Vitals>,
    hands: Arc<dyn Hands>,
    closed: Receiver<Farewell>,
    wake_trouble: Trouble,
    /// Projects of runs that were taken over, for which the log has had no room yet.
    taken_over: BTreeSet<ProjectId>,
}

/// Handle of a [`LeaseThread`].
pub(crate) struct LeaseHandle(Sender<Farewell>);

/// How a node leaves.
enum Farewell {
    /// Nothing runs here any more: other nodes may continue its runs at once.
    Leaves,
    /// Something may still run: other nodes wait until its lease expires.
    Ends,
}

impl LeaseHandle {
    /// Makes the node leave. Other nodes take its runs at once if nothing of them runs here any more.
    pub(crate) fn close(&self, is_drained: bool) {
        // Fails if it was told before, or the thread has ended.
        let _ = self.0.try_send(if is_drained { Farewell::Leaves } else { Farewell::Ends });
    }
}

impl LeaseThread {
    /// Creates a thread for this lease, and its handle.
    pub(crate) fn new(
        lease: Box<dyn Lease>,
        pace: Pace,
        pulse: SharedPulse,
        rung: Rung,
        vitals: Arc<Vitals>,
        hands: Arc<dyn Hands>,
    ) -> (Self, LeaseHandle) {
        let (close, closed) = bounded(1);
        let wake_trouble = Trouble::with("notify other nodes of new messages");
        (
            Self { lease, pace, pulse, rung, vitals, hands, closed, wake_trouble, taken_over: BTreeSet::new() },
            LeaseHandle(close),
        )
    }

    /// Runs until it is closed.
    pub(crate) fn run(mut self) {
        loop {
            self.turn();
            select! {
                recv(self.closed) -> farewell => return self.end(farewell.unwrap_or(Farewell::Ends)),
                recv(self.rung.rung) -> _ => {}
                default(self.wait(clock::mono())) => {}
            }
        }
    }

    /// Does what is due.
    pub(super) fn turn(&mut self) {
        let beat_at = self.pulse.lock().beat_at();
        if clock::mono() >= beat_at {
            self.beat();
        }
        self.hand_over();
        self.wake();
    }

    fn wait(&self, now: Duration) -> Duration {
        let beat_at = self.pulse.lock().beat_at();
        let wake_at = self.rung.lock().due_at();
        let wait = wake_at.map_or(beat_at, |at| at.min(beat_at)).saturating_sub(now);
        if self.taken_over.is_empty() { wait } else { wait.min(NO_ROOM_WAIT) }
    }

    fn beat(&mut self) {
        let began = clock::mono();
        // Runs that this node can't continue yet are left for other nodes.
        let beat = if self.hands.is_ready() { self.lease.beat() } else { self.lease.renew() };
        let joined_at = self.hands.joined_at();
        let heard = self.pulse.lock().hear(joined_at, began, &beat, clock::mono());
        if let Some(line) = heard.line {
            log::log!(level(beat.is_ok()), "{line}");
        }
        if heard.fences {
            log::error!("this node lost its lease: it stops its runs and joins the cluster again as a new node");
            self.vitals.is_fenced();
            self.hands.fence();
        }
        if let Ok(beat) = beat {
            self.take_over(beat, began);
        }
    }

    fn take_over(&mut self, beat: Beat, began: Duration) {
        let Beat { taken_over, nodes, dead } = beat;
        self.vitals.has_beaten(began, nodes, dead);
        if dead > 0 {
            log::warn!("{dead} nodes have failed; this node continues their runs in {} projects", taken_over.len());
        }
        self.taken_over.extend(taken_over);
    }

    /// Passes runs that were taken over to the log. While the log has no room, this node keeps renewing its lease.
    fn hand_over(&mut self) {
        if self.taken_over.is_empty() {
            return;
        }
        let adopt = vec![Command::Adopt(self.taken_over.iter().cloned().collect())];
        if self.hands.try_send(adopt).is_ok() {
            self.taken_over.clear();
        }
    }

    /// Sends the notifications that are due. If that fails, other nodes find out by themselves.
    fn wake(&mut self) {
        let Some((projects, has_wishes)) = self.rung.lock().take(clock::mono()) else { return };
        if !self.pace.wakes {
            return;
        }
        let told = self.lease.wake(&projects, has_wishes);
        let line = match &told {
            Ok(()) => self.wake_trouble.is_over(),
            Err(StoreError(reason)) => self.wake_trouble.has_failed(reason).1,
        };
        line.into_iter().for_each(|line| log::log!(level(told.is_ok()), "{line}"));
    }

    fn end(mut self, farewell: Farewell) {
        self.wake();
        if let Farewell::Leaves = farewell
            && let Err(error) = self.lease.leave()
        {
            log::warn!(
                "cannot tell other nodes that this node is leaving; its runs wait until its lease expires: {error}"
            );
        }
    }
}
