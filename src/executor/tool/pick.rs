//! Expressions that select a part of a tool's response.

use std::sync::Arc;

use serde_json::Value;

use super::render::{ENGINE, only};
use crate::executor::template::{Scope, unwrap_condition};

/// An expression over one value that picks something of it, known to parse.
#[derive(Debug, Clone)]
pub(super) struct Pick {
    source: String,
    /// What it calls that value.
    root: &'static str,
}

impl Pick {
    /// Checks `source`; its wrapping `{{ }}` may be there or not.
    pub(super) fn compile(source: &str, root: &'static str) -> Result<Self, String> {
        only(ENGINE.inspect_condition(source, &[root]))?;
        Ok(Self { source: unwrap_condition(source), root })
    }

    /// What it picks of `value`; null where that is missing.
    pub(super) fn of(&self, value: &Arc<Value>) -> Result<Value, String> {
        let scope = Scope::new().with(self.root, value.clone());
        ENGINE.evaluate_or_null(&self.source, &scope).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_lenient_expression_takes_missing_members_as_null() {
        let event = Arc::new(json!({"choices": [{"delta": {"content": "hi"}}]}));
        let pick = |source| Pick::compile(source, "event").expect("parses").of(&event);
        assert_eq!(pick("event.choices[0].delta.content"), Ok(json!("hi")));
        assert_eq!(pick("event.choices[3].delta.content"), Ok(Value::Null));
        assert_eq!(pick("{{ event.gone.x or event.choices | length }}"), Ok(json!(1)));
        assert!(Pick::compile("event..x", "event").is_err() && Pick::compile("inputs.x", "event").is_err());
    }
}
