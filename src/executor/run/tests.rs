//! Scenarios: each sentence of the contract that a run keeps, played by hand. The log of a scenario is what its
//! messages say in short, one line each. How runs go on after a restart is played in [`resumed`],
//! how they end that have used up a budget in [`budget`].

use serde_json::{Value, json};

mod approval;
mod attempts;
mod budget;
mod children;
mod eager;
mod going_on;
mod handlers;
mod items;
mod outputs;
mod resumed;

use super::*;
use crate::executor::testing::{context, new_run, plan, retries, step_id};
use crate::executor::tool::Outcome;
use crate::model::{
    EndReason, ItemState, OnFailure, OutputStream, RetryOf, RetryPolicy, RunCompleted, RunEvent, RunFailed, Step,
    StepId,
};

/// A run played by hand on a virtual clock.
struct Stage {
    run: Run,
    now: Now,
    effects: Effects,
    /// Attempts that a worker has, newest last.
    workers: Vec<Launch>,
    /// What was said before.
    kept: Vec<Record>,
}

impl Stage {
    fn new(plan: Plan) -> Self {
        Self::of(Run::new(new_run("r", plan), context()), Now::default())
    }

    fn of(run: Run, now: Now) -> Self {
        Self { run, now, effects: Effects::default(), workers: Vec::new(), kept: Vec::new() }
    }

    /// Starts it and hands out all that is ready.
    fn started(plan: Plan) -> Self {
        let mut stage = Self::new(plan);
        stage.start();
        stage
    }

    fn start(&mut self) {
        self.run.start(self.now, &mut self.effects);
        self.take_all();
    }

    fn take_all(&mut self) {
        while self.run.has_ready() {
            self.workers.extend(self.run.take(self.now, &mut self.effects));
        }
        while self.run.has_suspect() {
            self.workers.extend(self.run.take_suspect(self.now, &mut self.effects));
        }
    }

    fn finish(&mut self, id: &str, result: Result<Outcome, AttemptError>) {
        let is_it = |launch: &Launch| launch.plan.steps[launch.step].id.as_str() == id;
        let at = self.workers.iter().position(is_it).expect("a worker has it");
        let launch = self.workers.remove(at);
        self.run.finish((launch.unit, launch.attempt), result, self.now, &mut self.effects);
        self.take_all();
    }

    fn ok(&mut self, id: &str) {
        self.finish(id, Ok(Outcome::Output(json!(id))));
    }

    fn fail(&mut self, id: &str) {
        self.finish(id, Err(AttemptError::Passing("broken".to_owned())));
    }

    fn wait(&mut self, ms: u64) {
        self.now = self.now.plus(Duration::from_millis(ms));
        self.run.tick(self.now, &mut self.effects);
        self.take_all();
    }

    fn cancel(&mut self) {
        self.run.cancel(self.now, &mut self.effects);
    }

    /// The messages since the last call, in short.
    fn log(&mut self) -> Vec<String> {
        let records = std::mem::take(&mut self.effects.records);
        let lines = records.iter().map(in_short).collect();
        self.kept.extend(records);
        lines
    }

    fn last(&self) -> &RunEventKind {
        match self.effects.records.last() {
            Some(Record::Event { event, .. }) => &event.kind,
            other => panic!("no message: {other:?}"),
        }
    }

    fn completed(&self) -> &RunCompleted {
        match self.last() {
            RunEventKind::Completed(completed) => completed,
            other => panic!("not completed: {other:?}"),
        }
    }

    fn failed(&self) -> &RunFailed {
        match self.last() {
            RunEventKind::Failed(failed) => failed,
            other => panic!("not failed: {other:?}"),
        }
    }

    /// Another process goes on with it, `ms` later.
    fn crash(self, cancelled: bool, ms: u64) -> Self {
        let wall = self.now.wall.plus_millis(ms);
        self.crash_at(wall, cancelled)
    }

    /// Another process goes on with it, whose wall clock says `wall`.
    fn crash_at(mut self, wall: Timestamp, cancelled: bool) -> Self {
        let now = Now { mono: Duration::ZERO, wall };
        self.log();
        let (whole_outputs, items) = kept(&self.kept);
        let new = new_run("r", Plan::clone(&self.run.plan));
        let resumed = ResumedRun { new, state: self.run.state, whole_outputs, items, cancelled };
        let mut stage = Self::of(Run::resume(resumed, context(), now), now);
        stage.kept = self.kept;
        stage.start();
        stage
    }
}

