//! Properties of templates and conditions from untrusted clients, for the fuzzer and for the tests of its corpus.

use std::sync::{Arc, LazyLock};

use serde_json::{Value, json};

use super::template::{Engine, Escaping, Inspection, RUN_ROOTS, Scope, TemplateError, is_template};
use crate::model::{ProjectId, RunId, StepId};

static ENGINE: LazyLock<Engine> = LazyLock::new(Engine::new);

static SCOPE: LazyLock<Scope> = LazyLock::new(|| {
    let inputs = json!({"n": 41, "x": 1.5, "t": "text \"quoted\"", "b": true, "z": null, "a": [1, [2, "3"], {"k": "v"}],
        "o": {"a-b": {"c": []}, "": 1}, "big": u64::MAX, "min": i64::MIN});
    let (project, run) = (ProjectId::parse("p").expect("an id"), RunId::parse("r").expect("an id"));
    let step = |id| StepId::parse(id).expect("an id");
    Scope::of_run(&project, &run, Arc::new(inputs))
        .with_step(step("a"), Arc::new(json!({"n": 1, "list": ["x", "y"], "text": "line\nline"})))
        .with_step(step("a-b"), Arc::new(json!("text")))
        .with_step(step("none"), Arc::new(Value::Null))
});

/// A string out of a plan: text with templates, and a condition.
pub fn template(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    check_text(text);
    check_condition(text);
    if let Err(error) = ENGINE.render_text(text, Escaping::Url, &SCOPE) {
        check_error(&error);
    }
}

fn check_text(text: &str) {
    let found = ENGINE.inspect_text(text, RUN_ROOTS);
    check_inspection(&found);
    match ENGINE.render_value(&json!(text), &SCOPE) {
        Ok(value) if !is_template(text) => assert_eq!(value, text),
        Ok(value) => drop(value),
        Err(error) => check_error(&error),
    }
}

fn check_condition(text: &str) {
    let found = ENGINE.inspect_condition(text, RUN_ROOTS);
    check_inspection(&found);
    if let Err(error) = ENGINE.is_true(text, &SCOPE) {
        check_error(&error);
    }
    if let Err(error) = ENGINE.evaluate_or_null(text, &SCOPE) {
        check_error(&error);
    }
}

fn check_inspection(found: &Inspection) {
    found.problems.iter().for_each(|problem| check_line(problem));
}

fn check_error(error: &TemplateError) {
    check_line(&error.message);
}

/// Errors go into messages and logs: one line each, not without end.
fn check_line(line: &str) {
    assert!(!line.is_empty() && !line.contains(char::is_control) && line.chars().count() <= 303, "{line:?}");
}
