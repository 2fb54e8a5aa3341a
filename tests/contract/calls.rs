//! API calls: publishing, submitting, looking up, cancelling.

use std::process::Command;

use serde_json::{Value, json};

use crate::common::client::{Request, Response};
use crate::common::server::{Server, Setup, TempDirectory};
use crate::common::token::token;
use crate::common::wait_for;

const EVENTS: &str = "/api/projects/p/events";
const RUNS: &str = "/api/projects/p/workflows";

fn echo_plan() -> Value {
    json!({"name": "one", "steps": [{"id": "a", "tool": "echo", "inputs": {"k": "v"}}]})
}

fn waiting_plan() -> Value {
    json!({"name": "waits", "steps": [
        {"id": "a", "tool": "delay", "inputs": {"ms": 600_000}},
        {"id": "b", "tool": "echo", "dependencies": ["a"]},
    ]})
}

#[test]
fn good_events_are_202_and_bad_ones_say_why() {
    let server = Server::open();
    let event = |kind: &str| json!({"type": kind, "payload": {}});
    let table = [
        (event("note").to_string(), 202),
        (event("a.b-c_9").to_string(), 202),
        (event(&"a".repeat(64)).to_string(), 202),
        (json!(vec![event("note"); 1000]).to_string(), 202),
        (event(&"a".repeat(65)).to_string(), 422),
        (event("").to_string(), 422),
        (event("Note").to_string(), 422),
        (event("a b").to_string(), 422),
        (json!({"type": "note"}).to_string(), 422),
        (json!({"payload": {}}).to_string(), 422),
        (json!({"type": "note", "payload": [1]}).to_string(), 422),
        (json!({"type": 5, "payload": {}}).to_string(), 422),
        (json!(vec![event("note"); 1001]).to_string(), 422),
        (json!([event("note"), event("Note")]).to_string(), 422),
        ("{".to_owned(), 400),
        (String::new(), 400),
    ];
    let mut sent = 0;
    for (body, status) in table {
        let count = if body.starts_with('[') { 1000 } else { 1 };
        let answer = server.call(Request::new("POST", EVENTS).body(body.clone()));
        assert_eq!(answer.status, status, "{}", &body[..body.len().min(80)]);
        if status == 202 {
            sent += count;
            assert_eq!(answer.json()["ids"].as_array().expect("a list").len(), count);
        } else {
            answer.code();
        }
    }
    let plain = Request::new("POST", EVENTS).header("Content-Type", "text/plain");
    assert_eq!(server.call(plain.body(event("note").to_string())).status, 415);
    let huge = json!({"type": "note", "payload": {"text": "x".repeat(1024 * 1024)}});
    assert_eq!(server.post(EVENTS, &huge).status, 413);
    let connected = server.stream("/api/sse/projects/p").next().expect("connected");
    assert_eq!(connected.seq(), sent as u64, "nothing of what was refused is there");
}

#[test]
fn reserved_types_are_for_admins() {
    let server = Setup::default().with_tokens().start();
    for kind in ["workflow_started", "workflow_x", "stream_closing", "connected"] {
        let event = json!({"type": kind, "payload": {}});
        for (scope, status) in [("publish", 403), ("admin", 202)] {
            let answer = server.call(Request::post(EVENTS, &event).token(&token(&["p"], scope)));
            assert_eq!(answer.status, status, "{kind} {scope}");
        }
    }
}

