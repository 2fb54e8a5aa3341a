// @ts-check
/**
 * The client: follows a project's messages and keeps the state that they tell.
 *
 *   import { follow } from '/stepcast.js';
 *   const following = follow('demo', { onState: (state) => render(state.runs) });
 *
 * It owns one EventSource at a time and sees to it that there always is one: over restarts of the server, spent
 * tickets, the end of a token, connections that died in silence, and a page that was left and is come back to. No message is handed on twice. What it does not
 * do: draw anything, or keep more than the newest runs. A plain EventSource works without all this.
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

/** A first pause before a stream is opened again by this client, and the longest, in milliseconds. */
const PAUSE_MIN = 500;
const PAUSE_MAX = 30_000;

/** A stream that has said nothing for so many heartbeats is dead. */
const SILENT_HEARTBEATS = 2.5;

/** States are handed on at most so often, in milliseconds. */
const STATE_INTERVAL = 16;

/**
 * @typedef {object} Options
 * @property {string} [base] the server's origin, where it is another one than the page's
 * @property {string} [ticketUrl] where a ticket is got with `POST {projectId}`: the server's `/api/sse/ticket` or a page of
 *   your own that answers `{ticket}`; asked anew whenever the old one is worth nothing any more
 * @property {() => (Record<string, string> | Promise<Record<string, string>>)} [headers] for `ticketUrl`
 * @property {RequestCredentials} [credentials] for `ticketUrl`
 * @property {string} [runId] this run alone
 * @property {string} [lastEventId] go on behind this message
 * @property {(message: Message, text: string) => void} [onMessage] each message once, in order; `text` is its JSON as it
 *   came, for whoever needs numbers as they were written
 * @property {(state: State) => void} [onState] the state, after it has changed
 * @property {(connection: Connection) => void} [onConnection]
 */

/**
 * Follows a project until `close` is called.
 * @param {string} projectId
 * @param {Options} [options]
 */
