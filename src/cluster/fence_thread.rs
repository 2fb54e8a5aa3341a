//! The thread that fences this node in time. It is separate, so that a lease renewal that gets no answer cannot delay
//! it.

use std::sync::Arc;

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::pulse::SharedPulse;
use super::vitals::Vitals;
use super::{Hands, Pace};
use crate::clock;

/// See the top of this file.
pub(crate) struct FenceThread {
    pub(crate) pace: Pace,
    pub(crate) pulse: SharedPulse,
    pub(crate) vitals: Arc<Vitals>,
    pub(crate) hands: Arc<dyn Hands>,
    /// Cut off where it is to end.
    pub(crate) closed: Receiver<()>,
}

impl FenceThread {
    /// Works until it is closed.
    pub(crate) fn run(self) {
        loop {
            let fences_at = self.pulse.lock().fences_at();
            let wait = fences_at.map_or(self.pace.beat_each(), |at| at.saturating_sub(clock::mono()));
            if !matches!(self.closed.recv_timeout(wait), Err(RecvTimeoutError::Timeout)) {
                return;
            }
            let joined_at = self.hands.joined_at();
            let runs_out = self.pulse.lock().runs_out(joined_at, clock::mono());
            if runs_out {
                log::error!(
                    "this node could not renew its lease in time: it stops its runs and joins the cluster again as a new node"
                );
                self.vitals.is_fenced();
                self.hands.fence();
            }
        }
    }
}
