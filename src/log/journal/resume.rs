//! Runs that a journal continues: those left by an earlier process, and those taken over from other nodes.

use std::collections::HashMap;
use std::sync::Arc;

use super::Journal;
use super::load::{Loaded, unreadable};
use crate::log::lookup;
use crate::log::protocol::{Order, Resumed};
use crate::log::store::{OpenRun, RunNumber, RunSet, StoreError};
use crate::model::{ItemState, RunState, StepId, StepState};

impl Journal {
    /// Goes on with the runs that the store says are this node's and that nobody runs here: an earlier process of it has left
    /// them, or they were taken over. Those that can't go on are to have their last messages.
    pub(super) fn adopt(&mut self, loaded: &mut Loaded) -> Result<(), StoreError> {
        let is_left = |run: &OpenRun| !run.is_foreign && !self.ours.contains(&run.number);
        let unreadable: Vec<_> = loaded.unreadable.extract_if(.., |(run, _)| is_left(run)).collect();
        let left: Vec<_> = loaded.open.iter().filter(|run| is_left(run)).cloned().collect();
        let runs = left.iter().chain(unreadable.iter().map(|(run, _)| run));
        let numbers: RunSet = runs.map(|run| run.number).collect();
        if numbers.is_empty() {
            return Ok(());
        }
        for number in &numbers {
            if let Some(entry) = self.runs.get_mut(number) {
                entry.is_foreign = false;
            }
        }
        self.wait_in_groups(&loaded.open, &numbers);
        let orders: Result<Vec<_>, _> = left.into_iter().filter_map(|run| self.resume(run).transpose()).collect();
        let orders = orders.inspect_err(|_| self.held.retain(|number| !numbers.contains(number)))?;
        loaded.orders.extend(orders);
        self.unreadable.extend(unreadable);
        self.ours.extend(numbers);
        Ok(())
    }

    /// The order to go on with a run.
    fn resume(&self, run: OpenRun) -> Result<Option<Order>, StoreError> {
        let Some(entry) = self.runs.get(&run.number) else { return Ok(None) };
        let Some(plan) = entry.plan.clone() else { return Ok(None) };
        let state = RunState::clone(&entry.state);
        let mut whole_outputs = HashMap::new();
        let truncated = state.steps.iter().filter(|step| step.truncated).map(|step| &step.id);
        // Outputs for steps that have not started are stored, too.
        let to_come = plan.kept_wholes().filter(|step| state.step(step).is_some_and(|step| !step.truncated));
        for step in truncated.chain(to_come) {
            if let Some(output) = self.whole_output(run.number, step)? {
                whole_outputs.insert(step.clone(), output);
            }
        }
        let items = self.items_to_resume(&run, &state, &mut whole_outputs)?;
        let (project, cancelled, is_held) = (run.project, run.cancelled, entry.is_held);
        let resumed = Resumed { project, plan, state, whole_outputs, items, cancelled, is_held };
        Ok(Some(Order::Resume(Box::new(resumed))))
    }

    /// What is stored of the items of steps that continue. Their whole outputs are with those of steps.
    fn items_to_resume(
        &self,
        run: &OpenRun,
        state: &RunState,
        whole_outputs: &mut HashMap<StepId, Arc<serde_json::Value>>,
    ) -> Result<HashMap<StepId, Vec<ItemState>>, StoreError> {
        let mut items = HashMap::new();
        let goes_on = |step: &&Arc<StepState>| step.items.is_some() && !step.status.is_ended();
        for step in state.steps.iter().filter(goes_on) {
            let kept = lookup::items::read(&*self.store, run.number, &step.id)?;
            for item in kept.iter().filter(|item| item.truncated) {
                let id = item.id(&step.id);
                if let Some(output) = self.whole_output(run.number, &id)? {
                    whole_outputs.insert(id, output);
                }
            }
            items.insert(step.id.clone(), kept);
        }
        Ok(items)
    }

    pub(super) fn whole_output(
        &self,
        run: RunNumber,
        step: &StepId,
    ) -> Result<Option<Arc<serde_json::Value>>, StoreError> {
        let whole = self.store.whole_output(run, step)?;
        whole
            .map(|json| serde_json::from_slice(&json).map(Arc::new).map_err(|error| unreadable(run, &error)))
            .transpose()
    }
}
