//! The journal: numbers what comes, folds runs, commits each batch as one, and only then lets anything out.
//!
//! A batch is taken in two steps. First everything that changes the log, which is committed together; then everything
//! that reads it. So a reader sees all of its batch, and an answer that leaves here is true for good.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use super::frames::Frames;
use super::history::Lookup;
use super::lists::summary_json;
use super::load::ReadPlan;
use super::outage::Outage;
use super::store::{Place, Retention, RunRow, Store, StoreError, StoredMessage, Write};
use super::{
    Answer, Command, Delivery, Order, PublishedEvent, Query, Refusal, ReplyTo, RunNumber, Submission, WorkCounts,
};
use crate::auth::IdSigner;
use crate::http::sse;
use crate::model::{
    Now, Plan, ProjectId, Record, RunEvent, RunEventKind, RunId, RunState, StepId, Timestamp, write_message,
};

/// How often history is trimmed by age where nothing is written.
const TRIM_PACE: Duration = Duration::from_secs(30);

/// How soon the next slice of it is let go where there is more.
const TRIM_AGAIN: Duration = Duration::from_millis(20);

/// The journal's bounds.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How much history is kept.
    pub retention: Retention,
    /// Runs of all projects that have not ended; one more is refused.
    pub open_runs: usize,
    /// Projects that have ever been written to, or are watched; one more is refused.
    pub projects: usize,
    /// How long an idempotency key is remembered, in milliseconds.
    pub idempotency_ms: u64,
    /// How long the newest ended run is shown to whoever comes, in milliseconds.
    pub recent_ms: u64,
}

/// Numbers, keeps and folds; see the top of this file.
pub struct Journal {
    pub(super) store: Box<dyn Store>,
    pub(super) signer: IdSigner,
    pub(super) limits: Limits,
    pub(super) projects: HashMap<ProjectId, ProjectEntry>,
    pub(super) runs: HashMap<RunNumber, RunEntry>,
    /// Runs that ended a moment ago and are still held, the one that ended first at the front.
    pub(super) recent: VecDeque<(Timestamp, ProjectId, RunNumber)>,
    pub(super) next_number: NonZeroU64,
    pub(super) open_runs: usize,
    pub(super) id_text: Vec<u8>,
    pub(super) lookup: Lookup,
    /// Makes a plan again of a [`Submission`]'s document.
    pub(super) read_plan: ReadPlan,
    /// While the store takes nothing.
    pub(super) outage: Option<Outage>,
    /// When history is to be trimmed though nothing comes, on the monotonic clock.
    pub(super) trim_at: Duration,
}

/// What is held of a project.
#[derive(Default)]
pub(super) struct ProjectEntry {
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
    pub(super) state: RunState,
    /// None where it has ended.
    pub(super) plan: Option<Arc<Plan>>,
    pub(super) first_seq: Option<u64>,
    pub(super) last_seq: u64,
    /// Its newest snapshot, while nothing has changed since.
    pub(super) snapshot: Option<(u64, Arc<[u8]>)>,
}

/// What a batch has changed so far, and what it will let out.
#[derive(Default)]
pub(super) struct Batch {
    writes: Vec<Write>,
    frames: Vec<(ProjectId, Frames)>,
    frames_of: HashMap<ProjectId, usize>,
    replies: Vec<(ReplyTo, Answer)>,
    orders: Vec<Order>,
    work: WorkCounts,
    /// Where in `writes` the runs are that it has taken on, for a call that comes twice within it.
    created: HashMap<RunNumber, usize>,
    created_by_key: HashMap<(ProjectId, String), RunNumber>,
}

