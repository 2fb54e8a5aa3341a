//! Masks secrets in everything that people see: each occurrence becomes `***`.
//!
//! The secrets of a tool are values of its declaration; see [`secret_parts`]. A [`MaskStream`] does the same for bytes
//! that arrive in pieces, and holds back only the beginning of a possible secret.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt;

use memchr::memmem::Finder;
use serde_json::{Map, Value};

use crate::executor::template::is_template;
use crate::executor::template::{Segment, segments};

/// What a secret is replaced by.
const SHOWN: &[u8] = b"***";

/// The shortest value taken as a secret, in bytes: what is shorter occurs by chance.
const SECRET_MIN: usize = 4;

/// What the name of a variable or header contains where its value is a secret.
const SECRET_NAMES: [&str; 5] = ["KEY", "TOKEN", "SECRET", "PASS", "CREDENTIAL"];

/// The shortest line of a secret of several lines, and the shortest literal piece of a template, that is masked by itself.
const PART_MIN: usize = 8;

/// How many bytes are searched at a time; bounds the memory that a search takes.
const SEARCH_BYTES: usize = 64 * 1024;

/// The parts of a configured value that are secret: the whole of it; each line of 8 bytes or more, where it has several;
/// what follows a scheme (`Bearer x`). Of a template, the literal pieces of 8 bytes or more: what is filled in comes from
/// a plan, whose author knows it anyway.
pub(super) fn secret_parts(value: &str) -> Vec<&str> {
    if is_template(value) {
        return literals(value).into_iter().filter(|piece| piece.len() >= PART_MIN).collect();
    }
    let mut parts = vec![value, value.trim()];
    parts.extend(value.trim().split_once(' ').map(|(_, credentials)| credentials.trim()));
    if value.trim().contains('\n') {
        parts.extend(value.lines().map(str::trim).filter(|line| line.len() >= PART_MIN));
    }
    parts
}

/// Is the value of what is called so a secret?
pub(super) fn is_secret_name(name: &str) -> bool {
    sign_of_secret(name).is_some()
}

fn sign_of_secret(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_uppercase();
    SECRET_NAMES.into_iter().find(|sign| name.contains(sign))
}

/// Refuses a secret that is too short to be masked; one that is empty gives nothing away.
pub(super) fn check_secret(field: &str, name: &str, value: &str) -> Result<(), String> {
    let Some(sign) = sign_of_secret(name) else { return Ok(()) };
    check_length(field, value)
        .map_err(|problem| format!("{problem} (it counts as a secret because its name contains {sign})"))
}

/// The same for what is a secret whatever it is called.
pub(super) fn check_length(field: &str, value: &str) -> Result<(), String> {
    let len = value.trim().len();
    if is_template(value) || len == 0 || len >= SECRET_MIN {
        return Ok(());
    }
    Err(format!(
        "{field}: a secret must have at least {SECRET_MIN} bytes so that it can be masked in outputs; found {len}"
    ))
}

/// What stands in a template as it is: the text around expressions, and the quoted strings inside them.
fn literals(source: &str) -> Vec<&str> {
    // One that does not parse is refused elsewhere.
    let Ok(segments) = segments(source) else { return vec![source] };
    let literals = segments.into_iter().flat_map(|segment| match segment {
        Segment::Text(text) => vec![text.trim()],
        Segment::Expression(expression) => {
            ['"', '\''].iter().flat_map(|&quote| expression.split(quote).skip(1).step_by(2)).collect()
        }
    });
    literals.collect()
}

/// The secrets of a tool.
#[derive(Clone, Default)]
pub(super) struct Mask {
    secrets: Vec<Finder<'static>>,
    longest: usize,
}

impl fmt::Debug for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mask({} secrets)", self.secrets.len())
    }
}

