//! Scenarios: each sentence of the contract that a run keeps, played by hand. The log of a scenario is what its
//! messages say in short, one line each. How runs go on after a restart is played in [`resumed`].

use serde_json::{Value, json};

mod resumed;

use super::*;
use crate::executor::testing::{context, new_run, plan, retries, step_id};
use crate::executor::tool::Outcome;
use crate::model::{EndReason, OutputStream, RetryPolicy, RunCompleted, RunFailed, Step};

/// A run played by hand on a virtual clock.
struct Stage {
    run: Run,
    now: Now,
    effects: Effects,
    /// Attempts that a worker has, newest last.
    workers: Vec<Launch>,
}

impl Stage {
    fn new(plan: Plan) -> Self {
        Self::of(Run::new(new_run("r", plan), context()), Now::default())
    }

    fn of(run: Run, now: Now) -> Self {
        Self { run, now, effects: Effects::default(), workers: Vec::new() }
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
        self.run.finish((launch.step, launch.attempt), result, self.now, &mut self.effects);
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
        records.iter().map(in_short).collect()
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
    fn crash_at(self, wall: Timestamp, cancelled: bool) -> Self {
        let now = Now { mono: Duration::ZERO, wall };
        let new = new_run("r", Plan::clone(&self.run.plan));
        let resumed = ResumedRun { new, state: self.run.state, whole_outputs: Default::default(), cancelled };
        let mut stage = Self::of(Run::resume(resumed, context(), now), now);
        stage.start();
        stage
    }
}

fn in_short(record: &Record) -> String {
    let event = match record {
        Record::Event { event, .. } => event,
        Record::Output { step, .. } => return format!("({step} wrote)"),
        Record::Whole { step, .. } => return format!("({step} whole)"),
    };
    match &event.kind {
        RunEventKind::Started(_) => "started".to_owned(),
        RunEventKind::LevelStarted(level) => format!("[{}", level.level),
        RunEventKind::LevelCompleted(level) => format!("{}]", level.level),
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
    stage.run.finish((1, 1), Err(AttemptError::Passing("x".to_owned())), stage.now, &mut stage.effects);
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
fn a_failed_attempt_is_retried_after_its_delay_and_holds_no_worker() {
    let mut stage = Stage::started(with(plan(&["a"]), "a", |step| step.retry = retries(2, 1000)));
    stage.wait(10);
    stage.fail("a");
    let RunEventKind::Progress(said) = stage.last() else { panic!("no progress") };
    let StepUpdate::Retrying { delay, max_retries, next_retry_at, .. } = said.update else { panic!("not retrying") };
    assert_eq!((delay, max_retries, next_retry_at), (1000, 2, Timestamp::from_millis(1010)));
    assert!(!stage.run.is_busy(Duration::MAX));
    assert_eq!(stage.run.next_deadline(), Some(Duration::from_millis(1010)));
    stage.wait(999);
    assert_eq!(stage.log()[3..], ["a retrying 1"]);
    stage.wait(1);
    assert_eq!(stage.log(), ["a running 2"]);
    stage.fail("a");
    stage.wait(1000);
    stage.fail("a");
    assert_eq!(stage.log(), ["a retrying 2", "a running 3", "a failed 3", "0]", "failed step_failed"]);
    assert_eq!(stage.run.state().steps[0].duration, Some(2010), "since the first attempt");
}

#[test]
fn a_tool_that_asked_for_a_longer_wait_was_tried_again_too_early() {
    let policy = RetryPolicy { max_delay: 5000, ..retries(2, 100) };
    let mut stage = Stage::started(with(plan(&["a"]), "a", |step| step.retry = policy));
    for (asked, delay) in [(Duration::from_secs(3), 3000), (Duration::from_secs(60), 5000)] {
        let began = stage.now.wall;
        stage.finish("a", Err(AttemptError::Busy("busy".to_owned(), asked)));
        let RunEventKind::Progress(said) = stage.last() else { panic!("no progress") };
        let StepUpdate::Retrying { delay: told, next_retry_at, .. } = said.update else { panic!("not retrying") };
        assert_eq!((told, next_retry_at), (delay, began.plus_millis(delay)), "what is told is what is done");
        stage.wait(delay - 1);
        assert!(stage.workers.is_empty());
        stage.wait(1);
        assert_eq!(stage.workers.len(), 1);
    }
    stage.finish("a", Err(AttemptError::Busy("busy".to_owned(), Duration::from_secs(3))));
    assert_eq!(stage.failed().error, "step a failed: busy");
}

#[test]
fn an_attempt_that_would_fail_again_is_not_retried() {
    let mut stage = Stage::started(with(plan(&["a"]), "a", |step| step.retry = retries(2, 0)));
    stage.finish("a", Err(AttemptError::Lasting("x is undefined".to_owned())));
    assert_eq!(stage.log()[3..], ["a failed 1", "0]", "failed step_failed"]);
}

#[test]
fn an_attempt_that_takes_too_long_is_cancelled_and_retried_once_its_worker_is_back() {
    let base = with(plan(&["a"]), "a", |step| {
        step.retry = retries(1, 0);
        step.timeout = Some(Duration::from_millis(50));
    });
    let mut stage = Stage::started(base);
    stage.wait(49);
    assert!(stage.effects.cancels.is_empty());
    stage.wait(1);
    assert_eq!(stage.effects.cancels.len(), 1);
    assert_eq!(stage.log().len(), 3, "nothing is said yet");
    stage.ok("a");
    assert_eq!(stage.run.state().steps[0].error.as_deref(), Some("timed out after 50 ms (the step's timeout)"));
    stage.wait(0);
    assert_eq!(stage.log(), ["a retrying 1", "a running 2"]);
}

#[test]
fn an_attempt_that_ignores_its_cancel_is_given_up_and_its_report_ignored() {
    let mut stage = Stage::started(with(plan(&["a"]), "a", |step| step.retry = retries(1, 0)));
    stage.cancel();
    stage.wait(6999);
    assert!(!stage.run.is_ended());
    stage.wait(1);
    assert_eq!(stage.log()[3..], ["a cancelled 1 cancelled", "0]", "failed cancelled"]);
    stage.ok("a");
    assert_eq!(stage.log(), [""; 0]);

    let slow = with(plan(&["a"]), "a", |step| {
        step.timeout = Some(Duration::from_millis(1));
        step.retry = retries(1, 0);
    });
    let mut stage = Stage::started(slow);
    stage.wait(1);
    stage.wait(7000);
    stage.wait(0);
    assert_eq!(stage.log()[3..], ["a retrying 1", "a running 2"]);
    stage.run.finish((0, 1), Ok(Outcome::Output(json!("late"))), stage.now, &mut stage.effects);
    assert_eq!(stage.log(), [""; 0], "of an attempt before");
}

#[test]
fn a_retry_begins_beside_no_attempt_that_is_given_up_where_the_tool_must_not_run_twice() {
    let base = with(plan(&["a"]), "a", |step| {
        step.tool = "once".into();
        step.timeout = Some(Duration::from_millis(1));
        step.retry = retries(3, 0);
    });
    let mut stage = Stage::started(base.clone());
    stage.wait(1);
    stage.wait(7000);
    let error = "timed out after 1 ms (the step's timeout); the attempt does not end, and its tool must not run twice";
    assert_eq!(stage.failed().error, format!("step a failed: {error}"));
    assert_eq!(stage.log()[3..], ["a failed 1", "0]", "failed step_failed"]);

    let mut stage = Stage::started(base);
    stage.wait(1);
    stage.fail("a");
    stage.wait(0);
    assert_eq!(stage.log()[3..], ["a retrying 1", "a running 2"], "one that has ended is in nobody's way");
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
    let finish = |stage: &mut Stage, step, result| stage.run.finish((step, 1), result, stage.now, &mut stage.effects);
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
fn a_large_output_is_cut_in_messages_preceded_by_the_whole_one_and_whole_for_templates() {
    let mut stage = Stage::started(plan(&["a", "b: a"]));
    let whole = Arc::new(json!("x".repeat(65)));
    stage.finish("a", Ok(Outcome::Output(Value::clone(&whole))));
    assert_eq!(stage.workers[0].scope.outputs(), [(step_id("a"), whole)]);
    let state = stage.run.state().steps[0].clone();
    assert_eq!((state.output.clone(), state.output_bytes), (Some(Arc::new(json!("x".repeat(64)))), Some(65)));
    assert!(state.truncated);
    assert_eq!(stage.log()[3..5], ["(a whole)", "a completed 1"]);
    stage.ok("b");
    assert_eq!(stage.completed().truncated, [step_id("a")]);
}

#[test]
fn what_an_attempt_said_was_kept_without_end() {
    let mut stage = Stage::started(with(plan(&["a"]), "a", |step| step.retry = retries(1, 1000)));
    let said = |stage: &mut Stage, attempt: u32, bytes: usize| {
        stage.run.output((0, attempt), OutputStream::Stdout, vec![b'x'; bytes], stage.now, &mut stage.effects);
        let records = std::mem::take(&mut stage.effects.records).into_iter();
        let kept = records.filter_map(|record| match record {
            Record::Output { bytes, .. } => Some(String::from_utf8(bytes).expect("text")),
            Record::Event { .. } | Record::Whole { .. } => None,
        });
        kept.collect::<Vec<_>>()
    };
    let cut = "\n[cut here: the output is over 1000 bytes]";
    assert_eq!(said(&mut stage, 1, 1000), ["x".repeat(1000)]);
    assert_eq!(said(&mut stage, 1, 1), [cut]);
    assert_eq!(said(&mut stage, 1, 1), Vec::<String>::new());
    stage.fail("a");
    stage.wait(60_000);
    assert_eq!(said(&mut stage, 2, 1001), [format!("{}{cut}", "x".repeat(1000))], "each attempt anew");
}

#[test]
fn the_outputs_of_workflow_completed_are_bounded_together() {
    let mut stage = Stage::started(plan(&["a", "b", "c", "d"]));
    for id in ["a", "b", "c"] {
        stage.finish(id, Ok(Outcome::Output(json!("x".repeat(60)))));
    }
    stage.finish("d", Ok(Outcome::Output(json!([1]))));
    let (outputs, truncated) = cut::run_outputs(stage.run.state(), 100);
    assert_eq!(json!(outputs), json!({"a": "x".repeat(60), "b": "x".repeat(40), "c": "", "d": ""}));
    assert_eq!(truncated, [step_id("b"), step_id("c"), step_id("d")]);
}

#[test]
fn live_output_comes_before_the_steps_last_message_and_at_its_pace() {
    let mut stage = Stage::started(plan(&["a"]));
    let write = |stage: &mut Stage, text: &[u8]| {
        stage.run.output((0, 1), OutputStream::Stdout, text.to_vec(), stage.now, &mut stage.effects);
    };
    write(&mut stage, b"1");
    assert_eq!(stage.log()[3..], ["(a wrote)", "a says 1"]);
    write(&mut stage, b"2");
    write(&mut stage, b"3");
    assert_eq!(stage.log(), ["(a wrote)", "(a wrote)"]);
    stage.now.mono = stage.run.next_deadline().expect("a message is due");
    stage.wait(0);
    assert_eq!(stage.log(), ["a says 23"]);
    write(&mut stage, b"4\xe2\x82");
    stage.ok("a");
    assert_eq!(stage.log(), ["(a wrote)", "a says 4\u{fffd}", "a completed 1", "0]", "completed"]);
}

#[test]
fn what_a_step_left_out_last_was_never_told() {
    let mut stage = Stage::started(with(plan(&["a"]), "a", |step| step.retry = retries(1, 0)));
    let flood = |stage: &mut Stage, attempt: u32, result: Result<Outcome, AttemptError>| {
        for _ in 0..30 {
            let bytes = vec![b'x'; 16 * 1024];
            stage.run.output((0, attempt), OutputStream::Stdout, bytes, stage.now, &mut stage.effects);
        }
        stage.finish("a", result);
        stage.wait(0);
        let (mut shown, mut told) = (0, 0);
        for record in stage.effects.records.drain(..) {
            let Record::Event { event, .. } = record else { continue };
            match event.kind {
                RunEventKind::StepOutput(said) => {
                    shown += said.chunk.len() as u64;
                    told += said.omitted_bytes.unwrap_or(0);
                }
                RunEventKind::Progress(said) => told += said.omitted_bytes.unwrap_or(0),
                _ => {}
            }
        }
        (shown, told)
    };
    let (shown, told) = flood(&mut stage, 1, Err(AttemptError::Passing("no".to_owned())));
    assert!(shown >= 10 * 16_000, "a burst: {shown}");
    assert_eq!(shown + told, 30 * 16 * 1024, "told where the attempt failed");
    let (shown, told) = flood(&mut stage, 2, Ok(Outcome::Output(json!(null))));
    assert_eq!((shown, told), (0, 30 * 16 * 1024), "the burst is used up");
    assert!(stage.run.is_ended());
}

#[test]
fn where_the_time_went() {
    let mut stage = Stage::started(plan(&["a", "b", "c: a", "d: b", "e: c"]));
    stage.wait(100);
    stage.ok("a");
    stage.wait(100);
    stage.ok("b");
    let Some(Record::Event { event, .. }) = stage.effects.records.iter().find(|record| in_short(record) == "0]") else {
        panic!("no level");
    };
    let RunEventKind::LevelCompleted(level) = &event.kind else { panic!("no level") };
    assert_eq!((level.execution_time, level.efficiency), (200, 0.75));
    stage.wait(150);
    stage.ok("c");
    stage.ok("d");
    stage.ok("e");
    let metrics = &stage.completed().performance_metrics;
    assert_eq!((metrics.total_execution_time, metrics.step_time), (350, 600));
    assert_eq!(metrics.critical_path, [step_id("b"), step_id("d")], "350 ms; by way of a it is 250");
}
