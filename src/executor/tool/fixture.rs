//! What tests of tools share: a call with everything around it made up, and a sink that remembers.

use std::sync::Mutex;

use serde_json::Value;

use super::{Call, CancelToken, Outcome, OutputSink, Tool, ToolError};
use crate::model::{OutputStream, ProjectId, RunId, StepId};

/// Remembers live output, and tells `on_write` of it.
#[derive(Default)]
pub(super) struct Recorder {
    pieces: Mutex<Vec<(OutputStream, Vec<u8>)>>,
    on_write: Option<Box<dyn Fn() + Sync>>,
}

impl Recorder {
    /// Calls `on_write` after each piece.
    pub(super) fn notifying(on_write: impl Fn() + Sync + 'static) -> Self {
        Self { on_write: Some(Box::new(on_write)), ..Self::default() }
    }

    /// What came out of `stream`, joined.
    pub(super) fn text(&self, stream: OutputStream) -> String {
        let pieces = self.pieces.lock().expect("no test panics while it holds the lock");
        let bytes: Vec<u8> = pieces.iter().filter(|p| p.0 == stream).flat_map(|p| p.1.clone()).collect();
        String::from_utf8(bytes).expect("text")
    }

    /// The pieces that came out of `stream`.
    #[cfg(feature = "http-tool")]
    pub(super) fn pieces(&self, stream: OutputStream) -> Vec<String> {
        let pieces = self.pieces.lock().expect("no test panics while it holds the lock");
        pieces.iter().filter(|p| p.0 == stream).map(|p| String::from_utf8_lossy(&p.1).into_owned()).collect()
    }
}

impl OutputSink for Recorder {
    fn write(&self, stream: OutputStream, bytes: &[u8]) {
        self.pieces.lock().expect("no test panics while it holds the lock").push((stream, bytes.to_vec()));
        if let Some(on_write) = &self.on_write {
            on_write();
        }
    }
}

/// Calls `tool` once.
pub(super) fn call(tool: &dyn Tool, inputs: Value, output: &Recorder) -> Result<Outcome, ToolError> {
    call_until(tool, inputs, output, &CancelToken::new())
}

/// Calls `tool` once; `cancel` may end it.
pub(super) fn call_until(
    tool: &dyn Tool,
    inputs: Value,
    output: &Recorder,
    cancel: &CancelToken,
) -> Result<Outcome, ToolError> {
    let Value::Object(inputs) = inputs else { panic!("inputs are an object") };
    tool.call(&Call {
        project: &ProjectId::parse("p:1").expect("an id"),
        run: &RunId::parse("r-1").expect("an id"),
        step: &StepId::parse("build").expect("an id"),
        item: None,
        attempt: 2,
        inputs: &inputs,
        output,
        cancel,
    })
}
