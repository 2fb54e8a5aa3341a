//! Scenarios of restarts: the process that ran a run is gone, another goes on with it.

use super::*;
use crate::model::{Backoff, HandlerKind, RetryPolicy, StepProgress, StepUpdate};

impl Stage {
    /// What the newest message says of a step that starts.
    fn message(&self) -> &str {
        match self.last() {
            RunEventKind::Progress(StepProgress { update: StepUpdate::Running { message, .. }, .. }) => message,
            other => panic!("nothing starts: {other:?}"),
        }
    }

    fn delay(&mut self, id: &str, ms: u64) {
        self.finish(id, Ok(Outcome::After(Duration::from_millis(ms), json!(id))));
    }
}

#[test]
fn a_resumed_run_does_not_repeat_what_is_completed_and_runs_again_what_ran() {
    let mut stage = Stage::started(plan(&["a", "b", "c: a b"]));
    stage.ok("a");
    let mut stage = stage.crash(false, 500);
    assert_eq!(stage.log(), ["b running 2"], "the level stays open");
    stage.ok("b");
    assert_eq!(stage.run.state().steps[1].duration, Some(500), "since the first attempt");
    assert_eq!(stage.workers[0].scope.outputs().len(), 2);
    stage.ok("c");
    assert_eq!(stage.log(), ["b completed 2", "0]", "[1", "c running 1", "c completed 1", "1]", "completed"]);
}

#[test]
fn a_resumed_step_that_must_not_run_twice_fails_and_the_run_ends_interrupted() {
    let mut stage = Stage::started(with(plan(&["a", "b: a"]), "a", |step| {
        step.tool = "once".into();
        step.retry = retries(3, 0);
    }));
    stage.log();
    let mut stage = stage.crash(false, 1);
    assert_eq!(stage.failed().reason, EndReason::Interrupted);
    assert_eq!(stage.log(), ["a failed 1", "0]", "b skipped 0 upstream_failed a", "failed interrupted"]);
}

#[test]
fn a_resumed_retry_keeps_its_time_by_the_wall_clock() {
    for (gone, left) in [(300, 700), (5000, 0)] {
        let mut stage = Stage::started(with(plan(&["a"]), "a", |step| step.retry = retries(1, 1000)));
        stage.fail("a");
        let mut stage = stage.crash(false, gone);
        assert_eq!(stage.run.next_deadline(), Some(Duration::from_millis(left)));
        stage.wait(left);
        assert_eq!(stage.log(), ["a running 2"]);
    }
}

#[test]
fn a_resumed_run_that_was_to_end_ends() {
    let mut stage = Stage::started(plan(&["a", "b: a"]));
    stage.cancel();
    let mut stage = stage.crash(true, 1);
    assert_eq!(stage.log(), ["a cancelled 1 cancelled", "0]", "b skipped 0 cancelled", "failed cancelled"]);

    let stage = Stage::started(Plan { timeout: Some(Duration::from_millis(100)), ..plan(&["a"]) });
    let mut early = stage.crash(false, 60);
    assert_eq!(early.log(), ["a running 2"]);
    let mut late = early.crash(false, 60);
    assert_eq!(late.log(), ["a cancelled 2 timeout", "0]", "failed timeout"]);

    let mut waiting = Stage::new(plan(&["a"])).crash(true, 1);
    assert_eq!(waiting.log(), ["started", "a skipped 0 cancelled", "failed cancelled"]);
}

#[test]
fn a_delay_keeps_its_end_over_restarts() {
    for (gone, left) in [(300, 600), (900, 0), (5000, 0)] {
        let mut stage = Stage::started(plan(&["a"]));
        stage.delay("a", 1000);
        stage.wait(100);
        let mut stage = stage.crash(false, gone);
        stage.delay("a", 1000);
        assert_eq!(stage.run.next_deadline(), Some(Duration::from_millis(left)), "gone for {gone} ms");
        stage.log();
        stage.wait(left);
        assert_eq!(stage.log(), ["a completed 2", "0]", "completed"]);
        assert_eq!(stage.run.state().steps[0].duration, Some(100 + gone + left), "since the first attempt");
    }
}

