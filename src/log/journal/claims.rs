//! Calls that a client may repeat but that must be executed once: identified by an idempotency key, or by a run id
//! chosen by the caller.
//!
//! A call claims its names for a day, whatever happens to its run, and a repeated call gets the same answer. A name is
//! never forgotten earlier, because the run could be started a second time: if there is no room for more names, the
//! call is refused and can safely be repeated later. Calls without a name are not affected.

use std::sync::Arc;

use super::Journal;
use super::batch::Batch;
use crate::http::Problem;
use crate::log::protocol::{Answer, Claim, Refusal, Submission};
use crate::log::store::{KEY_AGE_MS, KeyRow, RunNumber, StoreError};
use crate::model::{Now, ProjectId};

/// The result of an earlier call.
pub(super) struct Earlier {
    pub(super) fingerprint: [u8; 32],
    pub(super) answer: Arc<[u8]>,
}

impl Earlier {
    /// The answer to a call with one of its names.
    pub(super) fn answer_to(&self, claim: &Claim) -> Answer {
        match claim.fingerprint.is(&self.fingerprint) {
            true => Answer::Accepted { body: self.answer.clone(), replayed: true },
            false => Answer::Refused(Refusal::KeyReused),
        }
    }
}

impl Journal {
    /// A call that can't be carried out is answered as the one that had its name, if there was one; else `otherwise`.
    pub(super) fn recall(&self, claim: &Claim, otherwise: Box<Problem>, now: Now) -> Result<Answer, StoreError> {
        let earlier = self.same_call(claim, &Batch::default(), now)?;
        Ok(earlier.map_or(Answer::Problem(otherwise), |earlier| earlier.answer_to(claim)))
    }

    /// What became of the call that had one of these names before.
    pub(super) fn same_call(&self, claim: &Claim, batch: &Batch, now: Now) -> Result<Option<Earlier>, StoreError> {
        for name in claim.names() {
            if let Some(row) = self.bound(&claim.project, &name, batch, now)? {
                return Ok(Some(Earlier { fingerprint: row.fingerprint, answer: row.answer }));
            }
        }
        let Some(run) = &claim.run else { return Ok(None) };
        // A run keeps its id as long as it is stored, which may be longer than a day.
        let number = match self.open_run(&claim.project, run) {
            Some(number) => Some(number),
            None => self.store.run_number(&claim.project, run)?,
        };
        number.map_or(Ok(None), |number| self.call_of(&claim.project, number, batch))
    }

    /// The run of a firing that was fired before, by whomever; or of a step that has begun it before a crash.
    pub(super) fn fired_before(&self, new: &Submission, batch: &Batch) -> Result<Option<Earlier>, StoreError> {
        let is_fired = new.origin.as_ref().is_some_and(|origin| origin.firing.is_some()) || new.plan.parent.is_some();
        if !is_fired {
            return Ok(None);
        }
        let number = match self.open_run(new.project(), &new.run) {
            Some(number) => Some(number),
            None => self.store.run_number(new.project(), &new.run)?,
        };
        number.map_or(Ok(None), |number| self.call_of(new.project(), number, batch))
    }

    fn call_of(&self, project: &ProjectId, number: RunNumber, batch: &Batch) -> Result<Option<Earlier>, StoreError> {
        let row = match batch.created(project, number) {
            Some(row) => Some(row.clone()),
            None => self.store.run(number)?,
        };
        Ok(row.map(|row| Earlier { fingerprint: row.fingerprint, answer: row.answer }))
    }

    fn bound(&self, project: &ProjectId, name: &str, batch: &Batch, now: Now) -> Result<Option<KeyRow>, StoreError> {
        if let Some(row) = batch.key(project, name) {
            return Ok(Some(row.clone()));
        }
        let is_good = |row: &KeyRow| self.clock.at(now).millis_since(row.at) <= KEY_AGE_MS;
        Ok(self.store.key(project, name)?.filter(is_good))
    }

    /// Binds those of a call's names that are free. `false`, and none is bound, where there is no room for them.
    pub(super) fn bind(&self, claim: &Claim, call: &Earlier, batch: &mut Batch, now: Now) -> Result<bool, StoreError> {
        let has_room = self.has_room_to_bind(claim, call, batch, now)?;
        if has_room {
            self.bind_all_the_same(claim, call, batch, now)?;
        }
        Ok(has_room)
    }

    /// The same without a check for room: for a call that was already carried out.
    pub(super) fn bind_all_the_same(
        &self,
        claim: &Claim,
        call: &Earlier,
        batch: &mut Batch,
        now: Now,
    ) -> Result<(), StoreError> {
        let rows = self.rows(claim, call, batch, now)?;
        if !rows.is_empty() {
            let part = self.part(&claim.project, batch)?;
            rows.into_iter().for_each(|row| batch.keep_key(part, row));
        }
        Ok(())
    }

    /// Is there room to [bind](Self::bind) a call's names?
    pub(super) fn has_room_to_bind(
        &self,
        claim: &Claim,
        call: &Earlier,
        batch: &Batch,
        now: Now,
    ) -> Result<bool, StoreError> {
        let wanted: u64 = self.rows(claim, call, batch, now)?.iter().map(KeyRow::weight).sum();
        Ok(wanted == 0 || self.has_room_for_keys(&claim.project, wanted, batch)?)
    }

    /// The rows for those names of a call that are free.
    fn rows(&self, claim: &Claim, call: &Earlier, batch: &Batch, now: Now) -> Result<Vec<KeyRow>, StoreError> {
        let mut rows = Vec::new();
        for name in claim.names() {
            if self.bound(&claim.project, &name, batch, now)?.is_none() {
                let (project, answer) = (claim.project.clone(), call.answer.clone());
                rows.push(KeyRow { project, name, at: self.clock.at(now), fingerprint: call.fingerprint, answer });
            }
        }
        Ok(rows)
    }

    /// A project's keys may weigh what is left free.
    fn has_room_for_keys(&self, project: &ProjectId, wanted: u64, batch: &Batch) -> Result<bool, StoreError> {
        let own = self.store.key_bytes(project)? + batch.key_bytes_of(project);
        let free = self.limits.key_bytes.saturating_sub(self.key_bytes + batch.key_bytes);
        Ok(own + wanted <= free)
    }
}
