//! The calls for stored plans: store, show, delete, and run by name.
//!
//! A body that refers to a stored plan has the key `stored` and neither `plan` nor `steps`. Because every plan has
//! steps, it can't be confused with any other body.

use std::borrow::Cow;
use std::collections::BTreeMap;

use memchr::memmem;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::handler::{Api, idempotency_key, json_body};
use super::submit::{check, digest, read, read_submission};
use super::{Action, Ask, Facts, PlanRequest, Purpose, Render, read_json};
use crate::auth::{Principal, Scope};
use crate::executor::Context;
use crate::executor::check::check_submission;
use crate::executor::complete::check_stored;
use crate::http::{Conditions, Preconditions, Problem, Request};
use crate::log::{Claim, NewPlan, PlanCommand, Query};
use crate::model::json::without_bom;
use crate::model::schedule::Schedule;
use crate::model::{ISSUES_MAX, Issue, Plan, PlanName, ProjectId, RunId, ScheduleSpec, Submission};

/// How much of a description a list shows, in characters.
const DESCRIPTION_CHARS_SHOWN: usize = 256;

/// A run of a stored plan, as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRun {
    /// The plan's project.
    pub project: ProjectId,
    /// The plan's name.
    pub name: PlanName,
    /// The body: `{"stored": name, "inputs"?, "runId"?}`.
    pub body: Vec<u8>,
    /// `Idempotency-Key`.
    pub idempotency_key: Option<String>,
    /// Who makes the call.
    pub principal: Principal,
}

impl StoredRun {
    /// The plan to be run, once the log has said what is stored.
    pub fn plan(self, document: &[u8]) -> PlanRequest {
        PlanRequest {
            body: document.to_vec(),
            purpose: Purpose::Stored(self.project, self.name, self.body),
            idempotency_key: self.idempotency_key,
            principal: self.principal,
        }
    }

    /// By what the call is known.
    pub fn claim(&self) -> Claim {
        #[derive(Deserialize)]
        struct Chosen {
            #[serde(rename = "runId")]
            run_id: Option<RunId>,
        }
        let body = without_bom(&self.body);
        let run = serde_json::from_slice(body).ok().and_then(|Chosen { run_id }| run_id);
        let fingerprint = super::submit::fingerprint_of(&self.body, true);
        Claim { project: self.project.clone(), key: self.idempotency_key.clone(), run, fingerprint }
    }
}

impl Api {
    /// A plan is to be run, which comes along or is stored.
    pub(super) fn submit(&self, project: ProjectId, request: &Request, facts: &Facts) -> Result<Action, Problem> {
        let principal = self.authorize(request, Scope::Run, &project, facts)?;
        let idempotency_key = idempotency_key(request)?;
        let body = json_body(request)?.to_vec();
        let ask = match stored_name(&body)? {
            Some(name) => Ask::Stored(Box::new(StoredRun { project, name, body, idempotency_key, principal })),
            None => Ask::Plan(PlanRequest { body, purpose: Purpose::Run(project), idempotency_key, principal }),
        };
        Ok(Action::Ask(ask, Render::Accepted))
    }

    pub(super) fn stored_plans(&self, project: ProjectId, request: &Request, facts: &Facts) -> Result<Action, Problem> {
        self.authorize(request, Scope::Subscribe, &project, facts)?;
        Ok(Action::Ask(Ask::Read(Query::StoredPlans { project, now: facts.now.wall }), Render::Body))
    }

    /// Clients that may run the plan see it as it is, so that they can change it; others see it without values that may
    /// be secrets.
    pub(super) fn stored_plan(
        &self,
        (project, name): (ProjectId, PlanName),
        request: &Request,
        facts: &Facts,
    ) -> Result<Action, Problem> {
        let principal = self.authorize(request, Scope::Subscribe, &project, facts)?;
        let is_whole = principal.require_in(Scope::Run, &project).is_ok();
        let render = Render::StoredPlan(Conditions::of(request));
        Ok(Action::Ask(Ask::Read(Query::StoredPlan { project, name, is_whole }), render))
    }

