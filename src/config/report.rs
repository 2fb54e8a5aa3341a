//! Collects the mistakes in the file, each with its line, and reads TOML values for those who report them.

use toml::de::{DeArray, DeValue};

use super::provenance::Provenance;
use super::suggest;

/// Where mistakes in the file go.
pub(super) struct Report<'a> {
    /// The file's name.
    pub(super) name: &'a str,
    /// The file's text.
    pub(super) text: &'a str,
    /// Where each setting was set.
    pub(super) provenance: &'a mut Provenance,
    pub(super) issues: &'a mut Vec<String>,
}

impl Report<'_> {
    /// Something is wrong at this byte of the file.
    pub(super) fn issue(&mut self, at: usize, what: &str) {
        let place = self.place(at);
        self.issues.push(format!("{place}: {what}"));
    }

    /// The setting at `path` was set at this byte of the file.
    pub(super) fn note(&mut self, path: &'static str, at: usize) {
        let place = self.place(at);
        self.provenance.note(path, &place);
    }

    fn place(&self, at: usize) -> String {
        format!("{}:{}", self.name, line_of(self.text, at))
    }

    /// Mistakes so far.
    pub(super) fn count(&self) -> usize {
        self.issues.len()
    }

    /// There is no such key; perhaps one of `known` was meant. `path` names the table that holds it.
    pub(super) fn unknown_key<'k>(&mut self, at: usize, path: &str, known: impl Iterator<Item = &'k str> + Clone) {
        let shown: String = path.chars().flat_map(char::escape_debug).collect();
        let hint = match suggest::closest(path, known.clone()) {
            Some(meant) => format!("did you mean {meant}?"),
            None => format!("expected one of {}", known.collect::<Vec<_>>().join(", ")),
        };
        self.issue(at, &format!("unknown key {shown}; {hint}"));
    }
}

/// The line of this byte of a text, from 1.
pub(super) fn line_of(text: &str, at: usize) -> usize {
    1 + text.as_bytes().iter().take(at).filter(|b| **b == b'\n').count()
}

/// The items of a list of strings. `None` if one is something else.
pub(super) fn strings<'a>(items: &'a DeArray<'_>) -> Option<Vec<&'a str>> {
    items.iter().map(|item| item.get_ref().as_str()).collect()
}

/// The value of an integer, whatever its radix.
pub(super) fn integer_of(value: &DeValue<'_>) -> Option<i128> {
    let integer = value.as_integer()?;
    i128::from_str_radix(integer.as_str(), integer.radix()).ok()
}

/// What a value is, for an error that must not show it.
pub(super) fn kind_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
