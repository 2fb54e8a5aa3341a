//! Signals of the log, and the threads that they wake.

use crossbeam_channel::{Receiver, Sender, bounded};

use super::super::distribution::distribute;
use super::super::inbox::InboxSender;
use crate::cluster;
use crate::executor::ExecutorHandle;
use crate::log::Outcome;
use crate::webhooks;

/// The bells that the log rings. Ringing never waits.
pub(super) struct Bells {
    webhooks: webhooks::Bell,
    schedules: Sender<()>,
    /// Other nodes' threads, by one of this node's.
    pub(super) others: cluster::Bell,
}

/// The receiving ends.
pub(super) struct Rung {
    pub(super) webhooks: webhooks::Rung,
    pub(super) schedules: Receiver<()>,
    pub(super) others: cluster::Rung,
}

/// All bells, with both ends.
pub(super) fn bells() -> (Bells, Rung) {
    let (webhooks, webhooks_rung) = webhooks::Bell::new();
    let (schedules, schedules_rung) = bounded(1);
    let (others, others_rung) = cluster::Bell::new();
    let rung = Rung { webhooks: webhooks_rung, schedules: schedules_rung, others: others_rung };
    (Bells { webhooks, schedules, others }, rung)
}

impl Bells {
    /// Passes on the outputs of the log. Other nodes are told about changes only if the store is shared.
    pub(super) fn distribute(
        self,
        executor: ExecutorHandle,
        inbox: InboxSender,
        is_shared: bool,
    ) -> impl FnMut(Outcome) + Send + Clone + 'static {
        let Self { webhooks, schedules, others } = self;
        let ring_schedules = move || {
            // If it is full, it has already rung.
            let _ = schedules.try_send(());
        };
        let wake_others = move |moved, has_wishes| {
            if is_shared {
                others.ring(moved, has_wishes);
            }
        };
        distribute(executor, inbox, move || webhooks.ring(), ring_schedules, wake_others)
    }
}
