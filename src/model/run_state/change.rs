//! Applies a change of the plan to a run's state.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::{RunState, StepState};
use crate::model::{Plan, PlanChanged, PlannedStep, RunStarted, StepId};

impl RunState {
    /// Applies a new revision of the plan. A state may be created with the newest plan's steps; earlier changes are
    /// ignored then.
    pub(super) fn change_plan(&mut self, change: &PlanChanged) {
        if change.revision <= self.revision {
            return;
        }
        self.revision = change.revision;
        self.levels = Arc::new(change.levels.clone());
        let removed: HashSet<&StepId> = change.removed.iter().collect();
        self.steps.retain(|step| !removed.contains(&step.id));
        self.reindex();
        change.steps.iter().for_each(|planned| self.plan_step(planned));
        self.place_steps(&change.levels);
        // Handlers stay after all other steps.
        self.steps.sort_by_key(|step| step.handler.is_some());
        self.count_anew();
        self.reindex();
    }

    /// Replaces the plan of a run that has not started.
    pub fn plan_anew(&mut self, plan: &Plan) {
        let Self { revision, levels, steps, progress, index, .. } =
            Self::new(self.run_id.clone(), plan, self.created_at);
        (self.revision, self.levels, self.steps) = (revision, levels, steps);
        (self.progress, self.index) = (progress, index);
    }

    /// Starts the run with a plan that was changed while the run was queued.
    pub(super) fn begin_with(&mut self, started: &RunStarted) {
        if started.revision <= self.revision || started.steps.is_empty() {
            return;
        }
        self.revision = started.revision;
        self.levels = Arc::new(started.levels.clone());
        self.steps.retain(|step| step.handler.is_some());
        self.reindex();
        started.steps.iter().for_each(|planned| self.plan_step(planned));
        // Handlers stay after all other steps.
        self.steps.sort_by_key(|step| step.handler.is_some());
        self.count_anew();
        self.reindex();
    }

    /// Adds or replaces a step.
    fn plan_step(&mut self, planned: &PlannedStep) {
        let step = Arc::new(StepState::pending(&planned.id, &planned.title, &planned.tool, planned.level));
        match self.position(&planned.id) {
            Some(at) => self.steps[at] = step,
            None => self.steps.push(step),
        }
    }

    /// Moves waiting steps, whose levels may have changed together with those of the steps that they depend on.
    fn place_steps(&mut self, levels: &[Vec<StepId>]) {
        let ids = levels.iter().enumerate().flat_map(|(level, ids)| ids.iter().map(move |id| (id, level)));
        let places: HashMap<&StepId, usize> = ids.collect();
        for step in &mut self.steps {
            if let Some(&level) = places.get(&step.id).filter(|level| **level != step.level) {
                Arc::make_mut(step).level = level;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::{Draft, RunEvent, RunId, StepStatus, Timestamp};

    fn plan(steps: serde_json::Value, revision: u32) -> Plan {
        let plan = Draft::read(&json!({"name": "p", "steps": steps}), 10).finish().expect("a plan");
        Plan { revision, ..plan }
    }

    fn step(id: &str, after: &[&str]) -> serde_json::Value {
        json!({"id": id, "tool": "echo", "dependencies": after})
    }

    fn event(message_type: &str, payload: serde_json::Value) -> RunEvent {
        let mut payload = payload;
        payload["runId"] = json!("r");
        payload["timestamp"] = json!("2026-01-01T00:00:00.000Z");
        RunEvent::from_payload(message_type, payload.to_string().as_bytes()).expect("is read")
    }

    fn completed(id: &str) -> RunEvent {
        event(
            "workflow_progress",
            json!({"stepId": id, "stepTitle": id, "level": 0, "attempt": 1, "status": "completed", "output": 1,
                "duration": 1, "progress": {"completed": 1, "failed": 0, "skipped": 0, "total": 3, "percent": 33}}),
        )
    }

    fn planned(id: &str, level: usize) -> serde_json::Value {
        json!({"id": id, "title": id, "description": "", "tool": "echo", "level": level})
    }

    /// `b` is removed, `c` is replaced and comes earlier, `d` is new; then `d` is removed again and `e` is new.
    fn changes() -> [RunEvent; 2] {
        let progress = json!({"completed": 1, "failed": 0, "skipped": 0, "total": 3, "percent": 33});
        let first = json!({"revision": 2, "added": ["d"], "removed": ["b"], "changed": ["c"], "by": "ann",
            "steps": [planned("c", 1), planned("d", 2)], "levels": [["a"], ["c"], ["d"]], "stepCount": 3,
            "totalLevels": 3, "progress": progress});
        let second = json!({"revision": 3, "added": ["e"], "removed": ["d"], "changed": [], "by": "step:a",
            "steps": [planned("e", 1)], "levels": [["a"], ["c", "e"]], "stepCount": 3, "totalLevels": 2,
            "progress": progress});
        [event("workflow_plan_changed", first), event("workflow_plan_changed", second)]
    }

    #[test]
    fn a_fold_ends_in_the_same_state_from_whatever_revision_it_begins() {
        let plans = [
            plan(json!([step("a", &[]), step("b", &["a"]), step("c", &["b"])]), 1),
            plan(json!([step("a", &[]), step("c", &["a"]), step("d", &["c"])]), 2),
            plan(json!([step("a", &[]), step("c", &["a"]), step("e", &["a"])]), 3),
        ];
        let [first, second] = changes();
        let messages = [completed("a"), first, second, completed("c")];
        let fold = |plan: &Plan, messages: &[RunEvent]| {
            let mut state = RunState::new(RunId::parse("r").expect("an id"), plan, Timestamp::from_millis(0));
            messages.iter().for_each(|message| state.apply(message));
            state
        };
        let whole = fold(&plans[0], &messages);
        assert_eq!((whole.revision, whole.steps.len(), whole.progress.completed), (3, 3, 2));
        assert_eq!(whole.progress.percent, 66);
        assert!(whole.step(&StepId::parse("b").expect("an id")).is_none());
        let e = whole.step(&StepId::parse("e").expect("an id")).map(|step| (step.level, step.status));
        assert_eq!(e, Some((1, StepStatus::Pending)));
        for newer in &plans[1..] {
            assert_eq!(fold(newer, &messages), whole, "from revision {}", newer.revision);
        }
        let mut again = whole.at_its_start();
        messages.iter().for_each(|message| again.apply(message));
        assert_eq!(again, whole);
        assert_eq!(fold(&plans[0], &messages[..2]).levels.len(), 3);
    }
}
