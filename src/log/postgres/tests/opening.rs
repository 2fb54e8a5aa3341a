//! Who may share a store, and who may not.

use super::super::PostgresSettings;
use super::super::open::check_engine_is_new_enough;
use super::super::testing::{SEED, SETTINGS};
use super::nodes::wait_for;
use super::*;
use crate::log::store::Seed;

fn refused(url: &str) -> String {
    match PostgresStore::open(url, &SEED, SETTINGS, Timestamp::default()) {
        Ok(_) => panic!("it was opened"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn those_who_start_at_once_make_the_tables_once() {
    let Some((engine, url)) = database() else { return };
    let identities: Vec<_> = std::thread::scope(|scope| {
        let start = |n: u8| {
            let url = &url;
            scope.spawn(move || {
                let seed = Seed { master_key: [n; 32], instance: [n; 6] };
                let opened = PostgresStore::open(url, &seed, SETTINGS, Timestamp::default());
                opened.unwrap_or_else(|error| panic!("{error}")).identity
            })
        };
        let starts: Vec<_> = (0..4).map(start).collect();
        starts.into_iter().map(|start| start.join().expect("it does not panic")).collect()
    });
    let first = &identities[0];
    assert!(identities.iter().all(|it| it.master_key == first.master_key && it.instance == first.instance));
    assert_eq!(engine.sql(&url, "SELECT count(*) FROM stepcast_nodes"), "4");
}

#[test]
fn tables_of_a_later_program_and_nodes_of_another_are_refused() {
    let Some((engine, url)) = database() else { return };
    let mut lease = node(&url).1;
    engine.sql(&url, "UPDATE stepcast_nodes SET version = 7");
    assert!(
        refused(&url).contains("is in use by nodes of another stepcast version (tables of version 7"),
        "{}",
        refused(&url)
    );
    lease.leave().expect("it can be said");
    drop(node(&url));
    engine.sql(&url, "UPDATE stepcast_cluster SET version = 9");
    assert!(refused(&url).contains("was written by a newer stepcast: its tables have version 9"), "{}", refused(&url));
}

#[test]
fn tables_of_an_earlier_program_become_this_ones_once_its_nodes_are_gone() {
    let Some((engine, url)) = database() else { return };
    let (mut store, mut lease, _) = node(&url);
    append_here(&mut store, &messages([1])).expect("kept");
    let with_null = "DROP FUNCTION stepcast_append; CREATE FUNCTION stepcast_append() RETURNS void LANGUAGE sql AS ''";
    engine.sql(&url, with_null);
    engine.sql(&url, "UPDATE stepcast_cluster SET version = 1; UPDATE stepcast_nodes SET version = 1");
    assert!(refused(&url).contains("(tables of version 1, this program needs 2)"), "{}", refused(&url));
    lease.leave().expect("it can be said");
    let mut store = node(&url).0;
    append_here(&mut store, &messages([2])).expect("kept");
    assert_eq!((seqs(&store), engine.sql(&url, "SELECT version FROM stepcast_cluster")), (vec![1, 2], "2".to_owned()));
}

#[test]
fn a_node_does_not_join_again_where_a_later_program_has_changed_the_tables() {
    let Some((engine, url)) = database() else { return };
    let mut store = node(&url).0;
    engine.sql(&url, "UPDATE stepcast_cluster SET version = 9");
    let error = store.rejoin().expect_err("it is refused").to_string();
    assert!(error.contains("a newer stepcast has changed the tables in the meantime"), "{error}");
    let left = engine
        .sql(&url, "SELECT (SELECT count(*) FROM stepcast_nodes WHERE until > now()), count(*) FROM stepcast_duties");
    assert_eq!(left, "0|0");
    assert_eq!(engine.sql(&url, "SELECT count(*) FROM stepcast_writers"), "1", "each try left another");
}

#[test]
fn a_start_was_given_up_while_another_made_the_tables_for_longer_than_a_call_may_take() {
    let Some((engine, url)) = database() else { return };
    let settings = PostgresSettings { ttl: std::time::Duration::from_secs(6), ..SETTINGS };
    let mut maker = engine.session(&url);
    maker.run("BEGIN; SELECT pg_advisory_xact_lock(1937007984, 1667330932)");
    let waits = "SELECT count(*) FROM pg_locks JOIN pg_database ON oid = database
        WHERE locktype = 'advisory' AND NOT granted AND datname = current_database()";
    std::thread::scope(|scope| {
        let start = scope.spawn(|| PostgresStore::open(&url, &SEED, settings, Timestamp::default()).map(drop));
        wait_for(|| engine.sql(&url, waits) == "1");
        // Longer than a call may take: it would have been given up by then.
        engine.sql(&url, "SELECT pg_sleep(2.5)");
        maker.run("COMMIT");
        assert_eq!(start.join().expect("it does not panic"), Ok(()));
    });
}

#[test]
fn what_is_no_store_is_refused_in_a_sentence() {
    let Some((engine, url)) = database() else { return };
    engine.sql(&url, "CREATE TABLE stepcast_other (id int)");
    assert!(
        refused(&url).contains("contains the table stepcast_other, which stepcast did not create"),
        "{}",
        refused(&url)
    );
    engine.sql(&url, "CREATE DATABASE ascii ENCODING 'SQL_ASCII' TEMPLATE template0");
    assert!(refused(&engine.url("ascii")).contains("has the encoding SQL_ASCII, but stepcast requires UTF8"));
    assert!(refused(&engine.url("nowhere")).contains("database \"nowhere\" does not exist"));
    assert!(refused("postgres://127.0.0.1:1/x").contains("PostgreSQL at 127.0.0.1:1/x: "));
    assert!(refused(&format!("{url}?sslmode=require")).contains("server does not support TLS"));
    let with_password = refused("postgres://a:hunter2@127.0.0.1:1/x");
    assert!(!with_password.contains("hunter2"), "{with_password}");
}

#[test]
fn an_engine_that_is_too_old_is_refused() {
    let check = |version| check_engine_is_new_enough("it", version, "12.22").map_err(|error| error.to_string());
    assert_eq!(check(120_022), Err("it is PostgreSQL 12.22, but stepcast requires version 13 or newer".to_owned()));
    assert_eq!(check(130_000), Ok(()));
}

#[test]
fn stores_in_two_schemas_of_a_database_know_nothing_of_each_other() {
    let Some((engine, url)) = database() else { return };
    let [one, other] = ["one", "With Capitals"].map(|schema| {
        engine.sql(&url, &format!("CREATE SCHEMA \"{schema}\""));
        let schema = schema.replace(' ', "%5C%20");
        node(&format!("{url}?options=-csearch_path%3D%22{schema}%22")).0
    });
    let (mut one, other) = (one, other);
    append_here(&mut one, &messages([1])).expect("kept");
    assert_eq!((seqs(&one), seqs(&other)), (vec![1], vec![]));
}
