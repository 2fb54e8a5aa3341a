//! Scenarios of runs that keep outputs of another.

use super::*;
use crate::model::KeptOutput;

/// A run of `b: a` that keeps the output of `a`, of which messages have only the beginning.
fn going_on() -> NewRun {
    let kept = KeptOutput { output: Arc::new(json!("beg")), truncated: true, output_bytes: Some(9) };
    let retry_of = RetryOf { run: RunId::parse("before").expect("an id"), kept: [(step_id("a"), kept)].into() };
    let plan = Plan { retry_of: Some(Arc::new(retry_of)), ..plan(&["a", "b: a"]) };
    NewRun { whole_outputs: [(step_id("a"), whole())].into(), ..new_run("r", plan) }
}

fn whole() -> Arc<Value> {
    Arc::new(json!("beginning"))
}

#[test]
fn what_is_kept_of_an_earlier_run_is_told_at_once_and_is_whole_for_templates() {
    let mut stage = Stage::of(Run::new(going_on(), context()), Now::default());
    stage.start();
    assert_eq!(stage.log(), ["started", "[0", "a completed 0", "0]", "[1", "b running 1"]);
    assert_eq!(stage.workers[0].scope.outputs(), [(step_id("a"), whole())]);
    let state = stage.run.state().clone();
    assert_eq!(
        (state.retry_of, state.reused_steps),
        (Some(RunId::parse("before").expect("an id")), vec![step_id("a")])
    );
    let a = &state.steps[0];
    assert_eq!((a.reused, a.attempt, a.truncated, a.output_bytes, a.duration), (true, 0, true, Some(9), Some(0)));
    stage.ok("b");
    assert_eq!(stage.completed().truncated, [step_id("a")]);
}

#[test]
fn what_is_kept_is_whole_for_templates_after_a_crash_before_and_behind_its_message() {
    for said in 0..=5 {
        let mut first = Stage::of(Run::new(going_on(), context()), Now::default());
        first.start();
        let new = going_on();
        let mut state = RunState::new(new.run.clone(), &new.plan, new.created_at);
        for record in &first.effects.records[..said] {
            let Record::Event { event, .. } = record else { panic!("only messages: {record:?}") };
            state.apply(event);
        }
        let whole_outputs = new.whole_outputs.clone();
        let new = NewRun { whole_outputs: HashMap::new(), ..new };
        let resumed = ResumedRun { new, state, whole_outputs, items: HashMap::new(), cancelled: false };
        let now = Now::default();
        let mut stage = Stage::of(Run::resume(resumed, context(), now), now);
        stage.start();
        assert_eq!(stage.workers[0].scope.outputs(), [(step_id("a"), whole())], "{said}");
        stage.ok("b");
        assert_eq!(stage.completed().outputs["a"], json!("beg"), "{said}");
    }
}
