//! The templates of declared tools. They can use only `inputs`, are checked when the tool is declared, and restrict
//! inserted values according to an [`Escaping`].

use std::sync::{Arc, LazyLock};

use serde_json::{Map, Value};

use crate::executor::template::{Engine, Escaping, Inspection, Scope};

pub(super) static ENGINE: LazyLock<Engine> = LazyLock::new(Engine::new);

/// What templates see: `inputs`, and nothing else.
pub(super) fn inputs_scope(inputs: &Map<String, Value>) -> Scope {
    Scope::new().with("inputs", Arc::new(Value::Object(inputs.clone())))
}

/// A text that may hold templates, known to parse.
#[derive(Debug, Clone)]
pub(super) struct Template {
    source: String,
    escaping: Escaping,
}

impl Template {
    /// Checks `source`.
    pub(super) fn compile(source: &str, escaping: Escaping) -> Result<Self, String> {
        check_text(source)?;
        Ok(Self { source: source.to_owned(), escaping })
    }

    /// The text with everything filled in.
    pub(super) fn render(&self, scope: &Scope) -> Result<String, String> {
        ENGINE.render_text(&self.source, self.escaping, scope).map_err(|error| error.to_string())
    }
}

pub(super) fn check_text(source: &str) -> Result<(), String> {
    only(ENGINE.inspect_text(source, &["inputs"]))
}

/// The first problem, where there is one.
pub(super) fn only(found: Inspection) -> Result<(), String> {
    found.problems.into_iter().next().map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn render(source: &str, escaping: Escaping, inputs: &Value) -> Result<String, String> {
        let inputs = inputs.as_object().expect("an object");
        Template::compile(source, escaping)?.render(&inputs_scope(inputs))
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
            assert_eq!(render(source, Escaping::Text, &inputs).as_deref(), Ok(expected), "{source}");
        }
    }

    #[test]
    fn a_missing_value_is_an_error_that_names_it() {
        let error = render("{{ inputs.here }}{{ inputs.gone }}", Escaping::Text, &json!({"here": 1}));
        assert_eq!(error.as_deref().map_err(String::as_str), Err("inputs.gone is undefined"));
        let error = render("{{ inputs.a.b }}", Escaping::Text, &json!({}));
        assert_eq!(error.as_deref().map_err(String::as_str), Err("inputs.a is undefined"));
        assert!(render("{{ steps.a.output }}", Escaping::Text, &json!({})).is_err(), "only inputs are seen");
        assert!(render("{{ inputs.", Escaping::Text, &json!({})).is_err(), "a template that does not parse");
    }

    #[test]
    fn a_template_can_not_run_for_ever() {
        let endless = "{{ range(9999) | map('string') | join(range(9999) | join) }}";
        assert!(render(endless, Escaping::Text, &json!({})).is_err());
        assert!(render("{{ 'x' * 100000000 }}", Escaping::Text, &json!({})).is_err());
    }

    #[test]
    fn a_value_can_not_leave_its_place() {
        let inputs =
            json!({"x": "../a b?c=d&e#f@g:1%2f", "host": "evil.example", "sub": "eu-1", "up": "..", "none": ""});
        let encoded = "..%2Fa%20b%3Fc%3Dd%26e%23f%40g%3A1%252f";
        assert_eq!(render("/{{ inputs.x }}", Escaping::Url, &inputs), Ok(format!("/{encoded}")));
        assert_eq!(render("/{{ inputs.x | safe }}", Escaping::Url, &inputs), Ok(format!("/{encoded}")));
        assert_eq!(render("{{ inputs.sub }}.a.example", Escaping::Authority, &inputs), Ok("eu-1.a.example".to_owned()));
        for (source, escaping) in [
            ("{{ inputs.host }}", Escaping::Authority),
            ("{{ inputs.none }}", Escaping::Authority),
            ("/tmp/{{ inputs.x }}", Escaping::FileName),
            ("/tmp/{{ inputs.up }}", Escaping::FileName),
            ("/tmp/{{ inputs.none }}", Escaping::FileName),
        ] {
            assert!(render(source, escaping, &inputs).is_err(), "{source}");
        }
    }
}
