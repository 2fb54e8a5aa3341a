//! Clients that publish, submit and cancel, and record the responses.

use std::time::Duration;

use serde_json::{Value, json};

use super::plans;
use super::world::World;
use crate::common::client::{Request, Response};
use crate::common::random::Random;

/// The type of what is published.
pub const NOTE: &str = "trial.note";

/// How long a caller waits at most before its next call.
const PAUSE: Duration = Duration::from_millis(30);

/// Calls that a publisher makes, and messages in one of them.
const PUBLISH_CALLS: u64 = 40;
const ARRAY_MAX: u64 = 12;

/// Plans that a submitter submits.
const PLANS: u64 = 12;

/// One call of a publisher: messages that say `call` and count from 0.
pub struct Published {
    pub call: u64,
    pub count: u64,
    /// As answered, if it was.
    pub ids: Option<Vec<String>>,
}

/// Publishes; what it published.
pub fn publish(world: &World, project: &str, random: &mut Random) -> Vec<Published> {
    let mut calls = Vec::new();
    for call in 0..PUBLISH_CALLS {
        if world.failure().is_some() {
            break;
        }
        world.pace(random.between(0, 40), PAUSE);
        let is_single = random.one_in(2);
        let count = if is_single { 1 } else { random.between(1, ARRAY_MAX) };
        let pad = "x".repeat(random.between(0, 300) as usize);
        let note = |n| json!({"type": NOTE, "payload": {"call": call, "n": n, "pad": pad}});
        let body = if is_single { note(0) } else { (0..count).map(note).collect() };
        let answer = world.call(Request::post(&format!("/api/projects/{project}/events"), &body));
        let ids = answer.map(|answer| ids_of(&answer, count));
        calls.push(Published { call, count, ids });
    }
    world.caller_is_done();
    calls
}

fn ids_of(answer: &Response, count: u64) -> Vec<String> {
    assert_eq!(answer.status, 202, "{answer:?}");
    let ids: Vec<String> = serde_json::from_value(answer.json()["ids"].clone()).expect("ids");
    assert_eq!(ids.len() as u64, count, "{answer:?}");
    ids
}

/// A plan that was submitted.
pub struct Submitted {
    /// The plan's name; no other has it.
    pub name: String,
    pub plan: Value,
    /// It may be submitted again without being run again.
    pub is_repeatable: bool,
    /// What was answered, if anything was.
    pub answer: Option<Value>,
    pub cancelled: Cancelled,
    /// It ends only when it is cancelled.
    pub is_endless: bool,
    request: Request,
}

/// What became of a wish to cancel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Cancelled {
    Never,
    Accepted,
    TooLate,
}

impl Submitted {
    pub fn run(&self) -> Option<&str> {
        self.answer.as_ref().map(|answer| answer["runId"].as_str().expect("a run id"))
    }
}

/// Submits plans and cancels some; tells `follow` of each run that it knows of.
pub fn submit(world: &World, project: &str, random: &mut Random, follow: impl Fn(&str)) -> Vec<Submitted> {
    let mut submitted: Vec<Submitted> = Vec::new();
    for n in 0..PLANS {
        if world.failure().is_some() {
            break;
        }
        world.pace(random.between(0, 150), 4 * PAUSE);
        let mut new = new_plan(project, n, random);
        submit_one(world, &mut new);
        if let Some(run) = new.run() {
            follow(run);
            if new.is_endless || random.one_in(5) {
                world.pace(random.between(0, 100), 2 * PAUSE);
                new.cancelled = cancel(world, project, run);
            }
        }
        submitted.push(new);
        if let Some(old) = random.pick(&submitted).filter(|old| old.is_repeatable) {
            submit_again(world, old);
        }
    }
    world.caller_is_done();
    submitted
}

fn new_plan(project: &str, n: u64, random: &mut Random) -> Submitted {
    let name = format!("plan {n} of {project}");
    let how = random.between(0, 2);
    // One that may have been taken on without anyone knowing its id could never be cancelled.
    let is_endless = how > 0 && random.one_in(5);
    let plan = plans::plan(&name, is_endless, random);
    let path = format!("/api/projects/{project}/workflows");
    let request = match how {
        0 => Request::post(&path, &plan),
        1 => Request::post(&path, &json!({"plan": plan})).header("Idempotency-Key", &format!("key-{n}")),
        _ => Request::post(&path, &json!({"plan": plan, "runId": format!("own-{n}")})),
    };
    Submitted { name, plan, is_repeatable: how > 0, answer: None, cancelled: Cancelled::Never, is_endless, request }
}

fn submit_one(world: &World, new: &mut Submitted) {
    let answer = match new.is_repeatable {
        true => world.call_until_answered(&new.request),
        false => world.call(new.request.clone()),
    };
    new.answer = answer.map(|answer| {
        assert_eq!(answer.status, 202, "{answer:?}");
        answer.json()
    });
}

/// The first answer comes again.
fn submit_again(world: &World, old: &Submitted) {
    if let (Some(again), Some(first)) = (world.call(old.request.clone()), &old.answer) {
        assert_eq!((again.status, again.header("Idempotent-Replay")), (202, Some("true")), "{again:?}");
        assert_eq!(again.json(), *first);
    }
}

fn cancel(world: &World, project: &str, run: &str) -> Cancelled {
    let request = Request::new("POST", &format!("/api/projects/{project}/workflows/{run}/cancel"));
    match world.call_until_answered(&request).map(|answer| answer.status) {
        None => Cancelled::Never,
        Some(202) => Cancelled::Accepted,
        Some(409) => Cancelled::TooLate,
        Some(status) => panic!("cancelling {run} of {project}: {status}"),
    }
}
