//! Writes the frames of an event stream for `EventSource`: section 9.2 ("Server-sent events") of the WHATWG HTML
//! Standard, <https://html.spec.whatwg.org/multipage/server-sent-events.html>.

use memchr::memchr;

use super::coding::{CHUNK_OVERHEAD_BYTES_MAX, begin_chunk, end_chunk};

/// The content type of a stream.
pub const EVENTS: &str = "text/event-stream";

/// The content type of a stream as lines for people.
pub const TEXT: &str = "text/plain; charset=utf-8";

/// What else the head of every stream says. `no-transform` keeps proxies from compressing, and `X-Accel-Buffering`
/// nginx from holding frames back.
pub const HEADERS: [(&str, &str); 2] = [("Cache-Control", "no-cache, no-transform"), ("X-Accel-Buffering", "no")];

/// A comment: it keeps the connection alive, and no script sees it. One line and no blank one, which some clients take for
/// an empty event.
pub const COMMENT: &[u8] = b":\n";

/// The [comment](COMMENT) as one chunk.
pub const COMMENT_CHUNK: &[u8] = b"2\r\n:\n\r\n";

const DATA: &[u8] = b"data: ";

/// Appends one block, as one [chunk](super::write_chunk): `retry:` and `id:` where given, `data:`, and the blank line that
/// dispatches it.
///
/// `data` is one line, and `id` holds neither a line end nor NUL, which would make a client ignore it. `retry_ms` in
/// milliseconds.
pub fn write_event(to: &mut Vec<u8>, id: Option<&str>, retry_ms: Option<u64>, data: &[u8]) {
    debug_assert!(!data.iter().any(|b| matches!(b, b'\n' | b'\r')), "data is one line");
    debug_assert!(id.is_none_or(|id| !id.bytes().any(|b| matches!(b, b'\n' | b'\r' | 0))), "an id is one line");
    let retry = retry_ms.map(|retry_ms| retry_ms.to_string());
    let fields =
        [(&b"retry: "[..], retry.as_deref().map(str::as_bytes)), (b"id: ", id.map(str::as_bytes)), (DATA, Some(data))];
    let fields = fields.iter().filter_map(|(name, value)| value.map(|value| (*name, value)));
    let size = fields.clone().map(|(name, value)| name.len() + value.len() + 1).sum::<usize>() + 1;
    to.reserve(size + CHUNK_OVERHEAD_BYTES_MAX);
    begin_chunk(to, size);
    for (name, value) in fields {
        to.extend_from_slice(name);
        to.extend_from_slice(value);
        to.push(b'\n');
    }
    to.push(b'\n');
    end_chunk(to);
}

/// The data of a block written by [`write_event`], without the framing of its chunk.
pub fn data(block: &[u8]) -> &[u8] {
    let mut rest = block;
    while !rest.starts_with(DATA) {
        let Some(end) = memchr(b'\n', rest) else { return b"" };
        rest = &rest[end + 1..];
    }
    rest[DATA.len()..].strip_suffix(b"\n\n").unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::coding::contents;

    #[test]
    fn a_block_has_what_it_was_given_and_is_whole_in_its_chunk() {
        for (id, retry_ms, expected) in [
            (None, None, "data: {}\n\n"),
            (Some("a.1"), None, "id: a.1\ndata: {}\n\n"),
            (None, Some(2000), "retry: 2000\ndata: {}\n\n"),
            (Some("a"), Some(1), "retry: 1\nid: a\ndata: {}\n\n"),
        ] {
            let mut to = Vec::new();
            write_event(&mut to, id, retry_ms, b"{}");
            assert_eq!(String::from_utf8_lossy(&to), format!("{:x}\r\n{expected}\r\n", expected.len()));
            assert_eq!(data(&contents(&to)), b"{}");
        }
    }

    #[test]
    fn a_comment_is_one_line_and_no_blank_one() {
        assert_eq!(contents(COMMENT_CHUNK), COMMENT);
    }
}
