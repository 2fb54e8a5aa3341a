//! The messages of runs that the log has not stored yet, and the jobs that must not start before that. Pure.
//!
//! The executor never waits for the log. Messages of runs go into a queue here, from which the log gets batches, a
//! bounded number at a time; it confirms how many it has stored. If it is behind by more than the [`Limits`], or its
//! store is unavailable, no run and no attempt [starts](Ledger::holds_up), and tools with much output are
//! [paused](Ledger::is_loud). Timers and cancellations continue, and their messages are queued as well.
//!
//! So the queue is bounded by the limits, plus what follows after nothing starts any more: the content of the reports
//! channel (16 MiB), for each worker what its attempt writes before it waits (64 KiB) and its output, and for each
//! active run at most one message for each of its steps and levels, and its last message.

use std::collections::VecDeque;
use std::time::Duration;

use serde_json::Value;

use super::scheduler::Job;
use crate::model::{ItemState, Record, RunEvent, RunEventKind, StepUpdate};

/// How many records may wait for the log.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The most batches under way at a time. While that many are, the next batch grows.
    pub batches: usize,
    /// Records, on their way and queued, up to which runs and attempts begin. At 50,000 a second a third of a second's.
    pub records: usize,
    /// Bytes up to which they do: those of [`loud_bytes`](Self::loud_bytes), what the reports' channel may hold by then
    /// (16 MiB), and as much again, so that steps with much to say keep no other from beginning.
    pub bytes: usize,
    /// Bytes from which on tools with much to say are paused, until it is half as much: what a store on disk writes in a
    /// few hundredths of a second.
    pub loud_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { batches: 256, records: 16 * 1024, bytes: 36 << 20, loud_bytes: 4 << 20 }
    }
}

/// How long a batch that the log had no room for is kept before it is offered again, where nothing else happens.
pub(super) const OFFER_AGAIN: Duration = Duration::from_millis(2);

/// The overhead of a record.
const RECORD_BYTES: usize = 256;

/// See the [module](self).
#[derive(Debug)]
pub struct Ledger {
    limits: Limits,
    /// Records that the log was not handed yet, in order.
    queue: Vec<Record>,
    /// The load of each batch under way, the oldest first.
    handed: VecDeque<Load>,
    /// The number of batches stored so far.
    kept: u64,
    /// The load of the queue alone, and of all.
    queued: Load,
    load: Load,
    /// Jobs, each with the number of the batch that must be stored before it begins.
    withheld: VecDeque<(u64, Job)>,
    /// The store is down.
    is_down: bool,
    /// Over a limit, and not below half of it again.
    is_full: bool,
    is_loud: bool,
    /// When a batch is offered again that the log had no room for.
    offer_at: Option<Duration>,
}

/// What records weigh.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Load {
    records: usize,
    bytes: usize,
}

