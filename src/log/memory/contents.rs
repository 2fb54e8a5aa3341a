//! What the memory store holds.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::num::NonZeroU64;
use std::ops::Range;
use std::sync::Arc;

use crate::log::store::segment::Extent;
use crate::log::store::{
    AppendError, Flow, Head, KEY_AGE_MS, KeyRow, Place, Retention, RunRow, Store, StoreError, StoredMessage,
    StoredOutput, TOMBSTONE_AGE_MS, TOMBSTONES_MAX, Times, Trimmed, Write,
};
use crate::log::store::{EndedRun, Ends, History, OpenRun, Recovered, RecoveredProject, RunNumber};
use crate::model::{OutputStream, ProjectId, RunId, RunStatus, StepId, Timestamp};

/// Places in the order of segments that may be stale before it is gone through.
const STALE_PLACES_MIN: usize = 1024;

/// Everything that is kept.
#[derive(Default)]
pub(super) struct Contents {
    projects: Vec<Project>,
    by_id: HashMap<ProjectId, u32>,
    /// Places in `projects` of which nothing is left.
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
    /// What they weigh.
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
    /// Those of them that have ended.
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
    outputs: HashMap<StepId, (u32, HeldOutput)>,
}

/// What a step wrote, by where it came out, and what it returned where that was cut for its message.
#[derive(Default)]
struct HeldOutput {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    text: Vec<u8>,
    whole: Option<Arc<[u8]>>,
}

