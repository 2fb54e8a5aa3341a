//! `workflow_plan_changed`: the message for a new revision of a run's plan.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Plan, Progress, StepId};

/// The revision of a plan when its run is accepted.
pub const FIRST_REVISION: u32 = 1;

/// The default for messages of versions that knew no other revision.
pub(super) fn first_revision() -> u32 {
    FIRST_REVISION
}

/// A checked change of a run's plan, on its way to the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanChange {
    /// The revision that it applies to.
    pub of_revision: u32,
    /// Steps that are new, in their order.
    pub added: Vec<StepId>,
    /// Steps that were removed.
    pub removed: Vec<StepId>,
    /// Steps that were replaced by others of the same id.
    pub changed: Vec<StepId>,
    /// The new plan and its inputs.
    pub document: Arc<str>,
    /// The plan read from that document. It is not sent to other nodes, which read the document again.
    #[serde(skip)]
    pub plan: Option<Arc<Plan>>,
}

/// `workflow_plan_changed`: the steps that have not started were changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanChanged {
    /// The revision of the new plan: one more than before.
    pub revision: u32,
    /// Steps that are new, in the plan's order.
    pub added: Vec<StepId>,
    /// Steps that were removed. They had not started, so no other message reports them.
    pub removed: Vec<StepId>,
    /// Steps that were replaced by others of the same id.
    pub changed: Vec<StepId>,
    /// The new and replaced steps, in the plan's order.
    pub steps: Vec<PlannedStep>,
    /// Step ids of the whole plan, level by level.
    pub levels: Vec<Vec<StepId>>,
    /// The number of steps.
    pub step_count: usize,
    /// The number of levels.
    pub total_levels: usize,
    /// Who changed it: the subject of a token, or `step:` and the id of the step whose tool did.
    pub by: Arc<str>,
    /// The progress of the run, counted in steps of the new plan.
    pub progress: Progress,
}

/// A planned step: what clients show of it before it starts.
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
    /// The planned steps whose ids `among` selects, in the plan's order.
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
