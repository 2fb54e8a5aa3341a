//! Scenarios of steps that wait for a decision.

use super::*;
use crate::model::{
    Approval, Choice, Decide, Decision, OnExpire, OnReject, Steer, Steering, SteeringError, SteeringId, StepProgress,
    Verdict,
};

fn approval() -> Approval {
    Approval {
        message: "Go?".into(),
        schema: None,
        expires_at: None,
        on_expire: OnExpire::Fail,
        on_reject: OnReject::Fail,
        deciders: Vec::new(),
    }
}

impl Stage {
    /// A run whose first step asks.
    fn asking(change: impl FnOnce(&mut Plan), approval: Approval, expires_ms: Option<u64>) -> Self {
        let mut plan = plan(&["a", "b: a"]);
        change(&mut plan);
        let mut stage = Self::started(plan);
        stage.asks(approval, expires_ms);
        stage
    }

    fn asks(&mut self, approval: Approval, expires_ms: Option<u64>) {
        self.finish("a", Ok(Outcome::Wait(Box::new(approval), expires_ms.map(Duration::from_millis))));
    }

    fn decide(&mut self, by: &str, choice: Choice, payload: Option<Value>) -> Result<Value, SteeringError> {
        let what = Steering::Decide(Decide { step: step_id("a"), choice, payload: payload.map(Arc::new) });
        let steer = Steer { id: SteeringId(1), by: by.into(), what };
        self.run.steer(steer, self.now, &mut self.effects);
        self.take_all();
        let verdicts = self.effects.records.iter().filter_map(|record| match record {
            Record::Verdict { verdict, .. } => Some(Verdict::clone(verdict)),
            _ => None,
        });
        let verdicts: Vec<_> = verdicts.collect();
        self.effects.records.retain(|record| !matches!(record, Record::Verdict { .. }));
        assert_eq!(verdicts.len(), 1, "one answer each");
        verdicts[0].answer.clone()
    }

    fn decision(&self) -> Decision {
        *self.run.state().steps[0].decision.clone().expect("it was decided")
    }
}

#[test]
fn a_step_that_asks_waits_without_a_worker_and_goes_on_once_it_is_decided() {
    let mut stage = Stage::asking(|_| {}, approval(), None);
    assert_eq!(stage.log(), ["started", "[0", "a running 1", "a waiting 1"]);
    assert!(stage.workers.is_empty() && stage.run.next_deadline().is_none());
    assert!(!stage.run.is_busy(Duration::MAX), "a shutdown does not wait for it");
    let state = &stage.run.state().steps[0];
    assert_eq!(state.approval.as_deref(), Some(&approval()));
    stage.wait(5000);
    let answer = stage.decide("ann", Choice::Approve, Some(json!({"n": 1}))).expect("it waits");
    assert_eq!((&answer["decision"], &answer["by"]), (&json!("approve"), &json!("ann")));
    assert_eq!(stage.log(), ["(a whole)", "a completed 1", "0]", "[1", "b running 1"]);
    let output = stage.workers[0].scope.outputs().into_iter().next().map(|output| format!("{output:?}"));
    assert!(output.is_some_and(|output| output.contains("payload")), "later steps see who decided what");
    assert_eq!(stage.run.state().steps[0].approval, None);
    assert_eq!((stage.decision().by.as_deref(), stage.decision().expired), (Some("ann"), false));
    for choice in [Choice::Approve, Choice::Reject] {
        let again = stage.decide("bob", choice, None);
        let at = stage.now.wall;
        assert_eq!(again, Err(SteeringError::AlreadyDecided { choice: Choice::Approve, by: Some("ann".into()), at }));
    }
    assert!(stage.log().is_empty());
}

#[test]
fn the_verdict_comes_right_behind_the_message_that_tells_of_it() {
    let mut stage = Stage::asking(|_| {}, approval(), None);
    stage.log();
    let what = Steering::Decide(Decide { step: step_id("a"), choice: Choice::Reject, payload: None });
    let steer = Steer { id: SteeringId(7), by: "ann".into(), what };
    stage.run.steer(steer, stage.now, &mut stage.effects);
    let log = stage.log();
    assert_eq!(log[..3], ["a failed 1", "(verdict 7)", "0]"], "{log:?}");
}

#[test]
fn a_reject_fails_the_step_for_good_or_is_its_output() {
    for (on_reject, expected) in [(OnReject::Fail, "a failed 1"), (OnReject::Continue, "a completed 1")] {
        let retried = |plan: &mut Plan| plan.steps[0].retry = retries(3, 10);
        let mut stage = Stage::asking(retried, Approval { on_reject, ..approval() }, None);
        stage.log();
        stage.decide("ann", Choice::Reject, Some(json!("no"))).expect("it waits");
        let log = stage.log();
        assert!(log.contains(&expected.to_owned()), "{log:?}");
        let error = stage.run.state().steps[0].error.clone();
        assert_eq!(error.as_deref(), (on_reject == OnReject::Fail).then_some("rejected by ann"));
        assert_eq!((stage.decision().choice, stage.decision().payload), (Choice::Reject, Some(Arc::new(json!("no")))));
    }
}

