//! The journal: numbers what comes, folds runs, commits each batch as one, and only then lets anything out.
//!
//! A batch is taken in two steps. First everything that changes the log, which is committed together; then everything
//! that reads it. So a reader sees all of its batch, and an answer that leaves here is true for good.

mod age;
mod batch;
mod children;
mod claims;
mod commit;
mod concurrency;
mod conflict;
mod drain;
mod fence;
mod follow;
mod freshness;
mod growth;
mod heads;
mod items;
mod load;
mod numbers;
mod open;
mod outage;
mod outbox;
mod outputs;
mod plans;
mod reads;
mod refused;
mod resume;
mod reuse;
mod runs;
mod standings;
mod steering;
#[cfg(test)]
mod tests;
mod unreadable;
mod wishes;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use self::age::AgeClock;
use self::batch::Batch;
use self::commit::CommitError;
use self::fence::Fence;
use self::growth::Growth;
use self::heads::Touched;
use self::load::Loaded;
use self::numbers::Numbers;
pub use self::open::ReadPlan;
use self::outage::Outage;
pub use self::outputs::STATE_OUTPUTS_BYTES_MAX;
pub use self::standings::Standings;
use self::steering::Steerings;
use self::unreadable::Unreadable;
pub use self::wishes::WaitingWishes;
use self::wishes::Wishes;

use super::lookup::heads::Heads;
use super::lookup::{Asked, Lookup, Question};
use super::protocol::{
    Answer, Command, Delivery, Order, PlanLimits, Refusal, ReplyTo, Spends, StartingPosition, Webhooks,
};
use super::store::{BeatError, Retention, RunMap, RunNumber, RunSet, Store, StoreError};
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
    /// How many plans may be stored; one more is refused.
    pub plans: PlanLimits,
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
    /// Of those the ones that wait for others of their group to end, as far as that is kept.
    held: RunSet,
    pub(super) next_number: NonZeroU64,
    numbers: Numbers,
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
    /// Several nodes share the store. What follows is theirs alone.
    pub(super) is_shared: bool,
    /// While the others think that this node is gone.
    fence: Option<Fence>,
    fences: u64,
    /// Where projects stand that nothing is held of, as the store said while this batch is handled.
    fresh: HashMap<ProjectId, (u64, u64)>,
    /// Where those stand that are followed.
    standings: Arc<Standings>,
    /// When others are looked at, on the monotonic clock, and behind which of them.
    look_around_at: Duration,
    looked_at: Option<ProjectId>,
    /// Tickets that the batch which was committed last would have spent, and another node had.
    spent: Vec<TicketNote>,
    /// What was to be told when it was read anew, and could not be, for not all could be read.
    untold: Loaded,
    /// Runs that were taken over and can't go on: they are to have their last messages.
    unreadable: Vec<Unreadable>,
    /// What is in memory is not what the store holds: nothing is to be read from it.
    pub(super) is_stale: bool,
    /// What lists are made of, and what of it is to be said anew.
    pub(super) heads: Arc<Heads>,
    touched: Touched,
    /// When history is to be trimmed though nothing comes, on the monotonic clock.
    pub(super) trim_at: Duration,
    growth: Growth,
    steerings: Steerings,
    wishes: Wishes,
    /// How many steps wait for a decision, of each run in which one does.
    waits: RunMap<usize>,
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
    /// See [`Head::revision`](super::store::Head::revision).
    pub(super) revision: u64,
    pub(super) last_activity: Timestamp,
    /// The loop is sent its messages.
    pub(super) is_watched: bool,
    /// And, between them, what is said of items.
    pub(super) wants_items: bool,
    /// Runs that have not ended, in the order in which they were taken on.
    pub(super) open_runs: BTreeSet<RunNumber>,
    /// The same by their ids: every message of a run is looked up here.
    pub(super) open_by_id: HashMap<RunId, RunNumber>,
    /// Those of them that are children, by their parents.
    pub(super) children: HashMap<RunId, BTreeSet<RunNumber>>,
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
    /// A step of it has, or had, items.
    pub(super) has_items: bool,
    /// Another node runs it: what it says is followed.
    is_foreign: bool,
    /// It is kept that it is to end, and whoever runs it here was told.
    is_cancelled: bool,
    /// It waits for others of its group to end.
    is_held: bool,
    /// Something of it can't be read here.
    is_broken: bool,
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
            has_items: false,
            is_foreign: false,
            is_cancelled: false,
            is_held: false,
            is_broken: false,
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
    /// There is another schedule than before, or one less.
    pub has_schedules: bool,
    /// Projects that this node has moved, and of which others are to be told; and wishes, or answers to them, are among what
    /// was kept. Only where the store is shared.
    pub moved: Vec<ProjectId>,
    /// See `moved`.
    pub has_wishes: bool,
}

