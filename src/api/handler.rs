//! From a request to an action. Checks the origin, the credentials, the rights and the parameters, in this order.

use std::borrow::Cow;
use std::time::Duration;

use super::bundle::AskedFor;
use super::publish::read_events;
use super::query::Parameters;
use super::render::Render;
use super::runs::{rerun, retry};
use super::stream::names_format;
use super::{
    Action, Ask, Call, Condition, Door, Facts, PlanRequest, Purpose, Route, capabilities, dashboard, read_chat,
    read_run_input,
};
use crate::auth::{
    AuthError, Hosts, IdSigner, KEY_UNKNOWN, KeySet, Origins, Principal, Projects, Scope, Spending, TicketBook,
    TicketKey, TicketNote, Verdict, Verifier, bearer,
};
use crate::http::{Method, Problem, Request, Response, media, peek_origin};
use crate::log::Query;
use crate::model::ProjectId;

/// Makes 128 random bits.
pub type Random = Box<dyn FnMut() -> [u8; 16] + Send>;

/// The longest `Idempotency-Key`, in bytes.
const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;

/// Seconds after which a subject that has spent too many tickets may try again: tokens end about that often.
const TICKETS_RETRY_AFTER: u32 = 60;

/// Seconds after which keys may have come that could not be had: they are fetched about that often.
const KEYS_RETRY_AFTER: u32 = 5;

/// How much of a host an error repeats, in bytes: as long as a name in DNS may be.
const HOST_BYTES_SHOWN: usize = 253;

/// The interface's description.
pub(super) const OPENAPI: &[u8] = include_bytes!("openapi.json");

/// What the handlers go by.
pub struct ApiSettings {
    /// Checks tokens; none where everyone may do everything.
    pub verifier: Option<Verifier>,
    /// The names that requests may be for, where no token is asked for, and that the own origin has.
    pub hosts: Hosts,
    /// Browser origins that may call.
    pub origins: Origins,
    /// Reads message ids.
    pub signer: IdSigner,
    /// Issues tickets.
    pub ticket_key: TicketKey,
    /// Admits tickets.
    pub tickets: TicketBook,
    /// How long a ticket is good for.
    pub ticket_ttl: Duration,
    /// Are the metrics served here? Not where they have an address of their own.
    pub serves_metrics: bool,
}

/// The handlers of all calls.
pub struct Api {
    pub(super) settings: ApiSettings,
    pub(super) random: Random,
    /// Whoever calls, where no token is asked for.
    anyone: Principal,
}

impl Api {
    /// Handlers that go by `settings`.
    pub fn new(settings: ApiSettings, random: Random) -> Self {
        Self { settings, random, anyone: Principal::anyone() }
    }

    /// Decides a call.
    pub fn handle(&mut self, request: &Request, facts: &Facts) -> Call {
        let verdict = self.settings.origins.judge(origin(request), request.host, &self.settings.hosts);
        let action = match self.decide(request, verdict, facts) {
            Ok(action) => action,
            Err(problem) if problem.code == KEY_UNKNOWN => Action::AwaitKeys(problem),
            Err(problem) => Action::Answer(problem.into()),
        };
        let is_preflight = request.method == Method::Options;
        let headers = match is_preflight {
            true => self.settings.origins.preflight_headers(verdict),
            false => self.settings.origins.headers(verdict),
        };
        Call { action, headers: owned(headers) }
    }

    /// The headers that the answer gets to what never became a request, of which `input` has come.
    pub fn headers_of_refusal(&self, input: &[u8]) -> Vec<(&'static str, String)> {
        let (origin, host) = peek_origin(input);
        let ApiSettings { origins, hosts, .. } = &self.settings;
        owned(origins.headers(origins.judge(origin, host, hosts)))
    }

    /// Reads the message ids of this server.
    pub fn signer(&self) -> &IdSigner {
        &self.settings.signer
    }

    /// The stream of a ticket can't begin now. Returns the note to store.
    pub fn postpone_ticket(&mut self, spending: Spending, facts: &Facts) -> TicketNote {
        self.settings.tickets.postpone(spending, facts.now.wall)
    }

    /// Other nodes have noted this of tickets.
    pub fn learn_of_tickets(&mut self, notes: &[TicketNote]) {
        notes.iter().for_each(|note| self.settings.tickets.apply(note));
    }

    /// How many used tickets are remembered, and how many were refused because they were too many.
    pub fn tickets(&self) -> (usize, u64) {
        (self.settings.tickets.len(), self.settings.tickets.refused())
    }

