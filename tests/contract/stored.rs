//! Stored plans: stored, shown, removed, run by name, and run by schedule.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::common::client::{Request, Response};
use crate::common::server::{Server, Setup};
use crate::common::token::token;
use crate::common::wait_for;

const PLANS: &str = "/api/projects/p/plans";
pub const RUNS: &str = "/api/projects/p/workflows";

pub fn plan() -> Value {
    json!({"name": "p", "description": "what it is for", "inputs": {"a": 1, "b": 2},
        "steps": [{"id": "a", "tool": "echo", "inputs": {"a": "{{ inputs.a }}", "b": "{{ inputs.b }}"}}]})
}

fn put(name: &str, body: &Value) -> Request {
    let request = Request::new("PUT", &format!("{PLANS}/{name}")).header("Content-Type", "application/json");
    request.body(body.to_string())
}

pub fn stored(server: &Server, name: &str, body: &Value) -> Response {
    let answer = server.call(put(name, body));
    assert!(matches!(answer.status, 200 | 201), "{answer:?}");
    answer
}

fn remove(name: &str) -> Request {
    Request::new("DELETE", &format!("{PLANS}/{name}"))
}

fn list(server: &Server) -> Vec<Value> {
    let answer = server.get(PLANS);
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["plans"].as_array().expect("a list").clone()
}

fn output_of(server: &Server, run: &str) -> Value {
    server.messages("p", run).last().expect("a message")["payload"]["outputs"]["a"].clone()
}

#[test]
fn a_plan_is_stored_shown_replaced_and_removed() {
    let server = Server::open();
    let first = stored(&server, "nightly:1", &plan());
    let tag = first.header("ETag").expect("a tag").to_owned();
    assert_eq!((first.status, first.json()["name"].as_str()), (201, Some("nightly:1")));
    let shown = server.get(&format!("{PLANS}/nightly:1"));
    assert_eq!((shown.status, shown.header("ETag")), (200, Some(tag.as_str())));
    assert_eq!(shown.json(), json!({"plan": plan(), "inputs": {}}));
    let known = Request::get(&format!("{PLANS}/nightly:1")).header("If-None-Match", &tag);
    assert_eq!(server.call(known).status, 304);

    let wrapped = json!({"plan": plan(), "inputs": {"a": 3}});
    let again = stored(&server, "nightly:1", &wrapped);
    assert_eq!(again.status, 200);
    assert_ne!(again.header("ETag"), Some(tag.as_str()));
    assert_eq!(server.get(&format!("{PLANS}/nightly:1")).json(), wrapped);
    let listed = list(&server);
    assert_eq!(listed.len(), 1);
    let expected = json!({"name": "nightly:1", "planName": "p", "description": "what it is for", "steps": 1,
        "etag": again.header("ETag"), "updatedAt": again.json()["updatedAt"]});
    assert_eq!(listed[0], expected);

    assert_eq!(server.call(remove("nightly:1")).status, 204);
    assert_eq!(server.call(remove("nightly:1")).code(), "unknown_plan");
    assert_eq!(server.get(&format!("{PLANS}/nightly:1")).code(), "unknown_plan");
    assert_eq!(list(&server), [] as [Value; 0]);
    assert_eq!(server.get(&format!("{PLANS}/a%20b")).status, 400);
    assert_eq!(server.call(Request::new("POST", &format!("{PLANS}/x"))).status, 405);
}

#[test]
fn a_plan_is_changed_only_as_its_conditions_say() {
    let server = Server::open();
    let only_new = |name: &str| server.call(put(name, &plan()).header("If-None-Match", "*"));
    assert_eq!((only_new("x").status, only_new("x").code().as_str()), (201, "precondition_failed"));
    let tag = stored(&server, "x", &plan()).header("ETag").expect("a tag").to_owned();
    let other = json!({"plan": plan(), "inputs": {"a": 3}});
    let changed = server.call(put("x", &other).header("If-Match", &tag));
    assert_eq!(changed.status, 200);
    let stale = server.call(put("x", &plan()).header("If-Match", &tag));
    assert_eq!((stale.status, stale.code().as_str()), (412, "precondition_failed"));
    assert_eq!(server.call(remove("x").header("If-Match", &tag)).status, 412);
    assert_eq!(server.call(remove("x").header("If-Match", changed.header("ETag").expect("a tag"))).status, 204);
    assert_eq!(server.call(put("x", &plan()).header("If-Match", "*")).status, 412);
}

