//! Reads from the log: where streams begin, pages of history, runs, outputs.

use std::sync::Arc;

use super::{Journal, Outcome, unreadable};
use crate::log::frames::{Frames, View, write_frame};
use crate::log::lookup::events::{self, WantedRunEvents};
use crate::log::lookup::lists::{self, OpenRuns, WantedRuns};
use crate::log::lookup::page_cache::Stretch;
use crate::log::lookup::{self, Asked, Found, Known, Question};
use crate::log::protocol::{
    Answer, Delivery, Query, Refusal, ReplyTo, ResetReason, Resume, ResumeFrom, StartingPosition, Subscription,
    Unretold, WantedItems, WantedOutput, WantedRun,
};
use crate::log::store::{Ends, Flow, PlaceInRun, RunNumber, StoreError, StoredMessage};
use crate::log::views::{RunView, Snapshot};
use crate::model::{Now, ProjectId, RunId, RunState, StepId};

/// How much history the loop gets for a project that it begins to watch, for clients that come back.
const TAIL_BYTES_MAX: usize = 256 * 1024;

impl Journal {
    pub(super) fn read(&mut self, query: Query, now: Now) -> Result<Answer, StoreError> {
        if query.is_of_format() {
            return self.retell(&query);
        }
        match query {
            Query::Page { project, after, run, view, bytes_max } => {
                self.page(Stretch { project, run, view, after }, bytes_max, now)
            }
            Query::Runs { project, status, before, limit } => {
                let wanted = WantedRuns { project: &project, status, before: before.as_ref(), limit };
                OpenRuns::of(&self.heads, &project).list(&*self.store, wanted)
            }
            Query::Run { project, run, wanted } => self.run(&project, &run, wanted),
            Query::Plan { project, run } => lookup::plan(&*self.store, &project, &run),
            Query::Document { project, run } => lookup::document(&*self.store, &project, &run),
            Query::Ended { project, run } => self.lookup.ended_run(&*self.store, &project, &run),
            Query::RunEvents { project, run, after, limit, list } => {
                let wanted = WantedRunEvents { project: &project, run: &run, after, limit, list };
                events::list(&*self.store, &self.signer, &wanted)
            }
            // The readers have no room for it now. A long query would block the log.
            Query::Events { .. } if self.has_readers => Ok(Answer::Refused(Refusal::StoreUnavailable)),
            Query::Events { project, wanted } => {
                lookup::project_events(&mut |look| look(&*self.store), &self.signer, &project, &wanted)
            }
            Query::Due(wanted) => lookup::due::page(&*self.store, &self.signer, &wanted),
            Query::StoredPlans { project, now } => {
                OpenRuns::of(&self.heads, &project).list_plans(&*self.store, &project, now)
            }
            Query::StoredPlan { project, name, is_whole } => {
                lookup::plans::plan(&*self.store, &project, &name, is_whole)
            }
            Query::StoredDocument { project, name } => lookup::plans::document(&*self.store, &project, &name),
            Query::Schedules => lookup::plans::scheduled(&*self.store),
            Query::ChildResult { project, run } => lookup::plans::child_result(&*self.store, &project, &run),
            Query::HasEnded { project, run } => lookup::plans::has_ended(&*self.store, &project, &run),
            Query::Output { project, run, step, wanted } => self.output(&project, &run, &step, &wanted),
            Query::Items { project, run, step, wanted } => self.items(&project, &run, &step, wanted),
            Query::OutputRest { rest, bytes_max } => rest.answer(&mut |look| look(&*self.store), bytes_max),
            Query::Row { .. } => self.retell(&query),
            Query::Recall { claim, otherwise } => self.recall(&claim, otherwise, now),
            Query::Projects { visible, after, limit } => {
                lists::list_projects(&self.heads, visible.as_deref(), after.as_ref(), limit)
            }
        }
    }

    /// Where a stream begins.
    pub(super) fn begin(&mut self, wanted: &Arc<Subscription>, now: Now) -> Result<Answer, StoreError> {
        let project = &wanted.project;
        if !self.has_room_for(project) {
            return Ok(Answer::Refused(Refusal::TooManyProjects(self.limits.projects)));
        }
        let run = match &wanted.run {
            None => None,
            Some(run) => match self.store.run_number(project, run)? {
                None => return Ok(Answer::Refused(Refusal::UnknownRun)),
                number => number,
            },
        };
        let (resume, position) = self.how_to_resume(project, run, wanted.resume)?;
        let mut start = match run {
            None => self.begin_project(project, resume, position, wanted.snapshots, now)?,
            Some(number) if wanted.view.format().is_some() => {
                let start = self.begin_run(project, number, resume, position)?;
                self.unretold(start, wanted, number)
            }
            Some(number) => {
                let start = self.begin_run(project, number, resume, position)?;
                self.with_snapshot(start, number, now)?
            }
        };
        start.backlog = self.begin_to_watch(project)?;
        Ok(Answer::StartsAt(Box::new(start)))
    }

