// All projects at once, and what publishers say in one, in a real browser: node --test
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { NARROW, WIDE, browserTest, context, gated, guarded, isLive, look, open, project, server, silent, state, token } from './bench.mjs';
import { Server, temporary, until } from './program.mjs';

const card = (page, name) => page.locator('.card').filter({ has: page.getByRole('heading', { name, exact: true }) });
const publish = (name, type, payload, on = server, more = {}) =>
  on.call(`/api/projects/${name}/events`, { body: typeof payload === 'string' ? `{"type":"${type}","payload":${payload}}` : { type, payload }, ...more });
const kinds = (page) => page.locator('.messages .kind').allTextContents();

browserTest('the overview shows what runs in each project, and one that appears later', async () => {
  const own = await Server.start();
  const [a, b] = [gated(), gated()];
  await own.submit('alpha', a.plan);
  await own.submit('beta', b.plan);
  const page = await open(await context(), '', own.origin);
  for (const name of ['alpha', 'beta']) await card(page, name).getByText('running · 1 of 3 steps · Wait at the gate').waitFor();
  await page.getByText('2 projects, 2 runs active').waitFor();
  assert.equal((await own.call('/api/projects/alpha/subscribers')).count, 1);
  a.letThrough();
  await card(page, 'alpha').getByText('completed · 3 of 3 steps').waitFor();
  await card(page, 'alpha').getByText('no active runs').waitFor();
  await card(page, 'beta').getByText('running').waitFor();
  const c = gated();
  await own.submit('gamma', c.plan);
  await card(page, 'gamma').getByText('running · 1 of 3 steps').waitFor();
  await card(page, 'beta').getByText('running').waitFor();
  b.letThrough();
  c.letThrough();
  for (const name of ['beta', 'gamma']) await card(page, name).getByText('completed · 3 of 3 steps').waitFor();
  silent();
  await own.kill('SIGTERM');
});

browserTest('a click leads to a project and to a run, and the back button back', async () => {
  const name = project();
  const { plan, letThrough } = gated();
  const { runId } = await server.submit(name, plan);
  const page = await open(await context(), '#/');
  await card(page, name).getByRole('link', { name, exact: true }).click();
  await state(page, 'running');
  assert.match(page.url(), new RegExp(`#/p/${name}$`));
  assert.equal(await page.getByLabel('Project').inputValue(), name);
  await page.goBack();
  await card(page, name).getByText('running').waitFor();
  assert.equal(await page.title(), 'stepcast');
  await card(page, name).getByRole('link', { name: /gated/ }).click();
  await state(page, 'running');
  assert.match(page.url(), new RegExp(`#/p/${name}/r/${runId}$`));
  letThrough();
  await state(page, 'completed');
  await page.getByLabel('Project').selectOption('All projects');
  await card(page, name).getByText('completed').waitFor();
  silent();
});

browserTest('tabs on the overview share one stream, and one that leaves it lets it go', async () => {
  const own = await Server.start();
  await publish('shared', 'note', {}, own);
  const where = await context();
  const pages = [await open(where, '', own.origin), await open(where, '', own.origin)];
  for (const page of pages) await isLive(page);
  const count = async () => (await own.call('/api/projects/shared/subscribers')).count;
  await until(async () => await count() === 1, 'both share a stream');
  for (const page of pages) await page.goto(`${own.origin}/#/p/other`);
  await until(async () => await count() === 0, 'nobody follows it any more');
  silent();
  await own.kill('SIGTERM');
});

browserTest('the overview comes back after the server has gone, with what happened meanwhile', async () => {
  const data = temporary();
  let own = await Server.start({ data });
  const { port } = own;
  const { plan, letThrough } = gated();
  await own.submit('survivor', plan);
  const page = await open(await context({}, /ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED|ERR_EMPTY_RESPONSE|ERR_CONNECTION_RESET/), '', own.origin);
  await card(page, 'survivor').getByText('running').waitFor();
  await own.kill();
  await page.locator('.pill.reconnecting').waitFor();
  letThrough();
  own = await Server.start({ data, port });
  await isLive(page);
  await card(page, 'survivor').getByText('completed · 3 of 3 steps').waitFor();
  silent();
  await own.kill('SIGTERM');
});

