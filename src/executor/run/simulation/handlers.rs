//! Handlers of random plans, and a model of what may be told of them.

use super::*;
use crate::model::{HandlerKind, RunOutcome, StepUpdate};

/// Some runs have handlers, after all other steps.
pub(super) fn add_some(plan: &mut Plan, rng: &mut Rng) {
    if rng.one_in(2) {
        return;
    }
    if rng.one_in(3) {
        plan.handler_timeout = Duration::from_millis(1 + rng.below(200) as u64);
    }
    for n in 0..1 + rng.below(6) {
        let kind = HandlerKind::ALL[rng.below(4)];
        let mut step = crate::executor::testing::plan(&[&format!("h{n}")]).steps.remove(0);
        let others = plan.steps.iter().enumerate().filter(|(_, other)| other.handler == Some(kind));
        step.dependencies = others.map(|(at, _)| at).filter(|_| rng.one_in(2)).collect();
        step.level = step.dependencies.iter().map(|&at| plan.steps[at].level + 1).max().unwrap_or(0);
        step.references = (0..plan.steps.len()).filter(|_| rng.one_in(4)).collect();
        step.tool = ["once", "wait", "echo", "echo"][rng.below(4)].into();
        step.retry = retries(rng.below(3) as u32, rng.below(100) as u64);
        step.timeout = Some(Duration::from_millis(1 + rng.below(200) as u64));
        let condition = ["run.status == 'completed'", "run.reason is none", "nonsense"][rng.below(3)];
        step.conditional = rng.one_in(4).then(|| condition.into());
        step.handler = Some(kind);
        plan.steps.push(step);
    }
}

/// What was told of a run's handlers.
#[derive(Default)]
pub(super) struct Told {
    outcome: Option<RunOutcome>,
    steps: HashMap<StepId, (StepStatus, u32)>,
}

impl Told {
    /// A handler moves.
    pub(super) fn follow(&mut self, said: &StepProgress, plan: &Plan) {
        let outcome = said.outcome.as_deref().expect("it is told with each");
        assert_eq!(self.outcome.get_or_insert_with(|| outcome.clone()), outcome, "it does not change");
        let step = plan.steps.iter().find(|step| step.id == said.step_id).expect("a handler of the plan");
        assert_eq!(step.handler, said.handler);
        let (before, attempt) = self.of(&said.step_id);
        assert!(!before.is_ended(), "{said:?}");
        match said.update {
            StepUpdate::Running { .. } => {
                assert_eq!(said.attempt, attempt + 1);
                assert!(before != StepStatus::Running || &*step.tool != "once", "it must not run twice");
                let mut dependencies = step.dependencies.iter().map(|&at| self.of(&plan.steps[at].id).0);
                assert!(dependencies.all(|status| status.is_ended()), "{said:?}");
                self.check_turn(step.handler.expect("a handler"), outcome, plan);
            }
            StepUpdate::Skipped { .. } => assert_eq!((before, said.attempt), (StepStatus::Pending, 0)),
            _ => assert_eq!(said.attempt, attempt),
        }
        self.steps.insert(said.step_id.clone(), (said.update.status(), said.attempt));
    }

    fn check_turn(&self, kind: HandlerKind, outcome: &RunOutcome, plan: &Plan) {
        assert!(kind == outcome.handlers() || kind == HandlerKind::Exit, "{kind:?} after {outcome:?}");
        let mut first = plan.steps.iter().filter(|step| step.handler == Some(outcome.handlers()));
        let is_over = first.all(|step| self.of(&step.id).0.is_ended());
        assert!(kind == outcome.handlers() || is_over, "those for any outcome come after the others");
    }

    /// The run says its last message.
    pub(super) fn check_end(&self, status: RunStatus, reason: Option<EndReason>, failed: &[StepId], plan: &Plan) {
        let mut handlers = plan.steps.iter().filter(|step| step.handler.is_some());
        assert!(handlers.all(|step| self.of(&step.id).0.is_ended()), "nothing is left open");
        let failures = self.steps.values().filter(|(status, _)| *status == StepStatus::Failed).count();
        assert!(failed.len() == failures && failed.iter().all(|id| self.of(id).0 == StepStatus::Failed));
        let is_it = |outcome: &RunOutcome| (outcome.status, outcome.reason) == (status, reason);
        assert!(self.outcome.as_ref().is_none_or(is_it), "{:?} before {status:?}, {reason:?}", self.outcome);
    }

    pub(super) fn of(&self, id: &StepId) -> (StepStatus, u32) {
        self.steps.get(id).copied().unwrap_or((StepStatus::Pending, 0))
    }
}
