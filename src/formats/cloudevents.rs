//! A run's messages as CloudEvents 1.0 in JSON.
//!
//! If the Serverless Workflow specification defines a lifecycle event for a message, the event has its type; other
//! messages have types of this program. The data is the unchanged payload of the message.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::model::{ItemCounts, Notable, ProjectId, RunId, Timestamp};

/// The media type of one event with its attributes in the body.
pub const MEDIA_TYPE: &str = "application/cloudevents+json";

/// The media type of a list of events.
pub const BATCH_MEDIA_TYPE: &str = "application/cloudevents-batch+json";

/// What the types of the specification's events begin with.
const STANDARD: &str = "io.serverlessworkflow.";

/// What the types of all others begin with.
const OWN: &str = "dev.stepcast.";

const JSON: &str = "application/json";

/// An event, as the JSON format has it. The order of its members is that in which they are written.
#[derive(Serialize)]
struct Event<'a, D: Serialize + ?Sized> {
    specversion: &'static str,
    id: &'a str,
    source: String,
    #[serde(rename = "type")]
    event_type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    time: &'a str,
    datacontenttype: &'static str,
    sequence: String,
    data: &'a D,
}

/// A message as it is kept.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Message<'a> {
    #[serde(rename = "type")]
    message_type: &'a str,
    project_id: &'a str,
    seq: u64,
    #[serde(borrow)]
    payload: &'a RawValue,
}

/// What of a payload an event's attributes are made of. Ids, times and words need no escapes.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Said<'a> {
    run_id: &'a str,
    timestamp: &'a str,
    step_id: Option<&'a str>,
    status: Option<&'a str>,
    attempt: Option<u32>,
    items: Option<ItemCounts>,
    reason: Option<std::borrow::Cow<'a, str>>,
}

/// An event that has only what happened to which run, and when.
#[derive(Debug)]
pub struct Thin<'a> {
    /// The run's project.
    pub project: &'a ProjectId,
    /// The run.
    pub run: &'a RunId,
    /// What happened.
    pub notable: Notable,
    /// When.
    pub at: Timestamp,
    /// The `seq` of the message that said it.
    pub seq: u64,
}

/// Appends the event that a run's message is. `id` is the message's, and needs no escapes; `json` is the message as it is
/// kept.
///
/// # Errors
/// If `json` is no message of a run.
pub fn write_event(to: &mut Vec<u8>, id: &str, json: &[u8]) -> Result<(), serde_json::Error> {
    let message: Message<'_> = serde_json::from_slice(json)?;
    let said: Said<'_> = serde_json::from_str(message.payload.get())?;
    let event = Event {
        specversion: "1.0",
        id,
        source: source(message.project_id, said.run_id),
        event_type: event_type(message.message_type, &said),
        subject: said.step_id,
        time: said.timestamp,
        datacontenttype: JSON,
        sequence: sequence(message.seq),
        data: message.payload,
    };
    serde_json::to_writer(to, &event)
}

/// Appends the event of a message that is not at hand, or is too large to be sent: its data has `thin: true`.
///
/// # Errors
/// None that a value in memory has.
pub fn write_thin(to: &mut Vec<u8>, id: &str, thin: &Thin<'_>) -> Result<(), serde_json::Error> {
    let time = thin.at.to_string();
    let data = serde_json::json!({"runId": thin.run, "timestamp": time, "thin": true});
    let event = Event {
        specversion: "1.0",
        id,
        source: source(thin.project.as_str(), thin.run.as_str()),
        event_type: end_type(thin.notable).to_owned(),
        subject: None,
        time: &time,
        datacontenttype: JSON,
        sequence: sequence(thin.seq),
        data: &data,
    };
    serde_json::to_writer(to, &event)
}

/// Appends an event that says nothing but that it could be sent.
///
/// # Errors
/// None that a value in memory has.
pub fn write_ping(to: &mut Vec<u8>, id: &str, webhook: &str, at: Timestamp) -> Result<(), serde_json::Error> {
    let time = at.to_string();
    let event = Event {
        specversion: "1.0",
        id,
        source: format!("/webhooks/{webhook}"),
        event_type: format!("{OWN}ping.v1"),
        subject: None,
        time: &time,
        datacontenttype: JSON,
        sequence: sequence(0),
        data: &serde_json::json!({"webhook": webhook, "timestamp": time}),
    };
    serde_json::to_writer(to, &event)
}

