//! Whether a batch is kept is known for certain, wherever its connection is lost.

use super::nodes::wait_for;
use super::*;

/// Ends the connections of one node that do this.
const END_WRITERS: &str = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE application_name = 'stepcast' AND datname = current_database()";

#[test]
fn a_connection_that_was_lost_before_an_append_costs_nothing() {
    let Some((engine, url)) = database() else { return };
    let mut store = node(&url).0;
    append_here(&mut store, &messages([1])).expect("kept");
    for n in 2..6 {
        let head = head(&store);
        assert_eq!(engine.sql(&url, END_WRITERS), "1");
        assert_eq!(append(&mut store, head, &messages([n])), Ok(()));
    }
    assert_eq!(engine.sql(&url, END_WRITERS), "1");
    assert_eq!(seqs(&store), (1..6).collect::<Vec<_>>());
}

#[test]
fn an_append_whose_connection_is_lost_in_the_middle_is_kept_once() {
    let Some((engine, url)) = database() else { return };
    let mut store = node(&url).0;
    append_here(&mut store, &messages([1])).expect("kept");
    for n in 2..5 {
        let head = head(&store);
        let mut session = engine.session(&url);
        session.run("BEGIN; SELECT 1 FROM stepcast_projects FOR UPDATE");
        std::thread::scope(|scope| {
            let store = &mut store;
            let writes = [messages([n]), vec![created(n, 5)]].concat();
            let appends = scope.spawn(move || append(store, head, &writes));
            let waits = "FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
            wait_for(|| engine.sql(&url, &format!("SELECT count(*) {waits}")) == "1");
            engine.sql(&url, &format!("SELECT pg_terminate_backend(pid) {waits}"));
            session.run("COMMIT");
            assert_eq!(appends.join().expect("it does not panic"), Ok(()));
        });
    }
    assert_eq!(seqs(&store), (1..5).collect::<Vec<_>>());
}

#[test]
fn an_append_that_was_committed_before_its_connection_was_lost_is_kept_once() {
    let Some(engine) = engine::Postgres::start_with(engine::Disk::Unsynced, &[]) else { return };
    let url = engine.database();
    let mut store = node(&url).0;
    append_here(&mut store, &messages([1])).expect("kept");
    let head = head(&store);
    // Nobody is there who would say that it has the commit, so whoever commits waits, with the commit done here.
    let set = |standbys: &str| {
        engine.sql(&url, &format!("ALTER SYSTEM SET synchronous_standby_names = '{standbys}'"));
        engine.sql(&url, "SELECT pg_reload_conf()");
        wait_for(|| engine.sql(&url, "SHOW synchronous_standby_names") == standbys);
    };
    set("nobody");
    std::thread::scope(|scope| {
        let store = &mut store;
        let appends = scope.spawn(move || append(store, head, &messages([2])));
        let waits = "FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
        wait_for(|| engine.sql(&url, &format!("SELECT count(*) {waits}")) == "1");
        engine.sql(&url, &format!("SELECT pg_terminate_backend(pid) {waits}"));
        set("");
        assert_eq!(appends.join().expect("it does not panic"), Ok(()));
    });
    assert_eq!(seqs(&store), [1, 2]);
}

#[test]
fn an_append_that_no_engine_answers_is_given_up_once_the_lease_is_over() {
    let Some(engine) = engine::Postgres::start_with(engine::Disk::Unsynced, &[]) else { return };
    let url = engine.database();
    let settings =
        super::super::PostgresSettings { ttl: std::time::Duration::from_secs(2), ..super::super::testing::SETTINGS };
    let mut store = open(&url, settings).store;
    append_here(&mut store, &messages([1])).expect("kept");
    let head = head(&store);
    engine.stop(engine::Ending::Immediate);
    assert_eq!(append(&mut store, head.clone(), &messages([2])), Err(AppendError::Fenced));
    assert!(matches!(append(&mut store, head.clone(), &messages([2])), Err(AppendError::Down(_))));
    engine.resume();
    assert_eq!(append(&mut store, head, &messages([2])), Err(AppendError::Fenced));
    store.rejoin().expect("it can");
    append_here(&mut store, &messages([2])).expect("kept");
    assert_eq!(seqs(&store), [1, 2]);
}

#[test]
fn a_restart_of_the_engine_is_survived_by_every_connection() {
    let Some(engine) = engine::Postgres::start_with(engine::Disk::Unsynced, &[]) else { return };
    let url = engine.database();
    let (mut store, mut lease, mut tail) = node(&url);
    let mut reader = store.reader().expect("it can be read").expect("by others too");
    append_here(&mut store, &messages([1])).expect("kept");
    for n in 2..4 {
        engine.restart(engine::Ending::Fast);
        append_here(&mut store, &messages([n])).expect("kept");
        lease.beat().or_else(|_| lease.beat()).expect("it is alive");
        let standing = Standing { project: project(), newest: n - 1, revision: 0 };
        let changes = tail.changes_since(&[standing], 1000).expect("readable");
        assert_eq!(changes[0].messages.len(), 1);
        let mut newest = 0;
        let look = reader.look(&mut |history| {
            newest = history.newest(&project())?;
            Ok(())
        });
        assert_eq!((look, newest), (Ok(()), n));
    }
}
