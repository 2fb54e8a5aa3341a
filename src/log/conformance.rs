//! Every store does the same: what the one on disk answers is held against what the one in memory does.

mod outbox;

use std::collections::HashMap;

use super::store::{
    AppendError, Head, KEY_AGE_MS, KeyRow, Place, Retention, RunRow, Store, StoredMessage, StoredOutput,
    TOMBSTONE_AGE_MS, Write,
};
use super::store::{Identity, Recovered, RecoveredProject};
use super::testing::{
    KEEP_ALL, TempDir, at, created, ended, key, listed, message, messages, number, project, read, run_id, seqs,
    seqs_of_run, step,
};
use super::{MemoryStore, RunNumber, Seed, SqliteStore, Synchronous};
use crate::model::{OutputStream, ProjectId, RunStatus, StepId, Timestamp};

pub(super) const SEED: Seed = Seed { master_key: [7; 32], instance: [8; 6] };

/// Runs `scenario` over an empty store of each kind.
fn with_each(scenario: impl Fn(&mut dyn Store)) {
    scenario(&mut MemoryStore::new());
    let directory = TempDir::new();
    scenario(&mut open(&directory, 0).0);
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

#[test]
fn what_goes_on_from_elsewhere_than_the_newest_message_is_a_conflict_and_changes_nothing() {
    with_each(|store| {
        let head = |newest| Head { project: project(), newest };
        let mut append = |newest, writes: &[Write]| store.append(&[head(newest)], writes, Timestamp::default());
        assert_eq!(append(0, &messages(1..=3)), Ok(()));
        assert_eq!(append(3, &[created(1, 1)]), Ok(()), "a run has no message so far");
        assert_eq!(append(3, &messages(4..=5)), Ok(()));
        for behind in [0, 4, 6] {
            let writes = [messages([behind + 1]), vec![created(2, 1)]].concat();
            assert_eq!(append(behind, &writes), Err(AppendError::Conflict(vec![head(5)])));
        }
        assert_eq!((seqs(store), listed(store)), ((1..=5).collect(), vec![1]));
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
    Write::Message(StoredMessage { seq, at, run: None, place: Place::Middle, json }, project())
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
        commit(store, &[created(1, 10), message(3, 3000, Some(number(1)), Place::First)]);
        commit(store, &[created(2, 10), message(4, 4000, Some(number(1)), Place::Turn)]);
        commit(store, &[message(5, 5000, Some(number(1)), Place::Middle), message(6, 6000, None, Place::Middle)]);
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
            &[message(7, 9000, Some(number(2)), Place::First), message(8, 9000, Some(number(1)), Place::Last)],
        );
        commit(store, &[ended(1, 8), message(9, 9000, Some(number(2)), Place::Last), ended(2, 9)]);
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
        let places = [Place::First, Place::Turn, Place::Middle, Place::Turn];
        commit(store, &[created(1, 10)]);
        commit(store, &[1, 2, 3, 4].map(|seq| message(seq, seq * 1000, Some(number(1)), places[seq as usize - 1])));
        commit(store, &messages([5, 6]));
        let one = Retention { messages: 1, ..KEEP_ALL };
        trim(store, one, 6000);
        assert_eq!((seqs(store), seqs_of_run(store, 1)), (vec![6], vec![1, 2, 4]));

        commit(store, &[message(7, 7000, Some(number(1)), Place::Last), ended(1, 7)]);
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
        commit(store, &[created(1, 10), message(1, 1000, Some(number(1)), Place::First)]);
        commit(
            store,
            &[message(2, 2000, Some(number(1)), Place::Last), ended(1, 2), message(3, 3000, None, Place::Middle)],
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
        commit(store, &[key("kx", 3, 30)]);
        let found = |name: &str| store.key(&project(), name).expect("readable").map(|row| row.at.as_millis());
        assert_eq!((found("kx"), found("ky"), found("kz")), (Some(3), Some(2), None));
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
        let last = message(1, 1000, Some(number(1)), Place::Last);
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
        commit(store, &[message(4, 4000, Some(number(1)), Place::Last), ended(1, 4)]);
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
            place: Place::Middle,
            json: b"{}".as_slice().into(),
        };
        commit(store, &[Write::Message(other, named(1))]);
        commit(store, &messages([1]));
        trim(store, KEEP_ALL, 1 << 40);
        assert_eq!((kept(store), seqs(store)), ("p q:1".to_owned(), vec![1]));
    });
}

