//! What a panic outside of a tool's call does: it ends the process, loudly. Each case is this test's own program, started
//! again to be ended so.

use std::os::unix::process::ExitStatusExt;
use std::panic::panic_any;
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::config::{AuthMode, Config, DataLocation, ListenAddress};
use crate::executor::tool::{Call, Outcome, Tool, ToolError};
use crate::model::ProjectId;
use crate::server::Builder;
use crate::server::threads::{spawn, watch_log};

/// The variable that tells the program which case it is.
const CASE: &str = "STEPCAST_TEST_PANIC";

const SIGABRT: i32 = 6;

/// How long the program waits for its end.
const PATIENCE: Duration = Duration::from_secs(30);

/// Panics, and what it panics with panics again where it is dropped, out of everyone's hands.
struct Twice;

struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("a bomb");
    }
}

impl Tool for Twice {
    fn call(&self, _: &Call<'_>) -> Result<Outcome, ToolError> {
        panic_any(Bomb)
    }
}

/// Panics where the executor asks it something between calls.
struct Untimely;

impl Tool for Untimely {
    fn call(&self, _: &Call<'_>) -> Result<Outcome, ToolError> {
        Ok(Outcome::Output(json!(null)))
    }

    fn timeout(&self) -> Option<Duration> {
        panic!("untimely")
    }
}

fn run(tool: impl Tool + 'static) {
    let listen = ListenAddress::parse("127.0.0.1:0").expect("an address");
    let mut config = Config { listen, data: DataLocation::Memory, ..Config::default() };
    config.auth.mode = AuthMode::None;
    config.executor.workers = 1;
    let server = Builder::new(config).tool("t", tool).start().expect("starts");
    let project = ProjectId::parse("p").expect("an id");
    server.handle().submit(&project, &json!({"name": "n", "steps": [{"id": "a", "tool": "t"}]})).expect("runs");
    std::thread::sleep(PATIENCE);
}

fn provoke(case: &str) {
    let _ = simplelog::WriteLogger::init(log::LevelFilter::Error, simplelog::Config::default(), std::io::stderr());
    match case {
        "worker-1" => run(Twice),
        "executor" => run(Untimely),
        "of the log" => drop(watch_log(std::thread::spawn(|| panic!("the log"))).map(|thread| thread.join())),
        name => drop(spawn(name, || -> () { panic!("{CASE}") }).map(|thread| thread.join())),
    }
}

#[test]
fn a_panic_outside_of_a_tools_call_ends_the_process_and_names_the_thread() {
    if let Ok(case) = std::env::var(CASE) {
        return provoke(&case);
    }
    let own = std::env::current_exe().expect("is known");
    let name = std::thread::current().name().expect("a test has one").to_owned();
    for (case, named) in [
        ("worker-1", "the thread worker-1 has panicked; aborting the process"),
        ("executor", "the thread executor has panicked; aborting the process"),
        ("of the log", "a thread of the log panicked; aborting the process"),
        ("loop", "thread loop panicked; aborting the process"),
        ("intake", "thread intake panicked; aborting the process"),
    ] {
        let ended = Command::new(&own)
            .args(["--exact", &name, "--nocapture"])
            .env(CASE, case)
            .env("RUST_BACKTRACE", "0")
            .output()
            .expect("runs");
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.signal(), Some(SIGABRT), "{case}: {said}");
        assert!(said.contains(named), "{case}: {said}");
    }
}
