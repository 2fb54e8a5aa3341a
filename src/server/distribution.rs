//! Where what leaves the log goes: to the loop, the executor, and those who wait elsewhere.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, OnceLock};

use super::inbox::{Inbox, InboxSender};
use crate::executor::{ExecutorHandle, NewRun, ResumedRun};
use crate::log::{self, Delivery, Order, Outcome, ReplyTo};
use crate::model::RunId;

/// Hands out what leaves the log. The loop is told before anyone else who waits, so that whoever has been answered finds
/// that the loop knows.
pub(super) fn distribute(
    executor: Arc<OnceLock<ExecutorHandle>>,
    inbox: InboxSender,
) -> impl FnMut(Outcome) + Send + Clone + 'static {
    move |outcome| {
        for order in outcome.orders {
            let Some(executor) = executor.get() else { continue };
            carry_out(order, executor);
        }
        let mut deliveries = outcome.deliveries;
        let is_of_others = |delivery: &mut Delivery| matches!(delivery, Delivery::Reply { to: ReplyTo::Caller(_), .. });
        let others: Vec<Delivery> = deliveries.extract_if(.., is_of_others).collect();
        if !deliveries.is_empty() {
            inbox.send(Inbox::Log(deliveries));
        }
        for delivery in others {
            if let Delivery::Reply { to: ReplyTo::Caller(caller), answer } = delivery {
                // Whoever has given up waiting is told nothing.
                let _ = caller.try_send(answer);
            }
        }
    }
}

fn carry_out(order: Order, executor: &ExecutorHandle) {
    // Another one in each process, as the state of a hash is, so that many servers don't retry in step.
    let seed = |run: &RunId| RandomState::new().hash_one(run);
    match order {
        Order::Start { project, run, plan, created_at } => {
            let seed = seed(&run);
            executor.start(NewRun { project, run, plan, created_at, seed });
        }
        Order::Resume(resumed) => {
            let log::Resumed { project, plan, state, whole_outputs, cancelled } = *resumed;
            let (run, created_at) = (state.run_id.clone(), state.created_at);
            let seed = seed(&run);
            let new = NewRun { project, run, plan, created_at, seed };
            executor.resume(ResumedRun { new, state, whole_outputs, cancelled });
        }
        Order::Cancel { project, run } => executor.cancel(project, run),
        Order::Kept(batches) => executor.kept(batches),
        Order::StoreIsDown(is_down) => executor.store_is_down(is_down),
    }
}
