// People steer runs on the page: decisions, going on from a failure, plans that change, items, what a plan asks for, in a
// real browser, against the real program: node --test
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { NARROW, WIDE, browserTest, context, guarded, isLive, look, open, project, server, silent, state, token } from './bench.mjs';
import { Server, temporary, until } from './program.mjs';

const node = (page, id) => page.locator(`.node[data-id="${id}"]`);
const button = (page, name) => page.getByRole('button', { name, exact: true });
const run = (name, runId, on = server, more = {}) => on.call(`/api/projects/${name}/workflows/${runId}`, more);
const decide = (name, runId, body, on = server, more = {}) => on.call(`/api/projects/${name}/workflows/${runId}/steps/ask/decision`, { body, ...more });

const SCHEMA = {
  type: 'object', required: ['nodes', 'why'],
  properties: {
    place: { type: 'string', enum: ['staging', 'production'], default: 'staging' },
    nodes: { type: 'integer', title: 'Number of nodes', minimum: 1, maximum: 20, description: 'How many get it first' },
    isDry: { type: 'boolean', title: 'Only try it', default: true },
    day: { type: 'string', format: 'date' },
    why: { type: 'string', maxLength: 2000 },
    owner: { type: 'object', title: 'Owner', required: ['name'], properties: { name: { type: 'string', pattern: '^[a-z]+$' } } },
    tags: { type: 'array', items: { type: 'string' }, maxItems: 2 },
  },
};

/** A plan that asks, and goes on with what is answered. */
const asking = (inputs = { schema: SCHEMA }) => ({ name: 'Release', steps: [
  { id: 'build', title: 'Build it', tool: 'echo' },
  { id: 'ask', title: 'Ask for a go', tool: 'approval', dependencies: ['build'], inputs: { message: 'Shall it go to production?', ...inputs } },
  { id: 'ship', title: 'Ship it', tool: 'echo', dependencies: ['ask'], inputs: { to: '{{ steps.ask.output.payload.place }}' } }] });

browserTest('a step that waits is found from anywhere, and its form approves it', async () => {
  const name = project();
  const overview = await open(await context(), '');
  const { runId } = await server.submit(name, asking());
  const card = overview.locator('.card').filter({ has: overview.getByRole('heading', { name, exact: true }) });
  await card.getByText('waiting for a decision · 1 of 3 steps · Ask for a go').waitFor();
  await overview.getByText('1 step waiting for a decision').waitFor();
  await until(async () => /^\d+ waiting · stepcast$/.test(await overview.title()), 'the title says so');
  await card.getByRole('link', { name: /Release/ }).click();
  await until(async () => await overview.title() === `1 waiting · ${name} · stepcast`, 'the title says so');
  await overview.getByRole('link', { name: '1 step waiting for you' }).click();
  const page = overview;
  await page.getByText('Shall it go to production?').last().waitFor();
  await button(page, 'Approve').click();
  assert.equal(await page.evaluate(() => document.activeElement.labels[0].textContent), 'Number of nodes');
  assert.deepEqual(await page.locator('.field-error:visible').allTextContents(), ['required', 'required']);
  await page.getByLabel('Number of nodes').fill('21');
  await page.getByLabel('Why').fill('it is time\nsurely');
  await page.getByLabel('Name', { exact: true }).fill('Ann');
  await page.getByRole('button', { name: 'Add to Tags' }).press('Enter');
  await page.keyboard.type('fast');
  await page.getByLabel('Only try it').uncheck();
  await page.getByLabel('Place').selectOption('production');
  await button(page, 'Approve').click();
  assert.deepEqual(await page.locator('.field-error:visible').allTextContents(), ['must be at most 20', 'must match ^[a-z]+$']);
  await page.getByLabel('Number of nodes').fill('20');
  await page.getByLabel('Name', { exact: true }).fill('ann');
  // What was filled in is there after one has looked elsewhere.
  await node(page, 'build').click();
  await node(page, 'ask').click();
  assert.equal(await page.getByLabel('Name', { exact: true }).inputValue(), 'ann');
  await button(page, 'Approve').click();
  await state(page, 'completed');
  await page.locator('dl').getByText(/^approved/).waitFor();
  assert.equal(await page.locator('.approval').count(), 0);
  await until(async () => await page.title() === `${name} · stepcast`, 'the title says it no longer');
  const { output, decision } = (await run(name, runId)).steps.find(({ id }) => id === 'ask');
  assert.deepEqual(output.payload, { place: 'production', nodes: 20, isDry: false, why: 'it is time\nsurely', owner: { name: 'ann' }, tags: ['fast'] });
  assert.equal(decision.decision, 'approve');
  assert.equal((await run(name, runId)).steps[2].output.to, 'production');
  silent();
});

