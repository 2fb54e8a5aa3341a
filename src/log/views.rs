//! A run as it is shown to a client that asks for it, and to a stream that starts with it.

use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::store::{RunNumber, StoreError, StoredMessage};
use crate::auth::IdSigner;
use crate::model::{ProjectId, RunEvent, RunState, StepState, Timestamp, json_bytes, write_message};

/// The outputs of a snapshot together take at most this; larger ones are left out of it and marked.
const SNAPSHOT_OUTPUTS_BYTES_MAX: u64 = 1024 * 1024;

/// What a message takes beside its payload, about.
const MESSAGE_ROOM: usize = 256;

/// A run as it was at one of its messages.
#[derive(Debug, Clone)]
pub(super) struct RunView {
    pub(super) number: RunNumber,
    /// Held by others too: it is copied where its outputs are changed, and only then.
    pub(super) state: Arc<RunState>,
    /// That message.
    pub(super) last_seq: u64,
}

/// A run's `workflow_snapshot`, for all who begin to watch while it stays as it is: made once, by the first who needs it.
#[derive(Debug)]
pub(super) struct Snapshot {
    at: Timestamp,
    form: Mutex<Form>,
}

/// How far a snapshot is made. Whoever finds it unmade makes it, and others who need it meanwhile wait for that.
#[derive(Debug)]
enum Form {
    Unmade(RunView),
    /// Nothing is held of the run any more. The message is for those who begin at this position, as most do.
    Made {
        payload: Arc<[u8]>,
        position: u64,
        message: Arc<[u8]>,
    },
}

impl Snapshot {
    /// Of a run that is as `view` has it, cut at a time.
    pub(super) fn new(view: RunView, at: Timestamp) -> Self {
        Self { at, form: Mutex::new(Form::Unmade(view)) }
    }

    /// The message for those who begin at `position` of its project.
    pub(super) fn message(
        &self,
        project: &ProjectId,
        position: u64,
        signer: &IdSigner,
    ) -> Result<Arc<[u8]>, StoreError> {
        let mut form = self.form.lock().unwrap_or_else(PoisonError::into_inner);
        let payload = match &*form {
            Form::Made { position: made, message, .. } if *made == position => return Ok(message.clone()),
            Form::Made { payload, .. } => payload.clone(),
            Form::Unmade(RunView { number, state, last_seq }) => {
                let mut view = RunView { number: *number, state: state.clone(), last_seq: *last_seq };
                view.bound_outputs();
                view.json(project, Some(self.at), signer)?.into()
            }
        };
        let mut message = Vec::with_capacity(payload.len() + MESSAGE_ROOM);
        write_message(&mut message, "workflow_snapshot", project, position, &payload);
        let message: Arc<[u8]> = message.into();
        *form = Form::Made { payload, position, message: message.clone() };
        Ok(message)
    }
}

/// Leaves the output of a step out of its state, where it takes so many bytes.
pub(super) fn leave_out(step: &mut StepState, bytes: u64) {
    step.output = Some(Arc::new(Value::String(String::new())));
    step.truncated = true;
    step.output_bytes.get_or_insert(bytes);
}

/// A run as `GET .../workflows/:runId` shows it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'a> {
    project_id: &'a ProjectId,
    #[serde(flatten)]
    state: &'a RunState,
    last_event_id: String,
    /// When a snapshot was cut; `GET` needs none.
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<Timestamp>,
}

impl RunView {
    /// Leaves the outputs out that don't fit into a snapshot together.
    pub(super) fn bound_outputs(&mut self) {
        let mut left = SNAPSHOT_OUTPUTS_BYTES_MAX;
        let outputs = self.state.steps.iter().enumerate();
        let outputs =
            outputs.filter_map(|(index, step)| step.output.as_ref().map(|output| (index, json_bytes(output))));
        let mut too_large = Vec::new();
        for (index, size) in outputs {
            match left.checked_sub(size) {
                Some(rest) => left = rest,
                None => too_large.push((index, size)),
            }
        }
        for (index, size) in too_large {
            leave_out(Arc::make_mut(&mut Arc::make_mut(&mut self.state).steps[index]), size);
        }
    }

    /// The run as JSON; as it was cut at a time, where there is one.
    pub(super) fn json(
        &self,
        project: &ProjectId,
        timestamp: Option<Timestamp>,
        signer: &IdSigner,
    ) -> Result<Vec<u8>, StoreError> {
        let last_event_id = signer.text(project, self.last_seq);
        let shown = Shown { project_id: project, state: &self.state, last_event_id, timestamp };
        serde_json::to_vec(&shown).map_err(|error| StoreError(error.to_string()))
    }
}

/// A run's message, read back.
pub(super) fn read_event(message: &StoredMessage) -> Result<RunEvent, serde_json::Error> {
    #[derive(Deserialize)]
    struct Message<'a> {
        #[serde(rename = "type", borrow)]
        message_type: std::borrow::Cow<'a, str>,
        #[serde(borrow)]
        payload: &'a RawValue,
    }
    let message: Message<'_> = serde_json::from_slice(&message.json)?;
    RunEvent::from_payload(&message.message_type, message.payload.get().as_bytes())
}
