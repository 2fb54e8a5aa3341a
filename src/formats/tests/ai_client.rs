//! What a client of the AI SDK makes of chunks, and which it refuses: what `readUIMessageStream` does, as far as it matters
//! here.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::formats::{CallHad, Had};

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Client {
    pub parts: Vec<Value>,
    /// The parts of texts that go on.
    texts: BTreeMap<String, usize>,
    /// What the end was told by, but for `[DONE]`.
    pub end: Vec<Value>,
    pub is_done: bool,
    /// It goes on with its message, and does not begin it anew.
    goes_on: bool,
}

impl Client {
    /// Takes what a stream sends.
    pub fn take(&mut self, chunks: &[Value]) {
        chunks.iter().for_each(|chunk| self.take_one(chunk));
    }

    /// It sends what it has of the message, and what people have answered.
    pub fn answer(&mut self) -> Had {
        (self.goes_on, self.is_done) = (true, false);
        self.end.clear();
        self.texts.clear();
        let mut had = Had::default();
        for part in &self.parts {
            if part["type"] == "text" && part["state"] == "done" {
                had.note_text(&text(part, "text"));
            } else if let Some(id) = part["toolCallId"].as_str() {
                let how_much = match (&part["approval"], &part["result"]) {
                    (Value::Null, Value::Null) => CallHad::Call,
                    (_, Value::Null) => CallHad::Question,
                    _ => CallHad::Result,
                };
                had.note_call(id.to_owned(), how_much);
            }
        }
        had
    }

    /// What it has, in any order, but for what was cut off of texts.
    pub fn whole_parts(&self) -> Vec<String> {
        let whole = self.parts.iter().filter(|part| part["type"] != "text" || part["state"] == "done");
        let mut whole: Vec<_> = whole.map(Value::to_string).collect();
        whole.sort();
        whole
    }

    fn take_one(&mut self, chunk: &Value) {
        assert!(!self.is_done, "nothing follows the end: {chunk}");
        match chunk["type"].as_str() {
            None => {
                assert_eq!(*chunk, "[DONE]");
                self.is_done = true;
            }
            Some("start") if std::mem::take(&mut self.goes_on) => {}
            Some("start") => *self = Self::default(),
            Some("finish" | "abort" | "error") => self.end.push(chunk.clone()),
            Some("text-start") => {
                let known = self.texts.insert(text(chunk, "id"), self.parts.len());
                assert!(known.is_none(), "{chunk}");
                self.parts.push(json!({"type": "text", "text": "", "state": "streaming"}));
            }
            Some("text-delta") => {
                let at = self.texts[&text(chunk, "id")];
                let whole = text(&self.parts[at], "text") + &text(chunk, "delta");
                self.parts[at]["text"] = whole.into();
            }
            Some("text-end") => {
                let at = self.texts.remove(&text(chunk, "id")).expect("a text that goes on");
                self.parts[at]["state"] = "done".into();
            }
            Some("tool-input-available") => {
                assert!(self.find("toolCallId", chunk).is_none(), "{chunk}");
                self.parts.push(chunk.clone());
            }
            Some("tool-approval-request") => {
                let at = self.find("toolCallId", chunk).expect("a call");
                assert_eq!(self.parts[at]["approval"], Value::Null, "asked once: {chunk}");
                self.parts[at]["approval"] = chunk["approvalId"].clone();
            }
            Some(kind @ ("tool-output-available" | "tool-output-error" | "tool-output-denied")) => {
                let at = self.find("toolCallId", chunk).expect("a call");
                assert_eq!(self.parts[at]["result"], Value::Null, "one result a call");
                assert!(kind != "tool-output-denied" || self.parts[at]["approval"] != Value::Null, "{chunk}");
                self.parts[at]["result"] = json!([kind, chunk["output"], chunk["errorText"]]);
            }
            Some(_) if chunk["transient"] == true => {}
            Some(kind) => {
                assert!(kind.starts_with("data-"), "{chunk}");
                let known = self.parts.iter().position(|part| part["type"] == kind && part["id"] == chunk["id"]);
                match known {
                    Some(at) => self.parts[at] = chunk.clone(),
                    None => self.parts.push(chunk.clone()),
                }
            }
        }
    }

    fn find(&self, field: &str, chunk: &Value) -> Option<usize> {
        self.parts.iter().position(|part| part[field] == chunk[field])
    }
}

fn text(chunk: &Value, field: &str) -> String {
    chunk[field].as_str().unwrap_or_else(|| panic!("no {field}: {chunk}")).to_owned()
}
