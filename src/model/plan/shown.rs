//! A plan's document as it is shown to those who may watch its runs: without the values that sound like secrets.

use serde_json::{Map, Value, json};

/// What a value sounds like that nobody but the plan's author should see, in capitals.
const SECRET_NAMES: [&str; 6] = ["KEY", "TOKEN", "SECRET", "PASS", "CREDENTIAL", "AUTHORIZATION"];

/// What is shown of one.
const SHOWN: &str = "***";

/// A kept document (`{plan, inputs}`) with `***` for each text and number under a name that sounds like a secret, in
/// inputs and metadata, and with `masked`: the paths of those. A text that is one template whole stays: it names where a
/// value comes from, and has none.
///
/// # Errors
/// Where `document` is no JSON.
pub fn shown_document(document: &[u8]) -> Result<Vec<u8>, serde_json::Error> {
    let mut document: Map<String, Value> = serde_json::from_slice(document)?;
    let mut masked = Vec::new();
    if let Some(inputs) = document.get_mut("inputs") {
        mask(inputs, "inputs", &mut masked);
    }
    if let Some(Value::Object(plan)) = document.get_mut("plan") {
        mask_members(plan, "plan", &mut masked);
        for (at, step) in plan.get_mut("steps").and_then(Value::as_array_mut).into_iter().flatten().enumerate() {
            let Value::Object(step) = step else { continue };
            mask_members(step, &format!("plan.steps[{at}]"), &mut masked);
        }
    }
    document.insert("masked".to_owned(), json!(masked));
    serde_json::to_vec(&document)
}

/// Masks what a plan or a step says freely.
fn mask_members(object: &mut Map<String, Value>, path: &str, masked: &mut Vec<String>) {
    for name in ["inputs", "metadata"] {
        if let Some(value) = object.get_mut(name) {
            mask(value, &format!("{path}.{name}"), masked);
        }
    }
}

/// Masks below names that sound like secrets. Documents nest no deeper than their reader lets them.
fn mask(value: &mut Value, path: &str, masked: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                let path = format!("{path}.{name}");
                if is_secret(name) { hide(value, &path, masked) } else { mask(value, &path, masked) }
            }
        }
        Value::Array(items) => {
            items.iter_mut().enumerate().for_each(|(at, item)| mask(item, &format!("{path}[{at}]"), masked));
        }
        _ => {}
    }
}

/// Masks every text and number in `value`.
fn hide(value: &mut Value, path: &str, masked: &mut Vec<String>) {
    match value {
        Value::String(text) if is_template(text) => {}
        Value::String(_) | Value::Number(_) => {
            *value = Value::from(SHOWN);
            masked.push(path.to_owned());
        }
        Value::Object(members) => {
            members.iter_mut().for_each(|(name, value)| hide(value, &format!("{path}.{name}"), masked));
        }
        Value::Array(items) => {
            items.iter_mut().enumerate().for_each(|(at, item)| hide(item, &format!("{path}[{at}]"), masked));
        }
        Value::Null | Value::Bool(_) => {}
    }
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    SECRET_NAMES.iter().any(|secret| name.contains(secret))
}

/// One template and nothing else, which quotes no text of its own.
fn is_template(text: &str) -> bool {
    let inside = text.trim().strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}"));
    inside.is_some_and(|inside| !inside.contains(['"', '\'', '{', '}']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_sounds_like_a_secret_is_hidden_and_its_place_is_told() {
        let document = json!({
            "inputs": {"apiKey": "k1", "target": "all", "auth": {"Authorization": "Bearer x"}},
            "plan": {
                "name": "p", "metadata": {"owner": "ann", "passwords": ["a", 7, null, true]},
                "steps": [
                    {"id": "token", "title": "Fetch a token", "tool": "t", "inputs": {"n": 1, "list": [{"secret": 5}]}},
                    {"id": "b", "tool": "t", "inputs": {"token": "{{ steps.token.output }}", "to_ken": "seen"}},
                    {"id": "c", "tool": "t", "inputs": {"token": "Bearer {{ inputs.x }}", "key": "{{ 'literal' }}"}},
                ],
            },
        });
        let shown = shown_document(document.to_string().as_bytes()).expect("JSON");
        let shown: Value = serde_json::from_slice(&shown).expect("JSON");
        assert_eq!(
            shown["masked"],
            json!([
                "inputs.apiKey",
                "inputs.auth.Authorization",
                "plan.metadata.passwords[0]",
                "plan.metadata.passwords[1]",
                "plan.steps[0].inputs.list[0].secret",
                "plan.steps[2].inputs.token",
                "plan.steps[2].inputs.key",
            ])
        );
        assert_eq!(shown["inputs"], json!({"apiKey": "***", "target": "all", "auth": {"Authorization": "***"}}));
        assert_eq!(shown["plan"]["metadata"], json!({"owner": "ann", "passwords": ["***", "***", null, true]}));
        assert_eq!(shown["plan"]["steps"][0]["title"], "Fetch a token");
        assert_eq!(shown["plan"]["steps"][0]["inputs"], json!({"n": 1, "list": [{"secret": "***"}]}));
        assert_eq!(shown["plan"]["steps"][1], document["plan"]["steps"][1]);
        assert_eq!(shown["plan"]["steps"][2]["inputs"], json!({"token": "***", "key": "***"}));
        for secret in ["k1", "Bearer", "literal"] {
            assert!(!shown.to_string().contains(secret), "{shown}");
        }
    }

    #[test]
    fn what_is_no_document_is_an_error() {
        assert!(shown_document(b"[]").is_err());
    }
}
