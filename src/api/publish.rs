//! Reads the body of `POST .../events`: one event or an array of events, which is published completely or not at all.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::one_line::{BadPayload, NESTING_MAX, one_line_object};
use crate::http::Problem;
use crate::log::PublishedEvent;
use crate::model::json::without_bom;
use crate::model::{MESSAGE_TYPE_MAX, is_reserved_type, is_valid_type};

/// Events that one call may publish.
pub const EVENTS_MAX: usize = 1000;

#[derive(Deserialize)]
struct Draft<'a> {
    #[serde(borrow, rename = "type")]
    message_type: Option<Cow<'a, str>>,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
}

/// Reads `body`. `may_use_reserved` lets the server's own types pass.
///
/// # Errors
/// 400 where it is no JSON, 422 where an event is bad, 403 where its type is reserved.
pub fn read_events(body: &[u8], may_use_reserved: bool) -> Result<Vec<PublishedEvent>, Problem> {
    let body = without_bom(body);
    let is_array = body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
    if !is_array {
        return Ok(vec![finish(super::read_json_object(body)?, "", may_use_reserved)?]);
    }
    let drafts: Vec<&RawValue> = super::read_json(body)?;
    if drafts.len() > EVENTS_MAX {
        return Err(bad_event(format!("too many events: {} (limit {EVENTS_MAX}, not configurable)", drafts.len())));
    }
    let finish = |(index, draft): (usize, &RawValue)| {
        let draft = super::read_json_object(draft.get().as_bytes())?;
        finish(draft, &format!("[{index}]."), may_use_reserved)
    };
    drafts.into_iter().enumerate().map(finish).collect()
}

fn finish(draft: Draft, at: &str, may_use_reserved: bool) -> Result<PublishedEvent, Problem> {
    let message_type = draft
        .message_type
        .filter(|text| is_valid_type(text))
        .ok_or_else(|| bad_event(format!("{at}type: expected 1 to {MESSAGE_TYPE_MAX} characters of a-z 0-9 _ . -")))?;
    if is_reserved_type(&message_type) && !may_use_reserved {
        let detail =
            format!("{at}type: {message_type} is reserved for the server; publishing it requires the scope admin");
        return Err(Problem::forbidden("reserved_type", detail));
    }
    let payload = draft.payload.map_or("", RawValue::get);
    let payload = one_line_object(payload).map_err(|bad| match bad {
        BadPayload::NotAnObject => bad_event(format!("{at}payload: expected a JSON object")),
        BadPayload::TooDeep => {
            bad_event(format!("{at}payload: must not be nested more than {NESTING_MAX} levels deep"))
        }
    })?;
    Ok(PublishedEvent { message_type: message_type.into_owned(), payload })
}

fn bad_event(detail: String) -> Problem {
    Problem::new(422, "invalid_event", detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(body: &str) -> Result<Vec<(String, String)>, (u16, &'static str)> {
        let pair = |event: PublishedEvent| (event.message_type, String::from_utf8_lossy(&event.payload).into_owned());
        let events = read_events(body.as_bytes(), false).map_err(|problem| (problem.status, problem.code))?;
        Ok(events.into_iter().map(pair).collect())
    }

    #[test]
    fn a_body_is_one_event_or_an_array_and_anything_else_is_refused() {
        let event = |kind: &str, payload: &str| (kind.to_owned(), payload.to_owned());
        for (body, expected) in [
            (r#"{"type":"a","payload":{"x":1}}"#, Ok(vec![event("a", "{\"x\":1}")])),
            (
                "\n[{\"type\":\"a\",\"payload\":{\n}},{\"type\":\"b.c\",\"payload\":{},\"more\":1}]",
                Ok(vec![event("a", "{}"), event("b.c", "{}")]),
            ),
            ("[]", Ok(vec![])),
            ("\u{feff}[]", Ok(vec![])),
            ("\u{feff}{\"type\":\"a\",\"payload\":{}}", Ok(vec![event("a", "{}")])),
            ("{", Err((400, "invalid_json"))),
            ("", Err((400, "invalid_json"))),
            ("{} {}", Err((400, "invalid_json"))),
            (r#"{"type":"a"}"#, Err((422, "invalid_event"))),
            (r#"{"type":"A","payload":{}}"#, Err((422, "invalid_event"))),
            (r#"{"type":1,"payload":{}}"#, Err((422, "invalid_body"))),
            (r#"{"type":"a","payload":[]}"#, Err((422, "invalid_event"))),
            (r#"{"payload":{}}"#, Err((422, "invalid_event"))),
            ("\"text\"", Err((422, "invalid_body"))),
            (r#"[["a",{}]]"#, Err((422, "invalid_body"))),
            (r#"{"type":"workflow_completed","payload":{}}"#, Err((403, "reserved_type"))),
            (r#"[{"type":"a","payload":{}},{"type":"stream_x","payload":{}}]"#, Err((403, "reserved_type"))),
        ] {
            assert_eq!(verdict(body), expected, "{body}");
        }
        assert!(read_events(br#"{"type":"workflow_x","payload":{}}"#, true).is_ok(), "an admin may");
        let many = format!("[{}]", vec![r#"{"type":"a","payload":{}}"#; EVENTS_MAX + 1].join(","));
        assert_eq!(verdict(&many), Err((422, "invalid_event")));
    }
}
