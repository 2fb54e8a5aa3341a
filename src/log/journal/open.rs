//! Opens a journal from a store, at a start.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use super::age::AgeClock;
use super::growth::Growth;
use super::heads::Touched;
use super::load::Loaded;
use super::numbers::Numbers;
use super::steering::Steerings;
use super::wishes::Wishes;
use super::{Journal, Limits, Outcome};
use crate::auth::IdSigner;
use crate::log::lookup::Lookup;
use crate::log::lookup::heads::Heads;
use crate::log::protocol::Webhooks;
use crate::log::store::{RunMap, RunSet, Store, StoreError};
use crate::model::{Now, Plan};

/// Makes a plan again of the document that was kept of it, or says why it can't.
pub type ReadPlan = Box<dyn Fn(&[u8]) -> Result<Plan, String> + Send>;

impl Journal {
    /// A journal over what `store` holds. `read_plan` makes a plan again of a [`Submission`](crate::log::Submission)'s
    /// document. What comes out besides are the runs to go on with, and what there is to tell about those that can't be
    /// gone on with: each of them has its last message now.
    ///
    /// # Errors
    /// If the store can't be read or written.
    pub fn open(
        store: Box<dyn Store>,
        signer: IdSigner,
        limits: Limits,
        read_plan: ReadPlan,
        now: Now,
    ) -> Result<(Self, Outcome), StoreError> {
        Self::open_telling(Webhooks::default(), store, signer, limits, read_plan, now)
    }

    /// The same with webhooks. Events that wait for a webhook which is no longer configured are dropped.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_telling(
        webhooks: Webhooks,
        store: Box<dyn Store>,
        signer: IdSigner,
        limits: Limits,
        read_plan: ReadPlan,
        now: Now,
    ) -> Result<(Self, Outcome), StoreError> {
        let is_shared = store.is_shared();
        let mut journal = Self {
            next_number: NonZeroU64::MIN,
            numbers: Numbers::new(),
            is_shared,
            fence: None,
            fences: 0,
            fresh: HashMap::new(),
            unfolded: RunSet::default(),
            standings: Arc::default(),
            look_around_at: now.mono,
            looked_at: None,
            spent: Vec::new(),
            untold: Loaded::default(),
            unreadable: Vec::new(),
            store,
            signer,
            limits,
            projects: HashMap::new(),
            runs: RunMap::default(),
            recent: BTreeMap::new(),
            ours: RunSet::default(),
            held: RunSet::default(),
            open_runs: 0,
            key_bytes: 0,
            clock: AgeClock::new(now),
            id_text: Vec::new(),
            json_text: Vec::new(),
            lookup: Lookup::default(),
            has_readers: false,
            read_plan,
            outage: None,
            is_stale: true,
            heads: Arc::new(Heads::default()),
            touched: Touched::default(),
            trim_at: Duration::ZERO,
            growth: Growth::default(),
            steerings: Steerings::default(),
            wishes: Wishes::default(),
            waits: RunMap::default(),
            webhooks,
            webhooks_dropped: 0,
        };
        journal.let_former_webhooks_go(now)?;
        let mut loaded = journal.read_anew(None, &RunSet::default(), now)?;
        journal.adopt(&mut loaded)?;
        let mut outcome = Outcome::default();
        outcome.orders.append(&mut loaded.orders);
        let unreadable = std::mem::take(&mut journal.unreadable);
        journal.end_unreadable(unreadable, now, &mut outcome)?;
        journal.publish_heads();
        Ok((journal, outcome))
    }

    /// A journal over an empty store in memory, for tests in which no plan is read again.
    #[cfg(test)]
    pub fn over_nothing(signer: IdSigner, limits: Limits, now: Now) -> Self {
        let no_plan = Box::new(|_: &[u8]| Err("no plan is kept here".to_owned()));
        let opened = Self::open(Box::new(crate::log::MemoryStore::new()), signer, limits, no_plan, now);
        opened.expect("memory does not fail").0
    }
}
