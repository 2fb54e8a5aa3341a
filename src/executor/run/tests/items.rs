//! Scenarios of steps with items.

use super::*;
use crate::model::{ForEach, ItemCounts, Items, OnFailure, Usage};

fn each(count: usize, max_concurrent: usize) -> ForEach {
    let items = Items::Array((0..count).map(|n| json!({"n": n})).collect());
    ForEach { items, name: "it".into(), max_concurrent, on_item_failure: None }
}

/// A plan of one step with items.
fn mapped(each: ForEach, change: impl FnOnce(&mut Step)) -> Plan {
    with(plan(&["a", "b: a"]), "a", |step| {
        step.for_each = Some(each);
        change(step);
    })
}

impl Stage {
    fn end_item(&mut self, item: u32, result: Result<Outcome, AttemptError>) {
        let is_it = |launch: &Launch| launch.unit.item == Some(item);
        let at = self.workers.iter().position(is_it).expect("a worker has it");
        let launch = self.workers.remove(at);
        self.run.finish((launch.unit, launch.attempt), result, self.now, &mut self.effects);
        self.take_all();
    }

    fn item_ok(&mut self, item: u32) {
        self.end_item(item, Ok(Outcome::Output(json!(item * 10))));
    }

    fn item_fails(&mut self, item: u32) {
        self.end_item(item, Err(AttemptError::Passing("broken".to_owned())));
    }

    fn counts(&self) -> ItemCounts {
        self.run.state().steps[0].items.expect("it has items")
    }

    fn output(&self) -> &Value {
        self.run.state().steps[0].output.as_deref().expect("an output")
    }

    fn error(&self) -> &str {
        self.run.state().steps[0].error.as_deref().expect("an error")
    }
}

#[test]
fn items_run_a_few_at_a_time_and_their_outputs_come_in_order() {
    let mut stage = Stage::started(mapped(each(4, 2), |_| {}));
    assert_eq!(stage.log(), ["started", "[0", "a running 1", "(a[0] running 1)", "(a[1] running 1)"]);
    let scope = &stage.workers[1].scope;
    let engine = crate::executor::template::Engine::new();
    let seen = engine.render_value(&json!("{{ it.n }}/{{ index }}"), scope);
    assert_eq!(seen, Ok(json!("1/1")), "an item sees itself and its place");
    stage.item_ok(1);
    stage.item_ok(0);
    assert_eq!(stage.log()[..2], ["(a[1] completed 1)", "(a[2] running 1)"]);
    stage.item_ok(3);
    stage.item_ok(2);
    let expected = ["(a[3] completed 1)", "(a[2] completed 1)", "a completed 1", "0]", "[1", "b running 1"];
    assert_eq!(stage.log(), expected, "told as one step");
    assert_eq!(*stage.output(), json!([0, 10, 20, 30]));
    assert_eq!(stage.counts(), ItemCounts { done: 4, total: 4, ..ItemCounts::default() });
    assert_eq!(stage.workers[0].scope.outputs(), [(step_id("a"), Arc::new(json!([0, 10, 20, 30])))]);
}

#[test]
fn how_far_the_items_are_is_told_four_times_a_second_at_most() {
    let mut stage = Stage::started(mapped(each(100, 5), |_| {}));
    stage.log();
    let mut told = Vec::new();
    for item in 0..100 {
        stage.wait(10);
        stage.item_ok(item);
        let is_running = |line: &String| line == "a running 1";
        let said = stage.log().iter().filter(|line| is_running(line)).count();
        told.extend(std::iter::repeat_n(stage.now.mono.as_millis(), said));
    }
    assert!(told.windows(2).all(|pair| pair[1] - pair[0] >= 250), "{told:?}");
    assert!((3..=5).contains(&told.len()), "{told:?}");
    assert_eq!((stage.counts().done, stage.run.state().steps[0].status), (100, StepStatus::Completed));
}

