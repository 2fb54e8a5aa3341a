//! The request of an agent frontend to follow a run, which may have to be started first. Shared by AG-UI and the AI
//! SDK, whose bodies differ.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::answers::StepAnswer;
use super::read_json_object;
use crate::formats::{Format, Had, Names};
use crate::http::Problem;
use crate::model::{Issue, PlanName, RunId};

/// The longest name of a thread, in bytes.
const THREAD_BYTES_MAX: usize = 256;

/// The input that a plan gets the text of the last message as, where its call names none of that name.
const MESSAGE_INPUT: &str = "message";

/// What a frontend wants.
#[derive(Debug)]
pub struct Turn {
    /// The run that it wants to be told of. Where it is known, that is all it wants.
    pub run: Option<RunId>,
    /// How it is told.
    pub format: Format,
    /// What it calls the thread and the run.
    pub names: Names,
    /// The messages that it has, a JSON array.
    pub messages: Option<Box<RawValue>>,
    /// What it has of the run's message, where it goes on with that.
    pub had: Option<Had>,
    /// What it answers to the run's steps that wait, first of all.
    pub answers: Vec<StepAnswer>,
    /// Where the run is not known: what it is begun by.
    pub beginning: Option<Beginning>,
    /// Where a plan would have been.
    pub(super) plan_path: &'static str,
}

/// What a run is begun by.
#[derive(Debug, PartialEq, Eq)]
pub enum Beginning {
    /// A plan that comes along: the body of the call that submits it.
    Plan(Vec<u8>),
    /// A stored plan: its name, and the body of the call that names it.
    Stored(PlanName, Vec<u8>),
}

impl Turn {
    /// The refusal where the run is not known and there is no plan to begin it by.
    pub fn without_plan(&self) -> Problem {
        let message = match &self.run {
            Some(run) => format!("run {run} not found in this project, and the request has no plan to start it with"),
            None => "expected a plan".to_owned(),
        };
        refusal(vec![issue(self.plan_path, message)])
    }
}

/// The members of a body, as they were written. Of a name that stands twice the last counts.
pub(super) struct Members<'a>(BTreeMap<Cow<'a, str>, &'a RawValue>);

impl<'a> Members<'a> {
    /// Of a body.
    ///
    /// # Errors
    /// 400 where it is no JSON, 422 where it is no object.
    pub(super) fn of_body(body: &'a [u8]) -> Result<Self, Problem> {
        read_json_object(body).map(Self)
    }

    /// Of a member that is an object; of nothing where it is another value.
    pub(super) fn of_member(member: Option<&'a RawValue>) -> Self {
        Self(member.and_then(|member| serde_json::from_str(member.get()).ok()).unwrap_or_default())
    }

    /// What is there and not null.
    pub(super) fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.get(name).copied().filter(|value| value.get() != "null")
    }

    fn read<T: Deserialize<'a>>(&self, name: &str, expected: &str, issues: &mut Vec<Issue>) -> Option<T> {
        let read = serde_json::from_str(self.get(name)?.get());
        read.map_err(|_| issues.push(issue(name, expected.to_owned()))).ok()
    }

    /// A text.
    pub(super) fn text(&self, name: &str, issues: &mut Vec<Issue>) -> Option<String> {
        self.read(name, "expected a string", issues)
    }

    /// A text that may name a thread.
    pub(super) fn thread(&self, name: &str, issues: &mut Vec<Issue>) -> Option<String> {
        let text = self.text(name, issues)?;
        if text.len() > THREAD_BYTES_MAX {
            issues.push(issue(name, format!("expected at most {THREAD_BYTES_MAX} bytes")));
        }
        Some(text)
    }

    /// An array of messages.
    pub(super) fn messages(&self, name: &str, issues: &mut Vec<Issue>) -> Vec<Message<'a>> {
        self.read(name, "expected an array of messages, each an object", issues).unwrap_or_default()
    }
}

/// What counts of a message.
#[derive(Deserialize)]
pub(super) struct Message<'a> {
    pub(super) id: Option<Cow<'a, str>>,
    pub(super) role: Option<Cow<'a, str>>,
    content: Option<Value>,
    pub(super) parts: Option<Value>,
    #[serde(borrow)]
    pub(super) metadata: Option<&'a RawValue>,
}

impl Message<'_> {
    pub(super) fn is_from_user(&self) -> bool {
        self.role.as_deref() == Some("user")
    }

    /// What it says: its text, or that of its parts.
    fn text(&self) -> String {
        let content = self.content.as_ref().or(self.parts.as_ref());
        match content {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Array(parts)) => parts.iter().filter_map(|part| part.get("text")?.as_str()).collect(),
            _ => String::new(),
        }
    }
}

/// An id, as the run's must be.
pub(super) fn run_id(text: &str, path: &str, issues: &mut Vec<Issue>) -> Option<RunId> {
    RunId::parse(text).map_err(|error| issues.push(issue(path, error.to_string()))).ok()
}

/// What the run is begun by: a plan or the name of a stored one, inputs as they were written, and the text of the last
/// message as one more. They are members of `said`, which is found at `path`.
pub(super) fn beginning(
    run: Option<&RunId>,
    said: &Members<'_>,
    path: &str,
    last: Option<&Message<'_>>,
    issues: &mut Vec<Issue>,
) -> Option<Beginning> {
    let call = |what: &str| {
        let inputs = inputs(said.get("inputs"), last);
        let run = run.map(|run| format!(",\"runId\":{}", json!(run))).unwrap_or_default();
        format!("{{{what},\"inputs\":{inputs}{run}}}").into_bytes()
    };
    match (said.get("plan"), said.get("template")) {
        (Some(_), Some(_)) => {
            issues.push(issue(&format!("{path}template"), "expected a plan or the name of a stored plan".to_owned()));
            None
        }
        (Some(plan), None) => Some(Beginning::Plan(call(&format!("\"plan\":{plan}")))),
        (None, Some(name)) => {
            let parsed = serde_json::from_str::<PlanName>(name.get());
            let refused = |error| issues.push(issue(&format!("{path}template"), format!("not a plan name: {error}")));
            let name = parsed.map_err(refused).ok()?;
            let body = call(&format!("\"stored\":{}", json!(name)));
            Some(Beginning::Stored(name, body))
        }
        (None, None) => None,
    }
}

fn inputs(said: Option<&RawValue>, last: Option<&Message<'_>>) -> String {
    let inputs = said.map_or("{}", RawValue::get);
    match (last.map(Message::text).filter(|text| !text.is_empty()), inputs.strip_prefix('{').map(str::trim_start)) {
        // What the call names comes last, and counts.
        (Some(text), Some("}")) => json!({ MESSAGE_INPUT: text }).to_string(),
        (Some(text), Some(others)) => format!("{{\"{MESSAGE_INPUT}\":{},{others}", json!(text)),
        _ => inputs.to_owned(),
    }
}

pub(super) fn issue(path: &str, message: String) -> Issue {
    Issue { path: path.to_owned(), message, step_id: None }
}

/// The refusal of a body for these reasons.
pub(super) fn refusal(issues: Vec<Issue>) -> Problem {
    Problem { code: "invalid_body", ..Problem::invalid_plan(issues) }
}
