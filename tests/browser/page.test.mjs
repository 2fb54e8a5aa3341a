// The page in a real browser, against the real program: node --test
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { NARROW, WIDE, browserTest, closing, context, gated, guarded, isLive, look, open, project, server, silent, state, token } from './bench.mjs';
import { ROOT, Server, launchBrowser, temporary, until } from './program.mjs';

const node = (page, id) => page.locator(`.node[data-id="${id}"]`);

browserTest('a run that is submitted appears by itself and is followed to its end', async () => {
  const name = project();
  const page = await open(await context(), `#/p/${name}`);
  await isLive(page);
  await page.getByText('No runs in this project yet').waitFor();
  const { plan, letThrough } = gated();
  await server.submit(name, plan);
  await state(page, 'running');
  await node(page, 'talk').filter({ hasText: 'completed' }).waitFor();
  await node(page, 'gate').filter({ hasText: 'running' }).waitFor();
  assert.equal(await node(page, 'last').textContent(), 'The last one pending');
  assert.equal(await page.locator('.list a').count(), 1);
  assert.match(await page.locator('.list a').textContent(), /1 of 3 steps/);
  letThrough();
  await state(page, 'completed');
  await node(page, 'last').filter({ hasText: 'completed' }).waitFor();
  assert.equal(await page.locator('#announce').textContent(), 'gated completed');
  silent();
});

browserTest('who comes late, or comes back, sees what is so', async () => {
  const name = project();
  const { plan, letThrough } = gated();
  const { runId } = await server.submit(name, plan);
  const page = await open(await context(), `#/p/${name}/r/${runId}/s/gate`);
  await node(page, 'talk').filter({ hasText: 'completed' }).waitFor();
  await page.locator('.screen pre').filter({ hasText: 'waiting' }).waitFor();
  await page.reload();
  await node(page, 'gate').filter({ hasText: 'running' }).waitFor();
  await page.locator('.screen pre').filter({ hasText: 'waiting' }).waitFor();
  letThrough();
  await state(page, 'completed');
  await page.locator('.screen pre').filter({ hasText: 'open' }).waitFor();
  await page.reload();
  await state(page, 'completed');
  assert.equal(await page.locator('.node').count(), 3);
  assert.equal(await page.locator('.list a').count(), 1);
  silent();
});

browserTest('a server that is killed and comes back is said so, and the run goes on', async () => {
  const data = temporary();
  let own = await Server.start({ data });
  const { port } = own;
  const name = project();
  const { plan, letThrough } = gated();
  // What the browser itself says of a server that is away.
  const page = await open(await context({}, /ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED|ERR_EMPTY_RESPONSE|ERR_CONNECTION_RESET/), `#/p/${name}`, own.origin);
  await isLive(page);
  await own.submit(name, plan);
  await node(page, 'gate').filter({ hasText: 'running' }).waitFor();
  await own.kill();
  await page.locator('.pill.reconnecting').waitFor();
  own = await Server.start({ data, port });
  await isLive(page);
  await node(page, 'gate').filter({ hasText: 'attempt 2' }).waitFor();
  letThrough();
  await state(page, 'completed');
  assert.equal(await page.locator('.list a').count(), 1);
  assert.match(await page.locator('.facts').textContent(), /3 of 3 steps/);
  await node(page, 'gate').click();
  // What shows a step is loaded when the first one is chosen.
  await page.locator('.attempts li').first().waitFor();
  assert.deepEqual(await page.locator('.attempts li span:first-of-type').allTextContents(), ['1. interrupted', '2. completed']);
  silent();
  await own.kill('SIGTERM');
});

browserTest('the tabs of a browser share one stream', async () => {
  const name = project();
  const where = await context();
  const count = async () => (await server.call(`/api/projects/${name}/subscribers`)).count;
  const pages = [await open(where, `#/p/${name}`), await open(where, `#/p/${name}`), await open(where, `#/p/${name}`)];
  await Promise.all(pages.map(isLive));
  assert.equal(await count(), 1);
  await server.submit(name, { name: 'shared', steps: [{ id: 'a', tool: 'echo' }] });
  await Promise.all(pages.map((page) => state(page, 'completed')));
  await pages[0].close();
  await pages[1].close();
  assert.equal(await count(), 1);
  await server.submit(name, { name: 'once more', steps: [{ id: 'a', tool: 'echo' }] });
  await pages[2].locator('.list a').nth(1).waitFor();
  silent();
});

