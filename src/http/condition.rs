//! Evaluates `Range`, `If-Range` and `If-None-Match` (RFC 9110, sections 13 and 14): which part of a representation is
//! requested, and whether it must be sent.

use super::range::{Selection, select};
use super::{Method, Request};

/// How Apache ends a tag whose answer it has compressed: with `mod_deflate`, `mod_brotli`.
const CODING_SUFFIXES: [&str; 2] = ["-gzip", "-br"];

/// The conditions of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conditions {
    range: Option<String>,
    if_range: Option<String>,
    if_none_match: Option<String>,
}

impl Conditions {
    /// The conditions of `request`. Ranges only apply to `GET`.
    pub fn of(request: &Request<'_>) -> Self {
        // One that is no text names no tag and no range that there is.
        let text = |name| request.headers.first(name).map(|value| String::from_utf8_lossy(value).into_owned());
        let range = if request.method == Method::Get { text("range") } else { None };
        Self { range, if_range: text("if-range"), if_none_match: list_of(request, "if-none-match") }
    }

    /// Whether the client already has the version `tag`.
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

/// The preconditions of a change: `If-Match`, `If-None-Match` (RFC 9110, section 13.1).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Preconditions {
    if_match: Option<String>,
    if_none_match: Option<String>,
}

impl Preconditions {
    /// The conditions of `request`.
    pub fn of(request: &Request<'_>) -> Self {
        Self { if_match: list_of(request, "if-match"), if_none_match: list_of(request, "if-none-match") }
    }

    /// Whether they hold for the version `tag`, given without quotes; or for a resource that does not exist, if there
    /// is none.
    pub fn hold(&self, tag: Option<&str>) -> bool {
        let quoted = tag.map(|tag| format!("\"{tag}\""));
        let is_named = |known: &str| quoted.as_deref().is_some_and(|tag| names(known, tag));
        self.if_match.as_deref().is_none_or(is_named) && !self.if_none_match.as_deref().is_some_and(is_named)
    }
}

/// The combined list of all header lines with this name (RFC 9110, section 5.3).
pub fn list_of(request: &Request<'_>, name: &str) -> Option<String> {
    let lines: Vec<_> = request.headers.all(name).map(String::from_utf8_lossy).collect();
    (!lines.is_empty()).then(|| lines.join(", "))
}

/// Whether an `If-Match` or `If-None-Match` contains this strong entity tag.
///
/// A proxy that compresses an answer changes its tag (nginx and HAProxy to `W/"x"`, Apache to `"x-gzip"`), and does not
/// change it back. So the tag counts in these forms, too. RFC 9110 wants a strong comparison for `If-Match`, but a tag
/// names a version here, whatever its coding.
fn names(known: &str, tag: &str) -> bool {
    known.trim() == "*" || known.split(',').any(|one| is_form_of(one.trim().trim_start_matches("W/"), tag))
}

fn is_form_of(one: &str, tag: &str) -> bool {
    one == tag || unquoted(one).zip(unquoted(tag)).is_some_and(|(one, tag)| without_coding(one) == tag)
}

fn unquoted(tag: &str) -> Option<&str> {
    tag.strip_prefix('"')?.strip_suffix('"')
}

/// A tag, given without quotes, as it was before Apache compressed the answer.
pub fn without_coding(tag: &str) -> &str {
    CODING_SUFFIXES.into_iter().find_map(|suffix| tag.strip_suffix(suffix)).unwrap_or(tag)
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
    fn what_is_to_be_changed_is_as_its_conditions_say() {
        let (there, gone) = (Some("1-a"), None);
        for (if_match, if_none_match, tag, expected) in [
            (None, None, there, true),
            (None, None, gone, true),
            (Some("\"1-a\""), None, there, true),
            (Some("\"x\", \"1-a\""), None, there, true),
            (Some("\"x\""), None, there, false),
            (Some("\"1-a\""), None, gone, false),
            (Some("*"), None, there, true),
            (Some("*"), None, gone, false),
            (None, Some("*"), there, false),
            (None, Some("*"), gone, true),
            (None, Some("W/\"1-a\""), there, false),
            (None, Some("\"x\""), there, true),
        ] {
            let [if_match, if_none_match] = [if_match, if_none_match].map(|text| text.map(str::to_owned));
            let conditions = Preconditions { if_match, if_none_match };
            assert_eq!(conditions.hold(tag), expected, "{conditions:?} {tag:?}");
        }
    }

    #[test]
    fn a_tag_that_a_proxy_has_changed_is_the_same() {
        for (known, expected) in [
            ("W/\"1-a\"", true),
            ("\"1-a-gzip\"", true),
            ("\"x\", W/\"1-a-br\"", true),
            ("\"1-a-x\"", false),
            ("\"1-gzip\"", false),
            ("-gzip\"", false),
        ] {
            let conditions = Preconditions { if_match: Some(known.to_owned()), if_none_match: None };
            assert_eq!(conditions.hold(Some("1-a")), expected, "{known}");
            assert!(!conditions.hold(None), "{known}");
        }
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
