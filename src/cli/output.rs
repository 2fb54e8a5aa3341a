//! Output of commands: results on stdout, errors on stderr. A closed pipe or a full disk is an ordinary error and must
//! not cause a panic, so `println!` is not used.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use super::error::CommandError;

/// What a shell sees of a program that wrote to a pipe whose reader was gone: 128 and the number of SIGPIPE.
const READER_GONE_STATUS: u8 = 128 + 13;

/// Writes a line, with all before it, to stdout.
pub(super) fn say(line: impl Display) -> Result<(), CommandError> {
    let mut stdout = io::stdout().lock();
    let written = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
    written.map_err(|error| CommandError::stdout(&error))
}

/// Writes a line to stderr. If that fails, there is no one to report it to.
pub(super) fn complain(line: impl Display) {
    let _ = writeln!(io::stderr().lock(), "stepcast: {line}");
}

/// Prints why the program fails, and returns its exit code. Prints nothing if the reader of a pipe is gone.
pub(super) fn fail(error: &CommandError) -> ExitCode {
    if error.is_reader_gone() {
        return ExitCode::from(READER_GONE_STATUS);
    }
    complain(error);
    ExitCode::FAILURE
}

/// Says what a command line comes to that is no command: help and version on stdout, what is wrong with it on stderr.
pub fn explain(error: &clap::Error) -> ExitCode {
    let printed = error.print().and_then(|()| io::stdout().flush());
    match printed {
        Err(failed) if !error.use_stderr() => fail(&CommandError::stdout(&failed)),
        _ => u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from),
    }
}
