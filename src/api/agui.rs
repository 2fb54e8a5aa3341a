//! Reads the body of `POST .../agui`, AG-UI's `RunAgentInput`, and writes the agent's capabilities.
//!
//! A client that answers the interrupts of its previous turn considers this a new run. For the server it is the same
//! run, which from then on has the new id in this client's streams.
//!
//! A client posts its complete state and all messages with each run. The state is ignored, because the run's state
//! belongs to the server. The messages are held until the stream has started.

use serde_json::json;
use serde_json::value::RawValue;

use super::answers::{answered_run, read_resume};
use super::turn::{Members, Message, Turn, beginning, refusal, run_id};
use crate::formats::{Format, Names};
use crate::http::Problem;

/// Reads a body. The plan of a run that is not known is `forwardedProps.plan`, or the stored one that
/// `forwardedProps.template` names; its inputs are `forwardedProps.inputs`. The run of answers is the one that asked.
///
/// # Errors
/// 400 where it is no JSON, 422 where it is no `RunAgentInput`.
pub fn read_run_input(body: &[u8]) -> Result<Turn, Problem> {
    let mut issues = Vec::new();
    let members = Members::of_body(body)?;
    let thread = members.thread("threadId", &mut issues);
    let run = members.text("runId", &mut issues).and_then(|id| run_id(&id, "runId", &mut issues));
    // Clients before 1.0 say no version, and know fewer ways for a run to end.
    let knows_cancelled = members.text("protocolVersion", &mut issues).is_some();
    let messages = members.messages("messages", &mut issues);
    let answers = members.get("resume").map(|resume| read_resume(resume, &mut issues)).unwrap_or_default();
    let answered = answered_run(&answers, "resume", &mut issues);
    let props = Members::of_member(members.get("forwardedProps"));
    let last = messages.iter().rev().find(|message: &&Message<'_>| message.is_from_user());
    let beginning = beginning(run.as_ref(), &props, "forwardedProps.", last, &mut issues);
    if !issues.is_empty() {
        return Err(refusal(issues));
    }
    let called = run.as_ref().filter(|run| answered.as_ref().is_some_and(|answered| answered != *run));
    let names = Names { thread: thread.map(Into::into), run: called.map(|run| run.as_str().into()) };
    Ok(Turn {
        run: answered.or(run),
        format: Format::AgUi { knows_cancelled, in_turns: true },
        names,
        messages: members.get("messages").map(RawValue::to_owned),
        had: None,
        answers,
        beginning,
        plan_path: "forwardedProps.plan",
    })
}

/// What `GET .../agui` answers: `AgentCapabilities`. What is not named is not declared.
pub fn capabilities() -> String {
    json!({
        "identity": {"name": "stepcast", "type": "stepcast", "version": env!("CARGO_PKG_VERSION"),
            "description": "Runs the plan in forwardedProps.plan, or the stored plan that forwardedProps.template names. A known runId is followed."},
        "transport": {"streaming": true, "websocket": false, "httpBinary": false, "pushNotifications": false,
            "resumable": true},
        "tools": {"supported": true, "parallelCalls": true, "clientProvided": false},
        "output": {"structuredOutput": false},
        "state": {"snapshots": true, "deltas": true, "memory": false, "persistentState": false},
        "multiAgent": {"supported": false},
        "reasoning": {"supported": false},
        "humanInTheLoop": {"supported": true, "approvals": true, "interrupts": true, "approveWithEdits": false},
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::turn::Beginning;
    use super::*;

    fn plan_of(beginning: Option<Beginning>) -> Option<Vec<u8>> {
        match beginning {
            Some(Beginning::Plan(body)) => Some(body),
            _ => None,
        }
    }

    #[test]
    fn a_run_is_named_or_begun() {
        let body = r#"{"threadId": "t", "runId": "r-1", "protocolVersion": "1.0", "state": {"x": [1]}, "tools": [],
            "messages": [{"id": "m", "role": "user", "content": "Hi \"you\""}, {"id": "n", "role": "assistant"}],
            "forwardedProps": {"plan": {"name": "p", "n": 1.0}, "inputs": {"a": 9007199254740993}}}"#;
        let turn = read_run_input(body.as_bytes()).expect("is read");
        assert_eq!(turn.run.map(|run| run.to_string()).as_deref(), Some("r-1"));
        assert_eq!(turn.names, Names { thread: Some("t".into()), run: None });
        assert_eq!(turn.format, Format::AgUi { knows_cancelled: true, in_turns: true });
        assert!(turn.messages.is_some_and(|messages| messages.get().starts_with(r#"[{"id": "m""#)));
        let submitted = plan_of(turn.beginning).map(|body| String::from_utf8(body).expect("text"));
        let expected =
            r#"{"plan":{"name": "p", "n": 1.0},"inputs":{"message":"Hi \"you\"","a": 9007199254740993},"runId":"r-1"}"#;
        assert_eq!(submitted.as_deref(), Some(expected));
    }

    #[test]
    fn what_is_not_said_is_made_up() {
        let turn = read_run_input(br#"{"forwardedProps": null, "resume": [], "runId": null}"#).expect("is read");
        assert!(turn.run.is_none() && turn.names.is_empty() && turn.beginning.is_none() && turn.messages.is_none());
        assert_eq!(turn.format, Format::AgUi { knows_cancelled: false, in_turns: true });
        assert_eq!(
            turn.without_plan().issues.map(|issues| issues[0].path.clone()).as_deref(),
            Some("forwardedProps.plan")
        );
    }

    #[test]
    fn inputs_that_name_a_message_keep_it() {
        let body = |inputs: &str| {
            let messages = r#"[{"role": "user", "content": [{"type": "text", "text": "said"}]}]"#;
            format!(r#"{{"messages": {messages}, "forwardedProps": {{"plan": {{}}, "inputs": {inputs}}}}}"#)
        };
        for (inputs, message) in [(r#"{"message": "own"}"#, "own"), ("{}", "said"), ("{ }", "said"), ("null", "said")] {
            let turn = read_run_input(body(inputs).as_bytes()).expect(inputs);
            let submitted = serde_json::from_slice::<Value>(&plan_of(turn.beginning).expect("a plan")).expect(inputs);
            assert_eq!(submitted["inputs"]["message"], message, "{inputs}");
        }
        let turn = read_run_input(body("7").as_bytes()).expect("is read");
        let submitted = serde_json::from_slice::<Value>(&plan_of(turn.beginning).expect("a plan")).expect("JSON");
        assert_eq!(submitted["inputs"], 7, "whoever reads the plan refuses it");
    }

    #[test]
    fn what_is_no_input_is_refused_with_its_places() {
        let table: [(&str, u16, &[&str]); 10] = [
            ("{", 400, &[]),
            ("[]", 422, &[]),
            (r#"{"runId": "a b"}"#, 422, &["runId"]),
            (r#"{"runId": 7, "threadId": 8, "messages": {}}"#, 422, &["threadId", "runId", "messages"]),
            (r#"{"messages": [7]}"#, 422, &["messages"]),
            (r#"{"resume": [{"interruptId": "i", "status": "resolved"}]}"#, 422, &["resume[0].interruptId"]),
            (
                r#"{"resume": [{"interruptId": "r/a/1", "status": "cancelled"}, {"interruptId": "q/a/1", "status": "cancelled"}]}"#,
                422,
                &["resume"],
            ),
            (r#"{"forwardedProps": {"template": "no name"}}"#, 422, &["forwardedProps.template"]),
            (r#"{"forwardedProps": {"template": "t", "plan": {}}}"#, 422, &["forwardedProps.template"]),
            (&format!(r#"{{"threadId": "{}"}}"#, "x".repeat(257)), 422, &["threadId"]),
        ];
        for (body, status, paths) in table {
            let problem = read_run_input(body.as_bytes()).expect_err(body);
            let found: Vec<_> = problem.issues.unwrap_or_default().into_iter().map(|issue| issue.path).collect();
            assert_eq!(problem.status, status, "{body:.60}");
            assert_eq!(found, paths, "{body:.60}");
        }
    }

    #[test]
    fn an_answer_is_for_the_run_that_asked_by_whatever_name_it_comes() {
        let body = |run: &str| {
            let answer = r#"{"interruptId": "r-1/ask/1", "status": "resolved", "payload": true}"#;
            format!(r#"{{"threadId": "t", "runId": "{run}", "resume": [{answer}]}}"#)
        };
        for (called, name) in [("other", Some("other")), ("r-1", None)] {
            let turn = read_run_input(body(called).as_bytes()).expect("is read");
            assert_eq!(turn.run.map(|run| run.to_string()).as_deref(), Some("r-1"));
            assert_eq!((turn.names.run.as_deref(), turn.answers.len()), (name, 1));
        }
    }

    #[test]
    fn a_stored_plan_is_named() {
        let body = r#"{"runId": "r", "messages": [{"role": "user", "content": "Hi"}],
            "forwardedProps": {"template": "nightly", "inputs": {"a": 1.0}}}"#;
        let turn = read_run_input(body.as_bytes()).expect("is read");
        let Some(Beginning::Stored(name, call)) = turn.beginning else { panic!("no name") };
        assert_eq!(name.as_str(), "nightly");
        let expected = r#"{"stored":"nightly","inputs":{"message":"Hi","a": 1.0},"runId":"r"}"#;
        assert_eq!(String::from_utf8(call).expect("text"), expected);
    }
}
