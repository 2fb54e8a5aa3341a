//! Who is alive, whose runs are whose, and who does what for all.

use super::*;
use crate::auth::TicketNote;
use crate::log::store::{
    Beat, BeatError, Due, DueTimes, KEY_AGE_MS, OpenRun, OutboxChange, RunNumber, TOMBSTONE_AGE_MS,
};
use crate::model::Notable;

fn spent(nonce: u8) -> Write {
    use base64::Engine as _;
    let nonce = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode([nonce; 16]);
    let json = format!("{{\"nonce\":\"{nonce}\",\"kind\":\"spent\",\"until\":\"2100-01-01T00:00:00.000Z\"}}");
    Write::Ticket(serde_json::from_str::<TicketNote>(&json).expect("a note"))
}

#[test]
fn two_nodes_that_write_to_one_project_leave_no_gap() {
    let Some((_, url)) = database() else { return };
    let write = |mut store: PostgresStore| {
        let mut conflicts = 0;
        let mut kept = 0;
        while kept < 100 {
            let head = head(&store);
            match append(&mut store, head.clone(), &messages([head.newest + 1, head.newest + 2])) {
                Ok(()) => kept += 1,
                Err(AppendError::Conflict(heads)) => {
                    assert!(heads.len() == 1 && heads[0].newest > head.newest, "{heads:?} is further than {head:?}");
                    conflicts += 1;
                }
                Err(error) => panic!("{error:?}"),
            }
        }
        conflicts
    };
    let (one, other) = (node(&url).0, node(&url).0);
    let conflicts = std::thread::scope(|scope| {
        let one = scope.spawn(move || write(one));
        write(other) + one.join().expect("it does not panic")
    });
    assert_eq!(seqs(&node(&url).0), (1..=400).collect::<Vec<_>>(), "{conflicts} conflicts");
}

#[test]
fn a_conflict_is_no_error_in_the_engines_log_and_its_batch_does_not_count_as_kept() {
    let Some(engine) = engine::Postgres::start_with(engine::Disk::Unsynced, &[]) else { return };
    let url = engine.database();
    let (mut one, mut other) = (node(&url).0, node(&url).0);
    let behind = head(&other);
    append_here(&mut one, &messages([1])).expect("kept");
    append(&mut other, head(&one), &messages([2])).expect("kept");
    let batch = |store: &PostgresStore| {
        let sql = format!("SELECT batch FROM stepcast_writers WHERE node = '\\x{}'", store.me.node());
        engine.sql(&url, &sql).parse::<i64>().expect("a number")
    };
    assert_eq!(batch(&other), other.epoch.batch);
    for _ in 0..5 {
        let conflict = append(&mut other, behind.clone(), &messages([1]));
        assert_eq!(conflict, Err(AppendError::Conflict(vec![head(&one)])));
        assert!(batch(&other) < other.epoch.batch, "it is not kept");
    }
    append_here(&mut other, &messages([3])).expect("kept");
    assert_eq!((batch(&other), seqs(&one)), (other.epoch.batch, vec![1, 2, 3]));
    assert!(!engine.log().contains("ERROR"), "{}", engine.log());
}

#[test]
fn a_node_that_is_always_behind_gets_through_after_a_few_conflicts() {
    let Some((_, url)) = database() else { return };
    let (mut quick, mut slow) = (node(&url).0, node(&url).0);
    let mut expected = head(&slow);
    for n in 1..=3 {
        append_here(&mut quick, &messages([n])).expect("kept");
        let conflict = append(&mut slow, expected, &messages([n]));
        assert_eq!(conflict, Err(AppendError::Conflict(vec![head(&quick)])));
        let recovered = slow.recover_projects(&[project()], &[]).expect("readable");
        expected = Head { project: project(), newest: recovered.projects[0].newest, revision: 0 };
    }
    // Whoever writes now comes after the one that has waited for so long.
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| {
            let head = Head { project: project(), newest: 3, revision: 0 };
            append(&mut quick, head, &messages([4]))
        });
        assert_eq!(seqs(&slow), [1, 2, 3], "it may look in between");
        assert_eq!(append(&mut slow, expected, &messages([4, 5])), Ok(()));
        assert_eq!(waits.join().expect("it does not panic"), Err(AppendError::Conflict(vec![head(&slow)])));
    });
    // It holds nothing up for long where nothing comes of it.
    for newest in [0, 0, 0] {
        let behind = Head { project: project(), newest, revision: 0 };
        assert!(append(&mut slow, behind, &messages([1])).is_err());
    }
    slow.recover_projects(&[project()], &[]).expect("readable");
    let settings =
        super::super::PostgresSettings { ttl: std::time::Duration::from_secs(60), ..super::super::testing::SETTINGS };
    let mut other = open(&url, settings).store;
    assert_eq!(append_here(&mut other, &messages([6])), Ok(()));
    assert_eq!(append_here(&mut slow, &messages([7])), Ok(()));
}

