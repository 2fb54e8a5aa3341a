//! Requests about stored plans.

use std::sync::Arc;

use crate::http::Preconditions;
use crate::log::store::PlanRow;
use crate::model::{PlanName, ProjectId, Timestamp};

/// A change of a stored plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlanCommand {
    /// This one is stored.
    Put(Box<NewPlan>),
    /// It is removed.
    Remove {
        /// Its project.
        project: ProjectId,
        /// Its name.
        name: PlanName,
        /// Only where it is as these say.
        conditions: Preconditions,
    },
    /// Store the results of its schedule.
    Note {
        /// Its project.
        project: ProjectId,
        /// Its name.
        name: PlanName,
        /// What.
        firing: FiringNote,
    },
}

impl PlanCommand {
    /// The plan's project.
    pub(in crate::log) fn project(&self) -> &ProjectId {
        match self {
            Self::Put(plan) => &plan.project,
            Self::Remove { project, .. } | Self::Note { project, .. } => project,
        }
    }
}

/// A checked plan, to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPlan {
    /// Its project.
    pub project: ProjectId,
    /// Its name.
    pub name: PlanName,
    /// Only where the one of this name is as these say.
    pub conditions: Preconditions,
    /// The plan, its inputs and its schedule as JSON.
    pub document: Arc<[u8]>,
    /// Tells one document from another.
    pub tag: Arc<str>,
    /// The summary that lists show: a small JSON object.
    pub summary: Arc<[u8]>,
    /// When it is run by itself, as JSON.
    pub schedule: Option<Arc<[u8]>>,
}

/// The results of a schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FiringNote {
    /// When that schedule was set: nothing is kept where it is another by now.
    pub scheduled_at: Timestamp,
    /// What had come of it before: nothing is kept either where it is something else by now, for another node has a scheduler
    /// too, and what is noted is counted.
    pub before: Arc<[u8]>,
    /// A [`Firings`](crate::model::schedule::Firings) as JSON.
    pub firings: Arc<[u8]>,
}

/// The stored plan that a run is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Its name.
    pub name: PlanName,
    /// Where its schedule has fired: what is kept of that together with the run, which does not begin where the schedule is
    /// another by now.
    pub firing: Option<FiringNote>,
}

/// How many plans may be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlanLimits {
    /// In one project.
    pub of_project: u64,
    /// With a schedule, in all projects.
    pub scheduled: u64,
    /// The largest weight of the plans of all projects.
    pub bytes: u64,
}

impl Default for PlanLimits {
    fn default() -> Self {
        Self { of_project: 1000, scheduled: 1000, bytes: 256 * 1024 * 1024 }
    }
}

/// A plan that has a schedule.
pub type ScheduledPlan = PlanRow;
