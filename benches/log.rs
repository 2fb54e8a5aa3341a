//! What the log costs: messages a second through the journal, by how many come as one batch, kept in memory and by SQLite.
//! A message has a payload of 250 bytes.
//!
//! `cargo bench --bench log`

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use stepcast::auth::{Instance, ServerKeys};
use stepcast::log::{
    Command, Journal, Limits, MemoryStore, PublishedEvent, ReplyTo, Retention, Seed, SqliteStore, Store, Synchronous,
};
use stepcast::model::{Now, ProjectId, Timestamp};

/// Publishers that each wait for their answer before they send the next message.
const BATCHES: [usize; 5] = [1, 8, 64, 512, 4096];

const MESSAGES: usize = 200_000;

/// How long one figure may take.
const ROUND_MAX: Duration = Duration::from_secs(4);

type Done<T> = Result<T, Box<dyn Error>>;

fn main() -> Done<()> {
    let directory = Directory::new()?;
    println!("messages a second through the log, 250 bytes of payload each:");
    println!("{:>10} {:>12} {:>14} {:>12}", "batch", "memory", "SQLite NORMAL", "SQLite FULL");
    for batch in BATCHES {
        let memory = rate(Box::new(MemoryStore::new()), batch)?;
        let normal = rate(directory.store(&format!("normal-{batch}"), Synchronous::Normal)?, batch)?;
        let full = rate(directory.store(&format!("full-{batch}"), Synchronous::Full)?, batch)?;
        println!("{batch:>10} {memory:>12.0} {normal:>14.0} {full:>12.0}");
    }
    Ok(())
}

fn rate(store: Box<dyn Store>, batch: usize) -> Done<f64> {
    let signer = ServerKeys::derive(&[7; 32]).id_signer(Instance::from_random([7; 6]));
    let retention = Retention { messages: 10_000, bytes: 1 << 30, age_ms: 7 * 24 * 3_600_000, runs: 1000 };
    let limits = Limits { retention, open_runs: 10, projects: 10, idempotency_ms: 1000, recent_ms: 1000 };
    let began = Instant::now();
    let wall = Timestamp::from(std::time::SystemTime::now());
    let now = || Now { mono: began.elapsed(), wall: wall.plus_millis(began.elapsed().as_millis() as u64) };
    let no_plan = Box::new(|_: &[u8]| Err("no plan is kept here".to_owned()));
    let (mut journal, _) = Journal::open(store, signer, limits, no_plan, now())?;
    let project: ProjectId = "bench".parse()?;
    let payload = format!("{{\"text\":\"{}\"}}", "x".repeat(239)).into_bytes();
    let publish = |number: usize| Command::Publish {
        project: project.clone(),
        events: vec![PublishedEvent { message_type: "note".into(), payload: payload.clone() }],
        reply: ReplyTo::Loop(number as u64),
    };
    let mut kept = 0;
    let measured = Instant::now();
    while kept < MESSAGES && measured.elapsed() < ROUND_MAX {
        journal.handle((0..batch).map(publish).collect(), now());
        kept += batch;
    }
    if journal.is_down() {
        return Err("the store failed".into());
    }
    Ok(kept as f64 / measured.elapsed().as_secs_f64())
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
