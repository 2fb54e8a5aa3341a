//! The commands: what `stepcast serve`, `run`, `check`, `watch`, `decide`, `doctor`, `token`, `demo`, `webhooks` and `config` do.

#![deny(clippy::print_stdout, clippy::print_stderr)]

mod args;
mod ask;
mod check;
mod config;
mod current;
mod decide;
mod demo;
mod doctor;
mod error;
mod follow;
mod logging;
mod output;
#[cfg(feature = "packaging")]
mod packaging;
mod plan_file;
mod progress;
mod resume;
mod run;
mod serve;
mod service;
mod signals;
mod token;
mod upgrade;
mod watch;
mod webhooks;

use std::process::ExitCode;

use self::args::{Command, Settings};
use self::error::CommandError;
use self::token::TokenRequest;
use crate::auth::SigningKey;
use crate::clock;
use crate::config::Config;
use crate::executor::tool::launch_if_asked;
use crate::server::claim_rules;

/// The whole program: reads its command line and does what it says; what it exits with.
pub fn main() -> ExitCode {
    upgrade::restore_limit();
    launch_if_asked();
    match args::parse(std::env::args_os()) {
        Ok(command) => execute(command),
        Err(error) => output::explain(&error),
    }
}

/// Carries out a command; what the program exits with.
fn execute(command: Command) -> ExitCode {
    keep_descriptors();
    let result = match command {
        Command::Serve { settings, insecure } => serve::serve(settings, insecure),
        Command::Run { settings, plan, inputs, json } => run::run(settings, &plan, inputs, json),
        Command::Resume { settings, request } => resume::resume(settings, request),
        Command::Check { settings, plan } => check::check(settings, &plan),
        Command::Watch { request } => watch::watch(request),
        Command::Doctor { request } => doctor::doctor(request),
        Command::Decide { request } => decide::decide(*request),
        Command::Token { settings, request } => token(settings, &request),
        Command::Demo { settings } => demo::demo(settings),
        Command::ConfigCheck { settings, insecure } => config::check(settings, insecure),
        Command::ConfigPrint { settings } => config::print(settings),
        #[cfg(feature = "packaging")]
        Command::Completions { shell } => packaging::completions(shell),
        #[cfg(feature = "packaging")]
        Command::Manual { directory } => packaging::manual(&directory),
        Command::WebhookTest { settings, name } => webhooks::test(settings, &name),
    };
    result.unwrap_or_else(|error| output::fail(&error))
}

/// Files that whoever started this program had open are not for the programs that it starts. What it opens itself is not
/// passed on anyway.
fn keep_descriptors() {
    const FIRST_UNNAMED: i32 = 3;
    close_fds::set_fds_cloexec(FIRST_UNNAMED, &[]);
}

fn token(settings: Settings, request: &TokenRequest) -> Result<ExitCode, CommandError> {
    let config = load(settings)?;
    let key = match &request.key {
        Some(path) => token::private_key(path, request.kid.as_deref())?,
        None => SigningKey::hs256(config.signing_secret()?.expose().as_bytes())?,
    };
    output::say(request.sign(clock::wall(), &claim_rules(&config), &key)?)?;
    Ok(ExitCode::SUCCESS)
}

/// The settings of a command that has no log; warnings go to stderr.
fn load(settings: Settings) -> Result<Config, CommandError> {
    let loaded = settings.load()?;
    loaded.warnings.iter().for_each(output::complain);
    Ok(loaded.config)
}
