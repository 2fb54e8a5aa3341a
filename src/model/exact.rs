//! Reads JSON without changing it: every number and string keeps its exact text.
//!
//! Most programs that read and write JSON change the spelling of numbers: 2.0 becomes 2, and 1e3 becomes 1000.0.
//! Documents that are shown, compared or run again as their author wrote them are read here. The input must be valid
//! JSON; for other text the result is nothing or a placeholder.

use std::borrow::Cow;

/// How deep values may nest: deeper than the JSON reader allows, which reads everything first.
const DEPTH_MAX: usize = 256;

/// A JSON value, in pieces of the text that it was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exact<'a> {
    /// A number, a word, or a string with its quotes.
    Scalar(&'a str),
    /// An array.
    Array(Vec<Exact<'a>>),
    /// An object: names with their quotes, in their order, with duplicates.
    Object(Vec<(&'a str, Exact<'a>)>),
}

impl<'a> Exact<'a> {
    /// Reads the first value of `text`.
    pub fn read(text: &'a str) -> Option<Self> {
        Reader { text, at: 0 }.value(DEPTH_MAX)
    }

    /// The text of a string or of a name. `None` for another scalar.
    pub fn text(scalar: &'a str) -> Option<Cow<'a, str>> {
        let inside = scalar.strip_prefix('"')?.strip_suffix('"')?;
        match inside.contains('\\') {
            false => Some(Cow::Borrowed(inside)),
            true => serde_json::from_str(scalar).ok().map(Cow::Owned),
        }
    }

    /// Writes the value without white space and otherwise unchanged.
    pub fn write(&self, to: &mut Vec<u8>) {
        match self {
            Self::Scalar(text) => to.extend_from_slice(text.as_bytes()),
            Self::Array(items) => list(to, b"[]", items, |to, item| item.write(to)),
            Self::Object(members) => list(to, b"{}", members, |to, (name, value)| {
                to.extend_from_slice(name.as_bytes());
                to.push(b':');
                value.write(to);
            }),
        }
    }

    /// Writes the value so that all spellings of it give the same bytes: without white space, names in order and each
    /// once (the last one counts, as everywhere), strings in one spelling. Numbers stay as they were written: 1 and 1.0
    /// differ, because a tool that receives them can tell them apart.
    pub fn write_canonical(&self, to: &mut Vec<u8>) {
        match self {
            Self::Scalar(scalar) => match Self::text(scalar) {
                Some(text) => write_string(to, &text),
                None => to.extend_from_slice(scalar.as_bytes()),
            },
            Self::Array(items) => list(to, b"[]", items, |to, item| item.write_canonical(to)),
            Self::Object(members) => {
                let named = members.iter().map(|(name, value)| (Self::text(name).unwrap_or_default(), value));
                let named: std::collections::BTreeMap<_, _> = named.collect();
                list(to, b"{}", named, |to, (name, value)| {
                    write_string(to, &name);
                    to.push(b':');
                    value.write_canonical(to);
                });
            }
        }
    }
}

fn list<T>(to: &mut Vec<u8>, brackets: &[u8; 2], items: impl IntoIterator<Item = T>, write: impl Fn(&mut Vec<u8>, T)) {
    to.push(brackets[0]);
    for (at, item) in items.into_iter().enumerate() {
        if at > 0 {
            to.push(b',');
        }
        write(to, item);
    }
    to.push(brackets[1]);
}

fn write_string(to: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(to, text).expect("text is JSON, and memory takes it");
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn value(&mut self, depth: usize) -> Option<Exact<'a>> {
        let depth = depth.checked_sub(1)?;
        match self.peek()? {
            b'{' => self
                .items(b'}', |reader| {
                    let name = reader.scalar()?;
                    reader.take(b':')?;
                    Some((name, reader.value(depth)?))
                })
                .map(Exact::Object),
            b'[' => self.items(b']', |reader| reader.value(depth)).map(Exact::Array),
            _ => self.scalar().map(Exact::Scalar),
        }
    }

    fn items<T>(&mut self, end: u8, mut item: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        self.at += 1;
        let mut items = Vec::new();
        while self.peek()? != end {
            if !items.is_empty() {
                self.take(b',')?;
                self.peek()?;
            }
            items.push(item(self)?);
        }
        self.at += 1;
        Some(items)
    }

    /// Reads a string, a number or a word.
    fn scalar(&mut self) -> Option<&'a str> {
        let first = self.peek()?;
        let rest = self.text.get(self.at..)?;
        let length = match first {
            b'"' => string_length(rest.as_bytes())?,
            _ => rest.bytes().position(|byte| b",:]}[{\" \t\r\n".contains(&byte)).unwrap_or(rest.len()),
        };
        self.at += length;
        rest.get(..length).filter(|scalar| !scalar.is_empty())
    }

    /// The next byte that is not white space.
    fn peek(&mut self) -> Option<u8> {
        let rest = self.text.as_bytes().get(self.at..)?;
        self.at += rest.iter().position(|byte| !b" \t\r\n".contains(byte))?;
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        let is_it = self.peek()? == byte;
        self.at += 1;
        is_it.then_some(())
    }
}

/// The length in bytes of the string at the start of `bytes`, including its quotes.
fn string_length(bytes: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        match bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str, write: impl Fn(&Exact<'_>, &mut Vec<u8>)) -> Option<String> {
        let mut bytes = Vec::new();
        write(&Exact::read(text)?, &mut bytes);
        String::from_utf8(bytes).ok()
    }

    #[test]
    fn numbers_and_strings_stay_as_they_were_written() {
        let text = r#"{"b":[9007199254740993,2.0,1e3,-0,1.10],"a":{"x\"y":"\u0041 \\"},"b":[],"c":{},"d":null,"e":""}"#;
        let spaced = text.replace(',', " ,\n\t").replace(':', ": ").replace('[', "[ ");
        assert_eq!(written(&spaced, |value, to| value.write(to)).as_deref(), Some(text));
        assert_eq!(written("  2.50 ", |value, to| value.write(to)).as_deref(), Some("2.50"));
    }

    #[test]
    fn the_same_value_has_one_canonical_text() {
        let canonical = |text| written(text, |value, to| value.write_canonical(to));
        for (one, other, same) in [
            (r#"{"a":1,"b":[true]}"#, "{ \"b\" : [ true ],\n\"a\" : 1 }", true),
            (r#"{"A":"A"}"#, r#"{"\u0041":"\u0041"}"#, true),
            (r#"{"a":1,"a":2}"#, r#"{"a":2}"#, true),
            ("1", "1.0", false),
            ("[1,2]", "[2,1]", false),
            (r#""1""#, "1", false),
            (r#"{"a":null}"#, "{}", false),
            (r#"["a,b"]"#, r#"["a","b"]"#, false),
        ] {
            assert_eq!(canonical(one) == canonical(other), same, "{one} {other}");
            assert!(canonical(one).is_some());
        }
    }

    #[test]
    fn what_is_no_json_ends_in_nothing() {
        let deep = "[".repeat(100_000);
        for text in
            ["", " ", "{", "[1", "[1 2]", "{\"a\"}", "{\"a\":}", "\"abc", "\"abc\\", "[,]", "{:1}", "{1:,}", &deep]
        {
            assert_eq!(Exact::read(text), None, "{text:.20}");
        }
    }
}
