//! Which call a request makes: method and path to a [`Route`] with its ids parsed.

use super::dashboard;
use crate::http::{Method, Problem, SEGMENTS_MAX, Segments};
use crate::model::{IdError, PlanName, ProjectId, RunId, StepId};

/// A call of the interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// `GET /`, `GET /stepcast.js` and what else the page is made of
    Asset(&'static str),
    /// `GET /healthz`
    Health,
    /// `GET /readyz`
    Ready,
    /// `GET /metrics`
    Metrics,
    /// `GET /openapi.json`
    OpenApi,
    /// `POST /api/sse/ticket`
    Ticket,
    /// `GET` and `POST /api/sse/doctor`
    Doctor,
    /// `GET /api/sse/projects/:projectId`
    Stream(ProjectId),
    /// `GET`, `POST` and `QUERY /api/sse`
    Bundle,
    /// `POST /api/workflow/check`
    Check,
    /// `POST /api/workflow/run`
    SubmitNamed,
    /// `GET /api/projects`
    Projects,
    /// `POST /api/projects/:projectId/workflows`
    Submit(ProjectId),
    /// `GET /api/projects/:projectId/workflows`
    Runs(ProjectId),
    /// `GET /api/projects/:projectId/workflows/:runId`
    Run(ProjectId, RunId),
    /// `GET /api/projects/:projectId/workflows/:runId/plan`
    Plan(ProjectId, RunId),
    /// `PATCH /api/projects/:projectId/workflows/:runId/plan`
    ChangePlan(ProjectId, RunId),
    /// `GET /api/projects/:projectId/workflows/:runId/events`
    RunEvents(ProjectId, RunId),
    /// `GET /api/projects/:projectId/workflows/:runId/steps/:stepId/output`
    StepOutput(ProjectId, RunId, StepId),
    /// `GET /api/projects/:projectId/workflows/:runId/steps/:stepId/items`
    StepItems(ProjectId, RunId, StepId),
    /// `POST /api/projects/:projectId/workflows/:runId/cancel`
    Cancel(ProjectId, RunId),
    /// `POST /api/projects/:projectId/workflows/:runId/steps/:stepId/decision`
    Decision(ProjectId, RunId, StepId),
    /// `POST /api/projects/:projectId/workflows/:runId/rerun`
    Rerun(ProjectId, RunId),
    /// `GET /api/projects/:projectId/plans`
    StoredPlans(ProjectId),
    /// `GET /api/projects/:projectId/plans/:name`
    StoredPlan(ProjectId, PlanName),
    /// `PUT /api/projects/:projectId/plans/:name`
    PutPlan(ProjectId, PlanName),
    /// `DELETE /api/projects/:projectId/plans/:name`
    RemovePlan(ProjectId, PlanName),
    /// `POST /api/projects/:projectId/workflows/:runId/retry`
    Retry(ProjectId, RunId),
    /// `GET /api/projects/:projectId/events`
    Events(ProjectId),
    /// `POST /api/projects/:projectId/events`
    Publish(ProjectId),
    /// `POST /api/projects/:projectId/agui`
    AgUi(ProjectId),
    /// `GET /api/projects/:projectId/agui`
    AgUiCapabilities(ProjectId),
    /// `POST /api/projects/:projectId/chat`
    Chat(ProjectId),
    /// `GET /api/projects/:projectId/chat/:runId/stream`
    ChatStream(ProjectId, RunId),
    /// `GET /api/projects/:projectId/subscribers`
    Subscribers(ProjectId),
    /// `GET /api/webhooks`
    Webhooks,
    /// `OPTIONS` of any path, with the methods that it allows.
    Options(&'static str),
}

const GET: &str = "GET, HEAD, OPTIONS";
const POST: &str = "POST, OPTIONS";
const GET_PATCH: &str = "GET, HEAD, PATCH, OPTIONS";
const GET_POST: &str = "GET, HEAD, POST, OPTIONS";
const GET_PUT_DELETE: &str = "GET, HEAD, PUT, DELETE, OPTIONS";
const GET_POST_QUERY: &str = "GET, HEAD, POST, QUERY, OPTIONS";

/// What a path may be asked: the call for `GET` (and `HEAD`), for `POST`, for `QUERY`, which is a `GET` with a body, for `PUT`
/// and for `DELETE`.
#[derive(Default)]
struct Calls {
    get: Option<Route>,
    post: Option<Route>,
    query: Option<Route>,
    patch: Option<Route>,
    put: Option<Route>,
    delete: Option<Route>,
}

impl Route {
    /// The call that `method` makes of `path`.
    ///
    /// # Errors
    /// 404 where there is no such path, 405 where it does not take the method, 400 where an id in it is none.
    pub fn parse(method: Method, path: &str) -> Result<Self, Problem> {
        if path == "*" {
            return Ok(Self::Options(GET_POST_QUERY));
        }
        let segments = Segments::parse(path)?;
        let calls = calls(segments.as_strs(&mut [""; SEGMENTS_MAX]))?;
        let allow = match (&calls.get, &calls.post, &calls.query) {
            _ if calls.patch.is_some() => GET_PATCH,
            _ if calls.put.is_some() => GET_PUT_DELETE,
            (_, _, Some(_)) => GET_POST_QUERY,
            (Some(_), Some(_), None) => GET_POST,
            (Some(_), None, None) => GET,
            (None, _, None) => POST,
        };
        let call = match method {
            Method::Get | Method::Head => calls.get,
            Method::Post => calls.post,
            Method::Query => calls.query,
            Method::Patch => calls.patch,
            Method::Put => calls.put,
            Method::Delete => calls.delete,
            Method::Options => Some(Self::Options(allow)),
            _ => None,
        };
        call.ok_or_else(|| Problem::method_not_allowed(allow))
    }

    /// Does the call change anything? Pages of foreign origins may not make such a one.
    pub fn changes_state(&self) -> bool {
        matches!(
            self,
            Self::Ticket
                | Self::Check
                | Self::SubmitNamed
                | Self::Submit(_)
                | Self::Cancel(..)
                | Self::ChangePlan(..)
                | Self::Decision(..)
                | Self::Rerun(..)
                | Self::PutPlan(..)
                | Self::RemovePlan(..)
                | Self::Retry(..)
                | Self::Publish(_)
                | Self::AgUi(_)
                | Self::Chat(_)
        )
    }

    /// Is the call answered whatever state the server is in?
    pub fn is_always_served(&self) -> bool {
        matches!(self, Self::Health | Self::Ready | Self::Metrics | Self::Options(_))
    }
}

fn calls(path: &[&str]) -> Result<Calls, Problem> {
    Ok(match *path {
        [] => Calls::get(Route::Asset("index.html")),
        ["stepcast.js"] => Calls::get(Route::Asset("stepcast.js")),
        ["dashboard", name] => match dashboard::find(name) {
            Some(name) => Calls::get(Route::Asset(name)),
            None => return Err(Problem::not_found("the page has no such part")),
        },
        ["healthz"] => Calls::get(Route::Health),
        ["readyz"] => Calls::get(Route::Ready),
        ["metrics"] => Calls::get(Route::Metrics),
        ["openapi.json"] => Calls::get(Route::OpenApi),
        ["api", "sse"] => {
            let bundle = Some(Route::Bundle);
            Calls { get: bundle.clone(), post: bundle.clone(), query: bundle, ..Calls::default() }
        }
        ["api", "sse", "ticket"] => Calls::post(Route::Ticket),
        ["api", "sse", "doctor"] => Calls::get_post(Route::Doctor, Route::Doctor),
        ["api", "sse", "projects", project] => Calls::get(Route::Stream(id(project)?)),
        ["api", "workflow", "check"] => Calls::post(Route::Check),
        ["api", "workflow", "run"] => Calls::post(Route::SubmitNamed),
        ["api", "projects"] => Calls::get(Route::Projects),
        ["api", "webhooks"] => Calls::get(Route::Webhooks),
        ["api", "projects", project, "workflows", run, ref path @ ..] => of_run(project, run, path)?,
        ["api", "projects", project, ref path @ ..] => of_project(project, path)?,
        _ => return Err(nothing()),
    })
}

/// What a project's paths may be asked, but for those of its runs.
fn of_project(project: &str, path: &[&str]) -> Result<Calls, Problem> {
    let project = || id::<ProjectId>(project);
    Ok(match *path {
        ["workflows"] => Calls::get_post(Route::Runs(project()?), Route::Submit(project()?)),
        ["plans"] => Calls::get(Route::StoredPlans(project()?)),
        ["plans", name] => {
            let (project, name): (ProjectId, PlanName) = (project()?, id(name)?);
            Calls {
                get: Some(Route::StoredPlan(project.clone(), name.clone())),
                put: Some(Route::PutPlan(project.clone(), name.clone())),
                delete: Some(Route::RemovePlan(project, name)),
                ..Calls::default()
            }
        }
        ["events"] => Calls::get_post(Route::Events(project()?), Route::Publish(project()?)),
        ["agui"] => Calls::get_post(Route::AgUiCapabilities(project()?), Route::AgUi(project()?)),
        ["chat"] => Calls::post(Route::Chat(project()?)),
        ["chat", run, "stream"] => Calls::get(Route::ChatStream(project()?, id(run)?)),
        ["subscribers"] => Calls::get(Route::Subscribers(project()?)),
        _ => return Err(nothing()),
    })
}

/// What a run's paths may be asked.
fn of_run(project: &str, run: &str, path: &[&str]) -> Result<Calls, Problem> {
    let (project, run) = (|| id::<ProjectId>(project), || id::<RunId>(run));
    Ok(match *path {
        [] => Calls::get(Route::Run(project()?, run()?)),
        ["plan"] => Calls {
            get: Some(Route::Plan(project()?, run()?)),
            patch: Some(Route::ChangePlan(project()?, run()?)),
            ..Calls::default()
        },
        ["events"] => Calls::get(Route::RunEvents(project()?, run()?)),
        ["cancel"] => Calls::post(Route::Cancel(project()?, run()?)),
        ["rerun"] => Calls::post(Route::Rerun(project()?, run()?)),
        ["retry"] => Calls::post(Route::Retry(project()?, run()?)),
        ["steps", step, "output"] => Calls::get(Route::StepOutput(project()?, run()?, id(step)?)),
        ["steps", step, "items"] => Calls::get(Route::StepItems(project()?, run()?, id(step)?)),
        ["steps", step, "decision"] => Calls::post(Route::Decision(project()?, run()?, id(step)?)),
        _ => return Err(nothing()),
    })
}

fn nothing() -> Problem {
    Problem::not_found("there is nothing at this path")
}

impl Calls {
    fn get(route: Route) -> Self {
        Self { get: Some(route), ..Self::default() }
    }

    fn post(route: Route) -> Self {
        Self { post: Some(route), ..Self::default() }
    }

    fn get_post(get: Route, post: Route) -> Self {
        Self { get: Some(get), post: Some(post), ..Self::default() }
    }
}

fn id<T: std::str::FromStr<Err = IdError>>(text: &str) -> Result<T, Problem> {
    text.parse().map_err(|error: IdError| Problem::new(400, "invalid_id", error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(method: Method, path: &str) -> Result<Route, (u16, Option<&'static str>)> {
        Route::parse(method, path).map_err(|problem| (problem.status, problem.allow))
    }

    #[test]
    fn each_path_has_its_calls_and_no_others() {
        let p = ProjectId::parse("p:1").expect("an id");
        let r = RunId::parse("r").expect("an id");
        for (method, path, expected) in [
            (Method::Get, "/", Ok(Route::Asset("index.html"))),
            (Method::Head, "/healthz", Ok(Route::Health)),
            (Method::Get, "/api/sse/projects/p%3A1", Ok(Route::Stream(p.clone()))),
            (Method::Post, "/api/projects/p:1/workflows", Ok(Route::Submit(p.clone()))),
            (Method::Get, "/api/projects/p:1/workflows", Ok(Route::Runs(p.clone()))),
            (Method::Get, "/api/projects/p:1/events", Ok(Route::Events(p.clone()))),
            (Method::Head, "/api/projects/p:1/events", Ok(Route::Events(p.clone()))),
            (Method::Post, "/api/projects/p:1/events", Ok(Route::Publish(p.clone()))),
            (Method::Post, "/api/projects/p:1/workflows/r/cancel", Ok(Route::Cancel(p.clone(), r.clone()))),
            (Method::Post, "/api/projects/p:1/workflows/r/rerun", Ok(Route::Rerun(p.clone(), r.clone()))),
            (Method::Patch, "/api/projects/p:1/workflows/r/plan", Ok(Route::ChangePlan(p.clone(), r.clone()))),
            (Method::Post, "/api/projects/p:1/workflows/r/retry", Ok(Route::Retry(p.clone(), r.clone()))),
            (Method::Post, "/api/projects/p:1/agui", Ok(Route::AgUi(p.clone()))),
            (Method::Get, "/api/projects/p:1/agui", Ok(Route::AgUiCapabilities(p.clone()))),
            (Method::Post, "/api/projects/p:1/chat", Ok(Route::Chat(p.clone()))),
            (Method::Get, "/api/projects/p:1/chat/r/stream", Ok(Route::ChatStream(p, r))),
            (Method::Get, "/api/projects/p/chat", Err((405, Some(POST)))),
            (Method::Delete, "/api/projects/p/workflows/r/plan", Err((405, Some(GET_PATCH)))),
            (Method::Get, "/api/webhooks", Ok(Route::Webhooks)),
            (Method::Post, "/api/sse/doctor", Ok(Route::Doctor)),
            (Method::Options, "/api/projects", Ok(Route::Options(GET))),
            (Method::Options, "*", Ok(Route::Options(GET_POST_QUERY))),
            (Method::Query, "/api/sse", Ok(Route::Bundle)),
            (Method::Head, "/api/sse", Ok(Route::Bundle)),
            (Method::Query, "/api/projects/p/workflows", Err((405, Some(GET_POST)))),
            (Method::Delete, "/api/sse", Err((405, Some(GET_POST_QUERY)))),
            (Method::Delete, "/api/projects", Err((405, Some(GET)))),
            (Method::Get, "/api/sse/ticket", Err((405, Some(POST)))),
            (Method::Put, "/api/projects/p/workflows", Err((405, Some(GET_POST)))),
            (Method::Get, "/api/sse/projects/a%20b", Err((400, None))),
            (Method::Get, "/api/sse/projects/a%2Fb", Err((400, None))),
            (Method::Get, "/api/sse/projects/", Err((400, None))),
            (Method::Get, "/api/sse/projects/%zz", Err((400, None))),
            (Method::Get, "/nowhere", Err((404, None))),
            (Method::Get, "/healthz/", Err((404, None))),
            (Method::Get, "/api/projects/p/workflows/r/steps/s/output/more/and/more", Err((404, None))),
        ] {
            assert_eq!(verdict(method, path), expected, "{method} {path}");
        }
    }
}
