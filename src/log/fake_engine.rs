//! What makes a test's disk one that several nodes share: leases on a clock of its own, fences, revisions, wishes, and what
//! applications publish. And the other two ways to it that a node has, which are told things late, in parts, or never.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::faulty::{Call, Disk};
use super::store::{
    AppendError, Beat, BeatError, Flow, Followed, Head, Hints, Lease, Outgoing, RunNumber, Standing, Store, StoreError,
    Tail, WishId, WishRow, Wishes, Write,
};
use crate::model::ProjectId;

/// How long a node is thought to be alive that says nothing, in milliseconds.
pub(crate) const TTL_MS: u64 = 15_000;

/// Who a node is: another from when it joins again.
pub(crate) type Identity = Arc<AtomicUsize>;

/// The answer to a wish, where there is one.
type KeptAnswer = Option<Arc<[u8]>>;

/// See the top of this file.
#[derive(Default)]
pub(crate) struct Engine {
    now_ms: u64,
    /// Those that were alive when they were heard of last, and until when they are.
    nodes: BTreeMap<usize, u64>,
    newest_node: usize,
    pub(super) revisions: BTreeMap<ProjectId, u64>,
    spent: BTreeSet<String>,
    outgoing: BTreeMap<u64, Outgoing>,
    newest_outgoing: u64,
    wishes: BTreeMap<WishId, (WishRow, KeptAnswer)>,
    /// Who has written each message.
    authors: BTreeMap<(ProjectId, u64), usize>,
    /// The project of each run.
    runs: BTreeMap<RunNumber, ProjectId>,
    probes: BTreeMap<usize, u64>,
    /// To see that tests fail where a rule is broken.
    pub(crate) is_without_fences: bool,
}

impl Engine {
    pub(super) fn join(&mut self) -> usize {
        self.newest_node += 1;
        self.nodes.insert(self.newest_node, self.now_ms + TTL_MS);
        self.newest_node
    }

    pub(super) fn is_alone(&self, node: usize) -> bool {
        !self.nodes.keys().any(|other| *other != node && self.is_alive(*other))
    }

    /// The node says that it is alive.
    fn renew(&mut self, node: usize) -> Result<(), BeatError> {
        if !self.is_alive(node) && !self.is_without_fences {
            return Err(BeatError::Fenced);
        }
        self.nodes.insert(node, self.now_ms + TTL_MS);
        Ok(())
    }

    fn is_alive(&self, node: usize) -> bool {
        self.nodes.get(&node).is_some_and(|until| *until > self.now_ms)
    }

    pub(super) fn admit(&self, node: usize) -> Result<(), AppendError> {
        match self.is_alive(node) || self.is_without_fences {
            true => Ok(()),
            false => Err(AppendError::Fenced),
        }
    }

    pub(super) fn revision(&self, project: &ProjectId) -> u64 {
        self.revisions.get(project).copied().unwrap_or_default()
    }

    /// The projects of what is to be drained and waits no more.
    pub(super) fn drained_before<'h>(&self, expected: &'h [Head], entries: &[Write]) -> Vec<&'h ProjectId> {
        let ids = entries.iter().filter_map(|write| match write {
            Write::Drained(ids) => Some(ids.iter()),
            _ => None,
        });
        let is_gone = ids.flatten().any(|id| !self.outgoing.contains_key(id));
        expected.iter().map(|head| &head.project).filter(|_| is_gone).collect()
    }

    /// Places of tickets that were spent before.
    pub(super) fn spent_before(&self, entries: &[Write]) -> Vec<usize> {
        let places = entries.iter().enumerate();
        let spent = places.filter(|(_, write)| nonce(write).is_some_and(|nonce| self.spent.contains(&nonce)));
        spent.map(|(place, _)| place).collect()
    }

    /// What is kept is noted.
    pub(super) fn keep(&mut self, node: usize, expected: &[Head], entries: &[Write]) {
        let mut raised = BTreeSet::new();
        for write in entries {
            match write {
                Write::Message(message, project) => {
                    self.authors.insert((project.clone(), message.seq), node);
                }
                Write::RunCreated { number, project, .. } => {
                    self.runs.insert(*number, project.clone());
                    raised.insert(project.clone());
                }
                Write::Document { number, .. } | Write::CancelRequested(number) => {
                    raised.insert(self.runs[number].clone());
                }
                Write::Plan(change) => drop(raised.insert(change.name().0.clone())),
                Write::Drained(ids) => ids.iter().for_each(|id| drop(self.outgoing.remove(id))),
                Write::Wish(row) => drop(self.wishes.insert(row.id, ((**row).clone(), None))),
                Write::WishAnswered { id, answer } => {
                    if let Some((_, kept)) = self.wishes.get_mut(id) {
                        *kept = Some(answer.clone());
                    }
                }
                write => self.spent.extend(nonce(write)),
            }
        }
        for project in raised {
            assert!(expected.iter().any(|head| head.project == project), "{project} is revised and not expected");
            *self.revisions.entry(project).or_default() += 1;
        }
    }
}