/// Makes writes at random, and knows what may be written next.
struct Generator {
    state: u64,
    /// No two messages come at the same time.
    now: u64,
    newest: [u64; 3],
    open: Vec<(RunNumber, usize)>,
    next_run: u64,
    /// Which retention is in force.
    retention: Retention,
}

impl Generator {
    fn new(seed: u64) -> Self {
        let mut it = Self {
            state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            now: 1_000_000,
            newest: [0; 3],
            open: Vec::new(),
            next_run: 1,
            retention: KEEP_ALL,
        };
        it.retention = Retention {
            messages: [3, 10, 40, 100_000][it.below(4) as usize],
            bytes: [500, 4000, 20_000, u64::MAX][it.below(4) as usize],
            age_ms: [50_000, 500_000, u64::MAX][it.below(3) as usize],
            runs: [0, 1, 4, 100_000][it.below(4) as usize],
        };
        it
    }

    fn below(&mut self, n: u64) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 20) % n
    }

    fn batch(&mut self) -> Vec<Write> {
        let mut batch = Vec::new();
        for _ in 0..=self.below(8) {
            self.add_to(&mut batch);
        }
        batch
    }

    fn add_to(&mut self, batch: &mut Vec<Write>) {
        self.now += [1, 10_000][self.below(2) as usize];
        let of = self.below(3) as usize;
        match (self.below(12), self.open.is_empty()) {
            (0..4, _) => batch.push(self.message(of, None, Place::Middle)),
            (4, _) | (_, true) => self.start_run(of, batch),
            (kind, false) => {
                let at = self.below(self.open.len() as u64) as usize;
                let (run, of) = self.open[at];
                match kind {
                    5 | 6 => batch.push(self.message(of, Some(run), Place::Turn)),
                    7 => batch.push(self.message(of, Some(run), Place::Middle)),
                    8 => batch.push(Write::CancelRequested(run)),
                    9 => batch.push(self.piece(run)),
                    10 => batch.push(Write::Whole {
                        number: run,
                        step: self.step(),
                        json: [b"0", &self.bytes()[..]].concat().into(),
                    }),
                    _ => {
                        self.open.remove(at);
                        batch.push(self.message(of, Some(run), Place::Last));
                        let (state, summary, last_seq) = (self.bytes().into(), self.bytes().into(), self.newest[of]);
                        let status =
                            [RunStatus::Completed, RunStatus::Failed, RunStatus::Cancelled][self.below(3) as usize];
                        batch.push(Write::RunEnded { number: run, status, summary, state, last_seq });
                    }
                }
            }
        }
    }

    fn start_run(&mut self, of: usize, batch: &mut Vec<Write>) {
        let run = number(self.next_run);
        let row = RunRow {
            run: run_id(self.next_run),
            created_at: Timestamp::from_millis(self.now),
            document: self.bytes().into(),
            answer: self.bytes().into(),
            fingerprint: [self.below(256) as u8; 32],
        };
        if self.below(2) == 0 {
            let (name, at, answer) =
                (format!("kkey{}", self.next_run % 7), Timestamp::from_millis(self.now), self.bytes());
            let (project, fingerprint) = (named(of), row.fingerprint);
            batch.push(Write::Key(Box::new(KeyRow { project, name, at, fingerprint, answer: answer.into() })));
        }
        self.next_run += 1;
        self.open.push((run, of));
        batch.push(Write::RunCreated { number: run, project: named(of), row: Box::new(row) });
        batch.push(self.message(of, Some(run), Place::First));
    }

    fn message(&mut self, of: usize, run: Option<RunNumber>, place: Place) -> Write {
        self.newest[of] += 1;
        self.now += 1;
        let at = Timestamp::from_millis(self.now);
        let message = StoredMessage { seq: self.newest[of], at, run, place, json: self.bytes().into() };
        Write::Message(message, named(of))
    }

    fn piece(&mut self, number: RunNumber) -> Write {
        let stream = [OutputStream::Stdout, OutputStream::Stderr, OutputStream::Text][self.below(3) as usize];
        Write::Output { number, step: self.step(), attempt: 1 + self.below(2) as u32, stream, bytes: self.bytes() }
    }

    fn step(&mut self) -> StepId {
        StepId::parse(["a", "b"][self.below(2) as usize]).expect("an id")
    }

    fn bytes(&mut self) -> Vec<u8> {
        let length = self.below(200) as usize;
        vec![b'a' + self.below(26) as u8; length]
    }
}

