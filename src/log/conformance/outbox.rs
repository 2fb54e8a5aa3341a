//! What waits to be told to webhooks: in every store the same rows, in the same order, over restarts.

use std::sync::Arc;

use super::random::Generator;
use super::{TempDir, commit, open, with_each};
use crate::log::MemoryStore;
use crate::log::store::{Due, DueId, DueRow, DueTimes, Flow, OutboxChange, Store, Write};
use crate::log::testing::{number, project, run_id};
use crate::model::{Notable, Timestamp};

fn due(webhook: &str, n: u64, at: u64) -> OutboxChange {
    OutboxChange::Due(Box::new(Due {
        webhook: webhook.into(),
        project: project(),
        run: run_id(n),
        number: number(n),
        seq: 10 + n,
        notable: Notable::ALL[n as usize % Notable::ALL.len()],
        at: Timestamp::from_millis(at),
    }))
}

fn put_off(id: u64, attempts: u32, next_at: u64) -> OutboxChange {
    OutboxChange::PutOff { id: DueId(id), attempts, next_at: Timestamp::from_millis(next_at) }
}

fn change(store: &mut dyn Store, changes: impl IntoIterator<Item = OutboxChange>) {
    commit(store, &changes.into_iter().map(Write::Outbox).collect::<Vec<_>>());
}

/// It is `now`, and nothing was put off by more than a thousand milliseconds.
fn times(now: u64) -> DueTimes {
    DueTimes { now: Timestamp::from_millis(now), horizon: Timestamp::from_millis(now + 1000) }
}

fn rows(store: &dyn Store, webhook: &str, times: DueTimes) -> Vec<DueRow> {
    let mut rows = Vec::new();
    let read = store.due(webhook, times, &mut |row| {
        rows.push(row.clone());
        Flow::More
    });
    assert_eq!(read, Ok(()));
    rows
}

fn ids(store: &dyn Store, webhook: &str, now: u64) -> Vec<u64> {
    rows(store, webhook, times(now)).iter().map(|row| row.id.0).collect()
}

fn counts(store: &dyn Store) -> Vec<(Arc<str>, u64)> {
    store.outbox().expect("readable")
}

#[test]
fn what_is_due_waits_for_its_webhook_and_its_time() {
    with_each(|store| {
        change(store, [due("a", 1, 100), due("b", 2, 100), due("a", 3, 90)]);
        assert_eq!(ids(store, "a", 99), [3]);
        assert_eq!((ids(store, "a", 100), ids(store, "b", 100), ids(store, "c", 100)), (vec![3, 1], vec![2], vec![]));
        assert_eq!(counts(store), [("a".into(), 2), ("b".into(), 1)]);
        let next = |store: &dyn Store, now| store.next_due("a", times(now)).map(|at| at.map(Timestamp::as_millis));
        assert_eq!((next(store, 0), next(store, 90), next(store, 100)), (Ok(Some(90)), Ok(Some(100)), Ok(None)));

        change(store, [put_off(3, 1, 500), put_off(9, 1, 0)]);
        assert_eq!((ids(store, "a", 499), ids(store, "a", 500)), (vec![1], vec![1, 3]));
        let row = rows(store, "a", times(500)).pop().expect("the one that was put off");
        let OutboxChange::Due(of_it) = due("a", 3, 90) else { unreachable!("it is due") };
        let (attempts, next_at) = (1, Timestamp::from_millis(500));
        assert_eq!(row, DueRow { id: DueId(3), due: *of_it, attempts, next_at });

        change(store, [OutboxChange::Done(DueId(1)), OutboxChange::Done(DueId(1))]);
        assert_eq!((ids(store, "a", 500), counts(store)), (vec![3], vec![("a".into(), 1), ("b".into(), 1)]));
        change(store, [OutboxChange::LetGo("a".into()), OutboxChange::LetGo("c".into())]);
        assert_eq!((ids(store, "a", 500), counts(store)), (vec![], vec![("b".into(), 1)]));
    });
}

