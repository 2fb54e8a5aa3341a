//! A run as JSON, written in pieces while it is sent: one step after the other, from the state that the client was
//! given, with whole outputs read in place. So an answer never holds more than one piece of it in memory, however large
//! the outputs are. Its length is known before the first byte.

use std::collections::VecDeque;
use std::sync::Arc;

use serde_json::Value;

use super::content::Piece;
use super::items;
use crate::auth::IdSigner;
use crate::log::protocol::{Answer, Part, Rest, RunRest, WantedRun};
use crate::log::store::{History, Look, StoreError};
use crate::log::views::RunView;
use crate::model::{ProjectId, RunState, StepState, json_bytes};

/// The whole outputs of one run, as `GET` answers them, together take at most this; beyond it they stay as cut as in
/// the messages, and each can be read by itself.
const RUN_OUTPUTS_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// A run up to this size is answered at once; of a larger one, about this much is sent first.
const FIRST_BYTES_MAX: usize = 256 * 1024;

/// An output that is not there, as JSON.
const NO_OUTPUT: &str = "null";

/// The first bytes of a run, and what is left then.
type Beginning = (Vec<u8>, Option<RunRest>);

impl RunView {
    /// The answer to a call for a run: with whole outputs if wanted and stored, and with the items of its steps at the
    /// end, if wanted.
    pub(in crate::log) fn answer(
        &self,
        look: Look<'_>,
        project: &ProjectId,
        wanted: WantedRun,
        signer: &IdSigner,
    ) -> Result<Answer, StoreError> {
        let mut wholes = VecDeque::new();
        if wanted.whole_outputs {
            look(&mut |history| self.wholes(history).map(|found| wholes = found))?;
        }
        let (start, mut end) = self.json_around_steps(project, signer)?;
        if wanted.items {
            let mut members = Vec::new();
            look(&mut |history| items::of_run(history, self.number, &self.state).map(|found| members = found))?;
            // Both are objects with members: the second's go on where the first ends.
            end.pop();
            end.push(b',');
            end.extend_from_slice(&members[1..]);
        }
        let parts = VecDeque::from([Part::Text(start)]);
        let rest = RunRest { number: self.number, state: self.state.clone(), wholes, next: 0, parts, end };
        match rest.read_some(look, FIRST_BYTES_MAX)? {
            Some((bytes, None)) => Ok(Answer::Json(bytes)),
            Some((bytes, Some(rest))) => {
                let length = bytes.len() as u64 + rest.length();
                Ok(Answer::LongJson { length, bytes, rest: Some(Box::new(Rest::Run(rest))) })
            }
            None => Err(StoreError("a stored output is shorter than before".to_owned())),
        }
    }

    /// The steps whose messages have only the beginning of their outputs, as many as may be shown in full.
    fn wholes(&self, history: &dyn History) -> Result<VecDeque<(usize, u64)>, StoreError> {
        let (mut wholes, mut left) = (VecDeque::new(), RUN_OUTPUTS_BYTES_MAX);
        for (index, step) in self.state.steps.iter().enumerate().filter(|(_, step)| step.truncated) {
            let length = history.whole_length(self.number, &step.id)?;
            if let Some(length) = length.filter(|length| *length <= left) {
                left -= length;
                wholes.push_back((index, length));
            }
        }
        Ok(wholes)
    }

    /// The JSON before its steps, and the JSON after them.
    fn json_around_steps(&self, project: &ProjectId, signer: &IdSigner) -> Result<(Vec<u8>, Vec<u8>), StoreError> {
        let mut state = RunState::clone(&self.state);
        state.steps = Vec::new();
        let without = RunView { number: self.number, state: Arc::new(state), last_seq: self.last_seq };
        split(&without.json(project, None, signer)?, "\"steps\":[", "", "]")
    }
}

