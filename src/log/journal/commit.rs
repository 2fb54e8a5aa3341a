//! The way of a batch: all changes of its commands are numbered and written down, committed as a whole, and only then
//! released.

use std::time::Duration;

use super::batch::{self, Batch};
use super::growth::Growth;
use super::{Journal, Outcome};
use crate::log::frames::{View, write_frame};
use crate::log::protocol::{Answer, Command, PublishedEvent, Refusal};
use crate::log::store::{
    AppendError, Objection, PlaceInRun, RunNumber, StoreError, StoredMessage, Times, Trimmed, Write,
};
use crate::model::{Now, ProjectId, RunEvent, RunEventKind, write_message, write_message_of};

/// How often history is trimmed by age where nothing is written.
const TRIM_PACE: Duration = Duration::from_secs(30);

/// How long what is too much may stay where little more comes.
const TRIM_SOON: Duration = Duration::from_millis(100);

/// The pause before the next slice of a trim.
const TRIM_AGAIN: Duration = Duration::from_millis(20);

/// Room that is kept for the next message once one is written; what a larger one took is given back.
pub(super) const JSON_BYTES_KEPT: usize = 64 * 1024;

/// Why a batch is not committed.
#[derive(Debug)]
pub(super) enum CommitError {
    /// The store can't now.
    Down(StoreError),
    /// It never will: see [`AppendError::Refused`].
    Refused(Objection),
    /// It takes nothing of this node: see [`AppendError::Fenced`].
    Fenced,
}

impl From<StoreError> for CommitError {
    fn from(error: StoreError) -> Self {
        Self::Down(error)
    }
}