impl Engine {
    pub(super) fn probe(&mut self, node: usize) {
        *self.probes.entry(node).or_default() += 1;
    }
}

/// What tells a ticket from others, where it is spent.
fn nonce(write: &Write) -> Option<String> {
    let Write::Ticket(note) = write else { return None };
    let note = serde_json::to_value(note).expect("JSON");
    (note["kind"] == "spent").then(|| note["nonce"].to_string())
}

impl<S: Store> Disk<S> {
    /// One that several nodes share.
    pub(crate) fn shared_by_nodes(store: S) -> Self {
        let disk = Self::new(store);
        disk.with(|shared| shared.engine = Some(Engine::default()));
        disk
    }

    /// Looks at what nodes have of it.
    pub(crate) fn engine<T>(&self, look: impl FnOnce(&mut Engine) -> T) -> T {
        self.with(|shared| look(shared.engine.as_mut().expect("it is shared")))
    }

    /// A node joins.
    pub(crate) fn join(&self) -> Identity {
        Arc::new(AtomicUsize::new(self.engine(Engine::join)))
    }

    pub(crate) fn pass_ms(&self, ms: u64) {
        self.engine(|engine| engine.now_ms += ms);
    }

    /// An application publishes something in a transaction of its own: its number.
    pub(crate) fn publish(&self, project: &ProjectId, payload: String) -> u64 {
        self.engine(|engine| {
            engine.newest_outgoing += 1;
            let (id, message_type) = (engine.newest_outgoing, "note".to_owned());
            let outgoing = Outgoing { id, project: project.clone(), message_type, payload: payload.into_bytes() };
            engine.outgoing.insert(id, outgoing);
            id
        })
    }

    /// What applications have published and nobody has numbered.
    pub(crate) fn outgoing(&self) -> usize {
        self.engine(|engine| engine.outgoing.len())
    }

    /// Who wrote a message, and whose each run is.
    pub(crate) fn author(&self, project: &ProjectId, seq: u64) -> usize {
        self.engine(|engine| engine.authors[&(project.clone(), seq)])
    }

    pub(crate) fn owner(&self, number: RunNumber) -> Option<usize> {
        self.with(|shared| shared.nodes.get(&number).copied())
    }

    pub(crate) fn lease(&self, identity: &Identity) -> FakeLease<S> {
        FakeLease { disk: self.clone(), identity: identity.clone() }
    }

    pub(crate) fn tail(&self, identity: &Identity, bytes_max: usize) -> FakeTail<S> {
        FakeTail { disk: self.clone(), identity: identity.clone(), messages_max: bytes_max }
    }
}

/// See [`Lease`].
pub(crate) struct FakeLease<S> {
    disk: Disk<S>,
    identity: Identity,
}