#[test]
fn what_is_no_plan_or_no_schedule_is_refused_whole() {
    let server = Server::open();
    let wrong =
        json!({"plan": {"name": "", "steps": [{"id": "a", "tool": "no_such"}]}, "schedule": {"cron": "99 * * * *"}});
    let answer = server.call(put("x", &wrong));
    assert_eq!((answer.status, answer.code().as_str()), (422, "invalid_plan"));
    let issues = answer.json()["issues"].as_array().expect("issues").clone();
    let paths: Vec<_> = issues.iter().map(|issue| issue["path"].as_str().expect("a path").to_owned()).collect();
    assert_eq!(paths, ["name", "steps[0].tool", "schedule.cron"]);
    for (schedule, path) in [
        (json!(5), "schedule"),
        (json!({"cron": "* * * * *", "timeZone": "Nowhere/Here"}), "schedule.timeZone"),
        (json!({"cron": "0 0 30 2 *"}), "schedule.cron"),
        (json!({"cron": "* * * * *", "overlap": "never"}), "schedule.overlap"),
    ] {
        let answer = server.call(put("x", &json!({"plan": plan(), "schedule": schedule})));
        assert_eq!(answer.json()["issues"][0]["path"], path, "{answer:?}");
    }
    assert_eq!(list(&server).len(), 0);
}

/// It was stored, and each firing failed.
#[test]
fn a_plan_whose_stored_inputs_do_not_fit_its_parameters_was_stored() {
    let server = Server::open();
    let parameters = json!({"type": "object", "required": ["a", "day"], "properties": {"a": {"type": "integer"}}});
    let plan = json!({"name": "p", "parameters": parameters, "steps": [{"id": "a", "tool": "echo"}]});
    let paths = |body: Value| {
        let answer = server.call(put("x", &body));
        let issues = answer.json()["issues"].as_array().cloned().unwrap_or_default();
        (answer.status, issues.iter().map(|issue| issue["path"].clone()).collect::<Vec<_>>())
    };
    assert_eq!(paths(json!({"plan": plan, "inputs": {"a": "x"}})), (422, vec![json!("inputs.a")]));
    let with_schedule = |inputs: Value| json!({"plan": plan, "inputs": {"a": 1}, "schedule": {"cron": "0 0 1 1 *", "enabled": false, "inputs": inputs}});
    assert_eq!(paths(with_schedule(json!({}))), (422, vec![json!("schedule.inputs")]));
    assert_eq!(paths(with_schedule(json!({"a": 2.5, "day": 1}))), (422, vec![json!("schedule.inputs.a")]));
    assert_eq!(list(&server).len(), 0);
    assert_eq!(paths(with_schedule(json!({"day": 1}))).0, 201);
    assert_eq!(paths(json!({"plan": plan, "inputs": {"a": 1}})).0, 200, "the day may come with the call");
}

#[test]
fn a_stored_plan_is_run_by_its_name_as_it_is_then() {
    let server = Server::open();
    stored(&server, "x", &json!({"plan": plan(), "inputs": {"a": 3}}));
    let first = server.submit("p", &json!({"stored": "x", "inputs": {"b": 4}, "runId": "mine"}));
    assert_eq!((first.as_str(), output_of(&server, "mine")), ("mine", json!({"a": 3, "b": 4})));
    let run_of = list(&server)[0]["lastRun"].clone();
    assert_eq!((&run_of["runId"], &run_of["status"]), (&json!("mine"), &json!("completed")));
    let kept = server.get(&format!("{RUNS}/mine/plan")).json();
    stored(&server, "x", &json!({"plan": plan(), "inputs": {"a": 5}}));
    assert_eq!(server.get(&format!("{RUNS}/mine/plan")).json(), kept, "the run has the plan as it was");
    let second = server.submit("p", &json!({"stored": "x"}));
    assert_eq!(output_of(&server, &second), json!({"a": 5, "b": 2}));

    for (body, status, code) in [
        (json!({"stored": "never"}), 404, "unknown_plan"),
        (json!({"stored": 7}), 422, "invalid_plan"),
        (json!({"stored": "x", "inputs": 7}), 422, "invalid_plan"),
        (json!({"stored": "x", "inputs": {}, "runId": "mine"}), 422, "idempotency_key_reused"),
    ] {
        let answer = server.post(RUNS, &body);
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{body}");
    }
    // A plan that has a field of that name is a plan.
    let mut bare = plan();
    bare["stored"] = json!("never");
    assert_eq!(server.post(RUNS, &bare).status, 202);
}

