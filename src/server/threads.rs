//! Threads without which the server is none: where one of them fails, the process ends.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{self, JoinHandle};

use super::error::{StartError, failed};
use super::inbox::{Inbox, InboxSender};
use crate::executor::Executor;
use crate::executor::tool::kill_commands;
use crate::log::{Command, LogHandle};
use crate::random;

/// Starts a thread without which the server is none: where it panics, the process ends.
pub(super) fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, StartError> {
    let named = name.to_owned();
    let work = move || {
        catch_unwind(AssertUnwindSafe(work))
            .unwrap_or_else(|_| end_process(&format!("the thread {named} has panicked")))
    };
    let thread = thread::Builder::new().name(name.into()).spawn(work);
    thread.map_err(|error| failed(&format!("start the thread {name}"), &error))
}

/// Tells the loop when the last step has ended, behind everything that runs said. What the log had no room for yet waits
/// here for it.
pub(super) fn watch_executor(
    executor: Executor,
    log: LogHandle,
    inbox: InboxSender,
) -> Result<JoinHandle<()>, StartError> {
    spawn("executor-end", move || {
        let rest = executor.join().unwrap_or_else(|panicked| end_process(&panicked.to_string()));
        if !rest.is_empty() && log.send(vec![Command::Records(rest)]).is_err() {
            ::log::error!("the log has ended before the runs");
        }
        // Fails where it has ended, and then nobody waits.
        let _ = log.send(vec![Command::ExecutorEnded]);
        log.wait_until_kept();
        inbox.send(Inbox::Drained);
    })
}

/// Without its log the server is none: if that ends before it was told to, so does the process.
pub(super) fn watch_log(log: JoinHandle<()>) -> Result<JoinHandle<()>, StartError> {
    spawn("log-end", move || {
        if log.join().is_err() {
            end_process("a thread of the log has panicked");
        }
    })
}

/// Random bits, from a system that has given some before. Without them no id, ticket or key would be worth anything, so
/// there is nothing to go on with.
pub(super) fn random_or_abort<const N: usize>() -> [u8; N] {
    random::bits().unwrap_or_else(|error| end_process(&error.to_string()))
}

/// Ends the process rather than leaving half a server: the one place where that happens. Runs and messages are in the
/// log, for the next start to go on with.
fn end_process(why: &str) -> ! {
    ::log::error!("{why}; the process ends");
    kill_commands();
    std::process::abort()
}
