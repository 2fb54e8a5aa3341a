//! Scenarios of runs whose steps wait for no level.

use super::*;
use crate::model::{OnFailure, OpenLevel, Scheduling};

fn eager(lines: &[&str]) -> Plan {
    Plan { scheduling: Scheduling::Eager, ..plan(lines) }
}

#[test]
fn a_step_starts_once_its_own_dependencies_are_done_and_levels_overlap() {
    let mut stage = Stage::started(eager(&["a", "b", "c: a", "d: b c"]));
    assert_eq!(stage.log(), ["started", "[0", "a running 1", "b running 1"]);
    stage.ok("a");
    assert_eq!(stage.log(), ["a completed 1", "[1", "c running 1"], "b still runs");
    let open: Vec<_> = stage.run.state().open_levels.iter().map(|open| open.level).collect();
    assert_eq!((open, stage.run.state().current_level), (vec![0, 1], Some(1)));
    stage.ok("c");
    assert_eq!(stage.log(), ["c completed 1", "1]"]);
    assert!(!stage.run.state().level_open, "the newest is closed");
    stage.ok("b");
    assert_eq!(stage.log(), ["b completed 1", "0]", "[2", "d running 1"]);
    stage.ok("d");
    assert_eq!(stage.log(), ["d completed 1", "2]", "completed"]);
}

#[test]
fn the_longest_chain_has_the_first_worker() {
    let base = with(eager(&["short", "long", "tail: long"]), "tail", |step| step.estimated_duration = Some(60_000));
    let mut stage = Stage::new(base);
    stage.run.start(stage.now, &mut stage.effects);
    let first = stage.run.take(stage.now, &mut stage.effects).expect("a step");
    assert_eq!(first.plan.steps[first.step].id.as_str(), "long");
}

#[test]
fn where_the_plan_says_nothing_the_chain_that_took_longest_before_has_the_first_worker() {
    let context = context();
    let play = |context: &Arc<Context>| {
        let run = Run::new(new_run("r", eager(&["quick", "short: quick", "slow"])), context.clone());
        let mut stage = Stage::of(run, Now::default());
        stage.start();
        let first = stage.workers[0].plan.steps[stage.workers[0].step].id.to_string();
        stage.wait(1);
        ["quick", "short"].iter().for_each(|id| stage.ok(id));
        stage.wait(1000);
        stage.ok("slow");
        (first, stage)
    };
    assert_eq!(play(&context).0, "quick", "the chain of more steps");
    let (first, stage) = play(&context);
    assert_eq!(first, "slow");
    let resumed = crate::executor::testing::context();
    let new = new_run("r", eager(&["quick", "short: quick", "slow"]));
    let (whole_outputs, items) = Default::default();
    let state = stage.run.state().clone();
    Run::resume(ResumedRun { new, state, whole_outputs, items, cancelled: false }, resumed.clone(), stage.now);
    assert_eq!(play(&resumed).0, "slow", "a process that goes on learns it from the runs that it goes on with");
}

#[test]
fn after_a_failed_step_nothing_new_starts_and_what_runs_finishes() {
    let mut stage = Stage::new(eager(&["a", "b", "waits", "c: a", "d: b", "e: d"]));
    stage.run.start(stage.now, &mut stage.effects);
    for _ in 0..2 {
        stage.workers.extend(stage.run.take(stage.now, &mut stage.effects));
    }
    stage.fail("a");
    assert_eq!(stage.log(), ["started", "[0", "b running 1", "a running 1", "a failed 1"]);
    stage.ok("b");
    assert_eq!(
        stage.log(),
        [
            "b completed 1",
            "waits skipped 0 run_failed",
            "0]",
            "c skipped 0 upstream_failed a",
            "d skipped 0 run_failed",
            "e skipped 0 run_failed",
            "failed step_failed"
        ]
    );
}

#[test]
fn a_step_that_waits_to_be_tried_again_is_tried_again_after_another_has_failed() {
    let base = with(eager(&["a", "b"]), "b", |step| step.retry = retries(1, 100));
    let mut stage = Stage::started(base);
    stage.fail("b");
    stage.fail("a");
    stage.wait(100);
    stage.log();
    stage.ok("b");
    assert_eq!(stage.log(), ["b completed 2", "0]", "failed step_failed"]);
}

