//! What the log must hold: the history of every project, byte for byte, and the state of every run.
//!
//! It sees the commands for the log in their order, and numbers messages by itself. Everything that a client is sent is
//! compared with it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::run_model::RunModel;
use crate::auth::IdSigner;
use crate::log::{Command, NewPlan, Order, PlanCommand, Query, Store};
use crate::model::{ItemState, Notable, Now, Plan, PlanName, ProjectId, Record, RunEvent, RunId, StepId, StepStatus};

/// See the [module](self).
pub(super) struct Model {
    pub(super) signer: IdSigner,
    /// The length of a project's history, where nothing else bounds it.
    pub(super) messages_max: Option<u64>,
    recent_ms: u64,
    /// The wall clock was set at some time, so that when runs ended is no order of them.
    clock_was_set: bool,
    projects: BTreeMap<ProjectId, ProjectModel>,
    /// The tags of the stored plans.
    plans: BTreeMap<(ProjectId, PlanName), Arc<str>>,
    /// What runs said, and which were asked to end, while the store took nothing.
    held: Vec<Seen>,
}

/// A project.
#[derive(Default)]
pub(super) struct ProjectModel {
    /// Message `seq` is at `seq - 1`.
    pub(super) history: Vec<Kept>,
    pub(super) runs: BTreeMap<RunId, RunModel>,
    /// Runs that have not ended, as they were taken on.
    open: Vec<RunId>,
    newest_ended: Option<RunId>,
    /// Which run ended last, and how long ago, can't be told by the clock, until the next one ends.
    is_order_lost: bool,
    /// By position: the snapshots that someone who came there had to be shown.
    shown: BTreeMap<u64, Vec<Vec<Value>>>,
}

/// A message.
pub(super) struct Kept {
    pub(super) json: Vec<u8>,
    pub(super) run: Option<RunId>,
    pub(super) is_last: bool,
}

/// What of a batch concerns the model.
pub(super) enum Seen {
    Publish(ProjectId, Vec<(String, Vec<u8>)>),
    Submit(ProjectId, RunId, Arc<[u8]>),
    Cancel(ProjectId, RunId),
    Event(ProjectId, Box<RunEvent>),
    Item(ProjectId, RunId, StepId, Box<ItemState>),
    Plan(ProjectId, RunId, Arc<Plan>),
    Store(Box<NewPlan>),
    Remove(ProjectId, PlanName),
    /// Someone may be shown snapshots.
    Look(ProjectId),
}

/// What of `commands` concerns the model, in the order in which the log does it.
pub(super) fn look_through(commands: &[Command]) -> Vec<Seen> {
    let mut seen = Vec::new();
    for command in commands {
        match command {
            Command::Publish { project, events, .. } => {
                let pair = |event: &crate::log::PublishedEvent| (event.message_type.clone(), event.payload.clone());
                seen.push(Seen::Publish(project.clone(), events.iter().map(pair).collect()));
            }
            Command::Submit { submission, .. } => {
                let (run, document) = (submission.run.clone(), submission.document.clone());
                seen.push(Seen::Submit(submission.project().clone(), run, document));
            }
            Command::Cancel { project, run, .. } => seen.push(Seen::Cancel(project.clone(), run.clone())),
            Command::Records(records) => records.iter().for_each(|record| look_at_record(record, &mut seen)),
            Command::Plan { command: PlanCommand::Put(plan), .. } => seen.push(Seen::Store(plan.clone())),
            Command::Plan { command: PlanCommand::Remove { project, name, .. }, .. } => {
                seen.push(Seen::Remove(project.clone(), name.clone()));
            }
            _ => {}
        }
    }
    let look = |command: &Command| match command {
        Command::Read { query: Query::Page { project, .. }, .. } => Some(Seen::Look(project.clone())),
        Command::Subscribe { subscription, .. } => Some(Seen::Look(subscription.project.clone())),
        _ => None,
    };
    seen.extend(commands.iter().filter_map(look));
    seen
}

fn look_at_record(record: &Record, seen: &mut Vec<Seen>) {
    match record {
        Record::Item { project, run, step, state } => {
            seen.push(Seen::Item(project.clone(), run.clone(), step.clone(), state.clone()));
        }
        Record::Plan { project, run, plan, .. } => seen.push(Seen::Plan(project.clone(), run.clone(), plan.clone())),
        _ => {}
    }
    seen.extend(record.events().iter().map(|event| Seen::Event(record.project().clone(), Box::new(event.clone()))));
}

