//! Random plans, played by random workers on a virtual clock, with cancels, timeouts and crashes at any message, and a
//! wall clock that is set forward and back.
//! Whatever happens, the messages keep what the contract guarantees: [`check_sequence`] follows them with a model of
//! its own.
//!
//! `STEPCAST_SEED=n` plays one seed alone.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::step::Phase;
use super::*;
use crate::executor::testing::{INTERRUPTIONS_MAX, Rng, context, new_run, plan, retries};
use crate::executor::tool::Outcome;
use crate::model::{EndReason, OutputStream, RunEvent, StepId, StepProgress};

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
    run: Run,
    now: Now,
    /// What the log holds.
    records: Vec<Record>,
    /// Of these, what can't be lost by a crash any more.
    durable: usize,
    workers: Vec<Launch>,
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
        let new = new_run("r", random_plan(&mut rng));
        let run = Run::new(new.clone(), context());
        let (records, workers) = Default::default();
        let faults_left = rng.below(200);
        let now = Now { wall: IN_2026, ..Now::default() };
        let (durable, cancelled_at, was_set) = (0, None, false);
        Self { rng, new, run, now, records, durable, workers, faults_left, cancelled_at, was_set }
    }

    /// Plays it to its end; how many steps were interrupted too often.
    fn play(mut self) -> usize {
        self.act(|run, now, effects| run.start(now, effects));
        for _ in 0..ACTIONS_MAX {
            if self.run.is_ended() {
                return self.check();
            }
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
            40..50 => self.write(),
            50..80 => self.finish(),
            _ => self.pass_time(),
        }
    }

    fn act<T>(&mut self, act: impl FnOnce(&mut Run, Now, &mut Effects) -> T) -> T {
        let mut effects = Effects::default();
        let result = act(&mut self.run, self.now, &mut effects);
        assert!(effects.cancels.iter().all(|cancel| !cancel.is_cancelled()), "the run itself cancels nothing");
        effects.cancels.iter().for_each(CancelToken::cancel);
        self.records.append(&mut effects.records);
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
        let at = (launch.step, launch.attempt);
        let size = if self.rng.one_in(4) { 40_000 } else { 5 };
        self.act(|run, now, effects| run.output(at, OutputStream::Stdout, vec![b'x'; size], now, effects));
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
            _ => Ok(Outcome::Output(json!(7))),
        };
        self.act(|run, now, effects| run.finish((launch.step, launch.attempt), result, now, effects));
    }

    /// To the next deadline, or a little.
    fn pass_time(&mut self) {
        let to_next = self.run.next_deadline().map(|at| at.saturating_sub(self.now.mono));
        let by = to_next.filter(|_| self.rng.one_in(2)).unwrap_or(Duration::from_millis(1));
        self.now = self.now.plus(by);
        self.act(|run, now, effects| run.tick(now, effects));
        let due = self.run.next_deadline().is_none_or(|at| at > self.now.mono);
        let retries_at_once = self.run.state().steps.iter().any(|step| step.status == StepStatus::Retrying);
        assert!(due || retries_at_once, "a tick does all that is due");
    }

    /// The log keeps what it had plus some of what came since; another process goes on, a while later.
    fn crash(&mut self) {
        let lost = self.rng.below(self.records.len() - self.durable + 1);
        self.records.truncate(self.records.len() - lost);
        self.durable = self.records.len();
        self.cancelled_at = self.cancelled_at.map(|at| at.min(self.durable));
        self.workers.clear();
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
            cancelled: self.cancelled_at.is_some(),
        };
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
        for (&step, live) in &self.run.live {
            let id = &self.new.plan.steps[step].id;
            let told = self.events().filter_map(|event| match &event.kind {
                RunEventKind::Progress(said) if said.step_id == *id => match said.update {
                    StepUpdate::Retrying { delay, .. } => Some(Duration::from_millis(delay)),
                    _ => None,
                },
                _ => None,
            });
            if let Phase::Retrying { until } = live.phase {
                assert!(is_in_time(until, told.last().expect("a retry was told")), "{id}");
            }
        }
        let limit = self.new.plan.timeout.unwrap_or_default();
        assert!(self.run.timeout.is_none_or(|timeout| is_in_time(timeout, limit)));
    }

    fn events(&self) -> impl Iterator<Item = &RunEvent> {
        self.records.iter().filter_map(|record| match record {
            Record::Event { event, .. } => Some(event),
            Record::Output { .. } | Record::Whole { .. } => None,
        })
    }

    fn wholes(&self) -> HashMap<StepId, Arc<Value>> {
        let whole = |record: &Record| match record {
            Record::Whole { step, output, .. } => Some((step.clone(), output.clone())),
            Record::Event { .. } | Record::Output { .. } => None,
        };
        self.records.iter().filter_map(whole).collect()
    }

    fn check(&self) -> usize {
        let events: Vec<_> = self.events().cloned().collect();
        self.records[self.cancelled_at.unwrap_or(self.records.len())..].iter().for_each(check_after_cancel);
        check_sequence(&self.new, &events);
        if !self.was_set {
            check_times(&events);
        }
        let mut state = RunState::new(self.new.run.clone(), &self.new.plan, self.new.created_at);
        events.iter().for_each(|event| state.apply(event));
        assert_eq!(state, *self.run.state(), "the run is the fold of its messages");
        assert!(self.run.live.is_empty() && self.run.deadlines.is_empty());
        assert!(self.run.ready.is_empty() && self.run.suspects.is_empty());
        let errors = state.steps.iter().filter_map(|step| step.error.as_deref());
        errors.filter(|error| error.contains("executor.interruptions")).count()
    }
}