browserTest('an empty server says how to begin, and shows the first project by itself', async () => {
  const own = await Server.start();
  const page = await open(await context(), '', own.origin);
  await page.getByText('No projects yet').waitFor();
  await isLive(page);
  await own.submit('first', { name: 'hello', steps: [{ id: 'a', tool: 'echo' }] });
  await card(page, 'first').getByText('completed').waitFor();
  silent();
  await own.kill('SIGTERM');
});

browserTest('the overview asks for a token, and shows the projects of that token alone', async () => {
  const own = await guarded();
  for (const name of ['mine', 'theirs']) await publish(name, 'note', {}, own, { token: token('publish') });
  const page = await open(await context({}, /status of 401/), '', own.origin);
  await page.getByLabel('Token').fill(token('subscribe', 600, ['mine']));
  await page.getByRole('button', { name: 'Continue' }).click();
  await card(page, 'mine').waitFor();
  await isLive(page);
  await own.submit('mine', { name: 'guarded', steps: [{ id: 'a', tool: 'echo' }] }, { token: token('run') });
  await card(page, 'mine').getByText('completed').waitFor();
  assert.equal(await page.locator('.card').count(), 1);
  silent();
  await own.kill('SIGTERM');
});

browserTest('of many projects 32 are live, and all are shown', async () => {
  const own = await Server.start();
  for (let n = 0; n < 40; n++) await publish(`n${n}`, 'note', {}, own);
  const page = await open(await context(), '', own.origin);
  await isLive(page);
  assert.equal(await page.locator('.card').count(), 32);
  await page.getByText('32 projects are updated live').waitFor();
  await page.getByRole('button', { name: 'Show more projects' }).click();
  await card(page, 'n0').waitFor();
  assert.equal(await page.locator('.card').count(), 40);
  // One that was not followed is, as soon as something runs in it.
  const { plan, letThrough } = gated();
  await own.submit('n0', plan);
  await card(page, 'n0').getByText('running · 1 of 3 steps').waitFor();
  letThrough();
  await card(page, 'n0').getByText('completed').waitFor();
  silent();
  await own.kill('SIGTERM');
});

browserTest('what publishers say is shown from history, live after it, and as it was written', async () => {
  const name = project();
  await publish(name, 'chat.message', '{"id":9007199254740993,"share":2.0,"timestamp":"2026-01-02T03:04:05.000Z"}');
  await server.end(name, (await server.submit(name, { name: 'between', steps: [{ id: 'a', tool: 'echo' }] })).runId);
  await publish(name, 'note', { n: 2 });
  const page = await open(await context(), `#/p/${name}`);
  await isLive(page);
  await publish(name, 'unseen', { n: 3 });
  await page.getByRole('link', { name: 'Messages 1 new' }).click();
  await until(async () => (await kinds(page)).join() === 'unseen,note,chat.message', 'history is shown');
  await publish(name, 'live', { n: 4 });
  await until(async () => (await kinds(page)).join() === 'live,unseen,note,chat.message', 'what comes is shown');
  const row = page.locator('.messages li').filter({ hasText: 'chat.message' });
  assert.match(await row.textContent(), /2 Jan 2026|Jan 2, 2026/);
  await row.locator('summary').focus();
  await page.keyboard.press('Enter');
  await row.locator('pre').filter({ hasText: /"id": 9007199254740993,\s+"share": 2\.0/ }).waitFor();
  await page.reload();
  await until(async () => (await kinds(page)).length === 4, 'history is shown again');
  silent();
});