#[test]
fn a_clock_that_was_set_back_holds_nothing_up() {
    with_each(|store| {
        change(store, [due("a", 1, 5000), due("a", 2, 900)]);
        assert_eq!(ids(store, "a", 1000), [2, 1], "nobody puts anything off by that much");
        assert_eq!(store.next_due("a", times(1000)), Ok(None));
        assert_eq!(
            (ids(store, "a", 4000), store.next_due("a", times(4000))),
            (vec![2], Ok(Some(Timestamp::from_millis(5000))))
        );
    });
}

#[test]
fn the_oldest_go_where_too_much_waits_for_a_webhook() {
    with_each(|store| {
        change(store, (1..=5).map(|n| due("a", n, 1000 - n)));
        change(store, [due("b", 6, 0)]);
        assert_eq!(store.trim_outbox(5), Ok(vec![]));
        assert_eq!(store.trim_outbox(3), Ok(vec![("a".into(), 2)]));
        assert_eq!((ids(store, "a", 1000), counts(store)), (vec![5, 4, 3], vec![("a".into(), 3), ("b".into(), 1)]));
        assert_eq!(store.trim_outbox(3), Ok(vec![]));
    });
}

#[test]
fn a_number_is_never_used_again() {
    with_each(|store| {
        change(store, [due("a", 1, 0), due("a", 2, 0)]);
        change(store, [OutboxChange::Done(DueId(2)), OutboxChange::LetGo("a".into()), due("a", 3, 0)]);
        assert_eq!(ids(store, "a", 0), [3]);
        change(store, [OutboxChange::Done(DueId(2))]);
        assert_eq!(ids(store, "a", 0), [3], "what is said of a row that is gone is said of no other");
    });
}

#[test]
fn any_changes_and_restarts_leave_the_same_waiting_in_both() {
    for seed in 0..8 {
        let directory = TempDir::new();
        assert_leaves_the_same(seed, &mut || Box::new(open(&directory, 0).0));
    }
}

#[cfg(feature = "postgres")]
#[test]
fn any_changes_and_restarts_leave_the_same_waiting_in_one_that_is_shared() {
    for seed in 0..2 {
        let Some(mut shared) = crate::log::postgres::testing::SharedStore::new() else { return };
        assert_leaves_the_same(seed, &mut || shared.open().store);
    }
}

fn assert_leaves_the_same(seed: u64, reopen: &mut dyn FnMut() -> Box<dyn Store>) {
    let mut random = Generator::new(seed);
    let (mut memory, mut kept) = (MemoryStore::new(), reopen());
    let mut made = 0;
    for turn in 0..60 {
        let context = format!("seed {seed}, turn {turn}");
        let webhook = ["a", "b", "c"][random.below(3) as usize];
        let changes: Vec<_> = (0..=random.below(4)).map(|_| any_change(&mut random, webhook, &mut made)).collect();
        change(&mut memory, changes.clone());
        change(&mut *kept, changes);
        if random.below(4) == 0 {
            let rows_max = 1 + random.below(6);
            assert_eq!(memory.trim_outbox(rows_max), kept.trim_outbox(rows_max), "{context}");
        }
        if random.below(8) == 0 {
            drop(kept);
            kept = reopen();
        }
        assert_eq!(counts(&memory), counts(&*kept), "{context}");
        for webhook in ["a", "b", "c"] {
            let now = random.below(3000);
            assert_eq!(rows(&memory, webhook, times(now)), rows(&*kept, webhook, times(now)), "{context}, {now}");
            let next = |store: &dyn Store| store.next_due(webhook, times(now));
            assert_eq!(next(&memory), next(&*kept), "{context}, {now}");
        }
    }
}

fn any_change(random: &mut Generator, webhook: &str, made: &mut u64) -> OutboxChange {
    let (id, at) = (1 + random.below(*made + 1), random.below(3000));
    match random.below(10) {
        0..5 => {
            *made += 1;
            due(webhook, *made, at)
        }
        5..7 => put_off(id, random.below(9) as u32, at),
        7..9 => OutboxChange::Done(DueId(id)),
        _ => OutboxChange::LetGo(webhook.into()),
    }
}