impl Ledger {
    /// One in which nothing is written.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            queue: Vec::new(),
            handed: VecDeque::new(),
            kept: 0,
            queued: Load::default(),
            load: Load::default(),
            withheld: VecDeque::new(),
            is_down: false,
            is_full: false,
            is_loud: false,
            offer_at: None,
        }
    }

    /// Queues what runs said.
    pub fn push(&mut self, mut records: Vec<Record>) {
        for record in &records {
            let weight = Load { records: 1, bytes: weight(record) };
            self.queued.add(weight);
            self.load.add(weight);
        }
        match self.queue.is_empty() {
            true => self.queue = records,
            false => self.queue.append(&mut records),
        }
        self.look();
    }

    /// Keeps a job back until everything that was queued so far is kept.
    pub fn withhold(&mut self, job: Job) {
        self.withheld.push_back((self.mark(), job));
    }

    /// How many batches [are kept](Self::kept) once everything is that was queued so far.
    pub fn mark(&self) -> u64 {
        self.kept + self.handed.len() as u64 + u64::from(!self.queue.is_empty())
    }

    /// The next batch for the log, which counts as handed over now. None while there is nothing to say, or the store takes
    /// nothing, or the log has as many as it may.
    pub fn next_batch(&mut self) -> Option<Vec<Record>> {
        self.offer_at = None;
        if !self.has_batch() {
            return None;
        }
        self.handed.push_back(std::mem::take(&mut self.queued));
        Some(std::mem::take(&mut self.queue))
    }

    /// Is there something to hand over that may be?
    pub fn has_batch(&self) -> bool {
        !self.queue.is_empty() && !self.is_down && self.handed.len() < self.limits.batches
    }

    /// The log had no room for the newest batch.
    pub fn give_back(&mut self, mut batch: Vec<Record>, now: Duration) {
        self.queued.add(self.handed.pop_back().unwrap_or_default());
        batch.append(&mut self.queue);
        self.queue = batch;
        self.offer_at = Some(now + OFFER_AGAIN);
    }

    /// `batches` batches are stored so far.
    pub fn note_kept(&mut self, batches: u64) {
        while self.kept < batches
            && let Some(oldest) = self.handed.pop_front()
        {
            self.load.remove(oldest);
            self.kept += 1;
        }
        self.look();
    }

    /// How many batches were kept so far.
    pub fn kept(&self) -> u64 {
        self.kept
    }

    /// The store takes nothing any more, or everything again.
    pub fn set_down(&mut self, is_down: bool) {
        self.is_down = is_down;
    }

    /// The jobs that may begin now; none while the store takes nothing.
    pub fn release(&mut self) -> impl Iterator<Item = Job> {
        let n = if self.is_down { 0 } else { self.withheld.partition_point(|(number, _)| *number <= self.kept) };
        self.withheld.drain(..n).map(|(_, job)| job)
    }

    /// The jobs that were cancelled before they might begin.
    pub fn take_cancelled(&mut self) -> Vec<Job> {
        let (cancelled, rest) = self.withheld.drain(..).partition(|(_, job)| job.launch.cancel.is_cancelled());
        self.withheld = rest;
        VecDeque::into_iter(cancelled).map(|(_, job)| job).collect()
    }

    /// Forgets what the log was not handed, and the jobs that wait for it to be kept, which come back. What was handed over
    /// goes on to be counted, whatever the log makes of it.
    pub fn forget(&mut self) -> impl Iterator<Item = Job> {
        self.queue.clear();
        self.load.remove(std::mem::take(&mut self.queued));
        self.offer_at = None;
        self.look();
        std::mem::take(&mut self.withheld).into_iter().map(|(_, job)| job)
    }

    /// Should nothing begin?
    pub fn holds_up(&self) -> bool {
        self.is_down || self.is_full
    }

    /// Should tools that have much to say be paused?
    pub fn is_loud(&self) -> bool {
        self.is_down || self.is_loud
    }

    /// Does anything wait for the log to store more?
    pub fn awaits_receipt(&self) -> bool {
        self.is_full || self.is_loud || !self.withheld.is_empty() || !self.queue.is_empty()
    }

    /// When a batch is offered again, on the monotonic clock.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.offer_at.filter(|_| self.has_batch())
    }

    /// What the log was not handed.
    pub fn into_rest(self) -> Vec<Record> {
        self.queue
    }

    /// Records that are not stored yet.
    #[cfg(test)]
    pub fn records(&self) -> usize {
        self.load.records
    }

    fn look(&mut self) {
        let Limits { records, bytes, loud_bytes, .. } = self.limits;
        let share = if self.is_full { 2 } else { 1 };
        self.is_full = self.load.records > records / share || self.load.bytes > bytes / share;
        self.is_loud = self.load.bytes > if self.is_loud { loud_bytes / 2 } else { loud_bytes };
    }
}

impl Load {
    fn add(&mut self, more: Self) {
        self.records += more.records;
        self.bytes += more.bytes;
    }

    fn remove(&mut self, less: Self) {
        self.records -= less.records;
        self.bytes -= less.bytes;
    }
}

/// About how much memory a record takes. What a step returned is held by its run too, but no longer than that goes on.
fn weight(record: &Record) -> usize {
    let said = match record {
        Record::Output { bytes, .. } => bytes.len(),
        Record::Whole { output, .. } => value_bytes(output),
        Record::Verdict { verdict, .. } => verdict.answer.as_ref().map_or(0, value_bytes),
        Record::Item { state, .. } => size_of::<ItemState>() + state.output.as_deref().map_or(0, value_bytes),
        Record::Plan { document, events, .. } => document.len() + events.iter().map(event_bytes).sum::<usize>(),
        Record::Event { event, .. } => event_bytes(event),
    };
    RECORD_BYTES + said
}

/// About how much memory what a message carries takes.
fn event_bytes(event: &RunEvent) -> usize {
    match &event.kind {
        RunEventKind::StepOutput(said) => said.chunk.len(),
        RunEventKind::Progress(progress) => match &progress.update {
            StepUpdate::Completed { output, .. } => value_bytes(output),
            _ => 0,
        },
        RunEventKind::Completed(completed) => completed.outputs.values().map(value_bytes).sum(),
        _ => 0,
    }
}

