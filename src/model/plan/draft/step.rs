//! Reading one step of a plan.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::{DELAY_MS_MAX, DESCRIPTION_CHARS_MAX, ESTIMATE_MS_MAX, NAME_CHARS_MAX, TIMEOUT_MS_MAX};
use crate::model::StepId;
use crate::model::plan::fields::{Fields, Location};
use crate::model::plan::{Backoff, RetryOn, RetryPolicy, Step, for_each};

/// The longest title of a step, in characters. Each progress message contains it.
const TITLE_CHARS_MAX: usize = 1_024;
/// The longest condition, in characters.
const CONDITION_CHARS_MAX: usize = 16_384;
/// The most retries of a step.
const RETRIES_MAX: u64 = 100;

pub(super) fn read_step(id: StepId, mut fields: Fields<'_, '_>) -> Step {
    let tool = fields.required_text("tool", NAME_CHARS_MAX);
    let title = fields.text("title", TITLE_CHARS_MAX).filter(|title| !title.trim().is_empty());
    Step {
        title: title.map_or_else(|| id.to_shared(), Into::into),
        id,
        description: fields.text("description", DESCRIPTION_CHARS_MAX).map(Into::into).unwrap_or_default(),
        tool: tool.unwrap_or_default().into(),
        inputs: fields.object("inputs").cloned().unwrap_or_default(),
        dependencies: Vec::new(),
        references: Vec::new(),
        conditional: read_condition(&mut fields).map(Into::into),
        timeout: fields.integer("timeout", 1..=TIMEOUT_MS_MAX).map(Duration::from_millis),
        priority: fields.signed("priority").unwrap_or_default(),
        estimated_duration: fields.integer("estimatedDuration", 0..=ESTIMATE_MS_MAX),
        continue_on_failure: fields.flag("continueOnFailure").unwrap_or_default(),
        for_each: for_each::read(&mut fields),
        handler: None,
        level: 0,
        retry_on: read_retry_on(&mut fields),
        retry: read_retry_policy(fields),
    }
}

/// The condition of a step. A blank one counts as none.
fn read_condition<'a>(fields: &mut Fields<'a, '_>) -> Option<&'a str> {
    let text = match fields.value("conditional") {
        // The literals `true` and `false` are equivalent to their texts.
        Some(Value::Bool(true)) => "true",
        Some(Value::Bool(false)) => "false",
        _ => fields.text("conditional", CONDITION_CHARS_MAX)?,
    };
    Some(text.trim()).filter(|text| !text.is_empty())
}

fn read_retry_on(step: &mut Fields<'_, '_>) -> Option<Arc<RetryOn>> {
    // Issues of the policy itself are reported where the rest of it is read.
    let object = step.value("retryPolicy")?.as_object()?;
    let location = Location { inside: Some("retryPolicy"), ..step.location };
    RetryOn::read(&mut Fields::new(object, location, step.issues)).map(Arc::new)
}

fn read_retry_policy(mut step: Fields<'_, '_>) -> RetryPolicy {
    let default = RetryPolicy::default();
    let Some(object) = step.object("retryPolicy") else { return default };
    let location = Location { inside: Some("retryPolicy"), ..step.location };
    let mut fields = Fields::new(object, location, step.issues);
    if fields.value("maxRetries").is_none() {
        fields.report("maxRetries", format_args!("is required and must be an integer from 0 to {RETRIES_MAX}"));
    }
    let words = [("fixed", Backoff::Fixed), ("linear", Backoff::Linear), ("exponential", Backoff::Exponential)];
    let retries = fields.integer("maxRetries", 0..=RETRIES_MAX);
    let backoff = fields.word("backoff", &words).unwrap_or_default();
    RetryPolicy {
        max_retries: retries.and_then(|retries| u32::try_from(retries).ok()).unwrap_or_default(),
        backoff,
        initial_delay: fields.integer("initialDelay", 0..=DELAY_MS_MAX).unwrap_or(default.initial_delay),
        max_delay: fields.integer("maxDelay", 0..=DELAY_MS_MAX).unwrap_or(default.max_delay),
        jitter: fields.flag("jitter").unwrap_or(backoff == Backoff::Exponential),
    }
}
