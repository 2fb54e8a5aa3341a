//! Those who read beside the log: they answer what can be read from its store, and the log does nothing but write.
//!
//! Whoever reads much keeps nobody waiting who writes. Each look is a transaction of its own that begins after the
//! question came, so that it sees all that whoever asks has been told of. What takes the state of a run that goes on is
//! asked of the log, which tells that state and has the question answered here: it hands on a pointer, and the run is
//! copied only where it changes before the answer is made. Pages for streams have a thread of their own, so that nobody
//! who reads a large output or run holds a stream back.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};

use super::journal::Outcome;
use super::lookup::heads::Heads;
use super::lookup::lists::{self, OpenRuns, WantedRuns};
use super::lookup::{self, Asked, Known, Lookup, Question};
use super::protocol::{Answer, Command, Delivery, Query, Refusal, ReplyTo};
use super::store::{Reader, StoreError};
use crate::auth::IdSigner;

/// Batches of questions that may wait. What finds no room is refused.
const WAITING_BATCHES_MAX: usize = 1024;

/// Bytes of encoded pages that are remembered while someone replays: 256 full ones. So a hundred who replay the same, a
/// few pages behind one another, have each page encoded once.
const CACHE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// After so long without a question nobody replays, and the pages are let go.
const IDLE: Duration = Duration::from_secs(5);

/// How much less of a processor's time than the loop and the log those get that read, where there is not enough for all:
/// what they do is large, and whoever waits for it waits for more than a moment anyway. A step of niceness is a tenth.
const NICE_PAGES: i32 = 5;

/// See [`NICE_PAGES`]: a stream that is behind goes before a download.
const NICE_LOOK_UPS: i32 = 15;

/// Threads that answer what is no page: one who reads something large does not hold all others back.
const LOOK_UPS: usize = 2;

/// The way to the threads. Clones lead to the same ones.
#[derive(Clone)]
pub(super) struct HistoryHandle {
    pages: Sender<Task>,
    look_ups: Sender<Task>,
    /// Nothing ever comes; it is cut off when all have let their readers go.
    ended: Receiver<()>,
}

enum Task {
    /// Questions, and the way to the log for those that are handed on. It comes with them because a thread that held one
    /// for good would keep the log from ending when everyone else has let it go.
    Look(Vec<Question>, Option<Sender<Vec<Command>>>),
    /// Finish what has come, and end.
    Close,
}

impl HistoryHandle {
    /// Takes out of `batch` what is to be read here, and has it answered. What is left is the log's; so is what finds no
    /// room.
    pub(super) fn divert(&self, batch: Vec<Command>, log: &Sender<Vec<Command>>) -> Vec<Command> {
        if !batch.iter().any(is_history) {
            return batch;
        }
        let (mut pages, mut others, mut rest) = (Vec::new(), Vec::new(), Vec::new());
        for command in batch {
            match command {
                Command::Read { query, reply } if is_history_query(&query) => {
                    let to = if matches!(query, Query::Page { .. }) { &mut pages } else { &mut others };
                    to.push(Question { reply, asked: Asked::Look(query, Known::Untold) });
                }
                command => rest.push(command),
            }
        }
        for (to, questions) in [(&self.pages, pages), (&self.look_ups, others)] {
            let no_room = ask(to, questions, Some(log.clone()));
            rest.extend(no_room.into_iter().filter_map(Question::command));
        }
        rest
    }

    /// Has answered what the log told something of. What finds no room comes back.
    pub(super) fn ask(&self, questions: Vec<Question>) -> Vec<Question> {
        ask(&self.look_ups, questions, None)
    }

    /// Lets the threads finish what has come, and waits until they have let their readers go.
    pub(super) fn close(&self) {
        for to in [&self.pages].into_iter().chain([&self.look_ups; LOOK_UPS]) {
            // Fails where it has ended already.
            let _ = to.send(Task::Close);
        }
        let _ = self.ended.recv();
    }
}

impl Question {
    /// The same for the log, where it was not the log that asked.
    fn command(self) -> Option<Command> {
        match self.asked {
            Asked::Look(query, _) => Some(Command::Read { query, reply: self.reply }),
            Asked::Snapshots(_) => None,
        }
    }
}

fn ask(to: &Sender<Task>, questions: Vec<Question>, log: Option<Sender<Vec<Command>>>) -> Vec<Question> {
    if questions.is_empty() {
        return Vec::new();
    }
    match to.try_send(Task::Look(questions, log)) {
        Err(TrySendError::Full(Task::Look(back, _)) | TrySendError::Disconnected(Task::Look(back, _))) => back,
        _ => Vec::new(),
    }
}

