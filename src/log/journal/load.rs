//! Loads the in-memory state of a journal from the store: at a start, after a failed commit, and for single projects
//! that another node has written to. Each row is read once, and what is already known is not read again.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::sync::Arc;

use super::heads::Touched;
use super::outputs::Fold;
use super::reuse::Before;
use super::unreadable::{Unreadable, stand_in};
use super::{Journal, Outcome, ProjectEntry, RunEntry};
use crate::log::protocol::{Delivery, Order};
use crate::log::store::{EndedRun, Flow, OpenRun, PlaceInRun, Recovered, RunNumber, RunSet, StoreError};
use crate::log::views::read_event;
use crate::model::{FIRST_REVISION, Now, Plan, ProjectId, RunState, is_noted};

impl Journal {
    /// Forgets the state in memory, all of it or that of these projects, and reads it again. What is watched, and which
    /// runs run here, is not in the store, and stays. Messages of watched projects that the loop was not sent are
    /// delivered, too: so the newest message of a project has to be the last one sent when this is called. The state of
    /// the runs in `changed` may not be that of the store; if the store is shared, the true state of other runs is
    /// kept, and new messages are folded into it.
    ///
    /// Where a store is shared, runs that it says are this node's are gone on with.
    pub(super) fn reload(
        &mut self,
        of: Option<&[ProjectId]>,
        changed: &RunSet,
        now: Now,
    ) -> Result<Loaded, StoreError> {
        let mut loaded = self.read_anew(of, changed, now)?;
        if self.is_shared && !self.is_fenced() {
            if let Err(error) = self.adopt(&mut loaded) {
                // What was read is true, and is not read again.
                (self.is_stale, self.untold) = (true, loaded.told());
                return Err(error);
            }
            self.release_due(&mut loaded);
        }
        Ok(loaded)
    }

    pub(super) fn read_anew(
        &mut self,
        of: Option<&[ProjectId]>,
        changed: &RunSet,
        now: Now,
    ) -> Result<Loaded, StoreError> {
        let mut recovered = match of {
            None => self.store.recover()?,
            Some(projects) => self.store.recover_projects(projects, &self.submitted(projects))?,
        };
        if self.is_shared {
            self.recover_watched(of, &mut recovered)?;
        }
        self.next_number = match of {
            None => recovered.next_run_number,
            // Numbers of the batch that is being made are taken, too.
            Some(_) => self.next_number.max(recovered.next_run_number),
        };
        self.key_bytes = recovered.key_bytes;
        self.clock.go_on_from(recovered.clock, now);
        let mut before = self.forget(of);
        let mut loaded = std::mem::take(&mut self.untold);
        let is_loaded = match of.is_some() && self.is_shared {
            true => self.changes_since(&before, &recovered).and_then(|changes| {
                before.changes = changes;
                self.load(recovered, &mut before, changed, &mut loaded, now)
            }),
            false => self.load(recovered, &mut before, changed, &mut loaded, now),
        };
        self.is_stale = is_loaded.is_err() || (self.is_stale && of.is_some());
        if let Err(error) = is_loaded {
            // It will be read again, so the state stays as it was. What was to be delivered stays, too.
            self.projects.extend(before.projects);
            self.runs.extend(before.runs);
            self.untold = loaded.told();
            return Err(error);
        }
        // All projects with news are read together.
        self.unfolded.clear();
        Ok(loaded)
    }

    /// Where a project is watched that holds nothing, what is left of it is asked for. That comes first: of what is written
    /// meanwhile, all is read or none.
    fn recover_watched(&mut self, of: Option<&[ProjectId]>, recovered: &mut Recovered) -> Result<(), StoreError> {
        let is_wanted = |project: &ProjectId| of.is_none_or(|of| of.contains(project));
        let held: HashSet<_> = recovered.projects.iter().map(|it| &it.project).collect();
        let watched = self.projects.iter().filter(|(project, entry)| entry.is_watched && is_wanted(project));
        let empty: Vec<_> = watched.map(|(project, _)| project).filter(|it| !held.contains(it)).cloned().collect();
        if empty.is_empty() {
            return Ok(());
        }
        let standings = self.store.standings(&empty)?;
        let again = self.store.recover_projects(&empty, &[])?;
        self.fresh.extend(standings.into_iter().map(|it| (it.project, (it.newest, it.revision))));
        recovered.projects.extend(again.projects);
        recovered.open_runs.extend(again.open_runs);
        recovered.ended_runs.extend(again.ended_runs);
        Ok(())
    }

    /// The runs of these projects whose plans are known as they were submitted.
    fn submitted(&self, projects: &[ProjectId]) -> Vec<RunNumber> {
        let open = projects.iter().filter_map(|project| self.projects.get(project)).flat_map(|it| &it.open_runs);
        let is_submitted = |number: &RunNumber| {
            let known = self.runs.get(number).filter(|known| self.is_kept(*number, known));
            known.and_then(|known| known.plan.as_ref()).is_some_and(|plan| plan.revision == FIRST_REVISION)
        };
        open.copied().filter(is_submitted).collect()
    }

