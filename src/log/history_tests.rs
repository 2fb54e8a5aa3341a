//! Reads of history give the same answers whoever makes them, wait for nobody, and never return deleted messages.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use super::conformance::{commit, open, trim};
use super::lookup::page_cache::Stretch;
use super::lookup::{Found, Lookup};
use super::store::{History, PlaceInRun, Reader, Retention, Store, StoreError, Write};
use super::testing::{
    KEEP_ALL, TempDir, created, ended, everything, message, messages, number, number_of, project, reply_to, run_id,
    step, subscribe,
};
use super::*;
use crate::auth::{IdSigner, Instance, ServerKeys};
use crate::model::Now;

/// A question takes no longer than this, or the test has failed.
const PATIENCE: Duration = Duration::from_secs(60);

fn signer() -> IdSigner {
    ServerKeys::derive(&[1; 32]).id_signer(Instance::from_random([1; 6]))
}

fn limits(messages: usize) -> Limits {
    let retention = Retention { messages, ..KEEP_ALL };
    Limits {
        retention,
        open_runs: 100,
        project_runs: usize::MAX,
        projects: 100,
        key_bytes: 1 << 20,
        state_outputs_bytes: 1 << 20,
        plans: Default::default(),
        recent_ms: 1000,
    }
}

fn now() -> Now {
    Now { mono: Duration::from_secs(1), wall: crate::model::Timestamp::from_millis(1_700_000_000_000) }
}

fn stretch(run: Option<u64>, after: u64) -> Stretch {
    Stretch { project: project(), run: run.map(number), view: View::Events, after }
}

fn page_query(after: u64, bytes_max: usize) -> Query {
    Query::Page { project: project(), after, run: None, view: View::Events, bytes_max }
}

fn read(query: Query, to: u64) -> Command {
    Command::Read { query, reply: reply_to(to) }
}

fn publish(to: u64, count: usize) -> Command {
    let event = PublishedEvent { message_type: "note".into(), payload: b"{}".to_vec() };
    Command::Publish { project: project(), events: vec![event; count], reply: reply_to(to) }
}

fn seqs(page: &Page) -> Vec<u64> {
    let text = String::from_utf8_lossy(&page.bytes).into_owned();
    let ids = text.lines().filter_map(|line| line.strip_prefix("id: ")?.split('.').nth(1)?.parse().ok());
    ids.collect()
}

/// A lookup that has seen nothing, over what `reader` sees.
fn fresh(reader: &mut dyn Reader, look: impl Fn(&mut Lookup, &dyn History) -> Found) -> Found {
    let mut found = Found::NoRun;
    let looked = reader.look(&mut |history| {
        found = look(&mut Lookup::default(), history);
        Ok(())
    });
    assert_eq!(looked, Ok(()));
    found
}

/// A run that has ended, one that goes on, and messages of none.
fn mixed() -> Vec<Write> {
    let mut writes = vec![created(1, 10), created(2, 10)];
    let of = |n: u64| Some(number(n));
    writes.extend((1..=30).map(|seq| match seq {
        3 => message(seq, seq * 1000, of(1), PlaceInRun::First),
        4 => message(seq, seq * 1000, of(2), PlaceInRun::First),
        20 => message(seq, seq * 1000, of(1), PlaceInRun::Last),
        seq if seq % 3 == 0 && seq < 20 => message(seq, seq * 1000, of(1), PlaceInRun::Turn),
        seq if seq % 5 == 0 => message(seq, seq * 1000, of(2), PlaceInRun::Middle),
        seq => message(seq, seq * 1000, None, PlaceInRun::Middle),
    }));
    writes.push(ended(1, 20));
    writes
}

