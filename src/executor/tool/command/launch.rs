//! The launcher: prepares a command from inside its own process.
//!
//! A command gets its own session, without a terminal that could stop it when it asks for a password; the descriptor
//! limit with which the server was started, not the one that the server has raised for its connections; and the limits
//! of its declaration. All of this must happen between fork and exec, where this crate can't run code because it
//! forbids `unsafe`. Doing it from outside after the program has started would be too late: what the program has done
//! until then, and each process that it has started, would escape. Therefore a command starts as this program again,
//! under the name [`NAME`]. It applies [`Start`] to itself and then becomes the command: one additional `exec`, about a
//! millisecond. `setsid`, `prlimit` and `sh -c ulimit` do the same but are not available everywhere, and a shell may
//! change the environment.
//!
//! A program that embeds this crate becomes a launcher only if it calls [`launch_if_asked`]. Otherwise a tool with
//! limits is refused, and other tools get a process group instead of a session, and their descriptor limit slightly
//! late.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setpgid, setrlimit, setsid};

use super::super::CommandLimits;

/// What this program is called where it is to launch another.
const NAME: &str = "stepcast-launch";

/// Between the orders and the program.
const END: &str = "--";

/// This program, also where its file was replaced since it started.
const OWN_PROGRAM: &str = "/proc/self/exe";

/// Variables that the dynamic linker obeys begin so. They are for the command, and may keep the launcher from starting.
const LINKER_NAMES: [&str; 2] = ["LD_", "GLIBC_"];

/// What comes before such a name on its way through the launcher.
const HELD_BACK: &str = "stepcast-launch:";

/// What a shell exits with where there is no program to run.
const NOT_LAUNCHED: i32 = 127;

/// Does this program launch others when asked? A fact about its `main`, and so the same for all of it.
static LAUNCHES: AtomicBool = AtomicBool::new(false);

/// How a program starts, besides its arguments and its environment.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Start<'a> {
    /// A path, or a name to look for in the command's `PATH`.
    pub program: &'a str,
    pub cwd: Option<&'a str>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub limits: CommandLimits,
}

/// Becomes the command, where this process was started to launch one; comes back at once where it was not.
///
/// A program that embeds this crate calls it first thing in `main`, before it starts a thread. Without it, tools with
/// limits are refused, and commands share the terminal that the program has.
pub fn launch_if_asked() {
    LAUNCHES.store(true, Ordering::Relaxed);
    let mut args = std::env::args_os();
    if args.next().is_some_and(|name| name == NAME) {
        eprintln!("{NAME}: {}", launch(args));
        std::process::exit(NOT_LAUNCHED);
    }
    descriptors_at_start();
}

/// How many descriptors this process could have when it started; `None` for any number. To be asked before the limit is
/// raised.
pub(crate) fn descriptors_at_start() -> Option<u64> {
    static AT_START: OnceLock<Option<u64>> = OnceLock::new();
    *AT_START.get_or_init(|| getrlimit(Resource::Nofile).current)
}

/// May tools have limits?
pub(super) fn check(limits: &CommandLimits) -> Result<(), String> {
    if *limits == CommandLimits::default() || can_launch() {
        return Ok(());
    }
    Err("limits: this program can't set resource limits; its main must call launch_if_asked first, and /proc must be mounted"
        .to_owned())
}

fn can_launch() -> bool {
    LAUNCHES.load(Ordering::Relaxed) && Path::new(OWN_PROGRAM).exists()
}

/// What starts a program, as the leader of its process group; its arguments are to follow.
pub(super) fn command(start: &Start<'_>) -> Command {
    if can_launch() { launcher(start) } else { direct(start) }
}

/// The name under which a variable for the command is to be set.
pub(super) fn variable(name: &str) -> Cow<'_, str> {
    if can_launch() && LINKER_NAMES.iter().any(|start| name.starts_with(start)) {
        return format!("{HELD_BACK}{name}").into();
    }
    name.into()
}

/// Gives a child the descriptor limit that the launcher would have given it.
pub(super) fn limit_descriptors(child: Pid) {
    if can_launch() {
        return;
    }
    let limit = Rlimit { current: descriptors_at_start(), ..getrlimit(Resource::Nofile) };
    // Fails where it has become another user: then it keeps the server's.
    let _ = prlimit(Some(child), Resource::Nofile, limit);
}

/// Why a program was not launched, where that is how its process ended.
pub(super) fn problem(status: ExitStatus, last_words: &str) -> Option<&str> {
    let is_ours = status.code() == Some(NOT_LAUNCHED);
    last_words.strip_prefix(NAME)?.strip_prefix(": ").filter(|_| is_ours)
}

