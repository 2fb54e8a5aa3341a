//! The `stepcast` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    stepcast::cli::main()
}
