// Plans that are stored in a project, their schedules, and runs that steps begin, on the page: node --test
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { NARROW, WIDE, browserTest, context, guarded, look, open, project, server, silent, state, token } from './bench.mjs';
import { Server, temporary, until } from './program.mjs';

const button = (page, name) => page.getByRole('button', { name, exact: true });
const card = (page, name) => page.locator('.card').filter({ has: page.getByRole('heading', { name, exact: true }) });
const store = (project, name, body, on = server, more = {}) => on.call(`/api/projects/${project}/plans/${name}`, { method: 'PUT', body, ...more });
const stored = async (project, name, on = server) => (await on.call(`/api/projects/${project}/plans`)).plans.find((plan) => plan.name === name);
const PLAN = { name: 'Report', description: 'Says hello', steps: [{ id: 'say', tool: 'echo', inputs: { n: 1 } }] };
/** Never comes while a test looks. */
const YEARLY = { cron: '0 0 3 1 1 *', timeZone: 'Europe/Zurich' };

browserTest('a stored plan that says what it takes is given it in a form before it runs', async () => {
  const name = project();
  const parameters = { type: 'object', required: ['who'], properties: { who: { type: 'string', minLength: 2 } } };
  await server.call(`/api/projects/${name}/plans/greet`, { method: 'PUT', body: { name: 'Greet', parameters, steps: [{ id: 'greet', tool: 'echo', inputs: { text: '{{ inputs.who }}' } }] } });
  const page = await open(await context(), `#/p/${name}/plans`);
  await button(page, 'Run').click();
  await until(() => page.evaluate(() => document.activeElement.labels?.[0]?.textContent === 'Who'), 'the form has the focus');
  await page.keyboard.type('A');
  await button(page, 'Run with these inputs').click();
  await page.locator('.field-error:visible').filter({ hasText: 'at least 2 characters' }).waitFor();
  await page.getByLabel('Who').fill('Ann');
  await button(page, 'Run with these inputs').click();
  await state(page, 'completed');
  const runId = /r\/([^/]+)/.exec(page.url())[1];
  assert.deepEqual((await server.call(`/api/projects/${name}/workflows/${runId}`)).steps[0].output, { text: 'Ann' });
  silent();
});

browserTest('a stored plan is run with a button, and its last run is linked', async () => {
  const name = project();
  await store(name, 'report', PLAN);
  const page = await open(await context(), `#/p/${name}`);
  await page.getByRole('link', { name: 'Plans' }).click();
  await card(page, 'report').getByText('Not run yet').waitFor();
  await card(page, 'report').getByText('Report · 1 step').waitFor();
  await button(page, 'Run').click();
  await state(page, 'completed');
  await page.getByRole('link', { name: 'Plans' }).click();
  await card(page, 'report').getByRole('link', { name: 'Last run: completed' }).click();
  await state(page, 'completed');
  silent();
});

browserTest('a schedule says when it fires next, and is paused and resumed', async () => {
  const name = project();
  // A number that JavaScript would round is stored again as it was.
  await store(name, 'yearly', `{"plan": ${JSON.stringify(PLAN)}, "inputs": {"exact": 9007199254740993}, "schedule": ${JSON.stringify(YEARLY)}}`);
  const page = await open(await context(), `#/p/${name}/plans`);
  await card(page, 'yearly').getByText('0 0 3 1 1 * (Europe/Zurich), skipped while a run is active').waitFor();
  assert.equal((await card(page, 'yearly').getByText(/^Next\b/).textContent()).split(' · ').length, 3);
  await button(page, 'Pause the schedule').focus();
  await page.keyboard.press('Enter');
  await card(page, 'yearly').getByText('The schedule is paused.').waitFor();
  assert.equal(await card(page, 'yearly').getByText(/^Next\b/).count(), 0);
  assert.equal((await stored(name, 'yearly')).schedule.enabled, false);
  const raw = await (await fetch(`${server.origin}/api/projects/${name}/plans/yearly`)).text();
  assert.match(raw, /"exact": 9007199254740993/);
  await button(page, 'Resume the schedule').click();
  await card(page, 'yearly').getByText(/^Next\b/).waitFor();
  assert.equal((await stored(name, 'yearly')).schedule.enabled, true);
  silent();
});

browserTest('whoever pauses a schedule that someone has changed meanwhile is told', async () => {
  const name = project();
  await store(name, 'yearly', { plan: PLAN, schedule: YEARLY });
  const page = await open(await context({}, /status of 412/), `#/p/${name}/plans`);
  await page.route('**/plans/yearly', async (route) => {
    if (route.request().method() === 'PUT') await store(name, 'yearly', { plan: { ...PLAN, name: 'Another' }, schedule: YEARLY });
    await route.continue();
  });
  await button(page, 'Pause the schedule').click();
  await page.locator('#toasts p').waitFor();
  await card(page, 'yearly').getByText('Another · 1 step').waitFor();
  assert.equal((await stored(name, 'yearly')).schedule.enabled, true);
  silent();
});