/// What a batch lets out.
#[derive(Debug, Default)]
pub struct Outcome {
    /// For the loop, in order.
    pub deliveries: Vec<Delivery>,
    /// For the executor, in order.
    pub orders: Vec<Order>,
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
            matches!(command, Command::Read { .. } | Command::Unwatch(_) | Command::Barrier(_) | Command::Close)
        };
        let mut writes = commands;
        let reads: Vec<_> = writes.extract_if(.., is_read).collect();
        let mut outcome = Outcome::default();
        let is_kept = self.keep(&writes, now, &mut outcome);
        // Whoever showed a ticket has to wait until it is kept that it is spent.
        let may_attach = is_kept || !writes.iter().any(|command| matches!(command, Command::Note { .. }));
        for command in reads {
            match command {
                Command::Read { query: Query::Attach { .. }, reply } if !may_attach => {
                    outcome.reply(&reply, Answer::Refused(Refusal::StoreUnavailable));
                }
                Command::Read { query, reply } => outcome.reply(&reply, self.answer(query, now)),
                Command::Unwatch(project) => self.unwatch(&project),
                Command::Barrier(reply) => self.reach(reply, &mut outcome),
                _ => {}
            }
        }
        if now.mono >= self.trim_at {
            self.trim(now);
        }
        outcome
    }

    /// When [`handle`](Self::handle) should be called though there is no command, on the monotonic clock.
    pub fn next_deadline(&self) -> Duration {
        self.outage.as_ref().map_or(self.trim_at, |outage| outage.retry_at.min(self.trim_at))
    }

    /// Makes everything that `commands` change, and commits it.
    ///
    /// # Errors
    /// Where the store fails. What is in memory is ahead of it then, and has to be read anew.
    pub(super) fn commit(&mut self, commands: &[Command], now: Now) -> Result<Batch, StoreError> {
        let mut batch = Batch::default();
        for command in commands {
            self.write(command, &mut batch, now)?;
        }
        self.flush(&mut batch, now)?;
        Ok(batch)
    }

    pub(super) fn flush(&mut self, batch: &mut Batch, now: Now) -> Result<(), StoreError> {
        if !batch.writes.is_empty() {
            self.store.commit(&batch.writes)?;
            batch.work.count_commit();
            self.trim(now);
        }
        Ok(())
    }

    /// Lets go of history that is too much. Where that fails there is only more of it than there should be.
    fn trim(&mut self, now: Now) {
        let is_more = self.store.trim(&self.limits.retention, now.wall).unwrap_or_else(|error| {
            log::debug!("history can't be trimmed: {error}");
            false
        });
        self.trim_at = now.mono + if is_more { TRIM_AGAIN } else { TRIM_PACE };
    }

    fn answer(&mut self, query: Query, now: Now) -> Answer {
        let is_stale = self.outage.as_ref().is_some_and(|outage| outage.is_stale);
        let answer = match is_stale {
            true => Err(StoreError("it could not be read again after a failure".into())),
            false => self.read(query, now),
        };
        answer.unwrap_or_else(|error| {
            log::error!("the log can't be read: {error}");
            Answer::Refused(Refusal::StoreUnavailable)
        })
    }

    fn write(&mut self, command: &Command, batch: &mut Batch, now: Now) -> Result<(), StoreError> {
        match command {
            Command::Publish { project, events, reply } => {
                let answer = self.publish(project, events, batch, now);
                batch.reply(reply, answer);
            }
            Command::Submit { submission, reply } => {
                let answer = self.submit(submission, batch, now)?;
                batch.reply(reply, answer);
            }
            Command::Cancel { project, run, reply } => {
                let answer = self.cancel(project, run, batch)?;
                batch.reply(reply, answer);
            }
            Command::Records(records) => {
                for record in records {
                    self.record(record, batch, now)?;
                }
            }
            Command::Note { note, reply } => {
                batch.writes.push(Write::Ticket(note.clone()));
                if let Some(reply) = reply {
                    batch.reply(reply, Answer::Noted);
                }
            }
            Command::Read { .. } | Command::Unwatch(_) | Command::Barrier(_) | Command::Close => {}
        }
        Ok(())
    }

    fn publish(&mut self, project: &ProjectId, events: &[PublishedEvent], batch: &mut Batch, now: Now) -> Answer {
        if !self.has_room_for(project) {
            return Answer::Refused(Refusal::TooManyProjects);
        }
        let count = events.len();
        let first_seq = self.newest(project) + 1;
        for event in events {
            self.append(project, &event.message_type, &event.payload, None, batch, now.wall);
        }
        Answer::Published { first_seq, count }
    }

    fn submit(&mut self, new: &Submission, batch: &mut Batch, now: Now) -> Result<Answer, StoreError> {
        if let Some(number) = self.same_call(new, batch, now)? {
            return self.answer_again(number, new, batch);
        }
        if self.open_runs >= self.limits.open_runs {
            return Ok(Answer::Refused(Refusal::TooManyRuns));
        }
        if !self.has_room_for(&new.project) {
            return Ok(Answer::Refused(Refusal::TooManyProjects));
        }
        let number = self.open_new(new, now.wall);
        let (project, run) = (new.project.clone(), new.run.clone());
        batch.orders.push(Order::Start { project, run, plan: new.plan.clone(), created_at: now.wall });
        let row = RunRow {
            run: new.run.clone(),
            created_at: now.wall,
            document: new.document.clone(),
            answer: new.answer.clone(),
            idempotency_key: new.idempotency_key.clone(),
            fingerprint: new.fingerprint,
        };
        batch.create(number, new.project.clone(), row);
        Ok(Answer::Accepted { body: new.answer.clone(), replayed: false })
    }

    /// A run begins to be folded; its number.
    fn open_new(&mut self, new: &Submission, now: Timestamp) -> RunNumber {
        let number = RunNumber(self.next_number);
        self.next_number = self.next_number.saturating_add(1);
        self.entry(&new.project).last_activity = now;
        let state = RunState::new(new.run.clone(), &new.plan, now);
        self.hold(number, &new.project, new.plan.clone(), state);
        number
    }

    /// A run that has not ended is held.
    pub(super) fn hold(
        &mut self,
        number: RunNumber,
        project: &ProjectId,
        plan: Arc<Plan>,
        state: RunState,
    ) -> &mut RunEntry {
        self.open_runs += 1;
        let entry = self.entry(project);
        entry.open_runs.insert(number);
        entry.open_by_id.insert(state.run_id.clone(), number);
        let last_seq = entry.newest;
        let run = RunEntry { state, plan: Some(plan), first_seq: None, last_seq, snapshot: None };
        self.runs.entry(number).insert_entry(run).into_mut()
    }

    /// The run that this call, or one with the same key or run id, has made before.
    fn same_call(&self, new: &Submission, batch: &Batch, now: Now) -> Result<Option<RunNumber>, StoreError> {
        if let Some(key) = &new.idempotency_key {
            if let Some(&number) = batch.created_by_key.get(&(new.project.clone(), key.clone())) {
                return Ok(Some(number));
            }
            let since = now.wall.as_millis().saturating_sub(self.limits.idempotency_ms);
            let known = self.store.run_by_key(&new.project, key, Timestamp::from_millis(since))?;
            if known.is_some() {
                return Ok(known);
            }
        }
        match self.open_run(&new.project, &new.run) {
            Some(number) => Ok(Some(number)),
            None => self.store.run_number(&new.project, &new.run),
        }
    }

    fn answer_again(&self, number: RunNumber, new: &Submission, batch: &Batch) -> Result<Answer, StoreError> {
        let row = match batch.created(number) {
            Some(row) => Some(row.clone()),
            None => self.store.run(number)?,
        };
        Ok(match row {
            Some(row) if row.fingerprint == new.fingerprint => Answer::Accepted { body: row.answer, replayed: true },
            _ => Answer::Refused(Refusal::KeyReused),
        })
    }

    fn cancel(&mut self, project: &ProjectId, run: &RunId, batch: &mut Batch) -> Result<Answer, StoreError> {
        if let Some(number) = self.open_run(project, run) {
            batch.writes.push(Write::CancelRequested(number));
            batch.orders.push(Order::Cancel { project: project.clone(), run: run.clone() });
            return Ok(Answer::CancelAccepted);
        }
        let is_known = self.store.run_number(project, run)?.is_some();
        Ok(Answer::Refused(if is_known { Refusal::RunEnded } else { Refusal::UnknownRun }))
    }

    fn record(&mut self, record: &Record, batch: &mut Batch, now: Now) -> Result<(), StoreError> {
        match record {
            Record::Event { project, event } => self.say(project, event, batch, now),
            Record::Output { project, run, step, attempt, stream, bytes } => {
                if let Some(number) = self.open_run(project, run) {
                    let (step, attempt, stream, bytes) = (step.clone(), *attempt, *stream, bytes.clone());
                    batch.writes.push(Write::Output { number, step, attempt, stream, bytes });
                }
                Ok(())
            }
            Record::Whole { project, run, step, output } => self.keep_whole(project, run, step, output, batch),
        }
    }

    fn keep_whole(
        &self,
        project: &ProjectId,
        run: &RunId,
        step: &StepId,
        output: &serde_json::Value,
        batch: &mut Batch,
    ) -> Result<(), StoreError> {
        if let Some(number) = self.open_run(project, run) {
            let json = serde_json::to_vec(output).map_err(|error| StoreError(error.to_string()))?;
            batch.writes.push(Write::Whole { number, step: step.clone(), json: json.into() });
        }
        Ok(())
    }

    /// A run speaks.
    pub(super) fn say(
        &mut self,
        project: &ProjectId,
        event: &RunEvent,
        batch: &mut Batch,
        now: Now,
    ) -> Result<(), StoreError> {
        let Some(number) = self.open_run(project, &event.run_id) else {
            log::error!("a message of run {} came after its last", event.run_id);
            return Ok(());
        };
        let payload = serde_json::to_vec(event).map_err(|error| StoreError(error.to_string()))?;
        let place = match event {
            _ if event.is_first() => Place::First,
            _ if event.is_last() => Place::Last,
            _ if matches!(event.kind, RunEventKind::StepOutput(_)) => Place::Middle,
            _ => Place::Turn,
        };
        let seq = self.append(project, event.message_type(), &payload, Some((number, place)), batch, now.wall);
        batch.work.count(event);
        if let Some(run) = self.runs.get_mut(&number) {
            run.state.apply(event);
            run.first_seq.get_or_insert(seq);
            run.last_seq = seq;
            run.snapshot = None;
        }
        if event.is_last() {
            self.end_run(project, event, number, seq, batch)?;
        }
        Ok(())
    }

    /// A run has had its last message: its state is kept, and it is shown as the newest that ended.
    fn end_run(
        &mut self,
        project: &ProjectId,
        event: &RunEvent,
        number: RunNumber,
        seq: u64,
        batch: &mut Batch,
    ) -> Result<(), StoreError> {
        self.open_runs -= 1;
        if let Some(run) = self.runs.get_mut(&number) {
            run.plan = None;
            let state = serde_json::to_vec(&run.state).map_err(|error| StoreError(error.to_string()))?;
            let (status, summary) = (run.state.status, summary_json(&run.state)?);
            batch.writes.push(Write::RunEnded { number, status, summary, state: state.into(), last_seq: seq });
        }
        let entry = self.entry(project);
        entry.open_runs.remove(&number);
        entry.open_by_id.remove(&event.run_id);
        self.show_ended(number, project, event.timestamp);
        Ok(())
    }

    /// A run is its project's newest ended one.
    pub(super) fn show_ended(&mut self, number: RunNumber, project: &ProjectId, ended_at: Timestamp) {
        if let Some(older) = self.entry(project).newest_ended.replace(number) {
            self.runs.remove(&older);
        }
        self.recent.push_back((ended_at, project.clone(), number));
    }

    /// Runs that are no longer shown to whoever comes are not held any more: the store has their state.
    fn forget_ended(&mut self, now: Timestamp) {
        while let Some((ended_at, _, _)) = self.recent.front()
            && now.millis_since(*ended_at) > self.limits.recent_ms
            && let Some((_, project, number)) = self.recent.pop_front()
        {
            self.runs.remove(&number);
            if let Some(entry) = self.projects.get_mut(&project) {
                entry.newest_ended = entry.newest_ended.filter(|&newest| newest != number);
            }
        }
    }

    /// Numbers a message, keeps it, and encodes it for those who watch.
    fn append(
        &mut self,
        project: &ProjectId,
        message_type: &str,
        payload: &[u8],
        run: Option<(RunNumber, Place)>,
        batch: &mut Batch,
        at: Timestamp,
    ) -> u64 {
        let entry = self.entry(project);
        entry.newest += 1;
        entry.last_activity = at;
        let (seq, is_watched) = (entry.newest, entry.is_watched);
        let mut json = Vec::with_capacity(payload.len() + message_type.len() + project.as_str().len() + 64);
        write_message(&mut json, message_type, project, seq, payload);
        let (number, place) = run.map_or((None, Place::Middle), |(number, place)| (Some(number), place));
        if is_watched {
            let frames = batch.frames_of(project, seq);
            write_frame(&mut frames.bytes, &self.signer, &mut self.id_text, project, seq, &json);
            frames.mark(number, place == Place::Last);
        }
        batch.work.count_message();
        let message = StoredMessage { seq, at, run: number, place, json: json.into() };
        batch.writes.push(Write::Message(message, project.clone()));
        seq
    }

    pub(super) fn entry(&mut self, project: &ProjectId) -> &mut ProjectEntry {
        if !self.projects.contains_key(project) {
            self.projects.insert(project.clone(), ProjectEntry::default());
        }
        self.projects.get_mut(project).expect("inserted just above")
    }

    /// Nothing of the project is delivered any more. One that was only ever watched is forgotten.
    fn unwatch(&mut self, project: &ProjectId) {
        let Some(entry) = self.projects.get_mut(project) else { return };
        entry.is_watched = false;
        if entry.newest == 0 && entry.open_runs.is_empty() {
            self.projects.remove(project);
        }
    }

    pub(super) fn has_room_for(&self, project: &ProjectId) -> bool {
        self.projects.len() < self.limits.projects || self.projects.contains_key(project)
    }

    /// The number of a run that has not ended.
    pub(super) fn open_run(&self, project: &ProjectId, run: &RunId) -> Option<RunNumber> {
        self.projects.get(project)?.open_by_id.get(run).copied()
    }
}

