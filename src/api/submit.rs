//! From a plan as it was sent to a run that the log can take on, or to everything that is wrong with it.
//!
//! Reading a large plan takes milliseconds, so this is not done on the loop.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::handler::{refused, stream_path};
use super::{PlanRequest, Purpose, read_json};
use crate::auth::Scope;
use crate::executor::Context;
use crate::executor::check::{check_plan, reread_plan};
use crate::http::{Problem, Response};
use crate::log;
use crate::model::{Exact, Issue, Plan, ProjectId, RunId, Submission, SubmissionError};

/// What a plan request comes to.
#[derive(Debug)]
pub enum Prepared {
    /// It was to be checked alone, and is good.
    Checked(Response),
    /// It is to be run.
    Run(Box<log::Submission>),
}

/// Reads and checks a plan of at most `steps_max` steps; `made_up` is the run's id where the caller does not choose one.
///
/// # Errors
/// 400 where the body is no JSON object, 422 with all issues, 403 where the caller may not run plans in the project that
/// the body names.
pub fn prepare(request: PlanRequest, context: &Context, steps_max: usize, made_up: RunId) -> Result<Prepared, Problem> {
    let body: Value = read_json(&request.body)?;
    let submission = Submission::read(body).map_err(|error| match error {
        SubmissionError::NotAnObject => Problem::new(400, "invalid_body", "expected a JSON object"),
        SubmissionError::Issues(issues) => Problem::invalid_plan(issues),
    })?;
    let project = project(&request, submission.project_id.clone())?;
    let plan = check_plan(&submission.plan, &context.registry, &context.engine, steps_max);
    let plan = plan.map_err(Problem::invalid_plan)?;
    let Some(project) = project else {
        return Ok(Prepared::Checked(Response::json(200, json!(plan.summary()).to_string())));
    };
    let document = document(&request.body, &submission).map_err(|error| Problem::internal(error.to_string()))?;
    let run = submission.run_id.unwrap_or(made_up);
    let answer = answer(&project, &run, &plan);
    Ok(Prepared::Run(Box::new(log::Submission {
        project,
        run,
        plan: plan.with_inputs(submission.inputs).into(),
        document: document.into(),
        answer: answer.into_bytes().into(),
        fingerprint: fingerprint(&request),
        idempotency_key: request.idempotency_key,
    })))
}

/// What is kept of a plan, to read it again after a restart, and to run it again: its text and that of the call's inputs
/// as they were sent, for no number would come out of a value as it went in.
fn document(body: &[u8], submission: &Submission) -> serde_json::Result<Vec<u8>> {
    #[derive(Serialize)]
    struct Document<'a> {
        plan: &'a RawValue,
        inputs: &'a RawValue,
    }
    let body: &RawValue = serde_json::from_slice(body)?;
    // Of a name that stands twice the last counts, as it does for whoever reads it as a value.
    let members: BTreeMap<Cow<'_, str>, &RawValue> = serde_json::from_str(body.get())?;
    let (plan, inputs) = match members.get("plan") {
        Some(plan) => (*plan, members.get("inputs").copied().filter(|_| !submission.inputs.is_empty())),
        None => (body, None),
    };
    let none: &RawValue = serde_json::from_str("{}")?;
    serde_json::to_vec(&Document { plan, inputs: inputs.unwrap_or(none) })
}

/// The plan of a document that [`prepare`] made.
///
/// # Errors
/// Why it is none, in a sentence.
pub fn read_document(document: &[u8], context: &Context) -> Result<Plan, String> {
    #[derive(Deserialize)]
    struct Kept {
        plan: Value,
        inputs: Map<String, Value>,
    }
    let kept: Kept = serde_json::from_slice(document).map_err(|error| error.to_string())?;
    let plan = reread_plan(&kept.plan, &context.engine);
    let plan = plan.map_err(|issues| issues.first().map_or_else(String::new, |issue| issue.message.clone()))?;
    Ok(plan.with_inputs(kept.inputs))
}

/// Where the plan is to be run; nowhere where it is to be checked alone.
fn project(request: &PlanRequest, named: Option<ProjectId>) -> Result<Option<ProjectId>, Problem> {
    match &request.purpose {
        Purpose::Check => Ok(None),
        Purpose::Run(project) | Purpose::Rerun(project, _) => Ok(Some(project.clone())),
        Purpose::RunNamed => {
            let missing = || Issue {
                path: "projectId".to_owned(),
                message: "expected the project to run in, beside the plan: {\"plan\": ..., \"projectId\": ...}"
                    .to_owned(),
                step_id: None,
            };
            let project = named.ok_or_else(|| Problem::invalid_plan(vec![missing()]))?;
            request.principal.require_in(Scope::Run, &project).map_err(|error| refused(&error))?;
            Ok(Some(project))
        }
    }
}

fn answer(project: &ProjectId, run: &RunId, plan: &Plan) -> String {
    json!({"runId": run, "planName": plan.name, "status": "started", "sseUrl": stream_path(project),
        "planSummary": plan.summary()})
    .to_string()
}

/// Tells one call from another: by the JSON value of what was sent, or by the run that is to be run again.
fn fingerprint(request: &PlanRequest) -> [u8; 32] {
    let mut text = Vec::new();
    match (&request.purpose, str::from_utf8(&request.body).ok().and_then(Exact::read)) {
        (Purpose::Rerun(_, run), _) => text.extend_from_slice(format!("rerun {run}").as_bytes()),
        (_, Some(body)) => body.write_canonical(&mut text),
        (_, None) => text.extend_from_slice(&request.body),
    }
    let digest = ring::digest::digest(&ring::digest::SHA256, &text);
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}
