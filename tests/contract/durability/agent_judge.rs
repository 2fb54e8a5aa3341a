//! Compares what agents were told with what their runs say, and with what was really done.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::agent::{ITEMS, Told, find};
use super::judge::{Ledger, Project};
use crate::common::stream::Event;

/// Steps that fan out.
const FANS: [&str; 2] = ["send", "stamp"];

/// Steps whose tool must not run twice.
const ONCE: [&str; 2] = ["stamp", "announce"];

/// Judges the runs of agents.
pub struct AgentJudge<'a> {
    pub project: &'a Project<'a>,
    pub ledger: &'a Ledger,
}

/// A run as its messages tell it.
struct Run<'a> {
    id: &'a str,
    messages: Vec<&'a Event>,
    /// How each step has ended: the message.
    ends: BTreeMap<&'a str, &'a Value>,
    state: Value,
}

impl AgentJudge<'_> {
    /// Holds all that an agent was told against its runs; how many attempts were interrupted.
    pub fn check(&self, told: &Told) -> usize {
        let runs: Vec<Run> = told.runs.iter().map(|run| self.read(run)).collect();
        let first = runs.first().expect("a run");
        check_changes(first, told);
        check_decision(first, told);
        for pair in runs.windows(2) {
            self.check_kept(&pair[0], &pair[1]);
        }
        let last = runs.last().expect("a run");
        assert_eq!(last.state["status"], "completed", "{}", last.id);
        let all: Vec<u64> = (0..ITEMS).collect();
        assert_eq!(find(&last.state, "send")["output"], json!(all), "{}: outputs in the order of the items", last.id);
        self.check_seen(told);
        self.check_once(told);
        runs.iter().map(|run| self.check_ledger(run)).sum()
    }

    fn read<'r>(&'r self, id: &'r str) -> Run<'r> {
        let messages = self.project.of_run(id);
        let state = self.project.get(&format!("/api/projects/{}/workflows/{id}", self.project.name));
        let mut ends = BTreeMap::new();
        for (n, event) in messages.iter().enumerate() {
            let payload = &event.message["payload"];
            let is_last = ["workflow_completed", "workflow_failed"].contains(&event.kind());
            assert_eq!(event.kind() == "workflow_started", n == 0, "{id}: the first message, once: {event:?}");
            assert_eq!(is_last, n + 1 == messages.len(), "{id}: the last message, once: {event:?}");
            let has_ended = ["completed", "failed", "skipped", "cancelled"].iter().any(|end| payload["status"] == *end);
            if event.kind() == "workflow_progress" && has_ended {
                let step = payload["stepId"].as_str().expect("a step id");
                assert!(ends.insert(step, payload).is_none(), "{id}: {step} ends twice");
            }
        }
        Run { id, messages, ends, state }
    }

    /// What had completed is kept, and not done again.
    fn check_kept(&self, before: &Run, after: &Run) {
        assert_eq!(after.state["retryOf"], before.id, "{}", after.id);
        for (step, end) in &before.ends {
            let kept = after.ends.get(step).unwrap_or_else(|| panic!("{} has no {step}", after.id));
            if end["status"] != "completed" {
                continue;
            }
            assert_eq!((&kept["status"], &kept["reused"]), (&json!("completed"), &json!(true)), "{}: {step}", after.id);
            assert_eq!(kept["output"], end["output"], "{}: {step}", after.id);
            let called = self.calls(after, step);
            assert!(called.is_empty(), "{}: {step} was kept and yet run: {called:?}", after.id);
        }
    }

    /// No attempt is made after the reported one, and there are no more attempts than reasons for them.
    fn check_ledger(&self, run: &Run) -> usize {
        let mut interrupted = 0;
        for (step, end) in &run.ends {
            for (what, attempt) in self.told_attempts(run, step, end) {
                let made = self.ledger.attempts(self.project.name, run.id, &what);
                assert!(made.iter().all(|one| *one <= attempt), "{}: {what} after its end: {made:?}", run.id);
                assert!(made.len() as u64 <= self.project.kills + 1, "{}: {what} too often: {made:?}", run.id);
                interrupted += made.len().saturating_sub(1);
            }
        }
        interrupted
    }

    /// What the ledger may hold of a step: itself, or its items, each with the attempt that it ended with.
    fn told_attempts(&self, run: &Run, step: &str, end: &Value) -> Vec<(String, u64)> {
        let attempt = |of: &Value| of["attempt"].as_u64().expect("a number");
        if !FANS.contains(&step) || end["reused"] == true {
            return vec![(step.to_owned(), attempt(end))];
        }
        let path = format!("/api/projects/{}/workflows/{}/steps/{step}/items?limit=1000", self.project.name, run.id);
        let items = self.project.get(&path)["items"].as_array().cloned().expect("a list");
        items.iter().map(|item| (item["id"].as_str().expect("an id").to_owned(), attempt(item))).collect()
    }

    /// The calls that were made for a step or its items.
    fn calls(&self, run: &Run, step: &str) -> Vec<String> {
        places(step).filter(|what| !self.ledger.attempts(self.project.name, run.id, what).is_empty()).collect()
    }

    /// What must not run twice does not, in all runs together.
    fn check_once(&self, told: &Told) {
        for step in ONCE {
            for what in places(step) {
                let made = told.runs.iter().map(|run| self.ledger.attempts(self.project.name, run, &what).len());
                assert!(made.sum::<usize>() <= 1, "{what} must not run twice: {:?}", told.runs);
            }
        }
    }

    /// What anyone saw completed was not done again.
    fn check_seen(&self, told: &Told) {
        for (run, what, calls) in &told.completed {
            let made = self.ledger.attempts(self.project.name, run, what);
            assert_eq!(made.len(), *calls, "{run}: {what} was completed, and done again: {made:?}");
        }
    }
}

/// What commands call themselves that a step is done by: as the step, or as one of its items.
fn places(step: &str) -> impl Iterator<Item = String> {
    let items = (0..ITEMS).map(move |item| format!("{step}[{item}]"));
    std::iter::once(step.to_owned()).chain(items)
}

/// Revisions follow one another, and each change that was accepted is one of them, once.
fn check_changes(run: &Run, told: &Told) {
    let changed = run.messages.iter().filter(|event| event.kind() == "workflow_plan_changed");
    let said: Vec<&Value> = changed.map(|event| &event.message["payload"]).collect();
    for (revision, change) in (2..).zip(&said) {
        assert_eq!(change["revision"], revision, "{}: {change}", run.id);
    }
    for (revision, step) in &told.changes {
        let change = said.iter().find(|change| change["revision"] == *revision);
        let change = change.unwrap_or_else(|| panic!("{}: revision {revision} is lost", run.id));
        assert_eq!(change["added"], json!([step]), "{}: {change}", run.id);
        assert!(!find(&run.state, step).is_null(), "{}: {step} is lost", run.id);
    }
    assert_eq!(said.len(), told.changes.len(), "{}: nobody else has changed it", run.id);
    assert_eq!(run.state["revision"], said.len() as u64 + 1, "{}", run.id);
}

/// The run did what was decided.
fn check_decision(run: &Run, told: &Told) {
    let decided = told.decision.as_ref().expect("someone decided");
    let end = run.ends.get("ask").unwrap_or_else(|| panic!("{}: the decision is lost", run.id));
    assert_eq!(end["status"], "completed", "{}: {end}", run.id);
    for key in ["decision", "payload"] {
        assert_eq!(end["output"][key], decided[key], "{}: {end}", run.id);
    }
}
