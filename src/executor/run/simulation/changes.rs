//! Changes of the plan while the simulated run goes on, and what they may do to its messages.

use super::*;
use crate::executor::testing::step_id;
use crate::model::{PlanChange, PlanChanged, Steer, Steering, SteeringError, SteeringId, Step};

/// Steps that a plan may come to have here.
const STEPS_MAX: usize = 20;

impl World {
    /// Someone changes the plan, or tries to.
    pub(super) fn change(&mut self) {
        let change = self.random_change();
        let started = change.removed.iter().chain(&change.changed).any(|id| {
            let has_started = self.run.state().step(id).is_some_and(|step| step.status != StepStatus::Pending);
            has_started || self.new.plan.kept(id).is_some()
        });
        let is_stale = change.of_revision != self.new.plan.revision;
        let is_onward = self.run.course == Course::Onward && self.run.handling.is_none();
        let before = self.new.plan.revision;
        let is_over = self.run.is_ended();
        let steer = Steer { id: SteeringId(1), by: "ann".into(), what: Steering::Change(Box::new(change)) };
        self.act(|run, now, effects| run.steer(steer, now, effects));
        let answer = self.records.iter().rev().find_map(|record| match record {
            Record::Verdict { verdict, .. } => Some(verdict.answer.clone()),
            _ => None,
        });
        let answer = answer.expect("each wish has a verdict");
        let made = !(is_over || is_stale || started || !is_onward);
        assert_eq!(self.new.plan.revision, before + u32::from(made), "{answer:?}");
        match answer {
            Ok(_) => assert!(made),
            Err(SteeringError::StepStarted { .. }) => assert!(started),
            Err(SteeringError::StaleRevision { .. }) => assert!(is_stale),
            Err(SteeringError::RunEnding) => assert!(!is_onward),
            Err(error) => assert_eq!((error, is_over), (SteeringError::RunEnded, true)),
        }
    }

    /// Steps come, go where no other waits for them, and wait for others than before; most of the time steps that have not
    /// started.
    fn random_change(&mut self) -> PlanChange {
        let before = self.new.plan.clone();
        let of_revision = before.revision + u32::from(self.rng.one_in(10));
        let (mut removed, mut changed, mut added) = (Vec::new(), Vec::new(), Vec::new());
        let mut steps: Vec<(Step, Vec<StepId>)> = before.steps.iter().map(|step| named(&before, step)).collect();
        let handlers = steps.split_off(before.step_count());
        if self.rng.one_in(2) {
            let at = self.some_step(&before);
            let id = steps[at].0.id.clone();
            if steps.len() > 1 && !steps.iter().any(|(_, on)| on.contains(&id)) {
                removed.push(steps.remove(at).0.id);
            }
        }
        if self.rng.one_in(2) {
            let id = before.steps[self.some_step(&before)].id.clone();
            let descendants = descendants(&steps, &id);
            let others: Vec<_> =
                steps.iter().map(|(step, _)| &step.id).filter(|id| !descendants.contains(*id)).cloned().collect();
            if let Some((step, on)) = steps.iter_mut().find(|(step, _)| step.id == id) {
                on.retain(|_| self.rng.one_in(2));
                on.extend(
                    others.into_iter().filter(|other| !on.contains(other) && self.rng.one_in(4)).collect::<Vec<_>>(),
                );
                randomize(&mut self.rng, step);
                changed.push(id);
            }
        }
        if steps.len() < STEPS_MAX && (self.rng.one_in(2) || (removed.is_empty() && changed.is_empty())) {
            let mut step = plan(&[&format!("n{}-{}", before.revision, self.rng.below(1000))]).steps.remove(0);
            randomize(&mut self.rng, &mut step);
            let on = steps.iter().filter(|_| self.rng.one_in(4)).map(|(step, _)| step.id.clone()).collect();
            added.push(step.id.clone());
            steps.push((step, on));
        }
        steps.extend(handlers);
        let plan = Some(Arc::new(planned(&before, steps)));
        PlanChange { of_revision, added, removed, changed, document: "{}".into(), plan }
    }

    /// One that has not started, where there is one, but now and then any.
    fn some_step(&mut self, plan: &Plan) -> usize {
        let state = self.run.state();
        let is_pending = |at: &usize| state.steps[*at].status == StepStatus::Pending;
        let pending: Vec<usize> = (0..plan.step_count()).filter(is_pending).collect();
        match pending.is_empty() || self.rng.one_in(8) {
            true => self.rng.below(plan.step_count()),
            false => pending[self.rng.below(pending.len())],
        }
    }

    /// The plans that the run came to have, in their order.
    pub(super) fn plans(&self) -> Vec<Arc<Plan>> {
        let plan = |record: &Record| match record {
            Record::Plan { plan, .. } => Some(plan.clone()),
            _ => None,
        };
        self.records.iter().filter_map(plan).collect()
    }