browserTest('without a SharedWorker each tab has a stream of its own', async () => {
  const name = project();
  const where = await context();
  await where.addInitScript(() => { delete globalThis.SharedWorker; });
  const page = await open(where, `#/p/${name}`);
  await isLive(page);
  await server.submit(name, { name: 'alone', steps: [{ id: 'a', tool: 'echo' }] });
  await state(page, 'completed');
  silent();
});

/** The ways in which a page of this server holds a stream; each opens the page of a project, and looks for what came. */
const pages = {
  'the page': {
    open: (page, name) => page.goto(`${server.origin}/?${name}#/p/${name}`).then(() => isLive(page)),
    hears: (page, text) => page.locator('.list a').filter({ hasText: text }).waitFor(),
  },
  'the page without a SharedWorker': {
    prepare: () => { delete globalThis.SharedWorker; },
    open: (page, name) => page.goto(`${server.origin}/?${name}#/p/${name}`).then(() => isLive(page)),
    hears: (page, text) => page.locator('.list a').filter({ hasText: text }).waitFor(),
  },
  'the client alone': {
    open: async (page, name) => {
      await page.goto(`${server.origin}/stepcast.js?${name}`);
      await page.evaluate(async (project) => {
        const { follow } = await import('/stepcast.js');
        globalThis.names = [];
        const onMessage = ({ type, payload }) => type === 'workflow_started' && globalThis.names.push(payload.planName);
        await new Promise((resolve) => follow(project, { onMessage, onConnection: ({ status }) => status === 'live' && resolve() }));
      }, name);
    },
    hears: (page, text) => until(() => page.evaluate((wanted) => globalThis.names.filter((one) => one === wanted).length === 1, text), text),
  },
  'the overview': {
    open: (page, name) => page.goto(`${server.origin}/?${name}`).then(() => isLive(page)),
    hears: (page, text, name) => page.locator('.card').filter({ hasText: name }).filter({ hasText: text }).waitFor(),
  },
  'the client with several projects': {
    open: async (page, name) => {
      await page.goto(`${server.origin}/stepcast.js?${name}`);
      await page.evaluate(async (project) => {
        const { follow } = await import('/stepcast.js');
        globalThis.names = [];
        const onMessage = ({ type, payload }) => type === 'workflow_started' && globalThis.names.push(payload.planName);
        await new Promise((resolve) => follow([project, `${project}-2`], { onMessage, onConnection: ({ status }) => status === 'live' && resolve() }));
      }, name);
    },
    hears: (page, text) => until(() => page.evaluate((wanted) => globalThis.names.filter((one) => one === wanted).length === 1, text), text),
  },
  'the lines in the README': {
    open: async (page, name) => {
      await page.goto(`${server.origin}/stepcast.js?${name}`);
      const readme = readFileSync(path.join(ROOT, 'README.md'), 'utf8');
      const lines = /```js\n(function watch[^]*?)```/.exec(readme)[1].replace('JSON.parse(event.data);', '$& globalThis.last = payload;');
      await page.evaluate(`(() => { ${lines.replace('projects/demo', `projects/${name}`)} })()`);
      await until(() => page.evaluate(() => globalThis.last), 'it is connected');
    },
    hears: (page, text) => until(() => page.evaluate(() => globalThis.last.planName ?? globalThis.last.runId), text),
  },
};

