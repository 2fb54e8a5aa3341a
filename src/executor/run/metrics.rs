//! Computes how the time of a run was spent.

use crate::model::{Plan, RunState, StepId};

/// The chain of dependent steps that took the longest, first to last; of equal ones the one of more steps. Steps that
/// never ran are left out.
pub(super) fn critical_path(plan: &Plan, state: &RunState) -> Vec<StepId> {
    // (milliseconds, steps) of the longest chain that ends at a step, and the step before it there.
    let mut chains = vec![((0, 0), None); plan.steps.len()];
    for &step in plan.levels.iter().flatten() {
        let before = plan.steps[step].dependencies.iter().copied().max_by_key(|&dependency| chains[dependency].0);
        let (ms, steps): (u64, usize) = before.map_or((0, 0), |dependency| chains[dependency].0);
        let ran = usize::from(state.steps[step].attempt > 0);
        chains[step] = ((ms + state.steps[step].duration.unwrap_or(0), steps + ran), before);
    }
    let last = (0..chains.len()).max_by_key(|&step| chains[step].0);
    let chain = std::iter::successors(last, |&step| chains[step].1);
    let mut path: Vec<_> =
        chain.filter(|&step| state.steps[step].attempt > 0).map(|step| plan.steps[step].id.clone()).collect();
    path.reverse();
    path
}

/// Milliseconds that all steps took together.
pub(super) fn step_time(state: &RunState) -> u64 {
    state.steps.iter().filter(|step| step.handler.is_none()).filter_map(|step| step.duration).sum()
}

/// How busy a level was: step time / (wall time x steps), 0 to 1. A level over within the millisecond wasted nothing.
pub(super) fn efficiency(plan: &Plan, state: &RunState, level: usize, wall_ms: u64) -> f64 {
    let steps = &plan.levels[level];
    let busy: u64 = steps.iter().filter_map(|&step| state.steps[step].duration).sum();
    let ran = steps.iter().any(|&step| state.steps[step].attempt > 0);
    match wall_ms * steps.len() as u64 {
        0 => f64::from(u8::from(ran)),
        whole => (busy as f64 / whole as f64).min(1.0),
    }
}
