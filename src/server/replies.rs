//! Questions to other threads that are not answered yet, and answers that are given a little later.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::admission::{Count, Permit};
use super::allowance::Allowance;
use crate::api::{Ask, OUTPUT_PIECE_BYTES, PlanRequest};
use crate::auth::TicketNote;
use crate::log::{Answer, Command, Query, ReplyTo, Rest, RunNumber, Spends, Subscription};
use crate::model::{Now, ProjectId, SlabKey};
use crate::stream::PAGES_IN_FLIGHT_MAX;

/// How long to delay the answer to a publish if more than half of the project's streams are behind. Publishers that
/// wait for answers then slow down to the pace of readers, instead of driving all of them out of the backlog and
/// finally out of history.
pub(super) const CONGESTION_HOLD: Duration = Duration::from_millis(10);

/// The most pages in flight while others publish: a requested page can't be held back any more.
const PAGES_IN_FLIGHT_BOUNDED: usize = 4;

/// The most streams of several projects whose starts are asked for at a time: 8 x 32 questions and answers. Once the
/// first ones have opened their projects, most others need to ask nothing.
const BUNDLES_ASKED_MAX: usize = 8;

/// Commands for other threads.
#[derive(Debug, Default)]
pub struct Outbox {
    /// For the log, as one batch.
    pub log: Vec<Command>,
    /// For the intake.
    pub intake: Vec<(SlabKey, PlanRequest)>,
    /// A request to fetch keys.
    pub keys: Option<u64>,
}

/// The questions to other threads, and answers that are held back.
#[derive(Default)]
pub(super) struct Replies {
    outbox: Outbox,
    /// Answers to publishers that are too fast, each with the time at which it is due.
    held: VecDeque<(Duration, SlabKey, Answer)>,
    /// Streams whose start has yet to be asked for.
    postponed: VecDeque<SlabKey>,
    /// The same for streams of several projects, and the number of such questions in flight.
    bundles: VecDeque<SlabKey>,
    asking: Count,
    /// The bytes of snapshots and history that may be sent now.
    beginnings: Allowance,
    histories: Allowance,
}

impl Replies {
    /// Sends the question of a request, whose answer goes to its connection.
    pub(super) fn ask(&mut self, to: SlabKey, ask: Ask) {
        let reply = ReplyTo::Connection(to);
        self.outbox.log.push(match ask {
            Ask::Publish(project, events) => Command::Publish { project, events, reply },
            Ask::Cancel(project, run) => Command::Cancel { project, run, reply: Some(reply) },
            Ask::Steer(request) => Command::Steer { request, reply },
            Ask::Read(query) => Command::Read { query, reply },
            Ask::Rerun(rerun) if rerun.changes.is_some() => {
                Command::Read { query: Query::Ended { project: rerun.project, run: rerun.run }, reply }
            }
            Ask::Rerun(rerun) => {
                Command::Read { query: Query::Document { project: rerun.project, run: rerun.run }, reply }
            }
            Ask::Change(change) => {
                Command::Read { query: Query::Document { project: change.project, run: change.run }, reply }
            }
            Ask::Stored(stored) => {
                let query = Query::StoredDocument { project: stored.project, name: stored.name };
                Command::Read { query, reply }
            }
            Ask::ChangePlan(command) => Command::Plan { command, reply },
            Ask::Plan(request) => return self.outbox.intake.push((to, request)),
        });
    }

    /// Asks the log for the start of a stream.
    pub(super) fn subscribe(&mut self, to: SlabKey, subscription: Arc<Subscription>, spends: Option<Spends>) {
        self.outbox.log.push(Command::Subscribe { subscription, spends, reply: ReplyTo::Connection(to) });
    }

    /// Sends a command to the log.
    pub(super) fn read(&mut self, query: Query, reply: ReplyTo) {
        self.outbox.log.push(Command::Read { query, reply });
    }

    /// Asks for the next piece of a body that the log holds.
    pub(super) fn read_on(&mut self, to: SlabKey, rest: Box<Rest>) {
        self.read(Query::OutputRest { rest, bytes_max: OUTPUT_PIECE_BYTES }, ReplyTo::Connection(to));
    }

    /// Makes the log store the state of a ticket, without an answer.
    pub(super) fn note(&mut self, note: TicketNote) {
        self.outbox.log.push(Command::Note { note, reply: None });
    }