    /// Gives an unused ticket its time anew: its bearer is sent away for now.
    pub fn extend_ticket(&mut self, request: &Request, facts: &Facts) -> Option<TicketNote> {
        let in_body = || AskedFor::read(request).ok().and_then(|asked| asked.ticket);
        let parameters = Parameters::of_stream(request).ok()?;
        let ticket = parameters.text("ticket").map(str::to_owned).or_else(in_body)?;
        self.settings.tickets.extend(&ticket, facts.now.wall)
    }

    /// The identity provider's keys are these from now on, or could not be had.
    pub fn receive_keys(&mut self, keys: Result<KeySet, String>) {
        let Some(verifier) = &mut self.settings.verifier else { return };
        match keys {
            Ok(keys) => verifier.replace_keys(keys),
            Err(why) => verifier.note_failure(why),
        }
    }

    /// Forgets tickets whose time is over.
    pub fn forget_expired(&mut self, facts: &Facts) {
        self.settings.tickets.forget_expired(facts.now.wall);
    }

    fn decide(&mut self, request: &Request, verdict: Verdict, facts: &Facts) -> Result<Action, Problem> {
        self.check_host(request)?;
        let route = Route::parse(request.method, request.path)?;
        if verdict.refuses(route.changes_state()) {
            return Err(Problem::forbidden(
                "origin_forbidden",
                "this origin is not allowed to make this call; add it to cors.allowed_origins to allow it",
            ));
        }
        if !self.is_served_at(&route, facts.door) {
            return Err(Problem::not_found("this path is served at the address of metrics.listen"));
        }
        if let Some(action) = self.turn_away(&route, request, facts) {
            return Ok(action);
        }
        // Another program on the way may have gone by the other one.
        if request.headers.all("authorization").nth(1).is_some() {
            return Err(Problem::malformed("the request has more than one Authorization header"));
        }
        self.carry_out(route, request, facts)
    }

