//! Stored plans: stores and removes them, and records the outcome of their schedules.

use super::Journal;
use super::batch::{Batch, PartIndex};
use crate::log::protocol::{Answer, FiringNote, NewPlan, Origin, PlanCommand, Refusal};
use crate::log::store::{PlanChange, PlanRow, StoreError, Write};
use crate::model::{Now, PlanName, ProjectId, RunId};

impl Journal {
    pub(super) fn change_plan(&self, command: &PlanCommand, batch: &mut Batch, now: Now) -> Result<Answer, StoreError> {
        match command {
            PlanCommand::Put(plan) => self.put_plan(plan, batch, now),
            PlanCommand::Remove { project, name, conditions } => {
                let Some(row) = self.stored_plan(project, name, batch)? else {
                    return Ok(Answer::Refused(Refusal::UnknownPlan));
                };
                if !conditions.hold(Some(&row.tag)) {
                    return Ok(Answer::Refused(Refusal::PreconditionFailed));
                }
                batch.has_schedules |= row.schedule.is_some();
                let part = self.plan_part(project, batch)?;
                batch.change_plan(part, Some(&row), PlanChange::Removed(project.clone(), name.clone()));
                Ok(Answer::PlanRemoved)
            }
            PlanCommand::Note { project, name, firing } => {
                let Some(row) = self.scheduled_plan(project, name, firing, batch)? else {
                    return Ok(Answer::Refused(Refusal::PreconditionFailed));
                };
                let noted = PlanRow { firings: firing.firings.clone(), ..row.clone() };
                let part = self.plan_part(project, batch)?;
                batch.change_plan(part, Some(&row), PlanChange::Put(Box::new(noted), None));
                Ok(Answer::Noted)
            }
        }
    }

    fn put_plan(&self, plan: &NewPlan, batch: &mut Batch, now: Now) -> Result<Answer, StoreError> {
        let earlier = self.stored_plan(&plan.project, &plan.name, batch)?;
        if !plan.conditions.hold(earlier.as_ref().map(|row| &*row.tag)) {
            return Ok(Answer::Refused(Refusal::PreconditionFailed));
        }
        // A schedule that stays as it was goes on.
        let goes_on = earlier.as_ref().filter(|row| row.schedule == plan.schedule);
        let row = PlanRow {
            project: plan.project.clone(),
            name: plan.name.clone(),
            tag: plan.tag.clone(),
            updated_at: now.wall,
            summary: plan.summary.clone(),
            schedule: plan.schedule.clone(),
            scheduled_at: goes_on.map_or(now.wall, |row| row.scheduled_at),
            firings: earlier.as_ref().map(|row| row.firings.clone()).unwrap_or_default(),
            last_run: earlier.as_ref().and_then(|row| row.last_run.clone()),
            document_bytes: plan.document.len() as u64,
        };
        if let Some(refusal) = self.has_no_room_for_plan(&row, earlier.as_ref(), batch)? {
            return Ok(Answer::Refused(refusal));
        }
        batch.has_schedules |= row.schedule.is_some() || earlier.as_ref().is_some_and(|row| row.schedule.is_some());
        let (is_new, tag, updated_at) = (earlier.is_none(), row.tag.clone(), row.updated_at);
        let part = self.plan_part(&plan.project, batch)?;
        batch.change_plan(part, earlier.as_ref(), PlanChange::Put(Box::new(row), Some(plan.document.clone())));
        Ok(Answer::PlanStored { is_new, tag, updated_at })
    }

    /// Why there is no room for a plan that replaces an earlier one, if so.
    fn has_no_room_for_plan(
        &self,
        row: &PlanRow,
        earlier: Option<&PlanRow>,
        batch: &Batch,
    ) -> Result<Option<Refusal>, StoreError> {
        let limits = self.limits.plans;
        let held = batch.plan_counts(self.store.plan_counts(&row.project)?, &row.project);
        let is_scheduled = |row: &PlanRow| row.schedule.is_some();
        Ok(if earlier.is_none() && held.of_project >= limits.of_project {
            Some(Refusal::TooManyStoredPlans(limits.of_project))
        } else if is_scheduled(row) && !earlier.is_some_and(is_scheduled) && held.scheduled >= limits.scheduled {
            Some(Refusal::TooManySchedules(limits.scheduled))
        } else if held.bytes + row.weight() > limits.bytes + earlier.map_or(0, PlanRow::weight) {
            Some(Refusal::TooManyPlanBytes(limits.bytes))
        } else {
            None
        })
    }

    /// May a run of a stored plan begin? One of a schedule not where that is another by now, or another has
    /// come of it.
    pub(super) fn may_begin(
        &self,
        project: &ProjectId,
        origin: Option<&Origin>,
        batch: &Batch,
    ) -> Result<bool, StoreError> {
        let Some(Origin { name, firing: Some(firing) }) = origin else { return Ok(true) };
        Ok(self.scheduled_plan(project, name, firing, batch)?.is_some())
    }

    /// A run of a stored plan begins.
    pub(super) fn note_origin(
        &self,
        project: &ProjectId,
        run: &RunId,
        origin: &Origin,
        batch: &mut Batch,
    ) -> Result<(), StoreError> {
        let Some(row) = self.stored_plan(project, &origin.name, batch)? else { return Ok(()) };
        let firings = origin.firing.as_ref().map_or(&row.firings, |firing| &firing.firings);
        let noted = PlanRow { firings: firings.clone(), last_run: Some(run.clone()), ..row.clone() };
        let part = self.part(project, batch)?;
        batch.change_plan(Some(part), Some(&row), PlanChange::Put(Box::new(noted), None));
        Ok(())
    }

    /// Where several nodes share the store, two that change a project's plans at once are to notice.
    fn plan_part(&self, project: &ProjectId, batch: &mut Batch) -> Result<Option<PartIndex>, StoreError> {
        if self.is_shared { self.part(project, batch).map(Some) } else { Ok(None) }
    }

    /// The stored plan, if its schedule is the one that the scheduler knows.
    fn scheduled_plan(
        &self,
        project: &ProjectId,
        name: &PlanName,
        firing: &FiringNote,
        batch: &Batch,
    ) -> Result<Option<PlanRow>, StoreError> {
        let row = self.stored_plan(project, name, batch)?;
        let is_known = |row: &PlanRow| row.scheduled_at == firing.scheduled_at && row.firings == firing.before;
        Ok(row.filter(|row| row.schedule.is_some() && is_known(row)))
    }

    /// A stored plan, as it will be once the batch is kept.
    fn stored_plan(&self, project: &ProjectId, name: &PlanName, batch: &Batch) -> Result<Option<PlanRow>, StoreError> {
        match batch.plan(project, name) {
            Some(changed) => Ok(changed.cloned()),
            None => self.store.plan(project, name),
        }
    }
}

impl Batch {
    /// Keeps what becomes of a stored plan, which was as `earlier` says.
    fn change_plan(&mut self, part: Option<PartIndex>, earlier: Option<&PlanRow>, change: PlanChange) {
        let (project, name) = change.name();
        let later = match &change {
            PlanChange::Put(row, _) => Some(&**row),
            PlanChange::Removed(..) => None,
        };
        let key = (project.clone(), name.clone());
        self.plans.count(project, earlier, later);
        self.plans.changed.insert(key, later.cloned());
        match part {
            Some(part) => self.write(part, Write::Plan(change)),
            None => self.write_beside(Write::Plan(change)),
        }
    }
}
