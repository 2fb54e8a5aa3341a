//! What was kept, and what runs and steps did, counted.

use crate::model::{RunEvent, RunEventKind, StepUpdate};

const RUN_WORDS: [&str; 3] = ["started", "completed", "failed"];
const STEP_WORDS: [&str; 6] = ["running", "retrying", "completed", "failed", "skipped", "cancelled"];

/// Moves of runs and steps.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct WorkCounts {
    runs: [u64; RUN_WORDS.len()],
    steps: [u64; STEP_WORDS.len()],
    commits: u64,
    messages: u64,
    /// What there was when this was counted.
    held: Held,
}

/// What a journal holds.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Runs that run or wait.
    pub open_runs: usize,
    /// Projects that hold something, or are watched.
    pub projects: usize,
    /// What the keys weigh that are remembered.
    pub key_bytes: u64,
    /// Events that were given up so far because too much waited for their webhook.
    pub webhooks_dropped: u64,
}

impl WorkCounts {
    /// A run has spoken.
    pub fn count(&mut self, event: &RunEvent) {
        match &event.kind {
            RunEventKind::Started(_) => self.runs[0] += 1,
            RunEventKind::Completed(_) => self.runs[1] += 1,
            RunEventKind::Failed(_) => self.runs[2] += 1,
            RunEventKind::Progress(progress) => {
                self.steps[match progress.update {
                    StepUpdate::Running { .. } => 0,
                    StepUpdate::Retrying { .. } => 1,
                    StepUpdate::Completed { .. } => 2,
                    StepUpdate::Failed { .. } => 3,
                    StepUpdate::Skipped { .. } => 4,
                    StepUpdate::Cancelled { .. } => 5,
                }] += 1;
            }
            _ => {}
        }
    }

    /// A message was kept.
    pub fn count_message(&mut self) {
        self.messages += 1;
    }

    /// A batch was committed.
    pub fn count_commit(&mut self) {
        self.commits += 1;
    }

    /// What there is at the end of it.
    pub fn note_held(&mut self, held: Held) {
        self.held = held;
    }

    /// What was counted here and there together, and what there is after the other.
    pub fn add(&mut self, other: &Self) {
        self.runs.iter_mut().zip(other.runs).for_each(|(sum, more)| *sum += more);
        self.steps.iter_mut().zip(other.steps).for_each(|(sum, more)| *sum += more);
        self.commits += other.commits;
        self.messages += other.messages;
        self.held = other.held;
    }

    /// Nothing yet?
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Batches that were committed.
    pub fn commits(&self) -> u64 {
        self.commits
    }

    /// Messages that were kept.
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// What there is.
    pub fn held(&self) -> Held {
        self.held
    }

    /// Runs, by what became of them.
    pub fn runs(&self) -> impl Iterator<Item = (&'static str, u64)> {
        RUN_WORDS.into_iter().zip(self.runs)
    }

    /// Moves of steps, by where to.
    pub fn steps(&self) -> impl Iterator<Item = (&'static str, u64)> {
        STEP_WORDS.into_iter().zip(self.steps)
    }
}
