//! The items of steps: stores their state, and tells those who have subscribed to it.

use std::ops::Bound::{Included, Unbounded};
use std::sync::Arc;

use super::batch::{self, Batch};
use super::{Journal, Outcome, unreadable};
use crate::http::sse;
use crate::log::frames::ItemFrame;
use crate::log::lookup::items::{InProgress, STEPS_SHOWN_MAX};
use crate::log::lookup::{Asked, Question};
use crate::log::protocol::{Answer, Refusal, ReplyTo};
use crate::log::store::{RunNumber, StoreError, Write};
use crate::model::{
    ITEM_SHOWN_BYTES_MAX, ItemMessage, ItemState, ProjectId, RunId, RunState, StepId, StepState, StepStatus,
    write_message_of,
};

impl Journal {
    /// An item has moved.
    pub(super) fn keep_item(
        &mut self,
        project: &ProjectId,
        run: &RunId,
        step: &StepId,
        state: &ItemState,
        batch: &mut Batch,
    ) -> Result<(), StoreError> {
        let Some(number) = self.run_here(project, run) else { return Ok(()) };
        let row = state.to_row().map_err(|error| StoreError(error.to_string()))?;
        let part = self.part(project, batch)?;
        batch.write(part, Write::Item { number, step: step.clone(), item: state.item, row: row.into() });
        if self.projects.get(project).is_some_and(|entry| entry.is_watched && entry.wants_items) {
            let item = state.shown(step, ITEM_SHOWN_BYTES_MAX);
            let said = ItemMessage { run_id: run, step_id: step, item };
            self.tell_item(project, number, &said, part, batch)?;
        }
        Ok(())
    }

    /// Sends the state of an item after the messages numbered so far, without a number of its own.
    fn tell_item(
        &self,
        project: &ProjectId,
        run: RunNumber,
        said: &ItemMessage<'_>,
        part: batch::PartIndex,
        batch: &mut Batch,
    ) -> Result<(), StoreError> {
        let newest = self.newest(project)?;
        let (mut json, mut bytes) = (Vec::new(), Vec::new());
        write_message_of(&mut json, "workflow_item", project, newest, said)
            .map_err(|error| StoreError(error.to_string()))?;
        sse::write_event(&mut bytes, None, None, &json);
        let frames = batch.frames(part, newest + 1);
        frames.items.push(ItemFrame { behind: frames.marks.len(), run, bytes });
        Ok(())
    }

    /// Sends a stream the state of the items of running steps, of one run or of its whole project. From now on updates
    /// about items go to the loop.
    pub(super) fn show_items(
        &mut self,
        project: ProjectId,
        run: Option<RunNumber>,
        after: u64,
        reply: ReplyTo,
        outcome: &mut Outcome,
    ) {
        if self.is_stale {
            return outcome.reply(&reply, Answer::Refused(Refusal::StoreUnavailable));
        }
        if let Some(entry) = self.projects.get_mut(&project) {
            entry.wants_items = true;
        }
        let (steps, omitted_steps) = self.steps_with_items(&project, run);
        let wanted = Box::new(InProgress { project, after, steps, omitted_steps });
        if self.has_readers {
            outcome.questions.push(Question { reply, asked: Asked::Items(wanted) });
            return;
        }
        let answer = wanted.page(&*self.store).map(Answer::Page);
        outcome.reply(&reply, answer.unwrap_or_else(|error| unreadable(&error)));
    }

    /// The steps whose items are shown, and the number of the others.
    fn steps_with_items(
        &self,
        project: &ProjectId,
        run: Option<RunNumber>,
    ) -> (Vec<(RunNumber, RunId, StepId)>, usize) {
        let is_shown = |step: &&Arc<StepState>| step.status == StepStatus::Running && step.items.is_some();
        let mut steps = self.runs_with_items(project, run).flat_map(|(number, state)| {
            state.steps.iter().filter(is_shown).map(move |step| (number, &state.run_id, &step.id))
        });
        let shown = steps.by_ref().take(STEPS_SHOWN_MAX);
        let shown = shown.map(|(number, run, step)| (number, run.clone(), step.clone())).collect();
        (shown, steps.count())
    }

    /// Open runs with a step that has had items; the steps of other runs are skipped.
    pub(super) fn runs_with_items(
        &self,
        project: &ProjectId,
        wanted: Option<RunNumber>,
    ) -> impl Iterator<Item = (RunNumber, &RunState)> {
        let open = self.projects.get(project).into_iter();
        let runs = open.flat_map(move |project| {
            let (first, last) = wanted.map_or((Unbounded, Unbounded), |run| (Included(run), Included(run)));
            project.open_runs.range((first, last))
        });
        let entries = runs.filter_map(|number| Some((*number, self.runs.get(number)?)));
        entries.filter(|(_, run)| run.has_items).map(|(number, run)| (number, &*run.state))
    }

    /// No stream of the project shows items any more.
    pub(super) fn ignore_items(&mut self, project: &ProjectId) {
        if let Some(entry) = self.projects.get_mut(project) {
            entry.wants_items = false;
        }
    }
}
