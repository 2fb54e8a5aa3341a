//! The envelope of every message: `{"type", "projectId", "seq", "payload"}`, on one line.

use memchr::memchr2_iter;
use serde::Serialize;

use super::ProjectId;

/// The longest message type, in characters.
pub const MESSAGE_TYPE_MAX: usize = 64;

/// Whether this is a valid message type: 1 to 64 characters of `a-z 0-9 _ . -`.
pub fn is_valid_type(text: &str) -> bool {
    (1..=MESSAGE_TYPE_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'.' | b'-'))
}

/// Whether the server itself sends messages of this type, so that a publisher needs the scope `admin` for it.
pub fn is_reserved_type(text: &str) -> bool {
    ["workflow_", "stream_", "connected"].iter().any(|prefix| text.starts_with(prefix))
}

/// Appends a message to `to`. `payload` is JSON on one line; `kind` is a [valid type](is_valid_type), so that
/// nothing needs escaping.
pub fn write_message(to: &mut Vec<u8>, kind: &str, project: &ProjectId, seq: u64, payload: &[u8]) {
    debug_assert!(!payload.contains(&b'\n') && !payload.contains(&b'\r'), "a payload is one line");
    write_head(to, kind, project, seq);
    push_on_one_line(to, payload);
    to.push(b'}');
}

/// Appends a message with a payload that is serialized here.
///
/// # Errors
/// If the payload can't be serialized; `to` then ends with the beginning of the message.
pub fn write_message_of(
    to: &mut Vec<u8>,
    kind: &str,
    project: &ProjectId,
    seq: u64,
    payload: &impl Serialize,
) -> serde_json::Result<()> {
    write_head(to, kind, project, seq);
    let start = to.len();
    serde_json::to_writer(&mut *to, payload)?;
    if line_ends(&to[start..]).next().is_some() {
        let payload = to.split_off(start);
        push_on_one_line(to, &payload);
    }
    to.push(b'}');
    Ok(())
}

fn write_head(to: &mut Vec<u8>, kind: &str, project: &ProjectId, seq: u64) {
    debug_assert!(is_valid_type(kind));
    let mut seq_text = [0; 20];
    for part in [
        b"{\"type\":\"",
        kind.as_bytes(),
        b"\",\"projectId\":\"",
        project.as_str().as_bytes(),
        b"\",\"seq\":",
        decimal(seq, &mut seq_text),
        b",\"payload\":",
    ] {
        to.extend_from_slice(part);
    }
}

/// Appends `json` with U+0085, U+2028 and U+2029 escaped. They don't end lines in an event stream, but some clients
/// believe so (`findings/line-separator-in-data-cuts-it.sh`). In valid JSON they occur only inside strings.
pub fn push_on_one_line(to: &mut Vec<u8>, json: &[u8]) {
    let mut written = 0;
    for (at, length, escape) in line_ends(json) {
        to.extend_from_slice(&json[written..at]);
        to.extend_from_slice(escape);
        written = at + length;
    }
    to.extend_from_slice(&json[written..]);
}

/// The places of these characters, with their lengths and escapes.
fn line_ends(json: &[u8]) -> impl Iterator<Item = (usize, usize, &'static [u8; 6])> + '_ {
    memchr2_iter(0xC2, 0xE2, json).filter_map(|at| match &json[at..] {
        [0xC2, 0x85, ..] => Some((at, 2, b"\\u0085")),
        [0xE2, 0x80, 0xA8, ..] => Some((at, 3, b"\\u2028")),
        [0xE2, 0x80, 0xA9, ..] => Some((at, 3, b"\\u2029")),
        _ => None,
    })
}

/// `n` in decimal, written to the end of `buffer`. Several times as fast as `write!`.
pub fn decimal(mut n: u64, buffer: &mut [u8; 20]) -> &[u8] {
    let mut at = buffer.len();
    loop {
        at -= 1;
        buffer[at] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 {
            return &buffer[at..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line_of_json() {
        let project = ProjectId::parse("a:b").expect("an id");
        for seq in [0, 7, 10, u64::MAX] {
            let mut line = Vec::new();
            write_message(&mut line, "greeting", &project, seq, br#"{"x":1}"#);
            let expected = format!(r#"{{"type":"greeting","projectId":"a:b","seq":{seq},"payload":{{"x":1}}}}"#);
            assert_eq!(String::from_utf8_lossy(&line), expected);
        }
    }

    #[test]
    fn what_some_clients_take_for_a_line_end_is_escaped() {
        let project = ProjectId::parse("p").expect("an id");
        for text in
            ["\u{85}", "\u{2028}\u{2029}", "a\u{2028}b\u{85}", "\u{2027}\u{202a}\u{84}\u{86}\u{a0}€ä…", "😀\u{2029}"]
        {
            let payload = serde_json::json!({"text": text, text: 1});
            let mut line = Vec::new();
            write_message(&mut line, "note", &project, 1, payload.to_string().as_bytes());
            let mut made = Vec::new();
            write_message_of(&mut made, "note", &project, 1, &payload).expect("JSON");
            assert_eq!(made, line, "the same, however the payload comes");
            let line = String::from_utf8(line).expect("UTF-8");
            assert!(!line.contains(['\u{85}', '\u{2028}', '\u{2029}']), "{line:?}");
            let message: serde_json::Value = serde_json::from_str(&line).expect("JSON");
            assert_eq!(message["payload"], payload);
            assert_eq!(
                line.contains("\\u"),
                text.contains(['\u{85}', '\u{2028}', '\u{2029}']),
                "{line:?}: nothing else is"
            );
        }
    }

    #[test]
    fn types_are_checked_and_the_servers_own_are_reserved() {
        for good in ["a", "chat.message-1_x", &"x".repeat(64)] {
            assert!(is_valid_type(good) && !is_reserved_type(good), "{good}");
        }
        for bad in ["", "A", "a b", "ä", "a\"", &"x".repeat(65)] {
            assert!(!is_valid_type(bad), "{bad}");
        }
        for reserved in ["workflow_x", "stream_", "connected", "connected2"] {
            assert!(is_reserved_type(reserved), "{reserved}");
        }
    }
}
