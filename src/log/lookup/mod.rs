//! Answers that need only the store: pages of history, the messages of a run, the outputs of an ended run.
//!
//! They are made from a [`History`]. The journal implements it, and so do the readers of the stores, so that the thread
//! of the log and the history threads give the same answers. Nothing here waits or writes.

mod board;
mod content;
pub(super) mod due;
pub(super) mod events;
pub(super) mod heads;
pub(super) mod items;
pub(super) mod lists;
pub(super) mod output;
#[cfg(all(test, feature = "sqlite"))]
mod output_tests;
pub(super) mod page_cache;
pub(super) mod plans;
mod project_events;
pub(super) mod retelling;
mod run_content;
mod shared;

use std::collections::HashMap;
use std::sync::Arc;

pub use self::heads::Watchers;

use self::events::WantedRunEvents;
use self::items::InProgress;
use self::output::Shown;
use self::page_cache::{Block, PageCache, Stretch};
pub(super) use self::project_events::project_events;
use self::retelling::{Miss, Retelling, Telling};
use self::shared::Shared;
use super::frames::{Page, View, write_frame};
use super::protocol::{
    Answer, Query, Refusal, ReplyTo, ResetReason, Resume, RunAtItsEnd, StartingPosition, WantedItems, WantedOutput,
    WantedRun,
};
use super::store::{Ends, Flow, History, Look, PlaceInRun, Reader, RunNumber, StoreError};
use super::views::RunView;
use crate::auth::IdSigner;
use crate::model::{FIRST_REVISION, ProjectId, RunId, RunState, StepId, StepStatus, shown_document};

/// A question for a reader.
#[derive(Debug)]
pub struct Question {
    pub(super) reply: ReplyTo,
    pub(super) asked: Asked,
}

/// The work for an answer.
#[derive(Debug)]
pub(super) enum Asked {
    /// To look this up, where so much is known.
    Look(Query, Known),
    /// To make the snapshots that a stream begins with.
    Snapshots(Box<StartingPosition>),
    /// To say how the items of these steps are.
    Items(Box<InProgress>),
    /// To retell the run that a stream in a format begins with.
    Retold(Box<StartingPosition>),
}

/// What the journal knows about a run that is not in the store.
#[derive(Debug)]
pub(super) enum Known {
    /// Nothing: where it goes on, the log has to be asked.
    Untold,
    /// This, by the log; nothing where it does not go on.
    Told(Option<RunView>),
}

/// What became of the wish for a page.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Here it is.
    Page(Page),
    /// A message after the position is gone.
    Lost,
    /// The run is gone.
    NoRun,
}

/// Answers from a [`History`], and remembers the pages that it has encoded.
pub(super) struct Lookup {
    cache: PageCache,
    /// How outputs are shown.
    pub(super) shown: Shown,
    retelling: Retelling,
    /// How runs ended.
    ended: Shared<RunNumber, RunState>,
    id_text: Vec<u8>,
}

impl Default for Lookup {
    /// This is enough if messages are at hand and only have to be encoded.
    fn default() -> Self {
        Self::new(4 * 1024 * 1024)
    }
}

/// The state of a run; if there is none, the answer, or none if the log has to be asked.
type StateOrAnswer = Result<(RunNumber, Arc<RunState>), Option<Answer>>;

impl Lookup {
    /// A lookup with a page cache of this many bytes.
    pub(super) fn new(cache_bytes_max: usize) -> Self {
        Self {
            cache: PageCache::new(cache_bytes_max),
            shown: Shown::default(),
            retelling: Retelling::default(),
            ended: Shared::default(),
            id_text: Vec::new(),
        }
    }

    /// Nobody has asked for a while.
    pub(super) fn forget_pages(&mut self) {
        self.cache.clear();
    }