#[test]
fn a_submitted_plan_is_answered_with_its_summary() {
    let server = Server::open();
    let plan = json!({"name": "n", "description": "d", "estimatedDuration": 5000, "unheard-of": 1, "steps": [
        {"id": "a", "title": "A", "description": "first", "tool": "echo", "unheard-of": 2},
        {"id": "b", "tool": "echo", "dependencies": ["a"]},
    ]});
    let summary = json!({"name": "n", "description": "d", "estimatedDuration": 5000, "totalLevels": 2,
    "levels": [["a"], ["b"]], "steps": [
        {"id": "a", "title": "A", "description": "first", "tool": "echo"},
        {"id": "b", "title": "b", "description": "", "tool": "echo"},
    ]});
    let answer = server.post(RUNS, &plan);
    assert_eq!(answer.status, 202);
    let body = answer.json();
    let run = body["runId"].as_str().expect("a run id");
    assert!(run.starts_with("run_") && run.len() >= 4 + 22, "{run}");
    let expected = json!({"runId": run, "planName": "n", "status": "started", "sseUrl": "/api/sse/projects/p",
        "planSummary": summary});
    assert_eq!(body, expected);
    let named = server.post("/api/workflow/run", &json!({"plan": plan, "projectId": "p"}));
    assert_eq!((named.status, &named.json()["planSummary"]), (202, &summary));
    let checked = server.post("/api/workflow/check", &plan);
    assert_eq!((checked.status, checked.json()), (200, summary));
    assert_eq!(server.get(RUNS).json()["workflows"].as_array().expect("a list").len(), 2, "a check runs nothing");
}

#[test]
fn the_same_key_or_run_id_runs_a_plan_once() {
    let server = Server::open();
    let keyed = |key: &str, body: &Value| server.call(Request::post(RUNS, body).header("Idempotency-Key", key));
    let replayed = |answer: &Response| answer.header("Idempotent-Replay") == Some("true");
    let first = keyed("k", &echo_plan());
    let second = keyed("k", &echo_plan());
    assert!(first.status == 202 && !replayed(&first), "{first:?}");
    assert!(second.status == 202 && replayed(&second), "{second:?}");
    assert_eq!(first.body, second.body);
    let reused = keyed("k", &waiting_plan());
    assert_eq!((reused.status, reused.code().as_str()), (422, "idempotency_key_reused"));
    for key in ["", &"x".repeat(256)] {
        assert_eq!(keyed(key, &echo_plan()).status, 400);
    }

    let named = |run: &Value, plan: Value| server.post(RUNS, &json!({"plan": plan, "runId": run}));
    let first = named(&json!("my.run:1"), echo_plan());
    let second = named(&json!("my.run:1"), echo_plan());
    assert_eq!((first.status, &first.json()["runId"]), (202, &json!("my.run:1")));
    assert!(second.status == 202 && replayed(&second) && first.body == second.body, "{second:?}");
    assert_eq!(named(&json!("my.run:1"), waiting_plan()).code(), "idempotency_key_reused");
    for bad in [json!("a b"), json!("x".repeat(129)), json!(5)] {
        assert_eq!(named(&bad, echo_plan()).status, 422, "{bad}");
    }
    let elsewhere = server.post("/api/projects/q/workflows", &json!({"plan": echo_plan(), "runId": "my.run:1"}));
    assert!(elsewhere.status == 202 && !replayed(&elsewhere), "run ids are a project's own");
    assert_eq!(server.get(RUNS).json()["workflows"].as_array().expect("a list").len(), 2);
}

#[test]
fn runs_are_listed_newest_first_in_pages() {
    let server = Server::open();
    let mut runs: Vec<String> = (0..5).map(|_| server.submit("p", &echo_plan())).collect();
    let failing = json!({"name": "f", "steps": [{"id": "a", "tool": "fail", "inputs": {"message": "boom"}}]});
    runs.push(server.submit("p", &failing));
    runs.iter().for_each(|run| drop(server.messages("p", run)));
    runs.reverse();
    let page = |query: &str| {
        let page = server.get(&format!("{RUNS}{query}")).json();
        let ids: Vec<String> = page["workflows"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|run| run["runId"].as_str().expect("an id").to_owned())
            .collect();
        (ids, page["next"].as_str().map(str::to_owned))
    };
    assert_eq!(page(""), (runs.clone(), None));
    let (first, next) = page("?limit=4");
    assert_eq!(first, runs[..4]);
    assert_eq!(page(&format!("?limit=4&before={}", next.expect("more"))), (runs[4..].to_vec(), None));
    assert_eq!(page("?status=failed").0, runs[..1]);
    assert_eq!(page("?status=completed").0, runs[1..]);
    assert_eq!(page("?status=queued").0.len(), 0);
    for query in ["?status=x", "?limit=0", "?limit=x", "?limit=100000", "?before=a%20b"] {
        assert_eq!(server.get(&format!("{RUNS}{query}")).status, 400, "{query}");
    }
}