/// What a restart finds of whole outputs and of items.
fn kept(records: &[Record]) -> (HashMap<StepId, Arc<Value>>, HashMap<StepId, Vec<ItemState>>) {
    let (mut wholes, mut items) = (HashMap::new(), HashMap::<StepId, Vec<ItemState>>::new());
    for record in records {
        match record {
            Record::Whole { step, output, .. } if step.as_str().contains('[') => {
                wholes.insert(step.clone(), output.clone());
            }
            Record::Item { step, state, .. } => {
                let items = items.entry(step.clone()).or_default();
                items.retain(|item| item.item != state.item);
                items.push(ItemState::clone(state));
            }
            _ => {}
        }
    }
    (wholes, items)
}

fn in_short(record: &Record) -> String {
    let event = match record {
        Record::Event { event, .. } => event,
        Record::Output { step, .. } => return format!("({step} wrote)"),
        Record::Whole { step, .. } => return format!("({step} whole)"),
        Record::Verdict { verdict, .. } => return format!("(verdict {})", verdict.id.0),
        Record::Item { step, state, .. } => return item_in_short(step, state),
        Record::Plan { events, .. } => return format!("({} of a plan)", events.len()),
    };
    match &event.kind {
        RunEventKind::Started(_) => "started".to_owned(),
        RunEventKind::LevelStarted(level) => format!("[{}", level.level),
        RunEventKind::LevelCompleted(level) => format!("{}]", level.level),
        RunEventKind::PlanChanged(said) => format!("plan {}", said.revision),
        RunEventKind::StepOutput(said) => format!("{} says {}", said.step_id, said.chunk),
        RunEventKind::Completed(_) => "completed".to_owned(),
        RunEventKind::Failed(failed) => format!("failed {}", word(&json!(failed.reason))),
        RunEventKind::Progress(said) => {
            let payload = json!(said);
            let cause = &payload["cause"];
            let mut text = format!("{} {} {}", said.step_id, word(&payload["status"]), said.attempt);
            for part in [&cause["kind"], &cause["stepId"]] {
                text += &part.as_str().map(|part| format!(" {part}")).unwrap_or_default();
            }
            text
        }
    }
}

fn item_in_short(step: &StepId, state: &ItemState) -> String {
    format!("({} {} {})", state.id(step), word(&json!(state.status)), state.attempt)
}

fn word(value: &Value) -> &str {
    value.as_str().expect("a word")
}

fn with(mut plan: Plan, id: &str, change: impl FnOnce(&mut Step)) -> Plan {
    change(plan.steps.iter_mut().find(|step| step.id.as_str() == id).expect("a step"));
    plan
}

#[test]
fn levels_run_one_after_another_and_the_steps_of_a_level_in_parallel() {
    let mut stage = Stage::started(plan(&["a", "b", "c: a"]));
    assert_eq!(stage.log(), ["started", "[0", "a running 1", "b running 1"]);
    stage.ok("a");
    assert_eq!(stage.log(), ["a completed 1"], "c waits for b too: levels");
    stage.ok("b");
    assert_eq!(stage.log(), ["b completed 1", "0]", "[1", "c running 1"]);
    stage.ok("c");
    assert_eq!(stage.completed().outputs, *json!({"a": "a", "b": "b", "c": "c"}).as_object().expect("an object"));
    assert_eq!(stage.log(), ["c completed 1", "1]", "completed"]);
    assert!(stage.run.is_ended());
}

#[test]
fn ready_steps_are_taken_in_the_order_of_their_level_also_after_a_retry() {
    let base = with(plan(&["low", "high"]), "high", |step| step.retry = retries(1, 0));
    let mut stage = Stage::new(Plan { levels: vec![vec![1, 0]], ..base });
    stage.run.start(stage.now, &mut stage.effects);
    let first = stage.run.take(stage.now, &mut stage.effects).expect("a step");
    assert_eq!(first.step, 1);
    stage.run.finish((Unit::of_step(1), 1), Err(AttemptError::Passing("x".to_owned())), stage.now, &mut stage.effects);
    stage.run.tick(stage.now, &mut stage.effects);
    let second = stage.run.take(stage.now, &mut stage.effects).expect("a step");
    assert_eq!((second.step, second.attempt), (1, 2), "before the one of lower rank");
}