    /// Is the state of a run that of the store, not that of a batch that was not committed?
    fn is_kept(&self, number: RunNumber, known: &RunEntry) -> bool {
        known.is_foreign || self.ours.contains(&number)
    }

    fn forget(&mut self, of: Option<&[ProjectId]>) -> Before {
        let Some(projects) = of else {
            self.recent.clear();
            self.open_runs = 0;
            self.waits.clear();
            self.touched = Touched::all();
            let (projects, runs) = (std::mem::take(&mut self.projects), std::mem::take(&mut self.runs));
            return Before { projects, runs, ..Before::default() };
        };
        let mut before = Before::default();
        for project in projects {
            self.touched.project(project);
            let Some(entry) = self.projects.remove(project) else { continue };
            self.open_runs -= entry.open_runs.len();
            entry.open_runs.iter().for_each(|number| self.touched.run(project, *number));
            let runs = entry.open_runs.iter().chain(&entry.newest_ended);
            before.runs.extend(runs.filter_map(|number| self.runs.remove_entry(number)));
            before.projects.insert(project.clone(), entry);
        }
        self.recent.retain(|_, project| !before.projects.contains_key(project));
        self.waits.retain(|number, _| !before.runs.contains_key(number));
        before
    }

    fn load(
        &mut self,
        mut recovered: Recovered,
        before: &mut Before,
        changed: &RunSet,
        loaded: &mut Loaded,
        now: Now,
    ) -> Result<(), StoreError> {
        let children = self.children_elsewhere(before);
        self.load_projects(&recovered);
        let mut missed_by_all = Vec::new();
        for (project, entry) in before.projects.iter().filter(|(_, entry)| entry.is_watched) {
            let anew = self.entry(project)?;
            (anew.is_watched, anew.wants_items) = (true, entry.wants_items);
            let missed = match before.changes.get(project) {
                Some(changes) if changes.is_empty() => None,
                Some(changes) => Some(self.frames_of(project, entry.newest + 1, changes)),
                None => self.frames_after(project, entry.newest)?,
            };
            missed_by_all.extend(missed.map(|frames| Delivery::Frames { project: project.clone(), frames }));
        }
        self.show_ended_again(&mut recovered, before, now)?;
        self.load_ended_runs(&recovered, now)?;
        self.load_open_runs(recovered.open_runs, before, changed, loaded)?;
        let ends = self.ends_elsewhere(children)?;
        loaded.orders.extend(ends);
        loaded.missed.extend(missed_by_all);
        Ok(())
    }

    fn load_projects(&mut self, recovered: &Recovered) {
        for project in &recovered.projects {
            let (newest, last_activity) = (project.newest, project.last_activity);
            let revision = project.revision;
            let entry = ProjectEntry { is_kept: true, newest, revision, last_activity, ..ProjectEntry::default() };
            self.projects.insert(project.project.clone(), entry);
        }
    }

    /// Loads the run of each project that ended last and just now: it is shown to new streams.
    fn load_ended_runs(&mut self, recovered: &Recovered, now: Now) -> Result<(), StoreError> {
        let recent_ms = self.limits.recent_ms;
        // The clock stood still while no process ran, so by the other one it may be longer ago.
        let is_recent = |run: &&EndedRun| recovered.clock.millis_since(run.ended_at) <= recent_ms;
        let is_still_recent = |ended_at| now.wall.millis_since(ended_at) <= recent_ms;
        let mut recent: Vec<_> = recovered.ended_runs.iter().filter(is_recent).collect();
        // Not by when they ended: the clock may have been set in between.
        recent.sort_by_key(|run| Reverse(run.ends.last));
        let mut shown = HashSet::new();
        for run in recent {
            if shown.contains(&run.project) {
                continue;
            }
            let Some(state) = self.store.ended_state(run.number)? else { continue };
            let state = RunState::from_json(&state).map_err(|error| unreadable(run.number, &error))?;
            let Some(finished_at) = state.finished_at.filter(|at| is_still_recent(*at)) else { continue };
            let (first_seq, last_seq) = (run.ends.first, run.ends.last.unwrap_or_default());
            self.runs.insert(run.number, RunEntry::ended(state, first_seq, last_seq));
            self.show_ended(run.number, &run.project, finished_at)?;
            shown.insert(&run.project);
        }
        Ok(())
    }

