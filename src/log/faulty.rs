//! A disk for tests: it outlives the journals that write to it, fails on command, and can be shared by several nodes,
//! with an [`Engine`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use super::fake_engine::{Engine, Identity};
use super::store::{
    AppendError, BeatError, DueRow, DueTimes, Ends, Flow, Head, History, KEY_AGE_MS, KeyRow, Objection, PlanCounts,
    PlanRow, Reader, Recovered, RecoveredProject, Retention, RunNumber, RunRow, Standing, Store, StoreError,
    StoredMessage, StoredOutput, Times, Trimmed, WantedPlans, Write,
};
use crate::auth::TicketNote;
use crate::model::{OutputStream, PlanName, ProjectId, RunId, RunStatus, StepId, Timestamp};

/// What a store is called for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Append,
    Trim,
    Probe,
    Recover,
    Read,
}

impl Call {
    /// Everything that changes something.
    pub(crate) const WRITES: &[Self] = &[Self::Append, Self::Trim, Self::Probe];

    /// Everything.
    pub(crate) const ALL: &[Self] = &[Self::Append, Self::Trim, Self::Probe, Self::Recover, Self::Read];
}

/// Which calls fail.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// None.
    Never,
    /// Of the calls of these kinds the `first`, counted from 1 from when this was set, and this many after it.
    At { of: &'static [Call], first: u64, more: u64 },
    /// All of these kinds.
    Always(&'static [Call]),
    /// No call, but what has such a thing in it is refused.
    Refuses(fn(&Write) -> bool),
    /// The same, because it contradicts what is kept.
    Contradicts(fn(&Write) -> bool),
    /// Such a thing is refused, and of the calls of these kinds this one fails, counted from 1.
    RefusesAndFails { is_refused: fn(&Write) -> bool, of: &'static [Call], at: u64 },
}

/// See the top of this file. A clone is the same disk.
pub(crate) struct Disk<S> {
    shared: Arc<Mutex<Shared<S>>>,
}

/// What a journal is given of a [`Disk`]: what it drops of it is not lost.
pub(crate) struct FaultyStore<S> {
    shared: Arc<Mutex<Shared<S>>>,
    node: Identity,
}

/// What another does meanwhile.
pub(crate) type Interruption = Box<dyn FnOnce() + Send>;

/// A way to read a [`Disk`] beside a journal: it fails when that does.
pub(crate) struct FaultyReader<S> {
    shared: Arc<Mutex<Shared<S>>>,
    reader: Box<dyn Reader>,
}

impl<S: Store + Send> Reader for FaultyReader<S> {
    fn look(&mut self, look: &mut dyn FnMut(&dyn History) -> Result<(), StoreError>) -> Result<(), StoreError> {
        lock(&self.shared).admit(Call::Read)?;
        self.reader.look(look)
    }
}

pub(super) struct Shared<S> {
    pub(super) store: S,
    /// Where nodes share it.
    pub(super) engine: Option<Engine>,
    /// The store's own may forget them.
    tickets: Vec<TicketNote>,
    fault: Fault,
    /// Calls that the fault looked at.
    seen: u64,
    failed: u64,
    conflicts: u64,
    /// What happens before the next appends.
    interruptions: VecDeque<Interruption>,
    /// Documents that came with what was read of projects.
    documents: u64,
    /// What happens while all is read the next time.
    delay: Option<Interruption>,
    /// Which node has taken on which run.
    pub(super) nodes: BTreeMap<RunNumber, usize>,
}

impl<S> Clone for Disk<S> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<S: Store> Disk<S> {
    pub(crate) fn new(store: S) -> Self {
        let (tickets, interruptions, delay, nodes, engine) = Default::default();
        let (seen, failed, conflicts, documents) = Default::default();
        let shared = Shared {
            store,
            engine,
            tickets,
            fault: Fault::Never,
            seen,
            failed,
            conflicts,
            interruptions,
            documents,
            delay,
            nodes,
        };
        Self { shared: Arc::new(Mutex::new(shared)) }
    }

    /// For one more journal.
    pub(crate) fn store(&self) -> FaultyStore<S> {
        self.store_of(0)
    }

    /// For one more journal, of this node.
    pub(crate) fn store_of(&self, node: usize) -> FaultyStore<S> {
        self.store_as(&Arc::new(AtomicUsize::new(node)))
    }

    /// For one more journal, of a node that may join again as another.
    pub(crate) fn store_as(&self, identity: &Identity) -> FaultyStore<S> {
        FaultyStore { shared: self.shared.clone(), node: identity.clone() }
    }

    /// Does something with all of it.
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut Shared<S>) -> T) -> T {
        act(&mut lock(&self.shared))
    }

    /// One of these happens just before each of the next appends.
    pub(crate) fn interrupt(&self, with: impl IntoIterator<Item = Interruption>) {
        lock(&self.shared).interruptions.extend(with);
    }

    /// This happens while all is read the next time.
    pub(crate) fn delay(&self, with: Interruption) {
        lock(&self.shared).delay = Some(with);
    }

    /// Nothing comes in between any more.
    pub(crate) fn let_through(&self) {
        lock(&self.shared).interruptions.clear();
    }

    /// What it holds is found in this store from now on.
    pub(crate) fn replace(&self, store: S) {
        lock(&self.shared).store = store;
    }

    /// For one who reads beside a journal.
    pub(crate) fn reader(&self) -> FaultyReader<S> {
        let reader = self.look(|store| store.reader()).expect("it can be read").expect("by others too");
        FaultyReader { shared: self.shared.clone(), reader }
    }

    /// From now on calls fail in this way.
    pub(crate) fn set(&self, fault: Fault) {
        let mut shared = lock(&self.shared);
        (shared.fault, shared.seen) = (fault, 0);
    }

    /// Calls that the fault has looked at since it was set.
    pub(crate) fn seen(&self) -> u64 {
        lock(&self.shared).seen
    }

    /// Calls that have failed so far.
    pub(crate) fn failed(&self) -> u64 {
        lock(&self.shared).failed
    }

    /// Appends that others had come before since this was asked last.
    pub(crate) fn conflicts(&self) -> u64 {
        std::mem::take(&mut lock(&self.shared).conflicts)
    }

    /// Documents that came with what was read of projects since this was asked last.
    pub(crate) fn documents(&self) -> u64 {
        std::mem::take(&mut lock(&self.shared).documents)
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

    fn me(&self) -> usize {
        self.node.load(Ordering::SeqCst)
    }
}

impl<S: Store> Shared<S> {
    /// The project of a run or a key whose place is taken.
    fn taken<'w>(&self, write: &'w Write) -> Option<&'w ProjectId> {
        match write {
            Write::RunCreated { number, project, row } => {
                let has_run = self.store.run_number(project, &row.run).is_ok_and(|taken| taken.is_some());
                let is_newest = match &self.engine {
                    Some(_) => !self.nodes.contains_key(number),
                    None => self.nodes.last_key_value().is_none_or(|(newest, _)| newest < number),
                };
                (has_run || !is_newest).then_some(project)
            }
            Write::Key(row) => {
                let bound = self.store.key(&row.project, &row.name).ok()??;
                (row.at.millis_since(bound.at) <= KEY_AGE_MS).then_some(&row.project)
            }
            _ => None,
        }
    }

    /// As a store of several writers does: see [`Store::append`].
    fn append(
        &mut self,
        node: usize,
        expected: &[Head],
        entries: &[Write],
        wall: Timestamp,
    ) -> Result<(), AppendError> {
        let revision = |project: &ProjectId| self.engine.as_ref().map_or(0, |engine| engine.revision(project));
        let newest = |project: &ProjectId| self.store.newest(project).expect("nothing fails below");
        let is_at = |head: &&Head| (newest(&head.project), revision(&head.project)) == (head.newest, head.revision);
        let moved = expected.iter().filter(|head| !is_at(head)).map(|head| &head.project);
        let mut conflicts: BTreeSet<_> = moved.chain(entries.iter().filter_map(|write| self.taken(write))).collect();
        if let Some(engine) = &self.engine {
            engine.admit(node)?;
            conflicts.extend(engine.drained_before(expected, entries));
        }
        if !conflicts.is_empty() {
            let head = |project: &ProjectId| Head {
                newest: newest(project),
                project: project.clone(),
                revision: revision(project),
            };
            return Err(AppendError::Conflict(conflicts.into_iter().map(head).collect()));
        }
        let spent = self.engine.as_ref().map(|engine| engine.spent_before(entries)).unwrap_or_default();
        if !spent.is_empty() {
            return Err(AppendError::Spent(spent));
        }
        self.store.append(expected, entries, wall)?;
        if let Some(engine) = &mut self.engine {
            engine.keep(node, expected, entries);
        }
        for write in entries {
            match write {
                Write::Ticket(note) => self.tickets.push(note.clone()),
                Write::RunCreated { number, .. } => drop(self.nodes.insert(*number, node)),
                _ => {}
            }
        }
        Ok(())
    }
}

