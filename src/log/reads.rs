//! What is read from the log: where streams begin, pages of history, runs, outputs.

use std::borrow::Cow;
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use super::frames::{Frames, View, write_frame};
use super::history::{self, Ends, Found};
use super::journal::Journal;
use super::page_cache::Stretch;
use super::store::{Flow, StoreError, StoredMessage};
use super::{Answer, Attached, Query, Refusal, ResetReason, Resume, ResumeFrom, RunNumber, WantedOutput, output};
use crate::model::{Now, ProjectId, RunId, RunState, StepId, Timestamp, write_message};

/// How much of a project's history a loop that begins to watch it is handed, for those who come back.
const TAIL_BYTES_MAX: usize = 256 * 1024;

/// The outputs of a snapshot together take at most this; larger ones are left out of it and marked.
const SNAPSHOT_OUTPUTS_BYTES_MAX: usize = 1024 * 1024;

/// The whole outputs of one run, as `GET` answers them, together take at most this; beyond it they stay as cut as in
/// the messages, and each can be read by itself.
const RUN_OUTPUTS_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A run as `GET .../workflows/:runId` shows it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RunView<'a> {
    project_id: &'a ProjectId,
    #[serde(flatten)]
    state: &'a RunState,
    last_event_id: String,
    /// When a snapshot was cut; `GET` needs none.
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<Timestamp>,
}

impl Journal {
    pub(super) fn read(&mut self, query: Query, now: Now) -> Result<Answer, StoreError> {
        match query {
            Query::Attach { project, resume, run, snapshots } => self.attach(&project, resume, run, snapshots, now),
            Query::Page { project, after, run, view, bytes_max } => {
                self.page(Stretch { project, run, view, after }, bytes_max, now)
            }
            Query::Runs { project, status, before, limit } => self.runs(&project, status, before, limit),
            Query::Run { project, run, whole_outputs: true } => self.run(&project, &run),
            Query::Run { project, run, whole_outputs: false } => self.run_in_short(&project, &run),
            Query::Plan { project, run } => history::plan(&*self.store, &project, &run),
            Query::Document { project, run } => history::document(&*self.store, &project, &run),
            Query::Events { project, run, after, limit } => self.events(&project, &run, after, limit),
            Query::Output { project, run, step, wanted } => self.output(&project, &run, &step, &wanted),
            Query::OutputRest { rest, bytes_max } => output::rest(&*self.store, &rest, bytes_max),
            Query::Recall { claim, otherwise } => self.recall(&claim, otherwise, now),
            Query::Projects { visible, after, limit } => Ok(self.projects(visible, after, limit)),
        }
    }

    fn attach(
        &mut self,
        project: &ProjectId,
        resume: Option<ResumeFrom>,
        run: Option<RunId>,
        snapshots: bool,
        now: Now,
    ) -> Result<Answer, StoreError> {
        if !self.has_room_for(project) {
            return Ok(Answer::Refused(Refusal::TooManyProjects));
        }
        let run = match run {
            None => None,
            Some(run) => match self.store.run_number(project, &run)? {
                None => return Ok(Answer::Refused(Refusal::UnknownRun)),
                number => number,
            },
        };
        let (resume, position) = self.how_to_resume(project, run, resume)?;
        let mut attached = match run {
            None => self.begin(project, resume, position, snapshots, now)?,
            Some(number) => self.begin_run(project, number, resume, position, now)?,
        };
        attached.backlog = self.begin_to_watch(project)?;
        Ok(Answer::Attached(Box::new(attached)))
    }

    /// Where a stream of everything begins.
    fn begin(
        &mut self,
        project: &ProjectId,
        resume: Resume,
        position: u64,
        wants_snapshots: bool,
        now: Now,
    ) -> Result<Attached, StoreError> {
        let snapshots = match resume {
            Resume::Fresh if !wants_snapshots => Vec::new(),
            Resume::Resumed => Vec::new(),
            Resume::Fresh | Resume::Reset(_) => self.snapshots(project, position, now)?,
        };
        Ok(Attached { project: project.clone(), position, resume, run: None, is_over: false, snapshots, backlog: None })
    }

