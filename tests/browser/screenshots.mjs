// Pictures of the page as it is, from the real program: node screenshots.mjs [DIRECTORY [NAME-SIZE-THEME ...]]
import { mkdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { ROOT, Server, launchBrowser, temporary, until } from './program.mjs';

const directory = process.argv[2] ?? '/tmp/page-shots';
const wanted = new Set(process.argv.slice(3));
mkdirSync(directory, { recursive: true });
const plan = (name) => JSON.parse(readFileSync(path.join(ROOT, `examples/plans/${name}.json`), 'utf8'));
const server = await Server.start({ config: 'examples/stepcast.toml', data: temporary() });
const browser = await launchBrowser();

const SIZES = { desktop: { width: 1280, height: 800 }, phone: { width: 390, height: 844 } };
const pages = [];
for (const [size, viewport] of Object.entries(SIZES)) {
  for (const colorScheme of ['light', 'dark']) {
    const context = await browser.newContext({ viewport, colorScheme, deviceScaleFactor: size === 'phone' ? 2 : 1 });
    const page = await context.newPage();
    page.on('console', (message) => console.log(`${size}-${colorScheme}: ${message.text()} ${message.location().url}`));
    page.on('pageerror', (error) => console.log(`${size}-${colorScheme}: ${error.stack}`));
    page.setDefaultTimeout(30_000);
    pages.push({ name: `${size}-${colorScheme}`, size, page });
  }
}

/** The same picture in both sizes and themes. */
async function shoot(name, hash, act = async () => {}) {
  await Promise.all(pages.map(async ({ name: variant, page, size }) => {
    if (wanted.size > 0 && !wanted.has(`${name}-${variant}`)) return;
    await page.goto(`${server.origin}/#/`);
    await page.goto(`${server.origin}/${hash}`);
    await page.locator('.pill.live').waitFor();
    await act(page, size);
    await page.mouse.move(0, 0);
    await page.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve))));
    await page.screenshot({ path: path.join(directory, `${name}-${variant}.png`) });
  }));
}
const nodes = (page) => page.locator('.node').first().waitFor();
const completed = (runId, step) => until(async () => {
  const run = await server.call(`/api/projects/demo/workflows/${runId}`);
  return run.steps.find(({ id }) => id === step).status !== 'pending';
}, `${step} begins`, 60_000);

await shoot('idle', '#/p/demo');
await shoot('new', '#/p/demo/new', async (page) => {
  await page.locator('#plan').fill('{\n  "name": "nightly",\n  "steps": [\n    {"id": "build", "tool": "make"},\n    {"id": "test", "tool": "echo", "dependencies": ["bild"]}\n  ]\n}');
  await page.getByRole('button', { name: 'Run', exact: true }).click();
  await page.locator('.issues').waitFor();
});

const first = await server.submit('demo', plan('ci'));
await server.end('demo', first.runId);
const failed = await server.submit('demo', plan('failures'));
await server.end('demo', failed.runId);
const running = await server.submit('demo', plan('ci'));
await completed(running.runId, 'pack');
await shoot('running', `#/p/demo/r/${running.runId}`, nodes);
await server.end('demo', running.runId);
const said = [['chat.message', { from: 'ada', text: 'The figures are in', timestamp: new Date().toISOString() }], ['cursor', { x: 3, y: 7 }],
  ['chat.message', { from: 'grace', text: 'Then let us run the report again', timestamp: new Date().toISOString() }], ['approval.asked', { step: 'deploy', by: 'grace' }]];
await server.call('/api/projects/chat/events', { body: JSON.stringify(said.map(([type, payload]) => ({ type, payload }))) });
const nightly = await server.submit('nightly', plan('failures'));
await server.end('nightly', nightly.runId);
// On any machine these go on until the picture is made.
const waiting = (name, title, done) => ({ name, steps: [
  ...done.map((text, n) => ({ id: `d${n}`, title: text, tool: 'echo' })),
  { id: 'now', title, tool: 'delay', inputs: { ms: 600_000 } },
  { id: 'then', title: 'Tell everyone', tool: 'echo', dependencies: ['now'] }] });
const reports = await server.submit('reports', waiting('Nightly report', 'Draw the charts', ['Collect the figures', 'Check the figures', 'Settle the accounts']));
const build = await server.submit('build', waiting('Release 2.4', 'Test on three systems', ['Fetch the sources', 'Build']));
await until(async () => (await server.call(`/api/projects/build/workflows/${build.runId}`)).progress.completed > 1, 'the build is under way');
await shoot('overview', '#/', async (page) => page.locator('.card').filter({ hasText: 'build' }).getByText('running').waitFor());
for (const [name, { runId }] of [['reports', reports], ['build', build]]) await server.call(`/api/projects/${name}/workflows/${runId}/cancel`, { method: 'POST' });
const release = await server.submit('release', { name: 'Release 2.4', scheduling: 'eager', steps: [
  { id: 'build', title: 'Build it', tool: 'echo' }, { id: 'test', title: 'Test on three systems', tool: 'delay', inputs: { ms: 600_000 } },
  { id: 'ask', title: 'Ask for a go', tool: 'approval', dependencies: ['build'], inputs: { message: 'Shall 2.4 go to production?', expires: 3_600_000, onExpire: 'reject', schema: {
    type: 'object', required: ['place', 'nodes'], properties: { place: { enum: ['staging', 'production'], default: 'staging' },
      nodes: { type: 'integer', title: 'Number of nodes', minimum: 1, description: 'How many get it first' }, notify: { type: 'boolean', title: 'Notify the team', default: true }, why: { type: 'string', maxLength: 1000 } } } } },
  { id: 'ship', title: 'Ship it', tool: 'echo', dependencies: ['ask'] }] });
