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

/// How long the answer to a publish waits while more than half of the project's watchers are behind. Publishers that
/// wait for their answers then take the pace of those who read, instead of driving all of them out of the backlog, and
/// at last out of history.
pub(super) const CONGESTION_HOLD: Duration = Duration::from_millis(10);

/// Pages asked for and not yet come while others publish: what is on its way can't be held back any more.
const PAGES_IN_FLIGHT_BOUNDED: usize = 4;

/// Streams of several projects for which the log is asked at a time where they begin: 8 x 32 questions and answers. Once the
/// projects of the first are open, the others mostly need ask nothing.
const BUNDLES_ASKED_MAX: usize = 8;

/// What the loop has to do.
#[derive(Debug, Default)]
pub struct Outbox {
    /// By the log, as one batch.
    pub log: Vec<Command>,
    /// By the intake.
    pub intake: Vec<(SlabKey, PlanRequest)>,
    /// A wish for new keys.
    pub keys: Option<u64>,
}

/// See the top of this file.
#[derive(Default)]
pub(super) struct Replies {
    outbox: Outbox,
    /// Answers to publishers that are too fast, each with the time at which it is given.
    held: VecDeque<(Duration, SlabKey, Answer)>,
    /// Streams for which the log is still to be asked where they begin.
    postponed: VecDeque<SlabKey>,
    /// The same for streams of several projects, and how many such questions are under way.
    bundles: VecDeque<SlabKey>,
    asking: Count,
    /// The bytes of beginnings of streams and of history that may be sent now.
    beginnings: Allowance,
    histories: Allowance,
}

impl Replies {
    /// Asks for what a request wants, to be answered to its connection.
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

    /// Asks the log where a stream begins.
    pub(super) fn subscribe(&mut self, to: SlabKey, subscription: Arc<Subscription>, spends: Option<Spends>) {
        self.outbox.log.push(Command::Subscribe { subscription, spends, reply: ReplyTo::Connection(to) });
    }

    /// Asks the log.
    pub(super) fn read(&mut self, query: Query, reply: ReplyTo) {
        self.outbox.log.push(Command::Read { query, reply });
    }

    /// Asks for what comes next of content that the log holds.
    pub(super) fn read_on(&mut self, to: SlabKey, rest: Box<Rest>) {
        self.read(Query::OutputRest { rest, bytes_max: OUTPUT_PIECE_BYTES }, ReplyTo::Connection(to));
    }

    /// Has the log remember what became of a ticket, and waits for nothing.
    pub(super) fn note(&mut self, note: TicketNote) {
        self.outbox.log.push(Command::Note { note, reply: None });
    }

    /// The messages of a project need not come any more.
    pub(super) fn unwatch(&mut self, project: ProjectId) {
        self.outbox.log.push(Command::Unwatch(project));
    }

    /// Asks how the items of steps in progress are.
    pub(super) fn read_items(&mut self, project: ProjectId, run: Option<RunNumber>, after: u64, reply: ReplyTo) {
        self.outbox.log.push(Command::Items { project, run, after, reply });
    }

    /// Updates about a project's items are no longer needed.
    pub(super) fn ignore_items(&mut self, project: ProjectId) {
        self.outbox.log.push(Command::IgnoreItems(project));
    }

    /// Holds an answer back for a moment.
    pub(super) fn hold(&mut self, to: SlabKey, answer: Answer, now: Now) {
        self.held.push_back((now.mono + CONGESTION_HOLD, to, answer));
    }

    /// The next of the answers that were held back for long enough.
    pub(super) fn next_due(&mut self, now: Now) -> Option<(SlabKey, Answer)> {
        let (_, to, answer) = self.held.pop_front_if(|(until, ..)| now.mono >= *until)?;
        Some((to, answer))
    }

    /// Has the log asked where a stream begins as soon as that may be.
    pub(super) fn postpone(&mut self, to: SlabKey) {
        self.postponed.push_back(to);
    }

    /// The next stream for which the log may be asked now.
    pub(super) fn next_postponed(&mut self, now: Now) -> Option<SlabKey> {
        let may_begin = !self.postponed.is_empty() && self.beginnings.has_any(now.mono);
        may_begin.then(|| self.postponed.pop_front()).flatten()
    }

    /// Has the log asked where a stream of several projects begins when that is known of fewer others.
    pub(super) fn postpone_bundle(&mut self, to: SlabKey) {
        self.bundles.push_back(to);
    }

    /// The next stream of several projects for which the log may be asked now, and a permit for the question.
    pub(super) fn next_bundle(&mut self, now: Now) -> Option<(SlabKey, Permit)> {
        let to = if self.has_next_bundle(now) { self.bundles.pop_front()? } else { return None };
        if self.bundles.is_empty() {
            self.bundles.shrink_to_fit();
        }
        Some((to, self.asking.take()))
    }

    /// Is there such a stream for which the log may be asked now?
    pub(super) fn has_next_bundle(&mut self, now: Now) -> bool {
        let may_ask = !self.bundles.is_empty() && self.asking.get() < BUNDLES_ASKED_MAX;
        may_ask && self.beginnings.has_any(now.mono)
    }

    /// Someone published whose watchers keep up.
    pub(super) fn note_publish(&mut self, now: Now) {
        self.beginnings.note_publish(now.mono);
        self.histories.note_publish(now.mono);
    }

    /// A stream begins with `bytes` bytes of snapshots.
    pub(super) fn spend_on_beginning(&mut self, bytes: usize, now: Now) {
        self.beginnings.spend(bytes, now.mono);
    }

    /// `bytes` bytes of history have come for a stream.
    pub(super) fn spend_on_page(&mut self, bytes: usize, now: Now) {
        self.histories.spend(bytes, now.mono);
    }

    /// How many pages of history may be under way now.
    pub(super) fn pages_in_flight_max(&mut self, now: Now) -> usize {
        match (self.histories.has_any(now.mono), self.histories.is_bounded(now.mono)) {
            (true, false) => PAGES_IN_FLIGHT_MAX,
            (true, true) => PAGES_IN_FLIGHT_BOUNDED,
            (false, _) => 0,
        }
    }

    /// When the next of what is held back is due; `waits_for_pages`: streams wait for history.
    pub(super) fn next_deadline(&self, waits_for_pages: bool) -> Option<Duration> {
        let answer = self.held.front().map(|(until, ..)| *until);
        let is_none_postponed = self.postponed.is_empty() && self.bundles.is_empty();
        let beginning = if is_none_postponed { None } else { self.beginnings.next_at() };
        let page = if waits_for_pages { self.histories.next_at() } else { None };
        [answer, beginning, page].into_iter().flatten().min()
    }

    /// Takes what is to be carried out.
    pub(super) fn take_outbox(&mut self) -> Outbox {
        // The next turn will want about as much room as this one: growing to it moves every command several times.
        let next = Outbox { log: Vec::with_capacity(self.outbox.log.len()), ..Outbox::default() };
        std::mem::replace(&mut self.outbox, next)
    }
}