#[test]
fn a_call_by_name_is_carried_out_once_though_its_plan_is_gone() {
    let server = Server::open();
    stored(&server, "x", &plan());
    let keyed = || server.call(Request::post(RUNS, &json!({"stored": "x"})).header("Idempotency-Key", "k"));
    let first = keyed();
    assert_eq!((first.status, first.header("Idempotent-Replay")), (202, None), "{first:?}");
    stored(&server, "x", &json!({"plan": plan(), "inputs": {"a": 9}}));
    let second = keyed();
    assert_eq!((second.header("Idempotent-Replay"), &second.body), (Some("true"), &first.body));
    assert_eq!(server.call(remove("x")).status, 204);
    let third = keyed();
    assert_eq!((third.header("Idempotent-Replay"), &third.body), (Some("true"), &first.body));
    assert_eq!(server.post(RUNS, &json!({"stored": "x"})).code(), "unknown_plan");
}

#[test]
fn those_who_may_only_watch_see_no_secret_and_change_nothing() {
    let server = Setup::default().with_tokens().start();
    let (may_run, may_watch) = (token(&["p"], "run subscribe"), token(&["p"], "subscribe"));
    let body = json!({"plan": plan(), "inputs": {"apiKey": "k1"}, "schedule": {"cron": "0 0 1 1 *", "inputs": {"token": "t1"}}});
    assert_eq!(server.call(put("x", &body).token(&may_watch)).status, 403);
    let created = server.call(put("x", &body).token(&may_run));
    assert_eq!(created.status, 201, "{created:?}");
    let get = |token: &str| server.call(Request::get(&format!("{PLANS}/x")).token(token));
    assert_eq!(get(&may_run).json(), body);
    let masked = get(&may_watch);
    assert_eq!(masked.json()["masked"], json!(["inputs.apiKey", "schedule.inputs.token"]));
    assert!(!masked.text().contains("k1") && !masked.text().contains("t1"), "{}", masked.text());
    assert_ne!(masked.header("ETag"), created.header("ETag"));
    assert_eq!(server.call(remove("x").token(&may_watch)).status, 403);
    assert_eq!(server.call(Request::post(RUNS, &json!({"stored": "x"})).token(&may_watch)).status, 403);
    assert_eq!(server.call(Request::get(PLANS).token(&token(&["q"], "subscribe"))).status, 403);
}

#[test]
fn no_more_plans_and_schedules_are_stored_than_may_be() {
    let server = Setup::default().flags(&["--limits-stored-plans", "2", "--limits-schedules", "1"]).start();
    let daily = json!({"plan": plan(), "schedule": {"cron": "@daily", "enabled": false}});
    stored(&server, "a", &daily);
    assert_eq!(server.call(put("b", &daily)).code(), "too_many_schedules");
    stored(&server, "b", &plan());
    let third = server.call(put("c", &plan()));
    assert_eq!((third.status, third.code().as_str()), (429, "too_many_stored_plans"));
    stored(&server, "a", &plan());
    stored(&server, "b", &daily);
    assert_eq!(server.call(remove("a")).status, 204);
    stored(&server, "c", &plan());
}

/// The runs of the schedule of `x`, by their ids.
pub fn runs(server: &Server) -> BTreeSet<String> {
    let listed = server.get(&format!("{RUNS}?limit=1000")).json()["workflows"].as_array().expect("runs").clone();
    listed.iter().map(|run| run["runId"].as_str().expect("an id").to_owned()).collect()
}

/// Waits until so many firings have come to this.
fn wait_for_firings(server: &Server, outcome: &str, count: f64) {
    let name = format!("stepcast_schedule_firings_total{{outcome=\"{outcome}\"}}");
    wait_for(&name, || (server.metric(&name) >= count).then_some(()));
}

