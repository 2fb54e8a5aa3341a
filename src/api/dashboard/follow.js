// @ts-check
/**
 * Follows one project, or several over one stream. It owns one EventSource at a time and sees to it that there always is
 * one: over restarts of the server, spent tickets, the end of a token, connections that died in silence, and a page that
 * was left and is come back to. No message is handed on twice.
 */
import { emptyState, fold } from './state.js';

/** @import {Connection, Message, State} from './state.js' */

/** Projects that a stream may have at most: the server's bound. */
export const PROJECTS_MAX = 32;

/** A first pause before a stream is opened again by this client, and the longest, in milliseconds. */
const PAUSE_MIN = 500;
const PAUSE_MAX = 30_000;

/** A stream that has said nothing for so many heartbeats is dead. */
const SILENT_HEARTBEATS = 2.5;

/** States are handed on at most so often, in milliseconds. */
const STATE_INTERVAL = 16;

/**
 * @typedef {object} States
 * @property {Map<string, State>} projects each has a `connection` of its own where its part of the stream has ended
 * @property {Connection} connection
 *
 * @typedef {object} Options
 * @property {string} [base] the server's origin, where it is another one than the page's
 * @property {string} [ticketUrl] where a ticket is got with `POST {projectId}`, or `{projectIds}` for a list: the server's
 *   `/api/sse/ticket` or a page of your own that answers `{ticket}`; asked anew whenever the old one is worth nothing any more
 * @property {() => (Record<string, string> | Promise<Record<string, string>>)} [headers] for `ticketUrl`
 * @property {RequestCredentials} [credentials] for `ticketUrl`
 * @property {string} [runId] this run alone; of one project
 * @property {boolean} [items] each item of steps with `forEach`, too: `itemStates` of such a step; of one project
 * @property {string} [lastEventId] go on behind this message
 * @property {(message: Message, text: string, id: string) => void} [onMessage] each message once, those of a project in
 *   order; `text` is its JSON as it came, for whoever needs numbers as they were written; `id` is where to go on behind it
 * @property {(state: any) => void} [onState] the `state` of what `follow` returns, after it has changed
 * @property {(connection: Connection) => void} [onConnection]
 */

/**
 * Follows a project until `close` is called, or a list of projects over one stream. The `state` of what it returns is a
 * `State`, or `States` where it was given a list.
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
  /** Of each project the message behind which it began in the stream that is open. @type {Map<string, number>} */
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

  /** A ticket; without one, what comes next is already decided. @param {string} ticketUrl */
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
      if (opened.readyState !== EventSource.CLOSED) return say('reconnecting', connection.reason);
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
    if (status === 404) return end('ended', 'run not found');
    if (!ticketUrl && (status === 401 || status === 403)) return refuse('a token is required');
    retry('the stream was refused');
  }

  /** Reopens a stream over which not even a heartbeat comes. */
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
    // The server's heartbeats have the number of a message that was here. What has its own is a publisher's, who may
    // name it so; in a run's stream there are none of those.
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

  /** Where a part had ended, it goes on. @param {Message} message @param {State} state @returns {State} */
  function connected({ projectId, seq, payload }, state) {
    positions.set(projectId, seq);
    heartbeat = payload.heartbeat || heartbeat;
    failures = 0;
    if (state.connection) projects = new Map(projects).set(projectId, state = { ...state, connection: undefined });
    say('live');
    return state;
  }

  /**
   * The server ends the stream, or of several projects the part of one. Where a new ticket is needed, there is no use in
   * waiting for the old one's refusal.
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
    /** Follows these projects from now on: those that stay go on where they are. @param {string[]} ids */
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

/** As many projects as a stream may have, each once. @param {string[]} ids */
function checked(ids) {
  const each = [...new Set(ids)];
  if (each.length >= 1 && each.length <= PROJECTS_MAX) return each;
  throw new RangeError(`a stream must have 1 to ${PROJECTS_MAX} projects, not ${each.length}`);
}

/** What a stream tells besides the messages of history: it has the number of the message before it. */
const OWN = new Set(['connected', 'workflow_snapshot', 'workflow_item', 'workflow_items_snapshot']);

/** Why the server ends a stream as a whole. @type {Record<string, string>} */
const CLOSING = {
  shutdown: 'the server is shutting down',
  busy: 'the server is busy',
  stalled: 'the connection was too slow',
  token_expired: 'the token has expired',
};
