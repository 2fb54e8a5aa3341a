//! Directories of earlier formats.

use super::*;

/// What a server of format 1 left behind: in `p` a run with the key `k` and one that its caller named, in `q` a message.
fn format_1() -> TempDir {
    of_format(1, include_str!("../format_1.sql"))
}

/// What one of format 2 left behind that kept six messages a project: in `p` a run that has ended and one that waits, both
/// below the floor in part, and notes; in `q` a note.
fn format_2() -> TempDir {
    of_format(2, include_str!("../format_2.sql"))
}

/// What one of format 3 left behind that kept six messages a project: in `p` a run that has ended and one that waits, both
/// below the floor in part, and notes; in `q` a note.
fn format_3() -> TempDir {
    of_format(3, include_str!("../format_3.sql"))
}

fn stored_plan() -> (PlanRow, std::sync::Arc<[u8]>) {
    let row = PlanRow {
        project: project(),
        name: PlanName::parse("nightly").expect("a name"),
        tag: "t".into(),
        updated_at: Timestamp::from_millis(1),
        summary: b"{}".as_slice().into(),
        schedule: None,
        scheduled_at: Timestamp::from_millis(2),
        firings: b"".as_slice().into(),
        last_run: None,
        document_bytes: 2,
    };
    (row, b"{}".as_slice().into())
}

/// What one of format 4 left behind: what that of format 3 did, and in `p` an end that a webhook is to be told.
fn format_4() -> TempDir {
    let outbox = "
        CREATE TABLE outbox (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            webhook TEXT NOT NULL,
            next_at INTEGER NOT NULL,
            attempts INTEGER NOT NULL,
            project TEXT NOT NULL,
            run INTEGER NOT NULL,
            run_id TEXT NOT NULL,
            seq INTEGER NOT NULL,
            notable INTEGER NOT NULL,
            at INTEGER NOT NULL
        );
        CREATE INDEX outbox_of_webhook ON outbox (webhook);
        CREATE INDEX outbox_by_time ON outbox (webhook, next_at);
        CREATE TABLE outbox_counts (webhook TEXT PRIMARY KEY, waiting INTEGER NOT NULL) WITHOUT ROWID;
        INSERT INTO outbox VALUES (3, 'ops', 1795971191800, 0, 'p', 1, 'run1', 6, 0, 1795971191795);
        INSERT INTO outbox_counts VALUES ('ops', 1);";
    of_format(4, &format!("{}\n{outbox}", include_str!("../format_3.sql")))
}

fn of_format(version: i64, dump: &str) -> TempDir {
    let directory = TempDir::new();
    let conn = Connection::open(directory.path().join(super::open::DATABASE)).expect("a file");
    conn.pragma_update(None, "auto_vacuum", "INCREMENTAL").expect("set");
    conn.execute_batch(dump).expect("its tables");
    conn.pragma_update(None, "application_id", sql::APPLICATION_ID).expect("set");
    conn.pragma_update(None, "user_version", version).expect("set");
    directory
}

