//! The run as AG-UI's shared state: `{"run": ...}`, as `GET .../workflows/:runId` shows it, but small. Clients post it back
//! whole with their next call.
//!
//! Each change is told as the difference between what the document was and what it is, so a client that applies the
//! differences has what the document is.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::budget::{Budget, beginning};
use super::part::as_text;
use super::patch::changes;
use super::story::Story;
use super::{OUTPUT_BYTES_MAX, STATE_OUTPUTS_BYTES_MAX};
use crate::model::{OpenLevel, Progress, ProjectId, RunId, RunState, RunStatus, StepState, Timestamp, Usage};

/// The longest text in it, in bytes.
const TEXT_BYTES_MAX: usize = 500;

/// The run as it was told last.
#[derive(Debug)]
pub(super) struct StateDocument {
    run: Map<String, Value>,
    steps: Vec<Map<String, Value>>,
    outputs: Budget,
}

/// The fields of a run besides its levels and steps.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RunShown<'a> {
    project_id: &'a ProjectId,
    run_id: &'a RunId,
    plan_name: &'a str,
    status: RunStatus,
    revision: u32,
    progress: Progress,
    #[serde(skip_serializing_if = "Option::is_none")]
    current_level: Option<usize>,
    level_open: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    open_levels: Option<&'a [OpenLevel]>,
    created_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    level_started_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    finished_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<&'a Usage>,
}

impl StateDocument {
    /// Of the run as the story has it.
    pub(super) fn new(story: &Story) -> Self {
        let mut outputs = Budget::of(STATE_OUTPUTS_BYTES_MAX);
        let steps = match story.tells_steps() {
            true => story.state.steps.iter().map(|step| step_shown(step, &mut outputs)).collect(),
            false => Vec::new(),
        };
        Self { run: run_shown(story), steps, outputs }
    }

    /// It is as the story has it now; of its steps only this one has moved. What that changes.
    pub(super) fn update(&mut self, story: &Story, step: Option<usize>) -> Vec<Value> {
        let run = run_shown(story);
        let mut operations = changes("/run", &self.run, &run);
        self.run = run;
        if let Some((at, known)) = step.and_then(|at| Some((at, self.steps.get_mut(at)?))) {
            let shown = step_shown(story.step(at), &mut self.outputs);
            operations.extend(changes(&format!("/run/steps/{at}"), known, &shown));
            *known = shown;
        }
        operations
    }

    /// The whole of it.
    pub(super) fn whole(&self, state: &RunState) -> Value {
        let mut run = self.run.clone();
        if self.steps.len() == state.steps.len() {
            run.insert("levels".to_owned(), json!(state.levels));
            run.insert("steps".to_owned(), json!(self.steps));
        } else {
            run.insert("stepsLeftOut".to_owned(), json!(state.steps.len()));
        }
        json!({ "run": run })
    }

    pub(super) fn memory(&self) -> usize {
        self.steps.len() * 512 + self.outputs.taken()
    }
}

fn run_shown(story: &Story) -> Map<String, Value> {
    let RunState { run_id, plan_name, status, revision, progress, level_open, .. } = &story.state;
    let RunState { current_level, created_at, started_at, level_started_at, finished_at, error, usage, .. } =
        &story.state;
    object(&RunShown {
        project_id: &story.head.project,
        run_id,
        plan_name,
        status: *status,
        revision: *revision,
        progress: *progress,
        current_level: *current_level,
        level_open: *level_open,
        open_levels: story.open_levels(),
        created_at: *created_at,
        started_at: *started_at,
        level_started_at: *level_started_at,
        finished_at: *finished_at,
        error: error.as_deref().map(|error| beginning(error, TEXT_BYTES_MAX)),
        usage: usage.as_deref(),
    })
}

/// A step as it is shown. Its output is, where it is small and there is room.
fn step_shown(step: &StepState, outputs: &mut Budget) -> Map<String, Value> {
    let mut shown = without_output(step);
    let Some(output) = &step.output else { return object(&shown) };
    let bytes = as_text(output).len();
    if bytes <= OUTPUT_BYTES_MAX && outputs.take(bytes) {
        shown.output = Some(output.clone());
        (shown.truncated, shown.output_bytes) = (step.truncated, step.output_bytes);
    } else {
        shown.truncated = true;
        shown.output_bytes = step.output_bytes.or(Some(bytes as u64));
    }
    object(&shown)
}

/// A step as it is shown, without its output.
pub(super) fn without_output(step: &StepState) -> StepState {
    let cut = |text: &Option<String>| text.as_deref().map(|text| beginning(text, TEXT_BYTES_MAX).to_owned());
    StepState {
        output: None,
        truncated: false,
        output_bytes: None,
        error: cut(&step.error),
        reason: cut(&step.reason),
        ..step.clone()
    }
}

pub(super) fn object(shown: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(shown) {
        Ok(Value::Object(object)) => object,
        _ => Map::new(),
    }
}
