//! Reads a plan from a file or stdin, and checks it against the tools of this machine.

use std::io::Read;
use std::num::NonZeroU32;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::args::PlanSource;
use super::error::CommandError;
use crate::config::Config;
use crate::executor::PlanLimits;
use crate::executor::check::check_submission;
use crate::executor::complete::complete;
use crate::executor::template::Engine;
use crate::executor::tool::Registry;
use crate::executor::{Context, Durations};
use crate::model::{Plan, Submission, SubmissionError};
use crate::server::declare_tools;

/// What plans may call, by `config`.
pub(super) fn context(config: &Config) -> Result<Arc<Context>, CommandError> {
    let mut registry = Registry::with_builtins();
    declare_tools(config, &mut registry)?;
    let size = |bytes| usize::try_from(bytes).unwrap_or(usize::MAX);
    Ok(Arc::new(Context {
        registry,
        engine: Engine::new(),
        output_bytes_max: size(config.limits.output_bytes),
        step_output_bytes_max: size(config.limits.step_output_bytes),
        durations: Durations::default(),
        interruptions_max: NonZeroU32::new(config.executor.interruptions),
        plan_limits: PlanLimits { steps: config.limits.plan_steps, bytes: size(config.limits.body_bytes) },
    }))
}

/// Reads and checks a plan; `inputs` are laid over its own. Without any it is not to be run, and may lack what it needs.
pub(super) fn read(
    source: &PlanSource,
    inputs: Option<Map<String, Value>>,
    context: &Context,
    config: &Config,
) -> Result<Plan, CommandError> {
    let (name, text) = text(source)?;
    let submission = Submission::parse(&text).map_err(|error| match error {
        SubmissionError::NotJson(error) => CommandError::new(format!("{name} is not JSON: {error}")),
        SubmissionError::NotAnObject => CommandError::new(format!("{name}: expected a JSON object")),
        SubmissionError::Issues(issues) => CommandError::bad_plan(&name, &issues),
    })?;
    let plan = check_submission(&submission, &context.registry, &context.engine, config.limits.plan_steps);
    let source = json!({"plan": submission.plan, "inputs": submission.inputs}).to_string();
    let plan = plan.and_then(|plan| match inputs {
        Some(inputs) => complete(plan.with_inputs(submission.inputs), inputs, &context.engine),
        None => Ok(plan.with_inputs(submission.inputs)),
    });
    let plan = plan.map_err(|issues| CommandError::bad_plan(&name, &issues))?;
    Ok(plan.with_source(&source, &context.registry))
}

fn text(source: &PlanSource) -> Result<(String, Vec<u8>), CommandError> {
    match source {
        PlanSource::File(path) => {
            let name = path.display().to_string();
            let text = std::fs::read(path).map_err(|error| CommandError::io(&format!("read {name}"), &error))?;
            Ok((name, text))
        }
        PlanSource::Stdin => {
            let mut text = Vec::new();
            let read = std::io::stdin().read_to_end(&mut text);
            read.map_err(|error| CommandError::io("read standard input", &error))?;
            Ok(("stdin".to_owned(), text))
        }
    }
}
