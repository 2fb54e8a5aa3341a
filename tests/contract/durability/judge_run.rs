//! Derives the state of a run from its messages by rules of its own, which are those of the contract about their order.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde_json::Value;

use super::plans::BIG_BYTES;
use crate::common::stream::Event;

/// Milliseconds that the system's clock may be corrected by within a retry's wait.
const CLOCK_SLACK_MS: u64 = 20;

/// `executor.interruptions`, which is left as it is.
const INTERRUPTIONS_MAX: u64 = 3;

/// A run as its messages tell it.
pub struct RunJudge {
    run: String,
    steps: BTreeMap<String, Step>,
    levels: Vec<Vec<String>>,
    is_eager: bool,
    /// Levels that were started.
    begun: BTreeSet<usize>,
    /// Of these, those that are open.
    open: BTreeSet<usize>,
    status: &'static str,
    reason: Option<String>,
    interrupted: usize,
}

/// A step as its messages tell it.
struct Step {
    level: usize,
    status: String,
    attempt: u64,
    due: Option<String>,
    error: String,
    output: Option<Value>,
    /// Attempts that some message names.
    attempts: u64,
    /// Attempts that were interrupted, in a row.
    interruptions: u64,
    continued: bool,
}

impl RunJudge {
    /// Takes the run's first messages, or all of them; each must be one that may come there.
    pub fn fold<'e>(run: &str, messages: impl Iterator<Item = &'e Event>) -> Self {
        let mut judge = Self {
            run: run.to_owned(),
            steps: BTreeMap::new(),
            levels: Vec::new(),
            is_eager: false,
            begun: BTreeSet::new(),
            open: BTreeSet::new(),
            status: "queued",
            reason: None,
            interrupted: 0,
        };
        for event in messages {
            judge.take(event);
        }
        judge
    }

    /// How the run has ended, or that it has not.
    pub fn status(&self) -> &str {
        self.status
    }

    /// Steps that were running when the server was killed.
    pub fn interrupted(&self) -> usize {
        self.interrupted
    }

    fn take(&mut self, event: &Event) {
        let (message, run) = (&event.message, &self.run);
        let is_first = event.kind() == "workflow_started";
        assert_eq!(is_first, self.status == "queued", "{run}: the first message, once: {message}");
        assert!(is_first || self.status == "running", "{run}: after the last: {message}");
        let payload = &message["payload"];
        match event.kind() {
            "workflow_started" => self.start(payload),
            "workflow_level_started" => {
                let level = level_of(payload);
                let mut before = self.steps.values().filter(|step| step.level < level);
                let is_next = level == self.begun.len() && self.open.is_empty() && before.all(Step::has_ended);
                assert!(self.is_eager || is_next, "{run}: {message}");
                assert!(self.begun.insert(level) && self.open.insert(level), "{run}: {message}");
            }
            "workflow_level_completed" => {
                let level = level_of(payload);
                assert!(self.open.remove(&level), "{run}: {message}");
                // Level by level, steps that never started because the run ends are skipped outside the bracket.
                let may_be_left = |step: &Step| !self.is_eager && step.status == "pending";
                let mut of_level = self.steps.values().filter(|step| step.level == level);
                assert!(of_level.all(|step| step.has_ended() || may_be_left(step)), "{run}: {message}");
            }
            "workflow_progress" => self.progress(payload),
            "workflow_step_output" => {
                let step = self.step(payload);
                assert_eq!((step.status.as_str(), &payload["attempt"]), ("running", &step.attempt.into()), "{message}");
            }
            "workflow_completed" => self.end("completed", payload),
            "workflow_failed" if payload["reason"] == "cancelled" => self.end("cancelled", payload),
            "workflow_failed" => self.end("failed", payload),
            _ => panic!("{run}: {message}"),
        }
    }

    fn start(&mut self, payload: &Value) {
        self.status = "running";
        self.is_eager = payload["scheduling"] == "eager";
        self.levels = serde_json::from_value(payload["levels"].clone()).expect("levels of ids");
        for (level, ids) in self.levels.iter().enumerate() {
            self.steps.extend(ids.iter().map(|id| (id.clone(), Step::new(level))));
        }
    }

    fn step(&mut self, payload: &Value) -> &mut Step {
        let id = payload["stepId"].as_str().expect("a step id");
        self.steps.get_mut(id).unwrap_or_else(|| panic!("{}: no step {id}", self.run))
    }

    fn progress(&mut self, payload: &Value) {
        let open = std::mem::take(&mut self.open);
        let step = self.step(payload);
        let is_in_bracket = open.contains(&step.level);
        let is_left_over = open.is_empty() && payload["status"] == "skipped";
        assert!(is_in_bracket || is_left_over, "outside its level's bracket: {payload}");
        let was_interrupted = step.take(payload);
        self.interrupted += usize::from(was_interrupted);
        self.open = open;
    }

    fn end(&mut self, status: &'static str, payload: &Value) {
        assert!(self.open.is_empty(), "{}: a level is open at the end", self.run);
        self.status = status;
        self.reason = payload["reason"].as_str().map(str::to_owned);
        for (id, step) in &self.steps {
            assert!(step.has_ended(), "{}: {id} is still {}", self.run, step.status);
        }
        let told: HashSet<&str> =
            payload["cancelledSteps"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        assert_eq!(told, self.ended_so("cancelled").collect(), "{}: {payload}", self.run);
    }

    /// The steps whose end is `status`.
    fn ended_so<'s>(&'s self, status: &'s str) -> impl Iterator<Item = &'s str> {
        self.steps.iter().filter(move |(_, step)| step.status == status).map(|(id, _)| id.as_str())
    }

    /// It has ended, and what its steps came to is what `plan` asks for.
    pub fn check_end(&self, plan: &Value) {
        assert!(!matches!(self.status, "queued" | "running"), "{} has not ended", self.run);
        let fatal: Vec<&Step> = self.steps.values().filter(|step| step.status == "failed" && !step.continued).collect();
        match self.status {
            "completed" => assert!(fatal.is_empty(), "{} completed although a step failed", self.run),
            "failed" => {
                let all_interrupted = fatal.iter().all(|step| step.error.starts_with("interrupted"));
                let reason = if all_interrupted { "interrupted" } else { "step_failed" };
                assert!(!fatal.is_empty(), "{} failed although no step did", self.run);
                assert_eq!(self.reason.as_deref(), Some(reason), "{}", self.run);
            }
            _ => {}
        }
        for wanted in plan["steps"].as_array().expect("a list") {
            self.check_step(wanted);
        }
    }

    fn check_step(&self, wanted: &Value) {
        let (run, id) = (&self.run, wanted["id"].as_str().expect("an id"));
        let step = &self.steps[id];
        let was_interrupted = step.error.starts_with("interrupted");
        if step.status == "failed" && was_interrupted {
            let is_too_often = step.interruptions >= INTERRUPTIONS_MAX && wanted["tool"] != "delay";
            assert!(wanted["tool"] == "once" || is_too_often, "{run}: {id} may run again");
        }
        if wanted["tool"] == "once" {
            assert!(step.attempts <= 1, "{run}: {id} must not run twice");
            assert!(step.status != "failed" || was_interrupted, "{run}: {id} does not fail by itself: {}", step.error);
        }
        let Some(output) = step.output.as_ref().filter(|_| wanted["tool"] == "echo") else { return };
        let Some(upstream) = wanted["dependencies"][0].as_str().filter(|_| wanted["inputs"]["from"].is_string()) else {
            return;
        };
        let of = |id: &str| self.steps[id].output.clone().unwrap_or_default();
        match wanted_big(&of(upstream)) {
            // Too big for a message itself: the beginning of its text.
            true => {
                let begins = format!("{{\"bytes\":{BIG_BYTES},");
                let is_whole = output.as_str().is_some_and(|text| text.starts_with(&begins));
                assert!(is_whole, "{run}: {id} got only a part of the output of {upstream}: {output}");
            }
            false if output.is_object() => assert_eq!(output["from"], of(upstream), "{run}: {id} from {upstream}"),
            false => {}
        }
    }

    /// What was really done is what the messages tell. A kill may come between the beginning of an attempt and what is
    /// told of it, unless it must not be made twice: so many attempts may nobody have been told of.
    pub fn check_ledger<'l>(&self, plan: &Value, untold: u64, attempts: impl Fn(&str) -> &'l [u64]) {
        for wanted in plan["steps"].as_array().expect("a list") {
            let (run, id) = (&self.run, wanted["id"].as_str().expect("an id"));
            let (made, told) = (attempts(id), self.steps[id].attempts);
            let slack = if wanted["tool"] == "once" { 0 } else { untold };
            assert!(made.iter().all(|attempt| *attempt <= told + slack), "{run}: {id}: made {made:?}, told of {told}");
            assert!(slack > 0 || made.len() <= 1, "{run}: {id} was made twice: {made:?}");
        }
    }

    /// `state`, as the server shows it, is what the messages tell.
    pub fn check_state(&self, state: &Value) {
        assert_eq!(state["status"], self.status, "{state}");
        for end in ["completed", "failed", "skipped", "cancelled"] {
            assert_eq!(state["progress"][end], self.ended_so(end).count(), "{end}: {state}");
        }
        for shown in state["steps"].as_array().expect("a list") {
            let id = shown["id"].as_str().expect("an id");
            let Some(step) = self.steps.get(id) else {
                assert_eq!((self.status, &shown["status"]), ("queued", &"pending".into()), "{state}");
                continue;
            };
            assert_eq!((&shown["status"], &shown["attempt"]), (&step.status.as_str().into(), &step.attempt.into()));
        }
    }
}