#[test]
fn a_run_is_shown_whole() {
    let server = Server::open();
    let run = server.submit("p", &echo_plan());
    let messages = server.messages("p", &run);
    let shown = server.get(&format!("{RUNS}/{run}")).json();
    assert_eq!(shown["status"], "completed");
    assert_eq!((&shown["runId"], &shown["planName"]), (&json!(run), &json!("one")));
    assert_eq!(shown["levels"], json!([["a"]]));
    assert_eq!(
        shown["progress"],
        json!({"completed": 1, "failed": 0, "skipped": 0, "cancelled": 0, "total": 1, "percent": 100})
    );
    let step = &shown["steps"][0];
    assert_eq!(
        (&step["status"], &step["attempt"], &step["output"]),
        (&json!("completed"), &json!(1), &json!({"k": "v"}))
    );
    assert_eq!(shown["startedAt"], messages[0]["payload"]["timestamp"]);
    assert_eq!(shown["finishedAt"], messages.last().expect("a message")["payload"]["timestamp"]);
    let time = shown["finishedAt"].as_str().expect("a time");
    assert!(time.len() == "2026-01-01T00:00:00.000Z".len() && time.ends_with('Z'), "{time}");
    assert_eq!(server.get(&format!("{RUNS}/nope")).code(), "unknown_run");
    assert_eq!(server.get(&format!("/api/projects/q/workflows/{run}")).status, 404);
}

#[test]
fn a_runs_events_come_in_pages() {
    let server = Server::open();
    let run = server.submit("p", &echo_plan());
    let messages = server.messages("p", &run);
    let path = format!("{RUNS}/{run}/events");
    let page = |query: &str| server.get(&format!("{path}{query}")).json();
    let all = page("");
    let events = all["events"].as_array().expect("a list");
    let bare: Vec<Value> = events
        .iter()
        .map(|event| json!({"type": event["type"], "projectId": "p", "seq": event["seq"], "payload": event["payload"]}))
        .collect();
    assert_eq!(json!(bare), json!(messages));
    assert!(all["next"].is_null());
    let first = page("?limit=2");
    assert_eq!(first["events"], json!(events[..2]));
    let next = first["next"].as_str().expect("more");
    assert_eq!(page(&format!("?after={next}"))["events"], json!(events[2..]));
    let last = events.last().expect("an event")["id"].as_str().expect("an id");
    assert_eq!(page(&format!("?after={last}")), json!({"events": []}));
    assert_eq!(server.get(&format!("{path}?after=garbage")).status, 400);
    assert_eq!(server.get(&format!("{RUNS}/nope/events")).status, 404);
    let mut stream = server.stream_of(Request::get("/api/sse/projects/p").header("Last-Event-ID", next));
    stream.next();
    assert_eq!(stream.next().expect("a message").id(), events[2]["id"], "the ids are those of the stream");
}

