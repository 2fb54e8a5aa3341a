//! The state of a run: the fold of its messages.
//!
//! What `GET .../workflows/:runId` answers, what a snapshot holds and what a restart resumes from are all this one
//! value; serializing it gives the answer's body. There is no other way to change it than
//! [`apply`](RunState::apply). Whoever reads it may hold a copy: a copy shares all steps but those that have moved since.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::{Plan, Progress, RunEvent, RunEventKind, RunId, StepId, StepProgress, StepUpdate, Timestamp, Told};

/// Where a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunStatus {
    /// Accepted, waits for a place among the active runs.
    Queued,
    /// Between its first message and its last.
    Running,
    /// Reached its end.
    Completed,
    /// Did not reach its end.
    Failed,
    /// Was cancelled.
    Cancelled,
}

impl RunStatus {
    /// Has it had its last message?
    pub fn is_ended(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }

    /// As on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Reads [`as_str`](Self::as_str) back.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Queued, Self::Running, Self::Completed, Self::Failed, Self::Cancelled]
            .into_iter()
            .find(|status| status.as_str() == text)
    }
}

/// Where a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StepStatus {
    /// Not started.
    Pending,
    /// An attempt runs.
    Running,
    /// An attempt failed, the next waits for its time.
    Retrying,
    /// Done.
    Completed,
    /// Failed for good.
    Failed,
    /// Never ran, never will.
    Skipped,
    /// Ended before it was done.
    Cancelled,
}

impl StepStatus {
    /// Will it never move again?
    pub fn is_ended(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Skipped | Self::Cancelled)
    }
}

/// One step of a [`RunState`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StepState {
    /// The step.
    pub id: StepId,
    /// Its title.
    pub title: Arc<str>,
    /// The tool that it calls.
    pub tool: Arc<str>,
    /// Its level.
    pub level: usize,
    /// Where it is.
    pub status: StepStatus,
    /// The newest attempt; 0 before the first.
    pub attempt: u32,
    /// When its first attempt started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it moved for the last time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// Milliseconds it took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<u64>,
    /// Its output, or the beginning of it where `output_bytes` is there.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "there")]
    pub output: Option<Arc<Value>>,
    /// The output was cut to fit a message.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
    /// The whole output's size, where it was cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_bytes: Option<u64>,
    /// Why it failed, or why the newest attempt did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Why it was skipped or cancelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When the next attempt is due, while `retrying`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_retry_at: Option<Timestamp>,
    /// It failed and the run went on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub continued: bool,
    /// The wait for the next attempt, while `retrying`. For the executor; answers don't carry it.
    #[serde(skip)]
    pub retry_wait: Option<Told>,
    /// Attempts that failed and were to be followed by another: retries used up. An attempt that was interrupted is not
    /// among them. For the executor; answers don't carry it.
    #[serde(skip)]
    pub retries: u32,
    /// When the newest attempt started. For the executor.
    #[serde(skip)]
    pub attempt_started_at: Option<Timestamp>,
    /// Where the newest attempt makes up for one that was interrupted: when that one started, or of several in a row the
    /// first. For the executor.
    #[serde(skip)]
    pub interrupted_since: Option<Timestamp>,
    /// How many attempts just before the newest were interrupted, in a row. For the executor.
    #[serde(skip)]
    pub interruptions: u32,
}

/// A value that is there, also where it is null: null is an output like any other.
fn there<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Arc<Value>>, D::Error> {
    Value::deserialize(from).map(|value| Some(Arc::new(value)))
}

impl StepState {
    /// Of a step that has not been started.
    fn pending(id: &StepId, title: &Arc<str>, tool: &Arc<str>, level: usize) -> Self {
        Self {
            id: id.clone(),
            title: title.clone(),
            tool: tool.clone(),
            level,
            status: StepStatus::Pending,
            attempt: 0,
            started_at: None,
            finished_at: None,
            duration: None,
            output: None,
            truncated: false,
            output_bytes: None,
            error: None,
            reason: None,
            next_retry_at: None,
            continued: false,
            retry_wait: None,
            retries: 0,
            attempt_started_at: None,
            interrupted_since: None,
            interruptions: 0,
        }
    }

    /// Another attempt starts. One that is said to run at that time was interrupted: nothing else leaves it unsaid how an
    /// attempt ended.
    fn start_attempt(&mut self, at: Timestamp) {
        self.started_at.get_or_insert(at);
        (self.interrupted_since, self.interruptions) = match self.status {
            StepStatus::Running => {
                (self.interrupted_since.or(self.attempt_started_at), self.interruptions.saturating_add(1))
            }
            _ => (None, 0),
        };
        self.attempt_started_at = Some(at);
    }
}

/// The state of a run, as its messages so far tell it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunState {
    /// The run.
    pub run_id: RunId,
    /// The plan's name.
    pub plan_name: Arc<str>,
    /// Where the run is.
    pub status: RunStatus,
    /// Step ids, level by level.
    pub levels: Arc<Vec<Vec<StepId>>>,
    /// The steps, in the plan's order.
    pub steps: Vec<Arc<StepState>>,
    /// Counts of steps.
    pub progress: Progress,
    /// The level that was started last, if any was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_level: Option<usize>,
    /// Is that level still open?
    pub level_open: bool,
    /// When the run was accepted.
    pub created_at: Timestamp,
    /// When its first message was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When the open level was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level_started_at: Option<Timestamp>,
    /// When its last message was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Step id to its index in `steps`.
    #[serde(skip)]
    index: Arc<HashMap<StepId, usize>>,
}

