//! Which in-memory state is still valid when a project is read again, where several nodes share a store: a run that no
//! command of the batch has changed equals the fold of the messages known so far. Only later messages are folded in, so
//! it is cheap to learn of one more run in a project with much history.

use std::collections::{HashMap, HashSet};

use super::{Journal, ProjectEntry, RunEntry};
use crate::log::store::{Flow, OpenRun, Recovered, RunMap, RunSet, StoreError, StoredMessage};
use crate::model::{FIRST_REVISION, Now, ProjectId, Timestamp, is_noted};

/// The most new messages of a project that runs are folded on with. With more, they are folded from the beginning.
const CHANGES_MAX: u64 = 4096;

/// The most bytes of new messages that runs are folded on with.
const CHANGES_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The state in memory before it was read again.
#[derive(Default)]
pub(super) struct Before {
    pub(super) projects: HashMap<ProjectId, ProjectEntry>,
    pub(super) runs: RunMap<RunEntry>,
    /// All messages of these projects that have come since.
    pub(super) changes: HashMap<ProjectId, Vec<StoredMessage>>,
}

impl Before {
    /// The state of a run, if it is true and new messages can be folded into it.
    pub(super) fn take_true(&mut self, run: &OpenRun, changed: &RunSet) -> Option<RunEntry> {
        let is_noted = run.document.as_deref().is_some_and(is_noted);
        if changed.contains(&run.number) || is_noted || !self.changes.contains_key(&run.project) {
            return None;
        }
        let plan = self.runs.get(&run.number).filter(|known| !known.is_broken)?.plan.as_ref()?;
        if plan.revision == FIRST_REVISION { self.runs.remove(&run.number) } else { None }
    }
}

impl Journal {
    /// The new messages of projects since they were read, if these are few and complete. Only for projects that are
    /// watched, or have runs that may be folded on.
    pub(super) fn changes_since(
        &self,
        before: &Before,
        recovered: &Recovered,
    ) -> Result<HashMap<ProjectId, Vec<StoredMessage>>, StoreError> {
        let mut changes = HashMap::new();
        for now in &recovered.projects {
            let is_wanted = |then: &&ProjectEntry| then.is_watched || !then.open_runs.is_empty();
            let Some(then) = before.projects.get(&now.project).filter(is_wanted) else { continue };
            if let Some(messages) = self.stretch(&now.project, then.newest, now.newest)? {
                changes.insert(now.project.clone(), messages);
            }
        }
        Ok(changes)
    }

    /// The messages of a project after `from` and up to `to`, without a gap; none if that is much.
    fn stretch(&self, project: &ProjectId, from: u64, to: u64) -> Result<Option<Vec<StoredMessage>>, StoreError> {
        let Some(count) = to.checked_sub(from).filter(|count| *count <= CHANGES_MAX) else { return Ok(None) };
        let (mut messages, mut bytes) = (Vec::new(), 0);
        if count > 0 {
            self.store.messages(project, from, None, &mut |message| {
                bytes += message.json.len();
                if message.seq > to || bytes > CHANGES_BYTES_MAX {
                    return Flow::Stop;
                }
                messages.push(message.clone());
                Flow::More
            })?;
        }
        let is_whole = messages.iter().zip(from + 1..).all(|(message, seq)| message.seq == seq);
        Ok((is_whole && messages.len() as u64 == count).then_some(messages))
    }

    /// A run goes on from what was known of it. Why no further than that, where a message can't be read.
    pub(super) fn fold_on(
        &mut self,
        run: &OpenRun,
        known: RunEntry,
        before: &Before,
    ) -> Result<Option<String>, StoreError> {
        self.hold_entry(run.number, &run.project, known)?;
        let changes = before.changes.get(&run.project).into_iter().flatten();
        let mut problem = None;
        for message in changes.filter(|message| message.run == Some(run.number)) {
            let folded = self.fold_in(run.number, message);
            problem = problem.or(folded.err());
        }
        self.count_waits(run.number);
        Ok(problem)
    }

    /// The newest ended run of each project, where it is the one that was shown before. Of all others that ended a moment ago
    /// only the last of each project is still to be shown.
    pub(super) fn show_ended_again(
        &mut self,
        recovered: &mut Recovered,
        before: &mut Before,
        now: Now,
    ) -> Result<(), StoreError> {
        if !self.is_shared {
            return Ok(());
        }
        let mut seen = HashSet::new();
        let mut newest: Vec<_> = std::mem::take(&mut recovered.ended_runs);
        newest.reverse();
        newest.retain(|run| seen.insert(run.project.clone()));
        for run in newest {
            let Some(entry) = before.runs.remove(&run.number).filter(|entry| entry.state.status.is_ended()) else {
                recovered.ended_runs.push(run);
                continue;
            };
            let recent = |at: &Timestamp| now.wall.millis_since(*at) <= self.limits.recent_ms;
            if let Some(finished_at) = entry.state.finished_at.filter(recent) {
                self.runs.insert(run.number, entry);
                self.show_ended(run.number, &run.project, finished_at)?;
            }
        }
        Ok(())
    }
}

impl RunEntry {
    /// A message of it is known.
    pub(super) fn note(&mut self, message: &StoredMessage) {
        self.snapshot = None;
        self.first_seq.get_or_insert(message.seq);
        self.last_seq = message.seq;
    }
}
