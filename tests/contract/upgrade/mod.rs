//! SIGUSR2: a new process takes over, and no client is refused. Also what a service manager passes, and what it is
//! told.

mod clients;
mod midway;
mod refused;
mod runs;
mod service;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use rustix::process::Signal;
use serde_json::json;

use crate::common::client::{Connection, Request, Response};
use crate::common::server::{Server, Setup, TempDirectory, built};

const STREAM: &str = "/api/sse/projects/p";
const EVENTS: &str = "/api/projects/p/events";

/// A tool whose step ends when the file `gate` is there.
fn gated(directory: &TempDirectory) -> Setup {
    let gate = directory.join("gate");
    let script = format!("until [ -e '{}' ]; do sleep 0.01; done; echo through", gate.display());
    let config = format!("[tools.gated]\nkind = \"command\"\nargv = [\"sh\", \"-c\", \"{script}\"]\n");
    Setup::default().config(&config).data(&directory.join("data"))
}

fn open_gate(directory: &TempDirectory) {
    std::fs::write(directory.join("gate"), "").expect("a file");
}

/// A run whose step waits at the gate, once that runs.
fn run_to_the_gate(server: &Server) -> String {
    let plan = json!({"name": "gated", "steps": [{"id": "waits", "tool": "gated"}, {"id": "last", "tool": "echo", "dependencies": ["waits"]}]});
    let run = server.submit("p", &plan);
    server.stream(&format!("{STREAM}?runId={run}")).until(|message| message["payload"]["status"] == "running");
    run
}

fn upgrade(server: &Server) {
    server.signal(Signal::USR2);
}

fn publish(n: u64) -> Request {
    Request::post(EVENTS, &json!({"type": "n", "payload": {"n": n}}))
}

/// Asks on a connection that stays open.
fn ask(connection: &mut Connection, server: &Server, request: &Request) -> Response {
    connection.write(&request.bytes(server.address));
    connection.response(false).expect("an answer on this very connection")
}

/// A server whose program and configuration can be replaced, by what stands in `bin` and `toml` of the directory.
fn replaceable(directory: &TempDirectory) -> Server {
    install(directory);
    let config = directory.join("toml");
    fs::write(&config, "").expect("a file");
    let flags = ["--config", config.to_str().expect("plain characters")];
    Setup::default().program(&directory.join("bin")).data(&directory.join("data")).flags(&flags).start()
}

fn install(directory: &TempDirectory) {
    let _ = fs::remove_file(directory.join("bin"));
    symlink(built(), directory.join("bin")).expect("a link");
}

fn install_script(directory: &TempDirectory, script: &str) {
    fs::remove_file(directory.join("bin")).expect("a link");
    fs::write(directory.join("bin"), format!("#!/bin/sh\n{script}\n")).expect("a file");
    fs::set_permissions(directory.join("bin"), fs::Permissions::from_mode(0o755)).expect("ours");
}