/// Why a program could not be started.
pub(super) fn sentence(start: &Start<'_>, error: &io::Error) -> String {
    match start.cwd {
        Some(cwd) if !Path::new(cwd).is_dir() => format!("cwd `{cwd}` is not a directory"),
        _ if error.kind() == io::ErrorKind::NotFound => format!("program `{}` not found", start.program),
        _ => format!("program `{}` can't be run: {error}", start.program),
    }
}

fn direct(start: &Start<'_>) -> Command {
    let mut command = Command::new(start.program);
    set_cwd_and_ids(&mut command, start);
    command.process_group(0);
    command
}

/// What [`Command`] can do by itself.
fn set_cwd_and_ids(command: &mut Command, start: &Start<'_>) {
    start.cwd.map(|cwd| command.current_dir(cwd));
    start.gid.map(|gid| command.gid(gid));
    start.uid.map(|uid| command.uid(uid));
}

fn launcher(start: &Start<'_>) -> Command {
    let mut command = Command::new(OWN_PROGRAM);
    command.arg0(NAME);
    if let Some(group) = own_group() {
        // Until it has its session, a Ctrl-C in the server's terminal is not for it either.
        command.process_group(0).arg(format!("leave_for={group}"));
    }
    command.args(orders(start)).args([END, start.program]);
    command
}

/// The process group of this process; none if a container hides it.
fn own_group() -> Option<i32> {
    static OWN: OnceLock<Option<i32>> = OnceLock::new();
    *OWN.get_or_init(|| {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        // pid (name) state parent group
        let group = stat.rsplit(") ").next()?.split(' ').nth(2)?.parse().ok()?;
        (group > 0).then_some(group)
    })
}

fn orders(start: &Start<'_>) -> Vec<String> {
    let CommandLimits { cpu_seconds, memory_bytes, file_bytes, open_files, processes } = start.limits;
    let has_limits = start.limits != CommandLimits::default();
    let descriptors = descriptors_at_start().filter(|_| open_files.is_none());
    let numbers = [
        ("uid", start.uid.map(u64::from)),
        ("gid", start.gid.map(u64::from)),
        ("descriptors", descriptors),
        // What ends at a limit would leave its memory behind as a file.
        ("core", has_limits.then_some(0)),
        ("cpu", cpu_seconds),
        ("file_size", file_bytes),
        ("open_files", open_files),
        ("processes", processes),
        // Comes last: nothing is left to be done then that would need any.
        ("memory", memory_bytes),
    ];
    let cwd = start.cwd.map(|cwd| format!("cwd={cwd}"));
    let numbers = numbers.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", value?)));
    cwd.into_iter().chain(numbers).collect()
}

/// Comes back only with what went wrong.
fn launch(mut args: impl Iterator<Item = OsString>) -> String {
    let orders: Vec<_> = args.by_ref().take_while(|arg| arg != END).collect();
    let Some(program) = args.next() else { return "nothing to launch".to_owned() };
    let program = program.to_string_lossy();
    let start = Start { program: &program, ..Start::default() };
    carry_out(&orders, start, args).unwrap_or_else(|problem| problem)
}

fn carry_out<'a>(
    orders: &'a [OsString],
    mut start: Start<'a>,
    args: impl Iterator<Item = OsString>,
) -> Result<String, String> {
    let mut limits = Vec::new();
    for order in orders {
        match parse(order).ok_or_else(|| format!("unknown instruction `{}`", order.display()))? {
            Order::LeaveFor(group) => {
                setpgid(None, Some(group)).map_err(|error| failed("leave its process group", error))?
            }
            Order::Cwd(cwd) => start.cwd = Some(cwd),
            Order::Uid(uid) => start.uid = Some(uid),
            Order::Gid(gid) => start.gid = Some(gid),
            Order::Limit(limit) => limits.push(limit),
        }
    }
    setsid().map_err(|error| failed("start a session", error))?;
    let mut command = Command::new(start.program);
    command.args(args);
    set_cwd_and_ids(&mut command, &start);
    release_variables(&mut command);
    for Limit { resource, soft, hard } in limits {
        let most = getrlimit(resource).maximum.unwrap_or(u64::MAX);
        let new = Rlimit { current: Some(soft.min(most)), maximum: Some(hard.min(most)) };
        setrlimit(resource, new).map_err(|error| failed("set a limit", error))?;
    }
    Ok(sentence(&start, &command.exec()))
}

fn release_variables(command: &mut Command) {
    for (held, value) in std::env::vars_os() {
        if let Some(name) = held.to_str().and_then(|held| held.strip_prefix(HELD_BACK)) {
            command.env(name, value).env_remove(&held);
        }
    }
}

