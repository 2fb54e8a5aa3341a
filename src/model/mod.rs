//! The vocabulary: projects, plans, runs and messages.
//!
//! Everything here is a value. Nothing reads a clock, a socket or a file; `now` is passed in. Each type is parsed once,
//! at the edge, and always valid afterwards.

mod approval;
mod event;
mod exact;
mod handler;
mod histogram;
mod id;
mod item;
pub mod json;
mod json_size;
mod message;
mod notable;
mod parent;
mod plan;
mod plan_changed;
mod progress;
mod quoted;
mod record;
mod run_state;
pub mod schedule;
mod secret;
mod slab_key;
mod status;
mod steering;
mod suggest;
mod taken;
mod time;
mod type_filter;
mod usage;

pub use approval::{Approval, Decision, OnExpire, OnReject};
pub use event::{
    EndReason, LevelCompleted, LevelStarted, OutputStream, PerformanceMetrics, RunCompleted, RunEvent, RunEventKind,
    RunFailed, RunStarted, StepOutput,
};
pub use exact::Exact;
pub use handler::{HandlerKind, RunOutcome};
pub use histogram::Histogram;
pub use id::{IdError, PlanName, ProjectId, RunId, StepId};
pub use item::{ITEM_SHOWN_BYTES_MAX, ItemCounts, ItemMessage, ItemState, ItemsSnapshot, StepItems};
pub use json_size::{json_bytes, json_within};
pub use message::{
    MESSAGE_TYPE_MAX, decimal, is_reserved_type, is_valid_type, push_on_one_line, write_message, write_message_of,
};
pub use notable::Notable;
pub use parent::{CHILD_DEPTH_MAX, PLAN_TOOL, Parent, child_failure, child_output};
pub use plan::{
    Backoff, Concurrency, Draft, Earlier, Failure, ForEach, GROUP_CHARS_MAX, HANDLERS_TIMEOUT, INDEX_NAME, ISSUES_MAX,
    ITEMS_MAX, Issue, Issues, Items, KeptOutput, NOTED_REVISION, OnConflict, OnFailure, Overlap, Patched, Plan,
    PlanSummary, RetryOf, RetryPolicy, ScheduleSpec, Scheduling, Step, StepPath, Submission, SubmissionError, is_noted,
    noted_document, open_change, shown_document, standing_document, unnoted_document, unplanned_document,
};
pub use plan_changed::{FIRST_REVISION, PlanChange, PlanChanged, PlannedStep};
pub use progress::{Cause, CauseKind, Progress, StepProgress, StepUpdate};
pub use quoted::Quoted;
pub use record::Record;
pub use run_state::{OpenLevel, RunState, StepState};
pub use secret::Secret;
pub use slab_key::SlabKey;
pub use status::{RunStatus, StepStatus};
pub use steering::{Choice, Decide, Steer, Steering, SteeringError, SteeringId, Verdict};
pub use suggest::DidYouMean;
pub use taken::{Lender, Taken};
pub use time::{Deadline, Now, Timestamp, Told};
pub use type_filter::TypeFilter;
pub use usage::{Budget, Cost, Grouped, Price, Reached, TOKENS_MAX, Usage};
