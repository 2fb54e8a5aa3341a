//! Lists of runs and of projects, page by page, made from what each commit publishes and from the store. What they show
//! of an ended run was stored with its end, so no state has to be read.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::ops::Bound;
use std::sync::Arc;

use serde::Serialize;

use super::heads::{Heads, ProjectHead, RunHead};
use crate::log::protocol::{Answer, Position};
use crate::log::store::{Flow, History, RunNumber, StoreError};
use crate::model::{Parent, ProjectId, RunId, RunState, RunStatus, Timestamp, Usage};

/// A run in a list.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RunSummary<'a> {
    run_id: &'a RunId,
    plan_name: &'a str,
    status: RunStatus,
    progress: crate::model::Progress,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<&'a Parent>,
    created_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    finished_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_of: Option<&'a RunId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<&'a Usage>,
}

/// What is listed of a project's runs.
#[derive(Debug, Clone, Copy)]
pub(in crate::log) struct WantedRuns<'a> {
    pub(in crate::log) project: &'a ProjectId,
    /// Only those.
    pub(in crate::log) status: Option<RunStatus>,
    /// Only those older than this.
    pub(in crate::log) before: Option<&'a Position>,
    /// The maximum number.
    pub(in crate::log) limit: usize,
}

/// The runs of one project that had not ended when its list was begun, by their numbers. What `history` holds is looked at
/// after that: of a run that ended meanwhile it is shown how it went on, of one that came meanwhile nothing.
pub(in crate::log) struct OpenRuns(BTreeMap<RunNumber, RunHead>);

impl OpenRuns {
    pub(in crate::log) fn of(heads: &Heads, project: &ProjectId) -> Self {
        let number = |number| (project.clone(), RunNumber(number));
        let all = number(NonZeroU64::MIN)..=number(NonZeroU64::MAX);
        let head = |((_, number), head): (&(ProjectId, RunNumber), &RunHead)| (*number, head.clone());
        Self(heads.runs.read(|runs| runs.range(all).map(head).collect()))
    }

    /// A page of the list.
    pub(in crate::log) fn list(&self, history: &dyn History, wanted: WantedRuns<'_>) -> Result<Answer, StoreError> {
        let WantedRuns { project, limit, .. } = wanted;
        let before = match wanted.before {
            None => None,
            Some(Position::Number(number)) => Some(*number),
            Some(Position::Run(run)) => match history.run_number(project, run)? {
                Some(number) => Some(number),
                None => Some(self.first_after_ended(history, project)?),
            },
        };
        let mut body = b"{\"workflows\":[".to_vec();
        let (mut shown, mut last_shown, mut has_more) = (0, None, false);
        self.each_shown(history, wanted, before, |number, summary| {
            if shown == limit {
                has_more = true;
                return Flow::Stop;
            }
            if shown > 0 {
                body.push(b',');
            }
            shown += 1;
            body.extend_from_slice(summary);
            last_shown = Some(number);
            Flow::More
        })?;
        body.push(b']');
        if let Some(last) = last_shown.filter(|_| has_more) {
            body.extend_from_slice(b",\"next\":");
            write_json(&mut body, &Position::Number(last).to_string())?;
        }
        body.push(b'}');
        Ok(Answer::Json(body))
    }

    /// Hands what the list shows of runs older than `before` to `each`, newest first, until it says stop. A run that came after
    /// the list was begun takes no other's place.
    fn each_shown(
        &self,
        history: &dyn History,
        wanted: WantedRuns<'_>,
        mut before: Option<RunNumber>,
        mut each: impl FnMut(RunNumber, &[u8]) -> Flow,
    ) -> Result<(), StoreError> {
        let at_once = wanted.limit.saturating_add(1);
        loop {
            let numbers = self.candidates(history, wanted.project, wanted.status, before, at_once)?;
            for &number in &numbers {
                let summary = self.summary(history, number, wanted.status)?;
                if summary.is_some_and(|summary| each(number, &summary) == Flow::Stop) {
                    return Ok(());
                }
            }
            if numbers.len() < at_once {
                return Ok(());
            }
            before = numbers.last().copied();
        }
    }

    /// In front of a project's oldest run that has ended: where nothing tells any more where a run stood that was let go, as
    /// those are that ended first. What is older goes on.
    fn first_after_ended(&self, history: &dyn History, project: &ProjectId) -> Result<RunNumber, StoreError> {
        let mut behind = RunNumber(NonZeroU64::MIN);
        for &number in self.0.keys() {
            let mut older = None;
            history.runs(project, Some(number), None, &mut |number| {
                older = Some(number);
                Flow::Stop
            })?;
            if older.is_some_and(|older| !self.0.contains_key(&older)) {
                break;
            }
            behind = RunNumber(number.0.saturating_add(1));
        }
        Ok(behind)
    }

    /// Runs older than `before` that may have this status, newest first. Those that go on are all here: only their heads
    /// say how. Of others no more than `wanted`.
    fn candidates(
        &self,
        history: &dyn History,
        project: &ProjectId,
        status: Option<RunStatus>,
        before: Option<RunNumber>,
        wanted: usize,
    ) -> Result<Vec<RunNumber>, StoreError> {
        if status.is_some_and(|status| !status.is_ended()) {
            let open = self.0.keys().rev().copied();
            return Ok(open.filter(|&number| before.is_none_or(|before| number < before)).collect());
        }
        let mut numbers = Vec::new();
        history.runs(project, before, status, &mut |number| {
            numbers.push(number);
            if numbers.len() < wanted { Flow::More } else { Flow::Stop }
        })?;
        Ok(numbers)
    }

