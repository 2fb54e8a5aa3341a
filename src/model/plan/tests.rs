//! Tables of documents and what is said of them; big plans; the graph.

use serde_json::{Value, json};

use super::*;
use crate::model::{Quoted, RunId};

fn read(document: &Value) -> Result<Plan, Vec<Issue>> {
    Draft::read(document, 10_000).finish()
}

fn plan(steps: Value) -> Value {
    json!({"name": "p", "steps": steps})
}

fn said(document: &Value) -> Vec<String> {
    read(document).map_or_else(|issues| issues.iter().map(ToString::to_string).collect(), |_| Vec::new())
}

fn step(id: &str, dependencies: &[&str]) -> Value {
    json!({"id": id, "tool": "echo", "dependencies": dependencies})
}

#[test]
fn a_long_piece_of_a_document_is_quoted_on_one_line_too() {
    let long = format!("\u{1b}[2J\n{}", "x".repeat(100));
    let shown = Quoted(&long).to_string();
    assert!(shown.starts_with("\"\\u{1b}[2J\\nxx") && shown.ends_with("x\"..."), "{shown}");
    assert_eq!(Quoted("a\u{7f}").to_string(), "\"a\\u{7f}\"");
}

#[test]
fn every_issue_is_found_at_once_and_in_the_documents_order() {
    let document = json!({
        "name": " ", "description": 3, "onFailure": "retry", "timeout": 0, "inputs": [], "estimatedDuration": 1.5,
        "steps": [
            {"id": "a", "tool": "echo", "dependencies": ["b", "nope", 7, "a"], "priority": "high"},
            {"id": "b", "dependencies": ["a"], "retryPolicy":
                {"maxRetries": 101, "backoff": "quadratic", "initialDelay": -1, "maxDelay": 86_400_001, "jitter": 1}},
            {"id": "b", "tool": ""},
            {"id": "x y", "tool": "echo", "dependencies": "a", "continueOnFailure": "yes", "conditional": 1},
            {"tool": [], "inputs": "none", "retryPolicy": {}, "timeout": 2_592_000_001_u64},
            "step"
        ]
    });
    let expected = [
        "name: must not be empty",
        "description: must be a string, not a number",
        "onFailure: must be \"stop\" or \"continue\", not \"retry\"",
        "inputs: must be an object, not an array",
        "estimatedDuration: must be an integer from 0 to 9007199254740991, not 1.5",
        "timeout: must be an integer from 1 to 2592000000, not 0",
        "steps[0].priority: must be an integer, not \"high\"",
        "steps[0].dependencies[1]: unknown step \"nope\"",
        "steps[0].dependencies[2]: must be a step id, not a number",
        "steps[0].dependencies[3]: a step can't depend on itself",
        "steps[0].dependencies: dependency cycle (each step depends on the next): a -> b -> a",
        "steps[1].tool: is required and must be a string",
        "steps[1].retryPolicy.maxRetries: must be an integer from 0 to 100, not 101",
        "steps[1].retryPolicy.backoff: must be \"fixed\" or \"linear\" or \"exponential\", not \"quadratic\"",
        "steps[1].retryPolicy.initialDelay: must be an integer from 0 to 86400000, not -1",
        "steps[1].retryPolicy.maxDelay: must be an integer from 0 to 86400000, not 86400001",
        "steps[1].retryPolicy.jitter: must be true or false, not 1",
        "steps[2].id: duplicate step id \"b\"; steps[1] already has it",
        "steps[2].tool: must not be empty",
        "steps[3].id: a step id must be 1 to 128 characters from A-Z a-z 0-9 _ -, not \"x y\"",
        "steps[3].conditional: must be a string, not a number",
        "steps[3].continueOnFailure: must be true or false, not \"yes\"",
        "steps[3].dependencies: must be an array, not a string",
        "steps[4].id: is required and must be a string",
        "steps[4].tool: must be a string, not an array",
        "steps[4].inputs: must be an object, not a string",
        "steps[4].timeout: must be an integer from 1 to 2592000000, not 2592000001",
        "steps[4].retryPolicy.maxRetries: is required and must be an integer from 0 to 100",
        "steps[5]: a step must be an object, not a string",
    ];
    assert_eq!(said(&document), expected);
    let issues = read(&document).expect_err("many issues");
    let ids: Vec<_> = issues.iter().filter_map(|issue| issue.step_id.as_ref()).map(StepId::as_str).collect();
    assert_eq!(ids, ["a", "a", "a", "a", "a", "b", "b", "b", "b", "b", "b", "b"]);
}