#[test]
fn a_directory_of_format_1_is_gone_on_with() {
    let directory = format_1();
    let newest_at = 1_795_943_589_936;
    // Whatever time it is by the wall clock: a board without one of its own begins in 1970.
    for now in [1000, 1_800_000_000_000] {
        let (store, identity) = open(&directory, now);
        assert_eq!(identity.instance.to_string(), "vDbK8xE9");
        let recovered = store.recover().expect("readable");
        let newest: Vec<_> = recovered.projects.iter().map(|it| (it.project.to_string(), it.newest)).collect();
        assert_eq!(newest, [("p".to_owned(), 12), ("q".to_owned(), 1)]);
        assert_eq!((recovered.clock.as_millis(), recovered.next_run_number.get()), (newest_at, 3));
        assert_eq!((seqs(&store).len(), listed(&store)), (12, vec![2, 1]));
        let key = store.key(&project(), "kk").expect("readable").expect("a key");
        assert!(String::from_utf8_lossy(&key.answer).contains("run_YRa922EGImElgkTehl-XEg"));
        assert_eq!(key.fingerprint[..4], [0xe2, 0x5a, 0x63, 0xfd]);
        assert_eq!((store.key_bytes(&project()), recovered.key_bytes), (Ok(key.weight()), key.weight()));
        let document = store.document(number(1)).expect("readable").expect("a plan");
        assert!(String::from_utf8_lossy(&document).contains("9007199254740993"));
    }
    let mut store = open(&directory, 1000).0;
    let week = 7 * 24 * 60 * 60 * 1000;
    trim(&mut store, Retention { age_ms: week, ..KEEP_ALL }, newest_at + 1000);
    assert_eq!(seqs(&store).len(), 12, "nothing ages while no server runs");
    commit(&mut store, &[message(13, newest_at + 5000, None, PlaceInRun::Middle)]);
    trim(&mut store, Retention { age_ms: week, runs: 0, ..KEEP_ALL }, newest_at + week + 2500);
    assert_eq!((seqs(&store), listed(&store)), (vec![13], vec![]));
}

#[test]
fn a_directory_of_format_2_is_gone_on_with() {
    let directory = format_2();
    for _ in 0..2 {
        let (store, identity) = open(&directory, 1000);
        assert_eq!(identity.instance.to_string(), "GSm5jY0w");
        let recovered = store.recover().expect("readable");
        let newest: Vec<_> = recovered.projects.iter().map(|it| (it.project.to_string(), it.newest)).collect();
        assert_eq!(newest, [("p".to_owned(), 21), ("q".to_owned(), 1)]);
        assert_eq!((recovered.clock.as_millis(), recovered.next_run_number.get()), (2205, 3));
        assert_eq!((store.floor(&project()), seqs(&store)), (Ok(16), (16..=21).collect()));
        assert_eq!((listed(&store), recovered.open_runs.len()), (vec![2, 1], 1));
        assert_eq!((seqs_of_run(&store, 1), seqs_of_run(&store, 2)), (vec![1, 6], (7..=13).collect()));
        let ends = |n| store.ends(number(n)).expect("readable").map(|ends| (ends.first, ends.last));
        assert_eq!((ends(1), ends(2)), (Some((Some(1), Some(6))), Some((Some(7), None))));
        let places: Vec<_> = read(&store, &project(), 0, Some(number(2))).iter().map(|message| message.place).collect();
        assert_eq!((places[0], places[1..].iter().all(|place| *place == PlaceInRun::Turn)), (PlaceInRun::First, true));
        let text =
            |bytes: Option<std::sync::Arc<[u8]>>| String::from_utf8_lossy(&bytes.expect("it is kept")).into_owned();
        assert!(text(store.document(number(1)).expect("readable")).contains("9007199254740993"));
        assert!(text(store.ended_state(number(1)).expect("readable")).contains("\"status\":\"completed\""));
        assert!(text(store.ended_summary(number(1)).expect("readable")).contains("\"percent\":100"));
        assert!(store.key(&project(), "kk").expect("readable").is_some());
    }
    let mut store = open(&directory, 1000).0;
    commit(&mut store, &[message(22, 3000, Some(number(2)), PlaceInRun::Last), ended(2, 22)]);
    assert_eq!((seqs_of_run(&store, 2), count(&store, "outlasting")), (vec![7, 22], 0));
    trim(&mut store, NONE, 1_000_000);
    let totals = store.conn.query_row(sql::TOTALS, [], |row| Ok((row.get(0)?, row.get(1)?)));
    assert_eq!(totals, Ok((0, 0)), "it was weighed as what came since is");
}

