//! Completes a plan for one run: merges the run's inputs with the plan's, validates them and fills in defaults from the
//! plan's parameters, and evaluates the name of its concurrency group. When a plan is read again after a restart, the
//! same steps give the same result.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::template::{Engine, Escaping, Scope};
use super::tool::Schema;
use crate::model::{Concurrency, GROUP_CHARS_MAX, Issue, Plan};

/// The plan of a run with these inputs.
///
/// # Errors
/// What is wrong with the inputs, or with the group's name that they make.
pub fn complete(plan: Plan, inputs: Map<String, Value>, engine: &Engine) -> Result<Plan, Vec<Issue>> {
    let plan = with_defaults(plan, inputs);
    let issues = plan.parameters.as_deref().map_or_else(Vec::new, |schema| refused(schema, &plan.inputs));
    if !issues.is_empty() {
        return Err(issues);
    }
    with_group(plan, engine).map_err(|problem| vec![issue("concurrency.group".to_owned(), problem)])
}

/// Checks inputs that are stored with a plan. The inputs of a run are laid over them, so missing members are no error;
/// only those that are there are checked.
pub fn check_stored(plan: &Plan, inputs: Map<String, Value>) -> Vec<Issue> {
    let Some(Value::Object(schema)) = plan.parameters.as_deref() else { return Vec::new() };
    let of_members = |keyword: &String| OF_MEMBERS.contains(&keyword.as_str());
    let schema = schema.iter().filter(|(keyword, _)| of_members(keyword));
    let schema = schema.map(|(keyword, said)| (keyword.clone(), said.clone())).collect();
    refused(&Value::Object(schema), &with_defaults(plan.clone(), inputs).inputs)
}

/// Keywords that say what members an object may have: where one is wrong, it stays wrong whatever comes to it.
const OF_MEMBERS: [&str; 7] =
    ["$schema", "$defs", "definitions", "properties", "patternProperties", "additionalProperties", "propertyNames"];

/// The same for an accepted plan: its inputs are not checked again.
///
/// # Errors
/// Why its group can't be evaluated.
pub fn complete_again(plan: Plan, inputs: Map<String, Value>, engine: &Engine) -> Result<Plan, String> {
    with_group(with_defaults(plan, inputs), engine)
}

fn with_defaults(plan: Plan, inputs: Map<String, Value>) -> Plan {
    let mut plan = plan.with_inputs(inputs);
    if let Some(schema) = plan.parameters.clone() {
        fill_in(&schema, &mut plan.inputs);
    }
    plan
}

/// Gives members that are missing the defaults of their schemas. Schemas nest no deeper than a plan may.
fn fill_in(schema: &Value, members: &mut Map<String, Value>) {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return };
    for (name, schema) in properties {
        if let Some(default) = schema.get("default").filter(|_| !members.contains_key(name)) {
            members.insert(name.clone(), default.clone());
        }
        if let Some(Value::Object(members)) = members.get_mut(name) {
            fill_in(schema, members);
        }
    }
}

fn refused(schema: &Value, inputs: &Map<String, Value>) -> Vec<Issue> {
    // A schema that can't be compiled is an issue of its plan already.
    let Ok(schema) = Schema::compile(schema) else { return Vec::new() };
    let found = schema.validate(&Value::Object(inputs.clone()), &|_| false);
    let placed = |(below, message): (String, String)| {
        let dot = if below.is_empty() || below.starts_with('[') { "" } else { "." };
        issue(format!("inputs{dot}{below}"), message)
    };
    found.into_iter().map(placed).collect()
}

fn with_group(mut plan: Plan, engine: &Engine) -> Result<Plan, String> {
    let Some(concurrency) = &plan.concurrency else { return Ok(plan) };
    let scope = Scope::new().with("inputs", Arc::new(Value::Object(plan.inputs.clone())));
    let group = engine.render_text(&concurrency.group, Escaping::Text, &scope).map_err(|error| error.to_string())?;
    if group.trim().is_empty() || group.chars().count() > GROUP_CHARS_MAX {
        return Err(format!("evaluates to a name that is empty or longer than {GROUP_CHARS_MAX} characters"));
    }
    plan.concurrency = Some(Arc::new(Concurrency { group: group.into(), ..Concurrency::clone(concurrency) }));
    Ok(plan)
}

