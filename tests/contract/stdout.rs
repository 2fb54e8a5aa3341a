//! A stdout whose reader is gone, or that is full: the program ends normally, without a panic.

use std::fs::File;
use std::io::{self, Read};
use std::process::{Output, Stdio};

use serde_json::json;

use crate::common::server::{TempFile, program};

/// What a shell shows of a program that SIGPIPE ended.
const PIPE_STATUS: i32 = 141;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// Runs the program to its end, with this as its stdout.
fn run_into(stdout: impl Into<Stdio>, args: &[&str]) -> (i32, String) {
    let mut command = program();
    command.args(args).env("STEPCAST_JWT_SECRET", SECRET);
    command.stdin(Stdio::null()).stdout(stdout).stderr(Stdio::piped());
    let Output { status, stderr, .. } =
        command.spawn().and_then(std::process::Child::wait_with_output).expect("it runs");
    (status.code().unwrap_or(-1), String::from_utf8(stderr).expect("UTF-8"))
}

/// A pipe that nobody reads.
fn unread() -> io::PipeWriter {
    io::pipe().expect("a pipe").1
}

fn full() -> File {
    File::options().write(true).open("/dev/full").expect("Linux has it")
}

#[test]
fn a_reader_that_is_gone_ends_a_command_in_silence() {
    let plan = TempFile::new(".json", &json!({"name": "p", "steps": [{"id": "a", "tool": "echo"}]}).to_string());
    let path = plan.text();
    for args in [
        &["check", path][..],
        &["token", "--project", "p", "--sub", "u"],
        &["--help"],
        &["demo", "--listen", "127.0.0.1:0"],
    ] {
        assert_eq!(run_into(unread(), args), (PIPE_STATUS, String::new()), "{args:?}");
    }
    // What was to be done is done, and says how it went.
    let failing = TempFile::new(".json", &json!({"name": "p", "steps": [{"id": "a", "tool": "fail"}]}).to_string());
    for (path, status) in [(path, 0), (failing.text(), 1)] {
        for more in [&[][..], &["--json"]] {
            assert_eq!(run_into(unread(), &[&["run", path], more].concat()), (status, String::new()), "{path}");
        }
    }
}

#[test]
fn a_full_stdout_is_told() {
    let plan = TempFile::new(".json", &json!({"name": "p", "steps": [{"id": "a", "tool": "echo"}]}).to_string());
    let path = plan.text();
    let told = (1, "stepcast: cannot write to standard output: No space left on device (os error 28)\n".to_owned());
    for args in [
        &["check", path][..],
        &["token", "--project", "p", "--sub", "u"],
        &["--version"],
        &["run", path],
        &["run", path, "--json"],
    ] {
        assert_eq!(run_into(full(), args), told, "{args:?}");
    }
}

#[test]
fn a_full_stderr_changes_no_status() {
    let mut command = program();
    command.args(["check", "/nonexistent.json"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(full());
    assert_eq!(command.status().expect("it runs").code(), Some(1));
}

#[test]
fn a_demo_that_nobody_reads_any_more_ends() {
    let mut command = program();
    command.args(["demo", "--listen", "127.0.0.1:0"]);
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let mut first = [0];
    child.stdout.take().expect("piped").read_exact(&mut first).expect("it says something");
    let Output { status, stderr, .. } = child.wait_with_output().expect("it ends");
    assert_eq!((status.code(), String::from_utf8_lossy(&stderr).as_ref()), (Some(PIPE_STATUS), ""));
}
