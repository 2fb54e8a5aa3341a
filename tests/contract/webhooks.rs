//! Webhooks: what is sent to whom, how often, and what a crash changes.

use std::collections::HashSet;
use std::net::TcpListener;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::common::client::Request;
use crate::common::receiver::{Answer, Receiver, SECRET};
use crate::common::server::{Server, Setup, TempDirectory, TempFile, run};
use crate::common::{token, wait_for};

const FINE: fn(&crate::common::receiver::Got) -> Answer = |_| Answer::Status(204);

fn webhook(name: &str, url: &str, more: &str) -> String {
    format!("[[webhooks]]\nname = \"{name}\"\nurl = \"{url}\"\nsecret = \"{SECRET}\"\n{more}\n")
}

fn echo(name: &str) -> Value {
    json!({"name": name, "steps": [{"id": "a", "tool": "echo", "inputs": {"n": 1}}]})
}

fn fail() -> Value {
    json!({"name": "fails", "steps": [{"id": "a", "tool": "fail", "inputs": {"message": "no luck"}}]})
}

fn wait() -> Value {
    json!({"name": "waits", "steps": [{"id": "a", "tool": "delay", "inputs": {"ms": 3_600_000}}]})
}

fn attempts(server: &Server, webhook: &str, outcome: &str) -> u64 {
    let name = match outcome {
        "given_up" => format!("stepcast_webhook_given_up_total{{webhook=\"{webhook}\"}}"),
        _ => format!("stepcast_webhook_attempts_total{{webhook=\"{webhook}\",outcome=\"{outcome}\"}}"),
    };
    server.metric(&name) as u64
}

/// Waits until so many events have been taken.
fn until(server: &Server, webhook: &str, outcome: &str, count: u64) {
    wait_for(outcome, || (attempts(server, webhook, outcome) == count).then_some(()));
}

fn standing(server: &Server, place: usize) -> Value {
    server.get("/api/webhooks").json()["webhooks"][place].clone()
}

#[test]
fn the_end_of_a_run_is_told_as_a_signed_event() {
    let receiver = Receiver::start(FINE);
    let other = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let config = webhook("w", &receiver.url("/hook?k=v"), "headers = { X-Key = \"key\" }")
        .replace(&format!("\"{SECRET}\""), &format!("[\"{SECRET}\", \"{other}\"]"));
    let server = Setup::default().config(&config).start();
    let id = server.submit("p", &echo("n"));
    let got = receiver.next();
    assert!(got.is_signed_with(SECRET) && got.is_signed_with(other), "{got:?}");
    assert_eq!((got.path.as_str(), got.headers["x-key"].as_str()), ("/hook?k=v", "key"));
    let messages = server.get(&format!("/api/projects/p/workflows/{id}/events")).json();
    let last = messages["events"].as_array().and_then(|events| events.last()).expect("a last message").clone();
    let expected = json!({
        "specversion": "1.0",
        "id": last["id"],
        "source": format!("/projects/p/runs/{id}"),
        "type": "io.serverlessworkflow.workflow.completed.v1",
        "time": last["payload"]["timestamp"],
        "datacontenttype": "application/json",
        "sequence": format!("{:020}", last["seq"].as_u64().expect("a number")),
        "data": last["payload"],
    });
    assert_eq!((got.event(), got.id()), (expected, last["id"].as_str().expect("an id")));

    server.submit("p", &fail());
    assert_eq!(receiver.next().event()["type"], "io.serverlessworkflow.workflow.faulted.v1");
    let run = server.submit("p", &wait());
    assert_eq!(server.post(&format!("/api/projects/p/workflows/{run}/cancel"), &json!({})).status, 202);
    assert_eq!(receiver.next().event()["type"], "io.serverlessworkflow.workflow.cancelled.v1");
    until(&server, "w", "delivered", 3);
    assert_eq!(receiver.rest().len(), 0, "each is told once");
    let standing = standing(&server, 0);
    assert_eq!(
        (&standing["state"], &standing["pending"], &standing["delivered"]),
        (&json!("on"), &json!(0), &json!(3))
    );
    assert_eq!(standing["lastResult"], "answered 204");
    assert!(!standing.to_string().contains("k=v"), "the path may be a secret: {standing}");
}

