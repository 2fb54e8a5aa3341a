//! All stores must behave alike: the answers of the store on disk are compared with those of the store in memory.

mod outbox;
mod plans;
mod random;

use std::collections::HashMap;

use super::store::{
    AppendError, Head, Identity, KEY_AGE_MS, KeyRow, PlaceInRun, Recovered, RecoveredProject, Retention, RunRow, Store,
    StoredMessage, StoredOutput, TOMBSTONE_AGE_MS, Write,
};
use super::testing::{
    KEEP_ALL, TempDir, at, created, ended, key, listed, message, messages, number, project, read, run_id, seqs,
    seqs_of_run, step,
};
use super::{MemoryStore, RunNumber, Seed, SqliteStore, Synchronous};
use crate::model::{OutputStream, ProjectId, RunStatus, StepId, Timestamp};

pub(super) const SEED: Seed = Seed { master_key: [7; 32], instance: [8; 6] };

fn named(project: usize) -> ProjectId {
    ProjectId::parse(["p", "q:1", "r-2"][project]).expect("an id")
}

/// Runs `scenario` over an empty store of each kind.
fn with_each(scenario: impl Fn(&mut dyn Store)) {
    scenario(&mut MemoryStore::new());
    let directory = TempDir::new();
    scenario(&mut open(&directory, 0).0);
    #[cfg(feature = "postgres")]
    if let Some(mut shared) = super::postgres::testing::SharedStore::new() {
        scenario(&mut *shared.open().store);
    }
}

/// It, as a store of one writer would have it: revisions are of those that are shared.
fn without_revision(project: RecoveredProject) -> RecoveredProject {
    RecoveredProject { revision: 0, ..project }
}

pub(super) fn open(directory: &TempDir, now: u64) -> (SqliteStore, Identity) {
    let opened = SqliteStore::open(directory.path(), Synchronous::Normal, &SEED, Timestamp::from_millis(now));
    opened.unwrap_or_else(|error| panic!("{error}"))
}

pub(super) fn commit(store: &mut dyn Store, writes: &[Write]) {
    assert_eq!(store.append(&[], writes, Timestamp::from_millis(7)), Ok(()));
}

/// The projects that have come to hold nothing.
pub(super) fn trim(store: &mut dyn Store, retention: Retention, now: u64) -> Vec<ProjectId> {
    let trimmed = store.trim(&retention, at(now)).expect("it does not fail");
    let mut emptied = trimmed.emptied;
    emptied.sort_unstable();
    emptied
}

fn piece(attempt: u32, stream: OutputStream, text: &str) -> Write {
    Write::Output { number: number(1), step: step(), attempt, stream, bytes: text.into() }
}

/// What a step has written, by where it came out: read in parts of seven bytes.
fn written(store: &dyn Store, run: u64, step: &StepId) -> [String; 3] {
    let kept = store.output(number(run), step).expect("readable").unwrap_or_default();
    [OutputStream::Stdout, OutputStream::Stderr, OutputStream::Text].map(|stream| {
        let mut bytes = Vec::new();
        for at in (0..=kept.length(stream)).step_by(7) {
            let read = store.output_bytes(number(run), step, stream, at..at + 7, &mut bytes);
            assert_eq!(read, Ok(()));
        }
        String::from_utf8(bytes).expect("text")
    })
}

/// The stored items of a step, from one on.
fn items(store: &dyn Store, run: u64, step: &StepId, from: u32) -> Vec<(u32, String)> {
    let mut items = Vec::new();
    let read = store.items(number(run), step, from, &mut |item, row| {
        items.push((item, String::from_utf8_lossy(row).into_owned()));
        if items.len() == 3 { super::store::Flow::Stop } else { super::store::Flow::More }
    });
    assert_eq!(read, Ok(()));
    items
}

