//! The interface for the embedding program: broadcasts and plans, from any thread.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use crate::api::{PlanRequest, Prepared, Purpose, decision_request, prepare, read_events, refusal};
use crate::auth::Principal;
use crate::executor::Context;
use crate::http::Problem;
use crate::log::{Answer, Command, LogHandle, Query, ReplyTo};
use crate::model::{ProjectId, RunId, StepId};
use crate::random;

/// Broadcasts messages and submits plans. Cheap to clone, and usable from any thread.
#[derive(Clone)]
pub struct Handle {
    log: LogHandle,
    context: Arc<Context>,
    steps_max: usize,
}

/// Why a broadcast or a plan was not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HandleError {
    /// It was refused for the same reason as the corresponding HTTP call; the problem says why.
    Refused(Box<Problem>),
    /// The server has stopped.
    Ended,
}

impl fmt::Display for HandleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(problem) => write!(f, "{}: {}", problem.code, problem.detail),
            Self::Ended => f.write_str("the server has stopped"),
        }
    }
}

impl std::error::Error for HandleError {}

impl From<Problem> for HandleError {
    fn from(problem: Problem) -> Self {
        Self::Refused(Box::new(problem))
    }
}

impl Handle {
    pub(super) fn new(log: LogHandle, context: Arc<Context>, steps_max: usize) -> Self {
        Self { log, context, steps_max }
    }

    /// Broadcasts a message, `{"type": ..., "payload": {...}}`, to all subscribers of `project`, and returns its `seq`. The
    /// message is in the log when this returns. An array of messages is stored completely or not at all; the `seq` returned
    /// is that of the first.
    ///
    /// # Errors
    /// As `POST .../events`, or if the server has stopped.
    pub fn broadcast(&self, project: &ProjectId, message: &impl Serialize) -> Result<u64, HandleError> {
        let body = serde_json::to_vec(message).map_err(|error| Problem::new(400, "invalid_json", error.to_string()))?;
        let events = read_events(&body, true)?;
        let project = project.clone();
        match self.ask(|reply| Command::Publish { project, events, reply })? {
            Answer::Published { first_seq, .. } => Ok(first_seq),
            answer => Err(unexpected(answer)),
        }
    }

    /// Submits a plan, bare or wrapped as `{"plan": ..., "inputs": ..., "runId": ...}`, and returns the id of its run. The
    /// run is in the log when this returns.
    ///
    /// # Errors
    /// As `POST .../workflows`, or if the server has stopped.
    pub fn submit(&self, project: &ProjectId, plan: &impl Serialize) -> Result<RunId, HandleError> {
        let body = serde_json::to_vec(plan).map_err(|error| Problem::new(400, "invalid_json", error.to_string()))?;
        let bits = random::bits().map_err(|error| Problem::internal(error.to_string()))?;
        let request = PlanRequest {
            body,
            purpose: Purpose::Run(project.clone()),
            idempotency_key: None,
            principal: Principal::anyone(),
        };
        let prepared = prepare(request, &self.context, self.steps_max, RunId::from_random(bits))?;
        let (run, command): (_, Box<dyn FnOnce(ReplyTo) -> Command>) = match prepared {
            Prepared::Run(submission) => {
                (Some(submission.run.clone()), Box::new(|reply| Command::Submit { submission, reply }))
            }
            Prepared::Recall(claim, otherwise) => {
                let query = Query::Recall { claim: claim.clone(), otherwise };
                (claim.run, Box::new(|reply| Command::Read { query, reply }))
            }
            Prepared::Checked(_) | Prepared::Steer(_) | Prepared::Store(_) => {
                return Err(Problem::internal("a submitted plan did not become a run").into());
            }
        };
        match (self.ask(command)?, run) {
            (Answer::Accepted { .. }, Some(run)) => Ok(run),
            (answer, _) => Err(unexpected(answer)),
        }
    }

    /// Decides a waiting step, `{"decision": "approve" | "reject", "payload": ...}`, in the name of `by`. Returns what
    /// the HTTP call would return. The decision is in the log when this returns.
    ///
    /// # Errors
    /// As `POST .../decision`, or if the server has stopped.
    pub fn decide(
        &self,
        (project, run, step): (ProjectId, RunId, StepId),
        by: &str,
        decision: &impl Serialize,
    ) -> Result<Value, HandleError> {
        let body =
            serde_json::to_vec(decision).map_err(|error| Problem::new(400, "invalid_json", error.to_string()))?;
        let request = Box::new(decision_request((project, run, step), by, None, &body)?);
        match self.ask(|reply| Command::Steer { request, reply })? {
            Answer::Accepted { body, .. } => {
                serde_json::from_slice(&body).map_err(|error| Problem::internal(error.to_string()).into())
            }
            answer => Err(unexpected(answer)),
        }
    }

    fn ask(&self, command: impl FnOnce(ReplyTo) -> Command) -> Result<Answer, HandleError> {
        self.log.ask(command).ok_or(HandleError::Ended)
    }
}

fn unexpected(answer: Answer) -> HandleError {
    match answer {
        Answer::Refused(refused) => refusal(&refused).into(),
        Answer::Problem(problem) => HandleError::Refused(problem),
        answer => Problem::internal(format!("unexpected answer of the log: {answer:?}")).into(),
    }
}
