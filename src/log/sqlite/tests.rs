//! What only a store on disk does: survive, refuse, run full, shrink.

mod formats;
mod statements;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rusqlite::Connection;

use super::*;
use crate::auth::TicketNote;
use crate::log::Seed;
use crate::log::conformance::{SEED, commit, open, trim};
use crate::log::store::History;
use crate::log::store::{Flow, PlaceInRun, PlanChange, PlanRow, StoredMessage};
use crate::log::testing::{
    KEEP_ALL, TempDir, at, created, ended, listed, message, messages, number, project, read, seqs, seqs_of_run, step,
};
use crate::model::{OutputStream, PlanName};

const NONE: Retention = Retention { messages: 0, bytes: 0, age_ms: 0, runs: 0 };

fn refusal(path: &Path) -> String {
    match SqliteStore::open(path, Synchronous::Normal, &SEED, Timestamp::default()) {
        Ok((store, _)) => match store.recover() {
            Ok(_) => panic!("{} was opened", path.display()),
            Err(error) => error.to_string(),
        },
        Err(error) => error.to_string(),
    }
}

/// So that it takes as much in the file too.
fn large(seq: u64, bytes: usize) -> Write {
    let noise = |n: u64| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u8;
    let json = (0..bytes as u64).map(|n| noise(n * n + seq)).collect::<Vec<_>>().into();
    let at = Timestamp::from_millis(seq * 1000);
    Write::Message(StoredMessage { seq, at, run: None, place: PlaceInRun::Middle, json }, project())
}

fn count(store: &SqliteStore, table: &str) -> i64 {
    let counted = store.conn.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0));
    counted.expect("a count")
}

fn pages(store: &SqliteStore) -> i64 {
    store.conn.query_row("PRAGMA page_count", [], |row| row.get(0)).expect("a count")
}

fn ticket_note(nonce: u8, until: u64) -> TicketNote {
    use base64::Engine as _;
    let nonce = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode([nonce; 16]);
    let until = Timestamp::from_millis(until);
    serde_json::from_value(serde_json::json!({"nonce": nonce, "kind": "spent", "until": until})).expect("a note")
}

#[test]
fn a_restart_goes_on_from_what_was_kept() {
    let directory = TempDir::new();
    let (mut store, first) = open(&directory, 0);
    let empty = store.recover().expect("readable");
    assert!(empty.projects.is_empty() && empty.open_runs.is_empty() && first.tickets.is_empty());
    assert_eq!(empty.next_run_number.get(), 1);
    commit(&mut store, &[created(1, 0), message(1, 1000, Some(number(1)), PlaceInRun::Last), ended(1, 1)]);
    commit(&mut store, &[created(2, 5), message(2, 2000, Some(number(2)), PlaceInRun::First)]);
    commit(&mut store, &[Write::CancelRequested(number(2)), created(3, 0)]);
    commit(&mut store, &[Write::Ticket(ticket_note(1, 4000)), Write::Ticket(ticket_note(2, 6000))]);
    drop(store);

    let other_seed = Seed { master_key: [1; 32], instance: [1; 6] };
    let opened = SqliteStore::open(directory.path(), Synchronous::Full, &other_seed, Timestamp::from_millis(5000));
    let (store, identity) = opened.unwrap_or_else(|error| panic!("{error}"));
    let recovered = store.recover().expect("readable");
    assert_eq!((identity.master_key, identity.instance), (first.master_key, first.instance));
    let project_then = &recovered.projects[0];
    assert_eq!((&project_then.project, project_then.newest), (&project(), 2));
    let open_runs: Vec<_> = recovered.open_runs.iter().map(|run| (run.number, run.cancelled)).collect();
    assert_eq!(open_runs, [(number(2), true), (number(3), false)]);
    assert_eq!(recovered.open_runs[0].document.as_ref().map(|it| it.len()), Some(5));
    let ended_runs: Vec<_> = recovered.ended_runs.iter().map(|run| (run.number, run.ended_at.as_millis())).collect();
    assert_eq!(ended_runs, [(number(1), 1000)]);
    assert_eq!(recovered.next_run_number.get(), 4);
    assert_eq!(identity.tickets, [ticket_note(2, 6000)]);
    assert_eq!(seqs_of_run(&store, 2), [2]);
}

