//! Plans that change while they run: by calls, and by tools that may change them.

use serde_json::{Value, json};

use crate::common::client::{Request, Response};
use crate::common::server::{Server, Setup, TempDirectory};
use crate::common::token::token;
use crate::common::wait_for;

const RUNS: &str = "/api/projects/p/workflows";

/// A step that ends once a file is there, and an agent that changes its plan: what its step has as `answer` is its output.
fn setup(directory: &TempDirectory) -> Setup {
    let gate = directory.join("gate");
    let config = format!(
        r#"
[tools.gate]
kind = "command"
argv = ["sh", "-c", "until [ -e \"$0\" ]; do sleep 0.02; done; echo open", "{}"]

[tools.agent]
kind = "command"
argv = ["echo", "{{{{ inputs.answer }}}}"]
may_plan = true

[tools.parrot]
kind = "command"
argv = ["echo", "{{{{ inputs.answer }}}}"]
"#,
        gate.display()
    );
    Setup::default().config(&config).data(&directory.join("data"))
}

fn open_gate(directory: &TempDirectory) {
    std::fs::write(directory.join("gate"), "").expect("the directory can be written to");
}

fn patch(run: &str, change: &Value) -> Request {
    let request = Request::new("PATCH", &format!("{RUNS}/{run}/plan")).header("Content-Type", "application/json");
    request.body(change.to_string())
}

fn step(id: &str, on: &[&str]) -> Value {
    json!({"id": id, "tool": "echo", "inputs": {"id": id}, "dependencies": on})
}

/// A run whose first step waits at the gate, and two that come after it.
fn waiting_run(server: &Server, scheduling: &str) -> String {
    let first = json!({"id": "first", "tool": "gate"});
    let steps = json!([first, step("second", &["first"]), step("third", &["second"])]);
    let run = server.submit("p", &json!({"name": "n", "steps": steps, "scheduling": scheduling}));
    wait_for("the first step", || {
        let state = server.get(&format!("{RUNS}/{run}")).json();
        (state["steps"][0]["status"] == "running").then_some(())
    });
    run
}

fn state(server: &Server, run: &str) -> Value {
    server.get(&format!("{RUNS}/{run}")).json()
}

fn ids(state: &Value) -> Vec<&str> {
    state["steps"].as_array().expect("steps").iter().map(|step| step["id"].as_str().expect("an id")).collect()
}

fn of_type<'a>(messages: &'a [Value], message_type: &str) -> Vec<&'a Value> {
    messages.iter().filter(|message| message["type"] == message_type).map(|message| &message["payload"]).collect()
}

/// Each level's bracket, and each step that ended, in their order.
fn in_short(messages: &[Value]) -> Vec<String> {
    let short = messages.iter().filter_map(|message| {
        let payload = &message["payload"];
        match message["type"].as_str()? {
            "workflow_level_started" => Some(format!("[{}", payload["level"])),
            "workflow_level_completed" => Some(format!("{}]", payload["level"])),
            "workflow_plan_changed" => Some(format!("revision {}", payload["revision"])),
            "workflow_progress" if payload["status"] == "completed" => Some(payload["stepId"].as_str()?.to_owned()),
            "workflow_completed" => Some("completed".to_owned()),
            "workflow_failed" => Some(format!("failed: {}", payload["error"])),
            _ => None,
        }
    });
    short.collect()
}

