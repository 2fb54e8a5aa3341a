//! Runs in the formats of agent frontends: how their streams begin, continue, resume and end.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::common::client::{Connection, Request};
use crate::common::retold::{Frame, RetoldStream};
use crate::common::server::{Server, Setup, TempDirectory};
use crate::common::token::{claims, signed, token, unix_now};
use crate::common::wait_for;

const AGUI: &str = "/api/projects/p/agui";
const CHAT: &str = "/api/projects/p/chat";

/// A tool whose step ends when the file `gate` is there.
fn gated(directory: &TempDirectory) -> Setup {
    let gate = directory.join("gate");
    let script = format!("until [ -e '{}' ]; do sleep 0.01; done; echo through", gate.display());
    let config = format!("[tools.gated]\nkind = \"command\"\nargv = [\"sh\", \"-c\", \"{script}\"]\n");
    Setup::default().config(&config).data(&directory.join("data"))
}

fn open_gate(directory: &TempDirectory) {
    std::fs::write(directory.join("gate"), "").expect("a file");
}

fn quick() -> Value {
    json!({"name": "quick", "steps": [
        {"id": "a", "tool": "echo", "inputs": {"n": 1}},
        {"id": "b", "tool": "echo", "dependencies": ["a"]},
    ]})
}

fn waiting() -> Value {
    json!({"name": "waiting", "steps": [
        {"id": "first", "tool": "echo"},
        {"id": "waits", "tool": "gated", "dependencies": ["first"]},
        {"id": "last", "tool": "echo", "dependencies": ["waits"]},
    ]})
}

/// As AG-UI's client posts it.
fn input(run: &str, plan: Option<Value>) -> Value {
    let props = plan.map_or(json!({}), |plan| json!({ "plan": plan }));
    json!({"threadId": "t", "runId": run, "protocolVersion": "1.0", "state": {}, "messages": [], "tools": [],
        "context": [], "forwardedProps": props})
}

fn agui(server: &Server, run: &str, plan: Option<Value>) -> RetoldStream {
    RetoldStream::open(server.address, Request::post(AGUI, &input(run, plan)))
}

fn event_source(run: &str, format: &str) -> Request {
    Request::get(&format!("/api/sse/projects/p?runId={run}&format={format}")).header("Accept", "text/event-stream")
}

fn resumed(run: &str, format: &str, id: &str) -> Request {
    event_source(run, format).header("Last-Event-ID", id)
}

fn kinds(frames: &[Frame]) -> Vec<&str> {
    frames.iter().map(Frame::kind).collect()
}

fn ids(frames: &[Frame]) -> Vec<&str> {
    frames.iter().filter_map(|frame| frame.id.as_deref()).collect()
}

/// How many events say that the run, or its stream, has ended.
fn ends(frames: &[Frame]) -> usize {
    frames.iter().filter(|frame| matches!(frame.kind(), "RUN_FINISHED" | "RUN_ERROR" | "finish")).count()
}

fn until_step_runs(stream: &mut RetoldStream, step: &str) -> Vec<Frame> {
    stream.until(|frame| frame.data["type"] == "STEP_STARTED" && frame.data["stepName"] == step)
}

#[test]
fn a_run_that_is_not_known_is_begun_and_one_that_is_known_is_told() {
    let server = Server::open();
    let mut stream = agui(&server, "r", Some(quick()));
    let first = stream.rest();
    assert!(stream.is_at_its_end(), "the end is meant");
    assert_eq!(kinds(&first)[..3], ["RUN_STARTED", "STATE_SNAPSHOT", "MESSAGES_SNAPSHOT"]);
    assert_eq!((first[0].data["threadId"].as_str(), first[0].data["runId"].as_str()), (Some("t"), Some("r")));
    assert_eq!((kinds(&first).last(), ends(&first)), (Some(&"RUN_FINISHED"), 1));
    assert_eq!(server.get("/api/projects/p/workflows/r").json()["status"], "completed");
    for again in [agui(&server, "r", None), agui(&server, "r", Some(json!({"name": "another"})))] {
        let (mut again, whole) = (again, first.last().expect("an end"));
        let told = again.rest();
        assert!(again.is_at_its_end());
        assert_eq!((kinds(&told)[0], ends(&told)), ("RUN_STARTED", 1));
        assert_eq!(told.last().expect("an end").id, whole.id);
    }
    let runs = server.get("/api/projects/p/workflows").json();
    assert_eq!(runs["workflows"].as_array().or(runs["runs"].as_array()).map(Vec::len), Some(1), "{runs}");
}

