//! Totals of a run: a fold of its messages, from which the summary is written.

use std::collections::{HashMap, HashSet};
use std::mem::{Discriminant, discriminant};
use std::sync::Arc;

use super::palette::{Palette, Tone};
use crate::model::{EndReason, Progress, RunEvent, RunEventKind, StepId, StepProgress, StepUpdate, Timestamp, Usage};
use crate::text::{
    ERROR_CHARS_MAX, count, duration, last_state, names, neutral, one_line, shortened, step_counts, usage_text,
};

/// The most failed steps whose errors the summary tells; the rest is counted.
const FAILURES_MAX: usize = 20;

/// The most steps that are named as the slowest.
const SLOWEST_MAX: usize = 3;

/// Counts and marks of one run.
#[derive(Debug, Default)]
pub(super) struct Tally {
    plan: Arc<str>,
    started: Timestamp,
    newest: Timestamp,
    has_started: bool,
    levels: HashSet<usize>,
    progress: Progress,
    retries: usize,
    /// The slowest first.
    slowest: Vec<(StepId, u64)>,
    /// The newest move of each step.
    steps: HashMap<StepId, Move>,
    /// The first of the failed steps, with their errors, whole.
    failures: Vec<(StepId, String)>,
    /// What it has used in all, as its end tells.
    usage: Option<Box<Usage>>,
    end: Option<End>,
}

/// Which attempt, and what was said of it.
type Move = (u32, Discriminant<StepUpdate>);

#[derive(Debug)]
enum End {
    Completed { total: u64, critical_path: Vec<StepId> },
    Failed { error: String, reason: EndReason },
}

impl Tally {
    /// The run moves on by one message.
    pub(super) fn apply(&mut self, event: &RunEvent) {
        self.newest = event.timestamp;
        match &event.kind {
            RunEventKind::Started(started) => {
                self.plan = started.plan_name.clone();
                self.started = event.timestamp;
                self.has_started = true;
                self.progress.total = started.step_count;
            }
            RunEventKind::Progress(progress) => self.apply_progress(progress),
            RunEventKind::Completed(completed) => {
                let metrics = &completed.performance_metrics;
                let critical_path = metrics.critical_path.clone();
                self.usage.clone_from(&completed.usage);
                self.end = Some(End::Completed { total: metrics.total_execution_time, critical_path });
            }
            RunEventKind::Failed(failed) => {
                self.usage.clone_from(&failed.usage);
                self.end = Some(End::Failed { error: failed.error.clone(), reason: failed.reason });
            }
            RunEventKind::LevelStarted(level) => drop(self.levels.insert(level.level)),
            RunEventKind::PlanChanged(changed) => self.progress = changed.progress,
            RunEventKind::StepOutput(_) | RunEventKind::LevelCompleted(_) => {}
        }
    }

    /// Was this said already?
    pub(super) fn knows(&self, event: &RunEvent) -> bool {
        match &event.kind {
            RunEventKind::Started(_) => self.has_started,
            RunEventKind::LevelStarted(level) => self.levels.contains(&level.level),
            RunEventKind::Progress(said) => {
                self.steps.get(&said.step_id) == Some(&(said.attempt, discriminant(&said.update)))
            }
            _ => false,
        }
    }

    fn apply_progress(&mut self, said: &StepProgress) {
        self.progress = said.progress;
        self.steps.insert(said.step_id.clone(), (said.attempt, discriminant(&said.update)));
        match &said.update {
            StepUpdate::Retrying { .. } => self.retries += 1,
            StepUpdate::Completed { duration, .. } => self.time(&said.step_id, *duration),
            StepUpdate::Failed { error, duration, .. } => {
                self.time(&said.step_id, *duration);
                if self.failures.len() < FAILURES_MAX {
                    self.failures.push((said.step_id.clone(), error.clone()));
                }
            }
            StepUpdate::Running { .. }
            | StepUpdate::Waiting { .. }
            | StepUpdate::Skipped { .. }
            | StepUpdate::Cancelled { .. } => {}
        }
    }

    fn time(&mut self, step: &StepId, took: u64) {
        let at = self.slowest.partition_point(|(_, other)| *other >= took);
        self.slowest.insert(at, (step.clone(), took));
        self.slowest.truncate(SLOWEST_MAX);
    }

    /// The summary, line by line, harmless.
    pub(super) fn summary(&self, palette: Palette) -> Vec<String> {
        let mut lines = vec![String::new(), self.verdict(palette)];
        let Progress { completed, failed, skipped, cancelled, total, .. } = self.progress;
        let mut row = |name: &str, text: String| {
            lines.push(format!("  {} {text}", palette.paint(Tone::Quiet, &format!("{name:<14}"))));
        };
        row("steps", format!("{}, of {total}", step_counts(completed, failed, skipped, cancelled)));
        row("retries", self.retries.to_string());
        if !self.slowest.is_empty() {
            let steps: Vec<_> = self.slowest.iter().map(|(step, took)| format!("{step} {}", duration(*took))).collect();
            row("slowest", steps.join(", "));
        }
        if let Some(End::Completed { critical_path, .. }) = &self.end
            && !critical_path.is_empty()
        {
            row("critical path", names(critical_path, " > "));
        }
        if let Some(usage) = &self.usage {
            row("usage", usage_text(usage));
        }
        lines.extend(self.errors(palette));
        lines
    }

    fn verdict(&self, palette: Palette) -> String {
        let (tone, word, total, error) = match &self.end {
            Some(End::Completed { total, .. }) => (Tone::Good, "completed", *total, None),
            Some(End::Failed { error, reason }) => (Tone::Bad, end_word(*reason), self.elapsed(), Some(error)),
            None => (Tone::Warning, "not finished", self.elapsed(), None),
        };
        let verdict = format!("{} {} after {}", one_line(&self.plan), palette.paint(tone, word), duration(total));
        match error {
            Some(error) => format!("{verdict}: {}", shortened(&one_line(error), ERROR_CHARS_MAX)),
            None => verdict,
        }
    }

    fn elapsed(&self) -> u64 {
        self.newest.millis_since(self.started)
    }

    fn errors(&self, palette: Palette) -> Vec<String> {
        let mut lines = Vec::new();
        for (step, error) in &self.failures {
            let mut said = error.trim_end().split('\n').map(|line| neutral(last_state(line)));
            let mark = palette.paint(Tone::Bad, "error");
            lines.push(format!("  {mark} {step}: {}", said.next().unwrap_or_default()));
            lines.extend(said.map(|line| format!("    {line}").trim_end().to_owned()));
        }
        let untold = self.progress.failed.saturating_sub(self.failures.len());
        if untold > 0 {
            lines.push(format!("  and {}", count(untold, "more failed step")));
        }
        lines
    }
}

fn end_word(reason: EndReason) -> &'static str {
    match reason {
        EndReason::StepFailed => "failed",
        EndReason::Cancelled => "cancelled",
        EndReason::Timeout => "timed out",
        EndReason::QueueTimeout => "timed out in the queue",
        EndReason::Interrupted => "interrupted",
        EndReason::Budget => "exceeded its budget",
    }
}
