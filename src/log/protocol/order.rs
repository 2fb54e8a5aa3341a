//! Orders of the log to the executor.

use std::collections::HashMap;
use std::sync::Arc;

use crate::model::{ItemState, Plan, ProjectId, RunId, RunState, Steer, StepId, Timestamp, Usage};

/// What leaves the log for the executor.
#[derive(Debug)]
pub enum Order {
    /// Begin a run.
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
        /// It is not to begin before it is [released](Self::Release).
        is_held: bool,
    },
    /// Go on with a run that an earlier process left active.
    Resume(Box<Resumed>),
    /// A run that was held may begin.
    Release {
        /// Its project.
        project: ProjectId,
        /// The run.
        run: RunId,
    },
    /// End a run.
    Cancel {
        /// Its project.
        project: ProjectId,
        /// The run.
        run: RunId,
    },
    /// Have a run do something, and say what came of it: [`Record::Verdict`].
    Steer {
        /// Its project.
        project: ProjectId,
        /// The run.
        run: RunId,
        /// What is wanted.
        steer: Box<Steer>,
    },
    /// A run has ended that a step of another waits for.
    ChildEnded {
        /// The project of both.
        project: ProjectId,
        /// Whose child it was, and what came of it.
        end: Box<ChildEnd>,
    },
    /// Let go of all runs, and say nothing more of them: other nodes go on with them. What their steps do is ended, whole process
    /// groups of commands with them. Answered by [`Command::Abandoned`](super::Command::Abandoned) with its number, behind all that they said; no run is begun before.
    Abandon(u64),
    /// So many [`Command::Records`] more are kept, those that came first: each is counted once, that is thrown away too.
    Kept(u64),
    /// The store takes nothing any more, or everything again.
    StoreIsDown(bool),
}

/// The end of a run that a step of another waits for.
#[derive(Debug)]
pub struct ChildEnd {
    /// The other.
    pub parent: RunId,
    /// The run.
    pub child: RunId,
    /// What came of it.
    pub result: ChildResult,
}

/// What came of a run that a step of another waits for.
#[derive(Debug, Clone, PartialEq)]
pub struct ChildResult {
    /// The output of the step, or why it has failed.
    pub output: Result<serde_json::Value, String>,
    /// What the run has used of language models.
    pub usage: Option<Box<Usage>>,
}

/// A run to go on with.
#[derive(Debug)]
pub struct Resumed {
    /// Its project.
    pub project: ProjectId,
    /// Its plan.
    pub plan: Arc<Plan>,
    /// The fold of its messages.
    pub state: RunState,
    /// The whole outputs of the steps whose messages hold only the beginning.
    pub whole_outputs: HashMap<StepId, Arc<serde_json::Value>>,
    /// What is kept of the items of the steps that have any and have begun, step by step.
    pub items: HashMap<StepId, Vec<ItemState>>,
    /// It was asked to end.
    pub cancelled: bool,
    /// It is not to begin before it is [released](Order::Release).
    pub is_held: bool,
}
