//! `stepcast decide`: approves or rejects a step that waits for a decision.

use std::process::ExitCode;

use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::error::CommandError;
use super::follow::{ServerUrl, post, refusal};
use super::output;
use super::watch::token_or_environment;
use crate::config::Secret;
use crate::model::{Choice, ProjectId, RunId, StepId};

/// What is decided.
#[derive(Debug, Clone)]
pub struct DecideRequest {
    /// The run's project.
    pub project: ProjectId,
    /// The run.
    pub run: RunId,
    /// The step.
    pub step: StepId,
    /// The decision.
    pub choice: Choice,
    /// The data for the decision, as it was written.
    pub payload: Option<Box<RawValue>>,
    /// The server that has the run.
    pub server: ServerUrl,
    /// The access token; if there is none, the environment may have one.
    pub token: Option<Secret>,
}

impl PartialEq for DecideRequest {
    fn eq(&self, other: &Self) -> bool {
        let payload = |of: &Self| of.payload.as_ref().map(|payload| payload.get().to_owned());
        (&self.project, &self.run, &self.step, self.choice) == (&other.project, &other.run, &other.step, other.choice)
            && (&self.server, &self.token) == (&other.server, &other.token)
            && payload(self) == payload(other)
    }
}

pub(super) fn decide(request: DecideRequest) -> Result<ExitCode, CommandError> {
    let DecideRequest { project, run, step, choice, payload, server, token } = request;
    let token = token_or_environment(token)?;
    let payload = payload.map_or_else(String::new, |payload| format!(",\"payload\":{payload}"));
    let body = format!("{{\"decision\":\"{}\"{payload}}}", choice.as_str());
    let path = format!("/api/projects/{project}/workflows/{run}/steps/{step}/decision");
    let answered = post(&server, &path, token.as_ref(), &body);
    let (status, text) =
        answered.map_err(|error| CommandError::io(&format!("send the request to {server}"), &error))?;
    if status != 200 {
        return Err(CommandError::new(format!("cannot decide step {step}: {}", refusal(&server, status, &text))));
    }
    let decided: Value = serde_json::from_slice(&text).unwrap_or_else(|_| json!({}));
    let by = decided["by"].as_str().unwrap_or("you");
    output::say(format!("{step}: {}, by {by}", word(choice)))?;
    Ok(ExitCode::SUCCESS)
}

fn word(choice: Choice) -> &'static str {
    match choice {
        Choice::Approve => "approved",
        Choice::Reject => "rejected",
    }
}
