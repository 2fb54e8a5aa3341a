//! The body of a call that submits a plan: the plan itself, or the plan wrapped together with what belongs to this run.

use std::fmt::Display;
use std::str::FromStr;

use serde_json::{Map, Value};

use super::fields::{Fields, Place};
use super::{Issue, Issues};
use crate::model::{ProjectId, RunId};

/// A plan as submitted, not yet read.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Submission {
    /// The plan's document.
    pub plan: Value,
    /// Inputs of the call; they win over the plan's.
    pub inputs: Map<String, Value>,
    /// The id that the client wants the run to have.
    pub run_id: Option<RunId>,
    /// The project, where the wrapping names it.
    pub project_id: Option<ProjectId>,
}

/// Why a body is no submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubmissionError {
    /// The body is JSON, but no object (400).
    NotAnObject,
    /// What is wrong beside the plan (422).
    Issues(Vec<Issue>),
}

impl Submission {
    /// Takes a body apart. One with the key `plan` is the wrapped form; any other object is the plan itself.
    ///
    /// # Errors
    /// Where the body is no object, or `inputs`, `runId` or `projectId` of the wrapping are not what they must be.
    pub fn read(body: Value) -> Result<Self, SubmissionError> {
        let Value::Object(mut object) = body else { return Err(SubmissionError::NotAnObject) };
        let Some(plan) = object.remove("plan") else {
            return Ok(Self { plan: Value::Object(object), ..Self::default() });
        };
        let mut issues = Issues::new();
        let mut fields = Fields { object: &object, place: Place::default(), issues: &mut issues };
        let run_id = id(&mut fields, "runId");
        let project_id = id(&mut fields, "projectId");
        let inputs = fields.object("inputs").cloned().unwrap_or_default();
        if issues.is_empty() {
            Ok(Self { plan, inputs, run_id, project_id })
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
