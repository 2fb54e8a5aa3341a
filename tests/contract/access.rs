//! Who may do what: tokens, scopes, tickets, browser origins.

use serde_json::{Value, json};

use crate::common::client::{Connection, Request, Response};
#[cfg(feature = "sqlite")]
use crate::common::server::TempDirectory;
use crate::common::server::{Server, Setup};
use crate::common::stream::Sse;
use crate::common::token::{SECRET, claims, signed, signed_as, token, unix_now};
use crate::common::wait_for;

const STREAM: &str = "/api/sse/projects/p";
const RUNS: &str = "/api/projects/p/workflows";

fn guarded(flags: &[&str]) -> Server {
    Setup::default().with_tokens().flags(flags).start()
}

fn with(mut claims: Value, key: &str, value: Value) -> Value {
    claims[key] = value;
    claims
}

fn without(mut claims: Value, key: &str) -> Value {
    claims.as_object_mut().expect("an object").remove(key);
    claims
}

#[test]
fn a_token_is_good_or_401_or_403() {
    let server = guarded(&[]);
    let good = || claims(&["p"], "subscribe");
    let header = |alg: &str| json!({"alg": alg, "typ": "JWT"});
    let table = [
        (signed(&good()), 200, ""),
        (signed(&with(good(), "projects", json!(["*"]))), 200, ""),
        (signed(&without(good(), "scope")), 200, ""),
        (signed(&with(good(), "scope", json!("admin"))), 200, ""),
        (signed(&with(good(), "scope", json!("unheard-of subscribe"))), 200, ""),
        (signed(&without(good(), "exp")), 401, "token_invalid"),
        (signed(&without(good(), "sub")), 401, "token_invalid"),
        (signed(&with(good(), "exp", json!(unix_now()))), 401, "token_expired"),
        (signed(&with(good(), "exp", json!("tomorrow"))), 401, "token_invalid"),
        (signed_as(&header("none"), &good(), SECRET), 401, "token_invalid"),
        (signed_as(&header("HS384"), &good(), SECRET), 401, "token_invalid"),
        (signed_as(&header("RS256"), &good(), SECRET), 401, "token_invalid"),
        (signed_as(&header("HS256"), &good(), &"x".repeat(32)), 401, "token_invalid"),
        ("x.y.z".to_owned(), 401, "token_invalid"),
        (String::new(), 401, "credentials_required"),
        (signed(&with(good(), "projects", json!(["q"]))), 403, "project_forbidden"),
        (signed(&without(good(), "projects")), 403, "project_forbidden"),
        (signed(&with(good(), "scope", json!(""))), 403, "scope_missing"),
        (signed(&with(good(), "scope", json!("run publish"))), 403, "scope_missing"),
    ];
    for (token, status, code) in table {
        let answer = server.call(Request::get(RUNS).token(&token));
        assert_eq!(answer.status, status, "{token} {answer:?}");
        if status != 200 {
            assert_eq!(answer.code(), code, "{token}");
        }
        assert_eq!(
            answer.header("WWW-Authenticate").is_some_and(|it| it.starts_with("Bearer")),
            status == 401 || code == "scope_missing"
        );
    }
    assert_eq!(server.get(RUNS).code(), "credentials_required");
    assert_eq!(server.get(&format!("{RUNS}?access_token={}", token(&["p"], "subscribe"))).status, 401);
}

