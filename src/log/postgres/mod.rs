//! The store that several nodes share: tables in one PostgreSQL database, written by all nodes.
//!
//! Only what the database has committed is true. A batch is one transaction, sent together with its `COMMIT`, so that
//! no transaction ever waits for a node. It compares and advances the expected position of each project, so batches are
//! stored in the order of their message numbers, without a gap. All times are of the clock of the database.
//!
//! A node has at least five connections: for the thread that writes ([`PostgresStore`]), for those that read beside it
//! ([`PostgresReader`]), for the thread that renews the lease ([`PostgresLease`]), for the one that follows what other
//! nodes write ([`PostgresTail`]), and for the one that trims history ([`housekeeping`]).
//!
//! - [`sql`]: all statements; `schema/`: the tables, and functions for what must happen inside the database in one step
//! - [`open`]: creates and checks the tables; [`connection`], [`address`] and [`tls`]: reach the database
//! - [`failure`]: errors; [`membership`]: the identity of this node; [`codes`]: the values of columns
//! - [`columns`], [`projects`], [`due_columns`], [`plan_columns`]: turn a batch into parameters; [`write`] sends it
//!   and finds out whether it was committed; [`contention`] gets it through when nodes compete
//! - [`read`]: lookups; [`recover`]: what a start continues from
//! - [`trim`]: deletes history over the limits, on the thread of [`housekeeping`]
//! - [`notice`]: the notifications between nodes; [`telling`]: when they are sent with an append; [`noted`]:
//!   notifications about tickets

mod address;
mod codes;
mod columns;
mod connection;
mod contention;
mod due_columns;
mod failure;
mod housekeeping;
mod lease;
mod membership;
mod noted;
mod notice;
mod open;
mod page;
mod plan_columns;
mod projects;
mod read;
mod reader;
mod recover;
mod settings;
mod sql;
mod tail;
mod telling;
#[cfg(test)]
pub(super) mod testing;
#[cfg(test)]
mod tests;
mod tls;
mod trim;
mod trim_sql;
mod write;

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Instant;

use tokio_postgres::Row;

use self::codes::{count, id, int};
use self::connection::{Connection, Step, Together};
use self::contention::Contention;
use self::failure::Failure;
use self::housekeeping::Housekeeping;
use self::membership::{Membership, new_node};
use self::projects::Tails;
use self::read::{Readable, Reading, Value, key_row, rows_again, run_row};
use self::reader::PostgresReader;
use self::telling::Telling;
use self::write::Epoch;
use super::store::{
    AppendError, BeatError, Head, Identity, KeyRow, NodeId, Reader, Recovered, RecoveredProject, Retention, RunNumber,
    RunRow, Seed, Standing, Store, StoreCounts, StoreError, Times, Trimmed, Write,
};
use crate::model::{ProjectId, Timestamp};

pub use self::lease::PostgresLease;
pub use self::open::OpenError;
pub use self::settings::{PostgresSettings, PostgresWake};
pub use self::tail::PostgresTail;

/// A node's part in a store that several share, for the thread that writes. See the top of this file.
pub type PostgresStore = Reading<Writing>;

/// The settings of a [`PostgresStore`].
pub struct Writing {
    conn: RefCell<Connection>,
    me: Arc<Membership>,
    settings: PostgresSettings,
    epoch: Epoch,
    counts: Arc<StoreCounts>,
    tails: RefCell<Tails>,
    contention: Contention,
    /// Notifies other nodes of changes.
    telling: Option<Arc<Telling>>,
    housekeeping: Housekeeping,
}

/// An open store. The node has joined the cluster: its lease must be renewed from now on.
pub struct Opened {
    /// For the thread that writes.
    pub store: PostgresStore,
    /// The identity of the server.
    pub identity: Identity,
    /// For the thread that keeps the node alive.
    pub lease: PostgresLease,
    /// For the thread that follows what others write.
    pub tail: PostgresTail,
    /// The counts of the store.
    pub counts: Arc<StoreCounts>,
}

impl PostgresStore {
    /// Opens the store at `url`, creates its tables if there are none, and joins the cluster.
    ///
    /// # Errors
    /// If it can't be reached, or is not a database of this program.
    pub fn open(url: &str, seed: &Seed, settings: PostgresSettings, now: Timestamp) -> Result<Opened, OpenError> {
        open::open(url, seed, settings, now)
    }

    /// Moves trimming to its own thread, so that no append waits for it.
    ///
    /// # Errors
    /// If the system grants none.
    pub fn trim_beside(&mut self) -> std::io::Result<()> {
        self.housekeeping.move_out()
    }

    fn trouble(&self, failure: Failure) -> StoreError {
        failure.at(self.conn.borrow().address().shown())
    }
}

impl Readable for Writing {
    fn rows(&self, sql: &'static str, values: &[Value<'_>]) -> Result<Vec<Row>, StoreError> {
        rows_again(&self.conn, sql, values)
    }

    fn node(&self) -> NodeId {
        self.me.node()
    }
}

