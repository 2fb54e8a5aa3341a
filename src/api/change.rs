//! `PATCH .../workflows/:runId/plan`: changes the plan of an active run.
//!
//! The run's current plan is read first. The intake thread applies the change to it and checks the result. The run then
//! decides whether that plan is still its current one.

use serde::Deserialize;
use serde_json::Value;

use super::handler::{Api, idempotency_key, json_body};
use super::steering::fingerprint;
use super::{Action, Ask, Facts, PlanRequest, Prepared, Purpose, Render, read_json};
use crate::auth::{Principal, Scope};
use crate::executor::Context;
use crate::executor::change::check_change;
use crate::http::{Problem, Request, list_of, without_coding};
use crate::log::{Claim, SteerRequest};
use crate::model::json::{lost_number, without_bom};
use crate::model::{FIRST_REVISION, Issue, PlanChange, ProjectId, RunId, Steering};

/// A run whose plan is to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeRequest {
    /// Its project.
    pub project: ProjectId,
    /// The run.
    pub run: RunId,
    /// The body: what is to change.
    pub change: Vec<u8>,
    /// `If-Match`: the revision that the caller knows, where the body does not say it.
    pub if_match: Option<String>,
    /// `Idempotency-Key`.
    pub idempotency_key: Option<String>,
    /// Who makes the call.
    pub principal: Principal,
}

impl ChangeRequest {
    /// What is to be checked, once the log has said what the plan is.
    pub fn plan(self, document: &[u8]) -> PlanRequest {
        let Self { project, run, change, if_match, idempotency_key, principal } = self;
        let purpose = Purpose::Change { project, run, change, if_match };
        PlanRequest { body: document.to_vec(), purpose, idempotency_key, principal }
    }
}

impl Api {
    pub(super) fn change_plan(
        &self,
        (project, run): (ProjectId, RunId),
        request: &Request,
        facts: &Facts,
    ) -> Result<Action, Problem> {
        let principal = self.authorize(request, Scope::Run, &project, facts)?;
        let idempotency_key = idempotency_key(request)?;
        let change = json_body(request)?.to_vec();
        let if_match = list_of(request, "if-match");
        let request = ChangeRequest { project, run, change, if_match, idempotency_key, principal };
        Ok(Action::Ask(Ask::Change(Box::new(request)), Render::Steered))
    }
}

/// Makes the wish for a change of a run's plan. `document` is the document of the run.
///
/// # Errors
/// 400 where the change is no JSON, 409 where it is of another revision, 422 with all issues.
pub(super) fn prepare_change(document: &[u8], change: ChangeRequest, context: &Context) -> Result<Prepared, Problem> {
    let ChangeRequest { project, run, change, if_match, idempotency_key, principal } = change;
    let fingerprint = fingerprint(&format!("change {run} "), &change);
    let claim = Claim { project, key: idempotency_key, run: None, fingerprint };
    match check(document, &change, if_match.as_deref(), context) {
        Ok(change) => {
            let what = Steering::Change(Box::new(change));
            Ok(Prepared::Steer(Box::new(SteerRequest { claim, run, by: principal.sub().into(), what })))
        }
        Err(problem) if claim.is_named() => Ok(Prepared::Recall(Box::new(claim), Box::new(problem))),
        Err(problem) => Err(problem),
    }
}

fn check(document: &[u8], change: &[u8], if_match: Option<&str>, context: &Context) -> Result<PlanChange, Problem> {
    #[derive(Deserialize)]
    struct Noted {
        revision: Option<u32>,
    }
    let change = without_bom(change);
    if let Some(lost) = lost_number(change) {
        let issue = Issue { message: lost.message(), path: lost.path, step_id: None };
        return Err(Problem::invalid_plan(vec![issue]));
    }
    let value: Value = read_json(change)?;
    if !value.is_object() {
        return Err(Problem::new(400, "invalid_body", "expected a JSON object"));
    }
    let text = |bytes| str::from_utf8(bytes).map_err(|error| Problem::internal(error.to_string()));
    let noted: Noted = serde_json::from_slice(document).map_err(|error| Problem::internal(error.to_string()))?;
    let current = noted.revision.unwrap_or(FIRST_REVISION);
    if !is_for(current, &value, if_match)? {
        return Err(stale_revision(current));
    }
    check_change(text(document)?, current, text(change)?, None, context).map_err(Problem::invalid_plan)
}

