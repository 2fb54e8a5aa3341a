//! What a run says: its messages, typed. [`RunState`](super::RunState) is the fold of them.
//!
//! Field names and meanings are those of the wire; serializing a [`RunEvent`] gives the message's payload.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{ProjectId, RunId, RunStatus, StepId, StepStatus, Timestamp};

/// One message of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RunEvent {
    /// The run that says it.
    pub run_id: RunId,
    /// When it was said.
    pub timestamp: Timestamp,
    /// What is said.
    #[serde(flatten)]
    pub kind: RunEventKind,
}

/// The kinds of a run's messages.
///
/// Of a run: `Started` first, exactly one of `Completed` and `Failed` last; a level's steps speak between its
/// `LevelStarted` and its `LevelCompleted`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum RunEventKind {
    /// `workflow_started`
    Started(RunStarted),
    /// `workflow_level_started`
    LevelStarted(LevelStarted),
    /// `workflow_progress`
    Progress(StepProgress),
    /// `workflow_step_output`
    StepOutput(StepOutput),
    /// `workflow_level_completed`
    LevelCompleted(LevelCompleted),
    /// `workflow_completed`
    Completed(RunCompleted),
    /// `workflow_failed`
    Failed(RunFailed),
}

impl RunEvent {
    /// The message's `type`.
    pub fn message_type(&self) -> &'static str {
        match self.kind {
            RunEventKind::Started(_) => "workflow_started",
            RunEventKind::LevelStarted(_) => "workflow_level_started",
            RunEventKind::Progress(_) => "workflow_progress",
            RunEventKind::StepOutput(_) => "workflow_step_output",
            RunEventKind::LevelCompleted(_) => "workflow_level_completed",
            RunEventKind::Completed(_) => "workflow_completed",
            RunEventKind::Failed(_) => "workflow_failed",
        }
    }

    /// Is this the first message of its run?
    pub fn is_first(&self) -> bool {
        matches!(self.kind, RunEventKind::Started(_))
    }

    /// Is this the one last message of its run?
    pub fn is_last(&self) -> bool {
        matches!(self.kind, RunEventKind::Completed(_) | RunEventKind::Failed(_))
    }

    /// Reads back what serializing gave: how a run is folded again after a restart.
    ///
    /// # Errors
    /// Where `message_type` is no run's, or the payload lacks what that type carries.
    pub fn from_payload(message_type: &str, payload: &[u8]) -> Result<Self, serde_json::Error> {
        let kind = match message_type {
            "workflow_started" => RunEventKind::Started(serde_json::from_slice(payload)?),
            "workflow_level_started" => RunEventKind::LevelStarted(serde_json::from_slice(payload)?),
            "workflow_progress" => RunEventKind::Progress(serde_json::from_slice(payload)?),
            "workflow_step_output" => RunEventKind::StepOutput(serde_json::from_slice(payload)?),
            "workflow_level_completed" => RunEventKind::LevelCompleted(serde_json::from_slice(payload)?),
            "workflow_completed" => RunEventKind::Completed(serde_json::from_slice(payload)?),
            "workflow_failed" => RunEventKind::Failed(serde_json::from_slice(payload)?),
            other => return Err(serde::de::Error::custom(format!("{other} is no message of a run"))),
        };
        let Common { run_id, timestamp } = serde_json::from_slice(payload)?;
        Ok(Self { run_id, timestamp, kind })
    }
}

/// What every payload of a run carries.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Common {
    run_id: RunId,
    timestamp: Timestamp,
}

/// `workflow_started`: the run begins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunStarted {
    /// The plan's name.
    pub plan_name: Arc<str>,
    /// Steps in all.
    pub step_count: usize,
    /// Levels in all.
    pub total_levels: usize,
    /// Milliseconds the plan expects to take; 0 where it says nothing of it.
    pub estimated_duration: u64,
    /// Does any level hold more than one step?
    pub parallelizable: bool,
    /// Step ids, level by level.
    pub levels: Vec<Vec<StepId>>,
}

impl RunStarted {
    /// Of a run that has no step.
    pub fn empty(plan_name: Arc<str>) -> Self {
        Self {
            plan_name,
            step_count: 0,
            total_levels: 0,
            estimated_duration: 0,
            parallelizable: false,
            levels: Vec::new(),
        }
    }
}

