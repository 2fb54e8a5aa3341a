//! `POST .../retry`: starts a new run that reuses the outputs of an ended run's completed steps, with the same plan or
//! a changed one.
//!
//! Which outputs are reused is decided here once and stored in the new run's document, so the earlier run can be
//! deleted at any time afterwards.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::submit::{Prepared, answer, check, digest, read, read_document};
use super::{PlanRequest, RetryPurpose, read_json_object};
use crate::executor::Context;
use crate::http::Problem;
use crate::log::{self, Claim, Fingerprint, RunAtItsEnd};
use crate::model::{
    Earlier, Exact, Issue, Plan, Quoted, RetryOf, RunId, RunStatus, StepId, json_bytes, standing_document,
    unplanned_document,
};

/// What a run may keep of the outputs of another, in bytes; beyond it the call is refused. They are copied in one commit,
/// which everyone waits for: about 0.3 s for as much.
const KEPT_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// How often a retry takes changes back at most, each time with a check of the whole plan: without a change, a step
/// that planned may differ, and run again itself. Changes that remain after this many rounds stay.
const ROUNDS_MAX: u32 = 16;

/// What the body of a retry says, which may be empty.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Changes<'a> {
    /// Takes the place of the run's plan.
    #[serde(borrow)]
    plan: Option<&'a RawValue>,
    /// Lie over the run's inputs.
    #[serde(borrow)]
    inputs: Option<&'a RawValue>,
    /// Steps that are run again, with all that depends on them.
    #[serde(default)]
    from: Vec<String>,
    /// The chosen id of the new run.
    run_id: Option<String>,
}

impl<'a> Changes<'a> {
    pub(super) fn read(body: &'a [u8]) -> Result<Self, Problem> {
        if body.is_empty() { Ok(Self::default()) } else { read_json_object(body) }
    }

    pub(super) fn chosen(&self) -> Result<Option<RunId>, Problem> {
        let parsed = self.run_id.as_deref().map(str::parse).transpose();
        parsed.map_err(|error: crate::model::IdError| Problem::new(422, "invalid_body", format!("runId: {error}")))
    }
}

/// What a run is made of, as it was sent: numbers stay as they were written.
#[derive(Serialize, Deserialize)]
struct Sent<'a> {
    #[serde(borrow)]
    plan: &'a RawValue,
    #[serde(borrow)]
    inputs: BTreeMap<Cow<'a, str>, &'a RawValue>,
    /// What steps that are kept have changed of the plan: should they run again another time, it is taken back.
    #[serde(borrow, default, rename = "plannedBy", skip_serializing_if = "Option::is_none")]
    planned_by: Option<&'a RawValue>,
}

/// The new run, checked.
struct Made {
    plan: Plan,
    document: Vec<u8>,
}

/// What is stored of a run that continues from another.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    #[serde(flatten)]
    sent: &'a Sent<'a>,
    retry_of: &'a RetryOf,
}

/// The run that goes on from another, checked.
pub(super) fn prepare(
    request: &PlanRequest,
    retry: &RetryPurpose,
    context: &Context,
    steps_max: usize,
    made_up: RunId,
) -> Result<Prepared, Problem> {
    let (project, run) = (retry.project.clone(), retry.chosen.clone());
    let fingerprint = fingerprint(&retry.run, &request.body);
    let claim = Claim { project, key: request.idempotency_key.clone(), run, fingerprint };
    match take_on(&request.body, &retry.ended, context, steps_max) {
        Ok(Made { plan, document }) => {
            let run = claim.run.clone().unwrap_or(made_up);
            let answer = answer(&claim.project, &run, &plan).map_err(|error| Problem::internal(error.to_string()))?;
            let (plan, document, answer) = (plan.into(), document.into(), answer.into());
            Ok(Prepared::Run(Box::new(log::Submission { claim, run, plan, document, answer, origin: None })))
        }
        Err(problem) if claim.is_named() => Ok(Prepared::Recall(Box::new(claim), Box::new(problem))),
        Err(problem) => Err(problem),
    }
}