#[test]
fn a_run_without_an_id_has_one_made_up() {
    let server = Server::open();
    let mut body = input("", Some(quick()));
    body.as_object_mut().expect("an object").remove("runId");
    let mut stream = RetoldStream::open(server.address, Request::post(AGUI, &body));
    let frames = stream.rest();
    let run = frames[0].data["runId"].as_str().expect("an id");
    assert_eq!(server.get(&format!("/api/projects/p/workflows/{run}")).status, 200);
    assert_eq!(ends(&frames), 1);
}

#[test]
fn whoever_leaves_ends_nothing() {
    let directory = TempDirectory::new();
    let server = gated(&directory).start();
    let mut stream = agui(&server, "r", Some(waiting()));
    until_step_runs(&mut stream, "waits");
    drop(stream);
    open_gate(&directory);
    wait_for("its end", || (server.get("/api/projects/p/workflows/r").json()["status"] == "completed").then_some(()));
}

#[test]
fn a_stream_goes_on_exactly_behind_each_id_that_it_showed() {
    let directory = TempDirectory::new();
    let server = gated(&directory).start();
    for (format, run) in [("agui", "r1"), ("ai", "r2")] {
        // Not there the first time.
        let _ = std::fs::remove_file(directory.join("gate"));
        server.post("/api/projects/p/workflows", &json!({"plan": waiting(), "runId": run}));
        let mut stream = RetoldStream::open(server.address, event_source(run, format));
        let mut frames = stream.until(|frame| frame.id.is_some());
        open_gate(&directory);
        frames.extend(stream.rest());
        assert!(stream.is_at_its_end() && ends(&frames) == 1, "{frames:#?}");
        let seen = ids(&frames);
        assert!(seen.len() > 5, "{seen:?}");
        for id in &seen[1..seen.len() - 1] {
            let at = frames.iter().position(|frame| frame.id.as_deref() == Some(id)).expect("it is there");
            let mut again = RetoldStream::open(server.address, resumed(run, format, id));
            assert_eq!(again.rest(), frames[at + 1..], "behind {id}");
            assert!(again.is_at_its_end());
        }
        let last = server.call(resumed(run, format, seen.last().expect("an end")));
        assert_eq!(last.status, 204, "nothing follows");
        for id in ["nonsense", "~"] {
            let mut anew = RetoldStream::open(server.address, resumed(run, format, id));
            assert_eq!(anew.rest()[0].kind(), frames[0].kind(), "from the beginning");
        }
    }
}

#[cfg(feature = "sqlite")]
#[test]
fn a_stream_that_a_crash_cut_goes_on_where_it_was_or_is_told_anew() {
    let directory = TempDirectory::new();
    let setup = gated(&directory);
    let server = setup.clone().start();
    let mut stream = agui(&server, "r", Some(waiting()));
    let mut seen = until_step_runs(&mut stream, "waits");
    if seen.last().is_some_and(|frame| frame.id.is_none()) {
        seen.extend(stream.until(|frame| frame.id.is_some()));
    }
    server.kill();
    assert_eq!(stream.rest().len(), 0);
    assert!(!stream.is_at_its_end(), "no end that seems meant");

    let server = setup.start();
    open_gate(&directory);
    let id = seen.iter().rev().find_map(|frame| frame.id.clone()).expect("an id");
    let mut exact = RetoldStream::open(server.address, resumed("r", "agui", &id));
    let rest = exact.rest();
    assert!(!kinds(&rest).contains(&"RUN_STARTED"), "it goes on: {rest:#?}");
    assert_eq!((kinds(&rest).last(), ends(&rest)), (Some(&"RUN_FINISHED"), 1));
    let both: Vec<&str> = ids(&seen).into_iter().chain(ids(&rest)).collect();
    let mut once = both.clone();
    once.dedup();
    assert_eq!(both, once, "nothing twice");
    let told = agui(&server, "r", None).rest();
    assert_eq!((kinds(&told)[0], ends(&told)), ("RUN_STARTED", 1));
}

