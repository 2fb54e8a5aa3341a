// The AI SDK's chat, unchanged, versions 6 and 7: what it makes of runs, wherever its stream is cut.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { temporary, until } from '../browser/program.mjs';
import { GOLDEN, events, gated } from './golden.mjs';
import { AI, Cutter, chat, followChat, serve } from './world.mjs';

/** How a chat is once its run is over. */
const ENDS = { completed: 'ready', cancelled: 'ready', failed: 'error' };

for (const [name, { plan, status, meanwhile, cuts }] of Object.entries(GOLDEN)) {
  test(`${name}: wherever a stream is cut, a chat ends as one that saw everything`, async (t) => {
    const { server, box } = await serve(t);
    const { runId } = await server.submit('p', gated(plan, 'g'));
    const followed = [];
    const follow = (version, origin) => {
      const one = chat(AI[version], `${origin}/api/projects/p/chat`, { id: runId });
      followed.push(followChat(one));
      return one;
    };
    const always = Object.keys(AI).map((version) => [version, follow(version, server.origin)]);
    const cut = [];
    for (const after of cuts) {
      for (const version of Object.keys(AI)) {
        const cutter = await Cutter.before(t, server);
        cutter.cuts = [after, after];
        cut.push({ version, after, cutter, one: follow(version, cutter.origin) });
      }
    }
    await until(() => always.every(([, one]) => one.messages.length > 0), 'they are there');
    box.open('g');
    await meanwhile?.(server, 'p', runId);
    await Promise.all(followed);
    const run = await server.call(`/api/projects/p/workflows/${runId}`);
    assert.equal(run.status, status);
    assert.ok(cut.filter(({ cutter }) => cutter.count > 0).length > cuts.length / 2, 'many were cut');
    for (const [version, one] of always) {
      assert.equal(one.status, ENDS[status], version);
      assert.deepEqual(one.messages.map(({ id, role }) => [id, role]), [[runId, 'assistant']]);
      // A client stops reading at an error, and what ends a message is behind it: what was used is in the run's part, too.
      assert.deepEqual(one.messages[0].parts.find(({ type }) => type === 'data-workflow').data.usage, run.usage, version);
      if (status === 'completed') assert.deepEqual(one.messages[0].metadata?.usage, run.usage, version);
      const steps = one.messages[0].parts.filter(({ type }) => type === 'data-step').map(({ data }) => [data.id, data.status]);
      assert.deepEqual(steps.sort(), run.steps.map(({ id, status: is }) => [id, is]).sort());
      for (const { one: other, after } of cut.filter((cutOne) => cutOne.version === version)) {
        assert.deepEqual(other.messages, one.messages, `${version}, cut after ${after}`);
        assert.equal(other.status, one.status, `${version}, cut after ${after}`);
      }
    }
  });
}

