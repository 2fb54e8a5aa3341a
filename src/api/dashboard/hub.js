/**
 * One stream per project and token for all tabs of a browser: browsers allow six connections to a host, and a stream holds one
 * for good. A hub lives in a SharedWorker, or in the tab where there is none, and speaks over message ports:
 * a tab says `{follow: projectId, token}` or `{leave: true}`; it is told `{state}` once, then `{messages}` and `{connection}`.
 * It draws nothing and calls nothing but the stream and the ticket.
 */
import { follow } from '/stepcast.js';

/** Messages are handed on together, at most so often, in milliseconds. */
const BATCH_INTERVAL = 30;

/** Outputs above this many characters of JSON stay out of what tabs hold: who looks at a step reads its output by itself. */
const OUTPUT_CHARS_MAX = 2_000;

/** A project without tabs is let go after so many milliseconds, or when another one is asked for: a reload is back sooner. */
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
      if (data.follow) channel = this.channel(data.follow, data.token).add(port);
    };
    port.onclose = leave;
    port.start();
  }

  /** Tabs with other tokens may see other things: each token has a stream of its own. */
  channel(projectId, token) {
    const key = `${projectId} ${token}`;
    // Who goes from project to project must not leave a trail of streams: six take all connections that a host is allowed.
    for (const [other, channel] of this.channels) if (other !== key && channel.isIdle) channel.close();
    const channel = this.channels.get(key) ?? new Channel(projectId, token, () => this.channels.delete(key));
    this.channels.set(key, channel);
    return channel;
  }
}

/** A project that is followed. */
class Channel {
  constructor(projectId, token, onClose) {
    Object.assign(this, { onClose, ports: new Set(), pending: [] });
    this.following = follow(projectId, {
      ...(token && { ticketUrl: '/api/sse/ticket', headers: () => ({ authorization: `Bearer ${token}` }) }),
      onMessage: (message) => this.queue(slim(message)),
      onConnection: (connection) => this.say({ connection }),
    });
  }

  add(port) {
    clearTimeout(this.idle);
    this.flush();
    this.ports.add(port);
    port.postMessage({ state: slimState(this.following.state) });
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

  queue(message) {
    this.pending.push(message);
    this.timer ??= setTimeout(() => this.flush(), BATCH_INTERVAL);
  }

  flush() {
    clearTimeout(this.timer);
    this.timer = undefined;
    if (this.pending.length > 0) this.say({ messages: this.pending.splice(0) });
  }

  say(what) {
    if (what.connection) this.flush();
    for (const port of this.ports) port.postMessage(what);
  }
}

const isLarge = (output) => output !== undefined && output !== null && JSON.stringify(output).length > OUTPUT_CHARS_MAX;
const slimStep = (step) => isLarge(step.output) ? { ...step, output: undefined } : step;

/** A message without large outputs. */
function slim(message) {
  const { type, payload } = message;
  if (type === 'workflow_completed') return { ...message, payload: { ...payload, outputs: undefined } };
  if (type === 'workflow_snapshot') return { ...message, payload: { ...payload, steps: payload.steps.map(slimStep) } };
  return type === 'workflow_progress' && isLarge(payload.output) ? { ...message, payload: slimStep(payload) } : message;
}

function slimState(state) {
  const runs = [...state.runs].map(([id, run]) => [id, { ...run, steps: run.steps.map(slimStep) }]);
  return { ...state, runs: new Map(runs) };
}
