//! Repeated requests: a run that is run again, and a call that is made again.

use serde_json::{Value, json};

use crate::common::client::{Request, Response};
use crate::common::server::{Server, Setup};
use crate::common::token::token;

const RUNS: &str = "/api/projects/p/workflows";

/// A plan with numbers that programs which read JSON write in another way, and with white space of its author's.
const NUMBERS: &str = r#"{"plan": {"name": "numbers",
    "steps": [{"id": "a", "tool": "echo", "inputs": {"n": 9007199254740993, "f": 2.0, "e": 1e3}}]}, "inputs": {"x": 1.10}}"#;

fn post_text(server: &Server, path: &str, body: &str) -> Response {
    server.call(Request::new("POST", path).header("Content-Type", "application/json").body(body))
}

fn run_of(answer: &Response) -> String {
    assert_eq!(answer.status, 202, "{answer:?}");
    answer.json()["runId"].as_str().expect("a run id").to_owned()
}

fn plan_of(server: &Server, run: &str) -> String {
    server.get(&format!("{RUNS}/{run}/plan")).text()
}

#[test]
fn a_run_that_was_run_again_had_other_numbers_in_its_plan() {
    let server = Server::open();
    let first = post_text(&server, RUNS, NUMBERS);
    let run = run_of(&first);
    let rerun = |run: &str| server.call(Request::new("POST", &format!("{RUNS}/{run}/rerun")));
    let second = rerun(&run);
    let again = run_of(&second);
    assert!(again != run && again.starts_with("run_"), "{again}");
    let (one, other) = (first.json(), second.json());
    let shape = |answer: &Value| json!([answer["planName"], answer["status"], answer["sseUrl"], answer["planSummary"]]);
    assert_eq!(shape(&one), shape(&other));
    let third = run_of(&rerun(&again));
    for run in [&run, &again, &third] {
        let plan = plan_of(&server, run);
        for number in [r#""n":9007199254740993"#, r#""f":2.0"#, r#""e":1e3"#, r#""x":1.10"#] {
            assert!(plan.contains(number), "{number} of {run}: {plan}");
        }
    }
    let outputs = |run: &str| {
        let messages = server.messages("p", run);
        messages.last().expect("a message")["payload"]["outputs"].clone()
    };
    assert_eq!(outputs(&run), outputs(&third));
    assert_eq!(rerun("none").code(), "unknown_run");
    let elsewhere = server.call(Request::new("POST", &format!("/api/projects/q/workflows/{run}/rerun")));
    assert_eq!(elsewhere.status, 404);
}

#[test]
fn a_run_is_run_again_once_for_each_key_and_only_by_those_who_may_run() {
    let server = Setup::default().with_tokens().start();
    let may_run = token(&["p"], "run subscribe");
    let submitted = Request::post(RUNS, &serde_json::from_str(NUMBERS).expect("JSON")).token(&may_run);
    let run = run_of(&server.call(submitted));
    let rerun = |token: &str, key: Option<&str>| {
        let request = Request::new("POST", &format!("{RUNS}/{run}/rerun")).token(token);
        server.call(if let Some(key) = key { request.header("Idempotency-Key", key) } else { request })
    };
    assert_eq!(rerun(&token(&["p"], "subscribe"), None).status, 403);
    assert_eq!(rerun(&token(&["q"], "run"), None).status, 403);
    let (first, second) = (rerun(&may_run, Some("k")), rerun(&may_run, Some("k")));
    assert_eq!((first.status, first.header("Idempotent-Replay")), (202, None), "{first:?}");
    assert_eq!((second.status, second.header("Idempotent-Replay")), (202, Some("true")), "{second:?}");
    assert_eq!(first.body, second.body);
    let other = Request::new("POST", &format!("{RUNS}/{}/rerun", run_of(&first))).token(&may_run);
    assert_eq!(server.call(other.header("Idempotency-Key", "k")).code(), "idempotency_key_reused", "of another run");
    let submitted = Request::post(RUNS, &serde_json::from_str(NUMBERS).expect("JSON")).token(&may_run);
    assert_eq!(server.call(submitted.header("Idempotency-Key", "k")).code(), "idempotency_key_reused", "a submission");
}

