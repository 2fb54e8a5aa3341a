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
