//! Programs to compare with: the floor, and servers of others, which stand under `peers/` as scripts that start them.
//!
//! A script is called with the port in `PORT` and the seconds between two heartbeats in `HEARTBEAT_S` (0: none), and
//! becomes the server by `exec`, so that its process can be looked at. With the argument `check` it says whether all it
//! needs is installed: status 77 and a sentence where it is not.
//!
//! A peer that runs plans answers `POST /three/run` once a run of three steps that do nothing has ended.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::{Outcome, failure};

/// Where the scripts are: this package's directory, unless the environment names another one.
const DIRECTORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers");

/// What overrides it.
const DIRECTORY_NAME: &str = "STEPCAST_LOADTEST_PEERS";

/// The status of a script that lacks something.
const STATUS_SKIPPED: i32 = 77;

/// Another program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// What it is called.
    pub name: String,
    /// What is started.
    pub program: PathBuf,
    /// With these.
    pub arguments: Vec<String>,
    /// Its messages carry numbers.
    pub is_numbered: bool,
    /// It runs plans, and knows nothing of streams.
    pub runs_plans: bool,
}

/// Those that run plans.
const RUN_PLANS: [&str; 2] = ["restate", "dbos"];

impl Peer {
    /// The peer of this name: `floor`, `floor-N` with up to N events in one write, or a script's.
    ///
    /// # Errors
    /// Where there is none.
    pub fn find(name: &str) -> Outcome<Self> {
        let batch = if name == "floor" { Some(1) } else { name.strip_prefix("floor-").and_then(|n| n.parse().ok()) };
        if let Some(batch) = batch {
            let program = std::env::current_exe()?.with_file_name("floor");
            let arguments = vec![usize::to_string(&batch)];
            return Ok(Self { name: name.to_owned(), program, arguments, is_numbered: true, runs_plans: false });
        }
        let directory = std::env::var_os(DIRECTORY_NAME).map_or_else(|| PathBuf::from(DIRECTORY), PathBuf::from);
        let program = directory.join(format!("{name}.sh"));
        let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if !is_name || !program.is_file() {
            return failure(format!("unknown peer {name}: {} does not exist", program.display()));
        }
        // nchan passes messages on as they were published.
        let is_numbered = name != "nchan";
        Ok(Self {
            name: name.to_owned(),
            program,
            arguments: Vec::new(),
            is_numbered,
            runs_plans: RUN_PLANS.contains(&name),
        })
    }

    /// What it lacks, in a sentence; none where it can be started.
    pub fn lack(&self) -> Option<String> {
        if !self.arguments.is_empty() {
            return (!Path::new(&self.program).is_file()).then(|| format!("{} is not built", self.program.display()));
        }
        match Command::new(&self.program).arg("check").output() {
            Ok(output) if output.status.success() => None,
            Ok(output) if output.status.code() == Some(STATUS_SKIPPED) => {
                Some(String::from_utf8_lossy(&output.stderr).trim().to_owned())
            }
            Ok(output) => Some(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim())),
            Err(error) => Some(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_found_by_name() {
        let floor = Peer::find("floor-8").expect("it is part of this package");
        assert_eq!(floor.arguments, ["8"]);
        assert!(Peer::find("node").expect("a script").is_numbered);
        assert!(Peer::find("dbos").expect("a script").runs_plans && !Peer::find("node").expect("a script").runs_plans);
        assert!(!Peer::find("nchan").expect("a script").is_numbered);
        for name in ["nobody", "floor-x", "../peers/node", ""] {
            assert!(Peer::find(name).is_err(), "{name}");
        }
    }
}