    /// What `query` is answered; nothing where it takes more than a history to answer it.
    pub(super) fn answer(
        &mut self,
        history: &dyn History,
        signer: &IdSigner,
        query: &Query,
        known: &Known,
    ) -> Result<Option<Answer>, StoreError> {
        match query {
            Query::Page { project, after, run, view, bytes_max } => {
                let stretch = Stretch { project: project.clone(), run: *run, view: *view, after: *after };
                Ok(match self.page(history, signer, stretch, *bytes_max)? {
                    Found::Page(page) => Some(Answer::Page(page)),
                    // The reset of the stream is made of the states of open runs, so the log is asked.
                    Found::Lost => None,
                    Found::NoRun => Some(Answer::Refused(Refusal::UnknownRun)),
                })
            }
            Query::RunEvents { project, run, after, limit, list } => {
                let wanted = WantedRunEvents { project, run, after: *after, limit: *limit, list: *list };
                events::list(history, signer, &wanted).map(Some)
            }
            Query::Due(wanted) => due::page(history, signer, wanted).map(Some),
            Query::Plan { project, run } => plan(history, project, run).map(Some),
            Query::Document { project, run } => document(history, project, run).map(Some),
            Query::StoredPlan { project, name, is_whole } => plans::plan(history, project, name, *is_whole).map(Some),
            Query::StoredDocument { project, name } => plans::document(history, project, name).map(Some),
            Query::Schedules => plans::scheduled(history).map(Some),
            Query::ChildResult { project, run } => plans::child_result(history, project, run).map(Some),
            Query::HasEnded { project, run } => plans::has_ended(history, project, run).map(Some),
            Query::Ended { project, run } => self.ended_run(history, project, run).map(Some),
            Query::Output { project, run, step, wanted } => self.output(history, known, project, run, step, wanted),
            Query::Items { project, run, step, wanted } => self.items(history, known, (project, run, step), *wanted),
            _ => Ok(None),
        }
    }

    /// The messages of a stretch, up to `bytes_max` bytes, but at least one.
    ///
    /// What the floor has passed is not looked for in the cache: it is asked for anew each time.
    pub(super) fn page(
        &mut self,
        history: &dyn History,
        signer: &IdSigner,
        stretch: Stretch,
        bytes_max: usize,
    ) -> Result<Found, StoreError> {
        let ends = match stretch.run {
            None => None,
            Some(number) => match history.ends(number)? {
                None => return Ok(Found::NoRun),
                ends => ends,
            },
        };
        if has_lost(ends, stretch.after, history.floor(&stretch.project)?) {
            return Ok(Found::Lost);
        }
        if let Some(page) = self.cache.page(&stretch, bytes_max) {
            return Ok(Found::Page(page));
        }
        let (block, is_full) = self.read_block(history, signer, &stretch, bytes_max)?;
        let page = block.cut(stretch.after, usize::MAX);
        if is_full {
            self.cache.insert(stretch, block);
        }
        Ok(Found::Page(page))
    }

    /// Encodes messages. Is the block full, and will the same messages make the same one for good?
    fn read_block(
        &mut self,
        history: &dyn History,
        signer: &IdSigner,
        stretch: &Stretch,
        bytes_max: usize,
    ) -> Result<(Block, bool), StoreError> {
        let mut up_to = history.newest(&stretch.project)?.max(stretch.after);
        let (mut bytes, mut marks) = (Vec::with_capacity(bytes_max.min(Block::BYTES_USUAL)), Vec::new());
        let (mut is_full, mut has_last) = (false, false);
        let id_text = &mut self.id_text;
        history.messages(&stretch.project, stretch.after, stretch.run, &mut |message| {
            let whole = bytes.len();
            write_frame(&mut bytes, stretch.view, signer, id_text, &stretch.project, message.seq, &message.json);
            if whole > 0 && bytes.len() > bytes_max {
                bytes.truncate(whole);
                (is_full, up_to) = (true, message.seq - 1);
                return Flow::Stop;
            }
            marks.push((message.seq, bytes.len()));
            has_last = stretch.run.is_some() && message.place == PlaceInRun::Last;
            Flow::More
        })?;
        Ok((Block::new(bytes, marks, up_to, has_last), is_full))
    }

    /// Messages of a run in a format; none if the log has to be asked for its state.
    pub(super) fn retell(
        &mut self,
        look: Look<'_>,
        signer: &IdSigner,
        query: &Query,
        known: &Known,
    ) -> Result<Option<Answer>, StoreError> {
        let live = match known {
            Known::Told(live) => live.as_ref(),
            Known::Untold => None,
        };
        let told = match query {
            Query::Row { project, run, format, after, bytes_max } => {
                let telling = Telling { project, run: *run, format: *format, live };
                self.retelling.row(look, signer, telling, *after, *bytes_max).map(Answer::Row)
            }
            Query::Page { project, run: Some(run), view: View::Format(format), after, bytes_max } => {
                let telling = Telling { project, run: *run, format: *format, live };
                let row = self.retelling.page(look, signer, telling, *after, *bytes_max);
                row.map(|row| Answer::Page(row.into_page()))
            }
            _ => return Ok(None),
        };
        match (told, query) {
            (Err(Miss::Lost | Miss::NoRun), Query::Page { project, after, .. }) => {
                let start = StartingPosition::new(project, *after, Resume::Reset(ResetReason::Expired));
                Ok(Some(Answer::StartsAt(Box::new(start))))
            }
            (told, _) => known.final_answer(told),
        }
    }