/// The type of the event that tells this.
pub fn end_type(notable: Notable) -> &'static str {
    match notable {
        Notable::RunCompleted => "io.serverlessworkflow.workflow.completed.v1",
        Notable::RunFailed => "io.serverlessworkflow.workflow.faulted.v1",
        Notable::StepWaiting => "dev.stepcast.task.waiting.v1",
        Notable::RunCancelled => "io.serverlessworkflow.workflow.cancelled.v1",
    }
}

fn source(project: &str, run: &str) -> String {
    format!("/projects/{project}/runs/{run}")
}

/// As many digits as the largest has: the order of the texts is that of the numbers.
fn sequence(seq: u64) -> String {
    format!("{seq:020}")
}

fn event_type(message_type: &str, said: &Said<'_>) -> String {
    let cancelled = said.reason.as_deref() == Some("cancelled");
    let (of, name) = match message_type {
        "workflow_started" => (STANDARD, "workflow.started"),
        "workflow_completed" => (STANDARD, "workflow.completed"),
        "workflow_failed" if cancelled => (STANDARD, "workflow.cancelled"),
        "workflow_failed" => (STANDARD, "workflow.faulted"),
        "workflow_level_started" => (OWN, "workflow.level-started"),
        "workflow_level_completed" => (OWN, "workflow.level-completed"),
        "workflow_plan_changed" => (OWN, "workflow.plan-changed"),
        "workflow_step_output" => (OWN, "task.output"),
        "workflow_progress" => task_type(said),
        other => (OWN, other),
    };
    format!("{of}{name}.v1")
}

