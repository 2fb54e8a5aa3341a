//! A plan: steps and what each waits for. Checked whole when it is made, and never changed afterwards.
//!
//! [`Draft`] reads one out of a document and gathers everything that is wrong with it; what needs the tools and the
//! templates to tell is added to the draft by whoever knows those. Only a draft without issues becomes a [`Plan`].

mod concurrency;
mod draft;
mod fields;
mod for_each;
mod graph;
mod handlers;
mod issue;
mod levels;
mod patch;
mod planned;
mod retry_of;
mod retry_on;
mod schedule;
mod shown;
mod submission;
mod summary;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Budget, HandlerKind, Parent, StepId};

pub use concurrency::{Concurrency, GROUP_CHARS_MAX, OnConflict};
pub use draft::Draft;
pub use for_each::{ForEach, INDEX_NAME, ITEMS_MAX, Items};
pub use handlers::{HANDLERS_TIMEOUT, StepPlace};
pub use issue::{ISSUES_MAX, Issue, Issues};
pub use patch::{NOTED_REVISION, Patched, is_noted, noted_document, unnoted_document};
pub use planned::{open_change, standing_document, unplanned_document};
pub use retry_of::{Earlier, KeptOutput, RetryOf};
pub use retry_on::{Failure, RetryOn};
pub use schedule::{Overlap, ScheduleSpec};
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
    /// In the order of the document, handlers behind all others. Everything else names steps by their index here.
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
    /// When a step may start.
    pub scheduling: Scheduling,
    /// What its handlers may take together.
    pub handler_timeout: Duration,
    /// What the run may use of language models.
    pub budget: Budget,
    /// [`FIRST_REVISION`](crate::model::FIRST_REVISION), and one more with each change while its run goes on.
    pub revision: u32,
    /// The document that it was read from, where one of its tools may change it.
    pub source: Option<Arc<str>>,
    /// How long the run may wait before it begins.
    pub queue_timeout: Option<Duration>,
    /// The runs that it must not run beside.
    pub concurrency: Option<Arc<Concurrency>>,
    /// JSON Schema of its inputs.
    pub parameters: Option<Arc<Value>>,
    /// The run that the run goes on from, where it does.
    pub retry_of: Option<Arc<RetryOf>>,
    /// The step of another run that this run of it was begun by.
    pub parent: Option<Parent>,
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
    /// Which failures are followed by another attempt; all that may pass, where there is none.
    pub retry_on: Option<Arc<RetryOn>>,
    /// How long one attempt may take.
    pub timeout: Option<Duration>,
    /// Higher starts first in its level.
    pub priority: i64,
    /// Milliseconds it expects to take.
    pub estimated_duration: Option<u64>,
    /// The run goes on when it fails, as if it had completed with output null.
    pub continue_on_failure: bool,
    /// The items that its tool is called for, one by one; the tool is called once where there is none.
    pub for_each: Option<ForEach>,
    /// It runs once the run's outcome is settled, and is in no level.
    pub handler: Option<HandlerKind>,
    /// The level it belongs to; of a handler the length of the longest chain that leads to it.
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

impl Plan {
    /// The steps that are no handlers.
    pub fn step_count(&self) -> usize {
        self.steps.iter().filter(|step| step.handler.is_none()).count()
    }
}

/// When a step of a run may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheduling {
    /// Once all steps of the levels before its own have ended.
    #[default]
    Levels,
    /// Once the steps that it depends on have ended.
    Eager,
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
