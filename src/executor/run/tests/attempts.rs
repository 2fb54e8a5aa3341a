//! Scenarios of attempts that fail, take too long, or are tried again.

use super::*;
use crate::model::StepUpdate;

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
    stage.run.finish((Unit::of_step(0), 1), Ok(Outcome::Output(json!("late"))), stage.now, &mut stage.effects);
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
    let error =
        "timed out after 1 ms (the step's timeout); the attempt is still running, and its tool must not run twice";
    assert_eq!(stage.failed().error, format!("step a failed: {error}"));
    assert_eq!(stage.log()[3..], ["a failed 1", "0]", "failed step_failed"]);

    let mut stage = Stage::started(base);
    stage.wait(1);
    stage.fail("a");
    stage.wait(0);
    assert_eq!(stage.log()[3..], ["a retrying 1", "a running 2"], "one that has ended is in nobody's way");
}

#[test]
fn only_failures_that_are_worth_it_are_retried_and_timeouts_are() {
    let retry_on = json!({"exitCodes": [3]});
    let step = json!({"id": "a", "tool": "echo", "timeout": 20,
        "retryPolicy": {"maxRetries": 3, "initialDelay": 0, "retryOn": retry_on}});
    let planned = crate::model::Draft::read(&json!({"name": "p", "steps": [step]}), 1).finish().expect("a plan");
    let known = |failure| AttemptError::Known { error: "broken".to_owned(), failure, wait: None };
    let started = || {
        let mut stage = Stage::started(planned.clone());
        stage.log();
        stage
    };
    let mut stage = started();
    stage.finish("a", Err(known(Failure::ExitCode(3))));
    assert_eq!(stage.log()[0], "a retrying 1");
    for error in [known(Failure::ExitCode(4)), known(Failure::Signal), AttemptError::Passing("broken".to_owned())] {
        let mut stage = started();
        stage.finish("a", Err(error));
        assert_eq!(stage.log()[0], "a failed 1");
    }
    let mut stage = started();
    stage.finish("a", Ok(Outcome::After(Duration::from_millis(30), json!(1))));
    stage.wait(20);
    assert_eq!(stage.log()[0], "a retrying 1", "it took too long");
}
