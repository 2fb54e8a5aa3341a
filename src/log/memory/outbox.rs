//! Events for webhooks, in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use crate::log::store::{Due, DueId, DueRow, DueTimes, Flow, OutboxChange};
use crate::model::Timestamp;

/// Everything that waits, webhook by webhook.
#[derive(Default)]
pub(super) struct Outbox {
    webhooks: BTreeMap<Arc<str>, Waiting>,
    /// The number of the newest row.
    newest: u64,
}

/// What waits for one webhook.
#[derive(Default)]
struct Waiting {
    rows: BTreeMap<DueId, DueRow>,
    /// By when they are to be tried.
    by_time: BTreeSet<(Timestamp, DueId)>,
}

impl Outbox {
    pub(super) fn change(&mut self, change: &OutboxChange) {
        match change {
            OutboxChange::Due(due) => self.add(due),
            OutboxChange::PutOff { id, attempts, next_at } => self.put_off(*id, *attempts, *next_at),
            OutboxChange::Done(id) => {
                for waiting in self.webhooks.values_mut() {
                    waiting.remove(*id);
                }
            }
            OutboxChange::LetGo(webhook) => drop(self.webhooks.remove(webhook)),
        }
    }

    /// Lets the oldest rows go of each webhook that has more than so many: how many.
    pub(super) fn trim(&mut self, rows_max: u64) -> Vec<(Arc<str>, u64)> {
        let mut gone = Vec::new();
        for (webhook, waiting) in &mut self.webhooks {
            let too_many = (waiting.rows.len() as u64).saturating_sub(rows_max);
            let oldest: Vec<_> = waiting.rows.keys().copied().take(too_many as usize).collect();
            oldest.iter().for_each(|id| drop(waiting.remove(*id)));
            if too_many > 0 {
                gone.push((webhook.clone(), too_many));
            }
        }
        gone
    }

    /// Calls `each` with what is due, what was put off least first.
    pub(super) fn due(&self, webhook: &str, times: DueTimes, each: &mut dyn FnMut(&DueRow) -> Flow) {
        let Some(waiting) = self.webhooks.get(webhook) else { return };
        let newest = DueId(u64::MAX);
        let due = waiting.by_time.range(..=(times.now, newest));
        let put_off = waiting.by_time.range((Bound::Excluded((times.horizon, newest)), Bound::Unbounded));
        for row in due.chain(put_off).filter_map(|(_, id)| waiting.rows.get(id)) {
            if each(row) == Flow::Stop {
                return;
            }
        }
    }

    /// When the next is to be tried that is not due.
    pub(super) fn next_due(&self, webhook: &str, times: DueTimes) -> Option<Timestamp> {
        let (next_at, _) = self.webhooks.get(webhook)?.by_time.range((times.now.plus_millis(1), DueId(0))..).next()?;
        (!times.has_come(*next_at)).then_some(*next_at)
    }

    /// The webhooks for which something waits, by their names, and how much.
    pub(super) fn counts(&self) -> Vec<(Arc<str>, u64)> {
        let counts = self.webhooks.iter().map(|(webhook, waiting)| (webhook.clone(), waiting.rows.len() as u64));
        counts.filter(|(_, rows)| *rows > 0).collect()
    }

    fn add(&mut self, due: &Due) {
        self.newest += 1;
        let (id, next_at) = (DueId(self.newest), due.at);
        let waiting = self.webhooks.entry(due.webhook.clone()).or_default();
        waiting.rows.insert(id, DueRow { id, due: due.clone(), attempts: 0, next_at });
        waiting.by_time.insert((next_at, id));
    }

    fn put_off(&mut self, id: DueId, attempts: u32, next_at: Timestamp) {
        for waiting in self.webhooks.values_mut() {
            let Some(row) = waiting.remove(id) else { continue };
            waiting.by_time.insert((next_at, id));
            waiting.rows.insert(id, DueRow { attempts, next_at, ..row });
        }
    }
}

impl Waiting {
    fn remove(&mut self, id: DueId) -> Option<DueRow> {
        let row = self.rows.remove(&id)?;
        self.by_time.remove(&(row.next_at, id));
        Some(row)
    }
}
