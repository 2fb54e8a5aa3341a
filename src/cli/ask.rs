//! Asks the user in the terminal for the decisions that the steps of a plan wait for.

use std::collections::BTreeSet;
use std::io::{self, BufRead, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crossbeam_channel::{Receiver, Sender, unbounded};
use serde_json::{Map, Value};

use super::output;
use crate::executor::ExecutorHandle;
use crate::model::{
    Approval, Choice, Decide, ProjectId, RunEvent, RunEventKind, RunId, Steer, Steering, SteeringError, SteeringId,
    StepId, StepUpdate, Verdict,
};
use crate::text::one_line;

/// Asks one question after the other, on a thread of its own: the run goes on meanwhile.
pub(super) struct Asker {
    /// None if nobody can be asked.
    questions: Option<Sender<SteeringId>>,
    /// Who answers.
    by: Arc<str>,
    shared: Arc<Shared>,
}

/// What the thread that asks and the one that hears the run both know.
#[derive(Default)]
struct Shared {
    /// All questions; the number of each is that of its answer.
    asked: Mutex<Vec<(StepId, Approval)>>,
    /// The steps that wait for a decision.
    open: Mutex<BTreeSet<StepId>>,
    /// Nothing more can be read.
    is_over: AtomicBool,
}

impl Asker {
    /// Asks on the terminal, and gives what is answered to the executor. Where standard input is none it says so.
    pub(super) fn start(executor: ExecutorHandle, project: ProjectId, run: RunId) -> Self {
        let shared = Arc::new(Shared::default());
        let by: Arc<str> = std::env::var("USER").unwrap_or_else(|_| "anonymous".to_owned()).into();
        if !io::stdin().is_terminal() {
            return Self { questions: None, by, shared };
        }
        let (questions, asked) = unbounded();
        let (common, answerer) = (shared.clone(), by.clone());
        let work = move || {
            common.answer_all(&asked, &answerer, |steer| executor.steer(project.clone(), run.clone(), Box::new(steer)));
        };
        let is_started = thread::Builder::new().name("ask".to_owned()).spawn(work).is_ok();
        Self { questions: is_started.then_some(questions), by, shared }
    }

    /// The run said this: the question that it asks, if it does.
    pub(super) fn hear(&mut self, event: &RunEvent) -> Option<SteeringId> {
        let RunEventKind::Progress(said) = &event.kind else { return None };
        let StepUpdate::Waiting { approval, .. } = &said.update else {
            lock(&self.shared.open).remove(&said.step_id);
            return None;
        };
        if let Some(why) = self.why_nobody_is_asked(approval) {
            output::complain(format!(
                "step {} waits for a decision, but {why}; it waits {}",
                said.step_id,
                until(approval)
            ));
            return None;
        }
        lock(&self.shared.open).insert(said.step_id.clone());
        Some(self.shared.number(said.step_id.clone(), Approval::clone(approval)))
    }

    /// Is a question open? Whoever types an answer is not to be written over.
    pub(super) fn is_asking(&self) -> bool {
        self.can_ask() && !lock(&self.shared.open).is_empty()
    }

    /// Asks, once what else is on the terminal is out of the way.
    pub(super) fn ask(&self, question: SteeringId) {
        if let Some(questions) = &self.questions {
            // Its thread ends where nothing more can be read.
            let _ = questions.send(question);
        }
    }

    /// The run said to an answer: a question that has to be asked again gets another number.
    pub(super) fn on_verdict(&mut self, verdict: &Verdict) {
        match &verdict.answer {
            Ok(_) => {}
            Err(SteeringError::InvalidPayload { issues }) => {
                issues.iter().for_each(output::complain);
                if let Some((step, approval)) = self.shared.question(verdict.id) {
                    self.ask(self.shared.number(step, approval));
                }
            }
            Err(_) => output::complain("the step no longer waits for a decision"),
        }
    }

    fn why_nobody_is_asked(&self, approval: &Approval) -> Option<String> {
        if !self.can_ask() {
            return Some("standard input is not a terminal, so it cannot be asked for here".to_owned());
        }
        let may_decide = approval.deciders.is_empty() || approval.deciders.iter().any(|decider| **decider == *self.by);
        (!may_decide).then(|| {
            let deciders: Vec<&str> = approval.deciders.iter().map(AsRef::as_ref).collect();
            format!("{} may not decide it (allowed: {})", self.by, deciders.join(", "))
        })
    }

    fn can_ask(&self) -> bool {
        self.questions.is_some() && !self.shared.is_over.load(Ordering::Relaxed)
    }
}

fn until(approval: &Approval) -> String {
    approval
        .expires_at
        .map_or_else(|| "without a time limit; Ctrl-C cancels the run".to_owned(), |at| format!("until {at}"))
}

impl Shared {
    fn number(&self, step: StepId, approval: Approval) -> SteeringId {
        let mut asked = lock(&self.asked);
        asked.push((step, approval));
        SteeringId(asked.len() as u64 - 1)
    }

    fn question(&self, number: SteeringId) -> Option<(StepId, Approval)> {
        lock(&self.asked).get(usize::try_from(number.0).ok()?).cloned()
    }

    /// Someone else, or its time, may have decided a step before it is asked about, or before there is an answer.
    fn is_open(&self, step: &StepId) -> bool {
        lock(&self.open).contains(step)
    }

    fn answer_all(&self, asked: &Receiver<SteeringId>, by: &Arc<str>, give: impl Fn(Steer)) {
        for id in asked {
            let Some((step, approval)) = self.question(id).filter(|(step, _)| self.is_open(step)) else { continue };
            let answered = interview(&approval, &mut io::stdin().lock(), &mut io::stderr());
            let Ok(Some((choice, payload))) = answered else {
                self.is_over.store(true, Ordering::Relaxed);
                output::complain("standard input has ended, so decisions cannot be asked for; Ctrl-C cancels the run");
                return;
            };
            if self.is_open(&step) {
                let what = Steering::Decide(Decide { step, choice, payload: payload.map(Arc::new) });
                give(Steer { id, by: by.clone(), what });
            }
        }
    }
}

/// What is in there is whole whatever a thread that has panicked did.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Asks yes or no and, with a yes, for what the schema wants: a line for each property of an object, or JSON. None where
/// nothing more can be read.
fn interview(
    approval: &Approval,
    from: &mut impl BufRead,
    to: &mut impl Write,
) -> io::Result<Option<(Choice, Option<Value>)>> {
    let mut line = |question: &str, to: &mut dyn Write| -> io::Result<Option<String>> {
        write!(to, "{question} ")?;
        to.flush()?;
        let mut text = String::new();
        Ok((from.read_line(&mut text)? > 0).then(|| text.trim().to_owned()))
    };
    writeln!(to, "? {}", one_line(&approval.message))?;
    loop {
        match line("  approve? [y/n]", to)?.as_deref() {
            None => return Ok(None),
            Some("n" | "no") => return Ok(Some((Choice::Reject, None))),
            Some("y" | "yes") => break,
            Some(_) => {}
        }
    }
    let Some(schema) = &approval.schema else { return Ok(Some((Choice::Approve, None))) };
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
        let Some(text) = line("  payload (JSON):", to)? else { return Ok(None) };
        return Ok(Some((Choice::Approve, value_of(&text, &Value::Null))));
    };
    let mut payload = Map::new();
    for (name, wanted) in properties {
        let kind = wanted.get("type").and_then(Value::as_str).unwrap_or("any");
        let Some(text) = line(&format!("  {} ({kind}):", one_line(name)), to)? else { return Ok(None) };
        payload.extend(value_of(&text, wanted).map(|value| (name.clone(), value)));
    }
    Ok(Some((Choice::Approve, Some(Value::Object(payload)))))
}

