//! Checks that in-memory state is current before it is used for an answer, where several nodes share a store. Changes
//! to followed projects arrive by themselves. For all other projects, one call to the store per batch says which have
//! changed since they were read, and those are read again. So a client that was told something by one node finds it at
//! every other node.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use super::batch::Batch;
use super::{Journal, Outcome};
use crate::log::protocol::{Command, Delivery, Query};
use crate::log::store::{Standing, StoreError};
use crate::model::{Now, ProjectId};

/// How often some of the projects are looked at that nobody tells of, and how many then: ten thousand within a minute.
const LOOK_AROUND_PACE: Duration = Duration::from_secs(5);
pub(super) const LOOK_AROUND_MAX: usize = 1000;

impl Journal {
    /// Reads the projects again that these commands concern and that have changed.
    pub(super) fn freshen<'a>(
        &mut self,
        commands: impl Iterator<Item = &'a Command> + Clone,
        now: Now,
        outcome: &mut Outcome,
    ) {
        if !self.is_shared || self.is_stale {
            return;
        }
        let (mut doubtful, mut listed) = (BTreeSet::new(), Vec::new());
        let new_runs = commands.clone().filter(|command| matches!(command, Command::Submit { .. })).count();
        for command in commands {
            doubtful.extend(self.doubtful(command, new_runs).cloned());
            if let Command::Drain(outgoing) = command {
                let unknown = outgoing.iter().filter(|it| !self.projects.contains_key(&it.project));
                doubtful.extend(unknown.map(|it| it.project.clone()));
            }
            if let Command::Read { query: Query::Projects { visible, after, limit }, .. } = command {
                match visible {
                    Some(visible) => doubtful.extend(visible.iter().cloned()),
                    None => listed.push((after.clone(), limit.saturating_add(1))),
                }
            }
        }
        if doubtful.is_empty() && listed.is_empty() {
            return;
        }
        if let Err(error) = self.read_moved(doubtful.into_iter().collect(), listed, now, outcome) {
            self.is_stale = true;
            self.doubt(&error, now, outcome);
        }
    }

    /// The state in memory may be outdated: it is not used for answers until it has been read again.
    pub(super) fn doubt(&mut self, error: &StoreError, now: Now, outcome: &mut Outcome) {
        if !self.is_down() {
            self.begin_outage(error, &Batch::default(), now, outcome);
        }
    }

    /// Is that what is known of the project?
    pub(super) fn is_at(&self, standing: &Standing) -> bool {
        let entry = self.projects.get(&standing.project);
        entry.is_some_and(|entry| (entry.newest, entry.revision) == (standing.newest, standing.revision))
    }

    /// The projects that have become empty, among those in memory. `range` is what the store returned for `limit`
    /// projects after `after`.
    fn emptied(&self, after: Option<&ProjectId>, limit: usize, range: &[Standing]) -> Vec<ProjectId> {
        let held: HashSet<_> = range.iter().map(|it| &it.project).collect();
        let last = range.last().filter(|_| range.len() >= limit).map(|it| &it.project);
        let is_in_range =
            |project: &ProjectId| after.is_none_or(|after| project > after) && last.is_none_or(|last| project <= last);
        let kept = self.projects.iter().filter(|(_, entry)| entry.is_kept).map(|(project, _)| project);
        kept.filter(|project| is_in_range(project) && !held.contains(project)).cloned().collect()
    }

    /// Checks some of the projects that are not followed, all in turn: some may have become empty, and known runs of
    /// others may have ended.
    pub(super) fn look_around(&mut self, now: Now, outcome: &mut Outcome) {
        if !self.is_shared || now.mono < self.look_around_at {
            return;
        }
        self.look_around_at = now.mono + LOOK_AROUND_PACE;
        if self.is_stale || self.is_down() {
            return;
        }
        if let Err(error) = self.look_at_next(now, outcome) {
            self.doubt(&error, now, outcome);
        }
    }

    fn look_at_next(&mut self, now: Now, outcome: &mut Outcome) -> Result<(), StoreError> {
        let after = self.looked_at.take();
        let range = self.store.standings_after(after.as_ref(), LOOK_AROUND_MAX)?;
        let is_of_use = |it: &&Standing| {
            let entry = self.projects.get(&it.project);
            entry.is_some_and(|entry| !self.is_followed(entry) && !entry.open_runs.is_empty()) && !self.is_at(it)
        };
        let moved = range.iter().filter(is_of_use).map(|it| it.project.clone());
        let moved: Vec<_> = moved.chain(self.emptied(after.as_ref(), LOOK_AROUND_MAX, &range)).collect();
        self.looked_at = range.last().filter(|_| range.len() >= LOOK_AROUND_MAX).map(|it| it.project.clone());
        match moved.is_empty() {
            true => Ok(()),
            false => {
                self.catch_up(&moved, now, outcome)?;
                outcome.deliveries.push(Delivery::Worked(self.work()));
                Ok(())
            }
        }
    }

    fn read_moved(
        &mut self,
        doubtful: Vec<ProjectId>,
        listed: Vec<(Option<ProjectId>, usize)>,
        now: Now,
        outcome: &mut Outcome,
    ) -> Result<(), StoreError> {
        // Before anything is read: what comes in between is found to be a conflict, and never the other way round.
        let mut standings = if doubtful.is_empty() { Vec::new() } else { self.store.standings(&doubtful)? };
        let mut emptied = Vec::new();
        for (after, limit) in listed {
            let range = self.store.standings_after(after.as_ref(), limit)?;
            emptied.extend(self.emptied(after.as_ref(), limit, &range));
            standings.extend(range);
        }
        let moved = standings.iter().filter(|it| !self.is_at(it)).map(|it| it.project.clone());
        let moved: Vec<_> = moved.chain(emptied).collect();
        let unknown = doubtful.into_iter().filter(|project| !self.projects.contains_key(project));
        let nothing = unknown.map(|project| (project, (0, 0)));
        self.fresh.extend(nothing);
        self.fresh.extend(standings.into_iter().map(|it| (it.project, (it.newest, it.revision))));
        match moved.is_empty() {
            true => Ok(()),
            false => self.catch_up(&moved, now, outcome),
        }
    }

    /// The project that a command is about, where what is in memory of it is no answer. So many runs are to begin with it.
    fn doubtful<'c>(&self, command: &'c Command, new_runs: usize) -> Option<&'c ProjectId> {
        let is_unknown = |project: &ProjectId| !self.projects.contains_key(project);
        match command {
            // A refusal depends on what other nodes have done, too.
            Command::Submit { submission, .. } => {
                let (project, plan) = (submission.project(), &submission.plan);
                let is_decided_here = plan.concurrency.is_some() || plan.parent.is_some();
                let open = self.projects.get(project).map_or(0, |entry| entry.open_runs.len());
                let may_be_full = open.saturating_add(new_runs) > self.limits.project_runs;
                (is_decided_here || may_be_full || is_unknown(project)).then_some(project)
            }
            // A stream begins after all that anyone was answered before, whichever node did: what is followed comes by itself, but
            // may be on its way.
            Command::Subscribe { subscription, .. } => Some(&subscription.project),
            // The answer has all of that, too.
            Command::Read { query: Query::Page { project, .. } | Query::Row { project, .. }, .. } => {
                // The project of a stream, which is sent later messages anyway.
                (!self.follows(project)).then_some(project)
            }
            Command::Read { query, .. } => query.of_memory(),
            // What they change is appended after what is known, or else is a conflict.
            command => command.project().filter(|project| is_unknown(project)),
        }
    }
}

impl Query {
    /// The project of whose state in memory it may be answered.
    fn of_memory(&self) -> Option<&ProjectId> {
        match self {
            Self::Run { project, .. }
            | Self::Output { project, .. }
            | Self::Items { project, .. }
            | Self::Runs { project, .. }
            | Self::StoredPlans { project, .. } => Some(project),
            _ => None,
        }
    }
}