#[test]
fn a_delay_counts_from_the_first_of_several_interrupted_attempts() {
    let mut stage = Stage::started(with(plan(&["a"]), "a", |step| step.tool = "wait".into()));
    for _ in 0..3 {
        stage.delay("a", 1000);
        stage.wait(100);
        stage = stage.crash(false, 100);
    }
    stage.wait(50);
    stage.delay("a", 1000);
    assert_eq!(stage.run.next_deadline(), Some(Duration::from_millis(50 + 350)));
}

#[test]
fn a_delay_of_an_attempt_after_a_failure_counts_from_there() {
    let mut stage = Stage::started(with(plan(&["a"]), "a", |step| step.retry = retries(1, 0)));
    stage.wait(100);
    let mut stage = stage.crash(false, 100);
    stage.fail("a");
    stage.wait(0);
    stage.delay("a", 1000);
    assert_eq!(stage.run.next_deadline(), Some(Duration::from_millis(1000)), "nothing interrupted attempt 3");
    stage.wait(300);
    let mut stage = stage.crash(false, 300);
    stage.delay("a", 1000);
    assert_eq!(stage.run.next_deadline(), Some(Duration::from_millis(400)), "attempt 3 began it");
}

#[test]
fn a_restart_does_not_change_whether_a_delay_outlasts_its_timeout() {
    for (delay, outlasts) in [(1000, false), (3000, true)] {
        let mut stage = Stage::started(with(plan(&["a"]), "a", |step| step.timeout = Some(Duration::from_secs(2))));
        stage.delay("a", delay);
        let mut stage = stage.crash(false, 60_000);
        stage.delay("a", delay);
        stage.log();
        stage.wait(0);
        assert_eq!(stage.log()[0], if outlasts { "a failed 2" } else { "a completed 2" });
    }
}

/// A stage of a process that began in 2026, and the wall clock of one after it that believes in 1970.
fn started_in_2026(plan: Plan) -> (Stage, Timestamp) {
    let mut stage = Stage::new(plan);
    stage.now.wall = Timestamp::from_millis(1_780_000_000_000);
    stage.start();
    (stage, Timestamp::from_millis(7))
}

#[test]
fn a_wall_clock_that_was_set_back_lengthens_no_delay() {
    let (mut stage, in_1970) = started_in_2026(plan(&["a"]));
    stage.delay("a", 1000);
    stage.wait(400);
    let mut stage = stage.crash_at(in_1970, false);
    stage.delay("a", 1000);
    assert_eq!(stage.run.next_deadline(), Some(Duration::from_millis(1000)));
}

#[test]
fn a_wall_clock_that_was_set_back_lengthens_no_retry() {
    let (mut stage, in_1970) = started_in_2026(with(plan(&["a"]), "a", |step| step.retry = retries(1, 1000)));
    stage.fail("a");
    let mut stage = stage.crash_at(in_1970, false);
    assert_eq!(stage.run.next_deadline(), Some(Duration::from_millis(1000)), "as long as was told, not 56 years");
    stage.log();
    stage.wait(1000);
    assert_eq!(stage.log(), ["a running 2"]);
}

#[test]
fn a_wall_clock_that_was_set_back_lengthens_no_timeout() {
    let base = with(plan(&["a"]), "a", |step| step.timeout = Some(Duration::from_millis(300)));
    let (stage, in_1970) = started_in_2026(Plan { timeout: Some(Duration::from_millis(1000)), ..base });
    let mut stage = stage.crash_at(in_1970, false);
    assert_eq!(stage.run.next_deadline(), Some(Duration::from_millis(300)), "the attempt's");
    stage.finish("a", Ok(Outcome::After(Duration::from_millis(2000), json!(1))));
    stage.log();
    stage.wait(300);
    assert_eq!(stage.log()[0], "a failed 2");

    let (stage, in_1970) = started_in_2026(Plan { timeout: Some(Duration::from_millis(1000)), ..plan(&["a"]) });
    assert_eq!(stage.crash_at(in_1970, false).run.next_deadline(), Some(Duration::from_millis(1000)), "the plan's");
}