    /// Where a stream of one run begins: with its first message, unless that can't be gone on from any more.
    fn begin_run(
        &mut self,
        project: &ProjectId,
        number: RunNumber,
        mut resume: Resume,
        mut position: u64,
        now: Now,
    ) -> Result<Attached, StoreError> {
        let Ends { first, last } = self.ends(number)?;
        if resume == Resume::Fresh {
            let before = first.map_or(position, |first| first - 1);
            match self.has_lost(project, Some(number), before)? {
                true => resume = Resume::Reset(ResetReason::Expired),
                false => position = before,
            }
        }
        let mut snapshots = Vec::new();
        if let Resume::Reset(_) = resume {
            // The snapshot tells the run so far. The last message of one that has ended is still to come, so that the
            // stream ends.
            position = last.map_or(position, |last| last - 1);
            snapshots.push(self.snapshot(project, number, position, now)?);
        }
        let is_over = resume == Resume::Resumed && last.is_some_and(|last| position >= last);
        Ok(Attached {
            project: project.clone(),
            position,
            resume,
            run: Some(number),
            is_over,
            snapshots,
            backlog: None,
        })
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
        let newest = self.newest(project)?;
        if self.projects.get(project).is_some_and(|entry| entry.is_watched) {
            return Ok(None);
        }
        let mut texts = Vec::new();
        let mut bytes = 0;
        let floor = self.store.floor(project)?;
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
        let mut frames = Frames::starting_at(texts.first().map_or(newest + 1, |message| message.seq));
        for message in &texts {
            write_frame(
                &mut frames.bytes,
                View::Events,
                &self.signer,
                &mut self.id_text,
                project,
                message.seq,
                &message.json,
            );
            frames.mark(message.run, message.place == super::store::Place::Last);
        }
        // Not before: where the reads failed, the loop was not handed the messages that it would have to go on from.
        self.entry(project)?.is_watched = true;
        Ok(Some(frames))
    }

    fn page(&mut self, stretch: Stretch, bytes_max: usize, now: Now) -> Result<Answer, StoreError> {
        let (project, run) = (stretch.project.clone(), stretch.run);
        match self.lookup.page(&*self.store, &self.signer, stretch, bytes_max)? {
            Found::Page(page) => return Ok(Answer::Page(page)),
            // It was let go while its reader was behind.
            Found::NoRun => return Ok(Answer::Refused(Refusal::UnknownRun)),
            Found::Lost => {}
        }
        let (reset, newest) = (Resume::Reset(ResetReason::Expired), self.newest(&project)?);
        let attached = match run {
            None => self.begin(&project, reset, newest, true, now)?,
            Some(number) => self.begin_run(&project, number, reset, newest, now)?,
        };
        Ok(Answer::Attached(Box::new(attached)))
    }

    fn events(&mut self, project: &ProjectId, run: &RunId, after: u64, limit: usize) -> Result<Answer, StoreError> {
        self.lookup.events(&*self.store, &self.signer, project, run, after, limit)
    }

    /// May a message behind `after` be gone?
    fn has_lost(&self, project: &ProjectId, run: Option<RunNumber>, after: u64) -> Result<bool, StoreError> {
        let ends = run.map(|number| self.ends(number)).transpose()?;
        Ok(history::has_lost(ends, after, self.store.floor(project)?))
    }

    /// The `seq` of a run's first message and, where it has ended, of its last.
    pub(super) fn ends(&self, number: RunNumber) -> Result<Ends, StoreError> {
        match self.runs.get(&number) {
            Some(run) => Ok(Ends { first: run.first_seq, last: run.state.status.is_ended().then_some(run.last_seq) }),
            None => Ok(self.store.ends(number)?.unwrap_or_default()),
        }
    }

    /// The `workflow_snapshot`s of a project: every run that is active, and the newest that ended a moment ago.
    fn snapshots(&mut self, project: &ProjectId, position: u64, now: Now) -> Result<Vec<Arc<[u8]>>, StoreError> {
        let Some(entry) = self.projects.get(project) else { return Ok(Vec::new()) };
        let is_recent = |number: &RunNumber| {
            let ended = self.runs.get(number).and_then(|run| run.state.finished_at);
            ended.is_some_and(|at| now.wall.millis_since(at) <= self.limits.recent_ms)
        };
        let shown = entry.newest_ended.filter(is_recent).into_iter().chain(entry.open_runs.iter().copied());
        let shown: Vec<_> = shown.collect();
        shown.into_iter().map(|number| self.snapshot(project, number, position, now)).collect()
    }

