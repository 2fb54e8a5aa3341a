//! Strict percent-decoding: invalid encodings are errors and are never passed through.

use std::borrow::Cow;
use std::fmt;

use super::Problem;

/// A path or query that is not validly percent-encoded UTF-8, or has too many parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadEncoding {
    pub(super) reason: &'static str,
}

impl fmt::Display for BadEncoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason)
    }
}

impl std::error::Error for BadEncoding {}

impl From<BadEncoding> for Problem {
    fn from(error: BadEncoding) -> Self {
        Self::new(400, "bad_encoding", error.reason)
    }
}

/// The meaning of a `+`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plus {
    /// Itself, as in a path.
    Plus,
    /// A space, as in `application/x-www-form-urlencoded`.
    Space,
}

/// Undoes the percent-encoding of `text`.
pub(super) fn decode(text: &str, plus: Plus) -> Result<Cow<'_, str>, BadEncoding> {
    let is_special = |b| b == b'%' || (b == b'+' && plus == Plus::Space);
    if !text.bytes().any(is_special) {
        return Ok(Cow::Borrowed(text));
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(b) = rest.next() {
        decoded.push(match b {
            b'%' => hex_pair(rest.next(), rest.next()).ok_or(BadEncoding {
                reason: "the target contains a % that is not followed by two hexadecimal digits",
            })?,
            b'+' if plus == Plus::Space => b' ',
            plain => plain,
        });
    }
    String::from_utf8(decoded)
        .map(Cow::Owned)
        .map_err(|_| BadEncoding { reason: "the target is not valid UTF-8 after percent-decoding" })
}

fn hex_pair(high: Option<u8>, low: Option<u8>) -> Option<u8> {
    let digit = |b: Option<u8>| char::from(b?).to_digit(16).and_then(|value| u8::try_from(value).ok());
    Some(digit(high)? << 4 | digit(low)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoding_is_strict() {
        for (text, in_path, in_form) in [
            ("", Some(""), Some("")),
            ("a+b", Some("a+b"), Some("a b")),
            ("%41%2f%2F%25", Some("A//%"), Some("A//%")),
            ("%2B+", Some("++"), Some("+ ")),
            ("%c3%a9", Some("é"), Some("é")),
            ("%00", Some("\0"), Some("\0")),
            ("%", None, None),
            ("%4", None, None),
            ("%4g", None, None),
            ("%+1", None, None),
            ("%%41", None, None),
            ("%ff", None, None),
            ("%c0%af", None, None),
            ("%e0%80%af", None, None),
            ("%f4%90%80%80", None, None),
            ("%c3", None, None),
            ("%ed%a0%80", None, None),
        ] {
            assert_eq!(decode(text, Plus::Plus).ok().as_deref(), in_path, "{text} in a path");
            assert_eq!(decode(text, Plus::Space).ok().as_deref(), in_form, "{text} in a form");
        }
    }
}