    pub(super) fn put_plan(
        &self,
        (project, name): (ProjectId, PlanName),
        request: &Request,
        facts: &Facts,
    ) -> Result<Action, Problem> {
        let principal = self.authorize(request, Scope::Run, &project, facts)?;
        let body = json_body(request)?.to_vec();
        let purpose = Purpose::Store(project, name.clone(), Preconditions::of(request));
        let ask = Ask::Plan(PlanRequest { body, purpose, idempotency_key: None, principal });
        Ok(Action::Ask(ask, Render::PlanStored(name)))
    }

    pub(super) fn remove_plan(
        &self,
        (project, name): (ProjectId, PlanName),
        request: &Request,
        facts: &Facts,
    ) -> Result<Action, Problem> {
        self.authorize(request, Scope::Run, &project, facts)?;
        let conditions = Preconditions::of(request);
        let command = PlanCommand::Remove { project, name: name.clone(), conditions };
        Ok(Action::Ask(Ask::ChangePlan(command), Render::PlanStored(name)))
    }
}

/// The stored plan that a body names; none if it is another body.
fn stored_name(body: &[u8]) -> Result<Option<PlanName>, Problem> {
    #[derive(Deserialize)]
    struct Named {
        stored: Option<Value>,
        plan: Option<IgnoredAny>,
        steps: Option<IgnoredAny>,
    }
    if memmem::find(body, b"\"stored\"").is_none() {
        return Ok(None);
    }
    let named = serde_json::from_slice(without_bom(body));
    let Ok(Named { stored: Some(stored), plan: None, steps: None }) = named else { return Ok(None) };
    let refused =
        |message: String| Problem::invalid_plan(vec![Issue { path: "stored".to_owned(), message, step_id: None }]);
    let name = stored.as_str().ok_or_else(|| refused("must be a string: the name of a stored plan".to_owned()))?;
    name.parse().map(Some).map_err(|error: crate::model::IdError| refused(error.to_string()))
}

/// The document of a stored plan, piece by piece, as it was written.
#[derive(Serialize, Deserialize)]
struct Kept<'a> {
    #[serde(borrow)]
    plan: &'a RawValue,
    #[serde(borrow)]
    inputs: &'a RawValue,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    schedule: Option<&'a RawValue>,
}

type Members<'a> = BTreeMap<Cow<'a, str>, &'a RawValue>;

/// The wrapped plan that a call of a stored one means: the inputs of the call are laid over those that are stored.
pub(super) fn wrapped(document: &[u8], call: &[u8]) -> serde_json::Result<Vec<u8>> {
    let kept: Kept<'_> = serde_json::from_slice(document)?;
    let call: Members<'_> = serde_json::from_slice(without_bom(call))?;
    compose(&kept, call.get("inputs").copied(), call.get("runId").copied())
}

/// The same for a firing of its schedule, which may have its own inputs.
pub(super) fn wrapped_firing(document: &[u8]) -> serde_json::Result<Vec<u8>> {
    let kept: Kept<'_> = serde_json::from_slice(document)?;
    let schedule: Members<'_> = match kept.schedule {
        Some(schedule) => serde_json::from_str(schedule.get())?,
        None => Members::new(),
    };
    compose(&kept, schedule.get("inputs").copied(), None)
}

/// The same of a child, whose inputs are the step's.
pub(super) fn wrapped_child(document: &[u8], inputs: &Map<String, Value>) -> serde_json::Result<Vec<u8>> {
    let kept: Kept<'_> = serde_json::from_slice(document)?;
    let inputs = RawValue::from_string(serde_json::to_string(inputs)?)?;
    compose(&kept, Some(&inputs), None)
}