#[test]
fn neither_a_seq_nor_a_run_number_is_used_again_whatever_was_trimmed() {
    let directory = TempDir::new();
    let mut store = open(&directory, 0).0;
    commit(&mut store, &[created(1, 0), message(1, 1000, Some(number(1)), PlaceInRun::Last), ended(1, 1)]);
    commit(&mut store, &messages(2..=9));
    trim(&mut store, NONE, 1_000_000);
    assert!(seqs(&store).is_empty() && listed(&store).is_empty());
    drop(store);
    let mut store = open(&directory, 2_000_000).0;
    let recovered = store.recover().expect("readable");
    let newest = store.remains(&project()).expect("readable").map(|it| it.newest);
    assert_eq!((recovered.projects.len(), newest, recovered.next_run_number.get()), (0, Some(9), 2));
    assert_eq!(store.floor(&project()), Ok(10));
    commit(&mut store, &messages([10]));
    assert_eq!((store.floor(&project()), seqs(&store)), (Ok(10), vec![10]));
}

#[test]
fn what_was_committed_survives_the_end_of_the_process_at_any_point() {
    let directory = TempDir::new();
    let mut store = open(&directory, 0).0;
    for n in 1..=30 {
        commit(&mut store, &[large(n, 3000), Write::Ticket(ticket_note(n as u8, 1_000_000))]);
        trim(&mut store, Retention { messages: 20, ..KEEP_ALL }, n * 1000);
        if n % 10 != 0 {
            continue;
        }
        // The files as they are while the store is open: what a killed process leaves behind.
        let left_behind = TempDir::new();
        for file in ["stepcast.db", "stepcast.db-wal"] {
            fs::copy(directory.path().join(file), left_behind.path().join(file)).expect("a copy");
        }
        let (copy, identity) = open(&left_behind, 0);
        let recovered = copy.recover().expect("readable");
        assert_eq!((seqs(&copy), copy.floor(&project())), (seqs(&store), store.floor(&project())));
        assert_eq!((recovered.projects[0].newest, identity.tickets.len() as u64), (n, n));
    }
}

#[test]
fn a_lock_that_a_killed_server_left_for_a_moment_stopped_the_next_start() {
    let directory = TempDir::new();
    let lock = fs::File::create(directory.path().join("lock")).expect("a file");
    lock.lock().expect("locked");
    std::thread::scope(|scope| {
        let start = scope.spawn(|| open(&directory, 0));
        drop(lock);
        let (store, _) = start.join().expect("opened");
        assert!(store.recover().expect("readable").projects.is_empty());
    });
}

#[test]
fn a_directory_is_used_by_one_at_a_time() {
    let directory = TempDir::new();
    let store = open(&directory, 0).0;
    assert_eq!(
        refusal(directory.path()),
        format!("{} is in use by another stepcast process", directory.path().display())
    );
    drop(store);
    open(&directory, 0);
}

#[test]
fn what_is_made_is_for_its_owner_alone() {
    let directory = TempDir::new();
    let path = directory.path().join("a/b");
    let opened = SqliteStore::open(&path, Synchronous::Normal, &SEED, Timestamp::default());
    let mut store = opened.map(|(store, _)| store).unwrap_or_else(|error| panic!("{error}"));
    commit(&mut store, &messages([1]));
    let mode = |path: &Path| fs::metadata(path).map(|of| of.permissions().mode() & 0o777).ok();
    assert_eq!(mode(&path), Some(0o700));
    for file in ["stepcast.db", "stepcast.db-wal", "lock"] {
        assert_eq!(mode(&path.join(file)), Some(0o600), "{file}");
    }
}

#[test]
fn a_file_of_a_later_program_is_left_alone() {
    let directory = TempDir::new();
    open(&directory, 0).0.conn.pragma_update(None, "user_version", 6).expect("a version");
    let path = directory.path().join("stepcast.db");
    let expected = "was written by a newer stepcast: it has format 6, and this program supports formats up to 5";
    assert_eq!(refusal(directory.path()), format!("{} {expected}", path.display()));
}

