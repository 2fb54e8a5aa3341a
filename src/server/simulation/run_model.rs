//! A run according to its messages, and what the contract says of every run.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use serde_json::Value;

use super::items::Moves;
use super::model::id;
use crate::auth::IdSigner;
use crate::executor::testing::INTERRUPTIONS_MAX;
use crate::formats::RunHead;
use crate::model::{
    Choice, EndReason, Plan, ProjectId, RunEvent, RunEventKind, RunId, RunState, RunStatus, Scheduling, StepId,
    StepProgress, StepState, StepStatus, StepUpdate, Timestamp,
};

/// Tools that do nothing but wait, and may be interrupted as often as it comes.
const ONLY_WAIT: [&str; 3] = ["delay", "approval", "plan"];

/// What the error of a step begins with that was interrupted.
const INTERRUPTED: &str = "interrupted";

/// A run.
pub(super) struct RunModel {
    /// As it was before its first message: as it was taken on, and with each plan that it was given while it waited.
    created: Vec<RunState>,
    /// Its newest plan.
    pub(super) plan: Arc<Plan>,
    /// The plan that it was taken on with, and its inputs.
    document: Arc<[u8]>,
    /// Where the project was when it was taken on, and when it was read from the store, as long as it says nothing.
    created_after: Vec<u64>,
    /// What it has said.
    pub(super) said: Vec<(u64, RunEvent)>,
    /// How the items of its steps have moved.
    pub(super) items: HashMap<StepId, Moves>,
    /// It was asked to end.
    pub(super) is_cancelled: bool,
    /// It goes on from a start that knew of that, and had come to no other end by then.
    pub(super) must_be_cancelled: bool,
}

/// What a step has come to while its messages are looked through.
#[derive(Default)]
struct Told {
    attempt: u32,
    status: Option<StepStatus>,
    begun_in_a_row: u32,
}

impl RunModel {
    /// One that was taken on when `position` was the newest message.
    pub(super) fn new(run: RunId, plan: Arc<Plan>, document: Arc<[u8]>, position: u64, now: Timestamp) -> Self {
        Self {
            created: vec![RunState::new(run, &plan, now)],
            plan,
            document,
            created_after: vec![position],
            said: Vec::new(),
            items: HashMap::new(),
            is_cancelled: false,
            must_be_cancelled: false,
        }
    }

    /// It has another plan.
    pub(super) fn plan_anew(&mut self, plan: Arc<Plan>) {
        if self.said.is_empty() {
            let mut created = self.created_last().clone();
            created.plan_anew(&plan);
            self.created.push(created);
        }
        self.plan = plan;
    }

    /// As long as it says nothing, it is where its project was when it was read from the store.
    pub(super) fn note_read(&mut self, newest: u64) {
        if self.said.is_empty() && self.created_after.last() != Some(&newest) {
            self.created_after.push(newest);
        }
    }

    fn created_last(&self) -> &RunState {
        self.created.last().expect("it was taken on")
    }

    /// The fold of what it had said when `position` was the newest message.
    pub(super) fn state(&self, position: u64) -> RunState {
        self.state_from(self.created_last(), position)
    }

    fn state_from(&self, created: &RunState, position: u64) -> RunState {
        let mut state = created.clone();
        self.said.iter().filter(|(seq, _)| *seq <= position).for_each(|(_, event)| state.apply(event));
        state
    }

    /// The same as the answer to `GET` shows it.
    pub(super) fn snapshot(&self, position: u64, project: &ProjectId, signer: &IdSigner) -> Value {
        self.snapshots(position, project, signer).pop().expect("it was taken on before it was looked at")
    }

