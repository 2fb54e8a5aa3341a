//! Rows of stored plans.

use std::sync::Arc;

use crate::model::{PlanName, ProjectId, RunId, Timestamp};

/// The memory of a stored plan, without its texts.
const PLAN_OVERHEAD_BYTES: u64 = 256;

/// The row of a stored plan, without its document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanRow {
    /// Its project.
    pub project: ProjectId,
    /// Its name.
    pub name: PlanName,
    /// Tells one document from another.
    pub tag: Arc<str>,
    /// When it was stored, by the wall clock.
    pub updated_at: Timestamp,
    /// The summary that lists show: small JSON.
    pub summary: Arc<[u8]>,
    /// When it is run by itself: a [`ScheduleSpec`](crate::model::ScheduleSpec) as JSON.
    pub schedule: Option<Arc<[u8]>>,
    /// When that was set, by the wall clock.
    pub scheduled_at: Timestamp,
    /// The results of the schedule so far: a [`Firings`](crate::model::schedule::Firings) as JSON. Empty if there are
    /// none.
    pub firings: Arc<[u8]>,
    /// Its newest run.
    pub last_run: Option<RunId>,
    /// Bytes of its document.
    pub document_bytes: u64,
}

impl PlanRow {
    /// Bytes that it counts for.
    pub(in crate::log) fn weight(&self) -> u64 {
        let schedule = self.schedule.as_ref().map_or(0, |schedule| schedule.len());
        self.document_bytes + (self.summary.len() + schedule) as u64 + PLAN_OVERHEAD_BYTES
    }
}

/// A change of the stored plans.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlanChange {
    /// This one is there, in place of the one of its name. Its document is the one that is there where none comes along.
    Put(Box<PlanRow>, Option<Arc<[u8]>>),
    /// There is none of this name any more.
    Removed(ProjectId, PlanName),
}

impl PlanChange {
    /// The project and the name of the plan.
    pub(in crate::log) fn name(&self) -> (&ProjectId, &PlanName) {
        match self {
            Self::Put(row, _) => (&row.project, &row.name),
            Self::Removed(project, name) => (project, name),
        }
    }
}

/// Which stored plans are looked at.
#[derive(Debug, Clone, Copy)]
pub enum WantedPlans<'a> {
    /// The one of this name.
    Named(&'a ProjectId, &'a PlanName),
    /// All of a project, by their names.
    OfProject(&'a ProjectId),
    /// All that have a schedule, by their projects and names.
    Scheduled,
}

/// How much is stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PlanCounts {
    /// Plans of the project.
    pub of_project: u64,
    /// Plans of all projects that have a schedule.
    pub scheduled: u64,
    /// The weight of all plans.
    pub bytes: u64,
}
