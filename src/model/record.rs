//! The records that an executor passes to the log.

use std::sync::Arc;

use serde_json::Value;

use super::{ItemState, OutputStream, Plan, ProjectId, RunEvent, RunId, StepId, Verdict};

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
        /// The stream that it was written to.
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
    /// What the run says to a wish, after the message that came of it. Nothing is kept of it but that the wish was answered.
    Verdict {
        /// The run's project.
        project: ProjectId,
        /// The run.
        run: RunId,
        /// What it says.
        verdict: Box<Verdict>,
    },
    /// An item of a step has moved: what is kept of it takes the place of what was. It is no message.
    Item {
        /// The run's project.
        project: ProjectId,
        /// The run.
        run: RunId,
        /// The step.
        step: StepId,
        /// Where the item is. Boxed, for most records are messages.
        state: Box<ItemState>,
    },
    /// The run's plan has another revision: kept together with what is said of that, or not at all.
    Plan {
        /// The run's project.
        project: ProjectId,
        /// The run.
        run: RunId,
        /// The plan as it is now.
        plan: Arc<Plan>,
        /// The same as it is kept.
        document: Arc<[u8]>,
        /// What the run says of it, last of all that it has changed; nothing where the run has not begun.
        events: Vec<RunEvent>,
    },
}

impl Record {
    /// The messages in it.
    pub fn events(&self) -> &[RunEvent] {
        match self {
            Self::Event { event, .. } => std::slice::from_ref(event),
            Self::Plan { events, .. } => events,
            _ => &[],
        }
    }

    /// Whose log it goes to.
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
