//! Tables of requests and the verdicts on them, and the one property that all of them share: how the bytes are cut into
//! reads changes nothing.

use super::*;
use crate::http::head::HEADERS_MAX;
use crate::http::{Method, Version};

/// Small, so that every cut of every row can be tried.
const LIMITS: Limits = Limits { head_bytes: 400, target_bytes: 50, body_bytes: 40 };

/// A verdict that borrows nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    More(Phase),
    Done { line: String, body: Vec<u8>, keep_alive: bool, consumed: usize },
    Refused(u16, &'static str),
}

fn seen(verdict: Verdict<'_>) -> Seen {
    match verdict {
        Verdict::NeedMore { phase, .. } => Seen::More(phase),
        Verdict::Reject(problem) => Seen::Refused(problem.status, problem.code),
        Verdict::Complete { request, consumed } => {
            let query = request.query.map(|query| format!("?{query}")).unwrap_or_default();
            let line = format!("{} {}{query}", request.method, request.path);
            Seen::Done { line, body: request.body.into_owned(), keep_alive: request.keep_alive, consumed }
        }
    }
}

/// Feeds `input` cut at `ends`, the last of which is its length; the first verdict that is not "more", or the last.
fn fed(input: &[u8], ends: impl IntoIterator<Item = usize>) -> Seen {
    let mut decoder = Decoder::new();
    let mut last = Seen::More(Phase::Empty);
    for end in ends {
        last = seen(decoder.decode(&input[..end], &LIMITS));
        if !matches!(last, Seen::More(_)) {
            break;
        }
    }
    last
}

fn check(name: &str, input: &[u8], expected: &Seen) {
    assert_eq!(&fed(input, [input.len()]), expected, "{name}, at once");
    assert_eq!(&fed(input, 0..=input.len()), expected, "{name}, byte by byte");
    for cut in 0..input.len() {
        assert_eq!(&fed(input, [cut, input.len()]), expected, "{name}, cut at {cut}");
    }
    if !matches!(expected, Seen::More(_)) {
        let piped = [input, b"GET /next HTTP/1.1\r\nHost: h\r\n\r\n"].concat();
        assert_eq!(&fed(&piped, [piped.len()]), expected, "{name}, with another request behind it");
        assert_eq!(&fed(&piped, 0..=piped.len()), expected, "{name}, with another request behind it, byte by byte");
    }
}

fn check_refused(rows: &[(&str, &str, u16)]) {
    for &(name, input, status) in rows {
        let input = input.as_bytes();
        let Seen::Refused(found, code) = fed(input, [input.len()]) else { panic!("{name} is not refused") };
        assert_eq!(found, status, "{name}");
        check(name, input, &Seen::Refused(status, code));
    }
}

/// Of each its name, the bytes, the method and the target, the body, and whether another may come after it.
fn check_taken(rows: &[(&str, &str, &str, &str, bool)]) {
    for &(name, input, line, body, keep_alive) in rows {
        let done = Seen::Done { line: line.into(), body: body.into(), keep_alive, consumed: input.len() };
        check(name, input.as_bytes(), &done);
    }
}

