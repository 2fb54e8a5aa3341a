//! Moves committed data from the write-ahead log into the database file, on a thread and a connection of its own.
//!
//! A checkpoint waits for the disk, which may take a second on an SD card; on the thread of the log everyone would wait
//! with it. Commits continue in the meantime. If they arrive so fast that the write-ahead log is never idle and cannot
//! restart, the committing connection does a checkpoint itself at [`WAL_BYTES_MAX`](super::open::WAL_BYTES_MAX); most
//! of the work is done by then.

use std::path::Path;
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use rusqlite::{Connection, OpenFlags};

use super::open::BUSY_TIMEOUT;
use crate::log::store::Write;

/// Bytes in the write-ahead log, about, at which they are moved.
const BYTES: u64 = 16 * 1024 * 1024;

/// What a commit puts into the write-ahead log besides what it adds to history: some pages that only changed a little.
const COMMIT_BYTES: u64 = 8 * 1024;

/// Asks for checkpoints, one at a time. The thread ends with it.
pub(super) struct Checkpointer {
    /// None if there is no thread, and while it is dropped.
    wanted: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
    /// Bytes since the last one was asked for.
    written: u64,
}

impl Checkpointer {
    /// Starts the thread. Where the system grants none, the connection that commits does it all.
    pub(super) fn start(path: &Path) -> rusqlite::Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let conn = Connection::open_with_flags(path, flags)?;
        conn.busy_timeout(BUSY_TIMEOUT)?;
        // One that is asked for while another goes on may have missed its last pages, so one may wait.
        let (wanted, asked) = bounded(1);
        let thread = thread::Builder::new().name("checkpoint".into()).spawn(move || run(&conn, &asked));
        if let Err(error) = &thread {
            log::warn!("cannot start the checkpoint thread: {error}");
        }
        let wanted = thread.is_ok().then_some(wanted);
        Ok(Self { wanted, thread: thread.ok(), written: 0 })
    }

    /// A batch was committed.
    pub(super) fn committed(&mut self, batch: &[Write]) {
        self.written += batch.iter().map(Write::history_bytes).sum::<u64>() + COMMIT_BYTES;
        if self.written >= BYTES {
            self.written = 0;
            self.ask();
        }
    }

    /// A thread that has ended has panicked: that is for whoever watches the log's own to hear.
    fn ask(&self) {
        match self.wanted.as_ref().map(|wanted| wanted.try_send(())) {
            // There is no thread, or one is wanted already.
            None | Some(Ok(()) | Err(TrySendError::Full(()))) => {}
            Some(Err(TrySendError::Disconnected(()))) => panic!("the checkpoint thread panicked"),
        }
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.wanted = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the checkpoint thread panicked");
        }
    }
}

fn run(conn: &Connection, asked: &Receiver<()>) {
    while asked.recv().is_ok() {
        // PASSIVE neither waits for others nor blocks them.
        if let Err(error) = conn.pragma(None, "wal_checkpoint", "PASSIVE", |_| Ok(())) {
            log::debug!("a checkpoint failed: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::testing::{number, step};
    use crate::model::OutputStream;

    #[test]
    fn what_steps_write_was_left_to_whoever_commits_to_checkpoint() {
        let (wanted, asked) = bounded(1);
        let mut checkpointer = Checkpointer { wanted: Some(wanted), thread: None, written: 0 };
        let bytes = vec![b'x'; BYTES as usize / 2];
        let output =
            [Write::Output { number: number(1), step: step(), attempt: 1, stream: OutputStream::Stdout, bytes }];
        checkpointer.committed(&output);
        assert!(asked.try_recv().is_err(), "that is not much yet");
        checkpointer.committed(&output);
        assert_eq!(asked.try_recv(), Ok(()));
    }
}
