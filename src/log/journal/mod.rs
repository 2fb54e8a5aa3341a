//! The journal: numbers what comes, folds runs, commits each batch as one, and only then lets anything out.
//!
//! A batch is taken in two steps. First everything that changes the log, which is committed together; then everything
//! that reads it. So a reader sees all of its batch, and an answer that leaves here is true for good.

mod age;
mod batch;
mod claims;
mod commit;
mod conflict;
mod growth;
mod heads;
mod load;
mod outage;
mod outbox;
mod outputs;
mod reads;
mod refused;
mod runs;
#[cfg(test)]
mod tests;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use self::age::AgeClock;

use self::commit::CommitError;
use self::growth::Growth;
use self::heads::Touched;
pub use self::load::ReadPlan;
use self::outage::Outage;
pub use self::outputs::STATE_OUTPUTS_BYTES_MAX;

use super::lookup::heads::Heads;
use super::lookup::{Asked, Lookup, Question};
use super::protocol::{Answer, Command, Delivery, Order, Refusal, ReplyTo, StartingPosition, Webhooks};
use super::store::{Retention, RunMap, RunNumber, RunSet, Store, StoreError};
use super::views::Snapshot;
use super::work::{Held, WorkCounts};
use crate::auth::{IdSigner, TicketNote};
use crate::model::{Now, Plan, ProjectId, RunId, RunState, Timestamp};

/// The journal's bounds.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How much history is kept.
    pub retention: Retention,
    /// Runs of all projects that have not ended; one more is refused.
    pub open_runs: usize,
    /// Those of one project.
    pub project_runs: usize,
    /// Projects that hold something, or are watched; one more is refused.
    pub projects: usize,
    /// What all keys may weigh. A project may have as much as is left free, so that one alone has half of it at most and
    /// there is always room for others; a call that would need more is refused, for none may be forgotten before its time.
    pub key_bytes: u64,
    /// What the outputs in the state of a run may take together; see [`STATE_OUTPUTS_BYTES_MAX`]. Beyond it each is kept by
    /// itself, as whole as it is in its message.
    pub state_outputs_bytes: u64,
    /// How long the newest ended run is shown to whoever comes, in milliseconds.
    pub recent_ms: u64,
}

/// Numbers, keeps and folds; see the top of this file.
pub struct Journal {
    pub(super) store: Box<dyn Store>,
    pub(super) signer: IdSigner,
    pub(super) limits: Limits,
    pub(super) projects: HashMap<ProjectId, ProjectEntry>,
    pub(super) runs: RunMap<RunEntry>,
    /// Runs that ended a moment ago and are still held, by when: one a project at most, wherever the clock is set.
    pub(super) recent: BTreeMap<(Timestamp, RunNumber), ProjectId>,
    /// Of those that have not ended the ones that are run here: it is kept that this journal has taken them on, or it found
    /// them at its start. All others are another node's, and never run here.
    ours: RunSet,
    pub(super) next_number: NonZeroU64,
    pub(super) open_runs: usize,
    /// What all keys weigh that the store holds.
    pub(super) key_bytes: u64,
    clock: AgeClock,
    pub(super) id_text: Vec<u8>,
    /// The message that is being numbered, or the state of the run that has ended with it.
    pub(super) json_text: Vec<u8>,
    pub(super) lookup: Lookup,
    /// There are others who read beside it: what they can answer is not answered here.
    pub(super) has_readers: bool,
    /// Makes a plan again of a [`Submission`]'s document.
    pub(super) read_plan: ReadPlan,
    /// While the store takes nothing.
    outage: Option<Outage>,
    /// What is in memory is not what the store holds: nothing is to be read from it.
    pub(super) is_stale: bool,
    /// What lists are made of, and what of it is to be said anew.
    pub(super) heads: Arc<Heads>,
    touched: Touched,
    /// When history is to be trimmed though nothing comes, on the monotonic clock.
    pub(super) trim_at: Duration,
    growth: Growth,
    webhooks: Webhooks,
    /// What webhooks were not told because too much waited, so far.
    webhooks_dropped: u64,
}

