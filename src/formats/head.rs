//! What a format needs to know about a run that its messages don't tell.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::model::{OnFailure, ProjectId, RunState, StepId, StepState, shown_document};

/// What is known of a run before its first message, and never changes.
#[derive(Debug, Clone)]
pub struct RunHead {
    /// Its project.
    pub project: ProjectId,
    /// The run before its first message.
    pub(super) start: RunState,
    /// What belongs to each of its steps, by their places.
    pub(super) steps: Vec<StepHead>,
    /// Nothing else begins once a step has failed.
    pub(super) stops_on_failure: bool,
}

/// What a plan says of a step.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct StepHead {
    pub(super) description: Arc<str>,
    /// Its inputs as the plan has them, as JSON: templates not filled in, what sounds like a secret hidden.
    pub(super) inputs: Option<Arc<str>>,
    /// What it comes after, where that is known.
    pub(super) dependencies: Option<Box<[StepId]>>,
}

/// The plan of a document, as it is shown.
#[derive(Deserialize)]
struct Document<'a> {
    #[serde(borrow)]
    plan: PlanShown<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PlanShown<'a> {
    #[serde(borrow)]
    steps: Vec<StepShown<'a>>,
    #[serde(default)]
    on_failure: Option<OnFailure>,
}

#[derive(Deserialize)]
struct StepShown<'a> {
    id: StepId,
    #[serde(default)]
    description: Option<String>,
    #[serde(borrow, default)]
    inputs: Option<&'a RawValue>,
    #[serde(default)]
    dependencies: Option<Box<[StepId]>>,
}

impl RunHead {
    /// Of a run of `project`. `state` is the run at any moment; `document` is its plan as it was kept. Where that can't be
    /// read, inputs and descriptions are missing.
    pub fn new(project: ProjectId, state: &RunState, document: &[u8]) -> Self {
        let start = state.at_its_start();
        let (mut said, on_failure) = plan_shown(document).unwrap_or_default();
        let steps = start.steps.iter().map(|step| said.remove(&step.id).unwrap_or_default()).collect();
        Self { project, start, steps, stops_on_failure: on_failure == OnFailure::Stop }
    }

    /// About how many bytes it holds.
    pub(super) fn memory(&self) -> usize {
        let texts = |step: &StepHead| {
            let dependencies = step.dependencies.as_ref().map_or(0, |them| them.len() * size_of::<StepId>());
            step.description.len() + step.inputs.as_ref().map_or(0, |inputs| inputs.len()) + dependencies
        };
        let texts: usize = self.steps.iter().map(texts).sum();
        self.steps.len() * (size_of::<StepHead>() + size_of::<StepState>()) + texts
    }

    /// Where the whole output of a step is read.
    pub(super) fn output_path(&self, step: usize) -> String {
        format!("{}/steps/{}/output", self.run_path(), self.start.steps[step].id)
    }

    /// Where the run is read.
    pub(super) fn run_path(&self) -> String {
        format!("/api/projects/{}/workflows/{}", self.project, self.start.run_id)
    }
}

fn plan_shown(document: &[u8]) -> Option<(HashMap<StepId, StepHead>, OnFailure)> {
    let shown = shown_document(document)?;
    let document: Document<'_> = serde_json::from_slice(&shown).ok()?;
    let heads = document.plan.steps.into_iter().map(|step| {
        let inputs = step.inputs.map(|inputs| Arc::from(inputs.get()));
        let dependencies = Some(step.dependencies.unwrap_or_default());
        (step.id, StepHead { description: step.description.unwrap_or_default().into(), inputs, dependencies })
    });
    Some((heads.collect(), document.plan.on_failure.unwrap_or_default()))
}