fn random_plan(rng: &mut Rng) -> Plan {
    let lines: Vec<_> = (0..1 + rng.below(12)).map(|step| random_line(rng, step)).collect();
    let mut plan = plan(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    plan.on_failure = if rng.one_in(2) { OnFailure::Stop } else { OnFailure::Continue };
    plan.timeout = rng.one_in(4).then(|| Duration::from_millis(100 + rng.below(400) as u64));
    for step in &mut plan.steps {
        step.continue_on_failure = rng.one_in(5);
        step.retry = retries(rng.below(3) as u32, rng.below(100) as u64);
        step.timeout = rng.one_in(4).then(|| Duration::from_millis(1 + rng.below(100) as u64));
        step.tool = ["once", "wait", "echo", "echo", "echo"][rng.below(5)].into();
        let condition = ["true", "false", "nonsense"][rng.below(3)];
        step.conditional = rng.one_in(6).then(|| condition.into());
    }
    plan
}

fn random_line(rng: &mut Rng, step: usize) -> String {
    let on: Vec<_> = (0..step).filter(|_| rng.one_in(3)).map(|other| format!("s{other}")).collect();
    format!("s{step}: {}", on.join(" "))
}

/// Nothing begins, goes on or succeeds once the end was asked for.
fn check_after_cancel(record: &Record) {
    let Record::Event { event, .. } = record else { return };
    match &event.kind {
        RunEventKind::Progress(said) => {
            assert!(matches!(said.update, StepUpdate::Skipped { .. } | StepUpdate::Cancelled { .. }), "{said:?}");
        }
        RunEventKind::LevelStarted(_) | RunEventKind::Completed(_) => panic!("it goes on: {event:?}"),
        _ => {}
    }
}

/// Holds the messages of a run that has ended against what the contract says of any.
fn check_sequence(new: &NewRun, events: &[RunEvent]) {
    assert!(
        events.first().is_some_and(RunEvent::is_first) && events.iter().filter(|event| event.is_first()).count() == 1
    );
    assert!(events.last().is_some_and(RunEvent::is_last) && events.iter().filter(|event| event.is_last()).count() == 1);
    let mut model = Model { new, steps: vec![Seen::default(); new.plan.steps.len()], level: None, is_open: false };
    for event in events {
        model.follow(&event.kind);
    }
}

/// As long as nobody sets the wall clock, messages come in its order, and no retry before its time.
fn check_times(events: &[RunEvent]) {
    assert!(events.windows(2).all(|pair| pair[0].timestamp <= pair[1].timestamp));
    let mut due: HashMap<StepId, Timestamp> = HashMap::new();
    for event in events {
        let RunEventKind::Progress(said) = &event.kind else { continue };
        match said.update {
            StepUpdate::Retrying { next_retry_at, .. } => drop(due.insert(said.step_id.clone(), next_retry_at)),
            StepUpdate::Running { .. } => {
                let due = due.remove(&said.step_id);
                assert!(due.is_none_or(|due| due <= event.timestamp), "{said:?}");
            }
            _ => {}
        }
    }
}

struct Model<'a> {
    new: &'a NewRun,
    steps: Vec<Seen>,
    /// The newest that was opened.
    level: Option<usize>,
    is_open: bool,
}