    /// The plan as it is read again of what is kept.
    pub(super) fn kept_plan(&self) -> Arc<Plan> {
        let Some(kept) = self.plans().pop() else { return self.first.clone() };
        let steps = kept.steps.iter().map(|step| named(&kept, step)).collect();
        let mut plan = Plan { revision: kept.revision, ..planned(&kept, steps) };
        assert!(plan.place_as_noted(&kept.level_ids()));
        assert_eq!(plan, *kept, "what is noted of it makes the same plan");
        Arc::new(plan)
    }
}

/// A step, and those that wait for it, near and far: it can't come to wait for these.
fn descendants(steps: &[(Step, Vec<StepId>)], id: &StepId) -> BTreeSet<StepId> {
    let mut descendants = BTreeSet::from([id.clone()]);
    while let Some((step, _)) =
        steps.iter().find(|(step, on)| !descendants.contains(&step.id) && on.iter().any(|on| descendants.contains(on)))
    {
        descendants.insert(step.id.clone());
    }
    descendants
}

/// A step with what it depends on by name.
fn named(plan: &Plan, step: &Step) -> (Step, Vec<StepId>) {
    let on = step.dependencies.iter().map(|&dependency| plan.steps[dependency].id.clone()).collect();
    (step.clone(), on)
}

/// A plan of these steps, in the levels that follow from them alone.
fn planned(like: &Plan, steps: Vec<(Step, Vec<StepId>)>) -> Plan {
    let ids: Vec<StepId> = steps.iter().map(|(step, _)| step.id.clone()).collect();
    let at = |id: &StepId| ids.iter().position(|other| other == id).expect("a step of the plan");
    let mut steps: Vec<Step> = steps
        .into_iter()
        .map(|(step, on)| {
            let dependencies: Vec<usize> = on.iter().map(at).collect();
            Step { references: dependencies.clone(), dependencies, level: 0, ..step }
        })
        .collect();
    for _ in 0..steps.len() {
        for at in 0..steps.len() {
            let behind = steps[at].dependencies.iter().map(|&dependency| steps[dependency].level + 1).max();
            steps[at].level = behind.unwrap_or(0);
        }
    }
    let of_levels = || steps.iter().enumerate().filter(|(_, step)| step.handler.is_none());
    let mut levels = vec![Vec::new(); of_levels().map(|(_, step)| step.level + 1).max().unwrap_or(0)];
    of_levels().for_each(|(at, step)| levels[step.level].push(at));
    Plan { steps, levels, ..like.clone() }
}

impl Model {
    /// The plan is another: steps that have started are what they were, where they were, and nothing comes to a level that
    /// is over.
    pub(super) fn replan(&mut self, plan: &Arc<Plan>) {
        let before = std::mem::replace(&mut self.plan, plan.clone());
        let seen = std::mem::take(&mut self.steps);
        let known: HashMap<&StepId, (&Step, Seen)> =
            before.steps.iter().zip(seen).map(|(step, seen)| (&step.id, (step, seen))).collect();
        self.steps = plan
            .steps
            .iter()
            .take(plan.step_count())
            .map(|step| known.get(&step.id).map(|(_, seen)| seen.clone()).unwrap_or_default())
            .collect();
        for (step, seen) in known.values().filter(|(_, seen)| seen.status.is_some()) {
            let now = plan.steps.iter().find(|now| now.id == step.id).expect("what has started stays");
            assert_eq!((now.level, &now.tool), (step.level, &step.tool), "{seen:?}");
        }
        let gone = self.levels.get(plan.levels.len()..).unwrap_or_default();
        assert!(gone.iter().all(|level| *level == Bracket::Before), "levels that were told stay");
        self.levels.resize(plan.levels.len(), Bracket::Before);
        for (step, seen) in plan.steps.iter().zip(&self.steps) {
            assert!(seen.status.is_some() || self.levels[step.level] != Bracket::Closed, "{} comes too late", step.id);
        }
    }

    pub(super) fn check_change(&self, said: &PlanChanged) {
        assert_eq!((said.step_count, said.total_levels), (self.plan.step_count(), self.plan.levels.len()));
        assert_eq!((said.revision, &said.levels), (self.plan.revision, &self.plan.level_ids()));
        let told: Vec<_> = said.steps.iter().map(|step| &step.id).collect();
        assert!(said.added.iter().chain(&said.changed).all(|id| told.contains(&id)));
        assert_eq!(said.progress.total, self.plan.step_count());
        let ended = self.steps.iter().filter(|step| step.is_ended()).count();
        assert_eq!(said.progress.ended(), ended);
        assert!(said.added.iter().all(|id| *id != step_id("s0")));
    }
}
