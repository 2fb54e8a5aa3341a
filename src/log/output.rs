//! A step's output, as much of it as is asked for.
//!
//! What a step printed is read where it lies: of a part no byte beside it. What it returned and did not print is made anew,
//! and given as a whole. Which of the two an output is takes a look at all of it; that is found out once.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

use serde_json::Value;

use super::history::History;
use super::store::{StoreError, StoredOutput};
use super::{Answer, Refusal, RunNumber};
use crate::http::Conditions;
use crate::http::range::Selection;
use crate::model::{OutputStream, RunState, StepId, StepState, StepStatus};

/// Outputs of which it is remembered how they are shown; at the limit all are forgotten, and found out again.
const REMEMBERED_MAX: usize = 1024;

/// What of a step's output is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedOutput {
    /// This stream of it; the output itself where none is named.
    pub stream: Option<OutputStream>,
    /// Which part, and whether it is known already.
    pub asked: Conditions,
    /// About so many bytes at once at most; none where it is 0, and the length alone is wanted.
    pub bytes_max: usize,
}

/// A step's output, or a part of it.
#[derive(Debug, PartialEq, Eq)]
pub struct Output {
    /// Bytes that there are in all.
    pub length: u64,
    /// They are JSON.
    pub is_json: bool,
    /// Their entity tag, quoted, where they stay as they are: the step has ended.
    pub tag: Option<String>,
    /// What of them was selected; nothing where whoever asks has them already.
    pub selected: Option<Selection>,
    /// The first of the bytes that were.
    pub bytes: Vec<u8>,
    /// Where the others are.
    pub rest: Option<Box<Rest>>,
}

/// What is left of an output that is read piece by piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rest {
    number: RunNumber,
    step: StepId,
    /// Of this attempt. Bytes of another do not go on from what was read.
    attempt: u32,
    stream: OutputStream,
    range: Range<u64>,
}

/// Where the bytes of an output come from.
enum Source {
    /// The step printed them: the first so many of this stream.
    Printed { stream: OutputStream, length: u64, is_json: bool },
    /// They are made of what it returned.
    Made { bytes: Vec<u8>, is_json: bool },
}

/// How an output is shown, which never changes once its step has completed.
#[derive(Clone, Copy)]
enum How {
    /// As it was printed: the first so many bytes of this stream.
    Printed { stream: OutputStream, length: u64, is_json: bool },
    /// Made anew.
    Made,
}

/// How outputs are shown of steps that have completed, as far as that was found out.
#[derive(Default)]
pub(super) struct Shown {
    remembered: HashMap<(RunNumber, StepId), How>,
}

impl Shown {
    /// A step's output, of a run in this state.
    pub(super) fn output(
        &mut self,
        history: &dyn History,
        number: RunNumber,
        state: &RunState,
        step: &StepId,
        wanted: &WantedOutput,
    ) -> Result<Answer, StoreError> {
        let Some(state) = state.step(step) else { return Ok(Answer::Refused(Refusal::UnknownStep)) };
        let kept = history.output(number, step)?.unwrap_or_default();
        let (length, is_json, made, stream) = match self.source(history, number, state, kept, wanted.stream)? {
            Source::Printed { stream, length, is_json } => (length, is_json, None, stream),
            Source::Made { bytes, is_json } => (bytes.len() as u64, is_json, Some(bytes), OutputStream::Stdout),
        };
        let tag = state.status.is_ended().then(|| tag(state, length));
        let is_known = wanted.asked.is_known(tag.as_deref());
        let selected = (!is_known).then(|| wanted.asked.select(tag.as_deref(), length));
        let range = match &selected {
            Some(_) | None if wanted.bytes_max == 0 => 0..0,
            Some(Selection::Whole) => 0..length,
            Some(Selection::Part(part)) => part.clone(),
            Some(Selection::Unsatisfiable) | None => 0..0,
        };
        let (bytes, rest) = match made {
            Some(made) => (cut(made, &range), None),
            None => {
                let rest = Rest { number, step: step.clone(), attempt: kept.attempt, stream, range };
                rest.read(history, wanted.bytes_max)?
            }
        };
        Ok(Answer::Output(Box::new(Output { length, is_json, tag, selected, bytes, rest })))
    }

    fn source(
        &mut self,
        history: &dyn History,
        number: RunNumber,
        state: &StepState,
        kept: StoredOutput,
        stream: Option<OutputStream>,
    ) -> Result<Source, StoreError> {
        if let Some(stream) = stream {
            return Ok(Source::Printed { stream, length: kept.length(stream), is_json: false });
        }
        let stream = if kept.stdout == 0 { OutputStream::Text } else { OutputStream::Stdout };
        let written = Written { history, number, step: &state.id, stream, length: kept.length(stream) };
        match (state.status, &state.output) {
            (StepStatus::Completed, Some(output)) => self.final_source(&written, output),
            (status, _) if status.is_ended() => Ok(written.up_to(written.length, false)),
            _ => Ok(written.up_to(written.without_last_newline(true)?, false)),
        }
    }

