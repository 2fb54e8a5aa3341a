//! Decides whether a response answers a request to change a run.

use serde_json::Value;

use super::answer::Head;
use super::client::{Asked, Steer, Steered};
use super::medium::Medium;
use super::run_model::RunModel;
use super::world::World;
use crate::model::{Decision, PlanChanged, RunEventKind, RunId, StepId};

impl<M: Medium> World<M> {
    /// Holds the body of an answer against what the run has said of it by now.
    pub(super) fn judge_steered(&mut self, asked: &Asked, steered: &Steered, head: &Head, body: &[u8]) {
        let answer: Value = serde_json::from_slice(body).expect("JSON");
        // Calls that come again while the first of them is on its way are answered with it.
        let key = steered.key.as_ref().map(|key| format!("{} {key}", steered.project));
        let is_replay = head.get("idempotent-replay") == Some("true");
        let is_replay = is_replay || key.as_ref().is_some_and(|key| self.accepted.contains_key(key));
        let word = match (&steered.what, head.status) {
            (_, 409) => self.judge_conflict(steered, &answer),
            (Steer::Decide { step, choice }, 200) => {
                self.judge_decided(asked, steered, (step, choice), &answer, is_replay);
                "decided"
            }
            (Steer::Change { of_revision }, 200) => {
                self.judge_changed(steered, *of_revision, &answer, is_replay);
                "plan changed"
            }
            (Steer::Retry, 202) => {
                self.judge_retried(steered, &answer);
                "tried again"
            }
            _ => return,
        };
        self.meet(word);
        if is_replay {
            self.meet("steered before");
        }
        if let (Some(key), 200 | 202) = (key, head.status) {
            self.judge_same(key, format!("{:?} {} {}", steered.what, steered.run, steered.body), body);
        }
    }

    /// One verdict for each decision that was told, and it is that one.
    fn judge_decided(
        &mut self,
        asked: &Asked,
        steered: &Steered,
        (step, choice): (&StepId, &str),
        answer: &Value,
        is_replay: bool,
    ) {
        let told = self.steered_run(steered).decisions(step);
        assert!(!told.is_empty(), "{answer} and nothing was told");
        let is_it = |decision: &&Decision| {
            decision.choice.as_str() == choice && decision.by.as_deref() == answer["by"].as_str()
        };
        assert!(told.iter().any(is_it), "{answer} and not {told:?}");
        assert_eq!(answer["decision"], choice);
        if !is_replay {
            assert_eq!(answer["by"], self.tokens.sub(asked.who), "{answer}");
            let count = told.len();
            let name = format!("{} {} {step}", steered.project, steered.run);
            let times = self.steered.entry(name).or_default();
            *times += 1;
            assert!(*times <= count, "{answer}: {times} were told that they have decided it");
        }
    }

    /// The run has the plan of that revision, and nobody else was told that it is theirs.
    fn judge_changed(&mut self, steered: &Steered, of_revision: u32, answer: &Value, is_replay: bool) {
        let revision = answer["revision"].as_u64().expect("a revision");
        assert_eq!(revision, u64::from(of_revision) + 1, "{answer}");
        let run = self.steered_run(steered);
        assert!(revision <= u64::from(run.plan.revision), "{answer} and the plan is {}", run.plan.revision);
        let told = run.changes().find(|told| u64::from(told.revision) == revision);
        if let Some(told) = told {
            let told = serde_json::to_value(told).expect("serializes");
            for member in ["added", "removed", "changed", "levels"] {
                assert_eq!(told[member], answer[member], "{answer}");
            }
        }
        if !is_replay {
            let name = format!("{} {} revision {revision}", steered.project, steered.run);
            assert_eq!(self.steered.insert(name, 1), None, "{answer} was told before");
        }
    }

    fn judge_retried(&self, steered: &Steered, answer: &Value) {
        assert_eq!(answer["retryOf"], steered.run.as_str(), "{answer}");
        let run = RunId::parse(answer["runId"].as_str().expect("an id")).expect("an id");
        let run = self.model.run(&steered.project, &run).expect("it was taken on");
        let state = run.state(0);
        assert_eq!(
            (state.retry_of.as_ref(), &answer["reusedSteps"]),
            (Some(&steered.run), &serde_json::to_value(&state.reused_steps).expect("serializes"))
        );
    }

    /// What it is refused for is so.
    fn judge_conflict(&self, steered: &Steered, answer: &Value) -> &'static str {
        let run = self.steered_run(steered);
        match (&steered.what, answer["code"].as_str().expect("a code")) {
            (Steer::Decide { step, .. }, "already_decided") => {
                assert!(!run.decisions(step).is_empty(), "{answer}");
                "decided before"
            }
            (Steer::Decide { .. }, "not_waiting") => "not waiting",
            (Steer::Change { of_revision }, "stale_revision") => {
                let current = answer["revision"].as_u64().expect("the revision");
                assert_ne!(current, u64::from(*of_revision), "{answer}");
                assert!(current <= u64::from(run.plan.revision), "{answer}");
                "stale revision"
            }
            (Steer::Change { .. }, "step_started") => "step started",
            (Steer::Change { .. }, "run_ending") => "run ending",
            (Steer::Decide { .. } | Steer::Change { .. }, "run_ended") => {
                assert!(run.last_seq().is_some(), "{answer}");
                "steered after its end"
            }
            (Steer::Retry, "run_not_ended") => "tried again too soon",
            (Steer::Retry, "run_completed") => {
                assert!(run.last_seq().is_some(), "{answer}");
                "tried again for nothing"
            }
            (Steer::Retry, "concurrency_conflict") => "group full",
            (what, code) => panic!("{code} to {what:?}: {answer}"),
        }
    }

    fn steered_run(&self, steered: &Steered) -> &RunModel {
        self.model.run(&steered.project, &steered.run).expect("a run that was taken on")
    }
}

impl RunModel {
    /// What was told of decisions of this step by someone.
    fn decisions(&self, step: &StepId) -> Vec<&Decision> {
        let told = self.said.iter().filter_map(|(_, event)| match &event.kind {
            RunEventKind::Progress(said) if said.step_id == *step => said.decision.as_deref(),
            _ => None,
        });
        told.collect()
    }

    /// What was told of changes of its plan.
    pub(super) fn changes(&self) -> impl Iterator<Item = &PlanChanged> {
        self.said.iter().filter_map(|(_, event)| match &event.kind {
            RunEventKind::PlanChanged(told) => Some(told),
            _ => None,
        })
    }
}
