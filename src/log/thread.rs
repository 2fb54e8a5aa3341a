//! The log's thread: takes what waits as one batch, steps the journal, hands out what it lets out.

use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use super::journal::{Journal, Outcome};
use super::{Command, StoreError};
use crate::model::Now;

/// Batches of commands that may wait for the log. The loop sends at most one a turn, the executor one a turn, the
/// intake one a plan; a loop that finds no room refuses the call, the others wait.
const WAITING_BATCHES_MAX: usize = 1024;

/// Commands taken as one batch at most, so that the first of them is not kept waiting by the last.
const BATCH_COMMANDS_MAX: usize = 4096;

/// The way into the log. Clones lead to the same one.
#[derive(Clone)]
pub struct LogHandle {
    commands: Sender<Vec<Command>>,
}

impl LogHandle {
    /// Hands a batch over, and waits while there is no room.
    ///
    /// # Errors
    /// The batch comes back where the log has ended.
    pub fn send(&self, batch: Vec<Command>) -> Result<(), Vec<Command>> {
        self.commands.send(batch).map_err(|error| error.0)
    }

    /// Hands a batch over if there is room.
    ///
    /// # Errors
    /// The batch comes back where there is none.
    pub fn try_send(&self, batch: Vec<Command>) -> Result<(), Vec<Command>> {
        self.commands.try_send(batch).map_err(TrySendError::into_inner)
    }

    /// Lets the log finish what has come, and end. Whoever sends to it afterwards gets their batch back.
    pub fn close(&self) {
        // Fails where it has ended already.
        let _ = self.commands.send(vec![Command::Close]);
    }

    /// Batches that wait.
    pub fn waiting(&self) -> usize {
        self.commands.len()
    }
}

/// Starts the thread. It ends when it is [closed](LogHandle::close), or every [`LogHandle`] is gone, and everything is
/// written.
///
/// # Errors
/// Where no thread can be made.
pub fn start(
    journal: Journal,
    clock: impl Fn() -> Now + Send + 'static,
    mut out: impl FnMut(Outcome) + Send + 'static,
) -> std::io::Result<(LogHandle, JoinHandle<Result<(), StoreError>>)> {
    let (commands, inbox) = bounded(WAITING_BATCHES_MAX);
    let thread = thread::Builder::new().name("log".into()).spawn(move || run(journal, &inbox, clock, &mut out))?;
    Ok((LogHandle { commands }, thread))
}

fn run(
    mut journal: Journal,
    inbox: &Receiver<Vec<Command>>,
    clock: impl Fn() -> Now,
    out: &mut impl FnMut(Outcome),
) -> Result<(), StoreError> {
    while let Ok(mut batch) = inbox.recv() {
        while batch.len() < BATCH_COMMANDS_MAX {
            match inbox.try_recv() {
                Ok(more) => batch.extend(more),
                Err(_) => break,
            }
        }
        let is_last = batch.iter().any(|command| matches!(command, Command::Close));
        out(journal.handle(batch, clock())?);
        if is_last {
            break;
        }
    }
    Ok(())
}