#[test]
fn a_reader_beside_the_writer_sees_what_the_journal_sees() {
    let directory = TempDir::new();
    let mut sqlite = open(&directory, 0).0;
    let mut reader = sqlite.reader().expect("a reader").expect("there is one");
    let mut memory = MemoryStore::new();
    let mut beside = memory.reader().expect("a reader").expect("there is one");
    for (turn, kept) in [100_000, 25, 12, 3, 0].into_iter().enumerate() {
        for store in [&mut sqlite as &mut dyn Store, &mut memory] {
            commit(store, &if turn == 0 { mixed() } else { Vec::new() });
            trim(store, Retention { messages: kept, runs: if kept == 0 { 0 } else { 100 }, ..KEEP_ALL }, 40_000);
        }
        for (run, after, bytes_max) in [None, Some(1), Some(2), Some(3)].into_iter().flat_map(|run| {
            [0, 2, 3, 10, 18, 19, 20, 29, 30]
                .into_iter()
                .flat_map(move |after| [1, 200, 1 << 20].into_iter().map(move |bytes_max| (run, after, bytes_max)))
        }) {
            let look = |lookup: &mut Lookup, history: &dyn History| {
                lookup.page(history, &signer(), stretch(run, after), bytes_max).expect("it can be read")
            };
            let expected = look(&mut Lookup::default(), &memory);
            for reader in [&mut reader, &mut beside] {
                let found = fresh(reader.as_mut(), look);
                assert_eq!(found, expected, "run {run:?} behind {after}, {bytes_max} bytes, {kept} messages kept");
            }
        }
        let looked = reader.look(&mut |history| {
            for n in 1..=3 {
                assert_eq!(history.run_number(&project(), &run_id(n)), memory.run_number(&project(), &run_id(n)));
                assert_eq!(history.ended_state(number(n)), memory.ended_state(number(n)));
                assert_eq!(history.output(number(n), &step()), memory.output(number(n), &step()));
            }
            Ok(())
        });
        assert_eq!(looked, Ok(()));
    }
}

#[test]
fn every_page_of_one_lookup_goes_on_where_the_last_one_ended_whatever_others_read_meanwhile() {
    let mut store = MemoryStore::new();
    commit(&mut store, &messages(1..=30));
    let history = &store;
    let mut lookup = Lookup::default();
    for (start, bytes_max) in [(0, 500), (7, 500), (3, 90), (0, 2000), (12, 1), (0, 1 << 20)] {
        let (mut after, mut got) = (start, Vec::new());
        while after < 30 {
            let found = lookup.page(history, &signer(), stretch(None, after), bytes_max);
            let Ok(Found::Page(page)) = found else { panic!("{found:?}") };
            assert!(page.bytes.len() <= bytes_max || page.messages == 1, "{} bytes", page.bytes.len());
            assert_eq!(seqs(&page).len(), page.messages);
            got.extend(seqs(&page));
            after = page.up_to;
        }
        assert_eq!(got, (start + 1..=30).collect::<Vec<_>>(), "from {start}, {bytes_max} bytes");
    }
}

#[test]
fn what_the_floor_has_passed_is_not_served_though_it_was_encoded_before() {
    let mut store = MemoryStore::new();
    commit(&mut store, &messages(1..=30));
    let mut lookup = Lookup::default();
    let page = |lookup: &mut Lookup, store: &MemoryStore, after| {
        lookup.page(store, &signer(), stretch(None, after), 500).expect("it can be read")
    };
    let before = page(&mut lookup, &store, 0);
    assert!(matches!(&before, Found::Page(page) if page.up_to > 2 && page.up_to < 30), "{before:?}");
    trim(&mut store, Retention { messages: 28, ..KEEP_ALL }, 40_000);
    assert_eq!(page(&mut lookup, &store, 0), Found::Lost);
    assert_eq!(page(&mut lookup, &store, 1), Found::Lost);
    let Found::Page(rest) = page(&mut lookup, &store, 2) else { panic!("it is whole from here on") };
    assert_eq!(seqs(&rest).first(), Some(&3));
}

#[test]
fn a_page_that_is_not_full_is_read_anew_once_there_is_more() {
    let mut store = MemoryStore::new();
    commit(&mut store, &messages(1..=3));
    let mut lookup = Lookup::default();
    let page = |lookup: &mut Lookup, store: &MemoryStore| match lookup.page(store, &signer(), stretch(None, 0), 1 << 20)
    {
        Ok(Found::Page(page)) => seqs(&page),
        other => panic!("{other:?}"),
    };
    assert_eq!(page(&mut lookup, &store), [1, 2, 3]);
    commit(&mut store, &messages(4..=5));
    assert_eq!(page(&mut lookup, &store), [1, 2, 3, 4, 5]);
}

/// A log on disk whose answers come out of a channel.
struct Bench {
    log: LogHandle,
    threads: Vec<std::thread::JoinHandle<()>>,
    answers: Receiver<(u64, Answer)>,
    /// What a batch's messages wait for before they leave the log.
    gate: Sender<()>,
    _directory: TempDir,
}

