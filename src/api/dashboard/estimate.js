/** Estimates the remaining time, and the chain of steps that determines it. Pure; `now` is passed in. */

const ENDED = new Set(['completed', 'failed', 'skipped', 'cancelled']);

export const isEnded = (status) => ENDED.has(status);

/** Milliseconds that a step has taken by now; 0 for one that has not begun. */
export function elapsed(step, now) {
  if (step.duration !== undefined) return step.duration;
  if (!step.startedAt) return 0;
  const until = step.finishedAt ? Date.parse(step.finishedAt) : now;
  return Math.max(0, until - Date.parse(step.startedAt));
}

/** The steps of a run that wait for a person. */
export const waiting = ({ status, steps = [] }) => isEnded(status) ? [] : steps.filter((step) => step.status === 'waiting');

/**
 * Milliseconds that a run will probably go on; undefined where nothing tells, as while it waits for a person. Levels run one
 * after another, so it is the slowest step of each; where steps start as soon as they can, it is the slowest chain of them.
 * `expected` holds what each step should take.
 */
export function remaining(run, expected, now, dependencies = new Map()) {
  if (waiting(run).length > 0) return undefined;
  return run.scheduling === 'eager' && dependencies.size > 0 ? remainingChain(run, expected, now, dependencies) : remainingLevels(run, expected, now);
}

function remainingChain(run, expected, now, dependencies) {
  const ends = new Map();
  for (const id of run.levels.flat()) {
    const step = run.steps[run.index.get(id)];
    const whole = expected.get(id);
    if (!isEnded(step.status) && whole === undefined) return remainingEstimate(run, now);
    const before = Math.max(0, ...(dependencies.get(id) ?? []).map((other) => ends.get(other) ?? 0));
    ends.set(id, isEnded(step.status) ? 0 : before + Math.max(0, whole - elapsed(step, now)));
  }
  return Math.max(0, ...ends.values());
}

function remainingLevels(run, expected, now) {
  let left = 0;
  let isKnown = true;
  for (const level of run.levels) {
    let longest = 0;
    for (const id of level) {
      const step = run.steps[run.index.get(id)];
      if (isEnded(step.status)) continue;
      const whole = expected.get(id);
      if (whole === undefined) isKnown = false;
      else longest = Math.max(longest, whole - elapsed(step, now));
    }
    left += longest;
  }
  return isKnown ? left : remainingEstimate(run, now);
}

/** By what the plan says of itself. */
function remainingEstimate(run, now) {
  if (!run.estimatedDuration || !run.startedAt) return undefined;
  return Math.max(0, run.estimatedDuration - (now - Date.parse(run.startedAt)));
}

/**
 * The ids of the chain of dependent steps that takes the longest, as far as is known by `now`. `dependencies` maps a
 * step's id to those that it waits for.
 */
export function criticalPath(run, dependencies, expected, now) {
  const chains = new Map();
  let last;
  for (const id of run.levels.flat()) {
    const step = run.steps[run.index.get(id)];
    let before;
    for (const dependency of dependencies.get(id) ?? []) {
      const chain = chains.get(dependency);
      if (chain && (!before || chain.ms >= before.ms)) before = chain;
    }
    const takes = isEnded(step.status) ? elapsed(step, now) : Math.max(elapsed(step, now), expected.get(id) ?? 0);
    const chain = { id, ms: (before?.ms ?? 0) + takes, before };
    chains.set(id, chain);
    if (!last || chain.ms > last.ms) last = chain;
  }
  const path = [];
  for (let chain = last; chain; chain = chain.before) path.unshift(chain.id);
  return path;
}

/** What each step should take: what the plan says, else what it took the last time. */
export function expectations(plan, earlier) {
  const expected = new Map();
  for (const step of earlier?.steps ?? []) {
    if (step.status === 'completed' && step.duration !== undefined) expected.set(step.id, step.duration);
  }
  for (const step of plan?.steps ?? []) {
    if (typeof step.estimatedDuration === 'number') expected.set(step.id, step.estimatedDuration);
  }
  return expected;
}
