//! Steps that run a stored plan: what they wish, and what becomes of them.

use super::*;
use crate::model::{Budget, CHILD_DEPTH_MAX, ForEach, Items, Parent, RunId, Usage};

/// A run whose step `a` calls a stored plan.
fn calling(plan: Plan) -> Stage {
    let mut stage = Stage::started(plan);
    stage.log();
    call(&mut stage);
    stage
}

fn call(stage: &mut Stage) {
    let inputs = json!({"x": 1}).as_object().expect("an object").clone();
    stage.finish("a", Ok(Outcome::Plan { name: "nightly".to_owned(), inputs }));
}

fn wishes(stage: &mut Stage) -> Vec<ChildWish> {
    std::mem::take(&mut stage.effects.children)
}

/// The child that was wished for, and nothing else was.
fn wished(stage: &mut Stage) -> ChildCall {
    match wishes(stage).as_slice() {
        [ChildWish::Begin(child)] => (**child).clone(),
        other => panic!("one child: {other:?}"),
    }
}

fn end(stage: &mut Stage, child: &RunId, result: Result<Value, AttemptError>) {
    end_having_used(stage, child, result, None);
}

fn end_having_used(stage: &mut Stage, child: &RunId, result: Result<Value, AttemptError>, tokens: Option<u64>) {
    let usage = tokens.map(|total_tokens| Box::new(Usage { total_tokens, ..Usage::default() }));
    stage.run.child_ended(child, ChildEnd { result, usage }, stage.now, &mut stage.effects);
    stage.take_all();
}

#[test]
fn a_step_waits_for_its_child_and_has_its_output() {
    let mut stage = calling(plan(&["a", "b: a"]));
    let child = wished(&mut stage);
    assert_eq!((child.plan.as_str(), &child.inputs["x"], child.parent.depth), ("nightly", &json!(1), 1));
    assert_eq!((child.parent.run_id.as_str(), child.parent.step_id.as_str()), ("r", "a"));
    assert!(stage.workers.is_empty() && !stage.run.is_busy(Duration::MAX), "no worker waits");
    let other = RunId::parse("other").expect("an id");
    end(&mut stage, &other, Ok(json!(0)));
    assert_eq!(stage.run.state().steps[0].status, StepStatus::Running, "it is not told of another's");
    end(&mut stage, &child.run, Ok(json!({"outputs": 7})));
    assert_eq!(stage.run.state().steps[0].output.as_deref(), Some(&json!({"outputs": 7})));
    end(&mut stage, &child.run, Err(AttemptError::Passing("late".to_owned())));
    stage.ok("b");
    assert_eq!(stage.run.state().status, RunStatus::Completed);
}

#[test]
fn a_failed_child_fails_the_attempt_and_the_next_has_another() {
    let mut once = plan(&["a"]);
    once.steps[0].retry = retries(1, 10);
    let mut stage = calling(once);
    let first = wished(&mut stage);
    end(&mut stage, &first.run, Err(AttemptError::Passing("broken".to_owned())));
    assert_eq!(stage.run.state().steps[0].status, StepStatus::Retrying);
    stage.wait(10);
    call(&mut stage);
    let second = wished(&mut stage);
    assert_ne!(first.run, second.run);
    end(&mut stage, &first.run, Ok(json!(0)));
    end(&mut stage, &second.run, Err(AttemptError::Passing("broken again".to_owned())));
    assert_eq!(stage.run.state().status, RunStatus::Failed);
    assert_eq!(stage.run.state().steps[0].error.as_deref(), Some("broken again"));
}

/// Another process has the run, and no worker has anything of it yet.
fn not_begun_again(stage: &Stage) -> Stage {
    let resumed = ResumedRun {
        new: new_run("r", Plan::clone(&stage.run.plan)),
        state: stage.run.state().clone(),
        whole_outputs: Default::default(),
        items: Default::default(),
        cancelled: false,
    };
    let mut again = Stage::of(Run::resume(resumed, context(), stage.now), stage.now);
    again.run.start(again.now, &mut again.effects);
    again
}

#[test]
fn an_attempt_that_makes_up_for_an_interrupted_one_names_the_same_child() {
    let mut stage = calling(plan(&["a"]));
    let child = wished(&mut stage);
    let mut stage = not_begun_again(&stage);
    stage.take_all();
    call(&mut stage);
    assert_eq!(stage.run.state().steps[0].attempt, 2);
    assert_eq!(wished(&mut stage), child);
}

#[test]
fn a_run_that_is_cancelled_and_a_step_that_takes_too_long_give_their_children_up() {
    let mut stage = calling(plan(&["a"]));
    let child = wished(&mut stage);
    stage.cancel();
    assert_eq!(wishes(&mut stage), [ChildWish::Cancel(child.project, child.run)]);
    assert_eq!(stage.run.state().status, RunStatus::Cancelled);

    let mut limited = plan(&["a"]);
    limited.steps[0].timeout = Some(Duration::from_millis(50));
    let mut stage = calling(limited);
    let child = wished(&mut stage);
    stage.wait(49);
    assert_eq!(wishes(&mut stage), []);
    stage.wait(1);
    assert_eq!(wishes(&mut stage), [ChildWish::Cancel(child.project, child.run)]);
    assert_eq!(stage.run.state().status, RunStatus::Failed);
}