impl Model {
    /// One that has seen nothing.
    pub(super) fn new(signer: IdSigner, messages_max: Option<u64>, recent_ms: u64) -> Self {
        let (projects, plans, held) = Default::default();
        Self { signer, messages_max, recent_ms, clock_was_set: false, projects, plans, held }
    }

    /// A batch was kept; `orders` tell which runs were taken on.
    pub(super) fn apply(&mut self, seen: Vec<Seen>, orders: &[Order], now: Now) {
        for seen in seen {
            match seen {
                Seen::Publish(project, events) => {
                    for (kind, payload) in events {
                        self.append(&project, &kind, &payload, None);
                    }
                }
                Seen::Submit(project, run, document) => self.take_on(project, run, document, orders, now),
                Seen::Cancel(..) | Seen::Event(..) | Seen::Item(..) | Seen::Plan(..) => self.hear(seen),
                Seen::Store(plan) => drop(self.plans.insert((plan.project, plan.name), plan.tag)),
                Seen::Remove(project, name) => drop(self.plans.remove(&(project, name))),
                Seen::Look(project) => self.note_snapshots(project, now),
            }
        }
    }

    /// A batch was not kept: what runs say in it is held back.
    pub(super) fn hold(&mut self, seen: Vec<Seen>, now: Now) {
        for seen in seen {
            match seen {
                Seen::Cancel(..) | Seen::Event(..) | Seen::Item(..) | Seen::Plan(..) => self.held.push(seen),
                Seen::Look(project) => self.note_snapshots(project, now),
                Seen::Publish(..) | Seen::Submit(..) | Seen::Store(_) | Seen::Remove(..) => {}
            }
        }
    }

    /// What was held back is kept.
    pub(super) fn release(&mut self) {
        std::mem::take(&mut self.held).into_iter().for_each(|seen| self.hear(seen));
    }

    /// The process has ended; what it held back is lost.
    pub(super) fn restart(&mut self) {
        self.held.clear();
        self.reload();
        // The next process goes by what the store says of when runs ended.
        self.projects.values_mut().for_each(|entry| entry.is_order_lost |= self.clock_was_set);
    }

    /// The journal has read again what the store holds.
    pub(super) fn reload(&mut self) {
        for entry in self.projects.values_mut() {
            let newest = entry.history.len() as u64;
            entry.runs.values_mut().for_each(|run| run.note_read(newest));
        }
    }

    /// What a run says, or that it was asked to end, is kept.
    fn hear(&mut self, seen: Seen) {
        match seen {
            Seen::Event(project, event) => self.hear_run(project, *event),
            Seen::Cancel(project, run) => self.note_cancelled(&project, &run),
            Seen::Item(project, run, step, state) => {
                let Some(entry) = self.projects.get_mut(&project) else { return };
                let newest = entry.history.len() as u64;
                if let Some(open) = entry.open_run(&run) {
                    open.items.entry(step.clone()).or_default().push(&run, &step, *state, newest);
                }
            }
            Seen::Plan(project, run, plan) => {
                let entry = self.projects.get_mut(&project);
                if let Some(open) = entry.and_then(|entry| entry.open_run(&run)) {
                    open.plan_anew(plan);
                }
            }
            Seen::Publish(..) | Seen::Submit(..) | Seen::Store(_) | Seen::Remove(..) | Seen::Look(_) => {}
        }
    }

    /// A run is to end: someone has asked for that, or the log has for another run's sake.
    pub(super) fn note_cancelled(&mut self, project: &ProjectId, run: &RunId) {
        let entry = self.projects.get_mut(project);
        if let Some(run) = entry.and_then(|entry| entry.open_run(run)) {
            run.is_cancelled = true;
        }
    }

    /// These runs go on after a start: all that had not ended, each as its messages left it.
    pub(super) fn check_resumed(&mut self, orders: &[Order]) {
        let resumed = orders.iter().map(|order| match order {
            Order::Resume(resumed) => resumed,
            other => panic!("ordered at a start: {other:?}"),
        });
        let mut left = 0;
        for resumed in resumed {
            let entry = self.projects.get_mut(&resumed.project).expect("a project with a run is known");
            assert!(entry.open.contains(&resumed.state.run_id), "{resumed:?} had ended");
            let run = entry.runs.get_mut(&resumed.state.run_id).expect("an open run is known");
            assert_eq!((&resumed.state, resumed.cancelled), (&run.state(u64::MAX), run.is_cancelled));
            run.must_be_cancelled = run.is_cancelled && resumed.state.outcome.is_none();
            for (step, items) in &resumed.items {
                let kept = run.items.get(step).map(|moves| moves.newest()).unwrap_or_default();
                assert_eq!(items.iter().collect::<Vec<_>>(), kept, "the items of {step} as they were");
            }
            let has_items =
                |step: &StepId| resumed.state.step(step).is_some_and(|step| step.status == StepStatus::Running);
            let forgotten = run.items.keys().find(|step| has_items(step) && !resumed.items.contains_key(*step));
            assert_eq!(forgotten, None, "its items are forgotten");
            for step in resumed.state.steps.iter().filter(|step| step.truncated) {
                let bytes = match &*resumed.whole_outputs[&step.id] {
                    Value::String(text) => text.len(),
                    other => other.to_string().len(),
                };
                assert_eq!(step.output_bytes, Some(bytes as u64), "the whole of what was cut");
            }
            left += 1;
        }
        assert_eq!(left, self.projects.values().map(|entry| entry.open.len()).sum::<usize>(), "each run goes on");
    }