impl Mask {
    /// Masks each of `values` of 4 bytes or more, and the way it is written inside a JSON string.
    pub(super) fn new<'a>(values: impl IntoIterator<Item = &'a str>) -> Self {
        let mut needles = Vec::new();
        for value in values.into_iter().filter(|value| value.len() >= SECRET_MIN) {
            let json = Value::from(value).to_string();
            needles.push(json[1..json.len() - 1].to_owned());
            needles.push(value.to_owned());
        }
        needles.sort_unstable();
        needles.dedup();
        let longest = needles.iter().map(String::len).max().unwrap_or_default();
        let secrets = needles.iter().map(|needle| Finder::new(needle).into_owned()).collect();
        Self { secrets, longest }
    }

    /// `text` without the secrets.
    pub(super) fn text<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if !self.hides(text) {
            return text.into();
        }
        let mut stream = self.stream();
        let mut shown = stream.push(text.as_bytes());
        shown.extend(stream.finish());
        String::from_utf8_lossy(&shown).into_owned().into()
    }

    /// `value` without the secrets: in its strings and keys, and in numbers, which then become strings.
    pub(super) fn value(&self, value: Value) -> Value {
        if self.secrets.is_empty() {
            return value;
        }
        match value {
            Value::String(text) => Value::String(self.text(&text).into_owned()),
            Value::Number(number) => match self.text(&number.to_string()) {
                Cow::Owned(masked) => Value::String(masked),
                Cow::Borrowed(_) => Value::Number(number),
            },
            Value::Array(items) => items.into_iter().map(|item| self.value(item)).collect(),
            Value::Object(members) => Value::Object(self.members(members)),
            other => other,
        }
    }

    /// Keys that become the same are numbered, so that no member is lost.
    fn members(&self, members: Map<String, Value>) -> Map<String, Value> {
        let mut masked = Map::with_capacity(members.len());
        let taken: HashSet<String> = members.keys().filter(|key| !self.hides(key)).cloned().collect();
        let mut numbers: HashMap<String, u64> = HashMap::new();
        for (key, value) in members {
            let mut shown = self.text(&key).into_owned();
            if self.hides(&key) {
                let number = numbers.entry(shown.clone()).or_default();
                shown = loop {
                    *number += 1;
                    let numbered = if *number == 1 { shown.clone() } else { format!("{shown} ({number})") };
                    if !taken.contains(&numbered) && !masked.contains_key(&numbered) {
                        break numbered;
                    }
                };
            }
            masked.insert(shown, self.value(value));
        }
        masked
    }

    fn hides(&self, text: &str) -> bool {
        self.secrets.iter().any(|secret| secret.find(text.as_bytes()).is_some())
    }

    /// Masks bytes that come in pieces.
    pub(super) fn stream(&self) -> MaskStream<'_> {
        MaskStream { mask: self, pending: Vec::new(), covered: 0 }
    }

    /// Where secrets lie in `bytes`, as ranges in order; those that overlap are one.
    fn ranges(&self, bytes: &[u8]) -> Vec<(usize, usize)> {
        let mut all: Vec<(usize, usize)> = Vec::new();
        for secret in &self.secrets {
            let len = secret.needle().len();
            let first = all.len();
            let mut from = 0;
            while let Some(at) = bytes.get(from..).and_then(|rest| secret.find(rest)) {
                let start = from + at;
                from = start + 1;
                match all[first..].last_mut() {
                    Some(last) if start < last.1 => last.1 = start + len,
                    _ => all.push((start, start + len)),
                }
            }
        }
        all.sort_unstable();
        all.dedup_by(|next, kept| {
            let overlaps = next.0 < kept.1;
            if overlaps {
                kept.1 = kept.1.max(next.1);
            }
            overlaps
        });
        all
    }

    /// Where in `bytes` the earliest secret begins that more bytes may complete.
    fn incomplete_from(&self, bytes: &[u8]) -> usize {
        let first = (bytes.len() + 1).saturating_sub(self.longest);
        let is_beginning = |&at: &usize| self.secrets.iter().any(|secret| secret.needle().starts_with(&bytes[at..]));
        (first..bytes.len()).find(is_beginning).unwrap_or(bytes.len())
    }
}

/// Masks bytes that come in pieces, as if they had come in one.
pub(super) struct MaskStream<'m> {
    mask: &'m Mask,
    /// Not yet shown. Between calls shorter than the longest secret.
    pending: Vec<u8>,
    /// So many bytes of `pending` belong to a secret that is already shown as masked.
    covered: usize,
}