browserTest('whoever was slower is told, and sees who decided', async () => {
  const own = await guarded();
  const name = project();
  const { runId } = await own.submit(name, asking({}), { token: token('run') });
  const page = await open(await context({}, /status of 40[19]/), `#/p/${name}/r/${runId}/s/ask`, own.origin);
  await page.getByLabel('Token').fill(token('subscribe approve'));
  await button(page, 'Continue').click();
  await button(page, 'Approve').waitFor();
  // Hold back the answer to the page until someone else has decided.
  await page.route('**/decision', async (route) => {
    await decide(name, runId, { decision: 'reject' }, own, { token: token('approve') });
    await route.continue();
  });
  await button(page, 'Approve').click();
  await page.getByText('rejected by ann').first().waitFor();
  await page.locator('#toasts').getByText(/Too late/).waitFor();
  await state(page, 'failed');
  await page.locator('dl').getByText(/^rejected by ann at/).waitFor();
  silent();
  await own.kill('SIGTERM');
});

browserTest('a token that may not decide sees the form, and can\'t send it', async () => {
  const own = await guarded();
  const name = project();
  const { runId } = await own.submit(name, asking(), { token: token('run') });
  const page = await open(await context({}, /status of 401/), `#/p/${name}/r/${runId}/s/ask`, own.origin);
  await page.getByLabel('Token').fill(token('subscribe'));
  await button(page, 'Continue').click();
  await page.getByText('your token lacks the scope “approve”').waitFor();
  for (const what of ['Approve', 'Reject']) assert.ok(await button(page, what).isDisabled());
  assert.ok(await page.getByLabel('Number of nodes').isDisabled());
  silent();
  await own.kill('SIGTERM');
});

browserTest('what only the server knows to be wrong is shown at its field', async () => {
  const name = project();
  const schema = { type: 'object', required: ['n'], properties: { n: { type: 'integer', multipleOf: 5 } } };
  const { runId } = await server.submit(name, asking({ schema }));
  const page = await open(await context({}, /status of 422/), `#/p/${name}/r/${runId}/s/ask`);
  await page.getByLabel('N', { exact: true }).fill('7');
  await button(page, 'Approve').click();
  await page.locator('.field-error:visible').filter({ hasText: /5/ }).waitFor();
  assert.equal(await page.getByLabel('N', { exact: true }).getAttribute('aria-invalid'), 'true');
  await page.getByLabel('N', { exact: true }).fill('10');
  await button(page, 'Approve').click();
  await until(async () => (await run(name, runId)).status !== 'running', 'the run ends');
  silent();
});

browserTest('a time that runs out is counted down, and said', async () => {
  const name = project();
  const { runId } = await server.submit(name, asking({ expires: 9_000, onExpire: 'reject' }));
  const page = await open(await context(), `#/p/${name}/r/${runId}/s/ask`);
  await page.getByText(/^\d\.\d s left, then it is rejected$/).waitFor();
  await state(page, 'failed');
  await page.locator('dl').getByText(/^rejected/).waitFor();
  silent();
});

browserTest('a run that failed goes on in another one, which keeps what was done', async () => {
  const name = project();
  const file = path.join(temporary(), 'there');
  const plan = { name: 'Second try', steps: [
    { id: 'first', title: 'The first one', tool: 'echo', inputs: { n: 1 } },
    { id: 'second', title: 'The second one', tool: 'needs', inputs: { file }, dependencies: ['first'] }] };
  const { runId } = await server.submit(name, plan);
  await server.end(name, runId);
  writeFileSync(file, '');
  const page = await open(await context(), `#/p/${name}/r/${runId}`);
  await state(page, 'failed');
  await button(page, 'Retry from the failure').click();
  await page.getByRole('link', { name: 'an earlier run' }).waitFor();
  await state(page, 'completed');
  assert.match(await node(page, 'first').textContent(), /reused/);
  assert.equal(await button(page, 'Retry from the failure').isVisible(), false);
  await node(page, 'first').click();
  await page.getByText('reused from the earlier run').waitFor();
  await page.getByRole('link', { name: 'an earlier run' }).click();
  await state(page, 'failed');
  silent();
});