    /// What the store says of each project, held against what it must hold.
    pub(super) fn check_kept(&self, store: &dyn Store) {
        let recovered = store.recover().expect("it does not fail");
        assert!(recovered.projects.iter().all(|kept| self.projects.contains_key(&kept.project)), "and no other");
        for (id, entry) in &self.projects {
            let newest = store.remains(id).expect("it does not fail").map_or(0, |kept| kept.newest);
            assert_eq!(newest, entry.history.len() as u64, "each message that was kept, and no other, of {id}");
        }
        let names = self.plans.keys();
        for (project, name) in names {
            let kept = store.plan(project, name).expect("it does not fail").map(|row| row.tag);
            assert_eq!(kept.as_ref(), self.plans.get(&(project.clone(), name.clone())), "{name} of {project}");
        }
        self.check_outbox(store);
    }

    /// The one webhook, which nobody comes for here, is to be told of all that it may be told of, once.
    pub(super) fn check_outbox(&self, store: &dyn Store) {
        let said = self.runs().flat_map(|(.., run)| &run.said);
        let notable = said.filter(|(_, event)| Notable::of(event).is_some()).count() as u64;
        let waiting: u64 = store.outbox().expect("it does not fail").iter().map(|(_, rows)| *rows).sum();
        assert_eq!(waiting, notable, "what webhooks are to be told is kept with the message that says it");
    }

