//! What the log costs: messages a second through the journal, by how many come as one batch, kept in memory, by SQLite, and by
//! PostgreSQL beside the bare engine. A message has a payload of 250 bytes.
//!
//! `cargo bench --bench log`, or `cargo bench --features postgres --bench log`

use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use stepcast::ProjectId;
use stepcast::bench::{
    Command, Instance, Journal, LogLimits, MemoryStore, Now, PublishedEvent, ReplyTo, Retention, Seed, ServerKeys,
    SlabKey, SqliteStore, Store, Synchronous, Timestamp,
};
#[cfg(feature = "postgres")]
use stepcast::bench::{PostgresSettings, PostgresStore, PostgresWake};

#[cfg(feature = "postgres")]
#[path = "../tests/common/postgres.rs"]
mod postgres;

/// Publishers that each wait for their answer before they send the next message.
const BATCHES: [usize; 5] = [1, 8, 64, 512, 4096];

const PAYLOAD_BYTES: usize = 250;

const MESSAGES: usize = 200_000;

/// How long one figure may take.
const ROUND_MAX: Duration = Duration::from_secs(4);

/// What is around a payload in a message.
#[cfg(feature = "postgres")]
const ENVELOPE_BYTES: usize = 50;

type Done<T> = Result<T, Box<dyn Error>>;

fn main() -> Done<()> {
    let directory = Directory::new()?;
    println!("messages a second through the log (and microseconds of CPU each), 250 bytes of payload:");
    println!("{:>6} {:>18} {:>18} {:>18}", "batch", "memory", "SQLite NORMAL", "SQLite FULL");
    for batch in BATCHES {
        let memory = rate(Box::new(MemoryStore::new()), batch)?;
        let normal = rate(directory.store(&format!("normal-{batch}"), Synchronous::Normal)?, batch)?;
        let full = rate(directory.store(&format!("full-{batch}"), Synchronous::Full)?, batch)?;
        println!("{batch:>6} {memory:>18} {normal:>18} {full:>18}");
    }
    #[cfg(feature = "postgres")]
    shared()?;
    Ok(())
}

/// The same through a PostgreSQL that syncs, and what that takes where nothing is around it. Rounds of both alternate, for the
/// machine has others to serve.
#[cfg(feature = "postgres")]
fn shared() -> Done<()> {
    const ROUNDS: usize = 3;
    let Some(engine) = postgres::Postgres::start_with(postgres::Disk::Synced, &["max_wal_size=2GB"]) else {
        return Ok(());
    };
    println!("messages a second through the log in PostgreSQL, and rows of as many bytes a second of the bare engine:");
    println!("{:>6} {:>18} {:>12} {:>6}", "batch", "PostgreSQL", "bare", "ratio");
    for batch in BATCHES.into_iter().take(4) {
        for _ in 0..ROUNDS {
            let url = engine.database();
            let bare = engine.bare_rate(&url, batch, PAYLOAD_BYTES + ENVELOPE_BYTES, ROUND_MAX / 2);
            let settings = PostgresSettings { ttl: Duration::from_secs(60), wake: PostgresWake::Notify };
            let seed = Seed { master_key: [7; 32], instance: [7; 6] };
            let mut store = PostgresStore::open(&url, &seed, settings, Timestamp::default())?.store;
            store.trim_beside()?;
            let rate = measure(Box::new(store), batch)?;
            println!("{batch:>6} {:>18} {bare:>12.0} {:>6.2}", rate.to_string(), rate.a_second / bare);
        }
    }
    Ok(())
}

/// What was measured.
struct Rate {
    a_second: f64,
    cpu_micros: f64,
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.0} ({:.1})", self.a_second, self.cpu_micros)
    }
}

fn rate(store: Box<dyn Store>, batch: usize) -> Done<String> {
    Ok(measure(store, batch)?.to_string())
}

fn measure(store: Box<dyn Store>, batch: usize) -> Done<Rate> {
    let signer = ServerKeys::derive(&[7; 32]).id_signer(Instance::from_random([7; 6]));
    let retention = Retention { messages: 10_000, bytes: 1 << 30, age_ms: 7 * 24 * 3_600_000, runs: 1000 };
    let limits = LogLimits {
        retention,
        open_runs: 10,
        project_runs: usize::MAX,
        projects: 10,
        key_bytes: 1 << 20,
        state_outputs_bytes: 1 << 20,
        plans: Default::default(),
        recent_ms: 1000,
    };
    let began = Instant::now();
    let wall = Timestamp::from(std::time::SystemTime::now());
    let now = || Now { mono: began.elapsed(), wall: wall.plus_millis(began.elapsed().as_millis() as u64) };
    let no_plan = Box::new(|_: &[u8]| Err("no plan is kept here".to_owned()));
    let (mut journal, _) = Journal::open(store, signer, limits, no_plan, now())?;
    let project: ProjectId = "bench".parse()?;
    let payload = format!("{{\"text\":\"{}\"}}", "x".repeat(PAYLOAD_BYTES - 11)).into_bytes();
    let publish = |number: usize| Command::Publish {
        project: project.clone(),
        events: vec![PublishedEvent { message_type: "note".into(), payload: payload.clone() }],
        reply: ReplyTo::Connection(SlabKey::new(number as u32, 0)),
    };
    let mut kept = 0;
    let (measured, cpu) = (Instant::now(), cpu_nanos()?);
    while kept < MESSAGES && measured.elapsed() < ROUND_MAX {
        journal.handle((0..batch).map(publish).collect(), now());
        kept += batch;
    }
    if journal.is_down() {
        return Err("the store failed".into());
    }
    let (took, cpu) = (measured.elapsed().as_secs_f64(), cpu_nanos()? - cpu);
    Ok(Rate { a_second: kept as f64 / took, cpu_micros: cpu as f64 / kept as f64 / 1000.0 })
}

/// What this thread has had of the processor: wall time lies on a machine that others use too.
fn cpu_nanos() -> Done<u64> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(stat.split(' ').next().ok_or("no figure")?.parse()?)
}

/// Removed at the end.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Done<Self> {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("log-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    fn store(&self, name: &str, synchronous: Synchronous) -> Done<Box<dyn Store>> {
        let seed = Seed { master_key: [7; 32], instance: [7; 6] };
        Ok(Box::new(SqliteStore::open(&self.0.join(name), synchronous, &seed, Timestamp::default())?.0))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
