use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, unbounded};
use serde_json::json;

use super::super::CancelToken;
use super::super::fixture::{Recorder, call, call_until};
use super::*;

/// A request as the server saw it.
#[derive(Debug)]
struct Seen {
    line: String,
    headers: Vec<String>,
    body: String,
    /// Counted from 0: which connection it came over.
    connection: usize,
}

/// A server that gives each request the next of its answers, over as few connections as its client likes.
struct Server {
    address: String,
    seen: Receiver<Seen>,
    _thread: JoinHandle<()>,
}

impl Server {
    fn new(answers: Vec<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("has one").to_string();
        let (to, seen) = unbounded();
        let thread = std::thread::spawn(move || {
            let mut answers = answers.into_iter();
            for (connection, stream) in listener.incoming().enumerate() {
                let mut stream = BufReader::new(stream.expect("a connection"));
                while let Some(request) = read_request(&mut stream, connection) {
                    let answer = answers.next();
                    let _ = to.send(request);
                    let Some(answer) = answer else { return };
                    let stays = answer.contains("ength:") && !answer.contains("Connection: close");
                    if stream.get_mut().write_all(answer.as_bytes()).is_err() || !stays {
                        break;
                    }
                }
            }
        });
        Self { address, seen, _thread: thread }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn next(&self) -> Seen {
        self.seen.recv_timeout(Duration::from_secs(30)).expect("a request")
    }
}

fn read_request(stream: &mut BufReader<TcpStream>, connection: usize) -> Option<Seen> {
    let mut line = String::new();
    stream.read_line(&mut line).ok().filter(|&n| n > 0)?;
    let (mut headers, mut length) = (Vec::new(), 0);
    loop {
        let mut header = String::new();
        stream.read_line(&mut header).ok()?;
        let header = header.trim().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        headers.push(header);
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    let body = String::from_utf8(body).ok()?;
    Some(Seen { line: line.trim().to_owned(), headers, body, connection })
}

/// An answer with a length, after which the connection stays.
fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{headers}\r\n{body}", body.len())
}

/// An answer that ends with its connection.
fn stream(content_type: &str, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nConnection: close\r\n\r\n{body}")
}

fn spec(method: &str, url: String) -> HttpSpec {
    HttpSpec { method: method.to_owned(), url, ..HttpSpec::default() }
}

fn tool(spec: HttpSpec) -> HttpTool {
    let settings = ToolSettings { proxy_from_env: false, output_bytes: 100_000, ..ToolSettings::default() };
    HttpTool::new(spec, settings).expect("a good declaration")
}

fn output(spec: HttpSpec, inputs: Value) -> Result<Value, String> {
    run(&tool(spec), inputs, &Recorder::default())
}

fn run(tool: &HttpTool, inputs: Value, recorder: &Recorder) -> Result<Value, String> {
    match call(tool, inputs, recorder) {
        Ok(Outcome::Output(value)) => Ok(value),
        Ok(other) => panic!("an http tool has an output at once, not {other:?}"),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn the_request_is_what_was_declared() {
    let server = Server::new(vec![answer("200 OK", "", "{\"id\": 7}")]);
    let declared = HttpSpec {
        headers: vec![("X-Key".to_owned(), "k-{{ inputs.key }}".to_owned())],
        body: Some(
            json!({"text": "hi {{ inputs.name }}", "list": "{{ inputs.list }}", "n": 1, "deep": [{"k": "{{ inputs.n }}"}]}),
        ),
        ..spec("post", server.url("/a/{{ inputs.name }}?q={{ inputs.name }}"))
    };
    let inputs = json!({"name": "x/../y?&", "key": 5, "list": [1, null], "n": 2.5});
    assert_eq!(output(declared, inputs), Ok(json!({"id": 7})));
    let seen = server.next();
    assert_eq!(seen.line, "POST /a/x%2F..%2Fy%3F%26?q=x%2F..%2Fy%3F%26 HTTP/1.1");
    assert!(seen.headers.contains(&"x-key: k-5".to_owned()), "{:?}", seen.headers);
    assert!(seen.headers.contains(&"content-type: application/json".to_owned()), "{:?}", seen.headers);
    let expected = json!({"text": "hi x/../y?&", "list": [1, null], "n": 1, "deep": [{"k": 2.5}]});
    assert_eq!(serde_json::from_str::<Value>(&seen.body).expect("JSON"), expected);
}

#[test]
fn without_a_body_the_inputs_are_sent_where_a_body_belongs() {
    for (method, has_body) in [("POST", true), ("PUT", true), ("PATCH", true), ("GET", false), ("DELETE", false)] {
        let server = Server::new(vec![answer("200 OK", "", "plain\n")]);
        assert_eq!(output(spec(method, server.url("/")), json!({"a": 1})), Ok(json!("plain")));
        assert_eq!(server.next().body, if has_body { "{\"a\":1}" } else { "" }, "{method}");
    }
}

#[test]
fn a_status_other_than_2xx_fails_with_what_was_said() {
    let refused = |status: &str, headers: &str, body: &str| {
        let server = Server::new(vec![answer(status, headers, body)]);
        let declared = HttpSpec {
            headers: vec![("Authorization".to_owned(), "Bearer t0ken-value".to_owned())],
            ..spec("GET", server.url("/"))
        };
        output(declared, json!({})).expect_err("is refused")
    };
    assert_eq!(refused("404 Not Found", "", "no such thing\n"), "answered 404 Not Found: no such thing");
    assert_eq!(
        refused("429 Too Many Requests", "Retry-After: 30\r\n", ""),
        "answered 429 Too Many Requests (Retry-After: 30)"
    );
    assert_eq!(refused("401 Unauthorized", "", "bad t0ken-value"), "answered 401 Unauthorized: bad ***");
    assert_eq!(refused("302 Found", "Location: /x\r\n", ""), "answered 302 Found");
    let long = refused("500 Internal Server Error", "", &"x".repeat(500_000));
    assert!(long.len() < 1200 && long.ends_with("x…"), "{long}");
    let compressed = refused("200 OK", "Content-Encoding: gzip\r\n", "?");
    assert!(compressed.contains("compressed (gzip)"), "{compressed}");
}

#[test]
fn a_server_that_is_not_there_is_named() {
    let address = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("has one");
    let error = output(spec("GET", format!("http://{address}/path?key=value")), json!({})).expect_err("is refused");
    assert!(error.starts_with(&format!("GET http://{address}: ")), "{error}");
    assert!(!error.contains("value"), "{error}");
}

#[test]
fn an_answer_that_breaks_off_fails() {
    let truncated = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\nabc".to_owned();
    let server = Server::new(vec![truncated]);
    let error = output(spec("GET", server.url("/")), json!({})).expect_err("broke off");
    let url = server.url("");
    assert_eq!(error, format!("the server closed the connection before its response to GET {url} was complete"));
}

#[test]
fn json_that_the_connections_end_cuts_off_became_text() {
    let get = |content_type: &str, body: &str| {
        let server = Server::new(vec![stream(content_type, body)]);
        output(spec("GET", server.url("/")), json!({}))
    };
    let broke_off = Err("the response was cut off in the middle of its JSON".to_owned());
    assert_eq!(get("application/json", "{\"a\": [1, 2"), broke_off);
    assert_eq!(get("application/problem+json; charset=utf-8", "\"a"), broke_off);
    assert_eq!(get("application/json", "{\"a\": 1}"), Ok(json!({"a": 1})));
    assert_eq!(get("application/json", "<html>"), Ok(json!("<html>")));
    assert_eq!(get("application/json", ""), Ok(json!("")));
    assert_eq!(get("text/plain", "{\"a\": [1, 2"), Ok(json!("{\"a\": [1, 2")));
}

#[test]
fn a_byte_order_mark_before_json_made_it_text() {
    let server = Server::new(vec![answer("200 OK", "", "\u{feff}{\"a\": 1}")]);
    assert_eq!(output(spec("GET", server.url("/")), json!({})), Ok(json!({"a": 1})));
}

#[test]
fn an_integer_of_more_than_64_bits_in_an_answer_was_rounded() {
    let get = |answer: String, stream_text: Option<&str>| {
        let server = Server::new(vec![answer]);
        let stream_text = stream_text.map(str::to_owned);
        output(HttpSpec { stream_text, ..spec("GET", server.url("/")) }, json!({}))
    };
    let error = get(answer("200 OK", "", "{\"a\": 18446744073709551616}"), None).expect_err("is refused");
    assert!(error.contains(": a: 18446744073709551616 is an integer of more than 64 bits"), "{error}");
    let events = "data: {\"id\": 18446744073709551616, \"t\": 1.8446744073709552e19}\n\n";
    let picked = |expression| get(stream("text/event-stream", events), Some(expression));
    assert!(picked("event.id").expect_err("is refused").ends_with(
        "id: 18446744073709551616 is an integer of more than 64 bits and would be rounded; write it as a string"
    ));
    assert_eq!(picked("event.gone"), Ok(json!("")));
    for number in ["1e400", "1e-400"] {
        let events = format!("data: {{\"n\": {number}}}\n\n");
        let error = get(stream("text/event-stream", &events), Some("event.n")).expect_err("is refused");
        assert!(error.starts_with(&format!(
            "stream_text: the event contains a number that can't be stored exactly: n: {number}"
        )));
    }
}

#[test]
fn headers_take_no_line_breaks() {
    let declared = HttpSpec {
        headers: vec![("X-Key".to_owned(), "{{ inputs.key }}".to_owned())],
        ..spec("GET", "http://127.0.0.1:9/".to_owned())
    };
    let error = output(declared, json!({"key": "a\r\nHost: evil"})).expect_err("is refused");
    assert!(error.starts_with("headers.X-Key: must not contain a line break"), "{error}");
}

#[test]
fn a_stream_is_told_event_by_event() {
    let table = [
        ("text/event-stream", ": hi\n\ndata: a\n\nevent: x\ndata: b\ndata: c\n\ndata: [DONE]\n\n", vec!["a", "b\nc"]),
        ("text/event-stream; charset=utf-8", "data: [DONE]\n\ndata: more\n\n", vec!["[DONE]", "more"]),
        ("application/x-ndjson", "{\"a\":1}\n{\"b\":2}\n", vec!["{\"a\":1}", "{\"b\":2}"]),
    ];
    for (content_type, body, chunks) in table {
        let server = Server::new(vec![stream(content_type, body)]);
        let recorder = Recorder::default();
        let whole = run(&tool(spec("GET", server.url("/"))), json!({}), &recorder);
        assert_eq!(whole, Ok(json!(chunks.concat())), "{body}");
        assert_eq!(recorder.pieces(OutputStream::Text), chunks, "{body}");
    }
}

#[test]
fn a_streamed_answer_that_breaks_off_completed_its_step() {
    let open = |kind: &str, body: &str| stream(kind, body);
    let chunked = |body: &str, end: &str| {
        let head =
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\nConnection: close";
        format!("{head}\r\n\r\n{:x}\r\n{body}\r\n{end}", body.len())
    };
    let short = || stream("text/event-stream\r\nContent-Length: 99", "data: a\n\n");
    let (sse, ndjson) = ("text/event-stream", "application/x-ndjson");
    let mid_event = "stream_cut: the response ended in the middle of an event: no blank line follows it";
    let mid_line =
        "stream_cut: the response ended in the middle of a line: no line end follows it, and it is not complete JSON";
    let broke_off = "stream_cut: the server closed the connection before its response to GET http://";
    let table = [
        ("in an event", open(sse, "data: a\n\ndata: b"), Err(mid_event), "a"),
        ("before the blank line", open(sse, "data: a\n\ndata: b\n"), Err(mid_event), "a"),
        ("in a field's name", open(sse, "data: a\n\nda"), Err(mid_event), "a"),
        ("in an event, all of it there", chunked("data: a\n\ndata: b\n", "0\r\n\r\n"), Err(mid_event), "a"),
        ("between chunks", chunked("data: a\n\n", ""), Err(broke_off), "a"),
        ("before its length", short(), Err(broke_off), "a"),
        ("in a line", open(ndjson, "{\"a\":1}\n{\"b\""), Err(mid_line), "{\"a\":1}"),
        ("between events", open(sse, "data: a\n\n"), Ok("a"), "a"),
        ("in a comment", open(sse, "data: a\n\n: by"), Ok("a"), "a"),
        ("after [DONE]", open(sse, "data: a\n\ndata: [DONE]\n"), Ok("a"), "a"),
        ("after a last line", open(ndjson, "{\"a\":1}"), Ok("{\"a\":1}"), "{\"a\":1}"),
        ("after the last chunk", chunked("data: a\n\n", "0\r\n\r\n"), Ok("a"), "a"),
    ];
    for (what, answer, expected, told) in table {
        let server = Server::new(vec![answer]);
        let recorder = Recorder::default();
        let ended = run(&tool(spec("GET", server.url("/"))), json!({}), &recorder);
        match (&ended, expected) {
            (Ok(output), Ok(expected)) => assert_eq!(output, expected, "{what}"),
            (Err(error), Err(expected)) => assert!(error.starts_with(expected), "{what}: {error}"),
            _ => panic!("{what}: {ended:?}"),
        }
        assert_eq!(recorder.text(OutputStream::Text), told, "{what}");
    }
}

#[test]
fn a_streamed_answer_that_tells_of_an_error_completed_its_step() {
    let ask = |kind: &str, body: &str, stream_text: Option<&str>, stream_error: Option<&str>| {
        let server = Server::new(vec![stream(kind, body)]);
        let declared = HttpSpec {
            headers: vec![("Authorization".to_owned(), "Bearer t0ken-value".to_owned())],
            stream_text: stream_text.map(str::to_owned),
            stream_error: stream_error.map(str::to_owned),
            ..spec("GET", server.url("/"))
        };
        output(declared, json!({}))
    };
    let sse = |body: &str| ask("text/event-stream", body, Some("event.t"), Some("event.error"));
    let failed = |words: &str| Err(format!("stream_error: {words}"));
    let named = "data: {\"t\":\"a\"}\n\nevent: error\ndata: t0ken-value is overloaded\n\ndata: {\"t\":\"b\"}\n\n";
    assert_eq!(ask("text/event-stream", named, None, None), failed("*** is overloaded"));
    assert_eq!(ask("text/event-stream", named, Some("event.t"), None), failed("*** is overloaded"));
    for (error, expected) in [
        ("\"too long\"", failed("too long")),
        ("{\"code\":5}", failed("{\"code\":5}")),
        ("7", failed("7")),
        ("true", failed("{\"t\":\"a\",\"error\":true}")),
        ("null", Ok(json!("a"))),
        ("false", Ok(json!("a"))),
        ("0", Ok(json!("a"))),
        ("\"\"", Ok(json!("a"))),
        ("{}", Ok(json!("a"))),
    ] {
        assert_eq!(sse(&format!("data: {{\"t\":\"a\",\"error\":{error}}}\n\n")), expected, "{error}");
    }
    assert_eq!(sse("data: no JSON\n\n"), Ok(json!("")));
    let lines = "{\"t\":\"a\"}\n{\"error\":\"model not found\"}\n";
    assert_eq!(ask("application/x-ndjson", lines, Some("event.t"), Some("event.error")), failed("model not found"));
    assert_eq!(ask("application/x-ndjson", lines, None, Some("event.error")), failed("model not found"));
    let kind = Some("event.type == 'error'");
    assert_eq!(ask("application/x-ndjson", "{\"type\":\"error\"}\n", None, kind), failed("{\"type\":\"error\"}"));
}

#[test]
fn the_wait_that_a_server_asks_for_was_not_heeded() {
    let asked = |status: &str, headers: &str| {
        let server = Server::new(vec![answer(status, headers, "")]);
        let declared = tool(spec("GET", server.url("/")));
        let error = call(&declared, json!({}), &Recorder::default()).expect_err("is refused");
        error.retry_after().map(|wait| wait.as_secs())
    };
    assert_eq!(asked("429 Too Many Requests", "Retry-After: 7\r\n"), Some(7));
    let date = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nRetry-After: Sun, 06 Nov 1994 08:49:39 GMT\r\n";
    assert_eq!(asked("503 Service Unavailable", date), Some(2));
    assert_eq!(asked("503 Service Unavailable", "Retry-After: soon\r\n"), None);
    assert_eq!(asked("500 Internal Server Error", "Retry-After: 7\r\n"), None);
    assert_eq!(asked("429 Too Many Requests", ""), None);
}

#[test]
fn stream_text_picks_what_is_told() {
    let body = [
        r#"data: {"choices":[{"delta":{"role":"assistant"}}]}"#,
        r#"data: {"choices":[{"delta":{"content":"Hel"}}]}"#,
        r#"data: {"choices":[{"delta":{"content":"lo s3cr"}}]}"#,
        r#"data: {"choices":[{"delta":{"content":"et-1 "}}]}"#,
        r#"data: {"choices":[{"delta":{"content":null}}]}"#,
        r#"data: {"choices":[{"delta":{"content":42}}]}"#,
        r#"data: {"usage":{}}"#,
        "data: [DONE]\n\n",
    ]
    .join("\n\n");
    let server = Server::new(vec![stream("text/event-stream", &body)]);
    let declared = HttpSpec {
        stream_text: Some("{{ event.choices[0].delta.content }}".to_owned()),
        headers: vec![("X-Api-Key".to_owned(), "s3cret-1".to_owned())],
        ..spec("POST", server.url("/"))
    };
    let recorder = Recorder::default();
    assert_eq!(run(&tool(declared), json!({}), &recorder), Ok(json!("Hello *** 42")));
    assert_eq!(recorder.pieces(OutputStream::Text), ["Hel", "lo ", "*** ", "42"]);
}

#[test]
fn redirects_are_followed_on_the_same_server_where_allowed() {
    let answers = || {
        vec![
            answer("302 Found", "Location: /b?x#y\r\n", ""),
            answer("307 Temporary Redirect", "Location: c\r\n", ""),
            answer("200 OK", "", "there"),
        ]
    };
    let server = Server::new(answers());
    let declared = HttpSpec { allow_redirects: true, ..spec("POST", server.url("/a")) };
    assert_eq!(output(declared, json!({"a": 1})), Ok(json!("there")));
    let lines: Vec<_> = (0..3).map(|_| server.next()).map(|seen| (seen.line, seen.body)).collect();
    let expected = [("POST /a HTTP/1.1", "{\"a\":1}"), ("GET /b?x HTTP/1.1", ""), ("GET /c HTTP/1.1", "")];
    assert_eq!(lines, expected.map(|(line, body)| (line.to_owned(), body.to_owned())));

    let server = Server::new(vec![answer("302 Found", "Location: http://example.com/b?secret\r\n", "")]);
    let declared = HttpSpec { allow_redirects: true, ..spec("GET", server.url("/a")) };
    let error = output(declared, json!({})).expect_err("is refused");
    assert!(error.ends_with("redirects to another server, http://example.com, which is not allowed"), "{error}");

    let server = Server::new((0..20).map(|_| answer("302 Found", "Location: /a\r\n", "")).collect());
    let declared = HttpSpec { allow_redirects: true, ..spec("GET", server.url("/a")) };
    assert_eq!(output(declared, json!({})), Err("too many redirects (limit 10, not configurable)".to_owned()));
}

#[test]
fn a_redirect_leads_to_an_allowed_server_and_leaves_the_secrets_behind() {
    let other = Server::new(vec![answer("200 OK", "", "there")]);
    let to_other = || answer("307 Temporary Redirect", &format!("Location: {}\r\n", other.url("/b")), "");
    let headers = ["Authorization", "Accept", "Cookie"].map(|name| (name.to_owned(), format!("{name}-value")));
    let declared = |server: &Server, allow_hosts| HttpSpec {
        allow_redirects: true,
        headers: headers.to_vec(),
        allow_hosts,
        ..spec("POST", server.url("/a"))
    };
    let first = Server::new(vec![to_other()]);
    assert_eq!(output(declared(&first, vec![other.address.clone()]), json!({"a": 1})), Ok(json!("there")));
    assert!(first.next().headers.contains(&"cookie: cookie-value".to_owned()));
    let seen = other.next();
    assert_eq!((seen.line.as_str(), seen.body.as_str()), ("POST /b HTTP/1.1", "{\"a\":1}"));
    assert!(seen.headers.contains(&"accept: accept-value".to_owned()), "{:?}", seen.headers);
    assert!(!seen.headers.iter().any(|h| h.contains("cookie") || h.contains("authorization")), "{:?}", seen.headers);

    for allowed in [vec![], vec!["127.0.0.1".to_owned()]] {
        let error = output(declared(&Server::new(vec![to_other()]), allowed), json!({})).expect_err("is refused");
        assert!(
            error.ends_with(&format!("redirects to another server, http://{}, which is not allowed", other.address)),
            "{error}"
        );
    }
    let with_password = answer("302 Found", "Location: http://user:hunter2@b.example/\r\n", "");
    let error = output(declared(&Server::new(vec![with_password]), vec![]), json!({})).expect_err("is refused");
    assert!(error.ends_with("redirects to another server, b.example, which is not allowed"), "{error}");
}

#[test]
fn a_plan_chooses_a_server_only_out_of_those_allowed() {
    let server = Server::new(vec![answer("200 OK", "", "1")]);
    let port = server.address.rsplit(':').next().expect("a port").to_owned();
    let declared = |allowed: &[&str]| HttpSpec {
        allow_hosts: allowed.iter().map(|&host| host.to_owned()).collect(),
        ..spec("GET", "http://{{ inputs.host }}:{{ inputs.port }}/".to_owned())
    };
    let refused = HttpTool::new(declared(&[]), ToolSettings::default()).expect_err("is refused");
    assert!(refused.starts_with("url: a template in the host"), "{refused}");
    let allowed = format!("localhost:{port}");
    let ask = |host: &str, port: &str| output(declared(&[&allowed]), json!({"host": host, "port": port}));
    assert_eq!(ask("localhost", &port), Ok(json!(1)));
    // The same machine, by other names and numbers.
    for (host, port) in [("2130706433", port.as_str()), ("0x7f000001", &port), ("localhost", "22"), ("metadata", "80")]
    {
        let error = ask(host, port).expect_err("is refused");
        assert_eq!(error, format!("url: http://{host}:{port} is not allowed (allow_hosts)"));
    }
}

#[test]
fn a_head_without_end_is_given_up() {
    for line in ["X-Padding: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n", "x"] {
        let server = Server::new(vec![format!("HTTP/1.1 200 OK\r\n{}", line.repeat(1_000_000))]);
        let error = output(spec("GET", server.url("/")), json!({})).expect_err("is given up");
        assert!(error.starts_with("GET http://127.0.0.1:"), "{error}");
    }
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(100_000);
    let server = Server::new(vec![hints]);
    assert!(output(spec("GET", server.url("/")), json!({})).is_err());
}

#[test]
fn calls_share_a_connection() {
    let server = Server::new((0..3).map(|_| answer("200 OK", "", "1")).collect());
    let tool = tool(spec("GET", server.url("/")));
    for _ in 0..3 {
        assert_eq!(run(&tool, json!({}), &Recorder::default()), Ok(json!(1)));
        assert_eq!(server.next().connection, 0);
    }
}

#[test]
fn a_request_on_a_connection_that_the_server_was_ending_failed() {
    for (method, expected) in [("GET", Some(2)), ("PUT", Some(2)), ("DELETE", Some(2)), ("POST", None)] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let tool = tool(spec(method, format!("http://{}/", listener.local_addr().expect("has one"))));
        std::thread::spawn(move || {
            let mut number = 0;
            for stream in listener.incoming() {
                let mut stream = BufReader::new(stream.expect("a connection"));
                while read_request(&mut stream, 0).is_some() {
                    let answer = answer("200 OK", "", &number.to_string());
                    number += 1;
                    // The second request finds the server hanging up.
                    if number == 2 || stream.get_mut().write_all(answer.as_bytes()).is_err() {
                        break;
                    }
                }
            }
        });
        assert_eq!(run(&tool, json!({}), &Recorder::default()), Ok(json!(0)), "{method}");
        let second = run(&tool, json!({}), &Recorder::default());
        match expected {
            Some(number) => assert_eq!(second, Ok(json!(number)), "{method}: sent again over a new connection"),
            None => assert!(second.expect_err("may have been carried out").starts_with("POST http://127.0.0.1:")),
        }
    }
}

#[test]
fn an_answer_that_is_empty_or_a_page_is_text() {
    let page = "<!doctype html><title>Sign in</title>\n";
    let table = [
        (answer("200 OK", "Content-Type: text/html\r\n", page), json!(page.trim_end())),
        (answer("200 OK", "Content-Type: application/json\r\n", page), json!(page.trim_end())),
        (answer("200 OK", "", ""), json!("")),
        ("HTTP/1.1 204 No Content\r\nX-Length: 0\r\n\r\n".to_owned(), json!("")),
        (answer("200 OK", "Content-Type: text/event-stream\r\n", ""), json!("")),
    ];
    for (answer, expected) in table {
        let server = Server::new(vec![answer.clone()]);
        assert_eq!(output(spec("GET", server.url("/")), json!({})), Ok(expected), "{answer}");
    }
}

#[test]
fn a_connection_that_ends_without_an_answer_fails() {
    for answer in ["", "HTTP/1.1 200 OK\r\nContent-", "no HTTP at all\r\n\r\n"] {
        let server = Server::new(vec![answer.to_owned()]);
        let error = output(spec("GET", server.url("/")), json!({})).expect_err("is no answer");
        assert!(error.starts_with("GET http://127.0.0.1:"), "{error}");
    }
}

#[test]
fn idle_connections_stayed_open_until_the_next_call() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let declared = spec("GET", format!("http://{}/", listener.local_addr().expect("has one")));
    let settings = ToolSettings { proxy_from_env: false, idle: Duration::from_millis(1), ..ToolSettings::default() };
    let tool = HttpTool::new(declared, settings).expect("a good declaration");
    let (to, closed) = unbounded();
    std::thread::spawn(move || {
        let mut stream = BufReader::new(listener.accept().expect("a connection").0);
        read_request(&mut stream, 0).expect("a request");
        stream.get_mut().write_all(answer("200 OK", "", "1").as_bytes()).expect("is read");
        to.send(stream.read_to_end(&mut Vec::new()).expect("ends")).expect("is waited for");
    });
    assert_eq!(run(&tool, json!({}), &Recorder::default()), Ok(json!(1)));
    assert_eq!(closed.recv_timeout(Duration::from_secs(30)), Ok(0), "closed without a further call");
}

#[test]
fn a_flood_is_cut() {
    let server = Server::new(vec![stream("text/plain", &"x".repeat(10_000_000))]);
    let Ok(Value::String(text)) = output(spec("GET", server.url("/")), json!({})) else { panic!("a text") };
    assert!(text.ends_with("[truncated: the output is larger than 100000 bytes]") && text.len() < 100_100);
}

#[test]
fn cancelling_ends_a_call_that_waits_for_its_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let cancel = CancelToken::new();
    let tool = tool(spec("GET", format!("http://{}/", listener.local_addr().expect("has one"))));
    std::thread::scope(|scope| {
        let call = scope.spawn(|| call_until(&tool, json!({}), &Recorder::default(), &cancel));
        let (stream, _) = listener.accept().expect("a connection");
        let mut stream = BufReader::new(stream);
        stream.read_line(&mut String::new()).expect("a request");
        cancel.cancel();
        assert_eq!(call.join().expect("no panic").expect_err("is cancelled").to_string(), "cancelled");
        // And the connection is closed, though the server never said a word.
        stream.read_to_end(&mut Vec::new()).expect("ends");
    });
}

#[test]
fn cancelling_ends_a_call_amid_a_stream_and_later_calls_still_work() {
    let server = Server::new(vec![
        answer("200 OK", "Content-Type: text/event-stream\r\n", "data: a\n\n").replace("Length: 9", "Length: 99"),
        answer("200 OK", "", "1"),
    ]);
    let tool = tool(spec("GET", server.url("/")));
    let cancel = CancelToken::new();
    let token = cancel.clone();
    let recorder = Recorder::notifying(move || token.cancel());
    assert!(call_until(&tool, json!({}), &recorder, &cancel).is_err());
    assert_eq!(recorder.pieces(OutputStream::Text), ["a"]);
    assert_eq!(run(&tool, json!({}), &Recorder::default()), Ok(json!(1)));
}
