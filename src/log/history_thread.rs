//! The history's thread: answers what can be read from the log's store without asking the log.
//!
//! Whoever replays much of the log keeps nobody waiting who writes to it. What is asked here is answered in the order in
//! which it comes, each look in a transaction of its own that begins after the question did, so that it sees all that
//! whoever asks has been told of. What only the log can answer is handed on to it.

use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};

use super::history::{Lookup, Reader};
use super::{Answer, Command, Delivery, Outcome, Query, Refusal, ReplyTo, StoreError};
use crate::auth::IdSigner;

/// Batches of questions that may wait. What finds no room is asked of the log itself.
const WAITING_BATCHES_MAX: usize = 1024;

/// Bytes of encoded pages that are remembered while someone replays: 256 full ones. So a hundred who replay the same, a
/// few pages behind one another, have each page encoded once.
const CACHE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// After so long without a question nobody replays, and the pages are let go.
const IDLE: Duration = Duration::from_secs(5);

/// The way to the thread. Clones lead to the same one.
#[derive(Clone)]
pub(super) struct HistoryHandle {
    tasks: Sender<Task>,
    /// Nothing ever comes; it is cut off when the thread has let its reader go.
    ended: Receiver<()>,
}

enum Task {
    /// Questions, and the way to the log for those that are handed on. It comes with them because a thread that held one
    /// for good would keep the log from ending when everyone else has let it go.
    Look(Vec<(Query, ReplyTo)>, Sender<Vec<Command>>),
    /// Finish what has come, and end.
    Close,
}

impl HistoryHandle {
    /// Takes out of `batch` what is to be read here, and has it answered. What is left is the log's.
    pub(super) fn divert(&self, batch: Vec<Command>, log: &Sender<Vec<Command>>) -> Vec<Command> {
        if !batch.iter().any(is_history) {
            return batch;
        }
        let (mut questions, mut rest) = (Vec::new(), Vec::new());
        for command in batch {
            match command {
                Command::Read { query, reply } if is_history_query(&query) => questions.push((query, reply)),
                command => rest.push(command),
            }
        }
        if let Err(TrySendError::Full(task) | TrySendError::Disconnected(task)) =
            self.tasks.try_send(Task::Look(questions, log.clone()))
            && let Task::Look(questions, _) = task
        {
            rest.extend(questions.into_iter().map(|(query, reply)| Command::Read { query, reply }));
        }
        rest
    }

    /// Lets the thread finish what has come, and waits until it has let its reader go.
    pub(super) fn close(&self) {
        // Fails where it has ended already.
        let _ = self.tasks.send(Task::Close);
        let _ = self.ended.recv();
    }
}

/// Starts the thread. It ends when it is [closed](HistoryHandle::close), or every handle is gone.
pub(super) fn start(
    reader: Box<dyn Reader>,
    signer: IdSigner,
    mut out: impl FnMut(Outcome) + Send + 'static,
) -> std::io::Result<(HistoryHandle, JoinHandle<()>)> {
    let (tasks, inbox) = bounded(WAITING_BATCHES_MAX);
    let (ends, ended) = bounded(0);
    let thread = thread::Builder::new().name("history".into());
    let thread = thread.spawn(move || {
        run(Historian { reader, signer, lookup: Lookup::new(CACHE_BYTES_MAX) }, &inbox, &mut out);
        drop::<Sender<()>>(ends);
    })?;
    Ok((HistoryHandle { tasks, ended }, thread))
}

fn is_history(command: &Command) -> bool {
    matches!(command, Command::Read { query, .. } if is_history_query(query))
}

fn is_history_query(query: &Query) -> bool {
    matches!(
        query,
        Query::Page { .. }
            | Query::Plan { .. }
            | Query::Document { .. }
            | Query::Events { .. }
            | Query::Output { .. }
            | Query::OutputRest { .. }
    )
}

fn run(mut historian: Historian, inbox: &Receiver<Task>, out: &mut impl FnMut(Outcome)) {
    while let Some(Task::Look(questions, log)) = historian.next_task(inbox) {
        for (query, to) in questions {
            let Some(answer) = historian.answer(&query) else {
                hand_on(query, to, &log, out);
                continue;
            };
            tell(to, answer, out);
        }
    }
}

/// Asks the log. Where that has ended, nobody will answer any more.
fn hand_on(query: Query, to: ReplyTo, log: &Sender<Vec<Command>>, out: &mut impl FnMut(Outcome)) {
    let Err(error) = log.send(vec![Command::Read { query, reply: to }]) else { return };
    for command in error.0 {
        if let Command::Read { reply, .. } = command {
            tell(reply, Answer::Refused(Refusal::StoreUnavailable), out);
        }
    }
}

fn tell(to: ReplyTo, answer: Answer, out: &mut impl FnMut(Outcome)) {
    out(Outcome { deliveries: vec![Delivery::Reply { to, answer }], ..Outcome::default() });
}

/// What the thread knows.
struct Historian {
    reader: Box<dyn Reader>,
    signer: IdSigner,
    lookup: Lookup,
}

impl Historian {
    /// What is to be done next; nothing where nobody can ask any more.
    fn next_task(&mut self, inbox: &Receiver<Task>) -> Option<Task> {
        match inbox.recv_timeout(IDLE) {
            Ok(task) => return Some(task),
            Err(RecvTimeoutError::Disconnected) => return None,
            Err(RecvTimeoutError::Timeout) => self.lookup.forget_pages(),
        }
        inbox.recv().ok()
    }

    /// Nothing where the log has to be asked. A failure is one question's, not the thread's.
    fn answer(&mut self, query: &Query) -> Option<Answer> {
        self.look(query).unwrap_or_else(|error| {
            log::error!("history can't be read: {error}");
            Some(Answer::Refused(Refusal::StoreUnavailable))
        })
    }

    fn look(&mut self, query: &Query) -> Result<Option<Answer>, StoreError> {
        let (mut answer, lookup, signer) = (None, &mut self.lookup, &self.signer);
        self.reader.look(&mut |history| {
            answer = lookup.answer(history, signer, query)?;
            Ok(())
        })?;
        Ok(answer)
    }
}
