//! The threads that read beside the log: they answer whatever can be read from its store, so that the log only writes.
//!
//! Large reads delay no writer. Each read is a transaction of its own that begins after the question has arrived, so it
//! sees everything that the client has been told. A question about the state of an active run goes to the log first,
//! which attaches that state as a shared pointer and passes the question on; the run is copied only if it changes
//! before the answer is made. Pages for streams have a thread of their own, so that a large output or run does not
//! delay a stream. Streams in other formats have one too, because their channels rely on one thread that encodes the
//! messages in order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};

use super::journal::Outcome;
use super::lookup::heads::Heads;
use super::lookup::items::InProgress;
use super::lookup::lists::{self, OpenRuns, WantedRuns};
use super::lookup::{self, Asked, Known, Lookup, Question};
use super::protocol::{Answer, Command, Delivery, Query, Refusal, ReplyTo, StartingPosition};
use super::store::{Reader, StoreError};
use crate::auth::IdSigner;
use crate::model::{ProjectId, Timestamp};

/// Batches of questions that may wait. What finds no room is refused.
const WAITING_BATCHES_MAX: usize = 1024;

/// Bytes of encoded pages that are remembered while someone replays: 256 full ones. So a hundred who replay the same, a
/// few pages one after another, have each page encoded once.
const CACHE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// After this long without a question the cached pages are dropped.
const IDLE: Duration = Duration::from_secs(5);

/// How much less of a processor's time than the loop and the log those get that read, where there is not enough for all:
/// what they do is large, and whoever waits for it waits for more than a moment anyway. A step of niceness is a tenth.
const NICE_PAGES: i32 = 5;

/// See [`NICE_PAGES`]: a stream that is behind goes before a download.
const NICE_LOOK_UPS: i32 = 15;

/// See [`NICE_PAGES`]: what is retold goes to streams that have all but the newest.
const NICE_FORMATS: i32 = 5;

/// Threads that answer what is no page: one who reads something large does not hold all others back.
const LOOK_UPS: usize = 2;

/// The way to the threads. Clones lead to the same ones.
#[derive(Clone)]
pub(super) struct HistoryHandle {
    pages: Sender<Task>,
    formats: Sender<Task>,
    look_ups: Sender<Task>,
    /// The log has ended, and whoever asked something with it: nothing is looked up any more.
    is_ending: Arc<AtomicBool>,
    /// Several nodes share the store: what the log holds in memory is to be looked at first.
    pub(super) is_shared: bool,
    /// Nothing ever comes; it is cut off when all have let their readers go.
    ended: Receiver<()>,
}

enum Task {
    /// Questions, and the way to the log for those that are handed on. It comes with them because a thread that held one
    /// for good would keep the log from ending when everyone else has let it go.
    Look(Vec<Question>, Option<Sender<Vec<Command>>>),
    /// End.
    Close,
}

impl HistoryHandle {
    /// Takes out of `batch` what is to be read here, and has it answered. What is left is the log's; so is what finds no
    /// room.
    pub(super) fn divert(&self, batch: Vec<Command>, log: &Sender<Vec<Command>>) -> Vec<Command> {
        if !batch.iter().any(is_history) {
            return batch;
        }
        let (mut questions, mut rest) = (Vec::new(), Vec::new());
        for command in batch {
            match command {
                Command::Read { query, reply } if is_history_query(&query) && !self.is_of_log(&query) => {
                    questions.push(Question { reply, asked: Asked::Look(query, Known::Untold) });
                }
                command => rest.push(command),
            }
        }
        let no_room = self.share_out(questions, Some(log));
        rest.extend(no_room.into_iter().filter_map(Question::command));
        rest
    }

    /// Lists are made of what the log publishes of runs and projects: where others change them, it makes sure of that first.
    fn is_of_log(&self, query: &Query) -> bool {
        let is_list = matches!(query, Query::Runs { .. } | Query::StoredPlans { .. } | Query::Projects { .. });
        self.is_shared && is_list
    }

    /// Has answered what the log told something of. What finds no room comes back.
    pub(super) fn ask(&self, questions: Vec<Question>) -> Vec<Question> {
        self.share_out(questions, None)
    }

    /// Each question to those whose it is.
    fn share_out(&self, mut questions: Vec<Question>, log: Option<&Sender<Vec<Command>>>) -> Vec<Question> {
        let formats = questions.extract_if(.., |question| question.is_of_format()).collect();
        let pages = questions.extract_if(.., |question| question.is_page()).collect();
        let shares = [(&self.formats, formats), (&self.pages, pages), (&self.look_ups, questions)];
        shares.into_iter().flat_map(|(to, questions)| ask(to, questions, log.cloned())).collect()
    }

