//! The question of a waiting step as an AG-UI interrupt. The answer is `true`, `false` or `{"approved": true,
//! "payload"?: ...}` with the payload that the step's schema asks for.

use serde_json::{Value, json};

use super::story::Story;
use crate::model::{Approval, StepStatus};

/// One for each step that waits, in the plan's order.
pub(super) fn all(story: &Story) -> Vec<Value> {
    let waits = |(at, step): (usize, &std::sync::Arc<crate::model::StepState>)| {
        let approval = step.approval.as_deref().filter(|_| step.status == StepStatus::Waiting)?;
        Some(interrupt(at, approval, story))
    };
    story.state.steps.iter().enumerate().filter_map(waits).collect()
}

fn interrupt(at: usize, approval: &Approval, story: &Story) -> Value {
    let step = story.step(at);
    let id = story.attempt_id(at, step.attempt);
    let mut properties = json!({"approved": {"type": "boolean"}});
    if let Some(schema) = &approval.schema {
        properties["payload"] = (**schema).clone();
    }
    // A client may show a question that wants no more than yes or no by two buttons.
    let reason = if approval.schema.is_some() { "input_required" } else { "confirmation" };
    let mut interrupt = json!({"id": id, "reason": reason, "message": approval.message,
        "responseSchema": {"type": "object", "properties": properties, "required": ["approved"]},
        "metadata": {"stepcast": {"runId": story.state.run_id, "stepId": step.id, "title": step.title}}});
    if story.is_asked_by_a_call(at) {
        interrupt["toolCallId"] = json!(id);
    }
    if let Some(at) = approval.expires_at {
        interrupt["expiresAt"] = json!(at);
    }
    interrupt
}