    /// A completed step's output: text as it is, anything else as JSON. Where it is what the step has `written`, it begins
    /// with the same bytes, or whoever has read those while it ran could not go on: not written anew as JSON or as UTF-8
    /// then.
    fn final_source(&mut self, written: &Written<'_>, output: &Value) -> Result<Source, StoreError> {
        let key = (written.number, written.step.clone());
        if let Some(How::Printed { stream, length, is_json }) = self.remembered.get(&key).copied() {
            return Ok(Source::Printed { stream, length, is_json });
        }
        let output = match written.history.whole_output(written.number, written.step)? {
            Some(json) => Cow::Owned(serde_json::from_slice(&json).map_err(|error| StoreError(error.to_string()))?),
            None => Cow::Borrowed(output),
        };
        let how = match self.remembered.get(&key) {
            Some(&how) => how,
            None => self.remember(key, how_shown(written, &output)?),
        };
        match (how, output.into_owned()) {
            (How::Printed { stream, length, is_json }, _) => Ok(Source::Printed { stream, length, is_json }),
            (How::Made, Value::String(text)) => Ok(Source::Made { bytes: text.into_bytes(), is_json: false }),
            (How::Made, other) => match serde_json::to_vec(&other) {
                Ok(bytes) => Ok(Source::Made { bytes, is_json: true }),
                Err(error) => Err(StoreError(error.to_string())),
            },
        }
    }

    fn remember(&mut self, of: (RunNumber, StepId), how: How) -> How {
        if self.remembered.len() >= REMEMBERED_MAX {
            self.remembered.clear();
        }
        self.remembered.insert(of, how);
        how
    }
}

/// What comes behind what was answered before. Where the step has made another attempt since, or its run was let go, there
/// is nothing that goes on from it.
pub(super) fn rest(history: &dyn History, rest: &Rest, bytes_max: usize) -> Result<Answer, StoreError> {
    let kept = history.output(rest.number, &rest.step)?;
    if kept.is_none_or(|kept| kept.attempt != rest.attempt) {
        return Ok(Answer::Refused(Refusal::OutputReplaced));
    }
    let (bytes, rest) = rest.clone().read(history, bytes_max)?;
    Ok(Answer::OutputRest { bytes, rest })
}

impl Rest {
    /// Its first bytes, and what is left then.
    fn read(mut self, history: &dyn History, bytes_max: usize) -> Result<(Vec<u8>, Option<Box<Self>>), StoreError> {
        let end = self.range.end.min(self.range.start.saturating_add(bytes_max as u64));
        let mut bytes = Vec::new();
        history.output_bytes(self.number, &self.step, self.stream, self.range.start..end, &mut bytes)?;
        self.range.start = end;
        let is_left = !self.range.is_empty() && bytes_max > 0;
        Ok((bytes, is_left.then(|| Box::new(self))))
    }
}

/// What a step printed.
struct Written<'a> {
    history: &'a dyn History,
    number: RunNumber,
    step: &'a StepId,
    stream: OutputStream,
    /// All of it.
    length: u64,
}

impl Written<'_> {
    fn up_to(&self, length: u64, is_json: bool) -> Source {
        Source::Printed { stream: self.stream, length, is_json }
    }

    fn read(&self, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        let mut bytes = Vec::new();
        self.history.output_bytes(self.number, self.step, self.stream, range, &mut bytes)?;
        Ok(bytes)
    }

    /// What a command prints loses its last newline as an output: how much is left. Of what it `may_go_on` with, that is
    /// not known to be the last: it comes once more does, and so does half of one.
    fn without_last_newline(&self, may_go_on: bool) -> Result<u64, StoreError> {
        let last = self.read(self.length.saturating_sub(2)..self.length)?;
        let newline = match last.as_slice() {
            [b'\r', b'\n'] => 2,
            [.., b'\n'] => 1,
            [.., b'\r'] if may_go_on => 1,
            _ => 0,
        };
        Ok(self.length - newline)
    }
}

fn how_shown(written: &Written<'_>, output: &Value) -> Result<How, StoreError> {
    let length = written.without_last_newline(false)?;
    let is_printed = match output {
        // Bytes that are no UTF-8 never become fewer by being read as that.
        Value::String(text) if length > text.len() as u64 => false,
        Value::String(text) => String::from_utf8_lossy(&written.read(0..length)?) == text.as_str(),
        other => serde_json::from_slice::<Value>(&written.read(0..length)?).is_ok_and(|value| value == *other),
    };
    Ok(match is_printed {
        true => How::Printed { stream: written.stream, length, is_json: !output.is_string() },
        false => How::Made,
    })
}

/// What tells the bytes of an ended step from those of any other step that had or will have its place.
fn tag(state: &StepState, length: u64) -> String {
    let ended_at = state.finished_at.unwrap_or_default().as_millis();
    format!("\"{ended_at:x}-{:x}-{length:x}\"", state.attempt)
}

/// The `range` of `bytes`, which lies within them.
fn cut(mut bytes: Vec<u8>, range: &Range<u64>) -> Vec<u8> {
    bytes.truncate(range.end as usize);
    bytes.drain(..range.start as usize);
    bytes
}