#[test]
fn steps_that_have_not_started_come_go_and_are_others() {
    for scheduling in ["levels", "eager"] {
        let directory = TempDirectory::new();
        let server = setup(&directory).start();
        let run = waiting_run(&server, scheduling);
        let change = json!({"expectedRevision": 1, "remove": ["third"], "replace": [step("second", &["first", "new"])],
            "add": [step("new", &[]), step("last", &["second"])]});
        let answer = server.call(patch(&run, &change));
        assert_eq!(answer.status, 200, "{answer:?}");
        let levels = json!([["first", "new"], ["second"], ["last"]]);
        assert_eq!(
            answer.json(),
            json!({"runId": run, "revision": 2, "added": ["new", "last"], "removed": ["third"], "changed": ["second"],
                "levels": levels, "stepCount": 4, "totalLevels": 3})
        );
        let seen = state(&server, &run);
        assert_eq!((&seen["revision"], &seen["levels"]), (&json!(2), &levels));
        assert_eq!(ids(&seen), ["first", "second", "new", "last"]);
        let plan = server.get(&format!("{RUNS}/{run}/plan")).json();
        assert_eq!((&plan["revision"], &plan["plan"]["steps"][1]), (&json!(2), &step("second", &["first", "new"])));
        let mut fresh = server.stream("/api/sse/projects/p");
        let snapshot = fresh.take(2).pop().expect("a snapshot").message;
        assert_eq!((&snapshot["type"], &snapshot["payload"]["revision"]), (&json!("workflow_snapshot"), &json!(2)));
        open_gate(&directory);
        let messages = server.messages("p", &run);
        let started = of_type(&messages, "workflow_started")[0];
        assert_eq!((&started["revision"], &started["stepCount"]), (&json!(1), &json!(3)));
        let changed = of_type(&messages, "workflow_plan_changed")[0];
        assert_eq!(
            (&changed["by"], &changed["levels"], &changed["stepCount"]),
            (&json!("anonymous"), &levels, &json!(4))
        );
        assert_eq!(
            changed["steps"][0],
            json!({"id": "second", "title": "second", "description": "", "tool": "echo", "level": 1})
        );
        let short = in_short(&messages);
        let (head, tail) = (["[0", "revision 2"], ["0]", "[1", "second", "1]", "[2", "last", "2]", "completed"]);
        assert_eq!(short[..2], head, "{short:?}");
        assert_eq!(short[4..], tail, "{scheduling}: {short:?}");
        let total = &messages[messages.len() - 3]["payload"]["progress"]["total"];
        assert!(total.is_null() || *total == 4);
        let outputs = &messages.last().expect("the last")["payload"]["outputs"];
        assert_eq!(outputs.as_object().map(|outputs| outputs.len()), Some(4));
    }
}

#[test]
fn a_change_that_can_t_be_made_is_refused_with_why() {
    let directory = TempDirectory::new();
    let server = setup(&directory).start();
    let run = waiting_run(&server, "levels");
    let call = |change: Value| {
        let answer = server.call(patch(&run, &change));
        (answer.status, answer.json())
    };
    let add = |step: Value| json!({"expectedRevision": 1, "add": [step]});
    let (status, stale) = call(json!({"expectedRevision": 2, "remove": ["third"]}));
    assert_eq!((status, &stale["code"], &stale["revision"]), (409, &json!("stale_revision"), &json!(1)));
    let started = json!({"expectedRevision": 1, "replace": [{"id": "first", "tool": "echo"}]});
    let (status, problem) = call(started);
    assert_eq!((status, &problem["code"]), (409, &json!("step_started")));
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.starts_with("step first is running")));
    for (change, path) in [
        (json!({"remove": ["third"]}), "expectedRevision"),
        (json!({"expectedRevision": 1}), ""),
        (json!({"expectedRevision": 1, "remove": ["none"]}), "remove[0]"),
        (json!({"expectedRevision": 1, "remove": ["second"]}), "steps[1].dependencies[0]"),
        (add(json!({"id": "first", "tool": "echo"})), "add[0].id"),
        (add(json!({"id": "x", "tool": "none"})), "add[0].tool"),
        (add(json!({"id": "x", "tool": "delay", "inputs": {"ms": "long"}})), "add[0].inputs.ms"),
        (add(json!({"id": "x", "tool": "echo", "inputs": {"a": "{{ steps.third.output }}"}})), "add[0].inputs.a"),
    ] {
        let (status, problem) = call(change.clone());
        assert_eq!((status, &problem["issues"][0]["path"]), (422, &json!(path)), "{change}: {problem}");
    }
    assert_eq!(server.call(patch("none", &add(step("x", &[])))).code(), "unknown_run");
    assert_eq!(state(&server, &run)["revision"], 1, "nothing has changed");
    open_gate(&directory);
    server.messages("p", &run);
    let late = server.call(patch(&run, &add(step("x", &[]))));
    assert_eq!((late.status, late.code().as_str()), (409, "run_ended"));
    let allowed = server.call(Request::new("DELETE", &format!("{RUNS}/{run}/plan")));
    assert_eq!((allowed.status, allowed.header("Allow")), (405, Some("GET, HEAD, PATCH, OPTIONS")));
}

