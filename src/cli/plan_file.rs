//! A plan from a file or stdin, checked against the tools of this machine.

use std::io::Read;
use std::num::NonZeroU32;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::args::PlanSource;
use super::error::CommandError;
use crate::config::Config;
use crate::executor::Context;
use crate::executor::check::check_submission;
use crate::executor::template::Engine;
use crate::executor::tool::Registry;
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
        interruptions_max: NonZeroU32::new(config.executor.interruptions),
    }))
}

/// Reads and checks a plan; `inputs` are laid over its own.
pub(super) fn read(
    source: &PlanSource,
    inputs: Map<String, Value>,
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
    let plan = plan.map_err(|issues| CommandError::bad_plan(&name, &issues))?;
    Ok(plan.with_inputs(submission.inputs).with_inputs(inputs))
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
            read.map_err(|error| CommandError::io("read stdin", &error))?;
            Ok(("stdin".to_owned(), text))
        }
    }
}
