//! How history is read, and what comes of a reading that fails.

use super::super::sql;
use super::*;
use crate::log::store::Reader;

fn newest(reader: &mut dyn Reader) -> Result<u64, crate::log::store::StoreError> {
    let mut newest = 0;
    reader.look(&mut |history| {
        newest = history.newest(&project())?;
        Ok(())
    })?;
    Ok(newest)
}

#[test]
fn a_look_that_was_refused_leaves_nothing_to_the_next_one() {
    let Some((engine, url)) = database() else { return };
    let mut store = node(&url).0;
    append_here(&mut store, &messages([1])).expect("kept");
    let impatient = node(&format!("{url}?options=-clock_timeout%3D100")).0;
    let mut reader = impatient.reader().expect("it can be read").expect("by others too");
    assert_eq!(newest(&mut *reader), Ok(1));
    let mut session = engine.session(&url);
    session.run("BEGIN; LOCK TABLE stepcast_projects IN ACCESS EXCLUSIVE MODE");
    let refused = newest(&mut *reader).expect_err("it does not wait");
    assert!(refused.0.contains("lock timeout"), "{refused}");
    session.run("COMMIT");
    assert_eq!(newest(&mut *reader), Ok(1));
    append_here(&mut store, &messages([2])).expect("kept");
    assert_eq!(newest(&mut *reader), Ok(2), "it sees what came since");
}

#[test]
fn a_page_is_read_in_the_order_of_its_index_and_never_sorted() {
    let Some((engine, url)) = database() else { return };
    let mut store = node(&url).0;
    append_here(&mut store, &messages(1..=100)).expect("kept");
    for (statement, values) in [
        (sql::MESSAGES, "'p', 3, 64"),
        (sql::MESSAGES_BEFORE, "'p', 90, 64"),
        (sql::MESSAGES_OF_RUN, "1, 0, 64"),
        (sql::PIECES, "1, 's', 0::smallint, 0, 1000, 64"),
        (sql::ITEMS, "1, 's', 0, 64"),
    ] {
        let plan = engine.sql(
            &url,
            &format!(
                "SET enable_seqscan = off; SET enable_bitmapscan = off; SET plan_cache_mode = force_generic_plan;
                 PREPARE page AS {statement}; EXPLAIN EXECUTE page ({values})"
            ),
        );
        assert!(plan.contains("Index") && !plan.contains("Sort"), "{statement}: {plan}");
    }
}

/// One that took longer than a call may was never read over a slow link.
#[test]
fn what_is_large_comes_in_slices_and_is_read_whole() {
    const BYTES: usize = (3 << 20) + 5;
    let Some((_, url)) = database() else { return };
    let mut store = node(&url).0;
    let document: Arc<[u8]> = (0..BYTES).map(|n| (n / 7 % 251) as u8).collect();
    append_here(&mut store, &[created(1, 0), created(2, 5), created(3, 5)]).expect("kept");
    let put = Write::Document { number: number(2), document: document.clone() };
    append_here(&mut store, &[put, ended(3, 1)]).expect("kept");
    for (statement, column) in [(sql::DOCUMENT, 0), (sql::RUN, 3)] {
        let rows = store.conn.borrow_mut().query(statement, &[&2i64]).expect("readable");
        let lengths: Vec<usize> = rows.iter().map(|row| row.get::<_, &[u8]>(column).len()).collect();
        assert_eq!(lengths, [1 << 20, 1 << 20, 1 << 20, 5], "{statement}");
    }
    assert_eq!(store.document(number(2)), Ok(Some(document.clone())));
    assert_eq!(store.document(number(1)), Ok(Some(Arc::default())), "an empty one");
    assert_eq!(store.document(number(9)), Ok(None));
    assert_eq!(store.run(number(2)).expect("readable").expect("a run").document, document);
    let some = |known| store.recover_projects(&[project()], known).expect("readable");
    let known = [number(1), number(2)];
    for (recovered, lengths) in [
        (store.recover().expect("readable"), [Some(0), Some(BYTES)]),
        (some(&[]), [Some(0), Some(BYTES)]),
        (some(&known[..1]), [None, Some(BYTES)]),
    ] {
        let length = |document: &Option<Arc<[u8]>>| document.as_ref().map(|it| it.len());
        let documents: Vec<_> = recovered.open_runs.iter().map(|run| (run.number, length(&run.document))).collect();
        assert_eq!(documents, [(number(1), lengths[0]), (number(2), lengths[1])]);
    }
}
