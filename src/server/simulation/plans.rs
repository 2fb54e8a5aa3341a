//! Plans as clients send them, to be run or stored, with everything that a plan may contain.

use serde_json::{Value, json};

use super::client::What;
use super::medium::Medium;
use super::requests::Draft;
use super::world::World;
use crate::auth::Scope;
use crate::executor::testing::Rng;

/// The name of plans that change while their runs go on.
pub(super) const CHANGING: &str = "changing";

/// Names that plans are stored under. Runs of the second begin runs of the first.
pub(super) const STORED: [&str; 2] = ["leaf", "node"];

/// Kinds of handlers, and what each is told of the run.
const HANDLERS: [&str; 4] = ["onSuccess", "onFailure", "onCancel", "onExit"];

impl<M: Medium> World<M> {
    pub(super) fn ask_submit(&mut self, index: usize) {
        let project = self.any_project();
        let (mut headers, mut key) = (Vec::new(), String::new());
        let mut body = any_plan(&mut self.rng);
        if self.rng.one_in(3) {
            // The same few plans under the same few keys, again and again.
            let n = self.rng.below(4);
            key = format!("{project} key{n}");
            body = json!({"name": "again", "steps": [{"id": "a", "tool": "work", "inputs": {"n": n}}]});
            headers.push(("Idempotency-Key", format!("key{n}")));
        } else if self.rng.one_in(4) {
            // One that is let go is not taken on anew under the same id, for a day.
            let n = self.rng.below(4);
            key = format!("{project} run{n}");
            body = json!({"plan": {"name": "named", "steps": [{"id": "a", "tool": "delay", "inputs": {"ms": 5}}]},
                "runId": format!("run{n}")});
        } else if self.rng.one_in(5) {
            body = json!({"stored": STORED[self.rng.below(2)], "inputs": {"n": self.rng.below(9)}});
        }
        let who = self.any_token();
        let body = body.to_string();
        let target = format!("/api/projects/{project}/workflows");
        let asked = self.asked(What::Submit { key, body: body.clone() }, who, Some((Scope::Run, &project)));
        self.put(index, Draft { method: "POST", target, headers, body: Some(body) }, asked);
    }

    /// Any run again, now and then under one of a few keys.
    pub(super) fn ask_rerun(&mut self, index: usize) {
        let project = self.any_project();
        let Some(run) = self.any_run(&project) else { return };
        let (mut headers, mut key) = (Vec::new(), String::new());
        if self.rng.one_in(2) {
            let n = self.rng.below(4);
            key = format!("{project} again{n}");
            headers.push(("Idempotency-Key", format!("again{n}")));
        }
        let who = self.any_token();
        let of = run.to_string();
        let asked = self.asked(What::Rerun { key, of }, who, Some((Scope::Run, &project)));
        let target = format!("/api/projects/{project}/workflows/{run}/rerun");
        self.put(index, Draft { method: "POST", target, headers, body: Some(String::new()) }, asked);
    }

    /// A plan is stored, removed, or read.
    pub(super) fn ask_stored(&mut self, index: usize) {
        let project = self.any_project();
        let at = self.rng.below(2);
        let target = format!("/api/projects/{project}/plans/{}", STORED[at]);
        let (method, scope, body, expected): (_, _, _, &[u16]) = match self.rng.below(8) {
            0 => ("DELETE", Scope::Run, None, &[204, 404]),
            1 => ("GET", Scope::Subscribe, None, &[200, 404]),
            _ => {
                let plan = if at == 0 { leaf(&mut self.rng) } else { node(&mut self.rng) };
                ("PUT", Scope::Run, Some(plan.to_string()), &[200, 201, 429])
            }
        };
        let who = self.any_token();
        let asked = self.asked(What::Any(expected), who, Some((scope, &project)));
        self.put(index, Draft { method, target, headers: Vec::new(), body }, asked);
    }
}

/// A plan without children.
fn leaf(rng: &mut Rng) -> Value {
    let tool = one_of(rng, ["work", "echo", "fail"]);
    let steps = json!([{"id": "a", "tool": "work", "inputs": {"n": 1}}, {"id": "b", "tool": tool, "dependencies": ["a"],
        "inputs": if tool == "fail" { json!({"message": "no"}) } else { json!({"n": "{{ inputs.n }}"}) }}]);
    json!({"plan": {"name": "leaf", "steps": steps}, "inputs": {"n": rng.below(9)}})
}

