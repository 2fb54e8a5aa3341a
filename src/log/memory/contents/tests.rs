//! What only the memory store has to get right.

use super::*;
use crate::log::store::{PlaceInRun, message_weight};
use crate::log::testing::{KEEP_ALL, at, created, ended, key, listed, message, number, project, seqs_of_run};

const WALL: Timestamp = Timestamp::from_millis(7);

fn trim(store: &mut Contents, retention: &Retention, now: u64) {
    assert!(store.trim(retention, at(now)).is_ok_and(|trimmed| !trimmed.is_more));
}

fn trimmed(writes: &[Write], retention: Retention, now: u64) -> Contents {
    let mut store = Contents::default();
    assert_eq!(store.append(&[], writes, WALL), Ok(()));
    trim(&mut store, &retention, now);
    store
}

#[test]
fn runs_that_have_not_ended_take_no_place_of_those_that_have() {
    let writes =
        [created(1, 0), created(2, 0), created(3, 0), message(1, 5, Some(number(3)), PlaceInRun::Last), ended(3, 1)];
    let store = trimmed(&writes, Retention { runs: 1, ..KEEP_ALL }, 10);
    assert_eq!(listed(&store), [3, 2, 1]);
}

#[test]
fn an_old_run_that_goes_on_does_not_keep_others_from_ageing() {
    let writes = [created(1, 0), created(2, 0), message(1, 5, Some(number(2)), PlaceInRun::Last), ended(2, 1)];
    let store = trimmed(&writes, Retention { age_ms: 10, ..KEEP_ALL }, 100);
    assert_eq!(listed(&store), [1]);
}

#[test]
fn what_runs_take_is_made_room_for_by_runs_not_by_messages() {
    let mut writes = vec![];
    for n in 1..=4 {
        writes.extend([created(n, 10_000), message(n, n, Some(number(n)), PlaceInRun::Last), ended(n, n)]);
    }
    let store = trimmed(&writes, Retention { bytes: 25_000, ..KEEP_ALL }, 10);
    assert_eq!(listed(&store), [4, 3]);
    assert_eq!(store.floor(&project()), Ok(1), "every message is still there");
}

#[test]
fn a_run_that_has_not_ended_can_be_folded_again_whatever_was_trimmed() {
    let run = Some(number(1));
    let places = [PlaceInRun::First, PlaceInRun::Turn, PlaceInRun::Middle, PlaceInRun::Turn, PlaceInRun::Middle];
    let mut writes = vec![created(1, 0)];
    writes.extend((1..).zip(places).map(|(seq, place)| message(seq, seq, run, place)));
    let mut store = trimmed(&writes, Retention { messages: 1, ..KEEP_ALL }, 10);
    assert_eq!(seqs_of_run(&store, 1), [1, 2, 4, 5]);

    let end = [message(6, 6, run, PlaceInRun::Last), message(7, 7, None, PlaceInRun::Middle), ended(1, 6)];
    assert_eq!(store.append(&[], &end, WALL), Ok(()));
    trim(&mut store, &Retention { messages: 1, ..KEEP_ALL }, 10);
    assert_eq!(seqs_of_run(&store, 1), [1, 6]);
    assert_eq!(store.run_bytes, 2 * message_weight(b"{}"), "the two are what is left of the run");
}

#[test]
fn the_order_of_messages_does_not_grow_behind_a_message_of_a_quiet_project() {
    let quiet = ProjectId::parse("quiet").expect("an id");
    let json: Arc<[u8]> = b"{}".as_slice().into();
    let at = Timestamp::from_millis(1);
    let first = StoredMessage { seq: 1, at, run: None, place: PlaceInRun::Middle, json };
    let mut store = trimmed(&[Write::Message(first, quiet)], KEEP_ALL, 10);
    for seq in 1..=10_000 {
        assert_eq!(store.append(&[], &[message(seq, 1, None, PlaceInRun::Middle)], WALL), Ok(()));
        trim(&mut store, &Retention { messages: 10, ..KEEP_ALL }, 10);
    }
    assert_eq!(store.projects.iter().map(|log| log.messages.len()).sum::<usize>(), 11);
    assert!(store.order.len() <= 2 * store.held + STALE_PLACES_MIN, "{} places", store.order.len());
    trim(&mut store, &Retention { bytes: 0, ..KEEP_ALL }, 10);
    assert_eq!((store.held, store.order.len(), store.message_bytes), (0, 0, 0), "every message has its place");
}

#[test]
fn a_key_is_forgotten_after_a_day_and_not_before_because_it_was_used_anew() {
    let keys = |store: &Contents| (store.keys.len(), store.projects[0].keys.len());
    let day = KEY_AGE_MS;
    let mut store = trimmed(&[key("k", 5, 0)], KEEP_ALL, 5 + day);
    assert_eq!(keys(&store), (1, 1));
    assert_eq!(store.append(&[], &[key("k", 7 + day, 0)], WALL), Ok(()), "the key is used anew");
    trim(&mut store, &KEEP_ALL, 7 + day);
    assert_eq!(keys(&store), (1, 1));
    trim(&mut store, &KEEP_ALL, 8 + 2 * day);
    assert_eq!((keys(&store), store.key_bytes), ((0, 0), 0));
}
