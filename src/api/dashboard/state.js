// @ts-check
/**
 * The state of a project, folded from its messages. Pure. It only keeps the newest runs.
 */

/**
 * @typedef {{type: string, projectId: string, seq: number, payload: any}} Message
 *
 * @typedef {object} Attempt
 * @property {number} attempt counted from 1
 * @property {string} startedAt
 * @property {string} [endedAt]
 * @property {string} [outcome] `completed`, `failed`, `cancelled` or `interrupted`
 *
 * @typedef {object} Step
 * @property {string} id
 * @property {string} title
 * @property {string} [tool]
 * @property {number} level
 * @property {'pending'|'running'|'waiting'|'retrying'|'completed'|'failed'|'skipped'|'cancelled'} status
 * @property {number} attempt the newest; 0 before the first
 * @property {string} [startedAt] when its first attempt started
 * @property {string} [finishedAt]
 * @property {number} [duration] milliseconds
 * @property {any} [output]
 * @property {boolean} [truncated]
 * @property {number} [outputBytes]
 * @property {string} [error]
 * @property {string} [reason]
 * @property {string} [nextRetryAt]
 * @property {boolean} [continued]
 * @property {Attempt[]} attempts those that were seen; all of them where the run was seen from its start
 * @property {string} [heardAt] when it was last heard of
 * @property {string} [lastLine] the last line that it wrote
 * @property {Approval} [approval] what it asks, while it is `waiting`
 * @property {Decision} [decision] what was answered
 * @property {{done: number, failed: number, total: number}} [items] how far it is, where it is done for each of a list
 * @property {Item[]} [itemStates] where each item is, at its place; sparse: one that has not begun has none. Told to who
 *   follows with `items`, and kept while the step goes on
 * @property {Usage} [usage]
 * @property {boolean} [reused] its output is that of an earlier run
 * @property {'onSuccess'|'onFailure'|'onCancel'|'onExit'} [handler] of a step that runs when the others are done
 * @property {number} [addedIn] the revision of the plan that it came with, where that is not the first
 *
 * @typedef {object} Item
 * @property {number} item its place, from 0
 * @property {string} itemId `resize[3]`
 * @property {Step['status']} status
 * @property {number} attempt
 * @property {string} [startedAt]
 * @property {string} [finishedAt]
 * @property {number} [duration] milliseconds
 * @property {any} [output] of a long one the beginning
 * @property {boolean} [truncated]
 * @property {string} [error]
 *
 * @typedef {{message: string, schema?: any, expiresAt?: string, onExpire?: 'fail'|'reject'|'approve', deciders?: string[]}} Approval
 * @typedef {{decision: 'approve'|'reject', by?: string, at: string, payload?: any, expired?: boolean}} Decision
 * @typedef {{inputTokens?: number, outputTokens?: number, totalTokens?: number, cost?: number, model?: string, provider?: string}} Usage
 *
 * @typedef {object} Run
 * @property {string} runId
 * @property {string} planName
 * @property {'queued'|'running'|'completed'|'failed'|'cancelled'} status
 * @property {string[][]} levels ids of steps
 * @property {Step[]} steps
 * @property {Map<string, number>} index step id to its place in `steps`
 * @property {{completed: number, failed: number, skipped: number, cancelled: number, total: number, percent: number}} progress
 * @property {number} [currentLevel]
 * @property {boolean} levelOpen is `currentLevel` open?
 * @property {number[]} openLevels all that are: several where the scheduling is `eager`
 * @property {'levels'|'eager'} scheduling
 * @property {number} revision of the plan, from 1
 * @property {string} [retryOf] the run that this one goes on from
 * @property {{runId: string, stepId: string}} [parent] the step that began this run
 * @property {Usage} [usage] of all steps together
 * @property {string} [createdAt]
 * @property {string} [startedAt]
 * @property {string} [finishedAt]
 * @property {number} [estimatedDuration]
 * @property {string} [error]
 * @property {string[]} [criticalPath] once it has completed
 *
 * @typedef {object} Connection
 * @property {'connecting'|'live'|'reconnecting'|'denied'|'ended'|'closed'} status
 * @property {string} [reason] one sentence for people
 *
 * @typedef {object} State
 * @property {string} projectId
 * @property {number} seq of the newest message in it
 * @property {Map<string, Run>} runs in the order in which they came
 * @property {Connection} [connection] set by `follow`
 */