#[derive(Clone, Default)]
struct Seen {
    status: Option<StepStatus>,
    attempt: u32,
    /// Attempts that failed and were to be tried again.
    retries: u32,
    /// Attempts before this one that were interrupted, in a row.
    interruptions: u32,
    /// Failed, and not continued over.
    is_fatal: bool,
    skipped_by: Option<CauseKind>,
    /// Failed because it must not run twice.
    is_interrupted: bool,
}

impl Model<'_> {
    fn follow(&mut self, kind: &RunEventKind) {
        match kind {
            RunEventKind::Started(started) => assert_eq!(started.step_count, self.steps.len()),
            RunEventKind::LevelStarted(level) => {
                assert!(!self.is_open && level.level == self.level.map_or(0, |before| before + 1), "levels in order");
                assert!(self.steps.iter().all(|step| !step.ended_the_run()), "no level after the run's early end");
                let may_go_on = self.new.plan.on_failure == OnFailure::Continue;
                assert!(may_go_on || self.steps.iter().all(|step| !step.is_fatal), "a failed step stops the run");
                (self.level, self.is_open) = (Some(level.level), true);
            }
            RunEventKind::LevelCompleted(level) => {
                assert!(self.is_open && Some(level.level) == self.level, "it was open");
                assert!((0.0..=1.0).contains(&level.efficiency));
                self.is_open = false;
                let told = [&level.completed_steps, &level.failed_steps, &level.skipped_steps, &level.cancelled_steps]
                    .map(Vec::len);
                let ended = self.of_level(level.level).filter(|step| step.is_ended()).count();
                assert_eq!(told.iter().sum::<usize>(), ended, "each step that ended is in one list");
                self.check_cancelled(&level.cancelled_steps);
            }
            RunEventKind::StepOutput(said) => {
                let seen = &self.steps[self.index(&said.step_id)];
                assert_eq!((seen.status, seen.attempt), (Some(StepStatus::Running), said.attempt));
                assert!(said.chunk.len() <= 16 * 1024 && self.is_open);
            }
            RunEventKind::Progress(said) => self.step_moves(said),
            RunEventKind::Completed(completed) => {
                self.check_end();
                assert!(self.steps.iter().all(|step| !step.is_fatal && step.status != Some(StepStatus::Cancelled)));
                assert_eq!(completed.outputs.len(), self.steps.len());
            }
            RunEventKind::Failed(failed) => {
                self.check_end();
                let count = self.steps.iter().filter(|step| step.status == Some(StepStatus::Failed)).count();
                assert_eq!(failed.failed_steps.len(), count);
                self.check_cancelled(&failed.cancelled_steps);
                let is_of_steps = matches!(word(&json!(failed.reason)), "step_failed" | "interrupted");
                assert!(!is_of_steps || self.steps.iter().any(|step| step.is_fatal));
                let all_interrupted = self.steps.iter().all(|step| !step.is_fatal || step.is_interrupted);
                assert_eq!(failed.reason == EndReason::Interrupted, is_of_steps && all_interrupted);
            }
        }
    }

    fn step_moves(&mut self, said: &StepProgress) {
        let index = self.index(&said.step_id);
        let seen = self.steps[index].clone();
        let plan_step = &self.new.plan.steps[index];
        assert!(!seen.is_ended(), "{} moves after its end", said.step_id);
        let in_bracket = self.is_open && self.level == Some(plan_step.level);
        let mut next = Seen { attempt: said.attempt, retries: seen.retries, ..Seen::default() };
        match &said.update {
            StepUpdate::Running { message, .. } => {
                assert!(in_bracket && said.attempt == seen.attempt + 1);
                let ready = |&dependency: &usize| self.steps[dependency].is_ended() && !self.descends(dependency);
                assert!(plan_step.dependencies.iter().all(ready), "what it waits for is done");
                let runs_again = seen.status == Some(StepStatus::Running);
                assert!(!runs_again || &*plan_step.tool != "once", "it must not run twice");
                next.interruptions = if runs_again { seen.interruptions + 1 } else { 0 };
                let is_bounded = &*plan_step.tool != "wait";
                assert!(!is_bounded || next.interruptions < INTERRUPTIONS_MAX, "it is tried again for ever");
                assert_eq!(message.starts_with("Running again"), runs_again, "{message}");
                next.status = Some(StepStatus::Running);
            }
            StepUpdate::Retrying { .. } => {
                assert!(in_bracket && (seen.status, seen.attempt) == (Some(StepStatus::Running), said.attempt));
                next.status = Some(StepStatus::Retrying);
                next.retries += 1;
                assert!(next.retries <= plan_step.retry.max_retries, "no more than its policy allows");
            }
            StepUpdate::Completed { output, truncated, output_bytes, .. } => {
                assert!(in_bracket && (seen.status, seen.attempt) == (Some(StepStatus::Running), said.attempt));
                assert_eq!(*truncated, output_bytes.is_some());
                assert!(output.to_string().len() <= 66, "cut to 64 bytes, and quoted");
                next.status = Some(StepStatus::Completed);
            }
            StepUpdate::Failed { continued, error, .. } => {
                assert!(in_bracket && seen.attempt == said.attempt);
                let may_retry = seen.retries < plan_step.retry.max_retries;
                assert!(!(may_retry && error.contains("broken")), "no fewer than its policy allows");
                let is_interrupted = error.starts_with(INTERRUPTED);
                let may_be = match &*plan_step.tool {
                    "once" => true,
                    "wait" => false,
                    _ => seen.interruptions + 1 == INTERRUPTIONS_MAX,
                };
                assert!(!is_interrupted || (may_be && seen.status == Some(StepStatus::Running)), "{said:?}");
                next.is_interrupted = is_interrupted;
                assert_eq!(*continued, plan_step.continue_on_failure);
                (next.status, next.is_fatal) = (Some(StepStatus::Failed), !continued);
            }
            StepUpdate::Cancelled { .. } => {
                assert!(in_bracket && said.attempt > 0 && seen.attempt == said.attempt);
                next.status = Some(StepStatus::Cancelled);
            }
            StepUpdate::Skipped { cause, .. } => {
                assert_eq!((said.attempt, seen.attempt), (0, 0), "it never ran");
                assert!(in_bracket || !self.is_open, "in its level or in none");
                assert_eq!(cause.kind == CauseKind::UpstreamFailed, cause.step_id.is_some());
                let below = cause.step_id.as_ref().is_none_or(|failed| self.steps[self.index(failed)].is_fatal);
                assert!(below && (cause.step_id.is_none() || self.descends(index)));
                assert!(cause.kind != CauseKind::RunFailed || !self.descends(index));
                next.status = Some(StepStatus::Skipped);
                next.skipped_by = (!in_bracket).then_some(cause.kind);
            }
        }
        self.steps[index] = next;
        self.check_progress(said);
    }

    fn check_progress(&self, said: &StepProgress) {
        let count = |status| self.steps.iter().filter(|step| step.status == Some(status)).count();
        let (completed, failed) = (count(StepStatus::Completed), count(StepStatus::Failed));
        let (skipped, cancelled) = (count(StepStatus::Skipped), count(StepStatus::Cancelled));
        let total = self.steps.len();
        let percent = ((completed + failed + skipped + cancelled) * 100 / total) as u8;
        assert_eq!(said.progress, crate::model::Progress { completed, failed, skipped, cancelled, total, percent });
    }

    /// Only the open level, or that which was open last, holds steps that were cancelled.
    fn check_cancelled(&self, told: &[StepId]) {
        let count = self.steps.iter().filter(|step| step.status == Some(StepStatus::Cancelled)).count();
        let all_are = told.iter().all(|id| self.steps[self.index(id)].status == Some(StepStatus::Cancelled));
        assert!(all_are && told.len() == count, "{told:?}");
    }

    fn check_end(&self) {
        assert!(!self.is_open && self.steps.iter().all(Seen::is_ended), "nothing is left open");
    }

    /// Is it a step that failed, or does it come after one?
    fn descends(&self, step: usize) -> bool {
        let above = &self.new.plan.steps[step].dependencies;
        self.steps[step].is_fatal || above.iter().any(|&dependency| self.descends(dependency))
    }

    fn of_level(&self, level: usize) -> impl Iterator<Item = &Seen> {
        self.new.plan.levels[level].iter().map(|&step| &self.steps[step])
    }

    fn index(&self, id: &StepId) -> usize {
        self.new.plan.steps.iter().position(|step| step.id == *id).expect("a step of the plan")
    }
}

impl Seen {
    fn is_ended(&self) -> bool {
        self.status.is_some_and(StepStatus::is_ended)
    }

    fn ended_the_run(&self) -> bool {
        self.status == Some(StepStatus::Cancelled) || self.skipped_by.is_some()
    }
}

fn word(value: &Value) -> &str {
    value.as_str().expect("a word")
}
