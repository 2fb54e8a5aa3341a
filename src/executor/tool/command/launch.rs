//! Resource limits of commands, and the launcher that sets them.
//!
//! A limit is the process's own to set, between fork and exec, where this crate, which forbids `unsafe`, can't run code.
//! Set from outside once the program runs, it would come late: what the program has begun by then, and each process that
//! it has started, goes without. So a command with limits starts as this very program again, under the name of
//! [`NAME`], which limits itself and then becomes the command: one `exec` more, and no moment without limits. `prlimit`
//! and `sh -c ulimit` do the same, but are not everywhere, and a shell has its own mind about an environment.
//!
//! Not every program that embeds this crate takes itself for a launcher: [`launch_if_asked`] is what does, and where a
//! program has never called it, a tool with limits is refused.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::super::CommandLimits;

/// What this program is called where it is to launch another.
const NAME: &str = "stepcast-launch";

/// Between the limits and the program.
const END: &str = "--";

/// This program, also where its file was replaced since it started.
const OWN_PROGRAM: &str = "/proc/self/exe";

/// What a shell exits with where there is no program to run.
const NOT_LAUNCHED: i32 = 127;

/// Does this program launch others when asked? A fact about its `main`, and so the same for all of it.
static LAUNCHES: AtomicBool = AtomicBool::new(false);

/// Becomes the command, where this process was started to launch one; comes back at once where it was not.
///
/// A program that embeds this crate calls it first thing in `main`, before it starts a thread, or has no tools with
/// limits.
pub fn launch_if_asked() {
    LAUNCHES.store(true, Ordering::Relaxed);
    let mut args = std::env::args_os();
    if args.next().is_some_and(|name| name == NAME) {
        eprintln!("{}", launch(args));
        std::process::exit(NOT_LAUNCHED);
    }
}

/// May tools have limits?
pub(super) fn check(limits: &CommandLimits) -> Result<(), String> {
    if *limits == CommandLimits::default() || (LAUNCHES.load(Ordering::Relaxed) && Path::new(OWN_PROGRAM).exists()) {
        return Ok(());
    }
    Err("limits: this program can't set any: its main does not begin with launch_if_asked, or it has no /proc"
        .to_owned())
}

/// What starts `program` under `limits`; its arguments are to follow.
pub(super) fn command(program: &str, limits: &CommandLimits) -> Command {
    if *limits == CommandLimits::default() {
        return Command::new(program);
    }
    let mut command = Command::new(OWN_PROGRAM);
    command.arg0(NAME);
    for (name, value) in named(limits) {
        command.arg(format!("{name}={value}"));
    }
    command.args([END, program]);
    command
}

fn named(limits: &CommandLimits) -> impl Iterator<Item = (&'static str, u64)> {
    let CommandLimits { cpu_seconds, memory_bytes, file_bytes, open_files, processes } = *limits;
    // Memory comes last: nothing is left to be done then that would need any.
    let all = [
        ("cpu", cpu_seconds),
        ("file_size", file_bytes),
        ("open_files", open_files),
        ("processes", processes),
        ("memory", memory_bytes),
    ];
    all.into_iter().filter_map(|(name, value)| Some((name, value?)))
}

/// Comes back only with what went wrong.
fn launch(mut args: impl Iterator<Item = OsString>) -> String {
    let limits: Vec<_> = args.by_ref().take_while(|arg| arg != END).collect();
    let Some(program) = args.next() else { return "nothing to launch".to_owned() };
    let mut command = Command::new(&program);
    command.args(args);
    // What ends at a limit would leave its memory behind as a file.
    let limited = limit(Resource::Core, 0, 0).and_then(|()| limits.iter().try_for_each(|limit| apply(limit)));
    if let Err(problem) = limited {
        return problem;
    }
    let error = command.exec();
    let program = program.to_string_lossy();
    match error.kind() {
        std::io::ErrorKind::NotFound => format!("program `{program}` not found"),
        _ => format!("program `{program}` can't be run: {error}"),
    }
}

fn apply(argument: &OsStr) -> Result<(), String> {
    let parsed = argument.to_str().and_then(|text| text.split_once('='));
    let parsed = parsed.and_then(|(name, value)| Some((name, value.parse().ok()?)));
    match parsed {
        // The first limit is a signal that a program may catch; a second later nothing helps it.
        Some(("cpu", seconds)) => limit(Resource::Cpu, seconds, seconds.saturating_add(1)),
        Some(("file_size", bytes)) => limit(Resource::Fsize, bytes, bytes),
        Some(("open_files", count)) => limit(Resource::Nofile, count, count),
        Some(("processes", count)) => limit(Resource::Nproc, count, count),
        Some(("memory", bytes)) => limit(Resource::As, bytes, bytes),
        _ => Err(format!("`{}` is no limit", argument.display())),
    }
}

/// Sets a limit, or leaves the lower one that the process has.
fn limit(resource: Resource, soft: u64, hard: u64) -> Result<(), String> {
    let most = getrlimit(resource).maximum.unwrap_or(u64::MAX);
    let new = Rlimit { current: Some(soft.min(most)), maximum: Some(hard.min(most)) };
    setrlimit(resource, new).map_err(|error| format!("a limit can't be set: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_without_limits_is_started_as_it_is() {
        let plain = command("true", &CommandLimits::default());
        assert_eq!((plain.get_program(), plain.get_args().count()), (OsStr::new("true"), 0));
    }

    #[test]
    fn the_launcher_is_told_every_limit_and_the_program() {
        let limits = CommandLimits {
            cpu_seconds: Some(1),
            memory_bytes: Some(2),
            file_bytes: Some(3),
            open_files: Some(4),
            processes: Some(5),
        };
        let launched = command("-x", &limits);
        let args: Vec<_> = launched.get_args().collect();
        assert_eq!(args, ["cpu=1", "file_size=3", "open_files=4", "processes=5", "memory=2", "--", "-x"]);
    }

    #[test]
    fn limits_are_refused_where_nobody_would_set_them() {
        // This test's own program does not begin with `launch_if_asked`.
        let limits = CommandLimits { cpu_seconds: Some(1), ..CommandLimits::default() };
        assert!(check(&limits).is_err_and(|problem| problem.starts_with("limits: ")));
        assert_eq!(check(&CommandLimits::default()), Ok(()));
        assert_eq!(launch(["cpu=1x", "--", "true"].map(OsString::from).into_iter()), "`cpu=1x` is no limit");
        assert_eq!(launch(["cpu=1"].map(OsString::from).into_iter()), "nothing to launch");
    }
}