#[test]
fn a_node_that_is_thought_to_be_gone_appends_nothing_until_it_has_joined_again() {
    let Some((engine, url)) = database() else { return };
    let (mut store, mut lease, _) = node(&url);
    assert_eq!(append_here(&mut store, &messages([1])), Ok(()));
    let former = store.me.node();
    let_expire(engine, &url, former);
    assert_eq!(append_here(&mut store, &messages([2])), Err(AppendError::Fenced));
    assert!(store.probe().is_err());
    assert_eq!(lease.beat(), Err(BeatError::Fenced));
    assert_eq!(seqs(&*store_of(&url)), [1]);
    store.rejoin().expect("it can");
    assert_ne!(store.me.node(), former);
    assert!(lease.beat().is_ok() && store.probe().is_ok());
    assert_eq!(append_here(&mut store, &messages([2])), Ok(()));
}

fn store_of(url: &str) -> Box<PostgresStore> {
    Box::new(node(url).0)
}

#[test]
fn the_runs_of_a_node_that_is_gone_are_one_others_and_nobody_elses() {
    let Some((engine, url)) = database() else { return };
    let (mut gone, mut gones_lease, _) = node(&url);
    assert_eq!(append_here(&mut gone, &[created(1, 5), message(1, 1, Some(number(1)), PlaceInRun::First)]), Ok(()));
    let (one, mut ones_lease, _) = node(&url);
    let (other, mut others_lease, _) = node(&url);
    let is_foreign = |store: &PostgresStore| {
        let recovered = store.recover_projects(&[project()], &[]).expect("readable");
        recovered.open_runs.iter().map(|run| run.is_foreign).collect::<Vec<_>>()
    };
    assert_eq!((is_foreign(&gone), is_foreign(&one)), (vec![false], vec![true]));
    assert_eq!(ones_lease.beat(), Ok(Beat { taken_over: vec![], nodes: 3, dead: 0 }));

    let_expire(engine, &url, gone.me.node());
    assert_eq!(ones_lease.beat(), Ok(Beat { taken_over: vec![project()], nodes: 2, dead: 1 }));
    assert_eq!(others_lease.beat(), Ok(Beat { taken_over: vec![], nodes: 2, dead: 0 }));
    assert_eq!((is_foreign(&one), is_foreign(&other)), (vec![false], vec![true]));
    assert_eq!((gones_lease.beat(), gones_lease.renew()), (Err(BeatError::Fenced), Err(BeatError::Fenced)));
    let last = [message(2, 2, Some(number(1)), PlaceInRun::Last), ended(1, 2)];
    assert_eq!(append_here(&mut gone, &last), Err(AppendError::Fenced));
}

#[test]
fn a_beat_of_who_a_node_was_before_fenced_the_one_that_it_is_by_now() {
    let Some((engine, url)) = database() else { return };
    let (store, mut lease, _) = node(&url);
    let (next, ..) = node(&url);
    let mut session = engine.session(&url);
    let leaves = format!("UPDATE stepcast_nodes SET until = '-infinity' WHERE id = '\\x{}'", store.me.node());
    session.run(&format!("BEGIN; {leaves}"));
    std::thread::scope(|scope| {
        let beats = scope.spawn(move || lease.beat());
        let waits =
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
        wait_for(|| engine.sql(&url, waits) == "1");
        store.me.becomes(next.me.node(), std::time::Instant::now());
        session.run("COMMIT");
        let beat = beats.join().expect("it does not panic");
        assert_eq!(beat.map(|beat| beat.nodes), Ok(1), "it is said again of the one that it is");
    });
}

#[test]
fn a_node_that_only_stays_alive_takes_nothing_over() {
    let Some((engine, url)) = database() else { return };
    let (mut gone, ..) = node(&url);
    let (_one, mut lease, _) = node(&url);
    assert_eq!(append_here(&mut gone, &[created(1, 5)]), Ok(()));
    let_expire(engine, &url, gone.me.node());
    assert_eq!(lease.renew().map(|beat| (beat.taken_over, beat.dead)), Ok((vec![], 0)));
    assert_eq!(lease.beat().map(|beat| (beat.taken_over, beat.dead)), Ok((vec![project()], 1)));
}