#[test]
fn a_failed_step_lets_its_level_finish_and_skips_the_rest_outside_any_bracket() {
    let mut stage = Stage::new(plan(&["a", "b", "c", "d: a", "e: b", "f: d"]));
    stage.run.start(stage.now, &mut stage.effects);
    stage.workers.extend(stage.run.take(stage.now, &mut stage.effects));
    stage.fail("a");
    assert_eq!(
        stage.log(),
        ["started", "[0", "a running 1", "a failed 1", "b running 1", "c running 1"],
        "those of its level that had not started too"
    );
    stage.ok("b");
    stage.ok("c");
    let failed = stage.failed();
    assert_eq!((failed.error.as_str(), &failed.failed_steps[..]), ("step a failed: broken", &[step_id("a")][..]));
    assert_eq!(
        stage.log(),
        [
            "b completed 1",
            "c completed 1",
            "0]",
            "d skipped 0 upstream_failed a",
            "e skipped 0 run_failed",
            "f skipped 0 upstream_failed a",
            "failed step_failed"
        ]
    );
}

#[test]
fn on_failure_continue_skips_only_descendants_inside_their_level_and_fails_at_the_end() {
    let base = Plan { on_failure: OnFailure::Continue, ..plan(&["a", "b", "c: a", "d: b", "e: c", "f: d"]) };
    let mut stage = Stage::started(base);
    stage.fail("a");
    stage.ok("b");
    stage.ok("d");
    stage.log();
    stage.ok("f");
    assert_eq!(stage.log(), ["f completed 1", "2]", "failed step_failed"]);
    assert_eq!(stage.run.state().step(&step_id("e")).map(|step| step.status), Some(StepStatus::Skipped));

    let lonely = Plan { on_failure: OnFailure::Continue, ..plan(&["a", "b: a", "c: b"]) };
    let mut stage = Stage::started(lonely);
    stage.log();
    stage.fail("a");
    let rest = ["[1", "b skipped 0 upstream_failed a", "1]", "[2", "c skipped 0 upstream_failed a", "2]"];
    assert_eq!(stage.log(), [&["a failed 1", "0]"][..], &rest[..], &["failed step_failed"][..]].concat());
}

#[test]
fn continue_on_failure_counts_as_failed_and_the_run_goes_on_with_null() {
    let mut stage = Stage::started(with(plan(&["a", "b: a"]), "a", |step| step.continue_on_failure = true));
    stage.fail("a");
    assert_eq!(stage.workers[0].scope.outputs(), [(step_id("a"), Arc::new(Value::Null))]);
    stage.ok("b");
    let completed = stage.completed();
    assert_eq!((&completed.outputs["a"], &completed.failed_steps[..]), (&Value::Null, &[step_id("a")][..]));
    let state = stage.run.state();
    assert!(state.steps[0].continued);
    assert_eq!((state.progress.completed, state.progress.failed, state.progress.percent), (1, 1, 100));
}

#[test]
fn a_false_condition_skips_and_counts_as_done_with_output_null() {
    let base = with(plan(&["a", "b: a", "c: b"]), "b", |step| step.conditional = Some("steps.a.output is none".into()));
    let mut stage = Stage::started(base);
    stage.ok("a");
    assert_eq!(stage.log()[4..], ["0]", "[1", "b skipped 0 condition", "1]", "[2", "c running 1"]);
    assert_eq!(stage.workers[0].scope.outputs(), [(step_id("b"), Arc::new(Value::Null))]);
    stage.ok("c");
    assert_eq!(stage.completed().outputs["b"], Value::Null);
}

#[test]
fn a_condition_that_errs_fails_the_step_without_an_attempt() {
    let base = with(plan(&["a", "b: a"]), "a", |step| {
        step.conditional = Some("nonsense".into());
        step.retry = retries(3, 0);
    });
    let mut stage = Stage::started(base);
    assert!(stage.failed().error.contains("nonsense is undefined"));
    assert_eq!(
        stage.log(),
        ["started", "[0", "a failed 0", "0]", "b skipped 0 upstream_failed a", "failed step_failed"]
    );
}

