//! Lists of runs and of projects, a page at a time. What they show of a run that has ended was kept with its end: no
//! state is read for it.

use std::num::NonZeroU64;
use std::sync::Arc;

use serde::Serialize;

use super::Journal;
use crate::log::protocol::{Answer, Position, ProjectRow};
use crate::log::store::{Flow, RunNumber, StoreError};
use crate::model::{ProjectId, RunId, RunState, RunStatus, Timestamp};

/// A run in a list.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RunSummary<'a> {
    run_id: &'a RunId,
    plan_name: &'a str,
    status: RunStatus,
    progress: crate::model::Progress,
    created_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    finished_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

impl Journal {
    pub(super) fn runs(
        &self,
        project: &ProjectId,
        status: Option<RunStatus>,
        before: Option<Position>,
        limit: usize,
    ) -> Result<Answer, StoreError> {
        let before = match before {
            None => None,
            Some(Position::Number(number)) => Some(number),
            Some(Position::Run(run)) => match self.store.run_number(project, &run)? {
                Some(number) => Some(number),
                None => Some(self.behind_the_ended(project)?),
            },
        };
        let mut body = b"{\"workflows\":[".to_vec();
        let (mut shown, mut last_shown, mut has_more) = (0, None, false);
        for number in self.candidates(project, status, before, limit.saturating_add(1))? {
            let Some(summary) = self.summary(number, status)? else { continue };
            if shown == limit {
                has_more = true;
                break;
            }
            if shown > 0 {
                body.push(b',');
            }
            shown += 1;
            body.extend_from_slice(&summary);
            last_shown = Some(number);
        }
        body.push(b']');
        if let Some(last) = last_shown.filter(|_| has_more) {
            body.extend_from_slice(b",\"next\":");
            write_json(&mut body, &Position::Number(last).to_string())?;
        }
        body.push(b'}');
        Ok(Answer::Json(body))
    }

    /// In front of a project's oldest run that has ended: where nothing tells any more where a run stood that was let go, as
    /// those are that ended first. What is older goes on.
    fn behind_the_ended(&self, project: &ProjectId) -> Result<RunNumber, StoreError> {
        let mut behind = RunNumber(NonZeroU64::MIN);
        let Some(entry) = self.projects.get(project) else { return Ok(behind) };
        for &number in &entry.open_runs {
            let mut older = None;
            self.store.runs(project, Some(number), None, &mut |number| {
                older = Some(number);
                Flow::Stop
            })?;
            if older.is_some_and(|older| !entry.open_runs.contains(&older)) {
                break;
            }
            behind = RunNumber(number.0.saturating_add(1));
        }
        Ok(behind)
    }

    /// Runs older than `before` that may have this status, newest first. Those that go on are all here: only what is
    /// held of them says how. Of others no more than `wanted`.
    fn candidates(
        &self,
        project: &ProjectId,
        status: Option<RunStatus>,
        before: Option<RunNumber>,
        wanted: usize,
    ) -> Result<Vec<RunNumber>, StoreError> {
        if status.is_some_and(|status| !status.is_ended()) {
            let entry = self.projects.get(project);
            let open = entry.into_iter().flat_map(|entry| entry.open_runs.iter().rev().copied());
            return Ok(open.filter(|&number| before.is_none_or(|before| number < before)).collect());
        }
        let mut numbers = Vec::new();
        self.store.runs(project, before, status, &mut |number| {
            numbers.push(number);
            if numbers.len() < wanted { Flow::More } else { Flow::Stop }
        })?;
        Ok(numbers)
    }

    /// What a list shows of a run, if it has this status.
    fn summary(&self, number: RunNumber, status: Option<RunStatus>) -> Result<Option<Arc<[u8]>>, StoreError> {
        match self.runs.get(&number) {
            Some(run) if status.is_some_and(|status| status != run.state.status) => Ok(None),
            Some(run) => summary_json(&run.state).map(Some),
            None => self.store.ended_summary(number),
        }
    }

    pub(super) fn projects(&self, visible: Option<Vec<ProjectId>>, after: Option<ProjectId>, limit: usize) -> Answer {
        let mut ids: Vec<ProjectId> = match visible {
            Some(ids) => ids.into_iter().filter(|id| self.projects.contains_key(id)).collect(),
            None => self.projects.keys().cloned().collect(),
        };
        ids.retain(|id| after.as_ref().is_none_or(|after| id > after));
        ids.sort_unstable();
        ids.dedup();
        let has_more = ids.len() > limit;
        ids.truncate(limit);
        let row = |project: ProjectId| {
            let entry = &self.projects[&project];
            ProjectRow { active_runs: entry.open_runs.len(), last_activity: entry.last_activity, project }
        };
        Answer::Projects { rows: ids.into_iter().map(row).collect(), has_more }
    }
}

/// What a list shows of a run in this state.
pub(super) fn summary_json(state: &RunState) -> Result<Arc<[u8]>, StoreError> {
    let summary = RunSummary {
        run_id: &state.run_id,
        plan_name: &state.plan_name,
        status: state.status,
        progress: state.progress,
        created_at: state.created_at,
        started_at: state.started_at,
        finished_at: state.finished_at,
        error: state.error.as_deref(),
    };
    let mut json = Vec::new();
    write_json(&mut json, &summary)?;
    Ok(json.into())
}

fn write_json(to: &mut Vec<u8>, value: &impl Serialize) -> Result<(), StoreError> {
    serde_json::to_writer(to, value).map_err(|error| StoreError(error.to_string()))
}