#[test]
fn a_node_is_alone_while_no_other_is_alive() {
    let Some((engine, url)) = database() else { return };
    let (one, ..) = node(&url);
    assert_eq!(one.is_alone(), Ok(true));
    let (other, ..) = node(&url);
    assert_eq!((one.is_alone(), other.is_alone()), (Ok(false), Ok(false)));
    let_expire(engine, &url, one.me.node());
    assert_eq!((one.is_alone(), other.is_alone()), (Ok(false), Ok(true)));
}

#[test]
fn runs_that_are_known_come_without_their_documents_unless_these_are_others_by_now() {
    let Some((_, url)) = database() else { return };
    let mut store = node(&url).0;
    let changed = br#"{"plan":{},"revision":2}"#;
    let document = Write::Document { number: number(1), document: changed[..].into() };
    append_here(&mut store, &[created(1, 5), created(2, 5), created(3, 5)]).expect("kept");
    append_here(&mut store, &[document]).expect("kept");
    let lengths = |known: &[RunNumber]| {
        let recovered = store.recover_projects(&[project()], known).expect("readable");
        let length = |run: &OpenRun| run.document.as_ref().map(|document| document.len());
        recovered.open_runs.iter().map(length).collect::<Vec<_>>()
    };
    assert_eq!(lengths(&[]), [Some(changed.len()), Some(5), Some(5)]);
    assert_eq!(lengths(&[number(1), number(2)]), [Some(changed.len()), None, Some(5)]);
}

#[test]
fn a_node_that_leaves_is_taken_over_at_once() {
    let Some((_, url)) = database() else { return };
    let (mut one, mut ones_lease, _) = node(&url);
    let (_other, mut others_lease, _) = node(&url);
    assert_eq!(append_here(&mut one, &[created(1, 5)]), Ok(()));
    ones_lease.leave().expect("it can be said");
    assert_eq!(others_lease.beat(), Ok(Beat { taken_over: vec![project()], nodes: 1, dead: 1 }));
}

#[test]
fn a_take_over_waits_for_what_the_node_is_still_writing_and_is_given_it_too() {
    let Some((engine, url)) = database() else { return };
    let (mut gone, ..) = node(&url);
    let (_one, mut lease, _) = node(&url);
    assert_eq!(append_here(&mut gone, &messages([1])), Ok(()));
    let id = gone.me.node();
    let mut session = engine.session(&url);
    session.run("BEGIN; SELECT 1 FROM stepcast_projects FOR UPDATE");
    std::thread::scope(|scope| {
        let writes = scope.spawn(move || {
            let head = Head { project: project(), newest: 1, revision: 0 };
            append(&mut gone, head, &[created(1, 5)])
        });
        let waits =
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
        wait_for(|| engine.sql(&url, waits) == "1");
        let_expire(engine, &url, id);
        // It does not wait for ever, and takes nothing over meanwhile.
        assert_eq!(lease.beat().map(|beat| (beat.taken_over, beat.dead)), Ok((vec![], 0)));
        session.run("COMMIT");
        assert_eq!(writes.join().expect("it does not panic"), Ok(()), "it was alive when it began");
        assert_eq!(lease.beat().map(|beat| (beat.taken_over, beat.dead)), Ok((vec![project()], 1)));
    });
}

#[test]
fn a_take_over_whose_answer_was_lost_is_told_with_a_later_beat() {
    let Some((engine, url)) = database() else { return };
    let (mut gone, ..) = node(&url);
    let (one, mut lease, _) = node(&url);
    assert_eq!(append_here(&mut gone, &[created(1, 5)]), Ok(()));
    assert_eq!(lease.beat().map(|beat| beat.nodes), Ok(2));
    let_expire(engine, &url, gone.me.node());
    let mut session = engine.session(&url);
    session.run("BEGIN; SELECT 1 FROM stepcast_writers FOR UPDATE");
    assert_eq!(lease.beat(), Ok(Beat { taken_over: vec![], nodes: 2, dead: 0 }), "nothing is known of it");
    session.run("COMMIT");
    // As if it was kept, and the answer alone was lost.
    engine.sql(&url, &format!("SELECT stepcast_take_over('\\x{}', 1000)", one.me.node()));
    assert_eq!(lease.beat(), Ok(Beat { taken_over: vec![project()], nodes: 1, dead: 0 }));
    assert_eq!(lease.beat(), Ok(Beat { taken_over: vec![], nodes: 1, dead: 0 }));
}

