//! What a run reuses of the run that it retries: the outputs of steps that are not run again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::{Plan, RetryPolicy, Step};
use crate::model::{RunId, RunState, StepId, StepState, StepStatus};

/// The run that a run retries, and what it keeps of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RetryOf {
    /// The retried run.
    pub run: RunId,
    /// The kept outputs, by step. These steps are not run again.
    pub kept: BTreeMap<StepId, KeptOutput>,
}

/// The output of a step as the message of the earlier run contained it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeptOutput {
    /// The output, or its beginning if `truncated`.
    #[serde(default, deserialize_with = "shared")]
    pub output: Arc<Value>,
    /// Whether the output is cut.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
    /// The size of the complete output, if it is cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_bytes: Option<u64>,
}

fn shared<'de, D: Deserializer<'de>>(from: D) -> Result<Arc<Value>, D::Error> {
    Value::deserialize(from).map(Arc::new)
}

impl KeptOutput {
    fn of(step: &StepState) -> Self {
        Self {
            output: step.output.clone().unwrap_or_default(),
            truncated: step.truncated,
            output_bytes: step.output_bytes,
        }
    }
}

/// A run that is to be retried.
#[derive(Debug, Clone, Copy)]
pub struct Earlier<'a> {
    /// Its plan.
    pub plan: &'a Plan,
    /// Its final state.
    pub state: &'a RunState,
}

impl Earlier<'_> {
    /// What `plan` keeps of this run: each completed step that is in both plans with the same tool, inputs, condition
    /// and dependencies, is not to run `again`, and depends only on such steps. A step that was skipped by its
    /// condition does not prevent this: its condition is evaluated again, over the same values.
    pub fn kept_by(&self, plan: &Plan, again: impl Fn(&Step) -> bool) -> RetryOf {
        let before: HashMap<&StepId, &Step> = self.plan.steps.iter().map(|step| (&step.id, step)).collect();
        let is_same = |step: &Step| before.get(&step.id).is_some_and(|before| self.is_same(before, plan, step));
        let mut is_settled = vec![false; plan.steps.len()];
        let mut kept = BTreeMap::new();
        for &at in plan.levels.iter().flatten() {
            let step = &plan.steps[at];
            let Some(before) = self.state.step(&step.id) else { continue };
            let is_fit = matches!(before.status, StepStatus::Completed | StepStatus::Skipped)
                && step.dependencies.iter().all(|&dependency| is_settled[dependency])
                && !again(step)
                && is_same(step);
            is_settled[at] = is_fit;
            if is_fit && before.status == StepStatus::Completed {
                kept.insert(step.id.clone(), KeptOutput::of(before));
            }
        }
        RetryOf { run: self.state.run_id.clone(), kept }
    }

    /// Whether a step of this run's plan equals one of another plan, as far as its output depends on it.
    fn is_same(&self, before: &Step, plan: &Plan, step: &Step) -> bool {
        work_of(before) == work_of(step) && dependencies(self.plan, before) == dependencies(plan, step)
    }

    /// The names of the inputs that differ between `plan` and this run's plan.
    pub fn changed_inputs(&self, plan: &Plan) -> BTreeSet<String> {
        let names = self.plan.inputs.keys().chain(plan.inputs.keys());
        names.filter(|name| self.plan.inputs.get(*name) != plan.inputs.get(*name)).cloned().collect()
    }
}

/// A step without the settings that its output does not depend on.
fn work_of(step: &Step) -> Step {
    Step {
        title: Arc::default(),
        description: Arc::default(),
        dependencies: Vec::new(),
        references: Vec::new(),
        retry: RetryPolicy::default(),
        retry_on: None,
        timeout: None,
        priority: 0,
        estimated_duration: None,
        continue_on_failure: false,
        level: 0,
        ..step.clone()
    }
}

fn dependencies<'p>(plan: &'p Plan, step: &Step) -> BTreeSet<&'p StepId> {
    step.dependencies.iter().map(|&dependency| &plan.steps[dependency].id).collect()
}

impl Plan {
    /// The output of a step that was kept of the retried run. `None` if the step is to be run.
    pub fn kept(&self, step: &StepId) -> Option<&KeptOutput> {
        self.retry_of.as_ref()?.kept.get(step)
    }

    /// The steps that are not run again, in the plan's order.
    pub fn reused_steps(&self) -> Vec<StepId> {
        let Some(retry_of) = &self.retry_of else { return Vec::new() };
        self.steps.iter().map(|step| &step.id).filter(|id| retry_of.kept.contains_key(*id)).cloned().collect()
    }

