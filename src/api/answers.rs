//! The answers of frontends to steps that wait for a decision: AG-UI's `resume` and the AI SDK's approvals. Each answer
//! names its run and step with the id from the question, and becomes an ordinary decision.
//!
//! A frontend that has lost the stream after its answers sends them again. Therefore each answer has an idempotency
//! key, made from the subject and the answer: the same answer always gets the same response, and a different one is
//! told that the step is already decided.

use std::borrow::Cow;
use std::collections::{BTreeSet, VecDeque};

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::refusals::refusal;
use super::steering::decision_request;
use super::turn::{Members, issue};
use crate::http::Problem;
use crate::log::{Refusal, SteerRequest};
use crate::model::{Choice, Issue, ProjectId, RunId, SteeringError, StepId};

/// What an answer of AG-UI's that is no refusal to answer has to be.
const PAYLOAD_EXPECTED: &str =
    "expected true, false or {\"approved\": true or false, \"payload\"?: as the step's schema asks}";

/// How many answers a call may bring.
const ANSWERS_MAX: usize = 256;

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepAnswer {
    /// By which it was asked.
    id: String,
    run: RunId,
    step: StepId,
    choice: Choice,
    /// What goes with it: JSON, as it was sent.
    payload: Option<String>,
    /// Nobody has answered: where the step was decided meanwhile, that is as good.
    is_given_up: bool,
}

/// The members of an entry of `resume`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry<'a> {
    #[serde(borrow)]
    interrupt_id: Cow<'a, str>,
    #[serde(borrow)]
    status: Cow<'a, str>,
    #[serde(borrow, default)]
    payload: Option<&'a RawValue>,
}

/// Reads AG-UI's `resume`. A payload says yes or no; who cancels leaves the question unanswered, which is no.
pub(super) fn read_resume(resume: &RawValue, issues: &mut Vec<Issue>) -> Vec<StepAnswer> {
    let Ok(entries) = serde_json::from_str::<Vec<Entry<'_>>>(resume.get()) else {
        issues.push(issue("resume", "expected an array of {interruptId, status, payload?}".to_owned()));
        return Vec::new();
    };
    if entries.len() > ANSWERS_MAX {
        issues.push(too_many("resume"));
        return Vec::new();
    }
    entries.iter().enumerate().filter_map(|(at, entry)| read_entry(at, entry, issues)).collect()
}

fn read_entry(at: usize, entry: &Entry<'_>, issues: &mut Vec<Issue>) -> Option<StepAnswer> {
    let mut refuse = |member: &str, message: &str| {
        issues.push(issue(&format!("resume[{at}].{member}"), message.to_owned()));
        None
    };
    let Some((run, step)) = asked_by(&entry.interrupt_id) else {
        return refuse(
            "interruptId",
            "not an interrupt id; expected RUN/STEP/ATTEMPT, as in the interrupts of RUN_FINISHED",
        );
    };
    let (choice, payload) = match (&*entry.status, entry.payload.and_then(read_payload)) {
        ("cancelled", _) => (Choice::Reject, None),
        ("resolved", Some(said)) => said,
        ("resolved", None) => return refuse("payload", PAYLOAD_EXPECTED),
        _ => return refuse("status", "expected \"resolved\" or \"cancelled\""),
    };
    let is_given_up = entry.status == "cancelled";
    Some(StepAnswer { id: entry.interrupt_id.to_string(), run, step, choice, payload, is_given_up })
}

/// What a payload says, and what goes with it.
fn read_payload(payload: &RawValue) -> Option<(Choice, Option<String>)> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Said<'a> {
        approved: bool,
        #[serde(borrow, default)]
        payload: Option<&'a RawValue>,
    }
    let (approved, payload) = match payload.get() {
        word @ ("true" | "false") => (word == "true", None),
        object if object.starts_with('{') => {
            let Said { approved, payload } = serde_json::from_str(object).ok()?;
            (approved, payload)
        }
        _ => return None,
    };
    Some((choice(approved), payload.map(|payload| payload.get().to_owned())))
}