#[test]
fn each_call_asks_for_its_scope_and_its_project() {
    let server = guarded(&[]);
    let plan = json!({"name": "n", "steps": [{"id": "a", "tool": "echo"}]});
    let submit = Request::post(RUNS, &json!({"plan": plan, "runId": "r"})).token(&token(&["p"], "run"));
    assert_eq!(server.call(submit).status, 202);
    let event = json!({"type": "note", "payload": {}});
    let calls = [
        (Request::post(RUNS, &plan), "run", true),
        (Request::post("/api/workflow/run", &json!({"plan": plan, "projectId": "p"})), "run", true),
        (Request::post("/api/workflow/check", &plan), "run", false),
        (Request::get(RUNS), "subscribe", true),
        (Request::get("/api/projects/p/workflows/r"), "subscribe", true),
        (Request::get("/api/projects/p/workflows/r/events"), "subscribe", true),
        (Request::get("/api/projects/p/workflows/r/steps/a/output"), "subscribe", true),
        (Request::get("/api/projects"), "subscribe", false),
        (Request::new("POST", "/api/projects/p/workflows/r/cancel"), "run", true),
        (Request::post("/api/projects/p/events", &event), "publish", true),
        (Request::get("/api/projects/p/subscribers"), "admin", true),
        (Request::new("HEAD", STREAM), "subscribe", true),
        (Request::post("/api/sse/ticket", &json!({"projectId": "p"})), "subscribe", true),
    ];
    for (request, scope, is_of_project) in calls {
        for held in ["subscribe", "publish", "run", "admin"] {
            let status = server.call(request.clone().token(&token(&["p"], held))).status;
            assert_eq!(status == 403, held != scope && held != "admin", "{scope} {held} {status}");
        }
        let elsewhere = server.call(request.clone().token(&token(&["q"], "admin"))).status;
        assert_eq!(elsewhere == 403, is_of_project, "{scope} {elsewhere}");
        assert_eq!(server.call(request).status, 401, "{scope}");
    }
    for open in ["/healthz", "/readyz", "/metrics", "/openapi.json"] {
        assert_eq!(server.get(open).status, 200, "{open}");
    }
    assert_eq!(server.get("/").status, if cfg!(feature = "dashboard") { 200 } else { 404 });
}

#[test]
fn a_token_sees_its_own_projects() {
    let server = guarded(&[]);
    for project in ["a", "b", "c"] {
        let event = json!({"type": "note", "payload": {}});
        let path = format!("/api/projects/{project}/events");
        assert_eq!(server.call(Request::post(&path, &event).token(&token(&["*"], "publish"))).status, 202);
    }
    let listed = |projects: &[&str], query: &str| {
        let path = format!("/api/projects{query}");
        let page = server.call(Request::get(&path).token(&token(projects, "subscribe"))).json();
        let ids: Vec<Value> =
            page["projects"].as_array().expect("a list").iter().map(|project| project["projectId"].clone()).collect();
        (json!(ids), page["next"].clone())
    };
    assert_eq!(listed(&["*"], ""), (json!(["a", "b", "c"]), Value::Null));
    assert_eq!(listed(&["a", "c", "unheard-of"], ""), (json!(["a", "c"]), Value::Null));
    assert_eq!(listed(&["unheard-of"], ""), (json!([]), Value::Null));
    let (first, next) = listed(&["*"], "?limit=2");
    assert_eq!(first, json!(["a", "b"]));
    let rest = format!("?limit=2&after={}", next.as_str().expect("more"));
    assert_eq!(listed(&["*"], &rest), (json!(["c"]), Value::Null));
}

