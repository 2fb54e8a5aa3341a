//! The journal: numbers messages, folds them into the states of runs, commits each batch as a whole, and only then
//! releases output.
//!
//! A batch is processed in two steps: first all commands that change the log, which are committed together, then all
//! commands that read it. So a reader sees the whole batch, and an answer that leaves the journal stays true.

mod age;
mod batch;
mod children;
mod claims;
mod commit;
mod concurrency;
mod conflict;
mod drain;
mod entries;
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
mod outcome;
mod outputs;
mod plans;
mod reads;
mod refused;
mod resume;
mod reuse;
mod runs;
mod spending;
mod standings;
mod steering;
#[cfg(test)]
mod tests;
mod unreadable;
mod wishes;

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use self::age::AgeClock;
use self::batch::Batch;
use self::commit::CommitError;
use self::entries::{ProjectEntry, RunEntry};
use self::fence::Fence;
use self::growth::Growth;
use self::heads::Touched;
use self::load::Loaded;
use self::numbers::Numbers;
pub use self::open::ReadPlan;
use self::outage::Outage;
pub use self::outcome::Outcome;
pub use self::outputs::STATE_OUTPUTS_BYTES_MAX;
use self::spending::Spending;
pub use self::standings::Standings;
use self::steering::Steerings;
use self::unreadable::Unreadable;
pub use self::wishes::WaitingWishes;
use self::wishes::Wishes;

use super::lookup::heads::Heads;
use super::lookup::{Asked, Lookup, Question};
use super::protocol::{Answer, Command, Delivery, PlanLimits, Refusal, ReplyTo, Spends, Subscription, Webhooks};
use super::store::{BeatError, Retention, RunMap, RunNumber, RunSet, Store, StoreError};
use super::work::{Gauges, WorkCounts};
use crate::auth::{IdSigner, TicketNote};
use crate::model::{Now, ProjectId, Timestamp};

/// The journal's bounds.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How much history is kept.
    pub retention: Retention,
    /// Runs of all projects that have not ended; one more is refused.
    pub open_runs: usize,
    /// Open runs of one project.
    pub project_runs: usize,
    /// Projects that hold something, or are watched; one more is refused.
    pub projects: usize,
    /// The largest weight of all keys. A project may use as much as is free, so that one project alone gets at most
    /// half of it and there is always room for others. A call that would need more is refused, because no key may be
    /// forgotten early.
    pub key_bytes: u64,
    /// The largest size of all outputs in the state of a run; see [`STATE_OUTPUTS_BYTES_MAX`]. Beyond it each output is
    /// stored separately, as it is in its message.
    pub state_outputs_bytes: u64,
    /// How many plans may be stored; one more is refused.
    pub plans: PlanLimits,
    /// How long the newest ended run is shown to new streams, in milliseconds.
    pub recent_ms: u64,
}

/// Numbers, keeps and folds; see the top of this file.
pub struct Journal {
    pub(super) store: Box<dyn Store>,
    pub(super) signer: IdSigner,
    pub(super) limits: Limits,
    projects: HashMap<ProjectId, ProjectEntry>,
    runs: RunMap<RunEntry>,
    /// Runs that ended just now and are still in memory, by their end: at most one per project.
    pub(super) recent: BTreeMap<(Timestamp, RunNumber), ProjectId>,
    /// The open runs of this node: this journal has created them, taken them over, or found them at its start. All
    /// others belong to other nodes and never run here.
    ours: RunSet,
    /// The runs of `ours` that wait for others of their group to end, as of the last commit.
    held: RunSet,
    pub(super) next_number: NonZeroU64,
    numbers: Numbers,
    pub(super) open_runs: usize,
    /// The weight of all keys in the store.
    pub(super) key_bytes: u64,
    clock: AgeClock,
    pub(super) id_text: Vec<u8>,
    /// The message that is being numbered, or the state of the run that has ended with it.
    pub(super) json_text: Vec<u8>,
    pub(super) lookup: Lookup,
    /// There are reader threads: what they can answer is not answered here.
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
    /// The standings of projects that are not in memory, as read for this batch.
    fresh: HashMap<ProjectId, (u64, u64)>,
    /// The standings of the followed projects.
    standings: Arc<Standings>,
    /// When the other projects are checked next, on the monotonic clock, and after which of them.
    look_around_at: Duration,
    looked_at: Option<ProjectId>,
    /// Tickets that the batch which was committed last would have spent, and another node had.
    spent: Vec<TicketNote>,
    /// Runs with a message that was not folded in: they are read again from the start.
    unfolded: RunSet,
    /// What was to be delivered after reading again, and was not because reading failed.
    untold: Loaded,
    /// Runs that were taken over and can't go on: they are to have their last messages.
    unreadable: Vec<Unreadable>,
    /// The state in memory is not that of the store, and must not be used.
    pub(super) is_stale: bool,
    /// The heads that lists are made of, and those that are to be published.
    pub(super) heads: Arc<Heads>,
    touched: Touched,
    /// When history is trimmed even if nothing comes, on the monotonic clock.
    pub(super) trim_at: Duration,
    growth: Growth,
    steerings: Steerings,
    wishes: Wishes,
    /// How many steps wait for a decision, of each run in which one does.
    waits: RunMap<usize>,
    webhooks: Webhooks,
    /// The number of events dropped so far because too many waited.
    webhooks_dropped: u64,
}

