//! What clients ask of active runs, and of ended ones: decisions, plan changes, and retries.

use serde_json::{Value, json};

use super::client::{Steer, Steered, What};
use super::medium::Medium;
use super::requests::Draft;
use super::world::World;
use crate::auth::Scope;
use crate::log::{Command, SteerRequest};
use crate::model::{ProjectId, RunId, RunState, StepId, StepStatus};

/// Calls that are remembered, to be made again.
const REMEMBERED_MAX: usize = 6;

impl<M: Medium> World<M> {
    pub(super) fn ask_steering(&mut self, index: usize) {
        match self.rng.below(10) {
            0 => self.steer_again(index),
            1..5 => self.ask_decision(index),
            5..7 => self.ask_change(index),
            7 => self.ask_stored(index),
            _ => self.ask_retry(index),
        }
    }

    /// A step that waits is decided, or one that does not.
    pub(super) fn ask_decision(&mut self, index: usize) {
        let waiting = self.model.waiting();
        let (project, run, step) = match waiting.is_empty() || self.rng.one_in(8) {
            true => {
                let project = self.any_project();
                let Some(run) = self.any_run(&project) else { return };
                (project, run, StepId::parse(&format!("s{}", self.rng.below(5))).expect("an id"))
            }
            false => waiting[self.rng.below(waiting.len())].clone(),
        };
        let choice = ["approve", "approve", "reject"][self.rng.below(3)];
        let mut body = json!({"decision": choice});
        if self.rng.one_in(2) {
            body["payload"] = if self.rng.one_in(6) { json!("seven") } else { json!(7) };
        }
        let what = Steer::Decide { step, choice: choice.to_owned() };
        self.steer(index, what, (project, run), body);
    }

    /// A plan is changed, as its run is now or as it was.
    pub(super) fn ask_change(&mut self, index: usize) {
        let open: Vec<_> = self.model.open_runs().filter(|(.., run)| run.may_change()).collect();
        if open.is_empty() {
            return;
        }
        let (project, run, known) = open[self.rng.below(open.len())];
        let (project, run, state, revision) =
            (project.clone(), run.clone(), known.state(u64::MAX), known.plan.revision);
        let of_revision = if self.rng.one_in(6) { revision + 1 - self.rng.below(2) as u32 * 2 } else { revision };
        let mut body = self.any_change(&state);
        body["expectedRevision"] = json!(of_revision);
        self.steer(index, Steer::Change { of_revision }, (project, run), body);
    }

    /// What has not started goes or is another, and something comes.
    fn any_change(&mut self, state: &RunState) -> Value {
        let is_pending = |step: &RunState, at: usize| step.steps[at].status == StepStatus::Pending;
        let own: Vec<usize> = (0..state.steps.len()).filter(|&at| state.steps[at].handler.is_none()).collect();
        let pending: Vec<usize> = own.iter().copied().filter(|&at| is_pending(state, at)).collect();
        let candidates = if pending.is_empty() || self.rng.one_in(6) { &own } else { &pending };
        let id = state.steps[candidates[self.rng.below(candidates.len())]].id.clone();
        let mut body = json!({});
        match self.rng.below(3) {
            0 => body["remove"] = json!([id]),
            1 => body["replace"] = json!([{"id": id, "tool": "work", "inputs": {"y": 1}}]),
            _ => {}
        }
        if body.as_object().is_none_or(serde_json::Map::is_empty) || self.rng.one_in(3) {
            let new = format!("n{}", self.rng.below(1000));
            let after = own[self.rng.below(own.len())];
            let mut dependencies = vec![json!(state.steps[after].id)];
            dependencies.retain(|other| *other != json!(id) || body.get("remove").is_none());
            let tool = ["work", "echo"][self.rng.below(2)];
            body["add"] = json!([{"id": new, "tool": tool, "dependencies": dependencies, "inputs": {"z": 2}}]);
        }
        body
    }

    /// Another try, mostly of a run that has ended.
    pub(super) fn ask_retry(&mut self, index: usize) {
        let project = self.any_project();
        let Some(run) = self.any_run(&project) else { return };
        let body = match self.rng.below(4) {
            0 => json!({"from": ["s0"]}),
            1 => json!({"inputs": {"n": self.rng.below(3)}}),
            _ => json!({}),
        };
        self.steer(index, Steer::Retry, (project, run), body);
    }

    /// Most of these calls have a key, so that they can be made again.
    fn steer(&mut self, index: usize, what: Steer, (project, run): (ProjectId, RunId), body: Value) {
        self.steers += 1;
        let mut key = (!self.rng.one_in(3)).then(|| format!("steer{}", self.steers));
        if let (true, Some(earlier)) = (self.rng.one_in(12), self.remembered.back()) {
            // That call was another one.
            key = earlier.key.clone();
        }
        let steered = Steered { what, project, run, key, body: body.to_string() };
        if steered.key.is_some() {
            self.remembered.push_back(steered.clone());
            if self.remembered.len() > REMEMBERED_MAX {
                self.remembered.pop_front();
            }
        }
        self.put_steer(index, steered);
    }

    /// A call that was made before is made again, by anyone.
    fn steer_again(&mut self, index: usize) {
        if !self.remembered.is_empty() {
            let steered = self.remembered[self.rng.below(self.remembered.len())].clone();
            self.put_steer(index, steered);
        }
    }

    fn put_steer(&mut self, index: usize, steered: Steered) {
        let base = format!("/api/projects/{}/workflows/{}", steered.project, steered.run);
        let (method, target, scope) = match &steered.what {
            Steer::Decide { step, .. } => ("POST", format!("{base}/steps/{step}/decision"), Scope::Approve),
            Steer::Change { .. } => ("PATCH", format!("{base}/plan"), Scope::Run),
            Steer::Retry => ("POST", format!("{base}/retry"), Scope::Run),
        };
        let headers = steered.key.iter().map(|key| ("Idempotency-Key", key.clone())).collect();
        let (who, body, project) = (self.any_token(), Some(steered.body.clone()), steered.project.clone());
        let asked = self.asked(What::Steer(Box::new(steered)), who, Some((scope, &project)));
        self.put(index, Draft { method, target, headers, body }, asked);
    }

    /// Whatever waits for a decision in the end gets one. `true` where anything did.
    pub(super) fn decide_what_waits(&mut self) -> bool {
        let waiting = self.model.waiting();
        for (project, run, step) in &waiting {
            let name = (project.clone(), run.clone(), step.clone());
            let body = br#"{"decision": "approve", "payload": 7}"#;
            let request = crate::api::decision_request(name, "end", None, body).expect("is read");
            let request: Box<SteerRequest> = Box::new(request);
            let answer = self.ask_log(|reply| Command::Steer { request, reply });
            self.run_until_idle();
            let answer = answer.try_recv().expect("whatever becomes of it, a verdict comes");
            self.note(|| format!("the end decides {step} of {run}: {answer:?}"));
        }
        !waiting.is_empty()
    }
}