    fn snapshot(
        &mut self,
        project: &ProjectId,
        number: RunNumber,
        position: u64,
        now: Now,
    ) -> Result<Arc<[u8]>, StoreError> {
        if let Some((at, snapshot)) = self.runs.get(&number).and_then(|run| run.snapshot.as_ref())
            && *at == position
        {
            return Ok(snapshot.clone());
        }
        let view =
            self.view(project, number, Some(now.wall), |state| bound_outputs(state, SNAPSHOT_OUTPUTS_BYTES_MAX))?;
        let mut message = Vec::new();
        write_message(&mut message, "workflow_snapshot", project, position, &view.unwrap_or_else(|| b"{}".to_vec()));
        let message: Arc<[u8]> = message.into();
        if let Some(run) = self.runs.get_mut(&number) {
            run.snapshot = Some((position, message.clone()));
        }
        Ok(message)
    }

    /// A run as JSON, once `shape` has had its way with it.
    fn view(
        &mut self,
        project: &ProjectId,
        number: RunNumber,
        timestamp: Option<Timestamp>,
        shape: impl FnOnce(&mut RunState),
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(mut state) = self.state(number)?.map(Cow::into_owned) else { return Ok(None) };
        shape(&mut state);
        let last_seq = match self.runs.get(&number) {
            Some(run) => run.last_seq,
            None => self.ends(number)?.last.unwrap_or_default(),
        };
        let last_event_id = self.id(project, last_seq);
        let view = RunView { project_id: project, state: &state, last_event_id, timestamp };
        serde_json::to_vec(&view).map(Some).map_err(|error| StoreError(error.to_string()))
    }

    /// The state of a run, ended or not.
    fn state(&self, number: RunNumber) -> Result<Option<Cow<'_, RunState>>, StoreError> {
        if let Some(run) = self.runs.get(&number) {
            return Ok(Some(Cow::Borrowed(&run.state)));
        }
        let Some(json) = self.store.ended_state(number)? else { return Ok(None) };
        history::read_state(&json).map(|state| Some(Cow::Owned(state)))
    }

    fn id(&mut self, project: &ProjectId, seq: u64) -> String {
        self.id_text.clear();
        self.signer.write(&mut self.id_text, project, seq);
        String::from_utf8_lossy(&self.id_text).into_owned()
    }

    fn run(&mut self, project: &ProjectId, run: &RunId) -> Result<Answer, StoreError> {
        let Some(number) = self.store.run_number(project, run)? else {
            return Ok(Answer::Refused(Refusal::UnknownRun));
        };
        let mut wholes = Vec::new();
        let mut left = RUN_OUTPUTS_BYTES_MAX;
        let cut = self.state(number)?.map_or_else(Vec::new, |state| {
            let cut = state.steps.iter().enumerate().filter(|(_, step)| step.truncated);
            cut.map(|(index, step)| (index, step.id.clone())).collect()
        });
        for (index, step) in cut {
            let whole = self.store.whole_output(number, &step)?;
            if let Some(whole) = whole.filter(|whole| whole.len() <= left) {
                left -= whole.len();
                wholes.push((index, whole));
            }
        }
        let view = self.view(project, number, None, |state| put_wholes(state, &wholes))?;
        Ok(view.map_or(Answer::Refused(Refusal::UnknownRun), Answer::Json))
    }

    /// A run with its outputs as a snapshot has them.
    fn run_in_short(&mut self, project: &ProjectId, run: &RunId) -> Result<Answer, StoreError> {
        let number = self.store.run_number(project, run)?;
        let shape = |state: &mut RunState| bound_outputs(state, SNAPSHOT_OUTPUTS_BYTES_MAX);
        let view = match number {
            Some(number) => self.view(project, number, None, shape)?,
            None => None,
        };
        Ok(view.map_or(Answer::Refused(Refusal::UnknownRun), Answer::Json))
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

/// Leaves the outputs out that don't fit into `bytes_max` together.
fn bound_outputs(state: &mut RunState, bytes_max: usize) {
    let mut left = bytes_max;
    for step in &mut state.steps {
        let Some(output) = &step.output else { continue };
        let size = serde_json::to_vec(output).map_or(usize::MAX, |json| json.len());
        if size <= left {
            left -= size;
        } else {
            step.output = Some(Arc::new(Value::String(String::new())));
            step.truncated = true;
            step.output_bytes.get_or_insert(size as u64);
        }
    }
}

fn put_wholes(state: &mut RunState, wholes: &[(usize, Arc<[u8]>)]) {
    for (index, whole) in wholes {
        if let (Some(step), Ok(output)) = (state.steps.get_mut(*index), serde_json::from_slice(whole)) {
            step.output = Some(Arc::new(output));
            (step.truncated, step.output_bytes) = (false, None);
        }
    }
}
