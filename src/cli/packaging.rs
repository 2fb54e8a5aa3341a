//! Files for packages: shell completions and manual pages, made from the definition of the command line. Only with the
//! feature `packaging`: a program that runs plans needs neither.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Arg, value_parser};
use clap_complete::Shell;

use super::args;
use super::error::CommandError;
use super::output::say;

/// The name that shells and manuals know the program by.
const NAME: &str = "stepcast";

/// Prints what makes a shell complete the program's commands and flags.
pub(super) fn completions(shell: Shell) -> Result<ExitCode, CommandError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut args::commands(), NAME, &mut script);
    say(String::from_utf8_lossy(&script).trim_end())?;
    Ok(ExitCode::SUCCESS)
}

/// Writes a manual page for each command into a directory.
pub(super) fn manual(directory: &Path) -> Result<ExitCode, CommandError> {
    let failed = |error: io::Error| CommandError::io(&format!("write manual pages to {}", directory.display()), &error);
    std::fs::create_dir_all(directory).map_err(failed)?;
    clap_mangen::generate_to(args::commands(), directory).map_err(failed)?;
    Ok(ExitCode::SUCCESS)
}

/// The commands that there are besides, which appear in neither.
pub(super) fn commands() -> [clap::Command; 2] {
    let shell = Arg::new("shell").value_name("SHELL").required(true).value_parser(value_parser!(Shell));
    let directory = Arg::new("directory").value_name("DIRECTORY").required(true).value_parser(value_parser!(PathBuf));
    [
        clap::Command::new("completions")
            .about("Print a completion script for a shell")
            .arg(shell.help("bash, zsh, fish, elvish or powershell")),
        clap::Command::new("manual").about("Write the manual pages").arg(directory.help("Directory to write to")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_manual_page_and_is_completed() {
        let directory = std::env::temp_dir().join(format!("stepcast-manual-{}", std::process::id()));
        manual(&directory).expect("is written");
        let page = |name: &str| std::fs::read_to_string(directory.join(format!("{name}.1"))).expect("is there");
        assert!(page("stepcast-serve").contains("sse\\-heartbeat"));
        assert!(!page("stepcast-serve").contains("jwt\\-secret"), "nobody is to give a secret as a flag");
        assert!(page("stepcast-config-print").contains("TOML"));
        std::fs::remove_dir_all(&directory).expect("is removed");
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut args::commands(), NAME, &mut script);
            let script = String::from_utf8(script).expect("a text");
            assert!(script.contains("doctor") && script.contains("sse-heartbeat"), "{shell}");
        }
    }
}