#[test]
fn a_steps_output_is_read_whole_or_in_ranges() {
    let config = "[tools.say]\nkind = \"command\"\nargv = [\"printf\", \"out1\\\\nout2\\\\n\"]\n";
    let server = Setup::default().config(config).start();
    let plan =
        json!({"name": "n", "steps": [{"id": "t", "tool": "say"}, {"id": "j", "tool": "echo", "inputs": {"k": 1}}]});
    let run = server.submit("p", &plan);
    server.messages("p", &run);
    let output = |step: &str, range: Option<&str>| {
        let request = Request::get(&format!("{RUNS}/{run}/steps/{step}/output"));
        server.call(if let Some(range) = range { request.header("Range", range) } else { request })
    };
    let (text, json) = (output("t", None), output("j", None));
    assert!(text.header("Content-Type").is_some_and(|it| it.starts_with("text/plain")), "{text:?}");
    assert_eq!((text.text().as_str(), text.header("Accept-Ranges")), ("out1\nout2", Some("bytes")));
    assert_eq!((json.header("Content-Type"), json.json()), (Some("application/json"), json!({"k": 1})));
    for (range, status, content_range, body) in [
        ("bytes=0-3", 206, Some("bytes 0-3/9"), "out1"),
        ("bytes=-4", 206, Some("bytes 5-8/9"), "out2"),
        ("bytes=5-", 206, Some("bytes 5-8/9"), "out2"),
        ("bytes=5-100", 206, Some("bytes 5-8/9"), "out2"),
        ("lines=1-2", 200, None, "out1\nout2"),
    ] {
        let answer = output("t", Some(range));
        assert_eq!((answer.status, answer.header("Content-Range")), (status, content_range), "{range}");
        assert_eq!(answer.text(), body, "{range}");
    }
    let beyond = output("t", Some("bytes=9-"));
    assert_eq!((beyond.status, beyond.header("Content-Range")), (416, Some("bytes */9")));
    assert_eq!(output("nope", None).code(), "unknown_step");
}

#[test]
fn the_output_of_a_step_that_has_ended_has_a_tag_that_ranges_go_by() {
    let config = "[tools.say]\nkind = \"command\"\nargv = [\"printf\", \"out1\\\\nout2\\\\n\"]\n";
    let server = Setup::default().config(config).start();
    let run = server.submit("p", &json!({"name": "n", "steps": [{"id": "t", "tool": "say"}]}));
    server.messages("p", &run);
    let path = format!("{RUNS}/{run}/steps/t/output");
    let whole = server.get(&path);
    let tag = whole.header("ETag").expect("a tag").to_owned();
    assert!(tag.starts_with('"') && tag.ends_with('"'), "{tag} is strong");
    let part =
        |if_range: &str| server.call(Request::get(&path).header("Range", "bytes=0-3").header("If-Range", if_range));
    assert_eq!((part(&tag).status, part(&tag).text().as_str()), (206, "out1"));
    assert_eq!(part(&tag).header("ETag"), Some(tag.as_str()));
    for other in ["\"x\"", &format!("W/{tag}"), "Sun, 06 Nov 1994 08:49:37 GMT"] {
        let answer = part(other);
        assert_eq!((answer.status, answer.text().as_str()), (200, "out1\nout2"), "{other}");
    }
    let head = server.call(Request::new("HEAD", &path).header("Range", "bytes=0-3"));
    assert_eq!((head.status, head.header("Content-Length"), head.header("Content-Range")), (200, Some("9"), None));
    assert_eq!(head.header("ETag"), Some(tag.as_str()));
    let beyond = server.call(Request::new("HEAD", &path).header("Range", "bytes=99-"));
    assert_eq!(beyond.status, 200, "HEAD has no ranges");
    for method in ["GET", "HEAD"] {
        let known = server.call(Request::new(method, &path).header("If-None-Match", &tag).header("Range", "bytes=0-3"));
        assert_eq!((known.status, known.header("ETag"), known.body.len()), (304, Some(tag.as_str()), 0));
        assert_eq!(server.call(Request::new(method, &path).header("If-None-Match", "\"x\"")).status, 200);
    }
}