fn compose(kept: &Kept<'_>, over: Option<&RawValue>, run_id: Option<&RawValue>) -> serde_json::Result<Vec<u8>> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Wrapped<'a> {
        plan: &'a RawValue,
        inputs: &'a RawValue,
        #[serde(skip_serializing_if = "Option::is_none")]
        run_id: Option<&'a RawValue>,
    }
    let over = over.filter(|over| over.get() != "null");
    let laid_over = match over.map(|over| serde_json::from_str::<Members<'_>>(over.get())) {
        Some(Ok(over)) => {
            let mut inputs: Members<'_> = serde_json::from_str(kept.inputs.get())?;
            inputs.extend(over);
            Some(RawValue::from_string(serde_json::to_string(&inputs)?)?)
        }
        // Whoever reads the plan says that they are none.
        Some(Err(_)) | None => over.map(RawValue::to_owned),
    };
    let inputs = laid_over.as_deref().unwrap_or(kept.inputs);
    serde_json::to_vec(&Wrapped { plan: kept.plan, inputs, run_id })
}

/// Reads and checks a plan to store.
///
/// # Errors
/// As for a plan to run.
pub(super) fn prepare_stored(
    body: &[u8],
    (project, name, conditions): (ProjectId, PlanName, Preconditions),
    context: &Context,
    steps_max: usize,
) -> Result<NewPlan, Problem> {
    let text = without_bom(body);
    let lost = |problem| Submission::lost(text).map_or(problem, |issue| Problem::invalid_plan(vec![issue]));
    let value: Value = read_json(text).map_err(lost)?;
    let is_wrapped = value.get("plan").is_some();
    let schedule = value.get("schedule").filter(|schedule| is_wrapped && !schedule.is_null()).cloned();
    let submission = read_submission(value, text)?;
    let checked = check_submission(&submission, &context.registry, &context.engine, steps_max);
    let checked = checked.and_then(|plan| {
        let issues = check_stored(&plan, submission.inputs);
        if issues.is_empty() { Ok(plan) } else { Err(issues) }
    });
    let schedule = schedule.map(|schedule| read_schedule(&schedule)).transpose();
    let (plan, schedule) = match (checked, schedule) {
        (Ok(plan), Ok(schedule)) => (plan, schedule),
        (plan, schedule) => {
            let issues = plan.err().into_iter().chain(schedule.err()).flatten();
            return Err(Problem::invalid_plan(issues.take(ISSUES_MAX).collect()));
        }
    };
    let kept = kept(text, is_wrapped, schedule.is_some());
    let document = kept.map_err(|error| Problem::internal(error.to_string()))?;
    if schedule.is_some() {
        check_firing(&document, context, steps_max)?;
    }
    let tag = tag(&document);
    let summary = summary(&plan, &tag).into();
    let schedule = schedule.map(|spec| serde_json::to_vec(&spec)).transpose();
    let schedule = schedule.map_err(|error| Problem::internal(error.to_string()))?.map(Into::into);
    Ok(NewPlan { project, name, conditions, document: document.into(), tag: tag.into(), summary, schedule })
}

/// Nobody gives a firing more than what is stored: that has to do, or none would ever come to a run.
fn check_firing(document: &[u8], context: &Context, steps_max: usize) -> Result<(), Problem> {
    let fired = wrapped_firing(document).map_err(|error| Problem::internal(error.to_string()))?;
    let checked = check(read(&fired)?, context, steps_max).map(drop);
    checked.map_err(|mut problem| {
        let of_inputs = problem.issues.iter_mut().flatten().filter(|issue| issue.path.starts_with("inputs"));
        of_inputs.for_each(|issue| issue.path.insert_str(0, "schedule."));
        problem
    })
}

fn read_schedule(value: &Value) -> Result<ScheduleSpec, Vec<Issue>> {
    let spec = ScheduleSpec::read(value)?;
    Schedule::parse(&spec.cron, &spec.time_zone).map_err(|error| {
        vec![Issue { path: format!("schedule.{}", error.field), message: error.message, step_id: None }]
    })?;
    Ok(spec)
}

