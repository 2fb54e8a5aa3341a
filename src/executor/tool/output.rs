//! The output of an attempt: what is kept of its bytes, and the value that they make.

use serde_json::Value;

use super::mask::Mask;

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

    /// The JSON that the bytes are, whole; otherwise their text without its last newline. Text that was cut says so in a
    /// last line.
    pub(super) fn into_value(self, mask: &Mask) -> Value {
        if self.is_cut() {
            return self.into_text(mask);
        }
        let text = String::from_utf8_lossy(&self.bytes);
        match json(&text) {
            Some(value) => mask.value(value),
            None => Value::String(mask.text(without_last_newline(&text)).into_owned()),
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
        Value::String(format!("{text}\n[cut here: the output is over {} bytes]", self.limit))
    }
}

fn without_last_newline(text: &str) -> &str {
    text.strip_suffix("\r\n").or_else(|| text.strip_suffix('\n')).unwrap_or(text)
}

/// The JSON value that `text` is, if it is one that keeps its meaning: a whole number of more digits than a JSON number
/// of ours can hold stays text.
fn json(text: &str) -> Option<Value> {
    let value: Value = serde_json::from_str(text).ok()?;
    let is_rounded = value.is_f64() && text.trim().bytes().all(|b| b.is_ascii_digit() || b == b'-');
    (!is_rounded).then_some(value)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn value(bytes: &[u8]) -> Value {
        let mut kept = Kept::new(100);
        kept.push(bytes);
        kept.into_value(&Mask::new(["hunter2!"]))
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
    fn a_flood_is_cut_and_says_so() {
        let mut kept = Kept::new(12);
        for _ in 0..1000 {
            kept.push(b"12345hunter2!");
        }
        let expected = "12345\n[cut here: the output is over 12 bytes]";
        assert_eq!(kept.into_value(&Mask::new(["hunter2!"])), json!(expected), "half a secret is none");
    }
}
