/** The summary of a project in the overview, and the choice of projects to follow. Pure. */
import { isEnded, waiting } from './estimate.js';

/** Runs of a project that are shown at once, those that go on. */
const RUNS_SHOWN = 3;

/** By so many milliseconds another project has to be ahead of one that is followed. */
const HOLD = 10_000;

/** Titles of steps that are shown of a run. */
const STEPS_SHOWN = 2;

/** A project's state in short: the newest of its runs that go on, or else the one that ended last. */
export function glance({ projectId, runs, connection }) {
  const all = [...runs.values()];
  const active = all.filter(({ status }) => !isEnded(status)).sort(byTime('createdAt'));
  const ended = all.filter(({ status }) => isEnded(status)).sort(byTime('finishedAt')).slice(0, 1);
  const shown = active.length > 0 ? active.slice(0, RUNS_SHOWN) : ended;
  const waits = active.reduce((sum, run) => sum + waiting(run).length, 0);
  // Who is asked must find the question, however many runs go on.
  const asking = active.filter((run) => waiting(run).length > 0);
  const first = [...new Set([...asking, ...shown])].slice(0, RUNS_SHOWN);
  return { projectId, denied: connection?.reason, active: active.length, waits, runs: first.map(brief) };
}

const byTime = (name) => (a, b) => (b[name] ?? '') > (a[name] ?? '') ? 1 : -1;

function brief(run) {
  const { runId, planName, status, progress, createdAt, startedAt, finishedAt, error, steps } = run;
  const busy = isEnded(status) ? [] : steps.filter((step) => step.status === 'running' || step.status === 'retrying');
  const more = busy.length > STEPS_SHOWN ? [`${busy.length - STEPS_SHOWN} more`] : [];
  const doing = [...busy.slice(0, STEPS_SHOWN).map(({ title }) => title), ...more].join(', ');
  return { runId, planName, status, progress, createdAt, startedAt, finishedAt, error, doing, waits: waiting(run).map(({ id, title }) => ({ id, title })).slice(0, STEPS_SHOWN) };
}

/**
 * Which of the projects are followed, where that are not all: those where something runs, then those where something
 * happened last. One that is followed already makes room only for one that is well ahead of it.
 */
export function chosen(projects, max, followed) {
  const runs = ({ activeRuns }) => activeRuns > 0;
  const at = ({ projectId, lastActivity }) => Date.parse(lastActivity) + (followed.has(projectId) ? HOLD : 0);
  const before = (a, b) => runs(b) - runs(a) || at(b) - at(a);
  return [...projects].sort(before).slice(0, max).map(({ projectId }) => projectId);
}

/** Projects in the order in which they are shown: where something runs first, and new ones before those that were there. */
export function ordered(projects, glances, known) {
  const runs = ({ projectId, activeRuns }) => (glances.get(projectId)?.active ?? activeRuns) > 0;
  const place = new Map([...known].map((id, at) => [id, at]));
  const at = ({ projectId }) => place.get(projectId) ?? -1;
  const latest = (a, b) => b.lastActivity > a.lastActivity ? 1 : b.lastActivity < a.lastActivity ? -1 : 0;
  return [...projects].sort((a, b) => runs(b) - runs(a) || at(a) - at(b) || latest(a, b));
}
