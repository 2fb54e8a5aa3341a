//! The state of projects and active runs that each commit publishes, for lists that are made beside the log.

use std::sync::Arc;

use super::board::Board;
use crate::log::store::RunNumber;
use crate::model::{Parent, Progress, ProjectId, RunId, RunStatus, Timestamp, Usage};

/// How many watch each project that is watched, as the loop says.
pub type Watchers = Arc<Board<ProjectId, usize>>;

/// The newest heads; see the top of this file.
#[derive(Debug, Default)]
pub(in crate::log) struct Heads {
    pub(in crate::log) projects: Board<ProjectId, ProjectHead>,
    /// Of runs that have not ended.
    pub(in crate::log) runs: Board<(ProjectId, RunNumber), RunHead>,
    pub(in crate::log) watchers: Watchers,
}

/// What a list shows of a project.
#[derive(Debug, Clone, Copy)]
pub(in crate::log) struct ProjectHead {
    /// Runs that have not ended.
    pub(in crate::log) active_runs: usize,
    /// When its newest message was kept.
    pub(in crate::log) last_activity: Timestamp,
}

/// What a list shows of a run that has not ended.
#[derive(Debug, Clone)]
pub(in crate::log) struct RunHead {
    pub(in crate::log) run_id: RunId,
    pub(in crate::log) plan_name: Arc<str>,
    pub(in crate::log) status: RunStatus,
    pub(in crate::log) progress: Progress,
    pub(in crate::log) parent: Option<Parent>,
    pub(in crate::log) created_at: Timestamp,
    pub(in crate::log) started_at: Option<Timestamp>,
    pub(in crate::log) retry_of: Option<RunId>,
    pub(in crate::log) usage: Option<Box<Usage>>,
}