    /// Where a stream in a format begins, with what it is sent first.
    pub(super) fn begin_retold(
        &mut self,
        look: Look<'_>,
        signer: &IdSigner,
        mut start: Box<StartingPosition>,
    ) -> Result<Answer, StoreError> {
        let known = Known::Told(start.unretold.as_ref().and_then(|unretold| unretold.live.clone()));
        let begun = self.retelling.begin(look, signer, &mut start).map(|()| Answer::StartsAt(start));
        Ok(known.final_answer(begun)?.unwrap_or(Answer::Refused(Refusal::StoreUnavailable)))
    }

    /// A step's output; nothing where the log has to be asked for the state of its run.
    fn output(
        &mut self,
        history: &dyn History,
        known: &Known,
        project: &ProjectId,
        run: &RunId,
        step: &StepId,
        wanted: &WantedOutput,
    ) -> Result<Option<Answer>, StoreError> {
        match self.state_of(history, known, project, run)? {
            Ok((number, state)) => self.shown.output(history, number, &state, step, wanted).map(Some),
            Err(answer) => Ok(answer),
        }
    }

    /// A step's items; nothing where the log has to be asked for the state of its run.
    fn items(
        &mut self,
        history: &dyn History,
        known: &Known,
        (project, run, step): (&ProjectId, &RunId, &StepId),
        wanted: WantedItems,
    ) -> Result<Option<Answer>, StoreError> {
        match self.state_of(history, known, project, run)? {
            Ok((number, state)) => items::list(history, number, &state, step, wanted).map(Some),
            Err(answer) => Ok(answer),
        }
    }

    /// The state of a run; if there is none, the answer, or none if the log has to be asked.
    fn state_of(
        &mut self,
        history: &dyn History,
        known: &Known,
        project: &ProjectId,
        run: &RunId,
    ) -> Result<StateOrAnswer, StoreError> {
        let Some(number) = history.run_number(project, run)? else {
            return Ok(Err(Some(Answer::Refused(Refusal::UnknownRun))));
        };
        Ok(match known {
            Known::Told(Some(live)) => Ok((number, live.state.clone())),
            _ => self.ended(history, number)?.map(|state| (number, state)).ok_or_else(|| known.gone()),
        })
    }

    /// The state of a run that has ended.
    fn ended(&mut self, history: &dyn History, number: RunNumber) -> Result<Option<Arc<RunState>>, StoreError> {
        if let Some(state) = self.ended.get(&number) {
            return Ok(Some(state));
        }
        let json = history.ended_state(number)?;
        json.map(|json| read_state(&json).map(|state| self.ended.share(number, state))).transpose()
    }

    /// A run as it ended, to be gone on from.
    pub(super) fn ended_run(
        &mut self,
        history: &dyn History,
        project: &ProjectId,
        run: &RunId,
    ) -> Result<Answer, StoreError> {
        let Some(number) = history.run_number(project, run)? else { return Ok(Answer::Refused(Refusal::UnknownRun)) };
        let Some(state) = self.ended(history, number)? else { return Ok(Answer::Refused(Refusal::RunNotEnded)) };
        let Some(document) = history.document(number)? else { return Ok(Answer::Refused(Refusal::UnknownRun)) };
        let mut output_bytes = HashMap::new();
        for step in state.steps.iter().filter(|step| step.status == StepStatus::Completed) {
            let written = history.output(number, &step.id)?.unwrap_or_default();
            let whole = if step.truncated { history.whole_length(number, &step.id)? } else { None };
            let bytes = written.stdout + written.stderr + written.text + whole.unwrap_or_default();
            output_bytes.insert(step.id.clone(), bytes);
        }
        Ok(Answer::Ended(Arc::new(RunAtItsEnd { document, state, output_bytes })))
    }

