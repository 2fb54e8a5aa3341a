//! Events for webhooks: an event is stored in the same commit as the message that causes it.
//!
//! Another thread sends it. The journal says that there is an event ([`Outcome::has_due`](super::Outcome)), and stores
//! the outcome.

use super::Journal;
use super::batch::{Batch, PartIndex};
use crate::log::store::{Due, OutboxChange, RunNumber, StoreError, Write};
use crate::model::{Notable, Now, ProjectId, RunEvent};

impl Journal {
    /// Adds an event of a run to the outbox of every webhook that subscribes to it.
    pub(super) fn tell(
        &mut self,
        part: PartIndex,
        (project, number, seq): (&ProjectId, RunNumber, u64),
        event: &RunEvent,
        batch: &mut Batch,
    ) {
        let Some(notable) = Notable::of(event) else { return };
        for filter in self.webhooks.filters.iter().filter(|filter| filter.wants(notable, project)) {
            let due = Due {
                webhook: filter.name.clone(),
                project: project.clone(),
                run: event.run_id.clone(),
                number,
                seq,
                notable,
                at: event.timestamp,
            };
            batch.write(part, Write::Outbox(OutboxChange::Due(Box::new(due))));
            batch.has_due = true;
        }
    }

    /// Drops events beyond the limit. If that fails, there are only more than there should be.
    pub(super) fn trim_outbox(&mut self) {
        match self.store.trim_outbox(self.webhooks.rows_max) {
            Ok(gone) => {
                for (webhook, rows) in gone {
                    self.webhooks_dropped += rows;
                    log::warn!(
                        "webhook {webhook}: too many events are queued (limit {}, limits.webhook_events); dropped the \
                         {rows} oldest",
                        self.webhooks.rows_max
                    );
                }
            }
            Err(error) => log::debug!("cannot trim the outbox: {error}"),
        }
    }

    /// Gives up what waits for webhooks that there are no more. Where other nodes are alive they may have them: in a change of
    /// the configuration one node after the other starts with another.
    pub(super) fn let_former_webhooks_go(&mut self, now: Now) -> Result<(), StoreError> {
        let is_former = |name: &str| !self.webhooks.filters.iter().any(|filter| *filter.name == *name);
        let former: Vec<_> = self.store.outbox()?.into_iter().filter(|(name, _)| is_former(name)).collect();
        if former.is_empty() || !self.store.is_alone()? {
            return Ok(());
        }
        for (webhook, rows) in &former {
            log::warn!("webhook {webhook} is no longer declared; dropped {rows} events queued for it");
        }
        let changes = former.into_iter().map(|(webhook, _)| Write::Outbox(OutboxChange::LetGo(webhook)));
        self.store.append(&[], &changes.collect::<Vec<_>>(), now.wall).map_err(|error| StoreError(format!("{error:?}")))
    }
}
