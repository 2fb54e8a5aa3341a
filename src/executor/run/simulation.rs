//! Random plans, played by random workers on a virtual clock, with cancels, timeouts and crashes at any message, and a
//! wall clock that is set forward and back.
//! Whatever happens, the messages keep what the contract guarantees: [`check_sequence`] follows them with a model of
//! its own.
//!
//! `STEPCAST_SEED=n` plays one seed alone.

mod changes;
mod checks;
mod children;
mod handlers;
mod items;
mod model;
mod plans;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::{Value, json};

use self::checks::{
    check_after_cancel, check_sequence, check_times, check_usage, ended_for, is_end_of_budget, is_of_handler,
    told_cause,
};
use self::children::Children;
use self::model::{Bracket, Model, Seen};
use self::plans::{keep_some, random_plan, randomize};
use super::step::Phase;
use super::*;
use crate::executor::testing::{INTERRUPTIONS_MAX, Rng, context, new_run, plan, retries};
use crate::executor::tool::Outcome;
use crate::model::{
    Approval, Budget, CauseKind, Choice, Cost, Decide, EndReason, ForEach, ItemState, Items, KeptOutput, OnExpire,
    OnReject, OutputStream, RetryOf, RunEvent, Scheduling, Steer, Steering, SteeringId, StepId, StepProgress,
    StepUpdate, Usage,
};

/// Seeds played by default.
const SEEDS: u64 = 2000;

/// What the wall clock says at first.
const IN_2026: Timestamp = Timestamp::from_millis(1_780_000_000_000);

/// More actions than any plan of the simulation can need.
const ACTIONS_MAX: usize = 20_000;

#[test]
fn whatever_happens_the_messages_keep_their_guarantees() {
    let one = std::env::var("STEPCAST_SEED").ok().and_then(|seed| seed.parse().ok());
    let mut given_up = 0;
    for seed in one.map_or(0..SEEDS, |seed: u64| seed..seed + 1) {
        let played = std::panic::catch_unwind(|| World::new(seed).play());
        given_up += played.unwrap_or_else(|_| panic!("STEPCAST_SEED={seed}"));
    }
    assert!(one.is_some() || given_up > 0, "no step was interrupted too often");
}

/// A random plan, and what a run of it says.
pub(crate) fn random_run(seed: u64) -> (Arc<Plan>, Vec<RunEvent>) {
    let mut world = World::new(seed);
    world.act(|run, now, effects| run.start(now, effects));
    while !world.run.is_ended() {
        world.step();
        world.faults_left = world.faults_left.saturating_sub(1);
    }
    (world.new.plan.clone(), world.events().cloned().collect())
}

