//! Templates that are JSON.

use serde_json::Value;

use super::super::render::{ENGINE, check_text};
use crate::executor::template::{Scope, is_template};

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

/// Recursion is safe: what reads a configuration bounds how deep its values nest.
fn check_value(value: &Value, path: &str) -> Result<(), String> {
    match value {
        Value::String(text) if is_template(text) => check_text(text).map_err(|problem| format!("{path}: {problem}")),
        Value::Array(items) => {
            items.iter().enumerate().try_for_each(|(at, item)| check_value(item, &format!("{path}[{at}]")))
        }
        Value::Object(members) => members.iter().try_for_each(|(name, member)| match is_template(name) {
            true => Err(format!("{path}: templates in keys are not supported")),
            false => check_value(member, &format!("{path}.{name}")),
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::super::render::inputs_scope;
    use super::*;

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
    fn a_template_in_a_key_stayed_as_it_was() {
        let refused = ValueTemplate::compile(&json!({"a": [{"{{ inputs.x }}": 1}]}), "body").expect_err("is refused");
        assert_eq!(refused, "body.a[0]: templates in keys are not supported");
    }
}
