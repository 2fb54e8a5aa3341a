//! From the body of a submission to a run that the log can accept, or to the list of everything that is wrong with it.
//!
//! Reading a large plan takes milliseconds, so this does not run on the event loop.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::str::FromStr;

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::change::prepare_change;
use super::handler::{refused, stream_path};
use super::plans::{prepare_stored, wrapped, wrapped_child, wrapped_firing};
use super::{ChangeRequest, PlanRequest, Purpose, RerunRequest, read_json, retry};
use crate::auth::Scope;
use crate::executor::Context;
use crate::executor::change::read_kept;
use crate::executor::check::check_submission;
use crate::executor::complete::complete;
use crate::http::{Problem, Response};
use crate::log::{self, Claim, Fingerprint, Origin};
use crate::model::json::without_bom;
use crate::model::{
    Exact, Issue, Parent, Plan, PlanSummary, ProjectId, RunId, StepId, Submission, SubmissionError, standing_document,
    unplanned_document,
};

/// What a plan request comes to.
#[derive(Debug)]
pub enum Prepared {
    /// It is to be stored.
    Store(Box<log::NewPlan>),
    /// It was to be checked alone, and is good.
    Checked(Response),
    /// It is to be run.
    Run(Box<log::Submission>),
    /// A run is to change its plan.
    Steer(Box<log::SteerRequest>),
    /// It can't be run, but the call has a name: it is answered as the one that had the name before, if there was one.
    Recall(Box<Claim>, Box<Problem>),
}

/// Reads and checks a plan of at most `steps_max` steps; `made_up` is the run's id where the caller does not choose one.
///
/// # Errors
/// 400 where the body is no JSON object, 422 with all issues, 403 where the caller may not run plans in the project that
/// the body names.
pub fn prepare(request: PlanRequest, context: &Context, steps_max: usize, made_up: RunId) -> Result<Prepared, Problem> {
    if let Purpose::Retry(retry) = &request.purpose {
        return retry::prepare(&request, retry, context, steps_max, made_up);
    }
    if let Purpose::Change { project, run, change, if_match } = request.purpose {
        let PlanRequest { body, idempotency_key, principal, .. } = request;
        let change = ChangeRequest { project, run, change, if_match, idempotency_key, principal };
        return prepare_change(&body, change, context);
    }
    if let Purpose::Store(project, name, conditions) = request.purpose {
        let stored = prepare_stored(&request.body, (project, name, conditions), context, steps_max)?;
        return Ok(Prepared::Store(Box::new(stored)));
    }
    let composed = match &request.purpose {
        Purpose::Stored(_, _, call) => Some(wrapped(&request.body, call)),
        Purpose::Fired(..) => Some(wrapped_firing(&request.body)),
        Purpose::Child(child) => Some(wrapped_child(&request.body, &child.inputs)),
        Purpose::Rerun(..) => planned_again(&request.body, context, steps_max).map(Ok),
        _ => None,
    };
    let composed = composed.transpose().map_err(|error| Problem::internal(error.to_string()))?;
    let text = composed.as_deref().unwrap_or_else(|| without_bom(&request.body));
    let lost = |problem| Submission::lost(text).map_or(problem, |issue| Problem::invalid_plan(vec![issue]));
    let body: Result<Value, Problem> = read_json(text).map_err(lost);
    let (named, chosen) = match &request.purpose {
        // The document of a run holds what its call said beside the plan; the new run's id is the new call's.
        Purpose::Rerun(_, _, chosen) => (None, chosen.clone()),
        Purpose::Fired(..) | Purpose::Child(_) => (None, None),
        _ => (said(&body, "projectId"), said(&body, "runId")),
    };
    let is_json = body.is_ok();
    let is_wrapped = body.as_ref().is_ok_and(|body| body.get("plan").is_some());
    let submission = body.and_then(|body| read_submission(body, text));
    let project = match project(&request, named.as_ref()) {
        Ok(project) => project,
        Err(problem) => return Err(submission.err().unwrap_or(problem)),
    };
    let Some(project) = project else {
        let plan = checked_alone(submission?, context, steps_max)?;
        return Ok(Prepared::Checked(Response::json(200, json!(plan.summary()).to_string())));
    };
    let checked = submission.and_then(|submission| {
        let has_inputs = !submission.inputs.is_empty();
        check(submission, context, steps_max).map(|plan| (has_inputs, plan))
    });
    let fingerprint = fingerprint(&request, is_json);
    let claim = Claim { project, key: request.idempotency_key, run: chosen, fingerprint };
    let parent = match &request.purpose {
        Purpose::Child(child) => Some(child.parent.clone()),
        _ => None,
    };
    let is_rerun = matches!(&request.purpose, Purpose::Rerun(..));
    let (made_up, origin) = match request.purpose {
        Purpose::Child(child) => (child.run, Some(Origin { name: child.plan, firing: None })),
        Purpose::Fired(_, run, origin) => (run, Some(origin)),
        Purpose::Stored(_, name, _) => (made_up, Some(Origin { name, firing: None })),
        _ => (made_up, None),
    };
    match checked {
        Ok((has_inputs, mut plan)) => {
            let document = document(text, is_wrapped, has_inputs, (parent.as_ref(), is_rerun));
            plan.parent = parent;
            let document = document.map_err(|error| Problem::internal(error.to_string()))?;
            let source = String::from_utf8_lossy(&document).into_owned();
            take_on(plan.with_source(&source, &context.registry), document, claim, (made_up, origin))
        }
        Err(problem) if claim.is_named() => Ok(Prepared::Recall(Box::new(claim), Box::new(problem))),
        Err(problem) => Err(problem),
    }
}