#[test]
fn documents_that_are_hardly_plans() {
    let table = [
        (json!(null), vec!["a plan must be an object, not null"]),
        (json!([]), vec!["a plan must be an object, not an array"]),
        (json!({}), vec!["steps: is required and must be an array of steps", "name: is required and must be a string"]),
        (json!({"name": "p", "steps": {}}), vec!["steps: must be an array, not an object"]),
        (json!({"name": "p", "steps": null}), vec!["steps: is required and must be an array of steps"]),
        (plan(json!([])), vec!["steps: must have at least one step"]),
        (
            plan(json!([{}])),
            vec!["steps[0].id: is required and must be a string", "steps[0].tool: is required and must be a string"],
        ),
        (json!({"name": "n".repeat(257), "steps": [step("a", &[])]}), vec!["name: must have at most 256 characters"]),
        (json!({"name": "ü".repeat(256), "steps": [step("a", &[])]}), vec![]),
    ];
    for (document, expected) in table {
        assert_eq!(said(&document), expected, "{document}");
    }
    let deep = |levels| (0..levels).fold(json!(1), |value, _| json!([value]));
    let nested = |levels| plan(json!([{"id": "a", "tool": "echo", "inputs": {"x": deep(levels)}}]));
    assert_eq!(said(&nested(124)), Vec::<String>::new());
    assert_eq!(said(&nested(125)), ["a plan must not be nested more than 128 levels deep"]);
    let many = plan(Value::Array(vec![json!("x"); 10_001]));
    assert_eq!(said(&many), ["steps: too many steps: 10001 (limit 10000, limits.plan_steps)"]);
}

#[test]
fn a_plan_is_read_whole_with_its_defaults() {
    let document = json!({
        "name": "p", "description": null, "metadata": {"who": "cares"}, "inputs": {"a": 1},
        "onFailure": "continue", "timeout": 5,
        "steps": [
            {"id": "a", "title": null, "tool": "echo", "dependencies": null, "unknown": [1]},
            {"id": "b", "title": "B", "description": "does b", "tool": "echo", "dependencies": ["a", "a"],
             "inputs": {"x": "{{ steps.a.output }}"}, "conditional": "  true ", "timeout": 7, "priority": -3,
             "estimatedDuration": 9, "continueOnFailure": true,
             "retryPolicy": {"maxRetries": 100, "backoff": "exponential", "maxDelay": 0, "jitter": true}}
        ]
    });
    let plan = read(&document).expect("a plan").with_inputs(json!({"b": 2, "a": 3}).as_object().expect("map").clone());
    let [a, b] = plan.steps.as_slice() else { panic!("two steps") };
    assert_eq!(
        (&*a.title, &*a.description, a.retry, a.conditional.as_deref()),
        ("a", "", RetryPolicy::default(), None)
    );
    assert_eq!((&*b.title, &*b.description, b.conditional.as_deref()), ("B", "does b", Some("true")));
    assert_eq!((b.dependencies.as_slice(), b.level, b.priority), (&[0][..], 1, -3));
    assert_eq!((b.timeout, plan.timeout), (Some(Duration::from_millis(7)), Some(Duration::from_millis(5))));
    let retry = RetryPolicy {
        max_retries: 100,
        backoff: Backoff::Exponential,
        initial_delay: 1_000,
        max_delay: 0,
        jitter: true,
    };
    assert_eq!((b.retry, b.continue_on_failure), (retry, true));
    assert_eq!((plan.on_failure, plan.estimated_duration), (OnFailure::Continue, 9));
    assert_eq!(Value::Object(plan.inputs), json!({"a": 3, "b": 2}));
}

#[test]
fn levels_are_longest_paths_and_start_by_priority() {
    let mut steps = vec![
        step("end", &["left", "deep"]),
        step("root", &[]),
        step("left", &["root"]),
        step("mid", &["root"]),
        step("deep", &["mid", "root"]),
        step("lone", &[]),
    ];
    steps[5]["priority"] = json!(1);
    for (at, ms) in [(0, 5), (2, 30), (3, 20), (4, 7)] {
        steps[at]["estimatedDuration"] = json!(ms);
    }
    let plan = read(&plan(Value::Array(steps))).expect("a plan");
    assert_eq!(plan.levels, [vec![5, 1], vec![2, 3], vec![4], vec![0]]);
    assert!(plan.levels.iter().enumerate().all(|(at, level)| level.iter().all(|&step| plan.steps[step].level == at)));
    assert_eq!(plan.estimated_duration, 30 + 7 + 5, "the longest of each level");
    let summary = serde_json::to_value(plan.summary()).expect("serializes");
    assert_eq!(summary["levels"], json!([["lone", "root"], ["left", "mid"], ["deep"], ["end"]]));
    assert_eq!(summary["totalLevels"], 4);
    assert_eq!(summary["steps"][1], json!({"id": "root", "title": "root", "description": "", "tool": "echo"}));
}

