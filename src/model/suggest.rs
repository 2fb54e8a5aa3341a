//! "Did you mean": the known name that an unknown one most likely stands for.

use std::fmt;

use strsim::levenshtein;

use super::Quoted;

/// The longest name that is compared, in bytes. The time of a comparison grows with its square.
const NAME_BYTES_MAX: usize = 60;

/// The most known names that are compared. If there are more, nothing is suggested. A plan may have
/// [`ISSUES_MAX`](super::ISSUES_MAX) unknown names, and its check must stay fast.
const KNOWN_MAX: usize = 256;

/// The most edits between a name and its suggestion. Swapping two characters takes two edits.
const EDITS_MAX: usize = 3;

/// Shows `; did you mean "echo"?` if a known name is close to the unknown one, and nothing otherwise.
pub struct DidYouMean<'a>(Option<&'a str>);

impl<'a> DidYouMean<'a> {
    /// Compares `name` with the `known` names.
    pub fn new(name: &str, known: impl ExactSizeIterator<Item = &'a str>) -> Self {
        Self(closest(name, known))
    }
}

impl fmt::Display for DidYouMean<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |name| write!(f, "; did you mean {}?", Quoted(name)))
    }
}

/// The closest known name, if at most half of it differs.
fn closest<'a>(name: &str, known: impl ExactSizeIterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > NAME_BYTES_MAX || known.len() > KNOWN_MAX {
        return None;
    }
    let far = (name.chars().count() / 2).min(EDITS_MAX);
    let near = known.filter(|candidate| name.len().abs_diff(candidate.len()) <= far);
    let edits = near.map(|candidate| (levenshtein(name, candidate), candidate)).filter(|&(edits, _)| edits <= far);
    edits.min().map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_names_are_recognised() {
        let known = ["delay", "echo", "http_get"];
        for (name, meant) in [
            ("ehco", Some("echo")),
            ("ech", Some("echo")),
            ("httpget", Some("http_get")),
            ("dealy", Some("delay")),
            ("delays", Some("delay")),
            ("x", None),
            (&*"e".repeat(10_000), None),
        ] {
            assert_eq!(closest(name, known.into_iter()), meant, "{name}");
        }
    }

    #[test]
    fn nothing_is_suggested_out_of_too_many() {
        let known = vec!["echo"; KNOWN_MAX + 1];
        assert_eq!(closest("ech", known[1..].iter().copied()), Some("echo"));
        assert_eq!(closest("ech", known.iter().copied()), None);
    }
}