#[test]
fn a_database_of_another_program_is_left_alone() {
    let directory = TempDir::new();
    let path = directory.path().join("stepcast.db");
    let other = Connection::open(&path).expect("a database");
    other.execute_batch("CREATE TABLE other (x); INSERT INTO other VALUES (1)").expect("a table");
    drop(other);
    assert_eq!(refusal(directory.path()), format!("{} is a database of another program", path.display()));
}

#[test]
fn a_damaged_file_is_called_so() {
    type Damage = fn(&Path);
    let damage: [(&str, Damage); 4] = [
        ("garbage", |path| fs::write(path, [b'#'; 8192]).expect("written")),
        ("no table", |path| raw(path, "DROP TABLE runs")),
        ("no key", |path| raw(path, "DELETE FROM meta WHERE key = 'master_key'")),
        ("no project id", |path| raw(path, "UPDATE projects SET name = 'a b'")),
    ];
    for (name, damage) in damage {
        let directory = TempDir::new();
        let mut store = open(&directory, 0).0;
        commit(&mut store, &messages([1]));
        drop(store);
        let path = directory.path().join("stepcast.db");
        damage(&path);
        let said = refusal(directory.path());
        assert!(said.starts_with(&format!("{} is damaged (", path.display())), "{name}: {said}");
    }
}

fn raw(path: &Path, statement: &str) {
    Connection::open(path).expect("a database").execute_batch(statement).expect("a statement");
}

#[test]
fn a_page_that_is_damaged_shows_when_it_is_read() {
    let directory = TempDir::new();
    let mut store = open(&directory, 0).0;
    commit(&mut store, &messages([1]));
    store.conn.execute_batch("UPDATE segments SET messages = x'09'").expect("a statement");
    let read = store.messages(&project(), 0, None, &mut |_| Flow::More);
    assert!(read.is_err_and(|StoreError(text)| text.contains("stepcast.db is damaged")));
    commit(&mut store, &messages([2]));
}

/// What the owner of everything may not do either, as tests may run as root.
#[test]
fn what_is_no_directory_and_can_be_none_is_refused() {
    let directory = TempDir::new();
    let file = directory.path().join("file");
    fs::write(&file, "").expect("written");
    assert_eq!(refusal(&file), format!("{} is not a directory", file.display()));
    let below = file.join("data");
    assert!(refusal(&below).starts_with(&format!("cannot create the directory {}: ", below.display())));
    let taken = directory.path().join("stepcast.db");
    fs::create_dir(&taken).expect("a directory");
    assert!(refusal(directory.path()).starts_with(&format!("cannot write {}: ", taken.display())));
}

#[test]
fn nothing_of_a_batch_that_fails_is_kept_and_the_next_is_taken() {
    let directory = TempDir::new();
    let mut store = open(&directory, 0).0;
    let mut batch = messages([1, 2, 2]);
    batch.insert(0, created(1, 10));
    assert!(store.append(&[], &batch, Timestamp::default()).is_err(), "a seq is there twice");
    assert!(seqs(&store).is_empty() && listed(&store).is_empty());
    assert_eq!((count(&store, "projects"), count(&store, "documents")), (0, 0));
    commit(&mut store, &[created(1, 10)]);
    commit(&mut store, &messages([1, 2, 3]));
    assert_eq!((seqs(&store), listed(&store)), (vec![1, 2, 3], vec![1]));
}

#[test]
fn what_can_never_be_kept_was_taken_for_a_store_that_is_down() {
    let directory = TempDir::new();
    let mut store = open(&directory, 0).0;
    commit(&mut store, &[created(1, 10)]);
    let refused = store.append(&[], &[created(1, 10)], Timestamp::default());
    let is_contradiction = matches!(refused, Err(AppendError::Refused(Objection::Contradiction(_))));
    assert!(is_contradiction, "a run is there twice: {refused:?}");
    commit(&mut store, &messages([1]));
    let too_big = store.conn.query_row("SELECT length(zeroblob(1000000001))", [], |_| Ok(()));
    let error = too_big.expect_err("more than SQLite takes of one value");
    assert!(matches!(objection(directory.path(), &error), Some(Objection::TooLarge(_))), "{error}");
    store.conn.pragma_update(None, "query_only", true).expect("a setting");
    let refused = store.append(&[], &messages([2]), Timestamp::default());
    assert!(matches!(refused, Err(AppendError::Down(_))), "what can't be written now is another thing: {refused:?}");
}

