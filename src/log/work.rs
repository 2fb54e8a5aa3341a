//! Counts of what the log has stored, and of what runs and steps have done.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{Choice, RunEvent, RunEventKind, StepUpdate, Usage};

const RUN_WORDS: [&str; 3] = ["started", "completed", "failed"];
const STEP_WORDS: [&str; 7] = ["running", "retrying", "completed", "failed", "skipped", "cancelled", "waiting"];
const DECISION_WORDS: [&str; 3] = ["approve", "reject", "expired"];

/// Maximum number of tools whose usage is counted by name. A run may outlive its tools, and names come from plans.
const TOOLS_MAX: usize = 256;

/// The name under which the usage of all other tools is counted.
const OTHER_TOOLS: &str = "(other)";

/// Status changes of runs and steps, and related counts.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct WorkCounts {
    runs: [u64; RUN_WORDS.len()],
    steps: [u64; STEP_WORDS.len()],
    decisions: [u64; DECISION_WORDS.len()],
    commits: u64,
    messages: u64,
    /// Usage of attempts, by tool.
    usage: BTreeMap<Arc<str>, Usage>,
    /// The current contents when this was counted.
    gauges: Gauges,
}

/// The current contents of a journal.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Gauges {
    /// Running and queued runs.
    pub open_runs: usize,
    /// Steps that wait for a decision.
    pub steps_waiting: usize,
    /// Projects that have messages, runs or subscribers.
    pub projects: usize,
    /// Bytes of remembered idempotency keys.
    pub key_bytes: u64,
    /// Events dropped so far because too many were queued for their webhook.
    pub webhooks_dropped: u64,
}

impl WorkCounts {
    /// Counts a message of a run.
    pub fn count(&mut self, event: &RunEvent) {
        match &event.kind {
            RunEventKind::Started(_) => self.runs[0] += 1,
            RunEventKind::Completed(_) => self.runs[1] += 1,
            RunEventKind::Failed(_) => self.runs[2] += 1,
            RunEventKind::Progress(progress) => {
                if let Some(decision) = &progress.decision {
                    self.decisions[match (decision.expired, decision.choice) {
                        (true, _) => 2,
                        (false, Choice::Approve) => 0,
                        (false, Choice::Reject) => 1,
                    }] += 1;
                }
                self.steps[match progress.update {
                    StepUpdate::Running { .. } if progress.items.is_some_and(|items| items.have_begun()) => return,
                    StepUpdate::Running { .. } => 0,
                    StepUpdate::Retrying { .. } => 1,
                    StepUpdate::Completed { .. } => 2,
                    StepUpdate::Failed { .. } => 3,
                    StepUpdate::Skipped { .. } => 4,
                    StepUpdate::Cancelled { .. } => 5,
                    StepUpdate::Waiting { .. } => 6,
                }] += 1;
            }
            _ => {}
        }
    }

    /// Counts the usage of an attempt at this tool.
    pub fn count_usage(&mut self, tool: &Arc<str>, used: &Usage) {
        let is_counted = self.usage.contains_key(tool) || self.usage.len() < TOOLS_MAX;
        let tool = if is_counted { tool.clone() } else { OTHER_TOOLS.into() };
        self.usage.entry(tool).or_default().add(used);
    }

    /// Counts a stored message.
    pub fn count_message(&mut self) {
        self.messages += 1;
    }

    /// Counts a committed batch.
    pub fn count_commit(&mut self) {
        self.commits += 1;
    }

    /// Sets the current contents.
    pub fn set_gauges(&mut self, gauges: Gauges) {
        self.gauges = gauges;
    }

    /// Adds other counts, and takes over their current contents.
    pub fn add(&mut self, other: &Self) {
        self.runs.iter_mut().zip(other.runs).for_each(|(sum, more)| *sum += more);
        self.steps.iter_mut().zip(other.steps).for_each(|(sum, more)| *sum += more);
        self.decisions.iter_mut().zip(other.decisions).for_each(|(sum, more)| *sum += more);
        self.commits += other.commits;
        self.messages += other.messages;
        other.usage.iter().for_each(|(tool, used)| self.count_usage(tool, used));
        self.gauges = other.gauges;
    }

    /// Whether nothing has been counted.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Committed batches.
    pub fn commits(&self) -> u64 {
        self.commits
    }

    /// Stored messages.
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// Usage of attempts, by tool.
    pub fn usage(&self) -> &BTreeMap<Arc<str>, Usage> {
        &self.usage
    }

    /// The current contents.
    pub fn gauges(&self) -> Gauges {
        self.gauges
    }

    /// Runs, by status.
    pub fn runs(&self) -> impl Iterator<Item = (&'static str, u64)> {
        RUN_WORDS.into_iter().zip(self.runs)
    }

    /// Decisions of steps, by decision.
    pub fn decisions(&self) -> impl Iterator<Item = (&'static str, u64)> {
        DECISION_WORDS.into_iter().zip(self.decisions)
    }

    /// Status changes of steps, by new status.
    pub fn steps(&self) -> impl Iterator<Item = (&'static str, u64)> {
        STEP_WORDS.into_iter().zip(self.steps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_tools_than_are_counted_by_name_are_counted_together() {
        let (mut all, used) = (WorkCounts::default(), Usage { total_tokens: 1, ..Usage::default() });
        for tool in 0..TOOLS_MAX + 10 {
            let mut one = WorkCounts::default();
            one.count_usage(&tool.to_string().into(), &used);
            all.add(&one);
        }
        assert_eq!(all.usage().len(), TOOLS_MAX + 1);
        assert_eq!(all.usage()[OTHER_TOOLS].total_tokens, 10);
    }
}
