// AG-UI's own client, unchanged, versions 1.0 and before it: what it makes of runs, wherever its stream is cut.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AgentCapabilitiesSchema, EventSchema } from '@ag-ui/core/schemas';
import { temporary, until } from '../browser/program.mjs';
import { GOLDEN, events, gated } from './golden.mjs';
import { AG_UI, Cutter, followAgUi, httpAgent, serve, sourceAgent } from './world.mjs';

const warnings = [];
console.warn = (...all) => warnings.push(all.join(' '));
console.error = () => {};

for (const [name, { plan, status, meanwhile, cuts }] of Object.entries(GOLDEN)) {
  test(`${name}: wherever a stream is cut, an agent ends as one that saw everything`, async (t) => {
    const { server, box } = await serve(t);
    const url = '/api/projects/p/agui';
    const { runId } = await server.submit('p', gated(plan, 'g'));
    const always = Object.entries(AG_UI).map(([version, client]) => [version, client, httpAgent(client, server.origin + url)]);
    const followed = always.map(([, , agent]) => followAgUi(agent, { runId }));
    const sources = Object.values(AG_UI).map((client) => sourceAgent(client, `${server.origin}/api/sse/projects/p?runId=${runId}&format=agui`));
    followed.push(...sources.map((agent) => agent.runAgent({ runId })));
    const cut = [];
    for (const after of cuts) {
      for (const [version, client] of Object.entries(AG_UI)) {
        const cutter = await Cutter.before(t, server);
        cutter.cuts = [after, after];
        const agent = httpAgent(client, cutter.origin + url, { initialMessages: [{ id: 'question', role: 'user', content: 'How is it?' }] });
        cut.push({ version, after, agent, cutter });
        followed.push(followAgUi(agent, { runId }));
        const source = await Cutter.before(t, server);
        source.cuts = [after, after];
        const back = sourceAgent(client, `${source.origin}/api/sse/projects/p?runId=${runId}&format=agui`);
        cut.push({ version, after, agent: back, cutter: source, isSource: true });
        followed.push(back.runAgent({ runId }));
      }
    }
    await until(() => always.every(([, , agent]) => agent.told.length > 0), 'they are there');
    box.open('g');
    await meanwhile?.(server, 'p', runId);
    await Promise.all(followed);
    const run = await server.call(`/api/projects/p/workflows/${runId}`);
    assert.equal(run.status, status);
    if (name === 'streamed text') assert.deepEqual(run.usage, { inputTokens: 9, outputTokens: 16, totalTokens: 25, model: 'm' });
    assert.ok(cut.filter(({ cutter }) => cutter.count > 0).length > cuts.length / 2, 'many were cut');
    for (const [version, , agent] of always) {
      assert.equal(agent.state.run.status, status, version);
      assert.deepEqual(agent.state.run.steps.map((one) => one.status), run.steps.map((one) => one.status));
      const [told] = agent.told.slice(-1);
      const end = version.includes(' 0.') && status === 'cancelled' ? 'RUN_ERROR' : { completed: 'RUN_FINISHED', cancelled: 'RUN_FINISHED', failed: 'RUN_ERROR' }[status];
      assert.equal(told.type, end, version);
      assert.deepEqual(told.usage, run.usage && [run.usage], version);
      assert.deepEqual(agent.state.run.usage, run.usage, version);
      const others = [...cut.filter((one) => one.version === version), { agent: sources[Object.keys(AG_UI).indexOf(version)], isSource: true }];
      for (const { agent: other, after, isSource } of others) {
        const what = `${version}, ${isSource ? 'EventSource' : 'HttpAgent'}, cut after ${after}`;
        const own = other.messages.filter(({ id }) => id === 'question');
        assert.equal(own.length, isSource ? 0 : 1, what);
        assert.deepEqual(other.state, agent.state, what);
        assert.deepEqual(other.messages.filter(({ id }) => id !== 'question'), agent.messages, what);
      }
    }
    for (const [version, , agent] of always) {
      const threads = agent.told.filter(({ type }) => type === 'RUN_STARTED' || type === 'RUN_FINISHED').map(({ threadId }) => threadId);
      assert.deepEqual([...new Set(threads)], [agent.threadId], version);
    }
    for (const event of [...always, ...cut.map(({ agent }) => [0, 0, agent])].flatMap(([, , agent]) => agent.told)) {
      const { success, error } = EventSchema.safeParse(event);
      assert.ok(success, `${JSON.stringify(event)}: ${error}`);
    }
    assert.deepEqual(warnings, []);
  });
}

