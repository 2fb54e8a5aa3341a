//! What clients keep of a run: the parts that its messages make of it.

use std::collections::VecDeque;
use std::sync::Arc;

use serde_json::Value;

use super::budget::beginning;
use crate::model::OutputStream;

/// The longest error, in bytes; and where clients keep too much already.
const ERROR_BYTES_MAX: usize = 2 * 1024;
const SHORT_ERROR_BYTES_MAX: usize = 100;

/// The overhead of a chunk of a log.
const CHUNK_BYTES: usize = 64;

/// Something that clients keep.
#[derive(Debug)]
pub(super) enum Part {
    /// A step has moved for the first time.
    Step(usize),
    /// An attempt: a call of its tool.
    Call(Call),
    /// What an attempt streams as text.
    Text(Text),
    /// What an attempt prints.
    Log(Log),
}

#[derive(Debug)]
pub(super) struct Call {
    pub(super) step: usize,
    pub(super) attempt: u32,
    /// JSON.
    pub(super) inputs: Arc<str>,
    /// It asks for a decision, or has.
    pub(super) is_question: bool,
    pub(super) result: Option<CallResult>,
}

/// What became of a call.
#[derive(Debug)]
pub(super) enum CallResult {
    Output(Arc<Value>),
    /// The beginning of the output, and how many bytes it has in all.
    CutOutput(String, u64),
    Error(String),
    /// Someone has decided against it: the error that came of that.
    Denied(String),
}

#[derive(Debug)]
pub(super) struct Text {
    pub(super) step: usize,
    pub(super) attempt: u32,
    pub(super) text: String,
    /// More may come.
    pub(super) is_open: bool,
}

#[derive(Debug)]
pub(super) struct Log {
    pub(super) step: usize,
    pub(super) attempt: u32,
    pub(super) chunks: VecDeque<LogChunk>,
    /// Bytes of chunks that are no longer held.
    pub(super) dropped_bytes: u64,
    /// Bytes of all chunks that there were.
    pub(super) bytes: u64,
}

#[derive(Debug)]
pub(super) struct LogChunk {
    pub(super) stream: OutputStream,
    pub(super) text: String,
    /// How many bytes the server left out just before it.
    pub(super) omitted_bytes: Option<u64>,
}

impl CallResult {
    /// Of an attempt that did not complete.
    pub(super) fn failed(error: &str) -> Self {
        Self::Error(beginning(error, ERROR_BYTES_MAX).to_owned())
    }

    /// The part of an attempt that was rejected.
    pub(super) fn denied(error: &str) -> Self {
        Self::Denied(beginning(error, ERROR_BYTES_MAX).to_owned())
    }

    pub(super) fn size(&self) -> usize {
        match self {
            Self::Output(value) => as_text(value).len(),
            Self::CutOutput(text, _) | Self::Error(text) | Self::Denied(text) => text.len(),
        }
    }

    /// The part without its content, once clients keep too much.
    pub(super) fn without_content(self) -> Self {
        let bytes = self.size() as u64;
        match self {
            Self::Output(_) => Self::CutOutput(String::new(), bytes),
            Self::CutOutput(_, bytes) => Self::CutOutput(String::new(), bytes),
            Self::Error(error) => Self::Error(beginning(&error, SHORT_ERROR_BYTES_MAX).to_owned()),
            Self::Denied(error) => Self::Denied(beginning(&error, SHORT_ERROR_BYTES_MAX).to_owned()),
        }
    }
}

impl LogChunk {
    pub(super) fn size(&self) -> usize {
        self.text.len() + CHUNK_BYTES
    }
}

/// An output as text: what a text says, and anything else as JSON.
pub(super) fn as_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
