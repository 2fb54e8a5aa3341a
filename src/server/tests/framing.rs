//! Smuggling: a request whose end two readers could see at different bytes must not let anything after it pass for a
//! request. Each row is sent with another request right after it, whole and cut at every byte: that one is answered if
//! and only if the framing of the first can be trusted.

use super::bench::Bench;
use super::{HEALTH, post, statuses, stream};

/// What follows each row; its answer is 200.
const NEXT: &str = HEALTH;

/// Everything that comes back when `script` is sent in two pieces, or byte by byte where `cut` is its length.
fn answers(script: &str, cut: usize) -> String {
    let mut bench = Bench::new();
    let client = bench.connect();
    let step = if cut == script.len() { 1 } else { script.len() };
    for piece in [&script.as_bytes()[..cut], &script.as_bytes()[cut..]] {
        for bytes in piece.chunks(step) {
            client.wire.borrow_mut().to_server.extend(bytes);
            bench.readable(&client);
            bench.turns();
        }
    }
    bench.half_close(&client);
    client.take()
}

/// `first` gets `expected`, and what follows it an answer only where there is one more status in it.
fn check(first: &str, expected: &[u16]) {
    let script = format!("{first}{NEXT}");
    let whole = answers(&script, 0);
    assert_eq!(statuses(&whole), expected, "{first:?}: {whole}");
    for cut in (1..=first.len()).chain([script.len()]) {
        // Where a body is waited for that the client holds back, it is asked for.
        let cut_up = answers(&script, cut).replace("HTTP/1.1 100 Continue\r\n\r\n", "");
        assert!(cut_up == whole, "{first:?} cut at {cut}: {cut_up}");
    }
}

/// A call that publishes, with these framing fields, and what follows its head.
fn framed(fields: &str, rest: &str) -> String {
    format!("POST /api/projects/p/events HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\n{rest}")
}

const EVENT: &str = r#"{"type":"n","payload":{}}"#;

fn chunked_event() -> String {
    format!("{:x}\r\n{EVENT}\r\n0\r\n\r\n", EVENT.len())
}

