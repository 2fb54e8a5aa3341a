//! The output of a step, or a part of it.
//!
//! The output is what the step wrote to stdout, or else its text, byte for byte. It is read in place, and of a part
//! only the bytes requested. So a client that follows a growing output ends with the same bytes as everyone else. The
//! parsed value of an output is only in the state of the run; it is written out here only for steps that wrote neither
//! stdout nor text.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use serde::de::IgnoredAny;
use serde_json::Value;

use super::content::Piece;
use super::items;
use super::shared::Shared;
use crate::http::range::Selection;
use crate::log::protocol::{Answer, Made, MadeRest, Output, OutputRest, Refusal, Rest, WantedOutput};
use crate::log::store::{History, RunNumber, StoreError, StoredOutput};
use crate::model::json::without_bom;
use crate::model::{OutputStream, RunState, StepId, StepState, StepStatus};

/// How many outputs are remembered; at the limit all are forgotten.
const REMEMBERED_MAX: usize = 1024;

/// What an output is made of.
enum Source {
    /// The first `length` bytes that the step wrote to this stream.
    Written { stream: OutputStream, length: u64, is_json: bool },
    /// Its return value as text.
    Made(Arc<Made>),
}

/// What never changes of what a step wrote once it has completed.
#[derive(Clone, Copy)]
struct Final {
    /// How much of it is its output.
    length: u64,
    is_json: bool,
}

/// What is known about the outputs of completed steps.
#[derive(Default)]
pub(in crate::log) struct Shown {
    remembered: HashMap<(RunNumber, StepId), Final>,
    made: Shared<(RunNumber, StepId), Made>,
}

impl Shown {
    /// A step's output, of a run in this state.
    pub(in crate::log) fn output(
        &mut self,
        history: &dyn History,
        number: RunNumber,
        state: &RunState,
        step: &StepId,
        wanted: &WantedOutput,
    ) -> Result<Answer, StoreError> {
        let Some(state) = state.step(step) else { return Ok(Answer::Refused(Refusal::UnknownStep)) };
        let of_item;
        let state = match wanted.item {
            None => state,
            Some(item) => match items::one(history, number, step, item)? {
                Some(item) => {
                    of_item = item.as_step(state);
                    &of_item
                }
                None => return Ok(Answer::Refused(Refusal::UnknownItem)),
            },
        };
        let step = &state.id;
        // If an attempt has written nothing so far, the output of the one before is still stored.
        let kept = history.output(number, step)?.filter(|kept| kept.attempt >= state.attempt);
        let kept = kept.unwrap_or(StoredOutput { attempt: state.attempt, ..StoredOutput::default() });
        let (length, is_json, made, stream) = match self.source(history, number, state, kept, wanted.stream)? {
            Source::Written { stream, length, is_json } => (length, is_json, None, stream),
            Source::Made(made) => (made.bytes.len() as u64, made.is_json, Some(made), OutputStream::Stdout),
        };
        let attempt = kept.attempt;
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
            Some(made) => MadeRest { made, range }.read(wanted.bytes_max),
            None => {
                OutputRest { number, step: step.clone(), attempt, stream, range }.read(history, wanted.bytes_max)?
            }
        };
        Ok(Answer::Output(Box::new(Output { length, is_json, attempt, tag, selected, bytes, rest })))
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
            return Ok(Source::Written { stream, length: kept.length(stream), is_json: false });
        }
        let stream = if kept.stdout == 0 { OutputStream::Text } else { OutputStream::Stdout };
        let written = Written { history, number, step: &state.id, stream, length: kept.length(stream) };
        let is_completed = state.status == StepStatus::Completed;
        match state.output.as_deref().unwrap_or(&Value::Null) {
            value if is_completed && written.length == 0 => self.made_of(&written, value).map(Source::Made),
            value if is_completed => {
                let Final { length, is_json } = self.final_of(&written, value)?;
                Ok(Source::Written { stream, length, is_json })
            }
            _ => {
                let length = written.output_length(!state.status.is_ended())?;
                Ok(Source::Written { stream, length, is_json: false })
            }
        }
    }

    /// The return value of a completed step as text. `value` is the value in its message, or the beginning of it.
    fn made_of(&mut self, written: &Written<'_>, value: &Value) -> Result<Arc<Made>, StoreError> {
        let key = (written.number, written.step.clone());
        match self.made.get(&key) {
            Some(made) => Ok(made),
            None => made(written.returned(value)?.as_ref()).map(|made| self.made.share(key, made)),
        }
    }

    /// The final output of a completed step. `value` is the value in its message, or the beginning of it.
    fn final_of(&mut self, written: &Written<'_>, value: &Value) -> Result<Final, StoreError> {
        let key = (written.number, written.step.clone());
        if let Some(&known) = self.remembered.get(&key) {
            return Ok(known);
        }
        let length = written.output_length(false)?;
        let is_json = written.is_json(length, written.returned(value)?.as_ref())?;
        if self.remembered.len() >= REMEMBERED_MAX {
            self.remembered.clear();
        }
        self.remembered.insert(key, Final { length, is_json });
        Ok(Final { length, is_json })
    }
}