fn failed(what: &str, error: rustix::io::Errno) -> String {
    format!("the program can't {what}: {error}")
}

/// One thing that a launcher does.
enum Order<'a> {
    /// A leader can't begin a session, so it goes back to this group, the server's, first.
    LeaveFor(Pid),
    Cwd(&'a str),
    Uid(u32),
    Gid(u32),
    Limit(Limit),
}

/// A limit that the process sets itself, where the one that it has is not lower.
struct Limit {
    resource: Resource,
    soft: u64,
    hard: u64,
}

fn parse(order: &OsStr) -> Option<Order<'_>> {
    let (name, value) = order.to_str()?.split_once('=')?;
    if name == "cwd" {
        return Some(Order::Cwd(value));
    }
    let number: u64 = value.parse().ok()?;
    let (resource, soft, hard) = match name {
        "leave_for" => return Some(Order::LeaveFor(Pid::from_raw(number.try_into().ok()?)?)),
        "uid" => return Some(Order::Uid(number.try_into().ok()?)),
        "gid" => return Some(Order::Gid(number.try_into().ok()?)),
        "descriptors" => (Resource::Nofile, number, u64::MAX),
        "core" => (Resource::Core, number, number),
        // The first limit is a signal that a program may catch; a second later nothing helps it.
        "cpu" => (Resource::Cpu, number, number.saturating_add(1)),
        "file_size" => (Resource::Fsize, number, number),
        "open_files" => (Resource::Nofile, number, number),
        "processes" => (Resource::Nproc, number, number),
        "memory" => (Resource::As, number, number),
        _ => return None,
    };
    Some(Order::Limit(Limit { resource, soft, hard }))
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn a_program_that_launches_nobody_starts_commands_directly() {
        // This test's own program does not begin with `launch_if_asked`.
        let start = Start { program: "true", cwd: Some("/"), uid: Some(7), gid: Some(8), ..Start::default() };
        let direct = command(&start);
        assert_eq!((direct.get_program(), direct.get_args().count()), (OsStr::new("true"), 0));
        assert_eq!(direct.get_current_dir(), Some(Path::new("/")));
        let limits = CommandLimits { cpu_seconds: Some(1), ..CommandLimits::default() };
        assert!(check(&limits).is_err_and(|problem| problem.starts_with("limits: ")));
        assert_eq!(check(&CommandLimits::default()), Ok(()));
    }

    #[test]
    fn the_launcher_is_told_everything_and_the_program() {
        let limits = CommandLimits {
            cpu_seconds: Some(1),
            memory_bytes: Some(2),
            file_bytes: Some(3),
            open_files: Some(4),
            processes: Some(5),
        };
        let start = Start { program: "-x", cwd: Some("/a b"), uid: Some(7), gid: Some(8), limits };
        let launched = launcher(&start);
        let args: Vec<_> = launched.get_args().map(|arg| arg.to_str().expect("text")).collect();
        let all = "uid=7 gid=8 core=0 cpu=1 file_size=3 open_files=4 processes=5 memory=2 -- -x";
        assert_eq!(args[2..].join(" "), all, "{args:?}");
        assert!(args[0].starts_with("leave_for="), "{args:?}");
        assert_eq!(args[1], "cwd=/a b");
        assert!(args.iter().take_while(|&&arg| arg != END).all(|order| parse(OsStr::new(order)).is_some()));
    }

    #[test]
    fn a_command_without_limits_gets_the_descriptors_of_the_start() {
        let orders = orders(&Start { program: "x", ..Start::default() });
        let at_start = descriptors_at_start().map(|n| format!("descriptors={n}"));
        assert_eq!(orders, at_start.into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn what_is_no_order_is_refused() {
        let launch = |args: &[&str]| launch(args.iter().map(OsString::from));
        assert_eq!(launch(&["cpu=1x", "--", "true"]), "unknown instruction `cpu=1x`");
        assert_eq!(launch(&["leave_for=0", "--", "true"]), "unknown instruction `leave_for=0`");
        assert_eq!(launch(&["cpu=1"]), "nothing to launch");
    }

    #[test]
    fn only_the_launchers_own_words_say_that_nothing_was_launched() {
        let exited = |code: i32| ExitStatus::from_raw(code << 8);
        let table = [
            (127, "stepcast-launch: program `x` not found", Some("program `x` not found")),
            (127, "sh: 1: x: not found", None),
            (1, "stepcast-launch: program `x` not found", None),
        ];
        for (code, words, expected) in table {
            assert_eq!(problem(exited(code), words), expected, "{code}: {words}");
        }
    }
}