/// About how much memory a value takes.
fn value_bytes(value: &Value) -> usize {
    size_of::<Value>()
        + match value {
            Value::String(text) => text.len(),
            Value::Array(items) => items.iter().map(value_bytes).sum(),
            Value::Object(members) => members.iter().map(|(name, value)| name.len() + value_bytes(value)).sum(),
            Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::executor::run::{Effects, Run};
    use crate::executor::testing::{context, new_run, plan, step_id};
    use crate::executor::tool::Outcome;
    use crate::model::{Now, OutputStream, ProjectId, RunId};

    const LIMITS: Limits = Limits { batches: 2, records: 4, bytes: 20_000, loud_bytes: 4000 };

    fn says(bytes: usize) -> Record {
        let (project, run) = (ProjectId::parse("p").expect("an id"), RunId::parse("r").expect("an id"));
        let stream = OutputStream::Stdout;
        Record::Output { project, run, step: step_id("a"), attempt: 1, stream, bytes: vec![b'x'; bytes] }
    }

    #[test]
    fn the_log_is_handed_few_batches_at_a_time_in_order_and_nothing_while_it_is_down() {
        let mut ledger = Ledger::new(LIMITS);
        assert_eq!(ledger.next_batch(), None);
        for n in 1..=2 {
            ledger.push(vec![says(n)]);
            assert_eq!(ledger.next_batch(), Some(vec![says(n)]));
        }
        ledger.push(vec![says(3)]);
        ledger.push(vec![says(4)]);
        assert_eq!((ledger.next_batch(), ledger.awaits_receipt()), (None, true), "it has as many as it may");
        ledger.note_kept(1);
        ledger.set_down(true);
        assert_eq!((ledger.next_batch(), ledger.holds_up(), ledger.is_loud()), (None, true, true));
        ledger.set_down(false);
        assert_eq!(ledger.next_batch(), Some(vec![says(3), says(4)]), "the larger for it");
        assert!(!ledger.holds_up());
    }

    #[test]
    fn a_batch_that_the_log_has_no_room_for_comes_again_before_what_is_newer() {
        let mut ledger = Ledger::new(LIMITS);
        ledger.push(vec![says(1)]);
        let batch = ledger.next_batch().expect("a batch");
        ledger.give_back(batch, Duration::ZERO);
        assert_eq!(ledger.next_deadline(), Some(OFFER_AGAIN));
        ledger.push(vec![says(2)]);
        assert_eq!(ledger.next_batch(), Some(vec![says(1), says(2)]));
        assert_eq!(ledger.next_deadline(), None);
        ledger.note_kept(1);
        assert_eq!((ledger.load, ledger.queued), (Load::default(), Load::default()));
    }

    #[test]
    fn beyond_its_limits_nothing_begins_until_half_is_kept() {
        let mut ledger = Ledger::new(LIMITS);
        for (bytes, expected) in
            [(3000, (false, false)), (3000, (false, true)), (3000, (false, true)), (0, (false, true))]
        {
            ledger.push(vec![says(bytes)]);
            assert_eq!((ledger.holds_up(), ledger.is_loud()), expected);
        }
        ledger.next_batch().expect("a batch");
        ledger.push((0..3).map(|_| says(0)).collect());
        assert_eq!((ledger.holds_up(), ledger.is_loud()), (true, true));
        ledger.note_kept(1);
        assert_eq!((ledger.holds_up(), ledger.is_loud()), (true, false), "three are more than half of four");
        ledger.next_batch().expect("a batch");
        ledger.note_kept(2);
        assert_eq!((ledger.holds_up(), ledger.is_loud()), (false, false));
    }
    #[test]
    fn what_steps_returned_weighed_nothing_however_much_of_it_the_log_had_yet_to_keep() {
        for (output, least) in [(json!("x".repeat(10_000)), 10_000), (json!({"a": [1, null, "b"]}), 64)] {
            let mut run = Run::new(new_run("r", plan(&["a"])), context());
            let (now, mut effects) = (Now::default(), Effects::default());
            run.start(now, &mut effects);
            let launch = run.take(now, &mut effects).expect("a step");
            effects.records.clear();
            run.finish((launch.unit, launch.attempt), Ok(Outcome::Output(output)), now, &mut effects);
            assert!(run.is_ended(), "nothing else holds it");
            let mut ledger = Ledger::new(LIMITS);
            ledger.push(effects.records);
            let Load { records, bytes } = ledger.load;
            assert!(bytes >= records * RECORD_BYTES + least, "{records} records weigh {bytes}");
            ledger.next_batch().expect("a batch");
            ledger.note_kept(1);
            assert_eq!(ledger.load, Load::default());
        }
    }
}