#[test]
fn no_items_are_done_at_once_and_what_is_no_array_or_too_much_fails() {
    let mut stage = Stage::started(mapped(each(0, 10), |_| {}));
    assert_eq!(stage.log()[2..4], ["a running 1", "a completed 1"]);
    assert_eq!(*stage.output(), json!([]));
    for (expression, error) in [
        ("range(1001)", "forEach: too many items: 1001 (limit 1000, not configurable)"),
        ("'text'", "forEach: `'text'`: must be an array, not string"),
    ] {
        let items = Items::Expression(expression.into());
        let mut stage = Stage::started(mapped(ForEach { items, ..each(0, 10) }, |_| {}));
        assert_eq!(stage.log()[2..4], ["a failed 0", "0]"]);
        assert_eq!(stage.error(), error);
    }
}

#[test]
fn after_an_item_that_failed_none_begins_and_those_that_run_end() {
    let mut stage = Stage::started(mapped(each(5, 3), |_| {}));
    stage.item_fails(1);
    assert_eq!(stage.workers.len(), 2);
    stage.item_ok(0);
    stage.item_fails(2);
    assert_eq!(stage.error(), "item 1 failed: broken (2 of 5 items failed, 1 completed)");
    assert_eq!(stage.log()[9..12], ["a failed 1", "0]", "b skipped 0 upstream_failed a"]);
}

#[test]
fn all_items_are_tried_where_a_failure_does_not_stop_the_run() {
    let continued = mapped(each(3, 1), |step| step.continue_on_failure = true);
    let go_on = Plan { on_failure: OnFailure::Continue, ..mapped(each(3, 1), |_| {}) };
    for plan in [continued, go_on] {
        let mut stage = Stage::started(plan);
        stage.item_ok(0);
        stage.item_fails(1);
        stage.item_ok(2);
        assert_eq!(stage.error(), "item 1 failed: broken (1 of 3 items failed, 2 completed)");
        let counts = ItemCounts { done: 2, failed: 1, running: 0, total: 3 };
        assert_eq!(stage.counts(), counts);
    }
    let said = ForEach { on_item_failure: Some(OnFailure::Continue), ..each(3, 2) };
    let mut stage = Stage::started(mapped(said, |_| {}));
    stage.item_fails(0);
    stage.item_ok(1);
    stage.item_ok(2);
    assert_eq!(*stage.output(), json!([null, 10, 20]), "the step completes, null where an item failed");
    assert_eq!((stage.counts().failed, stage.run.state().progress.completed), (1, 1));
}

#[test]
fn each_item_has_the_retries_and_the_timeout_of_its_step() {
    let mut stage = Stage::started(mapped(each(2, 2), |step| {
        step.retry = retries(1, 1000);
        step.timeout = Some(Duration::from_millis(50));
    }));
    stage.item_fails(0);
    stage.item_ok(1);
    assert_eq!(stage.log()[5..], ["(a[0] retrying 1)", "(a[1] completed 1)"]);
    stage.wait(1000);
    stage.wait(50);
    assert_eq!(stage.effects.cancels.len(), 1, "it takes too long");
    stage.item_ok(0);
    assert_eq!(
        stage.error(),
        "item 0 failed: timed out after 50 ms (the step's timeout) (1 of 2 items failed, 1 completed)"
    );
}

#[test]
fn a_resumed_step_goes_on_with_the_items_that_were_not_done() {
    let mut stage = Stage::started(mapped(each(5, 2), |step| step.retry = retries(2, 700)));
    stage.end_item(0, Ok(Outcome::Output(json!("x".repeat(80)))));
    stage.item_fails(1);
    let mut stage = stage.crash(false, 200);
    assert_eq!(stage.log(), ["(a[2] running 2)"], "it was running, and another waits for its time");
    stage.wait(500);
    assert_eq!(stage.log(), ["a running 1", "(a[1] running 2)"], "what was done is told once more");
    for item in [1, 2, 3, 4] {
        stage.item_ok(item);
    }
    let whole = stage.workers[0].scope.outputs()[0].1.clone();
    assert_eq!(*whole, json!(["x".repeat(80), 10, 20, 30, 40]), "what was done is not run again, and is whole");
}

