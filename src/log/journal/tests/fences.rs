//! Nodes that the others think gone, and stores that answer late or not at all.

use super::*;
use crate::log::MemoryStore;
use crate::log::fake_engine::TTL_MS;
use crate::log::faulty::{Call, Disk, Fault};
use crate::log::store::Tail;

fn node(disk: &Disk<MemoryStore>) -> Bench {
    let mut bench = Bench::new();
    let read_plan = Box::new(|_: &[u8]| Ok(plan(&["a", "b: a"])));
    let store = Box::new(disk.store_as(&disk.join()));
    let opened = Journal::open(store, bench.signer.clone(), limits(), read_plan, bench.now);
    bench.journal = opened.expect("nothing fails").0;
    bench
}

fn abandons(outcome: &Outcome) -> Option<u64> {
    outcome.orders.iter().find_map(|order| if let Order::Abandon(number) = order { Some(*number) } else { None })
}

#[test]
fn a_node_whose_lease_is_over_when_its_store_comes_back_is_fenced_whatever_its_beats_say() {
    let disk = Disk::shared_by_nodes(MemoryStore::new());
    let mut node = node(&disk);
    node.submit("r");
    disk.set(Fault::Always(Call::WRITES));
    node.say("r", vec![started()]);
    assert!(node.journal.is_down());
    disk.pass_ms(TTL_MS);
    disk.set(Fault::Never);
    node.handle(Vec::new());
    node.wait_ms(250);
    let outcome = node.handle(Vec::new());
    let number = abandons(&outcome).expect("its runs may be another's");
    node.handle(vec![Command::Abandoned(number)]);
    assert!(!node.journal.is_down() && node.journal.standings().joined_at() == node.now.mono);
    // And once more.
    disk.pass_ms(TTL_MS);
    assert_eq!(abandons(&node.handle(vec![Command::Probe])), Some(number + 1), "a probe finds it out too");
}

#[test]
fn a_store_that_answers_late_is_not_tried_once_more_for_each_batch() {
    let disk = Disk::shared_by_nodes(MemoryStore::new());
    let mut node = node(&disk);
    disk.set(Fault::Always(Call::ALL));
    node.handle(vec![publish(&p(), 1, 1)]);
    assert!(node.journal.is_down() && node.journal.next_deadline() < node.now.mono, "it says what time it is");
    // So long it took to fail.
    node.wait_ms(5000);
    let failed = disk.failed();
    node.handle(vec![publish(&p(), 1, 2)]);
    node.wait_ms(249);
    node.handle(vec![publish(&p(), 1, 3)]);
    assert_eq!(disk.failed(), failed);
    node.wait_ms(1);
    node.handle(Vec::new());
    assert!(disk.failed() > failed);
    disk.set(Fault::Never);
    node.handle(Vec::new());
    node.wait_ms(250);
    node.handle(Vec::new());
    assert!(!node.journal.is_down());
}

#[test]
fn what_is_published_to_a_project_without_room_holds_nobody_up_and_is_numbered_once_there_is_room() {
    let disk = Disk::shared_by_nodes(MemoryStore::new());
    let identity = disk.join();
    let mut node = Bench::new();
    let read_plan = Box::new(|_: &[u8]| Ok(plan(&["a", "b: a"])));
    let few = Limits { projects: 1, ..limits() };
    let opened = Journal::open(Box::new(disk.store_as(&identity)), node.signer.clone(), few, read_plan, node.now);
    node.journal = opened.expect("nothing fails").0;
    let mut tail = disk.tail(&identity, 100);
    let watched = Subscription { ..everything(p()) };
    node.handle(vec![subscribe(watched, 0)]);
    for of in ["q", "q", "p"] {
        disk.publish(&project(of), "{}".into());
    }
    let mut look = |node: &mut Bench| {
        let published = tail.published(2, &node.journal.standings().put_off()).expect("it can be read");
        node.handle(vec![Command::Drain(published)]);
        disk.outgoing()
    };
    assert_eq!((look(&mut node), look(&mut node)), (3, 2));
    // What was watched holds nothing: there is room.
    node.journal.limits.projects = 2;
    node.handle(Vec::new());
    assert_eq!(look(&mut node), 0);
}