/** Runs that a state keeps; of more, the ended ones that came first are let go. */
const RUNS_MAX = 100;

/** The longest line that is kept of a step's live output, in characters. */
const LINE_CHARS_MAX = 200;

const ENDED = new Set(['completed', 'failed', 'cancelled']);

/**
 * A project of which nothing is known yet.
 * @param {string} projectId
 * @returns {State}
 */
export const emptyState = (projectId) => ({ projectId, seq: 0, runs: new Map() });

/**
 * A run as `GET .../workflows/:runId` or a snapshot tells it.
 * @param {any} view
 * @param {Run} [before] the same run as it was known
 * @returns {Run}
 */
export function runOfView(view, before) {
  const steps = view.steps.map((/** @type {any} */ step) => stepOfView(step, knownStep(before, step.id)));
  return {
    runId: view.runId, planName: view.planName, status: view.status, levels: view.levels, steps, index: indexOf(steps),
    progress: counted(view.progress), currentLevel: view.currentLevel, levelOpen: view.levelOpen ?? false, openLevels: openLevels(view),
    scheduling: view.scheduling ?? 'levels', revision: view.revision ?? 1, retryOf: view.retryOf, parent: view.parent, usage: view.usage,
    createdAt: view.createdAt, startedAt: view.startedAt, finishedAt: view.finishedAt, error: view.error,
    estimatedDuration: view.estimatedDuration ?? before?.estimatedDuration,
    criticalPath: view.criticalPath ?? before?.criticalPath,
  };
}

/**
 * The state after one more message. Pure: `state` stays as it is, and what did not change is the same object in both.
 * @param {State} state
 * @param {Message} message
 * @returns {State}
 */
export function fold(state, message) {
  const { type, seq, payload } = message;
  switch (type) {
    case 'connected': return payload.resume === 'resumed' ? state : { ...state, seq };
    case 'stream_reset': return { ...state, seq, runs: new Map() };
    case 'stream_closing': return state;
    case 'workflow_snapshot': return withRun(state, runOfView(payload, state.runs.get(payload.runId)));
    // What is said of items has the number of the message before it.
    case 'workflow_item': return withItems(state, payload, (states) => placed(states, payload));
    case 'workflow_items_snapshot': return withItems(state, payload, (states) => itemsShown(states, payload));
  }
  if (seq <= state.seq) return state;
  const next = { ...state, seq };
  if (type === 'workflow_started') return withRun(next, startedRun(payload, state.runs.get(payload.runId)));
  const run = type.startsWith('workflow_') && state.runs.get(payload.runId);
  const moved = run && moveRun(run, type, payload);
  return moved ? withRun(next, moved) : next;
}

/** @param {Run|undefined} run @param {string} id */
const knownStep = (run, id) => run && run.steps[run.index.get(id) ?? -1];

/** Servers before counted cancelled steps as skipped. @param {any} progress @returns {Run['progress']} */
const counted = (progress) => ({ cancelled: 0, ...progress });

/** Servers before told of one. @param {any} view @returns {number[]} */
const openLevels = (view) => view.openLevels?.map((/** @type {any} */ open) => open.level ?? open) ?? (view.levelOpen ? [view.currentLevel] : []);

/** @param {Step[]} steps @returns {Map<string, number>} */
const indexOf = (steps) => new Map(steps.map((step, at) => [step.id, at]));

/** @param {State} state @param {Run} run @returns {State} */
function withRun(state, run) {
  const runs = new Map(state.runs).set(run.runId, run);
  for (const [id, one] of runs) {
    if (runs.size <= RUNS_MAX) break;
    if (ENDED.has(one.status)) runs.delete(id);
  }
  return { ...state, runs };
}

