//! The API: a [`Request`](crate::http::Request) comes in, an [`Action`] goes out.
//!
//! Handlers only decide. They use no socket, no thread and no clock. If a call needs something from another part of the
//! server, its action names that, and [`Render`] turns the reply into the response.

mod agui;
mod answers;
mod bundle;
mod change;
mod chat;
mod converse;
mod dashboard;
#[cfg(test)]
mod described;
mod doctor;
mod events;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod handler;
mod one_line;
mod plans;
mod publish;
mod query;
mod refusals;
mod render;
mod retry;
mod route;
mod runs;
mod steering;
mod stream;
mod submit;
mod ticket;
mod turn;

use std::sync::Arc;

use serde::Deserialize;

pub use agui::{capabilities, read_run_input};
pub use answers::Decisions;
pub use change::ChangeRequest;
pub use chat::read_chat;
pub use converse::RESUME_GRACE_MS;
pub use doctor::{Arrived, Sender};
pub use handler::{Api, ApiSettings};
pub use plans::{StoredRun, run_of_firing};
pub use publish::read_events;
pub use refusals::refusal;
pub use render::{OUTPUT_PIECE_BYTES, Render, Shown};
pub use route::Route;
pub use steering::decision_request;
pub use submit::{Prepared, claim_of_rerun, prepare, read_document};
pub use turn::Turn;

use crate::auth::Spending;
use crate::executor::ChildCall;
use crate::http::{Preconditions, Problem, Response};
use crate::log::{
    Origin, PlanCommand, PublishedEvent, Query, RunAtItsEnd, SteerRequest, Subscription, WAITING_BATCHES_MAX,
};
use crate::model::json::without_bom;
use crate::model::{Now, PlanName, ProjectId, RunId};
use crate::stream::BundleSubscription;

/// A call, decided.
#[derive(Debug)]
pub struct Call {
    /// What is to be done.
    pub action: Action,
    /// Headers that its answer gets, whatever it is.
    pub headers: Vec<(&'static str, String)>,
}

/// What a call needs done.
#[derive(Debug)]
pub enum Action {
    /// Answer this.
    Answer(Response),
    /// Have keys fetched and look at the request again, or answer this where none are fetched just now.
    AwaitKeys(Problem),
    /// Ask for it, and answer what comes back.
    Ask(Ask, Render),
    /// Begin a stream. The ticket is spent if it begins.
    Subscribe(Arc<Subscription>, Option<Spending>),
    /// The same, of a stream of several projects.
    SubscribeToSeveral(Arc<BundleSubscription>, Option<Spending>),
    /// Begin a stream of a run in a format, or do otherwise where the run is not known.
    Converse(Arc<Subscription>, Otherwise),
    /// Answer 200 and end at once, so that an `EventSource` tries again. With the projects of the stream.
    Busy(Vec<ProjectId>),
    /// Answer with the metrics.
    Metrics,
    /// Answer with what has arrived of the request, and where it comes from.
    Echo(Box<Arrived>),
    /// Answer how the webhooks stand.
    Webhooks,
    /// Answer how many watch a project.
    Subscribers(ProjectId),
}

/// What is done if the run that a frontend asks for is not known.
#[derive(Debug)]
pub enum Otherwise {
    /// It is begun by this plan.
    Begin(Box<PlanRequest>),
    /// It is begun by this stored plan.
    BeginStored(Box<StoredRun>),
    /// It is known, or it could have asked nothing: its steps are decided by this before the stream begins.
    Decide(Box<Decisions>),
    /// Why it can't be begun is told.
    Refuse(Box<Problem>),
    /// There is nothing to resume: 204. So it is where the run has been over for [`RESUME_GRACE_MS`].
    Nothing,
}

/// What a call asks of other threads.
#[derive(Debug)]
pub enum Ask {
    /// Of the log: keep and broadcast these.
    Publish(ProjectId, Vec<PublishedEvent>),
    /// Of the intake: read and check a plan, and run it unless it was sent to be checked alone.
    Plan(PlanRequest),
    /// Of the log: what a run was made of, or how it ended; and of the intake: to run that again, or to go on from it.
    Rerun(Box<RerunRequest>),
    /// Of the log: what is stored under a name; and of the intake: to run that.
    Stored(Box<StoredRun>),
    /// Of the log: change a stored plan.
    ChangePlan(PlanCommand),
    /// Of the log: end a run.
    Cancel(ProjectId, RunId),
    /// Of the log: what a run's plan is; of the intake: to check a change of it; and of the log, to have the run make it.
    Change(Box<ChangeRequest>),
    /// Of the log: have a run do something.
    Steer(Box<SteerRequest>),
    /// Of the log: look something up.
    Read(Query),
}

/// A plan as it was sent.
#[derive(Debug, Clone, PartialEq)]
pub struct PlanRequest {
    /// The body, or what was kept of an earlier one.
    pub body: Vec<u8>,
    /// Whether it is to be run, and where.
    pub purpose: Purpose,
    /// `Idempotency-Key`.
    pub idempotency_key: Option<String>,
    /// Projects that the caller may run plans in, where the body names the project.
    pub principal: crate::auth::Principal,
}

/// What a plan was sent for.
#[derive(Debug, Clone, PartialEq)]
pub enum Purpose {
    /// To be checked.
    Check,
    /// To be run in this project.
    Run(ProjectId),
    /// To be run in the project that the body names.
    RunNamed,
    /// To be stored in this project under this name, where these hold.
    Store(ProjectId, PlanName, Preconditions),
    /// To be run in this project: the body is what is stored under this name, and this the call that names it.
    Stored(ProjectId, PlanName, Vec<u8>),
    /// To be run in this project under this id: the body is what is stored under this name, and its schedule has fired.
    Fired(ProjectId, RunId, Origin),
    /// To be run in this project as a child: the body is what is stored under its name.
    Child(Box<ChildCall>),
    /// To be run in this project once more: it is what this run was made of. The new run may have an id that was chosen.
    Rerun(ProjectId, RunId, Option<RunId>),
    /// To change the plan of this run, of which the body is what the log keeps.
    Change {
        /// The run's project.
        project: ProjectId,
        /// The run.
        run: RunId,
        /// What is to change, as it was sent.
        change: Vec<u8>,
        /// As in [`ChangeRequest`].
        if_match: Option<String>,
    },
    /// To go on from a run. The body says what is changed.
    Retry(Box<RetryPurpose>),
}

/// What a run is to go on from.
#[derive(Debug, Clone, PartialEq)]
pub struct RetryPurpose {
    /// Its project.
    pub project: ProjectId,
    /// The run.
    pub run: RunId,
    /// The chosen id of the new run.
    pub chosen: Option<RunId>,
    /// How it ended.
    pub ended: Arc<RunAtItsEnd>,
}

/// A run that is to be run again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RerunRequest {
    /// Its project.
    pub project: ProjectId,
    /// The run.
    pub run: RunId,
    /// The chosen id of the new run.
    pub chosen: Option<RunId>,
    /// Where it is to be gone on from, the body that says what is changed.
    pub changes: Option<Vec<u8>>,
    /// `Idempotency-Key`.
    pub idempotency_key: Option<String>,
    /// Who makes the call.
    pub principal: crate::auth::Principal,
}

