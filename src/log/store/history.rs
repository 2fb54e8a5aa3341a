//! The reading half of a store.

use std::ops::Range;
use std::sync::Arc;

use super::{
    DueRow, DueTimes, Ends, PlanCounts, PlanRow, RunNumber, StoreError, StoredMessage, StoredOutput, WantedPlans,
};
use crate::model::{OutputStream, PlanName, ProjectId, RunId, RunStatus, StepId, Timestamp};

/// The reading half of a store. Between two calls on one of these nothing of it changes.
pub trait History {
    /// The `seq` of a project's newest message; 0 where it never had one.
    ///
    /// # Errors
    /// If it can't be read.
    fn newest(&self, project: &ProjectId) -> Result<u64, StoreError>;

    /// The `seq` of the oldest message of a project's continuous history; one more than the newest if there is no
    /// message.
    ///
    /// # Errors
    /// If it can't be read.
    fn floor(&self, project: &ProjectId) -> Result<u64, StoreError>;

    /// Calls `each` with a project's messages after `after` in order, until it says stop. With `run`, only with that
    /// run's: its first and last even if the rest is gone, and the turns of one that has not ended.
    ///
    /// # Errors
    /// If they can't be read.
    fn messages(
        &self,
        project: &ProjectId,
        after: u64,
        run: Option<RunNumber>,
        each: &mut dyn FnMut(&StoredMessage) -> Flow,
    ) -> Result<(), StoreError>;

    /// Calls `each` with a project's messages before `before`, newest first, until it says stop.
    ///
    /// # Errors
    /// If they can't be read.
    fn messages_before(
        &self,
        project: &ProjectId,
        before: u64,
        each: &mut dyn FnMut(&StoredMessage) -> Flow,
    ) -> Result<(), StoreError>;

    /// The number of the run of this id.
    ///
    /// # Errors
    /// If it can't be read.
    fn run_number(&self, project: &ProjectId, run: &RunId) -> Result<Option<RunNumber>, StoreError>;

    /// Where a run begins and ends; none if it is not kept.
    ///
    /// # Errors
    /// If it can't be read.
    fn ends(&self, number: RunNumber) -> Result<Option<Ends>, StoreError>;

    /// The state in which a run ended.
    ///
    /// # Errors
    /// If it can't be read.
    fn ended_state(&self, number: RunNumber) -> Result<Option<Arc<[u8]>>, StoreError>;

    /// The summary of a run that has ended.
    ///
    /// # Errors
    /// If it can't be read.
    fn ended_summary(&self, number: RunNumber) -> Result<Option<Arc<[u8]>>, StoreError>;

    /// Numbers of a project's runs, newest first, older than `before`; with `ended_as`, of those alone that ended so.
    ///
    /// # Errors
    /// If they can't be read.
    fn runs(
        &self,
        project: &ProjectId,
        before: Option<RunNumber>,
        ended_as: Option<RunStatus>,
        each: &mut dyn FnMut(RunNumber) -> Flow,
    ) -> Result<(), StoreError>;

    /// The plan and the inputs that a run was taken on with: JSON.
    ///
    /// # Errors
    /// If they can't be read.
    fn document(&self, number: RunNumber) -> Result<Option<Arc<[u8]>>, StoreError>;

    /// How much is kept of a step's output.
    ///
    /// # Errors
    /// If it can't be read.
    fn output(&self, number: RunNumber, step: &StepId) -> Result<Option<StoredOutput>, StoreError>;

    /// Appends these bytes of what a step wrote to `to`, as many of them as there are, and reads no others.
    ///
    /// # Errors
    /// If they can't be read.
    fn output_bytes(
        &self,
        number: RunNumber,
        step: &StepId,
        stream: OutputStream,
        range: Range<u64>,
        to: &mut Vec<u8>,
    ) -> Result<(), StoreError>;