#[test]
fn who_follows_an_output_by_ranges_has_it_whole_and_unchanged_at_its_end() {
    let script = "printf '{ \"n\":\n'; cat \"$1\" >/dev/null; printf ' 1.50 }\\n'";
    let directory = TempDirectory::new();
    let gate = directory.join("gate");
    let made = Command::new("mkfifo").arg(&gate).status().expect("mkfifo is there");
    assert!(made.success());
    let config = format!("[tools.say]\nkind = \"command\"\nargv = [\"sh\", \"-c\", {script:?}, \"sh\", {gate:?}]\n");
    let server = Setup::default().config(&config).start();
    let run = server.submit("p", &json!({"name": "n", "steps": [{"id": "t", "tool": "say"}]}));
    let path = format!("{RUNS}/{run}/steps/t/output");
    let begun = wait_for("the first line", || Some(server.get(&path)).filter(|answer| !answer.body.is_empty()));
    assert_eq!((begun.text().as_str(), begun.header("ETag")), ("{ \"n\":", None), "it may still change");
    let kept = server.call(Request::get(&path).header("Range", "bytes=0-3").header("If-Range", "\"x\""));
    assert_eq!(kept.status, 200, "nothing is named that could match");
    drop(std::fs::OpenOptions::new().write(true).open(&gate).expect("the step reads"));
    server.messages("p", &run);
    let rest = server.call(Request::get(&path).header("Range", &format!("bytes={}-", begun.body.len())));
    assert_eq!((rest.status, begun.text() + &rest.text()), (206, "{ \"n\":\n 1.50 }".to_owned()));
    assert_eq!(server.get(&path).header("Content-Type"), Some("application/json"));
}

/// What a step prints before it waits for the gate to be opened, and after, and its output then.
fn follow_over_the_end(setup: Setup) {
    let cases = [
        ("json_text", "\\042caf\\303\\251 ", "more\\n\\042", "\"caf\u{e9} more\n\"", false),
        ("json_string", "\\042abc", "def\\042\\n", "\"abcdef\"", true),
        ("mark", "\\357\\273\\277{\\042a\\042:", "1}\\n", "\u{feff}{\"a\":1}", true),
        ("null", "nu", "ll", "null", true),
        ("text", "one\\n", "two\\n", "one\ntwo", false),
    ];
    let directory = TempDirectory::new();
    let gate = |name: &str| directory.join(name);
    let mut config = String::new();
    for (name, begins, goes_on, ..) in cases {
        assert!(Command::new("mkfifo").arg(gate(name)).status().expect("mkfifo is there").success());
        let script = format!("printf '{begins}'; cat \"$1\" >/dev/null; printf '{goes_on}'");
        let gate = gate(name);
        config +=
            &format!("[tools.{name}]\nkind = \"command\"\nargv = [\"sh\", \"-c\", {script:?}, \"sh\", {gate:?}]\n");
    }
    let server = setup.config(&config).start();
    for (name, _, _, all, is_json) in cases {
        let run = server.submit("p", &json!({"name": "n", "steps": [{"id": "t", "tool": name}]}));
        let path = format!("{RUNS}/{run}/steps/t/output");
        let begun = wait_for("the beginning", || Some(server.get(&path)).filter(|answer| !answer.body.is_empty()));
        assert_eq!(begun.header("Stepcast-Attempt"), Some("1"));
        drop(std::fs::OpenOptions::new().write(true).open(gate(name)).expect("the step reads"));
        server.messages("p", &run);
        let rest = server.call(Request::get(&path).header("Range", &format!("bytes={}-", begun.body.len())));
        let whole = server.get(&path);
        assert_eq!((rest.status, [begun.body, rest.body].concat()), (206, whole.body.clone()), "{name}");
        assert_eq!(whole.text(), all, "{name}");
        let media = if is_json { "application/json" } else { "text/plain; charset=utf-8" };
        assert_eq!(whole.header("Content-Type"), Some(media), "{name}");
        let state = server.get(&format!("{RUNS}/{run}")).json();
        let value = state["steps"][0].get("output").cloned();
        let expected = match is_json {
            true => serde_json::from_str(all.trim_start_matches('\u{feff}')).expect("JSON"),
            false => json!(all),
        };
        assert_eq!(value, Some(expected), "{name}: the value is in the state");
    }
}