/// Reads what people have answered to the tools of a message of the AI SDK. A reason goes with an answer where `payloads`
/// has nothing for it.
pub(super) fn read_approvals(parts: &[Value], payloads: &Members<'_>, issues: &mut Vec<Issue>) -> Vec<StepAnswer> {
    let responded = || parts.iter().filter(|part| part["state"] == "approval-responded");
    if responded().count() > ANSWERS_MAX {
        issues.push(too_many("messages"));
        return Vec::new();
    }
    let answers = responded().filter_map(|part| {
        let approval = &part["approval"];
        let read = approval["id"].as_str().zip(approval["approved"].as_bool());
        let Some((id, approved, (run, step))) = read.and_then(|(id, yes)| Some((id, yes, asked_by(id)?))) else {
            issues.push(issue(
                "messages",
                format!(
                    "invalid approval {approval}; expected the id of an approval request, and approved: true or false"
                ),
            ));
            return None;
        };
        let reason = approval["reason"].as_str().map(|reason| json!({ "reason": reason }).to_string());
        let payload = payloads.get(id).map(|payload| payload.get().to_owned()).or(reason);
        let choice = choice(approved);
        Some(StepAnswer { id: id.to_owned(), run, step, choice, payload, is_given_up: false })
    });
    answers.collect()
}

fn too_many(path: &str) -> Issue {
    issue(path, format!("expected at most {ANSWERS_MAX} answers"))
}

/// The one run that is answered, each question once.
pub(super) fn answered_run(answers: &[StepAnswer], path: &str, issues: &mut Vec<Issue>) -> Option<RunId> {
    let run = &answers.first()?.run;
    if answers.iter().any(|answer| answer.run != *run) {
        issues.push(issue(path, "all answers must be for the same run".to_owned()));
    }
    let mut ids = BTreeSet::new();
    if let Some(twice) = answers.iter().find(|answer| !ids.insert(&answer.id)) {
        issues.push(issue(path, format!("{} is answered more than once", twice.id)));
    }
    Some(run.clone())
}

fn choice(approved: bool) -> Choice {
    if approved { Choice::Approve } else { Choice::Reject }
}

/// The run and the step of which an attempt asks by this id: `RUN/STEP/ATTEMPT`.
fn asked_by(id: &str) -> Option<(RunId, StepId)> {
    let mut names = id.split('/');
    let (run, step) = (RunId::parse(names.next()?).ok()?, StepId::parse(names.next()?).ok()?);
    let attempt = names.next()?.parse::<u32>().ok()?;
    (attempt > 0 && names.next().is_none()).then_some((run, step))
}

/// Answers, as the log is asked for them one after the other. One that is refused keeps none of the others from counting:
/// asked again, the call would stop at it for good.
#[derive(Debug)]
pub struct Decisions {
    project: ProjectId,
    by: String,
    rest: VecDeque<StepAnswer>,
    /// What the log was asked for last.
    asked: Option<StepAnswer>,
    /// How many there were at first.
    count: usize,
    counted: usize,
    /// The first that can't be, and why.
    refused: Option<Box<(String, Problem)>>,
}

impl Decisions {
    /// Those of `by`, in this project.
    pub(super) fn new(project: ProjectId, answers: Vec<StepAnswer>, by: &str) -> Self {
        let (by, count) = (by.to_owned(), answers.len());
        Self { project, by, rest: answers.into(), asked: None, count, counted: 0, refused: None }
    }

    /// About how many bytes they take.
    pub fn bytes(&self) -> usize {
        self.rest.iter().map(StepAnswer::bytes).sum()
    }

    /// What the log is asked for next; nothing once all count.
    ///
    /// # Errors
    /// Once all have been asked for: why the first of those can't be that don't count.
    pub fn pop(&mut self) -> Result<Option<SteerRequest>, Problem> {
        while let Some(answer) = self.rest.pop_front() {
            match request(&self.project, &answer, &self.by) {
                Ok(request) => {
                    self.asked = Some(answer);
                    return Ok(Some(request));
                }
                Err(problem) => self.refuse(answer.id, problem),
            }
        }
        match self.refused.take() {
            None => Ok(None),
            Some(refused) => Err(self.told(*refused)),
        }
    }

    /// What was asked for last is done, or is refused.
    pub fn note(&mut self, refused: Option<&Refusal>) {
        let Some(answer) = self.asked.take() else { return };
        match refused {
            Some(refused) if !answer.passes_over(refused) => {
                if *refused == Refusal::UnknownRun {
                    self.rest.clear();
                }
                self.refuse(answer.id, refusal(refused));
            }
            _ => self.counted += 1,
        }
    }

