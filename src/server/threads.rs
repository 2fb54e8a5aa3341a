//! Threads that the server cannot work without: if one of them panics, the process aborts.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{self, JoinHandle};

use super::error::{StartError, failed};
use super::inbox::{Inbox, InboxSender};
use crate::executor::Executor;
use crate::executor::tool::kill_commands;
use crate::log::{Command, LogHandle};
use crate::random;

/// Starts a thread that the server cannot work without: if it panics, the process aborts.
pub(super) fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, StartError> {
    let named = name.to_owned();
    let work = move || {
        catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| end_process(&format!("thread {named} panicked")))
    };
    let thread = thread::Builder::new().name(name.into()).spawn(work);
    thread.map_err(|error| failed(&format!("start thread {name}"), &error))
}

/// Tells the loop when the last step has ended, after all output of the runs. Output that did not fit into the queue of
/// the log waits here.
pub(super) fn watch_executor(
    executor: Executor,
    log: LogHandle,
    inbox: InboxSender,
) -> Result<JoinHandle<()>, StartError> {
    spawn("executor-end", move || {
        let rest = executor.join().unwrap_or_else(|panicked| end_process(&panicked.to_string()));
        if !rest.is_empty() && log.send(vec![Command::Records(rest)]).is_err() {
            ::log::error!("the log stopped before all runs had ended");
        }
        // Fails if the loop has ended, and then nobody waits.
        let _ = log.send(vec![Command::ExecutorEnded]);
        log.wait_until_kept();
        inbox.send(Inbox::Drained);
    })
}

/// Aborts the process if a thread of the log panics: the server cannot work without its log.
pub(super) fn watch_log(log: JoinHandle<()>) -> Result<JoinHandle<()>, StartError> {
    spawn("log-end", move || {
        if log.join().is_err() {
            end_process("a thread of the log panicked");
        }
    })
}

/// Random bits. Aborts the process if the system has none: without them ids, tickets and keys could be guessed.
pub(super) fn random_or_abort<const N: usize>() -> [u8; N] {
    random::bits().unwrap_or_else(|error| end_process(&error.to_string()))
}

/// Aborts the process rather than leaving half a server. No other code does this. Runs and messages are in the log, and
/// the next start continues them.
fn end_process(why: &str) -> ! {
    ::log::error!("{why}; aborting the process");
    kill_commands();
    std::process::abort()
}
