//! Tables of templates, conditions and references; expressions that mean harm.

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::model::{ProjectId, RunId, StepId};

fn scope() -> Scope {
    let inputs = json!({
        "name": "Ann", "n": 3, "big": u64::MAX, "small": i64::MIN, "ratio": 1.0, "yes": true, "no": false,
        "nothing": null, "api-key": "k", "user": {"age": 4, "tags": ["x", "y"]}, "list": [1, 2.5, "z", null, true],
        "empty": [], "quote": "say \"{{ hi }}\""
    });
    let project = ProjectId::parse("proj").expect("an id");
    let run = RunId::parse("run_1").expect("an id");
    [
        ("a", json!({"x": {"y": [10, 20]}, "dash-key": 1, "ok": true})),
        ("my-step", json!("dashed")),
        ("2fa", json!([1])),
        ("if", json!("word")),
        ("skipped", Value::Null),
    ]
    .into_iter()
    .fold(Scope::of_run(&project, &run, Arc::new(inputs)), |scope, (id, output)| {
        scope.with_step(StepId::parse(id).expect("an id"), Arc::new(output))
    })
}

fn rendered(template: &str) -> Result<Value, String> {
    Engine::new().render_value(&json!(template), &scope()).map_err(|error| error.to_string())
}

#[test]
fn one_engine_serves_all_threads() {
    let (engine, scope) = (Engine::new(), scope());
    let render = || engine.render_text("hello {{ inputs.name }}", Escaping::Text, &scope);
    std::thread::scope(|threads| {
        let rendered = [threads.spawn(render), threads.spawn(render)].map(|thread| thread.join().expect("no panic"));
        assert!(rendered.iter().all(|text| text.as_deref() == Ok("hello Ann")), "{rendered:?}");
    });
}

#[test]
fn a_template_that_is_the_whole_string_keeps_its_type() {
    let table = [
        ("{{ inputs.n }}", json!(3)),
        ("{{inputs.big}}", json!(u64::MAX)),
        ("{{ inputs.small }}", json!(i64::MIN)),
        ("{{ inputs.ratio }}", json!(1.0)),
        ("{{ inputs.yes }}", json!(true)),
        ("{{ inputs.nothing }}", json!(null)),
        ("{{ inputs.name }}", json!("Ann")),
        ("{{ inputs.user }}", json!({"age": 4, "tags": ["x", "y"]})),
        ("{{ inputs.list }}", json!([1, 2.5, "z", null, true])),
        ("{{ inputs.list[0] + 1 }}", json!(2)),
        ("{{ inputs.list.2 }}", json!("z")),
        ("{{ inputs.list[-1] }}", json!(true)),
        ("{{ inputs['api-key'] }}", json!("k")),
        ("{{ inputs.user.tags | join('+') }}", json!("x+y")),
        ("{{ inputs.list[1:3] }}", json!([2.5, "z"])),
        ("{{ inputs.user | length }}", json!(2)),
        ("{{ inputs.missing | default('d') }}", json!("d")),
        ("{{ inputs.missing is defined }}", json!(false)),
        ("{{ 7 / 2 }}", json!(3.5)),
        ("{{ {'k': inputs.user, 'l': [inputs.nothing]} }}", json!({"k": {"age": 4, "tags": ["x", "y"]}, "l": [null]})),
        ("{{ inputs.user | items | list }}", json!([["age", 4], ["tags", ["x", "y"]]])),
        ("{{ range(3) }}", json!([0, 1, 2])),
        ("{{ inputs.name if inputs.yes else inputs.missing }}", json!("Ann")),
        ("{{ projectId ~ '/' ~ runId }}", json!("proj/run_1")),
        ("{{ steps.a.output.x.y[1] }}", json!(20)),
        ("{{ steps.a.output['dash-key'] }}", json!(1)),
        ("{{ steps['a'].output.x }}", json!({"y": [10, 20]})),
        ("{{ steps.my-step.output }}", json!("dashed")),
        ("{{ steps[\"my-step\"].output }}", json!("dashed")),
        ("{{steps . my-step . output|upper}}", json!("DASHED")),
        ("{{ steps.2fa.output }}", json!([1])),
        ("{{ steps.if.output }}", json!("word")),
        ("{{ steps.a }}", json!({"output": {"x": {"y": [10, 20]}, "dash-key": 1, "ok": true}})),
        ("{{ steps.skipped.output }}", json!(null)),
        ("{{ 'steps.my-step && ! === null' }}", json!("steps.my-step && ! === null")),
        ("{{ inputs.yes && !inputs.no || null }}", json!(true)),
        ("{{ inputs.n === 3 && inputs.n !== 4 }}", json!(true)),
        ("{{ {'a': {'b': 1}}['a'] }}", json!({"b": 1})),
        ("{{ inputs.quote }}", json!("say \"{{ hi }}\"")),
        ("{{ '}}' }}", json!("}}")),
    ];
    for (template, expected) in table {
        assert_eq!(rendered(template), Ok(expected), "{template}");
    }
}

