//! Helpers that the tests of all stores share.

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::store::{Flow, KeyRow, PlaceInRun, Retention, RunRow, Store, StoredMessage, Times, Write};
use super::{Command, ReplyTo, RunNumber, Subscription};
use crate::model::{ProjectId, RunId, RunStatus, SlabKey, StepId, Timestamp};

/// Lets nothing go in a test.
pub(super) const KEEP_ALL: Retention =
    Retention { messages: 100_000, bytes: u64::MAX, age_ms: u64::MAX, runs: 100_000 };

/// Whoever waits for answer `n`.
pub(super) fn reply_to(n: u64) -> ReplyTo {
    ReplyTo::Connection(SlabKey::new(u32::try_from(n).expect("a small number"), 0))
}

/// The number that [`reply_to`] was given.
pub(super) fn number_of(reply: &ReplyTo) -> Option<u64> {
    match reply {
        ReplyTo::Connection(key) => Some(key.index() as u64),
        _ => None,
    }
}

/// To all of a project, beginning with snapshots.
pub(super) fn everything(project: ProjectId) -> Subscription {
    Subscription { snapshots: true, ..Subscription::to(project) }
}

/// Asks for answer `n`.
pub(super) fn subscribe(subscription: Subscription, n: u64) -> Command {
    Command::Subscribe { subscription: Arc::new(subscription), spends: None, reply: reply_to(n) }
}

/// The one project of most tests.
pub(super) fn project() -> ProjectId {
    ProjectId::parse("p").expect("an id")
}

pub(super) fn step() -> StepId {
    StepId::parse("s").expect("an id")
}

pub(super) fn number(n: u64) -> RunNumber {
    RunNumber(NonZeroU64::new(n).expect("not 0"))
}

pub(super) fn run_id(n: u64) -> RunId {
    RunId::parse(&format!("run{n}")).expect("an id")
}

/// Run `n`, taken on at `n` milliseconds.
pub(super) fn created(n: u64, document_bytes: usize) -> Write {
    let row = RunRow {
        run: run_id(n),
        created_at: Timestamp::from_millis(n),
        document: vec![b'x'; document_bytes].into(),
        answer: Arc::default(),
        fingerprint: [0; 32],
    };
    Write::RunCreated { number: number(n), project: project(), row: Box::new(row) }
}

/// A key of the project, used at `at`, whose call was answered so much.
pub(super) fn key(name: &str, at: u64, answer_bytes: usize) -> Write {
    let (at, answer) = (Timestamp::from_millis(at), vec![b'x'; answer_bytes].into());
    Write::Key(Box::new(KeyRow { project: project(), name: name.into(), at, fingerprint: [0; 32], answer }))
}

/// Both clocks at `ms` milliseconds.
pub(super) fn at(ms: u64) -> Times {
    Times { age: Timestamp::from_millis(ms), wall: Timestamp::from_millis(ms) }
}

/// A message of two bytes.
pub(super) fn message(seq: u64, at: u64, run: Option<RunNumber>, place: PlaceInRun) -> Write {
    let json = b"{}".as_slice().into();
    Write::Message(StoredMessage { seq, at: Timestamp::from_millis(at), run, place, json }, project())
}

/// Messages of no run, each kept at a second of its number.
pub(super) fn messages(seqs: impl IntoIterator<Item = u64>) -> Vec<Write> {
    seqs.into_iter().map(|seq| message(seq, seq * 1000, None, PlaceInRun::Middle)).collect()
}

pub(super) fn ended(n: u64, last_seq: u64) -> Write {
    let (status, summary, state) = (RunStatus::Completed, Arc::default(), Arc::default());
    Write::RunEnded { number: number(n), status, summary, state, last_seq }
}

/// The numbers of the project's runs, newest first.
pub(super) fn listed(store: &dyn Store) -> Vec<u64> {
    let mut numbers = Vec::new();
    let listed = store.runs(&project(), None, None, &mut |number| {
        numbers.push(number.0.get());
        Flow::More
    });
    assert_eq!(listed, Ok(()));
    numbers
}

/// The messages after `after`.
pub(super) fn read(store: &dyn Store, of: &ProjectId, after: u64, run: Option<RunNumber>) -> Vec<StoredMessage> {
    let mut messages = Vec::new();
    let read = store.messages(of, after, run, &mut |message| {
        messages.push(message.clone());
        Flow::More
    });
    assert_eq!(read, Ok(()));
    messages
}

pub(super) fn seqs(store: &dyn Store) -> Vec<u64> {
    read(store, &project(), 0, None).iter().map(|message| message.seq).collect()
}

pub(super) fn seqs_of_run(store: &dyn Store, n: u64) -> Vec<u64> {
    read(store, &project(), 0, Some(number(n))).iter().map(|message| message.seq).collect()
}

/// A directory of a test's own, removed with it.
pub(super) struct TempDir(PathBuf);

impl TempDir {
    pub(super) fn new() -> Self {
        static MADE: AtomicU64 = AtomicU64::new(0);
        let name = format!("stepcast-store-{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).expect("a new directory");
        Self(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
