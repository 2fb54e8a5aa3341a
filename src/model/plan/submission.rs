//! The body of a submission: a plan, or a plan wrapped together with the inputs and id of one run.

use std::fmt::Display;
use std::str::FromStr;

use serde_json::{Map, Value};

use super::fields::{Fields, Location};
use super::{ISSUES_MAX, Issue, Issues};
use crate::model::json::{LostNumber, lost_number, lost_numbers, without_bom};
use crate::model::{ProjectId, RunId, StepId};

/// A plan as submitted, not yet read.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Submission {
    /// The plan's document.
    pub plan: Value,
    /// The inputs of the call, which override those of the plan.
    pub inputs: Map<String, Value>,
    /// The id that the client chose for the run.
    pub run_id: Option<RunId>,
    /// The issues of numbers that would be lost. A plan with such an issue is refused.
    pub issues: Vec<Issue>,
}

/// Why a body is not a submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubmissionError {
    /// The body is not JSON, for this reason (400).
    NotJson(String),
    /// The body is JSON, but not an object (400).
    NotAnObject,
    /// The issues outside of the plan (422).
    Issues(Vec<Issue>),
}

impl Submission {
    /// Reads a body; see [`read`](Self::read). Ignores a byte order mark before it.
    ///
    /// # Errors
    /// If the body is not JSON, and as [`read`](Self::read).
    pub fn parse(body: &[u8]) -> Result<Self, SubmissionError> {
        let body = without_bom(body);
        let document = serde_json::from_slice(body).map_err(|error| match Self::lost(body) {
            Some(issue) => SubmissionError::Issues(vec![issue]),
            None => SubmissionError::NotJson(error.to_string()),
        })?;
        Self::of(document, body)
    }

    /// Reads the `document` that `body` contains; see [`read`](Self::read). Numbers are checked as they were written.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn of(document: Value, body: &[u8]) -> Result<Self, SubmissionError> {
        let is_wrapped = document.get("plan").is_some();
        let wide = lost_numbers(body, ISSUES_MAX);
        let mut submission = Self::read(document)?;
        submission.issues = wide.into_iter().map(|wide| submission.issue(wide, is_wrapped)).collect();
        Ok(submission)
    }

    /// The issue of a body that would be JSON but for a number beyond all doubles, which no parser accepts.
    pub fn lost(body: &[u8]) -> Option<Issue> {
        let lost = lost_number(body)?;
        let is_wrapped = lost.path.starts_with("plan.");
        Some(Self::default().issue(lost, is_wrapped))
    }

    fn issue(&self, wide: LostNumber, is_wrapped: bool) -> Issue {
        let message = wide.message();
        let path = match wide.path.strip_prefix("plan.").filter(|_| is_wrapped) {
            Some(path) => path.to_owned(),
            None => wide.path,
        };
        let step = path.strip_prefix("steps[").and_then(|rest| rest.split(']').next()?.parse::<usize>().ok());
        let id = step.and_then(|step| self.plan.get("steps")?.get(step)?.get("id")?.as_str());
        Issue { step_id: id.and_then(|id| StepId::parse(id).ok()), path, message }
    }

    /// Reads a body. With the key `plan` it is the wrapped form; any other object is the plan itself.
    ///
    /// # Errors
    /// If the body is not an object, or `inputs`, `runId` or `projectId` of the wrapped form is invalid.
    pub fn read(body: Value) -> Result<Self, SubmissionError> {
        let Value::Object(mut object) = body else { return Err(SubmissionError::NotAnObject) };
        let Some(plan) = object.remove("plan") else {
            return Ok(Self { plan: Value::Object(object), ..Self::default() });
        };
        let mut issues = Issues::new();
        let mut fields = Fields::new(&object, Location::default(), &mut issues);
        let run_id = id(&mut fields, "runId");
        // Only checked here: the caller has read it before.
        id::<ProjectId>(&mut fields, "projectId");
        let inputs = fields.object("inputs").cloned().unwrap_or_default();
        if issues.is_empty() {
            Ok(Self { plan, inputs, run_id, issues: Vec::new() })
        } else {
            Err(SubmissionError::Issues(issues.into_vec()))
        }
    }
}

fn id<T: FromStr<Err: Display>>(fields: &mut Fields<'_, '_>, field: &str) -> Option<T> {
    let text = fields.text(field, usize::MAX)?;
    match text.parse() {
        Ok(id) => Some(id),
        Err(error) => {
            fields.report(field, format_args!("{error}"));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_that_would_be_rounded_are_named_with_their_place() {
        let wide = "12345678901234567890123";
        let plan =
            format!(r#"{{"steps": [{{}}, {{"id": "b", "inputs": {{"n": [{wide}]}}}}], "metadata": {{"m": -{wide}}}}}"#);
        let said = |body: &str| {
            let issues = Submission::parse(body.as_bytes()).expect("an object").issues;
            issues.iter().map(|i| (i.path.clone(), i.step_id.as_ref().map(ToString::to_string))).collect::<Vec<_>>()
        };
        let in_plan = [("steps[1].inputs.n[0]".to_owned(), Some("b".to_owned())), ("metadata.m".to_owned(), None)];
        assert_eq!(said(&plan), in_plan);
        let wrapped = format!(r#"{{"plan": {plan}, "inputs": {{"plan.x": {wide}}}}}"#);
        assert_eq!(said(&wrapped), [&in_plan[..], &[("inputs.plan.x".to_owned(), None)]].concat());
        assert_eq!(said("{\"steps\": [18446744073709551615, 1.5e300]}"), []);
    }

    #[test]
    fn a_number_beyond_all_doubles_had_no_place() {
        let said = |body: &str| match Submission::parse(body.as_bytes()) {
            Err(SubmissionError::Issues(issues)) => issues[0].to_string(),
            other => panic!("{other:?}"),
        };
        let plan = r#"{"steps": [{"id": "b", "inputs": {"n": [1e400]}}]}"#;
        assert!(said(plan).starts_with("steps[0].inputs.n[0]: 1e400 is beyond"), "{}", said(plan));
        let wrapped = format!(r#"{{"plan": {plan}, "inputs": {{}}}}"#);
        assert_eq!(said(&wrapped), said(plan));
    }

    #[test]
    fn a_byte_order_mark_before_a_plan_made_it_no_json() {
        let submission = Submission::parse("\u{feff}{\"name\": \"p\"}".as_bytes()).expect("an object");
        assert_eq!(submission.plan["name"], "p");
        assert_eq!(Submission::parse(b"[]"), Err(SubmissionError::NotAnObject));
        assert!(matches!(Submission::parse(b"{"), Err(SubmissionError::NotJson(_))));
    }
}