browserTest('a plan that changes is drawn anew while one looks at it', async () => {
  const name = project();
  const { runId } = await server.submit(name, asking({}));
  const page = await open(await context(), `#/p/${name}/r/${runId}`);
  await node(page, 'ask').filter({ hasText: 'waiting' }).waitFor();
  await server.call(`/api/projects/${name}/workflows/${runId}/plan`, { method: 'PATCH', body: { expectedRevision: 1, remove: ['ship'],
    add: [{ id: 'audit', title: 'Audit it', tool: 'echo', dependencies: ['ask'] }] } });
  await node(page, 'audit').filter({ hasText: 'new' }).waitFor();
  await page.getByText('revision 2 of the plan').waitFor();
  assert.equal(await node(page, 'ship').count(), 0);
  await page.reload();
  await node(page, 'audit').waitFor();
  await page.getByText('revision 2 of the plan').waitFor();
  await node(page, 'audit').click();
  await page.locator('dl').getByText('Ask for a go').waitFor();
  await decide(name, runId, { decision: 'approve' });
  await state(page, 'completed');
  assert.match(await page.locator('.facts').textContent(), /3 of 3 steps/);
  silent();
});

browserTest('levels of an eager run are open at once', async () => {
  const name = project();
  const file = path.join(temporary(), 'gate');
  const plan = { name: 'Uneven', scheduling: 'eager', steps: [
    { id: 'slow', tool: 'gate', inputs: { file } }, { id: 'quick', tool: 'echo' },
    { id: 'next', tool: 'gate', inputs: { file }, dependencies: ['quick'] }] };
  await server.submit(name, plan);
  const page = await open(await context(), `#/p/${name}`);
  await node(page, 'next').filter({ hasText: 'running' }).waitFor();
  assert.deepEqual(await page.locator('.band.now').allTextContents(), ['Level 1now', 'Level 2now']);
  await page.reload();
  await node(page, 'next').filter({ hasText: 'running' }).waitFor();
  assert.deepEqual(await page.locator('.band.now').allTextContents(), ['Level 1now', 'Level 2now']);
  writeFileSync(file, '');
  await state(page, 'completed');
  silent();
});

browserTest('steps for the end of a run stand apart', async () => {
  const name = project();
  const plan = { name: 'With an end', steps: [{ id: 'work', tool: 'fail', inputs: { message: 'no' } }],
    handlers: { onFailure: [{ id: 'undo', title: 'Undo it', tool: 'echo' }], onExit: [{ id: 'tidy', title: 'Tidy up', tool: 'echo' }] } };
  const { runId } = await server.submit(name, plan);
  await server.end(name, runId);
  const page = await open(await context(), `#/p/${name}/r/${runId}`);
  await node(page, 'tidy').filter({ hasText: 'completed' }).waitFor();
  assert.deepEqual(await page.locator('.band span:first-child').allTextContents(), ['Level 1', 'On failure', 'At the end']);
  assert.match(await page.locator('.facts').textContent(), /1 of 1 step/);
  await node(page, 'undo').click();
  await page.locator('dl').getByText('On failure').waitFor();
  await page.locator('#tab-timeline').click();
  await page.locator('.lane').nth(2).waitFor();
  assert.deepEqual(await page.locator('.lane .handler').allTextContents(), ['', 'On failure', 'At the end']);
  silent();
});

