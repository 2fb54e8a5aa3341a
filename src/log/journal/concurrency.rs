//! Concurrency groups: which run waits, which is refused or cancelled, and which is next.
//!
//! A run of a full group is accepted like any other, and the executor holds it until it is released. The waiting runs
//! of a group start in the order in which they arrived; other runs of the project do not wait for them. Nothing of this
//! is stored: after a restart it follows from which runs of the group have started.
//!
//! No run waits for itself. A run waits for the children that its steps have started, and a held run waits for the
//! other runs of its group. A child that would wait, directly or indirectly, for one of its own ancestors is not held:
//! it runs in the slot of that ancestor. Waiting begins only with a child, because only a child is waited for from the
//! moment it exists, so no cycle can be closed. A run that is neither held nor started waits for a slot of the
//! executor, and slots are taken by runs that wait for children; so the executor starts the runs that a held child
//! waits for even if no slot is free.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::batch::Batch;
use super::load::Loaded;
use super::{Journal, RunEntry};
use crate::log::protocol::{Order, Refusal, Submission};
use crate::log::store::{OpenRun, RunNumber, RunSet, StoreError};
use crate::model::{Concurrency, OnConflict, Plan, ProjectId, RunId, RunStatus};

impl RunEntry {
    fn concurrency(&self) -> Option<&Arc<Concurrency>> {
        self.plan.as_ref()?.concurrency.as_ref()
    }

    fn is_queued(&self) -> bool {
        self.state.status == RunStatus::Queued
    }

    /// Does it wait for others of its group, as far as anyone can tell here? One of another node does until it has begun.
    fn waits(&self) -> bool {
        self.is_held || (self.is_foreign && self.is_queued())
    }
}

impl Journal {
    /// The runs of a group that have not ended, oldest first.
    fn group(&self, project: &ProjectId, group: &str) -> Vec<(RunNumber, &RunEntry)> {
        let open = self.projects.get(project).into_iter().flat_map(|entry| &entry.open_runs);
        let entries = open.filter_map(|number| Some((*number, self.runs.get(number)?)));
        entries.filter(|(_, run)| run.concurrency().is_some_and(|own| *own.group == *group)).collect()
    }

    /// Why a run can't be accepted into its group, if so.
    pub(super) fn conflict(&self, new: &Submission) -> Option<Refusal> {
        let concurrency = new.plan.concurrency.as_ref()?;
        if concurrency.on_conflict != OnConflict::Reject || self.is_let_in_by_a_parent(new.project(), &new.plan) {
            return None;
        }
        let members = self.group(new.project(), &concurrency.group);
        let is_full = members.len() >= concurrency.limit;
        let runs = members.into_iter().map(|(_, run)| run.state.run_id.clone());
        is_full.then(|| Refusal::ConcurrencyConflict { group: concurrency.group.clone(), runs: runs.collect() })
    }

    /// Is one of the runs above a child in the group of its plan? Then the child uses the slot of that run.
    fn is_let_in_by_a_parent(&self, project: &ProjectId, plan: &Plan) -> bool {
        let Some(group) = plan.concurrency.as_ref().map(|own| &own.group) else { return false };
        let is_in_group = |run: &RunNumber| self.group_of(*run) == Some(group);
        self.above(project, plan).iter().any(is_in_group)
    }

    /// Would a child wait for a run above it, and so for itself, if it was held?
    fn would_wait_for_itself(&self, project: &ProjectId, plan: &Plan) -> bool {
        let above = self.above(project, plan);
        let (Some(own), false) = (&plan.concurrency, above.is_empty()) else { return false };
        let (mut groups, mut runs) = (HashSet::new(), HashSet::new());
        let mut waited_for: Vec<RunNumber> = self.group(project, &own.group).into_iter().map(|(run, _)| run).collect();
        groups.insert(&*own.group);
        while let Some(number) = waited_for.pop() {
            if above.contains(&number) {
                return true;
            }
            let Some(run) = self.runs.get(&number).filter(|_| runs.insert(number)) else { continue };
            match self.group_of(number).filter(|_| run.is_held) {
                Some(group) if groups.insert(group) => {
                    waited_for.extend(self.group(project, group).into_iter().map(|(run, _)| run));
                }
                Some(_) => {}
                None => waited_for.extend(self.children_of(project, &run.state.run_id)),
            }
        }
        false
    }

    /// The runs above a child that go on, from its parent on.
    fn above(&self, project: &ProjectId, plan: &Plan) -> Vec<RunNumber> {
        let mut above = Vec::new();
        let mut parent = plan.parent.as_ref();
        while let Some(number) = parent.and_then(|parent| self.open_run(project, &parent.run_id)) {
            above.push(number);
            parent = self.runs.get(&number).and_then(|run| run.state.parent.as_ref());
        }
        above
    }

    fn children_of(&self, project: &ProjectId, run: &RunId) -> impl Iterator<Item = RunNumber> {
        self.projects.get(project).and_then(|entry| entry.children.get(run)).into_iter().flatten().copied()
    }

    fn group_of(&self, run: RunNumber) -> Option<&Arc<str>> {
        Some(&self.runs.get(&run)?.concurrency()?.group)
    }

