//! Renews the lease of this node, takes over the runs of failed nodes, and notifies other nodes of changes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use tokio_postgres::Row;

use super::codes::{count, damaged, get};
use super::connection::{Connection, Step, Together};
use super::failure::{Failure, code};
use super::membership::Membership;
use super::telling::Telling;
use super::{notice, sql};
use crate::log::store::{Beat, BeatError, Lease, NodeId, StoreError};
use crate::model::ProjectId;

/// How long a take-over waits for what a node that is gone is still writing. The next beat tries again.
const TAKE_OVER_WAIT_MS: i32 = 1000;

/// See the top of this file. For the thread that keeps the node alive.
pub struct PostgresLease {
    conn: Connection,
    me: Arc<Membership>,
    /// Notifies other nodes of changes.
    telling: Option<Arc<Telling>>,
    /// Nodes that were alive at the last look.
    nodes: u64,
    /// Something may have been taken over without this node having heard of it.
    is_in_doubt: bool,
}

impl PostgresLease {
    pub(super) fn new(conn: Connection, me: Arc<Membership>, telling: Option<Arc<Telling>>) -> Self {
        Self { conn, me, telling, nodes: 1, is_in_doubt: false }
    }

    /// Renews the lease of this node, and returns its id.
    fn stay_alive(&mut self) -> Result<NodeId, BeatError> {
        let (node, began) = (self.me.node(), Instant::now());
        let (id, ttl_ms) = (&node.0[..], i64::try_from(self.me.ttl().as_millis()).unwrap_or(i64::MAX));
        let alive = self.conn.query(sql::BEAT, &[&id, &ttl_ms]).map_err(|failure| self.trouble(failure))?;
        match alive.is_empty() {
            // It is another by now, and of that one nothing is known so far.
            true if self.me.node() != node => self.stay_alive(),
            true => Err(BeatError::Fenced),
            false => {
                self.me.is_alive(node, began);
                Ok(node)
            }
        }
    }

    /// Takes over what nodes have left that are gone.
    fn take_over(&mut self, node: NodeId) -> Result<Beat, Failure> {
        let id = &node.0[..];
        let was_in_doubt = std::mem::replace(&mut self.is_in_doubt, true);
        let mut steps = vec![Step { sql: sql::TAKE_OVER, values: vec![&id, &TAKE_OVER_WAIT_MS] }];
        if was_in_doubt {
            // Its runs may have been taken over.
            steps.push(Step { sql: sql::OWN_PROJECTS, values: vec![&id] });
        }
        let rows = self.conn.run(Together::No, &steps)?;
        let beat = beat(&rows).map_err(|error| Failure::Lost(error.0))?;
        self.is_in_doubt = false;
        self.nodes = beat.nodes;
        Ok(beat)
    }

    fn trouble(&self, failure: Failure) -> StoreError {
        failure.at(self.conn.address().shown())
    }
}

impl Lease for PostgresLease {
    /// First it is alive, whatever comes of the rest.
    fn beat(&mut self) -> Result<Beat, BeatError> {
        let node = self.stay_alive()?;
        match self.take_over(node) {
            Ok(beat) => Ok(beat),
            Err(failure) if failure.code() == Some(code::FENCED) => Err(BeatError::Fenced),
            Err(failure) => {
                log::debug!("cannot take over runs of failed nodes now: {}", self.trouble(failure));
                Ok(Beat { nodes: self.nodes, ..Beat::default() })
            }
        }
    }

    fn renew(&mut self) -> Result<Beat, BeatError> {
        self.stay_alive()?;
        Ok(Beat { nodes: self.nodes, ..Beat::default() })
    }

    fn wake(&mut self, projects: &[ProjectId], has_wishes: bool) -> Result<(), StoreError> {
        let Some(telling) = &self.telling else { return Ok(()) };
        let projects = telling.untold(projects);
        if projects.is_empty() && !has_wishes {
            return Ok(());
        }
        let text = notice::of_moved(self.me.node(), projects.iter().map(|project| project.as_str()), has_wishes);
        let told = self.conn.query(sql::NOTIFY, &[&self.me.channel(), &text]);
        told.map(drop).map_err(|failure| self.trouble(failure))
    }

    fn leave(&mut self) -> Result<(), StoreError> {
        let node = self.me.node();
        let id = &node.0[..];
        let step = |sql| Step { sql, values: vec![&id] };
        let left = self.conn.run(Together::Whole(sql::BEGIN), &[step(sql::LEAVE), step(sql::LEAVE_DUTIES)]);
        left.map_err(|failure| self.trouble(failure))?;
        if self.telling.is_some() {
            // Where that is not heard, their next beat finds it.
            let _ = self.conn.query(sql::NOTIFY, &[&self.me.channel(), &notice::of_leaving(node)]);
        }
        Ok(())
    }
}

/// The runs that were taken over, from the rows of the statements.
fn beat(rows: &[Vec<Row>]) -> Result<Beat, StoreError> {
    let row = rows.first().and_then(|rows| rows.first()).ok_or_else(|| damaged("an answer is missing"))?;
    let mut names: BTreeSet<&str> = get::<Vec<&str>>(row, 1)?.into_iter().collect();
    for row in rows.iter().skip(1).flatten() {
        names.insert(get(row, 0)?);
    }
    let project = |name: &&str| ProjectId::parse(name).map_err(|_| damaged("invalid id"));
    let taken_over = names.iter().map(project).collect::<Result<_, _>>()?;
    Ok(Beat { taken_over, nodes: count(row, 2)?, dead: count(row, 0)? })
}