/// The process ended between what was said of the step and the wish for the end of its child.
#[test]
fn a_child_that_was_given_up_just_before_a_crash_went_on_until_its_parents_end() {
    let mut limited = plan(&["a", "b"]);
    limited.steps[0].timeout = Some(Duration::from_millis(50));
    limited.steps[0].retry = retries(2, 1000);
    let mut stage = calling(limited);
    let child = wished(&mut stage);
    stage.wait(50);
    assert_eq!(stage.run.state().steps[0].status, StepStatus::Retrying);
    let mut stage = stage.crash(false, 1);
    let given_up = ChildWish::Cancel(child.project, child.run);
    assert_eq!(wishes(&mut stage), std::slice::from_ref(&given_up));
    stage.wait(1000);
    call(&mut stage);
    let next = wished(&mut stage);
    let mut stage = stage.crash(false, 1);
    assert_eq!(wishes(&mut stage), [given_up], "the one that is waited for is not given up");
    call(&mut stage);
    assert_eq!(wished(&mut stage).run, next.run);
}

#[test]
fn a_child_whose_step_had_completed_was_given_up_at_each_restart() {
    let mut again = plan(&["a", "b: a"]);
    again.steps[0].retry = retries(1, 10);
    let mut stage = calling(again);
    let first = wished(&mut stage);
    end(&mut stage, &first.run, Err(AttemptError::Passing("broken".to_owned())));
    stage.wait(10);
    call(&mut stage);
    let second = wished(&mut stage);
    end(&mut stage, &second.run, Ok(json!(0)));
    let mut stage = stage.crash(false, 1);
    assert_eq!(stage.run.state().steps[0].status, StepStatus::Completed);
    assert_eq!(wishes(&mut stage), [ChildWish::Cancel(first.project, first.run)], "the first may go on");
}

#[test]
fn a_child_of_a_run_that_ended_at_a_restart_went_on_beside_its_handlers() {
    let mut late = plan(&["a", "onExit"]);
    late.steps[1].handler = Some(crate::model::HandlerKind::Exit);
    late.levels = vec![vec![0]];
    late.timeout = Some(Duration::from_millis(100));
    let mut stage = calling(late);
    let child = wished(&mut stage);
    let mut stage = stage.crash(false, 200);
    assert_eq!(stage.run.state().status, RunStatus::Running, "its handler runs");
    assert_eq!(wishes(&mut stage), [ChildWish::Cancel(child.project, child.run)]);
}

#[test]
fn a_child_went_on_beside_the_handlers_of_a_run_that_ended_before_its_step_began_again() {
    let mut handled = plan(&["a", "onExit"]);
    handled.steps[1].handler = Some(crate::model::HandlerKind::Exit);
    handled.levels = vec![vec![0]];
    let mut stage = calling(handled);
    let child = wished(&mut stage);
    let mut stage = not_begun_again(&stage);
    assert_eq!(wishes(&mut stage), []);
    stage.cancel();
    assert_eq!(stage.run.state().status, RunStatus::Running, "its handler runs");
    assert_eq!(wishes(&mut stage), [ChildWish::Cancel(child.project, child.run)]);
}

#[test]
fn an_item_that_wants_a_child_fails_and_says_why() {
    let mut each = plan(&["a"]);
    let items = Items::Array(vec![json!(1), json!(2)]);
    each.steps[0].for_each = Some(ForEach { items, name: "item".into(), max_concurrent: 2, on_item_failure: None });
    let mut stage = calling(each);
    call(&mut stage);
    assert_eq!(wishes(&mut stage), []);
    let error = stage.run.state().steps[0].error.clone().expect("an error");
    assert!(error.starts_with("item 0 failed: a stored plan can't be run with forEach"), "{error}");
}

#[test]
fn what_a_child_has_used_its_step_has_used_whatever_its_end_and_a_crash_tells_it_once() {
    let mut once = plan(&["a", "b: a"]);
    once.steps[0].retry = retries(1, 10);
    once.budget = Budget { tokens: Some(100), cost: None };
    let total = |usage: &Option<Box<Usage>>| usage.as_ref().map_or(0, |usage| usage.total_tokens);
    let mut stage = calling(once);
    let first = wished(&mut stage);
    end_having_used(&mut stage, &first.run, Err(AttemptError::Passing("broken".to_owned())), Some(30));
    assert_eq!(total(&stage.run.state().usage), 30);
    stage.wait(10);
    call(&mut stage);
    let second = wished(&mut stage);
    // Its end comes again for the process that goes on.
    let mut stage = stage.crash(false, 1);
    call(&mut stage);
    wishes(&mut stage);
    end_having_used(&mut stage, &second.run, Ok(json!(7)), Some(80));
    assert_eq!(total(&stage.run.state().steps[0].usage), 110);
    assert_eq!(stage.run.state().steps[0].output.as_deref(), Some(&json!(7)), "it was paid for");
    let failed = stage.failed();
    assert_eq!((failed.reason, total(&failed.usage)), (EndReason::Budget, 110));
}

#[test]
fn runs_are_nested_no_deeper_than_may_be() {
    let mut deep = plan(&["a"]);
    let (run_id, step_id) = (RunId::parse("above").expect("an id"), step_id("s"));
    deep.parent = Some(Parent { run_id, step_id, depth: CHILD_DEPTH_MAX });
    let mut stage = calling(deep);
    assert_eq!(wishes(&mut stage), []);
    let error = stage.run.state().steps[0].error.clone().expect("an error");
    assert!(error.contains("nested more than 5 levels deep"), "{error}");
}
