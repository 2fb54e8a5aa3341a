//! Distributes the output of the log: to the loop, to the executor, and to threads that wait for an answer.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use super::inbox::{Inbox, InboxSender};
use crate::executor::{AttemptError, ChildEnd, ExecutorHandle, NewRun, ResumedRun};
use crate::log::{self, ChildResult, Delivery, Order, Outcome, ReplyTo};
use crate::model::{ProjectId, RunId};

/// Distributes the output of the log. The loop comes first, so that when a caller has its answer, the loop knows it
/// too. `ring` reports new webhook events, `ring_schedules` changed schedules, and `wake_others` projects that have
/// changed for other nodes. None of them blocks.
pub(super) fn distribute(
    executor: ExecutorHandle,
    inbox: InboxSender,
    ring: impl Fn() + Send + Clone + 'static,
    ring_schedules: impl Fn() + Send + Clone + 'static,
    wake_others: impl Fn(Vec<ProjectId>, bool) + Send + Clone + 'static,
) -> impl FnMut(Outcome) + Send + Clone + 'static {
    move |outcome| {
        outcome.orders.into_iter().for_each(|order| carry_out(order, &executor));
        if outcome.has_due {
            ring();
        }
        if outcome.has_schedules {
            ring_schedules();
        }
        wake_others(outcome.moved, outcome.has_wishes);
        let mut deliveries = outcome.deliveries;
        let is_of_others = |delivery: &mut Delivery| matches!(delivery, Delivery::Reply { to: ReplyTo::Caller(_), .. });
        let others: Vec<Delivery> = deliveries.extract_if(.., is_of_others).collect();
        if !deliveries.is_empty() {
            inbox.send(Inbox::Log(deliveries));
        }
        for delivery in others {
            if let Delivery::Reply { to: ReplyTo::Caller(caller), answer } = delivery {
                // The caller may have stopped waiting.
                let _ = caller.try_send(answer);
            }
        }
    }
}

fn carry_out(order: Order, executor: &ExecutorHandle) {
    // It differs in each process, like the state of a hash, so that many servers don't retry in step.
    let seed = |run: &RunId| RandomState::new().hash_one(run);
    match order {
        Order::Start { project, run, plan, created_at, whole_outputs, is_held } => {
            let seed = seed(&run);
            executor.start(NewRun { project, run, plan, created_at, seed, whole_outputs, is_held });
        }
        Order::Resume(resumed) => {
            let log::Resumed { project, plan, state, whole_outputs, items, cancelled, is_held } = *resumed;
            let (run, created_at) = (state.run_id.clone(), state.created_at);
            let seed = seed(&run);
            let new = NewRun { project, run, plan, created_at, seed, whole_outputs: HashMap::new(), is_held };
            executor.resume(ResumedRun { new, state, whole_outputs, items, cancelled });
        }
        Order::Release { project, run } => executor.release(project, run),
        Order::Cancel { project, run } => executor.cancel(project, run),
        Order::Steer { project, run, steer } => executor.steer(project, run, steer),
        Order::ChildEnded { project, end } => {
            let log::ChildEnd { parent, child, result } = *end;
            executor.child_ended(project, parent, child, child_end(result));
        }
        Order::Abandon(number) => executor.abandon(number),
        Order::Kept(batches) => executor.kept(batches),
        Order::StoreIsDown(is_down) => executor.store_is_down(is_down),
    }
}

/// The result of a child run for its parent.
pub(super) fn child_end(result: ChildResult) -> ChildEnd {
    ChildEnd { result: result.output.map_err(AttemptError::Passing), usage: result.usage }
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::bounded;

    use super::*;
    use crate::executor::Unstarted;
    use crate::log::{Answer, Frames};
    use crate::server::inbox::inbox;

    #[test]
    fn the_loop_is_told_before_whoever_waits_elsewhere() {
        let (reply, answered) = bounded(1);
        let nobody_so_far = answered.clone();
        let (sender, receiver) = inbox(move || assert!(nobody_so_far.is_empty(), "it was answered before"));
        let mut distribute = distribute(Unstarted::new().handle(), sender, || (), || (), |_, _| ());
        let project = ProjectId::parse("p").expect("an id");
        let deliveries = vec![
            Delivery::Reply { to: ReplyTo::Caller(reply), answer: Answer::Noted },
            Delivery::Frames { project, frames: Frames::default() },
        ];
        distribute(Outcome { deliveries, ..Outcome::default() });
        let Some(Inbox::Log(told)) = receiver.try_recv() else { panic!("the loop is told nothing") };
        assert!(matches!(told[..], [Delivery::Frames { .. }]), "{told:?}");
        assert!(matches!(answered.try_recv(), Ok(Answer::Noted)));
    }
}
