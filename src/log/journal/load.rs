//! From what a store holds to what a journal has in memory: at a start, after a commit that failed, and of single projects
//! where another has written to them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::age::AgeClock;
use super::batch::Batch;
use super::growth::Growth;
use super::heads::Touched;
use super::outputs::Fold;
use super::{CommitError, Journal, Limits, Outcome, ProjectEntry, RunEntry};
use crate::auth::IdSigner;
use crate::log::lookup::Lookup;
use crate::log::lookup::heads::Heads;
use crate::log::protocol::{Command, Delivery, Order, Resumed, Webhooks};
use crate::log::store::{EndedRun, Flow, OpenRun, Place, Recovered, RunMap, RunNumber, RunSet, Store, StoreError};
use crate::log::views::read_event;
use crate::model::{Now, OnFailure, Plan, ProjectId, RunState, StepId};

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
        let mut journal = Self {
            next_number: std::num::NonZeroU64::MIN,
            store,
            signer,
            limits,
            projects: HashMap::new(),
            runs: RunMap::default(),
            recent: BTreeMap::new(),
            ours: RunSet::default(),
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
            webhooks,
            webhooks_dropped: 0,
        };
        journal.let_former_webhooks_go(now)?;
        let loaded = journal.reload(None, now)?;
        journal.take_over(&loaded);
        let mut outcome = Outcome::default();
        for run in loaded.open.into_iter().filter(|run| !run.is_foreign) {
            let order = journal.resume(run)?;
            outcome.orders.extend(order);
        }
        let unreadable = loaded.unreadable.into_iter().filter(|(run, _)| !run.is_foreign).collect();
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
    /// sent its newest message comes out, too: that is where the project has to be when this is called.
    pub(super) fn reload(&mut self, of: Option<&[ProjectId]>, now: Now) -> Result<Loaded, StoreError> {
        let recovered = match of {
            None => self.store.recover()?,
            Some(projects) => self.store.recover_projects(projects)?,
        };
        self.next_number = match of {
            None => recovered.next_run_number,
            // Numbers of the batch that is being made are taken, too.
            Some(_) => self.next_number.max(recovered.next_run_number),
        };
        self.key_bytes = recovered.key_bytes;
        self.clock.go_on_from(recovered.clock, now);
        let before = self.forget(of);
        let loaded = self.load(recovered, &before, now);
        self.is_stale = loaded.is_err() || (self.is_stale && of.is_some());
        if loaded.is_err() {
            // To be read anew once more, and by then the same is to stay.
            self.projects.extend(before.projects);
            self.runs.extend(before.runs);
        }
        loaded
    }

    /// Goes on with the runs that an earlier process of this node has left.
    fn take_over(&mut self, loaded: &Loaded) {
        let runs = loaded.open.iter().chain(loaded.unreadable.iter().map(|(run, _)| run));
        for run in runs.filter(|run| !run.is_foreign) {
            self.ours.insert(run.number);
            if let Some(entry) = self.runs.get_mut(&run.number) {
                (entry.is_foreign, entry.is_cancelled) = (false, run.cancelled);
            }
        }
    }

    fn forget(&mut self, of: Option<&[ProjectId]>) -> Before {
        let Some(projects) = of else {
            self.recent.clear();
            self.open_runs = 0;
            return Before { projects: std::mem::take(&mut self.projects), runs: std::mem::take(&mut self.runs) };
        };
        let mut before = Before::default();
        for project in projects {
            let Some(entry) = self.projects.remove(project) else { continue };
            self.open_runs -= entry.open_runs.len();
            let runs = entry.open_runs.iter().chain(&entry.newest_ended);
            before.runs.extend(runs.filter_map(|number| self.runs.remove_entry(number)));
            before.projects.insert(project.clone(), entry);
        }
        self.recent.retain(|_, project| !before.projects.contains_key(project));
        before
    }

    fn load(&mut self, recovered: Recovered, before: &Before, now: Now) -> Result<Loaded, StoreError> {
        self.load_projects(&recovered);
        let mut loaded = Loaded::default();
        for (project, entry) in before.projects.iter().filter(|(_, entry)| entry.is_watched) {
            self.entry(project)?.is_watched = true;
            let missed = self.frames_behind(project, entry.newest)?;
            loaded.missed.extend(missed.map(|frames| Delivery::Frames { project: project.clone(), frames }));
        }
        self.load_ended_runs(&recovered, now)?;
        self.load_open_runs(recovered.open_runs, before, &mut loaded)?;
        self.touched = Touched::all();
        Ok(loaded)
    }

    fn load_projects(&mut self, recovered: &Recovered) {
        for project in &recovered.projects {
            let (newest, last_activity) = (project.newest, project.last_activity);
            let entry = ProjectEntry { is_kept: true, newest, last_activity, ..ProjectEntry::default() };
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

    fn load_open_runs(&mut self, open: Vec<OpenRun>, before: &Before, loaded: &mut Loaded) -> Result<(), StoreError> {
        for run in open {
            let is_kept = |known: &&RunEntry| known.is_foreign || self.ours.contains(&run.number);
            let known = before.runs.get(&run.number).filter(is_kept);
            let plan = match known.and_then(|known| known.plan.clone()) {
                Some(plan) => Ok(plan),
                None => (self.read_plan)(&run.row.document).map(Arc::new),
            };
            let (plan, no_plan) = match plan {
                Ok(plan) => (plan, None),
                Err(why) => (Arc::new(stand_in(&run)), Some(why)),
            };
            let no_fold = self.fold(&run, plan)?;
            self.mark(&run, known.is_some_and(|known| known.is_cancelled), loaded);
            match no_plan.or(no_fold) {
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
        entry.is_cancelled = run.cancelled && !entry.is_foreign;
        if entry.is_cancelled && !was_told {
            loaded.cancels.push(Order::Cancel { project: run.project.clone(), run: run.row.run.clone() });
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
        Ok(problem)
    }

    /// The order to go on with a run.
    fn resume(&self, run: OpenRun) -> Result<Option<Order>, StoreError> {
        let Some(entry) = self.runs.get(&run.number) else { return Ok(None) };
        let Some(plan) = entry.plan.clone() else { return Ok(None) };
        let state = RunState::clone(&entry.state);
        let mut whole_outputs = HashMap::new();
        for step in state.steps.iter().filter(|step| step.truncated) {
            if let Some(output) = self.whole_output(run.number, &step.id)? {
                whole_outputs.insert(step.id.clone(), output);
            }
        }
        let resumed = Resumed { project: run.project, plan, state, whole_outputs, cancelled: run.cancelled };
        Ok(Some(Order::Resume(Box::new(resumed))))
    }

    fn whole_output(&self, run: RunNumber, step: &StepId) -> Result<Option<Arc<serde_json::Value>>, StoreError> {
        let whole = self.store.whole_output(run, step)?;
        whole
            .map(|json| serde_json::from_slice(&json).map(Arc::new).map_err(|error| unreadable(run, &error)))
            .transpose()
    }

    /// Runs whose plan this program does not understand get their last message, for nobody else can give it to them.
    fn end_unreadable(
        &mut self,
        runs: Vec<(OpenRun, String)>,
        now: Now,
        outcome: &mut Outcome,
    ) -> Result<(), StoreError> {
        let mut records = Vec::new();
        for (run, why) in runs {
            log::error!("run {} can't go on: {why}", run.row.run);
            let why = format!("the run can't go on after the restart: {why}");
            records.extend(self.last_words(&run.project, &run.row.run, why, now));
        }
        let mut batch = Batch::default();
        match self.commit(&[Command::Records(records.clone())], &mut batch, now, outcome) {
            Ok(()) => {
                // The executor has handed nothing over so far.
                batch.kept = 0;
                batch.release(outcome);
            }
            Err(CommitError::Down(error)) => return Err(error),
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

/// What was in memory before it was read anew.
#[derive(Default)]
struct Before {
    projects: HashMap<ProjectId, ProjectEntry>,
    runs: RunMap<RunEntry>,
}

/// The runs that have not ended, and what there is to tell that others have written.
#[derive(Default)]
pub(super) struct Loaded {
    /// Those that can go on.
    open: Vec<OpenRun>,
    /// Those that can't, and why.
    unreadable: Vec<(OpenRun, String)>,
    /// What those lack who watch.
    missed: Vec<Delivery>,
    /// Ends that others have asked for.
    cancels: Vec<Order>,
}

impl Loaded {
    /// Tells what others have written.
    pub(super) fn let_out(self, outcome: &mut Outcome) {
        outcome.deliveries.extend(self.missed);
        outcome.orders.extend(self.cancels);
    }
}

/// What stands in for a plan that can't be read.
fn stand_in(run: &OpenRun) -> Plan {
    Plan {
        name: run.row.run.as_str().into(),
        description: Arc::default(),
        steps: Vec::new(),
        levels: Vec::new(),
        inputs: serde_json::Map::new(),
        estimated_duration: 0,
        timeout: None,
        on_failure: OnFailure::Stop,
    }
}

fn unreadable(run: RunNumber, error: &serde_json::Error) -> StoreError {
    StoreError(format!("what was kept of run {} can't be read: {error}", run.0))
}
