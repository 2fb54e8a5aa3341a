//! Finds the known name that a misspelt name was probably meant to be.

use strsim::levenshtein;

/// The longest name that is compared; a longer one is no slip of the fingers. Bounds the work at its square.
const NAME_BYTES_MAX: usize = 64;

/// The name closest to `typed`, where it is close enough to have been meant: a third of its letters may differ.
pub(super) fn closest<'a>(typed: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if typed.len() > NAME_BYTES_MAX {
        return None;
    }
    let scored = known.map(|name| (levenshtein(typed, name), name));
    scored
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, name)| *distance <= name.len().div_ceil(3))
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_close_name_is_suggested() {
        let known = ["sse.heartbeat", "sse.retry", "listen"];
        let table = [
            ("sse.hartbeat", Some("sse.heartbeat")),
            ("sse.heart_beat", Some("sse.heartbeat")),
            ("listn", Some("listen")),
            ("colour", None),
        ];
        for (typed, expected) in table {
            assert_eq!(closest(typed, known.into_iter()), expected, "{typed}");
        }
        assert_eq!(closest(&"listen".repeat(100), known.into_iter()), None);
    }
}
