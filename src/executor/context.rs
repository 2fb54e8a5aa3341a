//! What every run needs: the tools, the engine of templates and conditions, and the limit of an output's size.

use std::num::NonZeroU32;

use super::durations::Durations;
use super::template::Engine;
use super::tool::Registry;

/// How large plans may become, at a submission and by changes of their runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlanLimits {
    /// Steps in all: `limits.plan_steps`.
    pub steps: usize,
    /// Bytes of its document once it was changed: `limits.body_bytes`, as at a submission.
    pub bytes: usize,
}

impl Default for PlanLimits {
    fn default() -> Self {
        Self { steps: 10_000, bytes: 4 << 20 }
    }
}

/// Shared by all runs and all workers.
pub struct Context {
    /// The tools that steps call.
    pub registry: Registry,
    /// Fills in templates, on workers, and evaluates conditions, on the executor's own thread. Each evaluation is bounded
    /// by its fuel.
    pub engine: Engine,
    /// The largest output that a message carries whole, in bytes of its text or JSON.
    pub output_bytes_max: usize,
    /// The number of output bytes of an attempt that are stored. Further output is streamed, but not stored.
    pub step_output_bytes_max: usize,
    /// How long steps have taken.
    pub durations: Durations,
    /// How many attempts of a step may be interrupted in a row, by an end of the process, before the step fails. `None`
    /// makes attempts for ever.
    pub interruptions_max: Option<NonZeroU32>,
    /// How large the plans of runs may become.
    pub plan_limits: PlanLimits,
}
