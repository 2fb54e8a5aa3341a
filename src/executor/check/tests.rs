//! What is wrong with plans, and what is not.

use serde_json::json;

use super::*;
use crate::executor::tool::{Call, Outcome, ToolError};

struct Anything;

impl Tool for Anything {
    fn call(&self, call: &Call<'_>) -> Result<Outcome, ToolError> {
        Ok(Outcome::Output(Value::Object(call.inputs.clone())))
    }
}

/// Wants `ms` to be a number, and says something of the whole where it is missing.
struct Strict;

impl Tool for Strict {
    fn call(&self, _: &Call<'_>) -> Result<Outcome, ToolError> {
        Ok(Outcome::Output(Value::Null))
    }

    fn check_inputs(&self, inputs: &Map<String, Value>, is_template: &dyn Fn(&str) -> bool) -> Vec<(String, String)> {
        match inputs.get("ms") {
            Some(Value::Bool(_)) => panic!("a bool"),
            None => vec![(String::new(), "ms is missing".into())],
            Some(Value::Number(_)) => vec![],
            Some(Value::String(text)) if is_template(text) => vec![],
            Some(_) => vec![("ms".into(), "must be a number".into())],
        }
    }
}

/// Is nothing for items.
struct Alone;

impl Tool for Alone {
    fn call(&self, _: &Call<'_>) -> Result<Outcome, ToolError> {
        Ok(Outcome::Output(Value::Null))
    }

    fn fits_for_each(&self) -> bool {
        false
    }
}

fn registry() -> Registry {
    let mut registry = Registry::new();
    registry.insert("echo", Anything);
    registry.insert("delay", Strict);
    registry.insert("alone", Alone);
    registry
}

fn check(steps: Value) -> Result<Plan, Vec<Issue>> {
    check_plan(&json!({"name": "p", "steps": steps}), &registry(), &Engine::new(), 10_000)
}

#[test]
fn tools_templates_and_conditions_are_checked_with_all_the_rest() {
    let issues = check(json!([
        {"id": "a", "tool": "ehco", "inputs": {"q": "{{ steps.b.output }}"}},
        {"id": "b", "tool": "delay", "dependencies": ["a"], "priority": true,
         "inputs": {"ms": "soon", "x": ["{{ 1 + }}", {"y z": "{{ steps.nope.output }} {{ lipsum() }}"}]}},
        {"id": "c", "tool": "delay", "dependencies": ["b"], "conditional": "${ steps.d.output.ok"},
        {"id": "d", "tool": "delay", "dependencies": ["c"], "conditional": "steps.d.output || steps.a.output",
         "inputs": {"ms": "{{ steps.a.output }}"}},
        {"tool": "summarize", "inputs": {"q": "{{ step.a }}"}}
    ]));
    let said: Vec<_> = issues.expect_err("many").iter().map(ToString::to_string).collect();
    let expected = [
        "steps[0].tool: unknown tool \"ehco\"; did you mean \"echo\"? (available tools: alone, delay, echo)",
        "steps[0].inputs.q: \"b\" is not among the steps that this one depends on, so its output is not available here",
        "steps[1].priority: must be an integer, not true",
        "steps[1].inputs.x[0]: `1 +`: unexpected end of input, expected expression",
        "steps[1].inputs.x[1].y z: unknown function `lipsum`",
        "steps[1].inputs.x[1].y z: unknown step \"nope\"",
        "steps[1].inputs.ms: must be a number",
        "steps[2].inputs: ms is missing",
        "steps[2].conditional: `( steps.d.output.ok`: unexpected end of input, expected `)`",
        "steps[3].conditional: \"d\" is the step itself, so its output is not available here",
        "steps[4].id: is required and must be a string",
        "steps[4].inputs.q: unknown name `step`; available here: steps, inputs, projectId, runId",
        "steps[4].tool: unknown tool \"summarize\" (available tools: alone, delay, echo)",
    ];
    assert_eq!(said, expected);
}

#[test]
fn a_template_in_a_key_stayed_as_it_was() {
    let steps =
        json!([{"id": "a", "tool": "echo", "inputs": {"{{ inputs.k }}": 1, "x": [{"a {{": "{{ inputs.v }}"}]}}]);
    let issues = check(steps.clone()).expect_err("refused");
    let said: Vec<_> = issues.iter().map(|issue| (issue.path.as_str(), issue.message.as_str())).collect();
    let paths = ["steps[0].inputs.{{ inputs.k }}", "steps[0].inputs.x[0].a {{"];
    assert_eq!(said, paths.map(|path| (path, KEY_IS_TEMPLATE)));
    let kept = reread_plan(&json!({"name": "p", "steps": steps}), &Engine::new());
    assert!(kept.is_ok(), "a plan that was taken on before goes on");
    let computed = check(json!([{"id": "a", "tool": "echo", "inputs": {"x": "{{ {inputs.k: inputs.v} }}"}}]));
    assert!(computed.is_ok(), "what the issue recommends");
}

#[test]
fn a_tool_that_panicked_over_a_plans_inputs_ended_the_process() {
    let issues = check(json!([{"id": "a", "tool": "delay", "inputs": {"ms": true}}])).expect_err("refused");
    assert_eq!(issues[0].to_string(), "steps[0].inputs: the tool panicked while checking its inputs");
}

