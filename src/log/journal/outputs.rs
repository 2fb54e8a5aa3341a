//! Limits on the outputs of a run: on all of them in its state, and on each. The store could not keep larger ones, and
//! a run that cannot be stored would block all others.

use std::sync::Arc;

use serde_json::Value;

use super::RunEntry;
use crate::log::views::leave_out;
use crate::model::{RunEvent, RunEventKind, RunState, StepId, StepProgress, StepUpdate, json_bytes};

/// The largest size of all outputs in a run's state, as JSON. The state is kept as one value, of which SQLite takes
/// 1,000,000,000 bytes. The rest of a step takes at most 12 KiB: a title of 1,024 characters and an error of 500, each
/// character at most 6 bytes, and about 2 KiB of ids and numbers. So a plan of 10,000 steps has room to spare: 256 MiB
/// + 10,000 * 12 KiB < 400,000,000.
pub const STATE_OUTPUTS_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// The largest output that is stored whole, as JSON: the largest value of SQLite. It is made as one value, too.
pub(super) const WHOLE_BYTES_MAX: usize = 1_000_000_000;

/// An output that did not fit into the state of its run, and its step.
pub(super) type LeftOut = (StepId, Arc<Value>);

/// A run's state, and what the outputs in it take.
pub(super) struct Fold<'a> {
    pub(super) state: &'a mut RunState,
    pub(super) outputs_bytes: &'a mut u64,
}

impl RunEntry {
    /// Where the next message is folded in. Readers may hold the state, too: they keep what they have.
    pub(super) fn fold(&mut self) -> Fold<'_> {
        Fold { state: Arc::make_mut(&mut self.state), outputs_bytes: &mut self.outputs_bytes }
    }
}

impl Fold<'_> {
    /// Leaves all outputs out of the state.
    pub(super) fn leave_all_out(&mut self) {
        for step in &mut self.state.steps {
            if let Some(output) = &step.output {
                let bytes = json_bytes(output);
                leave_out(Arc::make_mut(step), bytes);
            }
        }
        *self.outputs_bytes = 0;
    }

    /// The run moves on by one message. An output that does not fit into the state, whose outputs may take `bytes_max`
    /// together, is left out of it and marked. It is given back where the message has all of it: no other does.
    pub(super) fn apply(&mut self, event: &RunEvent, bytes_max: u64) -> Option<LeftOut> {
        self.state.apply(event);
        let RunEventKind::Progress(StepProgress { step_id, update, .. }) = &event.kind else { return None };
        let StepUpdate::Completed { output, truncated, .. } = update else { return None };
        let bytes = json_bytes(output);
        if bytes <= bytes_max.saturating_sub(*self.outputs_bytes) {
            *self.outputs_bytes += bytes;
            return None;
        }
        let step = self.state.steps.iter_mut().find(|step| step.id == *step_id)?;
        leave_out(Arc::make_mut(step), bytes);
        (!truncated).then(|| (step_id.clone(), output.clone()))
    }
}
