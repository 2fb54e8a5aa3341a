//! The state of a run: the fold of its messages.
//!
//! The response of `GET .../workflows/:runId`, a snapshot and the state from which a restart resumes are all this
//! value; serializing it gives the response body. Only [`apply`](RunState::apply) changes it. Copies are cheap: they
//! share all steps that have not changed since.

mod change;
mod step;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::step::StepState;
pub(super) use self::step::there;
use super::plan_changed::first_revision;
use super::{
    CauseKind, LevelStarted, PLAN_TOOL, Parent, Plan, Progress, RunEvent, RunEventKind, RunId, RunOutcome, RunStatus,
    Scheduling, StepId, StepProgress, StepStatus, StepUpdate, Timestamp, Told, Usage,
};

/// A level that has started and not completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OpenLevel {
    /// Counted from 0.
    pub level: usize,
    /// When the level started.
    pub started_at: Timestamp,
}

/// The state of a run according to its messages so far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunState {
    /// The run.
    pub run_id: RunId,
    /// The plan's name.
    pub plan_name: Arc<str>,
    /// The status of the run.
    pub status: RunStatus,
    /// The plan's revision, which grows by one with each change.
    #[serde(default = "first_revision")]
    pub revision: u32,
    /// Step ids, level by level.
    pub levels: Arc<Vec<Vec<StepId>>>,
    /// The steps, in the plan's order.
    pub steps: Vec<Arc<StepState>>,
    /// When a step may start.
    #[serde(default)]
    pub scheduling: Scheduling,
    /// Counts of steps.
    pub progress: Progress,
    /// The open levels, in order.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub open_levels: Arc<Vec<OpenLevel>>,
    /// The level that started last, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_level: Option<usize>,
    /// Whether that level is still open.
    pub level_open: bool,
    /// The step of another run that started it, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
    /// When the run was accepted.
    pub created_at: Timestamp,
    /// The time of its first message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When the level that started last did so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level_started_at: Option<Timestamp>,
    /// The time of its last message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// The error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The outcome of the run, while its handlers run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Box<RunOutcome>>,
    /// The time of the first message of a handler. For the executor.
    #[serde(skip)]
    pub handling_since: Option<Timestamp>,
    /// Why the run ends early. Set by the message of a step that reports it, until the last message. For the executor.
    #[serde(skip)]
    pub ending: Option<CauseKind>,
    /// The concurrency group of the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency_group: Option<Arc<str>>,
    /// The run that this one retries, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_of: Option<RunId>,
    /// The steps whose outputs were kept of that run, in the plan's order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reused_steps: Vec<StepId>,
    /// The usage of all attempts so far, according to their messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Box<Usage>>,
    /// Step id to its index in `steps`.
    #[serde(skip)]
    index: Arc<HashMap<StepId, usize>>,
}

impl RunState {
    /// The state of a run of `plan` before its first message.
    pub fn new(run_id: RunId, plan: &Plan, created_at: Timestamp) -> Self {
        let pending = |step: &super::Step| StepState {
            handler: step.handler,
            ..StepState::pending(&step.id, &step.title, &step.tool, step.level)
        };
        let mut state = Self {
            run_id,
            plan_name: plan.name.clone(),
            status: RunStatus::Queued,
            revision: plan.revision,
            levels: Arc::new(plan.level_ids()),
            steps: plan.steps.iter().map(|step| Arc::new(pending(step))).collect(),
            scheduling: plan.scheduling,
            progress: Progress::of(plan.step_count()),
            open_levels: Arc::default(),
            current_level: None,
            level_open: false,
            parent: plan.parent.clone(),
            created_at,
            started_at: None,
            level_started_at: None,
            finished_at: None,
            error: None,
            outcome: None,
            handling_since: None,
            ending: None,
            concurrency_group: plan.concurrency.as_ref().map(|concurrency| concurrency.group.clone()),
            retry_of: plan.retry_of.as_ref().map(|retry_of| retry_of.run.clone()),
            reused_steps: plan.reused_steps(),
            usage: None,
            index: Arc::default(),
        };
        state.reindex();
        state
    }

    /// Reads a serialized state, of this version or an earlier one. Counts the steps again, because earlier versions
    /// counted them differently.
    ///
    /// # Errors
    /// If `json` is no serialized state.
    pub fn from_json(json: &[u8]) -> Result<Self, serde_json::Error> {
        let mut state: Self = serde_json::from_slice(json)?;
        state.count_anew();
        state.adopt_open_level();
        state.reindex();
        Ok(state)
    }

    /// Versions with a single open level did not list it.
    fn adopt_open_level(&mut self) {
        let newest = self.current_level.zip(self.level_started_at).filter(|_| self.level_open);
        if let Some((level, started_at)) = newest.filter(|_| self.open_levels.is_empty()) {
            self.open_levels = Arc::new(vec![OpenLevel { level, started_at }]);
        }
    }

