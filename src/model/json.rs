//! JSON as it comes from outside: what may stand before it, and the integers in it that would be rounded.
//!
//! A JSON number of ours is a 64-bit integer or, with a fraction or an exponent, a double, as RFC 8259 (section 6) expects
//! of everyone. An integer beyond that would silently become another number, so it is named instead.

use std::fmt;

use super::{Exact, Quoted};

/// The most bytes of a key that a place shows as it is.
const KEY_BYTES_MAX: usize = 128;

/// Fewer digits than this fit into 64 bits, whatever they are.
const DIGITS_MIN: usize = 19;

/// `text` without the byte order mark that some editors and servers put before it.
pub fn without_bom(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text)
}

/// An integer that 64 bits do not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WideInteger {
    /// Where, as `steps[2].inputs.n`; empty where it is the whole text.
    pub path: String,
    /// As written.
    pub digits: String,
}

impl WideInteger {
    /// What is wrong with it, without its place.
    pub fn message(&self) -> String {
        format!("{} is an integer of more than 64 bits and would be rounded; write it as a string", shown(&self.digits))
    }
}

impl fmt::Display for WideInteger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message())
    }
}

/// The first `max` integers of `json` that would be rounded. `json` is known to parse.
pub fn wide_integers(json: &[u8], max: usize) -> Vec<WideInteger> {
    if !has_long_digits(json) {
        return Vec::new();
    }
    let mut found = Vec::new();
    if let Some(value) = str::from_utf8(json).ok().and_then(Exact::read) {
        collect(&value, &mut String::new(), max, &mut found);
    }
    found
}

/// Adds those of `value`, which lies at `path`, until there are `max`.
fn collect(value: &Exact<'_>, path: &mut String, max: usize, found: &mut Vec<WideInteger>) {
    let length = path.len();
    match value {
        Exact::Scalar(text) if found.len() < max && is_wide(text) => {
            found.push(WideInteger { path: path.clone(), digits: (*text).to_owned() });
        }
        Exact::Scalar(_) => {}
        Exact::Array(items) => items.iter().enumerate().for_each(|(at, item)| {
            path.push_str(&format!("[{at}]"));
            collect(item, path, max, found);
            path.truncate(length);
        }),
        Exact::Object(members) => members.iter().for_each(|(key, value)| {
            push_key(path, &Exact::text(key).unwrap_or_default());
            collect(value, path, max, found);
            path.truncate(length);
        }),
    }
}

fn push_key(path: &mut String, key: &str) {
    if key.len() > KEY_BYTES_MAX || key.contains(char::is_control) {
        path.push_str(&format!("[{}]", Quoted(key)));
    } else {
        path.push_str(if path.is_empty() { "" } else { "." });
        path.push_str(key);
    }
}

/// Does it hold so many digits in a row? Looks at few of its bytes.
fn has_long_digits(json: &[u8]) -> bool {
    let mut at = DIGITS_MIN - 1;
    while let Some(byte) = json.get(at) {
        if !byte.is_ascii_digit() {
            at += DIGITS_MIN;
            continue;
        }
        let before = json[..at].iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
        let after = json[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        if before + after >= DIGITS_MIN {
            return true;
        }
        at += after + DIGITS_MIN - 1;
    }
    false
}

fn shown(digits: &str) -> String {
    match digits.get(..40) {
        Some(start) if digits.len() > 40 => format!("{start}..."),
        _ => digits.to_owned(),
    }
}

fn is_wide(scalar: &str) -> bool {
    let digits = scalar.strip_prefix('-').unwrap_or(scalar);
    let is_integer = digits.bytes().all(|b| b.is_ascii_digit());
    is_integer && digits.len() >= DIGITS_MIN && scalar.parse::<i64>().is_err() && scalar.parse::<u64>().is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_of_more_than_64_bits_are_found_with_their_place() {
        let max = u64::MAX;
        let min = i64::MIN;
        for (json, expected) in [
            ("1".to_owned(), vec![]),
            (format!("[{max}, {min}, -0, 1.5, 18446744073709551616.0, 1e30]"), vec![]),
            ("\"18446744073709551616\"".to_owned(), vec![]),
            ("18446744073709551616".to_owned(), vec![""]),
            ("-9223372036854775809".to_owned(), vec![""]),
            ("[1, -9223372036854775809]".to_owned(), vec!["[1]"]),
            (
                r#"{"a": {"b": [0, [18446744073709551616]]}, "c,{\"": 18446744073709551616, "": 99999999999999999999}"#
                    .to_owned(),
                vec!["a.b[1][0]", "c,{\"", ""],
            ),
            (
                r#"{"a": {}, "b": [], "c": ["x,]", {"d": "\\"}, 99999999999999999999], "e": 99999999999999999999}"#
                    .to_owned(),
                vec!["c[2]", "e"],
            ),
            (r#"{"\u0061\n": 99999999999999999999}"#.to_owned(), vec!["[\"a\\n\"]"]),
        ] {
            let found = wide_integers(json.as_bytes(), 10);
            let paths: Vec<_> = found.iter().map(|wide| wide.path.as_str()).collect();
            assert_eq!(paths, expected, "{json}");
            let _: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        }
        assert_eq!(wide_integers(b"[99999999999999999999, 99999999999999999999]", 1).len(), 1);
    }

    #[test]
    fn long_digits_are_found_wherever_they_stand() {
        for length in 0..60 {
            for start in 0..60 {
                let text = [" ".repeat(start), "7".repeat(length), " ".repeat(start)].concat();
                assert_eq!(has_long_digits(text.as_bytes()), length >= DIGITS_MIN, "{start} {length}");
                let text = format!("1 22 333 {text} 1 22 333");
                assert_eq!(has_long_digits(text.as_bytes()), length >= DIGITS_MIN, "{start} {length}");
            }
        }
    }

    #[test]
    fn what_is_said_of_one_is_short() {
        let wide = WideInteger { path: "a".to_owned(), digits: "1".repeat(1000) };
        let expected = format!(
            "a: {}... is an integer of more than 64 bits and would be rounded; write it as a string",
            "1".repeat(40)
        );
        assert_eq!(wide.to_string(), expected);
    }

    #[test]
    fn one_byte_order_mark_is_left_out() {
        assert_eq!(without_bom("\u{feff}{}".as_bytes()), b"{}");
        assert_eq!(without_bom(b"{}"), b"{}");
        assert_eq!(without_bom("\u{feff}\u{feff}".as_bytes()), "\u{feff}".as_bytes());
    }
}