    /// Where a stream of everything begins.
    fn begin_project(
        &mut self,
        project: &ProjectId,
        resume: Resume,
        position: u64,
        wants_snapshots: bool,
        now: Now,
    ) -> Result<StartingPosition, StoreError> {
        let unmade = match resume {
            Resume::Fresh if !wants_snapshots => Vec::new(),
            Resume::Resumed => Vec::new(),
            Resume::Fresh | Resume::Reset(_) => self.snapshots(project, now)?,
        };
        Ok(StartingPosition { unmade, ..StartingPosition::new(project, position, resume) })
    }

    /// Where a stream of one run begins: with its first message, unless that can't be gone on from any more.
    fn begin_run(
        &mut self,
        project: &ProjectId,
        number: RunNumber,
        mut resume: Resume,
        mut position: u64,
    ) -> Result<StartingPosition, StoreError> {
        let Ends { first, last } = self.ends(number)?;
        if resume == Resume::Fresh {
            let before = first.map_or(position, |first| first - 1);
            match self.has_lost(project, Some(number), before)? {
                true => resume = Resume::Reset(ResetReason::Expired),
                false => position = before,
            }
        }
        if let Resume::Reset(_) = resume {
            // A stream is sent the run so far first. If the run has ended, its last message is still to come, so that
            // the stream ends.
            position = last.map_or(position, |last| last - 1);
        }
        let is_over = resume == Resume::Resumed && last.is_some_and(|last| position >= last);
        Ok(StartingPosition { run: Some(number), is_over, ..StartingPosition::new(project, position, resume) })
    }

    /// Where a stream of one run begins, with the run so far where it begins again.
    fn with_snapshot(
        &mut self,
        mut start: StartingPosition,
        number: RunNumber,
        now: Now,
    ) -> Result<StartingPosition, StoreError> {
        if let Resume::Reset(_) = start.resume {
            start.unmade.extend(self.snapshot(number, now)?);
        }
        Ok(start)
    }

    /// The same, if the run is to be retold in a format.
    fn unretold(&self, mut start: StartingPosition, wanted: &Arc<Subscription>, number: RunNumber) -> StartingPosition {
        start.unretold = Some(Unretold { wanted: wanted.clone(), live: self.live(number) });
        start
    }

    /// The state of an open run.
    fn live(&self, number: RunNumber) -> Option<RunView> {
        let run = self.runs.get(&number).filter(|run| !run.state.status.is_ended())?;
        Some(RunView { number, state: run.state.clone(), last_seq: run.last_seq })
    }

    fn retell(&mut self, query: &Query) -> Result<Answer, StoreError> {
        let live = match query {
            Query::Row { run, .. } | Query::Page { run: Some(run), .. } => self.live(*run),
            _ => None,
        };
        let Self { lookup, store, signer, .. } = self;
        let answer = lookup.retell(&mut |look| look(&**store), signer, query, &Known::Told(live))?;
        Ok(answer.unwrap_or(Answer::Refused(Refusal::UnknownRun)))
    }

    fn how_to_resume(
        &self,
        project: &ProjectId,
        run: Option<RunNumber>,
        from: Option<ResumeFrom>,
    ) -> Result<(Resume, u64), StoreError> {
        let newest = self.newest(project)?;
        Ok(match from {
            None => (Resume::Fresh, newest),
            Some(ResumeFrom::Unknown) => (Resume::Reset(ResetReason::UnknownId), newest),
            Some(ResumeFrom::Seq(seq)) if seq > newest => (Resume::Reset(ResetReason::Ahead), newest),
            Some(ResumeFrom::Seq(seq)) if self.has_lost(project, run, seq)? => {
                (Resume::Reset(ResetReason::Expired), newest)
            }
            Some(ResumeFrom::Seq(seq)) => (Resume::Resumed, seq),
        })
    }

    /// The loop is sent the project's messages from now on; its newest so far, where it was not before.
    fn begin_to_watch(&mut self, project: &ProjectId) -> Result<Option<Frames>, StoreError> {
        if self.projects.get(project).is_some_and(|entry| entry.is_watched) {
            return Ok(None);
        }
        let frames = self.tail(project, self.store.floor(project)?)?;
        // Not before: where the reads failed, the loop was not handed the messages that it would have to go on from.
        self.entry(project)?.is_watched = true;
        Ok(Some(frames))
    }

    /// The messages of a watched project after `sent`, which the loop was not sent; only the newest if there are many.
    pub(super) fn frames_after(&mut self, project: &ProjectId, sent: u64) -> Result<Option<Frames>, StoreError> {
        if self.newest(project)? <= sent {
            return Ok(None);
        }
        let from = self.store.floor(project)?.max(sent + 1);
        self.tail(project, from).map(Some)
    }

