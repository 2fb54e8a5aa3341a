//! The body of `POST .../chat`: what `DefaultChatTransport` of the AI SDK posts.
//!
//! The run of a chat's first message has the chat's id, so that `useChat({id: run, resume: true})` finds it, and a page that
//! was loaded anew too. A later message of the chat begins a run of its own, `CHAT.MESSAGE`: posted again, or asked to be
//! answered anew, it is the same run. `runId` in the body names another.

use serde_json::value::RawValue;

use super::turn::{Members, Message, Turn, issue, refusal, run_id, submission};
use crate::formats::Format;
use crate::http::Problem;
use crate::model::{Issue, RunId};

/// Reads a body. The plan of a run that is not known is `plan`, with `inputs`, of the body (`sendMessage({text}, {body:
/// {plan, inputs}})`), or else of the last message's metadata.
///
/// # Errors
/// 400 where it is no JSON, 422 where it is none of this transport's.
pub fn read_chat(body: &[u8]) -> Result<Turn, Problem> {
    let mut issues = Vec::new();
    let members = Members::of_body(body)?;
    let messages = members.messages("messages", &mut issues);
    let run = wanted_run(&members, &messages, &mut issues);
    if !issues.is_empty() {
        return Err(refusal(issues));
    }
    let last = messages.iter().rev().find(|message| message.is_from_user());
    let metadata = Members::of_member(last.and_then(|message| message.metadata));
    let said = if members.get("plan").is_some() { &members } else { &metadata };
    let submission = said.get("plan").map(|plan: &RawValue| submission(run.as_ref(), plan, said.get("inputs"), last));
    Ok(Turn { run, format: Format::AiSdk, thread: None, messages: None, submission, plan_path: "plan" })
}

fn wanted_run(members: &Members<'_>, messages: &[Message<'_>], issues: &mut Vec<Issue>) -> Option<RunId> {
    if let Some(id) = members.text("runId", issues) {
        return run_id(&id, "runId", issues);
    }
    if members.get("id").is_none() {
        issues.push(issue("id", "expected the chat's id".to_owned()));
    }
    let chat = members.text("id", issues)?;
    let mut said = messages.iter().filter(|message| message.is_from_user());
    match (said.next(), said.next_back()) {
        (Some(_), Some(last)) => {
            run_id(&format!("{chat}.{}", last.id.as_deref().unwrap_or_default()), "messages", issues)
        }
        _ => run_id(&chat, "id", issues),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<(Option<String>, Option<String>), Vec<String>> {
        let read = read_chat(body.as_bytes());
        let turn = read.map_err(|problem| {
            problem.issues.unwrap_or_default().into_iter().map(|issue| issue.path).collect::<Vec<_>>()
        })?;
        let submission = turn.submission.map(|body| String::from_utf8(body).expect("text"));
        Ok((turn.run.map(|run| run.to_string()), submission))
    }

    #[test]
    fn each_message_of_a_chat_has_a_run() {
        let message = |id: &str, text: &str| {
            format!(
                r#"{{"id":"{id}","role":"user","parts":[{{"type":"step-start"}},{{"type":"text","text":"{text}"}}]}}"#
            )
        };
        let chat = |messages: &[String], more: &str| {
            let messages = messages.join(",");
            format!(r#"{{"id":"c","messages":[{messages}],"trigger":"submit-message"{more}}}"#)
        };
        let answer = r#"{"id":"c","role":"assistant","parts":[]}"#.to_owned();
        let plan = r#","plan":{"name":"p"}"#;
        let one = [message("m1", "hello")];
        let two = [message("m1", "hello"), answer, message("m2", "again")];
        let table = [
            (chat(&one, ""), "c", None),
            (chat(&one, plan), "c", Some(r#"{"plan":{"name":"p"},"inputs":{"message":"hello"},"runId":"c"}"#)),
            (chat(&two, plan), "c.m2", Some(r#"{"plan":{"name":"p"},"inputs":{"message":"again"},"runId":"c.m2"}"#)),
            (chat(&two, r#","runId":"other""#), "other", None),
            (chat(&[], r#","plan":{},"inputs":{"x":2.0}"#), "c", Some(r#"{"plan":{},"inputs":{"x":2.0},"runId":"c"}"#)),
        ];
        for (body, run, submission) in table {
            assert_eq!(read(&body), Ok((Some(run.to_owned()), submission.map(str::to_owned))), "{body}");
        }
    }

    #[test]
    fn a_plan_may_be_the_last_messages_metadata() {
        let body = r#"{"id":"c","messages":[{"id":"m","role":"user","parts":[],"metadata":{"plan":{"name":"p"},"inputs":{"x":1}}}]}"#;
        let submission = r#"{"plan":{"name":"p"},"inputs":{"x":1},"runId":"c"}"#;
        assert_eq!(read(body), Ok((Some("c".to_owned()), Some(submission.to_owned()))));
    }

    #[test]
    fn what_is_no_chat_is_refused_with_its_places() {
        for (body, paths) in [
            ("[]", &[][..]),
            ("{}", &["id"][..]),
            (r#"{"id": "a b", "messages": 7}"#, &["messages", "id"]),
            (r#"{"id": 7}"#, &["id"]),
            (r#"{"id": "c", "messages": [{"role": "user"}, {"role": "user", "id": "ä"}]}"#, &["messages"]),
        ] {
            let found = read(body).expect_err(body);
            assert_eq!(found, paths.iter().map(|&path| path.to_owned()).collect::<Vec<_>>(), "{body}");
        }
    }
}