impl HeldOutput {
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

/// What is kept of the end of a run.
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
        RecoveredProject { project: id.clone(), newest, last_activity }
    }

    fn project(&self, id: &ProjectId) -> Option<&Project> {
        self.by_id.get(id).map(|&index| &self.projects[index as usize])
    }

    fn held_output(&self, number: RunNumber, step: &StepId) -> Option<&(u32, HeldOutput)> {
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

    fn write(&mut self, write: &Write, wall: Timestamp) {
        match write {
            Write::Message(message, project) => self.write_message(message, project, wall),
            Write::RunCreated { number, project, row } => self.write_run(*number, project, row, wall),
            Write::Key(row) => self.write_key(row),
            Write::CancelRequested(number) => {
                if let Some(run) = self.runs.get_mut(number) {
                    run.cancelled = true;
                }
            }
            Write::Ticket(_) => {}
            Write::RunEnded { number, status, summary, state, last_seq } => {
                let (last_seq, status, summary, state) = (*last_seq, *status, summary.clone(), state.clone());
                self.write_end(*number, Ended { last_seq, outer_bytes: 0, status, summary, state });
            }
            Write::Output { number, step, attempt, stream, bytes } => {
                self.write_output(*number, step, *attempt, *stream, bytes);
            }
            Write::Whole { number, step, json } => {
                if let Some(run) = self.runs.get_mut(number) {
                    let replaced = run.outputs.entry(step.clone()).or_default().1.whole.replace(json.clone());
                    self.run_bytes += json.len() as u64;
                    self.run_bytes -= replaced.map_or(0, |json| json.len() as u64);
                }
            }
        }
    }

    fn write_message(&mut self, message: &StoredMessage, project: &ProjectId, wall: Timestamp) {
        let index = self.fill(project, wall);
        self.clock = self.clock.max(message.at);
        let log = &mut self.projects[index as usize];
        debug_assert_eq!(message.seq, log.newest + 1, "messages come without a gap");
        log.newest = message.seq;
        log.messages.push_back(message.clone());
        match log.segments.back_mut().filter(|(last, began)| last.takes(message, *began == self.commits)) {
            Some((last, _)) => last.add(message),
            None => {
                log.segments.push_back((Extent::begin(message), self.commits));
                self.order.push_back((index, message.seq));
                self.held += 1;
            }
        }
        self.message_bytes += message.weight();
        if self.grown.last() != Some(&index) {
            self.grown.push(index);
        }
        if let Some(run) = message.run.and_then(|number| self.runs.get_mut(&number)) {
            run.seqs.push_back(message.seq);
            if run.ended.is_none() {
                run.last_at = message.at;
            }
        }
    }

    fn write_end(&mut self, number: RunNumber, mut ended: Ended) {
        let Some(run) = self.runs.get_mut(&number).filter(|run| run.ended.is_none()) else { return };
        let log = &mut self.projects[run.project as usize];
        run.kept.retain(|message| message.place.outlasts_floor(true));
        let held = run.seqs.iter().filter_map(|&seq| log.message(seq));
        let outer = held.filter(|message| matches!(message.place, Place::First | Place::Last));
        ended.outer_bytes = run.kept.iter().chain(outer).map(StoredMessage::weight).sum();
        log.ended.insert(number);
        self.run_bytes += ended.weight();
        run.ended = Some(ended);
        self.ended.insert((run.last_at, number));
    }

    fn write_run(&mut self, number: RunNumber, project: &ProjectId, row: &RunRow, wall: Timestamp) {
        let index = self.fill(project, wall);
        let log = &mut self.projects[index as usize];
        log.runs.insert(number);
        self.newest_run = number.0.get();
        log.run_numbers.insert(row.run.clone(), number);
        self.run_bytes += (row.document.len() + row.answer.len()) as u64;
        let run = Run {
            project: index,
            row: row.clone(),
            cancelled: false,
            seqs: VecDeque::new(),
            kept: Vec::new(),
            ended: None,
            last_at: row.created_at,
            outputs: HashMap::new(),
        };
        self.runs.insert(number, run);
    }

    fn write_key(&mut self, row: &KeyRow) {
        let index = self.project_index(&row.project);
        self.keys.push_back((row.at, index, row.name.clone()));
        let replaced = self.projects[index as usize].keys.insert(row.name.clone(), row.clone());
        self.weigh_key(index, replaced.map_or(0, |row| row.weight()), row.weight());
    }

    fn weigh_key(&mut self, index: u32, less: u64, more: u64) {
        let of_project = &mut self.projects[index as usize].key_bytes;
        for bytes in [of_project, &mut self.key_bytes] {
            *bytes = *bytes + more - less;
        }
    }

    fn write_output(&mut self, number: RunNumber, step: &StepId, attempt: u32, stream: OutputStream, bytes: &[u8]) {
        let Some(run) = self.runs.get_mut(&number) else { return };
        let (of_attempt, output) = run.outputs.entry(step.clone()).or_default();
        if attempt < *of_attempt {
            return;
        }
        if *of_attempt != attempt {
            self.run_bytes -= output.weight();
            (*of_attempt, *output) = (attempt, HeldOutput::default());
        }
        let piece = match stream {
            OutputStream::Stdout => &mut output.stdout,
            OutputStream::Stderr => &mut output.stderr,
            OutputStream::Text => &mut output.text,
        };
        piece.extend_from_slice(bytes);
        self.run_bytes += bytes.len() as u64;
    }

    /// Moves a project's floor up to `seq`; what outlasts it moves to its run.
    fn move_floor(&mut self, index: u32, seq: u64) {
        let log = &mut self.projects[index as usize];
        while let Some(message) = log.messages.pop_front_if(|message| message.seq < seq) {
            let Some(run) = message.run.and_then(|number| self.runs.get_mut(&number)) else { continue };
            run.seqs.pop_front();
            if message.place.outlasts_floor(run.ended.is_some()) {
                run.kept.push(message);
            }
        }
        while let Some((extent, _)) = log.segments.pop_front_if(|(extent, _)| extent.next_seq() <= seq) {
            self.held -= 1;
            self.message_bytes -= extent.bytes;
        }
        self.shrunk.insert(index);
    }

    fn drop_run(&mut self, number: RunNumber) {
        let Some(run) = self.runs.remove(&number) else { return };
        self.shrunk.insert(run.project);
        let log = &mut self.projects[run.project as usize];
        log.runs.remove(&number);
        log.ended.remove(&number);
        self.ended.remove(&(run.last_at, number));
        log.run_numbers.remove(&run.row.run);
        self.run_bytes -= run.outputs.values().map(|(_, output)| output.weight()).sum::<u64>();
        self.run_bytes -= (run.row.document.len() + run.row.answer.len()) as u64;
        self.run_bytes -= run.ended.map_or(0, |ended| ended.weight());
    }

    fn trim_counts(&mut self, retention: &Retention) {
        for index in std::mem::take(&mut self.grown) {
            let Project { newest, ref messages, .. } = self.projects[index as usize];
            if messages.len() > retention.messages {
                self.move_floor(index, newest + 1 - retention.messages as u64);
            }
            while self.projects[index as usize].ended.len() > retention.runs {
                let Some(&oldest) = self.projects[index as usize].ended.first() else { break };
                self.drop_run(oldest);
            }
        }
    }

    fn trim_bytes(&mut self, bytes_max: u64) {
        while self.message_bytes + self.run_bytes > bytes_max {
            let too_many = self.message_bytes + self.run_bytes - bytes_max;
            let runs_weigh_more = self.run_bytes > self.message_bytes;
            match self.ended.first() {
                Some(&(_, number)) if runs_weigh_more || self.order.is_empty() => self.drop_run(number),
                _ => match self.order.front().copied() {
                    Some((index, seq)) if self.is_first(index, seq) => {
                        let held = self.held;
                        self.drop_bytes(index, too_many);
                        if self.held == held {
                            // What is left of the segment is not too much.
                            break;
                        }
                        self.order.pop_front();
                    }
                    Some(_) => drop(self.order.pop_front()),
                    None => break,
                },
            }
        }
    }

    /// Lets so many bytes go of a project's first segment.
    fn drop_bytes(&mut self, index: u32, bytes: u64) {
        let log = &self.projects[index as usize];
        let Some((extent, _)) = log.segments.front() else { return };
        // The floor may be within it.
        let left: u64 =
            log.messages.iter().take_while(|it| it.seq < extent.next_seq()).map(StoredMessage::weight).sum();
        let mut passed = extent.bytes - left;
        let is_passed = |message: &&StoredMessage| {
            let is_passed = message.seq < extent.next_seq() && passed < bytes;
            passed += message.weight();
            is_passed
        };
        let floor = log.floor() + log.messages.iter().take_while(is_passed).count() as u64;
        self.move_floor(index, floor);
    }

    fn trim_age(&mut self, before: Timestamp) {
        while let Some(&(index, seq)) = self.order.front() {
            if self.is_first(index, seq) {
                let Some(&(extent, _)) = self.projects[index as usize].segments.front() else { break };
                if extent.last_at >= before {
                    break;
                }
                self.move_floor(index, extent.next_seq());
            }
            self.order.pop_front();
        }
        while let Some(&(_, number)) = self.ended.first().filter(|(ended_at, _)| *ended_at < before) {
            self.drop_run(number);
        }
    }

    fn trim_keys(&mut self, before: Timestamp) {
        while self.keys.front().is_some_and(|(at, _, _)| *at < before) {
            let Some((at, index, name)) = self.keys.pop_front() else { return };
            let keys = &mut self.projects[index as usize].keys;
            // A key may have been used anew since.
            if keys.get(&name).is_some_and(|row| row.at == at)
                && let Some(row) = keys.remove(&name)
            {
                self.weigh_key(index, row.weight(), 0);
            }
        }
    }

    /// The projects that have come to hold nothing.
    fn take_emptied(&mut self, now: Timestamp) -> Vec<ProjectId> {
        let shrunk = std::mem::take(&mut self.shrunk).into_iter();
        let emptied: BTreeSet<u32> = shrunk.filter(|&index| self.projects[index as usize].is_empty()).collect();
        if emptied.is_empty() {
            return Vec::new();
        }
        for &index in &emptied {
            if self.projects[index as usize].empty_since.replace(now).is_none() {
                self.empty.insert((now, index));
            }
        }
        let names = self.names();
        emptied.iter().filter_map(|index| names.get(index).map(|&id| id.clone())).collect()
    }

    /// Forgets projects that have held nothing for long, but for their keys. Were there any?
    fn forget_empty(&mut self, before: Timestamp) -> bool {
        let too_many = self.empty.len().saturating_sub(TOMBSTONES_MAX);
        let is_over = |at: usize, since: Timestamp| at < too_many || since < before;
        let oldest = self.empty.iter().enumerate().take_while(|&(at, &(since, _))| is_over(at, since));
        let gone: Vec<_> = oldest
            .map(|(_, &entry)| entry)
            .filter(|&(_, index)| self.projects[index as usize].keys.is_empty())
            .collect();
        if gone.is_empty() {
            return false;
        }
        for &(since, index) in &gone {
            self.empty.remove(&(since, index));
            self.projects[index as usize] = Project::default();
            self.free.push(index);
        }
        let gone: HashSet<u32> = gone.into_iter().map(|(_, index)| index).collect();
        let is_gone = |index: u32| gone.contains(&index);
        self.by_id.retain(|_, index| !is_gone(*index));
        // The next project in its place is not to be taken for it.
        self.order.retain(|&(index, _)| !is_gone(index));
        self.keys.retain(|&(_, index, _)| !is_gone(index));
        self.grown.retain(|&index| !is_gone(index));
        true
    }

    /// What projects let go by count is still in the order, behind the messages of others that are quiet. It is gone
    /// through once more than half of it is stale, so that each place is looked at about once.
    fn trim_order(&mut self) {
        if self.order.len() > 2 * self.held + STALE_PLACES_MIN {
            let projects = &self.projects;
            let first = |index: u32| projects[index as usize].segments.front();
            let is_held = |index, seq| first(index).is_some_and(|(extent, _)| extent.first_seq <= seq);
            self.order.retain(|&(index, seq)| is_held(index, seq));
            self.order.shrink_to_fit();
        }
    }

    /// Is the segment that begins with `seq` the first that the project holds?
    fn is_first(&self, index: u32, seq: u64) -> bool {
        self.projects[index as usize].segments.front().is_some_and(|(extent, _)| extent.first_seq == seq)
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

    fn probe(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    fn recover(&self) -> Result<Recovered, StoreError> {
        let since = Timestamp::from_millis(self.clock.as_millis().saturating_sub(Recovered::ENDED_RUNS_MS));
        let ended = self.ended.iter().filter(|(ended_at, _)| *ended_at >= since);
        let names = self.names();
        let open_run = |(number, run): (&RunNumber, &Run)| OpenRun {
            number: *number,
            project: names[&run.project].clone(),
            row: run.row.clone(),
            cancelled: run.cancelled,
            is_foreign: false,
        };
        let mut open_runs: Vec<_> = self.runs.iter().filter(|(_, run)| run.ended.is_none()).map(open_run).collect();
        open_runs.sort_by_key(|run| run.number);
        let ended_run = |&(ended_at, number): &(Timestamp, RunNumber)| {
            let project = names[&self.runs.get(&number)?.project].clone();
            Some(EndedRun { number, project, ended_at })
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

impl History for Contents {
    fn newest(&self, project: &ProjectId) -> Result<u64, StoreError> {
        Ok(self.project(project).map_or(0, |log| log.newest))
    }

    fn ends(&self, number: RunNumber) -> Result<Option<Ends>, StoreError> {
        let ends = |run: &Run| Ends {
            first: run.kept.first().map(|message| message.seq).or(run.seqs.front().copied()),
            last: run.ended.as_ref().map(|ended| ended.last_seq),
        };
        Ok(self.runs.get(&number).map(ends))
    }

    fn floor(&self, project: &ProjectId) -> Result<u64, StoreError> {
        Ok(self.project(project).map_or(1, Project::floor))
    }

    fn messages(
        &self,
        project: &ProjectId,
        after: u64,
        run: Option<RunNumber>,
        each: &mut dyn FnMut(&StoredMessage) -> Flow,
    ) -> Result<(), StoreError> {
        let Some(log) = self.project(project) else { return Ok(()) };
        match run {
            None => {
                let skipped = usize::try_from((after + 1).saturating_sub(log.floor())).unwrap_or(usize::MAX);
                let _ = log.messages.iter().skip(skipped).try_for_each(|message| proceed(each(message)));
            }
            Some(number) => {
                let Some(run) = self.runs.get(&number) else { return Ok(()) };
                let kept = run.kept.iter().filter(|message| message.seq > after);
                let from = run.seqs.partition_point(|&seq| seq <= after);
                let held = run.seqs.range(from..).filter_map(|&seq| log.message(seq));
                let _ = kept.chain(held).try_for_each(|message| proceed(each(message)));
            }
        }
        Ok(())
    }

    fn ended_state(&self, number: RunNumber) -> Result<Option<Arc<[u8]>>, StoreError> {
        Ok(self.runs.get(&number).and_then(|run| run.ended.as_ref()).map(|ended| ended.state.clone()))
    }

    fn ended_summary(&self, number: RunNumber) -> Result<Option<Arc<[u8]>>, StoreError> {
        Ok(self.runs.get(&number).and_then(|run| run.ended.as_ref()).map(|ended| ended.summary.clone()))
    }

    fn runs(
        &self,
        project: &ProjectId,
        before: Option<RunNumber>,
        ended_as: Option<RunStatus>,
        each: &mut dyn FnMut(RunNumber) -> Flow,
    ) -> Result<(), StoreError> {
        let Some(log) = self.project(project) else { return Ok(()) };
        let status =
            |number: &RunNumber| self.runs.get(number).and_then(|run| run.ended.as_ref()).map(|ended| ended.status);
        let is_meant = |number: &&RunNumber| {
            before.is_none_or(|before| **number < before) && (ended_as.is_none() || status(number) == ended_as)
        };
        let _ = log.runs.iter().rev().filter(is_meant).copied().try_for_each(|number| proceed(each(number)));
        Ok(())
    }

    fn run_number(&self, project: &ProjectId, run: &RunId) -> Result<Option<RunNumber>, StoreError> {
        Ok(self.project(project).and_then(|log| log.run_numbers.get(run)).copied())
    }

    fn document(&self, number: RunNumber) -> Result<Option<Arc<[u8]>>, StoreError> {
        Ok(self.run(number)?.map(|row| row.document))
    }

    fn output(&self, number: RunNumber, step: &StepId) -> Result<Option<StoredOutput>, StoreError> {
        let size = |(attempt, output): &(u32, HeldOutput)| {
            let length = |stream| output.stream(stream).len() as u64;
            let [stdout, stderr, text] = [OutputStream::Stdout, OutputStream::Stderr, OutputStream::Text].map(length);
            StoredOutput { attempt: *attempt, stdout, stderr, text }
        };
        Ok(self.held_output(number, step).map(size))
    }

    fn output_bytes(
        &self,
        number: RunNumber,
        step: &StepId,
        stream: OutputStream,
        range: Range<u64>,
        to: &mut Vec<u8>,
    ) -> Result<(), StoreError> {
        if let Some((_, output)) = self.held_output(number, step) {
            to.extend_from_slice(part(output.stream(stream), range));
        }
        Ok(())
    }

    fn whole_length(&self, number: RunNumber, step: &StepId) -> Result<Option<u64>, StoreError> {
        let whole = self.held_output(number, step).and_then(|(_, output)| output.whole.as_ref());
        Ok(whole.map(|json| json.len() as u64))
    }

    fn whole_bytes(
        &self,
        number: RunNumber,
        step: &StepId,
        range: Range<u64>,
        to: &mut Vec<u8>,
    ) -> Result<(), StoreError> {
        if let Some(json) = self.held_output(number, step).and_then(|(_, output)| output.whole.as_ref()) {
            to.extend_from_slice(part(json, range));
        }
        Ok(())
    }
}

/// The `range` of `bytes`, as much of it as there is.
fn part(bytes: &[u8], range: Range<u64>) -> &[u8] {
    let at = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
    bytes.get(at(range.start)..at(range.end)).unwrap_or_default()
}

/// A reader's wish, as an iterator takes it.
fn proceed(flow: Flow) -> Result<(), ()> {
    match flow {
        Flow::More => Ok(()),
        Flow::Stop => Err(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::store::{Place, message_weight};
    use crate::log::testing::{KEEP_ALL, at, created, ended, key, listed, message, number, project, seqs_of_run};

    const WALL: Timestamp = Timestamp::from_millis(7);

    fn trim(store: &mut Contents, retention: &Retention, now: u64) {
        assert!(store.trim(retention, at(now)).is_ok_and(|trimmed| !trimmed.is_more));
    }

    fn trimmed(writes: &[Write], retention: Retention, now: u64) -> Contents {
        let mut store = Contents::default();
        assert_eq!(store.append(&[], writes, WALL), Ok(()));
        trim(&mut store, &retention, now);
        store
    }

    #[test]
    fn runs_that_have_not_ended_take_no_place_of_those_that_have() {
        let writes =
            [created(1, 0), created(2, 0), created(3, 0), message(1, 5, Some(number(3)), Place::Last), ended(3, 1)];
        let store = trimmed(&writes, Retention { runs: 1, ..KEEP_ALL }, 10);
        assert_eq!(listed(&store), [3, 2, 1]);
    }

    #[test]
    fn an_old_run_that_goes_on_does_not_keep_others_from_ageing() {
        let writes = [created(1, 0), created(2, 0), message(1, 5, Some(number(2)), Place::Last), ended(2, 1)];
        let store = trimmed(&writes, Retention { age_ms: 10, ..KEEP_ALL }, 100);
        assert_eq!(listed(&store), [1]);
    }

    #[test]
    fn what_runs_take_is_made_room_for_by_runs_not_by_messages() {
        let mut writes = vec![];
        for n in 1..=4 {
            writes.extend([created(n, 10_000), message(n, n, Some(number(n)), Place::Last), ended(n, n)]);
        }
        let store = trimmed(&writes, Retention { bytes: 25_000, ..KEEP_ALL }, 10);
        assert_eq!(listed(&store), [4, 3]);
        assert_eq!(store.floor(&project()), Ok(1), "every message is still there");
    }

    #[test]
    fn a_run_that_has_not_ended_can_be_folded_again_whatever_was_trimmed() {
        let run = Some(number(1));
        let places = [Place::First, Place::Turn, Place::Middle, Place::Turn, Place::Middle];
        let mut writes = vec![created(1, 0)];
        writes.extend((1..).zip(places).map(|(seq, place)| message(seq, seq, run, place)));
        let mut store = trimmed(&writes, Retention { messages: 1, ..KEEP_ALL }, 10);
        assert_eq!(seqs_of_run(&store, 1), [1, 2, 4, 5]);

        let end = [message(6, 6, run, Place::Last), message(7, 7, None, Place::Middle), ended(1, 6)];
        assert_eq!(store.append(&[], &end, WALL), Ok(()));
        trim(&mut store, &Retention { messages: 1, ..KEEP_ALL }, 10);
        assert_eq!(seqs_of_run(&store, 1), [1, 6]);
        assert_eq!(store.run_bytes, 2 * message_weight(b"{}"), "the two are what is left of the run");
    }

    #[test]
    fn the_order_of_messages_does_not_grow_behind_a_message_of_a_quiet_project() {
        let quiet = ProjectId::parse("quiet").expect("an id");
        let json: Arc<[u8]> = b"{}".as_slice().into();
        let at = Timestamp::from_millis(1);
        let first = StoredMessage { seq: 1, at, run: None, place: Place::Middle, json };
        let mut store = trimmed(&[Write::Message(first, quiet)], KEEP_ALL, 10);
        for seq in 1..=10_000 {
            assert_eq!(store.append(&[], &[message(seq, 1, None, Place::Middle)], WALL), Ok(()));
            trim(&mut store, &Retention { messages: 10, ..KEEP_ALL }, 10);
        }
        assert_eq!(store.projects.iter().map(|log| log.messages.len()).sum::<usize>(), 11);
        assert!(store.order.len() <= 2 * store.held + STALE_PLACES_MIN, "{} places", store.order.len());
        trim(&mut store, &Retention { bytes: 0, ..KEEP_ALL }, 10);
        assert_eq!((store.held, store.order.len(), store.message_bytes), (0, 0, 0), "every message has its place");
    }

    #[test]
    fn a_key_is_forgotten_after_a_day_and_not_before_because_it_was_used_anew() {
        let keys = |store: &Contents| (store.keys.len(), store.projects[0].keys.len());
        let day = KEY_AGE_MS;
        let mut store = trimmed(&[key("k", 5, 0)], KEEP_ALL, 5 + day);
        assert_eq!(keys(&store), (1, 1));
        assert_eq!(store.append(&[], &[key("k", 7 + day, 0)], WALL), Ok(()), "the key is used anew");
        trim(&mut store, &KEEP_ALL, 7 + day);
        assert_eq!(keys(&store), (1, 1));
        trim(&mut store, &KEEP_ALL, 8 + 2 * day);
        assert_eq!((keys(&store), store.key_bytes), ((0, 0), 0));
    }
}
