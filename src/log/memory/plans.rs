//! Stored plans, in memory.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use crate::log::store::{Flow, PlanChange, PlanCounts, PlanRow, WantedPlans};
use crate::model::{PlanName, ProjectId};

/// All of them, by their projects and names.
#[derive(Default)]
pub(super) struct Plans {
    rows: BTreeMap<(ProjectId, PlanName), StoredPlan>,
}

/// What lists show of a plan, and its document.
type StoredPlan = (PlanRow, Arc<[u8]>);

impl Plans {
    pub(super) fn change(&mut self, change: &PlanChange) {
        let (project, name) = change.name();
        let key = (project.clone(), name.clone());
        match change {
            PlanChange::Put(row, document) => {
                let kept = || self.rows.get(&key).map(|(_, document)| document.clone()).unwrap_or_default();
                let document = document.clone().unwrap_or_else(kept);
                self.rows.insert(key, ((**row).clone(), document));
            }
            PlanChange::Removed(..) => drop(self.rows.remove(&key)),
        }
    }

    pub(super) fn document(&self, project: &ProjectId, name: &PlanName) -> Option<Arc<[u8]>> {
        self.rows.get(&(project.clone(), name.clone())).map(|(_, document)| document.clone())
    }

    /// Calls `each` with those wanted until it says stop.
    pub(super) fn each(&self, wanted: WantedPlans<'_>, each: &mut dyn FnMut(&PlanRow) -> Flow) {
        match wanted {
            WantedPlans::Named(project, name) => {
                if let Some((row, _)) = self.rows.get(&(project.clone(), name.clone())) {
                    each(row);
                }
            }
            WantedPlans::OfProject(project) => self.of_project(project, each),
            WantedPlans::Scheduled => self.scheduled(each),
        }
    }

    fn of_project(&self, project: &ProjectId, each: &mut dyn FnMut(&PlanRow) -> Flow) {
        let least = PlanName::parse("-").expect("the least character of names");
        let from = (project.clone(), least);
        for (row, _) in self.rows.range((Bound::Included(from), Bound::Unbounded)).map(|(_, plan)| plan) {
            if row.project != *project || each(row) == Flow::Stop {
                return;
            }
        }
    }

    fn scheduled(&self, each: &mut dyn FnMut(&PlanRow) -> Flow) {
        for (row, _) in self.rows.values().filter(|(row, _)| row.schedule.is_some()) {
            if each(row) == Flow::Stop {
                return;
            }
        }
    }

    pub(super) fn counts(&self, project: &ProjectId) -> PlanCounts {
        let mut counts = PlanCounts::default();
        for (row, _) in self.rows.values() {
            counts.of_project += u64::from(row.project == *project);
            counts.scheduled += u64::from(row.schedule.is_some());
            counts.bytes += row.weight();
        }
        counts
    }
}