/// The document of a run whose steps all plan again: without what they have planned, or with it where nothing would be whole
/// without. None if it stays as it is.
fn planned_again(document: &[u8], context: &Context, steps_max: usize) -> Option<Vec<u8>> {
    let without = unplanned_document(document, |_| true)?;
    let checked = read(&without).and_then(|submission| check(submission, context, steps_max));
    if checked.is_ok() { Some(without) } else { standing_document(document, |_| true) }
}

/// The member `name` of a body, besides its plan.
fn said<T: FromStr>(body: &Result<Value, Problem>, name: &str) -> Option<T> {
    let body = body.as_ref().ok().filter(|body| body.get("plan").is_some())?;
    body.get(name)?.as_str()?.parse().ok()
}

/// Reads a body with a plan and inputs.
pub(super) fn read(text: &[u8]) -> Result<Submission, Problem> {
    read_submission(read_json(text)?, text)
}

/// The plan of a submission with all its inputs, or everything that is wrong with them.
pub(super) fn check(submission: Submission, context: &Context, steps_max: usize) -> Result<Plan, Problem> {
    let plan = check_submission(&submission, &context.registry, &context.engine, steps_max);
    plan.and_then(|plan| complete(plan, submission.inputs, &context.engine)).map_err(Problem::invalid_plan)
}

/// The plan of a submission that is not to be run. Its inputs may come later; where there are some, they are checked.
fn checked_alone(submission: Submission, context: &Context, steps_max: usize) -> Result<Plan, Problem> {
    match submission.inputs.is_empty() {
        true => {
            check_submission(&submission, &context.registry, &context.engine, steps_max).map_err(Problem::invalid_plan)
        }
        false => check(submission, context, steps_max),
    }
}

pub(super) fn read_submission(body: Value, text: &[u8]) -> Result<Submission, Problem> {
    Submission::of(body, text).map_err(|error| match error {
        SubmissionError::NotJson(detail) => Problem::new(400, "invalid_json", detail),
        SubmissionError::NotAnObject => Problem::new(400, "invalid_body", "expected a JSON object"),
        SubmissionError::Issues(issues) => Problem::invalid_plan(issues),
    })
}

fn take_on(
    plan: Plan,
    document: Vec<u8>,
    claim: Claim,
    (made_up, origin): (RunId, Option<Origin>),
) -> Result<Prepared, Problem> {
    let run = claim.run.clone().unwrap_or(made_up);
    let answer = answer(&claim.project, &run, &plan).map_err(|error| Problem::internal(error.to_string()))?;
    Ok(Prepared::Run(Box::new(log::Submission {
        claim,
        run,
        plan: plan.into(),
        document: document.into(),
        answer: answer.into(),
        origin,
    })))
}

/// By what a call is known that runs a run again.
pub fn claim_of_rerun(rerun: &RerunRequest) -> Claim {
    let fingerprint = match &rerun.changes {
        Some(changes) => retry::fingerprint(&rerun.run, changes),
        None => fingerprint_of_rerun(&rerun.run, rerun.chosen.as_ref()),
    };
    Claim { project: rerun.project.clone(), key: rerun.idempotency_key.clone(), run: rerun.chosen.clone(), fingerprint }
}

