//! Properties of requests about a run or a stored plan from untrusted clients: decisions, changes and retries.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use serde_json::{Value, json};

use super::{CONTEXT, STEPS_MAX, check_plan, check_refusal, project, run};
use crate::api::{PlanRequest, Prepared, Purpose, RetryPurpose, decision_request, prepare, read_document};
use crate::auth::Principal;
use crate::executor::change::check_change;
use crate::http::{Preconditions, Problem};
use crate::log::RunAtItsEnd;
use crate::model::{FIRST_REVISION, Plan, RunEvent, RunState, RunStatus, Steering, StepId, Timestamp};

/// What the run was made of that is changed and gone on from.
const DOCUMENT: &str = r#"{"plan":{"name":"p","steps":[{"id":"a","tool":"echo","inputs":{"x":1}},
    {"id":"b","tool":"echo","inputs":{"x":"{{ steps.a.output.x }}"},"dependencies":["a"]},
    {"id":"c","tool":"approval","inputs":{"message":"Go?"},"dependencies":["b"]}],
    "onExit":[{"id":"h","tool":"echo"}]},"inputs":{"n":1.50}}"#;

/// How it ended: its first step has completed, its second has failed.
static ENDED: LazyLock<Arc<RunAtItsEnd>> = LazyLock::new(|| {
    let plan = read_document(DOCUMENT.as_bytes(), &CONTEXT).expect("it is a plan");
    let mut state = RunState::new(run(), &plan, Timestamp::default());
    let messages = [
        ("workflow_progress", moved("a", &json!({"status": "completed", "output": {"x": 1}, "duration": 1}))),
        ("workflow_progress", moved("b", &json!({"status": "failed", "error": "no", "duration": 1}))),
        ("workflow_failed", json!({"planName": "p", "error": "no", "reason": "step_failed", "failedSteps": ["b"]})),
    ];
    for (kind, mut payload) in messages {
        (payload["runId"], payload["timestamp"]) = (json!(run()), json!("2026-01-01T00:00:00.000Z"));
        state.apply(&RunEvent::from_payload(kind, payload.to_string().as_bytes()).expect("a message"));
    }
    assert_eq!(state.status, RunStatus::Failed);
    Arc::new(RunAtItsEnd { document: DOCUMENT.as_bytes().into(), state: state.into(), output_bytes: HashMap::new() })
});

fn moved(step: &str, update: &Value) -> Value {
    let progress = json!({"completed": 1, "failed": 0, "skipped": 0, "total": 3, "percent": 33});
    let mut payload = json!({"stepId": step, "stepTitle": step, "level": 0, "attempt": 1, "progress": progress});
    let members = update.as_object().into_iter().flatten();
    members.for_each(|(name, value)| payload[name] = value.clone());
    payload
}

/// The body of a decision.
pub fn decision(bytes: &[u8]) {
    let step = StepId::parse("c").expect("an id");
    let request = match decision_request((project(), run(), step.clone()), "ann", Some("k".to_owned()), bytes) {
        Ok(request) => request,
        Err(problem) => return check_refused(&problem),
    };
    let Steering::Decide(decide) = &request.what else { panic!("it was to decide") };
    assert_eq!((&decide.step, &*request.by), (&step, "ann"));
    let sent: Value = serde_json::from_slice(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)).expect("JSON");
    assert_eq!(sent["decision"], decide.choice.as_str());
    let payload = decide.payload.as_deref().unwrap_or(&Value::Null);
    assert_eq!(*payload, sent["payload"], "the payload has changed");
    let spelled = sent.to_string();
    let again = decision_request((project(), run(), step), "bob", None, spelled.as_bytes()).expect("it is the same");
    assert_eq!(again.what, request.what);
}