/// The value of a line for the schema `wanted`: the text itself if the schema asks for text, else JSON if it is valid.
fn value_of(text: &str, wanted: &Value) -> Option<Value> {
    if text.is_empty() {
        return None;
    }
    let is_text = wanted.get("type").is_some_and(|kind| kind == "string");
    let json = (!is_text).then(|| serde_json::from_str(text).ok()).flatten();
    Some(json.unwrap_or_else(|| Value::String(text.to_owned())))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::{OnExpire, OnReject};

    fn approval(schema: Option<Value>, deciders: &[&str]) -> Approval {
        Approval {
            message: "Go?".into(),
            schema: schema.map(Arc::new),
            expires_at: None,
            on_expire: OnExpire::Fail,
            on_reject: OnReject::Fail,
            deciders: deciders.iter().map(|decider| (*decider).into()).collect(),
        }
    }

    #[test]
    fn who_may_not_decide_was_asked_and_the_display_was_held_until_the_end() {
        let (questions, _asked) = unbounded();
        let asker = Asker { questions: Some(questions), by: "ann".into(), shared: Arc::default() };
        assert_eq!(asker.why_nobody_is_asked(&approval(None, &[])), None);
        assert_eq!(asker.why_nobody_is_asked(&approval(None, &["bob", "ann"])), None);
        let why = asker.why_nobody_is_asked(&approval(None, &["bob", "eve"]));
        assert_eq!(why.as_deref(), Some("ann may not decide it (allowed: bob, eve)"));
    }

    fn answered(schema: Option<Value>, typed: &str) -> Option<(Choice, Option<Value>)> {
        let approval = approval(schema, &[]);
        interview(&approval, &mut typed.as_bytes(), &mut Vec::new()).expect("nothing fails")
    }

    #[test]
    fn yes_or_no_and_a_line_for_each_property() {
        assert_eq!(answered(None, "what\ny\n"), Some((Choice::Approve, None)));
        assert_eq!(answered(None, "n\n"), Some((Choice::Reject, None)));
        assert_eq!(answered(None, ""), None);
        let schema =
            json!({"properties": {"n": {"type": "integer"}, "why": {"type": "string"}, "x": {"type": "string"}}});
        let expected = json!({"n": 3, "why": "4"});
        assert_eq!(answered(Some(schema), "yes\n3\n4\n\n"), Some((Choice::Approve, Some(expected))));
        assert_eq!(answered(Some(json!({"type": "array"})), "y\n[1]\n"), Some((Choice::Approve, Some(json!([1])))));
    }
}
