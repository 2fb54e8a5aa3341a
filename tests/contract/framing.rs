//! HTTP itself: what is refused with which status, and whether the connection stays open.

use serde_json::json;

use crate::common::client::{Connection, Request};
use crate::common::server::{Server, Setup};

const CHECK: &str = "POST /api/workflow/check HTTP/1.1\r\nHost: localhost\r\n";
const HEALTH: &str = "GET /healthz HTTP/1.1\r\n";
const HOST: &str = "Host: localhost\r\n";

/// A server whose patience outlasts the tests: a connection that it closes is closed for what came, not for what did not.
fn patient() -> Server {
    let patience = ["--limits-header-timeout", "10m", "--limits-body-timeout", "10m"];
    Setup::default().flags(&patience).flags(&["--server-hosts", "a.b.c,xn--a"]).start()
}

/// What becomes of the connection after the answer.
#[derive(Debug, Clone, Copy, PartialEq)]
enum After {
    Closed,
    Open,
}
use After::{Closed, Open};

/// Sends `bytes` and checks the status, and by a further request whether the connection is still good.
fn check(server: &Server, bytes: &[u8], status: u16, after: After) {
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(120)]).into_owned();
    let mut connection = Connection::open(server.address);
    connection.write(bytes);
    let answer = connection.response(false).unwrap_or_else(|| panic!("no answer to {shown:?}"));
    assert_eq!(answer.status, status, "{shown:?} {answer:?}");
    if status >= 400 {
        assert!(!answer.code().is_empty(), "{answer:?}");
    }
    connection.write(&Request::get("/healthz").bytes(server.address));
    let next = connection.response(false).map(|answer| answer.status);
    assert_eq!(next, (after == Open).then_some(200), "{shown:?}");
}

/// Like [`check`], with a further request sent right after the first. It is answered if and only if the end of the
/// first is known, and nothing else is, once the connection has ended.
fn check_piped(server: &Server, bytes: &[u8], status: u16, after: After) {
    check(server, bytes, status, after);
    let last = Request::get("/healthz").header("Connection", "close").bytes(server.address);
    let mut connection = Connection::open(server.address);
    connection.write(&[bytes, &last].concat());
    let statuses: Vec<u16> = std::iter::from_fn(|| connection.response(false)).map(|answer| answer.status).collect();
    let expected = if after == Open { vec![status, 200] } else { vec![status] };
    assert_eq!(statuses, expected, "{:?} with a request behind it", String::from_utf8_lossy(bytes));
}