/// The body of a change of a run's plan.
pub fn change(bytes: &[u8]) {
    let (project, run) = (project(), run());
    let purpose = Purpose::Change { project, run, change: bytes.to_vec(), if_match: None };
    match ask(DOCUMENT.as_bytes(), purpose) {
        Ok(Prepared::Steer(request)) => {
            let Steering::Change(change) = &request.what else { panic!("it was to change the plan") };
            assert_eq!(change.of_revision, FIRST_REVISION);
            let plan = change.plan.as_deref().expect("it was read");
            check_plan(plan);
            check_ids(plan, (&change.added, &change.removed, &change.changed));
            let again = check_change(
                &change.document,
                FIRST_REVISION,
                r#"{"add":[{"id":"more","tool":"echo"}]}"#,
                None,
                &CONTEXT,
            );
            let is_full = plan.steps.len() == STEPS_MAX || change.added.iter().any(|id| id.as_str() == "more");
            assert!(again.is_ok() || is_full || plan.steps.iter().any(|step| step.id.as_str() == "more"), "{again:?}");
        }
        Ok(other) => unreachable!("it was to change a plan: {other:?}"),
        Err(problem) => check_refused(&problem),
    }
}

/// What was there and is named stands in the plan, or no longer.
fn check_ids(plan: &Plan, (added, removed, changed): (&[StepId], &[StepId], &[StepId])) {
    let has = |id: &StepId| plan.steps.iter().any(|step| step.id == *id);
    assert!(added.iter().chain(changed).all(has), "{added:?} {changed:?}");
    assert!(removed.iter().all(|id| !has(id) || added.contains(id)), "{removed:?}");
}

/// The body of another try.
pub fn retry(bytes: &[u8]) {
    let purpose = RetryPurpose { project: project(), run: run(), chosen: None, ended: ENDED.clone() };
    match ask(bytes, Purpose::Retry(Box::new(purpose))) {
        Ok(Prepared::Run(submission)) => {
            check_plan(&submission.plan);
            let again = read_document(&submission.document, &CONTEXT).expect("what was taken on can be read again");
            assert_eq!(again, *submission.plan);
            let of = submission.plan.retry_of.as_ref().expect("it goes on from a run");
            let has_completed = |id: &StepId| ENDED.state.step(id).is_some_and(|step| step.id.as_str() == "a");
            assert!(of.kept.keys().all(has_completed), "only what has completed is kept: {of:?}");
        }
        Ok(other) => unreachable!("it was to be run: {other:?}"),
        Err(problem) => check_refused(&problem),
    }
}

/// A plan that is to be stored, and then run.
pub fn stored(bytes: &[u8]) {
    let name = "n".parse().expect("a name");
    let plan = match ask(bytes, Purpose::Store(project(), name, Preconditions::default())) {
        Ok(Prepared::Store(plan)) => plan,
        Ok(other) => unreachable!("it was to be stored: {other:?}"),
        Err(problem) => return check_refused(&problem),
    };
    serde_json::from_slice::<Value>(&plan.summary).expect("its summary is JSON");
    let again = ask(&plan.document, Purpose::Store(project(), plan.name.clone(), Preconditions::default()));
    let Ok(Prepared::Store(again)) = again else { panic!("it is stored once more: {again:?}") };
    assert_eq!((&again.tag, &again.document), (&plan.tag, &plan.document), "it is the same");
    match ask(&plan.document, Purpose::Stored(project(), plan.name, br#"{"stored":"n"}"#.to_vec())) {
        Ok(Prepared::Run(submission)) => check_plan(&submission.plan),
        Ok(other) => unreachable!("it was to be run: {other:?}"),
        // It may lack inputs.
        Err(problem) => check_refused(&problem),
    }
}

fn ask(body: &[u8], purpose: Purpose) -> Result<Prepared, Problem> {
    let principal = Principal::anyone();
    let request = PlanRequest { body: body.to_vec(), purpose, idempotency_key: None, principal };
    prepare(request, &CONTEXT, STEPS_MAX, run())
}

fn check_refused(problem: &Problem) {
    match problem.status {
        409 | 413 => assert!(!problem.detail.contains(char::is_control), "{problem:?}"),
        _ => check_refusal(problem),
    }
}
