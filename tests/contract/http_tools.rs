//! Declared tools that make HTTP calls, to a server that the test plays.

use std::io::Write;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::common::client::Connection;
use crate::common::server::Setup;
use crate::tools::{end, error, live_output, plan};

/// A request that the played server got.
#[derive(Debug, Clone)]
struct Got {
    head: String,
    body: String,
}

/// Plays a server that answers each path in its own way, and remembers what it was asked.
struct Played {
    address: String,
    got: Arc<Mutex<Vec<Got>>>,
}

impl Played {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("bound"));
        let got = Arc::new(Mutex::new(Vec::new()));
        let remembered = got.clone();
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                let remembered = remembered.clone();
                std::thread::spawn(move || serve_one(socket.expect("a client"), &remembered));
            }
        });
        Self { address, got }
    }

    /// What came for this path.
    fn got(&self, path: &str) -> Got {
        let got = self.got.lock().expect("nobody panics here");
        let found = got.iter().find(|got| got.head.split(' ').nth(1) == Some(path));
        found.unwrap_or_else(|| panic!("no {path} in {got:?}")).clone()
    }

    fn config(&self) -> String {
        let tool = |name: &str, more: &str| format!("[tools.{name}]\nkind = \"http\"\n{more}\n");
        let url = |path: &str| format!("url = \"{}{path}\"", self.address);
        let any = url("/{{ inputs.path }}");
        let secret = "headers = { Authorization = \"Bearer s3cr3t-word\", X-Note = \"n {{ inputs.n | default(0) }}\" }";
        [
            tool("get", &format!("method = \"GET\"\n{any}\n{secret}")),
            tool("post", &format!("method = \"POST\"\n{any}")),
            tool("body", &format!("method = \"POST\"\n{}\nbody = {{ q = \"{{{{ inputs.n }}}}\" }}", url("/body"))),
            tool("follow", &format!("method = \"GET\"\n{}\nallow_redirects = true", url("/moved"))),
            tool("pick", &format!("method = \"GET\"\n{any}\nstream_text = \"event.d\"")),
            tool("errors", &format!("method = \"GET\"\n{any}\nstream_error = \"event.error.message\"")),
            tool("slow", &format!("method = \"GET\"\n{any}\ntimeout = \"300ms\"")),
            tool("hang", &format!("method = \"GET\"\n{}\ntimeout = \"50ms\"", url("/hang"))),
        ]
        .concat()
    }
}

fn serve_one(socket: std::net::TcpStream, remembered: &Mutex<Vec<Got>>) {
    let mut writer = socket.try_clone().expect("a second handle");
    let mut connection = Connection::over(socket);
    let mut head = String::new();
    let mut length = 0;
    while let Some(line) = connection.line() {
        let line = line.trim_end().to_owned();
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(": ")
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.parse().expect("a length");
        }
        head.push_str(&line);
        head.push('\n');
    }
    let body = String::from_utf8(connection.exactly(length)).expect("UTF-8");
    let Some(path) = head.split(' ').nth(1).map(str::to_owned) else { return };
    remembered.lock().expect("nobody panics here").push(Got { head, body });
    let whole = |status: &str, kind: &str, body: &str| {
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )
    };
    let streamed = |kind: &str| format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nConnection: close\r\n\r\n");
    let answer = match path.as_str() {
        "/json" | "/body" => whole("200 OK", "application/json", r#"{"got": [1, 2]}"#),
        "/text" => whole("200 OK", "text/plain", "plain, s3cr3t-word"),
        "/moved" => {
            "HTTP/1.1 302 Found\r\nLocation: /json\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned()
        }
        "/sse" => {
            streamed("text/event-stream")
                + ": hello\n\nevent: x\ndata: {\"d\": \"He\"}\n\nid: 7\r\ndata: {\"d\": \"llo\"}\r\n\r\ndata: [DONE]\n\n"
        }
        "/cut" => streamed("text/event-stream") + "data: one\n\ndata: tw",
        "/broken" => {
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
            head.to_owned() + "b\r\ndata: one\n\n\r\n"
        }
        "/failing" => streamed("text/event-stream") + "data: one\n\nevent: error\ndata: s3cr3t-word is overloaded\n\n",
        "/failing-lines" => streamed("application/x-ndjson") + "{\"error\": {\"message\": \"no such model\"}}\n",
        "/busy" => "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 3600\r\nContent-Length: 0\r\n\r\n".to_owned(),
        "/lines" => streamed("text/event-stream") + "data: a\ndata: b\n\ndata: s3cr3t-word\n\n",
        "/ndjson" => streamed("application/x-ndjson") + "{\"d\": 1}\n{\"d\": 2}\n{\"d\": 3}",
        "/silent" => {
            let _ = writer.write_all((streamed("text/event-stream") + "data: one\n\n").as_bytes());
            connection.rest();
            return;
        }
        "/drip" | "/endless" => {
            let piece = if path == "/drip" { "x".to_owned() } else { "x".repeat(64 * 1024) };
            let _ = writer.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n");
            while writer.write_all(piece.as_bytes()).is_ok() {
                if path == "/drip" {
                    std::thread::sleep(std::time::Duration::from_millis(5));
                }
            }
            return;
        }
        "/bomb" => {
            "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 20\r\nConnection: close\r\n\r\n".to_owned()
                + "\u{1f}not-unpacked-by-us"
        }
        "/hang" => {
            // Until the other side has had enough.
            connection.rest();
            return;
        }
        _ => whole("404 Not Found", "text/plain", "nothing here but s3cr3t-word"),
    };
    // Fails where the other side has left.
    let _ = writer.write_all(answer.as_bytes());
}

