//! A disk for tests: it outlasts the journals that write to it, and fails when it is told to.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

use super::history::{Ends, History};
use super::store::{
    Flow, KeyRow, Retention, RunRow, Store, StoreError, StoredMessage, StoredOutput, Times, Trimmed, Write,
};
use super::{Recovered, RecoveredProject, RunNumber};
use crate::auth::TicketNote;
use crate::model::{OutputStream, ProjectId, RunId, RunStatus, StepId, Timestamp};

/// What a store is called for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Commit,
    Trim,
    Probe,
    Recover,
    Read,
}

impl Call {
    /// Everything that changes something.
    pub(crate) const WRITES: &[Self] = &[Self::Commit, Self::Trim, Self::Probe];

    /// Everything.
    pub(crate) const ALL: &[Self] = &[Self::Commit, Self::Trim, Self::Probe, Self::Recover, Self::Read];
}

/// Which calls fail.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// None.
    Never,
    /// Of the calls of these kinds the `first`, counted from 1 from when this was set, and this many behind it.
    At { of: &'static [Call], first: u64, more: u64 },
    /// All of these kinds.
    Always(&'static [Call]),
}

/// See the top of this file. A clone is the same disk.
pub(crate) struct Disk<S> {
    shared: Arc<Mutex<Shared<S>>>,
}

/// What a journal is given of a [`Disk`]: what it drops of it is not lost.
pub(crate) struct FaultyStore<S> {
    shared: Arc<Mutex<Shared<S>>>,
}

struct Shared<S> {
    store: S,
    /// The store's own may forget them.
    tickets: Vec<TicketNote>,
    fault: Fault,
    /// Calls that the fault looked at.
    seen: u64,
    failed: u64,
}

impl<S: Store> Disk<S> {
    pub(crate) fn new(store: S) -> Self {
        let shared = Shared { store, tickets: Vec::new(), fault: Fault::Never, seen: 0, failed: 0 };
        Self { shared: Arc::new(Mutex::new(shared)) }
    }

    /// For one more journal.
    pub(crate) fn store(&self) -> FaultyStore<S> {
        FaultyStore { shared: self.shared.clone() }
    }

    /// From now on calls fail in this way.
    pub(crate) fn set(&self, fault: Fault) {
        let mut shared = lock(&self.shared);
        (shared.fault, shared.seen) = (fault, 0);
    }

    /// Calls that have failed so far.
    pub(crate) fn failed(&self) -> u64 {
        lock(&self.shared).failed
    }

    /// What was kept of tickets, in the order in which it came.
    pub(crate) fn tickets(&self) -> Vec<TicketNote> {
        lock(&self.shared).tickets.clone()
    }

    /// Looks at what is kept; never fails.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&S) -> T) -> T {
        look(&lock(&self.shared).store)
    }
}

impl<S: Store> FaultyStore<S> {
    fn call(&self, call: Call) -> Result<MutexGuard<'_, Shared<S>>, StoreError> {
        let mut shared = lock(&self.shared);
        shared.admit(call).map(|()| shared)
    }
}

impl<S> Shared<S> {
    fn admit(&mut self, call: Call) -> Result<(), StoreError> {
        let fails = match self.fault {
            Fault::Never => false,
            Fault::At { of, first, more } => {
                self.seen += u64::from(of.contains(&call));
                of.contains(&call) && (first..=first.saturating_add(more)).contains(&self.seen)
            }
            Fault::Always(of) => of.contains(&call),
        };
        self.failed += u64::from(fails);
        if fails { Err(StoreError(format!("{call:?} fails in this test"))) } else { Ok(()) }
    }
}

fn lock<S>(shared: &Mutex<Shared<S>>) -> MutexGuard<'_, Shared<S>> {
    shared.lock().expect("nobody panics while they hold it")
}

impl<S: Store> Store for FaultyStore<S> {
    fn commit(&mut self, batch: &[Write], wall: Timestamp) -> Result<(), StoreError> {
        let mut shared = self.call(Call::Commit)?;
        shared.store.commit(batch, wall)?;
        let notes = batch.iter().filter_map(|write| match write {
            Write::Ticket(note) => Some(note.clone()),
            _ => None,
        });
        shared.tickets.extend(notes);
        Ok(())
    }

