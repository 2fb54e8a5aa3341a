//! From a plan as it was sent to a run that the log can take on, or to everything that is wrong with it.
//!
//! Reading a large plan takes milliseconds, so this is not done on the loop.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::handler::{refused, stream_path};
use super::{PlanRequest, Purpose};
use crate::auth::Scope;
use crate::executor::Context;
use crate::executor::check::{check_submission, reread_plan};
use crate::http::{Problem, Response};
use crate::log;
use crate::model::{Issue, Plan, ProjectId, RunId, Submission, SubmissionError};

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
    let submission = Submission::parse(&request.body).map_err(|error| match error {
        SubmissionError::NotJson(detail) => Problem::new(400, "invalid_json", detail),
        SubmissionError::NotAnObject => Problem::new(400, "invalid_body", "expected a JSON object"),
        SubmissionError::Issues(issues) => Problem::invalid_plan(issues),
    })?;
    let project = project(&request, submission.project_id.as_ref())?;
    let plan = check_submission(&submission, &context.registry, &context.engine, steps_max);
    let plan = plan.map_err(Problem::invalid_plan)?;
    let Some(project) = project else {
        return Ok(Prepared::Checked(Response::json(200, json!(plan.summary()).to_string())));
    };
    let run = submission.run_id.unwrap_or(made_up);
    let answer = answer(&project, &run, &plan);
    let document = Document { plan: &submission.plan, inputs: &submission.inputs };
    let document = serde_json::to_vec(&document).map_err(|error| Problem::internal(error.to_string()))?;
    Ok(Prepared::Run(Box::new(log::Submission {
        project,
        run,
        plan: plan.with_inputs(submission.inputs).into(),
        document: document.into(),
        answer: answer.into_bytes().into(),
        idempotency_key: request.idempotency_key,
        fingerprint: fingerprint(&request.body),
    })))
}

/// What is kept of a plan, to read it again after a restart.
#[derive(Serialize)]
struct Document<'a> {
    plan: &'a Value,
    inputs: &'a Map<String, Value>,
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
fn project(request: &PlanRequest, named: Option<&ProjectId>) -> Result<Option<ProjectId>, Problem> {
    match &request.purpose {
        Purpose::Check => Ok(None),
        Purpose::Run(project) => Ok(Some(project.clone())),
        Purpose::RunNamed => {
            let missing = || Issue {
                path: "projectId".to_owned(),
                message: "expected the project to run in, beside the plan: {\"plan\": ..., \"projectId\": ...}"
                    .to_owned(),
                step_id: None,
            };
            let project = named.ok_or_else(|| Problem::invalid_plan(vec![missing()]))?;
            request.principal.require_in(Scope::Run, project).map_err(|error| refused(&error))?;
            Ok(Some(project.clone()))
        }
    }
}

fn answer(project: &ProjectId, run: &RunId, plan: &Plan) -> String {
    json!({"runId": run, "planName": plan.name, "status": "started", "sseUrl": stream_path(project),
        "planSummary": plan.summary()})
    .to_string()
}

/// Tells one body from another.
fn fingerprint(body: &[u8]) -> [u8; 32] {
    let digest = ring::digest::digest(&ring::digest::SHA256, body);
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}