fn named(project: usize) -> ProjectId {
    ProjectId::parse(["p", "q:1", "r-2"][project]).expect("an id")
}

/// Everything that can be read of both is the same.
fn assert_same(one: &dyn Store, other: &dyn Store, runs: u64, context: &str) {
    let mut listed_in: HashMap<u64, ProjectId> = HashMap::new();
    for project in [0, 1, 2].map(named) {
        for n in 0..7 {
            let key = |store: &dyn Store| store.key(&project, &format!("kkey{n}"));
            assert_eq!(key(one), key(other), "{context}, key {n} of {project}");
        }
        assert_eq!(one.key_bytes(&project), other.key_bytes(&project), "{context}, keys of {project}");
        assert_eq!(one.remains(&project), other.remains(&project), "{context}, what is left of {project}");
        assert_eq!(one.newest(&project), other.newest(&project), "{context}, newest of {project}");
        assert_eq!(one.floor(&project), other.floor(&project), "{context}, floor of {project}");
        for after in [0, 3, 17] {
            let (a, b) = (read(one, &project, after, None), read(other, &project, after, None));
            assert_eq!(a, b, "{context}, {project} behind {after}");
        }
        for before in [3, 17, u64::MAX] {
            let (a, b) = (seqs_before(one, &project, before, 50), seqs_before(other, &project, before, 50));
            assert_eq!(a, b, "{context}, {project} before {before}");
        }
        let numbers_as = |store: &dyn Store, before, ended_as| {
            let mut numbers = Vec::new();
            let listed = store.runs(&project, before, ended_as, &mut |number| {
                numbers.push(number);
                super::store::Flow::More
            });
            assert_eq!(listed, Ok(()));
            numbers
        };
        for status in [RunStatus::Completed, RunStatus::Failed, RunStatus::Cancelled].map(Some) {
            for before in [None, Some(number(5))] {
                let (a, b) = (numbers_as(one, before, status), numbers_as(other, before, status));
                assert_eq!(a, b, "{context}, runs of {project} that ended as {status:?}");
            }
        }
        let numbers = |store: &dyn Store, before| numbers_as(store, before, None);
        assert_eq!(numbers(one, Some(number(5))), numbers(other, Some(number(5))), "{context}, runs of {project}");
        let all = numbers(one, None);
        assert_eq!(all, numbers(other, None), "{context}, runs of {project}");
        listed_in.extend(all.into_iter().map(|number| (number.0.get(), project.clone())));
    }
    for n in 1..=runs {
        let project = listed_in.get(&n).cloned().unwrap_or_else(|| named(0));
        assert_eq!(one.run(number(n)), other.run(number(n)), "{context}, run {n}");
        assert_eq!(one.ended_state(number(n)), other.ended_state(number(n)), "{context}, state of run {n}");
        let summary = |store: &dyn Store| store.ended_summary(number(n));
        assert_eq!(summary(one), summary(other), "{context}, summary of run {n}");
        let found = |store: &dyn Store| store.run_number(&project, &run_id(n));
        assert_eq!(found(one), found(other), "{context}, number of run {n}");
        for after in [0, 9] {
            let (a, b) = (read(one, &project, after, Some(number(n))), read(other, &project, after, Some(number(n))));
            assert_eq!(a, b, "{context}, run {n} behind {after}");
        }
        assert_eq!(one.ends(number(n)), other.ends(number(n)), "{context}, ends of run {n}");
        for step in ["a", "b"].map(|step| StepId::parse(step).expect("an id")) {
            assert_eq!(one.output(number(n), &step), other.output(number(n), &step), "{context}, {step} of run {n}");
            assert_eq!(written(one, n, &step), written(other, n, &step), "{context}, {step} of run {n}");
            let whole = |store: &dyn Store| store.whole_output(number(n), &step);
            assert_eq!(whole(one), whole(other), "{context}, {step} of run {n}");
        }
    }
}