#[test]
fn cycles_are_named_once_each() {
    let ring = |size: usize| -> Value {
        (0..size).map(|at| step(&format!("s{at}"), &[&format!("s{}", (at + 1) % size)])).collect()
    };
    let table = [
        (json!([step("c", &["a"]), step("b", &["c"]), step("a", &["b"])]), vec!["0: c -> a -> b -> c"]),
        (
            json!([step("x", &["a"]), step("a", &["b"]), step("b", &["a"]), step("c", &["d"]), step("d", &["c", "b"])]),
            vec!["1: a -> b -> a", "3: c -> d -> c"],
        ),
        (
            json!([step("after", &["a"]), step("a", &["a2", "b"]), step("a2", &[]), step("b", &["a"])]),
            vec!["1: a -> b -> a"],
        ),
        (
            ring(10_000),
            vec!["0: s0 -> s1 -> s2 -> s3 -> s4 -> s5 -> s6 -> s7 -> s8 -> s9 -> s10 -> s11 -> (9988 more) -> s0"],
        ),
    ];
    for (steps, expected) in table {
        let issues = read(&plan(steps)).expect_err("a cycle");
        let found: Vec<_> = issues
            .iter()
            .map(|issue| {
                let path = issue.path.trim_start_matches("steps[").trim_end_matches("].dependencies");
                let cycle = issue.message.trim_start_matches("dependency cycle (each step depends on the next): ");
                format!("{path}: {cycle}")
            })
            .collect();
        assert_eq!(found, expected);
    }
}

#[test]
fn the_greatest_plans_are_read_without_deep_recursion() {
    let chain = (0..10_000).map(|at| match at {
        0 => step("s0", &[]),
        at => step(&format!("s{at}"), &[&format!("s{}", at - 1)]),
    });
    let chain = read(&plan(chain.collect())).expect("a plan");
    assert_eq!((chain.levels.len(), chain.steps[9_999].level), (10_000, 9_999));

    let wide = read(&plan((0..10_000).map(|at| step(&format!("s{at}"), &[])).collect())).expect("a plan");
    assert_eq!((wide.levels.len(), wide.levels[0].len()), (1, 10_000));
}

#[test]
fn only_the_first_hundred_issues_are_shown() {
    let steps = |count: usize| plan((0..count).map(|_| json!({"id": "é"})).collect());
    let exact = said(&steps(50));
    assert_eq!((exact.len(), exact[99].as_str()), (100, "steps[49].tool: is required and must be a string"));
    let over = said(&steps(5_000));
    assert_eq!((over.len(), over[99].as_str()), (100, "9901 more issues are not shown"));
}

#[test]
fn ancestors_are_found_over_any_distance() {
    // A ladder: 2n and 2n+1 wait for 2n-2 alone, so that the odd ones are nobody's ancestors.
    let dependencies: Vec<Vec<usize>> = (0..400).map(|at| if at < 2 { vec![] } else { vec![at / 2 * 2 - 2] }).collect();
    let order = graph::Order::new(&dependencies);
    let pairs: Vec<(usize, usize)> = (0..400).flat_map(|step| (0..400).map(move |target| (step, target))).collect();
    let unreached = order.unreached(&dependencies, &pairs);
    let expected: Vec<_> =
        pairs.into_iter().filter(|&(step, target)| target % 2 == 1 || target / 2 >= step / 2).collect();
    assert_eq!(unreached, expected);
}

#[test]
fn bodies_are_plans_or_wrap_them() {
    let object = |value: Value| value.as_object().cloned().expect("an object");
    let wrapped = Submission::read(json!({"plan": 1, "inputs": {"a": 1}, "runId": "r:1", "projectId": "p"}));
    let expected = Submission {
        plan: json!(1),
        inputs: object(json!({"a": 1})),
        run_id: RunId::parse("r:1").ok(),
        issues: Vec::new(),
    };
    assert_eq!(wrapped, Ok(expected));
    let nulls = Submission::read(json!({"plan": {}, "inputs": null, "runId": null}));
    assert_eq!(nulls, Ok(Submission { plan: json!({}), ..Submission::default() }));
    let bare = json!({"name": "p", "inputs": 3, "runId": 4});
    assert_eq!(Submission::read(bare.clone()), Ok(Submission { plan: bare, ..Submission::default() }));
    assert_eq!(Submission::read(json!([])), Err(SubmissionError::NotAnObject));

    let Err(SubmissionError::Issues(issues)) =
        Submission::read(json!({"plan": {}, "inputs": [], "runId": "a b", "projectId": 1}))
    else {
        panic!("three issues")
    };
    let said: Vec<_> = issues.iter().map(ToString::to_string).collect();
    let expected = [
        "runId: a run id must be 1 to 128 characters from A-Z a-z 0-9 . _ : -",
        "projectId: must be a string, not a number",
        "inputs: must be an object, not an array",
    ];
    assert_eq!(said, expected);
}

#[test]
fn a_misspelt_dependency_is_told_which_step_may_be_meant() {
    let document = plan(json!([step("collect", &[]), step("write", &["colect", "publish"]), {"tool": "echo"}]));
    let said = said(&document);
    assert_eq!(said[0], "steps[1].dependencies[0]: unknown step \"colect\"; did you mean \"collect\"?");
    assert_eq!(said[1], "steps[1].dependencies[1]: unknown step \"publish\"");
}
