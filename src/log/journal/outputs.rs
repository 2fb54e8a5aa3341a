//! What the outputs of a run may take: in its state, and each of them by itself. What is larger the store could not keep,
//! and a run that it can't keep would be in the way of all others.

use std::io::{self, Write};
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use super::RunEntry;
use crate::log::views::leave_out;
use crate::model::{RunEvent, RunEventKind, RunState, StepId, StepProgress, StepUpdate};

/// What the outputs in a run's state may take together, as JSON. The state is kept as one value, of which SQLite takes
/// 1,000,000,000 bytes. The rest of a step takes at most 12 KiB: a title of 1,024 characters and an error of 500, each
/// character at most 6 bytes, and about 2 KiB of ids and numbers. So a plan of 10,000 steps has room to spare:
/// 256 MiB + 10,000 * 12 KiB < 400,000,000.
pub const STATE_OUTPUTS_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// What one output may take as JSON that is kept whole: what SQLite takes of one value. It is made as one, too.
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

/// Bytes that a value takes as JSON.
pub(in crate::log) fn json_bytes(value: &Value) -> u64 {
    let mut counted = Counted(0);
    // Neither the writer nor a value can fail.
    let _ = serde_json::to_writer(&mut counted, value);
    counted.0
}

/// A value as JSON; nothing where that takes more than so many bytes.
pub(super) fn json_within(value: &impl Serialize, bytes_max: usize) -> Option<Vec<u8>> {
    let mut bounded = Bounded { bytes: Vec::new(), bytes_max };
    serde_json::to_writer(&mut bounded, value).ok().map(|()| bounded.bytes)
}

struct Counted(u64);

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Bounded {
    bytes: Vec<u8>,
    bytes_max: usize,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > self.bytes_max - self.bytes.len() {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_value_is_made_as_json_where_it_fits() {
        for value in [json!("\u{1}"), json!({"a": [1, null]}), json!("é".repeat(1000))] {
            let json = value.to_string();
            assert_eq!(json_bytes(&value), json.len() as u64);
            assert_eq!(json_within(&value, json.len()), Some(json.clone().into_bytes()));
            assert_eq!(json_within(&value, json.len() - 1), None);
        }
    }
}
