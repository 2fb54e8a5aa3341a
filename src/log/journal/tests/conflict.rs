//! What a batch does that finds that another has written.

use super::*;
use crate::log::MemoryStore;
use crate::log::faulty::{Disk, Interruption};
use crate::log::journal::conflict::CONFLICTS_MAX;

/// A node of its own over what others write to, too.
fn node(disk: &Disk<MemoryStore>, index: usize) -> Bench {
    let mut bench = Bench::new();
    let read_plan = Box::new(|_: &[u8]| Ok(plan(&["a", "b: a"])));
    let store = Box::new(disk.store_of(index));
    bench.journal =
        Journal::open(store, bench.signer.clone(), limits(), read_plan, bench.now).expect("nothing fails").0;
    bench
}

fn two_nodes() -> (Disk<MemoryStore>, Bench, Bench) {
    let disk = Disk::new(MemoryStore::new());
    let (one, other) = (node(&disk, 0), node(&disk, 1));
    (disk, one, other)
}

/// A node that writes one message to this project each time.
fn writer(disk: &Disk<MemoryStore>, to: &'static str) -> impl Fn() -> Interruption {
    let bench = Arc::new(std::sync::Mutex::new(node(disk, 7)));
    move || {
        let bench = bench.clone();
        Box::new(move || {
            bench.lock().expect("it does not panic").publish(&project(to), 1);
        })
    }
}

fn watch(bench: &mut Bench, of: &str) {
    assert!(matches!(bench.ask(subscribe(Subscription::to(project(of)), 0)), Answer::StartsAt(_)));
}

/// What is delivered to those who watch: of each row its project, and the `seq`s in it.
fn delivered(outcome: &Outcome) -> Vec<(String, Vec<u64>)> {
    frames(outcome).into_iter().map(|(project, frames)| (project.to_string(), seqs_of(&frames.bytes))).collect()
}

#[test]
fn what_another_has_written_is_delivered_before_ones_own() {
    let (_, mut one, mut other) = two_nodes();
    watch(&mut one, "p");
    other.publish(&p(), 2);
    let outcome = one.handle(vec![publish(&p(), 1, 1)]);
    assert_eq!(delivered(&outcome), [("p".to_owned(), vec![1, 2]), ("p".to_owned(), vec![3])]);
    assert!(matches!(answers(outcome)[..], [(1, Answer::Published { first_seq: 3, count: 1 })]));
}

#[test]
fn the_parts_of_other_projects_stay_as_they_are_and_nothing_is_counted_twice() {
    let (_, mut one, mut other) = two_nodes();
    one.submit("r");
    ["p", "q"].into_iter().for_each(|of| watch(&mut one, of));
    other.publish(&p(), 1);
    let at = one.now.wall;
    let records = Command::Records(vec![event("r", started(), at), event("r", output_chunk("x"), at)]);
    let outcome = one.handle(vec![publish(&project("q"), 2, 1), records, publish(&p(), 1, 2)]);
    let rows = [("p", vec![1]), ("q", vec![1, 2]), ("p", vec![2, 3, 4])].map(|(of, seqs)| (of.to_owned(), seqs));
    assert_eq!(delivered(&outcome), rows);
    assert!(matches!(outcome.orders[..], [Order::Kept(1)]), "{:?}", outcome.orders);
    let work = outcome
        .deliveries
        .iter()
        .find_map(|it| if let Delivery::Worked(work) = it { Some(work.clone()) } else { None });
    let work = work.expect("work");
    assert_eq!((work.messages(), work.commits(), work.runs().next()), (5, 1, Some(("started", 1))));
    let numbers: Vec<_> = answers(outcome).into_iter().map(|(to, _)| to).collect();
    assert_eq!(numbers, [1, 2]);
}

#[test]
fn a_batch_gives_way_so_often_and_then_the_store_counts_as_down() {
    let (disk, mut one, _) = two_nodes();
    one.submit("r");
    let writes = writer(&disk, "p");
    disk.interrupt((0..=CONFLICTS_MAX).map(|_| writes()));
    let at = one.now.wall;
    let batch = vec![publish(&p(), 1, 1), Command::Records(vec![event("r", started(), at)])];
    let outcome = one.handle(batch);
    assert!(outcome.orders.iter().any(|order| matches!(order, Order::StoreIsDown(true))));
    assert!(matches!(answers(outcome)[..], [(1, Answer::Refused(Refusal::StoreUnavailable))]));
    assert_eq!(one.journal.held_back(), 1, "what runs say is not lost");
    one.wait_ms(1000);
    let outcome = one.handle(Vec::new());
    assert!(!one.journal.is_down() && matches!(outcome.orders[..], [Order::StoreIsDown(false), Order::Kept(1)]));
    let all: Vec<_> = (1..=u64::from(CONFLICTS_MAX) + 2).collect();
    assert_eq!(one.follow(0, None).0, all, "those of the other, and the run's");
}

