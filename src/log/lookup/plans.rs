//! Stored plans as they are shown, and what the scheduler needs of them.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::lists::{OpenRuns, write_json};
use crate::log::protocol::{Answer, ChildResult, Refusal};
use crate::log::store::{Flow, History, PlanRow, StoreError, WantedPlans};
use crate::model::schedule::{Firings, SHOWN_TIMES, Schedule};
use crate::model::{
    PlanName, ProjectId, RunId, ScheduleSpec, Timestamp, Usage, child_failure, child_output, shown_document,
};

/// A stored plan in a list.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Listed<'a> {
    name: &'a PlanName,
    #[serde(flatten)]
    summary: serde_json::Value,
    updated_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    schedule: Option<ScheduleSpec>,
    #[serde(skip_serializing_if = "Option::is_none")]
    firings: Option<ShownFirings>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_fire: Option<Timestamp>,
    /// What the list of runs shows of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_run: Option<Box<RawValue>>,
}

/// What has come of a schedule, and what will.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownFirings {
    /// The next times; none if the schedule is paused.
    next: Vec<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_fired: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_skipped: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_missed: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    waiting: Vec<Timestamp>,
}

impl OpenRuns {
    /// The stored plans of a project, by their names.
    pub(in crate::log) fn list_plans(
        &self,
        history: &dyn History,
        project: &ProjectId,
        now: Timestamp,
    ) -> Result<Answer, StoreError> {
        let mut rows = Vec::new();
        history.plans(WantedPlans::OfProject(project), &mut |row| {
            rows.push(row.clone());
            Flow::More
        })?;
        let mut body = b"{\"plans\":[".to_vec();
        for (at, row) in rows.iter().enumerate() {
            if at > 0 {
                body.push(b',');
            }
            write_json(&mut body, &self.listed(history, row, now)?)?;
        }
        body.extend_from_slice(b"]}");
        Ok(Answer::Json(body))
    }

    fn listed<'a>(&self, history: &dyn History, row: &'a PlanRow, now: Timestamp) -> Result<Listed<'a>, StoreError> {
        let unreadable = |error: serde_json::Error| StoreError(error.to_string());
        let schedule = row.schedule.as_deref().map(serde_json::from_slice::<ScheduleSpec>).transpose();
        let schedule = schedule.map_err(unreadable)?;
        let firings = schedule.as_ref().map(|spec| shown_firings(row, spec, now));
        Ok(Listed {
            name: &row.name,
            summary: serde_json::from_slice(&row.summary).map_err(unreadable)?,
            updated_at: row.updated_at,
            next_fire: firings.as_ref().and_then(|firings| firings.next.first().copied()),
            firings,
            schedule,
            last_run: self.last_run(history, row)?,
        })
    }

    /// None if its run is not listed any more.
    fn last_run(&self, history: &dyn History, row: &PlanRow) -> Result<Option<Box<RawValue>>, StoreError> {
        let Some(run) = &row.last_run else { return Ok(None) };
        let Some(number) = history.run_number(&row.project, run)? else { return Ok(None) };
        let summary = self.summary(history, number, None)?;
        let summary = summary.map(|summary| String::from_utf8_lossy(&summary).into_owned());
        summary.map(RawValue::from_string).transpose().map_err(|error| StoreError(error.to_string()))
    }
}

fn shown_firings(row: &PlanRow, spec: &ScheduleSpec, now: Timestamp) -> ShownFirings {
    let firings = Firings::read(&row.firings, row.scheduled_at);
    let schedule = Schedule::parse(&spec.cron, &spec.time_zone).ok().filter(|_| spec.enabled);
    // What is due is about to be fired: what is shown lies ahead.
    let ahead = Firings { until: firings.until.max(now), ..Firings::default() };
    ShownFirings {
        next: schedule.map(|schedule| ahead.next(&schedule, SHOWN_TIMES)).unwrap_or_default(),
        last_fired: firings.last_fired,
        last_skipped: firings.last_skipped,
        last_missed: firings.last_missed,
        last_error: firings.last_error,
        waiting: firings.waiting.into(),
    }
}

/// A stored plan: to the byte, or without its secrets. The two are told apart by their tags.
pub(in crate::log) fn plan(
    history: &dyn History,
    project: &ProjectId,
    name: &PlanName,
    is_whole: bool,
) -> Result<Answer, StoreError> {
    let Some((row, document)) = history.plan(project, name)?.zip(history.plan_document(project, name)?) else {
        return Ok(Answer::Refused(Refusal::UnknownPlan));
    };
    if is_whole {
        return Ok(Answer::StoredPlan { body: document.to_vec(), tag: row.tag });
    }
    let shown = shown_document(&document).ok_or_else(|| StoreError("a stored plan is not valid JSON".to_owned()))?;
    Ok(Answer::StoredPlan { body: shown, tag: format!("{}-masked", row.tag).into() })
}

/// A stored plan, to be run: not to be shown.
pub(in crate::log) fn document(
    history: &dyn History,
    project: &ProjectId,
    name: &PlanName,
) -> Result<Answer, StoreError> {
    let document = history.plan_document(project, name)?;
    Ok(document.map_or(Answer::Refused(Refusal::UnknownPlan), Answer::Document))
}

/// All plans that have a schedule.
pub(in crate::log) fn scheduled(history: &dyn History) -> Result<Answer, StoreError> {
    let mut rows = Vec::new();
    history.plans(WantedPlans::Scheduled, &mut |row| {
        rows.push(row.clone());
        Flow::More
    })?;
    Ok(Answer::Schedules(rows))
}

/// Whether a run has ended, or is not kept.
pub(in crate::log) fn has_ended(history: &dyn History, project: &ProjectId, run: &RunId) -> Result<Answer, StoreError> {
    let ends = match history.run_number(project, run)? {
        Some(number) => history.ends(number)?,
        None => None,
    };
    Ok(Answer::HasEnded(ends.is_none_or(|ends| ends.last.is_some())))
}

/// What came of a run that a step of another has begun: out of its last message, which is kept as long as the run is.
pub(in crate::log) fn child_result(
    history: &dyn History,
    project: &ProjectId,
    run: &RunId,
) -> Result<Answer, StoreError> {
    #[derive(Deserialize)]
    struct Last {
        payload: serde_json::Value,
    }
    let gone = || {
        let output = Err(child_failure(run, "it is no longer stored"));
        Answer::ChildResult(Some(ChildResult { output, usage: None }))
    };
    let Some(number) = history.run_number(project, run)? else { return Ok(gone()) };
    let Some(ends) = history.ends(number)? else { return Ok(gone()) };
    let Some(last) = ends.last else { return Ok(Answer::ChildResult(None)) };
    let mut message = None;
    history.messages(project, last - 1, Some(number), &mut |found| {
        message = Some(serde_json::from_slice::<Last>(&found.json));
        Flow::Stop
    })?;
    let Some(message) = message else { return Ok(gone()) };
    let Last { payload } = message.map_err(|error| StoreError(error.to_string()))?;
    let output = match payload["error"].as_str() {
        Some(error) => Err(child_failure(run, error)),
        None => Ok(child_output(run, &payload)),
    };
    let usage = payload.get("usage").and_then(|usage| Usage::deserialize(usage).ok()).map(Box::new);
    Ok(Answer::ChildResult(Some(ChildResult { output, usage })))
}
