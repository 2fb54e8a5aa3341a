//! Reads the body of `POST .../chat`, as `DefaultChatTransport` of the AI SDK posts it.
//!
//! The run of a chat's first message has the chat's id, so that `useChat({id: run, resume: true})` finds it, also after
//! the page was reloaded. Each later message starts its own run, `CHAT.MESSAGE`; posting or regenerating it again
//! refers to the same run. `runId` in the body sets a different id.
//!
//! If the last message is the assistant's, the client continues it with the parts that it already has. If it contains
//! answers to approval requests, these are handled first.

use serde_json::Value;

use super::answers::{answered_run, read_approvals};
use super::turn::{Members, Message, Turn, beginning, issue, refusal, run_id};
use crate::formats::{CallHad, Format, Had, Names};
use crate::http::Problem;
use crate::model::{Issue, RunId};

/// Reads a body. The plan of a run that is not known is `plan`, or the stored one that `template` names, with `inputs`, of
/// the body (`sendMessage({text}, {body: {plan, inputs}})`), or else of the last message's metadata. What an approval must
/// come with is in `payloads`, by its id.
///
/// # Errors
/// 400 where it is no JSON, 422 where it is none of this transport's.
pub fn read_chat(body: &[u8]) -> Result<Turn, Problem> {
    let mut issues = Vec::new();
    let members = Members::of_body(body)?;
    let messages = members.messages("messages", &mut issues);
    let goes_on = message_that_goes_on(&members, &messages, &mut issues);
    let parts = goes_on.and_then(|message| message.parts.as_ref()?.as_array()).map_or(&[][..], Vec::as_slice);
    let answers = read_approvals(parts, &Members::of_member(members.get("payloads")), &mut issues);
    let run = match answered_run(&answers, "messages", &mut issues) {
        Some(run) => Some(run),
        None => wanted_run(&members, &messages, &mut issues),
    };
    let is_of_run = goes_on.is_some_and(|message| message.id.as_deref() == run.as_ref().map(RunId::as_str));
    let last = messages.iter().rev().find(|message| message.is_from_user());
    let metadata = Members::of_member(last.and_then(|message| message.metadata));
    let is_in_body = members.get("plan").is_some() || members.get("template").is_some();
    let said = if is_in_body { &members } else { &metadata };
    let beginning = beginning(run.as_ref(), said, "", last, &mut issues);
    if !issues.is_empty() {
        return Err(refusal(issues));
    }
    let had = run.as_ref().filter(|_| is_of_run).map(|run| had(parts, run));
    Ok(Turn {
        run,
        format: Format::AiSdk { in_turns: true },
        names: Names::default(),
        messages: None,
        had,
        answers,
        beginning,
        plan_path: "plan",
    })
}

/// The assistant's message that the client goes on with: the one that it names, or else the last.
fn message_that_goes_on<'m, 'a>(
    members: &Members<'_>,
    messages: &'m [Message<'a>],
    issues: &mut Vec<Issue>,
) -> Option<&'m Message<'a>> {
    let is_assistants = |message: &&Message<'_>| message.role.as_deref() == Some("assistant");
    let named = members.text("messageId", issues);
    let named = named.and_then(|id| messages.iter().find(|message| message.id.as_deref() == Some(&*id)));
    named.or(messages.last()).filter(is_assistants)
}

/// What a client has of the run's message. What of it has only begun to come is none.
fn had(parts: &[Value], run: &RunId) -> Had {
    let mut had = Had::default();
    for part in parts {
        if part["type"] == "text" && part["state"] == "done" {
            had.note_text(part["text"].as_str().unwrap_or_default());
        } else if let Some((id, state)) = part["toolCallId"].as_str().zip(part["state"].as_str())
            && id.strip_prefix(run.as_str()).is_some_and(|rest| rest.starts_with('/'))
        {
            let how_much = match state {
                "output-available" if part["preliminary"] == true => CallHad::Call,
                "output-available" | "output-error" | "output-denied" => CallHad::Result,
                state if state.starts_with("approval-") => CallHad::Question,
                _ => CallHad::Call,
            };
            had.note_call(id.to_owned(), how_much);
        }
    }
    had
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
    use super::super::turn::Beginning;
    use super::*;

    fn read(body: &str) -> Result<(Option<String>, Option<String>), Vec<String>> {
        let read = read_chat(body.as_bytes());
        let turn = read.map_err(|problem| {
            problem.issues.unwrap_or_default().into_iter().map(|issue| issue.path).collect::<Vec<_>>()
        })?;
        let submission = turn.beginning.map(|beginning| match beginning {
            Beginning::Plan(body) | Beginning::Stored(_, body) => String::from_utf8(body).expect("text"),
        });
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
            (chat(&one, r#","template":"t""#), "c", Some(r#"{"stored":"t","inputs":{"message":"hello"},"runId":"c"}"#)),
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

    #[test]
    fn who_has_answered_goes_on_with_the_message_that_asked() {
        let part = |call: &str, rest: &str| format!(r#"{{"type":"dynamic-tool","toolCallId":"{call}",{rest}}}"#);
        let parts = [
            part("c/a/1", r#""state":"output-available""#),
            r#"{"type":"text","text":"So far","state":"done"}"#.to_owned(),
            r#"{"type":"text","text":"And f","state":"streaming"}"#.to_owned(),
            part("c/b/1", r#""state":"input-available""#),
            part("other/b/1", r#""state":"output-available""#),
            part(
                "c/ask/1",
                r#""state":"approval-responded","approval":{"id":"c/ask/1","approved":false,"reason":"no"}"#,
            ),
            part(
                "c/more/1",
                r#""state":"approval-responded","approval":{"id":"c/more/1","approved":true,"reason":"ok"}"#,
            ),
        ];
        let user = r#"{"id":"u","role":"user","parts":[]}"#;
        let answer = format!(r#"{{"id":"c","role":"assistant","parts":[{}]}}"#, parts.join(","));
        let body = |messages: &[&str]| {
            let messages = messages.join(",");
            format!(r#"{{"id":"c","messages":[{messages}],"payloads":{{"c/more/1":{{"n":1.0}}}}}}"#)
        };
        let turn = read_chat(body(&[user, &answer]).as_bytes()).expect("is read");
        assert_eq!((turn.run.map(|run| run.to_string()).as_deref(), turn.answers.len()), (Some("c"), 2));
        let mut had = Had::default();
        had.note_text("So far");
        let (all, asked, called) = (CallHad::Result, CallHad::Question, CallHad::Call);
        for (id, how_much) in [("c/a/1", all), ("c/b/1", called), ("c/ask/1", asked), ("c/more/1", asked)] {
            had.note_call(id.to_owned(), how_much);
        }
        assert!(had.bytes() > 4 * 64, "what is kept of it is weighed");
        assert_eq!(turn.had, Some(had));
        let shown = format!("{:?}", turn.answers);
        assert!(shown.contains(r#"{\"reason\":\"no\"}"#) && shown.contains(r#"{\"n\":1.0}"#), "{shown}");
        let later = read_chat(body(&[user, &answer, r#"{"id":"v","role":"user","parts":[]}"#]).as_bytes());
        let later = later.expect("is read");
        assert!(later.had.is_none() && later.answers.is_empty(), "another message is another run's");
    }
}