    /// A project's newest messages, none of them before `floor`.
    fn tail(&mut self, project: &ProjectId, floor: u64) -> Result<Frames, StoreError> {
        let newest = self.newest(project)?;
        let mut texts = Vec::new();
        let mut bytes = 0;
        // Read backwards in growing steps, until there is enough or no more.
        let mut from = newest;
        while from + 1 > floor && bytes < TAIL_BYTES_MAX {
            let step = (texts.len() as u64 * 2).max(64);
            let start = from.saturating_sub(step).max(floor - 1);
            let mut part = Vec::new();
            self.store.messages(project, start, None, &mut |message| {
                if message.seq > from {
                    return Flow::Stop;
                }
                bytes += message.json.len();
                part.push(message.clone());
                Flow::More
            })?;
            part.append(&mut texts);
            texts = part;
            from = start;
        }
        // The last step back may have brought more than there is need of.
        let mut kept = 0;
        let is_enough = |message: &StoredMessage| {
            kept += message.json.len();
            kept > TAIL_BYTES_MAX
        };
        texts.drain(..texts.iter().rev().position(is_enough).map_or(0, |behind| texts.len() - behind));
        Ok(self.frames_of(project, texts.first().map_or(newest + 1, |message| message.seq), &texts))
    }

    /// Consecutive messages of a project from `first_seq` on, as frames.
    pub(super) fn frames_of(&mut self, project: &ProjectId, first_seq: u64, messages: &[StoredMessage]) -> Frames {
        let mut frames = Frames::starting_at(first_seq);
        for message in messages {
            write_frame(
                &mut frames.bytes,
                View::Events,
                &self.signer,
                &mut self.id_text,
                project,
                message.seq,
                &message.json,
            );
            frames.mark(message.run, message.place == PlaceInRun::Last);
        }
        frames
    }

    fn page(&mut self, stretch: Stretch, bytes_max: usize, now: Now) -> Result<Answer, StoreError> {
        let (project, run) = (stretch.project.clone(), stretch.run);
        match self.lookup.page(&*self.store, &self.signer, stretch, bytes_max)? {
            Found::Page(page) => return Ok(Answer::Page(page)),
            // The run was removed while its reader was behind.
            Found::NoRun => return Ok(Answer::Refused(Refusal::UnknownRun)),
            Found::Lost => {}
        }
        let (reset, newest) = (Resume::Reset(ResetReason::Expired), self.newest(&project)?);
        let start = match run {
            None => self.begin_project(&project, reset, newest, true, now)?,
            Some(number) => {
                let start = self.begin_run(&project, number, reset, newest)?;
                self.with_snapshot(start, number, now)?
            }
        };
        Ok(Answer::StartsAt(Box::new(start)))
    }

    /// May a message after `after` be gone?
    fn has_lost(&self, project: &ProjectId, run: Option<RunNumber>, after: u64) -> Result<bool, StoreError> {
        let ends = run.map(|number| self.ends(number)).transpose()?;
        Ok(lookup::has_lost(ends, after, self.store.floor(project)?))
    }

    /// The `seq` of a run's first message and, where it has ended, of its last.
    pub(super) fn ends(&self, number: RunNumber) -> Result<Ends, StoreError> {
        match self.runs.get(&number) {
            Some(run) => Ok(Ends { first: run.first_seq, last: run.state.status.is_ended().then_some(run.last_seq) }),
            None => Ok(self.store.ends(number)?.unwrap_or_default()),
        }
    }

    /// The snapshots of a project: of every run that is active, and of the newest that ended a moment ago.
    fn snapshots(&mut self, project: &ProjectId, now: Now) -> Result<Vec<Arc<Snapshot>>, StoreError> {
        let Some(entry) = self.projects.get(project) else { return Ok(Vec::new()) };
        let is_recent = |number: &RunNumber| {
            let ended = self.runs.get(number).and_then(|run| run.state.finished_at);
            ended.is_some_and(|at| now.wall.millis_since(at) <= self.limits.recent_ms)
        };
        let shown = entry.newest_ended.filter(is_recent).into_iter().chain(entry.open_runs.iter().copied());
        let shown: Vec<_> = shown.collect();
        shown.into_iter().filter_map(|number| self.snapshot(number, now).transpose()).collect()
    }

    /// A run's snapshot. `None` if the run is gone.
    fn snapshot(&mut self, number: RunNumber, now: Now) -> Result<Option<Arc<Snapshot>>, StoreError> {
        if let Some(snapshot) = self.runs.get(&number).and_then(|run| run.snapshot.as_ref()) {
            return Ok(Some(snapshot.clone()));
        }
        let Some(view) = self.view(number)? else { return Ok(None) };
        let snapshot = Arc::new(Snapshot::new(view, now.wall));
        if let Some(run) = self.runs.get_mut(&number) {
            run.snapshot = Some(snapshot.clone());
        }
        Ok(Some(snapshot))
    }