#[test]
fn a_directory_of_format_3_is_gone_on_with() {
    let directory = format_3();
    for _ in 0..2 {
        let (store, identity) = open(&directory, 1000);
        assert_eq!(identity.instance.to_string(), "X2PfYev0");
        let recovered = store.recover().expect("readable");
        let newest: Vec<_> = recovered.projects.iter().map(|it| (it.project.to_string(), it.newest)).collect();
        assert_eq!(newest, [("p".to_owned(), 13), ("q".to_owned(), 1)]);
        assert_eq!((store.floor(&project()), seqs(&store)), (Ok(8), (8..=13).collect()));
        assert_eq!((listed(&store), recovered.open_runs.len()), (vec![2, 1], 1));
        assert_eq!((seqs_of_run(&store, 1), seqs_of_run(&store, 2)), (vec![1, 6], vec![7, 8, 9]));
        assert_eq!(store.outbox(), Ok(Vec::new()), "nothing was to be told");
    }
    let mut store = open(&directory, 1000).0;
    commit(&mut store, &[message(14, 3000, Some(number(2)), PlaceInRun::Last), ended(2, 14)]);
    assert_eq!(seqs_of_run(&store, 2), [7, 8, 9, 14]);
}

#[test]
fn a_directory_of_format_4_is_gone_on_with() {
    let directory = format_4();
    for _ in 0..2 {
        let (store, _) = open(&directory, 1000);
        assert_eq!((seqs_of_run(&store, 1), seqs_of_run(&store, 2)), (vec![1, 6], vec![7, 8, 9]));
        assert_eq!(store.outbox(), Ok(vec![("ops".into(), 1)]));
        assert_eq!(count(&store, "items"), 0);
    }
    let mut store = open(&directory, 1000).0;
    let item =
        Write::Item { number: number(2), step: crate::log::testing::step(), item: 0, row: b"{}".as_slice().into() };
    commit(&mut store, &[item]);
    assert_eq!(count(&store, "items"), 1);
    let (plan, document) = stored_plan();
    let change = PlanChange::Put(Box::new(plan.clone()), Some(document));
    commit(&mut store, &[Write::Plan(change)]);
    drop(store);
    let store = open(&directory, 1000).0;
    assert_eq!(store.plan(&project(), &plan.name), Ok(Some(plan)));
    assert_eq!(store.plan_counts(&project()).map(|counts| counts.of_project), Ok(1));
}

/// What a process finds that comes after one that was killed in the middle of it, too.
#[test]
fn a_migration_that_fails_leaves_what_was_there() {
    let directory = format_2();
    let path = directory.path().join(super::open::DATABASE);
    raw(&path, "UPDATE messages SET place = 7 WHERE id & 255 = 21");
    assert!(refusal(directory.path()).contains("is damaged"));
    let conn = Connection::open(&path).expect("a database");
    let version: i64 = conn.pragma_query_value(None, "user_version", |row| row.get(0)).expect("a version");
    let messages: i64 = conn.query_row("SELECT count(*) FROM messages", [], |row| row.get(0)).expect("a count");
    assert_eq!((version, messages), (2, 16));
    drop(conn);
    raw(&path, "UPDATE messages SET place = 0 WHERE place = 7");
    assert_eq!(seqs(&open(&directory, 1000).0), (16..=21).collect::<Vec<_>>());
}

#[test]
fn the_tables_of_earlier_formats_become_those_of_a_new_file() {
    let (new, earlier) = (TempDir::new(), [format_1(), format_2(), format_3(), format_4()]);
    let tables = |directory: &TempDir| {
        let store = open(directory, 0).0;
        let columns = "SELECT concat_ws(' ', m.name, c.name, c.type, c.\"notnull\")
            FROM sqlite_master m, pragma_table_info(m.name) c
            WHERE m.name NOT LIKE 'sqlite%' ORDER BY m.type, m.name, c.name";
        let mut statement = store.conn.prepare(columns).expect("SQL");
        let rows = statement.query_map([], |row| row.get(0)).expect("rows");
        rows.collect::<rusqlite::Result<Vec<String>>>().expect("a text")
    };
    let expected = tables(&new);
    for directory in &earlier {
        assert_eq!(tables(directory), expected);
    }
}
