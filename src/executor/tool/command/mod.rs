//! Runs a program as a tool: an argv list that no shell sees, in a session and an environment of its own.
//!
//! The program sees `PATH` of the server (unless `env` sets one), the variables named by `pass_env`, those set by `env`,
//! and `STEPCAST_PROJECT_ID`, `STEPCAST_RUN_ID`, `STEPCAST_STEP_ID`, `STEPCAST_ATTEMPT` and, of an item, `STEPCAST_ITEM`; nothing else. Its inputs
//! come on stdin as one line of JSON. A template fills one argument: it can't become two, nor none. It can begin with
//! `-`, so put `--` before it where the program knows that. The program itself, `argv[0]`, has no templates: only what
//! the operator declared is run.

mod group;
mod launch;
mod pump;
mod status;

use std::ffi::OsString;
use std::process::{Command, Stdio};
use std::sync::Arc;

use serde_json::Value;

use super::mask::{Mask, check_secret, is_secret_name, secret_parts};
use super::render::{Template, inputs_scope};
use super::usage::Meter;
use super::{Call, CommandLimits, CommandSpec, Outcome, Tool, ToolError, ToolSettings};
use crate::executor::template::is_template;
use crate::executor::template::{Escaping, Scope};

use group::Group;
use launch::Start;

pub(crate) use group::kill_commands;
pub(crate) use launch::descriptors_at_start;
pub use launch::launch_if_asked;

/// Where programs are looked for if the server itself has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// A tool that runs a program.
#[derive(Debug)]
pub struct CommandTool {
    program: String,
    args: Vec<Template>,
    cwd: Option<Template>,
    /// From the server's own environment, read once.
    passed: Vec<(String, OsString)>,
    set: Vec<(String, Template)>,
    uid: Option<u32>,
    gid: Option<u32>,
    limits: CommandLimits,
    mask: Mask,
    meter: Option<Meter>,
    settings: ToolSettings,
}

impl CommandTool {
    /// Compiles `spec`, and reads the variables that it passes on.
    ///
    /// # Errors
    /// One sentence that names the field and what is wrong with it.
    pub fn new(spec: CommandSpec, settings: ToolSettings) -> Result<Self, String> {
        let secrets = mask(&spec, &[]);
        Self::compile(spec, settings).map_err(|problem| secrets.text(&problem).into_owned())
    }

    fn compile(spec: CommandSpec, settings: ToolSettings) -> Result<Self, String> {
        let (program, args) = spec.argv.split_first().ok_or("argv: expected at least the program to run")?;
        if program.is_empty() || program.contains('\0') || is_template(program) {
            return Err("argv[0]: must be the program to run and must not contain a template".to_owned());
        }
        let args = args.iter().enumerate().map(|(at, arg)| compile(&format!("argv[{}]", at + 1), arg, Escaping::Text));
        identity(&spec)?;
        let cwd = spec.cwd.as_deref().map(|cwd| compile("cwd", cwd, Escaping::FileName)).transpose()?;
        let set = spec.env.iter().map(|(name, value)| {
            variable_name("env", name)?;
            check_secret(&format!("env.{name}"), name, value)?;
            Ok((name.clone(), compile(&format!("env.{name}"), value, Escaping::Text)?))
        });
        let passed = passed(&spec.pass_env)?;
        Ok(Self {
            program: program.clone(),
            args: args.collect::<Result<_, _>>()?,
            cwd,
            set: set.collect::<Result<_, String>>()?,
            mask: mask(&spec, &passed),
            passed,
            uid: spec.uid,
            gid: spec.gid,
            limits: spec.limits,
            meter: None,
            settings,
        })
    }

    /// The tool, telling what its attempts use.
    pub(super) fn metered(self, meter: Option<Meter>) -> Self {
        Self { meter, ..self }
    }

    fn run(&self, call: &Call<'_>) -> Result<Outcome, ToolError> {
        if call.cancel.is_cancelled() {
            return Err(pump::CANCELLED.into());
        }
        launch::check(&self.limits)?;
        let scope = inputs_scope(call.inputs);
        let cwd = self.cwd.as_ref().map(|cwd| render("cwd", cwd, &scope)).transpose()?;
        let Self { program, uid, gid, limits, .. } = self;
        let start = Start { program, cwd: cwd.as_deref(), uid: *uid, gid: *gid, limits: *limits };
        let mut command = self.command(&start, call, &scope)?;
        let group = Group::start(&mut command).map_err(|error| launch::sentence(&start, &error))?;
        let ended = pump::run(group, call, &self.mask, self.settings)?;
        if let Some(problem) = launch::problem(ended.status, &ended.last_words) {
            return Err(problem.into());
        }
        let failure = status::failure(ended.status);
        let output = match (&self.meter, &failure) {
            (None, Some(_)) => Ok(Value::Null),
            _ => ended.stdout.into_value(&self.mask),
        };
        let output = match &self.meter {
            Some(meter) => output.map(|output| self.measure(meter, output, failure.is_none(), call)),
            None => output,
        };
        match failure {
            None => Ok(Outcome::Output(output?)),
            Some(failure) => {
                let words = &ended.last_words;
                let text = if words.is_empty() { failure } else { format!("{failure}: {words}") };
                Err(ToolError::new(text).with_failure(status::kind(ended.status)))
            }
        }
    }