fn issue(path: String, message: String) -> Issue {
    Issue { path, message, step_id: None }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::executor::check::check_plan;
    use crate::executor::tool::Registry;

    fn completed(plan: Value, inputs: Value) -> Result<Plan, Vec<String>> {
        let mut document = json!({"name": "p", "steps": [{"id": "a", "tool": "echo"}]});
        document.as_object_mut().expect("an object").extend(plan.as_object().expect("an object").clone());
        let (registry, engine) = (Registry::with_builtins(), Engine::new());
        let in_short = |issues: Vec<Issue>| issues.iter().map(ToString::to_string).collect::<Vec<_>>();
        let plan = check_plan(&document, &registry, &engine, 10).map_err(in_short)?;
        complete(plan, inputs.as_object().expect("an object").clone(), &engine).map_err(in_short)
    }

    #[test]
    fn inputs_are_completed_and_checked_by_the_parameters() {
        let plan = json!({"inputs": {"env": "test"}, "parameters": {"type": "object", "required": ["env", "n"],
            "properties": {"env": {"enum": ["test", "live"]}, "n": {"type": "integer", "default": 3},
                "more": {"type": "object", "properties": {"deep": {"default": true}}}}, "additionalProperties": false}});
        let inputs = |given: Value| completed(plan.clone(), given).map(|plan| Value::Object(plan.inputs));
        assert_eq!(inputs(json!({})), Ok(json!({"env": "test", "n": 3})));
        assert_eq!(inputs(json!({"n": 4, "more": {}})), Ok(json!({"env": "test", "n": 4, "more": {"deep": true}})));
        let refused = inputs(json!({"env": "moon", "n": "x", "other": 1})).expect_err("three");
        let paths: Vec<_> = refused.iter().map(|issue| issue.split(':').next().unwrap_or_default()).collect();
        assert_eq!(paths, ["inputs.env", "inputs.n", "inputs.other"], "{refused:?}");
    }

    #[test]
    fn of_stored_inputs_what_is_missing_may_come_yet() {
        let document = json!({"name": "p", "steps": [{"id": "a", "tool": "echo"}], "inputs": {"env": "test"},
            "parameters": {"required": ["env", "n", "day"], "minProperties": 3, "additionalProperties": false,
                "properties": {"env": {"$ref": "#/$defs/env"}, "n": {"type": "integer", "default": "three"}, "day": true},
                "$defs": {"env": {"enum": ["test", "live"]}}}});
        let plan = check_plan(&document, &Registry::with_builtins(), &Engine::new(), 10).expect("a plan");
        let wrong = |inputs: Value| {
            let issues = check_stored(&plan, inputs.as_object().expect("an object").clone());
            issues.into_iter().map(|issue| issue.path).collect::<Vec<_>>()
        };
        assert_eq!(wrong(json!({"n": 3})), [""; 0], "the day may come with the call");
        assert_eq!(wrong(json!({})), ["inputs.n"], "its default is no integer");
        assert_eq!(wrong(json!({"n": 3, "env": "moon", "x": 1})), ["inputs.env", "inputs.x"]);
    }

    #[test]
    fn a_schema_that_is_none_is_an_issue_of_the_plan() {
        for (plan, path) in [
            (json!({"parameters": {"type": "thing"}}), "parameters: "),
            (json!({"parameters": []}), "parameters: must be an object"),
            (json!({"concurrency": {"group": "{{ runId }}"}}), "concurrency.group: unknown name `runId`"),
            (json!({"concurrency": {"group": "{{ 1 + }}"}}), "concurrency.group: `1 +`"),
            (json!({"concurrency": {"limit": 0}}), "concurrency.limit: "),
            (json!({"concurrency": {"limit": 1}}), "concurrency.group: is required"),
            (json!({"concurrency": {"group": "g", "onConflict": "wait"}}), "concurrency.onConflict: "),
            (json!({"queueTimeout": 0}), "queueTimeout: "),
        ] {
            let issues = completed(plan, json!({})).expect_err(path);
            assert!(issues.iter().any(|issue| issue.starts_with(path)), "{path} of {issues:?}");
        }
    }

    #[test]
    fn the_name_of_a_group_is_made_of_the_inputs() {
        let plan = |group: &str| json!({"concurrency": {"group": group, "limit": 2}});
        let group = |template: &str, inputs: Value| {
            completed(plan(template), inputs).map(|plan| plan.concurrency.expect("there").group.to_string())
        };
        assert_eq!(group("deploy-{{ inputs.env }}", json!({"env": "live"})), Ok("deploy-live".to_owned()));
        assert_eq!(group("{{ inputs.n }}", json!({"n": 7})), Ok("7".to_owned()));
        for (template, inputs) in [("{{ inputs.gone }}", json!({})), ("{{ inputs.env }}", json!({"env": ""}))] {
            let issues = group(template, inputs).expect_err(template);
            assert!(issues[0].starts_with("concurrency.group: "), "{issues:?}");
        }
    }
}