#[test]
fn of_two_changes_of_one_revision_one_is_made_and_the_same_call_again_is_answered_the_same() {
    let directory = TempDirectory::new();
    let server = setup(&directory).start();
    let run = waiting_run(&server, "levels");
    let change = |id: &str| json!({"expectedRevision": 1, "add": [step(id, &["first"])]});
    let address = server.address;
    let calls = ["x", "y"].map(|id| {
        let call = patch(&run, &change(id)).header("Idempotency-Key", id);
        std::thread::spawn(move || call.send(address))
    });
    let answers: Vec<Response> = calls.map(|call| call.join().expect("no panic")).into();
    let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409], "{answers:?}");
    let won = if answers[0].status == 200 { "x" } else { "y" };
    let again = server.call(patch(&run, &change(won)).header("Idempotency-Key", won));
    assert_eq!((again.status, again.header("Idempotent-Replay")), (200, Some("true")));
    let other = server.call(patch(&run, &change("z")).header("Idempotency-Key", won));
    assert_eq!(other.code(), "idempotency_key_reused");
    let matched = json!({"add": [step("z", &["first"])]});
    let shown = server.get(&format!("{RUNS}/{run}/plan"));
    let tag = shown.header("ETag").expect("the revision").to_owned();
    assert_eq!((tag.as_str(), &shown.json()["revision"]), ("\"2\"", &json!(2)));
    let known =
        |tag: &str| server.call(Request::get(&format!("{RUNS}/{run}/plan")).header("If-None-Match", tag)).status;
    assert_eq!([known(&tag), known("\"1\"")], [304, 200]);
    // Two lines are one list, and what a proxy has compressed has a weak tag.
    let tags = patch(&run, &matched).header("If-Match", "\"9\"").header("If-Match", &format!("W/{tag}"));
    assert_eq!(server.call(tags).json()["revision"], 3);
    assert_eq!((known(&tag), known("\"3\"")), (200, 304));
    open_gate(&directory);
    let messages = server.messages("p", &run);
    assert_eq!(of_type(&messages, "workflow_plan_changed").len(), 2);
}

#[test]
fn only_who_may_run_plans_changes_them_and_the_message_says_who_it_was() {
    let directory = TempDirectory::new();
    let server = setup(&directory).with_tokens().start();
    let may_run = token(&["p"], "run subscribe");
    let plan = json!({"name": "n", "steps": [{"id": "first", "tool": "gate"}]});
    let run =
        server.call(Request::post(RUNS, &plan).token(&may_run)).json()["runId"].as_str().expect("an id").to_owned();
    let change = patch(&run, &json!({"expectedRevision": 1, "add": [step("x", &[])]}));
    assert_eq!(server.call(change.clone()).status, 401);
    assert_eq!(server.call(change.clone().token(&token(&["p"], "subscribe"))).status, 403);
    assert_eq!(server.call(change.clone().token(&token(&["q"], "run"))).status, 403);
    let made = wait_for("the change", || {
        let answer = server.call(change.clone().token(&may_run));
        (answer.status == 200).then_some(answer)
    });
    assert_eq!(made.json()["revision"], 2);
}

