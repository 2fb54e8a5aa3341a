//! `workflow_plan_changed`: the message for a new revision of a run's plan.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Plan, Progress, StepId};

/// The revision that a plan has when its run is taken on.
pub const FIRST_REVISION: u32 = 1;

/// What a version that knew no other revision left unsaid.
pub(super) fn first_revision() -> u32 {
    FIRST_REVISION
}

/// A change of a run's plan, checked, on its way to the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanChange {
    /// The revision that it changes.
    pub of_revision: u32,
    /// Steps that are new, in their order.
    pub added: Vec<StepId>,
    /// Steps that are gone.
    pub removed: Vec<StepId>,
    /// Steps that were replaced by others of the same id.
    pub changed: Vec<StepId>,
    /// The plan and its inputs as they are then.
    pub document: Arc<str>,
    /// The plan that was read from it. It does not travel between nodes: there it is read again.
    #[serde(skip)]
    pub plan: Option<Arc<Plan>>,
}

/// `workflow_plan_changed`: the steps that had not started are others now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanChanged {
    /// Of the plan as it is now: one more than before.
    pub revision: u32,
    /// Steps that are new, in the plan's order.
    pub added: Vec<StepId>,
    /// Steps that are gone. They had not started, so no other message tells of them.
    pub removed: Vec<StepId>,
    /// Steps that were replaced by others of the same id.
    pub changed: Vec<StepId>,
    /// The steps that were added and changed, in the plan's order.
    pub steps: Vec<PlannedStep>,
    /// Step ids, level by level, of the whole plan.
    pub levels: Vec<Vec<StepId>>,
    /// The number of steps.
    pub step_count: usize,
    /// The number of levels.
    pub total_levels: usize,
    /// Who changed it: the subject of a token, or `step:` and the id of the step whose tool did.
    pub by: Arc<str>,
    /// Where the run is now, counted in the steps of the new plan.
    pub progress: Progress,
}

/// A step as it is planned: what clients show of it before it has started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedStep {
    /// The step.
    pub id: StepId,
    /// The name for people.
    pub title: Arc<str>,
    /// The description for people.
    pub description: Arc<str>,
    /// The tool that it calls.
    pub tool: Arc<str>,
    /// Its level.
    pub level: usize,
}

impl Plan {
    /// The steps that `among` picks by their ids, as they are planned, in the plan's order.
    pub fn planned_steps(&self, among: impl Fn(&StepId) -> bool) -> Vec<PlannedStep> {
        let steps = self.steps.iter().filter(|step| step.handler.is_none() && among(&step.id));
        let planned = steps.map(|step| PlannedStep {
            id: step.id.clone(),
            title: step.title.clone(),
            description: step.description.clone(),
            tool: step.tool.clone(),
            level: step.level,
        });
        planned.collect()
    }

    /// Step ids, level by level.
    pub fn level_ids(&self) -> Vec<Vec<StepId>> {
        let ids = |level: &Vec<usize>| level.iter().map(|&step| self.steps[step].id.clone()).collect();
        self.levels.iter().map(ids).collect()
    }
}
