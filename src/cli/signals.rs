//! Signals that end the program: the first asks it to stop, the second ends it.
//!
//! SIGINT, SIGTERM and, unless it has another meaning, SIGHUP ask; SIGQUIT ends it at once. The commands of running steps
//! are killed with the program: they have sessions of their own, so no terminal would signal them.

use std::process::exit;
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;

use super::error::CommandError;
use crate::executor::tool::kill_commands;

/// What a program exits with that was ended by a signal, before its number: as in a shell.
const SIGNALLED: i32 = 128;

/// What SIGHUP means.
pub(super) enum Hangup {
    /// The same as SIGTERM: the terminal is gone.
    Asks,
    /// This is to be done, each time.
    Calls(Box<dyn FnMut() + Send>),
}

/// Calls `ask` at the first signal. At the second ends all commands and calls `insist`, and at the third, where that did
/// not end the process, ends it.
pub(super) fn watch(
    mut hangup: Hangup,
    ask: impl FnOnce() + Send + 'static,
    insist: impl FnOnce(i32) + Send + 'static,
) -> Result<(), CommandError> {
    let hears_hangup = matches!(hangup, Hangup::Calls(_)) || !is_ignored(SIGHUP);
    let watched = [SIGINT, SIGTERM, SIGQUIT].into_iter().chain(hears_hangup.then_some(SIGHUP));
    let signals = Signals::new(watched.collect::<Vec<_>>());
    let mut signals = signals.map_err(|error| CommandError::io("install signal handlers", &error))?;
    let watch = move || {
        let _alarm = Alarm;
        let mut arrived = signals.forever().filter(|signal| match &mut hangup {
            Hangup::Calls(call) if *signal == SIGHUP => {
                call();
                false
            }
            _ => true,
        });
        let mut last = arrived.next();
        if last != Some(SIGQUIT) {
            ask();
            last = arrived.next();
        }
        kill_commands();
        if let Some(signal) = last {
            insist(signal);
        }
        if let Some(signal) = arrived.next() {
            end(signal);
        }
    };
    let thread = thread::Builder::new().name("signals".into()).spawn(watch);
    thread.map(drop).map_err(|error| CommandError::io("start a thread", &error))
}

/// Ends the process as `signal` would have.
pub(super) fn end(signal: i32) {
    exit(SIGNALLED + signal)
}

/// Was this program started with `signal` ignored, as `nohup` does with SIGHUP?
fn is_ignored(signal: i32) -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| ignores(&status, signal))
}

fn ignores(status: &str, signal: i32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

/// Ends the process where the thread that listens to signals panics: nothing else would end it any more.
struct Alarm;

impl Drop for Alarm {
    fn drop(&mut self) {
        if thread::panicking() {
            std::process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linux_tells_which_signals_are_ignored() {
        let status =
            "Name:\tstepcast\nSigBlk:\t0000000000000001\nSigIgn:\t0000000000001001\nSigCgt:\t0000000000000002\n";
        assert!(ignores(status, SIGHUP));
        assert!(!ignores(status, SIGINT) && !ignores("", SIGHUP) && !ignores("SigIgn:\tx", SIGHUP));
    }
}
