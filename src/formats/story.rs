//! What clients were told of a run and keep: a fold over its messages, the same for both formats.
//!
//! What a client keeps is a row of [parts](Part) in the order in which they came up. A message adds to it or moves it on,
//! and the [`Move`]s that [`Story::apply`] returns are what a format has to tell of that message. What somebody who comes
//! late is told are the parts themselves. So the two can't differ, and bounds cut the same for both.

use std::collections::VecDeque;
use std::sync::Arc;

use super::budget::{Budget, beginning};
use super::head::RunHead;
use super::part::{Call, CallResult, Log, LogChunk, Part, Text, as_text};
use super::{KEPT_BYTES_MAX, LOG_BYTES_MAX, OUTPUT_BYTES_MAX, STATE_STEPS_MAX};
use crate::model::{
    EndReason, OutputStream, RunEvent, RunEventKind, RunState, RunStatus, StepOutput, StepProgress, StepState,
    StepStatus, StepUpdate, Timestamp,
};

/// What a call or a text takes with a client beside its inputs, output and text.
const PART_BYTES: usize = 512;

/// Logs that a run has at most. Further attempts that print have none.
const LOGS_MAX: usize = 500;

/// Why an attempt has no end of its own: another one began, or the run ended.
const INTERRUPTED: &str = "the attempt was interrupted";
const RUN_ENDED: &str = "the run ended before the attempt did";

/// A run, as far as it was told.
#[derive(Debug)]
pub(super) struct Story {
    pub(super) head: Arc<RunHead>,
    pub(super) state: RunState,
    /// When its newest message was said.
    pub(super) at: Timestamp,
    /// What clients keep of it, in the order in which it came up.
    pub(super) parts: Vec<Part>,
    pub(super) ending: Option<Ending>,
    steps: Vec<StepStory>,
    kept: Budget,
    /// The parts that hold chunks of logs, one for each chunk, the oldest first.
    log_chunks: VecDeque<usize>,
    log_bytes: usize,
    logs: usize,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ending {
    pub(super) status: RunStatus,
    /// Why it failed; nothing where only its state tells that it did.
    pub(super) reason: Option<EndReason>,
}

/// Where a step is, and which of the parts belong to its newest attempt.
#[derive(Debug, Default)]
struct StepStory {
    is_listed: bool,
    is_open: bool,
    call: Option<usize>,
    text: Option<usize>,
    log: Option<usize>,
}

/// What a message does to what clients keep. Numbers are places of steps or parts.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Move {
    /// A step begins.
    StepOpened(usize),
    /// A step will not move again.
    StepClosed(usize),
    /// There is a new call.
    Called(usize),
    /// A call has its result.
    Answered(usize),
    /// There is a new text, empty.
    TextBegan(usize),
    /// A text goes on by this.
    TextGrew(usize, String),
    /// Nothing more comes of a text.
    TextEnded(usize),
    /// There is a new log, empty.
    LogBegan(usize),
    /// A log has lost its first chunk.
    LogDropped(usize),
    /// A log has a further chunk, its last.
    LogGrew(usize),
    /// The run's state is another, and that of this step.
    Moved(Option<usize>),
    /// This was the run's last message.
    Ended,
}

impl Story {
    /// Of a run before its first message.
    pub(super) fn new(head: Arc<RunHead>) -> Self {
        let state = head.start.clone();
        let steps = state.steps.iter().map(|_| StepStory::default()).collect();
        Self {
            at: state.created_at,
            state,
            head,
            parts: Vec::new(),
            ending: None,
            steps,
            kept: Budget::of(KEPT_BYTES_MAX),
            log_chunks: VecDeque::new(),
            log_bytes: 0,
            logs: 0,
        }
    }

    /// Of a run of which no more is known than its state.
    pub(super) fn from_state(head: Arc<RunHead>, state: &RunState) -> Self {
        let mut story = Self::new(head);
        story.state = state.clone();
        let mut moved: Vec<_> = (0..state.steps.len()).filter(|&step| state.steps[step].attempt > 0).collect();
        moved.sort_by_key(|&step| state.steps[step].started_at);
        let unmoved = state.steps.iter().enumerate();
        moved.extend(unmoved.filter(|(_, step)| step.attempt == 0 && step.status.is_ended()).map(|(step, _)| step));
        let mut moves = Vec::new();
        moved.into_iter().for_each(|step| story.take_up(step, &mut moves));
        story.at = state.finished_at.or(state.started_at).unwrap_or(state.created_at);
        story.ending = state.status.is_ended().then_some(Ending { status: state.status, reason: None });
        story
    }

