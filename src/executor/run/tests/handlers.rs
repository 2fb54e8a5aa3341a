//! Scenarios of handlers: what runs once a run's outcome is settled.

use super::*;
use crate::model::{HandlerKind, RunOutcome, Scheduling};

/// The steps of `lines`, of which those whose ids begin with a kind of handler are handlers.
fn handled(lines: &[&str]) -> Plan {
    let mut plan = plan(lines);
    for step in &mut plan.steps {
        step.handler = HandlerKind::ALL.into_iter().find(|kind| step.id.as_str().starts_with(kind.as_str()));
    }
    for level in &mut plan.levels {
        level.retain(|&step| plan.steps[step].handler.is_none());
    }
    plan.levels.retain(|level| !level.is_empty());
    plan
}

const ALL: [&str; 6] = ["a", "onSuccess", "onFailure", "onCancel", "onExit-1", "onExit-2: onExit-1"];

#[test]
fn handlers_of_the_outcome_run_first_then_those_of_any_and_the_rest_is_skipped() {
    let mut stage = Stage::started(handled(&ALL));
    stage.ok("a");
    assert_eq!(stage.log()[3..], ["a completed 1", "0]", "onSuccess running 1"]);
    stage.ok("onSuccess");
    assert_eq!(stage.log(), ["onSuccess completed 1", "onExit-1 running 1"]);
    stage.ok("onExit-1");
    stage.ok("onExit-2");
    let completed = stage.completed();
    assert_eq!((completed.outputs.len(), completed.failed_handlers.len()), (1, 0), "handlers have no output there");
    assert_eq!(
        stage.log()[1..],
        [
            "onExit-2 running 1",
            "onExit-2 completed 1",
            "onFailure skipped 0 condition",
            "onCancel skipped 0 condition",
            "completed"
        ]
    );
    let state = stage.run.state();
    assert_eq!((state.progress.total, state.progress.percent, &state.outcome), (1, 100, &None));
}

#[test]
fn a_failed_handler_is_told_and_changes_nothing() {
    let mut stage = Stage::started(handled(&["a", "onFailure-1", "onFailure-2: onFailure-1", "onExit"]));
    stage.fail("a");
    let outcome = stage.run.state().outcome.clone().expect("it is settled");
    assert_eq!(*outcome, RunOutcome::failed("step a failed: broken".to_owned(), EndReason::StepFailed));
    stage.log();
    stage.fail("onFailure-1");
    assert_eq!(
        stage.log(),
        ["onFailure-1 failed 1", "onFailure-2 skipped 0 upstream_failed onFailure-1", "onExit running 1"]
    );
    stage.ok("onExit");
    let failed = stage.failed();
    assert_eq!((failed.reason, failed.error.as_str()), (EndReason::StepFailed, "step a failed: broken"));
    assert_eq!(
        (&failed.failed_steps[..], &failed.failed_handlers[..]),
        (&[step_id("a")][..], &[step_id("onFailure-1")][..])
    );
}

#[test]
fn a_cancel_runs_its_handlers_and_another_one_ends_them() {
    let mut stage = Stage::started(handled(&ALL));
    stage.cancel();
    stage.ok("a");
    assert_eq!(stage.log()[3..], ["a cancelled 1 cancelled", "0]", "onCancel running 1"]);
    stage.cancel();
    stage.ok("onCancel");
    assert_eq!(stage.log()[..2], ["onCancel cancelled 1 cancelled", "onExit-1 skipped 0 cancelled"]);
    assert_eq!(stage.run.state().status, RunStatus::Cancelled);

    let mut stage = Stage::started(handled(&ALL));
    stage.ok("a");
    stage.cancel();
    stage.ok("onSuccess");
    assert_eq!(stage.run.state().status, RunStatus::Completed, "what a run has come to stays so");
}

#[test]
fn handlers_take_no_longer_than_they_may_all_together() {
    let timed = Plan { handler_timeout: Duration::from_millis(100), ..handled(&ALL) };
    let mut stage = Stage::started(Plan { timeout: Some(Duration::from_millis(50)), ..timed });
    stage.ok("a");
    stage.log();
    stage.wait(99);
    assert_eq!(stage.log(), [""; 0], "the plan's timeout is for its steps");
    stage.wait(1);
    stage.ok("onSuccess");
    assert_eq!(stage.log()[..2], ["onSuccess cancelled 1 timeout", "onExit-1 skipped 0 timeout"]);
    assert_eq!(stage.run.state().status, RunStatus::Completed);
}

#[test]
fn a_run_of_which_nothing_has_begun_has_no_use_for_its_handlers() {
    let mut stage = Stage::new(handled(&["a", "onCancel", "onExit"]));
    stage.cancel();
    let skipped = ["onCancel skipped 0 condition", "onExit skipped 0 condition"];
    assert_eq!(
        stage.log(),
        [&["started", "a skipped 0 cancelled"][..], &skipped[..], &["failed cancelled"][..]].concat()
    );
}

#[test]
fn handlers_see_what_the_run_has_come_to_and_null_for_outputs_that_are_not_there() {
    let mut plan = handled(&["a", "b: a", "onFailure"]);
    plan.steps[2].references = vec![0, 1];
    plan.steps[2].conditional = Some("run.reason == 'step_failed' and run.status == 'failed' and run.error".into());
    let mut stage = Stage::started(plan);
    stage.fail("a");
    let null = || Arc::new(Value::Null);
    assert_eq!(stage.workers[0].scope.outputs(), [(step_id("a"), null()), (step_id("b"), null())]);
}

/// Plays a run of `plan` to its end from the first `kept` of `before`'s messages; the first attempt at `a` fails where it
/// is to.
fn played(plan: &Plan, before: &[Record], is_failing: bool) -> (Stage, Vec<Record>) {
    let new = new_run("r", plan.clone());
    let mut state = RunState::new(new.run.clone(), plan, new.created_at);
    for record in before {
        if let Record::Event { event, .. } = record {
            state.apply(event);
        }
    }
    let resumed =
        ResumedRun { new, state, whole_outputs: Default::default(), items: Default::default(), cancelled: false };
    let mut stage = Stage::of(Run::resume(resumed, context(), Now::default()), Now::default());
    stage.start();
    while let Some(launch) = stage.workers.first() {
        let id = launch.plan.steps[launch.step].id.to_string();
        if is_failing && id == "a" { stage.fail(&id) } else { stage.ok(&id) }
    }
    let records = std::mem::take(&mut stage.effects.records);
    (stage, records)
}

#[test]
fn a_crash_at_any_message_leaves_one_last_message_and_the_same_outcome() {
    for (is_failing, scheduling) in [(false, Scheduling::Levels), (true, Scheduling::Eager)] {
        let plan = Plan { scheduling, ..handled(&ALL) };
        let (whole, messages) = played(&plan, &[], is_failing);
        for kept in 0..messages.len() {
            let (stage, rest) = played(&plan, &messages[..kept], is_failing);
            let all: Vec<_> = messages[..kept].iter().chain(&rest).map(in_short).collect();
            assert!(stage.run.is_ended(), "{all:?}");
            assert_eq!(stage.run.state().status, whole.run.state().status, "{all:?}");
            let last = all.last().expect("a message").clone();
            assert_eq!(all.iter().filter(|line| **line == last).count(), 1, "{all:?}");
            for line in all.iter().filter(|line| line.contains("completed 1")) {
                assert_eq!(all.iter().filter(|other| *other == line).count(), 1, "{all:?}");
            }
        }
    }
}
