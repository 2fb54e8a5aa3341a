//! What the executor is told about a run by an order of the log.

use std::collections::HashMap;

use crate::executor::{NewRun, ResumedRun};
use crate::log::{Order, Resumed};
use crate::model::{ProjectId, RunId};

/// What the executor is told of a run that was taken on.
pub(super) fn new_run(project: ProjectId, run: RunId, order: &Order, seed: u64) -> Option<NewRun> {
    match order {
        Order::Start { plan, created_at, whole_outputs, is_held, .. } => {
            let (plan, whole_outputs) = (plan.clone(), whole_outputs.clone());
            let (created_at, is_held) = (*created_at, *is_held);
            Some(NewRun { project, run, plan, created_at, seed, whole_outputs, is_held })
        }
        Order::Resume(_)
        | Order::Release { .. }
        | Order::Cancel { .. }
        | Order::Steer { .. }
        | Order::ChildEnded { .. }
        | Order::Abandon(_)
        | Order::Kept(_)
        | Order::StoreIsDown(_) => None,
    }
}

/// What the executor is told of a run that is to go on.
pub(super) fn resumed_run(order: Order, seed: u64) -> Option<ResumedRun> {
    let Order::Resume(resumed) = order else { return None };
    let Resumed { project, plan, state, whole_outputs, items, cancelled, is_held } = *resumed;
    let (run, created_at) = (state.run_id.clone(), state.created_at);
    let new = NewRun { project, run, plan, created_at, seed, whole_outputs: HashMap::new(), is_held };
    Some(ResumedRun { new, state, whole_outputs, items, cancelled })
}