/// What is held of a project.
#[derive(Default)]
pub(super) struct ProjectEntry {
    /// The store holds messages or runs of it.
    pub(super) is_kept: bool,
    pub(super) newest: u64,
    pub(super) last_activity: Timestamp,
    /// The loop is sent its messages.
    pub(super) is_watched: bool,
    /// Runs that have not ended, in the order in which they were taken on.
    pub(super) open_runs: BTreeSet<RunNumber>,
    /// The same by their ids: every message of a run is looked up here.
    pub(super) open_by_id: HashMap<RunId, RunNumber>,
    /// The run that ended last.
    pub(super) newest_ended: Option<RunNumber>,
}

/// What is held of a run that has not ended, or is its project's newest ended one.
pub(super) struct RunEntry {
    /// Readers may hold it too: it is copied where it changes while one does, and only then.
    pub(super) state: Arc<RunState>,
    /// What the outputs in it take, of one that has not ended.
    outputs_bytes: u64,
    /// None where it has ended.
    pub(super) plan: Option<Arc<Plan>>,
    pub(super) first_seq: Option<u64>,
    pub(super) last_seq: u64,
    /// Its newest snapshot, while nothing has changed since.
    pub(super) snapshot: Option<Arc<Snapshot>>,
    /// Another node runs it: what it says is followed.
    is_foreign: bool,
    /// Whoever runs it here was told that it is to end.
    is_cancelled: bool,
}

impl RunEntry {
    /// One that has ended.
    fn ended(state: RunState, first_seq: Option<u64>, last_seq: u64) -> Self {
        let state = Arc::new(state);
        Self {
            state,
            outputs_bytes: 0,
            plan: None,
            first_seq,
            last_seq,
            snapshot: None,
            is_foreign: false,
            is_cancelled: false,
        }
    }
}

/// What a batch lets out.
#[derive(Debug, Default)]
pub struct Outcome {
    /// For the loop, in order.
    pub deliveries: Vec<Delivery>,
    /// For the executor, in order.
    pub orders: Vec<Order>,
    /// For those who read beside the log.
    pub questions: Vec<Question>,
    /// There is something that webhooks are to be told.
    pub has_due: bool,
}

impl Outcome {
    pub(super) fn reply(&mut self, to: &ReplyTo, answer: Answer) {
        self.deliveries.push(Delivery::Reply { to: to.clone(), answer });
    }
}

impl Journal {
    /// Takes a batch of commands. Where the store fails, nothing of the batch is kept but what runs said, which is held
    /// back until the store takes it; the rest is refused.
    pub fn handle(&mut self, commands: Vec<Command>, now: Now) -> Outcome {
        self.forget_ended(now.wall);
        let is_read = |command: &mut Command| {
            matches!(
                command,
                Command::Read { .. }
                    | Command::Subscribe { .. }
                    | Command::Unwatch(_)
                    | Command::Barrier(_)
                    | Command::Close
            )
        };
        let mut writes = commands;
        let reads: Vec<_> = writes.extract_if(.., is_read).collect();
        let mut outcome = Outcome::default();
        self.keep(&writes, now, &mut outcome);
        self.publish_heads();
        let mut spending = Vec::new();
        for command in reads {
            if let Command::Subscribe { subscription, reply, .. } = &command
                && let Err(error) = self.look_ahead(subscription, now, &mut outcome)
            {
                outcome.reply(reply, unreadable(&error));
                continue;
            }
            match command {
                Command::Subscribe { subscription, spends, reply } => {
                    match (self.answer(|journal| journal.begin(&subscription, now)), spends) {
                        (Answer::StartsAt(start), Some(note)) if !start.is_over => spending.push((note, start, reply)),
                        (Answer::StartsAt(start), _) => self.tell_where(start, reply, &mut outcome),
                        (answer, _) => outcome.reply(&reply, answer),
                    }
                }
                Command::Read { query, reply } => match self.known_of(&query) {
                    Some(known) => {
                        outcome.questions.push(Question { reply, asked: Asked::Look(query, known) });
                    }
                    None => match self.answer(|journal| journal.read(query, now)) {
                        Answer::StartsAt(start) => self.tell_where(start, reply, &mut outcome),
                        answer => outcome.reply(&reply, answer),
                    },
                },
                Command::Unwatch(project) => self.unwatch(&project),
                Command::Barrier(reply) => self.reach(reply, &mut outcome),
                _ => {}
            }
        }
        self.spend(spending, now, &mut outcome);
        if now.mono >= self.trim_at {
            let before = self.held();
            self.trim(now);
            if self.held() != before {
                outcome.deliveries.push(Delivery::Worked(self.held()));
            }
        }
        self.publish_heads();
        outcome
    }