    /// Tells what of `output` says how much was used; also of a command that failed, for it is used all the same.
    fn measure(&self, meter: &Meter, output: Value, has_succeeded: bool, call: &Call<'_>) -> Value {
        let output = Arc::new(output);
        let mut tally = meter.start(&self.mask, call.output);
        tally.read(&output);
        if has_succeeded {
            tally.finish();
        }
        Arc::unwrap_or_clone(output)
    }

    fn command(&self, start: &Start<'_>, call: &Call<'_>, scope: &Scope) -> Result<Command, String> {
        let mut command = launch::command(start);
        for (at, arg) in self.args.iter().enumerate() {
            command.arg(render(&format!("argv[{}]", at + 1), arg, scope)?);
        }
        command.env_clear();
        for (name, value) in &self.passed {
            command.env(&*launch::variable(name), value);
        }
        for (name, value) in &self.set {
            command.env(&*launch::variable(name), render(&format!("env.{name}"), value, scope)?);
        }
        command.env("STEPCAST_PROJECT_ID", call.project.as_str());
        command.env("STEPCAST_RUN_ID", call.run.as_str());
        command.env("STEPCAST_STEP_ID", call.step.as_str());
        command.env("STEPCAST_ATTEMPT", call.attempt.to_string());
        if let Some(item) = call.item {
            command.env("STEPCAST_ITEM", item.to_string());
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok(command)
    }
}

impl Tool for CommandTool {
    fn call(&self, call: &Call<'_>) -> Result<Outcome, ToolError> {
        self.run(call).map_err(|error| error.map_text(|text| self.mask.text(text).into_owned()))
    }
}

/// Half an identity would be none: root's group opens doors too, and root is not counted.
fn identity(spec: &CommandSpec) -> Result<(), String> {
    if spec.uid.is_some() && spec.gid.is_none() {
        return Err("uid: requires gid; without it the program would keep the server's group".to_owned());
    }
    if spec.limits.processes.is_some() && spec.uid.is_none_or(|uid| uid == 0) {
        return Err("limits.processes: requires a uid other than 0, because the limit counts all processes of a user"
            .to_owned());
    }
    Ok(())
}

/// Can this program start a tool with the limits of `spec`?
pub(super) fn check_limits(spec: &CommandSpec) -> Result<(), String> {
    launch::check(&spec.limits)
}

fn compile(field: &str, source: &str, escaping: Escaping) -> Result<Template, String> {
    if source.contains('\0') {
        return Err(format!("{field}: must not contain a NUL byte"));
    }
    Template::compile(source, escaping).map_err(|problem| format!("{field}: {problem}"))
}

fn render(field: &str, template: &Template, scope: &Scope) -> Result<String, String> {
    match template.render(scope) {
        Ok(text) if text.contains('\0') => Err(format!("{field}: must not contain a NUL byte")),
        Ok(text) => Ok(text),
        Err(problem) => Err(format!("{field}: {problem}")),
    }
}

fn variable_name(field: &str, name: &str) -> Result<(), String> {
    let fits = !name.is_empty() && !name.contains(['=', '\0']);
    if fits { Ok(()) } else { Err(format!("{field}: `{}` is not a valid variable name", name.escape_debug())) }
}

fn passed(names: &[String]) -> Result<Vec<(String, OsString)>, String> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into());
    let mut passed = vec![("PATH".to_owned(), path)];
    for (at, name) in names.iter().enumerate() {
        variable_name("pass_env", name)?;
        let value = std::env::var_os(name);
        if let Some(text) = value.as_ref().and_then(|value| value.to_str()) {
            check_secret(&format!("pass_env[{at}]"), name, text)?;
        }
        passed.extend(value.map(|value| (name.clone(), value)));
    }
    Ok(passed)
}

/// The secrets of a command: what `env` sets and what `pass_env` passes on under the name of a secret. Not more: an
/// ordinary word like `MODE = "test"` would be cut out of every output that happens to hold it.
fn mask(spec: &CommandSpec, passed: &[(String, OsString)]) -> Mask {
    let passed = passed.iter().filter(|(name, _)| is_secret_name(name)).filter_map(|(_, value)| value.to_str());
    let set = spec.env.iter().filter(|(name, _)| is_secret_name(name)).map(|(_, value)| value.as_str());
    Mask::new(set.chain(passed).flat_map(secret_parts))
}

#[cfg(test)]
mod tests;
