//! `stepcast config check` and `stepcast config print`: lists the mistakes in the settings, or the effective settings.

use std::io;
use std::process::ExitCode;

use log::LevelFilter;

use super::args::Settings;
use super::error::CommandError;
use super::{load, logging, output};
use crate::server::check_settings;

pub(super) fn check(settings: Settings, insecure: bool) -> Result<ExitCode, CommandError> {
    // What a start would warn of is warned of here.
    let _ = logging::start(LevelFilter::Warn, Box::new(io::stderr()));
    let config = load(settings)?;
    let issues = check_settings(&config, insecure);
    if issues.is_empty() {
        output::say("the settings are valid")?;
        return Ok(ExitCode::SUCCESS);
    }
    Err(CommandError::new(issues.join("\n")))
}

pub(super) fn print(settings: Settings) -> Result<ExitCode, CommandError> {
    output::say(settings.sources()?.print()?.trim_end())?;
    Ok(ExitCode::SUCCESS)
}