#[test]
fn a_full_disk_refuses_what_comes_and_takes_more_once_there_is_room() {
    let directory = TempDir::new();
    let mut store = open(&directory, 0).0;
    commit(&mut store, &(1..=20).map(|seq| large(seq, 20_000)).collect::<Vec<_>>());
    let full_at = pages(&store) + 2;
    store.conn.pragma_update(None, "max_page_count", full_at).expect("a bound");
    let more: Vec<_> = (21..=30).map(|seq| large(seq, 20_000)).collect();
    for _ in 0..2 {
        let path = directory.path().join("stepcast.db");
        let expected = format!("{} cannot grow: the disk is full", path.display());
        assert_eq!(store.append(&[], &more, Timestamp::default()), Err(AppendError::Down(StoreError(expected))));
        assert_eq!(seqs(&store), (1..=20).collect::<Vec<_>>());
    }
    // Letting go makes room, even where the file can't grow.
    trim(&mut store, Retention { messages: 5, ..KEEP_ALL }, 0);
    commit(&mut store, &more);
    assert_eq!(seqs(&store), (16..=30).collect::<Vec<_>>());

    let even_more: Vec<_> = (31..=50).map(|seq| large(seq, 20_000)).collect();
    assert!(store.append(&[], &even_more, Timestamp::default()).is_err());
    store.conn.pragma_update(None, "max_page_count", 1_000_000).expect("a bound");
    commit(&mut store, &even_more);
    assert_eq!(seqs(&store), (16..=50).collect::<Vec<_>>());
}

#[test]
fn what_is_too_much_goes_in_slices() {
    let directory = TempDir::new();
    let mut store = open(&directory, 0).0;
    commit(&mut store, &messages(1..=3500));
    // A restart with another setting finds it too much, though nothing came.
    drop(store);
    let mut store = open(&directory, 0).0;
    let mut floors = Vec::new();
    for _ in 0..4 {
        trim(&mut store, Retention { messages: 10, ..KEEP_ALL }, 0);
        floors.push(store.floor(&project()).expect("a floor"));
    }
    assert_eq!(floors, [1001, 2001, 3001, 3491]);
    // Never less than twice what came in between, or a busy log would grow without end.
    commit(&mut store, &messages(3501..=5500));
    trim(&mut store, Retention { messages: 10, ..KEEP_ALL }, 0);
    assert_eq!(store.floor(&project()), Ok(5491));
}

#[test]
fn a_project_of_many_messages_is_swept_many_at_a_time() {
    let directory = TempDir::new();
    let mut store = open(&directory, 0).0;
    let retention = Retention { messages: 256, ..KEEP_ALL };
    let mut floors = Vec::new();
    for seq in 1..=259 {
        commit(&mut store, &messages([seq]));
        trim(&mut store, retention, 0);
        floors.push(store.floor(&project()).expect("a floor"));
    }
    assert_eq!(floors[255..], [1, 1, 1, 4]);
}

#[test]
fn the_file_shrinks_when_much_was_let_go() {
    let directory = TempDir::new();
    let mut store = open(&directory, 0).0;
    let before = pages(&store);
    commit(&mut store, &(1..=400).map(|seq| large(seq, 20_000)).collect::<Vec<_>>());
    let largest = pages(&store);
    assert!(largest > before + 1600, "{largest} pages");
    let mut trims = 0;
    let smallest = loop {
        let pages_before = pages(&store);
        trim(&mut store, Retention { messages: 1, ..KEEP_ALL }, 0);
        trims += 1;
        if trims > 1 && pages(&store) == pages_before {
            break pages_before;
        }
    };
    assert!(smallest <= before + 300, "{smallest} pages of {largest} are left");
    assert!(trims > 10, "a few at a time");
}