/// `workflow_level_started`: a level's steps may start now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LevelStarted {
    /// Counted from 0.
    pub level: usize,
    /// Levels in all.
    pub total_levels: usize,
    /// The level's steps.
    pub steps: Vec<StepId>,
}

/// `workflow_progress`: a step moved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StepProgress {
    /// The step.
    pub step_id: StepId,
    /// Its title.
    pub step_title: Arc<str>,
    /// Its level.
    pub level: usize,
    /// Counted from 1; 0 for a step that never ran; in `retrying` the attempt that failed.
    pub attempt: u32,
    /// Where the step is now.
    #[serde(flatten)]
    pub update: StepUpdate,
    /// Bytes of the attempt's live output that were left out and not told in a chunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub omitted_bytes: Option<u64>,
    /// Where the run is now, this update included.
    pub progress: Progress,
}

/// Where a step is, and what is told of it there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum StepUpdate {
    /// An attempt has started.
    Running {
        /// The step's description.
        step_description: Arc<str>,
        /// One sentence for people.
        message: String,
    },
    /// An attempt failed, another will follow.
    Retrying {
        /// Why it failed.
        error: String,
        /// Milliseconds until the next attempt.
        delay: u64,
        /// Retries allowed in all.
        max_retries: u32,
        /// When the next attempt is due.
        next_retry_at: Timestamp,
    },
    /// Done, with its output.
    Completed {
        /// The output, or its beginning where `truncated`.
        output: Arc<Value>,
        /// Milliseconds from the first attempt's start.
        duration: u64,
        /// The output was cut to fit a message.
        #[serde(default, skip_serializing_if = "is_false")]
        truncated: bool,
        /// The whole output's size, where it was cut.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        output_bytes: Option<u64>,
    },
    /// Failed for good.
    Failed {
        /// Why.
        error: String,
        /// Milliseconds from the first attempt's start.
        duration: u64,
        /// The run goes on as if the step had completed with output null.
        #[serde(default, skip_serializing_if = "is_false")]
        continued: bool,
    },
    /// Never ran, and never will.
    Skipped {
        /// One sentence for people.
        reason: String,
        /// The same for programs.
        cause: Cause,
    },
    /// Was ended before it was done.
    Cancelled {
        /// One sentence for people.
        reason: String,
        /// The same for programs.
        cause: Cause,
    },
}

impl StepUpdate {
    /// The status of the step that it was said of.
    pub fn status(&self) -> StepStatus {
        match self {
            Self::Running { .. } => StepStatus::Running,
            Self::Retrying { .. } => StepStatus::Retrying,
            Self::Completed { .. } => StepStatus::Completed,
            Self::Failed { .. } => StepStatus::Failed,
            Self::Skipped { .. } => StepStatus::Skipped,
            Self::Cancelled { .. } => StepStatus::Cancelled,
        }
    }
}

fn is_false(value: &bool) -> bool {
    !value
}

/// Why a step was skipped or cancelled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cause {
    /// What kind of reason.
    pub kind: CauseKind,
    /// The step that caused it, where one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_id: Option<StepId>,
}

/// The kinds of [`Cause`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CauseKind {
    /// The step's own condition was false.
    Condition,
    /// A step that it depends on, directly or not, failed.
    UpstreamFailed,
    /// The run failed elsewhere.
    RunFailed,
    /// The run was cancelled.
    Cancelled,
    /// The run took longer than it may.
    Timeout,
}

/// How far a run is, counted in steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Progress {
    /// Steps completed.
    pub completed: usize,
    /// Steps failed, those after which the run went on included.
    pub failed: usize,
    /// Steps that never ran, and never will.
    pub skipped: usize,
    /// Steps that were ended before they were done. Versions that counted them as skipped did not say it.
    #[serde(default)]
    pub cancelled: usize,
    /// Steps in all.
    pub total: usize,
    /// Those that have ended, of the total, rounded down.
    pub percent: u8,
}

impl Progress {
    /// Of `total` steps, none of which has ended.
    pub fn of(total: usize) -> Self {
        Self { total, ..Self::default() }
    }

    /// Steps that will not move again.
    pub fn ended(&self) -> usize {
        self.completed + self.failed + self.skipped + self.cancelled
    }

