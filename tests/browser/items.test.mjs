// Steps that are done for each of a list, on the page and by the client: node --test
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { NARROW, WIDE, browserTest, context, look, open, project, server, silent, state } from './bench.mjs';
import { temporary, until } from './program.mjs';

const node = (page, id) => page.locator(`.node[data-id="${id}"]`);
const button = (page, name) => page.getByRole('button', { name, exact: true });
const rows = (page) => page.locator('.items li');
const filter = (page, name) => page.getByRole('group', { name: 'Filter items' }).getByRole('button', { name }).click();
const row = (page, id) => rows(page).filter({ has: page.getByText(id, { exact: true }) });

/** A plan that does a tool for each of a list. */
const each = (list, step) => ({ name: 'Each of them', onFailure: 'continue', steps: [
  { id: 'list', tool: 'echo', inputs: { all: list } },
  { id: 'each', title: 'Each one', dependencies: ['list'], forEach: '{{ steps.list.output.all }}', as: 'what', ...step }] });

browserTest('the items of a step are counted, and each tells its state, attempts, error and output', async () => {
  const name = project();
  const step = { tool: 'pick', inputs: { what: '{{ what }}' }, retryPolicy: { maxRetries: 1, initialDelay: 1 } };
  const { runId } = await server.submit(name, each(['a', 'b', 'bad', 'd'], step));
  const page = await open(await context(), `#/p/${name}/r/${runId}/s/each`);
  await page.getByText('4 of 4 items, 1 failed', { exact: true }).waitFor();
  await row(page, 'each[2]').getByText('failed, attempt 2').waitFor();
  assert.match(await row(page, 'each[2]').textContent(), /it is bad/);
  assert.match(await row(page, 'each[0]').textContent(), /^each\[0\]completed\{"got":"a"\}/);
  await filter(page, 'Failed');
  await until(async () => await rows(page).count() === 1, 'the failed one is left');
  await row(page, 'each[2]').getByRole('button').click();
  await page.locator('.screen pre').filter({ hasText: 'it is bad' }).waitFor();
  await button(page, '‹ Items').click();
  // Who comes back from an item is at its line.
  assert.match(await page.evaluate(() => document.activeElement.textContent), /^each\[2\]/);
  await filter(page, 'Running');
  await page.getByText('No item is running.').waitFor();
  await filter(page, 'All');
  await row(page, 'each[1]').getByRole('button').click();
  await page.locator('.screen pre').filter({ hasText: /"got": "b"/ }).waitFor();
  await button(page, '‹ Items').click();
  await node(page, 'list').click();
  await page.locator('.screen pre').filter({ hasText: '"bad"' }).waitFor();
  silent();
});

browserTest('items move on while one looks at them, and what one of them writes is followed', async () => {
  const name = project();
  const file = path.join(temporary(), 'gate');
  const { runId } = await server.submit(name, each([1, 2, 3], { tool: 'gate', inputs: { file }, maxConcurrent: 2 }));
  const page = await open(await context(), `#/p/${name}/r/${runId}/s/each`);
  await row(page, 'each[1]').getByText('running', { exact: true }).waitFor();
  assert.equal(await rows(page).count(), 2);
  await row(page, 'each[1]').getByRole('button').click();
  await page.locator('.screen pre').filter({ hasText: 'waiting' }).waitFor();
  writeFileSync(file, '');
  await page.locator('.screen pre').filter({ hasText: 'open' }).waitFor();
  await button(page, '‹ Items').click();
  await row(page, 'each[2]').getByText('completed', { exact: true }).waitFor();
  await page.getByText('3 of 3 items', { exact: true }).waitFor();
  silent();
});

browserTest('of a thousand items a page is drawn at a time', async () => {
  const name = project();
  const list = Array.from({ length: 1_000 }, (_, n) => n);
  const { runId } = await server.submit(name, each(list, { tool: 'echo', inputs: { n: '{{ what }}' }, maxConcurrent: 100 }));
  const page = await open(await context(), `#/p/${name}/r/${runId}/s/each`);
  await state(page, 'completed');
  await page.getByText('1,000 of 1,000 items', { exact: true }).waitFor();
  await page.getByText('0 to 99', { exact: true }).waitFor();
  for (let first = 100; first < 1_000; first += 100) {
    await button(page, 'Next').click();
    await page.getByText(`${first} to ${first + 99}`, { exact: true }).waitFor();
    assert.equal(await rows(page).count(), 100);
  }
  assert.match(await row(page, 'each[999]').textContent(), /\{"n":999\}/);
  assert.ok(await button(page, 'Next').isDisabled());
  await button(page, 'Previous').click();
  await page.getByText('800 to 899', { exact: true }).waitFor();
  silent();
});

browserTest('the client tells items to who asks for them', async () => {
  const name = project();
  const file = path.join(temporary(), 'gate');
  const { runId } = await server.submit(name, each(['x', 'y'], { tool: 'gate', inputs: { file } }));
  const page = await open(await context({}, /favicon/), `stepcast.js?${name}`);
  const follow = (options) => page.evaluate(([projectId, more]) => import('/stepcast.js').then((client) => {
    globalThis.following = client.follow(projectId, more);
  }), [name, options]);
  const items = () => page.evaluate((run) => following.state.runs.get(run)?.steps.find(({ id }) => id === 'each')?.itemStates?.map(({ itemId, status }) => `${itemId} ${status}`), runId);
  const isSo = (wanted) => until(async () => JSON.stringify(await items()) === JSON.stringify(wanted), `the items are ${wanted}`);
  // One that comes late is shown how they are, and told the rest.
  await follow({ items: true });
  await isSo(['each[0] running', 'each[1] running']);
  writeFileSync(file, '');
  await isSo(['each[0] completed', 'each[1] completed']);
  assert.match(await page.evaluate(() => import('/stepcast.js').then(({ follow: call }) => call(['a', 'b'], { items: true })).catch(String)), /single project/);
  await page.evaluate(() => following.close());
  silent();
});

browserTest('items are no wider than the window, and axe finds nothing', async () => {
  const axe = readFileSync(new URL('node_modules/axe-core/axe.min.js', import.meta.url), 'utf8');
  const name = project();
  const { runId } = await server.submit(name, each(['a', 'bad'.repeat(60), 'bad'], { tool: 'pick', inputs: { what: '{{ what }}' } }));
  await server.end(name, runId);
  for (const [viewport, colorScheme] of [[WIDE, 'light'], [NARROW, 'dark']]) {
    const page = await open(await context({ viewport, colorScheme, reducedMotion: 'reduce' }), `#/p/${name}/r/${runId}/s/each`);
    await row(page, 'each[2]').waitFor();
    await page.evaluate(axe);
    await look(page, `items ${viewport.width}`);
    await row(page, 'each[1]').getByRole('button').click();
    await page.locator('.screen pre').filter({ hasText: 'badbad' }).waitFor();
    await look(page, `an item ${viewport.width}`);
    silent();
    await page.context().close();
  }
});