fn kept(body: &[u8], is_wrapped: bool, has_schedule: bool) -> serde_json::Result<Vec<u8>> {
    let none: &RawValue = serde_json::from_str("{}")?;
    let body: &RawValue = serde_json::from_slice(body)?;
    if !is_wrapped {
        return serde_json::to_vec(&Kept { plan: body, inputs: none, schedule: None });
    }
    let members: Members<'_> = serde_json::from_str(body.get())?;
    let inputs = members.get("inputs").copied().filter(|inputs| inputs.get() != "null");
    let schedule = members.get("schedule").copied().filter(|_| has_schedule);
    serde_json::to_vec(&Kept {
        plan: members.get("plan").copied().unwrap_or(none),
        inputs: inputs.unwrap_or(none),
        schedule,
    })
}

/// Tells one document from another.
fn tag(document: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(&digest(document)[..16])
}

fn summary(plan: &Plan, tag: &str) -> Vec<u8> {
    let description: String = plan.description.chars().take(DESCRIPTION_CHARS_SHOWN).collect();
    let summary = json!({
        "planName": plan.name,
        "description": description,
        "steps": plan.steps.len(),
        "etag": format!("\"{tag}\""),
    });
    summary.to_string().into_bytes()
}

/// The id of the run of a firing: another for each, and the same for the same, whoever fires it.
pub fn run_of_firing(project: &ProjectId, name: &PlanName, at: crate::model::Timestamp) -> RunId {
    let text = format!("firing of {name} in {project} at {at}");
    let digest = digest(text.as_bytes());
    RunId::from_random(digest.first_chunk().copied().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;

    #[test]
    fn a_body_that_names_a_stored_plan_is_told_from_a_plan() {
        let name = |body: &str| stored_name(body.as_bytes()).map(|name| name.map(|name| name.to_string()));
        assert_eq!(name(r#"{"stored": "nightly", "inputs": {}}"#), Ok(Some("nightly".to_owned())));
        for other in [
            r#"{"name": "p", "stored": "x", "steps": []}"#,
            r#"{"plan": {}, "stored": "x"}"#,
            r#"{"name": "stored"}"#,
            r#"["stored"]"#,
            r#"{"stored""#,
        ] {
            assert_eq!(name(other), Ok(None), "{other}");
        }
        for wrong in [r#"{"stored": 7}"#, r#"{"stored": "a b"}"#] {
            assert_eq!(name(wrong).expect_err(wrong).status, 422);
        }
    }

    #[test]
    fn the_inputs_of_a_call_are_laid_over_the_stored_ones_number_by_number() {
        let document =
            br#"{"plan":{"name": "p"},"inputs":{"a":1.0,"b":9007199254740993},"schedule":{"inputs":{"b":2.50}}}"#;
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        let called = wrapped(document, br#"{"stored": "x", "inputs": {"a": 1e3}, "runId": "r"}"#).map(text);
        let expected = r#"{"plan":{"name": "p"},"inputs":{"a":1e3,"b":9007199254740993},"runId":"r"}"#;
        assert_eq!(called.expect("JSON"), expected);
        let fired = wrapped_firing(document).map(text).expect("JSON");
        assert_eq!(fired, r#"{"plan":{"name": "p"},"inputs":{"a":1.0,"b":2.50}}"#);
        let wrong = wrapped(document, br#"{"stored": "x", "inputs": 7}"#).map(text).expect("JSON");
        assert!(wrong.contains(r#""inputs":7"#), "whoever reads the plan refuses it: {wrong}");
    }

    #[test]
    fn each_firing_has_a_run_of_its_own() {
        let run = |project: &str, name: &str, ms| {
            let (project, name) = (project.parse().expect("an id"), name.parse().expect("a name"));
            run_of_firing(&project, &name, Timestamp::from_millis(ms))
        };
        assert_eq!(run("p", "n", 1), run("p", "n", 1));
        let runs = [run("p", "n", 1), run("p", "n", 2), run("p", "m", 1), run("q", "n", 1)];
        assert!((0..4).all(|at| (0..at).all(|other| runs[at] != runs[other])), "{runs:?}");
    }
}