#[test]
fn cancel_ends_what_runs_or_waits_and_skips_what_never_started() {
    let base = with(plan(&["runs", "retries", "delays", "never", "later: runs"]), "retries", |step| {
        step.retry = retries(1, 5000);
    });
    let mut stage = Stage::new(base);
    stage.run.start(stage.now, &mut stage.effects);
    for _ in 0..3 {
        stage.workers.extend(stage.run.take(stage.now, &mut stage.effects));
    }
    let finish = |stage: &mut Stage, step, result| {
        stage.run.finish((Unit::of_step(step), 1), result, stage.now, &mut stage.effects)
    };
    finish(&mut stage, 1, Err(AttemptError::Passing("x".to_owned())));
    finish(&mut stage, 2, Ok(Outcome::After(Duration::from_secs(9), Value::Null)));
    stage.log();
    stage.cancel();
    stage.cancel();
    assert_eq!(stage.effects.cancels.len(), 1);
    assert_eq!(stage.log(), ["retries cancelled 1 cancelled", "delays cancelled 1 cancelled"]);
    stage.ok("runs");
    assert_eq!(
        stage.log(),
        [
            "runs cancelled 1 cancelled",
            "0]",
            "never skipped 0 cancelled",
            "later skipped 0 cancelled",
            "failed cancelled"
        ]
    );
    assert_eq!(stage.run.state().status, RunStatus::Cancelled);
}

#[test]
fn cancel_of_a_run_that_waits_still_says_its_first_message_and_its_last() {
    let mut stage = Stage::new(plan(&["a"]));
    stage.cancel();
    assert_eq!(stage.log(), ["started", "a skipped 0 cancelled", "failed cancelled"]);
}

#[test]
fn a_plan_that_takes_too_long_ends_with_reason_timeout() {
    let mut stage = Stage::started(Plan { timeout: Some(Duration::from_millis(100)), ..plan(&["a", "b: a"]) });
    assert_eq!(stage.run.next_deadline(), Some(Duration::from_millis(100)));
    stage.wait(100);
    assert_eq!(stage.effects.cancels.len(), 1);
    stage.fail("a");
    assert_eq!(stage.failed().error, "the run timed out after 100 ms (the plan's timeout)");
    assert_eq!(stage.log()[3..], ["a cancelled 1 timeout", "0]", "b skipped 0 timeout", "failed timeout"]);
}

#[test]
fn a_delay_frees_its_worker_and_completes_when_it_is_due() {
    let mut stage = Stage::started(plan(&["a"]));
    stage.finish("a", Ok(Outcome::After(Duration::from_millis(30), json!(1))));
    assert!(stage.run.is_busy(Duration::from_millis(30)) && !stage.run.is_busy(Duration::from_millis(29)));
    stage.wait(30);
    assert_eq!(stage.run.state().steps[0].duration, Some(30));
    assert_eq!(stage.log()[3..], ["a completed 1", "0]", "completed"]);
}

#[test]
fn a_delay_longer_than_the_steps_timeout_fails_when_that_is_over() {
    let mut stage = Stage::started(with(plan(&["a"]), "a", |step| step.timeout = Some(Duration::from_millis(20))));
    stage.finish("a", Ok(Outcome::After(Duration::from_millis(30), json!(1))));
    stage.wait(40);
    assert_eq!(stage.failed().error, "step a failed: timed out after 20 ms (the step's timeout)");
}

#[test]
fn a_run_that_waited_too_long_says_its_first_message_and_its_last_after_any_crash() {
    let late = Plan { queue_timeout: Some(Duration::from_millis(50)), ..plan(&["a", "b: a"]) };
    let mut stage = Stage::new(late.clone());
    stage.start();
    assert_eq!(stage.log(), ["started", "[0", "a running 1"], "it is in time");
    let now = Now::default().plus(Duration::from_millis(50));
    let mut stage = Stage::of(Run::new(new_run("r", late.clone()), context()), now);
    stage.start();
    let failed = stage.failed();
    let error = "the run did not start within 50 ms (the plan's queueTimeout)";
    assert_eq!((failed.reason, failed.error.as_str()), (EndReason::QueueTimeout, error));
    let events = stage.log();
    assert_eq!(events.len(), 4, "the first, two that are skipped, and the last: {events:?}");
    for said in 1..3 {
        let mut first = Stage::of(Run::new(new_run("r", late.clone()), context()), now);
        first.start();
        let new = new_run("r", late.clone());
        let mut state = RunState::new(new.run.clone(), &new.plan, new.created_at);
        for record in &first.effects.records[..said] {
            let Record::Event { event, .. } = record else { panic!("only messages: {record:?}") };
            state.apply(event);
        }
        let (whole_outputs, items) = (HashMap::new(), HashMap::new());
        let resumed = ResumedRun { new, state, whole_outputs, items, cancelled: false };
        let mut again = Stage::of(Run::resume(resumed, context(), now), now);
        again.start();
        assert_eq!(again.failed().reason, EndReason::QueueTimeout, "{said}");
        assert_eq!(again.log().len(), 4 - said);
    }
}