impl Batch {
    fn reply(&mut self, to: &ReplyTo, answer: Answer) {
        self.replies.push((to.clone(), answer));
    }

    /// It is kept: everything may be told.
    pub(super) fn release(self, to: &mut Outcome) {
        to.orders.extend(self.orders);
        to.deliveries.extend(self.frames.into_iter().map(|(project, frames)| Delivery::Frames { project, frames }));
        to.deliveries.extend(self.replies.into_iter().map(|(to, answer)| Delivery::Reply { to, answer }));
        if !self.work.is_empty() {
            to.deliveries.push(Delivery::Worked(self.work));
        }
    }

    fn create(&mut self, number: RunNumber, project: ProjectId, row: RunRow) {
        self.created.insert(number, self.writes.len());
        if let Some(key) = &row.idempotency_key {
            self.created_by_key.insert((project.clone(), key.clone()), number);
        }
        self.writes.push(Write::RunCreated { number, project, row });
    }

    /// What will be kept of a run that this batch has taken on.
    fn created(&self, number: RunNumber) -> Option<&RunRow> {
        match self.writes.get(*self.created.get(&number)?)? {
            Write::RunCreated { row, .. } => Some(row),
            _ => None,
        }
    }

    fn frames_of(&mut self, project: &ProjectId, seq: u64) -> &mut Frames {
        let index = match self.frames_of.get(project) {
            Some(&index) => index,
            None => {
                self.frames_of.insert(project.clone(), self.frames.len());
                self.frames.push((project.clone(), Frames::starting_at(seq)));
                self.frames.len() - 1
            }
        };
        &mut self.frames[index].1
    }
}

/// Encodes a message as the event that subscribers get.
pub(super) fn write_frame(
    to: &mut Vec<u8>,
    signer: &IdSigner,
    id_text: &mut Vec<u8>,
    project: &ProjectId,
    seq: u64,
    json: &[u8],
) {
    id_text.clear();
    signer.write(id_text, project, seq);
    sse::write_event(to, std::str::from_utf8(id_text).ok(), None, json);
}
