//! The units of work that a run gives to workers, and their order.

use std::cmp::Reverse;

use crate::model::{ItemState, Plan, Scheduling, Step, StepState, StepStatus, Timestamp, Told};

/// A piece of work that workers make attempts at: a step, or one item of a step that has several. It names the same
/// work for the whole run, even if the plan changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Unit {
    /// The step's number in its run.
    pub step: u32,
    /// The item, counted from 0; none if the step is one piece.
    pub item: Option<u32>,
}

impl Unit {
    /// A whole step.
    pub fn of_step(number: usize) -> Self {
        Self { step: u32::try_from(number).unwrap_or(u32::MAX), item: None }
    }
}

/// Where the attempts at a unit are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standing {
    pub status: StepStatus,
    pub attempt: u32,
    pub retries: u32,
    pub started_at: Option<Timestamp>,
    pub interrupted_since: Option<Timestamp>,
    pub interruptions: u32,
    pub retry_wait: Option<Told>,
}

impl Default for Standing {
    /// Before the first.
    fn default() -> Self {
        Self {
            status: StepStatus::Pending,
            attempt: 0,
            retries: 0,
            started_at: None,
            interrupted_since: None,
            interruptions: 0,
            retry_wait: None,
        }
    }
}

impl Standing {
    pub fn of_step(step: &StepState) -> Self {
        Self {
            status: step.status,
            attempt: step.attempt,
            retries: step.retries,
            started_at: step.started_at,
            interrupted_since: step.interrupted_since,
            interruptions: step.interruptions,
            retry_wait: step.retry_wait,
        }
    }

    pub fn of_item(item: &ItemState) -> Self {
        Self {
            status: item.status,
            attempt: item.attempt,
            retries: item.past.retries,
            started_at: item.started_at,
            interrupted_since: item.past.interrupted_since,
            interruptions: item.past.interruptions,
            retry_wait: item.past.retry_wait(),
        }
    }
}

/// By step: its place in the order in which steps that are ready get a worker.
/// `expected` says what a step without an estimate may take, where that is known.
pub(super) fn ranks(plan: &Plan, expected: impl Fn(&Step) -> Option<u64>) -> Vec<usize> {
    let mut order: Vec<usize> = plan.levels.iter().flatten().copied().collect();
    if plan.scheduling == Scheduling::Eager {
        let chains = longest_chains(plan, expected);
        order.sort_by_key(|&step| (Reverse(plan.steps[step].priority), Reverse(chains[step])));
    }
    let mut ranks = vec![0; plan.steps.len()];
    order.iter().enumerate().for_each(|(rank, &step)| ranks[step] = rank);
    ranks
}

/// By step: milliseconds of the longest chain from its start to an end of the plan, by the plan's estimates, or what else is
/// expected.
fn longest_chains(plan: &Plan, expected: impl Fn(&Step) -> Option<u64>) -> Vec<u64> {
    let known: Vec<_> = plan.steps.iter().map(|step| step.estimated_duration.or_else(|| expected(step))).collect();
    let usual = usual_estimate(&known);
    let mut chains = vec![0u64; plan.steps.len()];
    for &step in plan.levels.iter().rev().flatten() {
        let own = known[step].unwrap_or(usual);
        chains[step] = chains[step].saturating_add(own);
        for &dependency in &plan.steps[step].dependencies {
            chains[dependency] = chains[dependency].max(chains[step]);
        }
    }
    chains
}

/// The estimate for a step without a known duration: the average of the others; 1 if there are none, so that the chain
/// with more steps is the longer one.
fn usual_estimate(known: &[Option<u64>]) -> u64 {
    let known = || known.iter().flatten().copied();
    let sum = known().fold(0, u64::saturating_add);
    sum.checked_div(known().count() as u64).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executor::testing::plan;

    fn in_order(plan: &Plan) -> Vec<&str> {
        let ranks = ranks(plan, |_| None);
        let mut steps: Vec<_> = plan.steps.iter().zip(&ranks).collect();
        steps.sort_by_key(|(_, rank)| **rank);
        steps.into_iter().map(|(step, _)| step.id.as_str()).collect()
    }

    #[test]
    fn steps_come_by_priority_then_by_the_longest_chain_behind_them_then_as_the_plan_has_them() {
        let mut plan = plan(&["a", "b", "c: b", "d: c", "e"]);
        assert_eq!(in_order(&plan), ["a", "b", "e", "c", "d"], "level by level");
        plan.scheduling = Scheduling::Eager;
        assert_eq!(in_order(&plan), ["b", "c", "a", "e", "d"], "without estimates by their number");
        plan.steps[4].estimated_duration = Some(1000);
        plan.steps[2].estimated_duration = Some(2);
        assert_eq!(in_order(&plan), ["b", "e", "c", "a", "d"], "a, b and d are taken for 501 ms");
        plan.steps[3].priority = 1;
        assert_eq!(in_order(&plan)[0], "d");
    }
}
