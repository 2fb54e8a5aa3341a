//! Creates the tables, and checks that existing ones belong to stepcast.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_postgres::Row;

use super::address::DatabaseAddress;
use super::codes::{get, int, ms};
use super::connection::{Connection, Step, Together};
use super::contention::Contention;
use super::failure::Failure;
use super::housekeeping::Housekeeping;
use super::lease::PostgresLease;
use super::membership::{Membership, new_node};
use super::read::Reading;
use super::settings::{PostgresSettings, PostgresWake};
use super::tail::PostgresTail;
use super::telling::Telling;
use super::trim::Trimmer;
use super::{Opened, Writing, sql};
use crate::auth::{Instance, TicketNote};
use crate::log::store::{Identity, NodeId, Seed, StoreCounts, StoreError};
use crate::model::Timestamp;

/// The oldest engine that has what is needed here.
const VERSION_MIN: i32 = 130_000;

/// Taken while the tables are created or changed, so that two nodes do not do so at once. The keys are "step" and
/// "cast" in ASCII.
const LOCK: &str = "SELECT pg_advisory_xact_lock(1937007984, 1667330932)";

/// How long each step of making or checking the tables may take: the engine may be slow to make them, or another node may be
/// at it.
const OPENING_MAX: Duration = Duration::from_secs(60);

/// Bytes that an application may publish at once, as over HTTP by default.
const PAYLOAD_MAX: usize = 1024 * 1024;

/// Why a store can't be used, in a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenError(pub(super) String);

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for OpenError {}

/// The identity of the store, from its only row.
struct Cluster {
    version: i32,
    master_key: [u8; 32],
    instance: Instance,
}

/// What an engine says of itself.
struct Engine {
    schema: String,
    has_cluster: bool,
}

pub(super) fn open(url: &str, seed: &Seed, settings: PostgresSettings, now: Timestamp) -> Result<Opened, OpenError> {
    let address = Arc::new(DatabaseAddress::parse(url, settings.call_max())?);
    let connection = || {
        let connection = Connection::new(address.clone(), settings.call_max());
        connection.map_err(|failure| OpenError(format!("{}: {failure}", address.shown())))
    };
    let mut conn = connection()?;
    // This node holds no lease so far, and nobody waits for it.
    conn.be_patient_for(OPENING_MAX.max(settings.call_max()));
    let cluster = cluster(&mut conn, seed)?;
    let tickets = tickets(&mut conn, now)?;
    conn.be_patient_for(settings.call_max());
    let channel = format!("stepcast_{}", in_hex(cluster.instance.to_string().as_bytes()));
    let (node, joined_at) = (new_node()?, Instant::now());
    let epoch = join(&mut conn, node, settings)?;
    let me = Arc::new(Membership::new(node, settings.ttl, joined_at, channel));
    let identity = Identity { master_key: cluster.master_key, instance: cluster.instance, tickets };
    let telling = (settings.wake == PostgresWake::Notify).then(Arc::<Telling>::default);
    let lease = PostgresLease::new(connection()?, me.clone(), telling.clone());
    let tail = PostgresTail::new(connection()?, me.clone(), settings.wake);
    let counts = Arc::<StoreCounts>::default();
    let housekeeping = Housekeeping::here(Trimmer::new(connection()?, me.clone()));
    let store = Writing {
        conn: RefCell::new(conn),
        me,
        settings,
        epoch,
        counts: counts.clone(),
        tails: RefCell::default(),
        contention: Contention::default(),
        telling,
        housekeeping,
    };
    Ok(Opened { store: Reading(store), identity, lease, tail, counts })
}