#[test]
fn an_item_that_must_not_run_twice_fails_as_interrupted() {
    let plan = mapped(each(3, 2), |step| step.tool = "once".into());
    let mut stage = Stage::started(plan);
    stage.item_ok(0);
    let mut stage = stage.crash(false, 1);
    let said = "interrupted: the server stopped while this item ran, and its tool must not run twice";
    assert_eq!(stage.error(), format!("{said} (item 1; 2 of 3 items failed, 1 completed)"));
    assert_eq!(stage.failed().reason, EndReason::Interrupted);
    assert!(stage.workers.is_empty());
    stage.log();
}

#[test]
fn a_cancel_ends_the_items_that_run_and_then_their_step() {
    let mut stage = Stage::started(mapped(each(5, 2), |_| {}));
    stage.log();
    stage.cancel();
    assert_eq!((stage.log(), stage.effects.cancels.len()), (Vec::new(), 2));
    stage.item_ok(0);
    stage.item_ok(1);
    let items = ["(a[0] cancelled 1)", "(a[1] cancelled 1)", "a cancelled 1 cancelled", "0]"];
    assert_eq!(stage.log()[..4], items);
    let stage = Stage::started(mapped(each(5, 2), |_| {})).crash(true, 1);
    assert_eq!(stage.run.state().status, RunStatus::Cancelled);
}

#[test]
fn what_an_item_says_is_told_of_it_and_kept_by_itself() {
    let mut stage = Stage::started(mapped(each(2, 2), |_| {}));
    let at = (stage.workers[1].unit, 1);
    stage.log();
    stage.run.output(at, OutputStream::Stdout, b"hi".to_vec(), stage.now, &mut stage.effects);
    let RunEventKind::StepOutput(said) = stage.last() else { panic!("nothing is told") };
    assert_eq!((said.step_id.as_str(), said.item, said.attempt, &*said.chunk), ("a", Some(1), 1, "hi"));
    assert_eq!(stage.log(), ["(a[1] wrote)", "a says hi"]);
}

#[test]
fn items_of_a_step_let_other_steps_of_its_level_go_first() {
    let plan = with(plan(&["a", "b"]), "a", |step| step.for_each = Some(each(9, 9)));
    let mut stage = Stage::new(plan);
    stage.run.start(stage.now, &mut stage.effects);
    let taken: Vec<_> = std::iter::repeat_with(|| stage.run.take(stage.now, &mut stage.effects)).take(4).collect();
    let units: Vec<_> = taken.into_iter().flatten().map(|launch| (launch.step, launch.unit.item)).collect();
    assert_eq!(units, [(0, Some(0)), (1, None), (0, Some(1))]);
}

/// It was kept with its item, and its step had told nobody yet.
#[test]
fn what_an_item_had_used_when_the_process_ended_was_not_summed() {
    let used = |tokens| Usage { input_tokens: tokens, total_tokens: tokens, ..Usage::default() };
    let mut stage = Stage::started(mapped(each(4, 1), |_| {}));
    for (item, tokens) in [(0, 10), (1, 5), (2, 3)] {
        if item == 1 {
            stage.wait(300);
        }
        let at = (stage.workers[0].unit, stage.workers[0].attempt);
        stage.run.note_usage(at, Box::new(used(tokens)), stage.now, &mut stage.effects);
        stage.item_ok(item);
    }
    let total = |stage: &Stage| stage.run.state().usage.as_ref().map_or(0, |usage| usage.total_tokens);
    assert!(total(&stage) < 18, "not all of it is told yet");
    let mut stage = stage.crash(false, 1);
    stage.item_ok(3);
    assert_eq!(total(&stage), 18, "each once");
    assert_eq!(stage.run.state().steps[0].usage.as_deref(), Some(&used(18)));
}