impl<S> Shared<S> {
    pub(super) fn admit(&mut self, call: Call) -> Result<(), StoreError> {
        let fails = match self.fault {
            Fault::Never | Fault::Refuses(_) | Fault::Contradicts(_) => false,
            Fault::At { of, first, more } => {
                self.seen += u64::from(of.contains(&call));
                of.contains(&call) && (first..=first.saturating_add(more)).contains(&self.seen)
            }
            Fault::RefusesAndFails { of, at, .. } => {
                self.seen += u64::from(of.contains(&call));
                of.contains(&call) && self.seen == at
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
    fn append(&mut self, expected: &[Head], entries: &[Write], wall: Timestamp) -> Result<(), AppendError> {
        // Nothing comes in between what comes in between.
        let mut interruptions = std::mem::take(&mut lock(&self.shared).interruptions);
        if let Some(interrupt) = interruptions.pop_front() {
            interrupt();
        }
        lock(&self.shared).interruptions = interruptions;
        let mut shared = self.call(Call::Append)?;
        if let Fault::Refuses(is_refused) | Fault::RefusesAndFails { is_refused, .. } = shared.fault
            && entries.iter().any(is_refused)
        {
            shared.failed += 1;
            return Err(AppendError::Refused(Objection::TooLarge(StoreError(
                "it is too large in this test".to_owned(),
            ))));
        }
        if let Fault::Contradicts(is_contradiction) = shared.fault
            && entries.iter().any(is_contradiction)
        {
            let why = StoreError("it is there already in this test".to_owned());
            return Err(AppendError::Refused(Objection::Contradiction(why)));
        }
        let appended = shared.append(self.me(), expected, entries, wall);
        shared.conflicts += u64::from(matches!(appended, Err(AppendError::Conflict(_))));
        appended
    }

    fn trim(&mut self, retention: &Retention, now: Times) -> Result<Trimmed, StoreError> {
        self.call(Call::Trim)?.store.trim(retention, now)
    }

    fn trim_outbox(&mut self, rows_max: u64) -> Result<Vec<(Arc<str>, u64)>, StoreError> {
        self.call(Call::Trim)?.store.trim_outbox(rows_max)
    }

    fn is_alone(&self) -> Result<bool, StoreError> {
        let shared = lock(&self.shared);
        Ok(shared.engine.as_ref().is_none_or(|engine| engine.is_alone(self.me())))
    }

    fn probe(&mut self) -> Result<(), BeatError> {
        let mut shared = self.call(Call::Probe)?;
        if let Some(engine) = &mut shared.engine {
            engine.admit(self.me()).map_err(|_| BeatError::Fenced)?;
            engine.probe(self.me());
        }
        shared.store.probe()
    }

    fn recover(&self) -> Result<Recovered, StoreError> {
        let delay = lock(&self.shared).delay.take();
        delay.into_iter().for_each(|wait| wait());
        let shared = self.call(Call::Recover)?;
        let mut recovered = shared.store.recover()?;
        for run in &mut recovered.open_runs {
            run.is_foreign = shared.nodes.get(&run.number).is_some_and(|node| *node != self.me());
        }
        if let Some(engine) = &shared.engine {
            recovered.projects.iter_mut().for_each(|it| it.revision = engine.revision(&it.project));
            let newest = shared.nodes.last_key_value().map(|(newest, _)| newest.0.saturating_add(1));
            recovered.next_run_number = newest.unwrap_or(recovered.next_run_number);
        }
        Ok(recovered)
    }

    fn recover_projects(&self, projects: &[ProjectId], known: &[RunNumber]) -> Result<Recovered, StoreError> {
        let recovered = self.recover()?.of(projects, known);
        let documents = recovered.open_runs.iter().filter(|run| run.document.is_some()).count();
        lock(&self.shared).documents += documents as u64;
        Ok(recovered)
    }

    fn remains(&self, project: &ProjectId) -> Result<Option<RecoveredProject>, StoreError> {
        let shared = self.call(Call::Read)?;
        let mut remains = shared.store.remains(project)?;
        if let (Some(remains), Some(engine)) = (&mut remains, &shared.engine) {
            remains.revision = engine.revision(project);
        }
        Ok(remains)
    }

    fn is_shared(&self) -> bool {
        lock(&self.shared).engine.is_some()
    }

    fn rejoin(&mut self) -> Result<(), StoreError> {
        self.call(Call::Probe)?.engine.as_mut().map(Engine::join).into_iter().for_each(|node| {
            self.node.store(node, Ordering::SeqCst);
        });
        Ok(())
    }

    fn reader(&self) -> Result<Option<Box<dyn Reader>>, StoreError> {
        self.call(Call::Read)?.store.reader()
    }

    fn standings_after(&self, after: Option<&ProjectId>, limit: usize) -> Result<Vec<Standing>, StoreError> {
        let recovered = self.recover()?.projects.into_iter();
        let behind = recovered.filter(|it| after.is_none_or(|after| it.project > *after)).take(limit);
        let standing =
            |it: RecoveredProject| Standing { project: it.project, newest: it.newest, revision: it.revision };
        Ok(behind.map(standing).collect())
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

    /// Fails in the middle, after the first of them.
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

    fn messages_before(
        &self,
        project: &ProjectId,
        before: u64,
        each: &mut dyn FnMut(&StoredMessage) -> Flow,
    ) -> Result<(), StoreError> {
        self.call(Call::Read)?.store.messages_before(project, before, each)
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

    fn items(
        &self,
        number: RunNumber,
        step: &StepId,
        from: u32,
        each: &mut dyn FnMut(u32, &[u8]) -> Flow,
    ) -> Result<(), StoreError> {
        self.call(Call::Read)?.store.items(number, step, from, each)
    }

    fn outbox(&self) -> Result<Vec<(Arc<str>, u64)>, StoreError> {
        self.call(Call::Read)?.store.outbox()
    }

    fn due(&self, webhook: &str, times: DueTimes, each: &mut dyn FnMut(&DueRow) -> Flow) -> Result<(), StoreError> {
        self.call(Call::Read)?.store.due(webhook, times, each)
    }

    fn next_due(&self, webhook: &str, times: DueTimes) -> Result<Option<Timestamp>, StoreError> {
        self.call(Call::Read)?.store.next_due(webhook, times)
    }

    fn plans(&self, wanted: WantedPlans<'_>, each: &mut dyn FnMut(&PlanRow) -> Flow) -> Result<(), StoreError> {
        self.call(Call::Read)?.store.plans(wanted, each)
    }

    fn plan_document(&self, project: &ProjectId, name: &PlanName) -> Result<Option<Arc<[u8]>>, StoreError> {
        self.call(Call::Read)?.store.plan_document(project, name)
    }

    fn plan_counts(&self, project: &ProjectId) -> Result<PlanCounts, StoreError> {
        self.call(Call::Read)?.store.plan_counts(project)
    }
}