#[test]
fn what_follows_a_request_that_ends_for_every_reader_is_answered() {
    let chunked = |rest: &str| framed("Transfer-Encoding: chunked", rest);
    for first in [
        post("/api/projects/p/events", EVENT),
        framed(&format!("Content-Length: 000{}", EVENT.len()), EVENT),
        framed(&format!("content-LENGTH:\t{} ", EVENT.len()), EVENT),
        framed(&format!("Content_Length: 3\r\nTransfer_Encoding: chunked\r\nContent-Length: {}", EVENT.len()), EVENT),
        framed(&format!("Connection: content-length, te\r\nContent-Length: {}", EVENT.len()), EVENT),
        framed(&format!("Expect: 100-Continue\r\nContent-Length: {}", EVENT.len()), EVENT),
        chunked(&chunked_event()),
        framed("transfer-ENCODING: \t chunKED ", &chunked_event()),
        framed("Trailer: Content-Length\r\nTE: trailers\r\nTransfer-Encoding: chunked", &chunked_event()),
        chunked(&format!("{:x};a=\"\\\"; b\";c\r\n{EVENT}\r\n0;d\r\n\r\n", EVENT.len())),
        chunked(&format!(
            "{:x}\r\n{EVENT}\r\n0\r\nContent-Length: 5\r\nTransfer-Encoding: x\r\nHost: i\r\n\r\n",
            EVENT.len()
        )),
        format!("{}\r\n", post("/api/projects/p/events", EVENT)),
    ] {
        check(&first, &[202, 200]);
    }
    for (first, status) in [
        (
            "GET /healthz HTTP/1.1\r\nHost: h\r\nUpgrade: h2c, websocket\r\nConnection: upgrade, http2-settings\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
            200,
        ),
        (
            "GET /healthz HTTP/1.1\r\nHost: h\r\nContent-Length: 35\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n",
            200,
        ),
        ("GET http://h/healthz HTTP/1.1\r\nHost: h\r\n\r\n", 200),
        ("GET /healthz HTTP/1.1\r\nHost: h\r\nConnection: closed, keep-alive\r\n\r\n", 200),
        ("GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 200),
        ("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", 204),
        ("TRACE /healthz HTTP/1.1\r\nHost: h\r\n\r\n", 405),
        ("GET /nowhere HTTP/1.1\r\nHost: h\r\n\r\n", 404),
        ("GET //healthz HTTP/1.1\r\nHost: h\r\n\r\n", 404),
        ("GET /api/../healthz HTTP/1.1\r\nHost: h\r\n\r\n", 404),
        ("GET /%2e%2e/healthz HTTP/1.1\r\nHost: h\r\n\r\n", 404),
        ("GET /api/projects/%c0%af/workflows HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("GET /api/projects/%e0%80%af/workflows HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("GET /api/projects/%2/workflows HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("GET /api/projects/%00/workflows HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("GET /api/projects/a%0d%0ab/workflows HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("GET /api/projects/p/workflows?limit=%zz HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    ] {
        check(first, &[status, 200]);
    }
}

/// Fields by which two readers could end a request differently, and the status that they are refused with.
const TWO_ENDINGS: &[(&str, u16)] = &[
    ("Content-Length: 5\r\nTransfer-Encoding: chunked", 400),
    ("Transfer-Encoding: chunked\r\nContent-Length: 5", 400),
    ("Transfer-Encoding: chunked\r\nContent-Length: 0", 400),
    ("Transfer-Encoding: identity\r\nContent-Length: 5", 400),
    ("Transfer-Encoding:\r\nContent-Length: 5", 400),
    ("Content-Length: 5\r\nContent-Length: 5", 400),
    ("Content-Length: 5\r\ncontent-length: 44", 400),
    ("Content-Length: 5, 5", 400),
    ("Content-Length: 5,44", 400),
    ("Content-Length: 5 ,", 400),
    ("Content-Length:", 400),
    ("Content-Length: +5", 400),
    ("Content-Length: -5", 400),
    ("Content-Length: 0x5", 400),
    ("Content-Length: 5e0", 400),
    ("Content-Length: 5_0", 400),
    ("Content-Length: 5;x", 400),
    ("Content-Length: 5 5", 400),
    ("Content-Length: ５", 400),
    ("Content-Length: 5\r\n 0", 400),
    ("Content-Length : 5", 400),
    ("Content-Length\t: 5", 400),
    ("Content-Length\0: 5", 400),
    ("Content-Length: 5\0", 400),
    ("Content-Length\u{a0}: 5", 400),
    ("Content-Length 5", 400),
    ("\r Content-Length: 5", 400),
    (" Content-Length: 5", 400),
    ("Content-Length: 18446744073709551616", 413),
    ("Content-Length: 18446744073709551621", 413),
    ("Content-Length: 4097", 413),
    ("Transfer-Encoding: chunked, chunked", 400),
    ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 400),
    ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", 501),
    ("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked", 501),
    ("Transfer-Encoding: identity", 501),
    ("Transfer-Encoding: gzip, chunked", 501),
    ("Transfer-Encoding: chunked, gzip", 501),
    ("Transfer-Encoding: xchunked", 501),
    ("Transfer-Encoding: chunkedx", 501),
    ("Transfer-Encoding: 'chunked'", 501),
    ("Transfer-Encoding: chunked;q=1", 501),
    ("Transfer-Encoding: \"chunked\"", 400),
    ("Transfer-Encoding: chunked,", 400),
    ("Transfer-Encoding: ,chunked", 400),
    ("Transfer-Encoding: chu nked", 400),
    ("Transfer-Encoding: [chunked]", 400),
    ("Transfer-Encoding: chunked\0", 400),
    ("Transfer-Encoding: \u{b}chunked", 400),
    ("Transfer-Encoding: \u{a0}chunked", 400),
    ("Transfer-Encoding: chunked\r\n , identity", 400),
    ("Transfer-Encoding:\r\n chunked", 400),
    ("Transfer-Encoding : chunked", 400),
    ("Transfer-Encoding\r\n: chunked", 400),
    (" Transfer-Encoding: chunked", 400),
    ("X: y\nTransfer-Encoding: chunked", 400),
    ("X: y\rTransfer-Encoding: chunked", 400),
    ("X: y\n\nTransfer-Encoding: chunked", 400),
    ("X: y\r\r\nTransfer-Encoding: chunked", 400),
    ("Host: h\r\nContent-Length: 5", 400),
    ("Host: evil, h", 400),
    ("X: y\r\n\n", 400),
    ("Expect: 100-continue, 100-continue\r\nContent-Length: 5", 417),
    ("Expect: 200-ok\r\nContent-Length: 5", 417),
];

#[test]
fn what_follows_a_request_that_two_readers_could_end_differently_is_not_answered() {
    let smuggled = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n";
    for &(fields, status) in TWO_ENDINGS {
        check(&framed(fields, smuggled), &[status]);
    }
    let old = "POST /api/projects/p/events HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n";
    check(&format!("{old}{smuggled}"), &[400]);
}

#[test]
fn what_follows_chunks_that_two_readers_could_end_differently_is_not_answered() {
    for (chunks, status) in [
        ("1\na\r\n0\r\n\r\n", 400),
        ("1\r\na\n0\r\n\r\n", 400),
        ("1\r\na\r0\r\n\r\n", 400),
        ("1\r\na\r\n0\n\r\n", 400),
        ("1\r\na\r\n0\r\n\n", 400),
        ("1\r\nab\r\n0\r\n\r\n", 400),
        ("1\r\na0\r\n\r\n", 400),
        ("2\r\na\r\n0\r\n\r\n", 400),
        ("01x\r\na\r\n0\r\n\r\n", 400),
        ("0x1\r\na\r\n0\r\n\r\n", 400),
        ("+1\r\na\r\n0\r\n\r\n", 400),
        ("-1\r\na\r\n0\r\n\r\n", 400),
        ("1 \r\na\r\n0\r\n\r\n", 400),
        ("1\t;a\r\na\r\n0\r\n\r\n", 400),
        (" 1\r\na\r\n0\r\n\r\n", 400),
        ("1,1\r\na\r\n0\r\n\r\n", 400),
        ("1\0\r\na\r\n0\r\n\r\n", 400),
        (";\r\na\r\n0\r\n\r\n", 400),
        ("\r\n1\r\na\r\n0\r\n\r\n", 400),
        ("1;a\nb\r\na\r\n0\r\n\r\n", 400),
        ("1;a\rb\r\na\r\n0\r\n\r\n", 400),
        ("1;a=\"\r\nb\"\r\na\r\n0\r\n\r\n", 400),
        ("1;a=\"\\\"\r\na\r\n0\r\n\r\n", 400),
        ("10000000000000001\r\na\r\n0\r\n\r\n", 400),
        ("fffffffffffffffff\r\na\r\n0\r\n\r\n", 400),
        ("ffffffffffffffff\r\na\r\n0\r\n\r\n", 413),
        ("8000000000000001\r\na\r\n0\r\n\r\n", 413),
        ("1001\r\n", 413),
        ("0\r\nX : y\r\n\r\n", 400),
        ("0\r\n X: y\r\n\r\n", 400),
        ("0\r\nX: y\n\r\n", 400),
        ("0\r\nX: y\rz\r\n\r\n", 400),
        ("0\r\nX: y\r\n z\r\n\r\n", 400),
        ("0\r\nX\r\n\r\n", 400),
        ("0\r\n: y\r\n\r\n", 400),
        ("0\r\nX: \0\r\n\r\n", 400),
    ] {
        check(&framed("Transfer-Encoding: chunked", chunks), &[status]);
    }
}

#[test]
fn what_follows_the_last_request_of_a_connection_is_not_answered() {
    for (first, status) in [
        ("GET /healthz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", 200),
        ("GET /healthz HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, CLOSE\r\n\r\n", 200),
        ("GET /healthz HTTP/1.1\r\nHost: h\r\nConnection: ,\tclose ,x\r\n\r\n", 200),
        ("GET /healthz HTTP/1.1\r\nHost: h\r\nConnection: x\r\nConnection: close\r\n\r\n", 200),
        ("GET /healthz HTTP/1.0\r\n\r\n", 200),
        ("GET /healthz HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n", 200),
        ("GET /\r\n\r\n", 400),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        ("GET /healthz HTTP/1.2\r\nHost: h\r\n\r\n", 505),
        ("GET /healthz HTTP/0.9\r\nHost: h\r\n\r\n", 505),
        ("GET /healthz HTTP/1.1.1\r\nHost: h\r\n\r\n", 505),
        ("GET /healthz HTTP/1.1\u{b}\r\nHost: h\r\n\r\n", 400),
        ("GET /healthz HTTP/ 1.1\r\nHost: h\r\n\r\n", 400),
        ("GET /healthz  HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("GET /healthz HTTP/1.1\r\n\r\n", 400),
        ("GET http://evil/healthz HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("GET http://h@evil/healthz HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("GET http://h/healthz HTTP/1.1\r\n\r\n", 400),
        ("CONNECT h:80 HTTP/1.1\r\nHost: h:80\r\n\r\n", 501),
        ("BREW /healthz HTTP/1.1\r\nHost: h\r\n\r\n", 501),
        ("GET /a b HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("GET /\0 HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("GET /\u{fffd} HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("\r\n\r\n\r\n", 400),
    ] {
        check(first, &[status]);
    }
    let one_run = stream("p?runId=none");
    assert_eq!(statuses(&answers(&format!("{one_run}{NEXT}"), 0)), [404, 200], "it became no stream");
    assert_eq!(statuses(&answers(&format!("{}{NEXT}", stream("p")), 0)), [200], "a stream is the last");
}
