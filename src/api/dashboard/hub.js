/**
 * One stream per project and token, and one for the overview, for all tabs of a browser: browsers allow six connections to
 * a host, and a stream holds one for good. A hub lives in a SharedWorker, or in the tab where there is none, and speaks
 * over message ports: a tab sends `{follow: projectId, token}`, `{overview: projectIds, token}` or `{leave: true}`. For a
 * project it gets `{state}` once, then `{messages}` and `{connection}`; for an overview `{glances}` of the changed projects,
 * and `{connection}`. It draws nothing, and only uses the stream and the ticket.
 */
import { follow } from '/stepcast.js';
import { glance } from './glance.js';
import { payloadOf } from './json.js';

/** Messages are handed on together, at most so often, in milliseconds. */
const BATCH_INTERVAL = 30;

/** Glances are, in milliseconds. */
const GLANCE_INTERVAL = 100;

/** Outputs above this many characters of JSON stay out of what tabs hold: who looks at a step reads its output by itself. */
const OUTPUT_CHARS_MAX = 2_000;

/** A stream without tabs is let go after so many milliseconds, or when another one is asked for: a reload is back sooner. */
const LINGER = 3_000;

export class Hub {
  constructor() {
    this.channels = new Map();
  }

  /** @param {MessagePort} port */
  attach(port) {
    let channel;
    const leave = () => channel = void channel?.remove(port);
    port.onmessage = ({ data }) => {
      leave();
      if (data.follow) channel = this.project(data.follow, data.token).add(port);
      if (data.overview) channel = this.overview(data.overview, data.token).add(port);
    };
    port.onclose = leave;
    port.start();
  }

  project(projectId, token) {
    return this.channel(`${projectId} ${token}`, (onClose) => new ProjectChannel(projectId, token, onClose));
  }

  /** Tabs that list projects at different times may ask for different ones: the newest list counts for all. */
  overview(projectIds, token) {
    const channel = this.channel(` ${token}`, (onClose) => new OverviewChannel(projectIds, token, onClose));
    channel.following.change(projectIds);
    return channel;
  }

  /** Tabs with other tokens may see other things: each token has streams of its own. */
  channel(key, open) {
    // Who goes from project to project must not leave a trail of streams: six take all connections that a host is allowed.
    for (const [other, channel] of this.channels) if (other !== key && channel.isIdle) channel.close();
    const channel = this.channels.get(key) ?? open(() => this.channels.delete(key));
    this.channels.set(key, channel);
    return channel;
  }
}

/** A stream that tabs share. Whoever extends it says how it is followed, what newcomers are told, and what else is told. */
class Channel {
  constructor(onClose) {
    Object.assign(this, { onClose, ports: new Set() });
  }

  add(port) {
    clearTimeout(this.idle);
    this.flush();
    this.ports.add(port);
    port.postMessage(this.all());
    return this;
  }

  remove(port) {
    this.ports.delete(port);
    if (this.ports.size > 0) return;
    clearTimeout(this.idle);
    this.idle = setTimeout(() => this.close(), LINGER);
  }

  get isIdle() {
    return this.ports.size === 0;
  }

  close() {
    this.onClose();
    clearTimeout(this.idle);
    clearTimeout(this.timer);
    this.following.close();
  }

  /** Has what is told now told together with what comes soon. */
  soon(interval) {
    this.timer ??= setTimeout(() => this.flush(), interval);
  }

  flush() {
    clearTimeout(this.timer);
    this.timer = undefined;
    this.tell();
  }

  say(what) {
    if (what.connection) this.flush();
    for (const port of this.ports) port.postMessage(what);
  }
}

/** A project that is followed. */
class ProjectChannel extends Channel {
  constructor(projectId, token, onClose) {
    super(onClose);
    this.pending = [];
    this.following = follow(projectId, {
      ...credentials(token),
      onMessage: (message, text, id) => {
        this.pending.push(slim(message, text, id));
        this.soon(BATCH_INTERVAL);
      },
      onConnection: (connection) => this.say({ connection }),
    });
  }

  all() {
    return { state: slimState(this.following.state) };
  }

  tell() {
    if (this.pending.length > 0) this.say({ messages: this.pending.splice(0) });
  }
}

/** Projects that are followed together, of which tabs are told in short. */
class OverviewChannel extends Channel {
  constructor(projectIds, token, onClose) {
    super(onClose);
    this.told = new Map();
    this.following = follow(projectIds, {
      ...credentials(token),
      onState: () => this.soon(GLANCE_INTERVAL),
      onConnection: (connection) => this.say({ connection }),
    });
  }

  all() {
    const { projects, connection } = this.following.state;
    return { glances: [...projects.values()].map(glance), connection };
  }

  tell() {
    const { projects } = this.following.state;
    const changed = [...projects.values()].filter((state) => this.told.get(state.projectId) !== state);
    this.told = projects;
    if (changed.length > 0) this.say({ glances: changed.map(glance) });
  }
}

const credentials = (token) =>
  token ? { ticketUrl: '/api/sse/ticket', headers: () => ({ authorization: `Bearer ${token}` }) } : {};

const isLarge = (output) => output !== undefined && output !== null && JSON.stringify(output).length > OUTPUT_CHARS_MAX;
const slimStep = (step) => isLarge(step.output) ? { ...step, output: undefined } : step;

/** A message without what is large in it; a publisher's with what it carries as it was written. */
function slim(message, text, id) {
  const { type, payload } = message;
  if (type === 'workflow_completed') return { ...message, payload: { ...payload, outputs: undefined } };
  if (type === 'workflow_snapshot') return { ...message, payload: { ...payload, steps: payload.steps.map(slimStep) } };
  if (type === 'workflow_progress') return isLarge(payload.output) ? { ...message, payload: slimStep(payload) } : message;
  if (type.startsWith('workflow_') || type === 'connected' || type.startsWith('stream_')) return message;
  return { ...message, id, payload: {}, heardAt: Date.now(), ...payloadOf(text) };
}

function slimState(state) {
  const runs = [...state.runs].map(([id, run]) => [id, { ...run, steps: run.steps.map(slimStep) }]);
  return { ...state, runs: new Map(runs) };
}