for (const [what, { prepare, open: openPage, hears }] of Object.entries(pages)) {
  browserTest(`six pages that were left do not keep the seventh from loading: ${what}`, async () => {
    const browser = closing(await launchBrowser({ ignoreDefaultArgs: ['--disable-back-forward-cache'] }));
    const where = await browser.newContext({ viewport: WIDE });
    await where.addInitScript(() => addEventListener('pageshow', (event) => { globalThis.isFromCache = event.persisted; }));
    if (prepare) await where.addInitScript(prepare);
    const page = await where.newPage();
    page.setDefaultTimeout(15_000);
    const names = Array.from({ length: 7 }, project);
    for (const name of names) await openPage(page, name);
    await server.submit(names[5], { name: 'while it was away', steps: [{ id: 'a', tool: 'echo' }] });
    await page.goBack({ waitUntil: 'commit' });
    await until(() => page.evaluate(() => globalThis.isFromCache), 'the page comes out of the cache');
    await hears(page, 'while it was away', names[5]);
    await server.submit(names[5], { name: 'after it came back', steps: [{ id: 'a', tool: 'echo' }] });
    await hears(page, 'after it came back', names[5]);
  });
}

browserTest('a run is cancelled, and run again', async () => {
  const name = project();
  const { plan, letThrough } = gated();
  await server.submit(name, plan);
  const page = await open(await context(), `#/p/${name}`);
  await node(page, 'gate').filter({ hasText: 'running' }).waitFor();
  await page.getByRole('button', { name: 'Cancel' }).click();
  await state(page, 'cancelled');
  await node(page, 'gate').filter({ hasText: 'cancelled' }).waitFor();
  letThrough();
  await page.getByRole('button', { name: 'Run again' }).click();
  await state(page, 'completed');
  assert.equal(await page.locator('.list a').count(), 2);
  silent();
});

browserTest('numbers are shown, edited and run again as they were written', async () => {
  const name = project();
  const inputs = '{"id": 9007199254740993, "share": 2.0, "price": 1.10, "text": "x"}';
  const shown = inputs.replace('{', '{\n  ').replaceAll(', ', ',\n  ').replace('}', '\n}');
  const page = await open(await context(), `#/p/${name}/new`);
  await page.getByLabel('Plan, as JSON').fill(`{"name": "exact", "steps": [{"id": "a", "tool": "echo", "inputs": ${inputs}}]}`);
  await page.getByRole('button', { name: 'Run', exact: true }).click();
  await state(page, 'completed');
  await node(page, 'a').click();
  const given = page.locator('.facts-side pre');
  await given.filter({ hasText: '9007199254740993' }).waitFor();
  assert.equal(await given.textContent(), shown);
  await page.locator('.screen pre').filter({ hasText: '9007199254740993' }).waitFor();
  assert.match(await page.locator('.screen pre').textContent(), /"share": 2\.0,/);
  const runs = () => page.locator('.list a');
  const plan = async (at) => {
    const runId = /r\/([^/]+)/.exec(await runs().nth(at).getAttribute('href'))[1];
    return (await fetch(`${server.origin}/api/projects/${name}/workflows/${runId}/plan`)).text();
  };
  const first = await plan(0);
  assert.ok(first.includes('9007199254740993') && first.includes('1.10'), first);
  await page.getByRole('button', { name: 'Run again' }).click();
  await runs().nth(1).waitFor();
  assert.equal(await plan(0), first);
  await page.getByRole('link', { name: 'Edit' }).click();
  const box = page.getByLabel('Plan, as JSON');
  await until(async () => /exact/.test(await box.inputValue()), 'the plan is there');
  assert.match(await box.inputValue(), /"id": 9007199254740993,\s*"share": 2\.0,\s*"price": 1\.10,/);
  await page.getByRole('button', { name: 'Run', exact: true }).click();
  await runs().nth(2).waitFor();
  assert.match(await plan(0), /9007199254740993.*2\.0.*1\.10/s);
  silent();
});

