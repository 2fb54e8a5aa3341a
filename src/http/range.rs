//! Parses the `Range` header: a single range of bytes (RFC 9110, section 14). [`Conditions`](super::Conditions) decide
//! whether a request's range applies at all.

use std::ops::Range;

/// The selected part of a representation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// All of it, status 200: there is no range, or it is malformed, or there are several, which a server may ignore.
    Whole,
    /// These bytes, at least one: status 206 with [`content_range`].
    Part(Range<u64>),
    /// Only bytes that don't exist: status 416 with [`unsatisfied`].
    Unsatisfiable,
}

/// The part of `length` bytes that the value of a `Range` header selects.
pub fn select(value: Option<&str>, length: u64) -> Selection {
    let Some((first, last)) = value.and_then(single_range) else { return Selection::Whole };
    let part = match (first, last) {
        (Some(first), Some(last)) if first > last => return Selection::Whole,
        (Some(first), last) => first..last.map_or(length, |last| last.saturating_add(1).min(length)),
        (None, Some(suffix)) => length.saturating_sub(suffix)..length,
        (None, None) => return Selection::Whole,
    };
    if part.is_empty() { Selection::Unsatisfiable } else { Selection::Part(part) }
}

/// The `Content-Range` of a part of `length` bytes.
pub fn content_range(part: &Range<u64>, length: u64) -> String {
    format!("bytes {}-{}/{length}", part.start, part.end.saturating_sub(1))
}

/// The `Content-Range` if a range selects nothing of `length` bytes.
pub fn unsatisfied(length: u64) -> String {
    format!("bytes */{length}")
}

/// The first and last position of a single range of bytes. If there is only the last, it is the length of a suffix.
fn single_range(value: &str) -> Option<(Option<u64>, Option<u64>)> {
    let (unit, set) = value.split_once('=')?;
    let (first, last) = set.trim_matches([' ', '\t']).split_once('-')?;
    unit.eq_ignore_ascii_case("bytes").then_some(())?;
    Some((position(first)?, position(last)?))
}

/// A position, which may be absent. A number that is too large for an integer is beyond every end anyway.
fn position(digits: &str) -> Option<Option<u64>> {
    match digits {
        "" => Some(None),
        _ if !digits.bytes().all(|b| b.is_ascii_digit()) => None,
        _ => Some(Some(digits.parse().unwrap_or(u64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_ten_bytes() {
        use Selection::{Part, Unsatisfiable, Whole};
        for (value, expected) in [
            ("bytes=0-4", Part(0..5)),
            ("Bytes= 9-9\t", Part(9..10)),
            ("bytes=5-", Part(5..10)),
            ("bytes=5-99999999999999999999999", Part(5..10)),
            ("bytes=5-18446744073709551615", Part(5..10)),
            ("bytes=-3", Part(7..10)),
            ("bytes=-99", Part(0..10)),
            ("bytes=10-", Unsatisfiable),
            ("bytes=10-20", Unsatisfiable),
            ("bytes=99999999999999999999999-", Unsatisfiable),
            ("bytes=-0", Unsatisfiable),
            ("bytes=5-4", Whole),
            ("bytes=-", Whole),
            ("bytes=", Whole),
            ("bytes", Whole),
            ("bytes=0-1,3-4", Whole),
            ("bytes=0x1-2", Whole),
            ("bytes=+1-2", Whole),
            ("bytes=1--2", Whole),
            ("lines=0-1", Whole),
        ] {
            assert_eq!(select(Some(value), 10), expected, "{value}");
        }
        assert_eq!(select(None, 10), Whole);
        assert_eq!(select(Some("bytes=0-"), 0), Unsatisfiable);
        assert_eq!((content_range(&(0..5), 10), unsatisfied(10)), ("bytes 0-4/10".into(), "bytes */10".into()));
    }
}
