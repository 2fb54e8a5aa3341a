//! The calls that steer an active run: reads their bodies, and maps the run's refusal to a response.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::change::stale_revision;
use super::handler::{Api, idempotency_key, json_body};
use super::submit::digest;
use super::{Action, Ask, Facts, Render, read_json_object};
use crate::auth::Scope;
use crate::http::{Problem, Request};
use crate::log::{Claim, Fingerprint, SteerRequest};
use crate::model::json::{lost_number, without_bom};
use crate::model::{Choice, Decide, Exact, Issue, ProjectId, RunId, Steering, SteeringError, StepId};

/// The largest payload of a decision, in bytes of its JSON as it was sent. It is part of a message of the run, as
/// outputs of up to this size are.
pub const PAYLOAD_BYTES_MAX: usize = 64 * 1024;

/// What stands around a payload: one whose body is larger than both is not read.
const AROUND_PAYLOAD_BYTES_MAX: usize = 1024;

impl Api {
    pub(super) fn decision(
        &self,
        (project, run, step): (ProjectId, RunId, StepId),
        request: &Request,
        facts: &Facts,
    ) -> Result<Action, Problem> {
        let principal = self.authorize(request, Scope::Approve, &project, facts)?;
        let key = idempotency_key(request)?;
        let request = decision_request((project, run, step), principal.sub(), key, json_body(request)?)?;
        Ok(Action::Ask(Ask::Steer(Box::new(request)), Render::Steered))
    }
}

/// What the log is asked by a decision of `by`, whose body is `{"decision": "approve" | "reject", "payload"?: ...}`.
///
/// # Errors
/// 400 where it is no JSON, 413 where the payload is too large, 422 where it says something else.
pub fn decision_request(
    (project, run, step): (ProjectId, RunId, StepId),
    by: &str,
    key: Option<String>,
    body: &[u8],
) -> Result<SteerRequest, Problem> {
    // Before anything reads it: the loop does, and waits for nothing long.
    if body.len() > PAYLOAD_BYTES_MAX + AROUND_PAYLOAD_BYTES_MAX {
        return Err(payload_too_large());
    }
    let fingerprint = fingerprint(&format!("decide {run} {step} "), body);
    let what = Steering::Decide(read_decision(step, body)?);
    Ok(SteerRequest { claim: Claim { project, key, run: None, fingerprint }, run, by: by.into(), what })
}

fn read_decision(step: StepId, body: &[u8]) -> Result<Decide, Problem> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body {
        decision: String,
        payload: Option<Box<RawValue>>,
    }
    if let Some(lost) = lost_number(without_bom(body)) {
        return Err(Problem::new(422, "invalid_body", lost.to_string()));
    }
    let Body { decision, payload } = read_json_object(body)?;
    let choice = Choice::parse(&decision).ok_or_else(|| {
        let issue = |message: &str| Issue { path: "decision".to_owned(), message: message.to_owned(), step_id: None };
        let issues = vec![issue("expected \"approve\" or \"reject\"")];
        Problem { code: "invalid_body", ..Problem::invalid_plan(issues) }
    })?;
    if payload.as_ref().is_some_and(|payload| payload.get().len() > PAYLOAD_BYTES_MAX) {
        return Err(payload_too_large());
    }
    let payload = payload.map(|payload| serde_json::from_str(payload.get())).transpose();
    let payload = payload.map_err(|error| Problem::new(400, "invalid_json", error.to_string()))?;
    Ok(Decide { step, choice, payload })
}

fn payload_too_large() -> Problem {
    let detail = format!(
        "the body is too large (limit {PAYLOAD_BYTES_MAX} bytes for the payload and {AROUND_PAYLOAD_BYTES_MAX} bytes for the rest, \
         not configurable)"
    );
    Problem::new(413, "payload_too_large", detail)
}

/// Tells one call from another that has the same key: by what it is, and by the JSON value that it says.
pub(super) fn fingerprint(what: &str, body: &[u8]) -> Fingerprint {
    let mut text = what.as_bytes().to_vec();
    match str::from_utf8(without_bom(body)).ok().and_then(Exact::read) {
        Some(value) => value.write_canonical(&mut text),
        None => text.extend_from_slice(body),
    }
    let digest = digest(&text);
    Fingerprint { value: digest, bytes: digest }
}

