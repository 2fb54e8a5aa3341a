// @ts-check
/**
 * What a project's messages tell: the state that they fold to. Pure. What it does not do: keep more than the newest runs.
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
 * @property {'pending'|'running'|'retrying'|'completed'|'failed'|'skipped'|'cancelled'} status
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
 * @property {boolean} levelOpen
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
    progress: counted(view.progress), currentLevel: view.currentLevel, levelOpen: view.levelOpen ?? false,
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
  return step;
}

/** What a view tells of attempts: the only one, or that there were some. @param {any} view @returns {Attempt[]} */
function attemptsOfView({ attempt, status, startedAt, finishedAt }) {
  if (!startedAt) return [];
  const outcome = finishedAt && status;
  return [{ attempt, startedAt, ...(outcome && { endedAt: finishedAt, outcome }) }];
}

/** @param {any} payload @param {Run} [before] the run while it was queued, whose titles are known @returns {Run} */
function startedRun({ runId, planName, levels, stepCount, estimatedDuration, timestamp }, before) {
  const step = (/** @type {string} */ id, /** @type {number} */ level) => knownStep(before, id)
    ?? { id, title: id, level, status: 'pending', attempt: 0, attempts: [] };
  const steps = levels.flatMap((/** @type {string[]} */ ids, /** @type {number} */ level) => ids.map((id) => step(id, level)));
  return {
    runId, planName, status: 'running', levels, steps, index: indexOf(steps), levelOpen: false,
    progress: { completed: 0, failed: 0, skipped: 0, cancelled: 0, total: stepCount, percent: 0 },
    createdAt: before?.createdAt ?? timestamp, startedAt: timestamp, estimatedDuration: estimatedDuration || undefined,
  };
}

/** @param {Run} run @param {string} type @param {any} payload @returns {Run|undefined} */
function moveRun(run, type, payload) {
  switch (type) {
    case 'workflow_level_started': return { ...run, currentLevel: payload.level, levelOpen: true };
    case 'workflow_level_completed': return { ...run, levelOpen: false };
    case 'workflow_progress': return moveStep({ ...run, progress: counted(payload.progress) }, payload, progressed);
    case 'workflow_step_output': return moveStep(run, payload, spoke);
    case 'workflow_completed':
      return { ...run, status: 'completed', finishedAt: payload.timestamp, criticalPath: payload.performanceMetrics?.criticalPath };
    case 'workflow_failed': {
      const status = payload.reason === 'cancelled' ? 'cancelled' : 'failed';
      return { ...run, status, finishedAt: payload.timestamp, error: payload.error };
    }
  }
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
  const { status, attempt, stepTitle: title, timestamp } = said;
  const next = { ...step, status, attempt, title, nextRetryAt: undefined, attempts: attemptsAfter(step.attempts, said) };
  switch (status) {
    case 'running': return { ...next, startedAt: step.startedAt ?? timestamp, lastLine: undefined };
    case 'retrying': return { ...next, error: said.error, nextRetryAt: said.nextRetryAt };
    case 'completed': {
      const { output, duration, truncated, outputBytes } = said;
      return { ...next, output, duration, truncated, outputBytes, error: undefined, finishedAt: timestamp };
    }
    case 'failed': {
      const { error, duration, continued } = said;
      return { ...next, error, duration, continued, finishedAt: timestamp };
    }
    case 'cancelled': {
      const duration = step.startedAt && Date.parse(timestamp) - Date.parse(step.startedAt);
      return { ...next, reason: said.reason, duration: duration || undefined, finishedAt: timestamp };
    }
    default: return { ...next, reason: said.reason, finishedAt: timestamp };
  }
}

/** @param {Attempt[]} attempts @param {any} said @returns {Attempt[]} */
function attemptsAfter(attempts, { status, attempt, timestamp }) {
  const last = attempts.at(-1);
  /** @param {string} outcome */
  const ended = (outcome) => last && !last.endedAt ? [...attempts.slice(0, -1), { ...last, endedAt: timestamp, outcome }] : attempts;
  switch (status) {
    case 'running': return [...ended('interrupted'), { attempt, startedAt: timestamp }];
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