/// The content of a message.
#[derive(Clone, Copy)]
pub(super) enum Said<'a> {
    /// Someone published it.
    Published(&'a PublishedEvent),
    /// A run did.
    Run(RunNumber, &'a RunEvent),
}

impl Journal {
    /// Keeps what `commands` change and tells everyone, or refuses it. Was it kept?
    pub(super) fn keep(&mut self, commands: &[Command], now: Now, outcome: &mut Outcome) -> bool {
        if self.outage.is_some() && !self.has_come_back(now, outcome) {
            return self.put_off(commands, outcome);
        }
        let mut batch = Batch::with_room_for(commands);
        match self.commit(commands, &mut batch, now, outcome) {
            Ok(()) => {
                batch.release(outcome);
                true
            }
            Err(CommitError::Refused(error)) if self.is_as_before(error.why(), &batch, now, outcome) => {
                self.keep_apart(commands, now, outcome)
            }
            Err(CommitError::Refused(_)) => self.put_off(commands, outcome),
            Err(CommitError::Down(error)) => {
                self.begin_outage(&error, &batch, now, outcome);
                self.put_off(commands, outcome)
            }
            Err(CommitError::Fenced) => {
                self.fence(&batch, now, outcome);
                self.put_off(commands, outcome)
            }
        }
    }

    /// Makes everything that `commands` change into `batch`, and commits it. What others wrote meanwhile is let out.
    ///
    /// # Errors
    /// If the store fails or refuses it. What is in memory is ahead of it then, and has to be read again.
    pub(super) fn commit(
        &mut self,
        commands: &[Command],
        batch: &mut Batch,
        now: Now,
        outcome: &mut Outcome,
    ) -> Result<(), CommitError> {
        for (place, command) in commands.iter().enumerate() {
            self.write(place, command, batch, now)?;
        }
        while !batch.writes().is_empty() {
            match self.append_batch(batch, now) {
                Ok(trimmed) => {
                    self.has_kept(batch, trimmed, now);
                    self.has_moved(batch, outcome);
                    break;
                }
                Err(AppendError::Down(error)) => return Err(CommitError::Down(error)),
                Err(AppendError::Fenced) => return Err(CommitError::Fenced),
                Err(AppendError::Spent(places)) => self.leave_spent_out(&places, batch)?,
                Err(AppendError::Refused(error)) => return Err(CommitError::Refused(error)),
                Err(AppendError::Conflict(heads)) => self.give_way(heads, commands, batch, now, outcome)?,
            }
        }
        self.apply_steerings(batch);
        Ok(())
    }

    /// Keeps what a batch writes and, where that is due, lets go of what is too much then: what came of that.
    fn append_batch(&mut self, batch: &Batch, now: Now) -> Result<Option<Option<Trimmed>>, AppendError> {
        let (heads, writes, times) = (batch.heads(), batch.writes(), self.times(now));
        self.growth.add(writes);
        match self.growth.is_enough(&self.limits.retention, times.age) {
            true => self.store.append_and_trim(heads, writes, &self.limits.retention, times).map(Some),
            false => self.store.append(heads, writes, now.wall).map(|()| None),
        }
    }

    fn has_kept(&mut self, batch: &mut Batch, trimmed: Option<Option<Trimmed>>, now: Now) {
        batch.work.count_commit();
        self.key_bytes += batch.key_bytes;
        for write in batch.writes() {
            match write {
                Write::RunCreated { number, .. } => drop(self.ours.insert(*number)),
                Write::RunEnded { number, .. } => {
                    self.ours.remove(number);
                    self.held.remove(number);
                }
                _ => {}
            }
        }
        for (number, is_held) in batch.holds() {
            match is_held {
                true => drop(self.held.insert(number)),
                false => drop(self.held.remove(&number)),
            }
        }
        match trimmed {
            Some(trimmed) => self.note_trimmed(trimmed, now),
            None => self.trim_at = self.trim_at.min(now.mono + TRIM_SOON),
        }
        if batch.has_due {
            self.trim_outbox();
        }
        batch.work.set_gauges(self.gauges());
    }

    /// Tickets that were spent on other nodes are not spent here once more.
    fn leave_spent_out(&mut self, places: &[usize], batch: &mut Batch) -> Result<(), StoreError> {
        let tickets = batch.leave_out(places).into_iter().filter_map(|write| match write {
            Write::Ticket(note) => Some(note),
            _ => None,
        });
        let before = self.spent.len();
        self.spent.extend(tickets);
        match self.spent.len() > before {
            true => Ok(()),
            false => Err(StoreError("the store reported used tickets that are not part of the batch".to_owned())),
        }
    }

    /// Other nodes are to know what was kept.
    fn has_moved(&mut self, batch: &Batch, outcome: &mut Outcome) {
        if !self.is_shared {
            return;
        }
        for project in batch.raised() {
            let held = self.projects.get_mut(project).map(|entry| &mut entry.revision);
            if let Some(revision) = held.or(self.fresh.get_mut(project).map(|(_, revision)| revision)) {
                *revision += 1;
            }
            self.touched.project(project);
        }
        outcome.moved.extend(batch.heads().iter().map(|head| head.project.clone()));
        outcome.has_wishes |= batch.writes().iter().any(|it| matches!(it, Write::Wish(_) | Write::WishAnswered { .. }));
    }

    /// Makes what a command changes, which has this place in its batch.
    pub(super) fn write(
        &mut self,
        place: usize,
        command: &Command,
        batch: &mut Batch,
        now: Now,
    ) -> Result<(), StoreError> {
        match command {
            Command::Publish { project, events, reply } => {
                let answer = self.publish(project, events, batch, now)?;
                batch.reply(place, reply, answer);
            }
            Command::Submit { submission, reply } => {
                let answer = self.submit(submission, batch, now)?;
                batch.reply(place, reply, answer);
            }
            Command::Cancel { project, run, reply } => {
                let answer = self.cancel(project, run, batch)?;
                if let Some(reply) = reply {
                    batch.reply(place, reply, answer);
                }
            }
            Command::Steer { request, reply } => {
                if let Some(answer) = self.steer(request, reply, batch, now)? {
                    batch.reply(place, reply, answer);
                }
            }
            Command::Records(records) => {
                batch.kept += 1;
                for record in records {
                    self.record(record, batch, now)?;
                }
            }
            Command::Note { note, reply } => {
                batch.write_beside(Write::Ticket(note.clone()));
                if let Some(reply) = reply {
                    batch.reply(place, reply, Answer::Noted);
                }
            }
            Command::Outbox { changes, reply } => {
                changes.iter().for_each(|change| batch.write_beside(Write::Outbox(change.clone())));
                batch.reply(place, reply, Answer::Noted);
            }
            Command::Plan { command, reply } => {
                let answer = self.change_plan(command, batch, now)?;
                batch.reply(place, reply, answer);
            }
            Command::Drain(outgoing) => self.drain(outgoing.iter(), batch, now)?,
            Command::Grant(wish) => self.grant(wish, batch, now)?,
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
            | Command::Close => {}
        }
        Ok(())
    }

    fn publish(
        &mut self,
        project: &ProjectId,
        events: &[PublishedEvent],
        batch: &mut Batch,
        now: Now,
    ) -> Result<Answer, StoreError> {
        if !self.has_room_for(project) {
            return Ok(Answer::Refused(Refusal::TooManyProjects(self.limits.projects)));
        }
        let count = events.len();
        let first_seq = self.newest(project)? + 1;
        for event in events {
            self.number(project, Said::Published(event), batch, now)?;
        }
        Ok(Answer::Published { first_seq, count })
    }

    /// Numbers a message, stores it, and encodes it for streams. Returns its `seq` and its part of the batch.
    pub(super) fn number(
        &mut self,
        project: &ProjectId,
        said: Said<'_>,
        batch: &mut Batch,
        now: Now,
    ) -> Result<(u64, batch::PartIndex), StoreError> {
        let at = self.clock.at(now);
        let mut json = std::mem::take(&mut self.json_text);
        let entry = self.entry(project)?;
        let (part, seq) = (batch.part(project, (entry.newest, entry.revision)), entry.newest + 1);
        said.write(&mut json, project, seq)?;
        (entry.newest, entry.last_activity, entry.is_kept) = (seq, now.wall, true);
        let (number, place) = said.place();
        if entry.is_watched {
            let frames = batch.frames(part, seq);
            write_frame(&mut frames.bytes, View::Events, &self.signer, &mut self.id_text, project, seq, &json);
            frames.mark(number, place == PlaceInRun::Last);
        }
        batch.work_of(part).count_message();
        let message = StoredMessage { seq, at, run: number, place, json: json.as_slice().into() };
        batch.write(part, Write::Message(message, project.clone()));
        self.json_text = json;
        Ok((seq, part))
    }

    /// A project's part of the batch.
    pub(super) fn part(&self, project: &ProjectId, batch: &mut Batch) -> Result<batch::PartIndex, StoreError> {
        Ok(batch.part(project, self.standing(project)?))
    }

    fn times(&self, now: Now) -> Times {
        Times { age: self.clock.at(now), wall: now.wall }
    }

    /// Lets go of history that is too much. Where that fails there is only more of it than there should be.
    pub(super) fn trim(&mut self, now: Now) {
        let trimmed = self.store.trim(&self.limits.retention, self.times(now));
        let trimmed = trimmed.inspect_err(|error| log::debug!("cannot trim history: {error}"));
        self.note_trimmed(trimmed.ok(), now);
    }

    fn note_trimmed(&mut self, trimmed: Option<Trimmed>, now: Now) {
        let is_more = trimmed.is_some_and(|trimmed| {
            trimmed.emptied.iter().for_each(|project| self.has_emptied(project));
            if trimmed.has_forgotten {
                self.lookup.forget_pages();
            }
            self.key_bytes = trimmed.key_bytes;
            trimmed.is_more
        });
        self.growth = Growth::none(self.clock.at(now));
        self.trim_at = now.mono + if is_more { TRIM_AGAIN } else { TRIM_PACE };
    }

    fn has_emptied(&mut self, project: &ProjectId) {
        if let Some(entry) = self.projects.get_mut(project) {
            entry.is_kept = false;
            self.forget_if_empty(project);
        }
    }
}

impl Said<'_> {
    /// Writes the message to `to`, which is cleared first.
    fn write(self, to: &mut Vec<u8>, project: &ProjectId, seq: u64) -> Result<(), StoreError> {
        to.clear();
        to.shrink_to(JSON_BYTES_KEPT);
        match self {
            Self::Published(event) => write_message(to, &event.message_type, project, seq, &event.payload),
            Self::Run(_, event) => write_message_of(to, event.message_type(), project, seq, event)
                .map_err(|error| StoreError(error.to_string()))?,
        }
        Ok(())
    }

    /// Its run, and its place in that.
    fn place(self) -> (Option<RunNumber>, PlaceInRun) {
        let Self::Run(number, event) = self else { return (None, PlaceInRun::Middle) };
        let place = match event {
            _ if event.is_first() => PlaceInRun::First,
            _ if event.is_last() => PlaceInRun::Last,
            // A fold begins with the run's document, which has the changed plan.
            _ if matches!(event.kind, RunEventKind::StepOutput(_) | RunEventKind::PlanChanged(_)) => PlaceInRun::Middle,
            _ => PlaceInRun::Turn,
        };
        (Some(number), place)
    }
}
