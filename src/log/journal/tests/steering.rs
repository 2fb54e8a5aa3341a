//! Wishes for runs: whoever has one is answered once, and yes only for what is kept.

use super::*;
use crate::log::MemoryStore;
use crate::log::faulty::{Call, Disk, Fault};
use crate::log::{SteerRequest, journal::steering::STEERINGS_MAX};
use crate::model::{Choice, Decide, Steer, Steering, SteeringError, SteeringId, StepStatus, Verdict};

fn bench(disk: &Disk<MemoryStore>) -> Bench {
    let mut bench = Bench::new();
    let read_plan = Box::new(|_: &[u8]| Ok(plan(&["a", "b: a"])));
    let opened = Journal::open(Box::new(disk.store()), bench.signer.clone(), limits(), read_plan, bench.now);
    bench.journal = opened.expect("nothing fails").0;
    bench
}

fn with_run() -> (Bench, Disk<MemoryStore>) {
    let disk = Disk::new(MemoryStore::new());
    let mut bench = bench(&disk);
    bench.submit("r");
    bench.say("r", vec![started()]);
    (bench, disk)
}

fn steer(run: &str, key: Option<&str>, fingerprint: u8, to: u64) -> Command {
    let fingerprint = Fingerprint { value: [fingerprint; 32], bytes: [fingerprint; 32] };
    let claim = Claim { project: p(), key: key.map(str::to_owned), run: None, fingerprint };
    let what = Steering::Decide(Decide { step: step_id("a"), choice: Choice::Approve, payload: None });
    let request = SteerRequest { claim, run: run_id(run), by: "ann".into(), what };
    Command::Steer { request: Box::new(request), reply: reply_to(to) }
}

fn orders(outcome: &Outcome) -> Vec<SteeringId> {
    let id = |order: &Order| match order {
        Order::Steer { steer, .. } => Some(steer.id),
        _ => None,
    };
    outcome.orders.iter().filter_map(id).collect()
}

/// The run does it, and says so.
fn yes(id: SteeringId) -> Vec<Record> {
    let verdict = Box::new(Verdict { id, answer: Ok(json!({"of": id})) });
    let at = Timestamp::from_millis(0);
    vec![
        event("r", progress("a", done(json!(id.0), false)), at),
        Record::Verdict { project: p(), run: run_id("r"), verdict },
    ]
}

fn no(id: SteeringId) -> Vec<Record> {
    let answer = Err(SteeringError::NotWaiting { status: StepStatus::Running });
    vec![Record::Verdict { project: p(), run: run_id("r"), verdict: Box::new(Verdict { id, answer }) }]
}

impl Bench {
    /// A wish goes on its way.
    fn steer(&mut self, key: Option<&str>, to: u64) -> SteeringId {
        let outcome = self.handle(vec![steer("r", key, 0, to)]);
        let id = orders(&outcome)[..].try_into().map(|[id]: [SteeringId; 1]| id).expect("one order");
        assert!(answers(outcome).is_empty(), "the run has not decided");
        id
    }

    fn answered(&mut self, records: Vec<Record>) -> Vec<(u64, String)> {
        shown(self.handle(vec![Command::Records(records)]))
    }
}

fn shown(outcome: Outcome) -> Vec<(u64, String)> {
    let text = |answer| match answer {
        Answer::Accepted { body, replayed } => {
            format!("{}{}", String::from_utf8_lossy(&body), if replayed { " again" } else { "" })
        }
        Answer::Refused(refusal) => format!("{refusal:?}"),
        other => format!("{other:?}"),
    };
    answers(outcome).into_iter().map(|(to, answer)| (to, text(answer))).collect()
}

fn refused(refusal: Refusal) -> String {
    format!("{refusal:?}")
}