#[test]
fn heads_that_can_not_be_trusted_are_400_and_the_end_of_the_connection() {
    let server = patient();
    let long_length = "9".repeat(30);
    for bytes in [
        "GARBAGE\r\n\r\n",
        "GET  /healthz  HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /healthz HTTP/x\r\nHost: localhost\r\n\r\n",
        "GET /\r\n\r\n",
        "GET healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "\u{16}\u{3}\u{1}\r\n\r\n",
        &format!("{CHECK}Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n"),
        &format!("{CHECK}Content-Length: 2\r\nContent-Length: 3\r\n\r\n{{}}"),
        &format!("{CHECK}Content-Length: 2\r\nContent-Length: 2\r\n\r\n{{}}"),
        &format!("{CHECK}Content-Length: 2, 2\r\n\r\n{{}}"),
        &format!("{CHECK}Content-Length: +2\r\n\r\n{{}}"),
        &format!("{CHECK}Content-Length: -2\r\n\r\n{{}}"),
        &format!("{CHECK}Content-Length: \r\n\r\n"),
        &format!("{CHECK}Transfer-Encoding: chunked\r\n\r\nzz\r\n{{}}\r\n0\r\n\r\n"),
        &format!("{CHECK}Transfer-Encoding: chunked\r\n\r\n2\n{{}}\n0\n\n"),
        &format!("{CHECK}Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
        "POST /api/workflow/check HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        "GET /healthz HTTP/1.1\nHost: localhost\r\n\r\n",
        &format!("{HEALTH}A: b\n{HOST}\r\n"),
        &format!("{HEALTH}Host: h\n\n"),
        &format!("{HEALTH}{HOST}A : b\r\n\r\n"),
        &format!("{HEALTH}Host : h\r\n\r\n"),
        &format!("{HEALTH}{HOST}A: b\r\n c\r\n\r\n"),
        &format!("{HEALTH} {HOST}\r\n"),
        &format!("{HEALTH}{HOST}A: b\rc\r\n\r\n"),
        &format!("{HEALTH}{HOST}A: b\0c\r\n\r\n"),
        &format!("{HEALTH}{HOST}A: b\u{1}c\r\n\r\n"),
        &format!("{HEALTH}{HOST}A: b\u{7f}c\r\n\r\n"),
        &format!("{HEALTH}\r\n"),
        &format!("{HEALTH}{HOST}{HOST}\r\n"),
        &format!("GET /healthz HTTP/1.0\r\n{HOST}{HOST}\r\n"),
        &format!("{HEALTH}Host: a, b\r\n\r\n"),
        "GET /healthz HTTP/1.0\r\nHost: a, b\r\n\r\n",
    ] {
        check_piped(&server, bytes.as_bytes(), 400, Closed);
    }
    check_piped(&server, format!("{CHECK}Content-Length: {long_length}\r\n\r\n").as_bytes(), 413, Closed);
}

#[test]
fn a_host_that_is_no_host_is_400() {
    let server = patient();
    for host in ["a b", "a/b", "a@b", "[::1", "[zz]", "a:99999", "a:b", "a:1:2", "::1", "", "http://x", "a?b", "%zz"] {
        check_piped(&server, format!("{HEALTH}Host: {host}\r\n\r\n").as_bytes(), 400, Closed);
    }
    for host in ["localhost", "localhost:80", "[::1]:8080", "a.b.c.", "xn--a", "127.0.0.1"] {
        check_piped(&server, format!("{HEALTH}Host: {host}\r\n\r\n").as_bytes(), 200, Open);
    }
}

#[test]
fn what_can_not_be_served_has_a_status_of_its_own() {
    let flags = ["--limits-body-bytes", "64KiB", "--limits-header-timeout", "10m", "--limits-body-timeout", "10m"];
    let server = Setup::default().flags(&flags).start();
    let table = [
        (format!("GET /nope HTTP/1.1\r\n{HOST}\r\n"), 404, Open),
        (format!("DELETE /healthz HTTP/1.1\r\n{HOST}\r\n"), 405, Open),
        (format!("BREW /healthz HTTP/1.1\r\n{HOST}\r\n"), 501, Closed),
        (format!("get /healthz HTTP/1.1\r\n{HOST}\r\n"), 501, Closed),
        (format!("{CHECK}Transfer-Encoding: gzip\r\n\r\n"), 501, Closed),
        (format!("{CHECK}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"), 501, Closed),
        (format!("GET / HTTP/2.0\r\n{HOST}\r\n"), 505, Closed),
        (format!("GET / HTTP/1.2\r\n{HOST}\r\n"), 505, Closed),
        (format!("GET / HTTP/0.9\r\n{HOST}\r\n"), 505, Closed),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), 505, Closed),
        (format!("{CHECK}Expect: tea\r\nContent-Length: 2\r\n\r\n{{}}"), 417, Closed),
        (format!("GET /{} HTTP/1.1\r\n{HOST}\r\n", "a".repeat(8192)), 414, Closed),
        (format!("GET /{}", "a".repeat(10_000)), 414, Closed),
        (format!("{HEALTH}{HOST}A: {}\r\n\r\n", "b".repeat(16 * 1024)), 431, Closed),
        (format!("{HEALTH}{HOST}A: {}", "b".repeat(20 * 1024)), 431, Closed),
        (format!("{CHECK}Content-Length: 65537\r\n\r\n"), 413, Closed),
        (format!("{CHECK}Transfer-Encoding: chunked\r\n\r\n10001\r\n"), 413, Closed),
        (format!("{CHECK}Expect: 100-continue\r\nContent-Length: 65537\r\n\r\n"), 413, Closed),
        (format!("{CHECK}Content-Type: text/plain\r\nContent-Length: 2\r\n\r\n{{}}"), 415, Open),
        (format!("{CHECK}Content-Type: \u{e9}\r\nContent-Length: 2\r\n\r\n{{}}"), 415, Open),
        (format!("{CHECK}Content-Length: 2\r\n\r\n[]"), 400, Open),
        (format!("{CHECK}Content-Length: 0\r\n\r\n"), 400, Open),
        (format!("{CHECK}Content-Length: 2\r\n\r\n{{}}"), 422, Open),
        (format!("{CHECK}Content-Type: application/json; charset=utf-8\r\nContent-Length: 2\r\n\r\n{{}}"), 422, Open),
        (format!("{CHECK}Transfer-Encoding: Chunked\r\n\r\n1;x=y\r\n{{\r\n1\r\n}}\r\n0\r\nT: v\r\n\r\n"), 422, Open),
        ("GET /api/projects/a%20b/workflows HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(), 400, Open),
        (format!("GET /api/projects/{}/workflows HTTP/1.1\r\n{HOST}\r\n", "a".repeat(129)), 400, Open),
        (format!("GET /api/projects/{}/workflows HTTP/1.1\r\n{HOST}\r\n", "a".repeat(128)), 200, Open),
        (format!("GET /api/projects/a%2Eb/workflows HTTP/1.1\r\n{HOST}\r\n"), 200, Open),
        ("GET /api/projects/%c0%af/workflows HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(), 400, Open),
        (format!("TRACE /healthz HTTP/1.1\r\n{HOST}\r\n"), 405, Open),
        ("CONNECT h:80 HTTP/1.1\r\nHost: h:80\r\n\r\n".to_owned(), 501, Closed),
        ("GET http://i/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(), 400, Closed),
        ("GET http://localhost/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(), 200, Open),
        (format!("{HEALTH}{HOST}Upgrade: h2c\r\nConnection: upgrade\r\n\r\n"), 200, Open),
        (format!("{HEALTH}{HOST}Connection: te, close\r\n\r\n"), 200, Closed),
        (format!("\r\n{HEALTH}{HOST}\r\n"), 200, Open),
        (format!("{HEALTH}{HOST}A: tab\tand \u{e9}\r\n\r\n"), 200, Open),
        (format!("OPTIONS * HTTP/1.1\r\n{HOST}\r\n"), 204, Open),
    ];
    for (bytes, status, after) in table {
        check_piped(&server, bytes.as_bytes(), status, after);
    }
    let refused = server.call(Request::new("DELETE", "/api/sse/ticket"));
    assert_eq!((refused.status, refused.header("Allow")), (405, Some("POST, OPTIONS")));
}

#[test]
fn bad_json_is_named_by_line_and_column() {
    let answer = Server::open().call(Request::new("POST", "/api/workflow/check").body("{\n \"a\": x}"));
    assert_eq!(answer.code(), "invalid_json");
    let detail = answer.json()["detail"].as_str().expect("text").to_owned();
    assert!(answer.status == 400 && detail.contains("line 2 column 7"), "{detail}");
}

#[test]
fn a_head_or_body_that_does_not_come_is_408() {
    let flags = ["--limits-header-timeout", "50ms", "--limits-body-timeout", "50ms"];
    let server = Setup::default().flags(&flags).start();
    for bytes in
        ["GET /hea", "GET /healthz HTTP/1.1\r\nHost: localhost\r\n", &format!("{CHECK}Content-Length: 5\r\n\r\n{{}}")]
    {
        check(&server, bytes.as_bytes(), 408, Closed);
    }
}

/// As Java's HttpClient sends its first request; other servers have lost the body of that.
#[test]
fn a_post_that_offers_http2_keeps_its_body() {
    let server = patient();
    let body = r#"{"type":"note","payload":{"text":"whole"}}"#;
    let offer = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\n";
    let bytes = format!(
        "POST /api/projects/p/events HTTP/1.1\r\n{HOST}{offer}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut connection = Connection::open(server.address);
    connection.write(bytes.as_bytes());
    assert_eq!(connection.response(false).expect("an answer").status, 202);
    let told = server.get("/api/projects/p/events").json();
    assert_eq!(told["events"][0]["payload"]["text"], "whole", "{told}");
}

#[test]
fn requests_may_be_pipelined_and_a_body_that_nobody_asked_for_is_skipped() {
    let server = Server::open();
    let mut connection = Connection::open(server.address);
    let one = Request::get("/healthz").bytes(server.address);
    let skipped = Request::get("/healthz").body("GET /nope HTTP/1.1").bytes(server.address);
    let last = Request::get("/nope").header("Connection", "close").bytes(server.address);
    connection.write(&[&one[..], &skipped, &one, &last].concat());
    for status in [200, 200, 200, 404] {
        assert_eq!(connection.response(false).expect("an answer").status, status);
    }
    assert!(connection.response(false).is_none());
}

#[test]
fn a_body_is_asked_for_before_it_is_sent() {
    let server = Server::open();
    let mut connection = Connection::open(server.address);
    connection.write(format!("{CHECK}Expect: 100-continue\r\nContent-Length: 2\r\n\r\n").as_bytes());
    assert_eq!(connection.response(false).expect("an answer").status, 100);
    connection.write(b"{}");
    assert_eq!(connection.response(false).expect("an answer").status, 422);
}

#[test]
fn the_old_version_closes_unless_it_asks_for_more() {
    let server = Server::open();
    let mut connection = Connection::open(server.address);
    connection.write(b"GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /healthz HTTP/1.0\r\n\r\n");
    for _ in 0..2 {
        assert_eq!(connection.response(false).expect("an answer").json(), json!({"status": "ok"}));
    }
    assert!(connection.response(false).is_none());
}

#[test]
fn head_answers_as_get_without_the_body() {
    let server = Server::open();
    for path in ["/healthz", "/openapi.json", "/", "/nope"] {
        let (get, head) = (server.get(path), server.call(Request::new("HEAD", path)));
        assert_eq!(head.status, get.status, "{path}");
        assert_eq!(head.header("Content-Length"), get.header("Content-Length"), "{path}");
        assert_eq!(get.header("Content-Length"), Some(get.body.len().to_string().as_str()), "{path}");
    }
}
