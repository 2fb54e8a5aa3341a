//! The vocabulary: what a project, a plan, a run and a message *are*.
//!
//! Everything here is a value. Nothing reads a clock, a socket or a file; `now` is passed in. Each type is
//! parsed once, at the edge, and cannot be wrong afterwards.

mod event;
mod exact;
mod id;
pub mod json;
mod message;
mod plan;
mod quoted;
mod run_state;
mod slab_key;
mod taken;
mod time;

pub use event::{
    Cause, CauseKind, EndReason, LevelCompleted, LevelStarted, OutputStream, PerformanceMetrics, Progress, Record,
    RunCompleted, RunEvent, RunEventKind, RunFailed, RunStarted, StepOutput, StepProgress, StepUpdate,
};
pub use exact::Exact;
pub use id::{IdError, ProjectId, RunId, StepId};
pub use message::{MESSAGE_TYPE_MAX, decimal, is_reserved_type, is_valid_type, write_message, write_message_of};
pub use plan::{
    Backoff, Draft, ISSUES_MAX, Issue, Issues, OnFailure, Plan, PlanSummary, RetryPolicy, Step, Submission,
    SubmissionError, shown_document,
};
pub use quoted::Quoted;
pub use run_state::{RunState, RunStatus, StepState, StepStatus};
pub use slab_key::SlabKey;
pub use taken::{Lender, Taken};
pub use time::{Deadline, Now, Timestamp, Told};