for (const [version, ai] of Object.entries(AI)) {
  test(`${version}: a message begins a run, and its text is an input`, async (t) => {
    const { server } = await serve(t);
    const one = chat(ai, `${server.origin}/api/projects/p/chat`, { id: 'chat-1' });
    const plan = { name: 'p', steps: [{ id: 'say', tool: 'say', inputs: { text: 'You said {{ inputs.message }}' } }] };
    await one.sendMessage({ text: 'good morning' }, { body: { plan } });
    assert.equal(one.status, 'ready');
    assert.equal(one.messages.at(-1).id, 'chat-1');
    assert.deepEqual(one.messages.at(-1).parts.filter(({ type }) => type === 'text').map(({ text, state }) => [text, state]), [['You said good morning', 'done']]);

    // The second one is a run of its own, and the first one's message stays.
    await one.sendMessage({ text: 'good evening', metadata: { plan } });
    assert.deepEqual(one.messages.map(({ role }) => role), ['user', 'assistant', 'user', 'assistant']);
    assert.match(one.messages.at(-1).id, /^chat-1\../);
    assert.ok(one.messages.at(-1).parts.some(({ text }) => text === 'You said good evening'));
    const { workflows } = await server.call('/api/projects/p/workflows');
    assert.equal(workflows.length, 2);
  });

  test(`${version}: what can't be begun is refused, and nothing to resume is no error`, async (t) => {
    const { server } = await serve(t);
    const one = chat(ai, `${server.origin}/api/projects/p/chat`, { id: 'chat-1' });
    await one.resumeStream();
    assert.deepEqual([one.status, one.messages.length], ['ready', 0]);
    await one.sendMessage({ text: 'go' });
    assert.equal(one.status, 'error');
    assert.match(one.error.message, /plan/);
    await one.sendMessage({ text: 'go' }, { body: { plan: { name: 'p', steps: [{ id: 'a', tool: 'nowhere' }] } } });
    assert.equal(one.status, 'error');
    assert.match(one.error.message, /steps\[0\]\.tool/);
  });

  test(`${version}: a page that is loaded anew goes on with its chat, over kill -9`, async (t) => {
    const data = temporary();
    let { server, box } = await serve(t, { data });
    const words = 'some words, one by one, '.repeat(4).trim();
    const steps = [{ id: 'talk', tool: 'say', inputs: { text: words } }, { id: 'wait', tool: 'gate', inputs: { gate: 'g' }, dependencies: ['talk'] }];
    const plan = { name: 'p', steps: [...steps, { id: 'end', tool: 'say', inputs: { text: 'and the end' }, dependencies: ['wait'] }] };
    const first = chat(ai, `${server.origin}/api/projects/p/chat`, { id: 'c' });
    const sent = first.sendMessage({ text: 'go' }, { body: { plan } });
    await until(() => first.messages.at(-1)?.parts.some(({ type, data: step }) => type === 'data-step' && step.id === 'wait'), 'it waits');
    await server.kill('SIGKILL');
    // To Node 20 an answer that breaks off is whole, where the server had said that it would close the connection.
    await sent;
    ({ server, box } = await serve(t, { data, port: server.port, box }));
    const loaded = chat(ai, `${server.origin}/api/projects/p/chat`, { id: 'c' });
    const followed = [followChat(loaded), first.resumeStream()];
    box.open('g');
    await Promise.all(followed);
    assert.deepEqual(loaded.messages.at(-1), first.messages.at(-1));
    const texts = loaded.messages.at(-1).parts.filter(({ type }) => type === 'text').map(({ text }) => text);
    assert.deepEqual(texts, [words, 'and the end']);
    assert.deepEqual(first.messages.map(({ role }) => role), ['user', 'assistant']);
  });

  test(`${version}: a server that shuts down says so, and the chat can be gone on with`, async (t) => {
    const data = temporary();
    let { server, box } = await serve(t, { data });
    const plan = { name: 'p', steps: [{ id: 'wait', tool: 'gate', inputs: { gate: 'g' } }] };
    const one = chat(ai, `${server.origin}/api/projects/p/chat`, { id: 'c' });
    const sent = one.sendMessage({ text: 'go' }, { body: { plan } });
    await until(() => one.messages.at(-1)?.parts.some(({ type }) => type === 'dynamic-tool'), 'it waits');
    await server.kill('SIGTERM');
    await sent;
    assert.match(one.error.message, /shutdown/);
    ({ server, box } = await serve(t, { data, port: server.port, box }));
    box.open('g');
    await followChat(one);
    assert.equal(one.messages.at(-1).parts.find(({ type }) => type === 'data-workflow').data.status, 'completed');
  });
}

test('printed lines come as data that is not kept, each with its place', async (t) => {
  const { server } = await serve(t);
  const plan = { name: 'p', steps: [{ id: 'print', tool: 'print', inputs: { lines: 3 } }] };
  const one = chat(AI['ai 7'], `${server.origin}/api/projects/p/chat`, { id: 'c' });
  await one.sendMessage({ text: 'go' }, { body: { plan } });
  const logs = one.data.filter(({ type }) => type === 'data-log').map(({ data }) => data);
  const printed = (await events(server, 'p', 'c')).filter(({ type }) => type === 'workflow_step_output');
  assert.deepEqual(logs.map(({ text }) => text), printed.map(({ payload }) => payload.chunk));
  logs.reduce((at, log) => {
    assert.equal(log.at, at);
    return at + log.text.length;
  }, 0);
  assert.ok(!one.messages.at(-1).parts.some(({ type }) => type === 'data-log'));
});
