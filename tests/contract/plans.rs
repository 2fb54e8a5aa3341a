//! Plans: which are refused, and how accepted ones run, message by message.

use serde_json::{Value, json};

use crate::common::client::Request;
use crate::common::server::{Server, Setup, run};

fn echo(id: &str, inputs: Value, dependencies: &[&str]) -> Value {
    json!({"id": id, "tool": "echo", "inputs": inputs, "dependencies": dependencies})
}

fn failing(id: &str, more: Value) -> Value {
    merged(json!({"id": id, "tool": "fail", "inputs": {"message": format!("boom {id}")}}), more)
}

fn merged(mut base: Value, more: Value) -> Value {
    let more = more.as_object().expect("an object").clone();
    base.as_object_mut().expect("an object").extend(more);
    base
}

fn plan(steps: Value) -> Value {
    json!({"name": "n", "steps": steps})
}

/// A run's messages in short: `started`, `level 0`, `a running 1`, `level 0 ended`, `completed`.
fn short(messages: &[Value]) -> Vec<String> {
    let text = |message: &Value| {
        let payload = &message["payload"];
        let word = |key: &str| payload[key].as_str().unwrap_or_default().to_owned();
        match message["type"].as_str().expect("a type") {
            "workflow_level_started" => format!("level {}", payload["level"]),
            "workflow_level_completed" => format!("level {} ended", payload["level"]),
            "workflow_progress" => format!("{} {} {}", word("stepId"), word("status"), payload["attempt"]),
            other => other.trim_start_matches("workflow_").to_owned(),
        }
    };
    messages.iter().map(text).collect()
}

/// The payload of the message in which `step` has this status.
fn moment<'m>(messages: &'m [Value], step: &str, status: &str) -> &'m Value {
    let is_it = |payload: &&Value| payload["stepId"] == step && payload["status"] == status;
    let found = messages.iter().map(|message| &message["payload"]).find(is_it);
    found.unwrap_or_else(|| panic!("no {step} {status} in {messages:#?}"))
}

fn last(messages: &[Value]) -> &Value {
    &messages.last().expect("a message")["payload"]
}

#[test]
fn all_that_is_wrong_with_a_plan_is_said_at_once() {
    let server = Server::open();
    let bad = plan(json!([
        echo("a", json!({}), &["b"]),
        echo("b", json!({}), &["c"]),
        echo("c", json!({}), &["a"]),
        {"tool": "echo"},
        {"id": "a", "tool": "nope"},
        {"id": "x y", "tool": "echo", "timeout": -1},
        {"id": "r", "tool": "echo", "retryPolicy": {"maxRetries": 101, "backoff": "never"}},
        {"id": "t", "tool": "echo", "inputs": {"deep": ["{{ steps.nope.output }}", "{{ 1 + }}"]}},
        {"id": "u", "tool": "echo", "conditional": "steps.t.output == 1"},
        {"id": "v", "tool": "delay", "inputs": {"ms": "soon"}},
        {"id": "w", "tool": "echo", "dependencies": ["w", "zz"]},
        echo("k", json!({"{{ inputs.k }}": 1}), &[]),
    ]));
    let answer = server.post("/api/workflow/check", &bad);
    assert_eq!((answer.status, answer.code().as_str()), (422, "invalid_plan"));
    let problem = answer.json();
    let issues = problem["issues"].as_array().expect("a list");
    for (path, word) in [
        ("steps[0].dependencies", "a -> b -> c -> a"),
        ("steps[3].id", "required"),
        ("steps[4].id", "\"a\""),
        ("steps[4].tool", "nope"),
        ("steps[5].id", "x y"),
        ("steps[5].timeout", "-1"),
        ("steps[6].retryPolicy.maxRetries", "100"),
        ("steps[6].retryPolicy.backoff", "exponential"),
        ("steps[7].inputs.deep[0]", "nope"),
        ("steps[7].inputs.deep[1]", "unexpected"),
        ("steps[8].conditional", "\"t\""),
        ("steps[9].inputs.ms", "milliseconds"),
        ("steps[10].dependencies[0]", "itself"),
        ("steps[10].dependencies[1]", "zz"),
        ("steps[11].inputs.{{ inputs.k }}", "templates in keys"),
    ] {
        let says = |issue: &Value| issue["message"].as_str().is_some_and(|message| message.contains(word));
        let found = issues.iter().any(|issue| issue["path"] == path && says(issue));
        assert!(found, "{path} {word}: {problem:#}");
    }
    let of_step = issues.iter().find(|issue| issue["path"] == "steps[9].inputs.ms").expect("found before");
    assert_eq!(of_step["stepId"], "v");
    assert_eq!(server.post("/api/projects/p/workflows", &bad).json()["issues"], problem["issues"]);
    assert_eq!(server.get("/api/projects/p/workflows").json()["workflows"], json!([]), "nothing has run");
}