    fn load_open_runs(
        &mut self,
        open: Vec<OpenRun>,
        before: &mut Before,
        changed: &RunSet,
        loaded: &mut Loaded,
    ) -> Result<(), StoreError> {
        for run in open {
            let is_whole = !self.unfolded.contains(&run.number);
            if is_whole && let Some(entry) = before.take_true(&run, changed) {
                let was_told = entry.is_cancelled && !entry.is_foreign;
                let no_fold = self.fold_on(&run, entry, before)?;
                self.mark(&run, was_told, loaded);
                match no_fold {
                    None => loaded.open.push(run),
                    Some(why) => loaded.unreadable.push((run, why)),
                }
                continue;
            }
            // A run that was changed is read again: its state in memory may be newer or older than the stored one.
            let known = before.runs.get(&run.number).filter(|known| self.is_kept(run.number, known));
            let plan = self.plan_of(&run, known)?;
            let (plan, no_plan) = match plan {
                Ok(plan) => (plan, None),
                Err(why) => (Arc::new(stand_in(&run)), Some(why)),
            };
            let was_told = known.is_some_and(|known| known.is_cancelled && !known.is_foreign);
            let no_fold = self.fold(&run, plan)?;
            self.mark(&run, was_told, loaded);
            let why = no_plan.or(no_fold);
            if let Some(entry) = self.runs.get_mut(&run.number) {
                entry.is_broken = why.is_some();
            }
            match why {
                None => loaded.open.push(run),
                Some(why) => loaded.unreadable.push((run, why)),
            }
        }
        Ok(())
    }

    /// The plan of a run, or why it can't be read. That is known where it was and is as it was submitted.
    fn plan_of(&self, run: &OpenRun, known: Option<&RunEntry>) -> Result<Result<Arc<Plan>, String>, StoreError> {
        let plan = known.and_then(|known| known.plan.clone()).filter(|plan| plan.revision == FIRST_REVISION);
        let read = |document: &[u8]| (self.read_plan)(document).map(Arc::new);
        Ok(match (plan, &run.document) {
            (Some(plan), None) => Ok(plan),
            (Some(plan), Some(document)) if !is_noted(document) => Ok(plan),
            (_, Some(document)) => read(document),
            (None, None) => {
                let document = self.store.document(run.number)?;
                document.map_or_else(|| Err("its plan is missing".to_owned()), |document| read(&document))
            }
        })
    }

    /// Notes which node has a run. If it runs here and another node has cancelled it, the executor is told.
    fn mark(&mut self, run: &OpenRun, was_told: bool, loaded: &mut Loaded) {
        let Some(entry) = self.runs.get_mut(&run.number) else { return };
        entry.is_foreign = !self.ours.contains(&run.number);
        entry.is_held = self.held.contains(&run.number);
        entry.is_cancelled = run.cancelled;
        if entry.is_cancelled && !entry.is_foreign && !was_told {
            loaded.orders.push(Order::Cancel { project: run.project.clone(), run: run.run.clone() });
        }
    }

    /// A run is as its messages left it; or as far as they can be read, and why no further.
    fn fold(&mut self, run: &OpenRun, plan: Arc<Plan>) -> Result<Option<String>, StoreError> {
        let mut state = RunState::new(run.run.clone(), &plan, run.created_at);
        let newest = self.newest(&run.project)?;
        let (mut first_seq, mut last_seq, mut problem, mut outputs_bytes) = (None, None, None, 0);
        let outputs_bytes_max = self.limits.state_outputs_bytes;
        self.store.messages(&run.project, 0, Some(run.number), &mut |message| {
            if message.seq > newest {
                // Another has written it since its project was read.
                return Flow::Stop;
            }
            first_seq.get_or_insert(message.seq);
            last_seq = Some(message.seq);
            // The others change no state.
            if message.place != PlaceInRun::Middle && problem.is_none() {
                match read_event(message) {
                    Ok(event) => {
                        // Outputs that are left out are stored separately.
                        let mut fold = Fold { state: &mut state, outputs_bytes: &mut outputs_bytes };
                        fold.apply(&event, outputs_bytes_max);
                    }
                    Err(error) => problem = Some(format!("cannot read message {}: {error}", message.seq)),
                }
            }
            Flow::More
        })?;
        let entry = self.hold(run.number, &run.project, plan, state)?;
        entry.outputs_bytes = outputs_bytes;
        entry.first_seq = first_seq;
        entry.last_seq = last_seq.unwrap_or(entry.last_seq);
        self.count_waits(run.number);
        Ok(problem)
    }
}

/// The runs that have not ended, and what there is to tell that others have written.
#[derive(Default)]
pub(super) struct Loaded {
    /// Runs that can continue.
    pub(super) open: Vec<OpenRun>,
    /// Runs that can't, and why.
    pub(super) unreadable: Vec<Unreadable>,
    /// The messages that streams lack.
    missed: Vec<Delivery>,
    /// Ends that others have asked for, and runs that are gone on with.
    pub(super) orders: Vec<Order>,
}

impl Loaded {
    /// The part that is to be delivered.
    fn told(self) -> Self {
        Self { missed: self.missed, orders: self.orders, ..Self::default() }
    }

    /// Tells what others have written.
    pub(super) fn let_out(self, outcome: &mut Outcome) {
        outcome.deliveries.extend(self.missed);
        outcome.orders.extend(self.orders);
    }
}

pub(super) fn unreadable(run: RunNumber, error: &serde_json::Error) -> StoreError {
    StoreError(format!("cannot read the stored state of run {}: {error}", run.0))
}