browserTest('what is wrong with a plan is shown at its place, and a good one runs', async () => {
  const name = project();
  const page = await open(await context({}, /status of 4(00|22)/), `#/p/${name}/new`);
  const box = page.getByLabel('Plan, as JSON');
  await box.fill('{"name": "x",\n "steps": [\n {"id": "a", "tool": "echo"},\n {"id": "b", "tool": "echo", "dependencies": ["a", "nobody"]}]}');
  await page.getByRole('button', { name: 'Run', exact: true }).click();
  const issue = page.locator('.issues li');
  assert.match(await issue.textContent(), /line 4.*unknown step.*steps\[1\]\.dependencies\[1\]/);
  await issue.locator('button').click();
  assert.equal(await box.evaluate((text) => text.value.slice(text.selectionStart, text.selectionEnd)), '"nobody"');
  await box.fill('{"name": "x",\n "steps": [}');
  await page.getByRole('button', { name: 'Check' }).click();
  await page.locator('.issues', { hasText: 'line 2' }).waitFor();
  await page.locator('#file').setInputFiles({ name: 'plan.json', mimeType: 'application/json', buffer: Buffer.from('{"name": "from a file", "steps": [{"id": "a", "tool": "echo"}]}') });
  await page.getByText('The plan is valid: 1 step in 1 level.').waitFor();
  await page.getByRole('button', { name: 'Run', exact: true }).click();
  await state(page, 'completed');
  assert.equal(await page.locator('.run-head h1').textContent(), 'from a file');
  silent();
});

browserTest('secrets in inputs are not shown: a run again has them, an edited plan has to be given them', async () => {
  const name = project();
  const { runId } = await server.submit(name, { name: 'secretive', steps: [{ id: 'a', tool: 'secretive', inputs: { apiKey: 'hush-hush', region: 'eu' } }] });
  await server.end(name, runId);
  const page = await open(await context(), `#/p/${name}/r/${runId}/s/a`);
  await page.locator('.facts-side pre', { hasText: '"eu"' }).waitFor();
  assert.match(await page.locator('.facts-side pre').textContent(), /"apiKey": "\*\*\*"/);
  await page.getByRole('button', { name: 'Run again' }).click();
  await page.locator('.list a').nth(1).waitFor();
  await state(page, 'completed');
  await page.getByRole('link', { name: 'Edit' }).click();
  await page.locator('.issues', { hasText: 'plan.steps[0].inputs.apiKey' }).waitFor();
  assert.ok(!(await page.content()).includes('hush-hush'));
  silent();
});

browserTest('a plan of a thousand steps stays usable', async () => {
  const name = project();
  const ids = (level) => Array.from({ length: 100 }, (_, n) => `s${level}-${n}`);
  const steps = Array.from({ length: 10 }, (_, level) => ids(level).map((id, n) => (
    { id, title: `Step ${n} of level ${level}`, tool: 'echo', inputs: { n }, dependencies: level === 0 ? [] : [`s${level - 1}-${n}`, `s${level - 1}-${(n + 1) % 100}`] }))).flat();
  const page = await open(await context(), `#/p/${name}`);
  await isLive(page);
  await page.evaluate(() => {
    globalThis.longest = 0;
    new PerformanceObserver((list) => { for (const one of list.getEntries()) globalThis.longest = Math.max(globalThis.longest, one.duration); }).observe({ entryTypes: ['longtask'] });
  });
  await server.submit(name, { name: 'a thousand', steps });
  await state(page, 'completed');
  assert.match(await page.locator('.facts').textContent(), /1000 of 1000 steps/);
  const inPage = await page.locator('.node').count();
  assert.ok(inPage > 100 && inPage < 700, `${inPage} nodes`);
  await page.locator('.pane').evaluate((pane) => pane.scrollTo(pane.scrollWidth, 0));
  await node(page, 's9-99').waitFor();
  await node(page, 's9-99').click();
  await page.locator('.details h2', { hasText: 'Step 99 of level 9' }).waitFor();
  await page.locator('#tab-timeline').click();
  await page.locator('.lane').first().waitFor();
  const lanes = await page.locator('.lane').count();
  assert.ok(lanes > 5 && lanes < 100, `${lanes} lanes`);
  const longest = await page.evaluate(() => globalThis.longest);
  console.log(`a thousand steps: ${inPage} nodes, the longest task ${Math.round(longest)} ms`);
  assert.ok(longest < 1_000, `the page was blocked for ${longest} ms`);
  silent();
});