/** @param {any} view @param {Step} [before] @returns {Step} */
function stepOfView(view, before) {
  const isSame = before && before.attempt === view.attempt;
  const step = { ...view, lastLine: isSame ? before.lastLine : undefined, heardAt: before?.heardAt ?? view.startedAt };
  step.attempts = isSame && before.status === view.status ? before.attempts : attemptsOfView(view);
  step.addedIn = before?.addedIn;
  step.itemStates = before?.itemStates;
  return step;
}

/** What a view tells of attempts: the only one, or that there were some. @param {any} view @returns {Attempt[]} */
function attemptsOfView({ attempt, status, startedAt, finishedAt }) {
  if (!startedAt) return [];
  const outcome = finishedAt && status;
  return [{ attempt, startedAt, ...(outcome && { endedAt: finishedAt, outcome }) }];
}

/** @param {any} payload @param {Run} [before] the run while it was queued, whose titles are known @returns {Run} */
function startedRun({ runId, planName, levels, stepCount, estimatedDuration, timestamp, scheduling, revision, retryOf, parent, steps: told = [] }, before) {
  // A plan that was changed while the run was queued tells its steps anew.
  const news = new Map(told.map((/** @type {any} */ one) => [one.id, one]));
  const step = (/** @type {string} */ id, /** @type {number} */ level) =>
    ({ ...(knownStep(before, id) ?? { id, title: id, status: 'pending', attempt: 0, attempts: [] }), ...news.get(id), level });
  const inLevels = levels.flatMap((/** @type {string[]} */ ids, /** @type {number} */ level) => ids.map((id) => step(id, level)));
  const steps = [...inLevels, ...(before?.steps ?? []).filter(({ handler }) => handler)];
  return {
    runId, planName, status: 'running', levels, steps, index: indexOf(steps), levelOpen: false, openLevels: [],
    scheduling: scheduling ?? 'levels', revision: revision ?? 1, retryOf: retryOf ?? before?.retryOf, parent: parent ?? before?.parent,
    progress: { completed: 0, failed: 0, skipped: 0, cancelled: 0, total: stepCount, percent: 0 },
    createdAt: before?.createdAt ?? timestamp, startedAt: timestamp, estimatedDuration: estimatedDuration || undefined,
  };
}

/** @param {Run} run @param {string} type @param {any} payload @returns {Run|undefined} */
function moveRun(run, type, payload) {
  switch (type) {
    case 'workflow_level_started': return { ...withLevel(run, payload.level, true), currentLevel: payload.level, levelOpen: true };
    case 'workflow_level_completed': return { ...withLevel(run, payload.level, false), levelOpen: payload.level !== run.currentLevel && run.levelOpen };
    case 'workflow_progress': {
      const { progress, usage } = payload;
      return moveStep({ ...withHandler(run, payload), progress: counted(progress), usage: sum(run.usage, usage) }, payload, progressed);
    }
    case 'workflow_step_output': return moveStep(run, payload, spoke);
    case 'workflow_plan_changed': return changedPlan(run, payload);
    case 'workflow_completed':
      return { ...ended(run, payload), status: 'completed', criticalPath: payload.performanceMetrics?.criticalPath };
    case 'workflow_failed':
      return { ...ended(run, payload), status: payload.reason === 'cancelled' ? 'cancelled' : 'failed', error: payload.error };
  }
}

/** @param {Run} run @param {any} payload @returns {Run} */
const ended = (run, { timestamp, usage }) => ({ ...run, finishedAt: timestamp, openLevels: [], usage: usage ?? run.usage });

/** @param {Run} run @param {number} level @param {boolean} isOpen @returns {Run} */
function withLevel(run, level, isOpen) {
  const others = run.openLevels.filter((other) => other !== level);
  return { ...run, openLevels: isOpen ? [...others, level] : others };
}