impl Bench {
    fn new(messages_max: usize) -> Self {
        let directory = TempDir::new();
        let store = open(&directory, 0).0;
        let no_plan = Box::new(|_: &[u8]| Err("no plan is kept here".to_owned()));
        let journal = Journal::open(Box::new(store), signer(), limits(messages_max), no_plan, now());
        let journal = journal.expect("an empty store").0;
        let ((tell, answers), (gate, opened)) = (unbounded(), bounded(0));
        let opened = Arc::new(Mutex::new(opened));
        let (log, threads) = start(journal, now, move |outcome: Outcome| {
            for delivery in outcome.deliveries {
                if let Delivery::Reply { to, answer } = delivery {
                    if matches!(answer, Answer::Published { .. }) {
                        let _ = opened.lock().expect("nobody panics").recv();
                    }
                    let _ = tell.send((number_of(&to).expect("a number"), answer));
                }
            }
        })
        .expect("threads");
        Self { log, threads, answers, gate, _directory: directory }
    }

    fn send(&self, commands: Vec<Command>) {
        assert!(self.log.send(commands).is_ok(), "the log goes on");
    }

    fn answer(&self) -> (u64, Answer) {
        self.answers.recv_timeout(PATIENCE).expect("an answer")
    }

    fn publish(&self, count: usize) {
        self.send(vec![publish(0, count)]);
        self.gate.send(()).expect("the log goes on");
        assert!(matches!(self.answer(), (0, Answer::Published { .. })));
    }

    fn end(self) {
        self.log.close();
        self.threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    }
}

#[test]
fn a_page_waits_for_nobody_who_writes() {
    let bench = Bench::new(100_000);
    bench.publish(10);
    // The log is held up for as long as nobody opens the gate.
    bench.send(vec![publish(1, 5)]);
    bench.send(vec![read(page_query(0, 1 << 20), 2), read(page_query(8, 1 << 20), 3)]);
    for (to, first) in [(2, 1), (3, 9)] {
        let (answered, Answer::Page(page)) = bench.answer() else { panic!("no page") };
        assert_eq!((answered, seqs(&page)[0]), (to, first));
    }
    bench.gate.send(()).expect("the log goes on");
    assert!(matches!(bench.answer(), (1, Answer::Published { first_seq: 11, count: 5 })));
    bench.end();
}

#[test]
fn a_page_has_all_that_was_answered_before_it_was_asked_for() {
    let bench = Bench::new(100_000);
    for n in 1..=50 {
        bench.publish(1);
        bench.send(vec![read(page_query(n - 1, 1 << 20), n)]);
        let (to, Answer::Page(page)) = bench.answer() else { panic!("no page") };
        assert_eq!((to, seqs(&page), page.up_to), (n, vec![n], n));
    }
    bench.end();
}

#[test]
fn where_a_stream_begins_is_told_after_the_messages_that_it_begins_behind() {
    let plan = || crate::executor::testing::plan(&["s"]);
    let journal =
        Journal::open(Box::new(MemoryStore::new()), signer(), limits(1000), Box::new(move |_| Ok(plan())), now());
    let ((tell, told), (enter, entered), (gate, opened)) = (unbounded(), bounded(0), bounded::<()>(0));
    let opened = Arc::new(Mutex::new(opened));
    let (log, threads) = start(journal.expect("an empty store").0, now, move |outcome: Outcome| {
        // What the log lets out is held up until the gate is opened; what readers say is not.
        if outcome.deliveries.iter().any(|it| matches!(it, Delivery::Opened { .. })) {
            let _ = enter.send(());
            let _ = opened.lock().expect("nobody panics").recv();
        }
        outcome.deliveries.into_iter().for_each(|delivery| drop(tell.send(delivery)));
    })
    .expect("threads");
    let fingerprint = Fingerprint { value: [0; 32], bytes: [0; 32] };
    let claim = Claim { project: project(), key: None, run: Some(run_id(1)), fingerprint };
    let (document, answer) = (Arc::default(), Arc::default());
    let submission =
        Box::new(Submission { claim, run: run_id(1), plan: Arc::new(plan()), document, answer, origin: None });
    let submit = Command::Submit { submission, reply: reply_to(1) };
    assert!(log.send(vec![submit, publish(2, 3), subscribe(everything(project()), 3)]).is_ok());
    assert_eq!(entered.recv_timeout(PATIENCE), Ok(()));
    // Whatever readers were asked before these has been answered when these are.
    for _ in 0..100 {
        let events =
            Query::RunEvents { project: project(), run: run_id(1), after: 0, limit: 1, list: EventList::Messages };
        assert!(log.send(vec![read(events, 4)]).is_ok());
        let first = told.recv_timeout(PATIENCE);
        let Ok(Delivery::Reply { to, .. }) = &first else { panic!("ahead of the log: {first:?}") };
        assert_eq!(number_of(to), Some(4), "ahead of the log");
    }
    assert_eq!(gate.send(()), Ok(()));
    let mut opened = false;
    loop {
        match told.recv_timeout(PATIENCE).expect("the stream begins") {
            Delivery::Opened { frames, .. } => opened = frames.next_seq() == 4,
            Delivery::Reply { answer: Answer::StartsAt(start), .. } => {
                assert!(opened && start.after == 3 && start.snapshots.len() == 1);
                break;
            }
            _ => {}
        }
    }
    log.close();
    threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
}

