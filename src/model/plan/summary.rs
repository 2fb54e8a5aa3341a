//! The summary of a plan in the response to its submission.

use serde::Serialize;

use super::Plan;
use crate::model::StepId;

/// A summary of a plan, for responses.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanSummary<'a> {
    /// The name for people.
    pub name: &'a str,
    /// The description for people.
    pub description: &'a str,
    /// The expected duration in milliseconds; 0 if unknown.
    pub estimated_duration: u64,
    /// The number of levels.
    pub total_levels: usize,
    /// Step ids, level by level, in the order in which they start.
    pub levels: Vec<Vec<&'a StepId>>,
    /// The steps, in the document's order.
    pub steps: Vec<StepSummary<'a>>,
}

/// One step of a [`PlanSummary`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepSummary<'a> {
    /// The step.
    pub id: &'a StepId,
    /// The name for people.
    pub title: &'a str,
    /// The description for people.
    pub description: &'a str,
    /// The tool that it calls.
    pub tool: &'a str,
}

impl Plan {
    /// The summary of this plan.
    pub fn summary(&self) -> PlanSummary<'_> {
        let ids = |level: &Vec<usize>| level.iter().map(|&step| &self.steps[step].id).collect();
        let steps = self.steps.iter().filter(|step| step.handler.is_none()).map(|step| StepSummary {
            id: &step.id,
            title: &step.title,
            description: &step.description,
            tool: &step.tool,
        });
        PlanSummary {
            name: &self.name,
            description: &self.description,
            estimated_duration: self.estimated_duration,
            total_levels: self.levels.len(),
            levels: self.levels.iter().map(ids).collect(),
            steps: steps.collect(),
        }
    }
}