#[test]
fn a_key_was_compared_by_bytes_and_looked_up_behind_the_plan_and_went_with_its_run() {
    let server = Setup::default().flags(&["--history-runs", "1"]).start();
    let keyed = |body: &str| {
        let request = Request::new("POST", RUNS).header("Content-Type", "application/json").body(body);
        server.call(request.header("Idempotency-Key", "k"))
    };
    let body = r#"{"plan": {"name": "n", "steps": [{"id": "a", "tool": "echo", "inputs": {"x": 1, "y": "A"}}]}}"#;
    let first = keyed(body);
    let run = run_of(&first);
    let reordered = "{\"plan\":\n{\"steps\":[{\"tool\":\"echo\",\"inputs\":{\"y\":\"\\u0041\",\"x\":1},\"id\":\"a\"}],\"name\":\"n\"}}";
    let is_replay = |answer: &Response| {
        assert_eq!((answer.status, answer.header("Idempotent-Replay")), (202, Some("true")), "{answer:?}");
        assert_eq!(answer.body, first.body);
    };
    is_replay(&keyed(body));
    is_replay(&keyed(reordered));
    for other in [
        &body.replace("\"x\": 1", "\"x\": 1.0"),
        &body.replace("echo", "no such tool"),
        &body.replace("\"n\"", "5"),
        "[]",
        "{",
        &format!("{body} trailing"),
    ] {
        let answer = keyed(other);
        assert_eq!((answer.status, answer.code().as_str()), (422, "idempotency_key_reused"), "{other}");
    }
    // Runs that end later push the run out.
    server.messages("p", &run);
    while server.get(&format!("{RUNS}/{run}")).status != 404 {
        server.carry_out(&json!({"name": "later", "steps": [{"id": "a", "tool": "echo"}]}));
    }
    is_replay(&keyed(body));
    assert!(server.metric("stepcast_idempotency_bytes") > 100.0);
}

#[test]
fn a_plan_that_is_no_good_leaves_its_key_free() {
    let server = Server::open();
    let keyed = |body: &Value| server.call(Request::post(RUNS, body).header("Idempotency-Key", "k"));
    let bad = keyed(&json!({"name": "n", "steps": []}));
    assert_eq!((bad.status, bad.code().as_str()), (422, "invalid_plan"));
    run_of(&keyed(&json!({"name": "n", "steps": [{"id": "a", "tool": "echo"}]})));
    let checked = Request::post("/api/workflow/check", &json!({"name": "n", "steps": []}));
    assert_eq!(server.call(checked.header("Idempotency-Key", "k")).code(), "invalid_plan", "a check uses none");
}

#[test]
fn a_run_that_was_let_go_is_run_again_no_more_but_its_key_is_answered() {
    let server = Setup::default().flags(&["--history-runs", "1"]).start();
    let plan = json!({"name": "n", "steps": [{"id": "a", "tool": "echo"}]});
    let run = server.submit("p", &plan);
    let rerun = |key: &str| {
        let request = Request::new("POST", &format!("{RUNS}/{run}/rerun"));
        server.call(request.header("Idempotency-Key", key))
    };
    let first = rerun("k");
    server.messages("p", &run_of(&first));
    while server.get(&format!("{RUNS}/{run}")).status != 404 {
        server.carry_out(&plan);
    }
    let again = rerun("k");
    assert_eq!((again.status, again.header("Idempotent-Replay")), (202, Some("true")), "{again:?}");
    assert_eq!(again.body, first.body);
    assert_eq!(rerun("other").code(), "unknown_run");
}

#[test]
fn keys_beyond_their_bytes_are_refused_and_none_is_forgotten() {
    let server = Setup::default().flags(&["--limits-idempotency-bytes", "64KiB"]).start();
    let plan = json!({"name": "n", "steps": [{"id": "a", "title": "t".repeat(400), "tool": "echo"}]});
    let keyed = |project: &str, n: usize| {
        let request = Request::post(&format!("/api/projects/{project}/workflows"), &plan);
        server.call(request.header("Idempotency-Key", &format!("k{n}")))
    };
    let first = keyed("p", 0);
    let refused = (1..1000).map(|n| keyed("p", n)).find(|answer| answer.status != 202).expect("a bound");
    assert_eq!(refused.code(), "too_many_keys");
    assert_eq!((refused.status, refused.header("Retry-After").is_some()), (429, true));
    assert_eq!(server.metric("stepcast_refused_total{limit=\"idempotency_bytes\"}"), 1.0);
    let again = keyed("p", 0);
    assert_eq!((again.header("Idempotent-Replay"), &again.body), (Some("true"), &first.body));
    run_of(&keyed("q", 0));
    server.submit("p", &plan);
}

#[test]
fn a_page_of_runs_goes_on_where_the_last_one_ended_though_that_run_was_let_go() {
    let config = "[tools.wait]\nkind = \"command\"\nargv = [\"sleep\", \"1000\"]\n";
    let server = Setup::default().config(config).flags(&["--history-runs", "1"]).start();
    let waiting = json!({"name": "w", "steps": [{"id": "a", "tool": "wait"}]});
    let echo = json!({"name": "e", "steps": [{"id": "a", "tool": "echo"}]});
    let old = server.submit("p", &waiting);
    let ended = server.submit("p", &echo);
    server.messages("p", &ended);
    let page = |query: &str| {
        let page = server.get(&format!("{RUNS}?limit=1{query}")).json();
        (page["workflows"][0]["runId"].clone(), page["next"].as_str().map(str::to_owned))
    };
    let (first, next) = page("");
    assert_eq!(first, json!(ended));
    while server.get(&format!("{RUNS}/{ended}")).status != 404 {
        server.carry_out(&echo);
    }
    assert_eq!(page(&format!("&before={}", next.expect("more"))), (json!(old), None));
}

