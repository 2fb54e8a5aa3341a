//! What is of a store that several share alone.

mod doubt;
mod links;
mod nodes;
mod opening;
mod publish;
mod reading;
mod tail;
mod tls;

use std::sync::Arc;

use super::testing::{engine, node, open};
use super::{PostgresStore, PostgresTail};
use crate::log::store::{
    AppendError, Flow, Head, History, KeyRow, Lease, NodeId, PlaceInRun, Retention, RunRow, Standing, Store,
    StoredMessage, Tail, Write,
};
use crate::log::testing::{KEEP_ALL, at, created, ended, key, message, messages, number, project, run_id, seqs};
use crate::model::{ProjectId, Timestamp};

/// The engine, a database of the test's own, and its url; none if there is no PostgreSQL.
fn database() -> Option<(&'static engine::Postgres, String)> {
    let engine = engine::Postgres::shared()?;
    Some((engine, engine.database()))
}

/// What is expected of the project: that it stands where it does.
fn head(store: &PostgresStore) -> Head {
    let remains = store.remains(&project()).expect("readable");
    let (newest, revision) = remains.map_or((0, 0), |it| (it.newest, it.revision));
    Head { project: project(), newest, revision }
}

fn append(store: &mut PostgresStore, head: Head, writes: &[Write]) -> Result<(), AppendError> {
    store.append(&[head], writes, Timestamp::from_millis(7))
}

/// Where it stands, whatever that is.
fn append_here(store: &mut PostgresStore, writes: &[Write]) -> Result<(), AppendError> {
    append(store, head(store), writes)
}

/// Others think that the node has said nothing for too long.
fn let_expire(engine: &engine::Postgres, url: &str, node: NodeId) {
    let sql =
        format!("UPDATE stepcast_nodes SET until = clock_timestamp() - interval '1 second' WHERE id = '\\x{node}'");
    engine.sql(url, &sql);
}