    /// A run as JSON; none if the log has to be asked for its state. Reads in several short lookups.
    pub(super) fn run(
        &mut self,
        reader: &mut dyn Reader,
        signer: &IdSigner,
        known: &Known,
        (project, run): (&ProjectId, &RunId),
        wanted: WantedRun,
    ) -> Result<Option<Answer>, StoreError> {
        let (mut number, mut last, mut held, mut json) = (None, None, None, None);
        reader.look(&mut |history| {
            number = history.run_number(project, run)?;
            if let (Some(number), Known::Untold | Known::Told(None)) = (number, known) {
                last = history.ends(number)?.and_then(|ends| ends.last);
                held = self.ended.get(&number);
                json = if held.is_none() { history.ended_state(number)? } else { None };
            }
            Ok(())
        })?;
        let Some(number) = number else { return Ok(Some(Answer::Refused(Refusal::UnknownRun))) };
        let ended = match (held, json) {
            (None, Some(json)) => Some(self.ended.share(number, read_state(&json)?)),
            (held, _) => held,
        };
        let (state, last_seq) = match (known, ended.zip(last)) {
            (Known::Told(Some(live)), _) => (live.state.clone(), live.last_seq),
            (_, Some(ended)) => ended,
            (known, None) => return Ok(known.gone()),
        };
        let mut view = RunView { number, state, last_seq };
        if !wanted.whole_outputs {
            view.bound_outputs();
        }
        view.answer(&mut |look| reader.look(look), project, wanted, signer).map(Some)
    }
}

impl Known {
    /// The answer after retelling; none if the log has to be asked.
    fn final_answer(&self, told: Result<Answer, Miss>) -> Result<Option<Answer>, StoreError> {
        match told {
            Ok(answer) => Ok(Some(answer)),
            Err(Miss::Untold) => Ok(self.gone()),
            Err(Miss::NoRun | Miss::Lost) => Ok(Some(Answer::Refused(Refusal::UnknownRun))),
            Err(Miss::Unreadable(error)) => Err(error),
        }
    }

    /// The answer if a run is neither open nor ended; none if it may be open.
    fn gone(&self) -> Option<Answer> {
        match self {
            Self::Untold => None,
            Self::Told(_) => Some(Answer::Refused(Refusal::UnknownRun)),
        }
    }
}

/// Where a stream begins, with the snapshots made that it begins with.
pub(super) fn begun(mut start: Box<StartingPosition>, signer: &IdSigner) -> Answer {
    for snapshot in std::mem::take(&mut start.unmade) {
        match snapshot.message(&start.project, start.after, signer) {
            Ok(message) => start.snapshots.push(message),
            Err(error) => {
                log::error!("cannot read a run: {error}");
                return Answer::Refused(Refusal::StoreUnavailable);
            }
        }
    }
    Answer::StartsAt(start)
}

/// May a message after `after` be gone? For one run: a message between its first and its last, which are kept.
pub(super) fn has_lost(run: Option<Ends>, after: u64, floor: u64) -> bool {
    let is_below = after + 1 < floor;
    match run {
        Some(Ends { first, last }) if is_below => {
            first.is_some_and(|first| first < floor) && last.is_none_or(|last| after + 1 < last)
        }
        _ => is_below,
    }
}

/// The current plan of a run, as it may be shown, with its revision.
pub(super) fn plan(history: &dyn History, project: &ProjectId, run: &RunId) -> Result<Answer, StoreError> {
    let document = match document(history, project, run)? {
        Answer::Document(document) => document,
        refused => return Ok(refused),
    };
    #[derive(serde::Deserialize)]
    struct Noted {
        revision: Option<u32>,
    }
    let noted = serde_json::from_slice(&document).map_err(|error| StoreError(error.to_string()))?;
    let Noted { revision } = noted;
    let shown = shown_document(&document).ok_or_else(|| StoreError("a stored plan is not valid JSON".to_owned()))?;
    Ok(Answer::StoredPlan { body: shown, tag: revision.unwrap_or(FIRST_REVISION).to_string().into() })
}

/// The document of a run, as submitted, with its secrets.
pub(super) fn document(history: &dyn History, project: &ProjectId, run: &RunId) -> Result<Answer, StoreError> {
    let document = match history.run_number(project, run)? {
        Some(number) => history.document(number)?,
        None => None,
    };
    Ok(document.map_or(Answer::Refused(Refusal::UnknownRun), Answer::Document))
}

pub(super) fn read_state(json: &[u8]) -> Result<RunState, StoreError> {
    RunState::from_json(json).map_err(|error| StoreError(error.to_string()))
}
