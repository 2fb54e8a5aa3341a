//! A publisher's payload, made fit for a line of an event stream without building a tree of it.

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
    let (mut depth, mut in_string, mut is_escaped) = (0, false, false);
    for &byte in json.as_bytes() {
        if in_string {
            in_string = is_escaped || byte != b'"';
            is_escaped = byte == b'\\' && !is_escaped;
        } else {
            match byte {
                b' ' | b'\t' | b'\r' | b'\n' => continue,
                b'"' => in_string = true,
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth -= 1,
                _ => {}
            }
            if depth > NESTING_MAX {
                return Err(BadPayload::TooDeep);
            }
        }
        line.push(byte);
    }
    Ok(line)
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