/// The event type of a step's move. The specification has `retried` for an attempt that begins again, but no event for
/// one that failed and will be retried.
fn task_type(said: &Said<'_>) -> (&'static str, &'static str) {
    match said.status.unwrap_or_default() {
        "running" if said.items.is_some_and(|items| items.have_begun()) => (OWN, "task.progress"),
        "running" if said.attempt.unwrap_or_default() > 1 => (STANDARD, "task.retried"),
        "running" => (STANDARD, "task.started"),
        "completed" => (STANDARD, "task.completed"),
        "failed" => (STANDARD, "task.faulted"),
        "cancelled" => (STANDARD, "task.cancelled"),
        "retrying" => (OWN, "task.retrying"),
        "waiting" => (OWN, "task.waiting"),
        "skipped" => (OWN, "task.skipped"),
        _ => (OWN, "task.progress"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn event(message_type: &str, payload: &str) -> Value {
        let common = r#""runId":"run_1","timestamp":"2026-01-02T03:04:05.678Z""#;
        let line = format!(r#"{{"type":"{message_type}","projectId":"a:b","seq":42,"payload":{{{common}{payload}}}}}"#);
        let mut text = Vec::new();
        write_event(&mut text, "id.42.x", line.as_bytes()).unwrap_or_else(|error| panic!("{line}: {error}"));
        serde_json::from_slice(&text).expect("JSON")
    }

    #[test]
    fn a_message_is_an_event_with_its_payload_as_data() {
        let payload = r#","stepId":"s","status":"completed","attempt":1,"output":{"n":1e400,"text":"\u2028"}"#;
        let line = format!(
            r#"{{"type":"workflow_progress","projectId":"p","seq":7,"payload":{{"runId":"r","timestamp":"t"{payload}}}}}"#
        );
        let mut text = Vec::new();
        write_event(&mut text, "i", line.as_bytes()).expect("a message");
        let expected = format!(
            concat!(
                r#"{{"specversion":"1.0","id":"i","source":"/projects/p/runs/r","#,
                r#""type":"io.serverlessworkflow.task.completed.v1","subject":"s","time":"t","#,
                r#""datacontenttype":"application/json","sequence":"00000000000000000007","#,
                r#""data":{{"runId":"r","timestamp":"t"{}}}}}"#
            ),
            payload
        );
        assert_eq!(String::from_utf8(text).expect("UTF-8"), expected, "the payload is the same to the byte");
    }

    #[test]
    fn each_message_has_the_type_of_what_it_says() {
        for (message_type, payload, expected) in [
            ("workflow_started", "", "io.serverlessworkflow.workflow.started.v1"),
            ("workflow_completed", "", "io.serverlessworkflow.workflow.completed.v1"),
            ("workflow_failed", r#","reason":"step_failed""#, "io.serverlessworkflow.workflow.faulted.v1"),
            ("workflow_failed", r#","reason":"timeout""#, "io.serverlessworkflow.workflow.faulted.v1"),
            ("workflow_failed", r#","reason":"cancelled""#, "io.serverlessworkflow.workflow.cancelled.v1"),
            ("workflow_level_started", "", "dev.stepcast.workflow.level-started.v1"),
            ("workflow_level_completed", "", "dev.stepcast.workflow.level-completed.v1"),
            ("workflow_plan_changed", "", "dev.stepcast.workflow.plan-changed.v1"),
            ("workflow_step_output", r#","stepId":"s","attempt":1"#, "dev.stepcast.task.output.v1"),
            ("note.x", "", "dev.stepcast.note.x.v1"),
        ] {
            assert_eq!(event(message_type, payload)["type"], expected, "{message_type}{payload}");
        }
    }

    #[test]
    fn each_move_of_a_step_has_the_type_of_where_to() {
        for (status, attempt, expected) in [
            ("running", 1, "io.serverlessworkflow.task.started.v1"),
            ("running", 2, "io.serverlessworkflow.task.retried.v1"),
            ("retrying", 1, "dev.stepcast.task.retrying.v1"),
            ("waiting", 1, "dev.stepcast.task.waiting.v1"),
            ("completed", 2, "io.serverlessworkflow.task.completed.v1"),
            ("failed", 1, "io.serverlessworkflow.task.faulted.v1"),
            ("cancelled", 1, "io.serverlessworkflow.task.cancelled.v1"),
            ("skipped", 0, "dev.stepcast.task.skipped.v1"),
        ] {
            let reason = r#""reason":"a \"quoted\" one""#;
            let payload = format!(r#","stepId":"s","status":"{status}","attempt":{attempt},{reason}"#);
            let event = event("workflow_progress", &payload);
            assert_eq!((&event["type"], &event["subject"]), (&json!(expected), &json!("s")));
        }
    }

    #[test]
    fn a_step_starts_once_however_often_its_items_move_on() {
        for (done, expected) in [(0, "io.serverlessworkflow.task.started.v1"), (3, "dev.stepcast.task.progress.v1")] {
            let items = format!(r#""items":{{"done":{done},"failed":0,"running":0,"total":5}}"#);
            let payload = format!(r#","stepId":"s","status":"running","attempt":1,{items}"#);
            assert_eq!(event("workflow_progress", &payload)["type"], expected);
        }
    }

    #[test]
    fn the_thin_event_differs_from_the_whole_one_in_its_data_alone() {
        let thin = Thin {
            project: &ProjectId::parse("a:b").expect("an id"),
            run: &RunId::parse("run_1").expect("an id"),
            notable: Notable::RunCancelled,
            at: Timestamp::from_millis(1_767_323_045_678),
            seq: 42,
        };
        let mut text = Vec::new();
        write_thin(&mut text, "id.42.x", &thin).expect("it is written");
        let mut written: Value = serde_json::from_slice(&text).expect("JSON");
        let mut whole = event("workflow_failed", r#","reason":"cancelled","planName":"p""#);
        assert_eq!(written["data"], json!({"runId": "run_1", "timestamp": "2026-01-02T03:04:05.678Z", "thin": true}));
        written["data"].take();
        whole["data"].take();
        assert_eq!(written, whole);
    }

    #[test]
    fn what_is_no_message_of_a_run_is_an_error() {
        for json in ["", "{}", "[]", r#"{"type":"x","projectId":"p","seq":1,"payload":{"text":"no run"}}"#] {
            assert!(write_event(&mut Vec::new(), "i", json.as_bytes()).is_err(), "{json}");
        }
    }
}