#[test]
fn what_nobody_decides_in_time_is_what_the_plan_says() {
    for (on_expire, expected) in
        [(OnExpire::Fail, "a failed 1"), (OnExpire::Reject, "a failed 1"), (OnExpire::Approve, "a completed 1")]
    {
        let mut stage = Stage::asking(|_| {}, Approval { on_expire, ..approval() }, Some(1000));
        stage.log();
        assert_eq!(stage.run.next_deadline(), Some(Duration::from_millis(1000)));
        stage.wait(999);
        assert!(stage.log().is_empty());
        stage.wait(1);
        let log = stage.log();
        assert!(log.contains(&expected.to_owned()), "{on_expire:?}: {log:?}");
        let decision = stage.run.state().steps[0].decision.clone();
        assert_eq!(
            decision.is_some_and(|decision| decision.expired && decision.by.is_none()),
            on_expire != OnExpire::Fail
        );
    }
}

#[test]
fn who_decides_when_it_is_too_late_is_told_so_though_nobody_has_looked_at_the_clock() {
    let mut stage = Stage::asking(|_| {}, Approval { on_expire: OnExpire::Approve, ..approval() }, Some(1000));
    stage.log();
    stage.now = stage.now.plus(Duration::from_millis(1000));
    let at = stage.now.wall;
    let late = stage.decide("ann", Choice::Reject, None);
    assert_eq!(late, Err(SteeringError::AlreadyDecided { choice: Choice::Approve, by: None, at }));
    assert!(stage.log().contains(&"a completed 1".to_owned()));
}

#[test]
fn a_wait_goes_on_after_a_restart_until_when_it_was_told_to() {
    let mut stage = Stage::asking(|_| {}, approval(), Some(1000));
    stage.wait(300);
    let mut stage = stage.crash(false, 200);
    assert!(stage.log().is_empty(), "it is not asked anew");
    assert_eq!(stage.run.next_deadline(), Some(Duration::from_millis(500)));
    stage.decide("ann", Choice::Approve, None).expect("it waits");
    let mut late = Stage::asking(|_| {}, approval(), Some(1000)).crash(false, 7000);
    late.wait(0);
    assert_eq!(late.log()[0], "a failed 1", "it expired while no server ran");
}

#[test]
fn the_schema_says_what_an_approval_comes_with_and_the_deciders_who_may() {
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]});
    let asked = Approval { schema: Some(Arc::new(schema)), deciders: vec!["ann".into(), "bob".into()], ..approval() };
    let mut stage = Stage::asking(|_| {}, asked, None);
    stage.log();
    assert_eq!(stage.decide("eve", Choice::Approve, Some(json!({"n": 1}))), Err(SteeringError::NotADecider));
    for payload in [None, Some(json!({"n": "1"})), Some(json!(1))] {
        let refused = stage.decide("ann", Choice::Approve, payload);
        assert!(matches!(refused, Err(SteeringError::InvalidPayload { .. })), "{refused:?}");
    }
    assert!(stage.log().is_empty(), "it still waits");
    stage.decide("bob", Choice::Reject, Some(json!("any reason"))).expect("a reject needs no such payload");
}

#[test]
fn only_a_step_that_waits_is_decided() {
    let mut stage = Stage::new(plan(&["a", "b: a"]));
    let error = |status| Err(SteeringError::NotWaiting { status });
    assert_eq!(stage.decide("ann", Choice::Approve, None), error(StepStatus::Pending), "the run is queued");
    assert!(stage.log().is_empty(), "a wish for a run that had not begun opened its first level");
    stage.start();
    assert_eq!(stage.decide("ann", Choice::Approve, None), error(StepStatus::Running));
    stage.asks(approval(), None);
    stage.cancel();
    assert_eq!(stage.log().last().map(String::as_str), Some("failed cancelled"));
    assert_eq!(stage.decide("ann", Choice::Approve, None), Err(SteeringError::RunEnded));
    let steer = |step: &str| Steering::Decide(Decide { step: step_id(step), choice: Choice::Approve, payload: None });
    let mut stage = Stage::asking(|_| {}, approval(), None);
    stage.run.steer(Steer { id: SteeringId(1), by: "ann".into(), what: steer("x") }, stage.now, &mut stage.effects);
    let Some(Record::Verdict { verdict, .. }) = stage.effects.records.last() else { panic!("no verdict") };
    assert_eq!(verdict.answer, Err(SteeringError::UnknownStep));
}

#[test]
fn a_timeout_of_the_step_counts_for_its_wait_where_it_has_one() {
    let timed = |plan: &mut Plan| {
        plan.steps[0].timeout = Some(Duration::from_millis(500));
        plan.steps[0].retry = retries(1, 0);
    };
    let mut stage = Stage::asking(timed, approval(), Some(1000));
    stage.log();
    stage.wait(500);
    stage.wait(0);
    assert_eq!(stage.log(), ["a retrying 1", "a running 2"], "as any attempt that took too long");
    stage.asks(approval(), Some(100));
    stage.wait(200);
    assert_eq!(stage.log()[..2], ["a waiting 2", "a failed 2"], "it expires before");
}

#[test]
fn a_message_that_waits_says_what_is_asked_and_until_when() {
    let stage = Stage::asking(|_| {}, approval(), Some(1000));
    let Some(Record::Event { event, .. }) = stage.effects.records.last() else { panic!("no message") };
    let payload = serde_json::to_value(event).expect("serializes");
    assert_eq!((&payload["status"], &payload["message"]), (&json!("waiting"), &json!("Go?")));
    let asked = json!({"message": "Go?", "expiresAt": stage.now.wall.plus_millis(1000), "onExpire": "fail"});
    assert_eq!(payload["approval"], asked);
    let back = RunEvent::from_payload(event.message_type(), payload.to_string().as_bytes()).expect("reads back");
    assert_eq!(back, *event);
    let RunEventKind::Progress(StepProgress { decision: None, .. }) = back.kind else { panic!("nothing is decided") };
}
