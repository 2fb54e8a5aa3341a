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

/** Cut after so many blocks; whoever comes back is cut after as many again, and then no more. */
const CUTS = [...Array.from({ length: 24 }, (_, at) => at + 1), 27, 30, 35, 40, 50, 60, 75, 90];

for (const [name, { plan, status, meanwhile }] of Object.entries(GOLDEN)) {
  test(`${name}: wherever a stream is cut, an agent ends as one that saw everything`, async (t) => {
    const { server, box } = await serve(t);
    const url = '/api/projects/p/agui';
    const { runId } = await server.submit('p', gated(plan, 'g'));
    const always = Object.entries(AG_UI).map(([version, client]) => [version, client, httpAgent(client, server.origin + url)]);
    const followed = always.map(([, , agent]) => followAgUi(agent, { runId }));
    const sources = Object.values(AG_UI).map((client) => sourceAgent(client, `${server.origin}/api/sse/projects/p?runId=${runId}&format=agui`));
    followed.push(...sources.map((agent) => agent.runAgent({ runId })));
    const cut = [];
    for (const after of CUTS) {
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
    assert.ok(cut.filter(({ cutter }) => cutter.count > 0).length > CUTS.length, 'many were cut');
    for (const [version, , agent] of always) {
      assert.equal(agent.state.run.status, status, version);
      assert.deepEqual(agent.state.run.steps.map((one) => one.status), run.steps.map((one) => one.status));
      const [told] = agent.told.slice(-1);
      const end = version.includes(' 0.') && status === 'cancelled' ? 'RUN_ERROR' : { completed: 'RUN_FINISHED', cancelled: 'RUN_FINISHED', failed: 'RUN_ERROR' }[status];
      assert.equal(told.type, end, version);
      const others = [...cut.filter((one) => one.version === version), { agent: sources[Object.keys(AG_UI).indexOf(version)], isSource: true }];
      for (const { agent: other, after, isSource } of others) {
        const what = `${version}, ${isSource ? 'EventSource' : 'HttpAgent'}, cut after ${after}`;
        const own = other.messages.filter(({ id }) => id === 'question');
        assert.equal(own.length, isSource ? 0 : 1, what);
        assert.deepEqual(other.state, agent.state, what);
        assert.deepEqual(other.messages.filter(({ id }) => id !== 'question'), agent.messages, what);
      }
    }
    for (const event of [...always, ...cut.map(({ agent }) => [0, 0, agent])].flatMap(([, , agent]) => agent.told)) {
      const { success, error } = EventSchema.safeParse(event);
      assert.ok(success, `${JSON.stringify(event)}: ${error}`);
    }
    assert.deepEqual(warnings, []);
  });
}
