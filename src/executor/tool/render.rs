//! The templates of declared tools: those of plans, over `inputs` alone, checked when the tool is declared and kept where
//! they are put (see [`Place`]).

use std::sync::{Arc, LazyLock};

use serde_json::{Map, Value};

use crate::executor::template::{Engine, Inspection, Place, Scope, is_template, unwrap_condition};

static ENGINE: LazyLock<Engine> = LazyLock::new(Engine::new);

/// What templates see: `inputs`, and nothing else.
pub(super) fn inputs_scope(inputs: &Map<String, Value>) -> Scope {
    Scope::new().with("inputs", Arc::new(Value::Object(inputs.clone())))
}

/// A text that may hold templates, known to parse.
#[derive(Debug, Clone)]
pub(super) struct Template {
    source: String,
    place: Place,
}

impl Template {
    /// Checks `source`.
    pub(super) fn compile(source: &str, place: Place) -> Result<Self, String> {
        check_text(source)?;
        Ok(Self { source: source.to_owned(), place })
    }

    /// The text with everything filled in.
    pub(super) fn render(&self, scope: &Scope) -> Result<String, String> {
        ENGINE.render_text(&self.source, self.place, scope).map_err(|error| error.to_string())
    }
}

/// A JSON value whose strings may hold templates, known to parse. One that is a template whole becomes a value of any
/// type.
#[derive(Debug)]
pub(super) struct ValueTemplate {
    source: Value,
    /// The field it stands in, which errors name.
    field: &'static str,
}

impl ValueTemplate {
    /// Checks all strings of `source`.
    pub(super) fn compile(source: &Value, field: &'static str) -> Result<Self, String> {
        check_value(source, field)?;
        Ok(Self { source: source.clone(), field })
    }

    /// The value with everything filled in.
    pub(super) fn render(&self, scope: &Scope) -> Result<Value, String> {
        let Self { source, field } = self;
        ENGINE.render_value(source, scope).map_err(|error| format!("{field}{}: {}", error.path, error.message))
    }
}

/// An expression over `event` that picks something of it, known to parse.
#[derive(Debug, Clone)]
pub(super) struct Pick(String);

impl Pick {
    /// Checks `source`; its wrapping `{{ }}` may be there or not.
    pub(super) fn compile(source: &str) -> Result<Self, String> {
        only(ENGINE.inspect_condition(source, &["event"]))?;
        Ok(Self(unwrap_condition(source)))
    }

    /// What it picks of `event`; null where that is missing.
    pub(super) fn of(&self, event: Value) -> Result<Value, String> {
        let scope = Scope::new().with("event", Arc::new(event));
        ENGINE.evaluate_or_null(&self.0, &scope).map_err(|error| error.to_string())
    }
}

fn check_text(source: &str) -> Result<(), String> {
    only(ENGINE.inspect_text(source, &["inputs"]))
}

/// Recursion is safe: what reads a configuration bounds how deep its values nest.
fn check_value(value: &Value, path: &str) -> Result<(), String> {
    match value {
        Value::String(text) if is_template(text) => check_text(text).map_err(|problem| format!("{path}: {problem}")),
        Value::Array(items) => {
            items.iter().enumerate().try_for_each(|(at, item)| check_value(item, &format!("{path}[{at}]")))
        }
        Value::Object(members) => {
            members.iter().try_for_each(|(name, member)| check_value(member, &format!("{path}.{name}")))
        }
        _ => Ok(()),
    }
}

