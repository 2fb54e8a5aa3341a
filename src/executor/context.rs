//! What every run leans on: the tools, the engine of templates and conditions, and what an expression may see.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::tool::Registry;
use crate::model::{ProjectId, RunId, StepId};

/// Shared by all runs and all workers.
pub struct Context {
    /// The tools that steps call.
    pub registry: Registry,
    /// Fills in templates and evaluates conditions.
    pub expressions: Box<dyn Expressions>,
    /// The largest output that a message carries whole, in bytes of its text or JSON.
    pub output_bytes_max: usize,
}

/// The engine of templates and conditions. Every evaluation is bounded in time by the engine itself.
pub trait Expressions: Send + Sync {
    /// Does the condition hold? Called on the executor's own thread.
    ///
    /// # Errors
    /// Why it can't be told; the step fails with this text.
    fn is_true(&self, expression: &str, scope: &Scope) -> Result<bool, String>;

    /// `inputs` with their templates filled in. Called on a worker.
    ///
    /// # Errors
    /// What can't be filled in; the step fails with this text.
    fn render(&self, inputs: &Map<String, Value>, scope: &Scope) -> Result<Map<String, Value>, String>;
}

/// What the expressions of one step may name.
#[derive(Debug, Clone)]
pub struct Scope {
    /// `projectId`
    pub project: ProjectId,
    /// `runId`
    pub run: RunId,
    /// `inputs`
    pub inputs: Arc<Map<String, Value>>,
    /// `steps.ID.output`, of the steps that the step [references](crate::model::Step::references) alone.
    pub outputs: Vec<(StepId, Arc<Value>)>,
}