    /// All that it may be: as long as it had said nothing, it was where its project was when it was read, with any of the
    /// plans that it was given.
    pub(super) fn snapshots(&self, position: u64, project: &ProjectId, signer: &IdSigner) -> Vec<Value> {
        let last = self.said.iter().map(|(seq, _)| *seq).filter(|seq| *seq <= position).max();
        let (places, plans) = match last {
            None => (self.created_after.clone(), &self.created[..]),
            Some(last) => (vec![last], &self.created[self.created.len() - 1..]),
        };
        let mut views = Vec::new();
        for created in plans {
            let mut view = serde_json::to_value(self.state_from(created, position)).expect("serializes");
            view["projectId"] = project.as_str().into();
            for &place in places.iter().filter(|place| **place <= position) {
                view["lastEventId"] = id(signer, project, place).into();
                views.push(view.clone());
            }
        }
        views
    }

    /// What its formats know of it beside its messages.
    pub(super) fn head(&self, project: &ProjectId) -> Arc<RunHead> {
        Arc::new(RunHead::new(project.clone(), &self.created[0], &self.document))
    }

    /// The `seq` of its last message, once it has ended.
    pub(super) fn last_seq(&self) -> Option<u64> {
        self.said.last().filter(|(_, event)| event.is_last()).map(|(seq, _)| *seq)
    }

    /// May its plan change? By this name plans are told apart that do.
    pub(super) fn may_change(&self) -> bool {
        &*self.plan.name == super::plans::CHANGING
    }

    /// How a step, or one of its items, is as far as that is kept, and its newest attempt.
    pub(super) fn unit(&self, step: &StepId, item: Option<u32>) -> (StepStatus, u32) {
        let state = self.state(u64::MAX);
        let Some(known) = state.step(step) else { return (StepStatus::Pending, 0) };
        let Some(item) = item else { return (known.status, known.attempt) };
        let items = self.items.get(step).map(|moves| moves.newest()).unwrap_or_default();
        let item = items.into_iter().find(|state| state.item == item);
        item.map_or((StepStatus::Pending, 0), |item| (item.status, item.attempt))
    }

    /// The steps that wait for a decision.
    pub(super) fn waiting(&self) -> Vec<StepId> {
        let state = self.state(u64::MAX);
        let waiting = state.steps.iter().filter(|step| step.status == StepStatus::Waiting);
        waiting.map(|step| step.id.clone()).collect()
    }

