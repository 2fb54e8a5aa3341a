//! What the log must hold by now: every project's history, byte for byte, and every run folded from it.
//!
//! It sees the commands that the log is handed, in their order, and numbers them for itself. Everything that a client
//! is sent is held against this.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use crate::auth::IdSigner;
use crate::executor::testing::INTERRUPTIONS_MAX;
use crate::executor::{NewRun, ResumedRun};
use crate::formats::RunHead;
use crate::log::{Command, Order, Query, Resumed, Store};
use crate::model::{
    Now, ProjectId, Record, RunEvent, RunEventKind, RunId, RunState, RunStatus, StepProgress, StepUpdate,
};

/// See the [module](self).
pub(super) struct Model {
    pub(super) signer: IdSigner,
    /// The length of a project's history, where nothing else bounds it.
    pub(super) messages_max: Option<u64>,
    recent_ms: u64,
    /// The wall clock was set at some time, so that when runs ended is no order of them.
    clock_was_set: bool,
    projects: BTreeMap<ProjectId, ProjectModel>,
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

/// A run.
pub(super) struct RunModel {
    created: RunState,
    /// Its plan and inputs.
    document: Arc<[u8]>,
    /// Where the project was when it was taken on, and when it was read from the store, as long as it says nothing.
    created_after: Vec<u64>,
    /// What it has said.
    pub(super) said: Vec<(u64, RunEvent)>,
    /// It was asked to end.
    pub(super) is_cancelled: bool,
    /// It goes on from a start that knew of that.
    pub(super) must_be_cancelled: bool,
}

/// What of a batch concerns the model.
pub(super) enum Seen {
    Publish(ProjectId, Vec<(String, Vec<u8>)>),
    Submit(ProjectId, RunId, Arc<[u8]>),
    Cancel(ProjectId, RunId),
    Event(ProjectId, RunEvent),
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
            Command::Records(records) => seen.extend(records.iter().filter_map(|record| match record {
                Record::Event { project, event } => Some(Seen::Event(project.clone(), event.clone())),
                Record::Output { .. } | Record::Whole { .. } => None,
            })),
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

impl Model {
    /// One that has seen nothing.
    pub(super) fn new(signer: IdSigner, messages_max: Option<u64>, recent_ms: u64) -> Self {
        Self { signer, messages_max, recent_ms, clock_was_set: false, projects: BTreeMap::new(), held: Vec::new() }
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
                Seen::Cancel(..) | Seen::Event(..) => self.hear(seen),
                Seen::Look(project) => self.note_snapshots(project, now),
            }
        }
    }