#[test]
fn of_an_item_the_newest_row_is_kept_for_as_long_as_its_run_is() {
    with_each(|store| {
        let item = |run, step: &str, item, row: &str| {
            let step = StepId::parse(step).expect("an id");
            Write::Item { number: number(run), step, item, row: row.as_bytes().into() }
        };
        commit(store, &[item(1, "a", 0, "of no run")]);
        commit(
            store,
            &[created(1, 0), created(2, 0), item(1, "a", 1, "one"), item(1, "a", 0, "none"), item(2, "a", 0, "x")],
        );
        commit(store, &[item(1, "a", 1, "another one"), item(1, "b", 7, "seven"), item(1, "a", 999, "last")]);
        let kept =
            |store: &dyn Store, run, step: &str, from| items(store, run, &StepId::parse(step).expect("an id"), from);
        let own = |item, row: &str| (item, row.to_owned());
        assert_eq!(kept(store, 1, "a", 0), [own(0, "none"), own(1, "another one"), own(999, "last")]);
        assert_eq!(kept(store, 1, "a", 2), [own(999, "last")]);
        assert_eq!((kept(store, 1, "b", 0), kept(store, 2, "a", 0)), (vec![own(7, "seven")], vec![own(0, "x")]));
        commit(store, &[message(1, 1000, Some(number(1)), PlaceInRun::Last), ended(1, 1)]);
        assert_eq!(kept(store, 1, "a", 0).len(), 3);
        trim(store, Retention { runs: 0, ..KEEP_ALL }, 2000);
        assert_eq!((kept(store, 1, "a", 0), kept(store, 1, "b", 0)), (vec![], vec![]));
        assert_eq!(kept(store, 2, "a", 0).len(), 1);
        commit(store, &[message(2, 3000, Some(number(2)), PlaceInRun::Last), ended(2, 2)]);
        trim(store, Retention { bytes: 0, ..KEEP_ALL }, 4000);
        assert_eq!(
            (listed(store), kept(store, 2, "a", 0)),
            (vec![], vec![]),
            "what it weighed was added and taken off again"
        );
    });
}

#[test]
fn what_goes_on_from_elsewhere_than_the_newest_message_is_a_conflict_and_changes_nothing() {
    with_each(|store| {
        let revision = |store: &dyn Store| {
            let remains = store.remains(&project()).expect("readable");
            remains.map_or(0, |remains| remains.revision)
        };
        let mut append = |newest, writes: &[Write]| {
            let head = Head { project: project(), newest, revision: revision(store) };
            let head_at = |newest| Head { newest, ..head.clone() };
            let appended = store.append(std::slice::from_ref(&head), writes, Timestamp::default());
            appended.map_err(|error| (error == AppendError::Conflict(vec![head_at(5)])).then_some("it stands at 5"))
        };
        assert_eq!(append(0, &messages(1..=3)), Ok(()));
        assert_eq!(append(3, &[created(1, 1)]), Ok(()), "a run has no message so far");
        assert_eq!(append(3, &messages(4..=5)), Ok(()));
        for behind in [0, 4, 6] {
            let writes = [messages([behind + 1]), vec![created(2, 1)]].concat();
            assert_eq!(append(behind, &writes), Err(Some("it stands at 5")));
        }
        assert_eq!((seqs(store), listed(store)), ((1..=5).collect(), vec![1]));
    });
}

#[test]
fn outputs_that_another_run_keeps_outlast_the_run_that_wrote_them() {
    with_each(|store| {
        let whole = Write::Whole { number: number(1), step: step(), json: b"[1,2]"[..].into() };
        let written = [piece(2, OutputStream::Stdout, "first "), piece(2, OutputStream::Stderr, "oh")];
        commit(store, &[&[created(1, 0)][..], &written, &[whole]].concat());
        commit(store, &[piece(2, OutputStream::Stdout, "second"), ended(1, 1)]);
        let other = StepId::parse("other").expect("an id");
        let steps = [step(), other.clone()].into();
        commit(store, &[created(2, 2), Write::OutputsKept { number: number(2), of: number(1), steps }]);
        let shown = |store: &dyn Store| {
            assert_eq!(self::written(store, 2, &step()), ["first second", "oh", ""]);
            assert_eq!(store.whole_output(number(2), &step()), Ok(Some(b"[1,2]".to_vec())));
            assert_eq!(store.output(number(2), &step()).map(|kept| kept.map(|kept| kept.attempt)), Ok(Some(0)));
            assert_eq!(store.output(number(2), &other), Ok(None));
        };
        shown(store);
        trim(store, Retention { age_ms: 100, ..KEEP_ALL }, 10_000);
        assert_eq!((store.run(number(1)), store.output(number(1), &step())), (Ok(None), Ok(None)));
        shown(store);
        // As a step's first attempt writes anew.
        let anew = Write::Output {
            number: number(2),
            step: step(),
            attempt: 1,
            stream: OutputStream::Text,
            bytes: "anew".into(),
        };
        commit(store, &[anew]);
        assert_eq!(self::written(store, 2, &step()), ["", "", "anew"]);
    });
}

