//! What happens when another node has written to a project that a batch also writes to: the in-memory state of the
//! project is discarded and read again, as after a failed commit; what the other node has written is released; and the
//! part of the batch for that project is made again after it. The other parts stay as they are.

use super::batch::Batch;
use super::{Journal, Outcome};
use crate::log::protocol::{Command, ResumeFrom, Subscription};
use crate::log::store::{Head, RunSet, StoreError};
use crate::model::{Now, ProjectId};

/// How often in a row a batch gives way to other writers in one project. After that the store counts as down for the
/// batch: records of runs are held back and tried again later, everything else is refused. Two writers that write to
/// one project as fast as they can each succeed every other time.
pub(super) const CONFLICTS_MAX: u32 = 32;

impl Journal {
    /// Makes those parts of the batch again whose projects have changed meanwhile.
    pub(super) fn give_way(
        &mut self,
        mut heads: Vec<Head>,
        commands: &[Command],
        batch: &mut Batch,
        now: Now,
        outcome: &mut Outcome,
    ) -> Result<(), StoreError> {
        let projects: Vec<ProjectId> = heads.iter().map(|head| head.project.clone()).collect();
        if batch.conflicts(&projects) >= CONFLICTS_MAX {
            return Err(StoreError(
                "other nodes keep writing to the same project; gave up after repeated conflicts".to_owned(),
            ));
        }
        // Messages that applications have published may be numbered already.
        let may_be_drained = batch.moved(&heads);
        let changed = batch.runs();
        self.rewind(batch, |project| projects.contains(project));
        if self.is_shared {
            self.fresh.extend(heads.iter().map(|head| (head.project.clone(), (head.newest, head.revision))));
        }
        self.reload(Some(&projects), &changed, now)?.let_out(outcome);
        for head in &mut heads {
            let entry = self.projects.get(&head.project);
            (head.newest, head.revision) = entry.map_or((head.newest, head.revision), |it| (it.newest, it.revision));
        }
        let is_theirs = |place: usize| self.is_of(&commands[place], &projects);
        let theirs: Vec<_> = (0..commands.len()).filter(|place| is_theirs(*place)).collect();
        batch.begin_again(heads, |place| theirs.contains(&place));
        for (place, command) in commands.iter().enumerate() {
            match command {
                Command::Records(records) => {
                    let mut theirs = records.iter().filter(|record| projects.contains(record.project()));
                    theirs.try_for_each(|record| self.record(record, batch, now))?;
                }
                Command::Drain(outgoing) => {
                    let theirs = outgoing.iter().filter(|it| may_be_drained.contains(&it.project));
                    self.drain(theirs, batch, now)?;
                }
                command if theirs.contains(&place) => self.write(place, command, batch, now)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Is all that a command writes a part of one of these projects?
    fn is_of(&self, command: &Command, projects: &[ProjectId]) -> bool {
        let is_beside = matches!(command, Command::Plan { .. }) && !self.is_shared;
        !is_beside && command.project().is_some_and(|project| projects.contains(project))
    }

    /// Reads these projects again, and delivers what other nodes have written to them.
    pub(super) fn catch_up(
        &mut self,
        projects: &[ProjectId],
        now: Now,
        outcome: &mut Outcome,
    ) -> Result<(), StoreError> {
        self.reload(Some(projects), &RunSet::default(), now)?.let_out(outcome);
        Ok(())
    }

    /// Undoes the numbers of a batch that was not committed: the newest message of each project that `is_one` is again
    /// the last one that was delivered. The runs that the batch cancels were not told, either.
    pub(super) fn rewind(&mut self, batch: &Batch, is_one: impl Fn(&ProjectId) -> bool) {
        for number in batch.cancels(&is_one) {
            if let Some(run) = self.runs.get_mut(&number) {
                run.is_cancelled = false;
            }
        }
        for head in batch.heads().iter().filter(|head| is_one(&head.project)) {
            if let Some(entry) = self.projects.get_mut(&head.project) {
                entry.newest = head.newest;
            }
        }
    }

    /// Reads a project again before a client is told that its position is beyond the log: another node may have written
    /// more.
    pub(super) fn look_ahead(
        &mut self,
        wanted: &Subscription,
        now: Now,
        outcome: &mut Outcome,
    ) -> Result<(), StoreError> {
        let Subscription { project, resume: Some(ResumeFrom::Seq(seq)), .. } = wanted else { return Ok(()) };
        let Some(known) = self.projects.get(project).map(|entry| entry.newest) else { return Ok(()) };
        if self.is_stale || known >= *seq || known >= self.store.newest(project)? {
            return Ok(());
        }
        let caught_up = self.catch_up(std::slice::from_ref(project), now, outcome);
        if let (Err(error), false) = (&caught_up, self.is_down()) {
            self.begin_outage(error, &Batch::default(), now, outcome);
        }
        caught_up
    }
}
