//! Calls that come to two nodes at once, and schedules that two nodes have: what is to be done once is, wherever it comes in
//! between.

use std::sync::Mutex;

use super::*;
use crate::http::Preconditions;
use crate::log::faulty::{Disk, Interruption};
use crate::log::{FiringNote, MemoryStore, NewPlan, Origin, PlanCommand, ScheduledPlan};
use crate::model::PlanName;

fn node(disk: &Disk<MemoryStore>) -> Bench {
    let mut bench = Bench::new();
    let read_plan = Box::new(|_: &[u8]| Ok(plan(&["a", "b: a"])));
    let store = Box::new(disk.store_as(&disk.join()));
    bench.journal =
        Journal::open(store, bench.signer.clone(), limits(), read_plan, bench.now).expect("nothing fails").0;
    bench
}

/// What two nodes answer that are asked at once: the second while the first is about to keep what it was asked. Or one after
/// the other, so that the first knows of nothing. And how many runs began.
fn ask_both(of_first: &dyn Fn() -> Command, of_second: &dyn Fn() -> Command, is_between: bool) -> ([Answer; 2], usize) {
    let disk = Disk::shared_by_nodes(MemoryStore::new());
    let (mut one, other) = (node(&disk), Arc::new(Mutex::new(node(&disk))));
    let told = Arc::new(Mutex::new(None));
    let (asked, heard, second) = (other.clone(), told.clone(), of_second());
    let ask = move || {
        let outcome = asked.lock().expect("it does not panic").handle(vec![second]);
        *heard.lock().expect("it does not panic") = Some(outcome);
    };
    match is_between {
        true => disk.interrupt([Box::new(ask) as Interruption]),
        false => ask(),
    }
    let first = one.handle(vec![of_first()]);
    let second = told.lock().expect("it does not panic").take().expect("it was asked");
    let begun = [&first, &second].into_iter().flat_map(|outcome| &outcome.orders);
    let begun = begun.filter(|order| matches!(order, Order::Start { .. })).count();
    let answer = |outcome| answers(outcome).remove(0).1;
    ([answer(first), answer(second)], begun)
}

/// A call with this key and body, for a run of an id of its own; or which its caller chose.
fn call(run: &str, key: Option<&str>, is_chosen: bool, fingerprint: u8) -> Command {
    let mut submission = submission("p", run, key, fingerprint);
    submission.claim.run = is_chosen.then(|| run_id(run));
    Command::Submit { submission: Box::new(submission), reply: reply_to(0) }
}

#[test]
fn a_call_that_comes_to_two_nodes_at_once_gets_one_answer() {
    let body = |run: &str| format!("{{\"runId\":\"{run}\"}}");
    let reused = || Err(Refusal::KeyReused);
    for is_between in [true, false] {
        let table = [
            ("one key", call("r1", Some("k"), false, 0), call("r2", Some("k"), false, 0), Ok((body("r2"), true)), 1),
            ("one key, another body", call("r1", Some("k"), false, 1), call("r2", Some("k"), false, 0), reused(), 1),
            ("one id", call("r", None, true, 0), call("r", None, true, 0), Ok((body("r"), true)), 1),
            ("one id, another body", call("r", None, true, 1), call("r", None, true, 0), reused(), 1),
            ("key and id", call("r", Some("k"), true, 0), call("r", Some("k"), true, 0), Ok((body("r"), true)), 1),
            ("two keys", call("r1", Some("k"), false, 0), call("r2", Some("l"), false, 0), Ok((body("r1"), false)), 2),
        ];
        for (name, first, second, expected, runs) in table {
            let ([first, second], begun) = ask_both(&|| first.clone(), &|| second.clone(), is_between);
            assert!(matches!(accepted(second), Ok((_, false))), "{name} {is_between}");
            assert_eq!((accepted(first), begun), (expected, runs), "{name} {is_between}");
        }
    }
}

