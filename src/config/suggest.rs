//! The known name that a mistyped one was meant to be.

/// The longest name that is compared; a longer one is no slip of the fingers. Bounds the work at its square.
const NAME_BYTES_MAX: usize = 64;

/// The name closest to `typed`, where it is close enough to have been meant: a third of its letters may differ.
pub(super) fn closest<'a>(typed: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if typed.len() > NAME_BYTES_MAX {
        return None;
    }
    let scored = known.map(|name| (distance(typed.as_bytes(), name.as_bytes()), name));
    scored
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, name)| *distance <= name.len().div_ceil(3))
        .map(|(_, name)| name)
}

/// Letters to insert, drop or replace to make one of the other (Levenshtein).
fn distance(a: &[u8], b: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, expected) in
            [("", "", 0), ("", "abc", 3), ("abc", "abc", 0), ("kitten", "sitting", 3), ("ab", "ba", 2)]
        {
            assert_eq!(distance(a.as_bytes(), b.as_bytes()), expected, "{a} {b}");
            assert_eq!(distance(b.as_bytes(), a.as_bytes()), expected, "{b} {a}");
        }
    }

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
