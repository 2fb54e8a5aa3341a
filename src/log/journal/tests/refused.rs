//! What a store never keeps is in nobody's way but its own.

use super::*;
use crate::log::MemoryStore;
use crate::log::faulty::{Call, Disk, Fault};

fn bench(disk: &Disk<MemoryStore>) -> Bench {
    let mut bench = Bench::new();
    bench.journal = open(&bench, disk).0;
    bench
}

fn open(bench: &Bench, disk: &Disk<MemoryStore>) -> (Journal, Outcome) {
    let read_plan = Box::new(|_: &[u8]| Ok(plan(&["a", "b: a"])));
    Journal::open(Box::new(disk.store()), bench.signer.clone(), limits(), read_plan, bench.now).expect("nothing fails")
}

/// The end of a run whose state takes much.
fn is_large_end(write: &Write) -> bool {
    matches!(write, Write::RunEnded { state, .. } if state.len() > 5000)
}

fn is_large_output(write: &Write) -> bool {
    matches!(write, Write::Output { bytes, .. } if bytes.len() > 5000)
}

fn is_large_message(write: &Write) -> bool {
    matches!(write, Write::Message(message, _) if message.json.len() > 5000)
}

fn is_an_end(write: &Write) -> bool {
    matches!(write, Write::RunEnded { .. })
}

fn large() -> StepUpdate {
    done(json!("x".repeat(5000)), false)
}

fn kept_orders(outcome: &Outcome) -> u64 {
    outcome.orders.iter().map(|order| if let Order::Kept(count) = order { *count } else { 0 }).sum()
}

fn cancelled(outcome: &Outcome) -> Vec<&str> {
    let cancelled = outcome.orders.iter().filter_map(|order| match order {
        Order::Cancel { run, .. } => Some(run.as_str()),
        _ => None,
    });
    cancelled.collect()
}

impl Bench {
    fn status(&mut self, run: &str) -> (Value, String) {
        let query = Query::Run { project: p(), run: run_id(run), wanted: WantedRun::CUT };
        let answer = self.ask(Command::Read { query, reply: reply_to(0) });
        let Answer::Json(body) = answer else { panic!("{answer:?}") };
        let run: Value = serde_json::from_slice(&body).expect("JSON");
        (run["status"].clone(), run["error"].as_str().unwrap_or_default().to_owned())
    }

    fn is_sound(&mut self, disk: &Disk<MemoryStore>) {
        assert!(!self.journal.is_down() && self.journal.held_back() == 0);
        disk.set(Fault::Never);
        let before = self.journal.runs.len();
        self.journal.reload(None, &Default::default(), self.now).expect("it can be read");
        assert_eq!(self.journal.runs.len(), before, "what is held is what is kept");
    }
}

#[test]
fn a_run_that_the_store_refused_was_an_outage_for_all() {
    let disk = Disk::new(MemoryStore::new());
    let mut bench = bench(&disk);
    ["r", "s"].iter().for_each(|run| bench.submit(run));
    bench.say("r", vec![started(), progress("a", large())]);
    bench.say("s", vec![started()]);
    disk.set(Fault::Refuses(is_large_end));
    let at = bench.now.wall;
    let records =
        vec![event("r", progress("b", running()), at), event("s", completed(), at), event("r", completed(), at)];
    let outcome = bench.handle(vec![Command::Records(records), publish(&p(), 1, 7), submit("t", None, 1, 8)]);
    assert_eq!((kept_orders(&outcome), cancelled(&outcome)), (1, vec!["r"]));
    let answers = answers(outcome);
    assert!(matches!(answers[..], [(7, Answer::Published { .. }), (8, Answer::Accepted { .. })]), "{answers:?}");
    assert_eq!(bench.status("s").0, "completed");
    let (status, error) = bench.status("r");
    assert!(status == "failed" && error.contains("too large in this test"), "{status} {error}");
    // What it goes on to say is nowhere.
    assert_eq!(kept_orders(&bench.say("r", vec![completed()])), 1);
    bench.is_sound(&disk);
}

#[test]
fn what_a_run_wrote_and_the_store_refused_was_tried_for_ever() {
    let disk = Disk::new(MemoryStore::new());
    let mut bench = bench(&disk);
    bench.submit("r");
    disk.set(Fault::Refuses(is_large_output));
    let outcome = bench.handle(vec![Command::Records(vec![written(OutputStream::Stdout, 1, &"x".repeat(6000))])]);
    assert_eq!((kept_orders(&outcome), cancelled(&outcome)), (1, vec!["r"]));
    assert_eq!(bench.status("r").0, "failed");
    let page = bench.page(0, None, 1 << 20);
    let Answer::Page(page) = page else { panic!("{page:?}") };
    let types: Vec<_> = messages_of(&page.bytes).iter().map(|message| message["type"].clone()).collect();
    assert_eq!(types, ["workflow_started", "workflow_failed"]);
    bench.is_sound(&disk);
}

