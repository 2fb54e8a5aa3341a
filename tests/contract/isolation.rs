//! Commands that misbehave: what reaches them, how much they may use, and that they harm nobody else.

use std::path::Path;

use rustix::process::{Pid, Signal, getuid, kill_process};
use serde_json::{Value, json};

use crate::common::server::{Server, Setup, TempDirectory, TempFile, program};
use crate::common::terminal::terminal;
use crate::common::{is_alive, wait_for};
use crate::tools::{end, error, live_output, plan};

/// `name` runs the script of its step, under what `more` says.
fn shell(name: &str, more: &str) -> String {
    format!("[tools.{name}]\nkind = \"command\"\nargv = [\"sh\", \"-c\", \"{{{{ inputs.script }}}}\"]\n{more}\n")
}

fn script(id: &str, tool: &str, script: &str) -> Value {
    json!({"id": id, "tool": tool, "inputs": {"script": script}})
}

/// Descriptors that the server has open.
fn descriptors(server: &Server) -> usize {
    let path = format!("/proc/{}/fd", server.pid().as_raw_nonzero());
    std::fs::read_dir(path).expect("it runs").count()
}

/// Memory of the server that is no file's, in KiB.
fn memory(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid().as_raw_nonzero())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("Linux tells");
    line.trim_end_matches("kB").trim().parse().expect("a number")
}

/// Processes that the server has started and not yet reaped.
fn children(server: &Server) -> usize {
    let parent = format!(" {} ", server.pid().as_raw_nonzero());
    let processes = std::fs::read_dir("/proc").expect("is there").flatten();
    let stats = processes.filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok());
    stats.filter(|stat| stat.rsplit(") ").next().is_some_and(|rest| rest[1..].starts_with(&parent))).count()
}

/// What a command has open, of the shell that runs it.
const LIST: &str = "ls /proc/$$/fd; :";

#[test]
fn nothing_that_the_server_has_open_reaches_a_command() {
    let directory = TempDirectory::new();
    let setup = Setup::default().config(&[shell("plain", ""), shell("limited", "limits.open_files = 32")].concat());
    let server = if cfg!(feature = "sqlite") { setup.data(directory.path()).start() } else { setup.start() };
    let streams: Vec<_> = (0..100).map(|n| server.stream(&format!("/api/sse/projects/p{}", n % 3))).collect();
    assert!(descriptors(&server) > streams.len());
    let messages = server.carry_out(&plan(json!([script("a", "plain", LIST), script("b", "limited", LIST)])));
    assert_eq!(
        (&end(&messages, "a")["output"], &end(&messages, "b")["output"]),
        (&json!("0\n1\n2"), &json!("0\n1\n2"))
    );
}