browserTest('a token that may not run plans sees them, and no buttons', async () => {
  const own = await guarded();
  const name = project();
  await store(name, 'yearly', { plan: PLAN, schedule: YEARLY }, own, { token: token('run') });
  const page = await open(await context({}, /status of 401/), `#/p/${name}/plans`, own.origin);
  await page.getByLabel('Token').fill(token('subscribe'));
  await button(page, 'Continue').click();
  await card(page, 'yearly').getByText(/^Next\b/).waitFor();
  assert.equal(await card(page, 'yearly').getByRole('button').count(), 0);
  silent();
  await own.kill('SIGTERM');
});

browserTest('what a schedule has fired, skipped and missed is said', async () => {
  const data = temporary();
  let own = await Server.start({ data });
  const { port } = own;
  const name = project();
  const plan = { name: 'Slow', steps: [{ id: 'wait', tool: 'delay', inputs: { ms: 600_000 } }] };
  await store(name, 'slow', { plan, schedule: { cron: '* * * * * *', timeZone: 'Etc/UTC', overlap: 'skip' } }, own);
  // The first firing's run goes on for ever, so the next ones are skipped.
  await until(async () => (await stored(name, 'slow', own)).firings.lastSkipped, 'a firing is skipped');
  const page = await open(await context({}, /ERR_CONNECTION|ERR_INCOMPLETE|ERR_EMPTY/), `#/p/${name}/plans`, own.origin);
  await card(page, 'slow').getByText(/^Last fired: \d\d:\d\d:\d\d/).waitFor();
  await card(page, 'slow').getByText(/^Last skipped: \d\d:\d\d:\d\d/).waitFor();
  assert.equal(await card(page, 'slow').getByText(/^Last missed/).count(), 0);
  const { lastRun } = await stored(name, 'slow', own);
  await card(page, 'slow').getByRole('link', { name: 'Last run: running' }).waitFor();
  await own.call(`/api/projects/${name}/workflows/${lastRun.runId}/cancel`, { method: 'POST' });
  await own.kill();
  // Away for some of its times.
  const since = Date.now();
  await until(() => Date.now() - since > 3_500, 'some times are missed');
  own = await Server.start({ data, port });
  await until(async () => (await stored(name, 'slow', own)).firings.lastMissed, 'a firing is told as missed');
  await card(page, 'slow').getByText(/^Last missed: \d\d:\d\d:\d\d/).waitFor();
  silent();
  await own.kill();
});

browserTest('a step that runs a stored plan leads to its run, and the run to the step', async () => {
  const name = project();
  await store(name, 'report', PLAN);
  const { runId } = await server.submit(name, { name: 'All reports', steps: [{ id: 'one', title: 'The first report', tool: 'plan', inputs: { name: 'report' } }] });
  const page = await open(await context(), `#/p/${name}/r/${runId}/s/one`);
  await state(page, 'completed');
  await page.locator('dl').getByRole('link', { name: 'Report' }).click();
  await page.getByRole('heading', { name: 'Report', exact: true, level: 1 }).waitFor();
  await state(page, 'completed');
  await page.getByRole('link', { name: 'step one of another run' }).click();
  await page.getByRole('heading', { name: 'The first report' }).waitFor();
  // Runs that have ended are told by the list, and not by the stream.
  await page.reload();
  await page.locator('dl').getByRole('link', { name: 'Report' }).waitFor();
  silent();
});

browserTest('a run that a step has begun is linked while it goes on', async () => {
  const name = project();
  await store(name, 'asks', { name: 'Asks', steps: [{ id: 'ask', tool: 'approval', inputs: { message: 'Go on?' } }] });
  const { runId } = await server.submit(name, { name: 'Above', steps: [{ id: 'below', tool: 'plan', inputs: { name: 'asks' } }] });
  const page = await open(await context(), `#/p/${name}/r/${runId}/s/below`);
  await page.locator('dl').getByRole('link', { name: 'Asks' }).click();
  await page.getByRole('link', { name: /^Decide/ }).click();
  await button(page, 'Approve').click();
  await state(page, 'completed');
  await server.end(name, runId);
  silent();
});

browserTest('nothing of stored plans is wider than the window, and axe finds nothing', async () => {
  const axe = readFileSync(new URL('node_modules/axe-core/axe.min.js', import.meta.url), 'utf8');
  const name = project();
  await store(name, 'a-plan-with-a-name-that-is-rather-long-for-a-card', { plan: { ...PLAN, parameters: { type: 'object', properties: { who: { type: 'string' } } } }, schedule: YEARLY });
  await store(name, 'plain', PLAN);
  for (const [viewport, colorScheme] of [[WIDE, 'light'], [NARROW, 'dark']]) {
    const page = await open(await context({ viewport, colorScheme, reducedMotion: 'reduce' }), `#/p/${name}/plans`);
    await card(page, 'plain').waitFor();
    await page.evaluate(axe);
    await look(page, `stored plans ${viewport.width}`);
    await button(page, 'Run').first().click();
    await page.getByLabel('Who').waitFor();
    await look(page, `a stored plan's form ${viewport.width}`);
    silent();
    await page.context().close();
  }
});