#[test]
fn a_stream_that_the_server_ends_early_says_that_it_is_no_end_of_the_run() {
    let directory = TempDirectory::new();
    let config = gated(&directory).with_tokens().flags(&["--executor-grace", "50ms"]);
    let mut server = config.start();
    let all = token(&["p"], "run subscribe");
    let open = |request: Request, token: &str| RetoldStream::open(server.address, request.token(token));
    let begun = open(Request::post(AGUI, &input("r", Some(waiting()))), &all);
    let mut claims = claims(&["p"], "subscribe");
    claims["exp"] = json!(unix_now() + 2);
    let brief = signed(&claims);
    for (mut stream, reason) in [
        (open(event_source("r", "agui"), &brief), "token_expired"),
        (open(Request::post(AGUI, &input("r", None)), &brief), "token_expired"),
    ] {
        let frames = stream.rest();
        let last = &frames.last().expect("last words").data;
        assert_eq!((last["type"].as_str(), last["code"].as_str()), (Some("RUN_ERROR"), Some("stream_closing")));
        assert!(last["message"].as_str().is_some_and(|message| message.contains(reason)), "{last}");
        assert!(stream.is_at_its_end() && ends(&frames) == 1);
    }
    let mut chat = open(event_source("r", "ai"), &all);
    let mut streams = [begun, open(event_source("r", "agui"), &all)];
    streams.iter_mut().for_each(|stream| drop(until_step_runs(stream, "waits")));
    chat.until(|frame| frame.id.is_some());
    server.signal(Signal::TERM);
    for stream in &mut streams {
        let frames = stream.rest();
        assert_eq!(frames.last().map(|frame| frame.data["code"].clone()), Some(json!("stream_closing")));
        assert!(stream.is_at_its_end() && ends(&frames) == 1);
    }
    let last = chat.rest();
    assert_eq!(kinds(&last)[kinds(&last).len() - 2..], ["error", "[DONE]"]);
    assert!(chat.is_at_its_end());
    assert_eq!(server.wait(), Some(0));
}

#[test]
fn what_can_not_be_had_is_refused_by_its_status_and_never_softly() {
    let directory = TempDirectory::new();
    let setup = gated(&directory).with_tokens().flags(&["--limits-streams-per-token", "1", "--executor-grace", "10s"]);
    let server = setup.start();
    let all = token(&["p"], "run subscribe");
    let mut stream = RetoldStream::open(server.address, Request::post(AGUI, &input("r", Some(waiting()))).token(&all));
    until_step_runs(&mut stream, "waits");
    let refused = |request: Request| server.call(request.token(&all));
    for request in [event_source("r", "agui"), event_source("r", "ai"), Request::post(AGUI, &input("r", None))] {
        let answer = refused(request);
        assert_eq!((answer.status, answer.code().as_str()), (429, "too_many_streams"));
        assert!(answer.header("Retry-After").is_some(), "{answer:?}");
    }
    server.signal(Signal::TERM);
    wait_for("no new work", || (server.get("/readyz").status == 503).then_some(()));
    for request in [event_source("r", "agui"), Request::post(AGUI, &input("r", None)), Request::post(CHAT, &json!({}))]
    {
        let answer = refused(request);
        assert_eq!((answer.status, answer.code().as_str()), (503, "draining"));
        assert!(answer.header("Retry-After").is_some(), "{answer:?}");
    }
    open_gate(&directory);
}

#[test]
fn a_chat_is_begun_and_resumed_from_its_beginning() {
    let directory = TempDirectory::new();
    let server = gated(&directory).start();
    let message = json!({"id": "m", "role": "user", "parts": [{"type": "text", "text": "hi"}]});
    let body = json!({"id": "c", "messages": [message], "trigger": "submit-message", "plan": waiting()});
    let mut stream = RetoldStream::open(server.address, Request::post(CHAT, &body));
    assert_eq!(stream.head.header("x-vercel-ai-ui-message-stream"), Some("v1"));
    let first = stream.until(|frame| frame.id.is_some());
    assert_eq!((first[0].kind(), first[0].data["messageId"].as_str()), ("start", Some("c")));
    let resume = Request::get(&format!("{CHAT}/c/stream"));
    let mut again = RetoldStream::open(server.address, resume.clone());
    assert_eq!(again.until(|frame| frame.id.is_some())[0], first[0], "the message from its start");
    open_gate(&directory);
    for stream in [&mut stream, &mut again] {
        let frames = stream.rest();
        assert_eq!(kinds(&frames)[kinds(&frames).len() - 2..], ["finish", "[DONE]"]);
        assert!(stream.is_at_its_end());
    }
    assert_eq!(RetoldStream::open(server.address, resume).rest()[0], first[0], "it ended a moment ago");
    assert_eq!(server.get(&format!("{CHAT}/none/stream")).status, 204);
    assert_eq!(server.call(Request::new("HEAD", &format!("{CHAT}/c/stream"))).status, 200);
}