#[cfg(feature = "sqlite")]
#[test]
fn a_change_that_was_promised_survives_kill_9_and_the_run_goes_on_with_it() {
    for scheduling in ["levels", "eager"] {
        let directory = TempDirectory::new();
        let server = setup(&directory).start();
        let run = waiting_run(&server, scheduling);
        let before = state(&server, &run)["lastEventId"].as_str().expect("an id").to_owned();
        let change =
            json!({"expectedRevision": 1, "remove": ["third"], "add": [step("new", &[]), step("last", &["second"])]});
        assert_eq!(server.call(patch(&run, &change)).status, 200);
        server.kill();
        let server = setup(&directory).start();
        let seen = state(&server, &run);
        assert_eq!((&seen["revision"], ids(&seen)), (&json!(2), vec!["first", "second", "new", "last"]));
        assert_eq!(seen["levels"], json!([["first", "new"], ["second"], ["last"]]));
        let resumed = Request::get("/api/sse/projects/p").header("Last-Event-ID", &before);
        let told = server.stream_of(resumed).until(|message| message["type"] == "workflow_plan_changed");
        assert_eq!(told.last().map(|event| event.message["payload"]["revision"].clone()), Some(json!(2)));
        open_gate(&directory);
        let short = in_short(&server.messages("p", &run));
        assert_eq!(short.last().map(String::as_str), Some("completed"), "{short:?}");
        for once in ["first", "second", "new", "last", "[0", "[1", "[2", "0]", "1]", "2]", "revision 2"] {
            assert_eq!(short.iter().filter(|word| *word == once).count(), 1, "{once}: {short:?}");
        }
        let rerun = server.call(Request::new("POST", &format!("{RUNS}/{run}/rerun")));
        assert_eq!(rerun.json()["planSummary"]["steps"].as_array().map(Vec::len), Some(4), "it runs the newest plan");
    }
}

#[test]
fn a_run_that_waits_for_its_turn_begins_with_the_plan_that_it_has_then() {
    let directory = TempDirectory::new();
    let server = setup(&directory).flags(&["--limits-active-runs", "1"]).start();
    let first = waiting_run(&server, "levels");
    let queued = server.submit("p", &json!({"name": "q", "steps": [step("a", &[]), step("b", &["a"])]}));
    let change =
        json!({"expectedRevision": 1, "remove": ["b"], "add": [step("c", &["a"])], "replace": [step("a", &[])]});
    let answer = server.call(patch(&queued, &change));
    assert_eq!(answer.status, 200, "{answer:?}");
    let seen = state(&server, &queued);
    assert_eq!((&seen["status"], &seen["revision"], ids(&seen)), (&json!("queued"), &json!(2), vec!["a", "c"]));
    open_gate(&directory);
    server.messages("p", &first);
    let messages = server.messages("p", &queued);
    let started = of_type(&messages, "workflow_started")[0];
    assert_eq!((&started["revision"], started["steps"][1]["id"].as_str()), (&json!(2), Some("c")));
    assert_eq!(in_short(&messages), ["[0", "a", "0]", "[1", "c", "1]", "completed"]);
}

/// The step planned again what was in the plan already, and failed.
#[test]
fn a_run_that_a_tool_has_planned_is_run_again_and_gone_on_from_that_step() {
    let directory = TempDirectory::new();
    let server = setup(&directory).start();
    let answer = json!({"$plan": {"add": [step("more", &["think"])], "remove": ["idle"]}}).to_string();
    let think = json!({"id": "think", "tool": "agent", "inputs": {"answer": answer}});
    let first = server.submit("p", &json!({"name": "n", "steps": [think, step("idle", &["think"])]}));
    let whole = ["[0", "think", "revision 2", "0]", "[1", "more", "1]", "completed"];
    assert_eq!(in_short(&server.messages("p", &first)), whole);
    let again = |run: &str, call: &str, body: Value| {
        let answer = server.post(&format!("{RUNS}/{run}/{call}"), &body);
        assert_eq!(answer.status, 202, "{answer:?}");
        answer.json()["runId"].as_str().expect("an id").to_owned()
    };
    let rerun = again(&first, "rerun", json!({}));
    assert_eq!(in_short(&server.messages("p", &rerun)), whole);
    let from_there = again(&rerun, "retry", json!({"from": ["think"]}));
    assert_eq!(in_short(&server.messages("p", &from_there)), whole);
    let behind_it = again(&from_there, "retry", json!({"from": ["more"]}));
    assert_eq!(in_short(&server.messages("p", &behind_it)), ["[0", "think", "0]", "[1", "more", "1]", "completed"]);
    assert_eq!(server.get(&format!("{RUNS}/{behind_it}/plan")).json()["plannedBy"], Value::Null);
    let from_there = again(&behind_it, "retry", json!({"from": ["think"]}));
    assert_eq!(in_short(&server.messages("p", &from_there)), whole, "what was kept is taken back, too");
}

