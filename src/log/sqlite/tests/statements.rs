//! What SQLite makes of the statements.

use super::*;

/// What is asked of tables that grow.
const STATEMENTS: &[&str] = &[
    sql::PROJECT,
    sql::FLOOR,
    sql::PROJECT_SIZE,
    sql::OLDEST_PROJECT,
    sql::LAST_SEGMENT,
    sql::SEGMENT,
    sql::SEGMENT_GREW,
    sql::SEGMENTS,
    sql::EXTENTS,
    sql::DROP_SEGMENTS,
    sql::OUTLASTING,
    sql::DROP_OUTLASTING,
    sql::OPEN_RUN,
    sql::OPEN_RUNS_OF,
    sql::RUN_EXTENT,
    sql::STATE,
    sql::END_RUN,
    sql::RUN,
    sql::RUN_BY_ID,
    sql::KEY,
    sql::DROP_KEYS,
    sql::OLDEST_KEY,
    sql::LONGEST_EMPTY,
    sql::REMAINS,
    sql::FORGET_PROJECTS,
    sql::PROJECT_EMPTIED,
    sql::RUNS,
    sql::RUNS_ENDED_AS,
    sql::OLDEST_ENDED,
    sql::OLDEST_ENDED_OF,
    sql::LET_OUTPUTS_GO,
    sql::OUTPUT,
    sql::PIECES,
    sql::PIECES_BYTES,
    sql::DROP_SOME_PIECES,
    sql::LET_GO,
    sql::DROP_TICKETS,
    sql::ENDED_SINCE,
    sql::RUN_WEIGHT,
    sql::DROP_RUN[0],
    sql::LET_ITEMS_GO,
    sql::ITEMS_LET_GO,
    sql::DROP_SOME_ITEMS,
    sql::ITEMS_ARE_GONE,
    sql::ITEM_BYTES,
    sql::ITEMS,
    sql::RUN_GREW,
    outbox::PUT_OFF,
    outbox::SETTLE,
    outbox::LET_GO,
    outbox::LET_OLDEST_GO,
    outbox::COUNT,
    outbox::DUE,
    outbox::DUE_BEYOND,
    outbox::NEXT,
    plans::FIND,
    plans::OF_PROJECT,
    plans::SCHEDULED,
    plans::DOCUMENT,
    plans::REMOVE,
    plans::REMOVE_DOCUMENT,
    plans::COUNTS,
    plans::DROP_COUNTS,
];

/// A statement that has no index to go by would show here, and one that must be prepared anew at each use below.
#[test]
fn no_statement_scans_a_table_that_grows() {
    let directory = TempDir::new();
    let store = open(&directory, 0).0;
    for statement in STATEMENTS {
        let mut explained = store.conn.prepare(&format!("EXPLAIN QUERY PLAN {statement}")).expect("a plan");
        let mut rows = explained.raw_query();
        while let Some(row) = rows.next().expect("a plan") {
            let line: String = row.get(3).expect("a text");
            let scans = line.starts_with("SCAN") && !line.contains("USING") && !line.contains("CONSTANT ROW");
            assert!(!scans && !line.contains("TEMP B-TREE"), "{line} in {statement}");
        }
    }
}

#[test]
fn held_statements_are_not_prepared_anew_at_each_use() {
    let directory = TempDir::new();
    let store = open(&directory, 0).0;
    for _ in 0..3 {
        let mut statement = store.conn.prepare_cached(sql::TICKETS).expect("a statement");
        let mut rows = statement.query((1,)).expect("rows");
        assert!(rows.next().expect("a row or none").is_none());
        drop(rows);
        assert_eq!(statement.get_status(rusqlite::StatementStatus::RePrepare), 0);
    }
}