browserTest('a plan that says what it takes is given it in a form', async () => {
  const name = project();
  const parameters = { type: 'object', required: ['who'], properties: { who: { type: 'string' }, times: { type: 'integer', default: 2, maximum: 9 } } };
  const plan = { name: 'Greet', parameters, steps: [{ id: 'greet', tool: 'echo', inputs: { text: '{{ inputs.who }}', n: '{{ inputs.times }}' } }] };
  const page = await open(await context(), `#/p/${name}/new`);
  await page.locator('#plan').fill(JSON.stringify(plan));
  await button(page, 'Run').click();
  await page.locator('.field-error:visible').filter({ hasText: 'required' }).waitFor();
  await page.getByLabel('Who').fill('Ann');
  await button(page, 'Run').click();
  await state(page, 'completed');
  const first = /r\/([^/]+)/.exec(page.url())[1];
  assert.deepEqual((await run(name, first)).steps[0].output, { text: 'Ann', n: 2 });
  // Once more: what it was given stands in the form.
  await button(page, 'Run again').click();
  await until(async () => await page.getByLabel('Who').inputValue() === 'Ann', 'what it was given is there');
  await page.getByLabel('Times').fill('3');
  await button(page, 'Run').click();
  await state(page, 'completed');
  const second = /r\/([^/]+)/.exec(page.url())[1];
  assert.deepEqual((await run(name, second)).steps[0].output, { text: 'Ann', n: 3 });
  silent();
});

browserTest('what language models have used is summed up', async () => {
  const name = project();
  const plan = { name: 'Two answers', budget: { tokens: 50_000, cost: 2.5 }, steps: [{ id: 'one', tool: 'model' }, { id: 'two', tool: 'model', dependencies: ['one'] }] };
  const { runId } = await server.submit(name, plan);
  const page = await open(await context(), `#/p/${name}/r/${runId}/s/one`);
  await state(page, 'completed');
  await page.locator('.facts').getByText('2,468 tokens (2,400 in, 68 out), cost 0.0082, budget 50,000 tokens, cost 2.5').waitFor();
  await page.locator('dl').getByText('1,234 tokens (1,200 in, 34 out), cost 0.0041').waitFor();
  await page.reload();
  await page.locator('.facts').getByText('2,468 tokens').waitFor();
  silent();
});

browserTest('the client steers a run: what is refused says why', async () => {
  const name = project();
  const { runId } = await server.submit(name, asking({}));
  const page = await open(await context({}, /status of 409|favicon/), `stepcast.js?${name}`);
  const told = await page.evaluate(async ([projectId, run]) => {
    const { changePlan, decide: answer, follow } = await import('/stepcast.js');
    const step = await new Promise((resolve) => {
      const following = follow(projectId, { onState: ({ runs }) => {
        const found = runs.get(run)?.steps.find(({ status }) => status === 'waiting');
        if (found) resolve(found, following.close());
      } });
    });
    await changePlan(projectId, run, { expectedRevision: 1, add: [{ id: 'more', tool: 'echo', dependencies: ['ask'] }] });
    const stale = await changePlan(projectId, run, { expectedRevision: 1, remove: ['more'] }).catch(({ status, code }) => ({ status, code }));
    await answer(projectId, run, step.id, { decision: 'approve' }, { key: 'once' });
    const again = await answer(projectId, run, step.id, { decision: 'approve' }, { key: 'once' });
    const late = await answer(projectId, run, step.id, { decision: 'reject' }).catch(({ status }) => status);
    return { message: step.approval.message, stale: stale.status, code: typeof stale.code, again: Boolean(again), late };
  }, [name, runId]);
  assert.deepEqual(told, { message: 'Shall it go to production?', stale: 409, code: 'string', again: true, late: 409 });
  await server.end(name, runId);
  assert.equal((await run(name, runId)).steps.length, 4);
  silent();
});

browserTest('nothing of what steers a run is wider than the window, and axe finds nothing', async () => {
  const axe = readFileSync(new URL('node_modules/axe-core/axe.min.js', import.meta.url), 'utf8');
  const name = project();
  const { runId } = await server.submit(name, asking());
  for (const [viewport, colorScheme] of [[WIDE, 'light'], [NARROW, 'dark']]) {
    const page = await open(await context({ viewport, colorScheme, reducedMotion: 'reduce' }), `#/p/${name}/r/${runId}`);
    await page.locator('.waits li').waitFor();
    await isLive(page);
    await page.evaluate(axe);
    await look(page, `a run that waits ${viewport.width}`);
    await page.goto(`${server.origin}/#/p/${name}/r/${runId}/s/ask`);
    await page.getByRole('button', { name: 'Add to Tags' }).click();
    await button(page, 'Approve').click();
    await page.locator('.field-error:visible').first().waitFor();
    await look(page, `a form ${viewport.width}`);
    silent();
    await page.context().close();
  }
});