impl RunState {
    /// The state of a run of `plan` before its first message.
    pub fn new(run_id: RunId, plan: &Plan, created_at: Timestamp) -> Self {
        let pending = |step: &super::Step| StepState::pending(&step.id, &step.title, &step.tool, step.level);
        let ids = |level: &Vec<usize>| level.iter().map(|&step| plan.steps[step].id.clone()).collect();
        let mut state = Self {
            run_id,
            plan_name: plan.name.clone(),
            status: RunStatus::Queued,
            levels: Arc::new(plan.levels.iter().map(ids).collect()),
            steps: plan.steps.iter().map(|step| Arc::new(pending(step))).collect(),
            progress: Progress::of(plan.steps.len()),
            current_level: None,
            level_open: false,
            created_at,
            started_at: None,
            level_started_at: None,
            finished_at: None,
            error: None,
            index: Arc::default(),
        };
        state.reindex();
        state
    }

    /// Reads back what serializing gave, in this version or one before. Steps are counted anew, as versions before
    /// counted them otherwise.
    ///
    /// # Errors
    /// Where `json` is no serialized state.
    pub fn from_json(json: &[u8]) -> Result<Self, serde_json::Error> {
        let mut state: Self = serde_json::from_slice(json)?;
        state.progress = Progress::of(state.steps.len());
        state.steps.iter().for_each(|step| state.progress.count(step.status));
        state.reindex();
        Ok(state)
    }

    /// The same run before its first message.
    #[must_use]
    pub fn at_its_start(&self) -> Self {
        let pending = |step: &StepState| StepState::pending(&step.id, &step.title, &step.tool, step.level);
        Self {
            status: RunStatus::Queued,
            steps: self.steps.iter().map(|step| Arc::new(pending(step))).collect(),
            progress: Progress::of(self.steps.len()),
            current_level: None,
            level_open: false,
            started_at: None,
            level_started_at: None,
            finished_at: None,
            error: None,
            ..self.clone()
        }
    }

    /// Where the step of this id stands among the steps.
    pub fn position(&self, id: &StepId) -> Option<usize> {
        self.index.get(id).copied()
    }

    /// The step of this id.
    pub fn step(&self, id: &StepId) -> Option<&StepState> {
        self.index.get(id).map(|&at| &*self.steps[at])
    }

    /// The run moves on by one message. A message about a step that the plan does not have changes nothing.
    pub fn apply(&mut self, event: &RunEvent) {
        match &event.kind {
            RunEventKind::Started(_) => {
                self.status = RunStatus::Running;
                self.started_at = Some(event.timestamp);
            }
            RunEventKind::LevelStarted(level) => {
                self.current_level = Some(level.level);
                self.level_open = true;
                self.level_started_at = Some(event.timestamp);
            }
            RunEventKind::Progress(progress) => self.apply_progress(progress, event.timestamp),
            RunEventKind::StepOutput(_) => {}
            RunEventKind::LevelCompleted(_) => self.level_open = false,
            RunEventKind::Completed(_) => self.end(RunStatus::Completed, event.timestamp),
            RunEventKind::Failed(failed) => {
                self.error = Some(failed.error.clone());
                self.end(failed.reason.run_status(), event.timestamp);
            }
        }
    }

    fn end(&mut self, status: RunStatus, at: Timestamp) {
        self.status = status;
        self.finished_at = Some(at);
    }

    fn apply_progress(&mut self, said: &StepProgress, at: Timestamp) {
        let Some(&index) = self.index.get(&said.step_id) else { return };
        let step = Arc::make_mut(&mut self.steps[index]);
        let had_ended = step.status.is_ended();
        step.attempt = said.attempt;
        (step.next_retry_at, step.retry_wait) = (None, None);
        match &said.update {
            StepUpdate::Running { .. } => step.start_attempt(at),
            StepUpdate::Retrying { error, delay, next_retry_at, .. } => {
                step.error = Some(error.clone());
                step.next_retry_at = Some(*next_retry_at);
                step.retry_wait = Some(Told { at, lasts: Duration::from_millis(*delay) });
                step.retries += 1;
            }
            StepUpdate::Completed { output, duration, truncated, output_bytes } => {
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
            StepUpdate::Skipped { reason, .. } => step.reason = Some(reason.clone()),
            StepUpdate::Cancelled { reason, .. } => {
                step.reason = Some(reason.clone());
                step.duration = step.started_at.map(|started| at.millis_since(started));
            }
        }
        step.status = said.update.status();
        if step.status.is_ended() {
            step.finished_at = Some(at);
        }
        if !had_ended {
            self.progress.count(step.status);
        }
    }

    fn reindex(&mut self) {
        let places = self.steps.iter().enumerate().map(|(at, step)| (step.id.clone(), at));
        self.index = Arc::new(places.collect());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::Draft;

    /// What a version before kept of a run that timed out: it counted cancelled steps as skipped.
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
        assert_eq!(RunState::from_json(kept.to_string().as_bytes()).expect("is read"), state, "the end state too");
    }
}