    /// What the contract says of any run: first message first, one last one last, levels in order, steps inside them.
    pub(super) fn check(&self) {
        let is_eager = self.state(u64::MAX).scheduling == Scheduling::Eager;
        let (mut started, mut open) = (BTreeSet::new(), BTreeSet::new());
        let (mut steps, mut revision) = (BTreeMap::<&StepId, Told>::new(), self.created_last().revision);
        let mut handles = false;
        for (at, (_, event)) in self.said.iter().enumerate() {
            assert_eq!(event.is_first(), at == 0, "{event:?}");
            assert!(!event.is_last() || at + 1 == self.said.len(), "{event:?}");
            match &event.kind {
                RunEventKind::LevelStarted(level) => {
                    assert!(!handles, "handlers come behind all levels");
                    assert!(is_eager || (level.level == started.len() && open.is_empty()), "one level at a time");
                    assert!(started.insert(level.level) && open.insert(level.level), "once");
                }
                RunEventKind::LevelCompleted(level) => assert!(open.remove(&level.level), "it was open"),
                RunEventKind::Progress(said) => {
                    let is_in_bracket = open.contains(&said.level);
                    let is_left_over = said.attempt == 0 && open.is_empty();
                    let is_handler = said.handler.is_some();
                    handles |= is_handler;
                    assert_eq!(handles, is_handler, "{said:?}");
                    assert!(is_in_bracket || is_left_over || (is_handler && open.is_empty()), "{said:?}");
                    self.check_step(said, steps.entry(&said.step_id).or_default());
                }
                RunEventKind::StepOutput(_) => assert!(handles || !open.is_empty()),
                RunEventKind::Completed(_) | RunEventKind::Failed(_) => {
                    assert!(open.is_empty(), "no level is left open");
                }
                RunEventKind::PlanChanged(said) => {
                    revision += 1;
                    assert_eq!((said.revision, handles), (revision, false), "each change is told once");
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
        self.items.iter().for_each(|(step, moves)| moves.check(step, &state));
        self.check_outcome(&state);
    }

    /// A step moves on from where it was.
    fn check_step(&self, said: &StepProgress, told: &mut Told) {
        let was = told.status;
        let counts_items = said.items.is_some() && was == Some(StepStatus::Running);
        let begins = matches!(said.update, StepUpdate::Running { .. }) && !counts_items;
        let has_ended = was.is_some_and(StepStatus::is_ended);
        let attempt = told.attempt + u32::from(begins);
        assert!(!has_ended && (said.attempt == attempt || said.items.is_some()), "{said:?}");
        (told.attempt, told.status) = (said.attempt, Some(said.update.status()));
        self.check_decision(said, was);
        if said.items.is_none() {
            self.check_interruptions(said, &mut told.begun_in_a_row);
        }
    }

    /// Who decides decides a step that waits, and this is what it comes to.
    fn check_decision(&self, said: &StepProgress, was: Option<StepStatus>) {
        let Some(decision) = &said.decision else { return };
        assert_eq!(was, Some(StepStatus::Waiting), "{said:?}");
        assert_eq!(decision.by.is_none(), decision.expired, "{said:?}");
        match said.update {
            StepUpdate::Completed { .. } => {}
            StepUpdate::Failed { .. } => assert_eq!(decision.choice, Choice::Reject, "{said:?}"),
            _ => panic!("decided, and yet {said:?}"),
        }
    }

    /// A step that is not only there to wait begins no more attempts in a row than may be interrupted, and fails after those
    /// alone as interrupted too often. `begun` are those up to here.
    fn check_interruptions(&self, said: &StepProgress, begun: &mut u32) {
        let step = self.plan.steps.iter().find(|step| step.id == said.step_id);
        let only_waits = step.is_some_and(|step| ONLY_WAIT.contains(&&*step.tool));
        match &said.update {
            StepUpdate::Running { .. } => {
                *begun += 1;
                assert!(only_waits || *begun <= INTERRUPTIONS_MAX, "{said:?}");
            }
            StepUpdate::Failed { error, .. }
                if error.starts_with(INTERRUPTED) && error.contains("executor.interruptions") =>
            {
                assert!(!only_waits && *begun == INTERRUPTIONS_MAX, "{said:?}");
            }
            _ => *begun = 0,
        }
    }

    /// What a run comes to follows from what its steps have come to, and from what was asked of it; whatever happened between.
    fn check_outcome(&self, state: &RunState) {
        let Some((_, last)) = self.said.last().filter(|(_, event)| event.is_last()) else { return };
        let is_fatal =
            |step: &Arc<StepState>| step.handler.is_none() && step.status == StepStatus::Failed && !step.continued;
        let has_failed = state.steps.iter().any(is_fatal);
        match &last.kind {
            RunEventKind::Completed(_) => {
                assert!(!has_failed, "{state:?}");
                let cancelled =
                    state.steps.iter().any(|step| step.handler.is_none() && step.status == StepStatus::Cancelled);
                assert!(!cancelled, "{state:?}");
            }
            RunEventKind::Failed(failed) => match failed.reason {
                EndReason::StepFailed | EndReason::Interrupted => assert!(has_failed, "{state:?}"),
                EndReason::Cancelled => assert!(self.is_cancelled, "nobody has cancelled {state:?}"),
                EndReason::Timeout => assert!(self.plan.timeout.is_some(), "{state:?}"),
                EndReason::QueueTimeout => {
                    assert!(self.plan.queue_timeout.is_some(), "{state:?}");
                    assert!(state.steps.iter().all(|step| step.attempt == 0 || step.handler.is_some()), "{state:?}");
                }
                EndReason::Budget => panic!("nobody has one: {state:?}"),
            },
            _ => unreachable!("one of the two is last"),
        }
    }
}