#[test]
fn an_integer_of_more_than_64_bits_in_a_plan_became_another() {
    let server = Server::open();
    let check = |body: &str| server.call(Request::new("POST", "/api/workflow/check").body(body));
    let plan =
        |n: &str| format!(r#"{{"name": "n", "steps": [{{"id": "a", "tool": "nope", "inputs": {{"n": {n}}}}}]}}"#);
    let answer =
        check(&format!("{{\"plan\": {}, \"inputs\": {{\"m\": 18446744073709551616}}}}", plan("-9223372036854775809")));
    assert_eq!((answer.status, answer.code().as_str()), (422, "invalid_plan"));
    let problem = answer.json();
    let paths: Vec<_> = problem["issues"].as_array().expect("a list").iter().map(|issue| &issue["path"]).collect();
    assert_eq!(paths, ["steps[0].inputs.n", "inputs.m", "steps[0].tool"], "with all that is wrong besides: {problem}");
    let good = plan("18446744073709551615").replace("nope", "echo");
    assert_eq!(check(&good).status, 200);
    assert_eq!(check(&format!("\u{feff}{good}")).status, 200, "a byte order mark is no part of it");
    let (status, _, said) =
        run(&["check", "-"], &[], &format!("\u{feff}{}", good.replace("18446744073709551615", "1")));
    assert_eq!(status, 0, "nor of a plan in a file: {said}");
    let (status, _, said) = run(&["check", "-"], &[], &plan("18446744073709551616"));
    assert_eq!(status, 1);
    assert!(said.contains("steps[0].inputs.n: 18446744073709551616 is an integer of more than 64 bits"), "{said}");
}

#[test]
fn a_plan_has_a_name_and_between_one_and_so_many_steps() {
    let server = Setup::default().flags(&["--limits-plan-steps", "2"]).start();
    let steps = |count: usize| (0..count).map(|n| echo(&format!("s{n}"), json!({}), &[])).collect::<Vec<_>>();
    for (body, status) in [
        (plan(json!(steps(2))), 200),
        (json!({"plan": plan(json!(steps(2)))}), 200),
        (plan(json!(steps(3))), 422),
        (plan(json!([])), 422),
        (json!({"name": "n"}), 422),
        (json!({"steps": steps(1)}), 422),
        (json!({"name": "", "steps": steps(1)}), 422),
        (json!({"plan": 5}), 422),
        (merged(plan(json!(steps(1))), json!({"onFailure": "panic"})), 422),
        (json!([]), 400),
        (json!("plan"), 400),
    ] {
        assert_eq!(server.post("/api/workflow/check", &body).status, status, "{body}");
    }
}

#[test]
fn levels_run_one_after_another() {
    let server = Server::open();
    let steps = json!([echo("c", json!({}), &["a", "b"]), echo("a", json!({}), &[]), echo("b", json!({}), &["a"])]);
    let messages = server.carry_out(&merged(plan(steps), json!({"estimatedDuration": 9})));
    let expected = [
        "started",
        "level 0",
        "a running 1",
        "a completed 1",
        "level 0 ended",
        "level 1",
        "b running 1",
        "b completed 1",
        "level 1 ended",
        "level 2",
        "c running 1",
        "c completed 1",
        "level 2 ended",
        "completed",
    ];
    assert_eq!(short(&messages), expected);
    let started = &messages[0]["payload"];
    assert_eq!(started["levels"], json!([["a"], ["b"], ["c"]]));
    for (key, value) in [("stepCount", 3), ("totalLevels", 3), ("estimatedDuration", 9)] {
        assert_eq!(started[key], value, "{key}");
    }
    assert_eq!((&started["planName"], &started["parallelizable"]), (&json!("n"), &json!(false)));
    let run = &started["runId"];
    for message in &messages {
        assert_eq!(&message["payload"]["runId"], run, "{message}");
        assert!(message["payload"]["timestamp"].is_string(), "{message}");
    }
    let ended = &messages[4]["payload"];
    assert_eq!((&ended["totalLevels"], &ended["completedSteps"]), (&json!(3), &json!(["a"])));
    assert!(ended["executionTime"].is_u64());
    assert!(ended["efficiency"].as_f64().is_some_and(|efficiency| (0.0..=1.0).contains(&efficiency)), "{ended}");
    let performance = &last(&messages)["performanceMetrics"];
    assert!(performance["totalExecutionTime"].is_u64() && performance["stepTime"].is_u64(), "{performance}");
    assert_eq!(performance["criticalPath"], json!(["a", "b", "c"]));
    let progress = &moment(&messages, "b", "completed")["progress"];
    assert_eq!(
        *progress,
        json!({"completed": 2, "failed": 0, "skipped": 0, "cancelled": 0, "total": 3, "percent": 66})
    );
}

#[test]
fn a_levels_steps_start_by_priority() {
    let server = Setup::default().flags(&["--executor-workers", "1"]).start();
    let steps: Vec<Value> =
        [1, 3, 2].iter().map(|n| merged(echo(&format!("p{n}"), json!({}), &[]), json!({"priority": n}))).collect();
    let messages = server.carry_out(&plan(json!(steps)));
    let running: Vec<&Value> = messages
        .iter()
        .map(|message| &message["payload"])
        .filter(|payload| payload["status"] == "running")
        .map(|payload| &payload["stepId"])
        .collect();
    assert_eq!(running, ["p3", "p2", "p1"]);
}

#[test]
fn templates_keep_the_type_of_what_they_stand_for() {
    let server = Server::open();
    let first = json!({"n": 1, "f": 1.5, "b": true, "none": null, "list": [1, {"x": "y"}], "text": "t", "big": 9007199254740993u64});
    let second = json!({
        "n": "{{ steps.a.output.n }}", "f": "{{steps.a.output.f}}", "b": "{{ steps.a.output.b }}",
        "none": "{{ steps.a.output.none }}", "list": "{{ steps.a.output.list }}", "item": "{{ steps.a.output.list[0] }}",
        "all": "{{ steps.a.output }}", "big": "{{ steps.a.output.big }}", "mixed": "x{{ steps.a.output.n }}y",
        "deep": {"er": ["{{ inputs.who }}"]}, "sum": "{{ steps.a.output.n + 1 }}",
        "default": "{{ inputs.nobody | default(5) }}", "ids": "{{ projectId }} {{ runId }}",
        "dashed": "{{ steps['with-dash'].output.v }}", "plain": "no template", "seven": 7,
    });
    let steps = json!([
        echo("a", first.clone(), &[]),
        echo("with-dash", json!({"v": 1}), &[]),
        echo("between", json!({}), &["a", "with-dash"]),
        echo("z", second, &["between"]),
    ]);
    let run = server.submit("p", &merged(plan(steps), json!({"inputs": {"who": {"name": "me"}}})));
    let messages = server.messages("p", &run);
    let expected = json!({
        "n": 1, "f": 1.5, "b": true, "none": null, "list": [1, {"x": "y"}], "item": 1, "all": first,
        "big": 9007199254740993u64, "mixed": "x1y", "deep": {"er": [{"name": "me"}]}, "sum": 2, "default": 5,
        "ids": format!("p {run}"), "dashed": 1, "plain": "no template", "seven": 7,
    });
    assert_eq!(last(&messages)["outputs"]["z"], expected);
}

#[test]
fn the_calls_inputs_win_over_the_plans_key_by_key() {
    let steps = json!([echo("a", json!({"x": "{{ inputs.x }}", "y": "{{ inputs.y }}"}), &[])]);
    let plan = merged(plan(steps), json!({"inputs": {"x": "plan", "y": "plan"}}));
    let messages = Server::open().carry_out(&json!({"plan": plan, "inputs": {"x": "call"}}));
    assert_eq!(last(&messages)["outputs"]["a"], json!({"x": "call", "y": "plan"}));
}

#[test]
fn an_undefined_value_fails_the_step_and_is_named() {
    let server = Server::open();
    for (inputs, name) in [
        (json!({"v": "{{ steps.a.output.nope }}"}), "steps.a.output.nope"),
        (json!({"v": "text {{ inputs.nope }}"}), "inputs.nope"),
        (json!({"v": ["{{ inputs.nope.deeper.still }}"]}), "inputs.nope"),
    ] {
        let messages = server.carry_out(&plan(json!([echo("a", json!({}), &[]), echo("b", inputs, &["a"])])));
        let error = moment(&messages, "b", "failed")["error"].as_str().expect("text");
        assert!(error.contains(name) && error.contains("undefined"), "{error}");
        assert_eq!(last(&messages)["reason"], "step_failed");
    }
}

#[test]
fn a_step_whose_condition_is_false_is_skipped_and_counts_as_done() {
    let server = Server::open();
    let conditions = [
        (json!("steps.a.output.v == 1"), true),
        (json!("{{ steps.a.output.v == 1 }}"), true),
        (json!("${ steps.a.output.v > 1 }"), false),
        (json!("inputs.nobody is defined"), false),
        (json!("false"), false),
        (json!("0"), false),
    ];
    let mut steps = vec![echo("a", json!({"v": 1}), &[])];
    for (n, (condition, _)) in conditions.iter().enumerate() {
        steps.push(merged(echo(&format!("c{n}"), json!({}), &["a"]), json!({"conditional": condition})));
    }
    steps.push(echo("after", json!({"skipped": "{{ steps.c4.output }}"}), &["c4"]));
    let messages = server.carry_out(&plan(json!(steps)));
    for (n, (condition, holds)) in conditions.iter().enumerate() {
        let status = if *holds { "completed" } else { "skipped" };
        let payload = moment(&messages, &format!("c{n}"), status);
        if !holds {
            assert_eq!(
                (&payload["cause"], &payload["attempt"]),
                (&json!({"kind": "condition"}), &json!(0)),
                "{condition}"
            );
            assert!(payload["reason"].is_string());
        }
    }
    assert_eq!(last(&messages)["outputs"]["after"], json!({"skipped": null}));
    let undefined = server
        .carry_out(&plan(json!([merged(echo("a", json!({}), &[]), json!({"conditional": "inputs.nobody == 1"}))])));
    assert!(moment(&undefined, "a", "failed")["error"].as_str().is_some_and(|error| error.contains("inputs.nobody")));
}

#[test]
fn retries_wait_as_the_policy_says() {
    let server = Server::open();
    let table = [
        (json!({"maxRetries": 3, "initialDelay": 5}), vec![5, 5, 5]),
        (json!({"maxRetries": 3, "backoff": "fixed", "initialDelay": 5, "maxDelay": 3}), vec![3, 3, 3]),
        (json!({"maxRetries": 4, "backoff": "linear", "initialDelay": 4, "maxDelay": 10}), vec![4, 8, 10, 10]),
        (
            json!({"maxRetries": 4, "backoff": "exponential", "initialDelay": 3, "maxDelay": 20, "jitter": false}),
            vec![3, 6, 12, 20],
        ),
        (json!({"maxRetries": 0}), vec![]),
    ];
    for (policy, delays) in table {
        let messages = server.carry_out(&plan(json!([failing("a", json!({"retryPolicy": policy}))])));
        let retrying: Vec<&Value> = messages
            .iter()
            .map(|message| &message["payload"])
            .filter(|payload| payload["status"] == "retrying")
            .collect();
        let waited: Vec<&Value> = retrying.iter().map(|payload| &payload["delay"]).collect();
        assert_eq!(waited, delays, "{policy}");
        for (n, payload) in retrying.iter().enumerate() {
            assert_eq!(payload["attempt"], n + 1, "the attempt that failed");
            assert_eq!((&payload["error"], &payload["maxRetries"]), (&json!("boom a"), &policy["maxRetries"]));
            assert!(payload["nextRetryAt"].as_str() > payload["timestamp"].as_str(), "{payload}");
        }
        assert_eq!(moment(&messages, "a", "failed")["attempt"], delays.len() + 1);
    }
}

#[test]
fn a_waiting_retry_or_delay_holds_no_worker() {
    let server = Setup::default().flags(&["--executor-workers", "1"]).start();
    let retrying =
        failing("r", json!({"retryPolicy": {"maxRetries": 1, "initialDelay": 600_000, "maxDelay": 600_000}}));
    let delayed = json!({"id": "d", "tool": "delay", "inputs": {"ms": 600_000}});
    let waiting = server.submit("p", &plan(json!([retrying, delayed])));
    let mut stream = server.stream(&format!("/api/sse/projects/p?runId={waiting}"));
    stream.until(|message| message["payload"]["status"] == "retrying");
    let messages = server.carry_out(&plan(json!([echo("a", json!({}), &[])])));
    assert_eq!(messages.last().expect("a message")["type"], "workflow_completed");
    let shown = server.get(&format!("/api/projects/p/workflows/{waiting}")).json();
    assert_eq!((&shown["steps"][0]["status"], &shown["steps"][1]["status"]), (&json!("retrying"), &json!("running")));
}

#[test]
fn a_failed_step_stops_the_run_behind_its_level() {
    let server = Server::open();
    let steps = json!([
        failing("f", json!({})),
        {"id": "slow", "tool": "delay", "inputs": {"ms": 50}},
        echo("child", json!({}), &["f"]),
        echo("other", json!({}), &["slow"]),
        echo("grandchild", json!({}), &["child"]),
    ]);
    let messages = server.carry_out(&plan(steps));
    let expected = [
        "started",
        "level 0",
        "f running 1",
        "slow running 1",
        "f failed 1",
        "slow completed 1",
        "level 0 ended",
        "child skipped 0",
        "other skipped 0",
        "grandchild skipped 0",
        "failed",
    ];
    assert_eq!(short(&messages), expected);
    let upstream = json!({"kind": "upstream_failed", "stepId": "f"});
    assert_eq!(moment(&messages, "child", "skipped")["cause"], upstream);
    assert_eq!(moment(&messages, "grandchild", "skipped")["cause"], upstream);
    assert_eq!(moment(&messages, "other", "skipped")["cause"], json!({"kind": "run_failed"}));
    let end = last(&messages);
    assert_eq!((&end["reason"], &end["failedSteps"]), (&json!("step_failed"), &json!(["f"])));
    assert!(end["error"].as_str().is_some_and(|error| error.contains("boom f")), "{end}");
    let level = &messages[6]["payload"];
    assert_eq!((&level["completedSteps"], &level["failedSteps"]), (&json!(["slow"]), &json!(["f"])));
}

#[test]
fn a_plan_that_continues_skips_the_descendants_alone() {
    let server = Server::open();
    let steps = json!([
        failing("f", json!({})),
        echo("ok", json!({}), &[]),
        echo("child", json!({}), &["f"]),
        echo("other", json!({}), &["ok"]),
        echo("both", json!({}), &["child", "other"]),
    ]);
    let messages = server.carry_out(&merged(plan(steps), json!({"onFailure": "continue"})));
    moment(&messages, "other", "completed");
    for step in ["child", "both"] {
        let cause = &moment(&messages, step, "skipped")["cause"];
        assert_eq!(*cause, json!({"kind": "upstream_failed", "stepId": "f"}), "{step}");
    }
    let brackets = short(&messages).iter().filter(|text| text.ends_with("ended")).count();
    assert_eq!((brackets, &last(&messages)["failedSteps"]), (3, &json!(["f"])));
}

#[test]
fn a_step_that_may_fail_is_followed_as_if_its_output_were_null() {
    let steps = json!([
        failing("f", json!({"continueOnFailure": true})),
        echo("child", json!({"v": "{{ steps.f.output }}"}), &["f"]),
    ]);
    let messages = Server::open().carry_out(&plan(steps));
    let failed = moment(&messages, "f", "failed");
    assert_eq!((&failed["continued"], &failed["progress"]["failed"]), (&json!(true), &json!(1)));
    assert_eq!(messages.last().expect("a message")["type"], "workflow_completed");
    let end = last(&messages);
    assert_eq!(end["outputs"], json!({"f": null, "child": {"v": null}}));
    assert_eq!(end["failedSteps"], json!(["f"]));
}

#[test]
fn a_steps_time_and_a_plans_time_are_bounded() {
    let server = Server::open();
    let endless = |more: Value| merged(json!({"id": "a", "tool": "delay", "inputs": {"ms": 600_000}}), more);
    let messages = server.carry_out(&plan(json!([endless(json!({"timeout": 20}))])));
    assert!(moment(&messages, "a", "failed")["error"].as_str().is_some_and(|error| error.contains("timed out")));
    assert_eq!(last(&messages)["reason"], "step_failed");

    let steps = json!([endless(json!({})), echo("b", json!({}), &["a"])]);
    let messages = server.carry_out(&merged(plan(steps), json!({"timeout": 20})));
    let expected = ["started", "level 0", "a running 1", "a cancelled 1", "level 0 ended", "b skipped 0", "failed"];
    assert_eq!(short(&messages), expected);
    for (step, status) in [("a", "cancelled"), ("b", "skipped")] {
        assert_eq!(moment(&messages, step, status)["cause"], json!({"kind": "timeout"}));
    }
    assert_eq!((&last(&messages)["reason"], &last(&messages)["failedSteps"]), (&json!("timeout"), &json!([])));
}

#[test]
fn a_cancelled_run_ends_what_runs_and_skips_what_waits() {
    let config = "[tools.sleep]\nkind = \"command\"\nargv = [\"sleep\", \"600\"]\n";
    let server = Setup::default().config(config).flags(&["--executor-workers", "1"]).start();
    let steps = json!([{"id": "a", "tool": "sleep"}, {"id": "b", "tool": "sleep"}, echo("c", json!({}), &["a"])]);
    let run = server.submit("p", &plan(steps));
    let mut stream = server.stream(&format!("/api/sse/projects/p?runId={run}"));
    let mut messages = stream.until(|message| message["payload"]["status"] == "running");
    server.call(Request::new("POST", &format!("/api/projects/p/workflows/{run}/cancel")));
    messages.extend(stream.rest());
    let messages: Vec<Value> = messages.into_iter().skip(1).map(|event| event.message).collect();
    let expected =
        ["started", "level 0", "a running 1", "a cancelled 1", "level 0 ended", "b skipped 0", "c skipped 0", "failed"];
    assert_eq!(short(&messages), expected);
    for (step, status) in [("a", "cancelled"), ("b", "skipped"), ("c", "skipped")] {
        assert_eq!(moment(&messages, step, status)["cause"], json!({"kind": "cancelled"}), "{step}");
    }
    let shown = server.get(&format!("/api/projects/p/workflows/{run}")).json();
    let statuses: Vec<&Value> = shown["steps"].as_array().expect("a list").iter().map(|step| &step["status"]).collect();
    assert_eq!(statuses, ["cancelled", "skipped", "skipped"]);
    assert_eq!(shown["status"], "cancelled");
}

#[test]
fn a_cancelled_step_is_counted_apart_from_those_that_never_ran() {
    let server = Server::open();
    let steps = json!([
        echo("done", json!({}), &[]),
        {"id": "a", "tool": "delay", "inputs": {"ms": 600_000}},
        echo("b", json!({}), &["a"])
    ]);
    let run = server.submit("p", &plan(steps));
    let mut stream = server.stream(&format!("/api/sse/projects/p?runId={run}"));
    let mut events = stream.until(|message| message["payload"]["stepId"] == "a");
    events.extend(stream.until(|message| message["payload"]["progress"]["completed"] == 1));
    server.call(Request::new("POST", &format!("/api/projects/p/workflows/{run}/cancel")));
    events.extend(stream.rest());
    let messages: Vec<Value> = events.into_iter().map(|event| event.message).collect();
    let cancelled = json!({"completed": 1, "failed": 0, "skipped": 0, "cancelled": 1, "total": 3, "percent": 66});
    assert_eq!(moment(&messages, "a", "cancelled")["progress"], cancelled);
    let counts = json!({"completed": 1, "failed": 0, "skipped": 1, "cancelled": 1, "total": 3, "percent": 100});
    assert_eq!(moment(&messages, "b", "skipped")["progress"], counts);
    let level = messages.iter().find(|message| message["type"] == "workflow_level_completed").expect("a level");
    assert_eq!(level["payload"]["cancelledSteps"], json!(["a"]));
    assert_eq!(level["payload"]["skippedSteps"], json!([]));
    assert_eq!(last(&messages)["cancelledSteps"], json!(["a"]));
    assert_eq!(server.get(&format!("/api/projects/p/workflows/{run}")).json()["progress"], counts);
    assert_eq!(server.get("/api/projects/p/workflows").json()["workflows"][0]["progress"], counts);
}

#[test]
fn both_schedulings_give_the_same_outputs_and_eager_waits_for_no_other_branch() {
    let server = Server::open();
    let mut uneven: Value = serde_json::from_str(include_str!("../../examples/plans/uneven.json")).expect("JSON");
    let eager = server.carry_out(&uneven);
    uneven["scheduling"] = json!("levels");
    let levels = server.carry_out(&uneven);
    assert_eq!(last(&eager)["outputs"], last(&levels)["outputs"]);
    for (messages, scheduling, estimate) in [(&eager, "eager", 1200), (&levels, "levels", 1800)] {
        let started = &messages[0]["payload"];
        assert_eq!((&started["scheduling"], &started["revision"]), (&json!(scheduling), &json!(1)));
        assert_eq!(started["estimatedDuration"], estimate);
    }
    let place = |of: &[Value], words: &str| short(of).iter().position(|line| line == words).expect("it was said");
    let first = |of: &[Value], one: &str, other: &str| assert!(place(of, one) < place(of, other), "{:#?}", short(of));
    first(&eager, "train running 1", "compile completed 1");
    first(&eager, "level 1", "level 0 ended");
    first(&eager, "train completed 1", "report running 1");
    first(&levels, "compile completed 1", "train running 1");
    first(&levels, "level 0 ended", "level 1");
    let path = &last(&eager)["performanceMetrics"]["criticalPath"];
    assert!([json!(["compile", "link", "report"]), json!(["fetch", "train", "report"])].contains(path), "{path}");
    for ended in ["level 0 ended", "level 1 ended", "level 2 ended"] {
        assert_eq!(short(&eager).iter().filter(|line| *line == ended).count(), 1, "once");
    }
}

#[test]
fn handlers_run_before_the_last_message_and_change_nothing() {
    let server = Server::open();
    let handler = |id: &str, inputs: Value| json!([echo(id, inputs, &[])]);
    let plan = json!({
        "name": "n",
        "steps": [failing("a", json!({})), echo("b", json!({}), &["a"])],
        "onFailure": handler("tell", json!({"why": "{{ run.error }}", "b": "{{ steps.b.output }}"})),
        "handlers": {"onSuccess": handler("cheer", json!({})), "onExit": [failing("clean", json!({}))]},
    });
    let messages = server.carry_out(&plan);
    let told = short(&messages);
    let after = told.iter().position(|line| line == "level 0 ended").expect("a level");
    assert_eq!(
        told[after + 1..],
        [
            "b skipped 0",
            "tell running 1",
            "tell completed 1",
            "clean running 1",
            "clean failed 1",
            "cheer skipped 0",
            "failed"
        ]
    );
    let tell = moment(&messages, "tell", "completed");
    assert_eq!(tell["output"], json!({"why": "step a failed: boom a", "b": null}));
    assert_eq!((&tell["handler"], &tell["outcome"]["reason"]), (&json!("onFailure"), &json!("step_failed")));
    assert_eq!(
        (&last(&messages)["failedSteps"], &last(&messages)["failedHandlers"]),
        (&json!(["a"]), &json!(["clean"]))
    );
    assert_eq!(last(&messages)["reason"], "step_failed");
}

#[test]
fn handlers_are_checked_with_the_plan() {
    let server = Server::open();
    let bad = json!({
        "name": "n",
        "steps": [echo("a", json!({"x": "{{ run.status }}"}), &[])],
        "onExit": [echo("a", json!({}), &[]), echo("c", json!({}), &["a"]), {"id": "d", "tool": "nope"}],
        "handlers": {"onExit": [echo("e", json!({"x": "{{ steps.c.output }}"}), &[])]},
    });
    let problem = server.post("/api/workflow/check", &bad).json();
    let issues = problem["issues"].as_array().expect("a list");
    for (path, word) in [
        ("steps[0].inputs.x", "run"),
        ("onExit[0].id", "steps[0]"),
        ("onExit[1].dependencies[0]", "another list"),
        ("onExit[2].tool", "nope"),
        ("handlers.onExit[0].inputs.x", "depends on"),
    ] {
        let says = |issue: &Value| issue["message"].as_str().is_some_and(|message| message.contains(word));
        assert!(issues.iter().any(|issue| issue["path"] == path && says(issue)), "{path} {word}: {problem:#}");
    }
}
