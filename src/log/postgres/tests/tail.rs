//! What a node finds out of what others have written.

use std::time::Duration;

use super::*;
use crate::log::store::{Hints, WishId, WishRow};

fn standing(newest: u64, revision: u64) -> Standing {
    Standing { project: project(), newest, revision }
}

/// What the tail is told next that is news.
fn told(tail: &mut PostgresTail) -> Hints {
    loop {
        let hints = tail.wait(Duration::from_secs(30)).expect("it can be heard");
        if hints != Hints::default() {
            return hints;
        }
    }
}

#[test]
fn what_is_behind_is_told_in_fair_parts_and_in_order() {
    let Some((_, url)) = database() else { return };
    let (mut store, _lease, mut tail) = node(&url);
    append_here(&mut store, &messages(1..=10)).expect("kept");
    let other = ProjectId::parse("q").expect("an id");
    assert_eq!(
        tail.changes_since(&[standing(10, 0), Standing { project: other.clone(), newest: 0, revision: 0 }], 1000),
        Ok(vec![])
    );
    let seqs = |tail: &mut PostgresTail, newest, bytes_max| {
        let changes = tail.changes_since(&[standing(newest, 0)], bytes_max).expect("readable");
        changes.iter().flat_map(|it| &it.messages).map(|message| message.seq).collect::<Vec<_>>()
    };
    let weight = crate::log::store::message_weight(b"{}") as usize;
    assert_eq!(seqs(&mut tail, 2, 1_000_000), (3..=10).collect::<Vec<_>>());
    assert_eq!(seqs(&mut tail, 2, 3 * weight), [3, 4, 5]);
    assert_eq!(seqs(&mut tail, 2, 0), [3], "one at least");
    store.trim(&Retention { messages: 3, ..KEEP_ALL }, at(20_000)).expect("it does not fail");
    assert_eq!(seqs(&mut tail, 7, 1_000_000), [8, 9, 10]);
    let changes = tail.changes_since(&[standing(2, 0)], 1000).expect("readable");
    assert!(changes.len() == 1 && changes[0].messages.is_empty(), "they are gone: {changes:?}");
    append_here(&mut store, &[created(1, 5)]).expect("kept");
    let changes = tail.changes_since(&[standing(10, 0)], 1000).expect("readable");
    assert_eq!((changes[0].revision, changes[0].messages.len()), (1, 0));
}

#[test]
fn what_others_say_has_moved_is_heard_and_what_a_node_says_itself_is_not() {
    let Some((_, url)) = database() else { return };
    let (mut store, mut lease, mut tail) = node(&url);
    let (_other, mut others_lease, mut others_tail) = node(&url);
    assert!(told(&mut tail).is_anything && told(&mut others_tail).is_anything, "what came before is not known");
    lease.wake(&[project()], true).expect("it can be said");
    let hints = Hints { projects: vec![project()], has_wishes: true, ..Hints::default() };
    assert_eq!(told(&mut others_tail), hints);
    store.probe().expect("it can");
    others_lease.wake(&[project()], false).expect("it can be said");
    let hints = Hints { projects: vec![project()], ..Hints::default() };
    assert_eq!((told(&mut tail), tail.probed()), (hints, 1));
    assert_eq!(others_tail.probed(), 0, "that was the other's");
}

#[test]
fn where_nothing_is_notified_a_tail_looks() {
    let Some((_, url)) = database() else { return };
    let settings =
        super::super::PostgresSettings { wake: super::super::PostgresWake::Poll, ..super::super::testing::SETTINGS };
    let mut opened = open(&url, settings);
    opened.lease.wake(&[project()], true).expect("that is nothing");
    opened.store.probe().expect("it can");
    assert_eq!(opened.tail.wait(Duration::from_millis(1)), Ok(Hints::default()), "nothing is told");
    assert_eq!(opened.tail.probed(), 1);
}

#[test]
fn a_wish_reaches_the_runs_node_and_its_answer_the_one_that_asked() {
    let Some((_, url)) = database() else { return };
    let (mut owner, _lease, mut owners_tail) = node(&url);
    let (mut asker, _askers_lease, mut askers_tail) = node(&url);
    append_here(&mut owner, &[created(1, 5), created(2, 5)]).expect("kept");
    let wish = |n: u64| WishRow {
        id: WishId([n as u8; 16]),
        project: project(),
        run: run_id(n),
        number: number(n),
        wish: b"{}"[..].into(),
    };
    let writes = [1, 2].map(|n| Write::Wish(Box::new(wish(n))));
    asker.append(&[], &writes, Timestamp::default()).expect("kept");
    assert_eq!(owners_tail.wishes(&[]).map(|it| it.open), Ok(vec![wish(1), wish(2)]));
    let waiting = [wish(1).id, wish(2).id];
    let found = askers_tail.wishes(&waiting).expect("readable");
    assert!(found.open.is_empty() && found.answered.is_empty(), "{found:?}");
    let answer: Arc<[u8]> = b"yes"[..].into();
    let answered = Write::WishAnswered { id: wish(1).id, answer: answer.clone() };
    append_here(&mut owner, &[answered, message(1, 1, Some(number(2)), PlaceInRun::Last), ended(2, 1)]).expect("kept");
    assert_eq!(owners_tail.wishes(&[]).map(|it| it.open), Ok(vec![]));
    let mut found = askers_tail.wishes(&waiting).expect("readable").answered;
    found.sort_by_key(|(id, _)| *id);
    assert_eq!(found, [(wish(1).id, answer), (wish(2).id, Arc::default())], "of a run that has ended it is empty");
}

#[test]
fn notes_about_tickets_that_nobody_had_room_for_are_found_again() {
    let Some((engine, url)) = database() else { return };
    let (_store, _lease, mut tail) = node(&url);
    let note = |nonce: u8| {
        use base64::Engine as _;
        let nonce = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode([nonce; 16]);
        let json = format!("{{\"nonce\":\"{nonce}\",\"kind\":\"spent\",\"until\":\"2100-01-01T00:00:00.000Z\"}}");
        let sql = format!("INSERT INTO stepcast_tickets (until, note) VALUES (1, convert_to('{json}', 'UTF8'))");
        engine.sql(&url, &sql);
    };
    note(1);
    for _ in 0..3 {
        assert_eq!(tail.tickets().map(|it| it.len()), Ok(1), "nobody had room for it");
    }
    tail.has_told_tickets();
    note(2);
    assert_eq!(tail.tickets().map(|it| it.len()), Ok(1));
    tail.has_told_tickets();
    assert_eq!(tail.tickets().map(|it| it.len()), Ok(0));
}
