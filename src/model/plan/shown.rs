//! A plan's document for those who may only watch its runs: values whose names suggest secrets are masked.

use std::borrow::Cow;

use serde_json::json;

use super::planned::NAME as PLANNED;
use crate::model::{Exact, HandlerKind};

/// What the names of secret values contain, in capitals.
const SECRET_NAMES: [&str; 6] = ["KEY", "TOKEN", "SECRET", "PASS", "CREDENTIAL", "AUTHORIZATION"];

/// The revision of a plan whose document has none.
const FIRST_REVISION_TEXT: &str = "1";

/// What a masked value is replaced by.
const SHOWN: &str = "\"***\"";

/// Returns a stored document (`{plan, inputs, schedule}`) with `***` for each text and number under a name that
/// suggests a secret, in inputs, items and metadata. Adds `masked`, the paths of these values, and `revision`. A text
/// that is just one template stays: it names where a value comes from but does not contain it. Everything else is as it
/// was written, including numbers.
///
/// `None` if `document` is not a JSON object.
pub fn shown_document(document: &[u8]) -> Option<Vec<u8>> {
    let document = str::from_utf8(document).ok().and_then(Exact::read)?;
    let Exact::Object(mut document) = document else { return None };
    let mut masked = Vec::new();
    for (name, value) in &mut document {
        match (&*Exact::text(name)?, value) {
            ("inputs", inputs) => mask(inputs, "inputs", &mut masked),
            ("plan", Exact::Object(plan)) => mask_plan(plan, &mut masked)?,
            ("schedule", Exact::Object(schedule)) => mask_members(schedule, "schedule", &mut masked),
            _ => {}
        }
    }
    let is_revision = |(name, _): &(&str, Exact<'_>)| Exact::text(name).as_deref() == Some("revision");
    if !document.iter().any(is_revision) {
        document.push((r#""revision""#, Exact::Scalar(FIRST_REVISION_TEXT)));
    }
    document.retain(|(name, _)| said(name) != PLANNED);
    let reused = take_kept(&mut document);
    if let Some(reused) = &reused {
        document.push((r#""reusedSteps""#, Exact::read(reused)?));
    }
    let masked = json!(masked).to_string();
    document.push((r#""masked""#, Exact::read(&masked)?));
    let mut shown = Vec::new();
    Exact::Object(document).write(&mut shown);
    Some(shown)
}

/// Removes the outputs that were kept of another run. Returns the ids of their steps as JSON.
fn take_kept(document: &mut Vec<(&str, Exact<'_>)>) -> Option<String> {
    let (_, retry_of) = document.iter_mut().find(|(name, _)| said(name) == "retryOf")?;
    let Exact::Object(members) = std::mem::replace(retry_of, Exact::Scalar("null")) else { return None };
    let mut reused = Vec::new();
    for (name, value) in members {
        match (&*said(name), value) {
            ("run", run) => *retry_of = run,
            ("kept", Exact::Object(kept)) => reused.extend(kept.iter().map(|(step, _)| said(step).into_owned())),
            _ => {}
        }
    }
    Some(json!(reused).to_string())
}

type Members<'a> = [(&'a str, Exact<'a>)];

fn mask_plan(plan: &mut Members<'_>, masked: &mut Vec<String>) -> Option<()> {
    mask_members(plan, "plan", masked);
    for (name, value) in plan {
        match (&*Exact::text(name)?, value) {
            ("steps", steps) => mask_steps(steps, "plan.steps", masked),
            ("handlers", Exact::Object(lists)) => {
                lists
                    .iter_mut()
                    .for_each(|(name, list)| mask_steps(list, &format!("plan.handlers.{}", said(name)), masked));
            }
            (list, steps) if HandlerKind::ALL.iter().any(|kind| kind.as_str() == list) => {
                mask_steps(steps, &format!("plan.{list}"), masked);
            }
            _ => {}
        }
    }
    Some(())
}

fn mask_steps(steps: &mut Exact<'_>, path: &str, masked: &mut Vec<String>) {
    let Exact::Array(steps) = steps else { return };
    for (at, step) in steps.iter_mut().enumerate() {
        if let Exact::Object(step) = step {
            mask_members(step, &format!("{path}[{at}]"), masked);
        }
    }
}

/// Masks the free-form values of a plan or a step.
fn mask_members(object: &mut Members<'_>, path: &str, masked: &mut Vec<String>) {
    for wanted in ["inputs", "metadata", "forEach"] {
        for (name, value) in object.iter_mut().filter(|(name, _)| said(name) == wanted) {
            mask(value, &format!("{path}.{}", said(name)), masked);
        }
    }
}

/// Masks values below names that suggest secrets. The JSON reader limits how deep documents nest.
fn mask(value: &mut Exact<'_>, path: &str, masked: &mut Vec<String>) {
    match value {
        Exact::Object(members) => {
            for (name, value) in members {
                let name = said(name);
                let path = format!("{path}.{name}");
                if is_secret(&name) { hide(value, &path, masked) } else { mask(value, &path, masked) }
            }
        }
        Exact::Array(items) => {
            items.iter_mut().enumerate().for_each(|(at, item)| mask(item, &format!("{path}[{at}]"), masked));
        }
        Exact::Scalar(_) => {}
    }
}

/// Masks every text and number in `value`.
fn hide(value: &mut Exact<'_>, path: &str, masked: &mut Vec<String>) {
    match value {
        Exact::Scalar("null" | "true" | "false") => {}
        Exact::Scalar(text) if is_template(&said(text)) => {}
        Exact::Scalar(text) => {
            *text = SHOWN;
            masked.push(path.to_owned());
        }
        Exact::Object(members) => {
            members.iter_mut().for_each(|(name, value)| hide(value, &format!("{path}.{}", said(name)), masked));
        }
        Exact::Array(items) => {
            items.iter_mut().enumerate().for_each(|(at, item)| hide(item, &format!("{path}[{at}]"), masked));
        }
    }
}

/// The text of a name or string; a number as it was written.
fn said(scalar: &str) -> Cow<'_, str> {
    Exact::text(scalar).unwrap_or(Cow::Borrowed(scalar))
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    SECRET_NAMES.iter().any(|secret| name.contains(secret))
}

/// Whether a text is just one template, without literal text inside.
fn is_template(text: &str) -> bool {
    let inside = text.trim().strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}"));
    inside.is_some_and(|inside| !inside.contains(['"', '\'', '{', '}']))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_plan_is_shown_with_its_numbers_as_they_were_written() {
        let document = r#"{"plan":{"name":"p","steps":[{"inputs":{"n":9007199254740993,"f":2.0,"e":1e3,"b":123456789012345678901234567890}}]},"inputs":{"x":1.10}}"#;
        let shown = shown_document(document.as_bytes()).map(|shown| String::from_utf8(shown).expect("text"));
        assert_eq!(shown, Some(document.replace("1.10}}", "1.10},\"revision\":1,\"masked\":[]}")));
    }

    #[test]
    fn what_steps_have_changed_of_a_plan_is_nobodys_to_see() {
        let document = r#"{"plan":{"steps":[]},"inputs":{},"plannedBy":[{"step":"a","added":[],"before":[{"id":"b","inputs":{"key":"k1"}}]}],"revision":2}"#;
        let shown = shown_document(document.as_bytes()).map(|shown| String::from_utf8(shown).expect("text"));
        assert_eq!(shown.as_deref(), Some(r#"{"plan":{"steps":[]},"inputs":{},"revision":2,"masked":[]}"#));
    }

    #[test]
    fn what_sounds_like_a_secret_is_hidden_and_its_place_is_told() {
        let document = json!({
            "inputs": {"apiKey": "k1", "target": "all", "auth": {"Authorization": "Bearer x"}},
            "plan": {
                "name": "p", "metadata": {"owner": "ann", "passwords": ["a", 7, null, true]},
                "steps": [
                    {"id": "token", "title": "Fetch a token", "tool": "t", "inputs": {"n": 1, "list": [{"secret": 5}]}},
                    {"id": "b", "tool": "t", "inputs": {"token": "{{ steps.token.output }}", "to_ken": "seen"}},
                    {"id": "f", "tool": "t", "forEach": [{"password": "Bearer", "n": 1}]},
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
                "plan.steps[2].forEach[0].password",
                "plan.steps[3].inputs.token",
                "plan.steps[3].inputs.key",
            ])
        );
        assert_eq!(shown["inputs"], json!({"apiKey": "***", "target": "all", "auth": {"Authorization": "***"}}));
        assert_eq!(shown["plan"]["metadata"], json!({"owner": "ann", "passwords": ["***", "***", null, true]}));
        assert_eq!(shown["plan"]["steps"][0]["title"], "Fetch a token");
        assert_eq!(shown["plan"]["steps"][0]["inputs"], json!({"n": 1, "list": [{"secret": "***"}]}));
        assert_eq!(shown["plan"]["steps"][1], document["plan"]["steps"][1]);
        assert_eq!(shown["plan"]["steps"][3]["inputs"], json!({"token": "***", "key": "***"}));
        for secret in ["k1", "Bearer", "literal"] {
            assert!(!shown.to_string().contains(secret), "{shown}");
        }
    }

    #[test]
    fn what_is_no_document_is_not_shown() {
        assert_eq!((shown_document(b"[]"), shown_document(b"{"), shown_document(b"\xff")), (None, None, None));
    }
}
