//! From what a store holds to what a journal has in memory: at a start, after a commit that failed, and of single projects
//! where another has written to them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::age::AgeClock;
use super::batch::Batch;
use super::growth::Growth;
use super::heads::Touched;
use super::numbers::Numbers;
use super::outputs::Fold;
use super::reuse::Before;
use super::steering::Steerings;
use super::wishes::Wishes;
use super::{CommitError, Journal, Limits, Outcome, ProjectEntry, RunEntry};
use crate::auth::IdSigner;
use crate::log::lookup::heads::Heads;
use crate::log::lookup::{self, Lookup};
use crate::log::protocol::{Command, Delivery, Order, Resumed, Webhooks};
use crate::log::store::{EndedRun, Flow, OpenRun, Place, Recovered, RunMap, RunNumber, RunSet, Store, StoreError};
use crate::log::views::read_event;
use crate::model::{
    Budget, FIRST_REVISION, ItemState, Now, OnFailure, Plan, ProjectId, Record, RunState, Scheduling, StepId,
    StepState, is_noted,
};

/// Makes a plan again of the document that was kept of it, or says why it can't.
pub type ReadPlan = Box<dyn Fn(&[u8]) -> Result<Plan, String> + Send>;

impl Journal {
    /// A journal over what `store` holds. `read_plan` makes a plan again of a [`Submission`](crate::log::Submission)'s
    /// document. What comes out besides are the runs to go on with, and what there is to tell about those that can't be
    /// gone on with: each of them has its last message now.
    ///
    /// # Errors
    /// Where the store can't be read or written.
    pub fn open(
        store: Box<dyn Store>,
        signer: IdSigner,
        limits: Limits,
        read_plan: ReadPlan,
        now: Now,
    ) -> Result<(Self, Outcome), StoreError> {
        Self::open_telling(Webhooks::default(), store, signer, limits, read_plan, now)
    }

