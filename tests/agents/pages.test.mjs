// The example pages, in a real browser. What they load from a CDN is the same packages, bundled here.
import assert from 'node:assert/strict';
import { createReadStream, existsSync } from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import esbuild from 'esbuild';
import { chromium } from 'playwright-core';
import { ROOT, Server, temporary } from '../browser/program.mjs';

const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium';
const why = existsSync(CHROMIUM) ? false : `there is no browser at ${CHROMIUM}: apt-get install chromium`;
if (why && process.env.CI) throw new Error(why);

/** What a module of the CDN is here; what pages import by name stays so, so that there is one React. */
const NAMES = ['react', 'react-dom/client', 'ai', '@ai-sdk/react', '@ag-ui/client'];
const bundles = new Map();
async function bundle(name) {
  if (!bundles.has(name)) {
    const names = Object.keys(await import(name)).filter((one) => /^[A-Za-z_$][\w$]*$/.test(one) && one !== 'default');
    const contents = `import * as all from '${name}'; export const { ${names.join(', ')} } = all; export default all.default ?? all;`;
    const { outputFiles } = await esbuild.build({
      stdin: { contents, resolveDir: path.dirname(fileURLToPath(import.meta.url)) },
      bundle: true, write: false, format: 'esm', platform: 'browser', minify: true, logLevel: 'error',
      define: { 'process.env.NODE_ENV': '"production"' },
      plugins: [{ name: 'shared', setup: (build) => shareReact(build, name) }],
    });
    bundles.set(name, outputFiles[0].text);
  }
  return bundles.get(name);
}

/** CommonJS inside of a bundle asks for React, too: it is given the page's. */
function shareReact(build, name) {
  if (name === 'react') return;
  build.onResolve({ filter: /^react$/ }, ({ importer, path: wanted }) => (importer.endsWith('stdin') ? undefined : { path: wanted, namespace: 'shared' }));
  build.onLoad({ filter: /.*/, namespace: 'shared' }, () => ({ contents: "import * as react from 'react-of-the-page'; module.exports = react;", loader: 'js' }));
  build.onResolve({ filter: /^react-of-the-page$/ }, () => ({ path: 'react', external: true }));
}

/** The files of examples/, at an origin of their own. */
async function examples(t) {
  const server = http.createServer((request, response) => {
    response.writeHead(200, { 'content-type': 'text/html; charset=utf-8' });
    createReadStream(path.join(ROOT, 'examples', path.basename(new URL(request.url, 'http://x').pathname))).pipe(response);
  }).listen(0, '127.0.0.1');
  await new Promise((resolve) => server.on('listening', resolve));
  t.after(() => server.close() && server.closeAllConnections());
  return `http://localhost:${server.address().port}`;
}

async function open(t, name) {
  const origin = await examples(t);
  const data = temporary();
  const flags = ['--auth', 'none', '--cors-allowed-origins', origin];
  const world = { data, flags, server: await Server.start({ flags, data }) };
  t.after(() => world.server.kill());
  const browser = await chromium.launch({ executablePath: CHROMIUM, args: ['--headless', '--no-sandbox', '--disable-gpu'] });
  t.after(() => browser.close());
  world.page = await browser.newPage();
  world.errors = [];
  world.page.on('pageerror', (error) => world.errors.push(String(error)));
  await world.page.route('https://esm.sh/**', async (route) => {
    const wanted = new URL(route.request().url()).pathname.slice(1).replace(/(?<=.)@[\d.]+/, '');
    assert.ok(NAMES.includes(wanted), wanted);
    await route.fulfill({ contentType: 'text/javascript', headers: { 'access-control-allow-origin': '*' }, body: await bundle(wanted) });
  });
  await world.page.goto(`${origin}/${name}?server=${world.server.origin}`);
  return world;
}

test('agui.html begins a run, and goes on with it after a reload and a restart of the server', { skip: why, timeout: 60_000 }, async (t) => {
  const world = await open(t, 'agui.html');
  const { page } = world;
  const has = (text) => page.getByText(text).first().waitFor({ timeout: 15_000 });
  await page.getByRole('button', { name: 'Run it' }).click();
  await has('Wake up: running');
  await page.reload();
  await has('Say good morning?');
  await page.reload();
  await page.getByRole('button', { name: 'Approve' }).click();
  await has('Say it: completed');
  await has('tool: {"text":"Good morning!"}');
  const { port } = world.server;
  await world.server.kill('SIGKILL');
  world.server = await Server.start({ data: world.data, flags: world.flags, port });
  await has(/^run_.*: success$/);
  assert.equal(await page.locator('#messages pre').count(), 10, 'a call and a result for each step, and for the attempt that the server lost');
  // A stream that is cut leaves a rejection behind in @ag-ui/client that a page can't handle.
  assert.deepEqual(world.errors.filter((error) => error !== 'TypeError: network error'), []);
});

test('agui.html begins another run after a question that was rejected, given up, decided elsewhere, or that has expired', { skip: why, timeout: 60_000 }, async (t) => {
  const { page, server, errors } = await open(t, 'agui.html');
  const status = page.locator('[role=status]');
  const has = (text) => status.getByText(text).waitFor({ timeout: 15_000 });
  const click = (name) => page.getByRole('button', { name }).click();
  /** Begins a run that asks at once, and returns its id. */
  const asked = async (inputs = {}) => {
    const before = page.url();
    const plan = { name: 'asks', steps: [{ id: 'ask', tool: 'approval', inputs: { message: 'Well?', ...inputs } }] };
    await page.locator('#plan').fill(JSON.stringify(plan));
    await click('Run it');
    await page.waitForURL((url) => url.href !== before);
    await has(/^run_.*: interrupt$/);
    return new URL(page.url()).hash.slice(1);
  };

  await asked();
  await click('Reject');
  await has(/rejected by anonymous/);
  await asked();
  const decided = await asked();
  await server.call(`/api/projects/demo/workflows/${decided}/steps/ask/decision`, { body: { decision: 'approve' } });
  await click('Reject');
  await has(`${decided}: success`);
  const expired = await asked({ expires: '3s' });
  await server.end('demo', expired);
  await click('Approve');
  await has(/the approval expired/);
  await asked();
  assert.deepEqual(errors, []);
});

test('chat.html answers messages, and goes on with an answer after a reload', { skip: why, timeout: 60_000 }, async (t) => {
  const { page, errors } = await open(t, 'chat.html');
  const has = (text) => page.getByText(text).first().waitFor({ timeout: 15_000 });
  const answers = page.getByRole('region', { name: 'assistant' });
  const idle = () => page.locator('[role=status]', { hasText: 'ready' }).waitFor({ timeout: 15_000 });
  await idle();
  for (const [text, count] of [['hello', 1], ['good night', 2]]) {
    await page.getByRole('textbox').fill(text);
    await page.getByRole('button', { name: 'Send' }).click();
    await answers.nth(count - 1).getByText('Think about it: running').waitFor({ timeout: 15_000 });
    await page.reload();
    await answers.nth(count - 1).getByText(`Shall it answer “${text}”?`).waitFor({ timeout: 15_000 });
    await page.reload();
    await answers.nth(count - 1).getByRole('button', { name: 'Approve' }).click();
    await answers.nth(count - 1).getByText(`You said: ${text}`).waitFor({ timeout: 15_000 });
    await idle();
    assert.equal(await answers.count(), count);
    await has('completed, 100 %');
  }
  assert.deepEqual(errors, []);
});