#[test]
fn an_empty_store_holds_nothing() {
    with_each(|store| {
        trim(store, Retention { messages: 0, bytes: 0, age_ms: 0, runs: 0 }, 1000);
        assert_eq!(store.floor(&project()), Ok(1));
        assert!(seqs(store).is_empty() && seqs_of_run(store, 1).is_empty() && listed(store).is_empty());
        assert_eq!(store.run(number(1)), Ok(None));
        assert_eq!(store.ended_state(number(1)), Ok(None));
        assert_eq!(store.run_number(&project(), &run_id(1)), Ok(None));
        assert_eq!(store.output(number(1), &step()), Ok(None));
    });
}

#[test]
fn a_read_stops_when_it_is_told_to_and_can_begin_anywhere() {
    with_each(|store| {
        commit(store, &messages(1..=5));
        let mut seen = Vec::new();
        let read_some = store.messages(&project(), 2, None, &mut |message| {
            seen.push(message.seq);
            if message.seq == 4 { super::store::Flow::Stop } else { super::store::Flow::More }
        });
        assert_eq!((read_some, seen), (Ok(()), vec![3, 4]));
        assert!(read(store, &project(), 5, None).is_empty());
        assert!(read(store, &project(), 1_000_000, None).is_empty());
    });
}

#[test]
fn the_floor_rises_by_count_by_age_and_by_bytes() {
    with_each(|store| {
        commit(store, &messages(1..=10));
        trim(store, Retention { messages: 8, ..KEEP_ALL }, 10_000);
        assert_eq!((store.floor(&project()), seqs(store).len()), (Ok(3), 8));
        trim(store, Retention { age_ms: 4000, ..KEEP_ALL }, 9000);
        assert_eq!((store.floor(&project()), seqs(store).len()), (Ok(5), 6));
        trim(store, Retention { bytes: 3 * (2 + super::store::message_weight(&[])), ..KEEP_ALL }, 10_000);
        assert_eq!((store.floor(&project()), seqs(store)), (Ok(8), vec![8, 9, 10]));
        trim(store, Retention { age_ms: 0, ..KEEP_ALL }, 20_000);
        assert_eq!((store.floor(&project()), seqs(store)), (Ok(11), vec![]));
        commit(store, &messages([11]));
        trim(store, KEEP_ALL, 20_000);
        assert_eq!((store.floor(&project()), seqs(store)), (Ok(11), vec![11]));
    });
}

/// The numbers of a project's messages before one, in the order in which they are handed on.
fn seqs_before(store: &dyn Store, project: &ProjectId, before: u64, count: usize) -> Vec<u64> {
    let mut seqs = Vec::new();
    let read = store.messages_before(project, before, &mut |message| {
        seqs.push(message.seq);
        if seqs.len() == count { super::store::Flow::Stop } else { super::store::Flow::More }
    });
    assert_eq!(read, Ok(()));
    seqs
}

#[test]
fn messages_are_read_backwards_from_anywhere_down_to_the_floor() {
    with_each(|store| {
        assert!(seqs_before(store, &project(), 9, 9).is_empty());
        // Of each commit two lie together, of each third commit one is a segment of its own.
        for n in 0..20 {
            commit(
                store,
                &[note(2 * n + 1, n * 137, 50), note(2 * n + 2, n * 137, [90, 3000, 70_000][n as usize % 3])],
            );
        }
        trim(store, Retention { messages: 33, ..KEEP_ALL }, 10_000);
        for before in [0, 7, 8, 9, 10, 25, 26, 40, 41, 42, 1 << 40, u64::MAX] {
            let expected: Vec<_> = (8..=40).rev().filter(|seq| *seq < before).collect();
            assert_eq!(seqs_before(store, &project(), before, 100), expected, "before {before}");
            assert_eq!(seqs_before(store, &project(), before, 3), expected[..expected.len().min(3)]);
        }
    });
}

/// Of a message of the project, `bytes` of it.
fn note(seq: u64, at: u64, bytes: usize) -> Write {
    let at = Timestamp::from_millis(at);
    let json = vec![b'x'; bytes].into();
    Write::Message(StoredMessage { seq, at, run: None, place: PlaceInRun::Middle, json }, project())
}

