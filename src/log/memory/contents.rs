//! The contents of the memory store.

mod read;
#[cfg(test)]
mod tests;
mod trim;
mod write;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::num::NonZeroU64;
use std::ops::Range;
use std::sync::Arc;

use super::outbox::Outbox;
use super::plans::Plans;
use crate::log::store::segment::Extent;
use crate::log::store::{
    AppendError, BeatError, DueRow, DueTimes, Flow, Head, KEY_AGE_MS, KeyRow, PlaceInRun, PlanCounts, PlanRow,
    Retention, RunRow, Store, StoreError, StoredMessage, StoredOutput, TOMBSTONE_AGE_MS, TOMBSTONES_MAX, Times,
    Trimmed, WantedPlans, Write, item_weight,
};
use crate::log::store::{EndedRun, Ends, History, OpenRun, Recovered, RecoveredProject, RunNumber};
use crate::model::{OutputStream, PlanName, ProjectId, RunId, RunStatus, StepId, Timestamp};

/// How many entries of the order may be stale before it is cleaned.
const STALE_PLACES_MIN: usize = 1024;

/// Everything that is kept.
#[derive(Default)]
pub(super) struct Contents {
    projects: Vec<Project>,
    by_id: HashMap<ProjectId, u32>,
    /// Indexes in `projects` that are free.
    free: Vec<u32>,
    /// Projects that hold nothing, by since when.
    empty: BTreeSet<(Timestamp, u32)>,
    /// Projects that have let something go since the last trim.
    shrunk: BTreeSet<u32>,
    runs: HashMap<RunNumber, Run>,
    /// Runs of all projects that have ended, by when.
    ended: BTreeSet<(Timestamp, RunNumber)>,
    /// Segments of all projects in the order in which they began, to find the oldest; some may be gone already.
    order: VecDeque<(u32, u64)>,
    /// Segments that the projects hold.
    held: usize,
    /// Batches that came.
    commits: u64,
    /// Keys in the order in which they came; some may have been used anew.
    keys: VecDeque<(Timestamp, u32, String)>,
    /// Their weight.
    key_bytes: u64,
    /// Where the clock stood when it was last told of.
    clock: Timestamp,
    /// What the segments weigh that the projects hold.
    message_bytes: u64,
    /// What goes when a run goes: plan, answer, outputs, and with one that has ended its state, its first message and last.
    run_bytes: u64,
    /// Projects that grew since the last trim.
    grown: Vec<u32>,
    /// The number of the newest run, kept or not.
    newest_run: u64,
    /// The outbox of webhooks.
    outbox: Outbox,
    /// What is stored to be run by name.
    plans: Plans,
}

#[derive(Default)]
struct Project {
    /// When something was kept of it for the last time, by the wall clock.
    last_activity: Timestamp,
    /// Since when it holds nothing, where it does not.
    empty_since: Option<Timestamp>,
    /// In order and without a gap; the first is the floor.
    messages: VecDeque<StoredMessage>,
    /// What they lie in, with the commit that began it. The floor may be within the first.
    segments: VecDeque<(Extent, u64)>,
    newest: u64,
    runs: BTreeSet<RunNumber>,
    /// The runs of `runs` that have ended.
    ended: BTreeSet<RunNumber>,
    run_numbers: HashMap<RunId, RunNumber>,
    keys: HashMap<String, KeyRow>,
    key_bytes: u64,
}

impl Project {
    fn floor(&self) -> u64 {
        self.messages.front().map_or(self.newest + 1, |message| message.seq)
    }

    fn message(&self, seq: u64) -> Option<&StoredMessage> {
        self.messages.get(usize::try_from(seq.checked_sub(self.floor())?).ok()?)
    }

    fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.runs.is_empty()
    }
}

struct Run {
    project: u32,
    row: RunRow,
    /// It was asked to end.
    cancelled: bool,
    /// The numbers of its messages that the project still holds.
    seqs: VecDeque<u64>,
    /// Its messages that outlast the floor, once the project no longer holds them.
    kept: Vec<StoredMessage>,
    ended: Option<Ended>,
    /// When its newest message was kept; no longer moves once it has ended, for it stands in `ended`.
    last_at: Timestamp,
    outputs: HashMap<StepId, (u32, OutputContent)>,
    /// The rows of the items of steps.
    items: BTreeMap<(StepId, u32), Arc<[u8]>>,
}

/// The output of a step by stream, and its whole return value if the message has only a part of it.
#[derive(Default, Clone)]
struct OutputContent {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    text: Vec<u8>,
    whole: Option<Arc<[u8]>>,
}

impl OutputContent {
    fn stream(&self, stream: OutputStream) -> &Vec<u8> {
        match stream {
            OutputStream::Stdout => &self.stdout,
            OutputStream::Stderr => &self.stderr,
            OutputStream::Text => &self.text,
        }
    }

    fn weight(&self) -> u64 {
        let whole = self.whole.as_ref().map_or(0, |json| json.len());
        (self.stdout.len() + self.stderr.len() + self.text.len() + whole) as u64
    }
}

/// What is stored about the end of a run.
struct Ended {
    /// The `seq` of its last message.
    last_seq: u64,
    /// What its first message and its last weigh.
    outer_bytes: u64,
    status: RunStatus,
    summary: Arc<[u8]>,
    state: Arc<[u8]>,
}

impl Ended {
    fn weight(&self) -> u64 {
        (self.summary.len() + self.state.len()) as u64 + self.outer_bytes
    }
}