browserTest('an output of 50 MB and a line of 100,000 characters do not hold the page up', async () => {
  const name = project();
  const { runId } = await server.submit(name, { name: 'huge', steps: [{ id: 'huge', tool: 'huge' }, { id: 'long', tool: 'long-line' }] });
  const page = await open(await context(), `#/p/${name}/r/${runId}/s/huge`);
  await state(page, 'completed');
  const screen = page.locator('.screen');
  const text = page.locator('.screen pre');
  await page.locator('.size', { hasText: '49.6 MiB' }).waitFor();
  await page.getByRole('button', { name: 'Output', exact: true }).click();
  await text.filter({ hasText: 'line 00000001 ' }).waitFor({ timeout: 60_000 });
  await page.getByRole('button', { name: 'End' }).click();
  await text.filter({ hasText: 'line 01000000 ' }).waitFor({ timeout: 60_000 });
  await screen.evaluate((one) => one.scrollTo(0, 2_000));
  await text.filter({ hasText: /line 0099\d{4} / }).waitFor();
  for (let n = 0; n < 3; n++) {
    const before = await page.locator('.size').textContent();
    await screen.evaluate((one) => one.scrollTo(0, 0));
    await until(async () => await page.locator('.size').textContent() !== before, 'what lies before is read');
  }
  const lines = (await text.textContent()).split('\n').map((line) => Number(/line (\d+) /.exec(line)?.[1])).filter(Number.isFinite);
  assert.ok(lines.every((line, at) => at === 0 || line === lines[at - 1] + 1), 'one line after the other, none twice');
  assert.ok((await text.textContent()).length < 60_000);
  await page.goto(`${server.origin}/#/p/${name}/r/${runId}/s/long`);
  await page.locator('.size', { hasText: '97.7 KiB' }).waitFor();
  await page.getByRole('button', { name: 'End' }).click();
  await text.filter({ hasText: 'END' }).waitFor();
  const longest = Math.max(...(await text.textContent()).split('\n').map((line) => line.length));
  assert.ok(longest < 300, `a row of ${longest} characters`);
  silent();
});

browserTest('a stream that is chosen before the one that was seen has been read on opens where it was asked for', async () => {
  const name = project();
  const { runId } = await server.submit(name, { name: 'huge', steps: [{ id: 'huge', tool: 'huge' }] });
  const page = await open(await context(), `#/p/${name}/r/${runId}/s/huge`);
  await state(page, 'completed');
  await page.locator('.size', { hasText: '49.6 MiB' }).waitFor();
  // A slow way to the server: the page's next reading of the old stream falls due before the new one's length is known.
  await page.route(/\/output$/, async (route) => {
    if (route.request().method() === 'HEAD') await new Promise((resolve) => setTimeout(resolve, 600));
    await route.continue();
  });
  await page.getByRole('button', { name: 'Output', exact: true }).click();
  await page.locator('.screen pre').filter({ hasText: 'line 00000001 ' }).waitFor();
  silent();
});

browserTest('output is followed while it grows, until one scrolls up', async () => {
  const name = project();
  const { runId } = await server.submit(name, { name: 'talker', steps: [{ id: 'talk', tool: 'talk', inputs: { lines: 150 } }] });
  const page = await open(await context(), `#/p/${name}/r/${runId}/s/talk`);
  const text = page.locator('.screen pre');
  await text.filter({ hasText: 'line 40' }).waitFor();
  const screen = page.locator('.screen');
  assert.ok(await screen.evaluate((one) => one.scrollTop + one.clientHeight > one.scrollHeight - 20));
  await screen.hover();
  await page.mouse.wheel(0, -300);
  await page.locator('button[aria-pressed=false]', { hasText: 'Follow' }).waitFor();
  const top = await screen.evaluate((one) => one.scrollTop);
  const size = await page.locator('.size').textContent();
  await until(async () => await page.locator('.size').textContent() !== size, 'there is more');
  assert.equal(await screen.evaluate((one) => one.scrollTop), top);
  await page.getByRole('button', { name: 'Follow' }).click();
  await text.filter({ hasText: 'line 150' }).waitFor();
  const all = await text.textContent();
  const lines = all.split('\n').map((line) => Number(line.slice(5))).filter((n) => n > 0);
  assert.ok(lines.every((line, at) => at === 0 || line === lines[at - 1] + 1), all);
  silent();
});