#[test]
fn messages_of_many_commits_are_read_from_anywhere() {
    with_each(|store| {
        // Small ones that come soon after one another, some that come later, and large ones.
        let commits: Vec<Vec<Write>> = (0..60)
            .map(|n| vec![note(2 * n + 1, n * 137, 50), note(2 * n + 2, n * 137, [90, 3000, 70_000][n as usize % 3])])
            .collect();
        commits.iter().for_each(|writes| commit(store, writes));
        for after in (0..=121).step_by(7) {
            let seqs: Vec<_> = read(store, &project(), after, None).iter().map(|message| message.seq).collect();
            assert_eq!(seqs, (after + 1..=120).collect::<Vec<_>>());
        }
        for (newest, keep) in [(121, 100), (122, 99), (123, 42), (124, 1)] {
            commit(store, &[note(newest, 10_000, 50)]);
            trim(store, Retention { messages: keep, ..KEEP_ALL }, 10_000);
            let floor = newest + 1 - keep as u64;
            assert_eq!((store.floor(&project()), seqs(store)), (Ok(floor), (floor..=newest).collect::<Vec<_>>()));
        }
    });
}

#[test]
fn a_bound_of_bytes_is_kept_to_the_message_and_one_of_age_to_the_segment() {
    with_each(|store| {
        commit(store, &(1..=10).map(|seq| note(seq, 1000, 100)).collect::<Vec<_>>());
        commit(store, &[note(11, 1400, 100), note(12, 1501, 100)]);
        let weight = 100 + super::store::message_weight(&[]);
        for (bytes, floor) in [(12 * weight, 1), (12 * weight - 1, 2), (4 * weight, 9), (4 * weight, 9)] {
            trim(store, Retention { bytes, ..KEEP_ALL }, 2000);
            assert_eq!((store.floor(&project()), seqs(store)), (Ok(floor), (floor..=12).collect()));
        }
        trim(store, Retention { age_ms: 600, ..KEEP_ALL }, 2000);
        assert_eq!(store.floor(&project()), Ok(9), "the segment is of the age of its last message");
        trim(store, Retention { age_ms: 500, ..KEEP_ALL }, 2000);
        assert_eq!((store.floor(&project()), seqs(store)), (Ok(12), vec![12]));
        trim(store, Retention { bytes: weight - 1, ..KEEP_ALL }, 2000);
        assert_eq!((store.floor(&project()), seqs(store)), (Ok(13), vec![]));
    });
}

#[test]
fn a_run_that_goes_on_is_whole_though_its_segments_were_let_go() {
    with_each(|store| {
        commit(store, &messages([1, 2]));
        commit(store, &[created(1, 10), message(3, 3000, Some(number(1)), PlaceInRun::First)]);
        commit(store, &[created(2, 10), message(4, 4000, Some(number(1)), PlaceInRun::Turn)]);
        commit(
            store,
            &[message(5, 5000, Some(number(1)), PlaceInRun::Middle), message(6, 6000, None, PlaceInRun::Middle)],
        );
        let ends = |store: &dyn Store, n| store.ends(number(n)).expect("readable").map(|ends| (ends.first, ends.last));
        for age_ms in [7000, 3000, 1500, 0] {
            trim(store, Retention { age_ms, ..KEEP_ALL }, 8000);
            let (run, after) = (seqs_of_run(store, 1), read(store, &project(), 3, Some(number(1))));
            assert_eq!(run, if age_ms >= 3000 { vec![3, 4, 5] } else { vec![3, 4] });
            assert_eq!(after.len(), run.len() - 1);
            assert_eq!((ends(store, 1), ends(store, 2)), (Some((Some(3), None)), Some((None, None))));
        }
        commit(
            store,
            &[
                message(7, 9000, Some(number(2)), PlaceInRun::First),
                message(8, 9000, Some(number(1)), PlaceInRun::Last),
            ],
        );
        commit(store, &[ended(1, 8), message(9, 9000, Some(number(2)), PlaceInRun::Last), ended(2, 9)]);
        assert_eq!((seqs_of_run(store, 1), seqs_of_run(store, 2)), (vec![3, 8], vec![7, 9]));
        assert_eq!((ends(store, 1), ends(store, 2)), (Some((Some(3), Some(8))), Some((Some(7), Some(9)))));
        trim(store, Retention { messages: 0, ..KEEP_ALL }, 9000);
        assert_eq!((seqs_of_run(store, 1), seqs_of_run(store, 2)), (vec![3, 8], vec![7, 9]));
        assert_eq!(read(store, &project(), 3, Some(number(1))).len(), 1);
    });
}