#[test]
fn what_is_wrong_with_a_call_is_said() {
    let server = Setup::default().with_tokens().start();
    let with = |request: Request, scope: &str| server.call(request.token(&token(&["p"], scope)));
    let no_tool = json!({"name": "x", "steps": [{"id": "a", "tool": "none"}]});
    let post = |run: &str, plan: Option<Value>| Request::post(AGUI, &input(run, plan));
    for (request, scope, status, code) in [
        (post("r", Some(quick())), "publish", 403, "scope_missing"),
        (post("r", Some(quick())), "subscribe", 403, "scope_missing"),
        (post("r", Some(no_tool)), "run subscribe", 422, "invalid_plan"),
        (post("r", None), "run subscribe", 422, "invalid_body"),
        (
            Request::new("POST", AGUI).header("Content-Type", "application/json").body("{"),
            "subscribe",
            400,
            "invalid_json",
        ),
        (
            Request::new("POST", AGUI).header("Content-Type", "text/plain").body("{}"),
            "subscribe",
            415,
            "unsupported_media_type",
        ),
        (event_source("r", "agui"), "subscribe", 404, "unknown_run"),
        (event_source("r", "other"), "subscribe", 400, "invalid_parameter"),
        (Request::get("/api/sse/projects/p?format=ai"), "subscribe", 400, "invalid_parameter"),
        (Request::get("/api/sse/projects/p?format=ai&runId=r&view=text"), "subscribe", 400, "invalid_parameter"),
        (
            Request::get("/api/sse/projects/p?format=ai&runId=r&heartbeat=message"),
            "subscribe",
            400,
            "invalid_parameter",
        ),
        (Request::get("/api/projects/q/chat/r/stream"), "subscribe", 403, "project_forbidden"),
    ] {
        let answer = with(request, scope);
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{}", answer.text());
    }
    let issue = with(post("r", None), "run subscribe").json();
    assert_eq!(issue["issues"][0]["path"], "forwardedProps.plan", "{issue}");
    let both = server.call(Request::get("/api/sse/projects/p?format=agui").token(&token(&["p"], "subscribe"))).json();
    let detail = both["detail"].as_str().expect("a detail");
    assert!(detail.contains("format") && detail.contains("runId"), "{detail}");
    assert_eq!(server.call(post("r", Some(quick()))).status, 401);
    let told = with(Request::get(AGUI), "subscribe").json();
    assert_eq!(told["transport"]["resumable"], true, "{told}");
}

#[test]
fn a_stream_comes_behind_the_answers_before_it_and_old_clients_read_it_too() {
    let server = Server::open();
    agui(&server, "r", Some(quick())).rest();
    let mut connection = Connection::open(server.address);
    let bytes = [Request::get("/healthz"), Request::post(AGUI, &input("r", None))].map(|it| it.bytes(server.address));
    connection.write(&bytes.concat());
    assert_eq!(connection.response(false).expect("an answer").status, 200);
    assert_eq!(ends(&RetoldStream::over(connection).rest()), 1);

    let mut connection = Connection::open(server.address);
    connection.write(b"GET /api/sse/projects/p?runId=r&format=agui HTTP/1.0\r\nHost: localhost\r\n\r\n");
    let mut old = RetoldStream::over(connection);
    assert_eq!(old.head.header("Transfer-Encoding"), None);
    assert_eq!(ends(&old.rest()), 1);
}

#[test]
fn streams_in_a_format_are_counted_by_it_and_their_pages_may_send_what_they_send() {
    let directory = TempDirectory::new();
    let server = gated(&directory).flags(&["--cors-allowed-origins", "https://app.example.com"]).start();
    let mut stream = agui(&server, "r", Some(waiting()));
    until_step_runs(&mut stream, "waits");
    wait_for("the count", || (server.metric("stepcast_streams_retold{format=\"agui\"}") == 1.0).then_some(()));
    assert_eq!(server.metric("stepcast_streams_retold{format=\"ai\"}"), 0.0);
    let preflight = Request::new("OPTIONS", AGUI).header("Origin", "https://app.example.com");
    let answer = server.call(preflight.header("Access-Control-Request-Method", "POST"));
    let allowed = answer.header("Access-Control-Allow-Headers").expect("a list");
    for name in ["Authorization", "Content-Type", "Last-Event-ID", "User-Agent"] {
        assert!(allowed.contains(name), "{name}: {allowed}");
    }
    open_gate(&directory);
}