#[test]
fn on_failure_continue_skips_what_descends_from_the_failed_step_at_once() {
    let base = Plan { on_failure: OnFailure::Continue, ..eager(&["a", "b", "c: a", "d: c", "e: b", "f: b d"]) };
    let mut stage = Stage::started(base);
    stage.log();
    stage.fail("a");
    assert_eq!(
        stage.log(),
        [
            "a failed 1",
            "[1",
            "c skipped 0 upstream_failed a",
            "[2",
            "d skipped 0 upstream_failed a",
            "2]",
            "[3",
            "f skipped 0 upstream_failed a",
            "3]"
        ]
    );
    stage.ok("b");
    stage.ok("e");
    assert_eq!(stage.log(), ["b completed 1", "0]", "e running 1", "e completed 1", "1]", "failed step_failed"]);
}

#[test]
fn a_condition_that_is_false_and_a_failure_that_is_continued_over_let_the_next_start() {
    let base = with(eager(&["a", "b: a", "c: b"]), "a", |step| step.conditional = Some("false".into()));
    let mut stage = Stage::started(with(base, "b", |step| step.continue_on_failure = true));
    assert_eq!(stage.log(), ["started", "[0", "a skipped 0 condition", "0]", "[1", "b running 1"]);
    stage.fail("b");
    assert_eq!(stage.log(), ["b failed 1", "1]", "[2", "c running 1"]);
}

#[test]
fn a_cancel_skips_the_rest_of_open_levels_inside_them() {
    let mut stage = Stage::new(eager(&["a", "b", "c: a", "d: a b", "e: d"]));
    stage.run.start(stage.now, &mut stage.effects);
    stage.workers.extend(stage.run.take(stage.now, &mut stage.effects));
    stage.run.finish((Unit::of_step(0), 1), Ok(Outcome::Output(json!(1))), stage.now, &mut stage.effects);
    stage.workers.clear();
    stage.workers.extend(stage.run.take(stage.now, &mut stage.effects));
    stage.workers.extend(stage.run.take(stage.now, &mut stage.effects));
    stage.log();
    stage.cancel();
    stage.ok("b");
    stage.ok("c");
    assert_eq!(
        stage.log(),
        [
            "b cancelled 1 cancelled",
            "0]",
            "c cancelled 1 cancelled",
            "d skipped 0 cancelled",
            "1]",
            "e skipped 0 cancelled",
            "failed cancelled"
        ]
    );
}

#[test]
fn a_resumed_run_goes_on_in_all_of_its_open_levels() {
    let mut stage = Stage::started(eager(&["a", "b", "c: a", "d: c"]));
    stage.wait(100);
    stage.ok("a");
    stage.log();
    let mut stage = stage.crash(false, 50);
    assert_eq!(stage.log(), ["c running 2", "b running 2"], "the longer chain first");
    stage.ok("c");
    let Some(Record::Event { event, .. }) = stage.effects.records.get(1) else { panic!("no level") };
    let RunEventKind::LevelCompleted(level) = &event.kind else { panic!("no level: {event:?}") };
    assert_eq!((level.level, level.execution_time), (1, 50), "a stopwatch for each");
    stage.ok("b");
    stage.ok("d");
    assert_eq!(
        stage.log(),
        ["c completed 2", "1]", "[2", "d running 1", "b completed 2", "0]", "d completed 1", "2]", "completed"]
    );
}

#[test]
fn a_state_of_a_version_that_knew_one_open_level_is_read() {
    let mut stage = Stage::started(plan(&["a", "b: a"]));
    stage.ok("a");
    let mut kept = json!(stage.run.state());
    let object = kept.as_object_mut().expect("an object");
    for newer in ["openLevels", "scheduling", "revision"] {
        object.remove(newer).expect(newer);
    }
    let state = RunState::from_json(kept.to_string().as_bytes()).expect("is read");
    assert_eq!(*state.open_levels, [OpenLevel { level: 1, started_at: Timestamp::from_millis(0) }]);
    assert_eq!((state.scheduling, state.revision), (Scheduling::Levels, 1));
}