#[test]
fn what_outlasts_the_floor_goes_when_its_time_has_come() {
    with_each(|store| {
        let places = [PlaceInRun::First, PlaceInRun::Turn, PlaceInRun::Middle, PlaceInRun::Turn];
        commit(store, &[created(1, 10)]);
        commit(store, &[1, 2, 3, 4].map(|seq| message(seq, seq * 1000, Some(number(1)), places[seq as usize - 1])));
        commit(store, &messages([5, 6]));
        let one = Retention { messages: 1, ..KEEP_ALL };
        trim(store, one, 6000);
        assert_eq!((seqs(store), seqs_of_run(store, 1)), (vec![6], vec![1, 2, 4]));

        commit(store, &[message(7, 7000, Some(number(1)), PlaceInRun::Last), ended(1, 7)]);
        assert_eq!(seqs_of_run(store, 1), [1, 7]);
        commit(store, &messages([8]));
        trim(store, one, 8000);
        assert_eq!((seqs(store), seqs_of_run(store, 1)), (vec![8], vec![1, 7]));

        commit(store, &messages([9]));
        trim(store, Retention { runs: 0, ..KEEP_ALL }, 9000);
        assert_eq!((seqs(store), seqs_of_run(store, 1), listed(store)), (vec![8, 9], vec![], vec![]));
    });
}

#[test]
fn messages_of_a_run_that_is_gone_stay_their_projects() {
    with_each(|store| {
        commit(store, &[created(1, 10), message(1, 1000, Some(number(1)), PlaceInRun::First)]);
        commit(
            store,
            &[
                message(2, 2000, Some(number(1)), PlaceInRun::Last),
                ended(1, 2),
                message(3, 3000, None, PlaceInRun::Middle),
            ],
        );
        trim(store, Retention { runs: 0, ..KEEP_ALL }, 3000);
        assert_eq!((seqs(store), seqs_of_run(store, 1)), (vec![1, 2, 3], vec![]));
        trim(store, Retention { messages: 1, ..KEEP_ALL }, 3000);
        commit(store, &messages([4]));
        trim(store, Retention { messages: 1, ..KEEP_ALL }, 3000);
        assert_eq!((seqs(store), seqs_of_run(store, 1)), (vec![4], vec![]));
    });
}

#[test]
fn a_later_attempt_begins_its_output_anew() {
    with_each(|store| {
        commit(store, &[piece(1, OutputStream::Stdout, "of no run")]);
        assert_eq!(store.output(number(1), &step()), Ok(None));
        commit(store, &[created(1, 0), piece(1, OutputStream::Stdout, "a"), piece(1, OutputStream::Stderr, "b")]);
        commit(store, &[piece(2, OutputStream::Stdout, "c"), piece(2, OutputStream::Text, "d")]);
        commit(store, &[piece(2, OutputStream::Stdout, "e")]);
        let whole = |json: &[u8]| Write::Whole { number: number(1), step: step(), json: json.into() };
        commit(store, &[whole(b"\"first\""), whole(b"\"second\"")]);
        let output = StoredOutput { attempt: 2, stdout: 2, stderr: 0, text: 1 };
        assert_eq!(store.output(number(1), &step()), Ok(Some(output)));
        assert_eq!(written(store, 1, &step()), ["ce", "", "d"]);
        assert_eq!(store.whole_output(number(1), &step()), Ok(Some(b"\"second\"".as_slice().into())));
    });
}

#[test]
fn a_whole_output_is_read_in_parts_and_replaced_by_one_of_another_size() {
    with_each(|store| {
        commit(store, &[created(1, 0)]);
        for bytes in [200_000, 70_000, 0x1_0000, 1] {
            let json: Vec<u8> = (0..bytes).map(|n: u32| b'a' + (n % 23) as u8).collect();
            commit(store, &[Write::Whole { number: number(1), step: step(), json: json.as_slice().into() }]);
            assert_eq!(store.whole_length(number(1), &step()), Ok(Some(u64::from(bytes))));
            for (start, end) in [(0, 10), (65_530, 65_540), (65_536, 131_072), (69_990, 300_000), (0, 300_000), (5, 5)]
            {
                let mut part = Vec::new();
                let read = store.whole_bytes(number(1), &step(), start..end, &mut part);
                let at = |offset: u64| (offset as usize).min(json.len());
                assert_eq!((read, part.as_slice()), (Ok(()), &json[at(start)..at(end)]), "{start}..{end} of {bytes}");
            }
        }
        assert_eq!(store.whole_length(number(2), &step()), Ok(None));
    });
}