impl Contents {
    /// The projects' ids, by their indexes.
    fn names(&self) -> HashMap<u32, &ProjectId> {
        self.by_id.iter().map(|(id, &index)| (index, id)).collect()
    }

    fn recovered_projects(&self) -> Vec<RecoveredProject> {
        let kept = self.by_id.iter().filter(|(_, index)| self.projects[**index as usize].empty_since.is_none());
        let mut projects: Vec<_> = kept.map(|(id, &index)| self.recovered(id, index)).collect();
        projects.sort_unstable_by(|one, other| one.project.cmp(&other.project));
        projects
    }

    fn recovered(&self, id: &ProjectId, index: u32) -> RecoveredProject {
        let Project { newest, last_activity, .. } = self.projects[index as usize];
        RecoveredProject { project: id.clone(), newest, revision: 0, last_activity }
    }

    fn project(&self, id: &ProjectId) -> Option<&Project> {
        self.by_id.get(id).map(|&index| &self.projects[index as usize])
    }

    fn output(&self, number: RunNumber, step: &StepId) -> Option<&(u32, OutputContent)> {
        self.runs.get(&number)?.outputs.get(step)
    }

    fn project_index(&mut self, id: &ProjectId) -> u32 {
        if let Some(&index) = self.by_id.get(id) {
            return index;
        }
        let index = self.free.pop().unwrap_or_else(|| {
            self.projects.push(Project::default());
            self.projects.len() as u32 - 1
        });
        self.by_id.insert(id.clone(), index);
        index
    }

    /// A project is about to hold something.
    fn fill(&mut self, id: &ProjectId, wall: Timestamp) -> u32 {
        let index = self.project_index(id);
        let project = &mut self.projects[index as usize];
        project.last_activity = wall;
        if let Some(since) = project.empty_since.take() {
            self.empty.remove(&(since, index));
        }
        index
    }
}

impl Store for Contents {
    fn append(&mut self, expected: &[Head], entries: &[Write], wall: Timestamp) -> Result<(), AppendError> {
        let newest = |head: &Head| self.project(&head.project).map_or(0, |project| project.newest);
        let moved = expected.iter().filter(|head| newest(head) != head.newest);
        let conflicts: Vec<_> = moved.map(|head| Head { newest: newest(head), ..head.clone() }).collect();
        if !conflicts.is_empty() {
            return Err(AppendError::Conflict(conflicts));
        }
        self.commits += 1;
        entries.iter().for_each(|write| self.write(write, wall));
        Ok(())
    }

    fn trim(&mut self, retention: &Retention, now: Times) -> Result<Trimmed, StoreError> {
        let before = |ms: u64| Timestamp::from_millis(now.age.as_millis().saturating_sub(ms));
        self.clock = self.clock.max(now.age);
        self.trim_counts(retention);
        self.trim_age(before(retention.age_ms));
        self.trim_bytes(retention.bytes);
        self.trim_keys(before(KEY_AGE_MS));
        self.trim_order();
        let emptied = self.take_emptied(now.age);
        let has_forgotten = self.forget_empty(before(TOMBSTONE_AGE_MS));
        Ok(Trimmed { is_more: false, emptied, has_forgotten, key_bytes: self.key_bytes })
    }

    fn trim_outbox(&mut self, rows_max: u64) -> Result<Vec<(Arc<str>, u64)>, StoreError> {
        Ok(self.outbox.trim(rows_max))
    }

    fn probe(&mut self) -> Result<(), BeatError> {
        Ok(())
    }

    fn recover(&self) -> Result<Recovered, StoreError> {
        let since = Timestamp::from_millis(self.clock.as_millis().saturating_sub(Recovered::ENDED_RUNS_MS));
        let ended = self.ended.iter().filter(|(ended_at, _)| *ended_at >= since);
        let names = self.names();
        let open_run = |(number, run): (&RunNumber, &Run)| OpenRun {
            number: *number,
            project: names[&run.project].clone(),
            run: run.row.run.clone(),
            created_at: run.row.created_at,
            document: Some(run.row.document.clone()),
            cancelled: run.cancelled,
            is_foreign: false,
        };
        let mut open_runs: Vec<_> = self.runs.iter().filter(|(_, run)| run.ended.is_none()).map(open_run).collect();
        open_runs.sort_by_key(|run| run.number);
        let ended_run = |&(ended_at, number): &(Timestamp, RunNumber)| {
            let project = names[&self.runs.get(&number)?.project].clone();
            Some(EndedRun { number, project, ended_at, ends: self.ends(number).ok()?? })
        };
        Ok(Recovered {
            projects: self.recovered_projects(),
            open_runs,
            ended_runs: ended.filter_map(ended_run).collect(),
            next_run_number: NonZeroU64::MIN.saturating_add(self.newest_run),
            clock: self.clock,
            key_bytes: self.key_bytes,
        })
    }

    fn remains(&self, project: &ProjectId) -> Result<Option<RecoveredProject>, StoreError> {
        Ok(self.by_id.get(project).map(|&index| self.recovered(project, index)))
    }

    fn run(&self, number: RunNumber) -> Result<Option<RunRow>, StoreError> {
        Ok(self.runs.get(&number).map(|run| run.row.clone()))
    }

    fn key(&self, project: &ProjectId, name: &str) -> Result<Option<KeyRow>, StoreError> {
        Ok(self.project(project).and_then(|log| log.keys.get(name)).cloned())
    }

    fn key_bytes(&self, project: &ProjectId) -> Result<u64, StoreError> {
        Ok(self.project(project).map_or(0, |log| log.key_bytes))
    }
}
