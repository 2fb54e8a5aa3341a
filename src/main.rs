//! The `stepcast` program.

use std::process::ExitCode;

use stepcast::cli;
use stepcast::executor::tool::launch_if_asked;

fn main() -> ExitCode {
    launch_if_asked();
    match cli::args::parse(std::env::args_os()) {
        Ok(command) => cli::execute(command),
        Err(error) => cli::explain(&error),
    }
}