#[test]
fn late_output_of_an_earlier_attempt_replaces_nothing() {
    with_each(|store| {
        commit(store, &[created(1, 0), piece(2, OutputStream::Stdout, "new")]);
        commit(store, &[piece(1, OutputStream::Stdout, "late"), piece(1, OutputStream::Stderr, "late")]);
        commit(store, &[piece(2, OutputStream::Stdout, "er")]);
        assert_eq!(written(store, 1, &step()), ["newer", "", ""]);
    });
}

#[test]
fn a_key_that_is_used_anew_is_the_newer_calls() {
    with_each(|store| {
        commit(store, &[created(1, 0), key("kx", 1, 10), key("ky", 2, 0)]);
        let later = 2 + KEY_AGE_MS;
        commit(store, &[key("kx", later, 30)]);
        let found = |name: &str| store.key(&project(), name).expect("readable").map(|row| row.at.as_millis());
        assert_eq!((found("kx"), found("ky"), found("kz")), (Some(later), Some(2), None));
        assert_eq!(store.key(&named(1), "kx"), Ok(None));
        let weight = |name: &str, answer| match key(name, 0, answer) {
            Write::Key(row) => row.weight(),
            other => panic!("no key: {other:?}"),
        };
        assert_eq!(store.key_bytes(&project()), Ok(weight("kx", 30) + weight("ky", 0)));
        assert_eq!(store.key_bytes(&named(1)), Ok(0));
    });
}

#[test]
fn an_idempotency_key_went_with_its_run() {
    with_each(|store| {
        let last = message(1, 1000, Some(number(1)), PlaceInRun::Last);
        commit(store, &[created(1, 0), key("kx", 1000, 5), last, ended(1, 1)]);
        trim(store, Retention { runs: 0, messages: 0, ..KEEP_ALL }, 2000);
        assert!(listed(store).is_empty());
        let found = |store: &dyn Store| store.key(&project(), "kx").expect("readable").map(|row| row.answer.len());
        assert_eq!(found(store), Some(5));
        trim(store, KEEP_ALL, 1000 + KEY_AGE_MS);
        assert_eq!(found(store), Some(5));
        let trimmed = store.trim(&KEEP_ALL, at(1001 + KEY_AGE_MS)).expect("it does not fail");
        assert_eq!((found(store), trimmed.key_bytes, store.key_bytes(&project())), (None, 0, Ok(0)));
    });
}

#[test]
fn a_project_that_holds_nothing_is_its_newest_seq_until_its_time_is_over() {
    with_each(|store| {
        let none = Retention { messages: 0, ..KEEP_ALL };
        let names = |projects: Vec<RecoveredProject>| {
            projects.into_iter().map(|it| it.project.to_string()).collect::<Vec<_>>().join(" ")
        };
        let kept = |store: &dyn Store| names(store.recover().expect("readable").projects);
        let remains = |store: &dyn Store| store.remains(&project()).expect("readable").map(|it| it.newest);
        commit(store, &messages(1..=3));
        commit(store, &[created(1, 0), key("kx", 3000, 0)]);
        assert_eq!((trim(store, none, 4000), kept(store)), (vec![], "p".to_owned()), "it has a run");
        commit(store, &[message(4, 4000, Some(number(1)), PlaceInRun::Last), ended(1, 4)]);
        assert_eq!(trim(store, Retention { runs: 0, ..none }, 5000), [project()]);
        assert_eq!((kept(store), remains(store), store.floor(&project())), (String::new(), Some(4), Ok(5)));
        assert_eq!(trim(store, none, 6000), [], "it is told once");

        commit(store, &messages([5]));
        assert_eq!((kept(store), seqs(store)), ("p".to_owned(), vec![5]));
        assert_eq!(trim(store, none, 7000), [project()]);
        trim(store, none, 7000 + TOMBSTONE_AGE_MS);
        assert_eq!(remains(store), Some(5));
        let trimmed = store.trim(&none, at(7001 + TOMBSTONE_AGE_MS)).expect("it does not fail");
        assert!(trimmed.has_forgotten, "{trimmed:?}");
        assert_eq!((remains(store), store.newest(&project()), store.floor(&project())), (None, Ok(0), Ok(1)));

        // What takes its place is another project.
        let other = StoredMessage {
            seq: 1,
            at: Timestamp::from_millis(1 << 40),
            run: None,
            place: PlaceInRun::Middle,
            json: b"{}".as_slice().into(),
        };
        commit(store, &[Write::Message(other, named(1))]);
        commit(store, &messages([1]));
        trim(store, KEEP_ALL, 1 << 40);
        assert_eq!((kept(store), seqs(store)), ("p q:1".to_owned(), vec![1]));
    });
}