    /// The same run before its first message.
    #[must_use]
    pub fn at_its_start(&self) -> Self {
        let pending = |step: &StepState| StepState {
            handler: step.handler,
            ..StepState::pending(&step.id, &step.title, &step.tool, step.level)
        };
        Self {
            status: RunStatus::Queued,
            steps: self.steps.iter().map(|step| Arc::new(pending(step))).collect(),
            progress: Progress::of(self.step_count()),
            open_levels: Arc::default(),
            current_level: None,
            level_open: false,
            started_at: None,
            level_started_at: None,
            finished_at: None,
            error: None,
            outcome: None,
            handling_since: None,
            ending: None,
            usage: None,
            ..self.clone()
        }
    }

    /// The index of the step with this id.
    pub fn position(&self, id: &StepId) -> Option<usize> {
        self.index.get(id).copied()
    }

    /// The step with this id.
    pub fn step(&self, id: &StepId) -> Option<&StepState> {
        self.index.get(id).map(|&at| &*self.steps[at])
    }

    /// Applies a message. A message about a step that the plan does not have changes nothing.
    pub fn apply(&mut self, event: &RunEvent) {
        match &event.kind {
            RunEventKind::Started(started) => {
                self.begin_with(started);
                self.status = RunStatus::Running;
                self.started_at = Some(event.timestamp);
                self.scheduling = started.scheduling;
            }
            RunEventKind::LevelStarted(level) => self.start_level(level, event.timestamp),
            RunEventKind::Progress(progress) => self.apply_progress(progress, event.timestamp),
            RunEventKind::StepOutput(_) => {}
            RunEventKind::LevelCompleted(level) => self.complete_level(level.level),
            RunEventKind::PlanChanged(changed) => self.change_plan(changed),
            RunEventKind::Completed(_) => self.end(RunStatus::Completed, event.timestamp),
            RunEventKind::Failed(failed) => {
                self.error = Some(failed.error.clone());
                self.end(failed.reason.run_status(), event.timestamp);
            }
        }
    }

    /// The number of steps without handlers.
    pub fn step_count(&self) -> usize {
        self.steps.iter().filter(|step| step.handler.is_none()).count()
    }

    /// The handlers that have failed.
    pub fn failed_handlers(&self) -> Vec<StepId> {
        let failed = self.steps.iter().filter(|step| step.handler.is_some() && step.status == StepStatus::Failed);
        failed.map(|step| step.id.clone()).collect()
    }

    /// Whether this level has started and not completed.
    pub fn is_open(&self, level: usize) -> bool {
        self.open_levels.binary_search_by_key(&level, |open| open.level).is_ok()
    }

    fn start_level(&mut self, said: &LevelStarted, at: Timestamp) {
        let level = said.level;
        (self.current_level, self.level_open, self.level_started_at) = (Some(level), true, Some(at));
        if let Err(place) = self.open_levels.binary_search_by_key(&level, |open| open.level) {
            Arc::make_mut(&mut self.open_levels).insert(place, OpenLevel { level, started_at: at });
        }
    }

    fn complete_level(&mut self, level: usize) {
        self.level_open &= self.current_level != Some(level);
        if let Ok(place) = self.open_levels.binary_search_by_key(&level, |open| open.level) {
            Arc::make_mut(&mut self.open_levels).remove(place);
        }
    }