await shoot('approval', `#/p/release/r/${release.runId}/s/ask`, (page) => page.locator('.approval').waitFor());
await server.call(`/api/projects/release/workflows/${release.runId}/cancel`, { method: 'POST' });
const resized = await server.submit('photos', { name: 'Make them small', onFailure: 'continue', steps: [
  { id: 'find', title: 'Find the photos', tool: 'echo', inputs: { files: Array.from({ length: 240 }, (_, n) => n === 6 ? { path: 'broken.jpg', ms: -1 } : { path: `photos/${n + 1}.jpg`, ms: n < 230 ? 1 : 600_000 }) } },
  { id: 'resize', title: 'Make each small', tool: 'delay', dependencies: ['find'], forEach: '{{ steps.find.output.files }}', as: 'file', inputs: { ms: '{{ file.ms }}' } },
  { id: 'page', title: 'Make the page', tool: 'echo', dependencies: ['resize'] }] });
await until(async () => (await server.call(`/api/projects/photos/workflows/${resized.runId}`)).steps[1].items?.done > 225, 'items are done');
await shoot('items', `#/p/photos/r/${resized.runId}/s/resize`, (page) => page.locator('.items li').nth(20).waitFor());
await server.call(`/api/projects/photos/workflows/${resized.runId}/cancel`, { method: 'POST' });
const report = { name: 'Nightly report', description: 'Collects the figures and draws the charts', steps: ['Collect', 'Draw', 'Send'].map((title, n) => ({ id: `s${n}`, title, tool: 'echo' })) };
await server.call('/api/projects/reports/plans/nightly', { method: 'PUT', body: { plan: report, schedule: { cron: '0 3 * * *', timeZone: 'Europe/Zurich', overlap: 'skip' } } });
await server.call('/api/projects/reports/plans/on-demand', { method: 'PUT', body: { ...report, name: 'Report of a month', parameters: { type: 'object', required: ['month'], properties: { month: { type: 'string', format: 'date', title: 'Month' }, draft: { type: 'boolean', title: 'As a draft', default: true } } } } });
await server.end('reports', (await server.call('/api/projects/reports/workflows', { body: { stored: 'nightly' } })).runId);
await shoot('plans', '#/p/reports/plans', async (page) => {
  await page.locator('.card').filter({ hasText: 'on-demand' }).getByRole('button', { name: 'Run' }).click();
  await page.getByLabel('Month').waitFor();
});
await shoot('messages', '#/p/chat/messages', async (page) => {
  await page.locator('.messages summary').last().click();
  await page.locator('.messages pre').filter({ hasText: /figures/ }).waitFor();
});
const talking = await server.submit('demo', plan('ci'));
await completed(talking.runId, 'checksums');
await shoot('running-step', `#/p/demo/r/${talking.runId}/s/checksums`, async (page) => {
  await page.locator('.screen pre').filter({ hasText: /\S/ }).waitFor();
});
await shoot('failed', `#/p/demo/r/${failed.runId}`, nodes);
const broken = (await server.call(`/api/projects/demo/workflows/${failed.runId}`)).steps.find(({ status }) => status === 'failed').id;
await shoot('failed-step', `#/p/demo/r/${failed.runId}/s/${broken}`, (page) => page.locator('.details h2').waitFor());
await shoot('finished', `#/p/demo/r/${first.runId}`, nodes);
await shoot('finished-step', `#/p/demo/r/${first.runId}/s/lines`, (page) => page.locator('.screen pre').filter({ hasText: /\S/ }).waitFor());
await shoot('finished-timeline', `#/p/demo/r/${first.runId}`, async (page) => {
  await page.locator('#tab-timeline').click();
  await page.locator('.lane').first().waitFor();
});
await shoot('list', '#/p/demo', async (page) => page.locator('.list a').first().waitFor());
const large = await server.submit('demo', { name: 'A large one', steps: Array.from({ length: 400 }, (_, n) => (
  { id: `s${n}`, title: `Part ${n}`, tool: n % 7 === 3 ? 'delay' : 'echo', inputs: { ms: 20_000 }, dependencies: n < 40 ? [] : [`s${n - 40}`, `s${n - 40 + (n % 3)}`] })) });
await shoot('large', `#/p/demo/r/${large.runId}`, nodes);
await shoot('reconnecting', `#/p/demo/r/${large.runId}/s/s3`, async (page) => {
  await page.locator('.details h2').waitFor();
  await server.kill();
  await page.locator('.pill.reconnecting').waitFor();
});
await browser.close();
