//! Steps that run a stored plan as a run of its own.

use serde_json::{Value, json};

use crate::common::client::Request;
use crate::common::server::{Server, Setup};
use crate::common::wait_for;
use crate::stored::{RUNS, plan, runs, stored};

fn parent(name: &str) -> Value {
    let call = json!({"id": "call", "tool": "plan", "inputs": {"name": name, "inputs": {"a": "{{ inputs.from }}"}}});
    json!({"name": "parent", "inputs": {"from": "above"}, "steps": [call]})
}

/// A plan whose only step waits until the run is cancelled.
fn endless() -> Value {
    json!({"name": "endless", "steps": [{"id": "a", "tool": "delay", "inputs": {"ms": 600_000}}]})
}

fn state(server: &Server, run: &str) -> Value {
    server.get(&format!("{RUNS}/{run}")).json()
}

/// The run that `run` has begun, once there is one.
fn child_of(server: &Server, run: &str) -> String {
    wait_for("a child", || {
        let listed = server.get(&format!("{RUNS}?limit=1000")).json()["workflows"].as_array().expect("runs").clone();
        let child = listed.iter().find(|one| one["parent"]["runId"] == run)?;
        Some(child["runId"].as_str().expect("an id").to_owned())
    })
}

#[test]
fn a_step_runs_a_stored_plan_as_a_run_of_its_own() {
    let server = Setup::default().flags(&["--limits-active-runs", "1"]).start();
    stored(&server, "x", &plan());
    let run = server.submit("p", &parent("x"));
    let last = server.messages("p", &run).pop().expect("a message");
    assert_eq!(last["type"], "workflow_completed", "{last}");
    let output = &last["payload"]["outputs"]["call"];
    assert_eq!(output["outputs"], json!({"a": {"a": "above", "b": 2}}));
    let child = output["runId"].as_str().expect("an id");
    let above = json!({"runId": run, "stepId": "call", "depth": 1});
    assert_eq!(state(&server, child)["parent"], above);
    assert_eq!(server.messages("p", child)[0]["payload"]["parent"], above);
    assert_eq!(state(&server, &run)["parent"], Value::Null);
}

#[test]
fn a_child_that_can_not_begin_or_fails_fails_the_step() {
    let server = Server::open();
    let failed = |name: &str| {
        let run = server.submit("p", &parent(name));
        let last = server.messages("p", &run).pop().expect("a message");
        assert_eq!(last["type"], "workflow_failed", "{last}");
        last["payload"]["error"].as_str().expect("an error").to_owned()
    };
    assert!(failed("never").contains("the project has no stored plan named never"));
    stored(
        &server,
        "bad",
        &json!({"name": "bad", "steps": [{"id": "a", "tool": "fail", "inputs": {"message": "no luck"}}]}),
    );
    assert!(failed("bad").contains("no luck"));
    // One that calls itself ends at the bound.
    stored(&server, "loop", &parent("loop"));
    assert!(failed("loop").contains("nested more than 5 levels deep"));
}

#[test]
fn a_parent_that_is_cancelled_takes_its_child_along() {
    let server = Server::open();
    stored(&server, "x", &endless());
    let run = server.submit("p", &parent("x"));
    let child = child_of(&server, &run);
    assert_eq!(server.call(Request::new("POST", &format!("{RUNS}/{run}/cancel"))).status, 202);
    let last = server.messages("p", &child).pop().expect("a message");
    assert_eq!(last["payload"]["reason"], "cancelled", "{last}");
    assert_eq!(state(&server, &run)["status"], "cancelled");
}