    fn trim(&mut self, retention: &Retention, now: Times) -> Result<Trimmed, StoreError> {
        self.call(Call::Trim)?.store.trim(retention, now)
    }

    fn probe(&mut self) -> Result<(), StoreError> {
        self.call(Call::Probe)?.store.probe()
    }

    fn recover(&self) -> Result<Recovered, StoreError> {
        self.call(Call::Recover)?.store.recover()
    }

    fn remains(&self, project: &ProjectId) -> Result<Option<RecoveredProject>, StoreError> {
        self.call(Call::Read)?.store.remains(project)
    }

    fn run(&self, number: RunNumber) -> Result<Option<RunRow>, StoreError> {
        self.call(Call::Read)?.store.run(number)
    }

    fn key(&self, project: &ProjectId, name: &str) -> Result<Option<KeyRow>, StoreError> {
        self.call(Call::Read)?.store.key(project, name)
    }

    fn key_bytes(&self, project: &ProjectId) -> Result<u64, StoreError> {
        self.call(Call::Read)?.store.key_bytes(project)
    }
}

impl<S: Store> History for FaultyStore<S> {
    fn newest(&self, project: &ProjectId) -> Result<u64, StoreError> {
        self.call(Call::Read)?.store.newest(project)
    }

    fn ends(&self, number: RunNumber) -> Result<Option<Ends>, StoreError> {
        self.call(Call::Read)?.store.ends(number)
    }

    fn floor(&self, project: &ProjectId) -> Result<u64, StoreError> {
        self.call(Call::Read)?.store.floor(project)
    }

    /// Fails in the middle, behind the first of them.
    fn messages(
        &self,
        project: &ProjectId,
        after: u64,
        run: Option<RunNumber>,
        each: &mut dyn FnMut(&StoredMessage) -> Flow,
    ) -> Result<(), StoreError> {
        let mut shared = lock(&self.shared);
        let admitted = shared.admit(Call::Read);
        let mut each = |message: &StoredMessage| match (each(message), &admitted) {
            (flow, Ok(())) => flow,
            (_, Err(_)) => Flow::Stop,
        };
        shared.store.messages(project, after, run, &mut each)?;
        admitted
    }

    fn ended_state(&self, number: RunNumber) -> Result<Option<Arc<[u8]>>, StoreError> {
        self.call(Call::Read)?.store.ended_state(number)
    }

    fn runs(
        &self,
        project: &ProjectId,
        before: Option<RunNumber>,
        ended_as: Option<RunStatus>,
        each: &mut dyn FnMut(RunNumber) -> Flow,
    ) -> Result<(), StoreError> {
        self.call(Call::Read)?.store.runs(project, before, ended_as, each)
    }

    fn ended_summary(&self, number: RunNumber) -> Result<Option<Arc<[u8]>>, StoreError> {
        self.call(Call::Read)?.store.ended_summary(number)
    }

    fn run_number(&self, project: &ProjectId, run: &RunId) -> Result<Option<RunNumber>, StoreError> {
        self.call(Call::Read)?.store.run_number(project, run)
    }

    fn document(&self, number: RunNumber) -> Result<Option<Arc<[u8]>>, StoreError> {
        self.call(Call::Read)?.store.document(number)
    }

    fn output(&self, number: RunNumber, step: &StepId) -> Result<Option<StoredOutput>, StoreError> {
        self.call(Call::Read)?.store.output(number, step)
    }

    fn output_bytes(
        &self,
        number: RunNumber,
        step: &StepId,
        stream: OutputStream,
        range: Range<u64>,
        to: &mut Vec<u8>,
    ) -> Result<(), StoreError> {
        self.call(Call::Read)?.store.output_bytes(number, step, stream, range, to)
    }

    fn whole_length(&self, number: RunNumber, step: &StepId) -> Result<Option<u64>, StoreError> {
        self.call(Call::Read)?.store.whole_length(number, step)
    }

    fn whole_bytes(
        &self,
        number: RunNumber,
        step: &StepId,
        range: Range<u64>,
        to: &mut Vec<u8>,
    ) -> Result<(), StoreError> {
        self.call(Call::Read)?.store.whole_bytes(number, step, range, to)
    }
}
