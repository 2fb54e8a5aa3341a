//! `POST /api/sse/ticket`: issues a ticket, which opens a stream for clients that can't send a token.

use serde::Deserialize;
use serde_json::{Value, json};

use super::handler::{Api, json_body, refused, stream_path};
use super::{Action, Facts, read_json};
use crate::auth::PROJECTS_PER_STREAM_MAX;
use crate::http::{Problem, Request, Response};
use crate::model::ProjectId;

/// The body of a call for a ticket.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Wanted {
    project_id: Option<ProjectId>,
    project_ids: Option<Vec<ProjectId>>,
}

impl Api {
    pub(super) fn ticket(&mut self, request: &Request, facts: &Facts) -> Result<Action, Problem> {
        let principal = self.principal(request, facts)?;
        let is_empty = request.body.iter().all(u8::is_ascii_whitespace);
        let wanted = if is_empty { Wanted::default() } else { read_wanted(json_body(request)?)? };
        let projects = wanted.projects()?;
        let nonce = self.settings.tickets.nonce((self.random)());
        let ticket = self.settings.ticket_key.issue(&principal, &projects, facts.now.wall, nonce);
        let ticket = ticket.map_err(|error| refused(&error))?;
        self.settings.tickets.check_room(&principal).map_err(|error| refused(&error.into()))?;
        let mut body = json!({"ticket": ticket, "expiresIn": self.settings.ticket_ttl.as_millis() as u64});
        if let Some(project) = &wanted.project_id {
            body["sseUrl"] = json!(format!("{}?ticket={ticket}", stream_path(project)));
        } else if !projects.is_empty() {
            let listed: Vec<_> = projects.iter().map(ProjectId::as_str).collect();
            body["sseUrl"] = json!(format!("/api/sse?projects={}&ticket={ticket}", listed.join(",")));
        }
        Ok(Action::Answer(Response::json(200, body.to_string()).header("Cache-Control", "no-store")))
    }
}

impl Wanted {
    /// The projects that the ticket is to be for, each once; none if it is to be for all that the token names.
    fn projects(&self) -> Result<Vec<ProjectId>, Problem> {
        let mut projects = match (&self.project_id, &self.project_ids) {
            (None, None) => return Ok(Vec::new()),
            (Some(project), None) => vec![project.clone()],
            (None, Some(projects)) => projects.clone(),
            (Some(_), Some(_)) => return Err(invalid("expected either projectId or projectIds, not both".to_owned())),
        };
        projects.sort();
        projects.dedup();
        match projects.len() {
            1..=PROJECTS_PER_STREAM_MAX => Ok(projects),
            count => Err(invalid(format!(
                "projectIds: expected 1 to {PROJECTS_PER_STREAM_MAX} projects (not configurable), found {count}"
            ))),
        }
    }
}

fn read_wanted(body: &[u8]) -> Result<Wanted, Problem> {
    let body: Value = read_json(body)?;
    if !body.is_object() {
        return Err(Problem::new(400, "invalid_body", "expected a JSON object"));
    }
    Wanted::deserialize(body).map_err(|error| invalid(error.to_string()))
}

fn invalid(detail: String) -> Problem {
    Problem::new(422, "invalid_body", detail)
}
