//! `GET /api/sse/projects/:projectId`: who may open the stream, and at which position it starts.

use std::sync::Arc;

use super::handler::{Api, is_event_source, refused};
use super::query::Parameters;
use super::{Action, Facts};
use crate::auth::{Asked, AuthError, KEYS_UNAVAILABLE, MessageId, Principal, Scope, Spending};
use crate::formats::Format;
use crate::http::{Method, Problem, Request, media};
use crate::log::{ResumeFrom, Subscription, View};
use crate::model::{ProjectId, RunId};

/// What the client would rather have. Whoever takes anything gets events.
fn preferred_view(request: &Request) -> View {
    let weight = |media_type| media::weight(request.headers.all("accept"), media_type);
    if weight("text/plain") > weight("text/event-stream") { View::Text } else { View::Events }
}

/// Does the call name a format? Whoever reads one would take a stream that ends at once for a run that has no more to say.
pub(super) fn names_format(request: &Request) -> bool {
    Parameters::of_stream(request).is_ok_and(|parameters| parameters.text("format").is_some())
}

/// A format tells one run, in its own way.
fn check_format(run: Option<&RunId>, view: Option<View>, heartbeat_as_message: bool) -> Result<(), Problem> {
    let detail = match (run, view) {
        (None, _) => "format: requires runId, because a format shows a single run",
        (_, Some(_)) => "view: can't be combined with format",
        _ if heartbeat_as_message => "heartbeat: can't be combined with format, which always sends comments",
        _ => return Ok(()),
    };
    Err(Problem::new(400, "invalid_parameter", detail))
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
        let run: Option<RunId> = parameters.parsed("runId")?;
        let yes_no = [("0", false), ("1", true), ("false", false), ("true", true)];
        let snapshots = parameters.word("snapshot", &yes_no)?.unwrap_or(true);
        let heartbeats = [("message", true), ("comment", false)];
        let heartbeat_as_message = parameters.word("heartbeat", &heartbeats)?.unwrap_or(false);
        let views = [("text", View::Text), ("events", View::Events)];
        let named = parameters.word("view", &views)?;
        let view = match parameters.word("format", &Format::WORDS)? {
            Some(format) => {
                check_format(run.as_ref(), named, heartbeat_as_message)?;
                View::Format(format)
            }
            None => named.unwrap_or_else(|| preferred_view(request)),
        };
        let view = match parameters.word("items", &[("1", ())])? {
            None => view,
            Some(()) if view.format().is_some() || named == Some(View::Text) => {
                let detail = "items: can't be combined with format or view";
                return Err(Problem::new(400, "invalid_parameter", detail));
            }
            Some(()) => View::Items,
        };
        let header = request.headers.first("last-event-id").filter(|id| !id.is_empty());
        let query = parameters.text("lastEventId").filter(|id| !id.is_empty()).map(str::as_bytes);
        let shown = Shown { header, either: header.or(query) };
        let is_event_source = is_event_source(request) && matches!(view, View::Events | View::Items);
        let proof = shown.header.and_then(|id| self.read_id(id, &project));
        let asked = [Asked { project, proof }];
        let admitted = self.admit(&asked, false, request, parameters.text("ticket"), facts);
        let [Asked { project, .. }] = asked;
        let (principal, spends) = match admitted {
            Err(problem) if problem.code == KEYS_UNAVAILABLE && is_event_source => {
                return Ok(Action::Busy(vec![project]));
            }
            admitted => admitted?,
        };
        let resume = shown.either.map(|id| match self.read_id(id, &project) {
            Some(id) if id.is_ours() => ResumeFrom::Seq(id.seq()),
            _ => ResumeFrom::Unknown,
        });
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
            said: None,
        };
        Ok(Action::Subscribe(Arc::new(subscription), spends))
    }

    fn read_id(&self, id: &[u8], project: &ProjectId) -> Option<MessageId> {
        self.settings.signer.read(str::from_utf8(id).ok()?, project).ok()
    }

    /// Who watches: by token, or else by ticket. Whoever comes back need not see all that is asked for any more.
    pub(super) fn admit(
        &mut self,
        asked: &[Asked],
        comes_back: bool,
        request: &Request,
        ticket: Option<&str>,
        facts: &Facts,
    ) -> Result<(Principal, Option<Spending>), Problem> {
        let has_token = request.headers.first("authorization").is_some();
        let Some(ticket) = ticket.filter(|_| !has_token && self.settings.verifier.is_some()) else {
            let principal = self.principal(request, facts)?;
            let mut projects: Vec<_> = asked.iter().map(|asked| asked.project.clone()).collect();
            if comes_back && projects.iter().any(|project| principal.sees(project)) {
                projects.retain(|project| principal.sees(project));
            }
            principal.require_all(Scope::Subscribe, &projects).map_err(|error| refused(&error))?;
            return Ok((principal, None));
        };
        let now = facts.now.wall;
        let admitted = match request.method {
            Method::Head => self.settings.tickets.peek(ticket, asked, now).map(|principal| (principal, None)),
            _ => {
                let admission = self.settings.tickets.admit(ticket, asked, now);
                admission.map(|admission| (admission.principal, admission.spends))
            }
        };
        admitted.map_err(|error| refused(&AuthError::from(error)))
    }
}
