//! The calls of agent frontends, which follow a run and may start it first: checks the credentials and chooses the
//! action.

use std::sync::Arc;

use super::answers::Decisions;
use super::handler::{Api, idempotency_key, json_body, refused};
use super::turn::Beginning;
use super::{Action, Facts, Otherwise, PlanRequest, Purpose, StoredRun, Turn};
use crate::auth::{Principal, Scope};
use crate::formats::Format;
use crate::http::{Problem, Request};
use crate::log::{ClientSaid, Subscription, View};
use crate::model::{ProjectId, RunId};

/// A run that ended longer ago than this is nothing to resume: its frontend has what it said, or no longer wants it. In
/// milliseconds.
pub const RESUME_GRACE_MS: u64 = 60_000;

impl Api {
    /// A frontend sends a message. A run that is known it is told of; another is begun by the plan that it brings.
    pub(super) fn converse(
        &mut self,
        project: ProjectId,
        request: &Request,
        read: fn(&[u8]) -> Result<Turn, Problem>,
        facts: &Facts,
    ) -> Result<Action, Problem> {
        let principal = self.authorize(request, Scope::Subscribe, &project, facts)?;
        let idempotency_key = idempotency_key(request)?;
        let mut turn = read(json_body(request)?)?;
        let otherwise = if turn.answers.is_empty() {
            beginning(&mut turn, &project, idempotency_key, &principal)
        } else {
            principal.require_in(Scope::Approve, &project).map_err(|error| refused(&error))?;
            let answers = std::mem::take(&mut turn.answers);
            Otherwise::Decide(Box::new(Decisions::new(project.clone(), answers, principal.sub())))
        };
        let said = ClientSaid { names: turn.names, messages: turn.messages.map(Into::into), had: turn.had };
        let wanted = wanted(project, turn.run, turn.format, &principal);
        Ok(Action::Converse(Arc::new(Subscription { said: Some(Box::new(said)), ..wanted }), otherwise))
    }

    /// A frontend was loaded anew, and asks for the answer that it was in the midst of.
    pub(super) fn resume_chat(
        &mut self,
        project: ProjectId,
        run: RunId,
        request: &Request,
        facts: &Facts,
    ) -> Result<Action, Problem> {
        let principal = self.authorize(request, Scope::Subscribe, &project, facts)?;
        let wanted = wanted(project, Some(run), Format::AiSdk { in_turns: true }, &principal);
        Ok(Action::Converse(Arc::new(wanted), Otherwise::Nothing))
    }
}

/// What is done where the run is not known.
fn beginning(turn: &mut Turn, project: &ProjectId, key: Option<String>, principal: &Principal) -> Otherwise {
    let Some(beginning) = turn.beginning.take() else { return Otherwise::Refuse(Box::new(turn.without_plan())) };
    if let Err(error) = principal.require_in(Scope::Run, project) {
        return Otherwise::Refuse(Box::new(refused(&error)));
    }
    let (project, principal, idempotency_key) = (project.clone(), principal.clone(), key);
    match beginning {
        Beginning::Plan(body) => {
            let purpose = Purpose::Run(project);
            Otherwise::Begin(Box::new(PlanRequest { body, purpose, idempotency_key, principal }))
        }
        Beginning::Stored(name, body) => {
            Otherwise::BeginStored(Box::new(StoredRun { project, name, body, idempotency_key, principal }))
        }
    }
}

/// All of a run, from its beginning: whoever reads a format by these calls has nothing to go on from.
fn wanted(project: ProjectId, run: Option<RunId>, format: Format, principal: &Principal) -> Subscription {
    Subscription {
        run,
        view: View::Format(format),
        token_key: principal.token_key(),
        expires_at: principal.expires_at(),
        ..Subscription::to(project)
    }
}
