//! `GET`, `POST` and `QUERY /api/sse`: one stream of several projects. Reads its parameters from the query or from a
//! JSON body.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;

use super::handler::{Api, is_event_source, json_body};
use super::query::{Parameters, bad};
use super::{Action, Facts, read_json_object};
use crate::auth::{Asked, IdSigner, KEYS_UNAVAILABLE, MessageId, PROJECTS_PER_STREAM_MAX, Principal};
use crate::http::{Method, Problem, Request};
use crate::log::{ResumeFrom, Subscription};
use crate::model::{IdError, ProjectId};
use crate::stream::BundleSubscription;

/// What a request for a stream of several projects says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct AskedFor {
    /// Each with the id of its own that it came with.
    projects: BTreeMap<ProjectId, Option<String>>,
    snapshots: bool,
    heartbeat_as_message: bool,
    pub(super) ticket: Option<String>,
    /// The last id of all of the stream, in the query.
    last_id: Option<String>,
}

/// Where the client says that it was in a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    /// Nowhere: it has not been there.
    Nothing,
    /// There, by an id that is genuine.
    At(MessageId),
    /// By an id that nobody knows.
    Unknown,
}

impl AskedFor {
    pub(super) fn read(request: &Request) -> Result<Self, Problem> {
        match request.method {
            Method::Get | Method::Head => Self::of_query(request),
            _ => Self::of_body(request),
        }
    }

    fn of_query(request: &Request) -> Result<Self, Problem> {
        let parameters = Parameters::of_stream(request)?;
        for name in ["runId", "view", "format", "items"] {
            if parameters.text(name).is_some_and(|value| (name, value) != ("view", "events")) {
                return Err(bad(name, "not supported on a stream of several projects"));
            }
        }
        let listed =
            parameters.text("projects").ok_or_else(|| bad("projects", "expected project ids separated by commas"))?;
        let projects: Result<_, IdError> = listed.split(',').map(|id| id.parse().map(|id| (id, None))).collect();
        let yes_no = [("0", false), ("1", true), ("false", false), ("true", true)];
        let heartbeats = [("message", true), ("comment", false)];
        Ok(Self {
            projects: bounded(projects.map_err(|error| bad("projects", &error.to_string()))?)?,
            snapshots: parameters.word("snapshot", &yes_no)?.unwrap_or(true),
            heartbeat_as_message: parameters.word("heartbeat", &heartbeats)?.unwrap_or(false),
            ticket: parameters.text("ticket").map(str::to_owned),
            last_id: parameters.text("lastEventId").map(str::to_owned),
        })
    }

    fn of_body(request: &Request) -> Result<Self, Problem> {
        let body: Body = read_json_object(json_body(request)?)?;
        let projects = match body.projects {
            Listed::Alone(ids) => ids.into_iter().map(|id| (id, None)).collect(),
            Listed::WithIds(ids) => ids,
        };
        let parse = |(id, last): (String, Option<String>)| id.parse().map(|id| (id, last));
        let projects: Result<_, IdError> = projects.into_iter().map(parse).collect();
        let heartbeat_as_message = match body.heartbeat.as_deref() {
            None | Some("comment") => false,
            Some("message") => true,
            Some(_) => return Err(bad("heartbeat", "expected one of message, comment")),
        };
        Ok(Self {
            projects: bounded(projects.map_err(|error| bad("projects", &error.to_string()))?)?,
            snapshots: body.snapshot,
            heartbeat_as_message,
            ticket: body.ticket,
            last_id: None,
        })
    }

    /// The projects, in their order.
    pub(super) fn projects(&self) -> Vec<ProjectId> {
        self.projects.keys().cloned().collect()
    }
}

/// The body of `POST` and `QUERY`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    projects: Listed,
    #[serde(default = "yes")]
    snapshot: bool,
    heartbeat: Option<String>,
    ticket: Option<String>,
}

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "projects: expected an array of project ids, or an object that maps each project id to its last message id or null"
)]
enum Listed {
    Alone(Vec<String>),
    WithIds(BTreeMap<String, Option<String>>),
}

fn yes() -> bool {
    true
}