    /// The same, where webhooks are told of what happens. What waited for others is given up.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_telling(
        webhooks: Webhooks,
        store: Box<dyn Store>,
        signer: IdSigner,
        limits: Limits,
        read_plan: ReadPlan,
        now: Now,
    ) -> Result<(Self, Outcome), StoreError> {
        let is_shared = store.is_shared();
        let mut journal = Self {
            next_number: std::num::NonZeroU64::MIN,
            numbers: Numbers::new(),
            is_shared,
            fence: None,
            fences: 0,
            fresh: HashMap::new(),
            standings: Arc::default(),
            look_around_at: now.mono,
            looked_at: None,
            spent: Vec::new(),
            untold: Loaded::default(),
            unreadable: Vec::new(),
            store,
            signer,
            limits,
            projects: HashMap::new(),
            runs: RunMap::default(),
            recent: BTreeMap::new(),
            ours: RunSet::default(),
            held: RunSet::default(),
            open_runs: 0,
            key_bytes: 0,
            clock: AgeClock::new(now),
            id_text: Vec::new(),
            json_text: Vec::new(),
            lookup: Lookup::default(),
            has_readers: false,
            read_plan,
            outage: None,
            is_stale: true,
            heads: Arc::new(Heads::default()),
            touched: Touched::default(),
            trim_at: Duration::ZERO,
            growth: Growth::default(),
            steerings: Steerings::default(),
            wishes: Wishes::default(),
            waits: RunMap::default(),
            webhooks,
            webhooks_dropped: 0,
        };
        journal.let_former_webhooks_go(now)?;
        let mut loaded = journal.read_anew(None, &RunSet::default(), now)?;
        journal.adopt(&mut loaded)?;
        let mut outcome = Outcome::default();
        outcome.orders.append(&mut loaded.orders);
        let unreadable = std::mem::take(&mut journal.unreadable);
        journal.end_unreadable(unreadable, now, &mut outcome)?;
        journal.publish_heads();
        Ok((journal, outcome))
    }

    /// A journal over an empty store in memory, for tests in which no plan is read again.
    #[cfg(test)]
    pub fn over_nothing(signer: IdSigner, limits: Limits, now: Now) -> Self {
        let no_plan = Box::new(|_: &[u8]| Err("no plan is kept here".to_owned()));
        let opened = Self::open(Box::new(crate::log::MemoryStore::new()), signer, limits, no_plan, now);
        opened.expect("memory does not fail").0
    }

    /// Forgets what is in memory, of everything or of these projects alone, and reads it anew. Who watches what and who
    /// runs what is not the store's to know, and stays. What was written to a project that is watched since the loop was
    /// sent its newest message comes out, too: that is where the project has to be when this is called. What is in memory of
    /// these runs may not be kept; where a store is shared, what is true of others is folded on from where it is.
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
                // What it says is true all the same, and nobody says it again.
                (self.is_stale, self.untold) = (true, loaded.told());
                return Err(error);
            }
            self.release_due(&mut loaded);
        }
        Ok(loaded)
    }

    fn read_anew(&mut self, of: Option<&[ProjectId]>, changed: &RunSet, now: Now) -> Result<Loaded, StoreError> {
        let mut recovered = match of {
            None => self.store.recover()?,
            Some(projects) => self.store.recover_projects(projects)?,
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
            true => self.behind(&before, &recovered).and_then(|behind| {
                before.behind = behind;
                self.load(recovered, &mut before, changed, &mut loaded, now)
            }),
            false => self.load(recovered, &mut before, changed, &mut loaded, now),
        };
        self.is_stale = is_loaded.is_err() || (self.is_stale && of.is_some());
        if let Err(error) = is_loaded {
            // To be read anew once more, and by then the same is to stay. What was to be told then still is.
            self.projects.extend(before.projects);
            self.runs.extend(before.runs);
            self.untold = loaded.told();
            return Err(error);
        }
        Ok(loaded)
    }

    /// Goes on with the runs that the store says are this node's and that nobody runs here: an earlier process of it has left
    /// them, or they were taken over. Those that can't go on are to have their last messages.
    fn adopt(&mut self, loaded: &mut Loaded) -> Result<(), StoreError> {
        let is_left = |run: &OpenRun| !run.is_foreign && !self.ours.contains(&run.number);
        let unreadable: Vec<_> = loaded.unreadable.extract_if(.., |(run, _)| is_left(run)).collect();
        let left: Vec<_> = loaded.open.iter().filter(|run| is_left(run)).cloned().collect();
        let runs = left.iter().chain(unreadable.iter().map(|(run, _)| run));
        let numbers: RunSet = runs.map(|run| run.number).collect();
        if numbers.is_empty() {
            return Ok(());
        }
        for number in &numbers {
            if let Some(entry) = self.runs.get_mut(number) {
                entry.is_foreign = false;
            }
        }
        self.wait_in_groups(&loaded.open, &numbers);
        let orders: Result<Vec<_>, _> = left.into_iter().filter_map(|run| self.resume(run).transpose()).collect();
        let orders = orders.inspect_err(|_| self.held.retain(|number| !numbers.contains(number)))?;
        loaded.orders.extend(orders);
        self.unreadable.extend(unreadable);
        self.ours.extend(numbers);
        Ok(())
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
        let again = self.store.recover_projects(&empty)?;
        self.fresh.extend(standings.into_iter().map(|it| (it.project, (it.newest, it.revision))));
        recovered.projects.extend(again.projects);
        recovered.open_runs.extend(again.open_runs);
        recovered.ended_runs.extend(again.ended_runs);
        Ok(())
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
            let missed = match before.behind.get(project) {
                Some(behind) if behind.is_empty() => None,
                Some(behind) => Some(self.frames_of(project, entry.newest + 1, behind)),
                None => self.frames_behind(project, entry.newest)?,
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

    /// The newest run of each project that ended a moment ago is shown to whoever comes.
    fn load_ended_runs(&mut self, recovered: &Recovered, now: Now) -> Result<(), StoreError> {
        let recent_ms = self.limits.recent_ms;
        // The clock stood still while no process ran, so by the other one it may be longer ago.
        let is_recent = |run: &&EndedRun| recovered.clock.millis_since(run.ended_at) <= recent_ms;
        let is_still_recent = |ended_at| now.wall.millis_since(ended_at) <= recent_ms;
        let recent: Vec<_> = recovered.ended_runs.iter().filter(is_recent).collect();
        let mut shown = Vec::with_capacity(recent.len());
        for run in recent {
            let Some(state) = self.store.ended_state(run.number)? else { continue };
            let state = RunState::from_json(&state).map_err(|error| unreadable(run.number, &error))?;
            let Some(finished_at) = state.finished_at.filter(|at| is_still_recent(*at)) else { continue };
            let ends = self.ends(run.number)?;
            let (first_seq, last_seq) = (ends.first, ends.last.unwrap_or_default());
            shown.push((run, finished_at, RunEntry::ended(state, first_seq, last_seq)));
        }
        // Not by when they ended: the clock may have been set in between.
        shown.sort_by_key(|(.., entry)| entry.last_seq);
        for (run, finished_at, entry) in shown {
            self.runs.insert(run.number, entry);
            self.show_ended(run.number, &run.project, finished_at)?;
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
            if let Some(entry) = before.take_true(&run, changed) {
                let was_told = entry.is_cancelled && !entry.is_foreign;
                let no_fold = self.fold_on(&run, entry, before)?;
                self.mark(&run, was_told, loaded);
                match no_fold {
                    None => loaded.open.push(run),
                    Some(why) => loaded.unreadable.push((run, why)),
                }
                continue;
            }
            // One that was changed is read anew: what is in memory may be ahead of what is kept, or behind it.
            let is_as_submitted = !is_noted(&run.row.document);
            let is_kept = |known: &&RunEntry| known.is_foreign || self.ours.contains(&run.number);
            let known = before.runs.get(&run.number).filter(is_kept);
            let plan = known.and_then(|known| known.plan.clone());
            let plan = match plan.filter(|plan| plan.revision == FIRST_REVISION && is_as_submitted) {
                Some(plan) => Ok(plan),
                None => (self.read_plan)(&run.row.document).map(Arc::new),
            };
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

    /// Whose a run is. Where it is run here and another has asked for its end, whoever runs it hears of it.
    fn mark(&mut self, run: &OpenRun, was_told: bool, loaded: &mut Loaded) {
        let Some(entry) = self.runs.get_mut(&run.number) else { return };
        entry.is_foreign = !self.ours.contains(&run.number);
        entry.is_held = self.held.contains(&run.number);
        entry.is_cancelled = run.cancelled;
        if entry.is_cancelled && !entry.is_foreign && !was_told {
            loaded.orders.push(Order::Cancel { project: run.project.clone(), run: run.row.run.clone() });
        }
    }

    /// A run is as its messages left it; or as far as they can be read, and why no further.
    fn fold(&mut self, run: &OpenRun, plan: Arc<Plan>) -> Result<Option<String>, StoreError> {
        let mut state = RunState::new(run.row.run.clone(), &plan, run.row.created_at);
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
            if message.place != Place::Middle && problem.is_none() {
                match read_event(message) {
                    Ok(event) => {
                        // What is left out is kept by itself since it was said.
                        let mut fold = Fold { state: &mut state, outputs_bytes: &mut outputs_bytes };
                        fold.apply(&event, outputs_bytes_max);
                    }
                    Err(error) => problem = Some(format!("message {} can't be read: {error}", message.seq)),
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

    /// The order to go on with a run.
    fn resume(&self, run: OpenRun) -> Result<Option<Order>, StoreError> {
        let Some(entry) = self.runs.get(&run.number) else { return Ok(None) };
        let Some(plan) = entry.plan.clone() else { return Ok(None) };
        let state = RunState::clone(&entry.state);
        let mut whole_outputs = HashMap::new();
        let truncated = state.steps.iter().filter(|step| step.truncated).map(|step| &step.id);
        // Those of steps whose turn has not come are kept, too.
        let to_come = plan.kept_wholes().filter(|step| state.step(step).is_some_and(|step| !step.truncated));
        for step in truncated.chain(to_come) {
            if let Some(output) = self.whole_output(run.number, step)? {
                whole_outputs.insert(step.clone(), output);
            }
        }
        let items = self.items_to_resume(&run, &state, &mut whole_outputs)?;
        let (project, cancelled, is_held) = (run.project, run.cancelled, entry.is_held);
        let resumed = Resumed { project, plan, state, whole_outputs, items, cancelled, is_held };
        Ok(Some(Order::Resume(Box::new(resumed))))
    }

    /// What is kept of the items of steps that go on; their whole outputs with the others.
    fn items_to_resume(
        &self,
        run: &OpenRun,
        state: &RunState,
        whole_outputs: &mut HashMap<StepId, Arc<serde_json::Value>>,
    ) -> Result<HashMap<StepId, Vec<ItemState>>, StoreError> {
        let mut items = HashMap::new();
        let goes_on = |step: &&Arc<StepState>| step.items.is_some() && !step.status.is_ended();
        for step in state.steps.iter().filter(goes_on) {
            let kept = lookup::items::read(&*self.store, run.number, &step.id)?;
            for item in kept.iter().filter(|item| item.truncated) {
                let id = item.id(&step.id);
                if let Some(output) = self.whole_output(run.number, &id)? {
                    whole_outputs.insert(id, output);
                }
            }
            items.insert(step.id.clone(), kept);
        }
        Ok(items)
    }

    pub(super) fn whole_output(
        &self,
        run: RunNumber,
        step: &StepId,
    ) -> Result<Option<Arc<serde_json::Value>>, StoreError> {
        let whole = self.store.whole_output(run, step)?;
        whole
            .map(|json| serde_json::from_slice(&json).map(Arc::new).map_err(|error| unreadable(run, &error)))
            .transpose()
    }

    fn last_words_of(&self, (run, why): &Unreadable, now: Now) -> Vec<Record> {
        log::error!("run {} can't go on: {why}", run.row.run);
        let why = format!("the run can't go on after the restart: {why}");
        self.last_words(&run.project, &run.row.run, why, now)
    }

    /// The same, of runs that were taken over. What the log says itself is nothing that whoever runs the runs has handed over:
    /// where the store is down it is not held back, but said anew.
    pub(super) fn end_taken_over(&mut self, now: Now, outcome: &mut Outcome) {
        if self.unreadable.is_empty() || self.is_down() {
            return;
        }
        let mut runs = std::mem::take(&mut self.unreadable).into_iter();
        while let Some(run) = runs.next() {
            let words = self.last_words_of(&run, now);
            if !words.is_empty() && self.is_put_off(words, now, outcome) {
                let left = if self.is_fenced() { Vec::new() } else { std::iter::once(run).chain(runs).collect() };
                self.unreadable.extend(left);
                return;
            }
        }
    }

    /// Runs whose plan this program does not understand get their last message, for nobody else can give it to them.
    fn end_unreadable(&mut self, runs: Vec<Unreadable>, now: Now, outcome: &mut Outcome) -> Result<(), StoreError> {
        let records: Vec<_> = runs.iter().flat_map(|run| self.last_words_of(run, now)).collect();
        if records.is_empty() {
            return Ok(());
        }
        let mut batch = Batch::default();
        match self.commit(&[Command::Records(records.clone())], &mut batch, now, outcome) {
            Ok(()) => {
                // The executor has handed nothing over so far.
                batch.kept = 0;
                batch.release(outcome);
            }
            Err(CommitError::Down(error)) => return Err(error),
            Err(CommitError::Fenced) => return Err(StoreError("this node is thought to be gone".to_owned())),
            Err(CommitError::Refused(objection)) => {
                if self.is_as_before(objection.why(), &batch, now, outcome) {
                    self.keep_records(&records, now, outcome);
                }
                if self.is_down() {
                    return Err(objection.why().clone());
                }
            }
        }
        Ok(())
    }
}

/// A run that can't go on, and why.
pub(super) type Unreadable = (OpenRun, String);

/// The runs that have not ended, and what there is to tell that others have written.
#[derive(Default)]
pub(super) struct Loaded {
    /// Those that can go on.
    pub(super) open: Vec<OpenRun>,
    /// Those that can't, and why.
    unreadable: Vec<Unreadable>,
    /// What those lack who watch.
    missed: Vec<Delivery>,
    /// Ends that others have asked for, and runs that are gone on with.
    pub(super) orders: Vec<Order>,
}

impl Loaded {
    /// What of it is to be told.
    fn told(self) -> Self {
        Self { missed: self.missed, orders: self.orders, ..Self::default() }
    }

    /// Tells what others have written.
    pub(super) fn let_out(self, outcome: &mut Outcome) {
        outcome.deliveries.extend(self.missed);
        outcome.orders.extend(self.orders);
    }
}

/// What stands in for a plan that can't be read.
fn stand_in(run: &OpenRun) -> Plan {
    Plan {
        parent: None,
        name: run.row.run.as_str().into(),
        description: Arc::default(),
        steps: Vec::new(),
        levels: Vec::new(),
        inputs: serde_json::Map::new(),
        estimated_duration: 0,
        timeout: None,
        on_failure: OnFailure::Stop,
        scheduling: Scheduling::Levels,
        handler_timeout: crate::model::HANDLERS_TIMEOUT,
        budget: Budget::default(),
        revision: FIRST_REVISION,
        source: None,
        queue_timeout: None,
        concurrency: None,
        parameters: None,
        retry_of: None,
    }
}

fn unreadable(run: RunNumber, error: &serde_json::Error) -> StoreError {
    StoreError(format!("what was kept of run {} can't be read: {error}", run.0))
}
