//! Where history is trimmed: on the thread that writes, until trimming is moved to a thread of its own, as in a server.
//! Then nobody waits for it, and its result is reported the next time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};

use super::trim::Trimmer;
use crate::log::store::{Retention, StoreError, Times, Trimmed};

/// From one slice of a trim to the next.
const PAUSE: Duration = Duration::from_millis(5);

/// See the top of this file.
pub(super) enum Housekeeping {
    Here(Box<Trimmer>),
    Beside(Beside),
    /// The system had no thread for it: nothing is trimmed any more, and the start fails.
    Nowhere,
}

/// The way to the thread.
pub(super) struct Beside {
    wanted: Sender<()>,
    board: Arc<Mutex<Board>>,
}

/// The orders for the thread, and its results.
struct Board {
    trim: Option<(Retention, Times)>,
    outbox_rows_max: Option<u64>,
    /// Told so far of nobody.
    has_forgotten: bool,
    outbox_gone: Vec<(Arc<str>, u64)>,
    /// As they were at the last trim.
    key_bytes: u64,
}

impl Housekeeping {
    pub(super) fn here(trimmer: Trimmer) -> Self {
        Self::Here(Box::new(trimmer))
    }

    /// Does it trim on the thread that asks for it?
    pub(super) fn is_here(&self) -> bool {
        matches!(self, Self::Here(_))
    }

    /// For a test: what trims here.
    #[cfg(test)]
    pub(super) fn trimmer(&self) -> Option<&Trimmer> {
        if let Self::Here(trimmer) = self { Some(trimmer) } else { None }
    }

    /// Moves trimming to its own thread, which ends with the store.
    ///
    /// # Errors
    /// If the system grants none.
    pub(super) fn move_out(&mut self) -> std::io::Result<()> {
        let trimmer = match std::mem::replace(self, Self::Nowhere) {
            Self::Here(trimmer) => trimmer,
            elsewhere => {
                *self = elsewhere;
                return Ok(());
            }
        };
        let key_bytes = trimmer.key_bytes_of_all().unwrap_or_default();
        let board =
            Board { trim: None, outbox_rows_max: None, has_forgotten: false, outbox_gone: Vec::new(), key_bytes };
        let board = Arc::new(Mutex::new(board));
        // The thread finds orders that come while it works on the board.
        let (wanted, asked) = bounded(1);
        let shown = Arc::clone(&board);
        thread::Builder::new().name("trim".into()).spawn(move || run(&trimmer, &asked, &shown))?;
        *self = Self::Beside(Beside { wanted, board });
        Ok(())
    }

    /// The weight of all keys, as of the last check.
    pub(super) fn key_bytes(&self) -> Result<u64, StoreError> {
        match self {
            Self::Here(trimmer) => trimmer.key_bytes_of_all(),
            Self::Beside(beside) => Ok(lock(&beside.board).key_bytes),
            Self::Nowhere => Ok(0),
        }
    }

    /// See [`Store::trim`](crate::log::store::Store::trim). After a trim on its own thread, the revisions of projects
    /// tell which have become empty, as to every other node.
    pub(super) fn trim(&mut self, retention: &Retention, now: Times) -> Result<Trimmed, StoreError> {
        match self {
            Self::Here(trimmer) => trimmer.let_go(retention, now),
            Self::Beside(beside) => Ok(beside.trim(retention, now)),
            Self::Nowhere => Ok(Trimmed::default()),
        }
    }

    /// See [`Store::trim_outbox`](crate::log::store::Store::trim_outbox).
    pub(super) fn trim_outbox(&mut self, rows_max: u64) -> Result<Vec<(Arc<str>, u64)>, StoreError> {
        match self {
            Self::Here(trimmer) => trimmer.let_due_go(rows_max),
            Self::Beside(beside) => Ok(beside.trim_outbox(rows_max)),
            Self::Nowhere => Ok(Vec::new()),
        }
    }
}

impl Beside {
    fn trim(&self, retention: &Retention, now: Times) -> Trimmed {
        let mut board = lock(&self.board);
        board.trim = Some((*retention, now));
        let has_forgotten = std::mem::take(&mut board.has_forgotten);
        let trimmed = Trimmed { has_forgotten, key_bytes: board.key_bytes, ..Trimmed::default() };
        drop(board);
        self.ask();
        trimmed
    }

    fn trim_outbox(&self, rows_max: u64) -> Vec<(Arc<str>, u64)> {
        let mut board = lock(&self.board);
        board.outbox_rows_max = Some(rows_max);
        let gone = std::mem::take(&mut board.outbox_gone);
        drop(board);
        self.ask();
        gone
    }

    /// A thread that has ended has panicked; the owner of the log's threads reports that.
    fn ask(&self) {
        match self.wanted.try_send(()) {
            Ok(()) | Err(TrySendError::Full(())) => {}
            Err(TrySendError::Disconnected(())) => panic!("the thread that trims has panicked"),
        }
    }
}

fn run(trimmer: &Trimmer, asked: &Receiver<()>, board: &Mutex<Board>) {
    while asked.recv().is_ok() {
        while let (Some(_), _) | (_, Some(_)) = work(trimmer, board) {
            // Continues after a pause: the engine serves others, too.
            match asked.recv_timeout(PAUSE) {
                Ok(()) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }
}

/// Does what is wanted, a slice of it: what is wanted still, or again. What can't be done now is there at the next time.
fn work(trimmer: &Trimmer, board: &Mutex<Board>) -> (Option<(Retention, Times)>, Option<u64>) {
    let (trim, rows_max) = {
        let mut board = lock(board);
        (board.trim.take(), board.outbox_rows_max.take())
    };
    let trimmed = trim.map(|(retention, now)| trimmer.let_go(&retention, now));
    let gone = rows_max.map(|rows_max| trimmer.let_due_go(rows_max));
    let mut board = lock(board);
    match trimmed {
        Some(Ok(trimmed)) => {
            board.has_forgotten |= trimmed.has_forgotten;
            board.key_bytes = trimmed.key_bytes;
            if trimmed.is_more {
                board.trim = board.trim.or(trim);
            }
        }
        Some(Err(error)) => log::debug!("cannot trim history: {error}"),
        None => {}
    }
    match gone {
        Some(Ok(gone)) => board.outbox_gone.extend(gone),
        Some(Err(error)) => log::debug!("cannot trim the outbox: {error}"),
        None => {}
    }
    (board.trim, board.outbox_rows_max)
}

fn lock(board: &Mutex<Board>) -> MutexGuard<'_, Board> {
    board.lock().unwrap_or_else(PoisonError::into_inner)
}
