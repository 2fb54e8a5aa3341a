//! The typed messages of a run. [`RunState`](super::RunState) is the fold of them.
//!
//! Field names and meanings are those of the wire format; serializing a [`RunEvent`] gives the payload of its message.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::plan_changed::first_revision;
use super::{
    FIRST_REVISION, Parent, PlanChanged, PlannedStep, RunId, RunStatus, Scheduling, StepId, StepProgress, Timestamp,
    Usage,
};

/// One message of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RunEvent {
    /// The run that sent it.
    pub run_id: RunId,
    /// When it was sent.
    pub timestamp: Timestamp,
    /// The kind, with its payload.
    #[serde(flatten)]
    pub kind: RunEventKind,
}

/// The kinds of a run's messages.
///
/// Of a run: `Started` first, exactly one of `Completed` and `Failed` last; a level's steps speak between its
/// `LevelStarted` and its `LevelCompleted`. Levels overlap where the plan's scheduling is eager.
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
    /// `workflow_plan_changed`
    PlanChanged(PlanChanged),
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
            RunEventKind::PlanChanged(_) => "workflow_plan_changed",
            RunEventKind::Completed(_) => "workflow_completed",
            RunEventKind::Failed(_) => "workflow_failed",
        }
    }

    /// Whether this is the first message of its run.
    pub fn is_first(&self) -> bool {
        matches!(self.kind, RunEventKind::Started(_))
    }

    /// Whether this is the last message of its run.
    pub fn is_last(&self) -> bool {
        matches!(self.kind, RunEventKind::Completed(_) | RunEventKind::Failed(_))
    }

    /// Parses a serialized message, to fold a run again after a restart.
    ///
    /// # Errors
    /// If `message_type` is not a type of a run's message, or the payload lacks a member of that type.
    pub fn from_payload(message_type: &str, payload: &[u8]) -> Result<Self, serde_json::Error> {
        let kind = match message_type {
            "workflow_started" => RunEventKind::Started(serde_json::from_slice(payload)?),
            "workflow_level_started" => RunEventKind::LevelStarted(serde_json::from_slice(payload)?),
            "workflow_progress" => RunEventKind::Progress(serde_json::from_slice(payload)?),
            "workflow_step_output" => RunEventKind::StepOutput(serde_json::from_slice(payload)?),
            "workflow_level_completed" => RunEventKind::LevelCompleted(serde_json::from_slice(payload)?),
            "workflow_plan_changed" => RunEventKind::PlanChanged(serde_json::from_slice(payload)?),
            "workflow_completed" => RunEventKind::Completed(serde_json::from_slice(payload)?),
            "workflow_failed" => RunEventKind::Failed(serde_json::from_slice(payload)?),
            other => return Err(serde::de::Error::custom(format!("{other} is not a message of a run"))),
        };
        let Common { run_id, timestamp } = serde_json::from_slice(payload)?;
        Ok(Self { run_id, timestamp, kind })
    }
}

/// The common members of all payloads of a run.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Common {
    run_id: RunId,
    timestamp: Timestamp,
}

/// `workflow_started`: the run starts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunStarted {
    /// The plan's name.
    pub plan_name: Arc<str>,
    /// The number of steps.
    pub step_count: usize,
    /// The number of levels.
    pub total_levels: usize,
    /// The expected duration in milliseconds; 0 if unknown.
    pub estimated_duration: u64,
    /// Whether any level has more than one step.
    pub parallelizable: bool,
    /// Step ids, level by level.
    pub levels: Vec<Vec<StepId>>,
    /// When a step may start.
    #[serde(default)]
    pub scheduling: Scheduling,
    /// The revision of the plan at the start.
    #[serde(default = "first_revision")]
    pub revision: u32,
    /// All steps, if the plan was changed before the run started: clients may know an earlier version.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<PlannedStep>,
    /// The run that this one retries, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_of: Option<RunId>,
    /// The step of another run that started it, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
}

impl RunStarted {
    /// For a run without steps.
    pub fn empty(plan_name: Arc<str>) -> Self {
        Self {
            plan_name,
            step_count: 0,
            total_levels: 0,
            estimated_duration: 0,
            parallelizable: false,
            levels: Vec::new(),
            scheduling: Scheduling::default(),
            revision: FIRST_REVISION,
            steps: Vec::new(),
            retry_of: None,
            parent: None,
        }
    }
}

