//! The store that forgets everything when the process ends.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::num::NonZeroU64;
use std::sync::Arc;

use super::RunNumber;
use super::history::{Ends, History};
use super::recovered::{EndedRun, OpenRun, Recovered, RecoveredProject};
use super::store::{Flow, Retention, RunRow, Store, StoreError, StoredMessage, StoredOutput, Write};
use crate::model::{OutputStream, ProjectId, RunId, RunStatus, StepId, Timestamp};

/// Idempotency keys are kept this long at most.
const KEY_AGE_MS_MAX: u64 = 24 * 60 * 60 * 1000;

/// Places in the order of messages that may be stale before it is gone through.
const STALE_PLACES_MIN: usize = 1024;

/// Keeps the log in memory.
#[derive(Default)]
pub struct MemoryStore {
    projects: Vec<Project>,
    by_id: HashMap<ProjectId, u32>,
    runs: HashMap<RunNumber, Run>,
    /// Runs of all projects that have ended, by when.
    ended: BTreeSet<(Timestamp, RunNumber)>,
    /// Messages of all projects in the order in which they came, to find the oldest; some may be gone already.
    order: VecDeque<(u32, u64)>,
    /// Messages that the projects hold.
    held: usize,
    /// Idempotency keys in the order in which they came; some may be gone already.
    keys: VecDeque<(Timestamp, u32, String)>,
    /// What the messages weigh that the projects hold.
    message_bytes: u64,
    /// What goes when a run goes: plan, answer, state, outputs, and its messages that are kept beyond the floor.
    run_bytes: u64,
    /// Projects that grew since the last trim.
    grown: Vec<u32>,
    /// The number of the newest run, kept or not.
    newest_run: u64,
}

#[derive(Default)]
struct Project {
    /// When something was kept of it for the last time.
    last_activity: Timestamp,
    /// In order and without a gap; the first is the floor.
    messages: VecDeque<StoredMessage>,
    newest: u64,
    runs: BTreeSet<RunNumber>,
    /// Those of them that have ended.
    ended: BTreeSet<RunNumber>,
    run_numbers: HashMap<RunId, RunNumber>,
    keys: HashMap<String, (RunNumber, Timestamp)>,
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
    outputs: HashMap<StepId, (u32, StoredOutput)>,
}

/// What is kept of the end of a run.
struct Ended {
    /// The `seq` of its last message.
    last_seq: u64,
    status: RunStatus,
    summary: Arc<[u8]>,
    state: Arc<[u8]>,
}

impl Ended {
    fn weight(&self) -> u64 {
        (self.summary.len() + self.state.len()) as u64
    }
}

impl MemoryStore {
    /// A store that holds nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// The projects' ids, by their indexes.
    fn names(&self) -> Vec<&ProjectId> {
        let mut named: Vec<_> = self.by_id.iter().map(|(id, &index)| (index, id)).collect();
        named.sort_unstable_by_key(|&(index, _)| index);
        named.into_iter().map(|(_, id)| id).collect()
    }

    fn recovered_projects(&self, names: &[&ProjectId]) -> Vec<RecoveredProject> {
        let recovered = |(project, &id): (&Project, &&ProjectId)| RecoveredProject {
            project: id.clone(),
            newest: project.newest,
            last_activity: project.last_activity,
        };
        let mut projects: Vec<_> = self.projects.iter().zip(names).map(recovered).collect();
        projects.sort_unstable_by(|one, other| one.project.cmp(&other.project));
        projects
    }

    fn project(&self, id: &ProjectId) -> Option<&Project> {
        self.by_id.get(id).map(|&index| &self.projects[index as usize])
    }

    fn project_index(&mut self, id: &ProjectId) -> u32 {
        if let Some(&index) = self.by_id.get(id) {
            return index;
        }
        let index = self.projects.len() as u32;
        self.projects.push(Project::default());
        self.by_id.insert(id.clone(), index);
        index
    }