    /// Replies where a stream begins. If there are snapshots to make, a reader makes them and replies; the project's
    /// messages go to the loop from now on in either case.
    pub(super) fn tell_where(&mut self, mut start: Box<StartingPosition>, reply: ReplyTo, outcome: &mut Outcome) {
        let is_retold = start.unretold.is_some();
        match self.has_readers {
            true if is_retold || !start.unmade.is_empty() => {}
            false if is_retold => {
                let Self { lookup, store, signer, .. } = self;
                let begun = lookup.begin_retold(&mut |look| look(&**store), signer, start);
                return outcome.reply(&reply, begun.unwrap_or_else(|error| unreadable(&error)));
            }
            _ => return outcome.reply(&reply, lookup::begun(start, &self.signer)),
        }
        if let Some(frames) = start.backlog.take() {
            outcome.deliveries.push(Delivery::Opened { project: start.project.clone(), frames });
        }
        let asked = if is_retold { Asked::Retold(start) } else { Asked::Snapshots(start) };
        outcome.questions.push(Question { reply, asked });
    }

    /// The state of a run, ended or not.
    fn state(&self, number: RunNumber) -> Result<Option<Arc<RunState>>, StoreError> {
        if let Some(run) = self.runs.get(&number) {
            return Ok(Some(run.state.clone()));
        }
        let Some(json) = self.store.ended_state(number)? else { return Ok(None) };
        lookup::read_state(&json).map(|state| Some(Arc::new(state)))
    }

    /// What only the journal knows of what a reader needs for this answer; none if the journal answers.
    pub(super) fn known_of(&self, query: &Query) -> Option<Known> {
        if !self.has_readers || self.is_stale {
            return None;
        }
        match query {
            Query::Output { project, run, .. }
            | Query::Items { project, run, .. }
            | Query::Run { project, run, .. } => {
                let run = self.open_run(project, run);
                Some(Known::Told(run.and_then(|run| self.live(run))))
            }
            Query::Row { run, .. } | Query::Page { run: Some(run), view: View::Format(_), .. } => {
                Some(Known::Told(self.live(*run)))
            }
            // Their lists are made of what is published here of runs and projects, which is true by now.
            Query::Runs { .. } | Query::StoredPlans { .. } | Query::Projects { .. } if self.is_shared => {
                Some(Known::Untold)
            }
            _ => None,
        }
    }

    fn run(&mut self, project: &ProjectId, run: &RunId, wanted: WantedRun) -> Result<Answer, StoreError> {
        let Some(number) = self.store.run_number(project, run)? else {
            return Ok(Answer::Refused(Refusal::UnknownRun));
        };
        let Some(mut view) = self.view(number)? else { return Ok(Answer::Refused(Refusal::UnknownRun)) };
        if !wanted.whole_outputs {
            view.bound_outputs();
        }
        view.answer(&mut |look| look(&*self.store), project, wanted, &self.signer)
    }

    /// The current state of a run, to be shown.
    fn view(&self, number: RunNumber) -> Result<Option<RunView>, StoreError> {
        let Some(state) = self.state(number)? else { return Ok(None) };
        let last_seq = match self.runs.get(&number) {
            Some(run) => run.last_seq,
            None => self.ends(number)?.last.unwrap_or_default(),
        };
        Ok(Some(RunView { number, state, last_seq }))
    }

    /// A step's items, of a run in whatever state.
    fn items(
        &self,
        project: &ProjectId,
        run: &RunId,
        step: &StepId,
        wanted: WantedItems,
    ) -> Result<Answer, StoreError> {
        let Some(number) = self.store.run_number(project, run)? else {
            return Ok(Answer::Refused(Refusal::UnknownRun));
        };
        match self.state(number)? {
            Some(state) => lookup::items::list(&*self.store, number, &state, step, wanted),
            None => Ok(Answer::Refused(Refusal::UnknownRun)),
        }
    }

    /// A step's output, of a run in whatever state.
    fn output(
        &mut self,
        project: &ProjectId,
        run: &RunId,
        step: &StepId,
        wanted: &WantedOutput,
    ) -> Result<Answer, StoreError> {
        let Some(number) = self.store.run_number(project, run)? else {
            return Ok(Answer::Refused(Refusal::UnknownRun));
        };
        let mut shown = std::mem::take(&mut self.lookup.shown);
        let answer = match self.state(number)? {
            Some(state) => shown.output(&*self.store, number, &state, step, wanted),
            None => Ok(Answer::Refused(Refusal::UnknownStep)),
        };
        self.lookup.shown = shown;
        answer
    }
}
