//! What the executor's tests share: plans made from few words, a stand-in for the engine of expressions, random
//! numbers.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::context::{Context, PlanLimits};
use super::durations::Durations;
use super::run::NewRun;
use super::template::Engine;
use super::tool::{Call, Outcome, Registry, Tool, ToolError};
use crate::model::{
    Backoff, Budget, OnFailure, Plan, ProjectId, RetryPolicy, RunId, Scheduling, Step, StepId, Timestamp,
};

/// Xorshift: the same numbers for the same seed.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 11) as usize % bound
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

pub fn step_id(text: &str) -> StepId {
    StepId::parse(text).expect("a step id")
}

/// A plan out of lines like `deploy: build test`, dependencies first. Steps call the tool `echo`, and reference all
/// their dependencies.
pub fn plan(lines: &[&str]) -> Plan {
    let mut steps: Vec<Step> = Vec::new();
    for line in lines {
        let (id, rest) = line.split_once(':').unwrap_or((line, ""));
        let find = |name: &str| steps.iter().position(|step| step.id.as_str() == name).expect("a step above");
        let dependencies: Vec<_> = rest.split_whitespace().map(find).collect();
        let level = dependencies.iter().map(|&step| steps[step].level + 1).max().unwrap_or(0);
        steps.push(step(id, dependencies, level));
    }
    let mut levels = vec![Vec::new(); steps.iter().map(|step| step.level + 1).max().unwrap_or(0)];
    for (at, step) in steps.iter().enumerate() {
        levels[step.level].push(at);
    }
    Plan {
        name: "plan".into(),
        description: "".into(),
        steps,
        levels,
        inputs: Map::new(),
        estimated_duration: 0,
        timeout: None,
        on_failure: OnFailure::Stop,
        scheduling: Scheduling::Levels,
        handler_timeout: crate::model::HANDLERS_TIMEOUT,
        budget: Budget::default(),
        revision: crate::model::FIRST_REVISION,
        source: None,
        queue_timeout: None,
        concurrency: None,
        parameters: None,
        retry_of: None,
        parent: None,
    }
}

fn step(id: &str, dependencies: Vec<usize>, level: usize) -> Step {
    Step {
        id: step_id(id),
        title: id.to_uppercase().into(),
        description: "".into(),
        tool: "echo".into(),
        inputs: Map::new(),
        references: dependencies.clone(),
        dependencies,
        conditional: None,
        retry: retries(0, 0),
        retry_on: None,
        timeout: None,
        priority: 0,
        estimated_duration: None,
        continue_on_failure: false,
        for_each: None,
        handler: None,
        level,
    }
}

pub fn retries(max_retries: u32, initial_delay: u64) -> RetryPolicy {
    RetryPolicy { max_retries, backoff: Backoff::Fixed, initial_delay, max_delay: 30_000, jitter: false }
}

pub fn new_run(name: &str, plan: Plan) -> NewRun {
    NewRun {
        project: ProjectId::parse("p").expect("an id"),
        run: RunId::parse(name).expect("an id"),
        plan: Arc::new(plan),
        created_at: Timestamp::from_millis(0),
        seed: 1,
        whole_outputs: HashMap::new(),
        is_held: false,
    }
}

/// What of attempts may be interrupted in a row in tests.
pub const INTERRUPTIONS_MAX: u32 = 3;

/// The tools `echo`, `once`, which must not run twice, and `wait`, which only waits; messages carry at most 64 bytes of
/// output, and of what an attempt says 1,000 are kept.
pub fn context() -> Arc<Context> {
    context_with(|_| {})
}

pub fn context_with(add: impl FnOnce(&mut Registry)) -> Arc<Context> {
    let mut registry = Registry::new();
    registry.insert("echo", Echo { rerun: true, only_waits: false });
    registry.insert("once", Echo { rerun: false, only_waits: false });
    registry.insert("wait", Echo { rerun: true, only_waits: true });
    add(&mut registry);
    Arc::new(Context {
        registry,
        engine: Engine::new(),
        output_bytes_max: 64,
        step_output_bytes_max: 1000,
        durations: Durations::default(),
        interruptions_max: NonZeroU32::new(INTERRUPTIONS_MAX),
        plan_limits: PlanLimits { steps: 20, ..PlanLimits::default() },
    })
}

struct Echo {
    rerun: bool,
    only_waits: bool,
}

impl Tool for Echo {
    fn call(&self, call: &Call<'_>) -> Result<Outcome, ToolError> {
        Ok(Outcome::Output(Value::Object(call.inputs.clone())))
    }

    fn check_inputs(&self, inputs: &Map<String, Value>, _: &dyn Fn(&str) -> bool) -> Vec<(String, String)> {
        let refused = inputs.contains_key("refused").then_some(("refused", "is not welcome"));
        let missing = inputs.contains_key("misses").then_some(("", "`must` is missing"));
        let issues = refused.into_iter().chain(missing);
        issues.map(|(path, message)| (path.to_owned(), message.to_owned())).collect()
    }

    fn rerun(&self) -> bool {
        self.rerun
    }

    fn only_waits(&self) -> bool {
        self.only_waits
    }

    fn runs_plans(&self) -> bool {
        true
    }
}