impl<S: Store> Lease for FakeLease<S> {
    fn beat(&mut self) -> Result<Beat, BeatError> {
        let me = self.identity.load(Ordering::SeqCst);
        self.disk.with(|shared| {
            shared.admit(Call::Probe)?;
            let engine = shared.engine.as_mut().expect("it is shared");
            engine.renew(me)?;
            let now_ms = engine.now_ms;
            let alive = engine.nodes.len();
            engine.nodes.retain(|_, until| *until > now_ms);
            let (nodes, dead) = (engine.nodes.len() as u64, (alive - engine.nodes.len()) as u64);
            let living: BTreeSet<_> = engine.nodes.keys().copied().collect();
            let (mut taken_over, open) = (Vec::new(), shared.store.recover()?.open_runs);
            for run in open {
                let owner = shared.nodes.get_mut(&run.number).expect("each has one");
                if !living.contains(owner) {
                    *owner = me;
                    taken_over.push(run.project);
                }
            }
            taken_over.sort_unstable();
            taken_over.dedup();
            Ok(Beat { taken_over, nodes, dead })
        })
    }

    fn renew(&mut self) -> Result<Beat, BeatError> {
        let me = self.identity.load(Ordering::SeqCst);
        self.disk.with(|shared| {
            shared.admit(Call::Probe)?;
            shared.engine.as_mut().expect("it is shared").renew(me)?;
            Ok(Beat::default())
        })
    }

    fn wake(&mut self, _projects: &[ProjectId], _has_wishes: bool) -> Result<(), StoreError> {
        Ok(())
    }

    fn leave(&mut self) -> Result<(), StoreError> {
        let me = self.identity.load(Ordering::SeqCst);
        self.disk.engine(|engine| engine.nodes.remove(&me));
        Ok(())
    }
}

/// See [`Tail`]. It is never woken: who asks it finds what there is.
pub(crate) struct FakeTail<S> {
    disk: Disk<S>,
    identity: Identity,
    /// Messages of a project that are told at once.
    pub(crate) messages_max: usize,
}

impl<S: Store> Tail for FakeTail<S> {
    fn wait(&mut self, _up_to: Duration) -> Result<Hints, StoreError> {
        Ok(Hints::default())
    }

    fn changes_since(&mut self, standings: &[Standing], _bytes_max: usize) -> Result<Vec<Followed>, StoreError> {
        self.disk.with(|shared| {
            shared.admit(Call::Read)?;
            let mut all = Vec::new();
            for Standing { project, newest, revision } in standings {
                let now = shared.engine.as_ref().expect("it is shared").revision(project);
                if (shared.store.newest(project)?, now) == (*newest, *revision) {
                    continue;
                }
                let mut messages = Vec::new();
                shared.store.messages(project, *newest, None, &mut |message| {
                    messages.push(message.clone());
                    if messages.len() < self.messages_max { Flow::More } else { Flow::Stop }
                })?;
                all.push(Followed { project: project.clone(), revision: now, messages });
            }
            Ok(all)
        })
    }

    fn wishes(&mut self, waiting: &[WishId]) -> Result<Wishes, StoreError> {
        let me = self.identity.load(Ordering::SeqCst);
        self.disk.with(|shared| {
            shared.admit(Call::Read)?;
            let engine = shared.engine.as_ref().expect("it is shared");
            let rows = engine.wishes.values();
            let open = rows.filter(|(row, answer)| answer.is_none() && shared.nodes.get(&row.number) == Some(&me));
            let answered = waiting.iter().filter_map(|id| {
                let (row, answer) = engine.wishes.get(id)?;
                let ended = shared.store.ends(row.number).ok()?.is_none_or(|ends| ends.last.is_some());
                let over = || ended.then(|| Arc::from([].as_slice()));
                Some((*id, answer.clone().or_else(over)?))
            });
            Ok(Wishes { open: open.map(|(row, _)| row.clone()).collect(), answered: answered.collect() })
        })
    }

    fn published(&mut self, max: usize, put_off: &[ProjectId]) -> Result<Vec<Outgoing>, StoreError> {
        self.disk.with(|shared| {
            shared.admit(Call::Read)?;
            let engine = shared.engine.as_ref().expect("it is shared");
            let wanted = engine.outgoing.values().filter(|it| !put_off.contains(&it.project));
            Ok(wanted.take(max).cloned().collect())
        })
    }

    fn probed(&self) -> u64 {
        let me = self.identity.load(Ordering::SeqCst);
        self.disk.engine(|engine| engine.probes.get(&me).copied().unwrap_or_default())
    }
}
