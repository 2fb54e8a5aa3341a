//! Computes the levels of a changed plan. Steps that have started, or that were announced, keep their level.

use std::collections::HashMap;

use super::{Plan, Scheduling};
use crate::model::StepId;

impl Plan {
    /// Assigns levels again. Steps for which `started` returns a level stay there. Every other step goes after all that
    /// it depends on, into the first level that is not `completed`: nothing is added to a level that was reported as
    /// completed. There are at least `count` levels.
    pub fn place_steps(
        &mut self,
        started: impl Fn(&StepId) -> Option<usize>,
        completed: impl Fn(usize) -> bool,
        count: usize,
    ) {
        let order: Vec<usize> = self.levels.iter().flatten().copied().collect();
        for step in order {
            let behind = |&dependency: &usize| self.steps[dependency].level + 1;
            let first = self.steps[step].dependencies.iter().map(behind).max().unwrap_or(0);
            let level = started(&self.steps[step].id)
                .unwrap_or_else(|| (first..).find(|&level| !completed(level)).unwrap_or(first));
            self.steps[step].level = level;
        }
        self.fill_levels(count);
    }

    /// Assigns the levels that were noted. Returns `false`, and changes nothing, if they belong to another plan.
    ///
    /// If steps don't wait for levels, a step that was skipped below a failed one keeps the level that was reported,
    /// even if another step that it depends on has come after it since. So the order of levels is not checked then.
    pub fn place_as_noted(&mut self, noted: &[Vec<StepId>]) -> bool {
        let places = noted.iter().enumerate().flat_map(|(level, ids)| ids.iter().map(move |id| (id, level)));
        let places: HashMap<&StepId, usize> = places.collect();
        let steps = self.steps.iter().take(self.step_count());
        let of_steps: Option<Vec<usize>> = steps.map(|step| places.get(&step.id).copied()).collect();
        let Some(of_steps) = of_steps.filter(|of_steps| of_steps.len() == places.len()) else { return false };
        let is_earlier = |step: usize, &dependency: &usize| of_steps[dependency] < of_steps[step];
        let in_order =
            |step: usize| self.steps[step].dependencies.iter().all(|dependency| is_earlier(step, dependency));
        if self.scheduling == Scheduling::Levels && !(0..of_steps.len()).all(in_order) {
            return false;
        }
        self.steps.iter_mut().zip(of_steps).for_each(|(step, level)| step.level = level);
        self.fill_levels(noted.len());
        true
    }

    fn fill_levels(&mut self, count: usize) {
        let deepest = self.steps.iter().take(self.step_count()).map(|step| step.level + 1).max().unwrap_or(0);
        self.levels = vec![Vec::new(); deepest.max(count)];
        for (at, step) in self.steps.iter().take(self.step_count()).enumerate() {
            self.levels[step.level].push(at);
        }
        for level in &mut self.levels {
            // Stable: equal priorities stay in the document's order.
            level.sort_by_key(|&step| std::cmp::Reverse(self.steps[step].priority));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::Draft;

    fn plan(steps: &[(&str, &[&str])]) -> Plan {
        let steps: Vec<_> =
            steps.iter().map(|(id, on)| json!({"id": id, "tool": "echo", "dependencies": on})).collect();
        Draft::read(&json!({"name": "p", "steps": steps}), 100).finish().expect("a plan")
    }

    fn levels(plan: &Plan) -> Vec<Vec<&str>> {
        plan.levels.iter().map(|level| level.iter().map(|&step| plan.steps[step].id.as_str()).collect()).collect()
    }

    #[test]
    fn what_has_started_stays_and_what_comes_goes_to_no_level_that_is_over() {
        let steps: &[(&str, &[&str])] = &[("a", &[]), ("b", &["a"]), ("n", &[]), ("m", &["n"]), ("c", &["b"])];
        let started = |id: &StepId| match id.as_str() {
            "a" => Some(0),
            "b" => Some(1),
            _ => None,
        };
        let mut placed = plan(steps);
        placed.place_steps(started, |level| level < 1, 2);
        assert_eq!(levels(&placed), [vec!["a"], vec!["b", "n"], vec!["m", "c"]], "level 0 is over");
        placed.place_steps(started, |level| level == 1, 2);
        assert_eq!(levels(&placed), [vec!["a", "n"], vec!["b"], vec!["m", "c"]], "level 1 is over, level 0 is not");
        let mut noted = plan(steps);
        assert!(noted.place_as_noted(&placed.level_ids()));
        assert_eq!(noted, placed);
        assert!(!noted.place_as_noted(&plan(&steps[..4]).level_ids()), "of another plan");
        let turned: Vec<Vec<StepId>> = placed.level_ids().into_iter().rev().collect();
        assert!(!noted.place_as_noted(&turned), "a step before what it depends on");
        let mut emptied = plan(&[("a", &[])]);
        emptied.place_steps(|_| Some(0), |level| level < 1, 2);
        assert_eq!(levels(&emptied), [vec!["a"], vec![]], "level 1 was opened, and nothing is left in it");
        assert!(plan(&[("a", &[])]).place_as_noted(&emptied.level_ids()));
    }

    #[test]
    fn what_was_skipped_at_once_stays_before_a_step_that_it_depends_on_and_its_levels_are_read_again() {
        let steps: &[(&str, &[&str])] = &[("f", &[]), ("new", &[]), ("late", &["new"]), ("s", &["f", "late"])];
        let eager = || Plan { scheduling: Scheduling::Eager, ..plan(steps) };
        let started = |id: &StepId| match id.as_str() {
            "f" => Some(0),
            "s" => Some(1),
            _ => None,
        };
        let mut placed = eager();
        placed.place_steps(started, |level| level < 2, 2);
        assert_eq!(levels(&placed), [vec!["f"], vec!["s"], vec!["new"], vec!["late"]]);
        let mut noted = eager();
        assert!(noted.place_as_noted(&placed.level_ids()));
        assert_eq!(noted, placed);
        assert!(!plan(steps).place_as_noted(&placed.level_ids()), "level by level it would run too early");
    }
}
