//! The `stepcast` program.

use std::process::ExitCode;

use stepcast::cli;

fn main() -> ExitCode {
    match cli::args::parse(std::env::args_os()) {
        Ok(command) => cli::execute(command),
        Err(error) => error.exit(),
    }
}