/// What a run's refusal means to the caller.
pub(super) fn steering_refusal(error: &SteeringError) -> Problem {
    match error {
        SteeringError::RunEnded => Problem::conflict("run_ended", "the run has ended"),
        SteeringError::ShuttingDown => {
            Problem::unavailable("draining", "the server is shutting down; the run resumes when it starts again", 5)
        }
        SteeringError::UnknownStep => Problem::new(404, "unknown_step", "step not found in this run"),
        SteeringError::NotWaiting { status } => Problem::conflict(
            "not_waiting",
            format!("the step is {} and does not wait for a decision", status.as_str()),
        ),
        SteeringError::AlreadyDecided { choice, by, at } => {
            let whose = by.as_ref().map_or("automatically when it expired".to_owned(), |by| format!("by {by}"));
            let detail = format!("the step was already decided {whose} at {at}: {}", choice.as_str());
            Problem::conflict("already_decided", detail)
        }
        SteeringError::StaleRevision { current } => stale_revision(*current),
        SteeringError::StepStarted { step, status } => {
            let detail = format!("step {step} is {}: only steps that have not started can be changed", status.as_str());
            Problem::conflict("step_started", detail)
        }
        SteeringError::RunEnding => Problem::conflict("run_ending", "the run is ending; no step can start any more"),
        SteeringError::TooManyChanges { limit } => {
            let detail = format!("the run's plan was changed too many times (limit {limit}, not configurable)");
            Problem::conflict("too_many_changes", detail)
        }
        SteeringError::InvalidChange { issues } => Problem::invalid_plan(issues.clone()),
        SteeringError::NotADecider => {
            Problem::forbidden("not_a_decider", "this token's subject is not one of the step's deciders")
        }
        SteeringError::InvalidPayload { issues } => {
            Problem { code: "invalid_payload", ..Problem::invalid_plan(issues.clone()) }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn step() -> StepId {
        StepId::parse("a").expect("an id")
    }

    #[test]
    fn a_decision_is_a_word_and_what_goes_with_it() {
        let read = |body: &str| read_decision(step(), body.as_bytes());
        let decide = read(r#"{"decision": "approve", "payload": {"n": 1.0}}"#).expect("is read");
        assert_eq!((decide.choice, decide.payload.as_deref()), (Choice::Approve, Some(&json!({"n": 1.0}))));
        assert_eq!(read(r#"{"decision": "reject"}"#).expect("is read").payload, None);
        let large = format!(r#"{{"decision": "approve", "payload": "{}"}}"#, "x".repeat(PAYLOAD_BYTES_MAX - 1));
        for (body, expected) in [
            ("", (400, "invalid_json")),
            ("[]", (422, "invalid_body")),
            ("{}", (422, "invalid_body")),
            (r#"{"decision": "maybe"}"#, (422, "invalid_body")),
            (r#"{"decision": "approve", "payloads": 1}"#, (422, "invalid_body")),
            (r#"{"decision": "approve", "payload": 12345678901234567890123}"#, (422, "invalid_body")),
            (&large, (413, "payload_too_large")),
        ] {
            let problem = read(body).expect_err(body);
            assert_eq!((problem.status, problem.code), expected, "{body:.60}");
        }
    }

    /// It was read whole, up to the limit of all bodies, before its own was looked at.
    #[test]
    fn a_decision_was_read_before_its_limit_was_applied() {
        let (project, run) = ("p".parse().expect("an id"), RunId::parse("r").expect("an id"));
        let ask = |body: &str| decision_request((project, run, step()), "x", None, body.as_bytes());
        let no_json = "[".repeat(PAYLOAD_BYTES_MAX + AROUND_PAYLOAD_BYTES_MAX + 1);
        let problem = ask(&no_json).expect_err("too large");
        assert_eq!((problem.status, problem.code), (413, "payload_too_large"));
    }

    #[test]
    fn calls_with_one_key_are_told_apart_by_what_they_want() {
        let of = |what: &str, body: &str| fingerprint(what, body.as_bytes());
        assert_eq!(of("decide r a ", r#"{"a": 1, "b": 2}"#), of("decide r a ", r#"{"b":2,"a":1}"#));
        assert_ne!(of("decide r a ", "{}"), of("decide r b ", "{}"));
        assert_ne!(of("decide r a ", "{}"), of("decide r a ", "[]"));
    }
}
