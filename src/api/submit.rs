//! From a plan as it was sent to a run that the log can take on, or to everything that is wrong with it.
//!
//! Reading a large plan takes milliseconds, so this is not done on the loop.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::handler::{refused, stream_path};
use super::{PlanRequest, Purpose, RerunRequest, read_json};
use crate::auth::Scope;
use crate::executor::Context;
use crate::executor::check::{check_submission, reread_plan};
use crate::http::{Problem, Response};
use crate::log::{self, Claim, Fingerprint};
use crate::model::json::without_bom;
use crate::model::{Exact, Issue, Plan, PlanSummary, ProjectId, RunId, Submission, SubmissionError};

/// What a plan request comes to.
#[derive(Debug)]
pub enum Prepared {
    /// It was to be checked alone, and is good.
    Checked(Response),
    /// It is to be run.
    Run(Box<log::Submission>),
    /// It can't be run, but the call has a name: it is answered as the one that had the name before, if there was one.
    Recall(Box<Claim>, Box<Problem>),
}

/// Reads and checks a plan of at most `steps_max` steps; `made_up` is the run's id where the caller does not choose one.
///
/// # Errors
/// 400 where the body is no JSON object, 422 with all issues, 403 where the caller may not run plans in the project that
/// the body names.
pub fn prepare(request: PlanRequest, context: &Context, steps_max: usize, made_up: RunId) -> Result<Prepared, Problem> {
    let text = without_bom(&request.body);
    let lost = |problem| Submission::lost(text).map_or(problem, |issue| Problem::invalid_plan(vec![issue]));
    let body: Result<Value, Problem> = read_json(text).map_err(lost);
    let (named, chosen) = match &request.purpose {
        // The document of a run holds what its call said beside the plan; the new run's id is the new call's.
        Purpose::Rerun(_, _, chosen) => (None, chosen.clone()),
        _ => (said(&body, "projectId"), said(&body, "runId")),
    };
    let is_json = body.is_ok();
    let is_wrapped = body.as_ref().is_ok_and(|body| body.get("plan").is_some());
    let submission = body.and_then(|body| read(body, text));
    let project = match project(&request, named.as_ref()) {
        Ok(project) => project,
        Err(problem) => return Err(submission.err().unwrap_or(problem)),
    };
    let check = |submission: &Submission| {
        check_submission(submission, &context.registry, &context.engine, steps_max).map_err(Problem::invalid_plan)
    };
    let Some(project) = project else {
        let plan = check(&submission?)?;
        return Ok(Prepared::Checked(Response::json(200, json!(plan.summary()).to_string())));
    };
    let checked = submission.and_then(|submission| check(&submission).map(|plan| (submission, plan)));
    let fingerprint = fingerprint(&request, text, is_json);
    let claim = Claim { project, key: request.idempotency_key, run: chosen, fingerprint };
    match checked {
        Ok((submission, plan)) => {
            let document = document(text, is_wrapped, &submission);
            let document = document.map_err(|error| Problem::internal(error.to_string()))?;
            take_on(submission, plan, document, claim, made_up)
        }
        Err(problem) if claim.is_named() => Ok(Prepared::Recall(Box::new(claim), Box::new(problem))),
        Err(problem) => Err(problem),
    }
}

/// What a body says under `name` beside its plan, whatever else it says.
fn said<T: FromStr>(body: &Result<Value, Problem>, name: &str) -> Option<T> {
    let body = body.as_ref().ok().filter(|body| body.get("plan").is_some())?;
    body.get(name)?.as_str()?.parse().ok()
}

fn read(body: Value, text: &[u8]) -> Result<Submission, Problem> {
    Submission::of(body, text).map_err(|error| match error {
        SubmissionError::NotJson(detail) => Problem::new(400, "invalid_json", detail),
        SubmissionError::NotAnObject => Problem::new(400, "invalid_body", "expected a JSON object"),
        SubmissionError::Issues(issues) => Problem::invalid_plan(issues),
    })
}