#[test]
fn requests_that_are_taken() {
    check_taken(&[
        ("simple", "GET / HTTP/1.1\r\nHost: h\r\n\r\n", "GET /", "", true),
        ("query", "GET /a/b?c=d HTTP/1.1\r\nHost: h\r\n\r\n", "GET /a/b?c=d", "", true),
        ("empty query", "GET /a? HTTP/1.1\r\nHost: h\r\n\r\n", "GET /a?", "", true),
        ("undecoded", "GET /a%2Fb?c=%zz HTTP/1.1\r\nHost: h\r\n\r\n", "GET /a%2Fb?c=%zz", "", true),
        ("odd but visible", "GET /{a}|\\^`\"<> HTTP/1.1\r\nHost: h\r\n\r\n", "GET /{a}|\\^`\"<>", "", true),
        ("no space after colons", "GET / HTTP/1.1\r\nHost:h\r\nA:b\r\n\r\n", "GET /", "", true),
        ("tab in a value", "GET / HTTP/1.1\r\nHost:\th\t\r\nA: b\tc\r\n\r\n", "GET /", "", true),
        ("bytes over 127 in a value", "GET / HTTP/1.1\r\nHost: h\r\nA: é\r\n\r\n", "GET /", "", true),
        ("empty value", "GET / HTTP/1.1\r\nHost: h\r\nA:\r\nB: \r\n\r\n", "GET /", "", true),
        ("one empty line before", "\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", "GET /", "", true),
        ("two empty lines before", "\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", "GET /", "", true),
        ("1.0", "GET / HTTP/1.0\r\n\r\n", "GET /", "", false),
        ("1.0 with Host", "GET / HTTP/1.0\r\nHost: h:1\r\n\r\n", "GET /", "", false),
        ("1.0 keep-alive", "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", "GET /", "", true),
        ("1.0 both", "GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n", "GET /", "", false),
        ("close", "GET / HTTP/1.1\r\nHost: h\r\nConnection: Close\r\n\r\n", "GET /", "", false),
        ("close in a list", "GET / HTTP/1.1\r\nHost: h\r\nConnection: a ,close,\r\n\r\n", "GET /", "", false),
        (
            "close in a second field",
            "GET / HTTP/1.1\r\nHost: h\r\nConnection: a\r\nConnection: close\r\n\r\n",
            "GET /",
            "",
            false,
        ),
        ("not quite close", "GET / HTTP/1.1\r\nHost: h\r\nConnection: closed\r\n\r\n", "GET /", "", true),
        ("options", "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", "OPTIONS *", "", true),
        ("absolute", "GET http://h:8/a?b HTTP/1.1\r\nHost: H:8\r\n\r\n", "GET /a?b", "", true),
        ("absolute without a path", "GET HTTPS://h HTTP/1.1\r\nHost: h\r\n\r\n", "GET /", "", true),
        ("absolute in 1.0", "GET http://h/a HTTP/1.0\r\n\r\n", "GET /a", "", false),
        ("IPv6 host", "GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", "GET /", "", true),
        ("expectation in 1.0", "GET / HTTP/1.0\r\nExpect: miracles\r\n\r\n", "GET /", "", false),
        ("expectation without a body", "GET / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n\r\n", "GET /", "", true),
    ]);
}

#[test]
fn bodies_that_are_taken() {
    check_taken(&[
        ("body", "POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello", "POST /p", "hello", true),
        ("body in 1.0", "POST /p HTTP/1.0\r\nContent-Length: 2\r\n\r\nhi", "POST /p", "hi", false),
        ("body of a GET", "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi", "GET /", "hi", true),
        ("no length, no body", "POST /p HTTP/1.1\r\nHost: h\r\n\r\n", "POST /p", "", true),
        ("length 0", "PUT /p HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", "PUT /p", "", true),
        ("leading zeros", "PUT /p HTTP/1.1\r\nHost: h\r\nContent-Length: 0002\r\n\r\nhi", "PUT /p", "hi", true),
        (
            "body that looks like a request",
            "PATCH / HTTP/1.1\r\nHost: h\r\nContent-Length: 18\r\n\r\nGET / HTTP/1.1\r\n\r\n",
            "PATCH /",
            "GET / HTTP/1.1\r\n\r\n",
            true,
        ),
        (
            "chunked",
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: Chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
            "POST /",
            "hello",
            true,
        ),
        (
            "one chunk that holds line ends",
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n6\r\n\r\n0\r\n\n\r\n0\r\n\r\n",
            "POST /",
            "\r\n0\r\n\n",
            true,
        ),
        ("no chunk", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "POST /", "", true),
        (
            "extensions and trailers",
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1;a=b\r\nx\r\n00;c\r\nA: b\r\nC:\r\n\r\n",
            "POST /",
            "x",
            true,
        ),
        (
            "body at the limit",
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n\
             14\r\n01234567890123456789\r\n14\r\n01234567890123456789\r\n0\r\n\r\n",
            "POST /",
            "0123456789012345678901234567890123456789",
            true,
        ),
        (
            "expectation with its body",
            "PUT / HTTP/1.1\r\nHost: h\r\nExpect: 100-Continue\r\nContent-Length: 2\r\n\r\nhi",
            "PUT /",
            "hi",
            true,
        ),
    ]);
}