    /// The steps that go on just now.
    pub(super) fn open_steps(&self) -> impl Iterator<Item = usize> + '_ {
        self.steps.iter().enumerate().filter(|(_, step)| step.is_open).map(|(at, _)| at)
    }

    /// Are its steps few enough to be told one by one?
    pub(super) fn tells_steps(&self) -> bool {
        self.steps.len() <= STATE_STEPS_MAX
    }

    /// What an attempt of a step is called: unique among all runs that a client may follow.
    pub(super) fn attempt_id(&self, step: usize, attempt: u32) -> String {
        format!("{}/{}/{attempt}", self.state.run_id, self.step(step).id)
    }

    /// The part that a move is about.
    pub(super) fn part(&self, made: &Move) -> Option<&Part> {
        match made {
            Move::Called(at) | Move::Answered(at) => self.parts.get(*at),
            Move::TextBegan(at) | Move::TextGrew(at, _) | Move::TextEnded(at) => self.parts.get(*at),
            Move::LogBegan(at) | Move::LogDropped(at) | Move::LogGrew(at) => self.parts.get(*at),
            Move::StepOpened(_) | Move::StepClosed(_) | Move::Moved(_) | Move::Ended => None,
        }
    }

    pub(super) fn step(&self, step: usize) -> &StepState {
        &self.state.steps[step]
    }

    /// About how many bytes it holds.
    pub(super) fn memory(&self) -> usize {
        let fixed = self.steps.len() * (size_of::<StepStory>() + size_of::<StepState>());
        fixed + self.parts.len() * size_of::<Part>() + self.kept.taken() + self.log_bytes + self.head.memory()
    }

    /// The run moves on by one message. Nothing follows its last.
    pub(super) fn apply(&mut self, event: &RunEvent) -> Vec<Move> {
        let mut moves = Vec::new();
        if self.ending.is_some() {
            return moves;
        }
        self.at = event.timestamp;
        self.state.apply(event);
        match &event.kind {
            RunEventKind::Progress(said) => self.progress(said, &mut moves),
            RunEventKind::StepOutput(said) => self.output(said, &mut moves),
            RunEventKind::Completed(_) => self.end(RunStatus::Completed, None, &mut moves),
            RunEventKind::Failed(said) => self.end(said.reason.run_status(), Some(said.reason), &mut moves),
            RunEventKind::Started(_) | RunEventKind::LevelStarted(_) | RunEventKind::LevelCompleted(_) => {
                moves.push(Move::Moved(None));
            }
        }
        moves
    }

    fn end(&mut self, status: RunStatus, reason: Option<EndReason>, moves: &mut Vec<Move>) {
        for step in 0..self.steps.len() {
            self.finish_attempt(step, CallResult::failed(RUN_ENDED), moves);
            self.close(step, moves);
        }
        self.ending = Some(Ending { status, reason });
        moves.extend([Move::Moved(None), Move::Ended]);
    }

    fn progress(&mut self, said: &StepProgress, moves: &mut Vec<Move>) {
        let Some(step) = self.state.position(&said.step_id) else { return };
        if let Some(bytes) = said.omitted_bytes {
            self.tell_omitted(step, bytes, moves);
        }
        match &said.update {
            StepUpdate::Running { .. } => {
                self.finish_attempt(step, CallResult::failed(INTERRUPTED), moves);
                self.open(step, moves);
                self.call(step, said.attempt, moves);
            }
            StepUpdate::Completed { .. } => {
                let result = self.output_result(step);
                self.finish_attempt(step, result, moves);
            }
            StepUpdate::Retrying { error, .. } | StepUpdate::Failed { error, .. } => {
                self.finish_attempt(step, CallResult::failed(error), moves);
            }
            StepUpdate::Skipped { reason, .. } | StepUpdate::Cancelled { reason, .. } => {
                self.finish_attempt(step, CallResult::failed(reason), moves);
            }
        }
        self.list(step);
        moves.push(Move::Moved(Some(step)));
        if said.update.status().is_ended() {
            self.close(step, moves);
        }
    }

    /// A step as its state tells it.
    fn take_up(&mut self, step: usize, moves: &mut Vec<Move>) {
        let StepState { status, attempt, error, reason, .. } = self.step(step).clone();
        if attempt > 0 {
            self.open(step, moves);
            self.call(step, attempt, moves);
        }
        self.list(step);
        let why = error.or(reason).unwrap_or_default();
        match status {
            StepStatus::Pending | StepStatus::Running => return,
            StepStatus::Completed => {
                let result = self.output_result(step);
                self.finish_attempt(step, result, moves);
            }
            _ => self.finish_attempt(step, CallResult::failed(&why), moves),
        }
        if status.is_ended() {
            self.close(step, moves);
        }
    }

    fn list(&mut self, step: usize) {
        if !std::mem::replace(&mut self.steps[step].is_listed, true) {
            self.parts.push(Part::Step(step));
        }
    }

    fn open(&mut self, step: usize, moves: &mut Vec<Move>) {
        if !std::mem::replace(&mut self.steps[step].is_open, true) {
            moves.push(Move::StepOpened(step));
        }
    }

    fn close(&mut self, step: usize, moves: &mut Vec<Move>) {
        if std::mem::take(&mut self.steps[step].is_open) {
            moves.push(Move::StepClosed(step));
        }
    }

    fn call(&mut self, step: usize, attempt: u32, moves: &mut Vec<Move>) {
        let inputs = self.inputs(step);
        if !self.kept.take(PART_BYTES + inputs.len()) {
            return;
        }
        self.steps[step].call = Some(self.parts.len());
        moves.push(Move::Called(self.parts.len()));
        self.parts.push(Part::Call(Call { step, attempt, inputs, result: None }));
    }

    fn inputs(&self, step: usize) -> Arc<str> {
        let inputs = self.head.steps.get(step).and_then(|step| step.inputs.clone());
        let inputs = inputs.unwrap_or_else(|| "{}".into());
        if inputs.len() <= OUTPUT_BYTES_MAX {
            return inputs;
        }
        let whole = format!("{}/plan", self.head.run_path());
        serde_json::json!({"truncated": true, "bytes": inputs.len(), "whole": whole}).to_string().into()
    }

    /// Nothing more comes of the attempt that runs, if one does.
    fn finish_attempt(&mut self, step: usize, result: CallResult, moves: &mut Vec<Move>) {
        let StepStory { call, text, log, .. } = &mut self.steps[step];
        let (call, text) = (call.take(), text.take());
        *log = None;
        if let Some((at, text)) = text.and_then(|at| Some((at, self.text_at(at)?)))
            && std::mem::take(&mut text.is_open)
        {
            moves.push(Move::TextEnded(at));
        }
        let Some(at) = call else { return };
        let result = if self.kept.take(result.size()) { result } else { result.without_content() };
        if let Some(Part::Call(call)) = self.parts.get_mut(at) {
            call.result = Some(result);
            moves.push(Move::Answered(at));
        }
    }

    fn output_result(&self, step: usize) -> CallResult {
        let StepState { output, truncated, output_bytes, .. } = self.step(step);
        let value = output.clone().unwrap_or_default();
        let text = as_text(&value);
        if !truncated && text.len() <= OUTPUT_BYTES_MAX {
            return CallResult::Output(value);
        }
        let bytes = output_bytes.unwrap_or(text.len() as u64);
        CallResult::CutOutput(beginning(&text, OUTPUT_BYTES_MAX).to_owned(), bytes)
    }

    fn output(&mut self, said: &StepOutput, moves: &mut Vec<Move>) {
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
        format!("\n[cut here: the whole text is at {}]", self.head.output_path(step))
    }

    fn text_at(&mut self, at: usize) -> Option<&mut Text> {
        match self.parts.get_mut(at) {
            Some(Part::Text(text)) => Some(text),
            _ => None,
        }
    }

    fn tell_omitted(&mut self, step: usize, bytes: u64, moves: &mut Vec<Move>) {
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
