//! The dependency graph of a plan by index: order, levels, cycles and ancestors. Linear in steps and dependencies and
//! not recursive, so neither a chain of ten thousand steps nor a wide plan is a problem.

/// How many targets one sweep of [`Order::unreached`] handles: one bit each.
const TARGETS_PER_SWEEP: usize = u64::BITS as usize;

/// An order in which every step comes after the steps that it depends on, as far as there is one.
#[derive(Debug)]
pub(super) struct Order {
    /// The sorted steps. Those on a cycle, and those that depend on one, are missing.
    pub sorted: Vec<usize>,
    /// For each step, the length of the longest chain that leads to it. Meaningless for missing steps.
    pub levels: Vec<usize>,
    waiting: Vec<usize>,
}

impl Order {
    /// Sorts the steps whose dependencies are given.
    pub fn new(dependencies: &[Vec<usize>]) -> Self {
        let dependents = Dependents::new(dependencies);
        let mut waiting: Vec<usize> = dependencies.iter().map(Vec::len).collect();
        let mut levels = vec![0; dependencies.len()];
        let mut sorted: Vec<usize> = (0..dependencies.len()).filter(|&step| waiting[step] == 0).collect();
        let mut next = 0;
        while let Some(&step) = sorted.get(next) {
            next += 1;
            for &dependent in dependents.of(step) {
                levels[dependent] = levels[dependent].max(levels[step] + 1);
                waiting[dependent] -= 1;
                if waiting[dependent] == 0 {
                    sorted.push(dependent);
                }
            }
        }
        Self { sorted, levels, waiting }
    }

    /// Whether all steps were sorted.
    pub fn is_acyclic(&self) -> bool {
        self.sorted.len() == self.levels.len()
    }

    /// Whether this step is on a cycle, or depends on one.
    pub fn is_stuck(&self, step: usize) -> bool {
        self.waiting[step] > 0
    }

    /// The cycles that keep steps from being sorted, each starting at its first step of the document and following
    /// dependencies. No two share a step: of several cycles that share one, one is found.
    pub fn cycles(&self, dependencies: &[Vec<usize>]) -> Vec<Vec<usize>> {
        // Which walk visited each step. Every unsorted step depends on another one, so each walk ends at a visited
        // step.
        let mut walks = vec![0; dependencies.len()];
        let mut cycles = Vec::new();
        for start in (0..dependencies.len()).filter(|&step| self.is_stuck(step)) {
            let (walk, mut path, mut step) = (start + 1, Vec::new(), start);
            while walks[step] == 0 {
                walks[step] = walk;
                path.push(step);
                let stuck = dependencies[step].iter().find(|&&dependency| self.is_stuck(dependency));
                step = *stuck.expect("a step that was not sorted waits for another that was not");
            }
            if walks[step] == walk {
                let entry = path.iter().position(|&seen| seen == step).expect("this walk marked it");
                cycles.push(from_first(&path[entry..]));
            }
        }
        cycles
    }

    /// Those of `pairs` (step, target), ordered by step, whose target is not an ancestor of the step. None for steps
    /// that were not sorted.
    pub fn unreached(&self, dependencies: &[Vec<usize>], pairs: &[(usize, usize)]) -> Vec<(usize, usize)> {
        let mut far = self.far_pairs(dependencies, pairs);
        far.sort_unstable_by_key(|&(_, target)| target);
        // For each step one bit per target of the sweep: whether the target is the step itself or an ancestor of it.
        let mut reached = vec![0u64; dependencies.len()];
        let mut unreached = Vec::new();
        let mut rest = far.as_slice();
        while !rest.is_empty() {
            let (targets, sweep) = next_sweep(rest);
            reached.fill(0);
            for (bit, &target) in targets.iter().enumerate() {
                reached[target] = 1 << bit;
            }
            for &step in &self.sorted {
                reached[step] |= dependencies[step].iter().fold(0, |bits, &from| bits | reached[from]);
            }
            let is_unreached = |&&(step, target): &&(usize, usize)| {
                let bit = targets.binary_search(&target).map_or(0, |at| 1u64 << at);
                step == target || reached[step] & bit == 0
            };
            unreached.extend(rest[..sweep].iter().filter(is_unreached));
            rest = &rest[sweep..];
        }
        unreached.sort_unstable();
        unreached
    }

    /// The pairs that need a sweep: those whose target is not a direct dependency of the step.
    fn far_pairs(&self, dependencies: &[Vec<usize>], pairs: &[(usize, usize)]) -> Vec<(usize, usize)> {
        // For each step, the last step that was seen to depend on it.
        let mut dependent = vec![usize::MAX; dependencies.len()];
        let mut marked = usize::MAX;
        let mut far = Vec::new();
        for &(step, target) in pairs.iter().filter(|&&(step, _)| !self.is_stuck(step)) {
            if marked != step {
                dependencies[step].iter().for_each(|&dependency| dependent[dependency] = step);
                marked = step;
            }
            if dependent[target] != step {
                far.push((step, target));
            }
        }
        far
    }
}

/// The targets of the next sweep, and the number of pairs that it handles. `pairs` are sorted by target.
fn next_sweep(pairs: &[(usize, usize)]) -> (Vec<usize>, usize) {
    let mut targets = Vec::with_capacity(TARGETS_PER_SWEEP);
    for (at, &(_, target)) in pairs.iter().enumerate() {
        if targets.last() == Some(&target) {
            continue;
        }
        if targets.len() == TARGETS_PER_SWEEP {
            return (targets, at);
        }
        targets.push(target);
    }
    (targets, pairs.len())
}

/// The steps that depend on each step, all in one list.
struct Dependents {
    steps: Vec<usize>,
    /// Where the steps of each begin. They end where those of the next begin.
    starts: Vec<usize>,
}

impl Dependents {
    fn new(dependencies: &[Vec<usize>]) -> Self {
        // First the ends. Filling the list backwards turns each into a start.
        let mut starts = vec![0; dependencies.len() + 1];
        dependencies.iter().flatten().for_each(|&dependency| starts[dependency] += 1);
        let mut end = 0;
        for start in &mut starts {
            end += *start;
            *start = end;
        }
        let mut steps = vec![0; end];
        for (step, waits_for) in dependencies.iter().enumerate().rev() {
            for &dependency in waits_for {
                starts[dependency] -= 1;
                steps[starts[dependency]] = step;
            }
        }
        Self { steps, starts }
    }

    fn of(&self, step: usize) -> &[usize] {
        &self.steps[self.starts[step]..self.starts[step + 1]]
    }
}

/// Rotates a cycle so that its smallest index comes first.
fn from_first(cycle: &[usize]) -> Vec<usize> {
    let first = (0..cycle.len()).min_by_key(|&at| cycle[at]).unwrap_or(0);
    [&cycle[first..], &cycle[..first]].concat()
}