fn ticket(server: &Server, body: &Value) -> Value {
    let answer = server.call(Request::post("/api/sse/ticket", body).token(&token(&["p", "q"], "subscribe")));
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

fn shown(server: &Server, path: &str, id: Option<&str>) -> Response {
    let request = Request::get(path).header("Accept", "text/event-stream");
    let request = if let Some(id) = id { request.header("Last-Event-ID", id) } else { request };
    Sse::open(server.address, request.clone()).head
}

#[test]
fn a_ticket_opens_one_stream_and_with_a_genuine_id_its_reconnects() {
    let server = guarded(&[]);
    let publish = |project: &str| {
        let path = format!("/api/projects/{project}/events");
        let event = json!({"type": "note", "payload": {}});
        let answer = server.call(Request::post(&path, &event).token(&token(&["*"], "publish")));
        answer.json()["ids"][0].as_str().expect("an id").to_owned()
    };
    let (id, foreign) = (publish("p"), publish("q"));
    let answer = ticket(&server, &json!({"projectId": "p"}));
    let path = answer["sseUrl"].as_str().expect("a path").to_owned();
    assert_eq!(answer["expiresIn"], 15_000);
    assert_eq!(path, format!("{STREAM}?ticket={}", answer["ticket"].as_str().expect("a ticket")));

    let elsewhere = path.replace("/p?", "/q?");
    assert_eq!(shown(&server, &elsewhere, None).status, 403, "for another project");
    for _ in 0..2 {
        assert_eq!(server.call(Request::new("HEAD", &path)).status, 200, "HEAD spends none");
    }
    assert_eq!(shown(&server, &path, None).status, 200);
    assert_eq!(server.get(&path).code(), "ticket_spent");
    assert_eq!(shown(&server, &path, Some(&id)).status, 200, "spent, and an id");
    assert_eq!(shown(&server, &path, Some(&id)).status, 200, "again and again");
    assert_eq!(shown(&server, &format!("{path}&lastEventId={id}"), None).status, 403, "an id in the query");
    assert_eq!(shown(&server, &path, Some(&foreign)).status, 403, "another project's id");
    assert_eq!(shown(&server, &path, Some(&format!("{id}x"))).status, 403, "a forged id");
    assert_eq!(shown(&server, STREAM, Some(&id)).status, 401, "an id alone");
    assert_eq!(shown(&server, &format!("{STREAM}?lastEventId={id}"), None).status, 401);
    assert_eq!(shown(&server, &format!("{STREAM}?ticket=garbage"), Some(&id)).status, 403, "no ticket of ours");
}

#[test]
fn a_ticket_without_a_project_is_good_for_those_of_its_token() {
    let server = guarded(&[]);
    let unbound = || ticket(&server, &json!({}))["ticket"].as_str().expect("a ticket").to_owned();
    assert!(ticket(&server, &json!({}))["sseUrl"].is_null());
    for (project, status) in [("p", 200), ("q", 200), ("r", 403)] {
        let path = format!("/api/sse/projects/{project}?ticket={}", unbound());
        assert_eq!(shown(&server, &path, None).status, status, "{project}");
    }
    let with_token = Request::new("POST", "/api/sse/ticket").token(&token(&["p"], "subscribe"));
    assert_eq!(server.call(with_token).status, 200, "the body is optional");
    for (body, status) in [("[]", 400), ("3", 400), ("{", 400), (r#"{"projectId": 3}"#, 422), (" ", 200)] {
        let request = Request::new("POST", "/api/sse/ticket").body(body);
        assert_eq!(server.call(request.token(&token(&["p"], "subscribe"))).status, status, "{body}");
    }
    let elsewhere = Request::post("/api/sse/ticket", &json!({"projectId": "r"})).token(&token(&["p"], "subscribe"));
    assert_eq!(server.call(elsewhere).status, 403);
}

#[test]
fn a_ticket_expires_unused() {
    let server = guarded(&["--auth-ticket-ttl", "30ms"]);
    let path = ticket(&server, &json!({"projectId": "p"}))["sseUrl"].as_str().expect("a path").to_owned();
    wait_for("the ticket's end", || (server.call(Request::new("HEAD", &path)).status == 403).then_some(()));
    assert_eq!(server.get(&path).code(), "ticket_expired");
}

#[test]
fn a_busy_server_spends_no_ticket() {
    let server = guarded(&["--limits-connections", "2"]);
    let path = ticket(&server, &json!({"projectId": "p"}))["sseUrl"].as_str().expect("a path").to_owned();
    let request = || Request::get(STREAM).token(&token(&["p"], "subscribe"));
    let watching = [server.stream_of(request()), server.stream_of(request())];
    assert_eq!(server.stream(&path).rest()[0].message["payload"]["reason"], "busy");
    drop(watching);
    wait_for("the ticket's stream", || {
        (server.stream(&path).next().expect("a message").kind() == "connected").then_some(())
    });
}

fn ticket_path(server: &Server) -> String {
    ticket(server, &json!({"projectId": "p"}))["sseUrl"].as_str().expect("a path").to_owned()
}

#[test]
fn a_request_that_is_refused_spends_no_ticket() {
    let server = guarded(&["--limits-streams-per-token", "1"]);
    for (query, status) in [
        ("view=bad", 400),
        ("heartbeat=bad", 400),
        ("snapshot=bad", 400),
        ("runId=a/b", 400),
        ("runId=unheard-of", 404),
        ("%zz", 400),
    ] {
        let path = ticket_path(&server);
        assert_eq!(server.get(&format!("{path}&{query}")).status, status, "{query}");
        assert_eq!(shown(&server, &path, None).status, 200, "{query} has spent it");
    }
    let (first, second) = (ticket_path(&server), ticket_path(&server));
    let held = wait_for("the place", || {
        let stream = server.stream(&first);
        (stream.head.header("Content-Type") == Some("text/event-stream")).then_some(stream)
    });
    assert_eq!(server.get(&second).code(), "too_many_streams");
    drop(held);
    wait_for("the place", || (shown(&server, &second, None).status == 200).then_some(()));
}

#[cfg(feature = "sqlite")]
#[test]
fn a_restart_does_not_spend_what_was_refused() {
    let data = TempDirectory::new();
    let setup = Setup::default().with_tokens().data(data.path());
    let server = setup.clone().start();
    let path = ticket_path(&server);
    assert_eq!(server.get(&format!("{path}&runId=unheard-of")).code(), "unknown_run");
    server.kill();
    let server = setup.start();
    assert_eq!(shown(&server, &path, None).status, 200);
    assert_eq!(server.get(&path).code(), "ticket_spent");
}

#[test]
fn a_ticket_opened_a_second_stream_after_a_restart_that_nothing_is_kept_over() {
    let setup = Setup::default().with_tokens();
    let server = setup.clone().start();
    let (spent, unused) = (ticket_path(&server), ticket_path(&server));
    let id = server.stream(&spent).next().expect("connected").id().to_owned();
    assert_eq!(server.get(&spent).code(), "ticket_spent");
    server.kill();
    let server = setup.start();
    for path in [&spent, &unused] {
        assert_eq!(server.get(path).code(), "ticket_expired", "it can't be known whether it was used");
    }
    assert_eq!(shown(&server, &spent, Some(&id)).status, 200, "the id vouches for it");
    assert_eq!(shown(&server, &ticket_path(&server), None).status, 200);
}

#[test]
fn a_subject_that_has_spent_too_many_tickets_is_refused_and_nobody_else() {
    let server = guarded(&["--limits-tickets", "3"]);
    let of = |sub: &str| signed(&with(claims(&["p"], "subscribe"), "sub", json!(sub)));
    let ask = |sub: &str| server.call(Request::post("/api/sse/ticket", &json!({"projectId": "p"})).token(&of(sub)));
    let path = |sub: &str| ask(sub).json()["sseUrl"].as_str().expect("a path").to_owned();
    let anns: Vec<String> = (0..4).map(|_| path("ann")).collect();
    let bobs = path("bob");
    let mut id = String::new();
    for path in &anns[..3] {
        id = server.stream(path).next().expect("connected").id().to_owned();
    }
    for refused in [server.get(&anns[3]), ask("ann")] {
        assert_eq!((refused.status, refused.code().as_str()), (429, "too_many_tickets"));
        assert!(refused.header("Retry-After").is_some());
    }
    assert_eq!(shown(&server, &bobs, None).status, 200);
    assert_eq!(ask("bob").status, 200);
    for path in anns[..3].iter().chain([&bobs]) {
        assert_eq!(server.get(path).code(), "ticket_spent", "none was forgotten");
        assert_eq!(shown(&server, path, Some(&id)).status, 200, "and each reconnects");
    }
    assert!(server.metric("stepcast_refused_total{limit=\"tickets\"}") >= 2.0);
}

#[test]
fn a_publish_that_is_refused_takes_nothing_of_the_rate() {
    let server = guarded(&["--limits-projects", "1", "--limits-publish-rate", "10"]);
    let publish = |project: &str, n: usize| {
        let events = json!(vec![json!({"type": "note", "payload": {}}); n]);
        let path = format!("/api/projects/{project}/events");
        server.call(Request::post(&path, &events).token(&token(&["*"], "publish"))).status
    };
    assert_eq!(publish("p", 1), 202);
    for _ in 0..5 {
        assert_eq!(publish("q", 9), 503, "there is no room for a second project");
    }
    assert_eq!(publish("p", 9), 202);
}

#[test]
fn a_stream_ends_with_its_token() {
    let server = guarded(&[]);
    let ends_at = unix_now() + 2;
    let token = signed(&with(claims(&["p"], "subscribe"), "exp", json!(ends_at)));
    let by_ticket = server.call(Request::post("/api/sse/ticket", &json!({"projectId": "p"})).token(&token)).json();
    let path = by_ticket["sseUrl"].as_str().expect("a path").to_owned();
    let streams = [server.stream_of(Request::get(STREAM).token(&token)), server.stream(&path)];
    let mut id = String::new();
    for mut stream in streams {
        let events = stream.rest();
        assert!(unix_now() >= ends_at, "not before its end");
        let last = events.last().expect("a message");
        assert_eq!((events.len(), last.kind()), (2, "stream_closing"));
        assert_eq!(last.message["payload"]["reason"], "token_expired");
        assert!(last.retry.is_some() && last.id.is_none(), "{last:?}");
        id = events[0].id().to_owned();
    }
    assert_eq!(shown(&server, &path, Some(&id)).status, 403, "reconnects end with it too");
    assert_eq!(server.call(Request::get(STREAM).token(&token)).code(), "token_expired");
}

#[test]
fn a_token_may_have_so_many_streams_and_publish_so_fast() {
    let server = guarded(&["--limits-streams-per-token", "1", "--limits-publish-rate", "10"]);
    let (one, other) = (token(&["p"], "subscribe publish"), token(&["p"], "subscribe publish "));
    let _held = server.stream_of(Request::get(STREAM).token(&one));
    let refused = server.call(Request::get(STREAM).token(&one));
    assert!(refused.status == 429 && refused.header("Retry-After").is_some(), "{refused:?}");
    let soft = server.stream_of(Request::get(STREAM).token(&one)).rest();
    assert_eq!(soft[0].message["payload"]["reason"], "busy");
    assert_eq!(server.call(Request::new("HEAD", STREAM).token(&other)).status, 200);

    let events = json!(vec![json!({"type": "note", "payload": {}}); 1000]);
    let publish = |token: &str| server.call(Request::post("/api/projects/p/events", &events).token(token));
    assert_eq!(publish(&one).status, 202, "an array is not cut");
    let too_fast = publish(&one);
    assert!(too_fast.status == 429 && too_fast.header("Retry-After").is_some(), "{too_fast:?}");
    assert_eq!(publish(&other).status, 202);
}

const LISTED: &str = "https://app.example";

fn from_origin(server: &Server, request: Request, origin: &str) -> Response {
    server.call(request.header("Origin", origin).token(&token(&["p"], "admin")))
}

#[test]
fn a_listed_origin_is_let_in_and_another_may_not_change_anything() {
    let server = guarded(&["--cors-allowed-origins", "https://app.example,http://localhost:3000"]);
    let own = format!("http://{}", server.address);
    let plan = json!({"name": "n", "steps": [{"id": "a", "tool": "echo"}]});
    let table = [
        (LISTED, 200, true),
        ("http://localhost:3000", 200, true),
        (own.as_str(), 200, false),
        ("https://evil.example", 403, false),
        ("https://app.example.evil.example", 403, false),
        ("null", 403, false),
    ];
    for (origin, status, is_echoed) in table {
        let posted = from_origin(&server, Request::post("/api/workflow/check", &plan), origin);
        assert_eq!(posted.status, status, "{origin}");
        let read = from_origin(&server, Request::get("/api/projects"), origin);
        assert_eq!(read.status, 200, "{origin}");
        let stream = from_origin(&server, Request::new("HEAD", STREAM), origin);
        let missing = from_origin(&server, Request::get("/nope"), origin);
        for answer in [posted, read, stream, missing] {
            assert_eq!(answer.header("Vary"), Some("Origin"), "{origin}");
            assert_eq!(answer.header("Access-Control-Allow-Origin"), is_echoed.then_some(origin), "{answer:?}");
            assert_eq!(answer.header("Access-Control-Allow-Credentials"), is_echoed.then_some("true"), "{answer:?}");
        }
    }
    let refused = [
        ("too large", Request::new("POST", RUNS).header("Content-Length", "9999999999"), 413),
        ("badly framed", Request::new("POST", RUNS).header("Transfer-Encoding", "chunked").body("x"), 400),
        ("of an unknown method", Request::new("BREW", RUNS), 501),
    ];
    for (what, request, status) in refused {
        let answer = server.call(request.header("Origin", LISTED));
        assert_eq!((answer.status, answer.header("Access-Control-Allow-Origin")), (status, Some(LISTED)), "{what}");
    }
    let unauthorized = server.call(Request::get("/api/projects").header("Origin", LISTED));
    assert_eq!(unauthorized.status, 401);
    assert_eq!(unauthorized.header("Access-Control-Allow-Origin"), Some(LISTED), "scripts may see why");
}

#[test]
fn two_tokens_in_one_request_are_none() {
    let server = guarded(&[]);
    let request = from_origin(&server, Request::get("/api/projects"), LISTED);
    assert_eq!(request.status, 200);
    let twice = from_origin(&server, Request::get("/api/projects").header("Authorization", "Bearer x"), LISTED);
    assert_eq!((twice.status, twice.code().as_str()), (400, "malformed_request"));
}

#[test]
fn preflights_are_answered() {
    let server = guarded(&["--cors-allowed-origins", LISTED]);
    let preflight = |origin: &str| {
        let request = Request::new("OPTIONS", RUNS).header("Origin", origin);
        server.call(request.header("Access-Control-Request-Method", "POST"))
    };
    let answer = preflight(LISTED);
    assert_eq!(answer.status, 204);
    assert_eq!(answer.header("Access-Control-Allow-Origin"), Some(LISTED));
    for (name, word) in [
        ("Access-Control-Allow-Methods", "POST"),
        ("Access-Control-Allow-Headers", "Authorization"),
        ("Access-Control-Allow-Headers", "Content-Type"),
        ("Access-Control-Allow-Headers", "Last-Event-ID"),
        ("Access-Control-Allow-Headers", "Idempotency-Key"),
    ] {
        assert!(answer.header(name).is_some_and(|value| value.contains(word)), "{name} {word} {answer:?}");
    }
    assert_eq!(preflight("https://evil.example").header("Access-Control-Allow-Origin"), None);
}

/// Every kind of call, and what is none.
fn calls_of_a_page(origin: &str) -> [Request; 12] {
    let plan = json!({"name": "n", "steps": [{"id": "a", "tool": "echo"}]});
    let event = json!({"type": "note", "payload": {}});
    [
        Request::get("/"),
        Request::get("/healthz"),
        Request::get("/metrics"),
        Request::get("/nope"),
        Request::get("/api/projects"),
        Request::get(STREAM),
        Request::get(STREAM).header("Accept", "text/event-stream"),
        Request::new("HEAD", STREAM),
        Request::new("OPTIONS", RUNS).header("Access-Control-Request-Method", "POST"),
        Request::post(RUNS, &plan),
        Request::post("/api/projects/p/events", &event),
        Request::new("POST", RUNS).body(plan.to_string()),
    ]
    .map(|request| request.header("Origin", origin))
}

#[test]
fn a_page_whose_name_was_rebound_to_this_machine_gets_nothing() {
    let server = Server::open();
    let port = server.address.port();
    for name in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "events.example.com"] {
        for request in calls_of_a_page(&format!("http://{name}:{port}")) {
            let answer = server.call(request.host(&format!("{name}:{port}")));
            assert_eq!(answer.status, 421, "{name} {answer:?}");
            assert!(answer.body.is_empty() || answer.code() == "unknown_host", "{answer:?}");
        }
    }
    assert_eq!(server.get(RUNS).json()["workflows"], json!([]), "and nothing was run");
}

#[test]
fn whoever_is_asked_for_by_a_name_of_its_own_answers() {
    let server = Setup::default().flags(&["--server-hosts", "events.example.com"]).start();
    let port = server.address.port();
    let addresses =
        ["127.0.0.1", "127.0.0.1.", "[::1]", "localhost", "LOCALHOST.", "events.example.com", "Events.Example.com"];
    for name in addresses {
        for host in [name.to_owned(), format!("{name}:{port}")] {
            for request in calls_of_a_page(&format!("http://{host}")) {
                let mut connection = Connection::open(server.address);
                connection.write(&request.host(&host).bytes(server.address));
                let status = connection.head().expect("an answer").status;
                assert!([200, 202, 204, 404].contains(&status), "{host} {status}");
            }
        }
    }
    let post = |origin: &str, host: &str| {
        let event = json!({"type": "note", "payload": {}});
        server.call(Request::post("/api/projects/p/events", &event).header("Origin", origin).host(host)).status
    };
    assert_eq!(post("https://events.example.com", "127.0.0.1"), 202, "a proxy that asks for an address");
    assert_eq!(post("https://events.example.com:3000", "127.0.0.1"), 403, "another server of that name");
    assert_eq!(post("https://evil.example", "events.example.com"), 403);
}

#[test]
fn with_tokens_the_own_origin_is_one_of_the_servers_names_where_they_are_told() {
    let post = |server: &Server, name: &str| {
        let event = json!({"type": "note", "payload": {}});
        let request = Request::post("/api/projects/p/events", &event).token(&token(&["p"], "publish"));
        server.call(request.header("Origin", &format!("https://{name}")).host(name)).status
    };
    let untold = guarded(&[]);
    assert_eq!((post(&untold, "events.example.com"), post(&untold, "evil.example")), (202, 202));
    let told = guarded(&["--server-hosts", "events.example.com"]);
    assert_eq!((post(&told, "events.example.com"), post(&told, "evil.example")), (202, 403));
    assert_eq!((post(&told, "127.0.0.1"), post(&told, "localhost")), (202, 202));
    assert_eq!(told.call(Request::get("/healthz").host("evil.example")).status, 200, "the token is what lets in");
}
