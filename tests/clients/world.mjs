// Starts what the tests need: servers, proxies in front of them, and clients that follow a stream. Knows no test.
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { PROGRAM, ROOT, Server, temporary, until } from '../browser/program.mjs';

export { Server, temporary };

process.setMaxListeners(0);
const PYTHON = fileURLToPath(new URL('.venv/bin/python', import.meta.url));
const HAS_PYTHONS = existsSync(new URL('.venv/ready', import.meta.url));
const NGINX = [...(process.env.PATH ?? '').split(':'), '/usr/sbin', '/usr/local/sbin'].map((one) => path.join(one, 'nginx')).find(existsSync);

/** Clients that come back by themselves, as `EventSource` does, and those that leave it to who uses them. */
const NODE = ['eventsource 3', 'eventsource 5', 'fetch-event-source', 'curl'];
const PYTHONS = ['requests-sse', 'sseclient-py', 'httpx-sse', 'requests'];
export const CLIENTS = HAS_PYTHONS ? [...NODE, ...PYTHONS] : NODE;

/** What is between a client and the server. */
export const WAYS = NGINX ? ['directly', 'through nginx', 'through nginx that speaks HTTP/1.0'] : ['directly'];

/** What can't be tested here, and why. */
export function missing() {
  const lacks = [];
  if (!existsSync(PROGRAM)) lacks.push(`there is no program at ${PROGRAM}: cargo build`);
  if (!HAS_PYTHONS) lacks.push('no Python clients: apt-get install python3-venv, then tests/clients/run');
  if (!NGINX) lacks.push('no proxy: apt-get install nginx');
  return lacks;
}

/** The address of a stream of `server`, by this way; what it takes ends with `t`. */
export async function address(t, server, way, stream = '/api/sse/projects/p') {
  return `${way === 'directly' ? server.origin : await nginx(t, server, way)}${stream}`;
}

/**
 * nginx in front of a server, by the recipe: only addresses are replaced, the version of HTTP that it speaks to the server, and
 * how soon one comes back while that is away.
 */
async function nginx(t, server, way) {
  const port = await freePort();
  const own = temporary();
  const paths = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((kind) => `${kind}_temp_path ${own}/${kind};`).join(' ');
  const changes = [
    ['127.0.0.1:8080', `127.0.0.1:${server.port}`],
    ['listen 80;', `listen 127.0.0.1:${port};`],
    ["'retry: 3000", "'retry: 300"],
    ['\nhttp {', `\nhttp { access_log off; ${paths}`],
  ];
  if (way.endsWith('HTTP/1.0')) changes.push(['proxy_http_version 1.1;', 'proxy_http_version 1.0;'], ['proxy_set_header Connection "";', '']);
  const recipe = readFileSync(path.join(ROOT, 'examples/proxies/nginx.conf'), 'utf8');
  writeFileSync(path.join(own, 'nginx.conf'), changes.reduce(replaced, recipe));
  mkdirSync(path.join(own, 'logs'), { recursive: true });
  const flags = ['-p', own, '-c', `${own}/nginx.conf`, '-e', 'stderr', '-g', `daemon off; pid ${own}/pid; error_log stderr;`];
  const proxy = spawn(NGINX, flags, { stdio: 'ignore' });
  t.after(() => proxy.kill());
  process.on('exit', () => proxy.kill());
  await until(() => answers(port), 'nginx listens');
  return `http://127.0.0.1:${port}`;
}

function replaced(text, [from, to]) {
  const parts = text.split(from);
  if (parts.length < 2) throw new Error(`no ${from} in the recipe`);
  return parts.join(to);
}

async function freePort() {
  const server = net.createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => server.on('listening', resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

function answers(port) {
  return new Promise((resolve) => {
    const socket = net.connect(port, '127.0.0.1', () => resolve(true)).on('error', () => resolve(false));
    socket.on('connect', () => socket.destroy());
  });
}

/** Passes bytes on as they are and keeps what the server sent. */
export async function tap(t, url) {
  const { hostname, port } = new URL(url);
  const tapped = { sent: '' };
  const sockets = new Set();
  const server = net.createServer((client) => {
    const onward = net.connect(Number(port), hostname);
    onward.on('data', (bytes) => { tapped.sent += bytes.toString('latin1'); });
    for (const [from, to] of [[client, onward], [onward, client]]) {
      sockets.add(from);
      from.pipe(to);
      from.on('error', () => {}).on('close', () => to.destroy());
    }
  }).listen(0, '127.0.0.1');
  await new Promise((resolve) => server.on('listening', resolve));
  t.after(() => {
    server.close();
    sockets.forEach((socket) => socket.destroy());
  });
  tapped.url = url.replace(`:${port}/`, `:${server.address().port}/`);
  return tapped;
}

/** A client in a process of its own. */
export class Client {
  constructor(t, name, url) {
    this.name = name;
    this.told = [];
    this.log = '';
    const command = PYTHONS.includes(name) ? [PYTHON, 'follow.py'] : [process.execPath, 'follow.mjs'];
    const child = spawn(command[0], [...command.slice(1), name, url], { cwd: new URL('.', import.meta.url), stdio: 'pipe' });
    t.after(() => child.kill('SIGKILL'));
    process.on('exit', () => child.kill('SIGKILL'));
    child.stderr.on('data', (text) => { this.log += text; });
    let held = '';
    child.stdout.setEncoding('utf8').on('data', (text) => {
      const lines = (held + text).split('\n');
      held = lines.pop();
      this.told.push(...lines.map((line) => JSON.parse(line)));
    });
  }

  all(what) {
    return this.told.filter((one) => one.what === what);
  }

  /** The messages that it has given its user, as they are in the contract; what it made up of nothing is `null`. */
  get messages() {
    return this.all('event').map(({ data }) => (data ? JSON.parse(data) : null));
  }

  has(type) {
    return this.messages.some((message) => message?.type === type);
  }

  /** The texts of the notes that it has seen, shortened. */
  get notes() {
    return this.messages.filter((message) => message?.type === 'note').map(({ payload }) => payload.text);
  }

  get said() {
    const lines = this.told.slice(-4).map((one) => JSON.stringify(one).slice(0, 200));
    return [`${this.name} has told ${this.told.length} things, last:`, ...lines, this.log].join('\n    ');
  }
}

/** Waits until a condition holds for each of them; names those for which it does not. */
export async function each(clients, what, condition) {
  let late;
  await until(() => {
    late = clients.filter((client) => !condition(client));
    return late.length === 0;
  }, what, 20_000).catch((error) => {
    throw new Error(`${error.message}: not so with ${late.map(({ name }) => name).join(', ')}\n  ${late.map(({ said }) => said).join('\n  ')}`);
  });
}

export function publish(server, ...texts) {
  return server.call('/api/projects/p/events', { body: texts.map((text) => ({ type: 'note', payload: { text } })) });
}