/// What the planner had planned was taken back alone: what a person had built on it named a step that was not there any more
/// (422, for good), and what a person had decided of a planned step was lost.
#[test]
fn a_run_whose_planned_steps_people_have_changed_or_built_on_is_run_again_as_it_was() {
    let directory = TempDirectory::new();
    let server = setup(&directory).start();
    let decided =
        |id: &str, on: &[&str]| json!({"id": id, "tool": "echo", "inputs": {"by": "ann"}, "dependencies": on});
    let first = [json!({"id": "gate", "tool": "gate"}), step("b", &["gate", "c"]), step("c", &["gate"])];
    for (planned, change, ran) in [
        (json!({"add": [step("deploy", &["gate"])]}), json!({"add": [decided("notify", &["deploy"])]}), "deploy"),
        (json!({"replace": [step("b", &["gate"])]}), json!({"replace": [decided("b", &["c"])]}), "b"),
        (json!({"replace": [step("b", &["gate"])]}), json!({"remove": ["c"]}), "b"),
        (json!({"add": [step("deploy", &["gate"])]}), json!({"replace": [decided("deploy", &["b"])]}), "deploy"),
        (json!({"add": [step("deploy", &["gate"])]}), json!({"remove": ["deploy"]}), "b"),
        (json!({"remove": ["b"]}), json!({"add": [decided("b", &["c"])]}), "b"),
    ] {
        let said = format!("{planned} {change}");
        let _ = std::fs::remove_file(directory.join("gate"));
        let think =
            json!({"id": "think", "tool": "agent", "inputs": {"answer": json!({"$plan": planned}).to_string()}});
        let steps: Vec<_> = std::iter::once(think).chain(first.clone()).collect();
        let run = server.submit("p", &json!({"name": "n", "steps": steps}));
        wait_for("the plan of the step", || (state(&server, &run)["revision"] == 2).then_some(()));
        let mut change = change;
        change["expectedRevision"] = json!(2);
        assert_eq!(server.call(patch(&run, &change)).status, 200, "{said}");
        open_gate(&directory);
        let outputs = |run: &str| {
            let messages = server.messages("p", run);
            let last = messages.last().expect("the last");
            assert_eq!(last["type"], "workflow_completed", "{said}: {last}");
            let mut outputs = last["payload"]["outputs"].clone();
            outputs.as_object_mut().expect("an object").remove("gate");
            outputs
        };
        let whole = outputs(&run);
        assert!(whole.get(ran).is_some(), "{said}: {whole}");
        let mut last = run;
        for (call, body) in [
            ("rerun", json!({})),
            ("rerun", json!({})),
            ("retry", json!({"from": ["think"]})),
            ("retry", json!({"from": ["think"]})),
            ("rerun", json!({})),
        ] {
            let answer = server.post(&format!("{RUNS}/{last}/{call}"), &body);
            assert_eq!(answer.status, 202, "{said}: {call}: {answer:?}");
            answer.json()["runId"].as_str().expect("an id").clone_into(&mut last);
            assert_eq!(outputs(&last), whole, "{said}: {call}");
        }
    }
}

/// Each round checks the whole plan, on the thread that reads every call; there were as many as changes.
#[test]
fn a_retry_takes_no_more_than_sixteen_rounds_of_changes_back_and_the_rest_stands() {
    let directory = TempDirectory::new();
    let server = setup(&directory).start();
    let planner = |n: usize, x: u8| {
        let after: Vec<_> = (n > 1).then(|| format!("after{n}")).into_iter().collect();
        json!({"id": format!("p{n}"), "tool": "agent", "inputs": {"answer": format!("{{{{ inputs.a{n} }}}}"), "x": x},
            "dependencies": after})
    };
    let (mut steps, mut inputs) = (Vec::new(), json!({"a20": "nothing"}));
    for n in 1..=20 {
        steps.push(planner(n, 1));
        // Without a dependency on a planner: what keeps one from being kept is that it is another without the change.
        match n {
            1 => {}
            2 => steps.push(step("after2", &[])),
            _ => steps.push(step(&format!("after{n}"), &[&format!("after{}", n - 1)])),
        }
        if n < 20 {
            inputs[format!("a{n}")] = json!(json!({"$plan": {"replace": [planner(n + 1, 2)]}}).to_string());
        }
    }
    let plan = json!({"projectId": "p", "plan": {"name": "n", "steps": steps}, "inputs": inputs});
    let answer = server.post("/api/workflow/run", &plan).json();
    let run = answer["runId"].as_str().expect("an id");
    let changes = |run: &str| of_type(&server.messages("p", run), "workflow_plan_changed").len();
    assert_eq!(changes(run), 19);
    let answer = server.post(&format!("{RUNS}/{run}/retry"), &json!({"from": ["p1"]}));
    assert_eq!(answer.status, 202, "{answer:?}");
    let retried = answer.json()["runId"].as_str().expect("an id").to_owned();
    assert_eq!(changes(&retried), 16);
    let plan_of = |run: &str| server.get(&format!("{RUNS}/{run}/plan")).json()["plan"].clone();
    assert_eq!(plan_of(&retried), plan_of(run));
}