    /// A step has come to `status`; only where it ends is it counted.
    pub fn count(&mut self, status: StepStatus) {
        match status {
            StepStatus::Pending | StepStatus::Running | StepStatus::Retrying => return,
            StepStatus::Completed => self.completed += 1,
            StepStatus::Failed => self.failed += 1,
            StepStatus::Skipped => self.skipped += 1,
            StepStatus::Cancelled => self.cancelled += 1,
        }
        let percent = (self.ended() * 100).checked_div(self.total).unwrap_or(100);
        self.percent = u8::try_from(percent).unwrap_or(100);
    }
}

/// `workflow_step_output`: live output of a running step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StepOutput {
    /// The step.
    pub step_id: StepId,
    /// The attempt that speaks.
    pub attempt: u32,
    /// Where it came out.
    pub stream: OutputStream,
    /// Text, whole characters.
    pub chunk: String,
    /// Bytes left out of the live messages just before this chunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub omitted_bytes: Option<u64>,
}

/// Where a piece of live output came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputStream {
    /// A command's standard output.
    Stdout,
    /// A command's standard error.
    Stderr,
    /// Text that a tool streams.
    Text,
}

/// `workflow_level_completed`: none of the level's steps will move again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LevelCompleted {
    /// Counted from 0.
    pub level: usize,
    /// Levels in all.
    pub total_levels: usize,
    /// Steps of this level that completed.
    pub completed_steps: Vec<StepId>,
    /// Steps of this level that failed.
    pub failed_steps: Vec<StepId>,
    /// Steps of this level that never ran.
    pub skipped_steps: Vec<StepId>,
    /// Steps of this level that were ended before they were done.
    #[serde(default)]
    pub cancelled_steps: Vec<StepId>,
    /// Milliseconds the level took.
    pub execution_time: u64,
    /// Busy step time / (wall time x steps in the level), 0 to 1.
    pub efficiency: f64,
}

/// `workflow_completed`: the last message of a run that reached its end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunCompleted {
    /// The plan's name.
    pub plan_name: Arc<str>,
    /// Step id to output; null for a step that was skipped or continued over.
    pub outputs: Map<String, Value>,
    /// Steps whose output was cut to fit this message.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub truncated: Vec<StepId>,
    /// Steps that failed and were continued over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed_steps: Vec<StepId>,
    /// Where the time went.
    pub performance_metrics: PerformanceMetrics,
}

/// Where a run's time went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PerformanceMetrics {
    /// Milliseconds from the run's first message to its last.
    pub total_execution_time: u64,
    /// The chain of dependent steps that took the longest, first to last.
    pub critical_path: Vec<StepId>,
    /// Milliseconds that all steps took together.
    pub step_time: u64,
}

/// `workflow_failed`: the last message of a run that did not reach its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunFailed {
    /// The plan's name.
    pub plan_name: Arc<str>,
    /// One sentence.
    pub error: String,
    /// What kind of end.
    pub reason: EndReason,
    /// The steps that failed.
    pub failed_steps: Vec<StepId>,
    /// The steps that were ended before they were done.
    #[serde(default)]
    pub cancelled_steps: Vec<StepId>,
}

/// Why a run failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// A step failed.
    StepFailed,
    /// Someone cancelled it.
    Cancelled,
    /// It took longer than its timeout.
    Timeout,
    /// The server stopped while a step ran that must not run twice.
    Interrupted,
}

impl EndReason {
    /// The status of a run that ended so.
    pub fn run_status(self) -> RunStatus {
        match self {
            Self::Cancelled => RunStatus::Cancelled,
            Self::StepFailed | Self::Timeout | Self::Interrupted => RunStatus::Failed,
        }
    }
}

/// What an executor hands to the log.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// A message: numbered, kept, broadcast.
    Event {
        /// Whose log it goes to.
        project: ProjectId,
        /// The message.
        event: RunEvent,
    },
    /// A piece of a step's output, kept for whoever reads the whole of it.
    Output {
        /// The run's project.
        project: ProjectId,
        /// The run.
        run: RunId,
        /// The step.
        step: StepId,
        /// The attempt that wrote it; a later attempt's first piece replaces what an earlier one left.
        attempt: u32,
        /// Where it came out.
        stream: OutputStream,
        /// The bytes, as they came.
        bytes: Vec<u8>,
    },
    /// The whole output of a step whose message holds only its beginning. Comes just before that message.
    Whole {
        /// The run's project.
        project: ProjectId,
        /// The run.
        run: RunId,
        /// The step.
        step: StepId,
        /// The output.
        output: Arc<Value>,
    },
}

