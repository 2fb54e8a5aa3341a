//! The names that expressions of a step can use, and the evaluation of its condition.

use std::sync::Arc;

use serde_json::Value;

use super::{Effects, Run};
use crate::executor::template::Scope;
use crate::model::{Cause, CauseKind, Now};

impl Run {
    /// Should the step run? Where not, it has been skipped, or has failed with the condition's error.
    pub(super) fn passes_condition(&mut self, step: usize, now: Now, out: &mut Effects) -> bool {
        let Some(condition) = self.plan.steps[step].conditional.clone() else { return true };
        match self.context.engine.is_true(&condition, &self.scope(step)) {
            Ok(true) => return true,
            Ok(false) => {
                let cause = Cause { kind: CauseKind::Condition, step_id: None };
                self.skip(step, "its condition is false".to_owned(), cause, now, out);
            }
            Err(error) => self.fail_step(step, format!("its condition can't be evaluated: {error}"), now, out),
        }
        false
    }

    /// The values that the step's expressions may name: only the outputs that it
    /// [references](crate::model::Step::references). For a handler, missing outputs are null.
    pub(super) fn scope(&self, step: usize) -> Scope {
        let scope = Scope::of_run(&self.project, &self.state.run_id, self.inputs.clone());
        let handling = self.handling.as_ref().filter(|_| self.plan.steps[step].handler.is_some());
        let scope = match handling {
            Some(handling) => scope.with("run", Arc::new(handling.shown())),
            None => scope,
        };
        self.plan.steps[step].references.iter().fold(scope, |scope, &other| {
            let missing = handling.map(|_| Arc::new(Value::Null));
            match self.outputs[other].clone().or(missing) {
                Some(output) => scope.with_step(self.plan.steps[other].id.clone(), output),
                None => scope,
            }
        })
    }
}