#[test]
fn an_http_tool_calls_and_gives_the_body() {
    let played = Played::start();
    let server = Setup::default().config(&played.config()).start();
    let step = |id: &str, tool: &str, inputs: Value| json!({"id": id, "tool": tool, "inputs": inputs});
    let messages = server.carry_out(&plan(json!([
        step("json", "get", json!({"path": "json", "n": 5})),
        step("text", "get", json!({"path": "text"})),
        step("post", "post", json!({"path": "json", "k": [1]})),
        step("body", "body", json!({"n": 7})),
        step("missing", "get", json!({"path": "missing"})),
        step("moved", "get", json!({"path": "moved"})),
        step("follow", "follow", json!({})),
        step("hang", "hang", json!({})),
        step("escaped", "get", json!({"path": "../a b"})),
    ])));
    for (id, output) in [
        ("json", json!({"got": [1, 2]})),
        ("text", json!("plain, ***")),
        ("post", json!({"got": [1, 2]})),
        ("body", json!({"got": [1, 2]})),
        ("follow", json!({"got": [1, 2]})),
    ] {
        assert_eq!(end(&messages, id)["output"], output, "{id}");
    }
    let missing = error(&messages, "missing");
    assert!(missing.contains("404") && missing.contains("nothing here but ***"), "{missing}");
    assert!(error(&messages, "moved").contains("302"));
    assert!(error(&messages, "hang").contains("timed out"));
    assert!(!json!(messages).to_string().contains("s3cr3t"), "a secret is in no message");

    // The one that was followed there comes without, and may be the first of them.
    let is_ours =
        |got: &Got| got.head.starts_with("GET /json ") && got.head.contains("uthorization: Bearer s3cr3t-word");
    assert!(played.got.lock().expect("nobody panics here").iter().any(is_ours));
    assert_eq!(played.got("/body").body, r#"{"q":7}"#, "a template keeps its type");
    let noted = played.got("/text").head.to_ascii_lowercase();
    assert!(noted.contains("\nx-note: n 0\n") && noted.contains("\nauthorization: bearer s3cr3t-word\n"), "{noted}");
    let posted = played.got.lock().expect("nobody panics here");
    let posted = posted.iter().find(|got| got.head.starts_with("POST /json")).expect("posted");
    assert_eq!(posted.body, r#"{"path":"json","k":[1]}"#);
    assert!(posted.head.to_ascii_lowercase().contains("\ncontent-type: application/json\n"), "{posted:?}");
}

#[test]
fn an_answer_without_end_ends() {
    let played = Played::start();
    let server = Setup::default().config(&played.config()).flags(&["--limits-step-output-bytes", "1MiB"]).start();
    let step = |id: &str, tool: &str| json!({"id": id, "tool": tool, "inputs": {"path": id}});
    let messages = server.carry_out(&plan(json!([step("drip", "slow"), step("endless", "get"), step("bomb", "get")])));
    assert!(error(&messages, "drip").contains("timed out"), "{}", error(&messages, "drip"));
    assert!(error(&messages, "bomb").contains("compressed (gzip)"), "{}", error(&messages, "bomb"));
    let endless = end(&messages, "endless");
    assert_eq!(endless["status"], "completed");
    let bytes = endless["outputBytes"].as_u64().expect("a number");
    assert!((1 << 20..(1 << 20) + 100).contains(&bytes), "{bytes}");
}

#[test]
fn a_streamed_answer_is_passed_on_without_its_framing() {
    let played = Played::start();
    let server = Setup::default().config(&played.config()).start();
    let step = |id: &str, tool: &str, path: &str| json!({"id": id, "tool": tool, "inputs": {"path": path}});
    let steps = json!([
        step("sse", "get", "sse"),
        step("picked", "pick", "sse"),
        step("lines", "get", "lines"),
        step("ndjson", "get", "ndjson"),
        step("picked-lines", "pick", "ndjson"),
    ]);
    let messages = server.carry_out(&plan(steps));
    for (id, output) in [
        ("sse", r#"{"d": "He"}{"d": "llo"}"#),
        ("picked", "Hello"),
        ("lines", "a\nb***"),
        ("ndjson", r#"{"d": 1}{"d": 2}{"d": 3}"#),
        ("picked-lines", "123"),
    ] {
        assert_eq!(end(&messages, id)["output"], output, "{id}");
        assert_eq!(live_output(&messages, id, "text"), output, "{id}");
    }
}

#[test]
fn a_streamed_answer_that_was_cut_or_told_of_an_error_completed_its_step() {
    let played = Played::start();
    let server = Setup::default().config(&played.config()).start();
    let step = |id: &str, tool: &str, path: &str| json!({"id": id, "tool": tool, "inputs": {"path": path}});
    let steps = json!([
        step("cut", "get", "cut"),
        step("broken", "get", "broken"),
        step("failing", "get", "failing"),
        step("failing-lines", "errors", "failing-lines"),
    ]);
    let messages = server.carry_out(&plan(steps));
    for (id, begins, live) in [
        ("cut", "stream_cut: the response ended in the middle of an event", "one"),
        ("broken", "stream_cut: the server closed the connection before its response to GET http://127.0.0.1:", "one"),
        ("failing", "stream_error: *** is overloaded", "one"),
        ("failing-lines", "stream_error: no such model", ""),
    ] {
        let error = error(&messages, id);
        assert!(error.starts_with(begins), "{id}: {error}");
        assert_eq!(live_output(&messages, id, "text"), live, "{id}");
    }
}

#[test]
fn a_stream_that_falls_silent_ends_with_the_timeout() {
    let played = Played::start();
    let server = Setup::default().config(&played.config()).start();
    let messages = server.carry_out(&plan(json!([{"id": "a", "tool": "slow", "inputs": {"path": "silent"}}])));
    assert_eq!(error(&messages, "a"), "timed out after 300 ms (tools.slow.timeout)");
    assert_eq!(live_output(&messages, "a", "text"), "one");
}

#[test]
fn a_server_that_asked_for_a_later_retry_was_asked_again_at_once() {
    let played = Played::start();
    let server = Setup::default().config(&played.config()).start();
    let policy = json!({"maxRetries": 1, "initialDelay": 1, "maxDelay": 40});
    let messages = server.carry_out(&plan(json!([
        {"id": "a", "tool": "get", "inputs": {"path": "busy"}, "retryPolicy": policy}
    ])));
    let retrying = messages.iter().find(|message| message["payload"]["status"] == "retrying").expect("a retry");
    assert_eq!(retrying["payload"]["delay"], 40, "{retrying}");
    assert_eq!(error(&messages, "a"), "answered 503 Service Unavailable (Retry-After: 3600)");
}