impl Journal {
    /// Takes a batch of commands. Where the store fails, nothing of the batch is kept but what runs said, which is held
    /// back until the store takes it; the rest is refused.
    pub fn handle(&mut self, commands: Vec<Command>, now: Now) -> Outcome {
        self.forget_ended(now.wall);
        self.note_retry(now);
        let mut writes = commands;
        let mut reads: Vec<_> = writes.extract_if(.., |it| is_read(it)).collect();
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
            self.take_read(command, &mut spending, now, &mut outcome);
        }
        self.spend(spending, now, &mut outcome);
        self.end_taken_over(now, &mut outcome);
        self.give_wishes_up(now, &mut outcome);
        self.look_around(now, &mut outcome);
        self.trim_in_time(now, &mut outcome);
        self.look_for_room();
        self.publish_heads();
        self.fresh.clear();
        outcome
    }

    /// Answers what asks for something, or has others answer it.
    fn take_read(&mut self, command: Command, spending: &mut Vec<Spending>, now: Now, outcome: &mut Outcome) {
        match command {
            Command::Subscribe { subscription, spends, reply } => match self.look_ahead(&subscription, now, outcome) {
                Err(error) => outcome.reply(&reply, unreadable(&error)),
                Ok(()) => self.subscribe(&subscription, (spends, reply), spending, now, outcome),
            },
            Command::Read { query, reply } => match self.known_of(&query) {
                Some(known) => {
                    outcome.questions.push(Question { reply, asked: Asked::Look(query, known) });
                }
                None => match self.answer(|journal| journal.read(query, now)) {
                    Answer::StartsAt(start) => self.tell_where(start, reply, outcome),
                    answer => outcome.reply(&reply, answer),
                },
            },
            Command::Unwatch(project) => self.unwatch(&project),
            Command::Items { project, run, after, reply } => self.show_items(project, run, after, reply, outcome),
            Command::IgnoreItems(project) => self.ignore_items(&project),
            Command::ExecutorEnded => self.end_steering(outcome),
            Command::Probe => self.probe(now, outcome),
            Command::Tickets(notes) => outcome.deliveries.push(Delivery::Tickets(notes)),
            Command::Barrier(reply) => self.reach(reply, outcome),
            _ => {}
        }
    }

    /// Finds where a stream begins. One that a ticket is spent for begins once that is kept.
    fn subscribe(
        &mut self,
        subscription: &Arc<Subscription>,
        (spends, reply): (Option<Spends>, ReplyTo),
        spending: &mut Vec<Spending>,
        now: Now,
        outcome: &mut Outcome,
    ) {
        match (spends, self.answer(|journal| journal.begin(subscription, now))) {
            (Some(spends), Answer::StartsAt(start)) if !start.is_over => {
                spending.push(Spending { spends, start, reply });
            }
            (_, Answer::StartsAt(mut start)) => {
                // That one may be refused still.
                if let Some(first) = Spending::first_of(spending, &start.project) {
                    start.backlog = start.backlog.or(first.start.backlog.take());
                }
                self.tell_where(start, reply, outcome);
            }
            (_, answer) => outcome.reply(&reply, answer),
        }
    }

    /// Lets go of what is beyond the bounds, where it is time.
    fn trim_in_time(&mut self, now: Now, outcome: &mut Outcome) {
        if now.mono < self.trim_at {
            return;
        }
        let before = self.work();
        self.trim(now);
        if self.work() != before {
            outcome.deliveries.push(Delivery::Worked(self.work()));
        }
    }

    /// Writes something for nobody, where the store takes anything. Where that fails it is missed where it would be seen.
    fn probe(&mut self, now: Now, outcome: &mut Outcome) {
        if self.is_down() {
            return;
        }
        match self.store.probe() {
            Ok(()) => {}
            Err(BeatError::Fenced) => self.fence(&Batch::default(), now, outcome),
            Err(BeatError::Down(error)) => log::warn!("the store cannot be written to: {error}"),
        }
    }

    /// The current gauges, without counts of work.
    pub fn work(&self) -> WorkCounts {
        let mut counts = WorkCounts::default();
        counts.set_gauges(self.gauges());
        counts
    }

    fn gauges(&self) -> Gauges {
        Gauges {
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

    fn answer(&mut self, look: impl FnOnce(&mut Self) -> Result<Answer, StoreError>) -> Answer {
        let answer = match self.is_stale {
            true => Err(StoreError("the log could not be read again after a failure".into())),
            false => look(self),
        };
        answer.unwrap_or_else(|error| unreadable(&error))
    }
}

/// Does it change nothing of the log itself?
fn is_read(command: &Command) -> bool {
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
}

/// The answer to a query if the store can't be read.
fn unreadable(error: &StoreError) -> Answer {
    log::error!("cannot read the log: {error}");
    Answer::Refused(Refusal::StoreUnavailable)
}
