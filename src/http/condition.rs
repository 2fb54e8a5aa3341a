//! What of a representation is asked for, and under which conditions: `Range`, `If-Range`, `If-None-Match` (RFC 9110,
//! sections 13 and 14).

use super::range::{Selection, select};
use super::{Method, Request};

/// The conditions of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conditions {
    range: Option<String>,
    if_range: Option<String>,
    if_none_match: Option<String>,
}

impl Conditions {
    /// Those that `request` makes. Only `GET` has ranges.
    pub fn of(request: &Request<'_>) -> Self {
        // One that is no text names no tag and no range that there is.
        let text = |name| request.headers.first(name).map(|value| String::from_utf8_lossy(value).into_owned());
        let range = if request.method == Method::Get { text("range") } else { None };
        Self { range, if_range: text("if-range"), if_none_match: text("if-none-match") }
    }

    /// Has the client what `tag` names?
    pub fn is_known(&self, tag: Option<&str>) -> bool {
        self.if_none_match.as_deref().zip(tag).is_some_and(|(known, tag)| names(known, tag))
    }

    /// What is selected out of `length` bytes that `tag` names, where they stay as they are. A range that is meant for
    /// others is none: also where it names a time, for nothing here has one.
    pub fn select(&self, tag: Option<&str>, length: u64) -> Selection {
        let is_for_these = self.if_range.as_deref().is_none_or(|wanted| Some(wanted) == tag);
        select(self.range.as_deref().filter(|_| is_for_these), length)
    }
}

/// Does an `If-None-Match` name this entity tag, a strong one? Compared weakly (RFC 9110, section 13.1.2).
fn names(known: &str, tag: &str) -> bool {
    known.trim() == "*" || known.split(',').any(|one| one.trim().trim_start_matches("W/") == tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAG: &str = "\"1-a\"";

    fn conditions(range: Option<&str>, if_range: Option<&str>, if_none_match: Option<&str>) -> Conditions {
        let [range, if_range, if_none_match] = [range, if_range, if_none_match].map(|text| text.map(str::to_owned));
        Conditions { range, if_range, if_none_match }
    }

    #[test]
    fn a_range_that_is_meant_for_other_bytes_is_none() {
        use Selection::{Part, Whole};
        for (if_range, tag, expected) in [
            (None, Some(TAG), Part(2..4)),
            (None, None, Part(2..4)),
            (Some(TAG), Some(TAG), Part(2..4)),
            (Some(TAG), None, Whole),
            (Some("\"1-b\""), Some(TAG), Whole),
            (Some("W/\"1-a\""), Some(TAG), Whole),
            (Some("W/\"1-a\""), None, Whole),
            (Some("Sun, 06 Nov 1994 08:49:37 GMT"), Some(TAG), Whole),
            (Some(""), Some(TAG), Whole),
        ] {
            assert_eq!(conditions(Some("bytes=2-3"), if_range, None).select(tag, 10), expected, "{if_range:?} {tag:?}");
        }
        assert_eq!(conditions(None, Some(TAG), None).select(Some(TAG), 10), Whole);
    }

    #[test]
    fn a_tag_is_known_by_any_of_a_list() {
        for (known, expected) in [
            (TAG, true),
            ("*", true),
            ("W/\"1-a\"", true),
            ("\"x\", \"1-a\"", true),
            ("\"x\"", false),
            ("1-a", false),
            ("", false),
        ] {
            let asked = conditions(None, None, Some(known));
            assert_eq!((asked.is_known(Some(TAG)), asked.is_known(None)), (expected, false), "{known}");
        }
        assert!(!conditions(None, None, None).is_known(Some(TAG)));
    }
}
