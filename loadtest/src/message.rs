//! What a message says of itself: its type, its number, and when it was due.

use std::borrow::Cow;

use serde_json::Value;

use crate::clock::DIGITS;
use crate::sse::parse_digits;

/// The parts of a message that are checked here.
#[derive(Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// `type`.
    pub kind: Cow<'a, str>,
    /// `seq`.
    pub seq: u64,
    /// When the message was due, where a publisher of this program sent it.
    pub due_ns: Option<u64>,
    /// One word of the payload of the stream's own messages: `resume` or `reason`.
    pub word: Option<String>,
}

/// What payloads of this program's publishers begin with.
pub const DUE_PREFIX: &[u8] = b"{\"due\":";

/// Reads the data of an event; none where it is no message.
pub fn read(data: &[u8]) -> Option<Message<'_>> {
    read_published(data).or_else(|| read_any(data))
}

/// Reads the data of an event that a server passed on as it was published, without a number: it gets the one that is
/// due, so that only how many came can be checked.
pub fn read_unnumbered(data: &[u8], due_seq: u64) -> Option<Message<'_>> {
    let at = memchr::memmem::find(data, DUE_PREFIX)? + DUE_PREFIX.len();
    let due_ns = Some(parse_digits(data.get(at..at + DIGITS)?)?);
    Some(Message { kind: Cow::Borrowed("load"), seq: due_seq, due_ns, word: None })
}

/// The usual case, in the usual order of keys, without a JSON parser: at a million messages a second it would be the
/// parser that is measured. Types and project ids are of alphabets that need no escapes.
fn read_published(data: &[u8]) -> Option<Message<'_>> {
    let (kind, rest) = until_quote(data.strip_prefix(b"{\"type\":\"")?)?;
    let (_project, rest) = until_quote(rest.strip_prefix(b",\"projectId\":\"")?)?;
    let rest = rest.strip_prefix(b",\"seq\":")?;
    let comma = memchr::memchr(b',', rest)?;
    let payload = rest[comma..].strip_prefix(b",\"payload\":")?.strip_prefix(DUE_PREFIX)?;
    data.strip_suffix(b"}}")?;
    Some(Message {
        kind: Cow::Borrowed(str::from_utf8(kind).ok()?),
        seq: parse_digits(&rest[..comma])?,
        due_ns: Some(parse_digits(payload.get(..DIGITS)?)?),
        word: None,
    })
}

fn until_quote(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr2(b'"', b'\\', text)?;
    (text[end] == b'"').then(|| (&text[..end], &text[end + 1..]))
}

fn read_any(data: &[u8]) -> Option<Message<'static>> {
    let message: Value = serde_json::from_slice(data).ok()?;
    let payload = &message["payload"];
    Some(Message {
        kind: Cow::Owned(message["type"].as_str()?.to_owned()),
        seq: message["seq"].as_u64()?,
        due_ns: payload["due"].as_u64(),
        word: payload["resume"].as_str().or(payload["reason"].as_str()).map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_in_any_shape() {
        let message = |kind: &'static str, seq, due_ns, word: Option<&str>| {
            Some(Message { kind: Cow::Borrowed(kind), seq, due_ns, word: word.map(str::to_owned) })
        };
        for (data, expected) in [
            (
                r#"{"type":"load","projectId":"p","seq":12,"payload":{"due":1000000000000007,"fill":"x"}}"#,
                message("load", 12, Some(1_000_000_000_000_007), None),
            ),
            (r#"{"seq":3, "payload":{"due":5},"projectId":"p","type":"load"}"#, message("load", 3, Some(5), None)),
            (
                r#"{"type":"connected","projectId":"p","seq":0,"payload":{"resume":"fresh","heartbeat":15000}}"#,
                message("connected", 0, None, Some("fresh")),
            ),
            (
                r#"{"type":"stream_closing","projectId":"p","seq":9,"payload":{"reason":"busy"}}"#,
                message("stream_closing", 9, None, Some("busy")),
            ),
            (r#"{"type":"load","projectId":"p","seq":12,"payload":{"due":1000000000000007"#, None),
            (r#"{"type":"load","projectId":"p"}"#, None),
            ("", None),
        ] {
            assert_eq!(read(data.as_bytes()), expected, "{data}");
        }
    }

    #[test]
    fn a_message_without_a_number_gets_the_one_that_is_due() {
        let data = br#"{"type":"load","payload":{"due":1000000000000007,"x":"xx"}}"#;
        let message = read_unnumbered(data, 4).expect("a message");
        assert_eq!((message.seq, message.due_ns), (4, Some(1_000_000_000_000_007)));
        assert_eq!(read_unnumbered(b"{\"type\":\"load\"}", 4), None);
    }

    #[test]
    fn the_short_way_and_the_parser_agree() {
        let data = br#"{"type":"load","projectId":"p","seq":12,"payload":{"due":1000000000000007,"fill":"x"}}"#;
        assert_eq!(read_published(data), read_any(data));
    }
}