impl Api {
    pub(super) fn bundle(&mut self, request: &Request, facts: &Facts) -> Result<Action, Problem> {
        let asked_for = AskedFor::read(request)?;
        let header = request.headers.first("last-event-id").filter(|id| !id.is_empty());
        let query = asked_for.last_id.as_deref().filter(|id| !id.is_empty()).map(str::as_bytes);
        let signer = &self.settings.signer;
        let shown = positions(signer, &asked_for, header.or(query));
        let may_be_proof = header.is_some() || query.is_none();
        let proof = |shown: &Shown| match shown {
            Shown::At(id) if may_be_proof => Some(*id),
            _ => None,
        };
        let asked = asked_for.projects.keys().cloned().zip(&shown);
        let asked: Vec<_> = asked.map(|(project, shown)| Asked { project, proof: proof(shown) }).collect();
        let comes_back = shown.iter().any(|shown| matches!(shown, Shown::At(_)));
        let ticket = asked_for.ticket.as_deref();
        let is_event_source = is_event_source(request);
        let (principal, spends) = match self.admit(&asked, comes_back, request, ticket, facts) {
            Err(problem) if problem.code == KEYS_UNAVAILABLE && is_event_source => {
                return Ok(Action::Busy(asked.into_iter().map(|asked| asked.project).collect()));
            }
            admitted => admitted?,
        };
        let template = Subscription {
            snapshots: asked_for.snapshots,
            heartbeat_as_message: asked_for.heartbeat_as_message,
            token_key: principal.token_key(),
            expires_at: principal.expires_at(),
            is_event_source,
            ..Subscription::to(asked[0].project.clone())
        };
        let wanted = wanted(asked_for.projects().into_iter().zip(shown), &principal, &template);
        Ok(Action::SubscribeToSeveral(Arc::new(wanted), spends))
    }
}

/// A stream of those that `principal` sees, each like `template` but from where the client was.
fn wanted(
    shown: impl Iterator<Item = (ProjectId, Shown)>,
    principal: &Principal,
    template: &Subscription,
) -> BundleSubscription {
    let (mut parts, mut forbidden) = (Vec::new(), Vec::new());
    for (project, shown) in shown {
        match principal.sees(&project) {
            true => parts.push(Arc::new(Subscription { project, resume: shown.resume(), ..template.clone() })),
            false => forbidden.push(project),
        }
    }
    BundleSubscription { parts, forbidden }
}

impl Shown {
    fn resume(self) -> Option<ResumeFrom> {
        match self {
            Self::Nothing => None,
            Self::At(id) if id.is_ours() => Some(ResumeFrom::Seq(id.seq())),
            Self::At(_) | Self::Unknown => Some(ResumeFrom::Unknown),
        }
    }
}

/// Where the client was in each project. The id of the whole stream is the newer one: a script that comes back by itself
/// sends the body that it sent at first.
fn positions(signer: &IdSigner, asked_for: &AskedFor, last_id: Option<&[u8]>) -> Vec<Shown> {
    let of_stream = positions_by_last_id(signer, asked_for, last_id);
    let own = asked_for.projects.iter().map(|(project, own)| match own.as_deref().filter(|id| !id.is_empty()) {
        None => Shown::Nothing,
        Some(id) => signer.read(id, project).map_or(Shown::Unknown, Shown::At),
    });
    let newer = |(of_stream, own)| if of_stream == Shown::Nothing { own } else { of_stream };
    of_stream.into_iter().zip(own).map(newer).collect()
}

/// An id that is of none of the projects is one that nobody knows, for all of them.
fn positions_by_last_id(signer: &IdSigner, asked_for: &AskedFor, last_id: Option<&[u8]>) -> Vec<Shown> {
    let all = |shown| vec![shown; asked_for.projects.len()];
    let Some(last_id) = last_id else { return all(Shown::Nothing) };
    let Ok(text) = str::from_utf8(last_id) else { return all(Shown::Unknown) };
    let projects = asked_for.projects.keys();
    if let Some(positions) = signer.read_positions(text) {
        return projects.map(|project| positions.of(signer.tag(project)).map_or(Shown::Nothing, Shown::At)).collect();
    }
    let shown: Vec<_> = projects.map(|project| signer.read(text, project).map_or(Shown::Nothing, Shown::At)).collect();
    if shown.iter().all(|shown| *shown == Shown::Nothing) { all(Shown::Unknown) } else { shown }
}

/// As many projects as a stream may have.
fn bounded<T>(projects: BTreeMap<ProjectId, T>) -> Result<BTreeMap<ProjectId, T>, Problem> {
    match projects.len() {
        1..=PROJECTS_PER_STREAM_MAX => Ok(projects),
        count => {
            let limit = PROJECTS_PER_STREAM_MAX;
            let expected = format!("expected 1 to {limit} projects (not configurable), found {count}");
            Err(bad("projects", &expected))
        }
    }
}