    /// Cancels the runs that give way to a new run. Must the new run wait?
    pub(super) fn make_way(&mut self, new: &Submission, batch: &mut Batch) -> Result<bool, StoreError> {
        let Some(concurrency) = new.plan.concurrency.clone() else { return Ok(false) };
        if self.is_let_in_by_a_parent(new.project(), &new.plan) {
            return Ok(false);
        }
        let members = self.group(new.project(), &concurrency.group);
        let slots = Slots::taken_by(members.iter().copied());
        let must_wait = slots.has_waiting || slots.taken >= concurrency.limit;
        if concurrency.on_conflict == OnConflict::Cancel {
            let going_on = members.iter().filter(|(_, run)| !run.is_cancelled);
            let runs: Vec<_> = going_on.map(|(_, run)| run.state.run_id.clone()).collect();
            let too_many = (runs.len() + 1).saturating_sub(concurrency.limit);
            for run in runs.iter().take(too_many) {
                self.cancel(new.project(), run, batch)?;
            }
        }
        Ok(must_wait && !self.would_wait_for_itself(new.project(), &new.plan))
    }

    /// A run of the group has ended: releases waiting runs, as many as there is room for.
    pub(super) fn release_next(
        &mut self,
        project: &ProjectId,
        group: &str,
        batch: &mut Batch,
    ) -> Result<(), StoreError> {
        for number in self.to_release(project, group) {
            let part = self.part(project, batch)?;
            batch.hold(part, number, false);
            if let Some(run) = self.runs.get_mut(&number) {
                run.is_held = false;
                batch.order(part, Order::Release { project: project.clone(), run: run.state.run_id.clone() });
            }
        }
        Ok(())
    }

    /// The runs of a group that wait on this node and may begin, as many as there is room for.
    pub(super) fn to_release(&self, project: &ProjectId, group: &str) -> Vec<RunNumber> {
        let members = self.group(project, group);
        let mut let_in = Vec::new();
        Slots::share_out(members.into_iter(), |number, run| {
            if run.is_held {
                let_in.push(number);
            }
        });
        let_in
    }

    /// Releases a run that waited on this node, independent of the current batch.
    pub(super) fn release(&mut self, project: &ProjectId, number: RunNumber) -> Option<Order> {
        self.held.remove(&number);
        let run = self.runs.get_mut(&number)?;
        run.is_held = false;
        Some(Order::Release { project: project.clone(), run: run.state.run_id.clone() })
    }

    /// Releases runs that waited for runs of other nodes, which may have ended.
    pub(super) fn release_due(&mut self, loaded: &mut Loaded) {
        let held = loaded.open.iter().filter(|run| self.held.contains(&run.number));
        let group = |run: &OpenRun| Some((run.project.clone(), self.group_of(run.number)?.clone()));
        let groups: HashSet<_> = held.filter_map(group).collect();
        for (project, group) in groups {
            for number in self.to_release(&project, &group) {
                loaded.orders.extend(self.release(&project, number));
            }
        }
    }

    /// Decides which runs that are new on this node wait for others of their group: runs that had begun continue, and
    /// of the rest the oldest begin.
    pub(super) fn wait_in_groups(&mut self, open: &[OpenRun], new: &RunSet) {
        let mut groups: HashMap<(ProjectId, Arc<str>), Slots> = HashMap::new();
        let is_undecided =
            |number: RunNumber, run: &RunEntry| run.waits() || (new.contains(&number) && run.is_queued());
        for of in open {
            let Some(run) = self.runs.get(&of.number).filter(|run| !is_undecided(of.number, run)) else { continue };
            if let Some(own) = run.concurrency() {
                groups.entry((of.project.clone(), own.group.clone())).or_default().taken += 1;
            }
        }
        for of in open {
            let Some(run) = self.runs.get(&of.number).filter(|run| is_undecided(of.number, run)) else { continue };
            let Some(own) = run.concurrency().cloned() else { continue };
            let is_new = new.contains(&of.number);
            let is_let_in =
                run.plan.as_ref().is_some_and(|plan| is_new && self.would_wait_for_itself(&of.project, plan));
            let slots = groups.entry((of.project.clone(), own.group.clone())).or_default();
            if slots.let_in(&own, is_let_in) || !is_new {
                continue;
            }
            self.held.insert(of.number);
            if let Some(run) = self.runs.get_mut(&of.number) {
                run.is_held = true;
            }
        }
    }
}

/// The slots of a group. A run that has begun, or is about to begin here, holds one. The runs that wait, on all nodes, get
/// free slots strictly by age, so that nodes with the same knowledge decide the same.
#[derive(Default)]
struct Slots {
    taken: usize,
    has_waiting: bool,
}

impl Slots {
    /// Counts the slots of a group's runs, which come oldest first.
    fn taken_by<'a>(members: impl Iterator<Item = (RunNumber, &'a RunEntry)> + Clone) -> Self {
        Self::share_out(members, |_, _| {})
    }

    /// The same, with a call of `let_in` for each waiting run that gets a slot.
    fn share_out<'a>(
        members: impl Iterator<Item = (RunNumber, &'a RunEntry)> + Clone,
        mut let_in: impl FnMut(RunNumber, &RunEntry),
    ) -> Self {
        let mut slots = Self { taken: members.clone().filter(|(_, run)| !run.waits()).count(), has_waiting: false };
        for (number, run) in members.filter(|(_, run)| run.waits()) {
            if run.concurrency().is_some_and(|own| slots.let_in(own, false)) {
                let_in(number, run);
            }
        }
        slots
    }

    /// Takes a slot for a run: one that must not wait always gets one, any other if one is free and no older run waits.
    fn let_in(&mut self, own: &Concurrency, may_not_wait: bool) -> bool {
        let has_slot = may_not_wait || (self.taken < own.limit && !self.has_waiting);
        match has_slot {
            true => self.taken += 1,
            false => self.has_waiting = true,
        }
        has_slot
    }
}