#[test]
fn a_follower_by_ranges_had_another_text_once_a_printed_json_string_had_ended() {
    follow_over_the_end(Setup::default());
}

#[cfg(feature = "sqlite")]
#[test]
fn a_follower_by_ranges_had_another_text_once_a_printed_json_string_had_ended_on_disk() {
    let data = TempDirectory::new();
    follow_over_the_end(Setup::default().data(data.path()));
}

#[test]
fn two_attempts_were_spliced_without_a_word() {
    let script = "[ $STEPCAST_ATTEMPT = 1 ] || cat \"$1\" >/dev/null; printf \"attempt $STEPCAST_ATTEMPT\"; cat \"$2\" >/dev/null; [ $STEPCAST_ATTEMPT = 2 ]";
    let directory = TempDirectory::new();
    let [silent, spoken] = ["silent", "spoken"].map(|name| directory.join(name));
    for gate in [&silent, &spoken] {
        assert!(Command::new("mkfifo").arg(gate).status().expect("mkfifo is there").success());
    }
    let config = format!(
        "[tools.say]\nkind = \"command\"\nargv = [\"sh\", \"-c\", {script:?}, \"sh\", {silent:?}, {spoken:?}]\n"
    );
    let server = Setup::default().config(&config).start();
    let step = json!({"id": "t", "tool": "say", "retryPolicy": {"maxRetries": 1, "initialDelay": 1}});
    let run = server.submit("p", &json!({"name": "n", "steps": [step]}));
    let path = format!("{RUNS}/{run}/steps/t/output");
    let open = |gate: &std::path::Path| drop(std::fs::OpenOptions::new().write(true).open(gate).expect("it is read"));
    let attempt = |answer: &Response| answer.header("Stepcast-Attempt").expect("every answer says").to_owned();
    let first = wait_for("the first attempt", || Some(server.get(&path)).filter(|answer| !answer.body.is_empty()));
    assert_eq!((first.text().as_str(), attempt(&first).as_str()), ("attempt 1", "1"));
    open(&spoken);
    let silent_one = wait_for("the second attempt", || Some(server.get(&path)).filter(|answer| attempt(answer) == "2"));
    assert_eq!(silent_one.text(), "", "it has written nothing yet");
    let part = |method: &str, range: &str| server.call(Request::new(method, &path).header("Range", range));
    let nothing = part("GET", "bytes=8-");
    assert_eq!((nothing.status, attempt(&nothing).as_str()), (416, "2"));
    open(&silent);
    let spoken_one = wait_for("its words", || Some(part("GET", "bytes=8-")).filter(|answer| answer.status == 206));
    assert_eq!((spoken_one.text().as_str(), attempt(&spoken_one).as_str()), ("2", "2"));
    assert_eq!(attempt(&part("HEAD", "bytes=8-")), "2");
    open(&spoken);
    server.messages("p", &run);
    let ended = server.get(&path);
    assert_eq!(attempt(&ended), "2");
    let tag = ended.header("ETag").expect("a tag");
    let known = server.call(Request::get(&path).header("If-None-Match", tag));
    assert_eq!((known.status, attempt(&known).as_str()), (304, "2"));
}

#[test]
fn a_run_is_cancelled_once() {
    let server = Server::open();
    let run = server.submit("p", &waiting_plan());
    let cancel = |project: &str, run: &str| {
        server.call(Request::new("POST", &format!("/api/projects/{project}/workflows/{run}/cancel")))
    };
    assert_eq!(cancel("q", &run).status, 404);
    assert_eq!(cancel("p", "nope").status, 404);
    assert_eq!(cancel("p", &run).status, 202);
    let messages = server.messages("p", &run);
    let last = &messages.last().expect("a message")["payload"];
    assert_eq!((&last["reason"], &last["failedSteps"]), (&json!("cancelled"), &json!([])));
    let ended = cancel("p", &run);
    assert_eq!((ended.status, ended.code().as_str()), (409, "run_ended"));
    assert_eq!(server.get(&format!("{RUNS}/{run}")).json()["status"], "cancelled");
}