#[test]
fn a_step_that_runs_again_says_so_and_why() {
    let stage = Stage::started(with(plan(&["a"]), "a", |step| step.retry = retries(2, 1000)));
    assert_eq!(stage.message(), "Running: A");
    let stage = stage.crash(false, 1);
    assert_eq!(stage.message(), "Running again (attempt 2): the server stopped while attempt 1 was running");
    let mut stage = stage.crash(false, 1);
    assert_eq!(stage.message(), "Running again (attempt 3): the server stopped while attempt 2 was running");
    stage.fail("a");
    stage.wait(1000);
    assert_eq!(stage.message(), "Attempt 4 of 5", "the first of two retries");
    stage.fail("a");
    let mut stage = stage.crash(false, 5000);
    stage.wait(0);
    assert_eq!(stage.message(), "Attempt 5 of 5", "a retry that was waited for was not interrupted");
}

#[test]
fn an_interruption_uses_up_no_retry() {
    let mut stage = Stage::started(plan(&["a"])).crash(false, 1);
    stage.ok("a");
    assert_eq!(stage.log(), ["a running 2", "a completed 2", "0]", "completed"]);

    let policy = RetryPolicy { backoff: Backoff::Linear, ..retries(2, 1000) };
    let mut stage = Stage::started(with(plan(&["a"]), "a", |step| step.retry = policy)).crash(false, 1);
    for (attempt, delay, max_retries) in [(2, 1000, 2), (4, 2000, 2)] {
        stage.fail("a");
        let RunEventKind::Progress(said) = stage.last() else { panic!("no progress") };
        let StepUpdate::Retrying { delay: said_delay, max_retries: said_max, .. } = said.update else {
            panic!("not retrying: {said:?}")
        };
        assert_eq!((said.attempt, said_delay, said_max), (attempt, delay, max_retries));
        stage.wait(delay);
        stage = stage.crash(false, 1);
    }
    stage.log();
    stage.fail("a");
    assert_eq!(stage.log(), ["a failed 6", "0]", "failed step_failed"], "after two retries and three interruptions");
}

#[test]
fn live_output_after_a_restart_belongs_to_the_new_attempt() {
    let write = |stage: &mut Stage, attempt, text: &[u8]| {
        stage.run.output(
            (Unit::of_step(0), attempt),
            OutputStream::Stdout,
            text.to_vec(),
            stage.now,
            &mut stage.effects,
        );
    };
    let mut stage = Stage::started(plan(&["a"]));
    write(&mut stage, 1, b"1");
    let mut stage = stage.crash(false, 1);
    stage.log();
    write(&mut stage, 1, b"late");
    assert_eq!(stage.log(), [""; 0], "of an attempt that is over");
    write(&mut stage, 2, b"2");
    let attempts = stage.effects.records.iter().map(|record| match record {
        Record::Output { attempt, .. } => *attempt,
        Record::Event { event, .. } => match &event.kind {
            RunEventKind::StepOutput(said) => said.attempt,
            other => panic!("no output: {other:?}"),
        },
        Record::Whole { .. } | Record::Item { .. } | Record::Plan { .. } | Record::Verdict { .. } => {
            panic!("no output")
        }
    });
    assert_eq!(attempts.collect::<Vec<_>>(), [2, 2]);
}

#[test]
fn a_failure_of_its_own_is_the_reason_before_an_interruption_is() {
    let mut stage = Stage::started(with(plan(&["a", "b"]), "a", |step| step.tool = "once".into()));
    stage.log();
    stage = stage.crash(false, 1);
    stage.fail("b");
    let failed = stage.failed();
    assert_eq!((failed.reason, failed.error.as_str()), (EndReason::StepFailed, "step b failed: broken"));
    assert_eq!(failed.failed_steps, [step_id("a"), step_id("b")]);
}

#[test]
fn a_step_that_ends_the_server_each_time_is_tried_three_times_and_then_fails() {
    let mut stage = Stage::started(plan(&["a", "b: a"]));
    for attempt in [2, 3] {
        stage.log();
        stage = stage.crash(false, 1);
        assert_eq!(stage.log(), [format!("a running {attempt}")]);
    }
    let mut stage = stage.crash(false, 1);
    let failed = stage.failed();
    assert_eq!(failed.reason, EndReason::Interrupted);
    let why = "during each of the last 3 attempts at this step (limit 3, executor.interruptions)";
    assert_eq!(failed.error, format!("step a failed: interrupted: the server stopped {why}"));
    assert_eq!(stage.log(), ["a failed 3", "0]", "b skipped 0 upstream_failed a", "failed interrupted"]);
}

