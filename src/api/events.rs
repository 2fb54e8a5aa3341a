//! `GET .../workflows/:runId/events`: the messages of a run, in their own format or as CloudEvents. `GET .../events`:
//! the messages of a project.

use super::query::Parameters;
use super::render::Render;
use super::{Action, Api, Ask, Facts};
use crate::auth::Scope;
use crate::formats::cloudevents::BATCH_MEDIA_TYPE;
use crate::http::{Problem, Request, media};
use crate::log::{EventList, Query, WantedEvents};
use crate::model::{ProjectId, RunId};

impl Api {
    pub(super) fn run_events(
        &mut self,
        project: ProjectId,
        run: RunId,
        request: &Request,
        facts: &Facts,
    ) -> Result<Action, Problem> {
        self.authorize(request, Scope::Subscribe, &project, facts)?;
        let parameters = Parameters::read(request)?;
        let after = self.place(&parameters, "after", &project)?.unwrap_or_default();
        let limit = parameters.limit()?;
        let list = wanted_list(request, &parameters)?;
        let render = match list {
            EventList::Messages => Render::Body,
            EventList::CloudEvents => Render::Batch { next: next_page(&project, &run, limit) },
        };
        Ok(Action::Ask(Ask::Read(Query::RunEvents { project, run, after, limit, list }), render))
    }

    pub(super) fn events(&mut self, project: ProjectId, request: &Request, facts: &Facts) -> Result<Action, Problem> {
        self.authorize(request, Scope::Subscribe, &project, facts)?;
        let parameters = Parameters::read(request)?;
        let (after, before) =
            (self.place(&parameters, "after", &project)?, self.place(&parameters, "before", &project)?);
        let order = parameters.word("order", &[("oldest", false), ("newest", true)])?;
        let newest_first = order.unwrap_or(before.is_some() && after.is_none());
        let (types, limit) = (parameters.types()?, parameters.limit()?);
        let wanted = WantedEvents { after, before, newest_first, types, limit };
        Ok(Action::Ask(Ask::Read(Query::Events { project, wanted }), Render::Body))
    }

    /// The place in a project's history that the parameter of this name tells by a message's id.
    fn place(&self, parameters: &Parameters, name: &str, project: &ProjectId) -> Result<Option<u64>, Problem> {
        let Some(id) = parameters.text(name) else { return Ok(None) };
        match self.settings.signer.read(id, project) {
            Ok(id) if id.is_ours() => Ok(Some(id.seq())),
            _ => Err(Problem::new(400, "invalid_parameter", format!("{name}: expected a message id of this project"))),
        }
    }
}

/// What the query says, or else what the client would rather have.
fn wanted_list(request: &Request, parameters: &Parameters<'_>) -> Result<EventList, Problem> {
    let words = [("json", EventList::Messages), ("cloudevents", EventList::CloudEvents)];
    let accept: Vec<_> = request.headers.all("accept").collect();
    Ok(parameters.word("format", &words)?.unwrap_or_else(|| accepted(&accept)))
}

/// Messages, unless events are wanted more.
fn accepted(accept: &[&[u8]]) -> EventList {
    let weight = |media_type| media::weight(accept.iter().copied(), media_type);
    match weight(BATCH_MEDIA_TYPE) > weight("application/json") {
        true => EventList::CloudEvents,
        false => EventList::Messages,
    }
}

/// The url of the next page, except for the id that it begins after.
fn next_page(project: &ProjectId, run: &RunId, limit: usize) -> String {
    format!("/api/projects/{project}/workflows/{run}/events?format=cloudevents&limit={limit}&after=")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cloudevents_are_what_is_accepted_by_name() {
        for (accept, expected) in [
            ("*/*", EventList::Messages),
            ("application/cloudevents-batch+json", EventList::CloudEvents),
            ("application/json, application/cloudevents-batch+json", EventList::Messages),
            ("application/json;q=0.4, application/cloudevents-batch+json;q=0.5", EventList::CloudEvents),
            ("application/cloudevents+json", EventList::Messages),
        ] {
            assert_eq!(accepted(&[accept.as_bytes()]), expected, "{accept}");
        }
        assert_eq!(accepted(&[]), EventList::Messages);
    }
}
