//! The display for files and pipes: one line per event, with the time since the run's start, and no escape codes.

use std::collections::HashMap;
use std::io::{self, Write};

use super::format::{ERROR_CHARS_MAX, Palette, clock, count, duration, names, share};
use super::lines::LineBuffer;
use super::tally::Tally;
use crate::cli::text::{one_line, shortened};
use crate::model::{
    LevelCompleted, OutputStream, RunEvent, RunEventKind, RunStarted, StepId, StepOutput, StepProgress, StepUpdate,
    Timestamp,
};

/// Writes events as lines.
pub(super) struct Plain {
    output: Box<dyn Write + Send>,
    /// Tells this run from others in the same output, with a space behind it; empty where there are none.
    label: String,
    started: Option<Timestamp>,
    /// Unfinished lines of running steps.
    unfinished: HashMap<(StepId, OutputStream), LineBuffer>,
    /// The first write that failed; nothing is written after it.
    error: Option<io::Error>,
}

impl Plain {
    pub(super) fn new(output: Box<dyn Write + Send>, label: Option<String>) -> Self {
        let label = label.map(|label| label + " ").unwrap_or_default();
        Self { output, label, started: None, unfinished: HashMap::new(), error: None }
    }

    pub(super) fn is_broken(&self) -> bool {
        self.error.is_some()
    }

    pub(super) fn on_event(&mut self, event: &RunEvent) {
        let started = *self.started.get_or_insert(event.timestamp);
        let clock = clock(event.timestamp.millis_since(started));
        let lines = match &event.kind {
            RunEventKind::StepOutput(output) => self.output_lines(output),
            RunEventKind::Progress(progress) => self.progress_lines(progress),
            _ => vec![described(event)],
        };
        let text: String = lines.into_iter().map(|line| format!("{clock} {}{line}\n", self.label)).collect();
        self.write(&text);
    }

    pub(super) fn finish(mut self, tally: &Tally) -> io::Result<()> {
        let text: String = tally.summary(Palette { color: false }).into_iter().map(|line| line + "\n").collect();
        self.write(&text);
        self.error.map_or(Ok(()), Err)
    }

    fn write(&mut self, text: &str) {
        if self.error.is_none() {
            let written = self.output.write_all(text.as_bytes()).and_then(|()| self.output.flush());
            self.error = written.err();
        }
    }

    fn output_lines(&mut self, said: &StepOutput) -> Vec<String> {
        let omitted = said.omitted_bytes.map(|bytes| format!("({bytes} bytes left out)"));
        let buffer = self.unfinished.entry((said.step_id.clone(), said.stream)).or_default();
        let lines = omitted.into_iter().chain(buffer.push(&said.chunk));
        lines.map(|line| output_line(&said.step_id, said.stream, &line)).collect()
    }

    /// A step that starts, ends or fails an attempt says nothing more on the line it was at.
    fn progress_lines(&mut self, said: &StepProgress) -> Vec<String> {
        let mut lines = Vec::new();
        for stream in [OutputStream::Stdout, OutputStream::Stderr, OutputStream::Text] {
            let buffer = self.unfinished.remove(&(said.step_id.clone(), stream));
            let rest = buffer.and_then(|mut buffer| buffer.take());
            lines.extend(rest.map(|line| output_line(&said.step_id, stream, &line)));
        }
        lines.push(progress_line(said));
        lines
    }
}

fn output_line(step: &StepId, stream: OutputStream, line: &str) -> String {
    let mark = if stream == OutputStream::Stderr { '!' } else { '|' };
    format!("{step} {mark} {line}").trim_end().to_owned()
}

fn described(event: &RunEvent) -> String {
    match &event.kind {
        RunEventKind::Started(started) => started_line(started, event.run_id.as_str()),
        RunEventKind::LevelStarted(level) => {
            format!("level {} of {} started: {}", level.level + 1, level.total_levels, names(&level.steps, ", "))
        }
        RunEventKind::Progress(progress) => progress_line(progress),
        RunEventKind::StepOutput(output) => output_line(&output.step_id, output.stream, &one_line(&output.chunk)),
        RunEventKind::LevelCompleted(level) => level_line(level),
        RunEventKind::Completed(_) => "run completed".to_owned(),
        RunEventKind::Failed(failed) => format!("run failed: {}", error_text(&failed.error)),
    }
}

fn started_line(started: &RunStarted, run: &str) -> String {
    let (steps, levels) = (count(started.step_count, "step"), count(started.total_levels, "level"));
    format!("run {run} started: {}, {steps} in {levels}", one_line(&started.plan_name))
}

fn level_line(level: &LevelCompleted) -> String {
    let LevelCompleted { completed_steps, failed_steps, skipped_steps, .. } = level;
    let (completed, failed, skipped) = (completed_steps.len(), failed_steps.len(), skipped_steps.len());
    let took = duration(level.execution_time);
    let (level, levels) = (level.level + 1, level.total_levels);
    format!("level {level} of {levels} ended after {took}: {completed} completed, {failed} failed, {skipped} skipped")
}

fn progress_line(said: &StepProgress) -> String {
    let StepProgress { step_id, attempt, progress, .. } = said;
    let what = match &said.update {
        StepUpdate::Running { .. } if *attempt > 1 => format!("started again, attempt {attempt}"),
        StepUpdate::Running { .. } => format!("started: {}", one_line(&said.step_title)),
        StepUpdate::Retrying { error, delay, max_retries, .. } => {
            // Attempts that a restart interrupted come on top of those that the policy allows.
            let attempts = max_retries.saturating_add(1).max(attempt.saturating_add(1));
            let delay = duration(*delay);
            format!("attempt {attempt} of {attempts} failed, next one in {delay}: {}", error_text(error))
        }
        StepUpdate::Completed { duration: took, .. } => {
            format!("completed after {} ({})", duration(*took), share(progress))
        }
        StepUpdate::Failed { error, duration: took, continued } => {
            let goes_on = if *continued { ", the run goes on" } else { "" };
            format!("failed after {} ({}){goes_on}: {}", duration(*took), share(progress), error_text(error))
        }
        StepUpdate::Skipped { reason, .. } => format!("skipped ({}): {}", share(progress), error_text(reason)),
        StepUpdate::Cancelled { reason, .. } => format!("cancelled ({}): {}", share(progress), error_text(reason)),
    };
    format!("{step_id}: {what}")
}

fn error_text(error: &str) -> String {
    shortened(&one_line(error), ERROR_CHARS_MAX).into_owned()
}