    /// Tells the log that messages of a project are no longer needed.
    pub(super) fn unwatch(&mut self, project: ProjectId) {
        self.outbox.log.push(Command::Unwatch(project));
    }

    /// Asks for the items of steps in progress.
    pub(super) fn read_items(&mut self, project: ProjectId, run: Option<RunNumber>, after: u64, reply: ReplyTo) {
        self.outbox.log.push(Command::Items { project, run, after, reply });
    }

    /// Tells the log that updates about a project's items are no longer needed.
    pub(super) fn ignore_items(&mut self, project: ProjectId) {
        self.outbox.log.push(Command::IgnoreItems(project));
    }

    /// Holds an answer back for a moment.
    pub(super) fn hold(&mut self, to: SlabKey, answer: Answer, now: Now) {
        self.held.push_back((now.mono + CONGESTION_HOLD, to, answer));
    }

    /// The next held answer that is due.
    pub(super) fn next_due(&mut self, now: Now) -> Option<(SlabKey, Answer)> {
        let (_, to, answer) = self.held.pop_front_if(|(until, ..)| now.mono >= *until)?;
        Some((to, answer))
    }

    /// Queues a stream whose start is asked for once that is allowed.
    pub(super) fn postpone(&mut self, to: SlabKey) {
        self.postponed.push_back(to);
    }

    /// The next stream whose start may be asked for now.
    pub(super) fn next_postponed(&mut self, now: Now) -> Option<SlabKey> {
        let may_begin = !self.postponed.is_empty() && self.beginnings.has_any(now.mono);
        may_begin.then(|| self.postponed.pop_front()).flatten()
    }

    /// Queues a stream of several projects, whose start is asked for once fewer others are being asked for.
    pub(super) fn postpone_bundle(&mut self, to: SlabKey) {
        self.bundles.push_back(to);
    }

    /// The next stream of several projects whose start may be asked for now, with a permit for the question.
    pub(super) fn next_bundle(&mut self, now: Now) -> Option<(SlabKey, Permit)> {
        let to = if self.has_next_bundle(now) { self.bundles.pop_front()? } else { return None };
        if self.bundles.is_empty() {
            self.bundles.shrink_to_fit();
        }
        Some((to, self.asking.take()))
    }

    /// Whether there is such a stream.
    pub(super) fn has_next_bundle(&mut self, now: Now) -> bool {
        let may_ask = !self.bundles.is_empty() && self.asking.get() < BUNDLES_ASKED_MAX;
        may_ask && self.beginnings.has_any(now.mono)
    }

    /// Notes a publish to a project whose streams keep up.
    pub(super) fn note_publish(&mut self, now: Now) {
        self.beginnings.note_publish(now.mono);
        self.histories.note_publish(now.mono);
    }

    /// Counts a stream that begins with `bytes` bytes of snapshots.
    pub(super) fn spend_on_beginning(&mut self, bytes: usize, now: Now) {
        self.beginnings.spend(bytes, now.mono);
    }

    /// Counts `bytes` bytes of history for a stream.
    pub(super) fn spend_on_page(&mut self, bytes: usize, now: Now) {
        self.histories.spend(bytes, now.mono);
    }

    /// The number of pages of history that may be in flight now.
    pub(super) fn pages_in_flight_max(&mut self, now: Now) -> usize {
        match (self.histories.has_any(now.mono), self.histories.is_bounded(now.mono)) {
            (true, false) => PAGES_IN_FLIGHT_MAX,
            (true, true) => PAGES_IN_FLIGHT_BOUNDED,
            (false, _) => 0,
        }
    }

    /// When the next thing that is held back is due. `waits_for_pages`: streams wait for history.
    pub(super) fn next_deadline(&self, waits_for_pages: bool) -> Option<Duration> {
        let answer = self.held.front().map(|(until, ..)| *until);
        let is_none_postponed = self.postponed.is_empty() && self.bundles.is_empty();
        let beginning = if is_none_postponed { None } else { self.beginnings.next_at() };
        let page = if waits_for_pages { self.histories.next_at() } else { None };
        [answer, beginning, page].into_iter().flatten().min()
    }

    /// Takes the commands for other threads.
    pub(super) fn take_outbox(&mut self) -> Outbox {
        // The next turn will need about as much room as this one, and growing step by step moves each command several
        // times.
        let next = Outbox { log: Vec::with_capacity(self.outbox.log.len()), ..Outbox::default() };
        std::mem::replace(&mut self.outbox, next)
    }
}