    /// The size of the whole output of a step whose message has only the beginning of it; nothing where that is not kept.
    ///
    /// # Errors
    /// If it can't be read.
    fn whole_length(&self, number: RunNumber, step: &StepId) -> Result<Option<u64>, StoreError>;

    /// Appends these bytes of it to `to`, as many of them as there are: JSON.
    ///
    /// # Errors
    /// If they can't be read.
    fn whole_bytes(
        &self,
        number: RunNumber,
        step: &StepId,
        range: Range<u64>,
        to: &mut Vec<u8>,
    ) -> Result<(), StoreError>;

    /// Calls `each` with what is kept of a step's items from this one on, in their order, until it says stop: rows, as
    /// [`ItemState::to_row`](crate::model::ItemState::to_row) makes them.
    ///
    /// # Errors
    /// If they can't be read.
    fn items(
        &self,
        number: RunNumber,
        step: &StepId,
        from: u32,
        each: &mut dyn FnMut(u32, &[u8]) -> Flow,
    ) -> Result<(), StoreError>;

    /// The webhooks for which something waits, by their names, and how much.
    ///
    /// # Errors
    /// If it can't be read.
    fn outbox(&self) -> Result<Vec<(Arc<str>, u64)>, StoreError>;

    /// Calls `each` with what of it is due for a webhook, what was put off least first, until it says stop.
    ///
    /// # Errors
    /// If it can't be read.
    fn due(&self, webhook: &str, times: DueTimes, each: &mut dyn FnMut(&DueRow) -> Flow) -> Result<(), StoreError>;

    /// When the next event of the webhook becomes due.
    ///
    /// # Errors
    /// If it can't be read.
    fn next_due(&self, webhook: &str, times: DueTimes) -> Result<Option<Timestamp>, StoreError>;

    /// Calls `each` with stored plans until it says stop.
    ///
    /// # Errors
    /// If they can't be read.
    fn plans(&self, wanted: WantedPlans<'_>, each: &mut dyn FnMut(&PlanRow) -> Flow) -> Result<(), StoreError>;

    /// The document of a stored plan: JSON.
    ///
    /// # Errors
    /// If it can't be read.
    fn plan_document(&self, project: &ProjectId, name: &PlanName) -> Result<Option<Arc<[u8]>>, StoreError>;

    /// How much is stored, and of this project.
    ///
    /// # Errors
    /// If it can't be read.
    fn plan_counts(&self, project: &ProjectId) -> Result<PlanCounts, StoreError>;

    /// The stored plan of this name.
    ///
    /// # Errors
    /// If it can't be read.
    fn plan(&self, project: &ProjectId, name: &PlanName) -> Result<Option<PlanRow>, StoreError> {
        let mut found = None;
        self.plans(WantedPlans::Named(project, name), &mut |row| {
            found = Some(row.clone());
            Flow::Stop
        })?;
        Ok(found)
    }

    /// All of it.
    ///
    /// # Errors
    /// If it can't be read.
    fn whole_output(&self, number: RunNumber, step: &StepId) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(length) = self.whole_length(number, step)? else { return Ok(None) };
        let mut json = Vec::new();
        self.whole_bytes(number, step, 0..length, &mut json)?;
        Ok(Some(json))
    }
}

/// A way to look at what is read: what it calls is called with all that is committed by then, and is not long about it.
pub(in crate::log) type Look<'a> =
    &'a mut dyn FnMut(&mut dyn FnMut(&dyn History) -> Result<(), StoreError>) -> Result<(), StoreError>;

/// Reads a store on another thread than the one that writes it.
pub trait Reader: Send {
    /// Calls `look` with all that is committed by now.
    ///
    /// # Errors
    /// If it can't be read, or what `look` says.
    fn look(&mut self, look: &mut dyn FnMut(&dyn History) -> Result<(), StoreError>) -> Result<(), StoreError>;
}

/// Whether a reader wants more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// The next one, please.
    More,
    /// Stop calling.
    Stop,
}
