//! A project's history: `GET /api/projects/:p/events`.

use serde_json::{Value, json};

use crate::common::client::Request;
#[cfg(feature = "sqlite")]
use crate::common::server::TempDirectory;
use crate::common::server::{Server, Setup};
use crate::common::token::token;
use crate::common::wait_for;

const EVENTS: &str = "/api/projects/p/events";

/// A page of a project's history; `texts` of the notes in it.
fn history(server: &Server, query: &str) -> (Value, Vec<String>) {
    let answer = server.get(&format!("{EVENTS}{query}"));
    assert_eq!(answer.status, 200, "{query}: {}", answer.text());
    let page = answer.json();
    let events = page["events"].as_array().expect("a list").iter();
    let texts = events.map(|event| format!("{}{}", event["type"].as_str().expect("a type"), event["payload"]["n"]));
    let texts = texts.collect();
    (page, texts)
}

fn projects_history_comes_in_pages_both_ways(setup: Setup) {
    let server = setup.start();
    let note = |kind: &str, n: usize| json!({"type": kind, "payload": {"n": n}});
    let events: Vec<_> = (1..=6).map(|n| note(if n % 2 == 0 { "chat.even" } else { "odd" }, n)).collect();
    let ids = server.post(EVENTS, &json!(events)).json()["ids"].clone();
    let texts = |query: &str| history(&server, query).1;
    let (all, _) = history(&server, "");
    let listed: Vec<_> = all["events"].as_array().expect("a list").iter().map(|event| event["id"].clone()).collect();
    assert_eq!(
        (json!(listed), &all["oldest"], &all["next"], &all["lost"]),
        (ids.clone(), &json!(1), &Value::Null, &Value::Null)
    );
    assert_eq!(all["events"][0], json!({"id": ids[0], "type": "odd", "projectId": "p", "seq": 1, "payload": {"n": 1}}));
    assert_eq!(texts("?order=newest&limit=2"), ["chat.even6", "odd5"]);
    let (first, _) = history(&server, "?limit=2");
    let next = first["next"].as_str().expect("more");
    assert_eq!(
        (next, texts(&format!("?after={next}&limit=2"))),
        (ids[1].as_str().expect("an id"), vec!["odd3".into(), "chat.even4".into()])
    );
    let (newest, _) = history(&server, "?order=newest&limit=4");
    assert_eq!(texts(&format!("?before={}", newest["next"].as_str().expect("more"))), ["chat.even2", "odd1"]);
    let (after, before) = (ids[1].as_str().expect("an id"), ids[4].as_str().expect("an id"));
    assert_eq!(texts(&format!("?after={after}&before={before}")), ["odd3", "chat.even4"]);
    assert_eq!(texts(&format!("?after={after}&before={before}&order=newest")), ["chat.even4", "odd3"]);
    assert_eq!(texts("?type=chat.*"), ["chat.even2", "chat.even4", "chat.even6"]);
    assert_eq!(texts("?type=none,odd&limit=2"), ["odd1", "odd3"]);
    assert_eq!(texts("?type=odd&type=chat.even&type=!odd&order=newest&limit=1"), ["chat.even6"]);
    let plan = json!({"name": "one", "steps": [{"id": "a", "tool": "echo"}]});
    server.submit("p", &plan);
    wait_for("the run to end", || texts("?type=workflow_completed").pop());
    assert_eq!(texts("?type=!workflow_*").len(), 6);
    let head = server.call(Request::new("HEAD", &format!("{EVENTS}?type=odd")));
    assert_eq!((head.status, head.body.len()), (200, 0));
    let elsewhere = server.get("/api/projects/never/events");
    assert_eq!((elsewhere.status, elsewhere.json()), (200, json!({"events": [], "oldest": 1})));
}

#[test]
fn a_projects_history_comes_in_pages_both_ways() {
    projects_history_comes_in_pages_both_ways(Setup::default());
}

#[cfg(feature = "sqlite")]
#[test]
fn a_projects_history_comes_in_pages_both_ways_on_disk() {
    let directory = TempDirectory::new();
    projects_history_comes_in_pages_both_ways(Setup::default().data(directory.path()));
}

#[test]
fn what_was_let_go_of_a_projects_history_is_told() {
    let server = Setup::default().flags(&["--history-messages", "10"]).start();
    let ids = server.post(EVENTS, &json!(vec![json!({"type": "note", "payload": {"n": 1}}); 30])).json()["ids"].clone();
    let behind_the_first = format!("?after={}", ids[0].as_str().expect("an id"));
    wait_for("old messages to go", || (history(&server, "").0["oldest"] == 21).then_some(()));
    let (page, notes) = history(&server, &behind_the_first);
    assert_eq!((&page["lost"], notes.len(), &page["events"][0]["seq"]), (&json!(true), 10, &json!(21)));
    assert!(history(&server, "").0["lost"].is_null(), "who names no place has lost none");
    assert!(history(&server, "?order=newest").0["next"].is_null());
}

#[test]
fn bad_parameters_of_a_history_are_400_and_name_themselves() {
    let server = Server::open();
    for (query, named) in [
        ("?after=garbage", "after:"),
        ("?before=1", "before:"),
        ("?order=sideways", "order:"),
        ("?limit=0", "limit:"),
        ("?limit=1001", "limit:"),
        ("?type=", "type:"),
        ("?type=Note", "type:"),
        ("?type=a*b", "type:"),
        (&format!("?type={}a", "a,".repeat(32)), "type:"),
    ] {
        let answer = server.get(&format!("{EVENTS}{query}"));
        assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_parameter"), "{query}");
        assert!(answer.json()["detail"].as_str().expect("a text").starts_with(named), "{query}");
    }
    let foreign =
        server.post("/api/projects/q/events", &json!({"type": "note", "payload": {}})).json()["ids"][0].clone();
    let other = format!("{EVENTS}?after={}", foreign.as_str().expect("an id"));
    assert_eq!(server.get(&other).status, 400, "an id of another project");
}

#[test]
fn a_history_is_for_those_who_may_subscribe() {
    let server = Setup::default().with_tokens().start();
    for (projects, scope, status) in [(&["p"], "subscribe", 200), (&["p"], "publish", 403), (&["q"], "subscribe", 403)]
    {
        let answer = server.call(Request::get(EVENTS).token(&token(projects, scope)));
        assert_eq!(answer.status, status, "{projects:?} {scope}");
    }
    assert_eq!(server.get(EVENTS).status, 401);
}
