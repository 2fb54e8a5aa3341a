// @ts-check
/**
 * Follows one project, or several over one stream. It owns one EventSource at a time, and replaces it after restarts of the
 * server, spent tickets, an expired token, connections that died silently, and when a page is shown again from the browser's
 * cache. No message is delivered twice.
 */
import { emptyState, fold } from './state.js';

/** @import {Connection, Message, State} from './state.js' */

/** The maximum number of projects of a stream, set by the server. */
export const PROJECTS_MAX = 32;

/** The first and the longest pause before this client reopens a stream, in milliseconds. */
const PAUSE_MIN = 500;
const PAUSE_MAX = 30_000;

/** A stream without any data for this many heartbeats is dead. */
const SILENT_HEARTBEATS = 2.5;

/** The minimum time between two state updates, in milliseconds. */
const STATE_INTERVAL = 16;

/**
 * @typedef {object} States
 * @property {Map<string, State>} projects each has its own `connection` if its part of the stream has ended
 * @property {Connection} connection
 *
 * @typedef {object} Options
 * @property {string} [base] the server's origin, if it differs from the page's
 * @property {string} [ticketUrl] where to get a ticket with `POST {projectId}`, or `{projectIds}` for a list: the server's
 *   `/api/sse/ticket`, or your own endpoint that returns `{ticket}`; called again when the old ticket is no longer valid
 * @property {() => (Record<string, string> | Promise<Record<string, string>>)} [headers] for `ticketUrl`
 * @property {RequestCredentials} [credentials] for `ticketUrl`
 * @property {string} [runId] only this run; requires a single project
 * @property {boolean} [items] also the items of steps with `forEach`, as `itemStates` of the step; requires a single project
 * @property {string} [lastEventId] resume after this message
 * @property {(message: Message, text: string, id: string) => void} [onMessage] called once for each message, in order within
 *   a project; `text` is its unchanged JSON, in which numbers are as they were written; `id` is the position after it
 * @property {(state: any) => void} [onState] called with the `state` of the returned object after it has changed
 * @property {(connection: Connection) => void} [onConnection]
 */

/**
 * Follows a project, or a list of projects over one stream, until `close` is called. The `state` of the returned object is a
 * `State`, or `States` for a list.
 * @param {string | string[]} wanted
 * @param {Options} [options]
 */
