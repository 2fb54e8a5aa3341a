//! `stepcast check`: lists the mistakes of a plan, or its steps by level.

use std::process::ExitCode;

use super::args::{PlanSource, Settings};
use super::error::CommandError;
use super::output::say;
use super::{load, plan_file};
use crate::text::{count, one_line};

pub(super) fn check(settings: Settings, source: &PlanSource) -> Result<ExitCode, CommandError> {
    let config = load(settings)?;
    let context = plan_file::context(&config)?;
    let plan = plan_file::read(source, None, &context, &config)?;
    let (steps, levels) = (count(plan.steps.len(), "step"), count(plan.levels.len(), "level"));
    say(format_args!("{}: {steps} in {levels}", one_line(&plan.name)))?;
    for (level, steps) in plan.levels.iter().enumerate() {
        let ids: Vec<_> = steps.iter().map(|&step| plan.steps[step].id.as_str()).collect();
        say(format_args!("  level {}: {}", level + 1, ids.join(", ")))?;
    }
    Ok(ExitCode::SUCCESS)
}