impl MaskStream<'_> {
    /// Takes `bytes` and returns what can be shown by now.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        if self.mask.secrets.is_empty() {
            return bytes.to_vec();
        }
        let mut shown = Vec::with_capacity(bytes.len());
        for piece in bytes.chunks(SEARCH_BYTES) {
            self.pending.extend_from_slice(piece);
            self.show(self.mask.incomplete_from(&self.pending), &mut shown);
        }
        shown
    }

    /// Nothing follows: returns what was held back.
    pub(super) fn finish(&mut self) -> Vec<u8> {
        let mut shown = Vec::new();
        self.show(self.pending.len(), &mut shown);
        shown
    }

    fn show(&mut self, until: usize, shown: &mut Vec<u8>) {
        let mut at = self.covered;
        for (start, end) in self.mask.ranges(&self.pending) {
            if start >= at {
                if start >= until {
                    break;
                }
                shown.extend_from_slice(&self.pending[at..start]);
                shown.extend_from_slice(SHOWN);
            }
            at = at.max(end);
        }
        if at < until {
            shown.extend_from_slice(&self.pending[at..until]);
            at = until;
        }
        self.pending.drain(..until);
        self.covered = at - until;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_are_masked_in_texts() {
        let mask = Mask::new(["hunter2!", "abc\"def", "overlap1", "lap1next", "abc"]);
        for (text, expected) in [
            ("nothing here", "nothing here"),
            ("a hunter2! b hunter2!hunter2!", "a *** b ******"),
            ("overlap1next", "***"),
            ("say abc\"def", "say ***"),
            (r#"{"k": "abc\"def"}"#, r#"{"k": "***"}"#),
            ("abc is too short to be a secret", "abc is too short to be a secret"),
            ("hunter2", "hunter2"),
            ("ähunter2!ö", "ä***ö"),
        ] {
            assert_eq!(mask.text(text), expected);
        }
        assert_eq!(Mask::default().text("as it is"), "as it is");
    }

    #[test]
    fn secrets_are_masked_in_json() {
        let mask = Mask::new(["12345678", "hunter2!"]);
        let value = json!({"hunter2!": ["x hunter2!", 12_345_678, 1, null], "b": true});
        assert_eq!(mask.value(value), json!({"***": ["x ***", "***", 1, null], "b": true}));
    }

    #[test]
    fn members_were_lost_where_their_masked_keys_were_the_same() {
        let mask = Mask::new(["secret-1", "secret-2", "secret-3"]);
        let value = json!({"secret-1": 1, "*** (2)": 2, "secret-2": 3, "a secret-1": 4, "secret-3": 5, "b": 6});
        let expected = json!({"***": 1, "*** (2)": 2, "*** (3)": 3, "a ***": 4, "*** (4)": 5, "b": 6});
        assert_eq!(mask.value(value), expected);
        assert_eq!(mask.value(json!({"secret-1": 1, "***": 2})), json!({"*** (2)": 1, "***": 2}));
    }

    #[test]
    fn a_secret_that_was_too_short_to_be_masked_was_shown() {
        assert_eq!(
            check_secret("env.DB_PASS", "DB_PASS", " abc "),
            Err(
                "env.DB_PASS: a secret must have at least 4 bytes so that it can be masked in outputs; found 3 (it counts as a \
                 secret because its name contains PASS)"
                    .to_owned()
            )
        );
        for (name, value) in [("API_KEY", ""), ("API_KEY", "abcd"), ("MODE", "a"), ("TOKEN", "{{ inputs.x }}")] {
            assert_eq!(check_secret("f", name, value), Ok(()), "{name} {value}");
        }
    }

    #[test]
    fn any_split_into_pieces_gives_the_same() {
        let mask = Mask::new(["aaaa", "aabaab", "abcabcd", "wxyz"]);
        for text in ["xaaaaaaay", "aabaabaab", "abcabcabcd!", "aaaabaabcabcdwxywxyz", "wxyzwxyzwx", "aaa"] {
            let whole = mask.text(text).into_owned();
            for (i, j) in (0..=text.len()).flat_map(|i| (i..=text.len()).map(move |j| (i, j))) {
                let mut stream = mask.stream();
                let mut shown = Vec::new();
                for piece in [&text[..i], &text[i..j], &text[j..]] {
                    shown.extend(stream.push(piece.as_bytes()));
                    assert!(stream.pending.len() < mask.longest, "the look-back is bounded");
                }
                shown.extend(stream.finish());
                assert_eq!(String::from_utf8_lossy(&shown), whole, "{text} split at {i} and {j}");
            }
        }
    }

    #[test]
    fn what_can_be_no_secret_is_not_held_back() {
        let mask = Mask::new(["hunter2!"]);
        let mut stream = mask.stream();
        assert_eq!(stream.push(b"progress 10 %\n"), b"progress 10 %\n");
        assert_eq!(stream.push(b"a hunt"), b"a ");
        assert_eq!(stream.push(b"ing"), b"hunting");
    }

    #[test]
    fn the_parts_of_a_value_are_secret_too() {
        let parts = |value| secret_parts(value).into_iter().filter(|p| p.len() >= SECRET_MIN).collect::<Vec<_>>();
        assert!(parts("Bearer abc123").contains(&"abc123"));
        assert!(parts("first-line\nsecond-line\nx\n").contains(&"second-line"));
        assert_eq!(secret_parts("Bearer {{ inputs.token }}"), Vec::<&str>::new());
        assert_eq!(secret_parts("k=static-part; {{ inputs.x | default('fallback-key') }}").len(), 2);
    }
}