#[test]
fn what_the_server_had_inherited_reached_commands() {
    let config = TempFile::new(".toml", &shell("plain", ""));
    let plan = TempFile::new(".json", &plan(json!([script("a", "plain", LIST)])).to_string());
    let mut started = std::process::Command::new("sh");
    started.args(["-c", "exec 7</dev/null 9>/dev/null; exec \"$@\"", "sh"]).arg(program().get_program());
    started.args(["run", plan.text(), "--json", "--config", config.text()]);
    let said = String::from_utf8(started.output().expect("it runs").stdout).expect("UTF-8");
    assert!(said.contains(r#""output":"0\n1\n2""#), "{said}");
}

#[test]
fn a_command_that_asked_its_terminal_was_stopped_until_its_timeout() {
    let config = TempFile::new(".toml", &shell("sh", ""));
    let ask = |id: &str, text: &str| {
        let mut step = script(id, "sh", text);
        step["timeout"] = json!(30_000);
        step
    };
    let plan = TempFile::new(
        ".json",
        &plan(json!([ask("terminal", "read answer </dev/tty"), ask("ids", "cut -d ' ' -f 1,5,6,7 /proc/$$/stat"),]))
            .to_string(),
    );
    let (_master, other) = terminal();
    let mut started = std::process::Command::new("setsid");
    started.args(["--ctty", "--wait"]).arg(program().get_program());
    started.args(["run", plan.text(), "--json", "--config", config.text()]).stdin(other);
    let said = String::from_utf8(started.output().expect("it runs").stdout).expect("UTF-8");
    let messages: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let refused = error(&messages, "terminal");
    assert!(refused.contains("/dev/tty") && !refused.contains("timed out"), "{refused}");
    let ids = end(&messages, "ids")["output"].as_str().expect("text").to_owned();
    let [pid, group, session, terminal] = ids.split(' ').collect::<Vec<_>>()[..] else { panic!("{ids}") };
    assert_eq!((group, session, terminal), (pid, pid, "0"), "a group and a session of its own, and no terminal");
}

#[test]
fn commands_got_the_descriptors_that_the_server_had_raised_for_itself() {
    let setup = Setup::default().after("ulimit -Sn 77").config(&shell("sh", ""));
    let server = setup.start();
    let raised = std::fs::read_to_string(format!("/proc/{}/limits", server.pid().as_raw_nonzero())).expect("it runs");
    let raised = raised.lines().find(|line| line.starts_with("Max open files")).expect("Linux tells");
    assert_ne!(raised.split_whitespace().nth(3), Some("77"), "the server has raised its own: {raised}");
    let messages = server.carry_out(&plan(json!([script("a", "sh", "ulimit -Sn; ulimit -Hn")])));
    let limits = end(&messages, "a")["output"].as_str().expect("text").to_owned();
    let hard = raised.split_whitespace().nth(4).expect("the hard limit");
    assert_eq!(limits, format!("77\n{hard}"));
}

#[test]
fn what_a_command_tells_its_linker_is_for_the_command_alone() {
    let config = shell("sh", "env = { LD_PRELOAD = \"no-such-object.so\", LD_LIBRARY_PATH = \"/no-such-directory\" }");
    let server = Setup::default().config(&config).start();
    let messages = server.carry_out(&plan(json!([script("a", "sh", "echo $LD_PRELOAD $LD_LIBRARY_PATH")])));
    assert_eq!(end(&messages, "a")["output"], "no-such-object.so /no-such-directory");
    // Each process that it is for complains once.
    assert!(live_output(&messages, "a", "stderr").matches("no-such-object").count() <= 1);
}

#[test]
fn a_stopped_command_was_not_ended_before_it_was_killed() {
    let server = Setup::default().config(&shell("sh", "")).start();
    let mut stopped = script("a", "sh", "trap 'echo ended; exit 0' TERM; kill -STOP $$; sleep 600 & wait");
    stopped["timeout"] = json!(300);
    let run = server.submit("p", &plan(json!([stopped])));
    let messages = server.messages("p", &run);
    assert!(error(&messages, "a").contains("timed out"));
    assert_eq!(live_output(&messages, "a", "stdout"), "ended\n", "it was woken for SIGTERM");
}

#[test]
fn a_command_with_limits_gets_no_further() {
    let directory = TempDirectory::new();
    let limits = "limits = { cpu = \"1s\", memory = \"100MiB\", file_size = \"1KiB\", open_files = 9 }";
    let missing = "[tools.missing]\nkind = \"command\"\nargv = [\"no-such-program\"]\nlimits.cpu = \"1s\"\n";
    let server = Setup::default().config(&[shell("sh", limits).as_str(), missing].concat()).start();
    let file = directory.join("file");
    let write = format!("exec dd if=/dev/zero of={} bs=512 count=10", file.display());
    let messages = server.carry_out(&plan(json!([
        script("told", "sh", "sh -c 'echo $(ulimit -t) $(ulimit -v) $(ulimit -n) $(ulimit -c)'"),
        script("arguments", "sh", "printf '%s' \"$0 $#\"; cat"),
        script("cpu", "sh", "while :; do :; done"),
        script("deaf", "sh", "trap '' XCPU; while :; do :; done"),
        script("memory", "sh", "exec dd if=/dev/zero of=/dev/null bs=200M count=1"),
        script("file", "sh", &write),
        script("files", "sh", "exec 3</dev/null 4<&3 5<&3 6<&3 7<&3 8<&3; cat /dev/null"),
        {"id": "missing", "tool": "missing"},
    ])));
    assert_eq!(end(&messages, "told")["output"], format!("1 {} 9 0", 100 * 1024));
    let arguments = end(&messages, "arguments")["output"].as_str().expect("text");
    assert!(arguments.starts_with("sh 0{\"script\":"), "{arguments}");
    assert!(error(&messages, "cpu").contains("SIGXCPU"), "{}", error(&messages, "cpu"));
    assert!(error(&messages, "deaf").contains("SIGKILL"), "{}", error(&messages, "deaf"));
    assert!(error(&messages, "memory").contains("memory"), "{}", error(&messages, "memory"));
    assert!(error(&messages, "file").contains("SIGXFSZ"), "{}", error(&messages, "file"));
    assert_eq!(std::fs::metadata(file).expect("it began").len(), 1024);
    assert!(error(&messages, "files").contains("open"), "{}", error(&messages, "files"));
    assert_eq!(error(&messages, "missing"), "program `no-such-program` not found");
}

#[test]
fn a_fork_bomb_stays_within_its_user() {
    if !getuid().is_root() {
        eprintln!("SKIPPED: only root can give a command a user of its own");
        return;
    }
    let own = "uid = 64321\ngid = 64321\nlimits = { processes = 10, cpu = \"5s\" }\n";
    let server = Setup::default().config(&shell("sh", own)).start();
    let bomb = "for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do sleep 600 & echo $!; done";
    let messages = server.carry_out(&plan(json!([script("who", "sh", "echo $(id -u) $(id -G)"), {
        "id": "bomb", "tool": "sh", "inputs": {"script": bomb}, "dependencies": ["who"]}])));
    assert_eq!(end(&messages, "who")["output"], "64321 64321");
    assert!(error(&messages, "bomb").to_lowercase().contains("fork"), "{}", error(&messages, "bomb"));
    let of_bomb = || std::fs::read_dir("/proc").expect("is there").flatten().any(|entry| is_of(&entry.path(), 64321));
    wait_for("the end of all that it started", || (!of_bomb()).then_some(()));
}

fn is_of(process: &Path, uid: u32) -> bool {
    std::fs::read_to_string(process.join("status")).is_ok_and(|status| status.contains(&format!("\nUid:\t{uid}\t")))
}

#[test]
fn whatever_a_command_does_harms_nobody_else() {
    let server = Setup::default().config(&shell("sh", "")).start();
    server.carry_out(&plan(json!([script("warm", "sh", "echo warm")])));
    let before = descriptors(&server);
    let mut deaf = script("deaf", "sh", "trap '' TERM; echo $$; while :; do sleep 0.05; done");
    let mut stopped = script("stopped", "sh", "kill -STOP $$");
    deaf["timeout"] = json!(300);
    stopped["timeout"] = json!(300);
    let messages = server.carry_out(&plan(json!([
        script("silent", "sh", "exec >&- 2>&-; sleep 0.2; exit 3"),
        script("no-reader", "sh", "exec <&-; echo done"),
        script("line", "sh", "head -c 1000000 /dev/zero | tr '\\0' y; echo; echo short >&2"),
        script("garbage", "sh", "head -c 300000 /dev/urandom; head -c 300000 /dev/urandom >&2"),
        // It leaves the group and keeps the pipe: nobody waits for it.
        script("background", "sh", "setsid sleep 600 & echo $!"),
        script("orphan", "sh", "(sleep 600 & echo $!)"),
        script("suicide", "sh", "kill -9 $$"),
        stopped,
        deaf,
    ])));
    assert_eq!(error(&messages, "silent"), "exit status 3");
    assert_eq!(end(&messages, "no-reader")["output"], "done");
    assert_eq!(end(&messages, "line")["outputBytes"], 1_000_000);
    assert_eq!(end(&messages, "garbage")["status"], "completed");
    assert!(error(&messages, "suicide").contains("SIGKILL"));
    assert!(error(&messages, "deaf").contains("timed out"), "{}", error(&messages, "deaf"));
    assert!(error(&messages, "stopped").contains("timed out"), "{}", error(&messages, "stopped"));
    let left = end(&messages, "background")["output"].as_u64().expect("a process id");
    assert!(is_alive(left), "it left the group");
    let left = Pid::from_raw(left.try_into().expect("a process id")).expect("not 0");
    kill_process(left, Signal::KILL).expect("it is ours");
    wait_for("the end of every child", || (children(&server) == 0).then_some(()));
    // The stream of the plan before may not have been closed yet when they were counted.
    wait_for("its descriptors", || (descriptors(&server) <= before).then_some(()));
    assert_eq!(server.get("/healthz").status, 200);
}

#[test]
fn a_flood_of_200_mb_costs_bounded_memory() {
    const FLOOD: &str = "head -c 200000000 /dev/zero | tr '\\0' x";
    let server = Setup::default().config(&shell("sh", "")).start();
    let before = memory(&server);
    let run = server.submit("p", &plan(json!([script("a", "sh", FLOOD)])));
    let mut stream = server.stream(&format!("/api/sse/projects/p?runId={run}"));
    let mut most = before;
    while let Some(event) = stream.next() {
        most = most.max(memory(&server));
        if event.message["payload"]["status"] == "completed" {
            let begun = event.message["payload"]["output"].as_str().expect("text");
            assert!(begun.len() <= 64 * 1024, "{}", begun.len());
        }
        assert!(event.raw.len() < 200 * 1024, "{}", event.raw.len());
    }
    eprintln!("RssAnon: {before} KiB before, at most {most} KiB, {} KiB after", memory(&server));
    // What is kept of a step is 64 MiB: once as it was said, once as the output, and once more on its way.
    assert!(most - before < 300 * 1024, "{before} KiB grew to {most} KiB");
}