browserTest('of a thousand messages a bounded part is in the page, and all can be reached', async () => {
  const name = project();
  const say = (from) => server.call(`/api/projects/${name}/events`, { body: JSON.stringify(Array.from({ length: 500 }, (_, n) => ({ type: 'note', payload: { n: from + n } }))) });
  await say(1);
  await say(501);
  const page = await open(await context(), `#/p/${name}/messages`);
  const rows = page.locator('.messages li');
  const older = page.getByRole('button', { name: 'Show older messages' });
  await rows.filter({ hasText: '#1000' }).waitFor();
  for (let seq = 951; seq > 1; seq -= 50) {
    await rows.filter({ hasText: new RegExp(`#${seq}$`) }).waitFor();
    await older.click();
  }
  await rows.filter({ hasText: /#1$/ }).waitFor();
  assert.equal(await rows.count(), 500);
  assert.equal(await older.isVisible(), false);
  await publish(name, 'note', { n: 1001 });
  await page.getByRole('button', { name: 'Back to the newest: 1 new message' }).click();
  await rows.filter({ hasText: '#1001' }).waitFor();
  assert.equal(await rows.count(), 50);
  await say(1002);
  await rows.filter({ hasText: '#1501' }).waitFor();
  assert.equal(await rows.count(), 500);
  silent();
});

browserTest('the client follows several projects over one stream, over a restart and a changed list, and hands nothing on twice', async () => {
  const data = temporary();
  let own = await guarded({ data });
  const { port } = own;
  const page = await open(await context({}, /./), 'stepcast.js', own.origin);
  await page.exposeFunction('newToken', () => token('subscribe'));
  await page.evaluate(async () => {
    const { follow } = await import('/stepcast.js');
    globalThis.seen = [];
    globalThis.following = follow(['a', 'b'], {
      ticketUrl: '/api/sse/ticket',
      headers: async () => ({ authorization: `Bearer ${await globalThis.newToken()}` }),
      onMessage: ({ type, projectId, payload }) => type === 'note' && globalThis.seen.push(`${projectId}${payload.n}`),
    });
  });
  const say = (name, n) => publish(name, 'note', { n }, own, { token: token('publish') });
  const seen = () => page.evaluate(() => globalThis.seen.join());
  const isConnected = () => page.evaluate(() => globalThis.following.state.connection.status === 'live');
  await until(isConnected, 'it is live');
  for (const [name, n] of [['a', 1], ['b', 1], ['a', 2]]) await say(name, n);
  await until(async () => await seen() === 'a1,b1,a2', 'three messages');
  await own.kill();
  own = await guarded({ data, port });
  await say('b', 2);
  await until(async () => await seen() === 'a1,b1,a2,b2', 'the fourth');
  await say('c', 1);
  await page.evaluate(() => globalThis.following.change(['a', 'c']));
  await say('a', 3);
  await until(async () => (await seen()).endsWith('a3'), 'the fifth');
  await until(() => page.evaluate(() => globalThis.following.state.projects.get('c')?.seq === 1), 'it is connected to c');
  await say('b', 3);
  await say('c', 2);
  await until(async () => (await seen()).endsWith('c2'), 'the sixth');
  assert.equal(await seen(), 'a1,b1,a2,b2,a3,c2');
  await page.evaluate(() => globalThis.following.close());
  await own.kill('SIGTERM');
});

browserTest('nothing of the overview and the messages is wider than the window, and axe finds nothing', async () => {
  const axe = readFileSync(new URL('node_modules/axe-core/axe.min.js', import.meta.url), 'utf8');
  const name = `${project()}-${'x'.repeat(110)}`;
  const { plan, letThrough } = gated();
  await server.submit(name, { ...plan, name: 'a plan with a name that is far too long to be shown in whole on any card there is' });
  await publish(name, 't'.repeat(64), { text: 'x'.repeat(3000) });
  for (const [viewport, colorScheme] of [[WIDE, 'light'], [NARROW, 'dark']]) {
    const page = await open(await context({ viewport, colorScheme, reducedMotion: 'reduce' }), '');
    await card(page, name).getByText('running').waitFor();
    await page.evaluate(axe);
    await look(page, `overview ${viewport.width}`);
    await page.goto(`${server.origin}/#/p/${name}/messages`);
    await page.locator('.messages summary').click();
    await page.locator('.messages pre').filter({ hasText: 'xxx' }).waitFor();
    await look(page, `messages ${viewport.width}`);
    silent();
    await page.context().close();
  }
  letThrough();
});