fn a_page_behind_a_run_that_was_let_go(setup: Setup) {
    let config = "[tools.wait]\nkind = \"command\"\nargv = [\"sleep\", \"1000\"]\n";
    let server = setup.config(config).flags(&["--history-runs", "1"]).start();
    let waiting = json!({"name": "w", "steps": [{"id": "a", "tool": "wait"}]});
    let echo = json!({"name": "e", "steps": [{"id": "a", "tool": "echo"}]});
    let old = [server.submit("p", &waiting), server.submit("p", &waiting)];
    let ended = server.submit("p", &echo);
    server.messages("p", &ended);
    while server.get(&format!("{RUNS}/{ended}")).status != 404 {
        server.carry_out(&echo);
    }
    let newer = server.submit("p", &waiting);
    let listed = |query: &str| {
        let page = server.get(&format!("{RUNS}{query}")).json();
        let runs = page["workflows"].as_array().expect("a list").iter().map(|run| run["runId"].clone());
        (runs.collect::<Vec<_>>(), page.get("next").and_then(Value::as_str).map(str::to_owned))
    };
    let (all, _) = listed("");
    assert!(all.len() >= 4 && all[0] == json!(newer), "{all:?}");
    assert_eq!(listed(&format!("?before={ended}")), (vec![json!(old[1]), json!(old[0])], None));
    let (first, next) = listed(&format!("?limit=1&before={ended}"));
    assert_eq!(first, [json!(old[1])]);
    assert_eq!(listed(&format!("?before={}", next.expect("more"))), (vec![json!(old[0])], None));
    assert_eq!(listed(&format!("?status=completed&before={ended}")), (vec![], None));
    assert_eq!(listed("?before=none").0, [json!(old[1]), json!(old[0])], "nothing tells it from one that was let go");
    assert_eq!(server.get("/api/projects/q/workflows?before=none").json(), json!({"workflows": []}));
}

#[test]
fn behind_a_run_that_was_let_go_the_older_ones_could_not_be_listed() {
    a_page_behind_a_run_that_was_let_go(Setup::default());
}

#[cfg(feature = "sqlite")]
#[test]
fn behind_a_run_that_was_let_go_the_older_ones_could_not_be_listed_from_disk() {
    let data = crate::common::server::TempDirectory::new();
    a_page_behind_a_run_that_was_let_go(Setup::default().data(data.path()));
}

#[test]
fn projects_that_hold_nothing_left_no_room_for_others() {
    let server = Setup::default().flags(&["--limits-projects", "3", "--history-bytes", "64KiB"]).start();
    let publish = |project: &str, bytes: usize| {
        let event = json!({"type": "note", "payload": {"text": "x".repeat(bytes)}});
        server.post(&format!("/api/projects/{project}/events"), &event)
    };
    for project in ["a", "b", "c"] {
        assert_eq!(publish(project, 100).status, 202);
    }
    assert_eq!(publish("d", 100).code(), "too_many_projects");
    // What is newer pushes the others' messages out.
    while publish("d", 100).status != 202 {
        assert_eq!(publish("c", 20_000).status, 202);
    }
    assert!(server.metric("stepcast_projects") <= 3.0);
    let listed = server.get("/api/projects").json();
    let listed: Vec<_> = listed["projects"].as_array().expect("a list").iter().map(|it| &it["projectId"]).collect();
    assert!(!listed.contains(&&json!("a")) && listed.contains(&&json!("d")), "{listed:?}");
    while publish("a", 100).status != 202 {
        assert_eq!(publish("c", 20_000).status, 202);
    }
    let mut stream = server.stream("/api/sse/projects/a?snapshot=0");
    assert_eq!(stream.next().expect("connected").message["seq"], 2, "its seq goes on");
}

#[test]
fn the_body_of_a_rerun_was_ignored() {
    let server = Server::open();
    let first = server.submit("p", &json!({"name": "n", "steps": [{"id": "a", "tool": "echo"}]}));
    let rerun = |body: &str| server.call(Request::new("POST", &format!("{RUNS}/{first}/rerun")).body(body));
    for (body, status) in [
        ("", 202),
        ("{}", 202),
        (" {\"runId\": \"mine\"}", 202),
        ("{", 400),
        ("[]", 422),
        ("null", 422),
        ("{\"runId\": 1}", 422),
        ("{\"runId\": \"a b\"}", 422),
        ("{\"inputs\": {}}", 422),
    ] {
        let answer = rerun(body);
        assert_eq!(answer.status, status, "{body}: {answer:?}");
    }
    let again = rerun("{\"runId\": \"mine\"}");
    assert_eq!((again.status, again.header("Idempotent-Replay")), (202, Some("true")), "{again:?}");
    assert_eq!(again.json()["runId"], "mine");
    let other = server.submit("p", &json!({"name": "other", "steps": [{"id": "a", "tool": "echo"}]}));
    let reused = Request::new("POST", &format!("{RUNS}/{other}/rerun")).body("{\"runId\": \"mine\"}");
    assert_eq!(server.call(reused).code(), "idempotency_key_reused");
}