/// The first problem, where there is one.
fn only(found: Inspection) -> Result<(), String> {
    found.problems.into_iter().next().map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn render(source: &str, place: Place, inputs: &Value) -> Result<String, String> {
        let inputs = inputs.as_object().expect("an object");
        Template::compile(source, place)?.render(&inputs_scope(inputs))
    }

    #[test]
    fn values_become_text_as_themselves_or_as_json() {
        let inputs = json!({"s": "a <b> \"c\"", "n": 3, "list": [1, "x"], "nil": null, "yes": true});
        for (source, expected) in [
            ("plain $HOME `x`\n", "plain $HOME `x`\n"),
            ("{{ inputs.s }}\n", "a <b> \"c\"\n"),
            ("{{ inputs.n }}/{{ inputs.list }}/{{ inputs.nil }}/{{ inputs.yes }}", "3/[1,\"x\"]/null/true"),
            ("{{ inputs.none | default('d') }}", "d"),
            ("{{ inputs.s | upper }}", "A <B> \"C\""),
        ] {
            assert_eq!(render(source, Place::Text, &inputs).as_deref(), Ok(expected), "{source}");
        }
    }

    #[test]
    fn a_missing_value_is_an_error_that_names_it() {
        let error = render("{{ inputs.here }}{{ inputs.gone }}", Place::Text, &json!({"here": 1}));
        assert_eq!(error.as_deref().map_err(String::as_str), Err("inputs.gone is undefined"));
        let error = render("{{ inputs.a.b }}", Place::Text, &json!({}));
        assert_eq!(error.as_deref().map_err(String::as_str), Err("inputs.a is undefined"));
        assert!(render("{{ steps.a.output }}", Place::Text, &json!({})).is_err(), "only inputs are seen");
        assert!(render("{{ inputs.", Place::Text, &json!({})).is_err(), "a template that does not parse");
    }

    #[test]
    fn a_template_can_not_run_for_ever() {
        let endless = "{{ range(9999) | map('string') | join(range(9999) | join) }}";
        assert!(render(endless, Place::Text, &json!({})).is_err());
        assert!(render("{{ 'x' * 100000000 }}", Place::Text, &json!({})).is_err());
    }

    #[test]
    fn a_value_can_not_leave_its_place() {
        let inputs =
            json!({"x": "../a b?c=d&e#f@g:1%2f", "host": "evil.example", "sub": "eu-1", "up": "..", "none": ""});
        let encoded = "..%2Fa%20b%3Fc%3Dd%26e%23f%40g%3A1%252f";
        assert_eq!(render("/{{ inputs.x }}", Place::Url, &inputs), Ok(format!("/{encoded}")));
        assert_eq!(render("/{{ inputs.x | safe }}", Place::Url, &inputs), Ok(format!("/{encoded}")));
        assert_eq!(render("{{ inputs.sub }}.a.example", Place::Authority, &inputs), Ok("eu-1.a.example".to_owned()));
        for (source, place) in [
            ("{{ inputs.host }}", Place::Authority),
            ("{{ inputs.none }}", Place::Authority),
            ("/tmp/{{ inputs.x }}", Place::FileName),
            ("/tmp/{{ inputs.up }}", Place::FileName),
            ("/tmp/{{ inputs.none }}", Place::FileName),
        ] {
            assert!(render(source, place, &inputs).is_err(), "{source}");
        }
    }

    #[test]
    fn one_whole_template_keeps_its_type() {
        let inputs = json!({"list": [1, {"a": null}], "n": 2});
        let scope = inputs_scope(inputs.as_object().expect("an object"));
        for (source, expected) in [
            ("{{ inputs.list }}", Ok(json!([1, {"a": null}]))),
            ("{{ inputs.n + 1 }}", Ok(json!(3))),
            (" {{ inputs.n + 1 }}", Ok(json!(" 3"))),
            ("{{ inputs.n }}{{ inputs.n }}", Ok(json!("22"))),
            ("n={{ inputs.n }}", Ok(json!("n=2"))),
            ("{{ inputs.gone }}", Err("body.x[0]: inputs.gone is undefined".to_owned())),
        ] {
            let template = ValueTemplate::compile(&json!({"x": [source]}), "body").expect("parses");
            assert_eq!(template.render(&scope).map(|body| body["x"][0].clone()), expected, "{source}");
        }
    }

    #[test]
    fn a_lenient_expression_takes_missing_members_as_null() {
        let event = json!({"choices": [{"delta": {"content": "hi"}}]});
        let pick = |source| Pick::compile(source).expect("parses").of(event.clone());
        assert_eq!(pick("event.choices[0].delta.content"), Ok(json!("hi")));
        assert_eq!(pick("event.choices[3].delta.content"), Ok(Value::Null));
        assert_eq!(pick("{{ event.gone.x or event.choices | length }}"), Ok(json!(1)));
        assert!(Pick::compile("event..x").is_err() && Pick::compile("inputs.x").is_err());
    }
}