#[test]
fn what_was_held_back_and_then_refused_made_an_outage_endless() {
    let disk = Disk::new(MemoryStore::new());
    let mut bench = bench(&disk);
    ["r", "s"].iter().for_each(|run| bench.submit(run));
    disk.set(Fault::Always(Call::WRITES));
    bench.say("r", vec![started(), progress("a", large())]);
    bench.say("s", vec![started(), completed()]);
    assert!(bench.journal.is_down());
    bench.handle(vec![Command::Barrier(reply_to(5))]);
    disk.set(Fault::Refuses(is_large_message));
    bench.wait_ms(1000);
    let outcome = bench.handle(Vec::new());
    assert_eq!((kept_orders(&outcome), cancelled(&outcome)), (2, vec!["r"]));
    assert!(matches!(answers(outcome)[..], [(5, Answer::Reached)]));
    assert_eq!((bench.status("r").0, bench.status("s").0), (json!("failed"), json!("completed")));
    bench.is_sound(&disk);
}

#[test]
fn an_event_that_the_store_refused_was_an_outage() {
    let disk = Disk::new(MemoryStore::new());
    let mut bench = bench(&disk);
    disk.set(Fault::Refuses(|write| matches!(write, Write::Message(message, _) if message.seq == 2)));
    let answers = answers(bench.handle(vec![publish(&p(), 2, 1), publish(&project("q"), 1, 2)]));
    assert!(
        matches!(answers[..], [(1, Answer::Refused(Refusal::TooLarge)), (2, Answer::Published { .. })]),
        "{answers:?}"
    );
    bench.is_sound(&disk);
}

#[test]
fn a_plan_that_contradicted_what_is_kept_was_called_too_large() {
    let disk = Disk::new(MemoryStore::new());
    let mut bench = bench(&disk);
    disk.set(Fault::Contradicts(|write| matches!(write, Write::RunCreated { .. })));
    let answers = answers(bench.handle(vec![submit("r", None, 1, 1), publish(&p(), 1, 2)]));
    let [(1, Answer::Refused(refusal)), (2, Answer::Published { .. })] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!(*refusal, Refusal::NotKept);
    bench.is_sound(&disk);
}

#[test]
fn a_run_whose_end_is_never_kept_is_in_nobodys_way_at_a_start_either() {
    let disk = Disk::new(MemoryStore::new());
    let mut bench = bench(&disk);
    bench.submit("r");
    disk.set(Fault::Refuses(is_an_end));
    assert_eq!(cancelled(&bench.say("r", vec![started(), completed()])), ["r"]);
    assert!(!bench.journal.is_down());
    assert_eq!(bench.publish(&p(), 1), 1, "nothing of it is there");
    let no_plan = Box::new(|_: &[u8]| Err("none".to_owned()));
    let opened = Journal::open(Box::new(disk.store()), bench.signer.clone(), limits(), no_plan, bench.now);
    (bench.journal, _) = opened.expect("it starts");
    assert_eq!(bench.publish(&p(), 1), 2);
    disk.set(Fault::Never);
    let (_, outcome) = open(&bench, &disk);
    assert!(matches!(outcome.orders[..], [Order::Resume(_)]), "it goes on where it is kept");
}

#[test]
fn a_store_that_fails_while_what_it_refused_is_kept_apart_loses_nothing() {
    for first in 1..12 {
        let disk = Disk::new(MemoryStore::new());
        let mut bench = bench(&disk);
        ["r", "s"].iter().for_each(|run| bench.submit(run));
        disk.set(Fault::RefusesAndFails { is_refused: is_large_message, of: Call::ALL, at: first });
        let at = bench.now.wall;
        let said = [("r", started()), ("s", started()), ("r", progress("a", large())), ("s", completed())];
        let records = said.into_iter().map(|(run, kind)| event(run, kind, at)).collect();
        let mut kept = kept_orders(&bench.handle(vec![Command::Records(records)]));
        for _ in 0..3 {
            bench.wait_ms(1000);
            kept += kept_orders(&bench.handle(Vec::new()));
        }
        assert_eq!(kept, 1, "{first}");
        assert_eq!((bench.status("r").0, bench.status("s").0), (json!("failed"), json!("completed")), "{first}");
        bench.is_sound(&disk);
    }
}
