//! Orders of the log to the executor.

use std::collections::HashMap;
use std::sync::Arc;

use crate::model::{ItemState, Plan, ProjectId, RunId, RunState, Steer, StepId, Timestamp, Usage};

/// Orders of the log to the executor.
#[derive(Debug)]
pub enum Order {
    /// Start a run.
    Start {
        /// Its project.
        project: ProjectId,
        /// The run.
        run: RunId,
        /// Its plan.
        plan: Arc<Plan>,
        /// When it was accepted.
        created_at: Timestamp,
        /// See [`Resumed::whole_outputs`].
        whole_outputs: HashMap<StepId, Arc<serde_json::Value>>,
        /// It must not start before it is [released](Self::Release).
        is_held: bool,
    },
    /// Continue a run that an earlier process left active.
    Resume(Box<Resumed>),
    /// A held run may start.
    Release {
        /// Its project.
        project: ProjectId,
        /// The run.
        run: RunId,
    },
    /// Cancel a run.
    Cancel {
        /// Its project.
        project: ProjectId,
        /// The run.
        run: RunId,
    },
    /// Pass a request to a run, which answers with [`Record::Verdict`].
    Steer {
        /// Its project.
        project: ProjectId,
        /// The run.
        run: RunId,
        /// The request.
        steer: Box<Steer>,
    },
    /// A run that a step of another run waits for has ended.
    ChildEnded {
        /// The project of both.
        project: ProjectId,
        /// Its parent, and its result.
        end: Box<ChildEnd>,
    },
    /// Drop all runs, and report nothing more about them: other nodes continue them. Their calls are stopped, commands
    /// with their whole process groups. Answered by [`Command::Abandoned`](super::Command::Abandoned) with its number,
    /// after all their records. No run is started before.
    Abandon(u64),
    /// This many more [`Command::Records`] are stored, the oldest first. Each is counted once, also one that is
    /// discarded.
    Kept(u64),
    /// The store cannot be written to any more, or can be again.
    StoreIsDown(bool),
}

/// The end of a run that a step of another run waits for.
#[derive(Debug)]
pub struct ChildEnd {
    /// The other run.
    pub parent: RunId,
    /// The run.
    pub child: RunId,
    /// Its result.
    pub result: ChildResult,
}

/// The result of a run that a step of another run waits for.
#[derive(Debug, Clone, PartialEq)]
pub struct ChildResult {
    /// The output of the step, or why it has failed.
    pub output: Result<serde_json::Value, String>,
    /// The usage of language models by the run.
    pub usage: Option<Box<Usage>>,
}

/// A run to continue.
#[derive(Debug)]
pub struct Resumed {
    /// Its project.
    pub project: ProjectId,
    /// Its plan.
    pub plan: Arc<Plan>,
    /// The fold of its messages.
    pub state: RunState,
    /// The whole outputs of the steps whose messages contain only the beginning.
    pub whole_outputs: HashMap<StepId, Arc<serde_json::Value>>,
    /// The stored items of the steps that have started and have items, step by step.
    pub items: HashMap<StepId, Vec<ItemState>>,
    /// Whether it was asked to end.
    pub cancelled: bool,
    /// It must not start before it is [released](Order::Release).
    pub is_held: bool,
}