#[test]
fn runs_beyond_the_limits_wait_and_then_are_429() {
    let server = Setup::default().flags(&["--limits-active-runs", "1", "--limits-queued-runs", "1"]).start();
    let active = server.submit("p", &waiting_plan());
    let queued = server.submit("p", &waiting_plan());
    let refused = server.post(RUNS, &waiting_plan());
    assert!(refused.status == 429 && refused.header("Retry-After").is_some(), "{refused:?}");
    assert_eq!(server.get(&format!("{RUNS}/{queued}")).json()["status"], "queued");
    let mut stream = server.stream(&format!("/api/sse/projects/p?runId={queued}"));
    let cancel = |run: &str| server.call(Request::new("POST", &format!("{RUNS}/{run}/cancel"))).status;
    assert_eq!(cancel(&queued), 202);
    let events = stream.rest();
    let kinds: Vec<&str> = events.iter().map(|event| event.kind()).collect();
    let expected = ["connected", "workflow_started", "workflow_progress", "workflow_progress", "workflow_failed"];
    assert_eq!(kinds, expected, "of a run that never got its turn");
    let next = server.submit("p", &echo_plan());
    assert_eq!(cancel(&active), 202);
    assert_eq!(server.messages("p", &next).last().expect("a message")["type"], "workflow_completed");
}

#[test]
fn subscribers_and_projects_are_counted() {
    let server = Server::open();
    assert_eq!(server.get("/api/projects/p/subscribers").json(), json!({"count": 0}));
    let mut stream = server.stream("/api/sse/projects/p");
    stream.next();
    server.submit("p", &waiting_plan());
    assert_eq!(server.get("/api/projects/p/subscribers").json(), json!({"count": 1}));
    let listed = server.get("/api/projects").json();
    let project = &listed["projects"][0];
    assert_eq!((&project["projectId"], &project["activeRuns"]), (&json!("p"), &json!(1)));
    assert_eq!(project["subscribers"], 1);
    assert!(project["lastActivity"].is_string());
}

#[test]
fn metrics_health_and_description_are_there_for_everyone() {
    let server = Server::open();
    server.carry_out(&echo_plan());
    for (name, value) in [
        ("stepcast_runs_total{status=\"completed\"}", 1.0),
        ("stepcast_steps_total{status=\"completed\"}", 1.0),
        ("stepcast_streams_opened_total", 1.0),
        ("stepcast_streams_closed_total{reason=\"run_over\"}", 1.0),
    ] {
        assert_eq!(server.metric(name), value, "{name}");
    }
    let metrics = server.get("/metrics");
    assert!(metrics.header("Content-Type").is_some_and(|it| it.starts_with("text/plain; version=0.0.4")));
    for line in metrics.text().lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').expect("a name and a value");
        assert!(name.starts_with("stepcast_") && value.parse::<f64>().is_ok(), "{line}");
    }
    for path in ["/healthz", "/readyz"] {
        assert_eq!(server.get(path).json(), json!({"status": "ok"}));
    }
    let described = server.get("/openapi.json").json();
    assert_eq!(described["openapi"].as_str().map(|version| &version[..3]), Some("3.1"));
    for path in ["/api/projects/{projectId}/workflows", "/api/sse/projects/{projectId}", "/api/sse/ticket"] {
        assert!(described["paths"][path].is_object(), "{path}");
    }
}

#[test]
fn metrics_may_have_an_address_of_their_own() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    let server = Setup::default().flags(&["--metrics-listen", &free.to_string()]).start();
    assert_eq!(server.get("/metrics").status, 404);
    assert_eq!(Request::get("/metrics").send(free).status, 200);
    assert_eq!(Request::get("/api/projects").send(free).status, 404);
}
