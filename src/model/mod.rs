//! The vocabulary: what a project, a plan, a run and a message *are*.
//!
//! Everything here is a value. Nothing reads a clock, a socket or a file; `now` is passed in. Each type is
//! parsed once, at the edge, and cannot be wrong afterwards.

mod event;
mod exact;
mod id;
pub mod json;
mod json_size;
mod message;
mod notable;
mod plan;
mod quoted;
mod run_state;
mod secret;
mod slab_key;
mod taken;
mod time;
mod type_filter;

pub use event::{
    Cause, CauseKind, EndReason, LevelCompleted, LevelStarted, OutputStream, PerformanceMetrics, Progress, Record,
    RunCompleted, RunEvent, RunEventKind, RunFailed, RunStarted, StepOutput, StepProgress, StepUpdate,
};
pub use exact::Exact;
pub use id::{IdError, ProjectId, RunId, StepId};
pub use json_size::{json_bytes, json_within};
pub use message::{
    MESSAGE_TYPE_MAX, decimal, is_reserved_type, is_valid_type, push_on_one_line, write_message, write_message_of,
};
pub use notable::Notable;
pub use plan::{
    Backoff, Draft, ISSUES_MAX, Issue, Issues, OnFailure, Plan, PlanSummary, RetryPolicy, Step, Submission,
    SubmissionError, shown_document,
};
pub use quoted::Quoted;
pub use run_state::{RunState, RunStatus, StepState, StepStatus};
pub use secret::Secret;
pub use slab_key::SlabKey;
pub use taken::{Lender, Taken};
pub use time::{Deadline, Now, Timestamp, Told};
pub use type_filter::TypeFilter;