    /// What a list shows of a run, if it has this status.
    pub(super) fn summary(
        &self,
        history: &dyn History,
        number: RunNumber,
        status: Option<RunStatus>,
    ) -> Result<Option<Arc<[u8]>>, StoreError> {
        match self.0.get(&number) {
            Some(head) if status.is_some_and(|status| status != head.status) => Ok(None),
            Some(head) => RunSummary::of_head(head).json().map(Some),
            None => history.ended_summary(number),
        }
    }
}

/// A project in a list.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProjectSummary<'a> {
    project_id: &'a ProjectId,
    active_runs: usize,
    subscribers: usize,
    last_activity: Timestamp,
}

/// A page of the list of projects: those that are `visible`, or all, that come after `after`, in the order of their
/// ids.
pub(in crate::log) fn list_projects(
    heads: &Heads,
    visible: Option<&[ProjectId]>,
    after: Option<&ProjectId>,
    limit: usize,
) -> Result<Answer, StoreError> {
    let is_after = |id: &&ProjectId| after.is_none_or(|after| *id > after);
    heads.projects.read(|projects| match visible {
        Some(visible) => {
            let visible: BTreeSet<_> = visible.iter().filter(is_after).collect();
            write_projects(heads, visible.into_iter().filter_map(|id| projects.get_key_value(id)), limit)
        }
        None => {
            let from = after.map_or(Bound::Unbounded, Bound::Excluded);
            write_projects(heads, projects.range::<ProjectId, _>((from, Bound::Unbounded)), limit)
        }
    })
}

fn write_projects<'a>(
    heads: &Heads,
    projects: impl Iterator<Item = (&'a ProjectId, &'a ProjectHead)>,
    limit: usize,
) -> Result<Answer, StoreError> {
    let mut body = b"{\"projects\":[".to_vec();
    let mut projects = projects.peekable();
    let mut last = None;
    heads.watchers.read(|watchers| {
        for (project_id, &ProjectHead { active_runs, last_activity }) in projects.by_ref().take(limit) {
            if last.replace(project_id).is_some() {
                body.push(b',');
            }
            let subscribers = watchers.get(project_id).copied().unwrap_or_default();
            write_json(&mut body, &ProjectSummary { project_id, active_runs, subscribers, last_activity })?;
        }
        Ok(())
    })?;
    body.push(b']');
    if let (Some(last), Some(_)) = (last, projects.peek()) {
        body.extend_from_slice(b",\"next\":");
        write_json(&mut body, last)?;
    }
    body.push(b'}');
    Ok(Answer::Json(body))
}

impl<'a> RunSummary<'a> {
    fn of_head(head: &'a RunHead) -> Self {
        let RunHead { run_id, plan_name, status, progress, created_at, started_at, retry_of, usage, parent } = head;
        Self {
            run_id,
            plan_name,
            status: *status,
            progress: *progress,
            parent: parent.as_ref(),
            created_at: *created_at,
            started_at: *started_at,
            retry_of: retry_of.as_ref(),
            finished_at: None,
            error: None,
            usage: usage.as_deref(),
        }
    }

    fn json(&self) -> Result<Arc<[u8]>, StoreError> {
        let mut json = Vec::new();
        write_json(&mut json, self)?;
        Ok(json.into())
    }
}

/// What a list shows of a run that has ended in this state.
pub(in crate::log) fn summary_json(state: &RunState) -> Result<Arc<[u8]>, StoreError> {
    let summary = RunSummary {
        run_id: &state.run_id,
        plan_name: &state.plan_name,
        status: state.status,
        progress: state.progress,
        parent: state.parent.as_ref(),
        created_at: state.created_at,
        started_at: state.started_at,
        retry_of: state.retry_of.as_ref(),
        finished_at: state.finished_at,
        error: state.error.as_deref(),
        usage: state.usage.as_deref(),
    };
    summary.json()
}

pub(super) fn write_json(to: &mut Vec<u8>, value: &impl Serialize) -> Result<(), StoreError> {
    serde_json::to_writer(to, value).map_err(|error| StoreError(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::MemoryStore;
    use crate::log::store::{Store, Write};
    use crate::log::testing::{created, number, project};

    #[test]
    fn a_run_that_came_while_a_list_was_made_ended_it_too_early() {
        let mut store = MemoryStore::new();
        let ended = |n: u64| {
            let summary = n.to_string().into_bytes().into();
            let (status, state) = (RunStatus::Completed, Arc::default());
            [created(n, 0), Write::RunEnded { number: number(n), status, summary, state, last_seq: n }]
        };
        let writes = [ended(1).as_slice(), &ended(2), &[created(3, 0), created(4, 0)]].concat();
        assert_eq!(store.append(&[], &writes, Timestamp::default()), Ok(()));
        // None of those that go on was there when it was begun.
        let begun = OpenRuns(BTreeMap::new());
        let page = |limit, before: Option<&Position>| {
            let project = project();
            let answer = begun.list(&store, WantedRuns { project: &project, status: None, before, limit });
            let Ok(Answer::Json(page)) = answer else { panic!("no page: {answer:?}") };
            String::from_utf8(page).expect("text")
        };
        assert_eq!(page(1, None), r#"{"workflows":[2],"next":"~2"}"#);
        assert_eq!(page(1, Some(&Position::Number(number(2)))), r#"{"workflows":[1]}"#);
        assert_eq!(page(2, None), r#"{"workflows":[2,1]}"#);
    }
}