#[test]
fn a_template_within_text_shows_values_as_json() {
    let table = [
        ("hello", "hello"),
        ("hello {{ inputs.name }}!", "hello Ann!"),
        (" {{ inputs.n }}", " 3"),
        ("{{ inputs.n }}{{ inputs.n }}", "33"),
        ("{{ inputs.yes }} {{ inputs.nothing }} {{ inputs.ratio }}", "true null 1.0"),
        ("u={{ inputs.user }}", r#"u={"age":4,"tags":["x","y"]}"#),
        ("l={{ inputs.list }}", r#"l=[1,2.5,"z",null,true]"#),
        ("l={{ inputs.user.tags | list }}", r#"l=["x","y"]"#),
        ("<{{ '<b>' }}>", "<<b>>"),
        ("a {{- inputs.n -}} b", "a {{- inputs.n -}} b"),
        ("a {{- ' ' ~ inputs.n -}} b", "a {{- ' ' ~ inputs.n -}} b"),
        ("{% if x %} {# not a comment #} ${#list} }} {", "{% if x %} {# not a comment #} ${#list} }} {"),
        ("write {{ '{{' }} so", "write {{ so"),
        ("no ${ inputs.n } here", "no ${ inputs.n } here"),
    ];
    for (template, expected) in table {
        let expected = match template {
            "a {{- inputs.n -}} b" => "a3b",
            "a {{- ' ' ~ inputs.n -}} b" => "a 3b",
            _ => expected,
        };
        assert_eq!(rendered(template), Ok(json!(expected)), "{template}");
    }
}

#[test]
fn true_and_none_had_two_spellings() {
    let table = [
        ("{{ 'a' ~ true ~ none }}", "atruenull"),
        ("{{ true ~ '' }}|{{ true }}", "true|true"),
        ("{{ 'a' ~ inputs.nothing ~ inputs.yes ~ inputs.ratio ~ inputs.big }}", "anulltrue1.018446744073709551615"),
        (
            "{{ inputs.user ~ inputs.list ~ [true, none, 'x'] }}",
            r#"{"age":4,"tags":["x","y"]}[1,2.5,"z",null,true][true,null,"x"]"#,
        ),
        ("{{ 1e300 ~ '' }} {{ '' ~ 2 ** 100 }}", "1e+300 1267650600228229401496703205376"),
        (
            "{{ inputs.list | join(',') }} {{ inputs.list | join(d='-') }} {{ [true, none] | join }}",
            "1,2.5,z,null,true 1-2.5-z-null-true truenull",
        ),
        ("{{ [{'b': true}, {'b': none}] | join(' ', attribute='b') }}", "true null"),
        ("{{ true | string }} {{ none | string }} {{ inputs.user.tags | string }}", r#"true null ["x","y"]"#),
        ("{{ '%s %s %d %s' | format(true, none, 7, inputs.user.tags) }}", r#"true null 7 ["x","y"]"#),
        // As Jinja groups it.
        ("{{ 2 * 3 ~ 4 }} {{ -1 ~ -2 }} {{ 2 ~ 3 ** 2 }} {{ 'a' + 1 ~ 2 + 'b' }}", "64 -1-2 29 a12b"),
        ("{{ 'a' ~ 'b' == 'ab' and not 'a' ~ 'b' != 'ab' }} {{ 'a' ~ 'b' in ['ab'] }}", "true true"),
        ("{{ 'a' ~ true if inputs.yes else 'b' ~ none }} {{ !inputs.yes ~ '' || 'c' ~ null }}", "atrue cnull"),
        ("{{ 'a' ~ ('b' ~ (true ~ 'c') ~ 1) ~ [1 ~ true, {'k': none ~ ''}] }}", r#"abtruec1["1true",{"k":"null"}]"#),
        ("{{ 'a' ~ true | upper ~ inputs.nothing is none }} {{ 'a' ~ 1 is not odd }}", "aTRUEtrue afalse"),
        ("{{ steps.my-step.output ~ steps.a.output.ok ~ projectId }}", "dashedtrueproj"),
        ("{{ '~' ~ \"~\" }}", "~~"),
    ];
    for (template, expected) in table {
        assert_eq!(rendered(&format!("x {template}")), Ok(json!(format!("x {expected}"))), "{template}");
    }
    for template in ["{{ 'a' ~ }}", "{{ ~ 'a' }}", "{{ 'a' ~ ~ 'b' }}", "{{ ['a' ~] }}", "{{ 'a' ~, 'b' }}"] {
        let problem = Engine::new().inspect_text(template, RUN_ROOTS).problems;
        assert!(problem.iter().any(|problem| problem.contains("unexpected")), "{template}: {problem:?}");
    }
    let scope = Scope::new().with("event", Arc::new(json!({"a": 1})));
    assert_eq!(Engine::new().evaluate_or_null("event.a ~ event.gone.x", &scope), Ok(json!("1")));
}

#[test]
fn errors_name_what_is_wrong_and_nothing_that_was_met() {
    let table = [
        ("{{ inputs.missing }}", "inputs.missing is undefined"),
        ("x {{ inputs.user.nam }} y", "inputs.user.nam is undefined"),
        ("{{ inputs.missing.deeper }}", "inputs.missing is undefined"),
        ("{{ inputs.missing.deeper | default(1) }}", "inputs.missing is undefined"),
        ("{{ inputs.a | default(1) + inputs.b }}", "inputs.b is undefined"),
        ("{{ 'a' ~ inputs.b }}", "inputs.b is undefined"),
        ("{{ inputs.b < 1 }}", "inputs.b is undefined"),
        ("{{ 1 in inputs.b }}", "inputs.b is undefined"),
        ("{{ inputs.b in [1] }}", "inputs.b is undefined"),
        ("{{ -inputs.b }}", "inputs.b is undefined"),
        ("{{ inputs.b | upper }}", "inputs.b is undefined"),
        ("{{ inputs.b | length }}", "inputs.b is undefined"),
        ("{{ inputs.b | list }}", "inputs.b is undefined"),
        ("{{ inputs.b | string }}", "inputs.b is undefined"),
        ("{{ inputs.list[9] }}", "inputs.list[9] is undefined"),
        ("{{ inputs['no such'] }}", "inputs[\"no such\"] is undefined"),
        ("{{ steps.gone.output }}", "steps.gone is undefined"),
        ("{{ steps.my-step.output.x }}", "steps.my-step.output.x is undefined"),
        ("{{ steps.skipped.output.x }}", "steps.skipped.output.x is undefined"),
        ("{{ steps.a.outputs }}", "steps.a.outputs is undefined"),
        ("{{ step.a }}", "step is undefined"),
        ("{{ inputs[inputs.name] }}", "`inputs[inputs.name]` uses an undefined value"),
        ("{{ [inputs.missing] }}", "`[inputs.missing]`: the result contains an undefined value"),
        ("{{ inputs.n / 0 }}", "`inputs.n / 0` can't be calculated"),
        (
            "{{ inputs.name * inputs.user }}",
            "`inputs.name * inputs.user`: strings can only be multiplied with integers",
        ),
        ("{{ inputs.n | nope }}", "`inputs.n | nope`: filter nope is unknown"),
        ("{{ 2 ** 100 }}", "`2 ** 100`: the result is an integer of more than 64 bits"),
        ("{{ range }}", "`range`: the result can't be represented in JSON"),
        ("{{ }}", "the expression is empty"),
        ("{{ 'a }}", "`{{` is not closed by `}}`; to write two literal braces, use `{{ \"{{\" }}`"),
    ];
    for (template, expected) in table {
        assert_eq!(rendered(template), Err(expected.to_owned()), "{template}");
    }
    let inputs = json!({"a": [{"q": "{{ inputs.ghost }}"}]});
    let error = Engine::new().render(inputs.as_object().expect("an object"), &scope()).expect_err("undefined");
    assert_eq!(error.to_string(), "inputs.a[0].q: inputs.ghost is undefined");
    let long = format!("{{{{ inputs.{}\n }}}}", "x".repeat(1_000));
    let message = rendered(&long).expect_err("undefined");
    assert!(message.len() < 400 && message.ends_with("...") && !message.contains('\n'), "{message}");
}

#[test]
fn conditions_hold_or_not_with_and_without_wrapping() {
    let table = [
        ("inputs.yes", Ok(true)),
        ("{{ inputs.yes }}", Ok(true)),
        ("${inputs.yes}", Ok(true)),
        ("  ${ inputs.yes }  ", Ok(true)),
        ("{{ inputs.no }}", Ok(false)),
        ("inputs.n > 2 and inputs.n < 4", Ok(true)),
        ("{{ inputs.n }} > 3", Ok(false)),
        ("{{ inputs.n }} > 2 && ${ inputs.name } === 'Ann'", Ok(true)),
        ("${ inputs.no } || ${ inputs.yes }", Ok(true)),
        ("${steps.a.output.ok === true && steps.my-step.output !== 'other'}", Ok(true)),
        ("!inputs.no", Ok(true)),
        ("!(inputs.yes || inputs.no)", Ok(false)),
        ("inputs.nothing == null", Ok(true)),
        ("inputs.nothing", Ok(false)),
        ("inputs.empty", Ok(false)),
        ("inputs.list", Ok(true)),
        ("'b' in ['a', 'b']", Ok(true)),
        ("'x' in inputs.user.tags", Ok(true)),
        ("'age' in inputs.user", Ok(true)),
        ("inputs.user.tags == ['x', 'y']", Ok(true)),
        ("inputs.user == {'age': 4, 'tags': ['x', 'y']}", Ok(true)),
        ("{'a': 1}.a == 1", Ok(true)),
        ("{{ {'a': 1}.a == 1 }}", Ok(true)),
        ("'}' == '}'", Ok(true)),
        ("${ '}' == '}' }", Ok(true)),
        ("inputs.missing is not defined", Ok(true)),
        ("inputs.missing", Err("inputs.missing is undefined")),
        ("inputs.missing == 1", Err("inputs.missing is undefined")),
        ("inputs.yes and inputs.missing", Err("inputs.missing is undefined")),
        ("inputs.no and inputs.missing", Ok(false)),
        ("not inputs.missing", Err("inputs.missing is undefined")),
        ("steps.skipped.output.ok", Err("steps.skipped.output.ok is undefined")),
        ("(inputs.yes", Err("`(inputs.yes`: unexpected end of input, expected `)`")),
        ("${ inputs.yes", Err("`( inputs.yes`: unexpected end of input, expected `)`")),
        ("", Err("the expression is empty")),
    ];
    for (condition, expected) in table {
        let held = Engine::new().is_true(condition, &scope()).map_err(|error| error.to_string());
        assert_eq!(held, expected.map_err(str::to_owned), "{condition}");
        assert_eq!(unwrap_condition(&unwrap_condition(condition)), unwrap_condition(condition), "{condition}");
    }
}

#[test]
fn templates_tell_which_steps_they_name() {
    let table: [(&str, &[&str], &[&str]); 22] = [
        ("plain", &[], &[]),
        (
            "{{ steps.a.output }} {{ steps.b-1.output + steps['c d'].output }} {{ steps.a.output }}",
            &["a", "b-1", "c d", "a"],
            &[],
        ),
        ("{{ steps.a.output[1:2] }}", &["a"], &[]),
        ("{{ 'steps.a' ~ inputs.steps.b }}", &[], &[]),
        ("{{ [1] | map(attribute=steps.a.output) | join(steps.b.output) }}", &["a", "b"], &[]),
        ("{{ steps.a.output if steps.b.output is defined else {'k': steps.c.output} }}", &["a", "b", "c"], &[]),
        ("{{ steps.a.output-steps.b.output }}", &["a", "b"], &[]),
        ("{{ dict(a=range(3) | list) | length is odd }}", &[], &[]),
        ("{{ steps }}", &[], &["`steps` must be followed by a step id: steps.ID.output or steps[\"ID\"].output"]),
        (
            "{{ steps[inputs.x].output }}",
            &[],
            &["`steps` must be followed by a step id: steps.ID.output or steps[\"ID\"].output"],
        ),
        ("{{ steps[0] }}", &[], &["`steps` must be followed by a step id: steps.ID.output or steps[\"ID\"].output"]),
        ("{{ steps.a-b.status }}", &["a-b"], &["a step has no field `status`; use steps.a-b.output"]),
        ("{{ step.a.output }}", &[], &["unknown name `step`; available here: steps, inputs, projectId, runId"]),
        (
            "{{ inputs.api-key }}",
            &[],
            &[
                "unknown name `key`; available here: steps, inputs, projectId, runId; write a key with a dash as [\"a-b\"]",
            ],
        ),
        ("{{ undefined }}", &[], &["unknown name `undefined`; available here: steps, inputs, projectId, runId"]),
        ("{{ steps.a.output | defualt(1) }}", &["a"], &["unknown filter `defualt`"]),
        ("{{ steps.a.output is not odder }}", &["a"], &["unknown test `odder`"]),
        ("{{ lipsum(3) ~ debug() }}", &[], &["unknown function `lipsum`", "unknown function `debug`"]),
        ("{{ steps.a.output", &[], &["`{{` is not closed by `}}`; to write two literal braces, use `{{ \"{{\" }}`"]),
        (
            "{{ 1 + }} {{ steps.a.output }} {{ * }}",
            &["a"],
            &["`1 +`: unexpected end of input, expected expression", "`*`: unexpected `*`"],
        ),
        ("{{ inputs.a is null }}{{ null }}{{ none }}", &[], &[]),
        ("{{ steps.a.output.steps.b }}", &["a"], &[]),
    ];
    for (text, steps, problems) in table {
        let found = Engine::new().inspect_text(text, RUN_ROOTS);
        assert_eq!(found.steps, steps, "{text}");
        assert_eq!(found.problems, problems, "{text}");
    }
    let tool = Engine::new().inspect_text("{{ event.delta }} {{ steps.a.output }}", &["event"]);
    assert_eq!(tool.problems, ["unknown name `steps`; available here: event"]);
}

#[test]
fn conditions_tell_which_steps_they_name() {
    let found = Engine::new().inspect_condition("${ steps.a.output } > {{ steps.b-c.output }}", RUN_ROOTS);
    assert_eq!(found, Inspection { steps: vec!["a".into(), "b-c".into()], problems: vec![] });
    let quoted = Engine::new().inspect_condition("'{{ steps.a.output }}' == 'yes'", RUN_ROOTS);
    assert_eq!(quoted.problems, ["a template inside quotes is not evaluated; write the value without quotes"]);
}

#[test]
fn expressions_that_mean_harm_are_errors() {
    let bombs = [
        "{{ 'x' * 1000000000 }}",
        "{{ ('x' * 30000000) ~ ('x' * 30000000) ~ ('x' * 30000000) }}",
        "{{ 'x' * 90000000 }}",
        "{{ ('x' * 10000000) * 10 }}",
        "{{ [0] * 90000000 }}",
        "{{ range(100000) | list * 1000 }}",
        "{{ '%1000000000d' | format(1) }}",
        "{{ 'x\n' * 1000000 | indent(1000) }}",
        "{{ inputs.list | batch(1000000000, 'x') | list }}",
        "{{ range(99999) | map('string') | join('x' * 10000) }}",
        "{{ 2 ** 100000 }}",
        "{{ 'aaaaaaaaaa' | replace('', 'y' * 1000000) | replace('', 'y' * 1000000) }}",
    ];
    for bomb in bombs {
        assert!(rendered(bomb).is_err(), "{bomb}");
    }
}

#[test]
fn what_is_filled_in_is_bounded_over_all_templates() {
    let scope = Scope::new().with("inputs", Arc::new(json!({"mib": "x".repeat(1 << 20)})));
    let engine = Engine::new();
    let times = |count: usize| Value::Array(vec![json!("{{ inputs.mib }}"); count]);
    assert!(engine.render_value(&times(64), &scope).is_ok());
    let error = engine.render_value(&times(65), &scope).expect_err("too much");
    assert_eq!(error.to_string(), "[64]: `inputs.mib`: the result is too large");
    let text = engine.render_text(&"{{ inputs.mib }}".repeat(65), Escaping::Text, &scope).expect_err("too much");
    assert_eq!(text.to_string(), "`inputs.mib`: the result is too large");
}

#[test]
fn nothing_nests_so_deep_that_the_stack_ends() {
    let engine = Engine::new();
    let expressions = [
        "(".repeat(100_000),
        "[".repeat(100_000),
        format!("{}1{}", "(".repeat(200), ")".repeat(200)),
        format!("{}1", "-".repeat(490)),
        format!("{}1", "not ".repeat(490)),
        format!("{}1", "!".repeat(490)),
        format!("1{}", "+1".repeat(249)),
        format!("1{}", "**1".repeat(249)),
        format!("1{}", "|abs".repeat(249)),
        format!("inputs{}", ".a".repeat(249)),
        format!("inputs{}", "[0]".repeat(166)),
        format!("1{}", " if 1 else 1".repeat(124)),
        format!("1{}", " and 1".repeat(249)),
        format!("1{}", " < 1".repeat(249)),
        format!("1{}", "+1".repeat(100_000)),
        format!("1{}", " is odd".repeat(249)),
        format!("1{}", "~1".repeat(249)),
    ];
    let value_of =
        |expression: &str, scope: &Scope| engine.render_value(&json!(format!("{{{{ {expression} }}}}")), scope);
    for expression in expressions {
        let _ = value_of(&expression, &scope());
        let _ = engine.is_true(&format!("{{{{ {expression} }}}}"), &scope());
        let _ = engine.inspect_text(&format!("{{{{ {expression} }}}}"), RUN_ROOTS);
    }
    let nested = |depth: usize| (0..depth).fold(json!("{{ inputs.n }}"), |value, _| json!([value]));
    assert!(engine.render_value(&nested(DEPTH_MAX), &scope()).is_ok());
    assert!(engine.render_value(&nested(DEPTH_MAX + 1), &scope()).is_err());
    let deep = Scope::new().with("inputs", Arc::new(nested(1_000)));
    for harmless in
        ["inputs", "inputs | tojson", "inputs | string", "inputs ~ ''", "inputs == [inputs]", "inputs | sort"]
    {
        let _ = value_of(harmless, &deep);
    }
    let message = value_of("inputs", &deep).expect_err("too deep").message;
    assert_eq!(message, "`inputs`: the result is nested too deeply");
}

#[test]
fn reaching_into_an_output_does_not_copy_it() {
    let output = Arc::new(json!({"rows": [[1, 2], [3, 4]]}));
    let scope = Scope::new().with_step(StepId::parse("a").expect("an id"), output.clone());
    let engine = Engine::new();
    let rows = engine.strict.compile_expression("steps.a.output.rows").expect("parses");
    let value = rows.eval(scope.context()).expect("evaluates");
    assert!(Arc::strong_count(&output) > 2, "the value shares the output");
    assert_eq!(value::to_json(&value, &mut Budget::new(1_000)), Ok(json!([[1, 2], [3, 4]])));
}

#[test]
fn what_counts_as_a_plain_path_jinja_always_takes() {
    for plain in ["inputs", " steps.a.output.n ", "a._b.c9", "self.loop.x", "set.for.block.with"] {
        assert!(expression::is_plain_path(plain), "{plain}");
        let parsed = Parsed::read(plain).expect(plain);
        assert!(Engine::new().strict.compile_expression_owned(parsed.source).is_ok(), "{plain}");
    }
    for other in ["", "a.", ".a", "a..b", "a. b", "a-b", "a[0]", "a.0", "9a", "a|b", "not", "a.if", "true", "null", "ü"]
    {
        assert!(!expression::is_plain_path(other), "{other}");
    }
}

#[test]
fn items_are_an_array_of_bounded_length() {
    let engine = Engine::new();
    let scope =
        Scope::new().with("inputs", Arc::new(json!({"list": [1, {"a": 2}], "text": "ab", "map": {"a": 1}, "n": 4})));
    let items = |expression: &str| {
        let items = engine.items(&Items::Expression(expression.into()), &scope, 3);
        items.map(Value::Array).map_err(|error| error.to_string())
    };
    for (expression, expected) in [
        ("inputs.list", json!([1, {"a": 2}])),
        ("{{ inputs.list }}", json!([1, {"a": 2}])),
        ("inputs.list | map('string')", json!(["1", "{\"a\":2}"])),
        ("range(3)", json!([0, 1, 2])),
        ("[]", json!([])),
    ] {
        assert_eq!(items(expression), Ok(expected), "{expression}");
    }
    for (expression, expected) in [
        ("inputs.text", "`inputs.text`: must be an array, not string"),
        ("inputs.map", "`inputs.map`: must be an array, not map"),
        ("inputs.n", "`inputs.n`: must be an array, not number"),
        ("inputs.none", "inputs.none is undefined"),
        ("range(4)", "too many items: 4 (limit 3, not configurable)"),
        ("range(90000) | map('string')", "too many items: 90000 (limit 3, not configurable)"),
    ] {
        assert_eq!(items(expression), Err(expected.to_owned()), "{expression}");
    }
    let literal = Items::Array(vec![json!("{{ inputs.n }}"), json!({"x": "{{ inputs.gone }}"})]);
    assert_eq!(
        engine.items(&literal, &scope, 3).map_err(|error| error.to_string()),
        Err("[1].x: inputs.gone is undefined".to_owned())
    );
}
