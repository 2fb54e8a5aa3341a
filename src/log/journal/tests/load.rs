//! A start over what an earlier one kept.

use super::*;
use crate::log::MemoryStore;
use crate::log::faulty::Disk;
use crate::log::journal::ReadPlan;

fn open(disk: &Disk<MemoryStore>, read_plan: ReadPlan) -> (Bench, Outcome) {
    let mut bench = Bench::new();
    let opened = Journal::open(Box::new(disk.store()), bench.signer.clone(), limits(), read_plan, bench.now);
    let (journal, outcome) = opened.expect("nothing fails");
    bench.journal = journal;
    (bench, outcome)
}

fn readable() -> ReadPlan {
    Box::new(|_| Ok(plan(&["a", "b: a"])))
}

#[test]
fn runs_that_were_left_go_on_in_the_order_in_which_they_were_taken_on() {
    let disk = Disk::new(MemoryStore::new());
    let (mut bench, outcome) = open(&disk, readable());
    assert!(outcome.orders.is_empty() && outcome.deliveries.is_empty());
    bench.whole_run("ended", 3);
    bench.submit("waits");
    bench.submit("runs");
    bench.say("runs", vec![started(), output_chunk("text")]);
    let answer = bench.ask(Command::Cancel { project: p(), run: run_id("waits"), reply: Some(reply_to(0)) });
    assert!(matches!(answer, Answer::CancelAccepted));

    let (mut bench, outcome) = open(&disk, readable());
    let resumed = |order: &Order| match order {
        Order::Resume(run) => (run.state.run_id.to_string(), run.state.status, run.cancelled),
        other => panic!("not to be gone on with: {other:?}"),
    };
    let expected = [("waits".to_owned(), RunStatus::Queued, true), ("runs".to_owned(), RunStatus::Running, false)];
    assert_eq!(outcome.orders.iter().map(resumed).collect::<Vec<_>>(), expected);
    let next = bench.publish(&p(), 1);
    assert_eq!(next, 8, "numbers go on without a gap");
}

#[test]
fn a_clock_that_was_set_between_two_starts_ages_nothing() {
    let disk = Disk::new(MemoryStore::new());
    let (mut bench, _) = open(&disk, readable());
    bench.whole_run("r1", 3);
    bench.ask(submit("r2", Some("key"), 1, 0));
    let age_ms = limits().retention.age_ms;
    let mut wall = bench.now.wall;
    for by in [50 * 365 * DAY_MS, 0, 30 * age_ms] {
        // A board without a clock of its own; and one that was off for long.
        wall = Timestamp::from_millis(if by == 0 { 1000 } else { wall.as_millis() + by });
        bench.now.wall = wall;
        let signer = bench.signer.clone();
        let opened = Journal::open(Box::new(disk.store()), signer, limits(), readable(), bench.now);
        bench.journal = opened.expect("nothing fails").0;
        bench.wait_ms(60_000);
        bench.handle(Vec::new());
        assert_eq!(bench.follow(0, None).0[..5], [1, 2, 3, 4, 5]);
        assert!(matches!(accepted(bench.ask(submit("r3", Some("key"), 1, 0))), Ok((_, true))));
        bench.publish(&p(), 1);
        wall = bench.now.wall;
    }
    bench.wait_ms(age_ms);
    bench.handle(Vec::new());
    assert_eq!(bench.journal.newest(&p()), Ok(8));
    assert!(matches!(bench.page(0, None, 1), Answer::StartsAt(_)), "what is old is gone");
}

#[test]
fn a_run_whose_plan_is_not_understood_any_more_has_one_last_message_all_the_same() {
    let disk = Disk::new(MemoryStore::new());
    let (mut bench, _) = open(&disk, readable());
    bench.submit("waits");
    bench.submit("runs");
    bench.say("runs", vec![started()]);

    for expected in [4, 4] {
        let (mut bench, outcome) = open(&disk, Box::new(|_| Err("it is of a later format".to_owned())));
        assert!(outcome.orders.is_empty());
        let (seqs, _) = bench.follow(0, None);
        assert_eq!(seqs.len(), expected, "nothing is said twice");
        for (run, types) in
            [("waits", ["workflow_started", "workflow_failed"]), ("runs", ["workflow_started", "workflow_failed"])]
        {
            let query =
                Query::RunEvents { project: p(), run: run_id(run), after: 0, limit: 10, list: EventList::Messages };
            let events = bench.json(query)["events"].as_array().expect("events").clone();
            let found: Vec<_> = events.iter().map(|event| event["type"].as_str().expect("a type")).collect();
            assert_eq!(found, types, "{run}");
            assert_eq!(events[1]["payload"]["reason"], "interrupted");
            let why = "the run can't go on after the restart: it is of a later format";
            assert_eq!(events[1]["payload"]["error"], why);
        }
    }
}

#[test]
fn runs_that_ended_were_remembered_for_as_long_as_the_clock_was_set_back() {
    let mut bench = Bench::new();
    bench.submit("before");
    bench.say("before", vec![started(), completed()]);
    let day = DAY_MS * 1000;
    bench.now.wall = Timestamp::from_millis(bench.now.wall.as_millis() - day);
    for n in 0..100 {
        bench.submit(&format!("r{n}"));
        bench.say(&format!("r{n}"), vec![started(), completed()]);
    }
    assert_eq!((bench.journal.recent.len(), bench.journal.runs.len()), (1, 1), "the newest of its project");
    bench.wait_ms(61_000);
    bench.handle(Vec::new());
    assert_eq!((bench.journal.recent.len(), bench.journal.runs.len()), (0, 0));
}
