//! Describes how a process ended.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use super::super::Failure;

/// What a process that failed failed by.
pub(super) fn kind(status: ExitStatus) -> Failure {
    status.code().map_or(Failure::Signal, Failure::ExitCode)
}

/// How it failed, or nothing where it did not.
pub(super) fn failure(status: ExitStatus) -> Option<String> {
    if status.success() {
        return None;
    }
    Some(match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => match signal_name(signal) {
            Some(name) => format!("killed by signal {signal} ({name})"),
            None => format!("killed by signal {signal}"),
        },
        (None, None) => status.to_string(),
    })
}

fn signal_name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        5 => "SIGTRAP",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        10 => "SIGUSR1",
        11 => "SIGSEGV",
        12 => "SIGUSR2",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        25 => "SIGXFSZ",
        31 => "SIGSYS",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_status_or_the_signal() {
        let words = |wait_status| failure(ExitStatus::from_raw(wait_status));
        assert_eq!(words(0), None);
        assert_eq!(words(3 << 8).as_deref(), Some("exit status 3"));
        assert_eq!(words(9).as_deref(), Some("killed by signal 9 (SIGKILL)"));
        assert_eq!(words(40).as_deref(), Some("killed by signal 40"));
    }
}
