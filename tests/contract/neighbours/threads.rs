//! How much each thread of a server has read, as counted by the system. If the thread that writes the log does not read
//! a large thing, no writer waits for it.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::json;

use crate::common::random::noise;
use crate::common::server::Server;
use crate::common::wait_for;

/// What tells the writer: more than anybody else writes meanwhile.
const MARK_BYTES: u64 = 400_000;

/// A server's threads, from a moment on.
pub struct Threads<'a> {
    server: &'a Server,
    /// Who writes what is published to disk.
    writer: u64,
    before: BTreeMap<u64, u64>,
}

impl<'a> Threads<'a> {
    /// What they read from now on is told.
    pub fn watch(server: &'a Server) -> Self {
        let mark = json!({"type": "mark", "payload": {"text": noise(0, MARK_BYTES as usize)}});
        // Now and then another moves what was written before into its place.
        let writer = wait_for("one who writes alone", || {
            let before = bytes(server, "wchar");
            assert_eq!(server.post("/api/projects/marks/events", &mark).status, 202);
            let mut written = bytes(server, "wchar");
            written.retain(|thread, written| *written - before.get(thread).unwrap_or(&0) >= MARK_BYTES);
            let only = written.pop_first();
            only.filter(|_| written.is_empty()).map(|(thread, _)| thread)
        });
        Self { server, writer, before: bytes(server, "rchar") }
    }

    /// Bytes that the writer has read since.
    pub fn read_by_writer(&self) -> u64 {
        self.read().filter(|(thread, _)| *thread == self.writer).map(|(_, bytes)| bytes).sum()
    }

    /// Bytes that all of them have read since.
    pub fn read_by_all(&self) -> u64 {
        self.read().map(|(_, bytes)| bytes).sum()
    }

    fn read(&self) -> impl Iterator<Item = (u64, u64)> {
        let now = bytes(self.server, "rchar");
        now.into_iter().map(|(thread, bytes)| (thread, bytes - self.before.get(&thread).unwrap_or(&0)))
    }
}

/// What each thread has read (`rchar`) or written (`wchar`) from and to files since it began.
fn bytes(server: &Server, what: &str) -> BTreeMap<u64, u64> {
    let tasks = format!("/proc/{}/task", server.pid().as_raw_nonzero());
    let tasks = std::fs::read_dir(tasks).expect("it runs").flatten();
    tasks.filter_map(|task| Some((task.file_name().to_str()?.parse().ok()?, count(&task.path(), what)?))).collect()
}

/// None where the thread has just ended.
fn count(task: &Path, what: &str) -> Option<u64> {
    let text = std::fs::read_to_string(task.join("io")).ok()?;
    let count = text.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(": "));
    Some(count?.parse().expect("a number"))
}
