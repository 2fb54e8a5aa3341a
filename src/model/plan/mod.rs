//! A plan: steps and what each waits for. Checked whole when it is made, and never changed afterwards.
//!
//! [`Draft`] reads one out of a document and gathers everything that is wrong with it; what needs the tools and the
//! templates to tell is added to the draft by whoever knows those. Only a draft without issues becomes a [`Plan`].

mod draft;
mod fields;
mod graph;
mod issue;
mod shown;
mod submission;
mod summary;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::StepId;

pub use draft::Draft;
pub use issue::{ISSUES_MAX, Issue, Issues};
pub use shown::shown_document;
pub use submission::{Submission, SubmissionError};
pub use summary::PlanSummary;

/// A plan whose ids are unique, whose dependencies exist and form no cycle, and whose levels are known.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// What people call it.
    pub name: Arc<str>,
    /// What it is for.
    pub description: Arc<str>,
    /// In the order of the document. Everything else names steps by their index here.
    pub steps: Vec<Step>,
    /// Indices of the steps of each level, in the order in which they start: priority first, then the document's order.
    pub levels: Vec<Vec<usize>>,
    /// Inputs of the run, the call's laid over the plan's.
    pub inputs: Map<String, Value>,
    /// Milliseconds it expects to take: the plan's own figure, or the longest step of each level added up; 0 where
    /// nothing is said.
    pub estimated_duration: u64,
    /// How long the run may take.
    pub timeout: Option<Duration>,
    /// What a failed step does to the rest.
    pub on_failure: OnFailure,
}

/// One step of a [`Plan`].
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Unique in its plan.
    pub id: StepId,
    /// What people call it; the id where the plan gives none.
    pub title: Arc<str>,
    /// What it is for.
    pub description: Arc<str>,
    /// The tool that it calls.
    pub tool: Arc<str>,
    /// The tool's inputs, their templates not yet filled in.
    pub inputs: Map<String, Value>,
    /// Indices of the steps that it waits for.
    pub dependencies: Vec<usize>,
    /// Indices of the steps, all of them ancestors, whose outputs its templates and its condition name.
    pub references: Vec<usize>,
    /// An expression without its wrapping; the step is skipped where it is false.
    pub conditional: Option<Arc<str>>,
    /// What happens after a failed attempt.
    pub retry: RetryPolicy,
    /// How long one attempt may take.
    pub timeout: Option<Duration>,
    /// Higher starts first in its level.
    pub priority: i64,
    /// Milliseconds it expects to take.
    pub estimated_duration: Option<u64>,
    /// The run goes on when it fails, as if it had completed with output null.
    pub continue_on_failure: bool,
    /// The level it belongs to.
    pub level: usize,
}

/// When and how often a failed step is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Further attempts after the first; at most 100.
    pub max_retries: u32,
    /// How the delay grows.
    pub backoff: Backoff,
    /// Milliseconds before the first retry.
    pub initial_delay: u64,
    /// Milliseconds before any retry at most.
    pub max_delay: u64,
    /// Spread the delay at random over its upper half, so that many runs don't retry in step.
    pub jitter: bool,
}

/// How retry delays grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backoff {
    /// Always `initialDelay`.
    #[default]
    Fixed,
    /// `initialDelay * n` before the nth retry.
    Linear,
    /// `initialDelay * 2^(n-1)` before the nth retry.
    Exponential,
}

/// What a failed step does to the rest of its run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// Its level finishes, later steps are skipped.
    #[default]
    Stop,
    /// Only what depends on it is skipped; the run fails at its end.
    Continue,
}

impl Default for RetryPolicy {
    /// No retries.
    fn default() -> Self {
        Self { max_retries: 0, backoff: Backoff::Fixed, initial_delay: 1_000, max_delay: 30_000, jitter: false }
    }
}

impl Plan {
    /// The plan with a call's inputs laid over its own, key by key.
    #[must_use]
    pub fn with_inputs(mut self, call: Map<String, Value>) -> Self {
        self.inputs.extend(call);
        self
    }
}