#[test]
fn a_webhook_is_told_of_its_events_and_projects_alone() {
    let receiver = Receiver::start(FINE);
    let only = "events = [\"run.failed\"]\nprojects = [\"p\", \"q\"]";
    let config = webhook("all", &receiver.url("/all"), "") + &webhook("some", &receiver.url("/some"), only);
    let server = Setup::default().config(&config).start();
    for (project, plan) in [("p", echo("n")), ("q", fail()), ("r", fail())] {
        server.submit(project, &plan);
    }
    until(&server, "all", "delivered", 3);
    until(&server, "some", "delivered", 1);
    let (some, all): (Vec<_>, Vec<_>) = receiver.rest().into_iter().partition(|got| got.path == "/some");
    let sources: Vec<_> = some.iter().map(|got| got.event()["source"].to_string()).collect();
    assert!(sources.len() == 1 && sources[0].starts_with("\"/projects/q/"), "{sources:?}");
    assert_eq!(all.len(), 3);
}

#[test]
fn what_is_not_taken_is_sent_again_as_the_same_event() {
    let mut statuses = [500, 404, 302, 429].into_iter();
    let receiver = Receiver::start(move |_| match statuses.next() {
        Some(302) => Answer::With(302, "Location: /elsewhere"),
        Some(429) => Answer::With(429, "Retry-After: 0"),
        Some(status) => Answer::Status(status),
        None => Answer::Status(200),
    });
    let retry = "retry = [\"1ms\", \"1ms\", \"1ms\", \"1ms\", \"1h\"]";
    let server = Setup::default().config(&webhook("w", &receiver.url("/hook"), retry)).start();
    server.submit("p", &echo("n"));
    let all: Vec<_> = (0..5).map(|_| receiver.next()).collect();
    for got in &all {
        assert!(got.is_signed_with(SECRET));
        assert_eq!((got.id(), &got.body, got.path.as_str()), (all[0].id(), &all[0].body, "/hook"));
    }
    until(&server, "w", "delivered", 1);
    assert_eq!((attempts(&server, "w", "failed"), attempts(&server, "w", "given_up")), (4, 0));
    assert!(server.log().iter().any(|line| line.contains("webhook w: the receiver accepts events again")));
}

#[test]
fn a_redirect_is_a_failure_and_the_last_failure_is_the_end() {
    let receiver = Receiver::start(|got| match got.path.as_str() {
        "/hook" => Answer::With(307, "Location: /elsewhere"),
        _ => Answer::Status(200),
    });
    let server = Setup::default().config(&webhook("w", &receiver.url("/hook"), "retry = [\"1ms\"]")).start();
    server.submit("p", &echo("n"));
    until(&server, "w", "given_up", 1);
    let paths: Vec<_> = receiver.rest().into_iter().map(|got| got.path).collect();
    assert_eq!((paths, attempts(&server, "w", "failed")), (vec!["/hook".to_owned(); 2], 2));
    let line = server
        .log()
        .into_iter()
        .find(|line| line.contains("gave up on event ") && line.contains(" after 2 attempts: answered 307"));
    assert!(line.is_some(), "{:?}", server.log());
    assert_eq!(standing(&server, 0)["pending"], 0);
}

#[test]
fn a_slow_receiver_holds_nobody_else_up() {
    let (slow, fast) = (Receiver::start(|_| Answer::Hold), Receiver::start(FINE));
    let config = webhook("slow", &slow.url("/"), "timeout = \"5m\"") + &webhook("fast", &fast.url("/"), "");
    let mut server = Setup::default().config(&config).start();
    for _ in 0..10 {
        server.submit("p", &echo("n"));
    }
    let told: HashSet<_> = (0..10).map(|_| fast.next().run()).collect();
    assert_eq!(told.len(), 10);
    (0..4).for_each(|_| drop(slow.next()));
    until(&server, "fast", "delivered", 10);
    assert_eq!(server.metric("stepcast_webhook_sending{webhook=\"slow\"}"), 4.0);
    assert_eq!(slow.rest().len(), 0, "four at a time");
    // The end of the server waits for a slow receiver for a moment only.
    server.signal(Signal::TERM);
    assert_eq!(server.wait(), Some(0));
}