#[test]
fn interruptions_are_counted_in_a_row() {
    let mut stage = Stage::started(with(plan(&["a"]), "a", |step| step.retry = retries(2, 0)));
    for _ in 0..2 {
        stage = stage.crash(false, 1).crash(false, 1);
        stage.fail("a");
        stage.wait(0);
    }
    let mut stage = stage.crash(false, 1).crash(false, 1);
    stage.ok("a");
    assert_eq!(stage.run.state().status, RunStatus::Completed);
}

#[test]
fn a_step_that_continues_on_failure_does_so_after_interruptions_too() {
    let mut stage = Stage::started(with(plan(&["a", "b: a"]), "a", |step| step.continue_on_failure = true));
    for _ in 0..3 {
        stage = stage.crash(false, 1);
    }
    stage.ok("b");
    assert_eq!(stage.completed().failed_steps, [step_id("a")]);
}

#[test]
fn what_only_waits_is_interrupted_as_often_as_it_takes() {
    let mut stage = Stage::started(with(plan(&["a"]), "a", |step| step.tool = "wait".into()));
    for _ in 0..10 {
        stage.delay("a", 1000);
        stage = stage.crash(false, 50);
    }
    stage.delay("a", 1000);
    assert_eq!(stage.run.next_deadline(), Some(Duration::from_millis(500)));
    stage.log();
    stage.wait(500);
    assert_eq!(stage.log(), ["a completed 11", "0]", "completed"]);
}

/// A plan of one step, with a timeout and a handler.
fn limited(on: &[&str]) -> Plan {
    let mut plan = plan(&[on, &["onExit"]].concat());
    if let Some(handler) = plan.steps.last_mut() {
        handler.handler = Some(HandlerKind::Exit);
    }
    plan.levels.iter_mut().for_each(|level| level.retain(|&step| step < on.len()));
    plan.timeout = Some(Duration::from_millis(100));
    plan
}

fn reason(stage: &Stage) -> Option<EndReason> {
    stage.run.state().outcome.as_ref().and_then(|outcome| outcome.reason)
}

/// One and the same cancel counted after a restart, and not before it.
#[test]
fn a_cancel_counts_until_another_end_was_told_before_a_restart_and_after_it() {
    for is_crashed in [false, true] {
        let mut stage = Stage::started(limited(&["a", "b"]));
        stage.wait(100);
        stage.cancel();
        if is_crashed {
            stage = stage.crash(true, 1);
        } else {
            stage.fail("a");
            stage.fail("b");
        }
        stage.take_all();
        assert_eq!(reason(&stage), Some(EndReason::Cancelled), "nobody was told of the timeout");

        let mut stage = Stage::started(limited(&["a", "b"]));
        stage.wait(100);
        stage.fail("a");
        stage.cancel();
        if is_crashed {
            stage = stage.crash(true, 1);
        } else {
            stage.fail("b");
        }
        assert_eq!(stage.failed().reason, EndReason::Timeout, "a was told to have ended for it");
        let handler = &stage.run.state().steps[2];
        assert_eq!((handler.status, handler.attempt), (StepStatus::Skipped, 0), "the cancel ends the handlers");
    }
}

#[test]
fn a_run_whose_steps_were_done_timed_out_at_a_restart() {
    let mut stage = Stage::started(limited(&["a"]));
    stage.finish("a", Ok(Outcome::Output(json!(1))));
    let begun = stage.kept.len() + stage.effects.records.len();
    stage.effects.records.retain(|record| !in_short(record).starts_with("onExit"));
    assert_eq!(stage.effects.records.len(), begun - 1, "that the handler runs is not kept");
    let said = std::mem::take(&mut stage.effects.records);
    let mut state = RunState::new(stage.run.state.run_id.clone(), &stage.run.plan, Timestamp::from_millis(0));
    said.iter().flat_map(Record::events).for_each(|event| state.apply(event));
    stage.run.state = state;
    let mut stage = stage.crash(false, 1000);
    stage.ok("onExit");
    assert_eq!(stage.run.state().status, RunStatus::Completed);

    let mut stage = Stage::started(limited(&["a"]));
    stage.log();
    let stage = stage.crash(false, 1000);
    assert_eq!(reason(&stage), Some(EndReason::Timeout), "a would have been waited for");
}