#[test]
fn requests_that_have_not_ended() {
    for (name, input, phase) in [
        ("nothing", "", Phase::Empty),
        ("an empty line", "\r\n", Phase::Empty),
        ("one byte", "G", Phase::Head),
        ("a line", "GET / HTTP/1.1\r\n", Phase::Head),
        ("a head but its last byte", "GET / HTTP/1.1\r\nHost: h\r\n\r", Phase::Head),
        ("no body", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n", Phase::Body),
        ("half a body", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nab", Phase::Body),
        ("half a size", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1", Phase::Body),
        ("half a chunk", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\na", Phase::Body),
        ("half a chunk's end", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r", Phase::Body),
        ("no last line", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: b\r\n", Phase::Body),
    ] {
        check(name, input.as_bytes(), &Seen::More(phase));
    }
}

#[test]
fn malformed_heads() {
    check_refused(&[
        ("TLS", "\x16\x03\x01\x02", 400),
        ("binary", "\0", 400),
        ("bare LF first", "\n", 400),
        ("bare CR first", "\rGET / HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("three empty lines", "\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("space first", " GET / HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("bare LF after the request line", "GET / HTTP/1.1\nHost: h\r\n\r\n", 400),
        ("bare LF after a field", "GET / HTTP/1.1\r\nHost: h\n\r\n", 400),
        ("bare LF at the end", "GET / HTTP/1.1\r\nHost: h\r\n\n", 400),
        ("bare LF in a value", "GET / HTTP/1.1\r\nHost: h\r\nA: b\nC: d\r\n\r\n", 400),
        ("only LFs", "GET / HTTP/1.1\nHost: h\n\n", 400),
        ("bare CR in a value", "GET / HTTP/1.1\r\nHost: h\r\nA: b\rC: d\r\n\r\n", 400),
        ("CR before CRLF", "GET / HTTP/1.1\r\nHost: h\r\r\n\r\n", 400),
        ("bare CR in the request line", "GET /\r HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("bare CR after the version", "GET / HTTP/1.1\r\r\nHost: h\r\n\r\n", 400),
        ("NUL in a value", "GET / HTTP/1.1\r\nHost: h\r\nA: b\0\r\n\r\n", 400),
        ("SOH in a value", "GET / HTTP/1.1\r\nHost: h\r\nA: \x01\r\n\r\n", 400),
        ("VT in a value", "GET / HTTP/1.1\r\nHost: h\r\nA: b\x0bc\r\n\r\n", 400),
        ("FF after a value", "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\x0c\r\n\r\n", 400),
        ("ESC in a long value", "GET / HTTP/1.1\r\nHost: h\r\nA: 01234567890123456789012345678901\x1b\r\n\r\n", 400),
        ("DEL in a value", "GET / HTTP/1.1\r\nHost: h\r\nA: b\x7f\r\n\r\n", 400),
        ("DEL in a long value", "GET / HTTP/1.1\r\nHost: h\r\nA: 0123456789012345\x7f6789012345678901\r\n\r\n", 400),
        ("NUL in a name", "GET / HTTP/1.1\r\nHost: h\r\nA\0: b\r\n\r\n", 400),
        ("space before a colon", "GET / HTTP/1.1\r\nHost : h\r\n\r\n", 400),
        ("tab before a colon", "GET / HTTP/1.1\r\nHost: h\r\nA\t: b\r\n\r\n", 400),
        ("folded", "GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n c\r\n\r\n", 400),
        ("folded with a tab", "GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n\tc\r\n\r\n", 400),
        ("folded first field", "GET / HTTP/1.1\r\n Host: h\r\n\r\n", 400),
        ("line of spaces", "GET / HTTP/1.1\r\nHost: h\r\n \r\n\r\n", 400),
        ("no colon", "GET / HTTP/1.1\r\nHost: h\r\nA\r\n\r\n", 400),
        ("no name", "GET / HTTP/1.1\r\nHost: h\r\n: b\r\n\r\n", 400),
        ("bad name", "GET / HTTP/1.1\r\nHost: h\r\nA(b): c\r\n\r\n", 400),
        ("name beyond ASCII", "GET / HTTP/1.1\r\nHost: h\r\né: c\r\n\r\n", 400),
        ("0.9", "GET /\r\n\r\n", 400),
        ("method alone", "GET\r\n\r\n", 400),
        ("no target", "GET HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("empty target", "GET  HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("two spaces", "GET /  HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("tab for a space", "GET\t/ HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("space at the end", "GET / HTTP/1.1 \r\nHost: h\r\n\r\n", 400),
        ("four words", "GET / a HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("a version in small letters", "GET / http/1.1\r\nHost: h\r\n\r\n", 400),
        ("another protocol", "GET / ICY/1.1\r\nHost: h\r\n\r\n", 400),
        ("no version", "GET / HTTP/\r\nHost: h\r\n\r\n", 400),
        ("method of no token", "G@T / HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    ]);
}

#[test]
fn targets_and_hosts_that_are_none() {
    check_refused(&[
        ("relative", "GET a HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("fragment", "GET /a#b HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("beyond ASCII", "GET /é HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("NUL", "GET /a\0 HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("DEL", "GET /a\x7f HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("star of a GET", "GET * HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("another scheme", "GET ftp://h/ HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("user in an absolute target", "GET http://u@h/ HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("absolute target for another host", "GET http://i/ HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("absolute target for another port", "GET http://h:1/ HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("absolute target without Host", "GET http://h/ HTTP/1.1\r\n\r\n", 400),
        ("absolute target for another host in 1.0", "GET http://i/ HTTP/1.0\r\nHost: h\r\n\r\n", 400),
        ("no Host", "GET / HTTP/1.1\r\n\r\n", 400),
        ("empty Host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", 400),
        ("two Hosts", "GET / HTTP/1.1\r\nHost: h\r\nHost: i\r\n\r\n", 400),
        ("the same Host twice", "GET / HTTP/1.1\r\nHost: h\r\nhost: h\r\n\r\n", 400),
        ("two Hosts in 1.0", "GET / HTTP/1.0\r\nHost: h\r\nHost: h\r\n\r\n", 400),
        ("list of Hosts", "GET / HTTP/1.1\r\nHost: h, i\r\n\r\n", 400),
        ("list of Hosts without a space", "GET / HTTP/1.1\r\nHost: h,i\r\n\r\n", 400),
        ("list of Hosts in 1.0", "GET / HTTP/1.0\r\nHost: h,h\r\n\r\n", 400),
        ("Host that is none", "GET / HTTP/1.1\r\nHost: h/i\r\n\r\n", 400),
        ("Host that is none in 1.0", "GET / HTTP/1.0\r\nHost: u@h\r\n\r\n", 400),
        ("Host with a space", "GET / HTTP/1.1\r\nHost: h i\r\n\r\n", 400),
        ("bad port", "GET / HTTP/1.1\r\nHost: h:http\r\n\r\n", 400),
    ]);
}

/// A head for these framing fields, and what follows it.
fn framed(fields: &str, rest: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\n{rest}")
}

#[test]
fn framing_that_could_be_read_in_two_ways() {
    for (fields, status) in [
        ("Content-Length: 2\r\nTransfer-Encoding: chunked", 400),
        ("Transfer-Encoding: chunked\r\nContent-Length: 2", 400),
        ("Transfer-Encoding: gzip\r\nContent-Length: 2", 400),
        ("Transfer-Encoding:\r\nContent-Length: 2", 400),
        ("Content-Length: 2\r\nContent-Length: 3", 400),
        ("Content-Length: 2\r\nContent-Length: 2", 400),
        ("Content-Length: 2, 2", 400),
        ("Content-Length: 2,3", 400),
        ("Content-Length:", 400),
        ("Content-Length: +2", 400),
        ("Content-Length: -2", 400),
        ("Content-Length: 2 2", 400),
        ("Content-Length: 0x2", 400),
        ("Content-Length: 2.0", 400),
        ("Content-Length: \"2\"", 400),
        ("Content-Length: ٢", 400),
        ("Content-Length: two", 400),
        ("Transfer-Encoding:", 400),
        ("Transfer-Encoding: ,", 400),
        ("Transfer-Encoding: chunked,", 400),
        ("Transfer-Encoding: chunked, chunked", 400),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 400),
        ("Transfer-Encoding: chunked, gzip, chunked", 400),
        ("Transfer-Encoding: \"chunked\"", 400),
        ("Transfer-Encoding: chu nked", 400),
        ("Transfer-Encoding: chunkéd", 400),
        ("Transfer-Encoding : chunked", 400),
        ("Transfer-Encoding: chunked\r\n , gzip", 400),
        ("Transfer-Encoding: gzip", 501),
        ("Transfer-Encoding: identity", 501),
        ("Transfer-Encoding: xchunked", 501),
        ("Transfer-Encoding: chunked;a=b", 501),
        ("Transfer-Encoding: gzip, chunked", 501),
        ("Transfer-Encoding: chunked, gzip", 501),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", 501),
        ("Content-Length: 41", 413),
        ("Content-Length: 18446744073709551616", 413),
        ("Content-Length: 99999999999999999999999999999999999999", 413),
        ("Content-Length: 41\r\nExpect: 100-continue", 413),
        ("Content-Length: 2\r\nExpect: 200-ok", 417),
        ("Content-Length: 2\r\nExpect:", 417),
        ("Content-Length: 2\r\nExpect: 100-continue\r\nExpect: more", 417),
    ] {
        check_refused(&[(fields, &framed(fields, ""), status)]);
    }
    let old = "POST / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
    check_refused(&[("chunked in 1.0", old, 400)]);
}

#[test]
fn chunks_that_are_none() {
    for (chunks, status) in [
        ("\r\n", 400),
        ("x\r\n", 400),
        ("1 \r\na\r\n0\r\n\r\n", 400),
        ("1\na\r\n0\r\n\r\n", 400),
        ("1\r\na\n0\r\n\r\n", 400),
        ("1\r\nab\r\n0\r\n\r\n", 400),
        ("2\r\na\r\n0\r\n\r\n", 400),
        ("1\r\na0\r\n\r\n", 400),
        ("1;a\nb\r\na\r\n0\r\n\r\n", 400),
        ("1;a\rb\r\na\r\n0\r\n\r\n", 400),
        ("-1\r\n", 400),
        ("0x1\r\na\r\n", 400),
        ("10000000000000000\r\n", 400),
        ("0\r\n\n", 400),
        ("0\r\nA: b\n\r\n", 400),
        ("0\r\nA : b\r\n\r\n", 400),
        ("0\r\n A: b\r\n\r\n", 400),
        ("0\r\nA\r\n\r\n", 400),
        ("0\r\nA: b\0\r\n\r\n", 400),
        ("29\r\n", 413),
        ("ffffffffffffffff\r\n", 413),
        ("28\r\n0123456789012345678901234567890123456789\r\n1\r\n", 413),
    ] {
        check_refused(&[(chunks, &framed("Transfer-Encoding: chunked", chunks), status)]);
    }
    let endless = framed("Transfer-Encoding: chunked", &format!("1;{}", "e".repeat(300)));
    check_refused(&[("endless extension", &endless, 400)]);
}

#[test]
fn methods_and_versions_unknown() {
    check_refused(&[
        ("unknown method", "BREW / HTTP/1.1\r\nHost: h\r\n\r\n", 501),
        ("small letters", "get / HTTP/1.1\r\nHost: h\r\n\r\n", 501),
        ("tunnel", "CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n", 501),
        ("HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        ("2.0", "GET / HTTP/2.0\r\nHost: h\r\n\r\n", 505),
        ("2", "GET / HTTP/2\r\nHost: h\r\n\r\n", 505),
        ("1.2", "GET / HTTP/1.2\r\nHost: h\r\n\r\n", 505),
        ("1.10", "GET / HTTP/1.10\r\nHost: h\r\n\r\n", 505),
        ("0.9 by name", "GET / HTTP/0.9\r\n\r\n", 505),
    ]);
}

#[test]
fn limits_hold_to_the_byte_and_before_the_end() {
    let target = |bytes: usize| format!("/{}", "a".repeat(bytes - 1));
    let get = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n");
    let fits = get(&target(LIMITS.target_bytes));
    let line = format!("GET {}", target(LIMITS.target_bytes));
    check("a target", fits.as_bytes(), &Seen::Done { line, body: vec![], keep_alive: true, consumed: fits.len() });

    let padded = |bytes: usize| format!("GET / HTTP/1.1\r\nHost: h\r\nA: {}\r\n\r\n", "a".repeat(bytes - 32));
    let fits = padded(LIMITS.head_bytes);
    assert_eq!(fits.len(), LIMITS.head_bytes);
    let line = "GET /".to_owned();
    check("a head", fits.as_bytes(), &Seen::Done { line, body: vec![], keep_alive: true, consumed: fits.len() });

    check_refused(&[
        ("a target", &get(&target(LIMITS.target_bytes + 1)), 414),
        ("a target that goes on", &format!("GET {}", target(LIMITS.target_bytes + 1)), 414),
        ("a target that ends in LF", &format!("GET {}\n", target(LIMITS.target_bytes + 1)), 414),
        ("a target after empty lines", &format!("\r\n\r\n{}", get(&target(LIMITS.target_bytes + 1))), 414),
        ("a target of an unknown method", &format!("BREW {}", target(LIMITS.target_bytes + 1)), 414),
        ("a line without spaces", &"a".repeat(LIMITS.target_bytes + REQUEST_LINE_EXTRA_BYTES + 1), 414),
        ("a head", &padded(LIMITS.head_bytes + 1), 431),
        ("a head that goes on", &padded(LIMITS.head_bytes + 50)[..LIMITS.head_bytes + 1], 431),
        ("a head of short lines", &format!("GET / HTTP/1.1\r\n{}", "A: b\r\n".repeat(70)), 431),
    ]);
}

#[test]
fn a_request_has_so_many_fields() {
    let with = |fields: usize| format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "a:b\r\n".repeat(fields - 1));
    let verdict = |input: String| seen(Decoder::new().decode(input.as_bytes(), &Limits::default()));
    assert!(matches!(verdict(with(HEADERS_MAX)), Seen::Done { .. }));
    assert_eq!(verdict(with(HEADERS_MAX + 1)), Seen::Refused(431, "head_too_large"));
}

#[test]
fn a_client_that_waits_is_told_once_to_go_on() {
    let input = framed("Expect: 100-continue\r\nContent-Length: 5", "hello");
    let mut decoder = Decoder::new();
    let mut told = Vec::new();
    for end in 0..input.len() {
        match decoder.decode(&input.as_bytes()[..end], &LIMITS) {
            Verdict::NeedMore { send_continue, .. } => told.extend(send_continue.then_some(end)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(told, [input.len() - 5], "when the head was whole");
}

#[test]
fn pipelined_requests_come_out_one_by_one() {
    let requests = [
        "GET /1 HTTP/1.1\r\nHost: h\r\n\r\n",
        "POST /2 HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc",
        "\r\nPOST /3 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n1\r\nb\r\n0\r\n\r\n",
        "HEAD /4 HTTP/1.0\r\n\r\n",
    ];
    let all = requests.concat();
    for step in [1, 7, all.len()] {
        let (mut decoder, mut begin, mut paths) = (Decoder::new(), 0, String::new());
        for end in (0..all.len()).step_by(step).chain([all.len()]) {
            while let Verdict::Complete { request, consumed } = decoder.decode(&all.as_bytes()[begin..end], &LIMITS) {
                paths += request.path;
                begin += consumed;
            }
        }
        assert_eq!((paths.as_str(), begin), ("/1/2/3/4", all.len()), "in steps of {step}");
    }
}

#[test]
fn a_request_shows_its_parts() {
    let input = b"DELETE /a HTTP/1.0\r\nX-A: 1\r\nLast-Event-ID: e.1\r\nx-a: 2\r\n\r\n";
    let Verdict::Complete { request, .. } = Decoder::new().decode(input, &LIMITS) else { panic!("not complete") };
    assert_eq!((request.method, request.version), (Method::Delete, Version::Http10));
    assert_eq!(request.headers.text("last-event-id"), Some("e.1"));
    assert_eq!(request.headers.all("X-A").collect::<Vec<_>>(), [b"1", b"2"]);
    assert!(matches!(request.body, Cow::Borrowed(b"")));
}

#[test]
fn no_byte_of_any_kind_does_harm_anywhere() {
    let good =
        framed("Transfer-Encoding: chunked\r\nConnection: close", "3;a\r\nabc\r\n0\r\nA: b\r\n\r\n").into_bytes();
    for at in 0..good.len() {
        for byte in 0..=255 {
            for removed in 0..=1 {
                let mut input = good.clone();
                input.splice(at..at + removed, [byte]);
                assert_eq!(fed(&input, [input.len()]), fed(&input, 0..=input.len()), "{byte} at {at}");
            }
        }
    }
}

#[test]
fn lengths_beyond_memory_overflow_nothing() {
    let unlimited = Limits { head_bytes: usize::MAX, target_bytes: usize::MAX, body_bytes: usize::MAX };
    assert_eq!(unlimited.request_bytes_max(), usize::MAX);
    for input in [
        framed("Content-Length: 18446744073709551615", "x"),
        framed("Transfer-Encoding: chunked", "1\r\nx\r\nfffffffffffffffe\r\nx"),
    ] {
        let mut decoder = Decoder::new();
        for end in 0..=input.len() {
            let verdict = seen(decoder.decode(&input.as_bytes()[..end], &unlimited));
            assert!(matches!(verdict, Seen::More(_)), "{verdict:?}");
        }
    }
}

#[test]
fn an_idle_connection_weighs_little() {
    assert!(size_of::<Decoder>() <= 80, "{} bytes", size_of::<Decoder>());
}