#[test]
fn a_good_plan_knows_what_its_steps_refer_to() {
    let plan = check(json!([
        {"id": "a", "tool": "echo"},
        {"id": "b-1", "tool": "echo", "dependencies": ["a"], "conditional": " ${ steps.a.output.ok } "},
        {"id": "c", "tool": "delay", "dependencies": ["b-1"], "conditional": "${steps.a.output} && true",
         "inputs": {"ms": "{{ steps.b-1.output }}", "t": "{{ steps.a.output }} {{ inputs.not_there_yet }}"}}
    ]))
    .expect("a plan");
    let references: Vec<_> = plan.steps.iter().map(|step| step.references.clone()).collect();
    assert_eq!(references, [vec![], vec![0], vec![1, 0]]);
    assert_eq!(plan.steps[1].conditional.as_deref(), Some("steps.a.output.ok"));
    assert_eq!(plan.steps[2].conditional.as_deref(), Some("(steps.a.output) && true"));
}

#[test]
fn a_chain_of_the_greatest_length_may_refer_to_its_beginning_from_everywhere() {
    let steps = (0..10_000).map(|at: usize| {
        let dependencies: Vec<_> = at.checked_sub(1).map(|before| format!("s{before}")).into_iter().collect();
        let far = at.checked_sub(2).map_or(String::new(), |_| format!("{{{{ steps.s{}.output }}}}", at / 2));
        json!({"id": format!("s{at}"), "tool": "echo", "dependencies": dependencies, "inputs": {"x": far}})
    });
    let plan = check(steps.collect()).expect("a plan");
    assert_eq!(plan.steps[9_999].references, [4_999]);
}

#[test]
fn what_a_step_is_made_for_is_checked_with_the_names_that_its_inputs_may_use() {
    let step = |fields: Value| {
        let mut step = json!({"id": "b", "tool": "echo", "dependencies": ["a"]});
        step.as_object_mut().expect("an object").extend(fields.as_object().cloned().expect("an object"));
        check(json!([{"id": "a", "tool": "echo"}, {"id": "c", "tool": "echo"}, step]))
    };
    let said = |fields| step(fields).map(drop).map_err(|issues| issues[0].to_string());
    let good = json!({"forEach": " {{ steps.a.output.items }} ", "as": "city", "maxConcurrent": 100,
        "onItemFailure": "continue", "inputs": {"q": "{{ city.name }} {{ index }}"}});
    let plan = step(good).expect("a plan");
    let expected = ForEach {
        items: Items::Expression("steps.a.output.items".into()),
        name: "city".into(),
        max_concurrent: 100,
        on_item_failure: Some(crate::model::OnFailure::Continue),
    };
    assert_eq!((plan.steps[2].for_each.as_ref(), &plan.steps[2].references[..]), (Some(&expected), &[0][..]));
    let literal =
        step(json!({"forEach": [1, {"x": "{{ inputs.y }}"}], "inputs": {"q": "{{ item }}"}})).expect("a plan");
    assert_eq!(literal.steps[2].for_each.as_ref().map(|each| each.max_concurrent), Some(10));
    for (fields, expected) in [
        (json!({"forEach": 7}), "steps[2].forEach: must be an expression or an array, not a number"),
        (json!({"forEach": "  "}), "steps[2].forEach: must not be empty"),
        (json!({"forEach": vec![0; 1001]}), "steps[2].forEach: too many items: 1001 (limit 1000, not configurable)"),
        (
            json!({"forEach": "steps.a.output", "as": "a-b"}),
            "steps[2].as: must start with a letter and contain only letters, digits and _",
        ),
        (
            json!({"forEach": "steps.a.output", "as": "index"}),
            "steps[2].as: index is reserved in expressions; choose another name",
        ),
        (
            json!({"forEach": [], "maxConcurrent": 101}),
            "steps[2].maxConcurrent: must be an integer from 1 to 100, not 101",
        ),
        (
            json!({"forEach": "item.x"}),
            "steps[2].forEach: unknown name `item`; available here: steps, inputs, projectId, runId",
        ),
        (
            json!({"forEach": ["{{ item }}"]}),
            "steps[2].forEach[0]: unknown name `item`; available here: steps, inputs, projectId, runId",
        ),
        (
            json!({"forEach": "steps.c.output"}),
            "steps[2].forEach: \"c\" is not among the steps that this one depends on, so its output is not available here",
        ),
        (
            json!({"forEach": [1], "as": "x", "inputs": {"q": "{{ item }}"}}),
            "steps[2].inputs.q: unknown name `item`; available here: steps, inputs, projectId, runId, x, index",
        ),
        (
            json!({"forEach": [1], "conditional": "item"}),
            "steps[2].conditional: unknown name `item`; available here: steps, inputs, projectId, runId",
        ),
        (
            json!({"inputs": {"q": "{{ item }}"}}),
            "steps[2].inputs.q: unknown name `item`; available here: steps, inputs, projectId, runId",
        ),
        (json!({"forEach": [1], "tool": "alone"}), "steps[2].forEach: the tool alone can't be used with forEach"),
    ] {
        assert_eq!(said(fields.clone()), Err(expected.to_owned()), "{fields}");
    }
}
