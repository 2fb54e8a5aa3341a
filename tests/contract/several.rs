//! A stream of several projects: its ids, exact resume in each project, why it is refused, and who may open it.

#[cfg(feature = "sqlite")]
mod kills;

use serde_json::{Value, json};

use crate::common::client::Request;
use crate::common::server::{Server, Setup};
use crate::common::stream::{Event, Sse};
use crate::common::token;

fn publish(server: &Server, project: &str, count: u64) -> Vec<String> {
    let event = |n: u64| json!({"type": "note", "payload": {"n": n}});
    let events: Vec<_> = (0..count).map(event).collect();
    let answer = server.post(&format!("/api/projects/{project}/events"), &json!(events));
    assert_eq!(answer.status, 202, "{answer:?}");
    serde_json::from_value(answer.json()["ids"].clone()).expect("ids")
}

fn project(event: &Event) -> &str {
    event.message["projectId"].as_str().expect("a project")
}

/// Kind or how it resumes, project and number of each message.
fn told(events: &[Event]) -> Vec<(String, String, u64)> {
    let word = |event: &Event| match event.kind() {
        "connected" => event.message["payload"]["resume"].as_str().expect("a word").to_owned(),
        kind => kind.to_owned(),
    };
    events.iter().map(|event| (word(event), project(event).to_owned(), event.seq())).collect()
}

fn expect(events: &[Event], expected: &[(&str, &str, u64)]) {
    let expected: Vec<_> = expected.iter().map(|(word, of, seq)| (word.to_string(), of.to_string(), *seq)).collect();
    assert_eq!(told(events), expected);
}

fn resumed(server: &Server, path: &str, id: &str) -> Sse {
    server.stream_of(Request::get(path).header("Last-Event-ID", id))
}

#[test]
fn each_project_is_announced_and_each_id_resumes_all_of_them() {
    let server = Server::open();
    publish(&server, "b", 2);
    let mut stream = server.stream("/api/sse?projects=b,a,b&snapshot=0");
    let first = stream.take(2);
    expect(&first, &[("fresh", "a", 0), ("fresh", "b", 2)]);
    assert!(first[0].retry.is_some() && first[1].retry.is_none() && first[1].id.is_none());
    publish(&server, "a", 1);
    let a = stream.take(1).remove(0);
    publish(&server, "b", 2);
    let b = stream.take(2).remove(0);
    for (id, behind) in [
        (first[0].id(), vec![("note", "b", 3), ("note", "b", 4), ("note", "a", 1)]),
        (a.id(), vec![("note", "b", 3), ("note", "b", 4)]),
        (b.id(), vec![("note", "b", 4)]),
    ] {
        let mut again = resumed(&server, "/api/sse?projects=a,b", id);
        let connected = again.take(2);
        assert_eq!(connected[0].id(), id, "it goes on from there");
        assert!(connected.iter().all(|event| event.message["payload"]["resume"] == "resumed"));
        let mut news = told(&again.take(behind.len()));
        let mut expected: Vec<_> =
            behind.iter().map(|(word, of, seq)| (word.to_string(), of.to_string(), *seq)).collect();
        news.sort();
        expected.sort();
        assert_eq!(news, expected);
    }
}

#[test]
fn a_list_that_changed_resumes_what_stayed_and_begins_what_is_new() {
    let server = Server::open();
    for name in ["a", "b", "c"] {
        publish(&server, name, 2);
    }
    let id = server.stream("/api/sse?projects=a,b&snapshot=0").take(1).remove(0).id().to_owned();
    publish(&server, "a", 1);
    publish(&server, "c", 1);
    let mut stream = resumed(&server, "/api/sse?projects=c,a&snapshot=0", &id);
    expect(&stream.take(3), &[("resumed", "a", 2), ("fresh", "c", 3), ("note", "a", 3)]);
}

#[test]
fn ids_of_one_project_and_of_several_are_good_for_each_other() {
    let server = Server::open();
    let of_a = publish(&server, "a", 3);
    publish(&server, "b", 1);
    let mut stream = resumed(&server, "/api/sse?projects=a,b&snapshot=0", &of_a[0]);
    let events = stream.take(4);
    expect(&events, &[("resumed", "a", 1), ("fresh", "b", 1), ("note", "a", 2), ("note", "a", 3)]);
    let mut alone = resumed(&server, "/api/sse/projects/a", events[2].id());
    expect(&alone.take(2), &[("resumed", "a", 2), ("note", "a", 3)]);
}