/**
 * @param {State} state @param {{runId: string, stepId: string}} where @param {(states: Item[]) => Item[]} change
 * @returns {State}
 */
function withItems(state, { runId, stepId }, change) {
  const run = state.runs.get(runId);
  const at = run?.index.get(stepId);
  if (!run || at === undefined) return state;
  const steps = run.steps.slice();
  steps[at] = { ...steps[at], itemStates: change(steps[at].itemStates ?? []) };
  return withRun(state, { ...run, steps });
}

/**
 * A snapshot has all items that have begun. One that was cut says nothing of those behind `next`: they stay as they were known.
 * @param {Item[]} states @param {any} said @returns {Item[]}
 */
function itemsShown(states, { items, truncated, next = -1 }) {
  const all = [];
  for (const item of items) all[item.item] = item;
  if (truncated) states.forEach((item, at) => { if (at > next) all[at] = item; });
  return all;
}

/** @param {Item[]} states @param {any} said @returns {Item[]} */
function placed(states, { runId, stepId, ...item }) {
  const next = states.slice();
  next[item.item] = item;
  return next;
}

/** A handler is in no level: it is first heard of when it moves. @param {Run} run @param {any} said @returns {Run} */
function withHandler(run, { stepId: id, stepTitle: title, level, handler }) {
  if (!handler || run.index.has(id)) return run;
  const steps = [...run.steps, { id, title, level, handler, status: /** @type {const} */ ('pending'), attempt: 0, attempts: [] }];
  return { ...run, steps, index: indexOf(steps) };
}

/**
 * The plan of a run that goes on is another one: steps have come, gone, or are others, none of which had started. Twice the
 * same change is one.
 * @param {Run} run @param {any} payload @returns {Run}
 */
function changedPlan(run, { revision, added, changed, levels, steps: told, progress }) {
  // One that is known already, by a snapshot, is no news.
  if (revision <= run.revision) return run;
  const news = new Map(told.map((/** @type {any} */ step) => [step.id, step]));
  const [isAdded, isOther] = [new Set(added), new Set(changed)];
  const step = (/** @type {string} */ id, /** @type {number} */ level) => {
    const before = isOther.has(id) ? undefined : knownStep(run, id);
    const known = before ?? { id, title: id, level, status: 'pending', attempt: 0, attempts: [] };
    return { ...known, ...news.get(id), level, addedIn: isAdded.has(id) ? revision : knownStep(run, id)?.addedIn };
  };
  const inLevels = levels.flatMap((/** @type {string[]} */ ids, /** @type {number} */ level) => ids.map((id) => step(id, level)));
  const steps = [...inLevels, ...run.steps.filter(({ handler }) => handler)];
  return { ...run, revision, levels, steps, index: indexOf(steps), progress: progress ? counted(progress) : run.progress };
}

/** @param {Run} run @param {any} payload @param {(step: Step, payload: any) => Step} move @returns {Run|undefined} */
function moveStep(run, payload, move) {
  const at = run.index.get(payload.stepId);
  if (at === undefined) return undefined;
  const steps = run.steps.slice();
  steps[at] = { ...move(steps[at], payload), heardAt: payload.timestamp };
  return { ...run, steps };
}

/** @param {Step} step @param {any} said @returns {Step} */
function progressed(step, said) {
  const { status, attempt, stepTitle: title, timestamp, items } = said;
  if (isCountOfItems(step, said)) return { ...step, items };
  const attempts = attemptsAfter(step.attempts, said);
  const usage = sum(step.usage, said.usage);
  const next = { ...step, status, attempt, title, nextRetryAt: undefined, approval: undefined, attempts, items: items ?? step.items, usage };
  switch (status) {
    case 'running': return { ...next, startedAt: step.startedAt ?? timestamp, lastLine: undefined };
    case 'waiting': return { ...next, startedAt: step.startedAt ?? timestamp, approval: said.approval ?? { message: said.message ?? '' } };
    case 'retrying': return { ...next, error: said.error, nextRetryAt: said.nextRetryAt };
    case 'completed': {
      const { output, duration, truncated, outputBytes, reused, decision } = said;
      return { ...next, output, duration, truncated, outputBytes, reused, decision, error: undefined, finishedAt: timestamp };
    }
    case 'failed': {
      const { error, duration, continued, decision } = said;
      return { ...next, error, duration, continued, decision, finishedAt: timestamp };
    }
    case 'cancelled': {
      const duration = step.startedAt && Date.parse(timestamp) - Date.parse(step.startedAt);
      return { ...next, reason: said.reason, duration: duration || undefined, finishedAt: timestamp };
    }
    default: return { ...next, reason: said.reason, finishedAt: timestamp };
  }
}