#[cfg(feature = "sqlite")]
#[test]
fn nothing_that_was_committed_is_lost_to_a_crash_and_nothing_has_two_ids() {
    let (directory, receiver) = (TempDirectory::new(), Receiver::start(|_| Answer::Hold));
    let config = webhook("w", &receiver.url("/"), "retry = [\"1ms\", \"1ms\"]");
    let setup = Setup::default().config(&config).data(&directory.join("data"));
    let server = setup.clone().start();
    // More than are sent at a time: of some there is nothing but the commit.
    let runs: Vec<_> = (0..7).map(|_| server.submit("p", &echo("n"))).collect();
    runs.iter().for_each(|run| drop(server.messages("p", run)));
    let mut ids: Vec<_> = (0..4).map(|_| receiver.next()).map(|got| (got.run(), got.id().to_owned())).collect();
    server.kill();

    receiver.answer(FINE);
    let server = setup.clone().start();
    let after: Vec<_> = (0..7).map(|_| receiver.next()).map(|got| (got.run(), got.id().to_owned())).collect();
    let told: HashSet<_> = after.iter().map(|(run, _)| run.clone()).collect();
    assert_eq!(told, runs.iter().cloned().collect());
    ids.extend(after);
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), 7, "at least once, with one id: {ids:?}");
    until(&server, "w", "delivered", 7);
    server.kill();

    let server = setup.start();
    let last = server.submit("p", &echo("n"));
    assert_eq!(receiver.next().run(), last, "what was taken is not sent again");
}

#[cfg(feature = "sqlite")]
#[test]
fn attempts_are_counted_over_restarts() {
    let (directory, receiver) = (TempDirectory::new(), Receiver::start(|_| Answer::Status(500)));
    let setup = |retry: &str| {
        let config = webhook("w", &receiver.url("/"), &format!("retry = [{retry}]"));
        Setup::default().config(&config).data(&directory.join("data"))
    };
    let server = setup("\"1ms\", \"1ms\", \"1d\"").start();
    server.submit("p", &echo("n"));
    until(&server, "w", "failed", 3);
    let due_at = standing(&server, 0)["nextAttemptAt"].clone();
    assert!(due_at.is_string(), "{due_at}");
    server.kill();

    let server = setup("\"1ms\", \"1ms\", \"1d\"").start();
    wait_for("the same wait", || (standing(&server, 0)["nextAttemptAt"] == due_at).then_some(()));
    assert_eq!(standing(&server, 0)["pending"], 1);
    // A further event is told meanwhile.
    server.submit("p", &echo("n"));
    until(&server, "w", "failed", 3);
    assert_eq!(receiver.rest().iter().map(|got| got.id().to_owned()).collect::<HashSet<_>>().len(), 2);
}

#[cfg(feature = "sqlite")]
#[test]
fn what_waits_for_a_webhook_that_is_declared_no_more_is_given_up() {
    let directory = TempDirectory::new();
    let nobody = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    let data = directory.join("data");
    let declared = webhook("gone", &format!("http://{nobody}/"), "");
    let mut server = Setup::default().config(&declared).data(&data).start();
    server.submit("p", &echo("n"));
    until(&server, "gone", "failed", 1);
    server.signal(Signal::TERM);
    assert_eq!(server.wait(), Some(0));
    let mut server = Setup::default().data(&data).start();
    let said = "webhook gone is no longer declared; dropped 1 events queued for it";
    assert!(server.log().iter().any(|line| line.contains(said)), "{:?}", server.log());
    server.signal(Signal::TERM);
    assert_eq!(server.wait(), Some(0));
    let server = Setup::default().config(&declared).data(&data).start();
    server.submit("p", &echo("n"));
    until(&server, "gone", "failed", 1);
    assert_eq!(standing(&server, 0)["pending"], 1, "the new one alone");
}

#[cfg(feature = "sqlite")]
#[test]
fn a_shutdown_lets_what_is_on_its_way_come_to_its_end() {
    let directory = TempDirectory::new();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let receiver = Receiver::start(move |_| {
        let _ = released.recv();
        Answer::Status(200)
    });
    let setup = Setup::default().config(&webhook("w", &receiver.url("/"), "")).data(&directory.join("data"));
    let mut server = setup.clone().start();
    server.submit("p", &echo("n"));
    wait_for("the attempt", || (server.metric("stepcast_webhook_sending{webhook=\"w\"}") == 1.0).then_some(()));
    server.signal(Signal::TERM);
    wait_for("the end of the loop", || Request::get("/healthz").try_send(server.address).is_none().then_some(()));
    drop(release);
    assert_eq!(server.wait(), Some(0));
    receiver.next();
    let server = setup.start();
    let last = server.submit("p", &echo("n"));
    assert_eq!(receiver.next().run(), last, "what came through is not sent again");
}