    fn refuse(&mut self, id: String, problem: Problem) {
        self.refused.get_or_insert_with(|| Box::new((id, problem)));
    }

    fn told(&self, (id, problem): (String, Problem)) -> Problem {
        if self.count == 1 {
            return problem;
        }
        let detail = format!("{id}: {} ({} of {} answers were accepted)", problem.detail, self.counted, self.count);
        Problem { detail: detail.into(), ..problem }
    }
}

impl StepAnswer {
    /// About its size in bytes. Its id contains the run and the step, so they are counted twice.
    fn bytes(&self) -> usize {
        size_of::<Self>() + 2 * self.id.len() + self.payload.as_ref().map_or(0, String::len)
    }

    /// Is it as good as done, though the log refuses it?
    fn passes_over(&self, refusal: &Refusal) -> bool {
        let is_late = match refusal {
            Refusal::RunEnded => true,
            Refusal::Steering(error) => matches!(
                error,
                SteeringError::RunEnded | SteeringError::NotWaiting { .. } | SteeringError::AlreadyDecided { .. }
            ),
            _ => false,
        };
        is_late && self.is_given_up
    }
}

fn request(project: &ProjectId, answer: &StepAnswer, by: &str) -> Result<SteerRequest, Problem> {
    let StepAnswer { id, run, step, choice, payload, .. } = answer;
    let payload = payload.as_ref().map(|payload| format!(",\"payload\":{payload}")).unwrap_or_default();
    let body = format!("{{\"decision\":\"{}\"{payload}}}", choice.as_str());
    let names = (project.clone(), run.clone(), step.clone());
    let mut request = decision_request(names, by, None, body.as_bytes())?;
    let digest: String = request.claim.fingerprint.value.iter().map(|byte| format!("{byte:02x}")).collect();
    // No call's own key has a line feed in it.
    request.claim.key = Some(format!("answer\n{id}\n{digest}\n{by}"));
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The choice, its payload, and whether the run is given up.
    type Decided = (Choice, Option<String>, bool);

    fn resume(text: &str) -> Result<Vec<Decided>, Vec<String>> {
        let raw = serde_json::from_str::<&RawValue>(text).expect("JSON");
        let mut issues = Vec::new();
        let answers = read_resume(raw, &mut issues);
        match issues.is_empty() {
            true => Ok(answers.into_iter().map(|it| (it.choice, it.payload, it.is_given_up)).collect()),
            false => Err(issues.into_iter().map(|issue| issue.path).collect()),
        }
    }

    fn entry(rest: &str) -> String {
        format!(r#"[{{"interruptId": "r/ask/1", {rest}}}]"#)
    }

    #[test]
    fn a_resumed_interrupt_is_a_decision() {
        let (yes, no) = (Choice::Approve, Choice::Reject);
        for (said, expected) in [
            (r#""status": "resolved", "payload": true"#, (yes, None, false)),
            (r#""status": "resolved", "payload": {"approved": true}"#, (yes, None, false)),
            (
                r#""status": "resolved", "payload": {"approved": true, "payload": {"n": 1.0}}"#,
                (yes, Some(r#"{"n": 1.0}"#.to_owned()), false),
            ),
            (r#""status": "resolved", "payload": {"approved": false, "payload": 7}"#, (no, Some("7".into()), false)),
            (r#""status": "cancelled", "metadata": {"a": 1}"#, (no, None, true)),
        ] {
            assert_eq!(resume(&entry(said)), Ok(vec![expected]), "{said}");
        }
    }

    #[test]
    fn an_answer_that_says_neither_yes_nor_no_is_none() {
        for (said, path) in [
            (r#""status": "resolved""#, "resume[0].payload"),
            (r#""status": "resolved", "payload": null"#, "resume[0].payload"),
            (r#""status": "resolved", "payload": "yes" "#, "resume[0].payload"),
            (r#""status": "resolved", "payload": {"approved": "true"}"#, "resume[0].payload"),
            (r#""status": "resolved", "payload": {"approved": true, "editedArgs": {}}"#, "resume[0].payload"),
            (r#""status": "done", "payload": true"#, "resume[0].status"),
        ] {
            assert_eq!(resume(&entry(said)), Err(vec![path.to_owned()]), "{said}");
        }
        for id in ["r/ask", "r/ask/0", "r/ask/1/2", "a b/ask/1", "r//1", ""] {
            let said = format!(r#"[{{"interruptId": "{id}", "status": "cancelled"}}]"#);
            assert_eq!(resume(&said), Err(vec!["resume[0].interruptId".to_owned()]), "{id}");
        }
        assert_eq!(resume("{}"), Err(vec!["resume".to_owned()]));
    }

    #[test]
    fn the_same_answer_has_the_same_key_and_another_has_another() {
        let project = ProjectId::parse("p").expect("an id");
        let key = |said: &str, by: &str| {
            let raw = entry(said);
            let raw = serde_json::from_str::<&RawValue>(&raw).expect("JSON");
            let mut decisions = Decisions::new(project.clone(), read_resume(raw, &mut Vec::new()), by);
            decisions.pop().expect("none is refused").expect("one").claim.key
        };
        let yes = key(r#""status": "resolved", "payload": {"approved": true, "payload": {"a": 1, "b": 2}}"#, "ann");
        assert_eq!(key(r#""status": "resolved", "payload": {"approved": true, "payload": {"b":2,"a":1}}"#, "ann"), yes);
        assert_ne!(key(r#""status": "resolved", "payload": true"#, "ann"), yes);
        assert_ne!(key(r#""status": "cancelled""#, "ann"), key(r#""status": "cancelled""#, "bob"));
    }

    /// So many answers, one for each step.
    fn many(count: usize) -> Vec<StepAnswer> {
        let entry = |at| format!(r#"{{"interruptId": "r/s{at}/1", "status": "resolved", "payload": true}}"#);
        let entries: Vec<_> = (0..count).map(entry).collect();
        let resume = format!("[{}]", entries.join(","));
        read_resume(serde_json::from_str(&resume).expect("JSON"), &mut Vec::new())
    }

    #[test]
    fn answers_are_few_and_each_question_is_answered_once() {
        assert_eq!((many(ANSWERS_MAX).len(), many(ANSWERS_MAX + 1).len()), (ANSWERS_MAX, 0));
        let part = json!({"state": "approval-responded", "approval": {"id": "r/ask/1", "approved": true}});
        for (count, expected) in [(1, 0), (2, 1), (ANSWERS_MAX + 1, 1)] {
            let mut issues = Vec::new();
            let read = read_approvals(&vec![part.clone(); count], &Members::of_member(None), &mut issues);
            answered_run(&read, "messages", &mut issues);
            assert_eq!(issues.len(), expected, "{issues:?}");
        }
    }

    #[test]
    fn what_answers_take_is_weighed() {
        let project = ProjectId::parse("p").expect("an id");
        let bytes = Decisions::new(project, many(100), "ann").bytes();
        assert!(bytes >= 100 * (size_of::<StepAnswer>() + "r/s10/1".len()), "{bytes}");
    }

    #[test]
    fn an_answer_that_is_refused_keeps_no_other_from_counting() {
        let late = Refusal::Steering(SteeringError::NotWaiting { status: crate::model::StepStatus::Completed });
        let project = ProjectId::parse("p").expect("an id");
        let mut decisions = Decisions::new(project.clone(), many(4), "ann");
        let mut asked = Vec::new();
        let told = loop {
            match decisions.pop() {
                Ok(Some(request)) => asked.push(request.run),
                Ok(None) => panic!("one was refused"),
                Err(problem) => break problem,
            }
            decisions.note((asked.len() == 2).then_some(&late));
        };
        assert_eq!((asked.len(), told.status, told.code), (4, 409, "not_waiting"));
        assert!(
            told.detail.starts_with("r/s1/1: ") && told.detail.ends_with("(3 of 4 answers were accepted)"),
            "{told:?}"
        );

        let mut decisions = Decisions::new(project, many(4), "ann");
        decisions.pop().expect("none is refused").expect("one");
        decisions.note(Some(&Refusal::UnknownRun));
        assert_eq!(decisions.pop().map(|_| ()).map_err(|problem| problem.code), Err("unknown_run"));
    }
}
