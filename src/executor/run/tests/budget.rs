//! What attempts use, told and summed, and the end of runs that have used all that they may.

use super::*;
use crate::executor::tool::{Call, Tool, ToolError};
use crate::model::{Budget, Cost, Usage};

/// A tool of which a run may use 100 tokens.
struct Model;

impl Tool for Model {
    fn call(&self, _: &Call<'_>) -> Result<Outcome, ToolError> {
        Ok(Outcome::Output(Value::Null))
    }

    fn budget(&self) -> Budget {
        Budget { tokens: Some(100), cost: None }
    }
}

fn used(tokens: u64) -> Usage {
    let cost = Cost::of_units(tokens as f64 / 1000.0);
    Usage { input_tokens: tokens, total_tokens: tokens, cost, ..Usage::default() }
}

fn within(tokens: u64, lines: &[&str]) -> Plan {
    Plan { budget: Budget { tokens: Some(tokens), cost: None }, ..plan(lines) }
}

impl Stage {
    fn uses(&mut self, id: &str, tokens: u64) {
        let is_it = |launch: &&Launch| launch.plan.steps[launch.step].id.as_str() == id;
        let launch = self.workers.iter().find(is_it).expect("a worker has it");
        let at = (launch.unit, launch.attempt);
        self.run.note_usage(at, Box::new(used(tokens)), self.now, &mut self.effects);
    }

    /// Tokens that messages since the last call tell of, each with its step and status.
    fn told(&mut self) -> Vec<String> {
        let records = std::mem::take(&mut self.effects.records);
        let told = records.iter().filter_map(|record| match record {
            Record::Event { event: RunEvent { kind: RunEventKind::Progress(said), .. }, .. } => {
                let tokens = said.usage.as_ref()?.total_tokens;
                Some(format!("{} {:?} {tokens}", said.step_id, said.update.status()))
            }
            _ => None,
        });
        told.collect()
    }

    fn tokens(&self) -> u64 {
        self.run.state().usage.as_ref().map_or(0, |usage| usage.total_tokens)
    }
}

#[test]
fn what_an_attempt_used_is_told_when_it_ends_whatever_its_end_and_summed() {
    let mut retried = plan(&["a", "b", "c"]);
    retried.steps[0].retry = retries(1, 0);
    let mut stage = Stage::started(retried);
    stage.uses("a", 5);
    stage.uses("a", 7);
    stage.uses("b", 20);
    stage.uses("c", 100);
    assert_eq!((stage.told(), stage.tokens()), (vec![], 0), "nothing has ended");
    stage.fail("a");
    stage.fail("b");
    stage.wait(0);
    stage.ok("a");
    assert_eq!(stage.told(), ["a Retrying 7", "b Failed 20"]);
    stage.cancel();
    stage.finish("c", Err(AttemptError::Passing("cancelled".into())));
    assert_eq!(stage.failed().usage.as_deref(), Some(&used(127)));
    assert_eq!(stage.told(), ["c Cancelled 100"]);
    let state = stage.run.state();
    assert_eq!(state.steps[0].usage.as_deref(), Some(&used(7)));
    assert_eq!(state.usage.as_deref(), Some(&used(127)));
}

#[test]
fn a_run_that_has_used_its_budget_starts_nothing_more_and_ends() {
    let mut stage = Stage::started(within(100, &["a", "b", "c: a b"]));
    stage.uses("a", 60);
    stage.ok("a");
    stage.uses("b", 40);
    stage.wait(1999);
    assert_eq!(stage.effects.cancels.len(), 0, "its answer may be about to end");
    stage.wait(1);
    assert_eq!(stage.effects.cancels.len(), 1, "what runs is to end");
    stage.finish("b", Err(AttemptError::Passing("cancelled".into())));
    let failed = stage.failed();
    assert_eq!(failed.reason, EndReason::Budget);
    assert_eq!(failed.error, "the run has used 100 tokens of a budget of 100 tokens (the plan's budget)");
    assert_eq!(failed.usage.as_deref(), Some(&used(100)));
    assert_eq!(failed.cancelled_steps, [step_id("b")]);
    let skipped = stage.run.state().step(&step_id("c")).and_then(|step| step.reason.clone());
    assert_eq!(skipped.as_deref(), Some(stage.failed().error.as_str()));
}