/// The stored data of a plan, to read it again after a restart, and to run it again: its text and that of the call's inputs
/// as they were sent, for no number would come out of a value as it went in. Of a run that is run again also what stays of
/// its planners' changes: no one else says that.
fn document(
    body: &[u8],
    is_wrapped: bool,
    has_inputs: bool,
    (parent, is_rerun): (Option<&Parent>, bool),
) -> serde_json::Result<Vec<u8>> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Document<'a> {
        plan: &'a RawValue,
        inputs: &'a RawValue,
        #[serde(skip_serializing_if = "Option::is_none")]
        parent: Option<&'a Parent>,
        #[serde(skip_serializing_if = "Option::is_none")]
        planned_by: Option<&'a RawValue>,
    }
    let body: &RawValue = serde_json::from_slice(body)?;
    let none: &RawValue = serde_json::from_str("{}")?;
    if !is_wrapped {
        return serde_json::to_vec(&Document { plan: body, inputs: none, parent, planned_by: None });
    }
    // If a name occurs twice, the last counts, as for any JSON reader here.
    let members: BTreeMap<Cow<'_, str>, &RawValue> = serde_json::from_str(body.get())?;
    let inputs = members.get("inputs").copied().filter(|_| has_inputs);
    let plan = members.get("plan").copied().unwrap_or(none);
    let planned_by = members.get("plannedBy").copied().filter(|_| is_rerun);
    serde_json::to_vec(&Document { plan, inputs: inputs.unwrap_or(none), parent, planned_by })
}

/// The plan of a document that [`prepare`] made.
///
/// # Errors
/// Why it is none, in a sentence.
pub fn read_document(document: &[u8], context: &Context) -> Result<Plan, String> {
    read_kept(document, context)
}

/// The project in which the plan runs; none if it is only checked.
fn project(request: &PlanRequest, named: Option<&ProjectId>) -> Result<Option<ProjectId>, Problem> {
    match &request.purpose {
        Purpose::Check => Ok(None),
        Purpose::Run(project)
        | Purpose::Rerun(project, ..)
        | Purpose::Change { project, .. }
        | Purpose::Store(project, ..)
        | Purpose::Stored(project, ..)
        | Purpose::Fired(project, ..) => Ok(Some(project.clone())),
        Purpose::Child(child) => Ok(Some(child.project.clone())),
        Purpose::Retry(retry) => Ok(Some(retry.project.clone())),
        Purpose::RunNamed => {
            let missing = || Issue {
                path: "projectId".to_owned(),
                message: "is required and must be the project to run in, as in {\"plan\": ..., \"projectId\": ...}"
                    .to_owned(),
                step_id: None,
            };
            let project = named.ok_or_else(|| Problem::invalid_plan(vec![missing()]))?;
            request.principal.require_in(Scope::Run, project).map_err(|error| refused(&error))?;
            Ok(Some(project.clone()))
        }
    }
}

pub(super) fn answer(project: &ProjectId, run: &RunId, plan: &Plan) -> serde_json::Result<Vec<u8>> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Answer<'a> {
        run_id: &'a RunId,
        plan_name: &'a str,
        status: &'static str,
        sse_url: String,
        plan_summary: PlanSummary<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        retry_of: Option<&'a RunId>,
        #[serde(skip_serializing_if = "Option::is_none")]
        reused_steps: Option<Vec<StepId>>,
    }
    let (plan_name, plan_summary) = (&*plan.name, plan.summary());
    let (status, sse_url) = ("started", stream_path(project));
    let retry_of = plan.retry_of.as_ref().map(|retry_of| &retry_of.run);
    let reused_steps = retry_of.map(|_| plan.reused_steps());
    let answer = Answer { run_id: run, plan_name, status, sse_url, plan_summary, retry_of, reused_steps };
    serde_json::to_vec(&answer)
}

/// Tells one call from another: by the JSON value of what was sent, or by the run that is to be run again.
/// What is no JSON is itself alone.
fn fingerprint(request: &PlanRequest, is_json: bool) -> Fingerprint {
    if let Purpose::Rerun(_, run, chosen) = &request.purpose {
        return fingerprint_of_rerun(run, chosen.as_ref());
    }
    match &request.purpose {
        Purpose::Stored(_, _, call) => fingerprint_of(call, is_json),
        _ => fingerprint_of(&request.body, is_json),
    }
}

/// The same of a body.
pub(super) fn fingerprint_of(body: &[u8], is_json: bool) -> Fingerprint {
    let bytes = digest(body);
    let text = str::from_utf8(without_bom(body)).ok().filter(|_| is_json);
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

/// Of what no body is that is taken on.
fn fingerprint_of_rerun(run: &RunId, chosen: Option<&RunId>) -> Fingerprint {
    let text = match chosen {
        None => format!("rerun {run}"),
        Some(chosen) => format!("rerun {run} as {chosen}"),
    };
    let digest = digest(text.as_bytes());
    Fingerprint { value: digest, bytes: digest }
}

pub(super) fn digest(text: &[u8]) -> [u8; 32] {
    let digest = ring::digest::digest(&ring::digest::SHA256, text);
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}
