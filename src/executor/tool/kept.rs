//! The output of an attempt: collects its bytes up to a limit, and converts them to a value.

use serde_json::Value;

use super::mask::Mask;
use crate::model::json::{LostNumber, lost_number, lost_numbers};

/// Bytes kept up to a limit; what comes later is counted and dropped, so that a flood costs no memory.
#[derive(Debug)]
pub(super) struct Kept {
    bytes: Vec<u8>,
    limit: usize,
    dropped: u64,
}

impl Kept {
    /// Keeps `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self { bytes: Vec::new(), limit, dropped: 0 }
    }

    /// Keeps of `bytes` what there is room for.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let room = self.limit - self.bytes.len();
        let (kept, rest) = bytes.split_at(room.min(bytes.len()));
        self.bytes.extend_from_slice(kept);
        self.dropped += rest.len() as u64;
    }

    /// Was anything dropped?
    pub(super) fn is_cut(&self) -> bool {
        self.dropped > 0
    }

    /// Is it the beginning of JSON, and not the whole?
    #[cfg(feature = "http-tool")]
    pub(super) fn is_json_cut_short(&self) -> bool {
        let json = crate::model::json::without_bom(&self.bytes);
        let error = serde_json::from_slice::<serde::de::IgnoredAny>(json).err();
        !json.trim_ascii().is_empty() && error.is_some_and(|error| error.is_eof())
    }

    /// The JSON that the bytes are, whole; otherwise their text without its last newline. Text that was cut says so in a
    /// last line. A number, word or string that is all of the output is JSON only where it would be written the same way:
    /// the version `1.10` and the hash `81111e1` are no numbers.
    ///
    /// # Errors
    /// If it is JSON with an integer that would be rounded. The error names its place.
    pub(super) fn into_value(self, mask: &Mask) -> Result<Value, String> {
        if self.is_cut() {
            return Ok(self.into_text(mask));
        }
        let text = String::from_utf8_lossy(&self.bytes);
        match json(&text)? {
            Some(value) => Ok(mask.value(value)),
            None => Ok(Value::String(mask.text(without_last_newline(&text)).into_owned())),
        }
    }

    /// The text of the bytes as it is.
    pub(super) fn into_text(self, mask: &Mask) -> Value {
        if !self.is_cut() {
            return Value::String(mask.text(&String::from_utf8_lossy(&self.bytes)).into_owned());
        }
        // A secret that the cut went through is not completed: what is held back of it stays back.
        let shown = mask.stream().push(&self.bytes);
        let text = String::from_utf8_lossy(&shown);
        Value::String(format!("{text}\n[truncated: the output is larger than {} bytes]", self.limit))
    }
}

fn without_last_newline(text: &str) -> &str {
    text.strip_suffix("\r\n").or_else(|| text.strip_suffix('\n')).unwrap_or(text)
}

/// The JSON value that `text` is, if it is one that keeps its meaning.
fn json(text: &str) -> Result<Option<Value>, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let Ok(value) = serde_json::from_str::<Value>(text) else {
        let is_list = text.trim_start().starts_with(['{', '[']);
        return match lost_number(text.as_bytes()).filter(|_| is_list) {
            None => Ok(None),
            Some(lost) => Err(not_kept(&lost)),
        };
    };
    if !value.is_array() && !value.is_object() {
        let written = value.to_string();
        return Ok((written == without_last_newline(text)).then_some(value));
    }
    match lost_numbers(text.as_bytes(), 1).pop() {
        None => Ok(Some(value)),
        Some(lost) => Err(not_kept(&lost)),
    }
}

fn not_kept(lost: &LostNumber) -> String {
    format!("the output contains a number that can't be stored exactly: {lost}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn value(bytes: &[u8]) -> Value {
        let mut kept = Kept::new(100);
        kept.push(bytes);
        kept.into_value(&Mask::new(["hunter2!"])).expect("a value")
    }

    #[test]
    fn bytes_make_json_where_they_parse_and_text_otherwise() {
        let table: [(&[u8], Value); 13] = [
            (b"", json!("")),
            (b"hello\n", json!("hello")),
            (b"hello\r\n", json!("hello")),
            (b"hello\n\n", json!("hello\n")),
            (b" two words ", json!(" two words ")),
            (b"{\"a\": [1, null]}\n", json!({"a": [1, null]})),
            (b"42\n", json!(42)),
            (b"true", json!(true)),
            (b"{\"a\": 1} {\"a\": 2}", json!("{\"a\": 1} {\"a\": 2}")),
            (b"123456789012345678901234567890", json!("123456789012345678901234567890")),
            (b"007", json!("007")),
            (b"a\xffb", json!("a\u{fffd}b")),
            (b"{\"p\": \"\\u0068unter2!\"}", json!({"p": "***"})),
        ];
        for (bytes, expected) in table {
            assert_eq!(value(bytes), expected, "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn a_bare_word_became_another_number() {
        for text in
            ["1.10", "81111e1", "7205e12", "-0", "1E5", "1e5", "+1", " 42", "1.0e0", "0x10", "\"h\\u0065y\"", "1e400"]
        {
            assert_eq!(value(format!("{text}\n").as_bytes()), json!(text));
        }
        for (text, expected) in [
            ("1.1", json!(1.1)),
            ("1.0", json!(1.0)),
            ("-1", json!(-1)),
            ("18446744073709551615", json!(u64::MAX)),
            ("null", json!(null)),
            ("\"hey\"", json!("hey")),
            ("\u{feff}42", json!(42)),
            ("\u{feff}{\"a\": 1e5}", json!({"a": 1e5})),
        ] {
            assert_eq!(value(format!("{text}\n").as_bytes()), expected, "{text}");
            assert_eq!(value(format!("{text}\r\n").as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn an_integer_of_more_than_64_bits_in_json_was_rounded() {
        let mut kept = Kept::new(100);
        kept.push(b"{\"items\": [{\"id\": 123456789012345678901}]}\n");
        let expected = "the output contains a number that can't be stored exactly: items[0].id: 123456789012345678901 is an \
                        integer of more than 64 bits and would be rounded; write it as a string";
        assert_eq!(kept.into_value(&Mask::default()), Err(expected.to_owned()));
    }

    #[test]
    fn json_with_a_number_beyond_all_doubles_became_text() {
        for (text, expected) in [
            ("{\"k\":1e400}", Err("k: 1e400 is beyond")),
            ("[1e-400]\n", Err("[0]: 1e-400 is closer to 0")),
            ("1e400", Ok("1e400")),
            ("{\"k\":1e400", Ok("{\"k\":1e400")),
        ] {
            let mut kept = Kept::new(100);
            kept.push(text.as_bytes());
            match (kept.into_value(&Mask::default()), expected) {
                (Ok(value), Ok(expected)) => assert_eq!(value, json!(expected)),
                (Err(error), Err(expected)) => assert!(error.contains(expected), "{error}"),
                (found, _) => panic!("{text}: {found:?}"),
            }
        }
    }

    #[test]
    fn a_flood_is_cut_and_says_so() {
        let mut kept = Kept::new(12);
        for _ in 0..1000 {
            kept.push(b"12345hunter2!");
        }
        let expected = "12345\n[truncated: the output is larger than 12 bytes]";
        assert_eq!(kept.into_value(&Mask::new(["hunter2!"])), Ok(json!(expected)), "half a secret is none");
    }
}
