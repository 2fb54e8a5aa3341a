//! The thread of the log: it takes all waiting commands as one batch, steps the journal, and distributes its output.

use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded, select_biased};

use super::history_thread::{self, HistoryHandle};
use super::journal::{Journal, Outcome};
use super::lookup::Question;
use super::protocol::{Answer, Command, Refusal, ReplyTo};
use crate::model::{Now, Record};

/// Batches of commands that may wait for the log. The loop sends at most one a turn, the executor one a turn and has at
/// most 256 on their way, the intake one a plan; a loop that finds no room refuses the call, the executor tries again,
/// the intake waits.
pub const WAITING_BATCHES_MAX: usize = 1024;

/// Commands taken as one batch at most, so that the first of them is not kept waiting by the last.
const BATCH_COMMANDS_MAX: usize = 4096;

/// A batch for a store that several nodes share waits for others no longer than for this part of what the last one took.
const PATIENCE_PART: u32 = 4;

/// Nor longer than this.
const PATIENCE_MAX: Duration = Duration::from_millis(1);

/// The way into the log. Clones lead to the same one.
#[derive(Clone)]
pub struct LogHandle {
    commands: Sender<Vec<Command>>,
    /// Nothing ever comes; it is cut off when the log has ended.
    ended: Receiver<()>,
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