impl RunRest {
    /// The number of bytes left. For that every remaining step is visited, but not written: this is the cost of
    /// promising a length without keeping all the bytes.
    fn length(&self) -> u64 {
        let parts: u64 = self.parts.iter().map(Part::length).sum();
        let mut wholes = self.wholes.iter().copied().peekable();
        let mut length = parts + self.end.len() as u64;
        for (index, step) in self.state.steps.iter().enumerate().skip(self.next) {
            let whole = wholes.next_if(|(of, _)| *of == index);
            length += u64::from(index > 0);
            length += match whole {
                None => json_bytes(step),
                Some((_, bytes)) => json_bytes(&without_output(step)) - NO_OUTPUT.len() as u64 + bytes,
            };
        }
        length
    }

    /// Its first bytes, about `bytes_max` of them, and what is left then. The store is looked at for outputs alone: no look
    /// lasts while steps are written.
    pub(in crate::log) fn read(self, look: Look<'_>, bytes_max: usize) -> Result<Piece, StoreError> {
        let piece = self.read_some(look, bytes_max)?;
        Ok(piece.map(|(bytes, rest)| (bytes, rest.map(|rest| Box::new(Rest::Run(rest))))))
    }

    fn read_some(mut self, look: Look<'_>, bytes_max: usize) -> Result<Option<Beginning>, StoreError> {
        let mut bytes = Vec::new();
        while bytes.len() < bytes_max {
            match self.parts.pop_front() {
                Some(Part::Text(text)) => bytes.extend_from_slice(&text),
                Some(Part::Whole(step, range)) => {
                    let end = range.end.min(range.start + (bytes_max - bytes.len()) as u64);
                    let before = bytes.len() as u64;
                    look(&mut |history| history.whole_bytes(self.number, &step, range.start..end, &mut bytes))?;
                    if bytes.len() as u64 - before < end - range.start {
                        return Ok(None);
                    }
                    if end < range.end {
                        self.parts.push_front(Part::Whole(step, end..range.end));
                    }
                }
                None if self.write_step()? => {}
                None => {
                    bytes.append(&mut self.end);
                    return Ok(Some((bytes, None)));
                }
            }
        }
        Ok(Some((bytes, Some(self))))
    }

    /// Writes the next step, if there is another.
    fn write_step(&mut self) -> Result<bool, StoreError> {
        let Some(step) = self.state.steps.get(self.next) else { return Ok(false) };
        let is_whole = self.wholes.front().is_some_and(|(index, _)| *index == self.next);
        let whole = if is_whole { self.wholes.pop_front() } else { None };
        if self.next > 0 {
            self.parts.push_back(Part::Text(b",".to_vec()));
        }
        match whole {
            None => self.parts.push_back(Part::Text(to_json(step)?)),
            Some((_, length)) => {
                let (start, end) = split(&to_json(&without_output(step))?, "\"output\":", NO_OUTPUT, "")?;
                self.parts.extend([Part::Text(start), Part::Whole(step.id.clone(), 0..length), Part::Text(end)]);
            }
        }
        self.next += 1;
        Ok(true)
    }
}

/// A step with a placeholder for its whole output.
fn without_output(step: &StepState) -> StepState {
    let mut step = StepState::clone(step);
    (step.output, step.truncated, step.output_bytes) = (Some(Arc::new(Value::Null)), false, None);
    step
}

impl Part {
    fn length(&self) -> u64 {
        match self {
            Self::Text(text) => text.len() as u64,
            Self::Whole(_, range) => range.end - range.start,
        }
    }
}

/// Splits `json` around `between`, which is between `before` and `behind`. These contain a key with its quotes, so they
/// can't match inside a string, where quotes are escaped.
fn split(json: &[u8], before: &str, between: &str, behind: &str) -> Result<(Vec<u8>, Vec<u8>), StoreError> {
    let sought = [before, between, behind].concat();
    let at = json.windows(sought.len()).position(|window| window == sought.as_bytes());
    let at = at.ok_or_else(|| StoreError(format!("the stored state of a run lacks {sought}")))?;
    let (start, end) = (at + before.len(), at + before.len() + between.len());
    Ok((json[..start].to_vec(), json[end..].to_vec()))
}

fn to_json(step: &StepState) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(step).map_err(|error| StoreError(error.to_string()))
}