impl Store for PostgresStore {
    fn append(&mut self, expected: &[Head], entries: &[Write], wall: Timestamp) -> Result<(), AppendError> {
        let began = Instant::now();
        let kept = self.keep(expected, entries, wall);
        self.0.counts.count_append(began.elapsed(), &kept);
        kept
    }

    fn trim(&mut self, retention: &Retention, now: Times) -> Result<Trimmed, StoreError> {
        if self.housekeeping.is_here() {
            self.let_lock_go();
        }
        let trimmed = self.housekeeping.trim(retention, now)?;
        let tails = self.tails.get_mut();
        trimmed.emptied.iter().for_each(|project| tails.forget(project));
        if trimmed.has_forgotten {
            tails.forget_all();
        }
        Ok(trimmed)
    }

    fn trim_outbox(&mut self, rows_max: u64) -> Result<Vec<(Arc<str>, u64)>, StoreError> {
        if self.housekeeping.is_here() {
            self.let_lock_go();
        }
        self.housekeeping.trim_outbox(rows_max)
    }

    fn is_alone(&self) -> Result<bool, StoreError> {
        let node = self.me.node();
        self.row(sql::IS_ALONE, &[&&node.0[..]])?.map_or(Ok(true), |row| codes::get(&row, 0))
    }

    /// Also tells this node's tail that it has.
    fn probe(&mut self) -> Result<(), BeatError> {
        self.let_lock_go();
        self.hold_epoch().map_err(|error| match error {
            AppendError::Down(why) => BeatError::Down(why),
            _ => BeatError::Fenced,
        })?;
        let node = self.me.node();
        let rows = self.rows(sql::PROBE, &[&&node.0[..], &self.epoch.epoch])?;
        let number = count(rows.first().ok_or(BeatError::Fenced)?, 0)?;
        let text = notice::of_probe(node, number);
        self.rows(sql::NOTIFY, &[&self.me.channel(), &text])?;
        Ok(())
    }

    fn recover(&self) -> Result<Recovered, StoreError> {
        self.let_lock_go();
        self.recovered(None, &[])
    }

    /// Projects with frequent conflicts are locked until the next append.
    fn recover_projects(&self, projects: &[ProjectId], known: &[RunNumber]) -> Result<Recovered, StoreError> {
        self.lock_contended(projects);
        self.recovered(Some(projects), known)
    }

    fn remains(&self, project: &ProjectId) -> Result<Option<RecoveredProject>, StoreError> {
        self.row(sql::REMAINS, &[&project.as_str()])?.map(|row| self.project(&row)).transpose()
    }

    fn standings(&self, projects: &[ProjectId]) -> Result<Vec<Standing>, StoreError> {
        let names: Vec<&str> = projects.iter().map(ProjectId::as_str).collect();
        self.rows(sql::STANDINGS, &[&names])?.iter().map(standing).collect()
    }

    fn standings_after(&self, after: Option<&ProjectId>, limit: usize) -> Result<Vec<Standing>, StoreError> {
        let after = after.map_or("", ProjectId::as_str);
        self.rows(sql::STANDINGS_AFTER, &[&after, &int(limit as u64)])?.iter().map(standing).collect()
    }

    fn run(&self, number: RunNumber) -> Result<Option<RunRow>, StoreError> {
        run_row(&self.rows(sql::RUN, &[&codes::run_key(number)])?, 0, 5)
    }

    fn key(&self, project: &ProjectId, name: &str) -> Result<Option<KeyRow>, StoreError> {
        let row = self.row(sql::KEY, &[&project.as_str(), &name.as_bytes()])?;
        row.map(|row| key_row(&row, project, name)).transpose()
    }

    fn key_bytes(&self, project: &ProjectId) -> Result<u64, StoreError> {
        self.row(sql::KEY_BYTES, &[&project.as_str()])?.map_or(Ok(0), |row| count(&row, 0))
    }

    fn is_shared(&self) -> bool {
        true
    }

    /// The former node's runs may be taken over at once, by this one too.
    fn rejoin(&mut self) -> Result<(), StoreError> {
        self.let_lock_go();
        let Writing { me, conn, epoch, settings, .. } = &mut self.0;
        let (former, node, began) = (me.node(), new_node()?, Instant::now());
        let conn = conn.get_mut();
        let id = &former.0[..];
        let steps = [sql::LEAVE, sql::LEAVE_DUTIES].map(|sql| Step { sql, values: vec![&id] });
        let left = conn.run(Together::Whole(sql::BEGIN), &steps);
        left.map_err(|failure| failure.at(conn.address().shown()))?;
        *epoch = open::join(conn, node, *settings)?;
        me.becomes(node, began);
        Ok(())
    }

    fn reader(&self) -> Result<Option<Box<dyn Reader>>, StoreError> {
        let address = self.conn.borrow().address().clone();
        let conn = Connection::new(address, self.settings.call_max()).map_err(|failure| self.trouble(failure))?;
        Ok(Some(Box::new(PostgresReader::new(conn, self.me.clone()))))
    }
}

fn standing(row: &Row) -> Result<Standing, StoreError> {
    Ok(Standing { project: id(row, 0, ProjectId::parse)?, newest: count(row, 1)?, revision: count(row, 2)? })
}
