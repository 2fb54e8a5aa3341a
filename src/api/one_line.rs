//! Puts a publisher's JSON payload on one line of an event stream without parsing it into a tree.

use memchr::memchr2;

/// How deep a payload may be nested: what common JSON parsers take without trouble.
pub const NESTING_MAX: usize = 128;

/// Why a payload is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadPayload {
    /// It is no object.
    NotAnObject,
    /// It is nested deeper than [`NESTING_MAX`].
    TooDeep,
}

/// `json`, which is valid JSON, without the whitespace between its tokens. Names, numbers and strings stay as they
/// were written.
///
/// # Errors
/// [`BadPayload`] where it is no object, or nested too deep.
pub fn one_line_object(json: &str) -> Result<Vec<u8>, BadPayload> {
    if !json.starts_with('{') {
        return Err(BadPayload::NotAnObject);
    }
    let mut line = Vec::with_capacity(json.len());
    let mut depth = 0;
    let mut rest = json.as_bytes();
    while let [byte, after @ ..] = rest {
        match byte {
            b'"' => {
                // Most of a message is text in quotes, which is passed over and copied as one.
                let (string, after) = rest.split_at(string_len(rest));
                line.extend_from_slice(string);
                rest = after;
                continue;
            }
            b' ' | b'\t' | b'\r' | b'\n' => {}
            b'{' | b'[' => {
                depth += 1;
                if depth > NESTING_MAX {
                    return Err(BadPayload::TooDeep);
                }
                line.push(*byte);
            }
            b'}' | b']' => {
                depth -= 1;
                line.push(*byte);
            }
            _ => line.push(*byte),
        }
        rest = after;
    }
    Ok(line)
}

/// Bytes of the string that `text` begins with, its quotes included.
fn string_len(text: &[u8]) -> usize {
    let mut end = 1;
    while let Some(distance) = text.get(end..).and_then(|unseen| memchr2(b'"', b'\\', unseen)) {
        end += distance + 1;
        if text[end - 1] == b'"' {
            return end;
        }
        // A backslash and what it escapes.
        end += 1;
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_keeps_everything_but_the_space_between_tokens() {
        for (json, expected) in [
            ("{}", Ok("{}")),
            ("{ \"a\" : [ 1,\r\n\t2 ] }", Ok("{\"a\":[1,2]}")),
            (r#"{"a b":" \" } \\"}"#, Ok(r#"{"a b":" \" } \\"}"#)),
            (r#"{"n": 1.00e400, "n": 12345678901234567890}"#, Ok(r#"{"n":1.00e400,"n":12345678901234567890}"#)),
            ("[]", Err(BadPayload::NotAnObject)),
            ("null", Err(BadPayload::NotAnObject)),
        ] {
            assert_eq!(one_line_object(json), expected.map(|line| line.as_bytes().to_vec()), "{json}");
        }
    }

    #[test]
    fn nesting_ends_where_parsers_would_give_up() {
        let nested = |depth: usize| format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
        assert!(one_line_object(&nested(NESTING_MAX)).is_ok());
        assert_eq!(one_line_object(&nested(NESTING_MAX + 1)), Err(BadPayload::TooDeep));
    }
}
