// What the tests of the page have in common: a server, a browser whose consoles stay silent, tokens.
import assert from 'node:assert/strict';
import { createHmac, randomUUID } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { after, afterEach, before, test } from 'node:test';
import { Server, launchBrowser, missing, temporary } from './program.mjs';

const why = missing();
if (why && process.env.CI) throw new Error(why);
if (why) console.log(`skipped: ${why}`);
export const browserTest = (name, run) => test(name, { skip: why ?? false, timeout: 60_000 }, run);

const SECRET = '0123456789abcdef0123456789abcdef';
export const WIDE = { width: 1280, height: 800 };
export const NARROW = { width: 390, height: 844 };
export let server;
let directory, browser, opened, complaints;

before(async () => {
  if (why) return;
  directory = temporary();
  [server, browser] = await Promise.all([Server.start(), launchBrowser()]);
});
after(async () => {
  await browser?.close();
  // A test that has failed leaves its own server behind, which would keep this process.
  for (const one of Server.running) await one.kill();
});
afterEach(async () => {
  await opened?.close();
  opened = undefined;
});

/** What is closed when the test ends. */
export function closing(one) {
  opened = one;
  return one;
}

/** A browser of its own, whose consoles are to stay silent; `allow` names what may be said all the same. */
export async function context(options = {}, allow = /^$/) {
  complaints = [];
  opened = await browser.newContext({ viewport: WIDE, ...options });
  const complain = (text) => allow.test(text) || complaints.push(text);
  opened.on('page', (page) => {
    page.setDefaultTimeout(15_000);
    page.on('pageerror', (error) => complain(`${error.stack}`));
    page.on('console', (one) => ['error', 'warning'].includes(one.type()) && complain(`${one.text()} ${one.location().url}`));
  });
  return opened;
}

export async function open(where, hash, origin = server.origin) {
  const page = await where.newPage();
  await page.goto(`${origin}/${hash}`);
  return page;
}

export const project = () => `p-${randomUUID().slice(0, 8)}`;
export const isLive = (page) => page.locator('.pill.live').waitFor();
export const silent = () => assert.deepEqual(complaints, []);
export const state = (page, text) => page.locator('.run-head .state').filter({ hasText: text }).waitFor();

export function token(scope, seconds = 600, projects = ['*']) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const head = `${part({ alg: 'HS256', typ: 'JWT' })}.${part({ sub: 'ann', exp: Math.floor(Date.now() / 1000) + seconds, projects, scope })}`;
  return `${head}.${createHmac('sha256', SECRET).update(head).digest('base64url')}`;
}
export const guarded = (more = {}) => Server.start({ flags: [], env: { STEPCAST_JWT_SECRET: SECRET }, ...more });

/** A plan that goes on only once the file is there. */
export function gated() {
  const file = path.join(directory, randomUUID());
  const plan = { name: 'gated', steps: [
    { id: 'talk', title: 'Talk a little', tool: 'talk', inputs: { lines: 4 } },
    { id: 'gate', title: 'Wait at the gate', tool: 'gate', inputs: { file } },
    { id: 'last', title: 'The last one', tool: 'echo', inputs: { n: 1 }, dependencies: ['talk', 'gate'] }] };
  return { plan, letThrough: () => writeFileSync(file, '') };
}

/** Nothing is wider than the window, and axe, which the page has loaded, finds nothing. */
export async function look(page, where) {
  const [inside, outside] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  assert.ok(inside <= outside, `${where}: ${inside} in ${outside} pixels`);
  const violations = await page.evaluate(async () => (await globalThis.axe.run(document, { resultTypes: ['violations'] })).violations
    .map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 160)).join(' | ')}`));
  assert.deepEqual(violations, [], where);
}
