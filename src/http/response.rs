//! Responses, and how they are written.

use std::borrow::Cow;

use super::body::Next;
use super::{Body, Coding, Version, sse, status};
use crate::model::decimal;

/// The approximate size of a head, to reserve its memory once.
const HEAD_BYTES: usize = 256;

/// Content of at most this size is copied after its head, so that one write sends both. Larger content is sent
/// separately: a second write is cheaper than the copy.
const COPIED_BYTES_MAX: usize = 16 * 1024;

/// A response of known length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status, 200 to 599.
    pub status: u16,
    content_type: Option<&'static str>,
    headers: Vec<(&'static str, Cow<'static, str>)>,
    body: Body,
}

impl Response {
    /// A response without content.
    pub fn new(status: u16) -> Self {
        Self { status, content_type: None, headers: Vec::new(), body: Body::from("") }
    }

    /// A response with the JSON in `body`.
    pub fn json(status: u16, body: impl Into<Body>) -> Self {
        Self::new(status).content("application/json", body)
    }

    /// A response with plain text.
    pub fn text(status: u16, body: impl Into<Body>) -> Self {
        Self::new(status).content("text/plain; charset=utf-8", body)
    }

    /// Sets the content.
    #[must_use]
    pub fn content(mut self, content_type: &'static str, body: impl Into<Body>) -> Self {
        self.content_type = Some(content_type);
        self.body = body.into();
        self
    }

    /// Adds a header. Callers must not pass control characters in `value`; they are replaced by spaces, so that a value
    /// never ends its line.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        let value = value.into();
        debug_assert!(!value.bytes().any(is_forbidden), "a control byte in {name}");
        self.headers.push((name, sanitized(value)));
        self
    }

    /// Appends the answer to `out`, but for the content that this gives: it is to follow. It is empty where the content is
    /// small, or none is to be sent.
    ///
    /// `date` is the moment in the format of the `Date` header (RFC 9110, section 5.6.7), which the caller keeps for a
    /// second. `version` is the request's, 1.1 where it has none. With `keep_alive` the connection stays open after it.
    /// `head_only` leaves the content out and says its length all the same, as `HEAD` asks for.
    #[must_use]
    pub fn write_to(self, out: &mut Vec<u8>, date: &str, version: Version, keep_alive: bool, head_only: bool) -> Body {
        let mut body = self.body;
        let is_copied = body.left() <= COPIED_BYTES_MAX as u64;
        out.reserve(HEAD_BYTES + if is_copied { body.len() } else { 0 });
        write_status_and_date(out, self.status, date);
        if let Some(content_type) = self.content_type {
            write_header(out, "Content-Type", content_type);
        }
        if !status::is_bodiless(self.status) {
            out.extend_from_slice(b"Content-Length: ");
            write_number(out, body.left());
            out.extend_from_slice(b"\r\n");
        }
        for (name, value) in &self.headers {
            write_header(out, name, value);
        }
        match (keep_alive, version) {
            (false, _) => write_header(out, "Connection", "close"),
            (true, Version::Http10) => write_header(out, "Connection", "keep-alive"),
            (true, Version::Http11) => {}
        }
        out.extend_from_slice(b"\r\n");
        if head_only || status::is_bodiless(self.status) {
            return Body::from("");
        }
        while is_copied && let Next::Bytes(bytes) = body.next(COPIED_BYTES_MAX) {
            out.extend_from_slice(bytes);
            let n = bytes.len();
            body.took(n);
        }
        body
    }
}

/// Appends the head of an event stream: status 200, [what every stream says](sse::HEADERS), and `extra`.
///
/// A stream has no length. In chunks its last one tells the end; the connection closes after it all the same.
pub fn write_stream_head<'h>(
    out: &mut Vec<u8>,
    content_type: &str,
    coding: Coding,
    date: &str,
    extra: impl IntoIterator<Item = (&'h str, &'h str)>,
) {
    write_status_and_date(out, 200, date);
    write_header(out, "Content-Type", content_type);
    for (name, value) in sse::HEADERS {
        write_header(out, name, value);
    }
    for (name, value) in extra {
        debug_assert!(!value.bytes().any(is_forbidden), "a control byte in {name}");
        write_header(out, name, &sanitized(Cow::Borrowed(value)));
    }
    if coding == Coding::Chunked {
        write_header(out, "Transfer-Encoding", "chunked");
    }
    write_header(out, "Connection", "close");
    out.extend_from_slice(b"\r\n");
}