#[test]
fn who_steers_is_answered_when_it_is_kept_and_by_the_key_again() {
    let (mut bench, _) = with_run();
    let id = bench.steer(Some("k"), 1);
    let outcome = bench.handle(vec![steer("r", Some("k"), 0, 2), steer("r", Some("k"), 9, 3)]);
    assert!(orders(&outcome).is_empty());
    assert_eq!(shown(outcome), [(3, refused(Refusal::KeyReused))], "the same call waits for the same answer");
    let body = format!(r#"{{"of":{}}}"#, id.0);
    assert_eq!(bench.answered(yes(id)), [(1, body.clone()), (2, body.clone())]);
    assert!(bench.answered(no(id)).is_empty(), "nobody is answered twice");
    for (fingerprint, expected) in [(0, format!("{body} again")), (9, refused(Refusal::KeyReused))] {
        assert_eq!(shown(bench.handle(vec![steer("r", Some("k"), fingerprint, 4)])), [(4, expected)]);
    }
    let other = bench.steer(None, 5);
    let error = SteeringError::NotWaiting { status: StepStatus::Running };
    assert_eq!(bench.answered(no(other)), [(5, refused(Refusal::Steering(error)))]);
}

#[test]
fn who_steered_a_run_in_the_batch_of_its_end_was_told_that_another_node_has_it() {
    let (mut bench, _) = with_run();
    let end = Command::Records(vec![event("r", completed(), Timestamp::from_millis(0))]);
    let cancel = Command::Cancel { project: p(), run: run_id("r"), reply: Some(reply_to(2)) };
    let outcome = bench.handle(vec![end, steer("r", None, 0, 1), cancel]);
    assert!(orders(&outcome).is_empty());
    assert_eq!(shown(outcome), [(1, refused(Refusal::RunEnded)), (2, refused(Refusal::RunEnded))]);
}

#[test]
fn a_call_that_comes_again_in_the_batch_of_its_answer_gets_that() {
    let (mut bench, _) = with_run();
    let id = bench.steer(Some("k"), 1);
    let outcome =
        bench.handle(vec![Command::Records(no(id)), steer("r", Some("k"), 0, 2), steer("r", Some("k"), 0, 3)]);
    let again = orders(&outcome)[..].try_into().map(|[id]: [SteeringId; 1]| id).expect("it is tried anew, once");
    assert_eq!(shown(outcome).len(), 1, "a refusal binds no key");
    let outcome = bench.handle(vec![Command::Records(yes(again)), steer("r", Some("k"), 0, 4)]);
    let body = format!(r#"{{"of":{}}}"#, again.0);
    assert_eq!(shown(outcome), [(4, format!("{body} again")), (2, body.clone()), (3, body)]);
}

#[test]
fn only_a_run_that_goes_on_is_steered() {
    let (mut bench, _) = with_run();
    assert_eq!(shown(bench.handle(vec![steer("x", None, 0, 1)])), [(1, refused(Refusal::UnknownRun))]);
    let late = bench.steer(None, 2);
    bench.say("r", vec![completed()]);
    assert_eq!(shown(bench.handle(vec![steer("r", None, 0, 3)])), [(3, refused(Refusal::RunEnded))]);
    let ended = refused(Refusal::Steering(SteeringError::RunEnded));
    assert_eq!(bench.answered(yes(late)), [(2, ended)], "what it says behind its last message is not kept");
}

#[test]
fn whoever_waits_hears_yes_only_once_the_store_is_back() {
    let (mut bench, disk) = with_run();
    let id = bench.steer(Some("k"), 1);
    disk.set(Fault::At { of: Call::WRITES, first: 1, more: u64::MAX });
    assert!(bench.answered(yes(id)).is_empty());
    assert!(bench.journal.is_down());
    let down = refused(Refusal::StoreUnavailable);
    assert_eq!(shown(bench.handle(vec![steer("r", None, 0, 2)])), [(2, down)], "whoever comes now is told at once");
    disk.set(Fault::Never);
    bench.wait_ms(300);
    assert_eq!(shown(bench.handle(Vec::new())), [(1, format!(r#"{{"of":{}}}"#, id.0))]);
    let mut anew = self::bench(&disk);
    let again = format!(r#"{{"of":{}}} again"#, id.0);
    assert_eq!(shown(anew.handle(vec![steer("r", Some("k"), 0, 3)])), [(3, again)], "after a crash too");
}

#[test]
fn a_wish_of_a_batch_that_failed_is_on_its_way_nowhere() {
    let (mut bench, disk) = with_run();
    disk.set(Fault::At { of: Call::WRITES, first: 1, more: u64::MAX });
    let outcome = bench.handle(vec![steer("r", Some("k"), 0, 1), publish(&p(), 1, 2)]);
    assert!(orders(&outcome).is_empty());
    let down = refused(Refusal::StoreUnavailable);
    assert_eq!(shown(outcome), [(1, down.clone()), (2, down)]);
    disk.set(Fault::Never);
    bench.wait_ms(300);
    bench.handle(Vec::new());
    bench.steer(Some("k"), 3);
}

#[test]
fn what_the_store_never_keeps_is_no_yes() {
    let (mut bench, disk) = with_run();
    let id = bench.steer(None, 1);
    disk.set(Fault::Refuses(|write| matches!(write, Write::Message(message, _) if message.json.len() > 5000)));
    let mut records = yes(id);
    records[0] = event("r", progress("a", done(json!("x".repeat(6000)), false)), Timestamp::from_millis(0));
    assert_eq!(bench.answered(records), [(1, refused(Refusal::TooLarge))]);
    assert!(!bench.journal.is_down());
}

#[test]
fn wishes_on_their_way_are_bounded_and_refused_once_the_executor_has_ended() {
    let (mut bench, _) = with_run();
    (0..STEERINGS_MAX as u64).for_each(|to| {
        bench.steer(None, to);
    });
    let full = refused(Refusal::TooManySteerings(STEERINGS_MAX));
    assert_eq!(shown(bench.handle(vec![steer("r", None, 0, 999)])), [(999, full)]);
    let outcome = bench.handle(vec![Command::Records(no(SteeringId(1))), Command::ExecutorEnded]);
    let answers = shown(outcome);
    let over = refused(Refusal::Steering(SteeringError::ShuttingDown));
    assert_eq!(answers.len(), STEERINGS_MAX, "each once");
    assert_eq!(answers.iter().filter(|(_, answer)| *answer == over).count(), STEERINGS_MAX - 1);
    assert_eq!(shown(bench.handle(vec![steer("r", None, 0, 1)])), [(1, over)]);
}

#[test]
fn what_travels_to_a_run_and_back_reads_back() {
    let steer = Steer {
        id: SteeringId(7),
        by: "ann".into(),
        what: Steering::Decide(Decide {
            step: step_id("a"),
            choice: Choice::Reject,
            payload: Some(Arc::new(json!({"why": null}))),
        }),
    };
    let text = serde_json::to_string(&steer).expect("serializes");
    assert_eq!(serde_json::from_str::<Steer>(&text).expect("reads back"), steer);
    for answer in [Ok(json!([1])), Err(SteeringError::NotWaiting { status: StepStatus::Pending })] {
        let verdict = Verdict { id: SteeringId(7), answer };
        let text = serde_json::to_string(&verdict).expect("serializes");
        assert_eq!(serde_json::from_str::<Verdict>(&text).expect("reads back"), verdict);
    }
}
