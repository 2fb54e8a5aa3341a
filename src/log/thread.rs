//! The log's thread: takes what waits as one batch, steps the journal, hands out what it lets out.

use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use super::history_thread::{self, HistoryHandle};
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
    /// Reads what it can in the log's place.
    history: Option<HistoryHandle>,
}

impl LogHandle {
    /// Hands a batch over, and waits while there is no room.
    ///
    /// # Errors
    /// The batch comes back where the log has ended.
    pub fn send(&self, batch: Vec<Command>) -> Result<(), Vec<Command>> {
        match self.divert(batch) {
            Some(batch) => self.commands.send(batch).map_err(|error| error.0),
            None => Ok(()),
        }
    }

    /// Hands a batch over if there is room.
    ///
    /// # Errors
    /// The batch comes back where there is none.
    pub fn try_send(&self, batch: Vec<Command>) -> Result<(), Vec<Command>> {
        match self.divert(batch) {
            Some(batch) => self.commands.try_send(batch).map_err(TrySendError::into_inner),
            None => Ok(()),
        }
    }

    /// What of a batch is the log's own, if anything is.
    fn divert(&self, batch: Vec<Command>) -> Option<Vec<Command>> {
        let Some(history) = &self.history else { return Some(batch) };
        let rest = history.divert(batch, &self.commands);
        (!rest.is_empty()).then_some(rest)
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
    mut out: impl FnMut(Outcome) + Clone + Send + 'static,
) -> std::io::Result<(LogHandle, JoinHandle<Result<(), StoreError>>)> {
    let (commands, inbox) = bounded(WAITING_BATCHES_MAX);
    let history = match journal.reader().map_err(std::io::Error::other)? {
        Some((reader, signer)) => Some(history_thread::start(reader, signer, out.clone())?),
        None => None,
    };
    let (history, history_thread) = history.unzip();
    let handle = LogHandle { commands, history: history.clone() };
    let thread = thread::Builder::new().name("log".into()).spawn(move || {
        let mut journal = journal;
        let result = run(&mut journal, &inbox, clock, &mut out);
        // Whoever waits for room learns that there will be none; then the readers go before what they read.
        drop(inbox);
        history.iter().for_each(HistoryHandle::close);
        history_thread.map(JoinHandle::join);
        result
    })?;
    Ok((handle, thread))
}

fn run(
    journal: &mut Journal,
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