/// `workflow_level_started`: the steps of a level may start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LevelStarted {
    /// Counted from 0.
    pub level: usize,
    /// The number of levels.
    pub total_levels: usize,
    /// The level's steps.
    pub steps: Vec<StepId>,
}

/// `workflow_step_output`: live output of a running step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StepOutput {
    /// The step.
    pub step_id: StepId,
    /// The item that wrote the output, if the step has `forEach`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<u32>,
    /// The attempt that wrote the output.
    pub attempt: u32,
    /// The stream that it was written to.
    pub stream: OutputStream,
    /// Text, in whole characters.
    pub chunk: String,
    /// Bytes omitted from the live messages right before this chunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub omitted_bytes: Option<u64>,
}

/// The stream of a piece of live output.
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

/// `workflow_level_completed`: no step of the level will change any more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LevelCompleted {
    /// Counted from 0.
    pub level: usize,
    /// The number of levels.
    pub total_levels: usize,
    /// Completed steps of the level.
    pub completed_steps: Vec<StepId>,
    /// Failed steps of the level.
    pub failed_steps: Vec<StepId>,
    /// Skipped steps of the level.
    pub skipped_steps: Vec<StepId>,
    /// Cancelled steps of the level.
    #[serde(default)]
    pub cancelled_steps: Vec<StepId>,
    /// The duration of the level in milliseconds.
    pub execution_time: u64,
    /// Busy step time / (wall time x steps in the level), 0 to 1.
    pub efficiency: f64,
}

/// `workflow_completed`: the last message of a run that completed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunCompleted {
    /// The plan's name.
    pub plan_name: Arc<str>,
    /// Maps step ids to outputs; null for a step that was skipped or that failed with `continueOnFailure`.
    pub outputs: Map<String, Value>,
    /// Steps whose output is cut in this message.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub truncated: Vec<StepId>,
    /// Steps that failed and after which the run continued.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed_steps: Vec<StepId>,
    /// Handlers that failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed_handlers: Vec<StepId>,
    /// How the time was spent.
    pub performance_metrics: PerformanceMetrics,
    /// The total usage of all attempts of the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Box<Usage>>,
}

/// How the time of a run was spent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PerformanceMetrics {
    /// Milliseconds from the run's first message to its last.
    pub total_execution_time: u64,
    /// The chain of dependent steps that took longest, from first to last.
    pub critical_path: Vec<StepId>,
    /// The sum of the durations of all steps, in milliseconds.
    pub step_time: u64,
}

/// `workflow_failed`: the last message of a run that did not complete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunFailed {
    /// The plan's name.
    pub plan_name: Arc<str>,
    /// The error, in one sentence.
    pub error: String,
    /// The reason, for programs.
    pub reason: EndReason,
    /// The steps that failed.
    pub failed_steps: Vec<StepId>,
    /// The cancelled steps.
    #[serde(default)]
    pub cancelled_steps: Vec<StepId>,
    /// Handlers that failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed_handlers: Vec<StepId>,
    /// The total usage of all attempts of the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Box<Usage>>,
}

/// Why a run failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// A step failed.
    StepFailed,
    /// It was cancelled.
    Cancelled,
    /// It exceeded its timeout.
    Timeout,
    /// It exceeded its queue timeout.
    QueueTimeout,
    /// The server stopped while a step was running that must not run twice.
    Interrupted,
    /// It reached its budget, or that of one of its tools.
    Budget,
}

impl EndReason {
    /// The status of a run that ended for this reason.
    pub fn run_status(self) -> RunStatus {
        match self {
            Self::Cancelled => RunStatus::Cancelled,
            Self::StepFailed | Self::Timeout | Self::QueueTimeout | Self::Interrupted | Self::Budget => {
                RunStatus::Failed
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::{Cause, CauseKind, Progress, StepStatus, StepUpdate};

    #[test]
    fn a_payload_reads_back_as_the_event_it_came_from() {
        let step = StepId::parse("build").expect("an id");
        let event = RunEvent {
            run_id: RunId::parse("r1").expect("an id"),
            timestamp: Timestamp::from_millis(42),
            kind: RunEventKind::Progress(StepProgress {
                handler: None,
                outcome: None,
                step_id: step.clone(),
                step_title: "Build".into(),
                level: 1,
                attempt: 0,
                update: StepUpdate::Skipped {
                    reason: "lint failed".into(),
                    cause: Cause { kind: CauseKind::UpstreamFailed, step_id: Some(step) },
                },
                omitted_bytes: Some(7),
                usage: None,
                items: None,
                decision: None,
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