struct World {
    rng: Rng,
    new: NewRun,
    /// The plan before anybody changed it.
    first: Arc<Plan>,
    run: Run,
    now: Now,
    /// What the log holds.
    records: Vec<Record>,
    /// Of these, what can't be lost by a crash any more.
    durable: usize,
    workers: Vec<Launch>,
    children: Children,
    /// Actions during which cancels and crashes may happen; after them the run has to end by itself.
    faults_left: usize,
    /// How many records there were when its end was asked for.
    cancelled_at: Option<usize>,
    /// The wall clock was set.
    was_set: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let mut new = new_run("r", random_plan(&mut rng));
        keep_some(&mut new, &mut rng);
        let run = Run::new(new.clone(), context());
        let (records, workers, children) = Default::default();
        let faults_left = rng.below(200);
        let now = Now { wall: IN_2026, ..Now::default() };
        let (durable, cancelled_at, was_set) = (0, None, false);
        let first = new.plan.clone();
        Self { rng, new, first, run, now, records, durable, workers, children, faults_left, cancelled_at, was_set }
    }

    /// Plays it to its end; how many steps were interrupted too often.
    fn play(mut self) -> usize {
        self.act(|run, now, effects| run.start(now, effects));
        for _ in 0..ACTIONS_MAX {
            self.check_children();
            if self.run.is_ended() {
                return self.check();
            }
            self.check_nothing_waits_in_vain();
            self.step();
            self.faults_left = self.faults_left.saturating_sub(1);
        }
        panic!("it never ends: {:#?}", self.run.state());
    }

    fn step(&mut self) {
        match self.rng.below(100) {
            0 if self.faults_left > 0 && self.rng.one_in(2) => self.cancel(),
            0..4 if self.faults_left > 0 => self.crash(),
            4 if self.faults_left > 0 && self.rng.one_in(4) => self.set_wall_clock(),
            0..40 => self.take(),
            40..46 => self.write(),
            46..48 => self.use_up(),
            48..50 if self.faults_left > 0 => self.change(),
            50..77 => self.finish(),
            77..84 => self.decide(),
            84..88 => self.end_a_child(),
            _ => self.pass_time(),
        }
    }

    fn act<T>(&mut self, act: impl FnOnce(&mut Run, Now, &mut Effects) -> T) -> T {
        let mut effects = Effects::default();
        let result = act(&mut self.run, self.now, &mut effects);
        assert!(effects.cancels.iter().all(|cancel| !cancel.is_cancelled()), "the run itself cancels nothing");
        effects.cancels.iter().for_each(CancelToken::cancel);
        self.records.append(&mut effects.records);
        self.hear_of_children(effects.children);
        self.new.plan = self.plans().pop().unwrap_or_else(|| self.first.clone());
        result
    }

    fn cancel(&mut self) {
        self.cancelled_at.get_or_insert(self.records.len());
        self.act(|run, now, effects| run.cancel(now, effects));
    }

    fn take(&mut self) {
        if self.workers.len() < 3 {
            let launch = match self.rng.one_in(2) {
                true => self.act(|run, now, effects| run.take(now, effects)),
                false => self.act(|run, now, effects| run.take_suspect(now, effects)),
            };
            self.workers.extend(launch);
        }
    }

    fn write(&mut self) {
        let Some(launch) = self.workers.first() else { return };
        let at = (launch.unit, launch.attempt);
        let size = if self.rng.one_in(4) { 40_000 } else { 5 };
        self.act(|run, now, effects| run.output(at, OutputStream::Stdout, vec![b'x'; size], now, effects));
    }

    fn use_up(&mut self) {
        let Some(launch) = self.workers.last() else { return };
        let at = (launch.unit, launch.attempt);
        let (input_tokens, output_tokens) = (self.rng.below(50) as u64, self.rng.below(50) as u64);
        let cost = self.rng.one_in(2).then(|| Cost::of_units(output_tokens as f64 / 1000.0)).flatten();
        let usage =
            Usage { input_tokens, output_tokens, total_tokens: input_tokens + output_tokens, cost, ..Usage::default() };
        self.act(|run, now, effects| run.note_usage(at, Box::new(usage), now, effects));
    }

    fn finish(&mut self) {
        if self.workers.is_empty() {
            return;
        }
        let launch = self.workers.swap_remove(self.rng.below(self.workers.len()));
        let result = match self.rng.below(20) {
            0..4 => Err(AttemptError::Passing("broken".to_owned())),
            4 => Err(AttemptError::Lasting("refused".to_owned())),
            5 | 6 => Ok(Outcome::After(Duration::from_millis(self.rng.below(200) as u64), json!("late"))),
            7 => Ok(Outcome::Output(json!("x".repeat(100)))),
            8..11 => self.asks(),
            11 | 12 => Ok(Outcome::Plan { name: "child".to_owned(), inputs: Default::default() }),
            _ => Ok(Outcome::Output(json!(7))),
        };
        self.act(|run, now, effects| run.finish((launch.unit, launch.attempt), result, now, effects));
    }

    fn asks(&mut self) -> Result<Outcome, AttemptError> {
        let approval = Approval {
            message: "Go?".to_owned(),
            schema: self.rng.one_in(3).then(|| Arc::new(json!({"type": "integer"}))),
            expires_at: None,
            on_expire: [OnExpire::Fail, OnExpire::Reject, OnExpire::Approve][self.rng.below(3)],
            on_reject: [OnReject::Fail, OnReject::Continue][self.rng.below(2)],
            deciders: if self.rng.one_in(4) { vec!["ann".to_owned()] } else { Vec::new() },
        };
        let expires = self.rng.one_in(2).then(|| Duration::from_millis(self.rng.below(300) as u64));
        Ok(Outcome::Wait(Box::new(approval), expires))
    }

    /// Someone decides, whether or not they were asked: there is one verdict, and it is yes exactly where that decides it.
    fn decide(&mut self) {
        let step = self.rng.below(self.new.plan.steps.len());
        let choice = if self.rng.one_in(2) { Choice::Approve } else { Choice::Reject };
        let payload = self.rng.one_in(2).then(|| Arc::new(json!(self.rng.below(9))));
        let by = if self.rng.one_in(2) { "ann" } else { "bob" };
        let what = Steering::Decide(Decide { step: self.new.plan.steps[step].id.clone(), choice, payload });
        let (before, was) = (self.records.len(), self.run.state().steps[step].clone());
        self.act(|run, now, effects| run.steer(Steer { id: SteeringId(1), by: by.into(), what }, now, effects));
        let new = &self.records[before..];
        let verdict_at = new.iter().position(|record| matches!(record, Record::Verdict { .. })).expect("a verdict");
        assert_eq!(new.iter().filter(|record| matches!(record, Record::Verdict { .. })).count(), 1);
        let Record::Verdict { verdict, .. } = &new[verdict_at] else { unreachable!("found just above") };
        let decision = self.run.state().steps[step].decision.clone();
        match &verdict.answer {
            Ok(_) => {
                assert_eq!(was.status, StepStatus::Waiting, "it was not asked");
                assert_eq!(decision.map(|it| (it.choice, it.by.as_deref() == Some(by))), Some((choice, true)));
                let told = |record: &Record| match record {
                    Record::Event { event: RunEvent { kind: RunEventKind::Progress(said), .. }, .. } => {
                        said.decision.is_some()
                    }
                    _ => false,
                };
                assert!(told(&new[verdict_at - 1]), "a yes comes behind its message");
            }
            Err(_) => assert!(
                decision.is_none_or(|it| it.expired || was.decision.as_ref() == Some(&it)),
                "a no decides nothing"
            ),
        }
    }

    /// To the next deadline, or a little.
    fn pass_time(&mut self) {
        let to_next = self.run.next_deadline().map(|at| at.saturating_sub(self.now.mono));
        let by = to_next.filter(|_| self.rng.one_in(2)).unwrap_or(Duration::from_millis(1));
        self.now = self.now.plus(by);
        self.act(|run, now, effects| run.tick(now, effects));
        let due = self.run.next_deadline().is_none_or(|at| at > self.now.mono);
        let retries_at_once = self.run.live.values().any(|live| matches!(live.phase, Phase::Retrying { .. }));
        assert!(due || retries_at_once, "a tick does all that is due");
    }

    /// The log keeps what it had plus some of what came since; another process goes on, a while later.
    fn crash(&mut self) {
        let lost_wishes = self.rng.below(3);
        self.durable = self.durable.max(self.children.durable(lost_wishes));
        let lost = self.rng.below(self.records.len() - self.durable + 1);
        self.records.truncate(self.records.len() - lost);
        self.durable = self.records.len();
        self.new.plan = self.kept_plan();
        self.cancelled_at = self.cancelled_at.map(|at| at.min(self.durable));
        self.workers.clear();
        self.children.crash(lost_wishes, self.durable);
        let mono = Duration::from_millis(self.rng.below(3) as u64);
        self.now = Now { mono, wall: self.now.wall.plus_millis(self.rng.below(300) as u64) };
        if self.rng.one_in(10) {
            self.set_wall_clock();
        }
        let mut state = RunState::new(self.new.run.clone(), &self.new.plan, self.new.created_at);
        self.events().for_each(|event| state.apply(event));
        let resumed = ResumedRun {
            new: self.new.clone(),
            state,
            whole_outputs: self.wholes(),
            items: self.kept_items(),
            cancelled: self.cancelled_at.is_some(),
        };
        check_usage(&self.new.plan, &resumed.state, &self.events().cloned().collect::<Vec<_>>());
        self.run = Run::resume(resumed, context(), self.now);
        self.act(|run, now, effects| run.start(now, effects));
        self.check_waits();
    }

    /// By a little or by decades, either way.
    fn set_wall_clock(&mut self) {
        let by = [10, 60_000, 1 << 40][self.rng.below(3)];
        let before = self.now.wall.as_millis();
        let after = if self.rng.one_in(2) { before + by } else { before.saturating_sub(by) };
        (self.now.wall, self.was_set) = (Timestamp::from_millis(after), true);
    }

    /// Nothing waits longer than was told, whatever the wall clock says now.
    fn check_waits(&self) {
        let is_in_time = |until: Deadline, lasts: Duration| until.at() <= self.now.mono + lasts;
        for (&unit, live) in &self.run.live {
            let id = &self.new.plan.steps[self.run.index(unit)].id;
            let told = self.events().filter_map(|event| match &event.kind {
                RunEventKind::Progress(said) if said.step_id == *id => match said.update {
                    StepUpdate::Retrying { delay, .. } => Some(Duration::from_millis(delay)),
                    _ => None,
                },
                _ => None,
            });
            if let Phase::Waiting { expiry: Some(until), .. } = live.phase {
                assert!(is_in_time(until, Duration::from_millis(300)), "{id}");
            }
            if let Phase::Retrying { until } = live.phase {
                let told = match unit.item {
                    Some(_) => self.run.standing(unit).retry_wait.map(|told| told.lasts),
                    None => told.last(),
                };
                assert!(is_in_time(until, told.expect("a retry was told")), "{id}");
            }
        }
        let limit = self.new.plan.timeout.unwrap_or_default();
        assert!(self.run.timeout.is_none_or(|timeout| is_in_time(timeout, limit)));
    }

    /// Where steps wait for no level, one whose dependencies have ended well is there for the next free worker; unless the
    /// run ends, or a failure stops it.
    fn check_nothing_waits_in_vain(&self) {
        let plan = &self.new.plan;
        if plan.scheduling == Scheduling::Levels || self.run.course != Course::Onward {
            return;
        }
        let state = self.run.state();
        let is_done = |&step: &usize| state.steps[step].status.is_ended() && self.run.blame[step].is_none();
        for (at, step) in plan.steps.iter().enumerate().filter(|(_, step)| step.handler.is_none()) {
            let waits = state.steps[at].status == StepStatus::Pending && step.dependencies.iter().all(is_done);
            let is_ready = self.run.ready.contains(&(self.run.ranks[at], self.run.unit(at)));
            assert_eq!(waits, is_ready && state.steps[at].attempt == 0, "{}", step.id);
        }
    }

    fn events(&self) -> impl Iterator<Item = &RunEvent> {
        self.records.iter().flat_map(Record::events)
    }

    /// The newest of what was kept of each item.
    fn kept_items(&self) -> HashMap<StepId, Vec<ItemState>> {
        let mut kept: HashMap<StepId, BTreeMap<u32, ItemState>> = HashMap::new();
        for record in &self.records {
            if let Record::Item { step, state, .. } = record {
                let row = state.to_row().expect("JSON");
                let state = ItemState::from_row(&row).expect("a row");
                kept.entry(step.clone()).or_default().insert(state.item, state);
            }
        }
        kept.into_iter().map(|(step, items)| (step, items.into_values().collect())).collect()
    }

    fn wholes(&self) -> HashMap<StepId, Arc<Value>> {
        let whole = |record: &Record| match record {
            Record::Whole { step, output, .. } => Some((step.clone(), output.clone())),
            _ => None,
        };
        self.records.iter().filter_map(whole).chain(self.new.whole_outputs.clone()).collect()
    }

    fn check(&self) -> usize {
        let events: Vec<_> = self.events().cloned().collect();
        let (before, after) = self.records.split_at(self.cancelled_at.unwrap_or(self.records.len()));
        if !before.iter().any(is_of_handler) {
            if self.cancelled_at.is_some() {
                let told = before.iter().flat_map(Record::events).find_map(told_cause);
                let last = events.last().and_then(ended_for);
                assert_eq!(last, told.or(Some(CauseKind::Cancelled)), "a cancel counts until another end is told");
            }
            if !events.last().is_some_and(is_end_of_budget) {
                after.iter().filter(|record| !is_of_handler(record)).for_each(check_after_cancel);
            }
        }
        check_sequence(&self.first, &events, &self.plans());
        items::check(&self.new, &self.records);
        if !self.was_set {
            check_times(&events);
        }
        // From whatever revision of its plan a fold begins.
        for plan in [&self.first, &self.new.plan] {
            let mut state = RunState::new(self.new.run.clone(), plan, self.new.created_at);
            events.iter().for_each(|event| state.apply(event));
            assert_eq!(state, *self.run.state(), "the run is the fold of its messages");
        }
        let state = self.run.state().clone();
        check_usage(&self.new.plan, &state, &events);
        assert!(self.run.live.is_empty() && self.run.deadlines.is_empty() && self.run.each.is_empty());
        assert!(self.run.ready.is_empty() && self.run.suspects.is_empty());
        let errors = state.steps.iter().filter_map(|step| step.error.as_deref());
        errors.filter(|error| error.contains("executor.interruptions")).count()
    }
}
