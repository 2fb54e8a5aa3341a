//! `GET /api/sse/projects/:projectId`: who may watch, and from where on.

use std::sync::Arc;

use super::handler::{Api, is_event_source, refused};
use super::query::Parameters;
use super::{Action, Facts};
use crate::auth::{AuthError, KEYS_UNAVAILABLE, MessageId, Principal, Scope, Spending};
use crate::http::{Method, Problem, Request, media};
use crate::log::{ResumeFrom, Subscription, View};
use crate::model::ProjectId;

/// What the client would rather have. Whoever takes anything gets events.
fn preferred_view(request: &Request) -> View {
    let weight = |media_type| media::weight(request.headers.all("accept"), media_type);
    if weight("text/plain") > weight("text/event-stream") { View::Text } else { View::Events }
}

/// A message id that a client shows, and where. Whatever bytes it is: what is no id is an unknown one, and never none.
struct Shown<'r> {
    /// In the header, where only a browser that has watched puts it.
    header: Option<&'r [u8]>,
    /// In the header or in the query.
    either: Option<&'r [u8]>,
}

impl Api {
    pub(super) fn stream(&mut self, project: ProjectId, request: &Request, facts: &Facts) -> Result<Action, Problem> {
        let parameters = Parameters::of_stream(request)?;
        let run = parameters.parsed("runId")?;
        let yes_no = [("0", false), ("1", true), ("false", false), ("true", true)];
        let snapshots = parameters.word("snapshot", &yes_no)?.unwrap_or(true);
        let heartbeats = [("message", true), ("comment", false)];
        let heartbeat_as_message = parameters.word("heartbeat", &heartbeats)?.unwrap_or(false);
        let views = [("text", View::Text), ("events", View::Events)];
        let view = parameters.word("view", &views)?.unwrap_or_else(|| preferred_view(request));
        let header = request.headers.first("last-event-id").filter(|id| !id.is_empty());
        let query = parameters.text("lastEventId").filter(|id| !id.is_empty()).map(str::as_bytes);
        let shown = Shown { header, either: header.or(query) };
        let (principal, spends) = match self.admit(&project, request, parameters.text("ticket"), &shown, facts) {
            Err(problem) if problem.code == KEYS_UNAVAILABLE && is_event_source(request) => {
                return Ok(Action::Busy(project));
            }
            admitted => admitted?,
        };
        let resume = shown.either.map(|id| match self.read_id(id, &project) {
            Some(id) if id.is_ours() => ResumeFrom::Seq(id.seq()),
            _ => ResumeFrom::Unknown,
        });
        let is_event_source = is_event_source(request) && view == View::Events;
        let (token_key, expires_at) = (principal.token_key(), principal.expires_at());
        let subscription = Subscription {
            project,
            resume,
            run,
            snapshots,
            view,
            heartbeat_as_message,
            token_key,
            expires_at,
            is_event_source,
        };
        Ok(Action::Subscribe(Arc::new(subscription), spends))
    }

    fn read_id(&self, id: &[u8], project: &ProjectId) -> Option<MessageId> {
        self.settings.signer.read(str::from_utf8(id).ok()?, project).ok()
    }

    /// Who watches: by token, or else by ticket.
    fn admit(
        &mut self,
        project: &ProjectId,
        request: &Request,
        ticket: Option<&str>,
        shown: &Shown,
        facts: &Facts,
    ) -> Result<(Principal, Option<Spending>), Problem> {
        let has_token = request.headers.first("authorization").is_some();
        let Some(ticket) = ticket.filter(|_| !has_token && self.settings.verifier.is_some()) else {
            let principal = self.principal(request, facts)?;
            principal.require_in(Scope::Subscribe, project).map_err(|error| refused(&error))?;
            return Ok((principal, None));
        };
        let genuine = shown.header.and_then(|id| self.read_id(id, project));
        let now = facts.now.wall;
        let admitted = match request.method {
            Method::Head => {
                self.settings.tickets.peek(ticket, project, genuine, now).map(|principal| (principal, None))
            }
            _ => {
                let admission = self.settings.tickets.admit(ticket, project, genuine, now);
                admission.map(|admission| (admission.principal, admission.spends))
            }
        };
        admitted.map_err(|error| refused(&AuthError::from(error)))
    }
}
