//! The database engine, as the tests start it.

use std::net::TcpStream;

use crate::common::postgres::{Disk, Ending, Postgres};
use crate::common::proxy::Proxy;

#[test]
fn what_was_committed_is_there_after_every_kind_of_end() {
    let Some(engine) = Postgres::start_with(Disk::Synced, &[]) else { return };
    let url = engine.database();
    engine.sql(&url, "CREATE TABLE t (n int)");
    for (n, ending) in [Ending::Fast, Ending::Immediate, Ending::Killed].into_iter().enumerate() {
        engine.sql(&url, &format!("INSERT INTO t VALUES ({n})"));
        let mut open = engine.session(&url);
        open.run("BEGIN");
        open.run("INSERT INTO t VALUES (99)");
        engine.stop(ending);
        assert!(TcpStream::connect(engine.address()).is_err(), "nothing of it is left");
        engine.resume();
        assert_eq!(engine.sql(&url, "SELECT count(*), max(n) FROM t"), format!("{}|{n}", n + 1));
    }
}

#[test]
fn a_proxy_cuts_stalls_and_goes_on() {
    let Some(engine) = Postgres::shared() else { return };
    let name = engine.database().rsplit_once('/').expect("a path").1.to_owned();
    let proxy = Proxy::new(engine.address());
    let url = Postgres::url_at(proxy.address(), &name);
    assert_eq!(engine.sql(&url, "SELECT 1"), "1");
    proxy.refuse();
    engine.try_sql(&url, "SELECT 1").expect_err("nobody is let in");
    proxy.go_on();
    std::thread::scope(|scope| {
        proxy.stall();
        let asks = scope.spawn(|| engine.sql(&url, "SELECT 2"));
        assert!(!asks.is_finished(), "nothing goes through");
        proxy.go_on();
        assert_eq!(asks.join().expect("it goes on"), "2");
    });
}

#[test]
fn the_bare_engine_keeps_rows_at_some_rate() {
    let Some(engine) = Postgres::shared() else { return };
    assert!(engine.bare_rate(&engine.database(), 8, 300, std::time::Duration::from_secs(1)) > 0.0);
}