/// All of them went in one statement, as long as that took.
#[test]
fn items_of_a_run_that_went_held_the_writer_up() {
    let directory = TempDir::new();
    let mut store = open(&directory, 0).0;
    let items = |run: u64, count: u32| {
        let item = move |item| Write::Item { number: number(run), step: step(), item, row: b"{}".as_slice().into() };
        (0..count).map(item).collect::<Vec<_>>()
    };
    commit(&mut store, &[created(1, 0), created(2, 0)]);
    commit(&mut store, &items(1, 100));
    commit(&mut store, &items(2, 10));
    for run in [1, 2] {
        commit(&mut store, &[message(run, 1000, Some(number(run)), PlaceInRun::Last), ended(run, run)]);
    }
    let trimmed = store.trim(&NONE, at(1_000_000)).expect("it does not fail");
    assert_eq!((count(&store, "runs"), count(&store, "items"), trimmed.is_more), (0, 46, true), "a few at a time");
    let mut seen = 0;
    let read = store.items(number(1), &step(), 0, &mut |_, _| {
        seen += 1;
        Flow::More
    });
    assert_eq!((read, seen), (Ok(()), 0), "nobody sees what is left of them");
    drop(store);
    let mut store = open(&directory, 0).0;
    let trimmed = store.trim(&NONE, at(1_000_000)).expect("it does not fail");
    assert_eq!((count(&store, "items"), trimmed.is_more), (0, false), "also after a restart");
}

#[test]
fn outputs_that_were_let_go_leave_nothing_behind() {
    let directory = TempDir::new();
    let mut store = open(&directory, 0).0;
    let pieces = |attempt: u32| {
        let piece = move |_| Write::Output {
            number: number(1),
            step: step(),
            attempt,
            stream: OutputStream::Stdout,
            bytes: vec![b'x'; 100],
        };
        (0..100).map(piece).collect::<Vec<_>>()
    };
    commit(&mut store, &[created(1, 0)]);
    commit(&mut store, &pieces(1));
    commit(&mut store, &pieces(2));
    assert_eq!((count(&store, "outputs"), count(&store, "pieces")), (2, 200));
    trim(&mut store, KEEP_ALL, 0);
    assert_eq!((count(&store, "outputs"), count(&store, "pieces")), (2, 136));
    trim(&mut store, KEEP_ALL, 0);
    assert_eq!((count(&store, "outputs"), count(&store, "pieces")), (1, 100));
    commit(&mut store, &[message(1, 1000, Some(number(1)), PlaceInRun::Last), ended(1, 1)]);
    (0..3).for_each(|_| drop(trim(&mut store, NONE, 1_000_000)));
    for table in ["runs", "documents", "states", "outputs", "pieces", "segments", "outlasting"] {
        assert_eq!(count(&store, table), 0, "{table}");
    }
    let totals = store.conn.query_row(sql::TOTALS, [], |row| Ok((row.get(0)?, row.get(1)?)));
    assert_eq!(totals, Ok((0, 0)), "and weighs nothing");
}

#[test]
fn tickets_that_have_ended_go() {
    let directory = TempDir::new();
    let mut store = open(&directory, 0).0;
    let notes: Vec<_> = (1..=4).map(|n| Write::Ticket(ticket_note(n, u64::from(n) * 10_000))).collect();
    commit(&mut store, &notes);
    trim(&mut store, KEEP_ALL, 20_000);
    assert_eq!(count(&store, "tickets"), 2);
    trim(&mut store, KEEP_ALL, 40_000);
    assert_eq!(count(&store, "tickets"), 0);
}

#[test]
fn the_clock_of_history_is_kept_though_no_message_comes() {
    let directory = TempDir::new();
    let mut store = open(&directory, 0).0;
    commit(&mut store, &messages([1]));
    let kept = |store: &SqliteStore| store.recover().expect("readable").clock.as_millis();
    assert_eq!(kept(&store), 1000);
    trim(&mut store, KEEP_ALL, 60_000);
    assert_eq!(kept(&store), 1000, "not each time: that would wear an SD card out");
    trim(&mut store, KEEP_ALL, 1000 + CLOCK_PACE_MS);
    drop(store);
    assert_eq!(kept(&open(&directory, 0).0), 1000 + CLOCK_PACE_MS);
}
