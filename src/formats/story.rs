//! What clients keep of a run: a fold over its messages, the same for both formats.
//!
//! A client keeps a list of [parts](Part) in the order in which they appeared. A message adds or changes parts, and
//! [`Story::apply`] returns these [`Move`]s, which a format sends. A late client is sent the parts themselves. So the
//! two can't differ, and limits cut the same for both.

mod output;
mod replan;

use std::collections::VecDeque;
use std::sync::Arc;

use super::budget::{Budget, beginning};
use super::halt::Watch;
use super::head::RunHead;
use super::part::{Call, CallResult, Part, as_text};
use super::{KEPT_BYTES_MAX, OUTPUT_BYTES_MAX, STATE_STEPS_MAX};
use crate::model::{
    Choice, EndReason, OpenLevel, RunEvent, RunEventKind, RunState, RunStatus, Scheduling, StepProgress, StepState,
    StepStatus, StepUpdate, Timestamp,
};

/// The overhead of a call or a text at a client.
const PART_BYTES: usize = 512;

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
    /// A step waits for a decision, and nothing else goes on.
    pub(super) is_halted: bool,
    pub(super) watch: Watch,
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
    /// A call asks for a decision.
    Asked(usize),
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
    /// Its plan is another: other steps than before, at other places.
    Replanned,
    /// The run's state is another, and that of this step.
    Moved(Option<usize>),
    /// The run is halted now.
    Halted,
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
            is_halted: false,
            watch: Watch::default(),
            steps,
            kept: Budget::of(KEPT_BYTES_MAX),
            log_chunks: VecDeque::new(),
            log_bytes: 0,
            logs: 0,
        }
    }

    /// The story of a run of which only the state is known.
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
        story.watch.renew(state);
        story.look_for_halt(&mut moves);
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

    /// The open levels, if levels may overlap and steps are sent one by one.
    pub(super) fn open_levels(&self) -> Option<&[OpenLevel]> {
        let is_told = self.state.scheduling == Scheduling::Eager && self.tells_steps();
        is_told.then_some(&self.state.open_levels[..])
    }

    /// What an attempt of a step is called: unique among all runs that a client may follow.
    pub(super) fn attempt_id(&self, step: usize, attempt: u32) -> String {
        format!("{}/{}/{attempt}", self.state.run_id, self.step(step).id)
    }

    /// Is the question of a step that waits one of a call that was told?
    pub(super) fn is_asked_by_a_call(&self, step: usize) -> bool {
        self.steps[step].call.is_some()
    }

    /// The part that a move is about.
    pub(super) fn part(&self, made: &Move) -> Option<&Part> {
        match made {
            Move::Called(at) | Move::Asked(at) | Move::Answered(at) => self.parts.get(*at),
            Move::TextBegan(at) | Move::TextGrew(at, _) | Move::TextEnded(at) => self.parts.get(*at),
            Move::LogBegan(at) | Move::LogDropped(at) | Move::LogGrew(at) => self.parts.get(*at),
            Move::StepOpened(_) | Move::StepClosed(_) | Move::Replanned => None,
            Move::Moved(_) | Move::Halted | Move::Ended => None,
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
        self.fold(event);
        match &event.kind {
            RunEventKind::Progress(said) => self.progress(said, &mut moves),
            RunEventKind::StepOutput(said) => {
                self.output(said, &mut moves);
                return moves;
            }
            RunEventKind::Completed(_) => self.end(RunStatus::Completed, None, &mut moves),
            RunEventKind::Failed(said) => self.end(said.reason.run_status(), Some(said.reason), &mut moves),
            RunEventKind::PlanChanged(_) | RunEventKind::Started(_) => {
                self.watch.renew(&self.state);
                moves.push(if brings_plan(event) { Move::Replanned } else { Move::Moved(None) });
            }
            RunEventKind::LevelStarted(_) | RunEventKind::LevelCompleted(_) => {
                moves.push(Move::Moved(None));
            }
        }
        self.look_for_halt(&mut moves);
        moves
    }

    fn look_for_halt(&mut self, moves: &mut Vec<Move>) {
        let is_halted = self.ending.is_none() && self.watch.is_halted(&self.state, &self.head);
        if is_halted && !self.is_halted {
            moves.push(Move::Halted);
        }
        self.is_halted = is_halted;
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
            // How far its items are; it has begun before.
            StepUpdate::Running { .. } if said.items.is_some() && self.steps[step].is_open => {}
            StepUpdate::Running { .. } => {
                self.finish_attempt(step, CallResult::failed(INTERRUPTED), moves);
                self.open(step, moves);
                self.call(step, said.attempt, moves);
            }
            StepUpdate::Waiting { .. } => self.ask(step, moves),
            StepUpdate::Completed { .. } => {
                let result = self.output_result(step);
                self.finish_attempt(step, result, moves);
            }
            StepUpdate::Failed { error, .. }
                if said.decision.as_ref().is_some_and(|it| it.choice == Choice::Reject) =>
            {
                self.finish_attempt(step, CallResult::denied(error), moves);
            }
            StepUpdate::Retrying { error, .. } | StepUpdate::Failed { error, .. } => {
                self.finish_attempt(step, CallResult::failed(error), moves);
            }
            StepUpdate::Skipped { reason, .. } | StepUpdate::Cancelled { reason, .. } => {
                self.finish_attempt(step, CallResult::failed(reason), moves);
            }
        }
        self.watch.note(&self.state.steps[step]);
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
            StepStatus::Waiting => return self.ask(step, moves),
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
        if self.kept.take(PART_BYTES + inputs.len()) {
            self.add_call(step, attempt, inputs, moves);
        }
    }

    fn add_call(&mut self, step: usize, attempt: u32, inputs: Arc<str>, moves: &mut Vec<Move>) {
        self.steps[step].call = Some(self.parts.len());
        moves.push(Move::Called(self.parts.len()));
        self.parts.push(Part::Call(Call { step, attempt, inputs, is_question: false, result: None }));
    }

    /// The attempt that runs asks for a decision. It does so however much clients keep: nobody else would answer.
    fn ask(&mut self, step: usize, moves: &mut Vec<Move>) {
        if self.steps[step].call.is_none() {
            self.add_call(step, self.step(step).attempt, "{}".into(), moves);
        }
        let Some(at) = self.steps[step].call else { return };
        if let Some(Part::Call(call)) = self.parts.get_mut(at) {
            call.is_question = true;
            moves.push(Move::Asked(at));
        }
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
}

/// Does a message bring another plan?
fn brings_plan(event: &RunEvent) -> bool {
    match &event.kind {
        RunEventKind::PlanChanged(_) => true,
        RunEventKind::Started(started) => !started.steps.is_empty(),
        _ => false,
    }
}