#[test]
fn history_that_is_gone_is_the_logs_to_answer() {
    let bench = Bench::new(10);
    bench.publish(5);
    bench.send(vec![read(page_query(0, 100), 1)]);
    assert!(matches!(bench.answer(), (1, Answer::Page(_))));
    bench.publish(50);
    bench.send(vec![read(page_query(0, 100), 2)]);
    let (2, Answer::StartsAt(start)) = bench.answer() else { panic!("no reset") };
    assert_eq!((start.resume, start.after), (Resume::Reset(ResetReason::Expired), 55));
    bench.end();
}

#[test]
fn the_threads_end_when_every_handle_is_gone() {
    let bench = Bench::new(10);
    bench.publish(5);
    bench.send(vec![read(page_query(0, 100), 1)]);
    drop(bench.log);
    bench.threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    assert!(matches!(bench.answers.recv_timeout(PATIENCE), Ok((1, Answer::Page(_)))), "what had come is answered");
}

/// A reader that fails every other time.
struct Faulty(u64);

impl Reader for Faulty {
    fn look(&mut self, look: &mut dyn FnMut(&dyn History) -> Result<(), StoreError>) -> Result<(), StoreError> {
        self.0 += 1;
        if self.0.is_multiple_of(2) {
            return Err(StoreError("out of order".into()));
        }
        let mut store = MemoryStore::new();
        commit(&mut store, &messages(1..=30));
        trim(&mut store, Retention { messages: 28, ..KEEP_ALL }, 40_000);
        look(&store)
    }
}

#[test]
fn a_read_that_fails_is_one_readers_trouble() {
    let (tell, answers) = unbounded();
    let started = history_thread::start(
        || Ok(Some(Box::new(Faulty(0)))),
        &signer(),
        &Arc::default(),
        move |outcome: Outcome| {
            outcome.deliveries.into_iter().for_each(|delivery| drop(tell.send(delivery)));
        },
    );
    let (history, threads) = started.expect("threads").expect("there is a reader");
    let (log, unread) = unbounded();
    let rest = history.divert((0..6).map(|to| read(page_query(2, 100), to)).collect(), &log);
    assert!(rest.is_empty());
    for n in 0..6 {
        match answers.recv_timeout(PATIENCE) {
            Ok(Delivery::Reply { to, answer: Answer::Page(_) }) if n % 2 == 0 => assert_eq!(number_of(&to), Some(n)),
            Ok(Delivery::Reply { to, answer: Answer::Refused(Refusal::StoreUnavailable) }) => {
                assert_eq!((number_of(&to), n % 2), (Some(n), 1));
            }
            other => panic!("question {n}: {other:?}"),
        }
    }
    // What the log would have to answer is refused where there is no log any more.
    drop(unread);
    assert!(history.divert(vec![read(page_query(0, 100), 7)], &log).is_empty());
    let refused = answers.recv_timeout(PATIENCE);
    assert!(matches!(refused, Ok(Delivery::Reply { answer: Answer::Refused(Refusal::StoreUnavailable), .. })));
    history.close();
    assert!(threads.into_iter().all(|thread| thread.join().is_ok()));
    let left = history.divert(vec![read(page_query(0, 100), 8)], &log);
    assert_eq!(left.len(), 1, "whom nobody answers here, the log does");
}