#[test]
fn a_key_that_another_node_has_bound_is_known_though_nothing_was_told_of_it() {
    let disk = Disk::shared_by_nodes(MemoryStore::new());
    let (mut one, mut other) = (node(&disk), node(&disk));
    one.submit("before");
    other.ask(call("r1", Some("k"), false, 0));
    other.say("r1", vec![started(), completed()]);
    assert_eq!(accepted(one.ask(call("r2", Some("k"), false, 0))), Ok((r#"{"runId":"r1"}"#.to_owned(), true)));
    assert_eq!(accepted(one.ask(call("r2", Some("k"), false, 1))), Err(Refusal::KeyReused));
}

fn name() -> PlanName {
    PlanName::parse("nightly").expect("a name")
}

fn stored() -> Command {
    let new = NewPlan {
        project: p(),
        name: name(),
        conditions: Preconditions::default(),
        document: b"{}".as_slice().into(),
        tag: "tag".into(),
        summary: b"{}".as_slice().into(),
        schedule: Some(b"{}".as_slice().into()),
    };
    Command::Plan { command: PlanCommand::Put(Box::new(new)), reply: reply_to(0) }
}

fn scheduled(bench: &mut Bench) -> ScheduledPlan {
    match bench.ask(Command::Read { query: Query::Schedules, reply: reply_to(0) }) {
        Answer::Schedules(mut rows) if rows.len() == 1 => rows.remove(0),
        other => panic!("no schedule: {other:?}"),
    }
}

fn note(row: &ScheduledPlan, firings: &str) -> FiringNote {
    FiringNote { scheduled_at: row.scheduled_at, before: row.firings.clone(), firings: firings.as_bytes().into() }
}

fn noted(row: &ScheduledPlan, firings: &str) -> Command {
    let command = PlanCommand::Note { project: p(), name: name(), firing: note(row, firings) };
    Command::Plan { command, reply: reply_to(0) }
}

/// A firing: its run, and what has come of the schedule then.
fn fires(row: &ScheduledPlan, run: &str, firings: &str) -> Command {
    let mut submission = submission("p", run, None, 0);
    submission.claim.run = None;
    submission.origin = Some(Origin { name: name(), firing: Some(note(row, firings)) });
    Command::Submit { submission: Box::new(submission), reply: reply_to(0) }
}

#[test]
fn a_firing_that_two_nodes_make_at_once_is_made_and_noted_once() {
    let disk = Disk::shared_by_nodes(MemoryStore::new());
    let (mut one, mut other) = (node(&disk), node(&disk));
    one.ask(stored());
    let (seen_by_one, seen_by_other) = (scheduled(&mut one), scheduled(&mut other));
    assert_eq!(seen_by_one, seen_by_other, "whoever stored it");
    let other = Arc::new(Mutex::new(other));
    let (asked, firing) = (other.clone(), fires(&seen_by_other, "f1", "2"));
    disk.interrupt([Box::new(move || {
        let answer = asked.lock().expect("it does not panic").ask(firing);
        assert!(matches!(accepted(answer), Ok((_, false))));
    }) as Interruption]);
    let outcome = one.handle(vec![fires(&seen_by_one, "f1", "1")]);
    assert!(!outcome.orders.iter().any(|order| matches!(order, Order::Start { .. })), "{outcome:?}");
    assert!(matches!(accepted(answers(outcome).remove(0).1), Ok((_, true))), "the other has fired it");
    let refused = one.ask(noted(&seen_by_one, "1"));
    assert!(matches!(refused, Answer::Refused(Refusal::PreconditionFailed)), "and noted it: {refused:?}");
    let now = scheduled(&mut one);
    assert_eq!((&*now.firings, now.last_run.clone()), (b"2".as_slice(), Some(run_id("f1"))));

    // However late a node comes that saw it before: also where the run is gone from history.
    let late = one.ask(fires(&seen_by_one, "f0", "0"));
    assert!(matches!(late, Answer::Refused(Refusal::PreconditionFailed)), "{late:?}");
    let mut other = other.lock().expect("it does not panic");
    assert!(matches!(other.ask(noted(&now, "3")), Answer::Noted));
    let counted_twice = one.ask(noted(&now, "3"));
    assert!(matches!(counted_twice, Answer::Refused(Refusal::PreconditionFailed)), "{counted_twice:?}");
}

#[test]
fn nothing_is_noted_of_a_schedule_that_another_node_has_set_anew_or_removed() {
    let disk = Disk::shared_by_nodes(MemoryStore::new());
    let (mut one, mut other) = (node(&disk), node(&disk));
    one.ask(stored());
    let before = scheduled(&mut one);
    let remove = PlanCommand::Remove { project: p(), name: name(), conditions: Preconditions::default() };
    assert!(matches!(other.ask(Command::Plan { command: remove, reply: reply_to(0) }), Answer::PlanRemoved));
    other.wait_ms(1);
    for _ in 0..2 {
        for late in [noted(&before, "1"), fires(&before, "f1", "1")] {
            let answer = one.ask(late);
            assert!(matches!(answer, Answer::Refused(Refusal::PreconditionFailed)), "{answer:?}");
        }
        other.ask(stored());
    }
    assert!(scheduled(&mut one).firings.is_empty());
}
