//! Properties of plans, published events and whole calls from untrusted clients, for the fuzzer and for the tests of
//! its corpus.

mod runs;

use std::sync::LazyLock;
use std::time::Duration;

use serde_json::value::RawValue;
use serde_json::{Map, Value};

pub use self::runs::{change, decision, retry, stored};
use super::{Action, Api, ApiSettings, Facts, PlanRequest, Prepared, Purpose, prepare, read_document, read_events};
use crate::auth::{Hosts, Instance, Origins, Principal, ServerKeys, TicketBook, TicketMemory};
use crate::executor::Context;
use crate::executor::template::Engine;
use crate::executor::tool::Registry;
use crate::executor::{Durations, PlanLimits};
use crate::http::{Decoder, Limits, Next, Problem, Verdict};
use crate::model::{ISSUES_MAX, Now, Plan, ProjectId, RunId, Timestamp, is_reserved_type, is_valid_type};

/// Steps that a plan may have here.
const STEPS_MAX: usize = 50;

fn project() -> ProjectId {
    ProjectId::parse("p").expect("an id")
}

fn run() -> RunId {
    RunId::parse("r").expect("an id")
}

static CONTEXT: LazyLock<Context> = LazyLock::new(|| Context {
    registry: Registry::with_builtins(),
    engine: Engine::new(),
    output_bytes_max: 64 << 10,
    step_output_bytes_max: 1 << 20,
    durations: Durations::default(),
    interruptions_max: None,
    plan_limits: PlanLimits::default(),
});

/// The body of a call that submits a plan.
pub fn plan(bytes: &[u8]) {
    let request = PlanRequest {
        body: bytes.to_vec(),
        purpose: Purpose::Run(project()),
        idempotency_key: None,
        principal: Principal::anyone(),
    };
    match prepare(request, &CONTEXT, STEPS_MAX, run()) {
        Ok(Prepared::Run(submission)) => {
            check_plan(&submission.plan);
            let again = read_document(&submission.document, &CONTEXT).expect("what was taken on can be read again");
            assert_eq!(again, *submission.plan);
            serde_json::from_slice::<Value>(&submission.answer).expect("the answer is JSON");
        }
        Ok(Prepared::Checked(_) | Prepared::Steer(_) | Prepared::Store(_)) => unreachable!("it was to be run"),
        Ok(Prepared::Recall(_, problem)) => check_refusal(&problem),
        Err(problem) => check_refusal(&problem),
    }
}

/// Every step stands in one level, and what it waits for in an earlier one; handlers stand after them and in none.
fn check_plan(plan: &Plan) {
    let count = plan.step_count();
    assert!(count > 0 && plan.steps.iter().skip(count).all(|step| step.handler.is_some()));
    let mut at: Vec<usize> = plan.levels.iter().flatten().copied().collect();
    at.sort_unstable();
    assert!(at.iter().copied().eq(0..count), "a step is in no level or in two");
    for (level, steps) in plan.levels.iter().enumerate() {
        for step in steps.iter().map(|&step| &plan.steps[step]) {
            assert_eq!(step.level, level);
            let needed = step.dependencies.iter().chain(&step.references);
            assert!(needed.into_iter().all(|&step| plan.steps[step].level < level), "{} comes too early", step.id);
        }
    }
}

fn check_refusal(problem: &Problem) {
    assert!(matches!(problem.status, 400 | 403 | 422), "{problem:?}");
    let issues = problem.issues.as_deref().unwrap_or_default();
    assert!(problem.code != "invalid_plan" || (1..=ISSUES_MAX).contains(&issues.len()));
    for issue in issues {
        assert!(!issue.message.is_empty() && !issue.message.contains(char::is_control), "{issue:?}");
        assert!(!issue.path.contains(char::is_control), "{issue:?}");
    }
}

/// The body of a call that publishes.
pub fn publish(bytes: &[u8]) {
    let Ok(events) = read_events(bytes, false) else { return };
    let sent: Option<Value> = serde_json::from_slice(bytes).ok();
    for (index, event) in events.iter().enumerate() {
        assert!(is_valid_type(&event.message_type) && !is_reserved_type(&event.message_type));
        // It becomes one line of an event stream.
        assert!(!event.payload.iter().any(|b| matches!(b, b'\r' | b'\n')));
        serde_json::from_slice::<&RawValue>(&event.payload).expect("JSON");
        // Not everything that is JSON is a value here: 1e400 is beyond every number, and half a surrogate pair no text.
        let Some(sent) = &sent else { continue };
        let payload: Map<String, Value> = serde_json::from_slice(&event.payload).expect("a JSON object");
        let sent = if sent.is_array() { &sent[index] } else { sent };
        assert_eq!(sent["payload"].as_object(), Some(&payload), "the payload has changed");
        assert_eq!(sent["type"], *event.message_type);
    }
    assert!(events.len() == 1 || sent.is_none_or(|sent| sent.is_array()));
}

/// A whole request, to a server that asks for no token.
pub fn call(bytes: &[u8]) {
    let limits = Limits::default();
    let Verdict::Complete { request, .. } = Decoder::new().decode(bytes, &limits) else {
        return check_headers(&api().headers_of_refusal(bytes));
    };
    let now = Now { mono: Duration::ZERO, wall: Timestamp::from_millis(1_700_000_000_000) };
    let call = api().handle(&request, &Facts { now, ..Facts::default() });
    check_headers(&call.headers);
    if let Action::Answer(response) = call.action {
        let mut out = Vec::new();
        let (status, date) = (response.status, "Sat, 28 Nov 2026 12:00:00 GMT");
        let left = response.write_to(&mut out, date, request.version, request.keep_alive, false);
        if let Next::Bytes(bytes) = left.next(usize::MAX) {
            out.extend_from_slice(bytes);
        }
        check_answer(&out, status);
    }
}

/// Headers that repeat what the request said end where they should.
fn check_headers(headers: &[(&'static str, String)]) {
    for (name, value) in headers {
        assert!(!value.contains(char::is_control), "{name}: {value:?}");
    }
}

/// A client reads the answer that was meant, and nothing after it.
fn check_answer(out: &[u8], status: u16) {
    let mut fields = [httparse::EMPTY_HEADER; 32];
    let mut head = httparse::Response::new(&mut fields);
    let Ok(httparse::Status::Complete(head_end)) = head.parse(out) else { panic!("the head is malformed") };
    assert_eq!(head.code, Some(status));
    let lengths: Vec<_> = head.headers.iter().filter(|field| field.name == "Content-Length").collect();
    let body = &out[head_end..];
    match lengths.as_slice() {
        [] => assert!(status == 204 && body.is_empty()),
        [length] => assert_eq!(length.value, body.len().to_string().as_bytes()),
        _ => panic!("two lengths"),
    }
}

fn api() -> Api {
    let keys = ServerKeys::derive(&[1; 32]);
    let ttl = Duration::from_secs(15);
    let settings = ApiSettings {
        verifier: None,
        hosts: Hosts::any(),
        origins: Origins::new(&["https://a.example"]).expect("an origin"),
        signer: keys.id_signer(Instance::from_random([1; 6])),
        ticket_key: keys.ticket_key(),
        tickets: TicketBook::new(keys.ticket_key(), ttl, TicketMemory::SinceStart([1; 6])),
        ticket_ttl: ttl,
        serves_metrics: true,
    };
    Api::new(settings, Box::new(|| [7; 16]))
}