    fn append(&mut self, project: &ProjectId, kind: &str, payload: &[u8], run: Option<(RunId, bool)>) -> u64 {
        let entry = self.projects.entry(project.clone()).or_default();
        let seq = entry.history.len() as u64 + 1;
        let payload = str::from_utf8(payload).expect("JSON is text");
        let json = format!(r#"{{"type":"{kind}","projectId":"{project}","seq":{seq},"payload":{payload}}}"#);
        let (run, is_last) = run.map_or((None, false), |(run, is_last)| (Some(run), is_last));
        entry.history.push(Kept { json: json.into_bytes(), run, is_last });
        seq
    }

    fn take_on(&mut self, project: ProjectId, run: RunId, document: Arc<[u8]>, orders: &[Order], now: Now) {
        let plan = orders.iter().find_map(|order| match order {
            Order::Start { project: of, run: id, plan, .. } if *of == project && *id == run => Some(plan.clone()),
            _ => None,
        });
        let entry = self.projects.entry(project).or_default();
        let Some(plan) = plan else { return };
        let position = entry.history.len() as u64;
        if !entry.open.contains(&run) {
            entry.open.push(run.clone());
            entry.runs.insert(run.clone(), RunModel::new(run, plan, document, position, now.wall));
        }
    }

    fn hear_run(&mut self, project: ProjectId, event: RunEvent) {
        let payload = serde_json::to_vec(&event).expect("serializes");
        let run = event.run_id.clone();
        let seq = self.append(&project, event.message_type(), &payload, Some((run.clone(), event.is_last())));
        let entry = self.projects.entry(project).or_default();
        assert!(entry.open.contains(&run), "run {run} speaks before its beginning or after its end");
        if event.is_last() {
            entry.open.retain(|open| *open != run);
            (entry.newest_ended, entry.is_order_lost) = (Some(run.clone()), false);
        }
        entry.runs.get_mut(&run).expect("an open run is known").said.push((seq, event));
    }

    fn note_snapshots(&mut self, project: ProjectId, now: Now) {
        let recent_ms = self.recent_ms;
        let entry = self.projects.entry(project.clone()).or_default();
        let position = entry.history.len() as u64;
        let is_recent = |run: &&RunId| {
            entry.runs[*run].state(position).finished_at.is_some_and(|at| now.wall.millis_since(at) <= recent_ms)
        };
        let mut ended: Vec<Option<&RunId>> = vec![entry.newest_ended.iter().find(is_recent)];
        if entry.is_order_lost {
            // One that ended before it may seem to have ended after the newest.
            ended.extend(entry.runs.keys().filter(is_recent).map(Some));
            ended.extend([entry.newest_ended.as_ref(), None]);
        }
        let snapshot = |run: &RunId| entry.runs[run].snapshot(position, &project, &self.signer);
        let shown = ended.into_iter().map(|ended| ended.into_iter().chain(&entry.open).map(snapshot).collect());
        let shown: Vec<Vec<Value>> = shown.collect();
        let candidates = entry.shown.entry(position).or_default();
        for shown in shown {
            if !candidates.contains(&shown) {
                candidates.push(shown);
            }
        }
    }

    /// The wall clock was set.
    pub(super) fn note_set_clock(&mut self) {
        self.clock_was_set = true;
        self.projects.values_mut().for_each(|entry| entry.is_order_lost = true);
    }

    /// What is known of a project.
    pub(super) fn project(&self, project: &ProjectId) -> Option<&ProjectModel> {
        self.projects.get(project)
    }

    /// A run.
    pub(super) fn run(&self, project: &ProjectId, run: &RunId) -> Option<&RunModel> {
        self.projects.get(project)?.runs.get(run)
    }

    /// The newest message's `seq`.
    pub(super) fn newest(&self, project: &ProjectId) -> u64 {
        self.projects.get(project).map_or(0, |entry| entry.history.len() as u64)
    }

    /// The oldest message's `seq` when `newest` was the newest; none if that can't be told.
    pub(super) fn floor(&self, newest: u64) -> Option<u64> {
        self.messages_max.map(|max| (newest + 1).saturating_sub(max).max(1))
    }

    /// The id of a message.
    pub(super) fn id(&self, project: &ProjectId, seq: u64) -> String {
        id(&self.signer, project, seq)
    }

    /// Were these the snapshots for someone who came at `position`?
    pub(super) fn has_shown(&self, project: &ProjectId, position: u64, snapshots: &[Value]) -> bool {
        // After a restart a run's newest message that changed nothing of its state may have left a bounded history, so that
        // the newest that is known is one before it.
        let comparable = |snapshots: &[Value]| -> Vec<Value> {
            let mut snapshots = snapshots.to_vec();
            let shown = snapshots.iter_mut().filter(|_| self.messages_max.is_some());
            shown.filter_map(Value::as_object_mut).for_each(|run| drop(run.remove("lastEventId")));
            snapshots
        };
        let got = comparable(snapshots);
        let shown = self.projects.get(project).and_then(|entry| entry.shown.get(&position));
        shown.is_some_and(|shown| shown.iter().any(|shown| comparable(shown) == got))
    }

    /// Runs that have not ended.
    pub(super) fn open_runs(&self) -> impl Iterator<Item = (&ProjectId, &RunId, &RunModel)> {
        self.projects.iter().flat_map(|(project, entry)| {
            let open = entry.open.iter().filter_map(|run| entry.runs.get_key_value(run));
            open.map(move |(id, run)| (project, id, run))
        })
    }

    /// The steps that wait for a decision.
    pub(super) fn waiting(&self) -> Vec<(ProjectId, RunId, StepId)> {
        let steps = self.open_runs().flat_map(|(project, id, run)| {
            run.waiting().into_iter().map(move |step| (project.clone(), id.clone(), step))
        });
        steps.collect()
    }

    /// All runs of all projects.
    pub(super) fn runs(&self) -> impl Iterator<Item = (&ProjectId, &RunId, &RunModel)> {
        self.projects.iter().flat_map(|(project, entry)| entry.runs.iter().map(move |(id, run)| (project, id, run)))
    }
}

impl ProjectModel {
    fn open_run(&mut self, run: &RunId) -> Option<&mut RunModel> {
        if self.open.contains(run) { self.runs.get_mut(run) } else { None }
    }

    /// The first message of `run` after `after`.
    pub(super) fn next_of(&self, run: &RunId, after: u64) -> Option<u64> {
        let said = &self.runs.get(run)?.said;
        said.get(said.partition_point(|(seq, _)| *seq <= after)).map(|(seq, _)| *seq)
    }
}

/// The id of message `seq`.
pub(super) fn id(signer: &IdSigner, project: &ProjectId, seq: u64) -> String {
    let mut text = Vec::new();
    signer.write(&mut text, project, seq);
    String::from_utf8(text).expect("ids are ASCII")
}