/// It was nothing for it until a restart, for nobody had named it when the run began.
#[test]
fn a_step_that_comes_to_a_run_sees_the_whole_outputs_that_are_kept_of_another() {
    let directory = TempDirectory::new();
    let server = setup(&directory).start();
    let big = json!({"id": "big", "tool": "echo", "inputs": {"text": "x".repeat(70_000)}});
    let fails = json!({"id": "fails", "tool": "fail", "dependencies": ["big"]});
    let first = server.submit("p", &json!({"name": "n", "steps": [big, fails]}));
    server.messages("p", &first);
    let steps = json!([big, {"id": "first", "tool": "gate"}, step("last", &["first"])]);
    let plan = json!({"plan": {"name": "n", "steps": steps}});
    let answer = server.post(&format!("{RUNS}/{first}/retry"), &plan).json();
    assert_eq!(answer["reusedSteps"], json!(["big"]));
    let run = answer["runId"].as_str().expect("an id");
    let late = json!({"id": "late", "tool": "echo", "dependencies": ["big", "first"],
        "inputs": {"length": "{{ steps.big.output.text | length }}"}});
    assert_eq!(server.call(patch(run, &json!({"expectedRevision": 1, "add": [late]}))).status, 200);
    open_gate(&directory);
    let messages = server.messages("p", run);
    assert_eq!(messages.last().expect("the last")["payload"]["outputs"]["late"], json!({"length": 70_000}));
}

#[test]
fn a_tool_that_may_plan_changes_its_run_and_no_other_does() {
    let directory = TempDirectory::new();
    let server = setup(&directory).start();
    let answer =
        json!({"$plan": {"add": [step("more", &["think"])], "remove": ["idle"]}, "why": "it is better"}).to_string();
    let plan = |tool: &str, answer: &str| json!({"name": "n", "steps": [{"id": "think", "tool": tool, "inputs": {"answer": answer}}, step("idle", &["think"])]});
    let messages = server.carry_out(&plan("agent", &answer));
    assert_eq!(in_short(&messages), ["[0", "think", "revision 2", "0]", "[1", "more", "1]", "completed"]);
    let changed = of_type(&messages, "workflow_plan_changed")[0];
    assert_eq!((&changed["by"], &changed["removed"]), (&json!("step:think"), &json!(["idle"])));
    let parrot = server.carry_out(&plan("parrot", &answer));
    assert_eq!(in_short(&parrot), ["[0", "think", "0]", "[1", "idle", "1]", "completed"]);
    assert_eq!(parrot.last().expect("the last")["payload"]["outputs"]["think"]["why"], "it is better");
    let wrong = json!({"$plan": {"add": [{"id": "x", "tool": "none"}]}}).to_string();
    let failed = server.carry_out(&plan("agent", &wrong));
    let error = of_type(&failed, "workflow_failed")[0]["error"].as_str().expect("why").to_owned();
    assert!(error.contains("its plan change was rejected: add[0].tool: "), "{error}");
    let itself = json!({"$plan": {"remove": ["think"]}}).to_string();
    let failed = server.carry_out(&plan("agent", &itself));
    let error = of_type(&failed, "workflow_failed")[0]["error"].as_str().expect("why").to_owned();
    assert!(error.contains("steps[0].dependencies[0]"), "{error}");
}
