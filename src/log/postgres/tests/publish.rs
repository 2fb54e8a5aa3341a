//! What applications publish in transactions of their own.

use super::*;
use crate::log::store::Outgoing;

fn published(tail: &mut PostgresTail) -> Vec<String> {
    let text = |it: Outgoing| format!("{} {} {}", it.project, it.message_type, String::from_utf8_lossy(&it.payload));
    tail.published(10, &[]).expect("readable").into_iter().map(text).collect()
}

#[test]
fn what_is_rolled_back_was_never_published_and_what_is_committed_is_once() {
    let Some((engine, url)) = database() else { return };
    let (mut store, _lease, mut tail) = node(&url);
    let mut others_tail = node(&url).2;
    let mut session = engine.session(&url);
    session.run("BEGIN; SELECT stepcast_publish('p', 'order_shipped', '{\"id\": 1}')");
    assert_eq!(published(&mut tail), [""; 0], "nobody sees it so far");
    session.run("ROLLBACK");
    session.run("BEGIN; SELECT stepcast_publish('q', 'order_shipped', '{\"id\": 2}')");
    session.run("SELECT stepcast_publish('p', 'a', '{\"b\": 1, \"a\": 2}'::json)");
    session.run("SELECT stepcast_publish('p', 'a', '{\"b\":1}'::jsonb)");
    session.run("COMMIT");
    let expected = ["q order_shipped {\"id\": 2}", "p a {\"b\": 1, \"a\": 2}", "p a {\"b\": 1}"];
    assert_eq!((published(&mut tail), published(&mut others_tail)), (expected.map(str::to_owned).to_vec(), vec![]));

    let ids: Vec<u64> = tail.published(10, &[]).expect("readable").iter().map(|it| it.id).collect();
    let drain = |seq| [messages([seq]), vec![Write::Drained(ids[1..].into())]].concat();
    append_here(&mut store, &drain(1)).expect("kept");
    assert_eq!(published(&mut tail), expected[..1]);
    assert_eq!(append_here(&mut store, &drain(2)), Err(AppendError::Conflict(vec![head(&store)])), "once is enough");
    assert_eq!(seqs(&store), [1]);
}

#[test]
fn many_large_messages_are_published_in_parts_and_one_that_is_larger_alone() {
    let Some((engine, url)) = database() else { return };
    let (mut store, _lease, mut tail) = node(&url);
    let publish = |count, bytes| {
        let payload = format!("json_build_object('x', repeat('y', {bytes}))");
        let sql = format!("SELECT stepcast_publish('p', 'a', {payload}) FROM generate_series(1, {count})");
        engine.sql(&url, &sql);
    };
    publish(6, 300_000);
    publish(1, 1_000_000);
    publish(1, 1_000_000);
    let mut next = || {
        let ids: Vec<u64> = tail.published(512, &[]).expect("readable").iter().map(|it| it.id).collect();
        append_here(&mut store, &[Write::Drained(ids.clone().into())]).expect("kept");
        ids.len()
    };
    assert_eq!([next(), next(), next(), next()], [4, 3, 1, 0], "a MiB, and what is just beyond it");
}

#[test]
fn what_was_published_to_a_project_that_nobody_knows_and_is_numbered_already_is_a_conflict_of_it() {
    let Some((engine, url)) = database() else { return };
    let (mut store, _lease, mut tail) = node(&url);
    engine.sql(&url, "SELECT stepcast_publish('p', 'a', '{}')");
    let ids: Vec<u64> = tail.published(10, &[]).expect("readable").iter().map(|it| it.id).collect();
    engine.sql(&url, "DELETE FROM stepcast_outgoing");
    let drain = [messages([1]), vec![Write::Drained(ids.into())]].concat();
    let nothing = Head { project: project(), newest: 0, revision: 0 };
    assert_eq!(append(&mut store, nothing.clone(), &drain), Err(AppendError::Conflict(vec![nothing])));
}

#[test]
fn what_can_not_be_published_is_refused_in_a_sentence() {
    let Some((engine, url)) = database() else { return };
    drop(node(&url));
    for (call, why) in [
        ("'p q', 'a', '{}'", "'p q' is not a valid project id"),
        ("NULL, 'a', '{}'", "NULL is not a valid project id"),
        ("'p', 'A', '{}'", "'A' is not a valid message type"),
        ("'p', 'workflow_x', '{}'", "the message type 'workflow_x' is reserved for the server"),
        ("'p', 'a', '[1]'", "the payload is not a JSON object"),
        ("'p', 'a', NULL", "the payload is not a JSON object"),
        ("'p', 'a', 'no json'", "invalid input syntax for type json"),
        ("'p', 'a', json_build_object('x', repeat('y', 2000000))", "(limit 1048576)"),
    ] {
        let refused = engine.try_sql(&url, &format!("SELECT stepcast_publish({call})"));
        assert!(refused.as_ref().is_err_and(|error| error.contains(why)), "{call}: {refused:?}");
    }
    let lines = "SELECT stepcast_publish('p', 'a', E'\\n{\\n\\t\"a\":\\r\\n1}\\n')";
    engine.sql(&url, lines);
    let payload = engine.sql(&url, "SELECT payload FROM stepcast_outgoing");
    assert_eq!(payload, "{  \"a\":  1}", "a message is one line");
}

#[test]
fn whoever_publishes_needs_the_right_to_and_no_other() {
    let Some((engine, url)) = database() else { return };
    drop(node(&url));
    engine.sql(&url, "CREATE ROLE shop LOGIN");
    let shops = url.replace("postgres@", "shop@");
    let publish = "SELECT stepcast_publish('p', 'a', '{}')";
    assert!(engine.try_sql(&shops, publish).is_err_and(|error| error.contains("permission denied")));
    engine.sql(
        &url,
        "GRANT EXECUTE ON FUNCTION stepcast_publish(text, text, text), stepcast_publish(text, text, json),
             stepcast_publish(text, text, jsonb) TO shop",
    );
    engine.sql(&shops, publish);
    engine.sql(&shops, "SELECT stepcast_publish('p', 'a', '{}'::jsonb)");
    assert!(engine.try_sql(&shops, "SELECT * FROM stepcast_outgoing").is_err());
    assert_eq!(engine.sql(&url, "SELECT count(*) FROM stepcast_outgoing"), "2");
    engine.sql(&url, "DROP OWNED BY shop; DROP ROLE shop");
}