#[test]
fn an_answer_that_came_whole_is_kept_though_it_used_up_the_budget() {
    let mut stage = Stage::started(within(100, &["a", "b: a"]));
    stage.uses("a", 150);
    stage.ok("a");
    assert_eq!((stage.failed().reason, stage.told()), (EndReason::Budget, vec!["a Completed 150".to_owned()]));
    assert_eq!(stage.run.state().steps[0].output.as_deref(), Some(&json!("a")));
}

#[test]
fn an_answer_whose_usage_is_told_before_its_end_is_kept_though_that_used_up_the_budget() {
    let mut stage = Stage::started(within(100, &["a", "b", "c: a b"]));
    stage.uses("a", 150);
    assert_eq!(stage.effects.cancels.len(), 1, "of `b`, which has told of nothing");
    stage.uses("a", 151);
    stage.finish("b", Err(AttemptError::Passing("cancelled".into())));
    assert!(!stage.run.is_ended(), "`a` may be about to end");
    stage.ok("a");
    assert_eq!(stage.effects.cancels.len(), 1, "`a` was never asked to end");
    assert_eq!(stage.run.state().steps[0].output.as_deref(), Some(&json!("a")));
    assert_eq!(
        (stage.failed().reason, stage.failed().cancelled_steps.clone()),
        (EndReason::Budget, vec![step_id("b")])
    );
}

#[test]
fn a_cancel_waits_for_no_answer_that_may_be_about_to_end() {
    let mut stage = Stage::started(within(100, &["a"]));
    stage.uses("a", 150);
    assert_eq!(stage.effects.cancels.len(), 0);
    stage.cancel();
    assert_eq!(stage.effects.cancels.len(), 1);
    stage.cancel();
    assert_eq!(stage.effects.cancels.len(), 1, "it was asked once");
    stage.finish("a", Err(AttemptError::Passing("cancelled".into())));
    assert_eq!(stage.failed().reason, EndReason::Cancelled);
}

#[test]
fn a_budget_of_a_tool_counts_what_was_used_there_alone() {
    let context = crate::executor::testing::context_with(|registry| registry.insert("model", Model));
    let mut plan = plan(&["a", "b", "c: a b"]);
    plan.steps[0].tool = "model".into();
    let mut stage = Stage::of(Run::new(new_run("r", plan), context), Now::default());
    stage.start();
    stage.uses("b", 1000);
    stage.ok("b");
    assert!(!stage.run.is_ended());
    stage.uses("a", 101);
    stage.ok("a");
    let error = "the run has used 101 tokens of a budget of 100 tokens (tools.model.budget)";
    assert_eq!((stage.failed().reason, stage.failed().error.as_str()), (EndReason::Budget, error));
}

#[test]
fn a_budget_in_money_is_counted_to_the_billionth() {
    let budget = Budget { tokens: None, cost: Cost::of_units(0.3) };
    let mut stage = Stage::started(Plan { budget, ..plan(&["a", "b: a", "c: b"]) });
    for (step, tokens) in [("a", 100), ("b", 199)] {
        stage.uses(step, tokens);
        stage.ok(step);
        assert!(!stage.run.is_ended());
    }
    stage.uses("c", 1);
    stage.ok("c");
    assert_eq!(stage.failed().error, "the run has used a cost of 0.3 of a budget of 0.3 (the plan's budget)");
}

#[test]
fn a_budget_holds_over_a_restart() {
    let mut stage = Stage::started(within(100, &["a", "b", "c: a b"]));
    stage.uses("a", 60);
    stage.ok("a");
    stage.uses("b", 30);
    let mut stage = stage.crash(false, 10);
    assert_eq!(stage.tokens(), 60, "what the interrupted attempt had used is lost with it");
    stage.uses("b", 50);
    let mut stage = {
        stage.finish("b", Err(AttemptError::Passing("cancelled".into())));
        stage
    };
    assert_eq!((stage.failed().reason, stage.tokens()), (EndReason::Budget, 110));
    assert_eq!(stage.told(), ["b Cancelled 50"]);
}

#[test]
fn an_end_that_a_restart_interrupted_is_for_its_budget_still() {
    let mut two = within(100, &["a", "b"]);
    two.steps[1].retry = retries(1, 10_000);
    let mut stage = Stage::started(two);
    stage.fail("b");
    stage.uses("a", 100);
    // `b`, which waits for its next attempt, is cancelled at once; what `a` used is not told before it has ended.
    let stage = stage.crash(false, 0);
    let failed = stage.failed();
    assert_eq!((failed.reason, failed.error.as_str()), (EndReason::Budget, "the run has used up its budget"));
}
