//! What attempts stream as text and what they print, as clients keep it.

use std::collections::VecDeque;

use super::{Move, PART_BYTES, Story};
use crate::formats::LOG_BYTES_MAX;
use crate::formats::part::{Log, LogChunk, Part, Text};
use crate::model::{OutputStream, StepOutput};

/// Logs that a run has at most. Further attempts that print have none.
const LOGS_MAX: usize = 500;

impl Story {
    pub(super) fn output(&mut self, said: &StepOutput, moves: &mut Vec<Move>) {
        let Some(step) = self.state.position(&said.step_id) else { return };
        if self.step(step).status.is_ended() {
            return;
        }
        match said.stream {
            OutputStream::Text => {
                let omitted = said.omitted_bytes.map(omitted).unwrap_or_default();
                self.text(step, said.attempt, omitted + &said.chunk, moves);
            }
            stream => {
                let chunk = LogChunk { stream, text: said.chunk.clone(), omitted_bytes: said.omitted_bytes };
                self.log(step, said.attempt, chunk, moves);
            }
        }
    }

    fn text(&mut self, step: usize, attempt: u32, piece: String, moves: &mut Vec<Move>) {
        if piece.is_empty() {
            return;
        }
        let at = match self.steps[step].text {
            Some(at) => at,
            None if !self.kept.take(PART_BYTES) => return,
            None => {
                let at = self.parts.len();
                self.steps[step].text = Some(at);
                self.parts.push(Part::Text(Text { step, attempt, text: String::new(), is_open: true }));
                moves.push(Move::TextBegan(at));
                at
            }
        };
        if !self.text_at(at).is_some_and(|text| text.is_open) {
            return;
        }
        let fits = self.kept.take(piece.len());
        let piece = if fits { piece } else { self.cut_mark(step) };
        let Some(text) = self.text_at(at) else { return };
        text.text.push_str(&piece);
        text.is_open = fits;
        moves.push(Move::TextGrew(at, piece));
        if !fits {
            moves.push(Move::TextEnded(at));
        }
    }

    fn cut_mark(&self, step: usize) -> String {
        format!("\n[truncated: the full text is available at {}]", self.head.output_path(step))
    }

    pub(super) fn text_at(&mut self, at: usize) -> Option<&mut Text> {
        match self.parts.get_mut(at) {
            Some(Part::Text(text)) => Some(text),
            _ => None,
        }
    }

    pub(super) fn tell_omitted(&mut self, step: usize, bytes: u64, moves: &mut Vec<Move>) {
        let attempt = self.step(step).attempt;
        if self.steps[step].text.is_some() {
            self.text(step, attempt, omitted(bytes), moves);
        } else if self.steps[step].log.is_some() {
            let chunk = LogChunk { stream: OutputStream::Stdout, text: String::new(), omitted_bytes: Some(bytes) };
            self.log(step, attempt, chunk, moves);
        }
    }

    fn log(&mut self, step: usize, attempt: u32, chunk: LogChunk, moves: &mut Vec<Move>) {
        let at = match self.steps[step].log {
            Some(at) => at,
            None if self.logs >= LOGS_MAX => return,
            None => {
                let at = self.parts.len();
                self.steps[step].log = Some(at);
                self.logs += 1;
                let log = Log { step, attempt, chunks: VecDeque::new(), dropped_bytes: 0, bytes: 0 };
                self.parts.push(Part::Log(log));
                moves.push(Move::LogBegan(at));
                at
            }
        };
        self.log_bytes += chunk.size();
        self.make_room_in_logs(moves);
        self.log_chunks.push_back(at);
        if let Some(Part::Log(log)) = self.parts.get_mut(at) {
            log.bytes += chunk.text.len() as u64;
            log.chunks.push_back(chunk);
            moves.push(Move::LogGrew(at));
        }
    }

    fn make_room_in_logs(&mut self, moves: &mut Vec<Move>) {
        while self.log_bytes > LOG_BYTES_MAX {
            let Some(at) = self.log_chunks.pop_front() else { return };
            let Some(Part::Log(log)) = self.parts.get_mut(at) else { return };
            let Some(chunk) = log.chunks.pop_front() else { return };
            log.dropped_bytes += chunk.text.len() as u64;
            self.log_bytes -= chunk.size();
            moves.push(Move::LogDropped(at));
        }
    }
}

fn omitted(bytes: u64) -> String {
    format!("\n[{bytes} bytes left out]\n")
}