for (const [version, client] of Object.entries(AG_UI)) {
  test(`${version}: a plan is begun, twice in one agent, and the messages of both stay`, async (t) => {
    const { server } = await serve(t);
    const agent = httpAgent(client, `${server.origin}/api/projects/p/agui`, { threadId: 'thread-1' });
    agent.addMessage({ id: 'u1', role: 'user', content: 'good morning' });
    const plan = { name: 'p', steps: [{ id: 'say', tool: 'say', inputs: { text: 'You said {{ inputs.message }}' } }] };
    const { result } = await agent.runAgent({ forwardedProps: { plan } });
    assert.deepEqual(result.outputs, { say: 'You said good morning' });
    agent.addMessage({ id: 'u2', role: 'user', content: 'good evening' });
    await agent.runAgent({ runId: 'second', forwardedProps: { plan, inputs: { message: 'nothing' } } });
    const said = agent.messages.filter(({ content }) => typeof content === 'string').map(({ role, content }) => [role, content]);
    const turn = (question, answer) => [['user', question], ['tool', `You said ${answer}`], ['assistant', `You said ${answer}`]];
    assert.deepEqual(said, [...turn('good morning', 'good morning'), ...turn('good evening', 'nothing')]);

    // Attached to again, with a log of another run in it: nothing is there twice, and nothing is lost.
    agent.messages = [...agent.messages, { id: 'other/log', role: 'activity', activityType: 'OTHER', content: {} }];
    const before = structuredClone(agent.messages);
    await agent.runAgent({ runId: 'second' });
    assert.deepEqual(agent.messages, before);
  });

  test(`${version}: leaving cancels nothing`, async (t) => {
    const { server, box } = await serve(t);
    const agent = httpAgent(client, `${server.origin}/api/projects/p/agui`);
    const left = agent.runAgent({ runId: 'r', forwardedProps: { plan: gated(GOLDEN.success.plan, 'g') } });
    await until(() => agent.told.some(({ type }) => type === 'STEP_STARTED'), 'it runs');
    agent.abortRun();
    await left.catch(() => {});
    box.open('g');
    await server.end('p', 'r');
    assert.equal((await server.call('/api/projects/p/workflows/r')).status, 'completed');
  });

  test(`${version}: what can't be begun is refused with its reasons`, async (t) => {
    const { server } = await serve(t);
    const agent = httpAgent(client, `${server.origin}/api/projects/p/agui`);
    await assert.rejects(agent.runAgent({ runId: 'r' }), (error) => {
      assert.equal(error.status, 422);
      assert.match(String(error.payload), /forwardedProps\.plan/);
      return true;
    });
    const plan = { name: 'p', steps: [{ id: 'a', tool: 'nowhere' }, { id: 'a', tool: 'echo' }] };
    await assert.rejects(agent.runAgent({ runId: 'r', forwardedProps: { plan } }), (error) => {
      assert.equal(error.status, 422);
      assert.deepEqual(JSON.parse(error.payload).issues.map(({ path }) => path), ['steps[0].tool', 'steps[1].id']);
      return true;
    });
    await assert.rejects(agent.runAgent({ runId: 'no id' }), ({ status }) => status === 422);
  });

  test(`${version}: over kill -9 an agent goes on where it was`, async (t) => {
    const data = temporary();
    let { server, box } = await serve(t, { data });
    const plan = { name: 'p', steps: [{ id: 'talk', tool: 'say', inputs: { text: 'one two three' } }, { id: 'wait', tool: 'gate', inputs: { gate: 'g' }, dependencies: ['talk'] }, { id: 'end', tool: 'echo', inputs: { x: 1 }, dependencies: ['wait'] }] };
    const agent = httpAgent(client, `${server.origin}/api/projects/p/agui`);
    const cut = agent.runAgent({ runId: 'r', forwardedProps: { plan } }).catch(() => {});
    await until(() => agent.state.run?.steps[1].status === 'running', 'it waits');
    await server.kill('SIGKILL');
    await cut;
    assert.ok(!agent.told.some(({ type }) => type === 'RUN_FINISHED' || type === 'RUN_ERROR'), 'whatever Node makes of that');
    ({ server, box } = await serve(t, { data, port: server.port, box }));
    const late = httpAgent(client, `${server.origin}/api/projects/p/agui`);
    const followed = [agent, late].map((one) => followAgUi(one, { runId: 'r' }));
    box.open('g');
    await Promise.all(followed);
    assert.equal(agent.state.run.status, 'completed');
    assert.equal(agent.state.run.steps[1].attempt, 2);
    assert.deepEqual(late.state, agent.state);
    assert.deepEqual(late.messages, agent.messages);
  });

  test(`${version}: a server that shuts down says so, and the run goes on after it`, async (t) => {
    const data = temporary();
    let { server, box } = await serve(t, { data });
    const agent = httpAgent(client, `${server.origin}/api/projects/p/agui`);
    const ended = agent.runAgent({ runId: 'r', forwardedProps: { plan: { name: 'p', steps: [{ id: 'wait', tool: 'gate', inputs: { gate: 'g' } }] } } });
    await until(() => agent.state.run?.steps[0].status === 'running', 'it waits');
    await server.kill('SIGTERM');
    await ended;
    assert.deepEqual([agent.told.at(-1).type, agent.told.at(-1).code], ['RUN_ERROR', 'stream_closing']);
    ({ server, box } = await serve(t, { data, port: server.port, box }));
    box.open('g');
    await followAgUi(agent, { runId: 'r' });
    assert.equal(agent.state.run.status, 'completed');
    assert.deepEqual(agent.messages.map(({ role }) => role), ['assistant', 'tool', 'assistant', 'tool']);
  });

  test(`${version}: of a run whose first messages are gone there is what its state tells`, async (t) => {
    const { server } = await serve(t, { flags: ['--history-messages', '10'] });
    const { runId } = await server.submit('p', GOLDEN['a hundred steps'].plan);
    await server.end('p', runId);
    await until(async () => (await events(server, 'p', runId)).length < 20, 'its messages are let go');
    const agent = httpAgent(client, `${server.origin}/api/projects/p/agui`);
    const { result } = await agent.runAgent({ runId });
    assert.equal(Object.keys(result.outputs).length, 100);
    assert.equal(agent.messages.length, 200);
    assert.ok(agent.state.run.steps.every(({ status }) => status === 'completed'));
  });
}

test('what there is is told as the protocol has it', async (t) => {
  const { server } = await serve(t);
  const told = await server.call('/api/projects/p/agui');
  assert.deepEqual(AgentCapabilitiesSchema.parse(told), told);
  assert.equal(told.transport.resumable, true);
});