fn each_second(overlap: &str, ms: u64) -> Value {
    let steps = json!([{"id": "a", "tool": "delay", "inputs": {"ms": ms}}]);
    json!({"plan": {"name": "tick", "steps": steps}, "schedule": {"cron": "* * * * * *", "overlap": overlap}})
}

#[test]
fn a_schedule_fires_and_its_inputs_are_those_of_its_runs() {
    let server = Server::open();
    let schedule = json!({"cron": "* * * * * *", "timeZone": "Europe/Zurich", "inputs": {"a": "fired"}});
    stored(&server, "x", &json!({"plan": plan(), "schedule": schedule}));
    let listed = list(&server)[0].clone();
    assert_eq!(listed["firings"]["next"].as_array().map(Vec::len), Some(3), "{listed}");
    assert_eq!(listed["nextFire"], listed["firings"]["next"][0]);
    assert_eq!(listed["schedule"]["overlap"], "skip");
    wait_for("two firings", || (runs(&server).len() >= 2).then_some(()));
    wait_for_firings(&server, "fired", 2.0);
    // Paused: what was due may come, and nothing after it.
    let mut paused = json!({"plan": plan(), "schedule": schedule});
    paused["schedule"]["enabled"] = json!(false);
    stored(&server, "x", &paused);
    let listed = list(&server)[0].clone();
    assert_eq!((&listed["firings"]["next"], &listed["nextFire"]), (&json!([]), &Value::Null));
    let fired = runs(&server);
    let run = listed["lastRun"]["runId"].as_str().expect("an id");
    assert!(fired.contains(run), "{fired:?}");
    assert_eq!(output_of(&server, run), json!({"a": "fired", "b": 2}));
}

#[test]
fn a_firing_is_skipped_while_an_earlier_run_goes_on() {
    let server = Server::open();
    stored(&server, "x", &each_second("skip", 600_000));
    let skipped = wait_for("a firing that is skipped", || {
        let listed = list(&server)[0].clone();
        listed["firings"]["lastSkipped"].is_string().then_some(listed)
    });
    assert_eq!(skipped["lastRun"]["status"], "running", "{skipped}");
    assert_eq!(runs(&server).len(), 1);
    wait_for_firings(&server, "skipped", 1.0);
}

#[test]
fn a_firing_that_its_full_group_refused_was_tried_again_each_second() {
    let server = Server::open();
    let mut body = each_second("skip", 600_000);
    body["plan"]["concurrency"] = json!({"group": "g", "onConflict": "reject"});
    server.submit("p", &json!({"plan": body["plan"], "runId": "first"}));
    stored(&server, "x", &body);
    wait_for_firings(&server, "skipped", 2.0);
    let firings = wait_for("two times", || {
        let firings = list(&server)[0]["firings"].clone();
        firings["lastSkipped"].is_string().then_some(firings)
    });
    let error = firings["lastError"].as_str().expect("a reason");
    assert!(error.contains("was skipped: the concurrency group \"g\" is full; its runs: first"), "{error}");
    assert_eq!((&firings["lastFired"], runs(&server).len()), (&Value::Null, 1));
    let mut told: Vec<_> = server.log().iter().filter(|line| line.contains("was skipped")).cloned().collect();
    let count = told.len();
    told.dedup();
    assert_eq!(told.len(), count, "each is told once");
    assert!(!server.log().iter().any(|line| line.contains("has to wait")));
    assert_eq!(server.call(Request::new("POST", &format!("{RUNS}/first/cancel"))).status, 202);
    wait_for_firings(&server, "fired", 1.0);
}

#[test]
fn a_firing_that_cancels_begins_behind_the_last_message_of_the_run_before() {
    let server = Server::open();
    stored(&server, "x", &each_second("cancel", 600_000));
    wait_for("three runs", || (runs(&server).len() >= 3).then_some(()));
    assert_eq!(server.call(remove("x")).status, 204);
    let events = server.get("/api/projects/p/events?limit=1000").json();
    let mut open = None;
    for event in events["events"].as_array().expect("messages") {
        let (kind, run) = (event["type"].as_str().expect("a type"), event["payload"]["runId"].clone());
        match kind {
            "workflow_started" => assert_eq!(open.replace(run), None, "two runs at a time"),
            "workflow_failed" => {
                assert_eq!(event["payload"]["reason"], "cancelled");
                assert_eq!(open.take(), Some(run));
            }
            _ => {}
        }
    }
}