#[test]
fn a_batch_that_gives_way_less_often_gets_through() {
    let (disk, mut one, _) = two_nodes();
    let writes = writer(&disk, "p");
    disk.interrupt((0..CONFLICTS_MAX).map(|_| writes()));
    assert_eq!(one.publish(&p(), 1), u64::from(CONFLICTS_MAX) + 1);
}

#[test]
fn a_run_is_run_by_who_took_it_on_alone_and_hears_of_a_cancel_that_another_was_asked_for() {
    let (disk, mut one, mut other) = two_nodes();
    one.submit("r");
    one.say("r", vec![started()]);
    let cancel = Command::Cancel { project: p(), run: run_id("r"), reply: Some(reply_to(1)) };
    let outcome = other.handle(vec![cancel]);
    assert!(outcome.orders.is_empty(), "it runs elsewhere: {:?}", outcome.orders);
    assert!(matches!(answers(outcome)[..], [(1, Answer::CancelAccepted)]));
    // Whoever does not run it has nothing to say for it.
    other.publish(&p(), 1);
    assert!(frames(&other.say("r", vec![completed()])).is_empty());
    assert!(node(&disk, 1).journal.ours.is_empty(), "nor has the process that comes after it");
    let outcome = one.say("r", vec![output_chunk("x")]);
    assert!(matches!(&outcome.orders[..], [Order::Cancel { .. }, Order::Kept(1)]), "{:?}", outcome.orders);
    one.say("r", vec![failed(EndReason::Cancelled)]);
    assert_eq!(disk.look(|store| crate::log::testing::read(store, &p(), 0, None)).len(), 4);
}

#[test]
fn a_call_that_two_nodes_are_made_at_once_is_carried_out_once() {
    let (disk, mut one, other) = two_nodes();
    let other = Arc::new(std::sync::Mutex::new(other));
    let first = other.clone();
    disk.interrupt([Box::new(move || first.lock().expect("it does not panic").submit("r")) as Interruption]);
    let outcome = one.handle(vec![submit("r", None, 0, 1), submit("s", None, 0, 2)]);
    let [Order::Start { run, .. }] = &outcome.orders[..] else { panic!("{:?}", outcome.orders) };
    assert_eq!(*run, run_id("s"));
    let replayed = |(_, answer)| matches!(answer, Answer::Accepted { replayed: true, .. });
    assert_eq!(answers(outcome).into_iter().map(replayed).collect::<Vec<_>>(), [true, false]);
}

#[test]
fn a_position_that_another_node_has_given_is_gone_on_from() {
    let (_, mut one, mut other) = two_nodes();
    watch(&mut one, "p");
    other.publish(&p(), 3);
    let wanted = Subscription { resume: Some(ResumeFrom::Seq(2)), ..Subscription::to(p()) };
    let outcome = one.handle(vec![subscribe(wanted, 1)]);
    assert_eq!(delivered(&outcome), [("p".to_owned(), vec![1, 2, 3])]);
    let [(_, Answer::StartsAt(start))] = &answers(outcome)[..] else { panic!("no stream") };
    assert_eq!((start.resume, start.after), (Resume::Resumed, 2));
}

#[test]
fn what_others_wrote_while_the_store_was_down_is_delivered_once_it_is_back() {
    use crate::log::faulty::{Call, Fault};
    let (disk, mut one, mut other) = two_nodes();
    watch(&mut one, "p");
    one.publish(&p(), 1);
    disk.set(Fault::Always(Call::ALL));
    one.handle(vec![publish(&p(), 2, 1)]);
    disk.set(Fault::Never);
    other.publish(&p(), 2);
    one.wait_ms(1000);
    assert_eq!(delivered(&one.handle(Vec::new())), [("p".to_owned(), vec![2, 3])]);
}