browserTest('a token is asked for, is enough, and is asked for again once it has ended', async () => {
  const own = await guarded();
  const name = project();
  const page = await open(await context({}, /status of 40[13]/), `#/p/${name}`, own.origin);
  await page.locator('#token-why', { hasText: 'Enter an access token' }).waitFor();
  await page.getByLabel('Token').fill('nonsense');
  await page.getByRole('button', { name: 'Continue' }).click();
  await page.locator('#token-why', { hasText: 'The server refused access:' }).waitFor();
  await page.getByLabel('Token').fill(token('subscribe', 5));
  await page.getByRole('button', { name: 'Continue' }).click();
  await isLive(page);
  await own.submit(name, { name: 'guarded', steps: [{ id: 'a', tool: 'echo' }] }, { token: token('run') });
  await state(page, 'completed');
  assert.equal(await page.getByRole('button', { name: 'Run again' }).isVisible(), false);
  await page.locator('.pill.denied').waitFor();
  await page.getByLabel('Token').fill(token('subscribe run'));
  await page.getByRole('button', { name: 'Continue' }).click();
  await isLive(page);
  await page.getByRole('button', { name: 'Run again' }).click();
  await page.locator('.list a').nth(1).waitFor();
  silent();
  await own.kill('SIGTERM');
});

browserTest('the client alone follows over a restart, a spent ticket and the end of a token, and hands nothing on twice', async () => {
  const data = temporary();
  let own = await guarded({ data });
  const { port, origin } = own;
  const page = await open(await context({}, /./), 'stepcast.js', own.origin);
  await page.exposeFunction('newToken', (seconds) => token('subscribe', seconds));
  await page.evaluate(async () => {
    const { follow } = await import('/stepcast.js');
    globalThis.seen = [];
    globalThis.states = [];
    globalThis.life = 2;
    globalThis.following = follow('q', {
      ticketUrl: '/api/sse/ticket',
      headers: async () => ({ authorization: `Bearer ${await globalThis.newToken(globalThis.life)}` }),
      onMessage: (message) => globalThis.seen.push(message),
      onConnection: ({ status }) => globalThis.states.push(status),
    });
  });
  const publish = (n) => own.call('/api/projects/q/events', { body: { type: 'note', payload: { n } }, token: token('publish') });
  const numbers = () => page.evaluate(() => globalThis.seen.filter(({ type }) => type === 'note').map(({ payload }) => payload.n));
  const isConnected = () => page.evaluate(() => globalThis.following.state.connection.status === 'live');
  await until(isConnected, 'it is live');
  await publish(1);
  // The token ends after two seconds: the client fetches a ticket with a new one.
  await until(() => page.evaluate(() => globalThis.seen.some(({ type, payload }) => type === 'stream_closing' && payload.reason === 'token_expired')), 'the token ends');
  await publish(2);
  await page.evaluate(() => { globalThis.life = 600; });
  await until(async () => (await numbers()).includes(2), 'the second note');
  await own.kill();
  own = await guarded({ data, port });
  await publish(3);
  await until(async () => (await numbers()).includes(3), 'the third note');
  assert.deepEqual(await numbers(), [1, 2, 3]);
  assert.equal(own.origin, origin);
  await page.evaluate(() => globalThis.following.close());
  assert.equal(await page.evaluate(() => globalThis.states.at(-1)), 'closed');
  await own.kill('SIGTERM');
});

browserTest('steps are reached and opened with the keyboard', async () => {
  const name = project();
  const { runId } = await server.submit(name, { name: 'keys', steps: [{ id: 'a', tool: 'echo' }, { id: 'b', tool: 'echo' }, { id: 'c', tool: 'echo', dependencies: ['a'] }] });
  await server.end(name, runId);
  const page = await open(await context(), `#/p/${name}/r/${runId}`);
  await node(page, 'a').focus();
  await page.keyboard.press('ArrowDown');
  await page.keyboard.press('ArrowRight');
  assert.equal(await page.evaluate(() => document.activeElement.dataset.id), 'c');
  await page.keyboard.press('Enter');
  await page.locator('.details h2', { hasText: 'c' }).waitFor();
  await page.keyboard.press('Escape');
  await page.locator('.details').waitFor({ state: 'hidden' });
  await page.locator('#tab-graph').focus();
  await page.keyboard.press('ArrowRight');
  await page.locator('.lane').first().waitFor();
  silent();
});

