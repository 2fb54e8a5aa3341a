//! The built-in tools: `echo`, `delay`, `fail`, `plan`, and [`approval`](super::approval).

use std::time::Duration;

use serde_json::{Map, Value};

use super::approval::AskForApproval;
use super::{Call, Outcome, Registry, Tool, ToolError};
use crate::model::{PLAN_TOOL, PlanName};

/// The longest delay, in milliseconds: 7 days.
pub const DELAY_MS_MAX: u64 = 7 * 24 * 60 * 60 * 1000;

pub(super) fn register(registry: &mut Registry) {
    registry.insert("echo", Echo);
    registry.insert("delay", Delay);
    registry.insert("fail", Fail);
    registry.insert(PLAN_TOOL, StoredPlan);
    registry.insert("approval", AskForApproval);
}

/// `echo`: its inputs are its output.
#[derive(Debug, Clone, Copy)]
pub struct Echo;

impl Tool for Echo {
    fn call(&self, call: &Call<'_>) -> Result<Outcome, ToolError> {
        Ok(Outcome::Output(Value::Object(call.inputs.clone())))
    }

    fn is_instant(&self) -> bool {
        true
    }
}

/// `delay`: is done after `ms` milliseconds, at most [`DELAY_MS_MAX`]; its inputs are its output. No worker waits.
#[derive(Debug, Clone, Copy)]
pub struct Delay;

impl Tool for Delay {
    fn call(&self, call: &Call<'_>) -> Result<Outcome, ToolError> {
        let ms = delay_ms(call.inputs.get("ms")).ok_or_else(|| format!("ms {}", delay_rule()))?;
        Ok(Outcome::After(Duration::from_millis(ms), Value::Object(call.inputs.clone())))
    }

    fn check_inputs(&self, inputs: &Map<String, Value>, is_template: &dyn Fn(&str) -> bool) -> Vec<(String, String)> {
        let ms = inputs.get("ms");
        let passes = delay_ms(ms).is_some() || ms.and_then(Value::as_str).is_some_and(is_template);
        if passes { Vec::new() } else { vec![("ms".to_owned(), delay_rule())] }
    }

    fn only_waits(&self) -> bool {
        true
    }

    fn is_instant(&self) -> bool {
        true
    }
}

fn delay_ms(value: Option<&Value>) -> Option<u64> {
    let value = value?;
    let whole = |float: f64| (float >= 0.0 && float.fract() == 0.0).then_some(float as u64);
    value.as_u64().or_else(|| value.as_f64().and_then(whole)).filter(|&ms| ms <= DELAY_MS_MAX)
}

fn delay_rule() -> String {
    format!("must be an integer from 0 to {DELAY_MS_MAX} (milliseconds)")
}

/// `plan`: runs the stored plan `name` of its project as a run of its own, with `inputs` laid over the stored ones; its output
/// is `{runId, outputs}`. No worker waits.
#[derive(Debug, Clone, Copy)]
pub struct StoredPlan;

impl Tool for StoredPlan {
    fn call(&self, call: &Call<'_>) -> Result<Outcome, ToolError> {
        let name = call.inputs.get("name").and_then(Value::as_str).ok_or("name must be the name of a stored plan")?;
        let inputs = call.inputs.get("inputs").and_then(Value::as_object).cloned().unwrap_or_default();
        Ok(Outcome::Plan { name: name.to_owned(), inputs })
    }

    fn check_inputs(&self, inputs: &Map<String, Value>, is_template: &dyn Fn(&str) -> bool) -> Vec<(String, String)> {
        let templated = |value: &Value| value.as_str().is_some_and(is_template);
        let is_name = |name: &Value| templated(name) || name.as_str().is_some_and(|name| PlanName::parse(name).is_ok());
        let mut issues = Vec::new();
        if !inputs.get("name").is_some_and(is_name) {
            issues.push(("name".to_owned(), "must be the name of a stored plan".to_owned()));
        }
        if !inputs.get("inputs").is_none_or(|inputs| inputs.is_object() || inputs.is_null() || templated(inputs)) {
            issues.push(("inputs".to_owned(), "must be an object".to_owned()));
        }
        issues
    }

    fn only_waits(&self) -> bool {
        true
    }

    fn runs_plans(&self) -> bool {
        true
    }

    fn fits_for_each(&self) -> bool {
        false
    }

    fn is_instant(&self) -> bool {
        true
    }
}

/// `fail`: fails with `message`.
#[derive(Debug, Clone, Copy)]
pub struct Fail;

impl Tool for Fail {
    fn call(&self, call: &Call<'_>) -> Result<Outcome, ToolError> {
        Err(match call.inputs.get("message") {
            Some(Value::String(message)) => message.as_str().into(),
            Some(other) => other.to_string().into(),
            None => "failed on request".into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fixture::{Recorder, call};
    use super::*;

    #[test]
    fn echo_answers_its_inputs() {
        let inputs = json!({"b": 1, "a": [null]});
        assert_eq!(call(&Echo, inputs.clone(), &Recorder::default()), Ok(Outcome::Output(inputs)));
    }

    #[test]
    fn fail_fails_with_its_message() {
        let fail = |inputs| call(&Fail, inputs, &Recorder::default()).map_err(|error| error.to_string());
        assert_eq!(fail(json!({"message": "no luck"})), Err("no luck".to_owned()));
        assert_eq!(fail(json!({"message": 3})), Err("3".to_owned()));
        assert!(fail(json!({})).is_err());
    }

    #[test]
    fn delay_takes_milliseconds_up_to_a_week() {
        let is_template = |text: &str| text.contains("{{");
        for (ms, ok) in [
            (json!(0), true),
            (json!(250), true),
            (json!(250.0), true),
            (json!(DELAY_MS_MAX), true),
            (json!(DELAY_MS_MAX + 1), false),
            (json!(-1), false),
            (json!(0.5), false),
            (json!("250"), false),
            (json!(null), false),
        ] {
            let inputs = json!({"ms": ms});
            let issues = Delay.check_inputs(inputs.as_object().expect("an object"), &is_template);
            assert_eq!(issues.is_empty(), ok, "{inputs}");
            assert_eq!(call(&Delay, inputs.clone(), &Recorder::default()).is_ok(), ok, "{inputs}");
        }
        let template = json!({"ms": "{{ inputs.ms }}"});
        assert!(Delay.check_inputs(template.as_object().expect("an object"), &is_template).is_empty());
        assert_eq!(Delay.check_inputs(&Map::new(), &is_template)[0].0, "ms");
        let outcome = call(&Delay, json!({"ms": 5}), &Recorder::default());
        assert_eq!(outcome, Ok(Outcome::After(Duration::from_millis(5), json!({"ms": 5}))));
    }
}