    /// Hands over what runs say, if there is room; [`Order::Kept`](super::Order::Kept) says when it is kept. What the log
    /// holds back while its store takes nothing is what it was handed by then, which the executor bounds.
    ///
    /// # Errors
    /// The records come back where there is no room, or the log has ended.
    pub fn try_send_records(&self, records: Vec<Record>) -> Result<(), Vec<Record>> {
        let sent = self.commands.try_send(vec![Command::Records(records)]);
        sent.map_err(|error| match error.into_inner().pop() {
            Some(Command::Records(records)) => records,
            _ => Vec::new(),
        })
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

    /// Asks, and waits for the answer; none if the log has ended, or ends before it gives one.
    pub fn ask(&self, command: impl FnOnce(ReplyTo) -> Command) -> Option<Answer> {
        let (reply, answered) = bounded(1);
        self.send(vec![command(ReplyTo::Caller(reply))]).ok()?;
        // What is sent while the log ends stays in its channel, and the way back with it: that is not cut off then.
        select_biased! {
            recv(answered) -> answer => answer.ok(),
            recv(self.ended) -> _ => answered.try_recv().ok(),
        }
    }

    /// Waits until everything that was sent before is kept and told. `false` where the log ended before that.
    pub fn wait_until_kept(&self) -> bool {
        self.ask(Command::Barrier).is_some()
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

/// Starts the thread of the log, and its reader threads if the store has readers. They end when the log is
/// [closed](LogHandle::close), or every [`LogHandle`] is gone, and everything possible is written. If one of them
/// panics, callers that wait for it may wait for ever.
///
/// # Errors
/// If the system grants no thread.
pub fn start(
    mut journal: Journal,
    clock: impl Fn() -> Now + Send + 'static,
    out: impl FnMut(Outcome) + Clone + Send + 'static,
) -> std::io::Result<(LogHandle, Vec<JoinHandle<()>>)> {
    let (commands, inbox) = bounded(WAITING_BATCHES_MAX);
    let (mut history, threads): (Option<HistoryHandle>, Option<Vec<_>>) =
        history_thread::start(|| journal.store.reader(), &journal.signer, &journal.heads, out.clone())?.unzip();
    let mut threads = threads.unwrap_or_default();
    journal.has_readers = history.is_some();
    if let Some(history) = &mut history {
        history.is_shared = journal.is_shared;
    }
    let (ends, ended) = bounded::<()>(0);
    let handle = LogHandle { commands, ended, history: history.clone() };
    let last = LastBatch::default();
    let shell = Shell { journal, inbox, clock, out, history: history.clone(), last };
    let thread = thread::Builder::new().name("log".into()).spawn(move || {
        let journal = shell.run();
        // The reader goes before what it reads.
        history.iter().for_each(HistoryHandle::close);
        drop(journal);
        drop(ends);
    })?;
    threads.push(thread);
    Ok((handle, threads))
}

struct Shell<C, O> {
    journal: Journal,
    inbox: Receiver<Vec<Command>>,
    clock: C,
    out: O,
    history: Option<HistoryHandle>,
    last: LastBatch,
}

/// What the batch before was.
#[derive(Default)]
struct LastBatch {
    commands: usize,
    took: Duration,
}

impl LastBatch {
    /// For how long a batch of so many commands is to wait for more. Those who were answered with the batch before are about to
    /// ask again: the first of them would go alone, and the others would wait for a whole round trip of a store far away.
    fn patience(&self, commands: usize) -> Duration {
        if commands < self.commands { (self.took / PATIENCE_PART).min(PATIENCE_MAX) } else { Duration::ZERO }
    }
}

impl<C: Fn() -> Now, O: FnMut(Outcome)> Shell<C, O> {
    /// To the end. The journal comes back, for what it reads and writes is not to be let go yet.
    fn run(mut self) -> Journal {
        while let Some(batch) = self.next_batch() {
            let is_last = batch.iter().any(|command| matches!(command, Command::Close));
            let (commands, began) = (batch.len(), Instant::now());
            let mut outcome = self.journal.handle(batch, (self.clock)());
            self.last = LastBatch { commands, took: began.elapsed() };
            let questions = std::mem::take(&mut outcome.questions);
            (self.out)(outcome);
            self.hand_on(questions);
            if is_last {
                break;
            }
        }
        let lost = self.journal.held_back();
        if lost > 0 {
            log::error!(
                "{lost} messages of runs were not stored; the next start continues these runs from the last stored message"
            );
        }
        self.journal
    }

    /// Passes questions to the readers after all earlier outputs have been delivered: a stream must not learn where it
    /// begins before the messages up to there are delivered. If the readers have no room, the client may ask again.
    fn hand_on(&mut self, questions: Vec<Question>) {
        let no_room = match &self.history {
            Some(history) => history.ask(questions),
            None => questions,
        };
        if !no_room.is_empty() {
            let mut refused = Outcome::default();
            no_room.iter().for_each(|it| refused.reply(&it.reply, Answer::Refused(Refusal::StoreUnavailable)));
            (self.out)(refused);
        }
    }

    /// What has come, as one batch; an empty one where the journal has something to do by itself. None if nothing can
    /// come any more.
    fn next_batch(&self) -> Option<Vec<Command>> {
        let wait = self.journal.next_deadline().saturating_sub((self.clock)().mono);
        let mut batch = match self.inbox.recv_timeout(wait) {
            Ok(batch) => batch,
            Err(RecvTimeoutError::Timeout) => return Some(Vec::new()),
            Err(RecvTimeoutError::Disconnected) => return None,
        };
        self.take_what_waits(&mut batch);
        if self.journal.is_shared {
            self.gather(&mut batch);
        }
        Some(batch)
    }

    fn take_what_waits(&self, batch: &mut Vec<Command>) {
        while batch.len() < BATCH_COMMANDS_MAX
            && let Ok(more) = self.inbox.try_recv()
        {
            batch.extend(more);
        }
    }

    /// Waits a moment until as many have come as the last time.
    fn gather(&self, batch: &mut Vec<Command>) {
        let until = Instant::now() + self.last.patience(batch.len());
        while batch.len() < self.last.commands
            && let Ok(more) = self.inbox.recv_deadline(until)
        {
            batch.extend(more);
            self.take_what_waits(batch);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, OnceLock};

    use super::*;
    use crate::auth::{Instance, ServerKeys};
    use crate::log::{Limits, Retention};

    #[test]
    fn a_batch_waits_for_no_more_than_the_last_one_had_and_not_for_long() {
        let last = |commands, millis| LastBatch { commands, took: Duration::from_millis(millis) };
        assert_eq!(last(64, 2).patience(3), Duration::from_micros(500));
        assert_eq!(last(64, 200).patience(3), Duration::from_millis(1));
        assert_eq!((last(1, 2).patience(1), last(3, 2).patience(64)), (Duration::ZERO, Duration::ZERO));
        assert_eq!(LastBatch::default().patience(0), Duration::ZERO);
    }

    #[test]
    fn whoever_asked_a_log_that_was_about_to_end_waited_for_ever() {
        let retention = Retention { messages: 10, bytes: 1 << 20, age_ms: 1000, runs: 10 };
        let limits = Limits {
            retention,
            open_runs: 1,
            project_runs: 1,
            projects: 1,
            key_bytes: 1,
            state_outputs_bytes: 1,
            plans: Default::default(),
            recent_ms: 1,
        };
        let signer = ServerKeys::derive(&[1; 32]).id_signer(Instance::from_random([1; 6]));
        let journal = Journal::over_nothing(signer, limits, Now::default());
        let asks = Arc::new(OnceLock::<LogHandle>::new());
        let asked = Arc::clone(&asks);
        // The log has taken its last batch and lets it out: now it is asked once more.
        let out = move |_: Outcome| {
            while asked.get().is_none_or(|handle| handle.waiting() == 0) {
                thread::yield_now();
            }
        };
        let (handle, threads) = start(journal, Now::default, out).expect("threads");
        handle.close();
        while handle.waiting() > 0 {
            thread::yield_now();
        }
        let _ = asks.set(handle.clone());
        assert!(!handle.wait_until_kept());
        drop((asks, handle));
        threads.into_iter().for_each(|thread| thread.join().expect("it does not panic"));
    }
}
