//! The tool `approval`: the step waits until someone decides with `POST .../steps/:stepId/decision`.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::schema::Schema;
use super::{Call, Outcome, Tool, ToolError};
use crate::model::{Approval, Issue, OnExpire, OnReject, SteeringError};

/// The longest that may be waited for a decision, in milliseconds: 366 days.
pub const EXPIRES_MS_MAX: u64 = 366 * 24 * 60 * 60 * 1000;

/// The longest message, in bytes: it stands in every snapshot while the step waits.
pub const MESSAGE_BYTES_MAX: usize = 16 * 1024;

/// The largest schema, in bytes of its JSON.
pub const SCHEMA_BYTES_MAX: usize = 64 * 1024;

/// As many may be named as deciders.
pub const DECIDERS_MAX: usize = 100;

/// What it knows.
const INPUTS: [&str; 6] = ["message", "schema", "expires", "onExpire", "onReject", "deciders"];

/// Units of time that `expires` may be written in, and their milliseconds.
const UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// See the top of this file. No worker waits.
#[derive(Debug, Clone, Copy)]
pub struct AskForApproval;

impl Tool for AskForApproval {
    fn call(&self, call: &Call<'_>) -> Result<Outcome, ToolError> {
        let inputs = call.inputs;
        let text = |name: &str| inputs.get(name).and_then(Value::as_str);
        let deciders = inputs.get("deciders").and_then(Value::as_array).into_iter().flatten();
        let approval = Approval {
            message: text("message").ok_or("there is no message")?.to_owned(),
            schema: inputs.get("schema").filter(|schema| !schema.is_null()).cloned().map(Arc::new),
            expires_at: None,
            on_expire: text("onExpire").and_then(OnExpire::parse).unwrap_or_default(),
            on_reject: text("onReject").and_then(OnReject::parse).unwrap_or_default(),
            deciders: deciders.filter_map(|sub| sub.as_str().map(str::to_owned)).collect(),
        };
        let expires = inputs.get("expires").and_then(expires_ms).map(Duration::from_millis);
        Ok(Outcome::Wait(Box::new(approval), expires))
    }

    fn check_inputs(&self, inputs: &Map<String, Value>, is_template: &dyn Fn(&str) -> bool) -> Vec<(String, String)> {
        let mut issues = Vec::new();
        let mut report = |path: &str, message: String| issues.push((path.to_owned(), message));
        if !inputs.contains_key("message") {
            report("message", message_rule());
        }
        for (name, value) in inputs {
            let wrong = match name.as_str() {
                _ if value.as_str().is_some_and(is_template) => None,
                "message" => (!is_message(value)).then(message_rule),
                "schema" => schema_fault(value, is_template),
                "expires" => expires_ms(value).is_none().then(expires_rule),
                "onExpire" => word_fault(value, |word| OnExpire::parse(word).is_some(), "fail, reject or approve"),
                "onReject" => word_fault(value, |word| OnReject::parse(word).is_some(), "fail or continue"),
                "deciders" => (!are_deciders(value)).then(deciders_rule),
                _ => Some(format!("unknown input; expected one of {}", INPUTS.join(", "))),
            };
            if let Some(wrong) = wrong {
                report(name, wrong);
            }
        }
        issues
    }

    fn only_waits(&self) -> bool {
        true
    }

    fn is_instant(&self) -> bool {
        true
    }

    fn fits_for_each(&self) -> bool {
        false
    }
}

fn is_message(value: &Value) -> bool {
    value.as_str().is_some_and(|text| !text.trim().is_empty() && text.len() <= MESSAGE_BYTES_MAX)
}

fn message_rule() -> String {
    format!("must be a string of 1 to {MESSAGE_BYTES_MAX} bytes: the question to ask")
}

fn word_fault(value: &Value, is_known: impl Fn(&str) -> bool, expected: &str) -> Option<String> {
    let is_good = value.as_str().is_some_and(is_known);
    (!is_good).then(|| format!("must be {expected}"))
}

fn are_deciders(value: &Value) -> bool {
    value.as_array().is_some_and(|subs| {
        (1..=DECIDERS_MAX).contains(&subs.len())
            && subs.iter().all(|sub| sub.as_str().is_some_and(|sub| !sub.is_empty()))
    })
}

fn deciders_rule() -> String {
    format!("must be an array of 1 to {DECIDERS_MAX} token subjects")
}

/// Milliseconds, from a number of them or a text like `10m`.
fn expires_ms(value: &Value) -> Option<u64> {
    let of_text = |text: &str| {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit)?;
        number.parse::<u64>().ok()?.checked_mul(*factor)
    };
    let whole = |float: f64| (float >= 0.0 && float.fract() == 0.0).then_some(float as u64);
    let ms = match value {
        Value::String(text) => of_text(text),
        value => value.as_u64().or_else(|| value.as_f64().and_then(whole)),
    };
    ms.filter(|ms| (1..=EXPIRES_MS_MAX).contains(ms))
}

fn expires_rule() -> String {
    format!("must be an integer from 1 to {EXPIRES_MS_MAX} (milliseconds), or a string such as 90s, 10m, 2h or 7d")
}