export function follow(wanted, options = {}) {
  const { base = '', ticketUrl, runId, items, onMessage, onState, onConnection } = options;
  const one = typeof wanted === 'string' ? wanted : undefined;
  if (one === undefined && runId) throw new TypeError('runId requires a single project: follow(project, { runId })');
  if (one === undefined && items) throw new TypeError('items requires a single project: follow(project, { items })');
  /** @type {Map<string, State>} */
  let projects = new Map((one === undefined ? checked(wanted) : [one]).map((id) => [id, emptyState(id)]));
  /** @type {Connection} */
  let connection = { status: 'connecting' };
  let state = current();
  let lastEventId = options.lastEventId ?? '';
  let heartbeat = 15_000, failures = 0;
  /** For each project, the message after which it started in the current stream. @type {Map<string, number>} */
  let positions = new Map();
  /** @type {EventSource|undefined} */
  let source;
  /** @type {any} */
  let pause;
  /** @type {any} */
  let silence;
  /** @type {any} */
  let telling;
  let turn = 0; // A step of an older turn that comes late does nothing.

  function current() {
    return one === undefined ? { projects, connection } : { ...(projects.get(one) ?? emptyState(one)), connection };
  }

  /** @param {Connection['status']} status @param {string} [reason] */
  function say(status, reason) {
    if (connection.status === status && connection.reason === reason) return;
    connection = { status, reason };
    changed();
    onConnection?.(connection);
  }

  function changed() {
    state = current();
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
    positions = new Map();
    const path = one === undefined ? '/api/sse' : `/api/sse/projects/${encodeURIComponent(one)}`;
    const url = new URL(base + path, globalThis.location?.href);
    if (one === undefined) url.searchParams.set('projects', [...projects.keys()].join());
    url.searchParams.set('heartbeat', 'message');
    if (runId) url.searchParams.set('runId', runId);
    if (items) url.searchParams.set('items', '1');
    if (lastEventId) url.searchParams.set('lastEventId', lastEventId);
    if (ticketUrl) {
      const ticket = await fetchTicket(ticketUrl);
      if (mine !== turn || !ticket) return;
      url.searchParams.set('ticket', ticket);
    }
    watch(new EventSource(url), url);
  }

  /** A ticket; if there is none, the next action has already been taken. @param {string} ticketUrl */
  async function fetchTicket(ticketUrl) {
    const mine = turn;
    try {
      const headers = { 'content-type': 'application/json', ...(await options.headers?.()) };
      const body = JSON.stringify(one === undefined ? { projectIds: [...projects.keys()] } : { projectId: one });
      const answer = await fetch(ticketUrl, { method: 'POST', headers, body, credentials: options.credentials });
      const { ticket, detail } = await answer.json();
      if (answer.ok) return ticket;
      if (mine === turn) answer.status === 401 || answer.status === 403 ? refuse(detail) : retry('the server does not issue a ticket');
    } catch {
      if (mine === turn) retry('the server is not responding');
    }
  }

  /** @param {string} reason */
  function retry(reason) {
    say('reconnecting', reason);
    again();
  }

  /** Access was denied. A new session may restore it, so this tries again from time to time. @param {string} reason */
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
      if (opened.readyState !== EventSource.CLOSED) return say('reconnecting', connection.reason);
      refusedBy(url);
    };
  }

  /** EventSource does not tell the status of a refusal; HEAD does. @param {URL} url */
  async function refusedBy(url) {
    stop();
    const mine = turn;
    const status = await fetch(url, { method: 'HEAD' }).then((answer) => answer.status, () => 0);
    if (mine !== turn) return;
    if (status === 204) return end('ended');
    if (status === 404) return end('ended', 'run not found');
    if (!ticketUrl && (status === 401 || status === 403)) return refuse('a token is required');
    retry('the stream was refused');
  }

  /** Reopens a stream that does not even get heartbeats. */
  function listen() {
    clearTimeout(silence);
    silence = setTimeout(() => retry('no data received'), heartbeat * SILENT_HEARTBEATS + 5_000);
  }

  /** @param {MessageEvent} event */
  function receive(event) {
    listen();
    if (event.lastEventId) lastEventId = event.lastEventId;
    /** @type {Message} */
    const message = JSON.parse(event.data);
    const { type, projectId, seq, payload } = message;
    let before = projects.get(projectId);
    if (!before) return;
    if (!OWN.has(type) && !type.startsWith('stream_') && seq <= Math.max(before.seq, positions.get(projectId) ?? 0)) return;
    // The server's heartbeats have the number of the previous message. A heartbeat with its own number was published by a
    // client, which may use this type; a run's stream has no published messages.
    if (runId && type === 'heartbeat') return;
    if (type === 'connected') before = connected(message, before);
    keep(projectId, before, fold(before, message));
    onMessage?.(message, event.data, event.lastEventId);
    if (type === 'stream_closing') closing(message);
    if (runId && (type === 'workflow_completed' || type === 'workflow_failed')) end('ended');
  }

  /** @param {string} id @param {State} before @param {State} after */
  function keep(id, before, after) {
    if (after === before) return;
    projects = new Map(projects).set(id, after);
    changed();
  }

  /** If the part of a project had ended, it continues. @param {Message} message @param {State} state @returns {State} */
  function connected({ projectId, seq, payload }, state) {
    positions.set(projectId, seq);
    heartbeat = payload.heartbeat || heartbeat;
    failures = 0;
    if (state.connection) projects = new Map(projects).set(projectId, state = { ...state, connection: undefined });
    say('live');
    return state;
  }

  /**
   * The server closes the stream, or one project's part of it. If a new ticket is required, there is no point in waiting
   * until the old one is refused.
   * @param {Message} message
   */
  function closing({ projectId, payload: { reason } }) {
    const state = projects.get(projectId);
    if (one === undefined && state && !(reason in CLOSING)) {
      return keep(projectId, state, { ...state, connection: { status: 'denied', reason: 'the token does not allow access' } });
    }
    say('reconnecting', CLOSING[reason] ?? 'the server closed the stream');
    if (reason === 'token_expired' && ticketUrl) again(0);
  }

  const isOver = () => connection.status === 'ended' || connection.status === 'closed';
  const heard = {
    online: () => connection.status === 'reconnecting' && again(0),
    // A page in the browser's back/forward cache keeps its stream. With six of them, the browser's limit per host, the next
    // page of this server would not load.
    pagehide: stop,
    pageshow: (/** @type {any} */ event) => event.persisted && !isOver() && again(0),
  };
  for (const [name, listener] of Object.entries(heard)) globalThis.addEventListener?.(name, listener);
  open();
  return {
    /** The current state. */
    get state() { return state; },
    /** The current position, for a later `follow`. */
    get lastEventId() { return lastEventId; },
    /** Tries again at once, for example after a change of the session. */
    retry() { failures = 0; again(0); },
    /** Changes the list of projects; the remaining ones continue without a gap. @param {string[]} ids */
    change(ids) {
      if (one !== undefined) throw new TypeError('only a stream that was opened with a list of projects can be changed');
      const before = projects;
      const next = new Map(checked(ids).map((id) => [id, before.get(id) ?? emptyState(id)]));
      if (next.size === before.size && [...next.keys()].every((id) => before.has(id))) return;
      projects = next;
      changed();
      if (!isOver()) again(0);
    },
    close() {
      for (const [name, listener] of Object.entries(heard)) globalThis.removeEventListener?.(name, listener);
      end('closed');
    },
  };
}

/** Checks the number of projects, and removes duplicates. @param {string[]} ids */
function checked(ids) {
  const each = [...new Set(ids)];
  if (each.length >= 1 && each.length <= PROJECTS_MAX) return each;
  throw new RangeError(`a stream must have 1 to ${PROJECTS_MAX} projects, not ${each.length}`);
}

/** Messages that are not part of the history: they have the number of the previous message. */
const OWN = new Set(['connected', 'workflow_snapshot', 'workflow_item', 'workflow_items_snapshot']);

/** The reasons for which the server closes a whole stream. @type {Record<string, string>} */
const CLOSING = {
  shutdown: 'the server is shutting down',
  busy: 'the server is busy',
  stalled: 'the connection was too slow',
  token_expired: 'the token has expired',
};
