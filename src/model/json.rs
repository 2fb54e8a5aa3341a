//! Checks JSON from outside: what may precede it, and numbers that can't be represented.
//!
//! A JSON number here is a 64-bit integer or, with a fraction or an exponent, the nearest double, as RFC 8259 (section
//! 6) suggests for interoperability. A larger integer would silently be rounded, a number beyond the range of doubles
//! could not be represented, and very small numbers would become 0. Such numbers are reported instead.

use std::fmt;

use super::{Exact, Quoted};

/// The longest key that a path shows as it is, in bytes.
const KEY_BYTES_MAX: usize = 128;

/// Every integer with fewer digits fits into 64 bits.
const DIGITS_MIN: usize = 19;

/// `text` without the byte order mark that some editors and servers put before it.
pub fn without_bom(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text)
}

/// An integer that does not fit into 64 bits, or a number that has no double near it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostNumber {
    /// The place, such as `steps[2].inputs.n`. Empty if the number is the whole text.
    pub path: String,
    /// The number as it was written.
    pub digits: String,
}

impl LostNumber {
    /// The problem, without the place.
    pub fn message(&self) -> String {
        let digits = shown(&self.digits);
        let why = match loss(&self.digits) {
            Some(Loss::Rounded) => "is an integer of more than 64 bits and would be rounded; write it as a string",
            Some(Loss::Infinite) => "is beyond the range of a double (about 1.8e308); write it as a string",
            Some(Loss::Zero) => "is closer to 0 than any double and would become 0; write it as a string",
            None => "is not a valid JSON number",
        };
        format!("{digits} {why}")
    }
}

impl fmt::Display for LostNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message())
    }
}

/// The first number of `text` that would be lost, if `text` is JSON. A parser that converts numbers rejects one beyond
/// all doubles, and does not say where it is.
pub fn lost_number(text: &[u8]) -> Option<LostNumber> {
    let lost = lost_numbers(text, 1).pop()?;
    serde_json::from_slice::<serde::de::IgnoredAny>(text).is_ok().then_some(lost)
}

/// The first `max` numbers of `json` that would be lost. `json` must be valid JSON.
pub fn lost_numbers(json: &[u8], max: usize) -> Vec<LostNumber> {
    if !has_long_digits(json) && !has_long_exponent(json) {
        return Vec::new();
    }
    let mut found = Vec::new();
    if let Some(value) = str::from_utf8(json).ok().and_then(Exact::read) {
        collect(&value, &mut String::new(), max, &mut found);
    }
    found
}

/// Adds the lost numbers of `value`, which is at `path`, until there are `max`.
fn collect(value: &Exact<'_>, path: &mut String, max: usize, found: &mut Vec<LostNumber>) {
    let length = path.len();
    match value {
        Exact::Scalar(text) if found.len() < max && loss(text).is_some() => {
            found.push(LostNumber { path: path.clone(), digits: (*text).to_owned() });
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

/// Whether there are that many digits in a row. Looks at only a few of the bytes.
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

/// Whether there is an exponent of three digits. With two, and few digits before them, every number is near a double.
fn has_long_exponent(json: &[u8]) -> bool {
    memchr::memchr2_iter(b'e', b'E', json).any(|at| {
        let follows = &json[at + 1..];
        let digits = follows.strip_prefix(b"-").or_else(|| follows.strip_prefix(b"+")).unwrap_or(follows);
        at > 0 && json[at - 1].is_ascii_digit() && digits.iter().take_while(|b| b.is_ascii_digit()).count() >= 3
    })
}

/// How a number is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loss {
    /// The integer does not fit into 64 bits.
    Rounded,
    /// The number is beyond all doubles.
    Infinite,
    /// It is not 0, and 0 is the nearest double.
    Zero,
}

/// How the number `scalar` is lost. `None` if it is not lost or not a number.
fn loss(scalar: &str) -> Option<Loss> {
    let digits = scalar.strip_prefix('-').unwrap_or(scalar);
    if !digits.bytes().next()?.is_ascii_digit() {
        return None;
    }
    if digits.bytes().all(|b| b.is_ascii_digit()) {
        let is_wide = scalar.parse::<i64>().is_err() && scalar.parse::<u64>().is_err();
        return is_wide.then_some(Loss::Rounded);
    }
    let mantissa = digits.split(['e', 'E']).next().unwrap_or_default();
    match digits.parse::<f64>() {
        Ok(double) if double.is_infinite() => Some(Loss::Infinite),
        Ok(0.0) if mantissa.bytes().any(|b| (b'1'..=b'9').contains(&b)) => Some(Loss::Zero),
        _ => None,
    }
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
            let found = lost_numbers(json.as_bytes(), 10);
            let paths: Vec<_> = found.iter().map(|wide| wide.path.as_str()).collect();
            assert_eq!(paths, expected, "{json}");
            let _: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        }
        assert_eq!(lost_numbers(b"[99999999999999999999, 99999999999999999999]", 1).len(), 1);
    }

    #[test]
    fn numbers_that_no_double_is_near_to_were_lost_without_a_word() {
        let long = format!("0.{}1", "0".repeat(400));
        for (number, said) in [
            ("1e400", Some("is beyond the range of a double")),
            ("-1.5E+309", Some("is beyond the range of a double")),
            ("1e-400", Some("would become 0")),
            (&long, Some("would become 0")),
            (&format!("1{}.0", "0".repeat(400)), Some("is beyond the range of a double")),
            ("5e-324", None),
            ("0e400", None),
            ("0.0e-999", None),
            ("1.7976931348623157e308", None),
            ("\"1e400\"", None),
            ("0.1000000000000000055511151231257827", None),
        ] {
            let json = format!("{{\"a\": [0, {number}]}}");
            let lost = lost_number(json.as_bytes()).map(|lost| lost.to_string());
            assert_eq!(lost.is_some(), said.is_some(), "{number}");
            if let (Some(lost), Some(said)) = (lost, said) {
                assert!(lost.starts_with("a[1]: ") && lost.contains(said), "{lost}");
            }
        }
        assert_eq!(lost_number(b"[1e400"), None, "is no JSON");
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
        let wide = LostNumber { path: "a".to_owned(), digits: "1".repeat(1000) };
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
