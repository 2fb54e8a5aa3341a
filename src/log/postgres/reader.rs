//! Reads on its own connection, not that of the writer: each lookup sees what was committed when it began.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use tokio_postgres::Row;

use super::connection::{Connection, Together};
use super::failure::Failure;
use super::membership::Membership;
use super::read::{Readable, Reading, Value};
use super::sql;
use crate::log::store::{History, NodeId, Reader, StoreError};

/// See the top of this file.
pub(super) struct PostgresReader {
    conn: RefCell<Connection>,
    me: Arc<Membership>,
}

impl PostgresReader {
    pub(super) fn new(conn: Connection, me: Arc<Membership>) -> Self {
        Self { conn: RefCell::new(conn), me }
    }
}

impl Reader for PostgresReader {
    fn look(&mut self, look: &mut dyn FnMut(&dyn History) -> Result<(), StoreError>) -> Result<(), StoreError> {
        let moment = Reading(Moment { conn: &self.conn, me: &self.me, has_begun: Cell::new(false) });
        let looked = look(&moment);
        if moment.has_begun.get() {
            let mut conn = self.conn.borrow_mut();
            // The result stays valid: the transaction ends with the connection, too.
            if conn.execute("COMMIT").is_err() {
                conn.let_go();
            }
        }
        looked
    }
}

/// The tables as they were when they were first looked at.
struct Moment<'a> {
    conn: &'a RefCell<Connection>,
    me: &'a Membership,
    has_begun: Cell<bool>,
}

impl Readable for Moment<'_> {
    fn rows(&self, sql: &'static str, values: &[Value<'_>]) -> Result<Vec<Row>, StoreError> {
        let mut conn = self.conn.borrow_mut();
        let shown = conn.address().clone();
        if self.has_begun.get() {
            if !conn.is_made() {
                return Err(Failure::Lost("the connection was lost while it was read".to_owned()).at(shown.shown()));
            }
            return conn.query_within(Together::Within, sql, values).map_err(|failure| failure.at(shown.shown()));
        }
        let mut begin = || conn.query_within(Together::Begun(sql::BEGIN_READING), sql, values);
        let rows = match begin() {
            // It may have been lost long before, which nobody has noticed.
            Err(Failure::Lost(_)) => begin(),
            rows => rows,
        };
        let rows = rows.map_err(|failure| {
            // It may have begun, and nobody would end it.
            conn.let_go();
            failure.at(shown.shown())
        })?;
        self.has_begun.set(true);
        Ok(rows)
    }

    fn node(&self) -> NodeId {
        self.me.node()
    }
}
