//! A start over what an earlier one kept.

use super::*;
use crate::log::MemoryStore;
use crate::log::faulty::{Call, Disk, Fault};
use crate::log::journal::ReadPlan;
use crate::log::protocol::WantedItems;
use crate::model::{ItemCounts, ItemState, StepStatus};

pub(super) fn open(disk: &Disk<MemoryStore>, read_plan: ReadPlan) -> (Bench, Outcome) {
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
fn of_all_runs_that_had_ended_a_moment_ago_each_was_read_twice() {
    let disk = Disk::new(MemoryStore::new());
    let reads = || {
        disk.set(Fault::At { of: &[Call::Read], first: u64::MAX, more: 0 });
        open(&disk, readable());
        disk.seen()
    };
    let without_runs = reads();
    let (mut bench, _) = open(&disk, readable());
    ["r1", "r2", "r3"].iter().for_each(|run| bench.whole_run(run, 3));
    assert_eq!(reads(), without_runs + 1, "the one that is shown, and once");
    let (mut bench, _) = open(&disk, readable());
    let Answer::StartsAt(start) = bench.ask(subscribe(everything(p()), 0)) else { panic!("it begins") };
    let [shown] = &start.snapshots[..] else { panic!("one is shown") };
    assert!(String::from_utf8_lossy(shown).contains("r3"), "the newest");
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
            let why = "the run cannot continue after the restart: it is of a later format";
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

#[test]
fn a_run_goes_on_with_what_was_kept_of_the_items_of_its_steps() {
    let disk = Disk::new(MemoryStore::new());
    let (mut bench, _) = open(&disk, readable());
    bench.submit("r");
    let at = bench.now.wall;
    let mut begins = progress("a", running());
    if let RunEventKind::Progress(said) = &mut begins {
        said.items = Some(ItemCounts { total: 3, ..ItemCounts::default() });
    }
    let item = |item: u32, updates: &[StepUpdate]| {
        let mut state = ItemState::pending(item);
        updates.iter().for_each(|update| state.apply(1, update, at));
        let state = Box::new(state);
        Record::Item { project: p(), run: run_id("r"), step: step_id("a"), state }
    };
    let (whole, step) = (Arc::new(json!("whole")), step_id("a").of_item(0));
    bench.records(vec![
        event("r", started(), at),
        event("r", begins, at),
        item(0, &[running()]),
        item(1, &[running()]),
        Record::Whole { project: p(), run: run_id("r"), step: step.clone(), output: whole.clone() },
        item(0, &[running(), done(json!("wh"), true)]),
    ]);
    let list = |bench: &mut Bench, after, status| {
        let (project, run, step) = (p(), run_id("r"), step_id("a"));
        let wanted = WantedItems { after, status, limit: 1 };
        let list = bench.json(Query::Items { project, run, step, wanted });
        let numbers: Vec<_> =
            list["items"].as_array().expect("a list").iter().map(|item| item["item"].clone()).collect();
        (numbers, list["next"].clone())
    };
    assert_eq!(list(&mut bench, None, None), (vec![json!(0)], json!(0)));
    assert_eq!(list(&mut bench, Some(0), None), (vec![json!(1)], Value::Null));
    assert_eq!(list(&mut bench, None, Some(StepStatus::Running)), (vec![json!(1)], Value::Null));

    let (mut bench, outcome) = open(&disk, readable());
    let [Order::Resume(resumed)] = &outcome.orders[..] else { panic!("not gone on with: {:?}", outcome.orders) };
    let kept: Vec<_> = resumed.items[&step_id("a")].iter().map(|item| (item.item, item.status)).collect();
    assert_eq!(kept, [(0, StepStatus::Completed), (1, StepStatus::Running)]);
    assert_eq!((&resumed.whole_outputs[&step], resumed.items.len()), (&whole, 1));
    bench.say("r", vec![completed()]);
    bench.wait_ms(100_000);
    assert_eq!(list(&mut bench, None, None).0, [json!(0)], "also once it has ended");
}

/// Every stream that asked for items had each step of each open run of its project looked at.
#[test]
fn items_were_looked_for_in_runs_that_have_none() {
    let disk = Disk::new(MemoryStore::new());
    let (mut bench, _) = open(&disk, readable());
    for n in 0..10 {
        bench.submit(&format!("r{n}"));
        bench.say(&format!("r{n}"), vec![started(), progress("a", running())]);
    }
    let looked_at = |bench: &Bench, run: Option<RunNumber>| {
        let project = p();
        let runs = bench.journal.runs_with_items(&project, run);
        runs.map(|(number, state)| (number, state.run_id.to_string())).collect::<Vec<_>>()
    };
    assert_eq!(looked_at(&bench, None), []);
    let mut begins = progress("b", running());
    if let RunEventKind::Progress(said) = &mut begins {
        said.items = Some(ItemCounts { total: 3, ..ItemCounts::default() });
    }
    bench.say("r7", vec![begins]);
    let found = looked_at(&bench, None);
    let [(number, name)] = &found[..] else { panic!("not one: {found:?}") };
    assert_eq!(name, "r7");
    let (bench, _) = open(&disk, readable());
    assert_eq!(looked_at(&bench, None), found, "after a start, too");
    assert_eq!(looked_at(&bench, Some(*number)), found);
    let other = *bench.journal.projects[&p()].open_runs.first().expect("open runs");
    assert_eq!(looked_at(&bench, Some(other)), []);
}

#[test]
fn after_a_restart_those_of_a_group_that_had_begun_go_on_and_the_others_wait_in_their_order() {
    let disk = Disk::new(MemoryStore::new());
    let of_group = || -> ReadPlan {
        Box::new(|_| {
            let concurrency = Concurrency { group: "g".into(), limit: 2, on_conflict: OnConflict::Queue };
            Ok(Plan { concurrency: Some(Arc::new(concurrency)), ..plan(&["a", "b: a"]) })
        })
    };
    let (mut bench, _) = open(&disk, of_group());
    let queue = |run: &str| grouped(run, 2, OnConflict::Queue);
    let outcome = bench.handle(["r1", "r2", "r3", "r4"].map(queue).into());
    assert_eq!(told(&outcome), ["r1 begins", "r2 begins", "r3 waits", "r4 waits"]);
    bench.say("r2", vec![started()]);
    let (mut bench, outcome) = open(&disk, of_group());
    assert_eq!(told(&outcome), ["r1 goes on", "r2 goes on", "r3 waits on", "r4 waits on"]);
    bench.say("r1", vec![started()]);
    assert_eq!(ends(&mut bench, "r2"), ["r3 is released"]);
    let (_, outcome) = open(&disk, of_group());
    assert_eq!(told(&outcome), ["r1 goes on", "r3 goes on", "r4 waits on"]);
}