    /// The steps whose kept outputs are cut in messages. A step that is added while the run is active may use any of
    /// them.
    pub fn kept_wholes(&self) -> impl Iterator<Item = &StepId> {
        let kept = self.retry_of.iter().flat_map(|retry_of| &retry_of.kept);
        kept.filter(|(_, kept)| kept.truncated).map(|(step, _)| step)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::{Draft, Timestamp};

    fn plan(steps: Value) -> Plan {
        Draft::read(&json!({"name": "p", "steps": steps}), 10).finish().expect("a plan")
    }

    fn step(id: &str, after: &[&str]) -> Value {
        json!({"id": id, "tool": "echo", "dependencies": after})
    }

    /// The steps that `plan` keeps of a run of `before` whose steps ended like this.
    fn kept(before: &Plan, ends: &[(&str, StepStatus)], plan: &Plan, again: &[&str]) -> Vec<String> {
        let run = RunId::parse("r").expect("an id");
        let mut state = RunState::new(run, before, Timestamp::from_millis(0));
        for (id, status) in ends {
            let at = state.steps.iter().position(|step| step.id.as_str() == *id).expect("a step");
            Arc::make_mut(&mut state.steps[at]).status = *status;
        }
        let earlier = Earlier { plan: before, state: &state };
        let retry_of = earlier.kept_by(plan, |step| again.contains(&step.id.as_str()));
        retry_of.kept.keys().map(ToString::to_string).collect()
    }

    #[test]
    fn a_step_is_kept_where_it_and_all_that_it_waits_for_completed_and_are_the_same() {
        use StepStatus::{Completed, Failed, Skipped};
        let chain = json!([step("a", &[]), step("b", &["a"]), step("c", &["b"]), step("d", &[])]);
        let before = plan(chain.clone());
        let all = [("a", Completed), ("b", Completed), ("c", Completed), ("d", Completed)];
        let changed = |at: usize, key: &str, value: Value| {
            let mut steps = chain.clone();
            steps[at][key] = value;
            plan(steps)
        };
        assert_eq!(kept(&before, &all, &before, &[]), ["a", "b", "c", "d"]);
        assert_eq!(kept(&before, &all, &before, &["b"]), ["a", "d"]);
        assert_eq!(kept(&before, &[("a", Completed), ("b", Failed), ("d", Completed)], &before, &[]), ["a", "d"]);
        let over = [("a", Completed), ("b", Failed), ("c", Completed)];
        assert_eq!(kept(&before, &over, &before, &[]), ["a"], "what came behind a failure that was continued over");
        let skipped = [("a", Completed), ("b", Skipped), ("c", Completed)];
        assert_eq!(kept(&before, &skipped, &before, &[]), ["a", "c"], "its condition is evaluated again");
        for (key, value, left) in [
            ("tool", json!("other"), &["a", "d"][..]),
            ("inputs", json!({"n": 1}), &["a", "d"]),
            ("conditional", json!("true"), &["a", "d"]),
            ("dependencies", json!(["a", "d"]), &["a", "d"]),
            ("title", json!("Another"), &["a", "b", "c", "d"]),
            ("timeout", json!(5), &["a", "b", "c", "d"]),
            ("continueOnFailure", json!(true), &["a", "b", "c", "d"]),
            ("retryPolicy", json!({"maxRetries": 3}), &["a", "b", "c", "d"]),
        ] {
            assert_eq!(kept(&before, &all, &changed(1, key, value), &[]), left, "{key}");
        }
        let moved = plan(json!([step("d", &[]), step("x", &["d"]), step("b", &["a"]), step("a", &[])]));
        assert_eq!(kept(&before, &all, &moved, &[]), ["a", "b", "d"], "wherever they stand");
    }

    #[test]
    fn inputs_that_differ_are_named() {
        let with = |inputs: Value| Plan {
            inputs: inputs.as_object().expect("an object").clone(),
            ..plan(json!([step("a", &[])]))
        };
        let before = with(json!({"a": 1, "b": [1], "gone": null}));
        let run = RunId::parse("r").expect("an id");
        let state = RunState::new(run, &before, Timestamp::from_millis(0));
        let changed =
            Earlier { plan: &before, state: &state }.changed_inputs(&with(json!({"a": 1, "b": [2], "new": 0})));
        assert_eq!(changed.into_iter().collect::<Vec<_>>(), ["b", "gone", "new"]);
    }

    #[test]
    fn what_is_kept_reads_back() {
        let output = |output: Value| KeptOutput { output: output.into(), truncated: false, output_bytes: None };
        let id = |id: &str| StepId::parse(id).expect("an id");
        let kept = [
            (id("a"), output(json!(null))),
            (id("b"), KeptOutput { truncated: true, output_bytes: Some(9), ..output(json!("x")) }),
        ];
        let retry_of = RetryOf { run: RunId::parse("r").expect("an id"), kept: kept.into() };
        let text = serde_json::to_string(&retry_of).expect("serializes");
        assert_eq!(serde_json::from_str::<RetryOf>(&text).expect("reads back"), retry_of);
    }
}
