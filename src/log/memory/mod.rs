//! The store in memory: it is empty after a restart.
//!
//! A reader on another thread locks it for one short lookup; large values are shared, not copied.

mod contents;
mod outbox;
mod plans;

use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use self::contents::Contents;
use super::store::{
    AppendError, BeatError, DueRow, DueTimes, Ends, Flow, Head, History, KeyRow, PlanCounts, PlanRow, Reader,
    Recovered, RecoveredProject, Retention, RunNumber, RunRow, Store, StoreError, StoredMessage, StoredOutput, Times,
    Trimmed, WantedPlans, Write,
};
use crate::model::{OutputStream, PlanName, ProjectId, RunId, RunStatus, StepId, Timestamp};

/// Keeps the log in memory.
#[derive(Default)]
pub struct MemoryStore {
    contents: Arc<RwLock<Contents>>,
}

impl MemoryStore {
    /// A store that holds nothing.
    pub fn new() -> Self {
        Self::default()
    }

    fn contents(&self) -> RwLockReadGuard<'_, Contents> {
        self.contents.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn contents_mut(&self) -> RwLockWriteGuard<'_, Contents> {
        self.contents.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks into a [`MemoryStore`] that someone else writes.
struct MemoryReader {
    contents: Arc<RwLock<Contents>>,
}

impl Reader for MemoryReader {
    fn look(&mut self, look: &mut dyn FnMut(&dyn History) -> Result<(), StoreError>) -> Result<(), StoreError> {
        look(&*self.contents.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Store for MemoryStore {
    fn append(&mut self, expected: &[Head], entries: &[Write], wall: Timestamp) -> Result<(), AppendError> {
        self.contents_mut().append(expected, entries, wall)
    }

    fn trim(&mut self, retention: &Retention, now: Times) -> Result<Trimmed, StoreError> {
        self.contents_mut().trim(retention, now)
    }

    fn trim_outbox(&mut self, rows_max: u64) -> Result<Vec<(Arc<str>, u64)>, StoreError> {
        self.contents_mut().trim_outbox(rows_max)
    }

    fn probe(&mut self) -> Result<(), BeatError> {
        Ok(())
    }

    fn recover(&self) -> Result<Recovered, StoreError> {
        self.contents().recover()
    }

    fn remains(&self, project: &ProjectId) -> Result<Option<RecoveredProject>, StoreError> {
        self.contents().remains(project)
    }

    fn run(&self, number: RunNumber) -> Result<Option<RunRow>, StoreError> {
        self.contents().run(number)
    }

    fn key(&self, project: &ProjectId, name: &str) -> Result<Option<KeyRow>, StoreError> {
        self.contents().key(project, name)
    }

    fn key_bytes(&self, project: &ProjectId) -> Result<u64, StoreError> {
        self.contents().key_bytes(project)
    }

    fn reader(&self) -> Result<Option<Box<dyn Reader>>, StoreError> {
        Ok(Some(Box::new(MemoryReader { contents: self.contents.clone() })))
    }
}

impl History for MemoryStore {
    fn newest(&self, project: &ProjectId) -> Result<u64, StoreError> {
        self.contents().newest(project)
    }

    fn floor(&self, project: &ProjectId) -> Result<u64, StoreError> {
        self.contents().floor(project)
    }

    fn messages(
        &self,
        project: &ProjectId,
        after: u64,
        run: Option<RunNumber>,
        each: &mut dyn FnMut(&StoredMessage) -> Flow,
    ) -> Result<(), StoreError> {
        self.contents().messages(project, after, run, each)
    }

    fn messages_before(
        &self,
        project: &ProjectId,
        before: u64,
        each: &mut dyn FnMut(&StoredMessage) -> Flow,
    ) -> Result<(), StoreError> {
        self.contents().messages_before(project, before, each)
    }

    fn run_number(&self, project: &ProjectId, run: &RunId) -> Result<Option<RunNumber>, StoreError> {
        self.contents().run_number(project, run)
    }

    fn ends(&self, number: RunNumber) -> Result<Option<Ends>, StoreError> {
        self.contents().ends(number)
    }

    fn ended_state(&self, number: RunNumber) -> Result<Option<Arc<[u8]>>, StoreError> {
        self.contents().ended_state(number)
    }

    fn ended_summary(&self, number: RunNumber) -> Result<Option<Arc<[u8]>>, StoreError> {
        self.contents().ended_summary(number)
    }

    fn runs(
        &self,
        project: &ProjectId,
        before: Option<RunNumber>,
        ended_as: Option<RunStatus>,
        each: &mut dyn FnMut(RunNumber) -> Flow,
    ) -> Result<(), StoreError> {
        self.contents().runs(project, before, ended_as, each)
    }

    fn document(&self, number: RunNumber) -> Result<Option<Arc<[u8]>>, StoreError> {
        self.contents().document(number)
    }

    fn output(&self, number: RunNumber, step: &StepId) -> Result<Option<StoredOutput>, StoreError> {
        self.contents().output(number, step)
    }

    fn output_bytes(
        &self,
        number: RunNumber,
        step: &StepId,
        stream: OutputStream,
        range: Range<u64>,
        to: &mut Vec<u8>,
    ) -> Result<(), StoreError> {
        self.contents().output_bytes(number, step, stream, range, to)
    }

    fn whole_length(&self, number: RunNumber, step: &StepId) -> Result<Option<u64>, StoreError> {
        self.contents().whole_length(number, step)
    }

    fn whole_bytes(
        &self,
        number: RunNumber,
        step: &StepId,
        range: Range<u64>,
        to: &mut Vec<u8>,
    ) -> Result<(), StoreError> {
        self.contents().whole_bytes(number, step, range, to)
    }

    fn items(
        &self,
        number: RunNumber,
        step: &StepId,
        from: u32,
        each: &mut dyn FnMut(u32, &[u8]) -> Flow,
    ) -> Result<(), StoreError> {
        self.contents().items(number, step, from, each)
    }

    fn outbox(&self) -> Result<Vec<(Arc<str>, u64)>, StoreError> {
        self.contents().outbox()
    }

    fn due(&self, webhook: &str, times: DueTimes, each: &mut dyn FnMut(&DueRow) -> Flow) -> Result<(), StoreError> {
        self.contents().due(webhook, times, each)
    }

    fn next_due(&self, webhook: &str, times: DueTimes) -> Result<Option<Timestamp>, StoreError> {
        self.contents().next_due(webhook, times)
    }

    fn plans(&self, wanted: WantedPlans<'_>, each: &mut dyn FnMut(&PlanRow) -> Flow) -> Result<(), StoreError> {
        self.contents().plans(wanted, each)
    }

    fn plan_document(&self, project: &ProjectId, name: &PlanName) -> Result<Option<Arc<[u8]>>, StoreError> {
        self.contents().plan_document(project, name)
    }

    fn plan_counts(&self, project: &ProjectId) -> Result<PlanCounts, StoreError> {
        self.contents().plan_counts(project)
    }
}