    /// Lets the threads end, each with the question that it is about, and waits until they have let their readers go.
    pub(super) fn close(&self) {
        self.is_ending.store(true, Ordering::SeqCst);
        for to in [&self.pages, &self.formats].into_iter().chain([&self.look_ups; LOOK_UPS]) {
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
            Asked::Snapshots(_) | Asked::Items(_) | Asked::Retold(_) => None,
        }
    }

    /// Is it of a run that is retold in a format? Those are answered in the order in which they are asked.
    pub(crate) fn is_of_format(&self) -> bool {
        match &self.asked {
            Asked::Retold(_) => true,
            Asked::Look(query, _) => query.is_of_format(),
            Asked::Snapshots(_) | Asked::Items(_) => false,
        }
    }

    /// Is it one of a stream, whose pages are read in the order in which they are asked for?
    pub(crate) fn is_page(&self) -> bool {
        matches!(&self.asked, Asked::Look(Query::Page { .. }, _)) && !self.is_of_format()
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
    let [(pages, page_tasks), (formats, format_tasks), (look_ups, look_up_tasks)] =
        std::array::from_fn(|_| bounded(WAITING_BATCHES_MAX));
    let (ends, ended) = bounded(0);
    let is_ending = Arc::<AtomicBool>::default();
    let look_up_inboxes = std::iter::repeat_n(("look-up", NICE_LOOK_UPS, look_up_tasks), LOOK_UPS);
    let inboxes = [("pages", NICE_PAGES, page_tasks), ("formats", NICE_FORMATS, format_tasks)];
    let inboxes = inboxes.into_iter().chain(look_up_inboxes);
    let mut threads = Vec::new();
    for (name, nice, inbox) in inboxes {
        let Some(reader) = reader().map_err(std::io::Error::other)? else { return Ok(None) };
        let historian = Historian::new(reader, signer.clone(), heads.clone());
        let (mut out, ends, is_ending): (_, Sender<()>, _) = (out.clone(), ends.clone(), is_ending.clone());
        let thread = thread::Builder::new().name(name.into());
        threads.push(thread.spawn(move || {
            give_way(nice);
            run(historian, &inbox, &is_ending, &mut out);
            drop(ends);
        })?);
    }
    Ok(Some((HistoryHandle { pages, formats, look_ups, is_ending, is_shared: false, ended }, threads)))
}

/// The thread that calls gets less of a processor's time from here on: on Linux a priority is a thread's own.
fn give_way(nice: i32) {
    if let Err(error) = rustix::process::nice(nice) {
        log::debug!("cannot lower the priority of a reader thread: {error}");
    }
}

pub(super) fn is_history(command: &Command) -> bool {
    matches!(command, Command::Read { query, .. } if is_history_query(query))
}

fn is_history_query(query: &Query) -> bool {
    matches!(
        query,
        Query::Page { .. }
            | Query::Row { .. }
            | Query::Plan { .. }
            | Query::Document { .. }
            | Query::Ended { .. }
            | Query::RunEvents { .. }
            | Query::Events { .. }
            | Query::Run { .. }
            | Query::Output { .. }
            | Query::Items { .. }
            | Query::OutputRest { .. }
            | Query::Runs { .. }
            | Query::Projects { .. }
            | Query::Due(_)
            | Query::StoredPlans { .. }
            | Query::StoredPlan { .. }
            | Query::StoredDocument { .. }
            | Query::Schedules
            | Query::HasEnded { .. }
            | Query::ChildResult { .. }
    )
}

fn run(mut historian: Historian, inbox: &Receiver<Task>, is_ending: &AtomicBool, out: &mut impl FnMut(Outcome)) {
    while let Some(Task::Look(questions, log)) = historian.next_task(inbox) {
        for question in questions {
            let Question { reply, asked } = question;
            match asked {
                // What waits here may be minutes of work, and nobody waits for it any more.
                _ if is_ending.load(Ordering::SeqCst) => tell(reply, Answer::Refused(Refusal::StoreUnavailable), out),
                Asked::Snapshots(start) => tell(reply, lookup::begun(start, &historian.signer), out),
                Asked::Items(steps) => tell(reply, historian.items_in_progress(&steps), out),
                Asked::Retold(start) => tell(reply, historian.begin_retold(start), out),
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
    /// What went wrong last, so that it is told once and not for each question.
    told: Option<StoreError>,
}

impl Historian {
    pub(super) fn new(reader: Box<dyn Reader>, signer: IdSigner, heads: Arc<Heads>) -> Self {
        Self { reader, signer, heads, lookup: Lookup::new(CACHE_BYTES_MAX), told: None }
    }

    #[cfg(test)]
    pub(super) fn signer(&self) -> &IdSigner {
        &self.signer
    }

    /// The next task. `None` if no sender is left.
    fn next_task(&mut self, inbox: &Receiver<Task>) -> Option<Task> {
        match inbox.recv_timeout(IDLE) {
            Ok(task) => return Some(task),
            Err(RecvTimeoutError::Disconnected) => return None,
            Err(RecvTimeoutError::Timeout) => self.lookup.forget_pages(),
        }
        inbox.recv().ok()
    }

    /// None if the log has to be asked. A failure is one question's, not the thread's.
    pub(super) fn answer(&mut self, query: &Query, known: &Known) -> Option<Answer> {
        match self.look(query, known) {
            Ok(answer) => {
                self.told = None;
                answer
            }
            Err(error) => {
                if self.told.as_ref() != Some(&error) {
                    log::error!("cannot read history: {error}");
                }
                self.told = Some(error);
                Some(Answer::Refused(Refusal::StoreUnavailable))
            }
        }
    }

    /// How the items of steps in progress are.
    pub(super) fn items_in_progress(&mut self, wanted: &InProgress) -> Answer {
        let mut page = None;
        let looked = self.reader.look(&mut |history| {
            page = Some(wanted.page(history)?);
            Ok(())
        });
        match (looked, page) {
            (Ok(()), Some(page)) => Answer::Page(page),
            (looked, _) => {
                log::error!("cannot read items: {looked:?}");
                Answer::Refused(Refusal::StoreUnavailable)
            }
        }
    }

    /// Where a stream in a format begins.
    pub(super) fn begin_retold(&mut self, start: Box<StartingPosition>) -> Answer {
        let (reader, signer) = (&mut self.reader, &self.signer);
        self.lookup.begin_retold(&mut |look| reader.look(look), signer, start).unwrap_or_else(|error| {
            log::error!("cannot read history: {error}");
            Answer::Refused(Refusal::StoreUnavailable)
        })
    }

    fn look(&mut self, query: &Query, known: &Known) -> Result<Option<Answer>, StoreError> {
        match query {
            Query::Run { project, run, wanted } => {
                let (reader, lookup) = (self.reader.as_mut(), &mut self.lookup);
                return lookup.run(reader, &self.signer, known, (project, run), *wanted);
            }
            Query::Runs { project, status, before, limit } => {
                let before = before.as_ref();
                return self.list_runs(WantedRuns { project, status: *status, before, limit: *limit });
            }
            Query::StoredPlans { project, now } => return self.list_plans(project, *now),
            Query::Projects { visible, after, limit } => {
                return lists::list_projects(&self.heads, visible.as_deref(), after.as_ref(), *limit).map(Some);
            }
            Query::Events { project, wanted } => {
                return lookup::project_events(&mut |look| self.reader.look(look), &self.signer, project, wanted)
                    .map(Some);
            }
            query if query.is_of_format() => {
                let (reader, signer) = (&mut self.reader, &self.signer);
                return self.lookup.retell(&mut |look| reader.look(look), signer, query, known);
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

    fn list_plans(&mut self, project: &ProjectId, now: Timestamp) -> Result<Option<Answer>, StoreError> {
        let (mut answer, open) = (None, OpenRuns::of(&self.heads, project));
        self.reader.look(&mut |history| {
            answer = Some(open.list_plans(history, project, now)?);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{Instance, ServerKeys};
    use crate::log::testing::{project, reply_to};
    use crate::log::{MemoryStore, Store};

    #[test]
    fn an_end_waited_until_everything_was_looked_up_that_anyone_had_asked_for() {
        let reader = MemoryStore::new().reader().expect("readable").expect("there is a reader");
        let signer = ServerKeys::derive(&[1; 32]).id_signer(Instance::from_random([1; 6]));
        let historian = Historian::new(reader, signer, Arc::default());
        let list = || Query::Runs { project: project(), status: None, before: None, limit: 1 };
        let questions = (0..3).map(|n| Question { reply: reply_to(n), asked: Asked::Look(list(), Known::Untold) });
        let (sender, inbox) = bounded(2);
        sender.send(Task::Look(questions.collect(), None)).expect("room");
        sender.send(Task::Close).expect("room");
        let (is_ending, mut answers) = (AtomicBool::new(false), Vec::new());
        run(historian, &inbox, &is_ending, &mut |outcome| {
            // The server ends while the first of them is looked up.
            is_ending.store(true, Ordering::SeqCst);
            answers.extend(outcome.deliveries.into_iter().map(|delivery| match delivery {
                Delivery::Reply { answer, .. } => answer,
                other => panic!("{other:?}"),
            }));
        });
        let is_refused = |answer: &Answer| matches!(answer, Answer::Refused(Refusal::StoreUnavailable));
        assert_eq!(answers.iter().map(is_refused).collect::<Vec<_>>(), [false, true, true], "{answers:?}");
    }
}
