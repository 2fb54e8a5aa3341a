//! Frames of an event stream, as `EventSource` reads them: section 9.2 ("Server-sent events") of the WHATWG HTML
//! Standard, <https://html.spec.whatwg.org/multipage/server-sent-events.html>.

use std::io::Write as _;

/// The content type of a stream.
pub const EVENTS: &str = "text/event-stream";

/// The content type of a stream that is told in lines for people.
pub const TEXT: &str = "text/plain; charset=utf-8";

/// What else the head of every stream says. `no-transform` keeps proxies from compressing, and `X-Accel-Buffering`
/// nginx from holding frames back.
pub const HEADERS: [(&str, &str); 2] = [("Cache-Control", "no-cache, no-transform"), ("X-Accel-Buffering", "no")];

/// A comment: it keeps the connection alive, and no script sees it.
pub const COMMENT: &[u8] = b":\n\n";

/// Appends one block: `retry:` and `id:` where given, `data:`, and the blank line that dispatches it.
///
/// `data` is one line, and `id` holds neither a line end nor NUL, which would make a client ignore it. `retry_ms` in
/// milliseconds.
pub fn write_event(to: &mut Vec<u8>, id: Option<&str>, retry_ms: Option<u64>, data: &[u8]) {
    debug_assert!(!data.iter().any(|b| matches!(b, b'\n' | b'\r')), "data is one line");
    debug_assert!(id.is_none_or(|id| !id.bytes().any(|b| matches!(b, b'\n' | b'\r' | 0))), "an id is one line");
    if let Some(retry_ms) = retry_ms {
        writeln!(to, "retry: {retry_ms}").expect("a Vec takes every write");
    }
    if let Some(id) = id {
        write_field(to, b"id: ", id.as_bytes());
    }
    write_field(to, b"data: ", data);
    to.push(b'\n');
}

fn write_field(to: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    to.reserve(name.len() + value.len() + 2);
    to.extend_from_slice(name);
    to.extend_from_slice(value);
    to.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_has_what_it_was_given() {
        for (id, retry_ms, expected) in [
            (None, None, "data: {}\n\n"),
            (Some("a.1"), None, "id: a.1\ndata: {}\n\n"),
            (None, Some(2000), "retry: 2000\ndata: {}\n\n"),
            (Some("a"), Some(0), "retry: 0\nid: a\ndata: {}\n\n"),
        ] {
            let mut to = Vec::new();
            write_event(&mut to, id, retry_ms, b"{}");
            assert_eq!(String::from_utf8_lossy(&to), expected);
        }
    }
}
