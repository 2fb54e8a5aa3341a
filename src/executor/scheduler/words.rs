//! The inputs and outputs of the scheduler.

use crate::executor::run::{AttemptError, ChildEnd, ChildWish, Effects, Launch, NewRun, ResumedRun};
use crate::executor::tool::{CancelToken, Outcome};
use crate::model::{OutputStream, ProjectId, Record, RunId, Steer, Usage};

/// What an executor is told.
pub enum Command {
    /// A run, accepted just now.
    Start(NewRun),
    /// A run that an earlier process left active.
    Resume(Box<ResumedRun>),
    /// A run that was held may begin. Nothing happens where there is no such run, or not any more.
    Release {
        /// The run's project.
        project: ProjectId,
        /// The run.
        run: RunId,
    },
    /// Someone wants the end of a run. Nothing happens where there is no such run, or not any more.
    Cancel {
        /// The run's project.
        project: ProjectId,
        /// The run.
        run: RunId,
    },
    /// Someone wants something of a run. Whatever becomes of it, a verdict comes.
    Steer {
        /// The run's project.
        project: ProjectId,
        /// The run.
        run: RunId,
        /// The request.
        steer: Box<Steer>,
    },
    /// A child of a run has ended, or never was. Nothing happens where nobody waits for it.
    ChildEnded {
        /// The project of both.
        project: ProjectId,
        /// The parent.
        parent: RunId,
        /// The child.
        child: RunId,
        /// What came of it.
        end: ChildEnd,
    },
    /// Start no attempt more, give those that run their grace, then stop. A second time: stop at once.
    Shutdown,
}

/// Names one call of a tool; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct CallId(pub(super) u64);

/// One call of a tool, for a worker.
#[derive(Debug)]
pub struct Job {
    /// What its reports are marked with.
    pub call: CallId,
    /// What to do.
    pub launch: Launch,
    /// When it has to be kept that it runs.
    pub durability: Durability,
}

/// What a worker tells.
#[derive(Debug)]
pub enum Report {
    /// The tool said something.
    Output {
        /// Whose call.
        call: CallId,
        /// Where it came out.
        stream: OutputStream,
        /// As it came.
        bytes: Vec<u8>,
    },
    /// The tool told what the call has used so far.
    Usage {
        /// Whose call.
        call: CallId,
        /// All of it.
        usage: Box<Usage>,
    },
    /// The call is over, the worker free.
    Finished {
        /// Whose call.
        call: CallId,
        /// How it ended.
        result: Result<Outcome, AttemptError>,
    },
}

/// When it has to be kept that a job runs.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Before anyone sees it; the job may begin meanwhile. What a crash forgets of it, it makes again.
    #[default]
    Later,
    /// Before it begins, because it must not be made twice, or is of a run that was resumed: if it is what ended the process
    /// before, it has to be known next time that it was tried once more.
    First,
}

/// What has to be done after a turn.
#[derive(Debug, Default)]
pub struct Actions {
    /// For the log.
    pub records: Vec<Record>,
    /// To be cancelled.
    pub cancels: Vec<CancelToken>,
    /// To be killed, which were cancelled before.
    pub kills: Vec<CancelToken>,
    /// For the workers, never more than are free.
    pub jobs: Vec<Job>,
    /// What is wanted of children.
    pub children: Vec<ChildWish>,
}

impl Actions {
    pub(super) fn take(&mut self, mut effects: Effects) {
        self.records.append(&mut effects.records);
        self.cancels.append(&mut effects.cancels);
        self.children.append(&mut effects.children);
    }
}