#[test]
fn a_node_that_is_gone_itself_takes_nothing_over() {
    let Some((engine, url)) = database() else { return };
    let (mut gone, ..) = node(&url);
    let (late, ..) = node(&url);
    assert_eq!(append_here(&mut gone, &[created(1, 5)]), Ok(()));
    let_expire(engine, &url, gone.me.node());
    let_expire(engine, &url, late.me.node());
    let take_over = format!("SELECT stepcast_take_over('\\x{}', 1000)", late.me.node());
    let refused = engine.try_sql(&url, &take_over).expect_err("it is gone");
    assert!(refused.contains("this node has lost its lease"), "{refused}");
    let (_, mut lease, _) = node(&url);
    assert_eq!(lease.beat().map(|beat| (beat.taken_over, beat.dead)), Ok((vec![project()], 2)));
}

pub(super) fn wait_for(mut condition: impl FnMut() -> bool) {
    let began = std::time::Instant::now();
    while !condition() {
        assert!(began.elapsed().as_secs() < 60, "waited in vain");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[test]
fn a_ticket_is_spent_once_whichever_nodes_are_asked() {
    let Some((_, url)) = database() else { return };
    let (mut one, mut other) = (node(&url).0, node(&url).0);
    assert_eq!(one.append(&[], &[spent(1)], Timestamp::default()), Ok(()));
    let mut writes = messages([1]);
    writes.extend([spent(2), spent(1)]);
    assert_eq!(append_here(&mut other, &writes), Err(AppendError::Spent(vec![2])));
    assert_eq!(seqs(&other), [0; 0], "nothing of it is kept");
    writes.pop();
    assert_eq!(append_here(&mut other, &writes), Ok(()));
    assert_eq!(one.append(&[], &[spent(2)], Timestamp::default()), Err(AppendError::Spent(vec![0])));
    assert_eq!(open(&url, super::super::testing::SETTINGS).identity.tickets.len(), 2);
}

#[test]
fn a_run_and_a_key_that_are_taken_are_conflicts_of_their_projects() {
    let Some((_, url)) = database() else { return };
    let (mut one, mut other) = (node(&url).0, node(&url).0);
    assert_eq!(append_here(&mut one, &[created(1, 5), key("kx", 1000, 5)]), Ok(()));
    let stands = Err(AppendError::Conflict(vec![head(&one)]));
    let with_number = |n: u64| {
        let row = RunRow {
            run: run_id(9),
            created_at: Timestamp::default(),
            document: Arc::default(),
            answer: Arc::default(),
            fingerprint: [0; 32],
        };
        Write::RunCreated { number: number(n), project: project(), row: Box::new(row) }
    };
    assert_eq!(append_here(&mut other, &[with_number(1)]), stands, "the number");
    let Write::RunCreated { project, row, .. } = created(1, 5) else { unreachable!("a run") };
    assert_eq!(append_here(&mut other, &[Write::RunCreated { number: number(2), project, row }]), stands, "the id");
    assert_eq!(append_here(&mut other, &[with_number(2), key("kx", 2000, 5)]), stands, "the key");
    assert_eq!(append_here(&mut other, &[with_number(2), key("ky", 2000, 5)]), Ok(()));
}

#[test]
fn an_append_that_changes_what_no_message_tells_raises_the_revision_by_one() {
    let Some((_, url)) = database() else { return };
    let mut store = node(&url).0;
    let revision = |store: &PostgresStore| head(store).revision;
    append_here(&mut store, &[created(1, 5), created(2, 5)]).expect("kept");
    assert_eq!(revision(&store), 1);
    append_here(&mut store, &messages([1, 2])).expect("kept");
    assert_eq!(revision(&store), 1);
    let document = Write::Document { number: number(1), document: b"{}"[..].into() };
    append_here(&mut store, &[document, Write::CancelRequested(number(2)), created(3, 5)]).expect("kept");
    assert_eq!(revision(&store), 2);
    let behind = Head { revision: 1, ..head(&store) };
    assert_eq!(append(&mut store, behind, &messages([3])), Err(AppendError::Conflict(vec![head(&store)])));
}

#[test]
fn one_node_trims_for_all_and_the_others_learn_by_the_revision_what_holds_nothing() {
    let Some((_, url)) = database() else { return };
    let (mut holder, mut lease, _) = node(&url);
    let (mut other, mut others_lease, _) = node(&url);
    append_here(&mut other, &messages([1, 2])).expect("kept");
    let none = Retention { messages: 0, ..KEEP_ALL };
    let revision = head(&other).revision;
    assert_eq!(other.trim(&none, at(9000)).map(|trimmed| trimmed.emptied), Ok(vec![]));
    assert_eq!(seqs(&other), [1, 2]);
    assert_eq!(holder.trim(&none, at(9000)).map(|trimmed| trimmed.emptied), Ok(vec![project()]));
    assert_eq!((seqs(&other), head(&other).revision), (vec![], revision + 1));

    lease.leave().expect("it can be said");
    others_lease.beat().expect("it is alive");
    append_here(&mut other, &messages([3])).expect("kept");
    assert_eq!(holder.trim(&none, at(9000)).map(|trimmed| trimmed.emptied), Ok(vec![]));
    let looked_again = std::time::Instant::now();
    wait_for(|| {
        let trimmed = other.trim(&none, at(9000)).expect("it does not fail");
        looked_again.elapsed().as_secs() > 30 || trimmed.emptied == [project()]
    });
    assert_eq!(seqs(&other), [0; 0]);
}

#[test]
fn a_trim_that_takes_long_goes_on_the_next_time() {
    let Some((_, url)) = database() else { return };
    let mut store = node(&url).0;
    let projects = ["a", "b", "c"].map(|name| ProjectId::parse(name).expect("an id"));
    for project in &projects {
        let json: Arc<[u8]> = b"{}"[..].into();
        let message =
            |seq| StoredMessage { seq, at: at(7).age, run: None, place: PlaceInRun::Middle, json: json.clone() };
        let writes: Vec<_> = (1..=3).map(|seq| Write::Message(message(seq), project.clone())).collect();
        let head = Head { project: project.clone(), newest: 0, revision: 0 };
        append(&mut store, head, &writes).expect("kept");
    }
    store.housekeeping.trimmer().expect("it trims here").go_on_for(std::time::Duration::ZERO);
    let none = Retention { messages: 0, ..KEEP_ALL };
    for project in &projects {
        let trimmed = store.trim(&none, at(9000)).expect("it does not fail");
        assert_eq!((trimmed.is_more, trimmed.emptied), (true, vec![project.clone()]));
    }
    assert!(!store.trim(&none, at(9000)).expect("it does not fail").is_more);
}

#[test]
fn nobody_waits_for_a_trim_and_all_of_it_is_let_go() {
    let Some((_, url)) = database() else { return };
    let mut store = node(&url).0;
    store.housekeeping.trimmer().expect("it trims here").go_on_for(std::time::Duration::ZERO);
    store.trim_beside().expect("a thread");
    append_here(&mut store, &[key("k", 1000, 5)]).expect("kept");
    for seqs in [[1, 2], [3, 4]] {
        append_here(&mut store, &messages(seqs)).expect("kept");
        let none = Retention { messages: 0, ..KEEP_ALL };
        let trimmed = store.trim(&none, at(9000)).expect("it does not fail");
        assert_eq!((trimmed.is_more, trimmed.emptied), (false, vec![]), "that is told by the revision");
        wait_for(|| head(&store).revision == seqs[1] / 2);
        assert_eq!((self::seqs(&store), head(&store).newest), (vec![], seqs[1]));
    }
    wait_for(|| store.trim(&KEEP_ALL, at(9000)).expect("it does not fail").key_bytes > 0);
    // A project that was let go with all of its name is told of once it has.
    let later = at(9001 + KEY_AGE_MS + TOMBSTONE_AGE_MS);
    wait_for(|| store.trim(&KEEP_ALL, later).expect("it does not fail").has_forgotten);
    assert_eq!(head(&store).newest, 0);
    append_here(&mut store, &messages([1, 2])).expect("its numbers begin anew");
}

#[test]
fn a_project_was_never_noted_as_empty_whose_trimmer_went_in_the_middle_of_it() {
    let Some((engine, url)) = database() else { return };
    let mut store = node(&url).0;
    append_here(&mut store, &messages([1, 2])).expect("kept");
    engine.sql(&url, "SELECT stepcast_raise_floor(id, 1, 3), stepcast_sweep(id, 1, 3) FROM stepcast_projects");
    assert_eq!(seqs(&store), [0; 0]);
    assert_eq!(store.trim(&KEEP_ALL, at(9000)).map(|trimmed| trimmed.emptied), Ok(vec![project()]));
}

#[test]
fn what_a_run_said_stayed_for_ever_where_it_ended_while_it_was_swept() {
    let Some((engine, url)) = database() else { return };
    let mut store = node(&url).0;
    let said = |seq, place| message(seq, 5, Some(number(1)), place);
    let begins = [created(1, 5), said(1, PlaceInRun::First), said(2, PlaceInRun::Turn), said(3, PlaceInRun::Turn)];
    append_here(&mut store, &begins).expect("kept");
    // The end is on its way, and holds the project: the sweep has removed its rows, and waits for it.
    let mut ending = engine.session(&url);
    ending.run("BEGIN; SELECT 1 FROM stepcast_projects FOR UPDATE");
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
    std::thread::scope(|scope| {
        let sweep = "SELECT stepcast_sweep(id, 1, 4) FROM stepcast_projects";
        let swept = scope.spawn(|| engine.sql(&url, sweep));
        wait_for(|| engine.sql(&url, waits) == "1");
        ending.run("UPDATE stepcast_runs SET ended_at = 9; COMMIT");
        assert!(swept.join().expect("it does not panic").parse::<i64>().is_ok_and(|weight| weight > 0));
    });
    assert_eq!(engine.sql(&url, "SELECT string_agg(seq::text, ' ') FROM stepcast_messages"), "1");
}

#[test]
fn a_node_that_does_not_trim_looks_at_all_projects_now_and_then_alone() {
    let Some((engine, url)) = database() else { return };
    let (mut holder, mut other) = (node(&url).0, node(&url).0);
    append_here(&mut holder, &[key("k", 1000, 5)]).expect("kept");
    let key_bytes = |store: &mut PostgresStore| store.trim(&KEEP_ALL, at(2000)).expect("it does not fail").key_bytes;
    let known = key_bytes(&mut other);
    assert!(known > 0);
    engine.sql(&url, "UPDATE stepcast_projects SET key_bytes = key_bytes + 7");
    assert_eq!((key_bytes(&mut holder), key_bytes(&mut other)), (known + 7, known));
}

#[test]
fn one_node_tells_webhooks_for_all() {
    let Some((_, url)) = database() else { return };
    let (mut holder, mut lease, _) = node(&url);
    let (mut other, mut others_lease, _) = node(&url);
    let due = Due {
        webhook: "a".into(),
        project: project(),
        run: run_id(1),
        number: number(1),
        seq: 1,
        notable: Notable::RunFailed,
        at: Timestamp::from_millis(5),
    };
    let writes = [Write::Outbox(OutboxChange::Due(Box::new(due)))];
    other.append(&[], &writes, Timestamp::default()).expect("kept");
    let times = DueTimes { now: Timestamp::from_millis(9), horizon: Timestamp::from_millis(99) };
    let count = |store: &PostgresStore| {
        let mut count = 0;
        let read = store.due("a", times, &mut |_| {
            count += 1;
            Flow::More
        });
        assert_eq!(read, Ok(()));
        count
    };
    assert_eq!((count(&holder), count(&other)), (1, 0));
    assert_eq!((other.trim_outbox(0), count(&holder)), (Ok(vec![]), 1));
    lease.leave().expect("it can be said");
    others_lease.beat().expect("it is alive");
    assert_eq!((count(&holder), count(&other)), (0, 1));
    assert_eq!((holder.trim_outbox(0), other.trim_outbox(0)), (Ok(vec![]), Ok(vec![("a".into(), 1)])));
}

#[test]
fn a_text_may_hold_anything_that_json_does() {
    let Some((_, url)) = database() else { return };
    let mut store = node(&url).0;
    let json = "{\"nul\":\"\\u0000\",\"half\":\"\\ud800\",\"emoji\":\"\u{1F600}\"}".as_bytes();
    let message =
        StoredMessage { seq: 1, at: Timestamp::default(), run: None, place: PlaceInRun::Middle, json: json.into() };
    let name = "k\u{0}\u{1F600}".to_owned();
    let (fingerprint, answer) = ([0; 32], Arc::<[u8]>::from([0, 255]));
    let row = KeyRow { project: project(), name, at: Timestamp::default(), fingerprint, answer };
    append_here(&mut store, &[Write::Message(message.clone(), project()), Write::Key(Box::new(row.clone()))])
        .expect("kept");
    assert_eq!(crate::log::testing::read(&store, &project(), 0, None), [message]);
    assert_eq!(store.key(&project(), &row.name), Ok(Some(row)));
}