/// Is the change made for this revision?
fn is_for(current: u32, change: &Value, if_match: Option<&str>) -> Result<bool, Problem> {
    let said = change.get("expectedRevision").filter(|value| !value.is_null());
    let is_for = match said {
        Some(value) => value.as_u64().map(|said| said == u64::from(current)),
        None => if_match.and_then(|tags| names_revision(tags, current)),
    };
    is_for.ok_or_else(|| {
        let message =
            "is required and must be an integer: the revision of the plan that the change applies to".to_owned();
        Problem::invalid_plan(vec![Issue { path: "expectedRevision".to_owned(), message, step_id: None }])
    })
}

/// Is this revision among those that `If-Match` names? None if it names none. A proxy that has compressed a plan has
/// changed its tag; the revision is the same.
fn names_revision(tags: &str, current: u32) -> Option<bool> {
    if tags.trim() == "*" {
        return Some(true);
    }
    let revision = |tag: &str| {
        let bare = tag.trim().trim_start_matches("W/").trim_matches('"');
        without_coding(bare).parse::<u64>().ok()
    };
    let mut named = tags.split(',').filter_map(revision).peekable();
    named.peek()?;
    Some(named.any(|revision| revision == u64::from(current)))
}

/// The plan has changed since the caller read it.
pub(super) fn stale_revision(current: u32) -> Problem {
    let detail = format!("the plan is now at revision {current}; read it again and send the change for that revision");
    Problem { revision: Some(current), ..Problem::conflict("stale_revision", detail) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executor::testing::context;

    const DOCUMENT: &str =
        r#"{"plan":{"name":"p","steps":[{"id":"a","tool":"echo"}]},"inputs":{},"revision":3,"levels":[["a"]]}"#;

    #[test]
    fn a_change_is_of_the_revision_that_the_plan_has() {
        let context = context();
        let read = |change: &str, if_match| check(DOCUMENT.as_bytes(), change.as_bytes(), if_match, &context);
        let good = r#"{"expectedRevision":3,"add":[{"id":"b","tool":"echo"}]}"#;
        assert_eq!(read(good, Some("7")).expect("is good").of_revision, 3, "the body counts");
        for if_match in ["3", "\"3\"", "W/\"3\"", "\"3-gzip\"", "*", "\"2\", W/\"3\"", "\"x\",\"3\""] {
            assert!(read(r#"{"add":[{"id":"b","tool":"echo"}]}"#, Some(if_match)).is_ok(), "{if_match}");
        }
        for (change, if_match, expected) in [
            ("", None, (400, "invalid_json", None)),
            ("[]", None, (400, "invalid_body", None)),
            (r#"{"add":[{"id":"b","tool":"echo"}]}"#, None, (422, "invalid_plan", None)),
            (r#"{"expectedRevision":"3","remove":["a"]}"#, None, (422, "invalid_plan", None)),
            (r#"{"expectedRevision":2,"remove":["a"]}"#, None, (409, "stale_revision", Some(3))),
            (r#"{"expectedRevision":4,"remove":["a"]}"#, None, (409, "stale_revision", Some(3))),
            (r#"{"remove":["a"]}"#, Some("2"), (409, "stale_revision", Some(3))),
            (r#"{"remove":["a"]}"#, Some("W/\"2\", \"4\""), (409, "stale_revision", Some(3))),
            (r#"{"remove":["a"]}"#, Some("\"x\""), (422, "invalid_plan", None)),
            (r#"{"expectedRevision":3,"remove":["a"]}"#, None, (422, "invalid_plan", None)),
            (r#"{"expectedRevision":3,"add":[{"id":"b","n":1e400}]}"#, None, (422, "invalid_plan", None)),
        ] {
            let problem = read(change, if_match).expect_err(change);
            assert_eq!((problem.status, problem.code, problem.revision), expected, "{change}");
        }
    }
}