/// What was recovered is what the generator knows.
fn assert_recovered(store: &dyn Store, recovered: &Recovered, generator: &Generator, context: &str) {
    for (of, seq) in generator.newest.into_iter().enumerate() {
        let remains = store.remains(&named(of)).expect("readable");
        assert_eq!(remains.as_ref().map_or(0, |it| it.newest), seq, "{context}, newest of {of}");
        let holds = !read(store, &named(of), 0, None).is_empty() || generator.open.iter().any(|&(_, open)| open == of);
        let is_kept = recovered.projects.iter().any(|it| it.project == named(of));
        assert!(is_kept || !holds, "{context}, {of} holds something");
    }
    let mut open: Vec<_> = generator.open.iter().map(|&(run, of)| (run, named(of))).collect();
    open.sort_by_key(|(run, _)| *run);
    let found: Vec<_> = recovered.open_runs.iter().map(|run| (run.number, run.project.clone())).collect();
    assert_eq!(found, open, "{context}, open runs");
    assert_eq!(recovered.next_run_number.get(), generator.next_run, "{context}");
}

#[test]
fn any_writes_and_trims_and_restarts_read_the_same_from_both() {
    for seed in 0..16 {
        let directory = TempDir::new();
        let mut generator = Generator::new(seed);
        let mut memory = MemoryStore::new();
        let mut sqlite = open(&directory, 0).0;
        for turn in 0..40 {
            let context = format!("seed {seed}, turn {turn}");
            let batch = generator.batch();
            commit(&mut memory, &batch);
            if generator.below(3) == 0 {
                let (retention, now) = (generator.retention, at(generator.now));
                let now = super::store::Times { wall: Timestamp::from_millis(7), ..now };
                let sorted = |mut emptied: Vec<ProjectId>| {
                    emptied.sort_unstable();
                    emptied
                };
                let expected = memory.trim(&retention, now).expect("it does not fail").emptied;
                let trimmed = sqlite.append_and_trim(&[], &batch, &retention, now).expect("it does not fail");
                let emptied = trimmed.expect("nor does that").emptied;
                assert_eq!(sorted(emptied), sorted(expected), "{context}, emptied at once");
            } else {
                commit(&mut sqlite, &batch);
            }
            if generator.below(3) > 0 {
                let emptied = trim(&mut memory, generator.retention, generator.now);
                assert_eq!(trim(&mut sqlite, generator.retention, generator.now), emptied, "{context}, emptied");
            }
            if generator.below(10) == 0 {
                drop(sqlite);
                let (store, identity) = open(&directory, generator.now);
                assert_eq!((identity.master_key, identity.instance.to_string().len()), ([7; 32], 8), "{context}");
                let recovered = store.recover().expect("readable");
                assert_recovered(&store, &recovered, &generator, &context);
                let remembered = memory.recover().expect("readable");
                assert_eq!(recovered.projects, remembered.projects, "{context}");
                assert_eq!(recovered.open_runs, remembered.open_runs, "{context}");
                // The clock is kept with messages, and else now and then: it may be behind, and a little more be recent.
                assert!(recovered.clock <= remembered.clock, "{context}");
                assert!(remembered.clock.millis_since(recovered.clock) < 11 * 60 * 1000, "{context}");
                let more = recovered.ended_runs.len() - remembered.ended_runs.len();
                assert_eq!(recovered.ended_runs[more..], remembered.ended_runs, "{context}");
                assert_eq!(recovered.key_bytes, remembered.key_bytes, "{context}");
                sqlite = store;
            }
            assert_same(&memory, &sqlite, generator.next_run - 1, &context);
        }
    }
}