fn level_of(payload: &Value) -> usize {
    payload["level"].as_u64().and_then(|level| usize::try_from(level).ok()).expect("a level")
}

/// Is this the beginning of an output that was cut?
fn wanted_big(output: &Value) -> bool {
    output.as_str().is_some_and(|text| text.len() > 500 && text.bytes().all(|byte| byte == b'x'))
}

impl Step {
    fn new(level: usize) -> Self {
        Self {
            level,
            status: "pending".to_owned(),
            attempt: 0,
            due: None,
            error: String::new(),
            output: None,
            attempts: 0,
            interruptions: 0,
            continued: false,
        }
    }

    fn has_ended(&self) -> bool {
        matches!(self.status.as_str(), "completed" | "failed" | "skipped" | "cancelled")
    }

    /// Moves; whether it was interrupted before.
    fn take(&mut self, payload: &Value) -> bool {
        let status = payload["status"].as_str().expect("a status");
        let attempt = payload["attempt"].as_u64().expect("an attempt");
        let from = std::mem::replace(&mut self.status, status.to_owned());
        let is_lawful = match (from.as_str(), status) {
            // Straight from running to running: the attempt was interrupted.
            ("pending" | "retrying" | "running", "running") => attempt == self.attempt + 1,
            ("pending", "skipped" | "failed" | "cancelled") => attempt == 0,
            ("running", "completed" | "failed" | "retrying" | "cancelled") => attempt == self.attempt,
            ("retrying", "cancelled") => attempt == self.attempt,
            _ => false,
        };
        assert!(is_lawful, "{from}, attempt {}, then {payload}", self.attempt);
        let was_interrupted = from == "running" && status == "running";
        if was_interrupted {
            let says = payload["message"].as_str().unwrap_or_default();
            assert!(says.contains("the server stopped"), "does not say why it runs again: {payload}");
        }
        self.check_due(payload);
        self.due = payload["nextRetryAt"].as_str().map(str::to_owned);
        self.error = payload["error"].as_str().unwrap_or_default().to_owned();
        self.output = payload.get("output").cloned();
        self.continued = payload["continued"] == true;
        self.attempt = attempt;
        self.attempts = self.attempts.max(attempt);
        let was_interrupted = was_interrupted || self.error.starts_with("interrupted");
        self.interruptions = if was_interrupted { self.interruptions + 1 } else { 0 };
        was_interrupted
    }

    /// No retry starts before its time, however long the server was gone.
    fn check_due(&mut self, payload: &Value) {
        if let Some(due) = self.due.take()
            && payload["status"] == "running"
        {
            let started = payload["timestamp"].as_str().expect("a time");
            assert!(millis(started) + CLOCK_SLACK_MS >= millis(&due), "due at {due}: {payload}");
        }
    }
}

/// Of an RFC 3339 time in UTC.
fn millis(time: &str) -> u64 {
    let at = humantime::parse_rfc3339(time).expect("a time");
    at.duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_millis() as u64
}