impl Record {
    /// Whose log it goes to.
    pub fn project(&self) -> &ProjectId {
        match self {
            Self::Event { project, .. } | Self::Output { project, .. } | Self::Whole { project, .. } => project,
        }
    }

    /// The run that says it.
    pub fn run(&self) -> &RunId {
        match self {
            Self::Event { event, .. } => &event.run_id,
            Self::Output { run, .. } | Self::Whole { run, .. } => run,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_payload_reads_back_as_the_event_it_came_from() {
        let step = StepId::parse("build").expect("an id");
        let event = RunEvent {
            run_id: RunId::parse("r1").expect("an id"),
            timestamp: Timestamp::from_millis(42),
            kind: RunEventKind::Progress(StepProgress {
                step_id: step.clone(),
                step_title: "Build".into(),
                level: 1,
                attempt: 0,
                update: StepUpdate::Skipped {
                    reason: "lint failed".into(),
                    cause: Cause { kind: CauseKind::UpstreamFailed, step_id: Some(step) },
                },
                omitted_bytes: Some(7),
                progress: Progress { skipped: 1, percent: 50, ..Progress::of(2) },
            }),
        };
        let payload = serde_json::to_value(&event).expect("serializes");
        assert_eq!(
            payload,
            json!({"runId": "r1", "timestamp": "1970-01-01T00:00:00.042Z", "stepId": "build", "stepTitle": "Build",
                "level": 1, "attempt": 0, "status": "skipped", "reason": "lint failed",
                "cause": {"kind": "upstream_failed", "stepId": "build"}, "omittedBytes": 7,
                "progress": {"completed": 0, "failed": 0, "skipped": 1, "cancelled": 0, "total": 2, "percent": 50}})
        );
        let back = RunEvent::from_payload(event.message_type(), payload.to_string().as_bytes());
        assert_eq!(back.expect("reads back"), event);
    }

    #[test]
    fn messages_of_a_version_that_counted_cancelled_steps_as_skipped_are_read() {
        let common = r#""runId": "r", "timestamp": "2026-01-01T00:00:00.000Z""#;
        let table = [
            (
                "workflow_progress",
                r#""stepId": "a", "stepTitle": "A", "level": 0, "attempt": 1, "status": "cancelled", "reason": "no",
                "cause": {"kind": "cancelled"},
                "progress": {"completed": 0, "failed": 0, "skipped": 1, "total": 1, "percent": 100}"#,
            ),
            (
                "workflow_level_completed",
                r#""level": 0, "totalLevels": 1, "completedSteps": [], "failedSteps": [], "skippedSteps": ["a"],
                "executionTime": 1, "efficiency": 0.5"#,
            ),
            ("workflow_failed", r#""planName": "n", "error": "no", "reason": "cancelled", "failedSteps": []"#),
        ];
        for (message_type, payload) in table {
            let payload = format!("{{{common}, {payload}}}");
            let event = RunEvent::from_payload(message_type, payload.as_bytes()).expect(message_type);
            let again = serde_json::to_value(&event).expect("serializes");
            match event.kind {
                RunEventKind::Progress(said) => assert_eq!((said.progress.skipped, said.progress.cancelled), (1, 0)),
                _ => assert_eq!(again["cancelledSteps"], json!([])),
            }
        }
    }

    #[test]
    fn each_end_of_a_step_is_counted_apart_and_in_the_percent() {
        let mut progress = Progress::of(4);
        for (status, percent) in [
            (StepStatus::Running, 0),
            (StepStatus::Cancelled, 25),
            (StepStatus::Skipped, 50),
            (StepStatus::Completed, 75),
            (StepStatus::Failed, 100),
        ] {
            progress.count(status);
            assert_eq!(progress.percent, percent, "{status:?}");
        }
        assert_eq!(progress, Progress { completed: 1, failed: 1, skipped: 1, cancelled: 1, total: 4, percent: 100 });
    }
}