/// A new node joins the others.
pub(super) fn join(
    conn: &mut Connection,
    node: NodeId,
    settings: PostgresSettings,
) -> Result<super::write::Epoch, StoreError> {
    let (id, ttl_ms) = (&node.0[..], int(u64::try_from(settings.ttl.as_millis()).unwrap_or(u64::MAX)));
    let steps = [
        Step { sql: sql::NEW_NODE, values: vec![&id, &sql::SCHEMA_VERSION, &ttl_ms] },
        Step { sql: sql::NEW_WRITER, values: vec![&id] },
        Step { sql: sql::TAKE_DUTIES, values: vec![&id] },
    ];
    let connection = conn.ensure();
    let joined = connection.and_then(|connection| Ok((connection, conn.run(Together::Whole(sql::BEGIN), &steps)?)));
    let (connection, rows) = joined.map_err(|failure| failure.at(conn.address().shown()))?;
    if rows.first().is_none_or(Vec::is_empty) {
        return Err(StoreError(format!(
            "{}: a newer stepcast has changed the tables in the meantime",
            conn.address().shown()
        )));
    }
    let row =
        rows.get(1).and_then(|rows| rows.first()).ok_or_else(|| super::codes::damaged("the server returned no row"))?;
    Ok(super::write::Epoch { epoch: get(row, 0)?, batch: get(row, 1)?, connection })
}

/// Makes the tables where there are none, or changes those of an earlier program, and says whose they are.
fn cluster(conn: &mut Connection, seed: &Seed) -> Result<Cluster, OpenError> {
    let shown = conn.address().shown().to_owned();
    let trouble = |failure: Failure| OpenError(format!("{shown}: {failure}"));
    conn.ensure().map_err(trouble)?;
    check_engine(conn)?;
    // A node that starts at the same time waits, and then finds the tables.
    conn.execute(&format!("BEGIN ISOLATION LEVEL READ COMMITTED; {LOCK}")).map_err(trouble)?;
    let made = make(conn, seed);
    conn.execute(if made.is_ok() { "COMMIT" } else { "ROLLBACK" }).map_err(trouble)?;
    made
}

/// Within a transaction that holds the lock.
fn make(conn: &mut Connection, seed: &Seed) -> Result<Cluster, OpenError> {
    let shown = conn.address().shown().to_owned();
    let trouble = |failure: Failure| OpenError(format!("{shown}: {failure}"));
    let engine = check_engine(conn)?;
    if !engine.has_cluster {
        let foreign = conn.query(sql::FOREIGN_TABLES, &[]).map_err(trouble)?;
        if let Some(row) = foreign.first() {
            let name: &str = get(row, 0)?;
            return Err(OpenError(format!(
                "{shown} contains the table {name}, which stepcast did not create; use another database or schema"
            )));
        }
        let instance = Instance::from_random(seed.instance).to_string();
        conn.execute(sql::TABLES).map_err(trouble)?;
        make_functions(conn, &engine, &instance).map_err(trouble)?;
        let values: [super::read::Value<'_>; 3] = [&sql::SCHEMA_VERSION, &&seed.master_key[..], &instance];
        conn.query(sql::NEW_CLUSTER, &values).map_err(trouble)?;
    }
    let row = conn.query(sql::CLUSTER, &[]).map_err(trouble)?;
    let cluster = row.first().map(read_cluster).transpose()?;
    let cluster = cluster.ok_or_else(|| OpenError(format!("{shown}: stepcast_cluster is empty")))?;
    let migrations = migrations(&shown, cluster.version)?;
    if !migrations.is_empty() {
        // Whoever joins by the former version has joined by now, or finds another.
        conn.query(sql::SET_VERSION, &[&sql::SCHEMA_VERSION]).map_err(trouble)?;
    }
    let others = conn.query(sql::OTHER_VERSIONS, &[&sql::SCHEMA_VERSION]).map_err(trouble)?;
    if let Some(row) = others.first() {
        return Err(OpenError(format!(
            "{shown} is in use by nodes of another stepcast version (tables of version {}, this program needs {}): \
             stop them first",
            get::<i32>(row, 0)?,
            sql::SCHEMA_VERSION
        )));
    }
    if !migrations.is_empty() {
        migrate(conn, migrations, &engine, &cluster.instance).map_err(trouble)?;
    }
    Ok(cluster)
}

/// What changes tables of this version into this program's.
fn migrations(shown: &str, version: i32) -> Result<&'static [&'static str], OpenError> {
    let known = sql::SCHEMA_VERSION;
    if version > known {
        return Err(OpenError(format!(
            "{shown} was written by a newer stepcast: its tables have version {version}, and this program supports versions up to {known}"
        )));
    }
    let since_then = usize::try_from(version).ok().and_then(|version| sql::MIGRATIONS.get(version.checked_sub(1)?..));
    since_then.ok_or_else(|| OpenError(format!("{shown}: tables of version {version} do not exist")))
}