#[test]
#[cfg(feature = "sqlite")]
fn parent_and_child_are_joined_again_after_a_crash() {
    use crate::common::server::TempDirectory;
    let directory = TempDirectory::new();
    let setup = || Setup::default().data(directory.path());
    let server = setup().start();
    let steps = json!([{"id": "a", "tool": "echo", "inputs": {"x": 1}},
        {"id": "b", "tool": "delay", "inputs": {"ms": 1500}, "dependencies": ["a"]}]);
    stored(&server, "x", &json!({"name": "slow", "steps": steps}));
    let run = server.submit("p", &parent("x"));
    let child = child_of(&server, &run);
    wait_for("the child's second step", || (state(&server, &child)["steps"][1]["status"] == "running").then_some(()));
    server.kill();
    let server = setup().start();
    server.kill();
    let server = setup().start();
    let last = server.messages("p", &run).pop().expect("a message");
    assert_eq!(last["type"], "workflow_completed", "{last}");
    assert_eq!(last["payload"]["outputs"]["call"]["runId"], child.as_str());
    assert_eq!(runs(&server).len(), 2, "no second child");
    let began = |said: &Value| said["payload"]["stepId"] == "a" && said["payload"]["status"] == "running";
    assert_eq!(
        server.messages("p", &child).iter().filter(|said| began(said)).count(),
        1,
        "what was done is not done again"
    );
}

/// The child waited for the end of its parent, which waited for its own.
#[test]
fn a_child_of_its_parents_group_waited_for_ever() {
    let server = Server::open();
    let group = json!({"group": "g", "limit": 1});
    let with_group = |mut plan: Value| {
        plan["concurrency"] = group.clone();
        plan
    };
    stored(&server, "x", &with_group(plan()));
    let run = server.submit("p", &with_group(parent("x")));
    let last = server.messages("p", &run).pop().expect("a message");
    assert_eq!(last["type"], "workflow_completed", "{last}");
}

/// The one place was held by the parent, whose child waited for a run of its group, and that one for the place.
#[test]
fn a_child_behind_a_run_that_waited_for_its_parents_place_waited_for_ever() {
    let server = Setup::default().flags(&["--limits-active-runs", "1"]).start();
    let group = json!({"group": "g", "limit": 1});
    let mut child = plan();
    child["concurrency"] = group.clone();
    stored(&server, "x", &child);
    let mut above = parent("x");
    above["steps"][0]["dependencies"] = json!(["ask"]);
    let ask = json!({"id": "ask", "tool": "approval", "inputs": {"message": "May it?"}});
    above["steps"].as_array_mut().expect("steps").insert(0, ask);
    let run = server.submit("p", &above);
    wait_for("the question", || (state(&server, &run)["steps"][0]["status"] == "waiting").then_some(()));
    let steps = json!([{"id": "a", "tool": "echo"}]);
    let before = server.submit("p", &json!({"name": "before", "concurrency": group, "steps": steps}));
    assert_eq!(state(&server, &before)["status"], "queued", "the parent has the place");
    let decision = Request::post(&format!("{RUNS}/{run}/steps/ask/decision"), &json!({"decision": "approve"}));
    assert_eq!(server.call(decision).status, 200);
    for run in [&run, &before] {
        let last = server.messages("p", run).pop().expect("a message");
        assert_eq!(last["type"], "workflow_completed", "{last}");
    }
}

#[test]
fn what_can_not_be_right_of_a_call_of_a_plan_is_told_as_the_plan_is_checked() {
    let server = Server::open();
    let refused = |step: Value| {
        let answer = server.post(RUNS, &json!({"projectId": "p", "plan": {"name": "n", "steps": [step]}}));
        assert_eq!(answer.status, 422, "{answer:?}");
        answer.json()["issues"].to_string()
    };
    assert!(refused(json!({"id": "a", "tool": "plan"})).contains("must be the name of a stored plan"));
    let inputs = json!({"name": "x", "inputs": 7});
    assert!(refused(json!({"id": "a", "tool": "plan", "inputs": inputs})).contains("must be an object"));
    let each = json!({"id": "a", "tool": "plan", "forEach": "{{ [1, 2] }}", "inputs": {"name": "x"}});
    assert!(refused(each).contains("forEach"));
}
