//! The calls for runs: list, show, cancel and rerun.

use serde::Deserialize;

use super::handler::{Api, idempotency_key, json_body};
use super::query::Parameters;
use super::render::{OUTPUT_PIECE_BYTES, Render};
use super::retry::Changes;
use super::{Action, Ask, Facts, RerunRequest, read_json_object};
use crate::auth::Scope;
use crate::http::{Conditions, Method, Problem, Request};
use crate::log::{Query, WantedItems, WantedOutput};
use crate::model::json::without_bom;
use crate::model::{IdError, ProjectId, RunId, StepId};

/// The ids that name a step: its project, its run, its own.
type StepRef = (ProjectId, RunId, StepId);

impl Api {
    pub(super) fn runs(&self, project: ProjectId, request: &Request, facts: &Facts) -> Result<Action, Problem> {
        self.authorize(request, Scope::Subscribe, &project, facts)?;
        let parameters = Parameters::read(request)?;
        let (status, before, limit) = (parameters.status()?, parameters.parsed("before")?, parameters.limit()?);
        Ok(Action::Ask(Ask::Read(Query::Runs { project, status, before, limit }), Render::Body))
    }

    pub(super) fn run(
        &self,
        (project, run): (ProjectId, RunId),
        request: &Request,
        facts: &Facts,
    ) -> Result<Action, Problem> {
        self.authorize(request, Scope::Subscribe, &project, facts)?;
        let wanted = Parameters::read(request)?.run()?;
        Ok(Action::Ask(Ask::Read(Query::Run { project, run, wanted }), Render::Body))
    }

    pub(super) fn plan_of_run(
        &self,
        (project, run): (ProjectId, RunId),
        request: &Request,
        facts: &Facts,
    ) -> Result<Action, Problem> {
        self.authorize(request, Scope::Subscribe, &project, facts)?;
        Ok(Action::Ask(Ask::Read(Query::Plan { project, run }), Render::StoredPlan(Conditions::of(request))))
    }

    pub(super) fn cancel(
        &self,
        (project, run): (ProjectId, RunId),
        request: &Request,
        facts: &Facts,
    ) -> Result<Action, Problem> {
        self.authorize(request, Scope::Run, &project, facts)?;
        Ok(Action::Ask(Ask::Cancel(project, run.clone()), Render::Cancelled(run)))
    }

    /// Runs a run again, as `read` reads from the body.
    pub(super) fn run_again(
        &self,
        (project, run): (ProjectId, RunId),
        read: fn(&Request) -> Result<Again, Problem>,
        request: &Request,
        facts: &Facts,
    ) -> Result<Action, Problem> {
        let principal = self.authorize(request, Scope::Run, &project, facts)?;
        let idempotency_key = idempotency_key(request)?;
        let Again { chosen, changes } = read(request)?;
        let rerun = RerunRequest { project, run, chosen, changes, idempotency_key, principal };
        Ok(Action::Ask(Ask::Rerun(Box::new(rerun)), Render::Accepted))
    }

    pub(super) fn step_output(&self, step: StepRef, request: &Request, facts: &Facts) -> Result<Action, Problem> {
        let parameters = self.parameters_of_step(&step, request, facts)?;
        let (stream, item) = (parameters.stream()?, parameters.item("item")?);
        let bytes_max = if request.method == Method::Head { 0 } else { OUTPUT_PIECE_BYTES };
        let wanted = WantedOutput { item, stream, asked: Conditions::of(request), bytes_max };
        let (project, run, step) = step;
        Ok(Action::Ask(Ask::Read(Query::Output { project, run, step, wanted }), Render::Output))
    }

    pub(super) fn step_items(&self, step: StepRef, request: &Request, facts: &Facts) -> Result<Action, Problem> {
        let parameters = self.parameters_of_step(&step, request, facts)?;
        let (after, status, limit) = (parameters.item("after")?, parameters.item_status()?, parameters.limit()?);
        let wanted = WantedItems { after, status, limit };
        let (project, run, step) = step;
        Ok(Action::Ask(Ask::Read(Query::Items { project, run, step, wanted }), Render::Body))
    }

    /// Reads the parameters of a call for a step, after checking that the client may see it.
    fn parameters_of_step<'r>(
        &self,
        (project, ..): &StepRef,
        request: &Request<'r>,
        facts: &Facts,
    ) -> Result<Parameters<'r>, Problem> {
        self.authorize(request, Scope::Subscribe, project, facts)?;
        Parameters::read(request)
    }
}

/// The body of a call that runs a run again.
pub(super) struct Again {
    /// The chosen id of the new run.
    chosen: Option<RunId>,
    /// The changes, if the call continues from completed steps.
    changes: Option<Vec<u8>>,
}

/// For a rerun, whose body may be empty.
pub(super) fn rerun(request: &Request) -> Result<Again, Problem> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Chosen {
        #[serde(rename = "runId")]
        run_id: Option<String>,
    }
    if request.body.is_empty() {
        return Ok(Again { chosen: None, changes: None });
    }
    let Chosen { run_id } = read_json_object(json_body(request)?)?;
    let chosen = run_id.map(|id| id.parse()).transpose();
    let chosen = chosen.map_err(|error: IdError| Problem::new(422, "invalid_body", format!("runId: {error}")))?;
    Ok(Again { chosen, changes: None })
}

/// Of a retry, whose body may be empty, too.
pub(super) fn retry(request: &Request) -> Result<Again, Problem> {
    let body = if request.body.is_empty() { &[][..] } else { without_bom(json_body(request)?) };
    Ok(Again { chosen: Changes::read(body)?.chosen()?, changes: Some(body.to_vec()) })
}