/// A plan with a child.
fn node(rng: &mut Rng) -> Value {
    let steps = json!([{"id": "c", "tool": "plan", "inputs": {"name": STORED[0]}}, {"id": "d", "tool": "work"}]);
    json!({"plan": {"name": "node", "steps": steps, "scheduling": scheduling(rng)}})
}

fn scheduling(rng: &mut Rng) -> &'static str {
    one_of(rng, ["levels", "eager"])
}

fn one_of<const N: usize>(rng: &mut Rng, words: [&'static str; N]) -> &'static str {
    words[rng.below(N)]
}

fn any_plan(rng: &mut Rng) -> Value {
    let may_change = rng.one_in(3);
    let count = 1 + rng.below(5);
    let steps: Vec<Value> = (0..count).map(|at| any_step(rng, at, may_change)).collect();
    let on_failure = one_of(rng, ["stop", "continue"]);
    let name = if may_change { CHANGING } else { "random" };
    let mut plan = json!({"name": name, "steps": steps, "onFailure": on_failure, "scheduling": scheduling(rng)});
    if rng.one_in(5) {
        plan["timeout"] = json!(500 + rng.below(5000));
    }
    if rng.one_in(3) {
        plan["handlers"] = any_handlers(rng);
    }
    if rng.one_in(3) {
        let on_conflict = one_of(rng, ["queue", "queue", "reject", "cancel"]);
        plan["concurrency"] = json!({"group": "g", "limit": 1 + rng.below(2), "onConflict": on_conflict});
    }
    if rng.one_in(6) {
        plan["queueTimeout"] = json!(200 + rng.below(3000));
    }
    plan
}

fn any_handlers(rng: &mut Rng) -> Value {
    let mut handlers = json!({});
    for (at, kind) in HANDLERS.into_iter().enumerate() {
        if rng.one_in(2) {
            let tool = one_of(rng, ["work", "echo", "fail"]);
            let inputs = if tool == "fail" { json!({"message": "no"}) } else { json!({"is": "{{ run.status }}"}) };
            handlers[kind] = json!([{"id": format!("h{at}"), "tool": tool, "inputs": inputs}]);
        }
    }
    handlers
}

fn any_step(rng: &mut Rng, at: usize, may_change: bool) -> Value {
    let dependencies: Vec<_> = (0..at).filter(|_| rng.one_in(3)).map(|step| format!("s{step}")).collect();
    let (tool, inputs) = match rng.below(12) {
        0 => ("fail", json!({"message": "no"})),
        1 => ("delay", json!({"ms": 300})),
        // What has a template is for a worker.
        2 => ("delay", json!({"ms": "{{ 300 }}"})),
        3 => ("echo", json!({"x": at})),
        4 | 5 => ("approval", any_question(rng)),
        6 => ("plan", json!({"name": one_of(rng, ["leaf", "node", "none"]), "inputs": {"n": at}})),
        7 if may_change => ("planner", json!({})),
        _ if dependencies.is_empty() => ("work", json!({"x": at})),
        _ => ("echo", json!({"x": format!("{{{{ steps.{}.output }}}}", dependencies[0])})),
    };
    let mut step = json!({"id": format!("s{at}"), "tool": tool, "inputs": inputs, "dependencies": dependencies});
    if tool == "work" && rng.one_in(2) {
        add_items(rng, &mut step);
    } else if rng.one_in(4) {
        step["timeout"] = json!(50 + rng.below(2000));
    }
    if rng.one_in(3) {
        step["retryPolicy"] = json!({"maxRetries": 2, "initialDelay": 200});
    }
    if rng.one_in(6) {
        step["conditional"] = json!(["1 == 1", "1 == 2"][rng.below(2)]);
    }
    step["continueOnFailure"] = json!(rng.one_in(4));
    step
}

fn any_question(rng: &mut Rng) -> Value {
    let mut question = json!({"message": "Go?", "onReject": one_of(rng, ["fail", "continue"])});
    if !rng.one_in(3) {
        question["expires"] = json!(100 + rng.below(5000));
        question["onExpire"] = json!(one_of(rng, ["fail", "reject", "approve"]));
    }
    if rng.one_in(4) {
        question["schema"] = json!({"type": "integer"});
    }
    question
}

fn add_items(rng: &mut Rng, step: &mut Value) {
    step["forEach"] = match rng.below(3) {
        0 => json!("{{ range(4) }}"),
        _ => Value::Array((0..rng.below(6)).map(|n| json!(n)).collect()),
    };
    step["inputs"] = json!({"x": "{{ item }}"});
    step["maxConcurrent"] = json!(1 + rng.below(3));
}
