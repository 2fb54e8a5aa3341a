//! A plan: steps and their dependencies. It is checked completely when it is made and never changes afterwards.
//!
//! [`Draft`] reads a plan from a document and collects everything that is wrong with it. Checks that need the tools or
//! the templates are added to the draft by the executor. Only a draft without issues becomes a [`Plan`].

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
pub use handlers::{HANDLERS_TIMEOUT, StepPath};
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
    /// The name for people.
    pub name: Arc<str>,
    /// The description for people.
    pub description: Arc<str>,
    /// In document order, followed by the handlers. Everything else refers to steps by their index here.
    pub steps: Vec<Step>,
    /// Indices of the steps of each level, in the order in which they start: priority first, then the document's order.
    pub levels: Vec<Vec<usize>>,
    /// The inputs of the run: the plan's, overridden by the call's.
    pub inputs: Map<String, Value>,
    /// The expected duration in milliseconds: the plan's own figure, or the sum of the longest steps of all levels; 0
    /// if unknown.
    pub estimated_duration: u64,
    /// The maximum duration of the run.
    pub timeout: Option<Duration>,
    /// What happens to the other steps after one failed.
    pub on_failure: OnFailure,
    /// When a step may start.
    pub scheduling: Scheduling,
    /// The maximum duration of all handlers together.
    pub handler_timeout: Duration,
    /// The maximum language model usage of the run.
    pub budget: Budget,
    /// Starts at [`FIRST_REVISION`](crate::model::FIRST_REVISION) and is incremented by each change of the active run.
    pub revision: u32,
    /// The document that it was read from, if one of its tools may change the plan.
    pub source: Option<Arc<str>>,
    /// How long the run may wait to start.
    pub queue_timeout: Option<Duration>,
    /// The concurrency group of its runs.
    pub concurrency: Option<Arc<Concurrency>>,
    /// JSON Schema of its inputs.
    pub parameters: Option<Arc<Value>>,
    /// The run that this run retries, if any.
    pub retry_of: Option<Arc<RetryOf>>,
    /// The step of another run that started this run, if any.
    pub parent: Option<Parent>,
}

/// One step of a [`Plan`].
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Unique within its plan.
    pub id: StepId,
    /// The name for people; by default the id.
    pub title: Arc<str>,
    /// The description for people.
    pub description: Arc<str>,
    /// The tool that it calls.
    pub tool: Arc<str>,
    /// The tool's inputs, with unevaluated templates.
    pub inputs: Map<String, Value>,
    /// Indices of the steps that it depends on.
    pub dependencies: Vec<usize>,
    /// Indices of the steps whose outputs its templates and its condition use; all of them are ancestors.
    pub references: Vec<usize>,
    /// An expression without its wrapping; the step is skipped if it is false.
    pub conditional: Option<Arc<str>>,
    /// What happens after a failed attempt.
    pub retry: RetryPolicy,
    /// Which failures are retried; by default all except permanent ones.
    pub retry_on: Option<Arc<RetryOn>>,
    /// The timeout of one attempt.
    pub timeout: Option<Duration>,
    /// Steps with a higher priority start first within their level.
    pub priority: i64,
    /// The expected duration in milliseconds.
    pub estimated_duration: Option<u64>,
    /// If it fails, the run continues as if it had completed with output null.
    pub continue_on_failure: bool,
    /// The items for each of which the tool is called; without it the tool is called once.
    pub for_each: Option<ForEach>,
    /// For a handler, which runs after the run's outcome is decided and belongs to no level: its kind.
    pub handler: Option<HandlerKind>,
    /// The level; for a handler, the length of the longest chain of handlers before it.
    pub level: usize,
}

/// When and how often a failed step is retried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The maximum number of retries; at most 100.
    pub max_retries: u32,
    /// How the delay grows.
    pub backoff: Backoff,
    /// The delay before the first retry, in milliseconds.
    pub initial_delay: u64,
    /// The maximum delay before a retry, in milliseconds.
    pub max_delay: u64,
    /// Whether to randomize the delay within its upper half, so that many runs don't retry at the same time.
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

/// What happens to the rest of a run after a step failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// Its level finishes, later steps are skipped.
    #[default]
    Stop,
    /// Only steps that depend on it are skipped; the run fails at its end.
    Continue,
}

impl Plan {
    /// The number of steps, without handlers.
    pub fn step_count(&self) -> usize {
        self.steps.iter().filter(|step| step.handler.is_none()).count()
    }
}

/// When a step of a run may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheduling {
    /// When all steps of earlier levels have ended.
    #[default]
    Levels,
    /// When the steps that it depends on have ended.
    Eager,
}

impl Default for RetryPolicy {
    /// No retries.
    fn default() -> Self {
        Self { max_retries: 0, backoff: Backoff::Fixed, initial_delay: 1_000, max_delay: 30_000, jitter: false }
    }
}

impl Plan {
    /// The plan, with its inputs overridden by a call's inputs, key by key.
    #[must_use]
    pub fn with_inputs(mut self, call: Map<String, Value>) -> Self {
        self.inputs.extend(call);
        self
    }
}