fn migrate(conn: &mut Connection, migrations: &[&str], engine: &Engine, instance: &Instance) -> Result<(), Failure> {
    migrations.iter().try_for_each(|migration| conn.execute(migration))?;
    make_functions(conn, engine, &instance.to_string())
}

fn check_engine(conn: &mut Connection) -> Result<Engine, OpenError> {
    let shown = conn.address().shown().to_owned();
    let rows = conn.query(sql::ENGINE, &[]).map_err(|failure| OpenError(format!("{shown}: {failure}")))?;
    let row = rows.first().ok_or_else(|| OpenError(format!("{shown}: the server returned no row")))?;
    engine(&shown, row)
}

fn engine(shown: &str, row: &Row) -> Result<Engine, OpenError> {
    let (version, encoding): (i32, &str) = (get(row, 0)?, get(row, 1)?);
    check_engine_is_new_enough(shown, version, get(row, 4)?)?;
    if encoding != "UTF8" {
        return Err(OpenError(format!(
            "{shown} has the encoding {encoding}, but stepcast requires UTF8: CREATE DATABASE stepcast ENCODING 'UTF8' TEMPLATE template0"
        )));
    }
    let schema: Option<&str> = get(row, 2)?;
    let schema = schema.ok_or_else(|| OpenError(format!("{shown}: no schema in its search_path exists")))?;
    Ok(Engine { schema: schema.to_owned(), has_cluster: get(row, 3)? })
}

pub(super) fn check_engine_is_new_enough(shown: &str, version: i32, in_words: &str) -> Result<(), OpenError> {
    match version < VERSION_MIN {
        true => Err(OpenError(format!("{shown} is PostgreSQL {in_words}, but stepcast requires version 13 or newer"))),
        false => Ok(()),
    }
}

fn make_functions(conn: &mut Connection, engine: &Engine, instance: &str) -> Result<(), Failure> {
    conn.execute(sql::FUNCTIONS)?;
    let channel = format!("stepcast_{}", in_hex(instance.as_bytes()));
    let publish = sql::PUBLISH.replace("{schema}", &engine.schema).replace("{channel}", &channel);
    conn.execute(&publish.replace("{payload_max}", &PAYLOAD_MAX.to_string()))
}

fn read_cluster(row: &Row) -> Result<Cluster, OpenError> {
    let (key, instance): (&[u8], &str) = (get(row, 1)?, get(row, 2)?);
    let damaged = || OpenError("the table stepcast_cluster contains invalid data".to_owned());
    Ok(Cluster {
        version: get(row, 0)?,
        master_key: key.try_into().map_err(|_| damaged())?,
        instance: Instance::parse(instance).ok_or_else(damaged)?,
    })
}

fn tickets(conn: &mut Connection, now: Timestamp) -> Result<Vec<TicketNote>, OpenError> {
    let shown = conn.address().shown().to_owned();
    let rows = conn.query(sql::TICKETS, &[&ms(now)]).map_err(|failure| OpenError(format!("{shown}: {failure}")))?;
    let note = |row: &Row| {
        let json: &[u8] = get(row, 0)?;
        serde_json::from_slice(json).map_err(|_| OpenError(format!("{shown}: a stored ticket note cannot be read")))
    };
    rows.iter().map(note).collect()
}

fn in_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