fn write_status_and_date(out: &mut Vec<u8>, status: u16, date: &str) {
    out.extend_from_slice(b"HTTP/1.1 ");
    write_number(out, status.into());
    out.push(b' ');
    out.extend_from_slice(status::reason(status).as_bytes());
    out.extend_from_slice(b"\r\n");
    write_header(out, "Date", date);
}

fn write_header(out: &mut Vec<u8>, name: &str, value: &str) {
    for part in [name, ": ", value, "\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
}

fn write_number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(decimal(number, &mut [0; 20]));
}

/// Whether the byte is not allowed in a header value.
fn is_forbidden(b: u8) -> bool {
    b.is_ascii_control() && b != b'\t'
}

fn sanitized(value: Cow<'_, str>) -> Cow<'_, str> {
    if !value.bytes().any(is_forbidden) {
        return value;
    }
    let is_forbidden = |c: char| u8::try_from(c).is_ok_and(is_forbidden);
    Cow::Owned(value.replace(is_forbidden, " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(response: Response, version: Version, keep_alive: bool, head_only: bool) -> String {
        let mut out = Vec::new();
        let left = response.write_to(&mut out, "Tue, 14 Nov 2023 22:13:20 GMT", version, keep_alive, head_only);
        assert!(left.is_empty());
        String::from_utf8(out).expect("text")
    }

    const DATE: &str = "Date: Tue, 14 Nov 2023 22:13:20 GMT\r\n";

    #[test]
    fn an_answer_has_its_length_and_says_whether_the_connection_stays() {
        let ok = Response::json(200, "{}").header("X-A", "b\tc");
        let head =
            format!("HTTP/1.1 200 OK\r\n{DATE}Content-Type: application/json\r\nContent-Length: 2\r\nX-A: b\tc\r\n");
        for (version, keep_alive, head_only, rest) in [
            (Version::Http11, true, false, "\r\n{}"),
            (Version::Http11, true, true, "\r\n"),
            (Version::Http11, false, false, "Connection: close\r\n\r\n{}"),
            (Version::Http10, true, false, "Connection: keep-alive\r\n\r\n{}"),
            (Version::Http10, false, true, "Connection: close\r\n\r\n"),
        ] {
            assert_eq!(written(ok.clone(), version, keep_alive, head_only), format!("{head}{rest}"));
        }
    }

    #[test]
    fn an_empty_answer_has_a_length_too_unless_its_status_forbids() {
        let empty = |status| written(Response::new(status), Version::Http11, true, false);
        assert_eq!(empty(202), format!("HTTP/1.1 202 Accepted\r\n{DATE}Content-Length: 0\r\n\r\n"));
        assert_eq!(empty(204), format!("HTTP/1.1 204 No Content\r\n{DATE}\r\n"));
        let not_modified = Response::text(304, "never sent");
        assert!(written(not_modified, Version::Http11, true, false).ends_with("charset=utf-8\r\n\r\n"));
    }

    #[test]
    fn large_content_is_not_copied_behind_its_head() {
        let bytes = COPIED_BYTES_MAX + 1;
        let answer = |head_only| {
            let mut out = Vec::new();
            let left = Response::text(200, vec![b'x'; bytes]).write_to(&mut out, "D", Version::Http11, true, head_only);
            let head = String::from_utf8(out).expect("text");
            assert!(head.contains(&format!("Content-Length: {bytes}\r\n")) && head.ends_with("\r\n\r\n"), "{head}");
            left.len()
        };
        assert_eq!((answer(false), answer(true)), (bytes, 0));
    }

    #[test]
    fn no_value_ends_its_line() {
        assert_eq!(sanitized("a\r\nSet-Cookie: b\0\x7f\té".into()), "a  Set-Cookie: b  \té");
        assert!(matches!(sanitized("plain".into()), Cow::Borrowed("plain")));
    }

    #[test]
    fn the_head_of_a_stream_says_how_its_end_is_told() {
        for (coding, how) in [(Coding::Chunked, "Transfer-Encoding: chunked\r\n"), (Coding::UntilClose, "")] {
            let mut out = Vec::new();
            write_stream_head(&mut out, sse::EVENTS, coding, "Tue, 14 Nov 2023 22:13:20 GMT", [("Vary", "Origin")]);
            let expected = format!(
                "HTTP/1.1 200 OK\r\n{DATE}Content-Type: text/event-stream\r\nCache-Control: no-cache, no-transform\r\n\
                 X-Accel-Buffering: no\r\nVary: Origin\r\n{how}Connection: close\r\n\r\n"
            );
            assert_eq!(String::from_utf8_lossy(&out), expected);
        }
    }
}