/// Starts the threads, each with a `reader` of its own, if the store can be read beside its writer. They end when they are
/// [closed](HistoryHandle::close), or every handle is gone.
pub(super) fn start(
    reader: impl Fn() -> Result<Option<Box<dyn Reader>>, StoreError>,
    signer: &IdSigner,
    heads: &Arc<Heads>,
    out: impl FnMut(Outcome) + Clone + Send + 'static,
) -> std::io::Result<Option<(HistoryHandle, Vec<JoinHandle<()>>)>> {
    let ((pages, page_tasks), (look_ups, look_up_tasks)) = (bounded(WAITING_BATCHES_MAX), bounded(WAITING_BATCHES_MAX));
    let (ends, ended) = bounded(0);
    let look_up_inboxes = std::iter::repeat_n(("look-up", NICE_LOOK_UPS, look_up_tasks), LOOK_UPS);
    let inboxes = std::iter::once(("pages", NICE_PAGES, page_tasks)).chain(look_up_inboxes);
    let mut threads = Vec::new();
    for (name, nice, inbox) in inboxes {
        let Some(reader) = reader().map_err(std::io::Error::other)? else { return Ok(None) };
        let historian = Historian::new(reader, signer.clone(), heads.clone());
        let (mut out, ends): (_, Sender<()>) = (out.clone(), ends.clone());
        let thread = thread::Builder::new().name(name.into());
        threads.push(thread.spawn(move || {
            give_way(nice);
            run(historian, &inbox, &mut out);
            drop(ends);
        })?);
    }
    Ok(Some((HistoryHandle { pages, look_ups, ended }, threads)))
}

/// The thread that calls gets less of a processor's time from here on: on Linux a priority is a thread's own.
fn give_way(nice: i32) {
    if let Err(error) = rustix::process::nice(nice) {
        log::debug!("a reader is as important as all others: {error}");
    }
}

pub(super) fn is_history(command: &Command) -> bool {
    matches!(command, Command::Read { query, .. } if is_history_query(query))
}

fn is_history_query(query: &Query) -> bool {
    matches!(
        query,
        Query::Page { .. }
            | Query::Plan { .. }
            | Query::Document { .. }
            | Query::Events { .. }
            | Query::Run { .. }
            | Query::Output { .. }
            | Query::OutputRest { .. }
            | Query::Runs { .. }
            | Query::Projects { .. }
            | Query::Due(_)
    )
}

fn run(mut historian: Historian, inbox: &Receiver<Task>, out: &mut impl FnMut(Outcome)) {
    while let Some(Task::Look(questions, log)) = historian.next_task(inbox) {
        for question in questions {
            let Question { reply, asked } = question;
            match asked {
                Asked::Snapshots(start) => tell(reply, lookup::begun(start, &historian.signer), out),
                Asked::Look(query, known) => match (historian.answer(&query, &known), &log) {
                    (Some(answer), _) => tell(reply, answer, out),
                    (None, Some(log)) => hand_on(query, reply, log, out),
                    (None, None) => tell(reply, Answer::Refused(Refusal::StoreUnavailable), out),
                },
            }
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

/// What a thread knows.
pub(super) struct Historian {
    reader: Box<dyn Reader>,
    signer: IdSigner,
    heads: Arc<Heads>,
    lookup: Lookup,
}

impl Historian {
    pub(super) fn new(reader: Box<dyn Reader>, signer: IdSigner, heads: Arc<Heads>) -> Self {
        Self { reader, signer, heads, lookup: Lookup::new(CACHE_BYTES_MAX) }
    }

    #[cfg(test)]
    pub(super) fn signer(&self) -> &IdSigner {
        &self.signer
    }

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
    pub(super) fn answer(&mut self, query: &Query, known: &Known) -> Option<Answer> {
        self.look(query, known).unwrap_or_else(|error| {
            log::error!("history can't be read: {error}");
            Some(Answer::Refused(Refusal::StoreUnavailable))
        })
    }

    fn look(&mut self, query: &Query, known: &Known) -> Result<Option<Answer>, StoreError> {
        match query {
            Query::Run { project, run, whole_outputs } => {
                return lookup::run(self.reader.as_mut(), &self.signer, known, (project, run), *whole_outputs);
            }
            Query::Runs { project, status, before, limit } => {
                let before = before.as_ref();
                return self.list_runs(WantedRuns { project, status: *status, before, limit: *limit });
            }
            Query::Projects { visible, after, limit } => {
                return lists::list_projects(&self.heads, visible.as_deref(), after.as_ref(), *limit).map(Some);
            }
            Query::OutputRest { rest, bytes_max } => {
                return rest.answer(&mut |look| self.reader.look(look), *bytes_max).map(Some);
            }
            _ => {}
        }
        let (mut answer, lookup, signer) = (None, &mut self.lookup, &self.signer);
        self.reader.look(&mut |history| {
            answer = lookup.answer(history, signer, query, known)?;
            Ok(())
        })?;
        Ok(answer)
    }

    fn list_runs(&mut self, wanted: WantedRuns<'_>) -> Result<Option<Answer>, StoreError> {
        let (mut answer, open) = (None, OpenRuns::of(&self.heads, wanted.project));
        self.reader.look(&mut |history| {
            answer = Some(open.list(history, wanted)?);
            Ok(())
        })?;
        Ok(answer)
    }
}