/**
 * What was used before and by one more attempt. Costs are whole billionths; a model is told where it is the same of all.
 * @param {Usage|undefined} before @param {Usage|undefined} more @returns {Usage|undefined}
 */
function sum(before, more) {
  if (!before || !more) return more ?? before;
  const { model, provider, cost } = before;
  /** @param {number} [one] @param {number} [other] */
  const both = (one = 0, other = 0) => one + other;
  const isFree = cost === undefined && more.cost === undefined;
  return {
    inputTokens: both(before.inputTokens, more.inputTokens), outputTokens: both(before.outputTokens, more.outputTokens),
    totalTokens: both(before.totalTokens, more.totalTokens), ...(!isFree && { cost: Math.round(both(cost, more.cost) * 1e9) / 1e9 }),
    ...(model === more.model && model && { model }), ...(provider === more.provider && provider && { provider }),
  };
}

/** Does this tell how far a step is that runs, and nothing else? @param {Step} step @param {any} said */
const isCountOfItems = (step, { status, attempt, items }) =>
  items !== undefined && status === 'running' && step.status === 'running' && step.attempt === attempt;

/** @param {Attempt[]} attempts @param {any} said @returns {Attempt[]} */
function attemptsAfter(attempts, { status, attempt, timestamp }) {
  const last = attempts.at(-1);
  /** @param {string} outcome */
  const ended = (outcome) => last && !last.endedAt ? [...attempts.slice(0, -1), { ...last, endedAt: timestamp, outcome }] : attempts;
  switch (status) {
    case 'running': return [...ended('interrupted'), { attempt, startedAt: timestamp }];
    case 'waiting': return last && !last.endedAt && last.attempt === attempt ? attempts : [...ended('interrupted'), { attempt, startedAt: timestamp }];
    case 'retrying': return ended('failed');
    default: return ended(status);
  }
}

/** @param {Step} step @param {any} said @returns {Step} */
function spoke(step, { chunk }) {
  const end = plain(chunk).trimEnd();
  const line = end.slice(end.lastIndexOf('\n') + 1).slice(0, LINE_CHARS_MAX);
  return line ? { ...step, lastLine: line } : step;
}

/**
 * What is to be seen of a terminal's text in the end: no colours, links or cursor, and of a line that was begun anew by
 * carriage returns, as progress does, the last state that says something.
 * @param {string} text
 */
export function plain(text) {
  if (!/[\u0000-\u0008\u000b-\u001f\u007f]/.test(text)) return text;
  return text
    .replace(ESCAPES, '')
    .split('\n').map(lastState).join('\n')
    .replace(CONTROLS, '\ufffd');
}

/** @param {string} line */
function lastState(line) {
  if (!line.includes('\r')) return line;
  const states = line.split('\r');
  return states.findLast((state) => state.trim()) ?? states.at(-1) ?? '';
}

/** Sequences that are whole: half of one may be completed by what follows. None reaches over the end of a line. */
const ESCAPES = /\u001b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\u0007\u001b\n\r]*(?:\u0007|\u001b\\)|[ -/]+[0-~]|[0-OQ-WYZ\\`-~])/g;
const CONTROLS = /[\u0000-\u0008\u000b\u000c\u000e-\u001a\u001c-\u001f\u007f]/g;