    /// Does what a call wants that may be served.
    fn carry_out(&mut self, route: Route, request: &Request, facts: &Facts) -> Result<Action, Problem> {
        match route {
            Route::Options(allow) => Ok(Action::Answer(Response::new(204).header("Allow", allow))),
            Route::Asset(name) => dashboard::asset(name, request).map(Action::Answer),
            Route::Health => Ok(Action::Answer(Response::json(200, r#"{"status":"ok"}"#))),
            Route::Ready => self.ready(facts),
            Route::Metrics => Ok(Action::Metrics),
            Route::OpenApi => Ok(Action::Answer(Response::json(200, OPENAPI))),
            Route::Stream(project) => self.stream(project, request, facts),
            Route::Bundle => self.bundle(request, facts),
            Route::Ticket => self.ticket(request, facts),
            Route::Doctor => self.doctor(request, facts),
            Route::Check => self.plan(request, Purpose::Check, facts),
            Route::SubmitNamed => self.plan(request, Purpose::RunNamed, facts),
            Route::Submit(project) => self.submit(project, request, facts),
            Route::Publish(project) => self.publish(project, request, facts),
            Route::Cancel(project, run) => self.cancel((project, run), request, facts),
            Route::ChangePlan(project, run) => self.change_plan((project, run), request, facts),
            Route::Decision(project, run, step) => self.decision((project, run, step), request, facts),
            Route::Rerun(project, run) => self.run_again((project, run), rerun, request, facts),
            Route::Retry(project, run) => self.run_again((project, run), retry, request, facts),
            Route::AgUi(project) => self.converse(project, request, read_run_input, facts),
            Route::Chat(project) => self.converse(project, request, read_chat, facts),
            Route::ChatStream(project, run) => self.resume_chat(project, run, request, facts),
            Route::AgUiCapabilities(project) => {
                self.authorize(request, Scope::Subscribe, &project, facts)?;
                Ok(Action::Answer(Response::json(200, capabilities())))
            }
            Route::Subscribers(project) => {
                self.authorize(request, Scope::Admin, &project, facts)?;
                Ok(Action::Subscribers(project))
            }
            Route::Webhooks => self.webhooks(request, facts),
            Route::Projects => self.projects(request, facts),
            Route::Runs(project) => self.runs(project, request, facts),
            Route::Run(project, run) => self.run((project, run), request, facts),
            Route::Plan(project, run) => self.plan_of_run((project, run), request, facts),
            Route::StoredPlans(project) => self.stored_plans(project, request, facts),
            Route::StoredPlan(project, name) => self.stored_plan((project, name), request, facts),
            Route::PutPlan(project, name) => self.put_plan((project, name), request, facts),
            Route::RemovePlan(project, name) => self.remove_plan((project, name), request, facts),
            Route::Events(project) => self.events(project, request, facts),
            Route::RunEvents(project, run) => self.run_events(project, run, request, facts),
            Route::StepOutput(project, run, step) => self.step_output((project, run, step), request, facts),
            Route::StepItems(project, run, step) => self.step_items((project, run, step), request, facts),
        }
    }

    /// Where no token is asked for, the name that a request is for is all that tells a page of this server from one of a
    /// name that was made to point here. Who names none, as HTTP/1.0 lets programs do, is no page.
    fn check_host(&self, request: &Request) -> Result<(), Problem> {
        match request.host {
            Some(host) if self.settings.verifier.is_none() && !self.settings.hosts.knows(host) => {
                let shown = &host[..host.len().min(HOST_BYTES_SHOWN)];
                let detail = format!("unknown host name {shown}; add it to server.hosts to allow it");
                Err(Problem::new(421, "unknown_host", detail))
            }
            _ => Ok(()),
        }
    }

    /// Is the call served where the connection came in?
    fn is_served_at(&self, route: &Route, door: Door) -> bool {
        match door {
            Door::Main => *route != Route::Metrics || self.settings.serves_metrics,
            Door::Metrics => route.is_always_served(),
        }
    }

    /// The refusal of a call that can't be served just now: soft for an `EventSource`, which would give up for good.
    fn turn_away(&mut self, route: &Route, request: &Request, facts: &Facts) -> Option<Action> {
        if route.is_always_served() && facts.full.is_none() {
            return None;
        }
        let refusal = facts.condition.refusal().or_else(|| facts.full.map(super::Full::refusal))?;
        // A store that takes nothing still answers what it holds, streams go on and begin, and runs are ended.
        let asks_for_no_more = matches!(route, Route::Cancel(..) | Route::AgUi(_) | Route::Chat(_));
        let needs_store = route.changes_state() && !asks_for_no_more;
        if facts.full.is_none() && !needs_store && facts.condition == Condition::StoreDown {
            return None;
        }
        let watched = match route {
            Route::Stream(project) if !names_format(request) => vec![project.clone()],
            Route::Bundle => AskedFor::read(request).map(|asked| asked.projects()).unwrap_or_default(),
            _ => Vec::new(),
        };
        match watched.is_empty() || !is_event_source(request) {
            true => Some(Action::Answer(refusal.into())),
            false => Some(Action::Busy(watched)),
        }
    }

    /// An overloaded server is ready: it catches up by itself, and sending clients away would not help. A node that
    /// can't hear the others is not ready, but its streams stay: they miss nothing once it hears them again.
    fn ready(&self, facts: &Facts) -> Result<Action, Problem> {
        if let Some(refusal) = facts.condition.refusal().filter(|_| facts.condition != Condition::Overloaded) {
            return Err(refusal);
        }
        if facts.is_cut_off {
            let detail = "this node has not received its own writes back from the store for 15 seconds";
            return Err(Problem::unavailable("store_unavailable", detail, 1));
        }
        match self.settings.verifier.as_ref().and_then(Verifier::lacks_keys) {
            Some(why) => Err(Problem { detail: why.to_owned().into(), ..refused(&AuthError::KeysUnavailable) }),
            None => Ok(Action::Answer(Response::json(200, r#"{"status":"ok"}"#))),
        }
    }

    /// Whom the call's token stands for.
    pub(super) fn principal(&self, request: &Request, facts: &Facts) -> Result<Principal, Problem> {
        let Some(verifier) = &self.settings.verifier else { return Ok(self.anyone.clone()) };
        let token = request.headers.text("authorization").and_then(bearer);
        let token = token.ok_or_else(|| refused(&AuthError::NoCredentials))?;
        verifier.verify(token, facts.now.wall).map_err(|error| refused(&error))
    }

    /// Whom the call's token stands for, where it gives `scope` in `project`.
    pub(super) fn authorize(
        &self,
        request: &Request,
        scope: Scope,
        project: &ProjectId,
        facts: &Facts,
    ) -> Result<Principal, Problem> {
        let principal = self.principal(request, facts)?;
        principal.require_in(scope, project).map_err(|error| refused(&error))?;
        Ok(principal)
    }

    fn plan(&mut self, request: &Request, purpose: Purpose, facts: &Facts) -> Result<Action, Problem> {
        let principal = self.principal(request, facts)?;
        principal.require(Scope::Run).map_err(|error| refused(&error))?;
        let idempotency_key = idempotency_key(request)?;
        let body = json_body(request)?.to_vec();
        Ok(Action::Ask(Ask::Plan(PlanRequest { body, purpose, idempotency_key, principal }), Render::Accepted))
    }

    fn publish(&mut self, project: ProjectId, request: &Request, facts: &Facts) -> Result<Action, Problem> {
        let principal = self.authorize(request, Scope::Publish, &project, facts)?;
        let events = read_events(json_body(request)?, principal.has_scope(Scope::Admin))?;
        let render = Render::Published { project: project.clone(), token_key: principal.token_key() };
        Ok(Action::Ask(Ask::Publish(project, events), render))
    }

    /// They are the whole server's, so they are shown to who may see all of it.
    fn webhooks(&self, request: &Request, facts: &Facts) -> Result<Action, Problem> {
        let principal = self.principal(request, facts)?;
        principal.require(Scope::Admin).map_err(|error| refused(&error))?;
        match principal.projects() {
            Projects::All => Ok(Action::Webhooks),
            Projects::Only(_) => Err(refused(&AuthError::NoProject)),
        }
    }

    fn projects(&mut self, request: &Request, facts: &Facts) -> Result<Action, Problem> {
        let principal = self.principal(request, facts)?;
        principal.require(Scope::Subscribe).map_err(|error| refused(&error))?;
        let parameters = Parameters::read(request)?;
        let visible = match principal.projects() {
            Projects::All => None,
            Projects::Only(ids) => Some(ids.iter().cloned().collect()),
        };
        let query = Query::Projects { visible, after: parameters.parsed("after")?, limit: parameters.limit()? };
        Ok(Action::Ask(Ask::Read(query), Render::Body))
    }
}

fn owned(headers: Vec<(&'static str, Cow<'_, str>)>) -> Vec<(&'static str, String)> {
    headers.into_iter().map(|(name, value)| (name, value.into_owned())).collect()
}

/// Where a project's stream is.
pub(crate) fn stream_path(project: &ProjectId) -> String {
    format!("/api/sse/projects/{project}")
}

/// The `Origin`. One that is no text is none that could be told from another, as is the browsers' own word for those.
fn origin<'r>(request: &Request<'r>) -> Option<&'r str> {
    request.headers.first("origin").map(|origin| str::from_utf8(origin).unwrap_or("null"))
}

/// Does the client ask for an event stream by name, as `EventSource` does?
pub(super) fn is_event_source(request: &Request) -> bool {
    media::names(request.headers.all("accept"), "text/event-stream")
}

/// The answer to a call that is not allowed.
pub(crate) fn refused(error: &AuthError) -> Problem {
    let mut problem = Problem::new(error.status(), error.code(), error.to_string());
    problem.challenge = error.challenge();
    problem.retry_after = match error.status() {
        429 => Some(TICKETS_RETRY_AFTER),
        503 => Some(KEYS_RETRY_AFTER),
        _ => None,
    };
    problem
}

/// The body of a call that takes JSON.
pub(super) fn json_body<'r>(request: &'r Request) -> Result<&'r [u8], Problem> {
    match request.headers.first("content-type") {
        Some(content_type) if !str::from_utf8(content_type).is_ok_and(media::is_json) => {
            Err(Problem::unsupported_media_type("unsupported Content-Type; expected application/json"))
        }
        _ => Ok(match &request.body {
            Cow::Borrowed(body) => body,
            Cow::Owned(body) => body,
        }),
    }
}

pub(super) fn idempotency_key(request: &Request) -> Result<Option<String>, Problem> {
    let Some(key) = request.headers.first("idempotency-key") else { return Ok(None) };
    let is_fit = (1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&key.len()) && key.iter().all(|b| (b' '..=b'~').contains(b));
    match str::from_utf8(key) {
        Ok(key) if is_fit => Ok(Some(key.to_owned())),
        _ => Err(Problem::new(
            400,
            "invalid_idempotency_key",
            format!("Idempotency-Key: expected 1 to {IDEMPOTENCY_KEY_BYTES_MAX} printable ASCII characters"),
        )),
    }
}
