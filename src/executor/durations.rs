//! How long steps have taken. With eager scheduling, runs use it to find the longest chain of steps if their plan gives
//! no estimates.
//!
//! It is only held in memory and only decides which ready step gets a worker first. Nothing that is stored depends on
//! it: a process that starts without it starts the same steps in a different order.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{Mutex, PoisonError};

use crate::model::{Plan, ProjectId, Step};

/// How many means are kept: the newest, and at most as many older ones. A step has its own and shares that of its tool.
/// 32,768 of 16 bytes each, in tables that are at most half empty, twice: 2 MiB.
const MEANS_MAX: usize = 32_768;

/// The weight of a new duration in the mean is one part in this many.
const WEIGHT: u64 = 4;

/// The mean durations of steps, in milliseconds.
#[derive(Default)]
pub struct Durations {
    hasher: RandomState,
    means: Mutex<Means>,
}

/// Means by a hash of the step. A collision only misplaces a step in the order.
#[derive(Default)]
struct Means {
    newest: HashMap<u64, u64>,
    before: HashMap<u64, u64>,
}

impl Durations {
    /// Notes that a step of `plan` has completed in `ms` milliseconds.
    pub fn note(&self, project: &ProjectId, plan: &Plan, step: &Step, ms: u64) {
        let mut means = self.means.lock().unwrap_or_else(PoisonError::into_inner);
        self.keys(project, plan, step).into_iter().for_each(|key| means.note(key, ms));
    }

    /// The expected duration of a step of `plan`: by steps of its id in plans of that name, or else by those of its
    /// tool.
    pub fn expected(&self, project: &ProjectId, plan: &Plan, step: &Step) -> Option<u64> {
        let means = self.means.lock().unwrap_or_else(PoisonError::into_inner);
        self.keys(project, plan, step).into_iter().find_map(|key| means.of(key))
    }

    fn keys(&self, project: &ProjectId, plan: &Plan, step: &Step) -> [u64; 2] {
        let key = |of: (&str, &str)| self.hasher.hash_one((project.as_str(), of));
        [key((&plan.name, step.id.as_str())), self.hasher.hash_one((project.as_str(), &*step.tool))]
    }
}

impl Means {
    fn of(&self, key: u64) -> Option<u64> {
        self.newest.get(&key).or_else(|| self.before.get(&key)).copied()
    }

    fn note(&mut self, key: u64, ms: u64) {
        let mean = self.of(key).map_or(ms, |mean| mean - mean / WEIGHT + ms / WEIGHT);
        if self.newest.len() >= MEANS_MAX && !self.newest.contains_key(&key) {
            self.before = std::mem::take(&mut self.newest);
        }
        self.newest.insert(key, mean);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executor::testing::plan;

    #[test]
    fn a_step_is_expected_to_take_what_it_has_taken_or_else_what_others_have_at_its_tool() {
        let (durations, mut known) = (Durations::default(), plan(&["a", "b", "c"]));
        let (project, other) = (ProjectId::parse("p").expect("an id"), ProjectId::parse("o").expect("an id"));
        known.steps[2].tool = "once".into();
        let expected = |project: &ProjectId, step: usize| durations.expected(project, &known, &known.steps[step]);
        assert_eq!(expected(&project, 0), None);
        durations.note(&project, &known, &known.steps[0], 800);
        assert_eq!((expected(&project, 0), expected(&project, 1), expected(&project, 2)), (Some(800), Some(800), None));
        durations.note(&project, &known, &known.steps[0], 400);
        durations.note(&project, &known, &known.steps[1], 100);
        assert_eq!((expected(&project, 0), expected(&project, 1)), (Some(700), Some(100)));
        assert_eq!(expected(&other, 0), None, "of each project by itself");
    }

    #[test]
    fn no_more_is_held_than_may_be_and_what_was_noted_last_is() {
        let mut means = Means::default();
        let all = 3 * MEANS_MAX as u64;
        (0..all).for_each(|key| means.note(key, key));
        assert!(means.newest.len() <= MEANS_MAX && means.before.len() <= MEANS_MAX);
        assert_eq!((means.of(all - 1), means.of(0)), (Some(all - 1), None));
        means.note(7, u64::MAX);
        means.note(7, u64::MAX);
        assert!(means.of(7) > Some(1), "it does not overflow");
    }
}