/// A value as text: a string as it is, anything else as JSON.
fn made(value: &Value) -> Result<Made, StoreError> {
    match value {
        Value::String(text) => Ok(Made { bytes: text.clone().into_bytes(), is_json: false }),
        other => Ok(Made { bytes: to_json(other)?, is_json: true }),
    }
}

fn to_json(value: &Value) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(value).map_err(|error| StoreError(error.to_string()))
}

impl OutputRest {
    /// The next bytes, and the rest after them; none if the step has made another attempt since, or its run was
    /// deleted.
    pub(in crate::log) fn go_on(&self, history: &dyn History, bytes_max: usize) -> Result<Piece, StoreError> {
        let kept = history.output(self.number, &self.step)?;
        match kept.is_some_and(|kept| kept.attempt == self.attempt) {
            true => self.clone().read(history, bytes_max).map(Some),
            false => Ok(None),
        }
    }

    fn read(mut self, history: &dyn History, bytes_max: usize) -> Result<(Vec<u8>, Option<Box<Rest>>), StoreError> {
        let end = self.range.end.min(self.range.start.saturating_add(bytes_max as u64));
        let mut bytes = Vec::new();
        history.output_bytes(self.number, &self.step, self.stream, self.range.start..end, &mut bytes)?;
        self.range.start = end;
        let is_left = !self.range.is_empty() && bytes_max > 0;
        Ok((bytes, is_left.then(|| Box::new(Rest::Output(self)))))
    }
}

impl MadeRest {
    /// Its first bytes, and what is left then.
    pub(in crate::log) fn read(mut self, bytes_max: usize) -> (Vec<u8>, Option<Box<Rest>>) {
        let end = self.range.end.min(self.range.start.saturating_add(bytes_max as u64));
        let bytes = self.made.bytes[self.range.start as usize..end as usize].to_vec();
        self.range.start = end;
        let is_left = !self.range.is_empty() && bytes_max > 0;
        (bytes, is_left.then(|| Box::new(Rest::Made(self))))
    }
}

/// The output that a step wrote.
struct Written<'a> {
    history: &'a dyn History,
    number: RunNumber,
    step: &'a StepId,
    stream: OutputStream,
    /// All of it.
    length: u64,
}

impl Written<'_> {
    fn read(&self, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        let mut bytes = Vec::new();
        self.history.output_bytes(self.number, self.step, self.stream, range, &mut bytes)?;
        Ok(bytes)
    }

    /// How much of it is the output: of stdout not the last newline. Of what it `may_go_on` with, that is not known to be the
    /// last: it comes once more does, and so does half of one.
    fn output_length(&self, may_go_on: bool) -> Result<u64, StoreError> {
        if self.stream != OutputStream::Stdout {
            return Ok(self.length);
        }
        let last = self.read(self.length.saturating_sub(2)..self.length)?;
        let newline = match last.as_slice() {
            [b'\r', b'\n'] => 2,
            [.., b'\n'] => 1,
            [.., b'\r'] if may_go_on => 1,
            _ => 0,
        };
        Ok(self.length - newline)
    }

    /// The return value: `value`, or the whole value that it is the beginning of.
    fn returned<'v>(&self, value: &'v Value) -> Result<Cow<'v, Value>, StoreError> {
        match self.history.whole_output(self.number, self.step)? {
            Some(json) => serde_json::from_slice(&json).map(Cow::Owned).map_err(|error| StoreError(error.to_string())),
            None => Ok(Cow::Borrowed(value)),
        }
    }

    /// Was what it returned read as JSON from the first so many bytes? Text may begin with a quotation mark too.
    fn is_json(&self, length: u64, returned: &Value) -> Result<bool, StoreError> {
        let is_text = returned.is_string();
        if self.stream != OutputStream::Stdout || (is_text && !self.read(0..4)?.contains(&b'"')) {
            return Ok(false);
        }
        let bytes = self.read(0..length)?;
        let json = without_bom(&bytes);
        match is_text {
            true => Ok(to_json(returned)? == json),
            false => Ok(serde_json::from_slice::<IgnoredAny>(json).is_ok()),
        }
    }
}

/// What tells the bytes of an ended step from those of any other step that had or will have its place.
fn tag(state: &StepState, length: u64) -> String {
    let ended_at = state.finished_at.unwrap_or_default().as_millis();
    format!("\"{ended_at:x}-{:x}-{length:x}\"", state.attempt)
}