#[test]
fn an_id_that_nobody_knows_resets_each_project_by_name() {
    let server = Server::open();
    publish(&server, "a", 1);
    for id in ["garbage", "é", "AAAAAAAA.~AAAAAAA.AAAAAAAAAAAAAAAA"] {
        let mut stream = resumed(&server, "/api/sse?projects=a,b", id);
        let events = stream.take(4);
        expect(&events, &[("reset", "a", 1), ("stream_reset", "a", 1), ("reset", "b", 0), ("stream_reset", "b", 0)]);
        assert_eq!(events[3].message["payload"]["reason"], "unknown_id");
    }
}

#[test]
fn a_body_names_each_project_with_its_own_id() {
    let server = Server::open();
    let of_a = publish(&server, "a", 3);
    publish(&server, "b", 2);
    for method in ["POST", "QUERY"] {
        let asks = |body: &Value| server.stream_of(Request::new(method, "/api/sse").body(body.to_string()));
        let body = json!({"projects": {"a": of_a[1], "b": null}, "snapshot": false});
        let mut stream = asks(&body);
        let events = stream.take(3);
        expect(&events, &[("resumed", "a", 2), ("fresh", "b", 2), ("note", "a", 3)]);
        let mut listed = asks(&json!({"projects": ["b", "a"], "heartbeat": "message"}));
        expect(&listed.take(2), &[("fresh", "a", 3), ("fresh", "b", 2)]);
        // The same call again, as libraries make it: what the stream said last is newer than what the body says.
        let again = Request::new(method, "/api/sse").body(body.to_string()).header("Last-Event-ID", events[2].id());
        expect(&server.stream_of(again).take(2), &[("resumed", "a", 3), ("resumed", "b", 2)]);
    }
}

#[test]
fn what_can_not_be_asked_for_is_refused_by_its_name() {
    let server = Server::open();
    let many = |count: usize| (0..count).map(|n| format!("p{n}")).collect::<Vec<_>>();
    let url = |query: &str| Request::get(&format!("/api/sse{query}"));
    let body = |body: Value| Request::post("/api/sse", &body);
    for (request, status, named) in [
        (url(""), 400, "projects"),
        (url("?projects="), 400, "projects"),
        (url("?projects=a,,b"), 400, "projects"),
        (url("?projects=a,b%20c"), 400, "projects"),
        (url(&format!("?projects={}", many(33).join(","))), 400, "1 to 32 projects"),
        (url("?projects=a&runId=r"), 400, "runId"),
        (url("?projects=a&view=text"), 400, "view"),
        (url("?projects=a&format=agui"), 400, "format"),
        (url("?projects=a&snapshot=2"), 400, "snapshot"),
        (body(json!({})), 422, "projects"),
        (body(json!([])), 422, "object"),
        (body(json!({"projects": 5})), 422, "projects"),
        (body(json!({"projects": {"a": 5}})), 422, "projects"),
        (body(json!({"projects": {}})), 400, "1 to 32 projects"),
        (body(json!({"projects": many(33)})), 400, "1 to 32 projects"),
        (body(json!({"projects": ["a b"]})), 400, "projects"),
        (body(json!({"projects": ["a"], "heartbeat": "x"})), 400, "heartbeat"),
        (body(json!({"projects": ["a"], "runId": "r"})), 422, "runId"),
    ] {
        let answer = server.call(request);
        let detail = answer.json()["detail"].as_str().unwrap_or_default().to_owned();
        assert_eq!((answer.status, detail.contains(named)), (status, true), "{named}: {detail}");
    }
    let repeated = format!("/api/sse?projects={},p0,p1", many(32).join(","));
    assert_eq!(server.stream(&repeated).take(32).len(), 32, "repeats don't count");
    let deleted = server.call(Request::new("DELETE", "/api/sse"));
    assert_eq!((deleted.status, deleted.header("Allow")), (405, Some("GET, HEAD, POST, QUERY, OPTIONS")));
}