impl Outcome {
    pub(super) fn reply(&mut self, to: &ReplyTo, answer: Answer) {
        self.deliveries.push(Delivery::Reply { to: to.clone(), answer });
    }
}

/// A stream that a ticket is spent for.
struct Spending {
    spends: Spends,
    start: Box<StartingPosition>,
    reply: ReplyTo,
}

impl Spending {
    /// The first of those to a project.
    fn first_of<'s>(streams: &'s mut [Self], project: &ProjectId) -> Option<&'s mut Self> {
        streams.iter_mut().find(|it| it.start.project == *project)
    }
}

impl Journal {
    /// Takes a batch of commands. Where the store fails, nothing of the batch is kept but what runs said, which is held
    /// back until the store takes it; the rest is refused.
    pub fn handle(&mut self, commands: Vec<Command>, now: Now) -> Outcome {
        self.forget_ended(now.wall);
        self.note_retry(now);
        let is_read = |command: &mut Command| {
            matches!(
                command,
                Command::Read { .. }
                    | Command::Subscribe { .. }
                    | Command::Unwatch(_)
                    | Command::Items { .. }
                    | Command::IgnoreItems(_)
                    | Command::ExecutorEnded
                    | Command::Barrier(_)
                    | Command::Follow(_)
                    | Command::Adopt(_)
                    | Command::Wishes(_)
                    | Command::Tickets(_)
                    | Command::Probe
                    | Command::Fence
                    | Command::Abandoned(_)
                    | Command::Close
            )
        };
        let mut writes = commands;
        let mut reads: Vec<_> = writes.extract_if(.., is_read).collect();
        let mut outcome = Outcome::default();
        if self.is_shared {
            let mut to_do = self.hear_others(&mut reads, &mut writes, now, &mut outcome);
            to_do.extend(self.hear_wishes(&mut reads, &mut outcome));
            writes.splice(..0, to_do);
            self.has_come_back(now, &mut outcome);
            self.freshen(writes.iter().chain(&reads), now, &mut outcome);
        }
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
                    match (spends, self.answer(|journal| journal.begin(&subscription, now))) {
                        (Some(spends), Answer::StartsAt(start)) if !start.is_over => {
                            spending.push(Spending { spends, start, reply });
                        }
                        (_, Answer::StartsAt(mut start)) => {
                            // That one may be refused still.
                            if let Some(first) = Spending::first_of(&mut spending, &start.project) {
                                start.backlog = start.backlog.or(first.start.backlog.take());
                            }
                            self.tell_where(start, reply, &mut outcome);
                        }
                        (_, answer) => outcome.reply(&reply, answer),
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
                Command::Items { project, run, after, reply } => {
                    self.show_items(project, run, after, reply, &mut outcome);
                }
                Command::IgnoreItems(project) => self.ignore_items(&project),
                Command::ExecutorEnded => self.end_steering(&mut outcome),
                Command::Probe => self.probe(now, &mut outcome),
                Command::Tickets(notes) => outcome.deliveries.push(Delivery::Tickets(notes)),
                Command::Barrier(reply) => self.reach(reply, &mut outcome),
                _ => {}
            }
        }
        self.spend(spending, now, &mut outcome);
        self.end_taken_over(now, &mut outcome);
        self.give_wishes_up(now, &mut outcome);
        self.look_around(now, &mut outcome);
        if now.mono >= self.trim_at {
            let before = self.held();
            self.trim(now);
            if self.held() != before {
                outcome.deliveries.push(Delivery::Worked(self.held()));
            }
        }
        self.look_for_room();
        self.publish_heads();
        self.fresh.clear();
        outcome
    }

    /// Begins the streams that tickets are spent for, once that is kept: all in one commit. One whose ticket another node has
    /// spent begins where its client shows what only a stream can have told it.
    fn spend(&mut self, streams: Vec<Spending>, now: Now, outcome: &mut Outcome) {
        if streams.is_empty() {
            return;
        }
        let note = |it: &Spending| Command::Note { note: it.spends.note.clone(), reply: None };
        let notes: Vec<_> = streams.iter().map(note).collect();
        self.spent.clear();
        let is_kept = self.keep(&notes, now, outcome);
        let spent = std::mem::take(&mut self.spent);
        let begins = |it: &Spending| is_kept && (it.spends.is_proven || !spent.contains(&it.spends.note));
        let (mut begun, refused): (Vec<_>, Vec<_>) = streams.into_iter().partition(begins);
        for Spending { mut start, reply, .. } in refused {
            // The project's newest messages go to the next one who asks.
            match (start.backlog.take(), Spending::first_of(&mut begun, &start.project)) {
                (Some(backlog), Some(next)) => next.start.backlog = Some(backlog),
                (Some(_), None) => self.unwatch(&start.project),
                (None, _) => {}
            }
            let refusal = if is_kept { Refusal::TicketSpent } else { Refusal::StoreUnavailable };
            outcome.reply(&reply, Answer::Refused(refusal));
        }
        begun.into_iter().for_each(|it| self.tell_where(it.start, it.reply, outcome));
    }

    /// Writes something for nobody, where the store takes anything. Where that fails it is missed where it would be seen.
    fn probe(&mut self, now: Now, outcome: &mut Outcome) {
        if self.is_down() {
            return;
        }
        match self.store.probe() {
            Ok(()) => {}
            Err(BeatError::Fenced) => self.fence(&Batch::default(), now, outcome),
            Err(BeatError::Down(error)) => log::warn!("the store can't be written to: {error}"),
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
            steps_waiting: self.waits.values().sum(),
            projects: self.projects.len(),
            key_bytes: self.key_bytes,
            webhooks_dropped: self.webhooks_dropped,
        }
    }

    /// When [`handle`](Self::handle) should be called though there is no command, on the monotonic clock.
    pub fn next_deadline(&self) -> Duration {
        let retry_at = self.outage.as_ref().map(|outage| outage.retry_at.unwrap_or_default());
        let look_around_at = self.is_shared.then_some(self.look_around_at);
        [retry_at, self.wishes.next_deadline(), look_around_at].into_iter().flatten().fold(self.trim_at, Duration::min)
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
                if let Some(&(newest, revision)) = self.fresh.get(project) {
                    return Ok(place.insert(ProjectEntry { newest, revision, ..ProjectEntry::default() }));
                }
                let entry = self.store.remains(project)?.map(|it| ProjectEntry {
                    newest: it.newest,
                    revision: it.revision,
                    last_activity: it.last_activity,
                    ..ProjectEntry::default()
                });
                if self.is_shared
                    && !self.store.recover_projects(std::slice::from_ref(project), &[])?.open_runs.is_empty()
                {
                    return Err(StoreError(
                        "others have just begun runs in a project that nothing was known of".to_owned(),
                    ));
                }
                Ok(place.insert(entry.unwrap_or_default()))
            }
        }
    }

    /// The `seq` of a project's newest message.
    pub(super) fn newest(&self, project: &ProjectId) -> Result<u64, StoreError> {
        Ok(self.standing(project)?.0)
    }

    /// The same, and the project's revision.
    fn standing(&self, project: &ProjectId) -> Result<(u64, u64), StoreError> {
        let held = self.projects.get(project).map(|entry| (entry.newest, entry.revision));
        if let Some(standing) = held.or_else(|| self.fresh.get(project).copied()) {
            return Ok(standing);
        }
        match self.is_shared {
            false => Ok((self.store.newest(project)?, 0)),
            true => {
                let standings = self.store.standings(std::slice::from_ref(project))?;
                Ok(standings.first().map(|it| (it.newest, it.revision)).unwrap_or_default())
            }
        }
    }

    /// Nothing of the project is delivered any more.
    fn unwatch(&mut self, project: &ProjectId) {
        let Some(entry) = self.projects.get_mut(project) else { return };
        (entry.is_watched, entry.wants_items) = (false, false);
        self.touched.project(project);
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
