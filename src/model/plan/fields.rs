//! Reads one JSON object of a plan field by field. A field of the wrong type or out of range becomes an issue, and
//! reading continues. `null` counts as absent.

use std::fmt;
use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::{Issues, StepPath};
use crate::model::StepId;

/// An object with at most this many fields is searched from start to end, which is faster than hashing a name.
const SCANNED_FIELDS_MAX: usize = 16;

/// The location of an object in its document.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Location<'a> {
    /// The index of the step that contains it, if any.
    pub step: Option<usize>,
    /// Where that step is in the document.
    pub listed: Option<StepPath>,
    /// The id of that step, if it is usable.
    pub step_id: Option<&'a StepId>,
    /// The field that holds the object, unless it is the step or the plan itself.
    pub inside: Option<&'static str>,
}

impl fmt::Display for Location<'_> {
    /// The part of a field's path before its name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(listed) = self.listed {
            write!(f, "{listed}.")?;
        }
        self.inside.map_or(Ok(()), |field| write!(f, "{field}."))
    }
}

/// Reads the fields of one object.
pub(super) struct Fields<'a, 'i> {
    object: &'a Map<String, Value>,
    /// Which of the 64 groups of names have a field in the object. Most names that are asked for are absent, and this
    /// answers nearly all of them.
    groups: u64,
    /// The location of the object.
    pub location: Location<'i>,
    /// The issues found so far.
    pub issues: &'i mut Issues,
}

impl<'a, 'i> Fields<'a, 'i> {
    /// Reads the fields of an object at this location.
    pub fn new(object: &'a Map<String, Value>, location: Location<'i>, issues: &'i mut Issues) -> Self {
        let groups = match object.len() {
            0..=SCANNED_FIELDS_MAX => object.keys().fold(0, |groups, name| groups | group(name)),
            _ => u64::MAX,
        };
        Self { object, groups, location, issues }
    }

    /// The value of a field that is present and not null.
    pub fn value(&self, field: &str) -> Option<&'a Value> {
        if self.groups & group(field) == 0 {
            return None;
        }
        let value = match self.object.len() {
            0..=SCANNED_FIELDS_MAX => self.object.iter().find(|(name, _)| *name == field).map(|(_, value)| value),
            _ => self.object.get(field),
        };
        value.filter(|value| !value.is_null())
    }

    /// Reports an issue of a field.
    pub fn report(&mut self, field: &str, message: fmt::Arguments<'_>) {
        let Location { step, step_id, .. } = self.location;
        self.issues.report(step, step_id, format_args!("{}{field}", self.location), message);
    }

    /// Text of at most `chars_max` characters.
    pub fn text(&mut self, field: &str, chars_max: usize) -> Option<&'a str> {
        let value = self.value(field)?;
        self.bounded(field, value, chars_max)
    }

    /// Text that is required and not blank.
    pub fn required_text(&mut self, field: &str, chars_max: usize) -> Option<&'a str> {
        let Some(value) = self.value(field) else {
            self.report(field, format_args!("is required and must be a string"));
            return None;
        };
        let text = self.bounded(field, value, chars_max)?;
        if text.trim().is_empty() {
            self.report(field, format_args!("must not be empty"));
            return None;
        }
        Some(text)
    }

    fn bounded(&mut self, field: &str, value: &'a Value, chars_max: usize) -> Option<&'a str> {
        let Some(text) = value.as_str() else {
            self.report(field, format_args!("must be a string, not {}", kind(value)));
            return None;
        };
        if text.len() > chars_max && text.chars().count() > chars_max {
            self.report(field, format_args!("must have at most {chars_max} characters"));
            return None;
        }
        Some(text)
    }

    /// A whole number within `range`.
    pub fn integer(&mut self, field: &str, range: RangeInclusive<u64>) -> Option<u64> {
        let value = self.value(field)?;
        let number = value.as_u64().filter(|number| range.contains(number));
        if number.is_none() {
            let (from, to) = range.into_inner();
            self.report(field, format_args!("must be an integer from {from} to {to}, not {}", short(value)));
        }
        number
    }

    /// A whole number of either sign.
    pub fn signed(&mut self, field: &str) -> Option<i64> {
        let value = self.value(field)?;
        if value.as_i64().is_none() {
            self.report(field, format_args!("must be an integer, not {}", short(value)));
        }
        value.as_i64()
    }

    /// `true` or `false`.
    pub fn flag(&mut self, field: &str) -> Option<bool> {
        let value = self.value(field)?;
        if !value.is_boolean() {
            self.report(field, format_args!("must be true or false, not {}", short(value)));
        }
        value.as_bool()
    }

    /// One of a few words.
    pub fn word<T: Copy>(&mut self, field: &str, words: &[(&str, T)]) -> Option<T> {
        let value = self.value(field)?;
        let known = words.iter().find(|(word, _)| value.as_str() == Some(word));
        if known.is_none() {
            let words: Vec<_> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
            self.report(field, format_args!("must be {}, not {}", words.join(" or "), short(value)));
        }
        known.map(|&(_, meaning)| meaning)
    }

    /// An object.
    pub fn object(&mut self, field: &str) -> Option<&'a Map<String, Value>> {
        let value = self.value(field)?;
        if !value.is_object() {
            self.report(field, format_args!("must be an object, not {}", kind(value)));
        }
        value.as_object()
    }

    /// An array.
    pub fn array(&mut self, field: &str) -> Option<&'a Vec<Value>> {
        let value = self.value(field)?;
        if !value.is_array() {
            self.report(field, format_args!("must be an array, not {}", kind(value)));
        }
        value.as_array()
    }
}

/// The group of a name, as one bit. It depends on the length and first byte, which distinguish the fields of a step.
fn group(name: &str) -> u64 {
    let first = name.as_bytes().first().copied().unwrap_or_default();
    1 << ((name.len() * 5 + usize::from(first)) % 64)
}

/// The kind of a value, with its article.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// A short value itself, or the kind of a longer one.
fn short(value: &Value) -> String {
    match value {
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => crate::model::Quoted(text).to_string(),
        other => kind(other).to_owned(),
    }
}
