//! Random plans, and what a run of one may keep of another.

use super::*;
use crate::model::OnFailure;

pub(super) fn random_plan(rng: &mut Rng) -> Plan {
    let lines: Vec<_> = (0..1 + rng.below(12)).map(|step| random_line(rng, step)).collect();
    let mut plan = plan(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    plan.on_failure = if rng.one_in(2) { OnFailure::Stop } else { OnFailure::Continue };
    plan.scheduling = if rng.one_in(2) { Scheduling::Levels } else { Scheduling::Eager };
    plan.timeout = rng.one_in(4).then(|| Duration::from_millis(100 + rng.below(400) as u64));
    if rng.one_in(3) {
        plan.budget = Budget { tokens: Some(1 + rng.below(300) as u64), cost: Cost::of_units(0.1) };
    }
    plan.steps.iter_mut().for_each(|step| randomize(rng, step));
    handlers::add_some(&mut plan, rng);
    plan
}

pub(super) fn randomize(rng: &mut Rng, step: &mut crate::model::Step) {
    step.continue_on_failure = rng.one_in(5);
    step.retry = retries(rng.below(3) as u32, rng.below(100) as u64);
    step.timeout = rng.one_in(4).then(|| Duration::from_millis(1 + rng.below(100) as u64));
    step.tool = ["once", "wait", "echo", "echo", "echo"][rng.below(5)].into();
    let condition = ["true", "false", "nonsense"][rng.below(3)];
    step.conditional = rng.one_in(6).then(|| condition.into());
    step.estimated_duration = rng.one_in(2).then(|| rng.below(1000) as u64);
    step.priority = rng.below(2) as i64;
    step.for_each = rng.one_in(4).then(|| random_items(rng));
}

/// One run in three goes on from another, of which it keeps some steps, with all that they wait for.
pub(super) fn keep_some(new: &mut NewRun, rng: &mut Rng) {
    let mut plan = Plan::clone(&new.plan);
    if rng.one_in(4) {
        plan.queue_timeout = Some(Duration::from_millis(rng.below(3) as u64 * (1 << 41)));
    }
    if rng.one_in(3) {
        let (mut kept, mut is_kept) = (std::collections::BTreeMap::new(), vec![false; plan.steps.len()]);
        for &at in plan.levels.iter().flatten() {
            let step = &plan.steps[at];
            if !step.dependencies.iter().all(|&dependency| is_kept[dependency]) || rng.one_in(3) {
                continue;
            }
            is_kept[at] = true;
            let truncated = rng.one_in(3);
            if truncated {
                new.whole_outputs.insert(step.id.clone(), Arc::new(json!("kept ".repeat(20))));
            }
            let output_bytes = truncated.then_some(100);
            kept.insert(step.id.clone(), KeptOutput { output: Arc::new(json!("kept ")), truncated, output_bytes });
        }
        plan.retry_of = Some(Arc::new(RetryOf { run: RunId::parse("before").expect("an id"), kept }));
    }
    new.plan = Arc::new(plan);
}

pub(super) fn random_items(rng: &mut Rng) -> ForEach {
    let items = match rng.below(12) {
        0 => Items::Expression("nonsense".into()),
        1 => Items::Expression("range(1001)".into()),
        2..5 => Items::Expression("range(7)".into()),
        _ => Items::Array((0..rng.below(9)).map(|n| json!(n)).collect()),
    };
    let on_item_failure = [None, Some(OnFailure::Stop), Some(OnFailure::Continue)][rng.below(3)];
    ForEach { items, name: "item".into(), max_concurrent: 1 + rng.below(4), on_item_failure }
}

pub(super) fn random_line(rng: &mut Rng, step: usize) -> String {
    let on: Vec<_> = (0..step).filter(|_| rng.one_in(3)).map(|other| format!("s{other}")).collect();
    format!("s{step}: {}", on.join(" "))
}
