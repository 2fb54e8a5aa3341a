//! The moments of a run that operators can be notified of.

use super::{RunEvent, RunEventKind, RunStatus, StepUpdate};

/// Something that a run reports and a webhook may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Notable {
    /// The run has completed.
    RunCompleted,
    /// The run has failed, for any reason except that it was cancelled.
    RunFailed,
    /// The run was cancelled.
    RunCancelled,
    /// A step of the run waits for a decision.
    StepWaiting,
}

impl Notable {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::RunCompleted, Self::RunFailed, Self::RunCancelled, Self::StepWaiting];

    /// The ends of runs: the default of what a webhook sends.
    pub const ENDS: [Self; 3] = [Self::RunCompleted, Self::RunFailed, Self::RunCancelled];

    /// What a message of a run reports, if it is one of these.
    pub fn of(event: &RunEvent) -> Option<Self> {
        match &event.kind {
            RunEventKind::Completed(_) => Some(Self::RunCompleted),
            RunEventKind::Failed(failed) if failed.reason.run_status() == RunStatus::Cancelled => {
                Some(Self::RunCancelled)
            }
            RunEventKind::Failed(_) => Some(Self::RunFailed),
            RunEventKind::Progress(said) => match said.update {
                StepUpdate::Waiting { .. } => Some(Self::StepWaiting),
                _ => None,
            },
            _ => None,
        }
    }

    /// The name in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RunCompleted => "run.completed",
            Self::RunFailed => "run.failed",
            Self::RunCancelled => "run.cancelled",
            Self::StepWaiting => "step.waiting",
        }
    }

    /// Reads [`as_str`](Self::as_str) back.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.as_str() == text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RunId;

    #[test]
    fn the_end_of_a_run_is_told_by_how_it_ended() {
        let of = |message_type: &str, payload: &str| {
            let payload = format!(r#"{{"runId":"r","timestamp":"2026-01-01T00:00:00.000Z","planName":"p"{payload}}}"#);
            let event = RunEvent::from_payload(message_type, payload.as_bytes()).expect("a message of a run");
            assert_eq!(event.run_id, RunId::parse("r").expect("an id"));
            Notable::of(&event)
        };
        let failed =
            |reason: &str| of("workflow_failed", &format!(r#","error":"e","reason":"{reason}","failedSteps":[]"#));
        assert_eq!(failed("cancelled"), Some(Notable::RunCancelled));
        for reason in ["step_failed", "timeout", "interrupted"] {
            assert_eq!(failed(reason), Some(Notable::RunFailed), "{reason}");
        }
        let started = r#","stepCount":1,"totalLevels":1,"estimatedDuration":0,"parallelizable":false,"levels":[["a"]]"#;
        assert_eq!(of("workflow_started", started), None);
    }

    #[test]
    fn every_word_is_read_back() {
        for notable in Notable::ALL {
            assert_eq!(Notable::parse(notable.as_str()), Some(notable));
        }
        assert_eq!(Notable::parse("run.started"), None);
    }
}