impl RerunRequest {
    /// The plan to be run, once the log has said what the run was made of.
    pub fn plan(self, document: &[u8]) -> PlanRequest {
        PlanRequest {
            body: document.to_vec(),
            purpose: Purpose::Rerun(self.project, self.run, self.chosen),
            idempotency_key: self.idempotency_key,
            principal: self.principal,
        }
    }

    /// The plan to be run, once the log has said how the run ended.
    pub fn retry(self, ended: Arc<RunAtItsEnd>) -> PlanRequest {
        let Self { project, run, chosen, changes, idempotency_key, principal } = self;
        let purpose = Purpose::Retry(Box::new(RetryPurpose { project, run, chosen, ended }));
        PlanRequest { body: changes.unwrap_or_default(), purpose, idempotency_key, principal }
    }
}

/// The condition of the server.
#[derive(Debug, Clone, Copy, Default)]
pub struct Facts {
    /// What time it is.
    pub now: Now,
    /// Whether it takes work.
    pub condition: Condition,
    /// Nothing has come back for too long that this node has written to the store that it shares with others.
    pub is_cut_off: bool,
    /// The limit that the connection is beyond.
    pub full: Option<Full>,
    /// Where the connection came in.
    pub door: Door,
}

/// A limit on connections, with its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// `limits.connections`.
    Connections(usize),
    /// `limits.connections_per_address`.
    OfAddress(u32),
}

impl Full {
    fn refusal(self) -> Problem {
        let detail = match self {
            Self::Connections(limit) => format!("too many connections are open (limit {limit}, limits.connections)"),
            Self::OfAddress(limit) => {
                format!(
                    "too many connections are open from this address (limit {limit}, limits.connections_per_address)"
                )
            }
        };
        Problem::unavailable("too_many_connections", detail, 1)
    }
}

/// Which listener a connection came in by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Door {
    /// The one for everything.
    #[default]
    Main,
    /// The one for metrics and health alone.
    Metrics,
}

/// Whether the server takes work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Condition {
    /// Yes.
    #[default]
    Serving,
    /// Not now: the queue of the log is full.
    Overloaded,
    /// Not now: the store is down.
    StoreDown,
    /// No longer.
    Draining,
}

impl Condition {
    /// The refusal of a call that can't be served in this condition.
    pub fn refusal(self) -> Option<Problem> {
        let (code, detail) = match self {
            Self::Serving => return None,
            Self::Overloaded => {
                let detail = format!(
                    "the server is overloaded: its log queue is full (limit {WAITING_BATCHES_MAX} batches, not \
                     configurable); try again later"
                );
                return Some(Problem::unavailable("overloaded", detail, 1));
            }
            Self::StoreDown => ("store_unavailable", "the store is unavailable; try again later"),
            Self::Draining => ("draining", "the server is shutting down"),
        };
        Some(Problem::unavailable(code, detail, 1))
    }
}

/// Reads a body as JSON. A byte order mark before it is no part of it.
///
/// # Errors
/// 400 with line and column where it is none, 422 where it is JSON of another shape.
pub(crate) fn read_json<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Problem> {
    serde_json::from_slice(without_bom(body)).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => Problem::new(422, "invalid_body", error.to_string()),
        _ => Problem::new(400, "invalid_json", error.to_string()),
    })
}

/// Reads a body as a JSON object. Structs could be read from arrays too, which no caller means.
///
/// # Errors
/// As [`read_json`].
pub(crate) fn read_json_object<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Problem> {
    let body = without_bom(body);
    match body.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'{') | None => read_json(body),
        Some(_) => {
            read_json::<serde::de::IgnoredAny>(body)?;
            Err(Problem::new(422, "invalid_body", "expected a JSON object"))
        }
    }
}