/// The plan of the new run, with what it keeps, and the document of both.
fn take_on(body: &[u8], ended: &RunAtItsEnd, context: &Context, steps_max: usize) -> Result<Made, Problem> {
    let changes = Changes::read(body)?;
    if ended.state.status == RunStatus::Completed && changes.from.is_empty() {
        let detail = "the run completed; name the steps to run again in \"from\"";
        return Err(Problem::conflict("run_completed", detail));
    }
    let before = read_document(&ended.document, context);
    let before =
        before.map_err(|why| Problem::conflict("run_unreadable", format!("the run's plan can't be read: {why}")))?;
    let earlier = Earlier { plan: &before, state: &ended.state };
    let checked = |document: &[u8]| {
        let text = serde_json::to_vec(&laid_over(document, &changes)?);
        let text = text.map_err(|error| Problem::internal(error.to_string()))?;
        check(read(&text)?, context, steps_max)
    };
    let mut document = Cow::Borrowed(&*ended.document);
    let mut plan = checked(&document)?;
    let from = steps_from(&changes, &plan)?;
    let kept_by = |plan: &Plan| {
        let changed = earlier.changed_inputs(plan);
        earlier.kept_by(plan, |step| from.contains(&step.id) || context.engine.names_input(step, &changed))
    };
    let mut retry_of = kept_by(&plan);
    for _ in 0..if changes.plan.is_none() { ROUNDS_MAX } else { 0 } {
        // A step that is kept does not plan again, and what it has planned stands.
        let Some(without) = unplanned_document(&document, |step| !retry_of.kept.contains_key(step)) else { break };
        let Ok(plan_without) = checked(&without) else { break };
        (document, plan) = (Cow::Owned(without), plan_without);
        retry_of = kept_by(&plan);
    }
    if let Some(standing) = standing_document(&document, |step| !retry_of.kept.contains_key(step)) {
        document = Cow::Owned(standing);
    }
    made(&laid_over(&document, &changes)?, plan, retry_of, ended, context)
}

fn made(
    sent: &Sent<'_>,
    mut plan: Plan,
    retry_of: RetryOf,
    ended: &RunAtItsEnd,
    context: &Context,
) -> Result<Made, Problem> {
    check_size(&retry_of, ended)?;
    let document = serde_json::to_vec(&Document { sent, retry_of: &retry_of });
    let document = document.map_err(|error| Problem::internal(error.to_string()))?;
    plan.retry_of = Some(retry_of.into());
    let plan = plan.with_source(&String::from_utf8_lossy(&document), &context.registry);
    Ok(Made { plan, document })
}

/// What the new run is made of.
fn laid_over<'a>(document: &'a [u8], changes: &Changes<'a>) -> Result<Sent<'a>, Problem> {
    let mut sent: Sent<'a> = serde_json::from_slice(document).map_err(|error| Problem::internal(error.to_string()))?;
    if let Some(plan) = changes.plan {
        (sent.plan, sent.planned_by) = (plan, None);
    }
    if let Some(inputs) = changes.inputs {
        let inputs: Result<BTreeMap<Cow<'a, str>, &'a RawValue>, _> = serde_json::from_str(inputs.get());
        let inputs = inputs.map_err(|_| issue("inputs".to_owned(), "must be an object".to_owned()))?;
        sent.inputs.extend(inputs);
    }
    Ok(sent)
}

/// The steps that are to be run again.
fn steps_from(changes: &Changes<'_>, plan: &Plan) -> Result<BTreeSet<StepId>, Problem> {
    let known: BTreeSet<&str> = plan.steps.iter().map(|step| step.id.as_str()).collect();
    let unknown = changes.from.iter().enumerate().filter(|(_, id)| !known.contains(id.as_str()));
    let issues: Vec<Issue> = unknown
        .take(crate::model::ISSUES_MAX)
        .map(|(at, id)| Issue {
            path: format!("from[{at}]"),
            message: format!("unknown step {}", Quoted(id)),
            step_id: None,
        })
        .collect();
    match issues.is_empty() {
        true => Ok(changes.from.iter().filter_map(|id| StepId::parse(id).ok()).collect()),
        false => Err(Problem::invalid_plan(issues)),
    }
}

fn check_size(retry_of: &RetryOf, ended: &RunAtItsEnd) -> Result<(), Problem> {
    let bytes = |(step, kept): (&StepId, &crate::model::KeptOutput)| {
        json_bytes(&kept.output) + ended.output_bytes.get(step).copied().unwrap_or_default()
    };
    let total: u64 = retry_of.kept.iter().map(bytes).sum();
    if total <= KEPT_BYTES_MAX {
        return Ok(());
    }
    let detail = format!(
        "the outputs to reuse have {total} bytes (limit {KEPT_BYTES_MAX} bytes, not configurable); name the steps with large outputs in \
         \"from\", or rerun the plan"
    );
    Err(Problem::new(413, "kept_outputs_too_large", detail))
}

fn issue(path: String, message: String) -> Problem {
    Problem::invalid_plan(vec![Issue { path, message, step_id: None }])
}

/// Tells one retry of a run from another: by the JSON value of what was sent.
pub(super) fn fingerprint(run: &RunId, body: &[u8]) -> Fingerprint {
    let mut text = format!("retry {run}\n").into_bytes();
    let start = text.len();
    text.extend_from_slice(body);
    let bytes = digest(&text);
    let value = str::from_utf8(body).ok().and_then(Exact::read).map(|body| {
        let mut canonical = text[..start].to_vec();
        body.write_canonical(&mut canonical);
        digest(&canonical)
    });
    Fingerprint { value: value.unwrap_or(bytes), bytes }
}