    /// The usage of an attempt that a message reports, and its tool. The usage of a child is in its own messages.
    pub fn usage_told_by<'a>(&'a self, event: &'a RunEvent) -> Option<(&'a Arc<str>, &'a Usage)> {
        let RunEventKind::Progress(said) = &event.kind else { return None };
        let tool = &self.step(&said.step_id)?.tool;
        Some((tool, said.usage.as_deref()?)).filter(|_| **tool != *PLAN_TOOL)
    }

    fn end(&mut self, status: RunStatus, at: Timestamp) {
        (self.status, self.ending) = (status, None);
        (self.outcome, self.handling_since) = (None, None);
        self.finished_at = Some(at);
    }

    fn apply_progress(&mut self, said: &StepProgress, at: Timestamp) {
        if let Some(outcome) = &said.outcome {
            self.outcome.get_or_insert_with(|| outcome.clone());
            self.handling_since.get_or_insert(at);
        }
        let Some(&index) = self.index.get(&said.step_id) else { return };
        let step = Arc::make_mut(&mut self.steps[index]);
        let had_ended = step.status.is_ended();
        if let Some(used) = &said.usage {
            Usage::add_to(&mut step.usage, used);
            Usage::add_to(&mut self.usage, used);
        }
        step.attempt = said.attempt;
        step.items = said.items.or(step.items);
        (step.next_retry_at, step.retry_wait) = (None, None);
        (step.approval, step.waiting_since, step.decision) = (None, None, said.decision.clone());
        match &said.update {
            // The step's items progress. It has started before, and each item counts its own attempts.
            StepUpdate::Running { .. } if said.items.is_some() && step.status == StepStatus::Running => {}
            StepUpdate::Running { .. } => step.start_attempt(at),
            StepUpdate::Retrying { error, delay, next_retry_at, .. } => {
                step.error = Some(error.clone());
                step.next_retry_at = Some(*next_retry_at);
                step.retry_wait = Some(Told { at, lasts: Duration::from_millis(*delay) });
                step.retries += 1;
            }
            StepUpdate::Waiting { approval, .. } => {
                step.approval = Some(approval.clone());
                step.waiting_since = Some(at);
            }
            StepUpdate::Completed { output, duration, truncated, output_bytes, reused } => {
                step.reused = *reused;
                step.output = Some(output.clone());
                step.truncated = *truncated;
                step.output_bytes = *output_bytes;
                step.duration = Some(*duration);
                step.error = None;
            }
            StepUpdate::Failed { error, duration, continued } => {
                step.error = Some(error.clone());
                step.duration = Some(*duration);
                step.continued = *continued;
            }
            StepUpdate::Skipped { reason, cause } => {
                step.reason = Some(reason.clone());
                self.ending = self.ending.or(cause.kind.of_run().filter(|_| said.handler.is_none()));
            }
            StepUpdate::Cancelled { reason, cause } => {
                step.reason = Some(reason.clone());
                self.ending = self.ending.or(cause.kind.of_run().filter(|_| said.handler.is_none()));
                step.duration = step.started_at.map(|started| at.millis_since(started));
            }
        }
        step.status = said.update.status();
        if step.status.is_ended() {
            step.finished_at = Some(at);
        }
        if !had_ended && step.handler.is_none() {
            self.progress.count(step.status);
        }
    }

    fn count_anew(&mut self) {
        self.progress = Progress::of(self.step_count());
        let steps = self.steps.iter().filter(|step| step.handler.is_none());
        steps.for_each(|step| self.progress.count(step.status));
    }

    fn reindex(&mut self) {
        let places = self.steps.iter().enumerate().map(|(at, step)| (step.id.clone(), at));
        self.index = Arc::new(places.collect());
    }
}

fn is_empty(levels: &Arc<Vec<OpenLevel>>) -> bool {
    levels.is_empty()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::Draft;

    /// The state that an earlier version stored for a run that timed out: it counted cancelled steps as skipped.
    const KEPT_BEFORE: [(&str, &str); 5] = [
        (
            "workflow_started",
            r#""planName":"plan","stepCount":2,"totalLevels":2,"estimatedDuration":0,"parallelizable":false,"levels":[["a"],["b"]]"#,
        ),
        ("workflow_level_started", r#""level":0,"totalLevels":2,"steps":["a"]"#),
        (
            "workflow_progress",
            r#""stepId":"a","stepTitle":"a","level":0,"attempt":1,"status":"cancelled","reason":"late","cause":{"kind":"timeout"},"progress":{"completed":0,"failed":0,"skipped":1,"total":2,"percent":50}"#,
        ),
        (
            "workflow_level_completed",
            r#""level":0,"totalLevels":2,"completedSteps":[],"failedSteps":[],"skippedSteps":["a"],"executionTime":50,"efficiency":1.0"#,
        ),
        (
            "workflow_progress",
            r#""stepId":"b","stepTitle":"b","level":1,"attempt":0,"status":"skipped","reason":"late","cause":{"kind":"timeout"},"progress":{"completed":0,"failed":0,"skipped":2,"total":2,"percent":100}"#,
        ),
    ];

    #[test]
    fn what_a_version_before_kept_is_folded_and_counted_as_this_one_counts() {
        let steps = json!([{"id": "a", "tool": "echo"}, {"id": "b", "tool": "echo", "dependencies": ["a"]}]);
        let plan = Draft::read(&json!({"name": "plan", "steps": steps}), 2).finish().expect("a plan");
        let run = RunId::parse("r").expect("an id");
        let mut state = RunState::new(run, &plan, Timestamp::from_millis(0));
        for (message_type, payload) in KEPT_BEFORE {
            let payload = format!(r#"{{"runId":"r","timestamp":"2026-01-01T00:00:00.000Z",{payload}}}"#);
            state.apply(&RunEvent::from_payload(message_type, payload.as_bytes()).expect("is read"));
        }
        let counts = Progress { skipped: 1, cancelled: 1, percent: 100, ..Progress::of(2) };
        assert_eq!(state.progress, counts);
        assert_eq!(
            state.step(&StepId::parse("a").expect("an id")).map(|step| step.status),
            Some(StepStatus::Cancelled)
        );

        let mut kept = serde_json::to_value(&state).expect("serializes");
        kept["progress"] = json!({"completed": 0, "failed": 0, "skipped": 2, "total": 2, "percent": 100});
        assert_eq!(state.ending.take(), Some(CauseKind::Timeout), "no answer tells it");
        assert_eq!(RunState::from_json(kept.to_string().as_bytes()).expect("is read"), state, "the end state too");
    }
}
