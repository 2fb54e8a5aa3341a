//! Messages that applications have published in their own database transactions. They are numbered here like any other
//! message, and removed from the waiting table in the same commit. If one of them is no longer waiting, another node
//! has numbered it; then none of that project are numbered now, and those that still wait are offered again.

use std::collections::BTreeMap;

use super::Journal;
use super::batch::Batch;
use super::commit::Said;
use crate::log::protocol::PublishedEvent;
use crate::log::store::{Outgoing, StoreError, Write};
use crate::model::{Now, ProjectId, is_valid_type};

impl Journal {
    /// Numbers the waiting messages, in their order.
    pub(super) fn drain<'a>(
        &mut self,
        outgoing: impl Iterator<Item = &'a Outgoing>,
        batch: &mut Batch,
        now: Now,
    ) -> Result<(), StoreError> {
        let mut drained: BTreeMap<&ProjectId, Vec<u64>> = BTreeMap::new();
        let mut known = batch.drained();
        for Outgoing { id, project, message_type, payload } in outgoing.filter(|it| known.insert(it.id)) {
            if !self.has_room_for(project) {
                if self.standings.put_off_project(project) {
                    log::warn!(
                        "messages published to the new project {project} wait: too many projects exist (limit {}, \
                         limits.projects)",
                        self.limits.projects
                    );
                }
                continue;
            }
            drained.entry(project).or_default().push(*id);
            if !is_valid_type(message_type) {
                log::error!("dropped a message published to {project}: its type is not valid");
                continue;
            }
            let event = PublishedEvent { message_type: message_type.clone(), payload: payload.clone() };
            self.number(project, Said::Published(&event), batch, now)?;
        }
        for (project, ids) in drained {
            let part = self.part(project, batch)?;
            batch.write(part, Write::Drained(ids.into()));
        }
        Ok(())
    }

    /// Looks for deferred messages again once there is room.
    pub(super) fn look_for_room(&self) {
        if self.is_shared && self.projects.len() < self.limits.projects {
            self.standings.put_off_none();
        }
    }

    /// A published message that the store will never accept: it is removed.
    pub(super) fn dropped(outgoing: &Outgoing) -> Outgoing {
        log::error!("dropped a message published to {}: the store rejects it", outgoing.project);
        let Outgoing { id, project, .. } = outgoing.clone();
        Outgoing { id, project, message_type: String::new(), payload: Vec::new() }
    }
}