#[test]
fn all_must_be_allowed_at_first_and_who_comes_back_keeps_what_is_left() {
    let server = Setup::default().with_tokens().start();
    let ask = |projects: &str, token: &str| Request::get(&format!("/api/sse?projects={projects}")).token(token);
    let both = token::token(&["a", "b"], "subscribe publish");
    let only_b = token::token(&["b"], "subscribe");
    let refused = server.call(ask("a,b", &only_b));
    assert_eq!((refused.status, refused.code()), (403, "project_forbidden".to_owned()));
    assert!(refused.json()["detail"].as_str().expect("a text").contains("the project a"));
    assert_eq!(server.call(Request::get("/api/sse?projects=a,b")).status, 401);
    let id = server.stream_of(ask("a,b", &both)).take(1).remove(0).id().to_owned();
    let mut left = server.stream_of(ask("a,b", &only_b).header("Last-Event-ID", &id));
    let events = left.take(2);
    expect(&events, &[("resumed", "b", 0), ("stream_closing", "a", 0)]);
    assert_eq!(events[1].message["payload"]["reason"], "forbidden");
    let note = json!({"type": "note", "payload": {}});
    let publish = |name: &str| server.call(Request::post(&format!("/api/projects/{name}/events"), &note).token(&both));
    assert_eq!((publish("a").status, publish("b").status), (202, 202));
    expect(&left.take(1), &[("note", "b", 1)]);
    let none = token::token(&["c"], "subscribe");
    assert_eq!(server.call(ask("a,b", &none).header("Last-Event-ID", &id)).status, 403);
    let unable = token::token(&["a", "b"], "publish");
    assert_eq!(server.call(ask("a,b", &unable).header("Last-Event-ID", &id)).status, 403);
}

#[test]
fn a_ticket_of_several_projects_opens_their_stream_once_and_with_an_id_again() {
    let server = Setup::default().with_tokens().start();
    let token = token::token(&["a", "b", "c"], "subscribe");
    let ticket_of = |body: Value| server.call(Request::post("/api/sse/ticket", &body).token(&token));
    for (body, status) in [
        (json!({"projectIds": ["a", "d"]}), 403),
        (json!({"projectIds": []}), 422),
        (json!({"projectIds": ["a"], "projectId": "a"}), 422),
        (json!({"projectIds": (0..33).map(|n| format!("p{n}")).collect::<Vec<_>>()}), 422),
    ] {
        assert_eq!(ticket_of(body).status, status);
    }
    let answer = ticket_of(json!({"projectIds": ["b", "a"]})).json();
    let url = answer["sseUrl"].as_str().expect("an address");
    assert!(url.starts_with("/api/sse?projects=a,b&ticket="), "{url}");
    let wider = url.replace("a,b", "a,b,c");
    assert_eq!(server.get(&wider).code(), "ticket_other_project");
    let id = server.stream(url).take(1).remove(0).id().to_owned();
    assert_eq!(server.get(url).code(), "ticket_spent");
    assert_eq!(server.get(&format!("{url}&lastEventId={id}")).code(), "ticket_spent", "an address can be passed on");
    expect(&resumed(&server, url, &id).take(2), &[("resumed", "a", 0), ("resumed", "b", 0)]);
    let events = resumed(&server, &wider, &id).take(3);
    expect(&events, &[("resumed", "a", 0), ("resumed", "b", 0), ("stream_closing", "c", 0)]);
    let alone = url.replace("/api/sse?projects=a,b&", "/api/sse/projects/a?");
    expect(&resumed(&server, &alone, &id).take(1), &[("resumed", "a", 0)]);
    let ticket = ticket_of(json!({"projectIds": ["a", "b"]})).json()["ticket"].clone();
    let body = json!({"projects": ["a", "b"], "ticket": ticket});
    assert_eq!(server.stream_of(Request::post("/api/sse", &body)).take(2).len(), 2);
    assert_eq!(server.call(Request::post("/api/sse", &body)).code(), "ticket_spent");
}

#[test]
fn a_stream_counts_once_for_its_token_and_in_each_of_its_projects() {
    let server = Setup::default().with_tokens().flags(&["--limits-streams-per-token", "1"]).start();
    let token = token::token(&["a", "b"], "subscribe admin");
    let ask = || Request::get("/api/sse?projects=a,b").token(&token);
    let mut stream = server.stream_of(ask());
    stream.take(2);
    for name in ["a", "b"] {
        let count = server.call(Request::get(&format!("/api/projects/{name}/subscribers")).token(&token));
        assert_eq!(count.json()["count"], 1, "{name}");
    }
    assert_eq!(server.call(ask()).status, 429);
    let busy = server.stream_of(ask()).rest();
    expect(&busy, &[("stream_closing", "a", 0), ("stream_closing", "b", 0)]);
    assert!(busy[0].retry.is_some() && busy.iter().all(|event| event.message["payload"]["reason"] == "busy"));
}
