//! The envelope every message travels in: `{"type", "projectId", "seq", "payload"}`, on one line.

use super::ProjectId;

/// The longest message type, in characters.
pub const MESSAGE_TYPE_MAX: usize = 64;

/// Is this a type that a message may have: 1 to 64 characters of `a-z 0-9 _ . -`?
pub fn is_valid_type(text: &str) -> bool {
    (1..=MESSAGE_TYPE_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'.' | b'-'))
}

/// Is this a type that the server speaks in, so that a publisher needs the scope `admin` for it?
pub fn is_reserved_type(text: &str) -> bool {
    ["workflow_", "stream_", "connected"].iter().any(|prefix| text.starts_with(prefix))
}

/// Appends a message to `to`. `payload` is JSON on one line; `kind` is a [valid type](is_valid_type), so that
/// nothing needs escaping.
pub fn write_message(to: &mut Vec<u8>, kind: &str, project: &ProjectId, seq: u64, payload: &[u8]) {
    debug_assert!(is_valid_type(kind));
    debug_assert!(!payload.contains(&b'\n') && !payload.contains(&b'\r'), "a payload is one line");
    let mut seq_text = [0; 20];
    for part in [
        b"{\"type\":\"",
        kind.as_bytes(),
        b"\",\"projectId\":\"",
        project.as_str().as_bytes(),
        b"\",\"seq\":",
        decimal(seq, &mut seq_text),
        b",\"payload\":",
        payload,
        b"}",
    ] {
        to.extend_from_slice(part);
    }
}

/// `n` in decimal, written from the end of `buffer`. Several times as fast as `write!`.
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
