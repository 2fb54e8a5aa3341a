// Starts what the tests need: the program under test on a free port, and a browser. Knows no test.
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = fileURLToPath(new URL('../..', import.meta.url));
export const PROGRAM = process.env.STEPCAST ?? path.join(ROOT, 'target/debug/stepcast');
const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium';
const FLAGS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync'];

/** Why the tests can't run here; undefined where they can. */
export function missing() {
  if (!existsSync(PROGRAM)) return `there is no program at ${PROGRAM}: cargo build`;
  if (!existsSync(CHROMIUM)) return `there is no browser at ${CHROMIUM}: apt-get install chromium`;
  if (!existsSync(new URL('node_modules/playwright-core', import.meta.url))) return 'npm ci has not been run in tests/browser';
}

/** A browser; `options` are Playwright's. */
export async function launchBrowser(options = {}) {
  const { chromium } = await import('playwright-core');
  return chromium.launch({ executablePath: CHROMIUM, args: FLAGS, ...options });
}

/** A directory that is removed when the process ends. */
export function temporary() {
  const directory = mkdtempSync(path.join(tmpdir(), 'stepcast-page-'));
  process.on('exit', () => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

process.on('exit', () => Server.running.forEach((server) => server.process.kill('SIGKILL')));

/** The program, serving; `port` 0 takes a free one. */
export class Server {
  /** Those that were started and have not ended. */
  static running = new Set();

  static async start({ flags = ['--auth', 'none'], data = 'none', port = 0, env = {}, config = 'tests/browser/tools.toml' } = {}) {
    const server = new Server();
    const args = ['serve', '--listen', `127.0.0.1:${port}`, '--data', data, '--config', config, ...flags];
    server.process = spawn(PROGRAM, args, { cwd: ROOT, env: { ...process.env, ...env }, stdio: ['ignore', 'ignore', 'pipe'] });
    server.log = '';
    Server.running.add(server);
    server.ended = new Promise((resolve) => server.process.on('exit', resolve));
    server.ended.then(() => Server.running.delete(server));
    server.origin = await new Promise((resolve, reject) => {
      server.process.stderr.on('data', (text) => {
        server.log += text;
        const listening = /listening on (http:\S+)/.exec(server.log);
        if (listening) resolve(listening[1]);
      });
      server.ended.then(() => reject(new Error(`the server ended: ${server.log}`)));
    });
    server.port = Number(new URL(server.origin).port);
    return server;
  }

  async kill(signal = 'SIGKILL') {
    this.process.kill(signal);
    await this.ended;
  }

  async call(pathname, { body, method = body ? 'POST' : 'GET', token } = {}) {
    const headers = { 'content-type': 'application/json', ...(token && { authorization: `Bearer ${token}` }) };
    const answer = await fetch(this.origin + pathname, { method, headers, body: typeof body === 'object' ? JSON.stringify(body) : body });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`${method} ${pathname}: ${answer.status} ${text}`);
    return text.startsWith('{') ? JSON.parse(text) : text;
  }

  submit(project, plan, options) {
    return this.call(`/api/projects/${project}/workflows`, { body: plan, ...options });
  }

  async metric(name) {
    const line = (await this.call('/metrics')).split('\n').find((one) => one.startsWith(`${name} `));
    return Number(line?.split(' ')[1]);
  }

  /** Waits until a run has ended. */
  async end(project, runId) {
    await until(async () => ['completed', 'failed', 'cancelled'].includes((await this.call(`/api/projects/${project}/workflows/${runId}?outputs=cut`)).status), 'the run ends', 60_000);
  }
}

/** Waits for a condition. */
export async function until(condition, what, ms = 15_000) {
  const end = Date.now() + ms;
  for (;;) {
    if (await condition()) return;
    if (Date.now() > end) throw new Error(`it took too long until ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}