export function follow(projectId, options = {}) {
  const { base = '', ticketUrl, runId, onMessage, onState, onConnection } = options;
  /** @type {State} */
  let state = { ...emptyState(projectId), connection: { status: 'connecting' } };
  let lastEventId = options.lastEventId ?? '';
  let heartbeat = 15_000, failures = 0;
  let position = 0; // The message behind which the stream that is open began.
  /** @type {EventSource|undefined} */
  let source;
  /** @type {any} */
  let pause;
  /** @type {any} */
  let silence;
  /** @type {any} */
  let telling;
  let turn = 0; // A step of an older turn that comes late does nothing.

  /** @param {Connection['status']} status @param {string} [reason] */
  function say(status, reason) {
    if (state.connection?.status === status && state.connection.reason === reason) return;
    state = { ...state, connection: { status, reason } };
    onConnection?.(/** @type {Connection} */ (state.connection));
    tell();
  }

  function tell() {
    if (onState) telling ??= setTimeout(() => { telling = undefined; onState(state); }, STATE_INTERVAL);
  }

  function stop() {
    turn += 1;
    source?.close();
    source = undefined;
    clearTimeout(pause);
    clearTimeout(silence);
  }

  /** @param {Connection['status']} status @param {string} [reason] */
  function end(status, reason) {
    stop();
    say(status, reason);
  }

  /** Opens a new stream after a pause that grows with each failure. @param {number} [ms] */
  function again(ms) {
    stop();
    const grown = Math.min(PAUSE_MIN * 2 ** failures, PAUSE_MAX);
    failures += 1;
    pause = setTimeout(open, ms ?? grown * (0.5 + Math.random() / 2));
  }

  async function open() {
    stop();
    const mine = turn;
    const url = new URL(`${base}/api/sse/projects/${encodeURIComponent(projectId)}`, globalThis.location?.href);
    url.searchParams.set('heartbeat', 'message');
    if (runId) url.searchParams.set('runId', runId);
    if (lastEventId) url.searchParams.set('lastEventId', lastEventId);
    if (ticketUrl) {
      const ticket = await fetchTicket(ticketUrl);
      if (mine !== turn || !ticket) return;
      url.searchParams.set('ticket', ticket);
    }
    watch(new EventSource(url), url);
  }

  /** A ticket; without one, what comes next is already decided. @param {string} ticketUrl */
  async function fetchTicket(ticketUrl) {
    const mine = turn;
    try {
      const headers = { 'content-type': 'application/json', ...(await options.headers?.()) };
      const body = JSON.stringify({ projectId });
      const answer = await fetch(ticketUrl, { method: 'POST', headers, body, credentials: options.credentials });
      const { ticket, detail } = await answer.json();
      if (answer.ok) return ticket;
      if (mine === turn) answer.status === 401 || answer.status === 403 ? refuse(detail) : retry('the server gives no ticket now');
    } catch {
      if (mine === turn) retry('the server does not answer');
    }
  }

  /** @param {string} reason */
  function retry(reason) {
    say('reconnecting', reason);
    again();
  }

  /** The rights are gone. They may come back with a new session, so this goes on asking, rarely. @param {string} reason */
  function refuse(reason) {
    say('denied', reason);
    again(PAUSE_MAX);
  }

  /** @param {EventSource} opened @param {URL} url */
  function watch(opened, url) {
    source = opened;
    listen();
    opened.onmessage = (event) => source === opened && receive(event);
    opened.onerror = () => {
      if (source !== opened) return;
      if (opened.readyState !== EventSource.CLOSED) return say('reconnecting', state.connection?.reason);
      refusedBy(url);
    };
  }

  /** EventSource does not say what it was refused with; HEAD does. @param {URL} url */
  async function refusedBy(url) {
    stop();
    const mine = turn;
    const status = await fetch(url, { method: 'HEAD' }).then((answer) => answer.status, () => 0);
    if (mine !== turn) return;
    if (status === 204) return end('ended');
    if (status === 404) return end('ended', 'there is no such run');
    if (!ticketUrl && (status === 401 || status === 403)) return refuse('a token is needed');
    retry('the stream was refused');
  }

  /** Reopens a stream over which not even a heartbeat comes. */
  function listen() {
    clearTimeout(silence);
    silence = setTimeout(() => retry('nothing came any more'), heartbeat * SILENT_HEARTBEATS + 5_000);
  }

  /** @param {MessageEvent} event */
  function receive(event) {
    listen();
    if (event.lastEventId) lastEventId = event.lastEventId;
    /** @type {Message} */
    const message = JSON.parse(event.data);
    const { type, payload } = message;
    const isOwn = type === 'connected' || type === 'workflow_snapshot' || type.startsWith('stream_');
    if (!isOwn && message.seq <= Math.max(state.seq, position)) return;
    // The server's heartbeats have the number of a message that was here. What has its own is a publisher's, who may
    // name it so; in a run's stream there are none of those.
    if (runId && type === 'heartbeat') return;
    if (type === 'connected') connected(message);
    const next = fold(state, message);
    if (next !== state) {
      state = next;
      tell();
    }
    onMessage?.(message, event.data);
    if (type === 'stream_closing') closing(payload.reason);
    if (runId && (type === 'workflow_completed' || type === 'workflow_failed')) end('ended');
  }

  /** @param {Message} message */
  function connected({ seq, payload }) {
    position = seq;
    heartbeat = payload.heartbeat || heartbeat;
    failures = 0;
    say('live');
  }

  /** The server ends the stream. Where a new ticket is needed, there is no use in waiting for the old one's refusal. */
  function closing(/** @type {string} */ reason) {
    say('reconnecting', CLOSING[reason] ?? 'the server ended the stream');
    if (reason === 'token_expired' && ticketUrl) again(0);
  }

  const isOver = () => state.connection?.status === 'ended' || state.connection?.status === 'closed';
  const heard = {
    online: () => state.connection?.status === 'reconnecting' && again(0),
    // A page that is left lives on in the browser's cache, and its stream with it: after six of them, all that a browser
    // allows a host, the next page of this server does not load.
    pagehide: stop,
    pageshow: (/** @type {any} */ event) => event.persisted && !isOver() && again(0),
  };
  for (const [name, listener] of Object.entries(heard)) globalThis.addEventListener?.(name, listener);
  open();
  return {
    /** The state as it is now. */
    get state() { return state; },
    /** Where to go on from, for a later `follow`. */
    get lastEventId() { return lastEventId; },
    /** Tries again now, for whoever knows that something has changed. */
    retry() { failures = 0; again(0); },
    close() {
      for (const [name, listener] of Object.entries(heard)) globalThis.removeEventListener?.(name, listener);
      end('closed');
    },
  };
}

/** @type {Record<string, string>} */
const CLOSING = {
  shutdown: 'the server is shutting down',
  busy: 'the server is busy',
  stalled: 'too little was read',
  token_expired: 'the token has ended',
};