    fn write(&mut self, write: &Write) {
        match write {
            Write::Message(message, project) => self.write_message(message, project),
            Write::RunCreated { number, project, row } => self.write_run(*number, project, row),
            Write::CancelRequested(number) => {
                if let Some(run) = self.runs.get_mut(number) {
                    run.cancelled = true;
                }
            }
            Write::Ticket(_) => {}
            Write::RunEnded { number, status, summary, state, last_seq } => {
                let ended =
                    Ended { last_seq: *last_seq, status: *status, summary: summary.clone(), state: state.clone() };
                self.write_end(*number, ended);
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

    fn write_message(&mut self, message: &StoredMessage, project: &ProjectId) {
        let index = self.project_index(project);
        let log = &mut self.projects[index as usize];
        debug_assert_eq!(message.seq, log.newest + 1, "messages come without a gap");
        log.newest = message.seq;
        log.last_activity = message.at;
        log.messages.push_back(message.clone());
        self.order.push_back((index, message.seq));
        self.held += 1;
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

    fn write_end(&mut self, number: RunNumber, ended: Ended) {
        let Some(run) = self.runs.get_mut(&number).filter(|run| run.ended.is_none()) else { return };
        self.run_bytes += ended.weight();
        run.ended = Some(ended);
        let turns = run.kept.extract_if(.., |message| !message.place.outlasts_floor(true));
        self.run_bytes -= turns.map(|message| message.weight()).sum::<u64>();
        self.ended.insert((run.last_at, number));
        self.projects[run.project as usize].ended.insert(number);
    }

    fn write_run(&mut self, number: RunNumber, project: &ProjectId, row: &RunRow) {
        let index = self.project_index(project);
        let log = &mut self.projects[index as usize];
        log.runs.insert(number);
        log.last_activity = row.created_at;
        self.newest_run = number.0.get();
        log.run_numbers.insert(row.run.clone(), number);
        if let Some(key) = &row.idempotency_key {
            log.keys.insert(key.clone(), (number, row.created_at));
            self.keys.push_back((row.created_at, index, key.clone()));
        }
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

    fn write_output(&mut self, number: RunNumber, step: &StepId, attempt: u32, stream: OutputStream, bytes: &[u8]) {
        let Some(run) = self.runs.get_mut(&number) else { return };
        let (of_attempt, output) = run.outputs.entry(step.clone()).or_default();
        if attempt < *of_attempt {
            return;
        }
        if *of_attempt != attempt {
            self.run_bytes -= output_weight(output);
            (*of_attempt, *output) = (attempt, StoredOutput::default());
        }
        let piece = match stream {
            OutputStream::Stdout => &mut output.stdout,
            OutputStream::Stderr => &mut output.stderr,
            OutputStream::Text => &mut output.text,
        };
        piece.extend_from_slice(bytes);
        self.run_bytes += bytes.len() as u64;
    }

    /// Lets a project's oldest message go; what outlasts the floor moves to its run.
    fn drop_oldest(&mut self, index: u32) {
        let Some(message) = self.projects[index as usize].messages.pop_front() else { return };
        self.held -= 1;
        self.message_bytes -= message.weight();
        let Some(run) = message.run.and_then(|number| self.runs.get_mut(&number)) else { return };
        run.seqs.pop_front();
        if message.place.outlasts_floor(run.ended.is_some()) {
            self.run_bytes += message.weight();
            run.kept.push(message);
        }
    }

    fn drop_run(&mut self, number: RunNumber) {
        let Some(run) = self.runs.remove(&number) else { return };
        let of_run = |&(of, _): &(RunNumber, Timestamp)| of == number;
        let log = &mut self.projects[run.project as usize];
        log.runs.remove(&number);
        log.ended.remove(&number);
        self.ended.remove(&(run.last_at, number));
        log.run_numbers.remove(&run.row.run);
        if let Some(key) = run.row.idempotency_key.as_ref().filter(|key| log.keys.get(*key).is_some_and(of_run)) {
            log.keys.remove(key);
        }
        self.run_bytes -= run.outputs.values().map(|(_, output)| output_weight(output)).sum::<u64>();
        self.run_bytes -= run.kept.iter().map(StoredMessage::weight).sum::<u64>();
        self.run_bytes -= (run.row.document.len() + run.row.answer.len()) as u64;
        self.run_bytes -= run.ended.map_or(0, |ended| ended.weight());
    }

    fn trim_counts(&mut self, retention: &Retention) {
        for index in std::mem::take(&mut self.grown) {
            while self.projects[index as usize].messages.len() > retention.messages {
                self.drop_oldest(index);
            }
            while self.projects[index as usize].ended.len() > retention.runs {
                let Some(&oldest) = self.projects[index as usize].ended.first() else { break };
                self.drop_run(oldest);
            }
        }
    }

    fn trim_bytes(&mut self, bytes_max: u64) {
        while self.message_bytes + self.run_bytes > bytes_max {
            let runs_weigh_more = self.run_bytes > self.message_bytes;
            match self.ended.first() {
                Some(&(_, number)) if runs_weigh_more || self.order.is_empty() => self.drop_run(number),
                _ if !self.order.is_empty() => self.drop_oldest_of_all(),
                _ => break,
            }
        }
    }

    fn trim_age(&mut self, before: Timestamp) {
        while let Some(&(index, seq)) = self.order.front() {
            match self.projects[index as usize].messages.front() {
                Some(message) if message.seq == seq && message.at >= before => break,
                _ => self.drop_oldest_of_all(),
            }
        }
        while let Some(&(_, number)) = self.ended.first().filter(|(ended_at, _)| *ended_at < before) {
            self.drop_run(number);
        }
    }

    fn trim_keys(&mut self, before: Timestamp) {
        while self.keys.front().is_some_and(|(at, _, _)| *at < before) {
            let Some((at, index, key)) = self.keys.pop_front() else { return };
            let keys = &mut self.projects[index as usize].keys;
            // A key may have been used anew since.
            if keys.get(&key).is_some_and(|(_, newest)| *newest == at) {
                keys.remove(&key);
            }
        }
    }

    /// What projects let go by count is still in the order, behind the messages of others that are quiet. It is gone
    /// through once more than half of it is stale, so that each place is looked at about once.
    fn trim_order(&mut self) {
        if self.order.len() > 2 * self.held + STALE_PLACES_MIN {
            let projects = &self.projects;
            let is_held = |index: u32, seq| projects[index as usize].messages.front().is_some_and(|m| m.seq <= seq);
            self.order.retain(|&(index, seq)| is_held(index, seq));
            self.order.shrink_to_fit();
        }
    }

    /// Lets the oldest message of all projects go, if its project still holds it.
    fn drop_oldest_of_all(&mut self) {
        let Some((index, seq)) = self.order.pop_front() else { return };
        if self.projects[index as usize].messages.front().is_some_and(|message| message.seq == seq) {
            self.drop_oldest(index);
        }
    }
}

fn output_weight(output: &StoredOutput) -> u64 {
    let whole = output.whole.as_ref().map_or(0, |json| json.len());
    (output.stdout.len() + output.stderr.len() + output.text.len() + whole) as u64
}

impl Store for MemoryStore {
    fn commit(&mut self, batch: &[Write]) -> Result<(), StoreError> {
        batch.iter().for_each(|write| self.write(write));
        Ok(())
    }

    fn trim(&mut self, retention: &Retention, now: Timestamp) -> Result<bool, StoreError> {
        self.trim_counts(retention);
        self.trim_age(Timestamp::from_millis(now.as_millis().saturating_sub(retention.age_ms)));
        self.trim_bytes(retention.bytes);
        self.trim_keys(Timestamp::from_millis(now.as_millis().saturating_sub(KEY_AGE_MS_MAX)));
        self.trim_order();
        Ok(false)
    }

    fn probe(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    fn recover(&self, now: Timestamp) -> Result<Recovered, StoreError> {
        let since = Timestamp::from_millis(now.as_millis().saturating_sub(Recovered::ENDED_RUNS_MS));
        let ended = self.ended.iter().filter(|(ended_at, _)| *ended_at >= since);
        let names = self.names();
        let open_run = |(number, run): (&RunNumber, &Run)| OpenRun {
            number: *number,
            project: names[run.project as usize].clone(),
            row: run.row.clone(),
            cancelled: run.cancelled,
        };
        let mut open_runs: Vec<_> = self.runs.iter().filter(|(_, run)| run.ended.is_none()).map(open_run).collect();
        open_runs.sort_by_key(|run| run.number);
        let ended_run = |&(ended_at, number): &(Timestamp, RunNumber)| {
            let project = names[self.runs.get(&number)?.project as usize].clone();
            Some(EndedRun { number, project, ended_at })
        };
        Ok(Recovered {
            projects: self.recovered_projects(&names),
            open_runs,
            ended_runs: ended.filter_map(ended_run).collect(),
            next_run_number: NonZeroU64::MIN.saturating_add(self.newest_run),
        })
    }

    fn run(&self, number: RunNumber) -> Result<Option<RunRow>, StoreError> {
        Ok(self.runs.get(&number).map(|run| run.row.clone()))
    }

    fn ended_summary(&self, number: RunNumber) -> Result<Option<Arc<[u8]>>, StoreError> {
        Ok(self.runs.get(&number).and_then(|run| run.ended.as_ref()).map(|ended| ended.summary.clone()))
    }

    fn run_by_key(&self, project: &ProjectId, key: &str, since: Timestamp) -> Result<Option<RunNumber>, StoreError> {
        let found = self.project(project).and_then(|log| log.keys.get(key));
        Ok(found.filter(|(_, at)| *at >= since).map(|(number, _)| *number))
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
}

impl History for MemoryStore {
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
        Ok(self.project(project).map_or(1, |log| log.messages.front().map_or(log.newest + 1, |message| message.seq)))
    }

    fn messages(
        &self,
        project: &ProjectId,
        after: u64,
        run: Option<RunNumber>,
        each: &mut dyn FnMut(&StoredMessage) -> Flow,
    ) -> Result<(), StoreError> {
        let Some(log) = self.project(project) else { return Ok(()) };
        let floor = log.messages.front().map_or(log.newest + 1, |message| message.seq);
        let at = |seq: u64| seq.checked_sub(floor).and_then(|index| log.messages.get(index as usize));
        match run {
            None => {
                let skipped = usize::try_from((after + 1).saturating_sub(floor)).unwrap_or(usize::MAX);
                let _ = log.messages.iter().skip(skipped).try_for_each(|message| proceed(each(message)));
            }
            Some(number) => {
                let Some(run) = self.runs.get(&number) else { return Ok(()) };
                let kept = run.kept.iter().filter(|message| message.seq > after);
                let from = run.seqs.partition_point(|&seq| seq <= after);
                let held = run.seqs.range(from..).filter_map(|&seq| at(seq));
                let _ = kept.chain(held).try_for_each(|message| proceed(each(message)));
            }
        }
        Ok(())
    }

    fn ended_state(&self, number: RunNumber) -> Result<Option<Arc<[u8]>>, StoreError> {
        Ok(self.runs.get(&number).and_then(|run| run.ended.as_ref()).map(|ended| ended.state.clone()))
    }

    fn run_number(&self, project: &ProjectId, run: &RunId) -> Result<Option<RunNumber>, StoreError> {
        Ok(self.project(project).and_then(|log| log.run_numbers.get(run)).copied())
    }

    fn document(&self, number: RunNumber) -> Result<Option<Arc<[u8]>>, StoreError> {
        Ok(self.run(number)?.map(|row| row.document))
    }

    fn output(&self, number: RunNumber, step: &StepId) -> Result<Option<StoredOutput>, StoreError> {
        let run = self.runs.get(&number);
        Ok(run.and_then(|run| run.outputs.get(step)).map(|(_, output)| output.clone()))
    }
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
    use crate::log::store::{MESSAGE_OVERHEAD_BYTES, Place};
    use crate::log::testing::{KEEP_ALL, created, ended, listed, message, number, project, seqs_of_run};

    fn trimmed(writes: &[Write], retention: Retention, now: u64) -> MemoryStore {
        let mut store = MemoryStore::new();
        assert_eq!(store.commit(writes), Ok(()));
        assert_eq!(store.trim(&retention, Timestamp::from_millis(now)), Ok(false));
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
        assert_eq!(store.commit(&end), Ok(()));
        assert_eq!(store.trim(&Retention { messages: 1, ..KEEP_ALL }, Timestamp::from_millis(10)), Ok(false));
        assert_eq!(seqs_of_run(&store, 1), [1, 6]);
        assert_eq!(store.run_bytes, 2 * (2 + MESSAGE_OVERHEAD_BYTES), "the two are what is left of the run");
    }

    #[test]
    fn the_order_of_messages_does_not_grow_behind_a_message_of_a_quiet_project() {
        let quiet = ProjectId::parse("quiet").expect("an id");
        let json: Arc<[u8]> = b"{}".as_slice().into();
        let at = Timestamp::from_millis(1);
        let first = StoredMessage { seq: 1, at, run: None, place: Place::Middle, json };
        let mut store = trimmed(&[Write::Message(first, quiet)], KEEP_ALL, 10);
        for seq in 1..=10_000 {
            assert_eq!(store.commit(&[message(seq, 1, None, Place::Middle)]), Ok(()));
            assert_eq!(store.trim(&Retention { messages: 10, ..KEEP_ALL }, Timestamp::from_millis(10)), Ok(false));
        }
        assert_eq!(store.held, 11);
        assert!(store.order.len() <= 2 * store.held + STALE_PLACES_MIN, "{} places", store.order.len());
        assert_eq!(store.trim(&Retention { bytes: 0, ..KEEP_ALL }, Timestamp::from_millis(10)), Ok(false));
        assert_eq!((store.held, store.order.len(), store.message_bytes), (0, 0, 0), "every message has its place");
    }

    #[test]
    fn idempotency_keys_are_forgotten_with_their_run_and_after_a_day_at_the_latest() {
        let with_key = |n: u64, at: u64| match created(n, 0) {
            Write::RunCreated { number, project, row } => {
                let created_at = Timestamp::from_millis(at);
                let row = RunRow { idempotency_key: Some("key".into()), created_at, ..*row };
                Write::RunCreated { number, project, row: Box::new(row) }
            }
            other => other,
        };
        let keys = |store: &MemoryStore| (store.keys.len(), store.projects[0].keys.len());
        let day = KEY_AGE_MS_MAX;
        let mut store = trimmed(&[with_key(1, 5)], KEEP_ALL, 5 + day);
        assert_eq!(keys(&store), (1, 1));
        assert_eq!(store.commit(&[with_key(2, 7 + day)]), Ok(()), "the key is used anew");
        assert_eq!(store.trim(&KEEP_ALL, Timestamp::from_millis(7 + day)), Ok(false));
        assert_eq!(keys(&store), (1, 1));
        let found = store.run_by_key(&project(), "key", Timestamp::from_millis(0));
        assert_eq!(found, Ok(Some(number(2))));
        store.drop_run(number(1));
        assert_eq!(keys(&store), (1, 1), "it is another run's");
        assert_eq!(store.trim(&KEEP_ALL, Timestamp::from_millis(8 + 2 * day)), Ok(false));
        assert_eq!(keys(&store), (0, 0));

        let mut store = trimmed(&[with_key(1, 5), ended(1, 1)], KEEP_ALL, 10);
        store.drop_run(number(1));
        assert_eq!(store.projects[0].keys.len(), 0);
    }
}
