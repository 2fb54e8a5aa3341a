//! Runs that were started by a step of another run.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{RunId, StepId};

/// How deep runs may be nested below a run that was submitted.
pub const CHILD_DEPTH_MAX: u32 = 5;

/// The tool whose steps start runs of stored plans.
pub const PLAN_TOOL: &str = "plan";

/// The step that has started a run, and waits for its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Parent {
    /// The run of that step, in the same project.
    pub run_id: RunId,
    /// The step.
    pub step_id: StepId,
    /// The number of runs above.
    pub depth: u32,
}

/// The output of a step whose child run has completed, from the payload of the child's last message.
pub fn child_output(child: &RunId, payload: &Value) -> Value {
    let mut output = json!({"runId": child, "outputs": payload["outputs"]});
    if let (Some(truncated), Some(output)) = (payload.get("truncated"), output.as_object_mut()) {
        output.insert("truncated".to_owned(), truncated.clone());
    }
    output
}

/// The error of a step whose child run has not completed.
pub fn child_failure(child: &RunId, error: &str) -> String {
    format!("run {child} of the stored plan has failed: {error}")
}
