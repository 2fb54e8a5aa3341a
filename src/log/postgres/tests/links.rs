//! Connections over links that are slow, or dead.

use std::time::Duration;

use super::super::address::DatabaseAddress;
use super::super::connection::{Connection, Step, Together};
use super::super::failure::Failure;
use super::*;

fn connection(url: &str, call_max: Duration) -> Connection {
    let address = DatabaseAddress::parse(url, call_max).unwrap_or_else(|error| panic!("{error}"));
    Connection::new(address.into(), call_max).expect("a runtime")
}

#[test]
fn a_reading_goes_on_for_as_long_as_rows_come() {
    let Some((_, url)) = database() else { return };
    let mut conn = connection(&url, Duration::from_secs(1));
    // More than is gathered before it is sent.
    let slow = "SELECT repeat('x', 20000), pg_sleep(0.4) FROM generate_series(1, 5)";
    assert_eq!(conn.query(slow, &[]).expect("it comes little by little").len(), 5);
    assert!(matches!(conn.query("SELECT pg_sleep(60)", &[]), Err(Failure::Late(_))), "nothing comes");
}

#[test]
fn a_batch_may_take_the_longer_the_more_it_has() {
    let Some((_, url)) = database() else { return };
    let mut conn = connection(&url, Duration::from_millis(700));
    let wait = || [Step { sql: "SELECT pg_sleep(2)", values: vec![] }];
    let two_seconds_more = 2 * 1024 * 1024;
    let waited = conn.run_with(Together::Whole(super::super::sql::BEGIN), &wait(), two_seconds_more, None);
    assert_eq!(waited.expect("in time").len(), 1);
    assert!(matches!(conn.run(Together::No, &wait()), Err(Failure::Late(_))));
}

/// What was left of a transaction was done on the next connection, each statement by itself, and not all of it or nothing.
#[test]
fn what_goes_on_with_a_transaction_is_nothing_on_another_connection() {
    const PUT: &str = "INSERT INTO kept VALUES (1)";
    let Some((engine, url)) = database() else { return };
    engine.sql(&url, "CREATE TABLE kept (n int)");
    let mut conn = connection(&url, Duration::from_secs(5));
    for together in [Together::Ended, Together::Within] {
        let pid = conn.query_within(Together::Begun(super::super::sql::BEGIN), "SELECT pg_backend_pid()", &[]);
        let pid: i32 = pid.expect("it is begun")[0].get(0);
        engine.sql(&url, &format!("SELECT pg_terminate_backend({pid}, 10000)"));
        // That statement is not known to the connection so far.
        let step = Step { sql: PUT, values: vec![] };
        assert!(matches!(conn.run(together, &[step]), Err(Failure::Lost(_))), "{together:?}");
        assert!(!conn.is_made());
    }
    assert_eq!(engine.sql(&url, "SELECT count(*) FROM kept"), "0");
}

#[test]
fn an_engine_that_says_nothing_is_not_waited_for_again_at_once() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    silent.set_nonblocking(true).expect("it can");
    let address = silent.local_addr().expect("an address");
    let mut conn = connection(&format!("postgres://u@{address}/d"), Duration::from_millis(500));
    for _ in 0..3 {
        assert!(matches!(conn.ensure(), Err(Failure::Unreachable(_))));
    }
    let tried = std::iter::from_fn(|| silent.accept().ok()).count();
    assert!(tried < 3, "{tried} times");
}

#[test]
fn a_connection_to_an_engine_that_writes_nothing_any_more_is_let_go() {
    let Some(engine) = engine::Postgres::start_with(engine::Disk::Unsynced, &[]) else { return };
    let url = engine.database();
    let mut store = node(&url).0;
    append_here(&mut store, &messages([1])).expect("kept");
    let head = head(&store);
    let set = |value: &str| {
        engine.sql(&url, &format!("ALTER SYSTEM SET default_transaction_read_only = {value}"));
        engine.sql(&url, "SELECT pg_reload_conf()");
        super::nodes::wait_for(|| engine.sql(&url, "SHOW default_transaction_read_only") == value);
    };
    set("on");
    super::nodes::wait_for(|| matches!(append(&mut store, head.clone(), &messages([2])), Err(AppendError::Down(_))));
    assert!(!store.conn.borrow().is_made(), "it is a replica by now");
    set("off");
    assert_eq!(append(&mut store, head, &messages([2])), Ok(()));
}

#[test]
fn a_pooler_that_gives_connections_to_others_was_not_named_where_statements_were_gone() {
    let Some((_, url)) = database() else { return };
    let mut conn = connection(&url, Duration::from_secs(5));
    conn.query("SELECT 1", &[]).expect("it is prepared");
    conn.execute("DEALLOCATE ALL").expect("as a pooler's next connection has it");
    let failure = conn.query("SELECT 1", &[]).expect_err("it is gone").to_string();
    assert!(failure.contains("does not exist; if a connection pooler is in front of it"), "{failure}");
}