browserTest('a step keeps the focus when the plan comes later than the run', async () => {
  const name = project();
  const { runId } = await server.submit(name, { name: 'late', steps: [{ id: 'a', tool: 'echo' }, { id: 'b', tool: 'echo', dependencies: ['a'] }] });
  await server.end(name, runId);
  const where = await context();
  let letThrough;
  const gate = new Promise((resolve) => { letThrough = resolve; });
  await where.route('**/plan', async (route) => { await gate; await route.continue(); });
  const page = await open(where, `#/p/${name}/r/${runId}`);
  await node(page, 'b').focus();
  letThrough();
  await page.locator('.edges path').first().and(page.locator('[d^=M]')).waitFor({ state: 'attached' });
  assert.equal(await page.evaluate(() => document.activeElement.dataset.id), 'b');
  silent();
});

browserTest('nothing is wider than the window, and axe finds nothing, in both sizes and themes', async () => {
  const axe = readFileSync(new URL('node_modules/axe-core/axe.min.js', import.meta.url), 'utf8');
  const name = project();
  const { plan, letThrough } = gated();
  const failed = await server.submit(name, { name: 'a plan that fails, with a name that is far too long to be shown in whole', steps: [
    { id: 'a', title: 'A step whose title is so long that no box could ever hold it, whatever one does', tool: 'echo', inputs: { text: 'x'.repeat(400) } },
    { id: 'b', tool: 'fail', inputs: { message: 'no'.repeat(300) }, dependencies: ['a'], retryPolicy: { maxRetries: 1, initialDelay: 10 } }, { id: 'c', tool: 'echo', dependencies: ['b'] }] });
  await server.end(name, failed.runId);
  const running = await server.submit(name, plan);
  const views = [`#/p/${name}`, `#/p/${name}/new`, `#/p/${name}/r/${running.runId}`, `#/p/${name}/r/${failed.runId}/s/b`, `#/p/${name}/r/${failed.runId}/s/a`, `#/p/${project()}`];
  for (const [viewport, colorScheme] of [[WIDE, 'light'], [NARROW, 'dark']]) {
    const page = await open(await context({ viewport, colorScheme, reducedMotion: 'reduce' }), views[0]);
    await isLive(page);
    await page.evaluate(axe);
    for (const hash of views) {
      await page.goto(`${server.origin}/${hash}`);
      await isLive(page);
      if (hash.includes('/r/')) await page.locator('.run-head h1').filter({ hasText: /./ }).waitFor({ state: 'attached' });
      if (hash.includes('/s/a')) await page.locator('.screen pre').filter({ hasText: 'xxx' }).waitFor();
      await look(page, `${hash} ${viewport.width} ${colorScheme}`);
    }
    await page.goto(`${server.origin}/${views[3].replace(/\/s\/b$/, '')}`);
    await page.locator('#tab-timeline').click();
    await page.locator('.lane').first().waitFor();
    await look(page, `time line ${viewport.width} ${colorScheme}`);
    silent();
    await page.context().close();
  }
  letThrough();
});

browserTest('the page is small, is loaded once, and asks nobody else', async () => {
  const where = await context();
  const requests = [];
  where.on('request', (request) => requests.push(new URL(request.url())));
  const page = await open(where, `#/p/${project()}`);
  await isLive(page);
  assert.deepEqual([...new Set(requests.map(({ origin }) => origin))], [server.origin]);
  const { gzipSync } = await import('node:zlib');
  let size = 0;
  for (const pathname of new Set(requests.map((url) => url.pathname).filter((one) => !one.startsWith('/api/')))) {
    const answer = await fetch(server.origin + pathname);
    size += gzipSync(Buffer.from(await answer.arrayBuffer())).length;
    const again = await fetch(server.origin + pathname, { headers: { 'if-none-match': answer.headers.get('etag') } });
    assert.deepEqual([again.status, (await again.text()).length], [304, 0], pathname);
    assert.match(answer.headers.get('content-security-policy'), /default-src 'none'/);
  }
  console.log(`the page: ${size} bytes compressed`);
  assert.ok(size < 60 * 1024, `${size} bytes`);
  silent();
});