/// What is wrong with a schema. One that holds templates is looked at once they are filled in.
fn schema_fault(schema: &Value, is_template: &dyn Fn(&str) -> bool) -> Option<String> {
    if schema.is_null() || has_template(schema, is_template) {
        return None;
    }
    if schema.to_string().len() > SCHEMA_BYTES_MAX {
        return Some(format!("is larger than {SCHEMA_BYTES_MAX} bytes"));
    }
    Schema::compile(schema).err().map(|error| format!("is not a supported JSON Schema: {error}"))
}

fn has_template(value: &Value, is_template: &dyn Fn(&str) -> bool) -> bool {
    match value {
        Value::String(text) => is_template(text),
        Value::Array(items) => items.iter().any(|item| has_template(item, is_template)),
        Value::Object(members) => members.values().any(|member| has_template(member, is_template)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// The payload of an approval, where it is what the step asks for. One that is left out counts as an empty object where an
/// object is asked for, and as null elsewhere.
///
/// # Errors
/// What is wrong with it.
pub(in crate::executor) fn checked_payload(
    schema: &Value,
    payload: Option<Arc<Value>>,
) -> Result<Arc<Value>, SteeringError> {
    let payload = payload.unwrap_or_else(|| {
        let asks_for_object =
            schema.get("type").is_some_and(|wanted| wanted == "object") || schema.get("properties").is_some();
        Arc::new(if asks_for_object { Value::Object(Map::new()) } else { Value::Null })
    });
    let issue = |path: &str, message: String| {
        let path = match path {
            "" => "payload".to_owned(),
            path if path.starts_with('[') => format!("payload{path}"),
            path => format!("payload.{path}"),
        };
        Issue { path, message, step_id: None }
    };
    // It was checked before the step asked.
    let schema = Schema::compile(schema);
    let schema = schema.map_err(|error| SteeringError::InvalidPayload { issues: vec![issue("", error)] })?;
    let issues = schema.validate(&payload, &|_| false);
    if issues.is_empty() {
        return Ok(payload);
    }
    let issues = issues.into_iter().map(|(path, message)| issue(&path, message)).collect();
    Err(SteeringError::InvalidPayload { issues })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fixture::{Recorder, call};
    use super::*;

    fn issues(inputs: &Value) -> Vec<String> {
        let is_template = |text: &str| text.contains("{{");
        let inputs = inputs.as_object().expect("an object");
        AskForApproval.check_inputs(inputs, &is_template).into_iter().map(|(path, _)| path).collect()
    }

    #[test]
    fn what_it_asks_is_checked_with_the_plan() {
        for (inputs, expected) in [
            (json!({"message": "Go?"}), &[][..]),
            (
                json!({"message": "{{ inputs.q }}", "schema": {"type": "{{ inputs.t }}"}, "expires": "{{ inputs.e }}"}),
                &[],
            ),
            (json!({"message": "Go?", "schema": {"type": "object"}, "expires": "10m", "onExpire": "reject"}), &[]),
            (json!({"message": "Go?", "expires": 1, "onReject": "continue", "deciders": ["ann"]}), &[]),
            (json!({}), &["message"]),
            (json!({"message": " "}), &["message"]),
            (json!({"message": "x".repeat(MESSAGE_BYTES_MAX + 1)}), &["message"]),
            (json!({"message": "Go?", "schema": {"typ": "object"}}), &["schema"]),
            (json!({"message": "Go?", "schema": {"const": "x".repeat(SCHEMA_BYTES_MAX)}}), &["schema"]),
            (json!({"message": "Go?", "expires": 0}), &["expires"]),
            (json!({"message": "Go?", "expires": "10"}), &["expires"]),
            (json!({"message": "Go?", "expires": "400d"}), &["expires"]),
            (json!({"message": "Go?", "onExpire": "later", "onReject": 1}), &["onExpire", "onReject"]),
            (json!({"message": "Go?", "deciders": []}), &["deciders"]),
            (json!({"message": "Go?", "onexpire": "fail"}), &["onexpire"]),
        ] {
            assert_eq!(issues(&inputs), expected, "{inputs:.80}");
        }
    }

    #[test]
    fn it_waits_for_as_long_as_it_is_told() {
        for (expires, expected) in [(json!("90s"), Some(90)), (json!(2000.0), Some(2)), (json!(null), None)] {
            let inputs = json!({"message": "Go?", "expires": expires, "onExpire": "approve"});
            let Ok(Outcome::Wait(approval, lasts)) = call(&AskForApproval, inputs, &Recorder::default()) else {
                panic!("it does not wait")
            };
            assert_eq!((lasts, approval.on_expire), (expected.map(Duration::from_secs), OnExpire::Approve));
        }
    }

    #[test]
    fn a_payload_is_what_the_schema_says() {
        let schema = json!({"type": "object", "properties": {"nodes": {"type": "integer"}}, "required": ["nodes"]});
        let check = |payload: Option<Value>| match checked_payload(&schema, payload.map(Arc::new)) {
            Ok(payload) => payload.to_string(),
            Err(SteeringError::InvalidPayload { issues }) => issues[0].path.clone(),
            Err(other) => format!("{other:?}"),
        };
        assert_eq!(check(Some(json!({"nodes": 3}))), r#"{"nodes":3}"#);
        assert_eq!(check(Some(json!({"nodes": "3"}))), "payload.nodes");
        assert!(check(None).starts_with("payload"), "{}", check(None));
        assert_eq!(checked_payload(&json!({"type": "object"}), None).expect("is good"), Arc::new(json!({})));
        assert_eq!(checked_payload(&json!(true), None).expect("is good"), Arc::new(json!(null)));
    }
}