fn take_on(
    submission: Submission,
    plan: Plan,
    document: Vec<u8>,
    claim: Claim,
    made_up: RunId,
) -> Result<Prepared, Problem> {
    let run = claim.run.clone().unwrap_or(made_up);
    let answer = answer(&claim.project, &run, &plan).map_err(|error| Problem::internal(error.to_string()))?;
    Ok(Prepared::Run(Box::new(log::Submission {
        claim,
        run,
        plan: plan.with_inputs(submission.inputs).into(),
        document: document.into(),
        answer: answer.into(),
    })))
}

/// By what a call is known that runs a run again.
pub fn claim_of_rerun(rerun: &RerunRequest) -> Claim {
    let digest = digest(&rerun_text(&rerun.run, rerun.chosen.as_ref()));
    let fingerprint = Fingerprint { value: digest, bytes: digest };
    Claim { project: rerun.project.clone(), key: rerun.idempotency_key.clone(), run: rerun.chosen.clone(), fingerprint }
}

/// What is kept of a plan, to read it again after a restart, and to run it again: its text and that of the call's inputs
/// as they were sent, for no number would come out of a value as it went in.
fn document(body: &[u8], is_wrapped: bool, submission: &Submission) -> serde_json::Result<Vec<u8>> {
    #[derive(Serialize)]
    struct Document<'a> {
        plan: &'a RawValue,
        inputs: &'a RawValue,
    }
    let body: &RawValue = serde_json::from_slice(body)?;
    let none: &RawValue = serde_json::from_str("{}")?;
    if !is_wrapped {
        return serde_json::to_vec(&Document { plan: body, inputs: none });
    }
    // Of a name that stands twice the last counts, as it does for whoever reads it as a value.
    let members: BTreeMap<Cow<'_, str>, &RawValue> = serde_json::from_str(body.get())?;
    let inputs = members.get("inputs").copied().filter(|_| !submission.inputs.is_empty());
    let plan = members.get("plan").copied().unwrap_or(none);
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
fn project(request: &PlanRequest, named: Option<&ProjectId>) -> Result<Option<ProjectId>, Problem> {
    match &request.purpose {
        Purpose::Check => Ok(None),
        Purpose::Run(project) | Purpose::Rerun(project, ..) => Ok(Some(project.clone())),
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

fn answer(project: &ProjectId, run: &RunId, plan: &Plan) -> serde_json::Result<Vec<u8>> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Answer<'a> {
        run_id: &'a RunId,
        plan_name: &'a str,
        status: &'static str,
        sse_url: String,
        plan_summary: PlanSummary<'a>,
    }
    let (plan_name, plan_summary) = (&*plan.name, plan.summary());
    let answer = Answer { run_id: run, plan_name, status: "started", sse_url: stream_path(project), plan_summary };
    serde_json::to_vec(&answer)
}

/// Tells one call from another: by the JSON value of what was sent, or by the run that is to be run again.
/// What is no JSON is itself alone.
fn fingerprint(request: &PlanRequest, text: &[u8], is_json: bool) -> Fingerprint {
    if let Purpose::Rerun(_, run, chosen) = &request.purpose {
        let digest = digest(&rerun_text(run, chosen.as_ref()));
        return Fingerprint { value: digest, bytes: digest };
    }
    let bytes = digest(&request.body);
    let text = str::from_utf8(text).ok().filter(|_| is_json);
    let value = match text.and_then(Exact::read) {
        Some(body) => {
            let mut canonical = Vec::new();
            body.write_canonical(&mut canonical);
            digest(&canonical)
        }
        None => bytes,
    };
    Fingerprint { value, bytes }
}

/// What no body is that is taken on.
fn rerun_text(run: &RunId, chosen: Option<&RunId>) -> Vec<u8> {
    match chosen {
        None => format!("rerun {run}").into_bytes(),
        Some(chosen) => format!("rerun {run} as {chosen}").into_bytes(),
    }
}

fn digest(text: &[u8]) -> [u8; 32] {
    let digest = ring::digest::digest(&ring::digest::SHA256, text);
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}