#[test]
fn a_receiver_that_is_gone_is_told_nothing_until_the_next_start() {
    let receiver = Receiver::start(|_| Answer::Status(410));
    let server = Setup::default().config(&webhook("w", &receiver.url("/"), "")).start();
    server.submit("p", &echo("n"));
    wait_for("it is off", || (standing(&server, 0)["state"] == "off").then_some(()));
    receiver.next();
    receiver.answer(FINE);
    let run = server.submit("p", &echo("n"));
    server.messages("p", &run);
    assert!(
        server.log().iter().any(|line| line.contains("answered 410 Gone; the webhook is off until the next start"))
    );
    assert_eq!((receiver.rest().len(), attempts(&server, "w", "delivered")), (0, 0));
}

#[test]
fn a_large_event_is_told_without_its_data() {
    let receiver = Receiver::start(FINE);
    let setup = Setup::default().config(&webhook("w", &receiver.url("/"), ""));
    let server = setup.flags(&["--limits-webhook-body-bytes", "1KiB"]).start();
    let plan = json!({"name": "n", "steps": [{"id": "a", "tool": "echo", "inputs": {"text": "x".repeat(1024)}}]});
    let run = server.submit("p", &plan);
    let event = receiver.next().event();
    assert_eq!(event["data"], json!({"runId": run, "timestamp": event["time"], "thin": true}));
    assert_eq!(event["type"], "io.serverlessworkflow.workflow.completed.v1");
}

#[test]
fn too_much_for_a_webhook_is_its_oldest_given_up() {
    let nobody = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    let setup = Setup::default().config(&webhook("w", &format!("http://{nobody}/"), ""));
    let server = setup.flags(&["--limits-webhook-events", "2"]).start();
    for _ in 0..5 {
        let run = server.submit("p", &echo("n"));
        server.messages("p", &run);
    }
    wait_for("the bound", || (server.metric("stepcast_webhook_dropped_total") == 3.0).then_some(()));
    assert!(server.log().iter().any(|line| line.contains("too many events are queued (limit ")));
}

#[test]
fn only_who_may_see_everything_sees_the_webhooks() {
    let server = Setup::default().with_tokens().start();
    let get = |token: Option<String>| {
        let request = Request::get("/api/webhooks");
        server.call(match token {
            Some(token) => request.token(&token),
            None => request,
        })
    };
    assert_eq!(get(None).status, 401);
    assert_eq!(get(Some(token::token(&["*"], "subscribe publish run"))).status, 403);
    assert_eq!(get(Some(token::token(&["p"], "admin"))).status, 403);
    let answer = get(Some(token::token(&["*"], "admin")));
    assert_eq!((answer.status, answer.json()), (200, json!({"webhooks": []})));
}

#[test]
fn a_webhook_that_can_not_be_sent_to_stops_the_start_and_shows_no_secret() {
    let url = "http://hooks.internal/hunter2";
    let (status, said) = Setup::default().config(&webhook("w", url, "")).launch().refusal();
    assert_eq!(status, Some(1));
    assert!(said.contains("webhooks[0].url: expected https://") && !said.contains("hunter2"), "{said}");
    assert!(!said.contains(SECRET), "{said}");
}

#[test]
fn a_webhook_is_tried_by_hand() {
    let receiver = Receiver::start(|got| Answer::Status(if got.path == "/good" { 204 } else { 500 }));
    let config = webhook("good", &receiver.url("/good"), "") + &webhook("bad", &receiver.url("/bad"), "");
    let file = TempFile::new(".toml", &config);
    let test = |name: &str| run(&["webhooks", "test", name, "--config", file.text()], &[], "");
    assert_eq!(test("good"), (0, "webhook good: answered 204\n".to_owned(), String::new()));
    let got = receiver.next();
    assert!(got.is_signed_with(SECRET));
    let event = got.event();
    assert_eq!((&event["type"], &event["source"]), (&json!("dev.stepcast.ping.v1"), &json!("/webhooks/good")));
    assert_eq!(test("bad").0, 1);
    let (status, _, said) = test("none");
    assert_eq!((status, said.as_str()), (1, "stepcast: unknown webhook none; declared webhooks: good, bad\n"));
}
