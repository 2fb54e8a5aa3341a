//! Cuts outputs to the size that a message may have.

use std::io::{self, Write};
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::model::{RunState, StepId};

/// The largest size of all outputs in `workflow_completed`, in bytes of their text or JSON. With the keys of the
/// largest plan (10,000 ids of 128 bytes) the message stays under 2.5 MiB.
pub(super) const RUN_OUTPUT_BYTES_MAX: usize = 1024 * 1024;

/// An output as a message carries it.
#[derive(Debug, PartialEq)]
pub(super) struct Shown {
    /// The output, or the beginning of its text or JSON.
    pub value: Arc<Value>,
    /// The whole one's size, where it was cut.
    pub cut_from: Option<u64>,
}

/// `output`, cut where its text or JSON is longer than `max` bytes.
pub(super) fn cut(output: &Arc<Value>, max: usize) -> Shown {
    let size = size(output);
    if size <= max {
        return Shown { value: output.clone(), cut_from: None };
    }
    let beginning = match &**output {
        Value::String(text) => text[..text.floor_char_boundary(max)].to_owned(),
        json => json_beginning(json, max),
    };
    Shown { value: Arc::new(Value::String(beginning)), cut_from: Some(size as u64) }
}

/// The outputs of a run that completed, and the steps whose output is cut. Once the budget is used up a cut output is
/// the empty string.
pub(super) fn run_outputs(state: &RunState, budget: usize) -> (Map<String, Value>, Vec<StepId>) {
    let mut left = budget;
    let (mut outputs, mut truncated) = (Map::new(), Vec::new());
    for step in state.steps.iter().filter(|step| step.handler.is_none()) {
        let Some(output) = &step.output else {
            outputs.insert(step.id.to_string(), Value::Null);
            continue;
        };
        let shown = cut(output, left);
        left = left.saturating_sub(size(&shown.value));
        if step.truncated || shown.cut_from.is_some() {
            truncated.push(step.id.clone());
        }
        outputs.insert(step.id.to_string(), Value::clone(&shown.value));
    }
    (outputs, truncated)
}

/// Bytes of the text of a string, of the JSON of anything else.
fn size(value: &Value) -> usize {
    if let Value::String(text) = value {
        return text.len();
    }
    let mut counter = Beginning { kept: Vec::new(), max: 0, seen: 0 };
    // Neither the writer nor a value can fail.
    let _ = serde_json::to_writer(&mut counter, value);
    counter.seen
}

fn json_beginning(value: &Value, max: usize) -> String {
    let mut beginning = Beginning { kept: Vec::new(), max, seen: 0 };
    let _ = serde_json::to_writer(&mut beginning, value);
    let whole_characters = beginning.kept.utf8_chunks().next().map_or(0, |chunk| chunk.valid().len());
    beginning.kept.truncate(whole_characters);
    String::from_utf8(beginning.kept).unwrap_or_default()
}

/// Counts what is written and keeps the first `max` bytes of it.
struct Beginning {
    kept: Vec<u8>,
    max: usize,
    seen: usize,
}

impl Write for Beginning {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = self.max - self.kept.len();
        self.kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.seen += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_output_is_cut_past_the_limit_and_never_inside_a_character() {
        let table = [
            ("a string that fits", json!("abcd"), 4, json!("abcd"), None),
            ("a string that does not", json!("abcde"), 4, json!("abcd"), Some(5)),
            ("a character over the limit", json!("abc€"), 4, json!("abc"), Some(6)),
            ("JSON that fits", json!([1, 2]), 5, json!([1, 2]), None),
            ("JSON that does not", json!([1, 2]), 4, json!("[1,2"), Some(5)),
            ("JSON, a character over the limit", json!(["€"]), 4, json!("[\""), Some(7)),
            ("no room at all", json!({"a": 1}), 0, json!(""), Some(7)),
        ];
        for (name, output, max, value, cut_from) in table {
            let expected = Shown { value: Arc::new(value), cut_from };
            assert_eq!(cut(&Arc::new(output), max), expected, "{name}");
        }
    }
}
