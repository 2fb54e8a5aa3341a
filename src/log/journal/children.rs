//! Runs that were started by steps of other runs: what a step is told about the end of its child. No child outlasts its
//! parent.

use std::collections::BTreeSet;

use serde_json::json;

use super::Journal;
use super::batch::Batch;
use super::reuse::Before;
use crate::log::protocol::{ChildEnd, ChildResult, Order, Submission};
use crate::log::store::{Flow, RunNumber, StoreError, Write};
use crate::log::views::read_event;
use crate::model::{Parent, ProjectId, RunEvent, RunEventKind, RunId, child_failure, child_output};

impl Journal {
    /// May a run begin as a child? Only while its parent is active on this node: a node that has taken the parent over
    /// starts a child of its own.
    pub(super) fn may_be_child(&self, new: &Submission) -> bool {
        new.plan.parent.as_ref().is_none_or(|parent| self.run_here(new.project(), &parent.run_id).is_some())
    }

    /// The runs of other nodes among these that runs of this node have begun.
    pub(super) fn children_elsewhere(&self, before: &Before) -> Vec<(ProjectId, RunNumber, RunId, Parent)> {
        let mut children = Vec::new();
        if !self.is_shared {
            return children;
        }
        for (project, entry) in &before.projects {
            for number in &entry.open_runs {
                let Some(run) = before.runs.get(number).filter(|run| run.is_foreign) else { continue };
                let parent = run.state.parent.iter();
                children.extend(parent.map(|it| (project.clone(), *number, run.state.run_id.clone(), it.clone())));
            }
        }
        children
    }

    /// The ends of those children, for their parents on this node, which have not heard of them.
    pub(super) fn ends_elsewhere(
        &self,
        children: Vec<(ProjectId, RunNumber, RunId, Parent)>,
    ) -> Result<Vec<Order>, StoreError> {
        let mut orders = Vec::new();
        for (project, number, child, parent) in children {
            if self.runs.contains_key(&number) && self.open_run(&project, &child).is_some()
                || self.run_here(&project, &parent.run_id).is_none()
            {
                continue;
            }
            let result = self.result_of(&project, number, &child)?;
            let end = ChildEnd { parent: parent.run_id, child, result };
            orders.push(Order::ChildEnded { project, end: Box::new(end) });
        }
        Ok(orders)
    }

    /// The result of a run that has ended.
    fn result_of(&self, project: &ProjectId, number: RunNumber, child: &RunId) -> Result<ChildResult, StoreError> {
        let last = self.ends(number)?.last;
        let mut found = None;
        if let Some(last) = last {
            self.store.messages(project, last - 1, Some(number), &mut |message| {
                found = (message.seq == last).then(|| read_event(message));
                Flow::Stop
            })?;
        }
        Ok(match found {
            Some(Ok(event)) => result(&event),
            _ => ChildResult { output: Err(child_failure(child, "its result cannot be read")), usage: None },
        })
    }

    /// A run is held that is a child.
    pub(super) fn note_child(&mut self, project: &ProjectId, number: RunNumber, parent: &Parent) {
        if let Some(entry) = self.projects.get_mut(project) {
            entry.children.entry(parent.run_id.clone()).or_default().insert(number);
        }
    }

    /// A run has ended: in the same commit, its parent gets the result and its children are cancelled.
    pub(super) fn end_family(
        &mut self,
        project: &ProjectId,
        event: &RunEvent,
        number: RunNumber,
        batch: &mut Batch,
    ) -> Result<(), StoreError> {
        let part = self.part(project, batch)?;
        let (end, children) = self.leave_family(project, event, number);
        if let Some(end) = end {
            batch.order(part, Order::ChildEnded { project: project.clone(), end: Box::new(end) });
        }
        for child in children {
            let Some(run) = self.runs.get_mut(&child).filter(|run| !run.state.status.is_ended()) else { continue };
            run.is_cancelled = true;
            batch.write(part, Write::CancelRequested(child));
            // The node that has it learns of it.
            if !run.is_foreign {
                let run = run.state.run_id.clone();
                batch.order(part, Order::Cancel { project: project.clone(), run });
            }
        }
        Ok(())
    }

    /// Removes an ended run from its family. Returns the result for its parent, if it has one, and its children.
    pub(super) fn leave_family(
        &mut self,
        project: &ProjectId,
        event: &RunEvent,
        number: RunNumber,
    ) -> (Option<ChildEnd>, BTreeSet<RunNumber>) {
        let parent = self.runs.get(&number).and_then(|run| run.state.parent.clone());
        let Some(entry) = self.projects.get_mut(project) else { return (None, BTreeSet::new()) };
        let children = entry.children.remove(&event.run_id).unwrap_or_default();
        let Some(parent) = parent else { return (None, children) };
        if let Some(siblings) = entry.children.get_mut(&parent.run_id) {
            siblings.remove(&number);
            if siblings.is_empty() {
                entry.children.remove(&parent.run_id);
            }
        }
        (Some(ChildEnd { parent: parent.run_id, child: event.run_id.clone(), result: result(event) }), children)
    }
}

/// The result that the step of the parent gets.
fn result(event: &RunEvent) -> ChildResult {
    let (output, usage) = match &event.kind {
        RunEventKind::Completed(completed) => {
            (Ok(child_output(&event.run_id, &json!(completed))), completed.usage.clone())
        }
        RunEventKind::Failed(failed) => (Err(child_failure(&event.run_id, &failed.error)), failed.usage.clone()),
        _ => (Err(child_failure(&event.run_id, "it has not ended")), None),
    };
    ChildResult { output, usage }
}
