//! The records that an executor passes to the log.

use std::sync::Arc;

use serde_json::Value;

use super::{ItemState, OutputStream, Plan, ProjectId, RunEvent, RunId, StepId, Verdict};

/// What an executor passes to the log.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// A message, which is numbered, stored and broadcast.
    Event {
        /// The project whose log gets it.
        project: ProjectId,
        /// The message.
        event: RunEvent,
    },
    /// A piece of a step's output, stored for readers of the complete output.
    Output {
        /// The run's project.
        project: ProjectId,
        /// The run.
        run: RunId,
        /// The step.
        step: StepId,
        /// The attempt that wrote it. The first piece of a later attempt replaces those of an earlier one.
        attempt: u32,
        /// The stream that it was written to.
        stream: OutputStream,
        /// The bytes, unchanged.
        bytes: Vec<u8>,
    },
    /// The complete output of a step whose message holds only its beginning. Comes right before that message.
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
    /// The run's answer to a steering request, after the message that the request caused. Only the fact that the
    /// request was answered is stored.
    Verdict {
        /// The run's project.
        project: ProjectId,
        /// The run.
        run: RunId,
        /// The answer.
        verdict: Box<Verdict>,
    },
    /// An item of a step has changed. This replaces its stored state and is not a message.
    Item {
        /// The run's project.
        project: ProjectId,
        /// The run.
        run: RunId,
        /// The step.
        step: StepId,
        /// The state of the item. Boxed, because most records are messages.
        state: Box<ItemState>,
    },
    /// The run's plan has a new revision. It is stored together with the message about it, or not at all.
    Plan {
        /// The run's project.
        project: ProjectId,
        /// The run.
        run: RunId,
        /// The new plan.
        plan: Arc<Plan>,
        /// The new plan in the form in which it is stored.
        document: Arc<[u8]>,
        /// The run's messages about it, the last of which reports the change. `None` if the run has not started.
        events: Vec<RunEvent>,
    },
}

impl Record {
    /// The number of messages in this record.
    pub fn events(&self) -> &[RunEvent] {
        match self {
            Self::Event { event, .. } => std::slice::from_ref(event),
            Self::Plan { events, .. } => events,
            _ => &[],
        }
    }

    /// The project whose log gets it.
    pub fn project(&self) -> &ProjectId {
        match self {
            Self::Event { project, .. }
            | Self::Output { project, .. }
            | Self::Whole { project, .. }
            | Self::Item { project, .. }
            | Self::Plan { project, .. }
            | Self::Verdict { project, .. } => project,
        }
    }

    /// The run that sent it.
    pub fn run(&self) -> &RunId {
        match self {
            Self::Event { event, .. } => &event.run_id,
            Self::Output { run, .. }
            | Self::Whole { run, .. }
            | Self::Item { run, .. }
            | Self::Plan { run, .. }
            | Self::Verdict { run, .. } => run,
        }
    }
}