#[test]
fn a_firing_waits_until_an_earlier_run_has_ended() {
    let server = Server::open();
    stored(&server, "x", &each_second("queue", 600_000));
    let waiting = wait_for("two firings that wait", || {
        let listed = list(&server)[0].clone();
        (listed["firings"]["waiting"].as_array().map_or(0, Vec::len) >= 2).then_some(listed)
    });
    let first = waiting["lastRun"]["runId"].as_str().expect("an id");
    assert_eq!(server.call(Request::new("POST", &format!("{RUNS}/{first}/cancel"))).status, 202);
    wait_for("the next run", || (runs(&server).len() == 2).then_some(()));
}

#[test]
#[cfg(feature = "sqlite")]
fn whenever_the_server_is_killed_each_time_fires_once() {
    use crate::common::server::TempDirectory;
    let directory = TempDirectory::new();
    let setup = || Setup::default().data(directory.path());
    let mut server = setup().start();
    stored(&server, "x", &each_second("queue", 1));
    for round in 1..=4 {
        // Right after a firing, as near to it as can be seen.
        let before = runs(&server).len();
        wait_for("a firing", || (runs(&server).len() > before).then_some(()));
        server.kill();
        server = setup().start();
        assert!(runs(&server).len() >= round, "none is lost");
    }
    assert_eq!(server.call(remove("x")).status, 204);
    let listed = server.get(&format!("{RUNS}?limit=1000")).json()["workflows"].as_array().expect("runs").clone();
    let mut seconds: Vec<String> =
        listed.iter().map(|run| run["createdAt"].as_str().expect("a time").to_owned()).collect();
    let count = seconds.len();
    seconds.dedup();
    assert_eq!(seconds.len(), count, "two runs of one moment: {seconds:?}");
    assert_eq!(runs(&server).len(), count);
    let started = server.get("/api/projects/p/events?limit=1000&type=workflow_started").json();
    assert_eq!(started["events"].as_array().map(Vec::len), Some(count), "each has begun once");
}

#[test]
#[cfg(feature = "sqlite")]
fn of_the_times_that_a_downtime_missed_one_is_made_good() {
    use crate::common::server::TempDirectory;
    let directory = TempDirectory::new();
    let setup = || Setup::default().data(directory.path());
    let server = setup().start();
    // "queue": the run of a firing may be under way as the server is killed, and goes on afterwards.
    stored(&server, "x", &each_second("queue", 1));
    wait_for("a firing", || (!runs(&server).is_empty()).then_some(()));
    server.kill();
    // As long as no server runs: three times go by.
    let began = std::time::Instant::now();
    wait_for("a downtime", || (began.elapsed().as_secs() >= 4).then_some(()));
    let server = setup().start();
    wait_for("the one that is made good", || {
        let firings = list(&server)[0]["firings"].clone();
        let missed = firings["lastMissed"].as_str()?;
        (firings["lastFired"].as_str()? > missed).then_some(())
    });
    wait_for_firings(&server, "missed", 2.0);
    let is_told = || server.log().iter().any(|line| line.contains("firings were missed"));
    wait_for("a line in the log", || is_told().then_some(()));
}

#[test]
#[cfg(feature = "sqlite")]
fn what_is_stored_outlasts_a_crash() {
    use crate::common::server::TempDirectory;
    let directory = TempDirectory::new();
    let setup = || Setup::default().data(directory.path());
    let server = setup().start();
    let tag = stored(&server, "x", &plan()).header("ETag").expect("a tag").to_owned();
    let before = list(&server);
    server.kill();
    let server = setup().start();
    assert_eq!(list(&server), before);
    let shown = server.get(&format!("{PLANS}/x"));
    assert_eq!((shown.status, shown.header("ETag")), (200, Some(tag.as_str())));
    assert_eq!(output_of(&server, &server.submit("p", &json!({"stored": "x"}))), json!({"a": 1, "b": 2}));
}
