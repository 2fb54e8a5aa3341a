// The clients of the tests, as their users make them, and a way to them that cuts. Knows no test.
import net from 'node:net';
import * as agui1 from '@ag-ui/client';
import * as agui0 from 'agui-client-0.0.59';
import * as ai6 from 'ai6';
import * as ai7 from 'ai7';
import { EventSource } from 'eventsource';
import { Observable } from 'rxjs';
import { Server } from '../browser/program.mjs';
import { toolbox } from './golden.mjs';

export const AG_UI = { '@ag-ui/client 1.0.0': agui1, '@ag-ui/client 0.0.59': agui0 };
export const AI = { 'ai 6': ai6, 'ai 7': ai7 };

process.setMaxListeners(0);

/** A stream that is cut leaves a rejection behind in @ag-ui/client that nobody can handle. It is none of a test's. */
function tolerate() {
  const others = process.listeners('unhandledRejection').filter((one) => one !== tolerated);
  process.removeAllListeners('unhandledRejection').on('unhandledRejection', tolerated);
  handlers.push(...others);
}
const handlers = [];
function tolerated(error, promise) {
  if (!/terminated|aborted/.test(String(error))) handlers.forEach((handle) => handle(error, promise));
}

/** A server with the tools of the golden runs, which ends with the test. */
export async function serve(t, { flags = [], ...options } = {}) {
  tolerate();
  const box = options.box ?? await toolbox(t);
  const server = await Server.start({ config: box.config, flags: ['--auth', 'none', '--sse-retry', '100ms', ...flags], ...options });
  t.after(() => server.kill());
  return { server, box };
}

/** Passes bytes on; answers of the next connections are cut behind so many blocks of an event stream. */
export class Cutter {
  static async before(t, server) {
    const cutter = new Cutter();
    const sockets = new Set();
    const listener = net.createServer((client) => {
      const onward = net.connect(server.port, '127.0.0.1');
      const cut = () => [client, onward].forEach((socket) => socket.destroy());
      const after = cutter.cuts.shift() ?? Infinity;
      let passed = '';
      onward.on('data', (piece) => {
        // To Node 20 an answer that breaks off is whole, where it had said that the connection would be closed.
        const bytes = passed ? piece : Buffer.from(piece.toString('latin1').replace('Connection: close\r\n', ''), 'latin1');
        const [head, ...blocks] = (passed += bytes.toString('latin1')).split('\n\n');
        if (blocks.length < after) return client.write(bytes);
        const whole = [head, ...blocks.slice(0, after)].join('\n\n').length + (blocks.length > after ? 2 : 0);
        client.write(bytes.subarray(0, bytes.length - (passed.length - whole)), cut);
        cutter.count += 1;
      });
      client.on('data', (bytes) => onward.write(bytes));
      for (const socket of [client, onward]) {
        sockets.add(socket);
        socket.on('error', () => {}).on('close', cut);
      }
    }).listen(0, '127.0.0.1');
    await new Promise((resolve) => listener.on('listening', resolve));
    t.after(() => {
      listener.close();
      sockets.forEach((socket) => socket.destroy());
    });
    cutter.origin = `http://127.0.0.1:${listener.address().port}`;
    return cutter;
  }

  cuts = [];
  /** How many answers were cut. */
  count = 0;
}

/** An HttpAgent, and what it was told. */
export function httpAgent({ HttpAgent }, url, options = {}) {
  const agent = new HttpAgent({ url, ...options });
  agent.told = [];
  agent.subscribe({ onEvent: ({ event }) => { agent.told.push(event); } });
  return agent;
}

/** Follows a run until it is over, however often the stream is cut. */
export async function followAgUi(agent, parameters) {
  for (let tries = 0; tries < 100; tries += 1) {
    await agent.runAgent(parameters).catch(() => {});
    if (['RUN_FINISHED', 'RUN_ERROR'].includes(agent.told.at(-1)?.type) && agent.told.at(-1).code !== 'stream_closing') return agent;
  }
  throw new Error(`the run never ends: ${JSON.stringify(agent.told.slice(-3))}`);
}

/** An agent over an EventSource, which comes back by itself. Events of one message count together: with the last of them its id comes. */
export function sourceAgent({ HttpAgent }, url) {
  class SourceAgent extends HttpAgent {
    run() {
      return new Observable((observer) => {
        const source = new EventSource(url);
        let [held, id] = [[], ''];
        source.onopen = () => { held = []; };
        source.onmessage = ({ data, lastEventId }) => {
          held.push(JSON.parse(data));
          if (lastEventId === id) return;
          id = lastEventId;
          held.splice(0).forEach((event) => observer.next(event));
        };
        source.onerror = () => {
          if (source.readyState === EventSource.CLOSED) observer.complete();
        };
        return () => source.close();
      });
    }
  }
  const agent = new SourceAgent({ url });
  agent.told = [];
  agent.subscribe({ onEvent: ({ event }) => { agent.told.push(event); } });
  return agent;
}

/** A chat, as `useChat` makes it, without React. */
export function chat({ AbstractChat, DefaultChatTransport }, api, { id, messages = [], ...options }) {
  class Chat extends AbstractChat {
    constructor() {
      const state = {
        messages,
        status: 'ready',
        error: undefined,
        pushMessage(message) { this.messages = [...this.messages, message]; },
        popMessage() { this.messages = this.messages.slice(0, -1); },
        replaceMessage(at, message) { this.messages = this.messages.with(at, structuredClone(message)); },
        snapshot: (thing) => structuredClone(thing),
      };
      super({ id, state, transport: new DefaultChatTransport({ api }), onFinish: (end) => { this.ends.push(end); }, onData: (part) => { this.data.push(part); }, ...options });
      this.ends = [];
      this.data = [];
    }
  }
  return new Chat();
}

/** Follows a run until it is over, however often the stream is cut. */
export async function followChat(one) {
  const isOver = () => one.messages.at(-1)?.parts.some(({ type, data }) => type === 'data-workflow' && data.finishedAt);
  for (let tries = 0; tries < 100; tries += 1) {
    await one.resumeStream();
    if (isOver() && !/terminated/.test(one.error?.message)) return one;
    one.clearError();
  }
  throw new Error(`the run never ends: ${one.status} ${one.error}`);
}