    /// A batch was not kept: what runs say in it is held back.
    pub(super) fn hold(&mut self, seen: Vec<Seen>, now: Now) {
        for seen in seen {
            match seen {
                Seen::Cancel(..) | Seen::Event(..) => self.held.push(seen),
                Seen::Look(project) => self.note_snapshots(project, now),
                Seen::Publish(..) | Seen::Submit(..) => {}
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

    /// The journal has read anew what the store holds.
    pub(super) fn reload(&mut self) {
        for entry in self.projects.values_mut() {
            let newest = entry.history.len() as u64;
            let silent = entry.runs.values_mut().filter(|run| run.said.is_empty());
            let silent = silent.filter(|run| run.created_after.last() != Some(&newest));
            silent.for_each(|run| run.created_after.push(newest));
        }
    }

    /// What a run says, or that it was asked to end, is kept.
    fn hear(&mut self, seen: Seen) {
        match seen {
            Seen::Event(project, event) => self.hear_run(project, event),
            Seen::Cancel(project, run) => {
                let Some(entry) = self.projects.get_mut(&project) else { return };
                if entry.open.contains(&run) {
                    entry.runs.get_mut(&run).expect("an open run is known").is_cancelled = true;
                }
            }
            Seen::Publish(..) | Seen::Submit(..) | Seen::Look(_) => {}
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
            run.must_be_cancelled = run.is_cancelled;
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
        self.check_outbox(store);
    }

    /// The one webhook, which nobody comes for here, is to be told of the end of every run, once.
    pub(super) fn check_outbox(&self, store: &dyn Store) {
        let ended = self.runs().filter(|(.., run)| run.last_seq().is_some()).count() as u64;
        let waiting: u64 = store.outbox().expect("it does not fail").iter().map(|(_, rows)| *rows).sum();
        assert_eq!(waiting, ended, "what webhooks are to be told is kept with the message that says it");
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
        let created_after = entry.history.len() as u64;
        if !entry.open.contains(&run) {
            entry.open.push(run.clone());
            let created = RunState::new(run.clone(), &plan, now.wall);
            let created_after = vec![created_after];
            let said = Vec::new();
            let model =
                RunModel { created, document, created_after, said, is_cancelled: false, must_be_cancelled: false };
            entry.runs.insert(run, model);
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

    /// The oldest message's `seq` when `newest` was the newest; none where that can't be told.
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

    /// All runs of all projects.
    pub(super) fn runs(&self) -> impl Iterator<Item = (&ProjectId, &RunId, &RunModel)> {
        self.projects.iter().flat_map(|(project, entry)| entry.runs.iter().map(move |(id, run)| (project, id, run)))
    }
}

/// A step that is not only there to wait begins no more attempts in a row than may be interrupted, and fails after those
/// alone as interrupted too often. `begun` are those up to here.
fn check_interruptions(of: &RunState, said: &StepProgress, begun: &mut u32) {
    let only_waits = of.step(&said.step_id).is_some_and(|step| &*step.tool == "delay");
    match &said.update {
        StepUpdate::Running { .. } => {
            *begun += 1;
            assert!(only_waits || *begun <= INTERRUPTIONS_MAX, "{said:?}");
        }
        StepUpdate::Failed { error, .. } if error.contains("executor.interruptions") => {
            assert!(!only_waits && *begun == INTERRUPTIONS_MAX, "{said:?}");
        }
        _ => *begun = 0,
    }
}

impl ProjectModel {
    /// The first message of `run` behind `after`.
    pub(super) fn next_of(&self, run: &RunId, after: u64) -> Option<u64> {
        let said = &self.runs.get(run)?.said;
        said.get(said.partition_point(|(seq, _)| *seq <= after)).map(|(seq, _)| *seq)
    }
}

impl RunModel {
    /// The fold of what it had said when `position` was the newest message.
    pub(super) fn state(&self, position: u64) -> RunState {
        let mut state = self.created.clone();
        self.said.iter().filter(|(seq, _)| *seq <= position).for_each(|(_, event)| state.apply(event));
        state
    }

    /// The same as the answer to `GET` shows it.
    pub(super) fn snapshot(&self, position: u64, project: &ProjectId, signer: &IdSigner) -> Value {
        self.snapshots(position, project, signer).pop().expect("it was taken on before it was looked at")
    }

    /// All that it may be: as long as it had said nothing, it was where its project was when it was read.
    pub(super) fn snapshots(&self, position: u64, project: &ProjectId, signer: &IdSigner) -> Vec<Value> {
        let mut view = serde_json::to_value(self.state(position)).expect("serializes");
        view["projectId"] = project.as_str().into();
        let last = self.said.iter().map(|(seq, _)| *seq).filter(|seq| *seq <= position).max();
        let places = last.map_or_else(|| self.created_after.clone(), |last| vec![last]);
        let views = places.into_iter().filter(|place| *place <= position).map(|place| {
            view["lastEventId"] = id(signer, project, place).into();
            view.clone()
        });
        views.collect()
    }

    /// What its formats know of it beside its messages.
    pub(super) fn head(&self, project: &ProjectId) -> Arc<RunHead> {
        Arc::new(RunHead::new(project.clone(), &self.created, &self.document))
    }

    /// The `seq` of its last message, once it has ended.
    pub(super) fn last_seq(&self) -> Option<u64> {
        self.said.last().filter(|(_, event)| event.is_last()).map(|(seq, _)| *seq)
    }

    /// What the contract says of any run: first message first, one last one last, levels in order, steps inside them.
    pub(super) fn check(&self) {
        let mut level: Option<(usize, bool)> = None;
        let (mut attempts, mut in_a_row) = (BTreeMap::new(), BTreeMap::new());
        for (at, (_, event)) in self.said.iter().enumerate() {
            assert_eq!(event.is_first(), at == 0, "{event:?}");
            assert!(!event.is_last() || at + 1 == self.said.len(), "{event:?}");
            match &event.kind {
                RunEventKind::LevelStarted(started) => {
                    assert_eq!(started.level, level.map_or(0, |(before, _)| before + 1));
                    assert!(level.is_none_or(|(_, is_open)| !is_open), "one level at a time");
                    level = Some((started.level, true));
                }
                RunEventKind::LevelCompleted(completed) => {
                    assert_eq!(level.replace((completed.level, false)), Some((completed.level, true)));
                }
                RunEventKind::Progress(said) => {
                    let is_in_bracket = level == Some((said.level, true));
                    let is_left_over = said.attempt == 0 && level.is_none_or(|(_, is_open)| !is_open);
                    assert!(is_in_bracket || is_left_over, "{said:?}");
                    let (attempt, has_ended) = attempts.entry(&said.step_id).or_insert((0, false));
                    let begins = matches!(said.update, StepUpdate::Running { .. });
                    assert!(!*has_ended && said.attempt == *attempt + u32::from(begins), "{said:?}");
                    let goes_on = begins || matches!(said.update, StepUpdate::Retrying { .. });
                    (*attempt, *has_ended) = (said.attempt, !goes_on);
                    check_interruptions(&self.created, said, in_a_row.entry(&said.step_id).or_default());
                }
                RunEventKind::StepOutput(_) => assert!(level.is_some_and(|(_, is_open)| is_open)),
                RunEventKind::Completed(_) | RunEventKind::Failed(_) => {
                    assert!(level.is_none_or(|(_, is_open)| !is_open), "no level is left open");
                }
                RunEventKind::Started(_) => {}
            }
        }
        let state = self.state(u64::MAX);
        let ended = state.steps.iter().all(|step| step.status.is_ended());
        assert!(!state.status.is_ended() || ended, "no step is left open: {state:?}");
        assert_eq!(state.status == RunStatus::Queued, self.said.is_empty());
        let was_obeyed = !self.must_be_cancelled || !state.status.is_ended() || state.status == RunStatus::Cancelled;
        assert!(was_obeyed, "it was asked to end, and was told so at the start: {state:?}");
    }
}

fn id(signer: &IdSigner, project: &ProjectId, seq: u64) -> String {
    let mut text = Vec::new();
    signer.write(&mut text, project, seq);
    String::from_utf8(text).expect("ids are ASCII")
}

/// What the executor is told of a run that was taken on.
pub(super) fn new_run(project: ProjectId, run: RunId, order: &Order, seed: u64) -> Option<NewRun> {
    match order {
        Order::Start { plan, created_at, .. } => {
            Some(NewRun { project, run, plan: plan.clone(), created_at: *created_at, seed })
        }
        Order::Resume(_) | Order::Cancel { .. } | Order::Kept(_) | Order::StoreIsDown(_) => None,
    }
}

/// What the executor is told of a run that is to go on.
pub(super) fn resumed_run(order: Order, seed: u64) -> Option<ResumedRun> {
    let Order::Resume(resumed) = order else { return None };
    let Resumed { project, plan, state, whole_outputs, cancelled } = *resumed;
    let new = NewRun { project, run: state.run_id.clone(), plan, created_at: state.created_at, seed };
    Some(ResumedRun { new, state, whole_outputs, cancelled })
}
