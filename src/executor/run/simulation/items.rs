//! What the records of a run that has ended must be as to the items of its steps, however it was played.

use std::collections::HashMap;

use super::*;
use crate::model::{ItemCounts, ItemState, Step, StepUpdate};

/// Holds the records of a run against what is promised of items.
pub(super) fn check(new: &NewRun, records: &[Record]) {
    let steps = new.plan.steps.iter().filter(|step| step.for_each.is_some());
    let mut models: HashMap<_, _> = steps.map(|step| (step.id.clone(), Model::new(step, new))).collect();
    let mut wholes: HashMap<StepId, Arc<Value>> = HashMap::new();
    for record in records {
        match record {
            Record::Whole { step, output, .. } => drop(wholes.insert(step.clone(), output.clone())),
            Record::Item { step, state, .. } => models.get_mut(step).expect("a step with items").moves(state, &wholes),
            Record::Event { event, .. } => match &event.kind {
                RunEventKind::Progress(said) => {
                    models.get_mut(&said.step_id).into_iter().for_each(|model| model.told(said, &wholes));
                }
                RunEventKind::StepOutput(said) => {
                    models.get_mut(&said.step_id).into_iter().for_each(|model| {
                        let item = &model.items[&said.item.expect("it is an item's")];
                        assert_eq!((item.status, item.attempt), (StepStatus::Running, said.attempt));
                    });
                }
                _ => {}
            },
            _ => {}
        }
    }
}

struct Model<'a> {
    step: &'a Step,
    tries_all: bool,
    status: StepStatus,
    items: BTreeMap<u32, ItemState>,
    outputs: BTreeMap<u32, Value>,
    interruptions: BTreeMap<u32, u32>,
}

impl<'a> Model<'a> {
    fn new(step: &'a Step, new: &NewRun) -> Self {
        let (items, outputs, interruptions) = Default::default();
        let tries_all = step.tries_all_items(new.plan.on_failure);
        Self { step, tries_all, status: StepStatus::Pending, items, outputs, interruptions }
    }

    fn moves(&mut self, to: &ItemState, wholes: &HashMap<StepId, Arc<Value>>) {
        assert_eq!(self.status, StepStatus::Running, "only while its step runs");
        let before = self.items.get(&to.item).map(|item| (item.status, item.attempt));
        let (was, attempt) = before.unwrap_or((StepStatus::Pending, 0));
        assert!(!was.is_ended(), "item {} moves after its end", to.item);
        match to.status {
            StepStatus::Running => {
                assert_eq!(to.attempt, attempt + 1);
                let may_begin = before.is_some() || self.tries_all || self.count(StepStatus::Failed) == 0;
                assert!(may_begin, "none begins after one has failed");
                let runs_again = was == StepStatus::Running;
                assert!(!runs_again || &*self.step.tool != "once", "it must not run twice");
                let interruptions = self.interruptions.entry(to.item).or_default();
                *interruptions = if runs_again { *interruptions + 1 } else { 0 };
                assert!(&*self.step.tool == "wait" || *interruptions < INTERRUPTIONS_MAX, "it is tried again for ever");
            }
            StepStatus::Retrying => {
                assert_eq!((was, to.attempt), (StepStatus::Running, attempt));
                assert!(to.past.retries <= self.step.retry.max_retries);
            }
            StepStatus::Completed => {
                assert_eq!((was, to.attempt), (StepStatus::Running, attempt));
                let shown = to.output.as_deref().cloned().expect("an output");
                let whole = || wholes[&to.id(&self.step.id)].as_ref().clone();
                self.outputs.insert(to.item, if to.truncated { whole() } else { shown });
            }
            StepStatus::Failed | StepStatus::Cancelled => assert!(was != StepStatus::Pending && to.attempt == attempt),
            StepStatus::Pending | StepStatus::Waiting | StepStatus::Skipped => panic!("an item is {:?}", to.status),
        }
        self.items.insert(to.item, to.clone());
        let each = self.step.for_each.as_ref().expect("it has items");
        assert!(self.running() <= each.max_concurrent, "{} at a time", self.running());
    }

    fn told(&mut self, said: &StepProgress, wholes: &HashMap<StepId, Arc<Value>>) {
        self.status = said.update.status();
        let Some(counts) = said.items else {
            let is_kept = matches!(said.update, StepUpdate::Completed { reused: true, .. });
            let never_ran = is_kept || matches!(said.update, StepUpdate::Skipped { .. } | StepUpdate::Failed { .. });
            return assert!(never_ran, "{said:?}");
        };
        let (done, failed) = (self.count(StepStatus::Completed), self.count(StepStatus::Failed));
        assert_eq!(counts, ItemCounts { done, failed, running: self.running(), total: counts.total });
        match &said.update {
            StepUpdate::Running { .. } => assert_eq!(said.attempt, 1, "its items have attempts"),
            StepUpdate::Completed { output, truncated, .. } => {
                assert!(failed == 0 || self.step.tolerates_failed_items());
                assert_eq!((done + failed, self.running()), (counts.total, 0), "all were tried");
                let whole = if *truncated { wholes[&self.step.id].clone() } else { output.clone() };
                let item = |item: usize| self.outputs.get(&(item as u32)).cloned().unwrap_or_default();
                assert_eq!(*whole, (0..counts.total).map(item).collect::<Value>(), "in the order of the items");
            }
            StepUpdate::Failed { .. } => {
                assert!(failed > 0 && !self.step.tolerates_failed_items() && self.running() == 0);
                assert!(!self.tries_all || done + failed == counts.total, "all are tried");
            }
            StepUpdate::Cancelled { .. } => assert_eq!(self.running(), 0),
            StepUpdate::Skipped { .. } | StepUpdate::Retrying { .. } | StepUpdate::Waiting { .. } => panic!("{said:?}"),
        }
    }

    fn count(&self, status: StepStatus) -> usize {
        self.items.values().filter(|item| item.status == status).count()
    }

    fn running(&self) -> usize {
        self.count(StepStatus::Running) + self.count(StepStatus::Retrying)
    }
}