    /// Begins the streams that tickets are spent for, once that is kept: all in one commit.
    fn spend(&mut self, streams: Vec<(TicketNote, Box<StartingPosition>, ReplyTo)>, now: Now, outcome: &mut Outcome) {
        if streams.is_empty() {
            return;
        }
        let note = |(note, ..): &(TicketNote, _, _)| Command::Note { note: note.clone(), reply: None };
        let notes: Vec<_> = streams.iter().map(note).collect();
        let is_kept = self.keep(&notes, now, outcome);
        for (_, start, reply) in streams {
            if is_kept {
                self.tell_where(start, reply, outcome);
                continue;
            }
            if start.backlog.is_some() {
                // Its newest messages go to the next one who asks.
                self.unwatch(&start.project);
            }
            outcome.reply(&reply, Answer::Refused(Refusal::StoreUnavailable));
        }
    }

    /// What there is just now, counted as no work.
    pub fn held(&self) -> WorkCounts {
        let mut counts = WorkCounts::default();
        counts.note_held(self.what_is_held());
        counts
    }

    fn what_is_held(&self) -> Held {
        Held {
            open_runs: self.open_runs,
            projects: self.projects.len(),
            key_bytes: self.key_bytes,
            webhooks_dropped: self.webhooks_dropped,
        }
    }

    /// When [`handle`](Self::handle) should be called though there is no command, on the monotonic clock.
    pub fn next_deadline(&self) -> Duration {
        self.outage.as_ref().map_or(self.trim_at, |outage| outage.retry_at.min(self.trim_at))
    }

    /// A project that holds nothing, is watched by nobody and shows no run is not held any more: the store has its newest
    /// `seq`, from which it goes on.
    pub(super) fn forget_if_empty(&mut self, project: &ProjectId) {
        let is_empty = |entry: &ProjectEntry| {
            !entry.is_kept && !entry.is_watched && entry.open_runs.is_empty() && entry.newest_ended.is_none()
        };
        if self.projects.get(project).is_some_and(is_empty) {
            self.projects.remove(project);
            self.touched.project(project);
        }
    }

    fn answer(&mut self, look: impl FnOnce(&mut Self) -> Result<Answer, StoreError>) -> Answer {
        let answer = match self.is_stale {
            true => Err(StoreError("it could not be read again after a failure".into())),
            false => look(self),
        };
        answer.unwrap_or_else(|error| unreadable(&error))
    }

    /// What is held of a project; of one that is not held, what is left of it.
    pub(super) fn entry(&mut self, project: &ProjectId) -> Result<&mut ProjectEntry, StoreError> {
        self.touched.project(project);
        match self.projects.entry(project.clone()) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(place) => {
                let remains = self.store.remains(project)?;
                let (newest, last_activity) = remains.map(|it| (it.newest, it.last_activity)).unwrap_or_default();
                Ok(place.insert(ProjectEntry { newest, last_activity, ..ProjectEntry::default() }))
            }
        }
    }

    /// The `seq` of a project's newest message.
    pub(super) fn newest(&self, project: &ProjectId) -> Result<u64, StoreError> {
        match self.projects.get(project) {
            Some(entry) => Ok(entry.newest),
            None => self.store.newest(project),
        }
    }

    /// Nothing of the project is delivered any more.
    fn unwatch(&mut self, project: &ProjectId) {
        let Some(entry) = self.projects.get_mut(project) else { return };
        entry.is_watched = false;
        self.forget_if_empty(project);
    }

    pub(super) fn has_room_for(&self, project: &ProjectId) -> bool {
        self.projects.len() < self.limits.projects || self.projects.contains_key(project)
    }
}

/// What a query is answered where the store can't be read.
fn unreadable(error: &StoreError) -> Answer {
    log::error!("the log can't be read: {error}");
    Answer::Refused(Refusal::StoreUnavailable)
}
