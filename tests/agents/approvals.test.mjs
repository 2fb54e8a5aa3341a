// Steps that wait for a decision, answered by the frontends' own means: AG-UI's interrupts, and the approvals of AI SDK's tools.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EventSchema } from '@ag-ui/core/schemas';
import { temporary, until } from '../browser/program.mjs';
import { AG_UI, AI, Cutter, chat, followChat, httpAgent, serve, sourceAgent } from './world.mjs';

console.error = () => {};

const step = (id, tool, inputs = {}, dependencies = []) => ({ id, tool, inputs, dependencies });
const say = (id, text, dependencies) => step(id, 'say', { text }, dependencies);
const ask = (id, more = {}, dependencies = []) => step(id, 'approval', { message: `May ${id}?`, ...more }, dependencies);
const SCHEMA = { type: 'object', properties: { n: { type: 'integer' } }, required: ['n'] };

/** What is said before and after two questions, the second of which comes behind the first. */
const plan = {
  name: 'asks',
  steps: [say('before', 'Before it all'), ask('first', {}, ['before']), say('between', 'In between', ['first']), ask('second', {}, ['between']), say('after', 'After it all', ['second'])],
};
const both = { name: 'asks both', steps: [ask('one'), ask('two', { onReject: 'continue' }), say('after', 'One {{ steps.one.output.decision }}, two {{ steps.two.output.decision }}', ['one', 'two'])] };

const texts = (parts) => parts.filter(({ type }) => type === 'text').map(({ text }) => text);
const stepsOf = async (server, run) => Object.fromEntries((await server.call(`/api/projects/p/workflows/${run}`)).steps.map((one) => [one.id, one]));
const decide = (server, run, id, body) => server.call(`/api/projects/p/workflows/${run}/steps/${id}/decision`, { body });
const isWaiting = (server, run, id) => until(async () => (await stepsOf(server, run))[id].status === 'waiting', `${id} waits`);

for (const [version, client] of Object.entries(AG_UI)) {
  const agentOf = (server, options = {}) => httpAgent(client, `${server.origin}/api/projects/p/agui`, options);
  const yes = (agent, more = {}) => agent.pendingInterrupts.map(({ id }) => ({ interruptId: id, status: 'resolved', payload: { approved: true, ...more } }));
  const said = (agent) => agent.messages.filter(({ role, content }) => role === 'assistant' && content).map(({ content }) => content);

  test(`${version}: a run is interrupted by each question, and goes on by its answer`, async (t) => {
    const { server } = await serve(t);
    const agent = agentOf(server, { threadId: 't', initialMessages: [{ id: 'question', role: 'user', content: 'Go' }] });
    await agent.runAgent({ runId: 'r', forwardedProps: { plan } });
    assert.deepEqual(agent.pendingInterrupts.map(({ id, message, toolCallId }) => [id, message, toolCallId]), [['r/first/1', 'May first?', 'r/first/1']]);
    assert.deepEqual(said(agent), ['Before it all']);
    assert.equal(agent.state.run.steps[1].approval.message, 'May first?');
    await assert.rejects(agent.runAgent({ runId: 'r' }), /pending interrupt/, 'the client itself wants an answer first');
    await agent.runAgent({ resume: yes(agent) });
    assert.deepEqual(agent.pendingInterrupts.map(({ id }) => id), ['r/second/1']);
    const { result } = await agent.runAgent({ runId: 'third', resume: yes(agent, { payload: { why: 'fine' } }) });
    assert.equal(result.outputs.after, 'After it all');
    assert.equal(result.outputs.second.payload.why, 'fine');
    assert.deepEqual(said(agent), ['Before it all', 'In between', 'After it all']);
    assert.equal(agent.messages.filter(({ role }) => role === 'tool').length, 5, 'one result a call');
    const turns = agent.told.filter(({ type }) => type === 'RUN_STARTED' || type === 'RUN_FINISHED').map(({ threadId, runId, parentRunId }) => [threadId, runId, parentRunId]);
    const [, second] = turns[2];
    assert.deepEqual(turns, [['t', 'r', undefined], ['t', 'r', undefined], ['t', second, 'r'], ['t', second, undefined], ['t', 'third', 'r'], ['t', 'third', undefined]]);
    for (const event of agent.told) assert.ok(EventSchema.safeParse(event).success, JSON.stringify(event));

    const late = agentOf(server, { threadId: 't', initialMessages: [{ id: 'question', role: 'user', content: 'Go' }] });
    await late.runAgent({ runId: 'r' });
    assert.deepEqual([late.state, late.messages], [agent.state, agent.messages]);
  });

  test(`${version}: who says no ends the run, and who cancels says no`, async (t) => {
    const { server } = await serve(t);
    for (const [run, answer] of [['said', { status: 'resolved', payload: { approved: false } }], ['short', { status: 'resolved', payload: false }], ['cancelled', { status: 'cancelled' }]]) {
      const agent = agentOf(server);
      await agent.runAgent({ runId: run, forwardedProps: { plan } });
      const [{ id }] = agent.pendingInterrupts;
      await agent.runAgent({ resume: [{ interruptId: id, ...answer }] });
      assert.deepEqual([agent.told.at(-1).type, agent.told.at(-1).code], ['RUN_ERROR', 'step_failed']);
      assert.match(agent.told.at(-1).message, /rejected by anonymous/);
      assert.equal((await stepsOf(server, run)).first.decision.decision, 'reject');
    }
  });

  test(`${version}: two questions at once are one interruption, and both are answered`, async (t) => {
    const { server } = await serve(t);
    const agent = agentOf(server);
    await agent.runAgent({ runId: 'r', forwardedProps: { plan: both } });
    assert.deepEqual(agent.pendingInterrupts.map(({ id }) => id), ['r/one/1', 'r/two/1']);
    const resume = [{ interruptId: 'r/one/1', status: 'resolved', payload: true }, { interruptId: 'r/two/1', status: 'resolved', payload: false }];
    const { result } = await agent.runAgent({ resume });
    assert.equal(result.outputs.after, 'One approve, two reject');
  });

  test(`${version}: who attaches while the run waits is asked, too, and may come too late`, async (t) => {
    const { server } = await serve(t);
    const { runId } = await server.submit('p', plan);
    await isWaiting(server, runId, 'first');
    const agents = [agentOf(server), agentOf(server)];
    for (const agent of agents) {
      await agent.runAgent({ runId });
      assert.deepEqual(agent.pendingInterrupts.map(({ id }) => id), [`${runId}/first/1`]);
    }
    const [first, second] = agents;
    await first.runAgent({ resume: yes(first) });
    const no = [{ interruptId: `${runId}/first/1`, status: 'resolved', payload: false }];
    await assert.rejects(second.runAgent({ resume: no }), ({ status, payload }) => status === 409 && /already_decided/.test(payload));
    // Whoever gives up goes on with what others have decided.
    await second.runAgent({ resume: [{ interruptId: `${runId}/first/1`, status: 'cancelled' }] });
    assert.deepEqual(second.pendingInterrupts.map(({ id }) => id), [`${runId}/second/1`]);
    assert.deepEqual([second.state, second.messages], [first.state, first.messages]);
  });

  test(`${version}: an answer whose stream was cut is given again, wherever that was`, async (t) => {
    const { server } = await serve(t);
    for (const after of [1, 2, 3, 4, 6, 9, 12, 15]) {
      const run = `cut-${after}`;
      const cutter = await Cutter.before(t, server);
      const agent = httpAgent(client, `${cutter.origin}/api/projects/p/agui`);
      await agent.runAgent({ runId: run, forwardedProps: { plan } });
      const resume = yes(agent);
      cutter.cuts = [after, after];
      for (let tries = 0; tries < 3; tries += 1) await agent.runAgent({ runId: 'again', resume }).catch(() => {});
      assert.ok(cutter.count > 0, `${after}`);
      assert.deepEqual(agent.pendingInterrupts.map(({ id }) => id), [`${run}/second/1`], `cut after ${after}`);
      const { result } = await agent.runAgent({ resume: yes(agent) });
      assert.equal(result.outputs.after, 'After it all');
      assert.deepEqual(said(agent), ['Before it all', 'In between', 'After it all'], `cut after ${after}`);
    }
  });

  test(`${version}: over kill -9 a run waits on, and an answer that was given counts`, async (t) => {
    const data = temporary();
    let { server, box } = await serve(t, { data });
    const agent = agentOf(server);
    await agent.runAgent({ runId: 'r', forwardedProps: { plan } });
    const again = async () => {
      await server.kill('SIGKILL');
      ({ server, box } = await serve(t, { data, port: server.port, box }));
    };
    await again();
    const resume = yes(agent);
    await agent.runAgent({ resume });
    assert.deepEqual(agent.pendingInterrupts.map(({ id }) => id), ['r/second/1']);
    await again();
    const late = agentOf(server);
    await late.runAgent({ resume });
    assert.deepEqual([late.pendingInterrupts, late.state, late.messages], [agent.pendingInterrupts, agent.state, agent.messages]);
    const { result } = await late.runAgent({ resume: yes(late) });
    assert.equal(result.outputs.after, 'After it all');
  });

  test(`${version}: what a question asks for is checked, and asked for again`, async (t) => {
    const { server } = await serve(t);
    const agent = agentOf(server);
    await agent.runAgent({ runId: 'r', forwardedProps: { plan: { name: 'asks', steps: [ask('much', { schema: SCHEMA })] } } });
    const [{ reason, responseSchema }] = agent.pendingInterrupts;
    assert.deepEqual([reason, responseSchema.properties.payload], ['input_required', SCHEMA]);
    await assert.rejects(agent.runAgent({ resume: yes(agent, { payload: { n: 'many' } }) }), ({ status, payload }) => status === 422 && /invalid_payload/.test(payload));
    const { result } = await agent.runAgent({ resume: yes(agent, { payload: { n: 3 } }) });
    assert.equal(result.outputs.much.payload.n, 3);
  });

  test(`${version}: a watcher over EventSource is not sent away by a question`, async (t) => {
    const { server } = await serve(t);
    const { runId } = await server.submit('p', plan);
    const watcher = sourceAgent(client, `${server.origin}/api/sse/projects/p?runId=${runId}&format=agui`);
    const watched = watcher.runAgent({ runId });
    for (const id of ['first', 'second']) {
      await until(() => watcher.state.run?.steps.find((one) => one.id === id).status === 'waiting', `${id} waits`);
      assert.equal(watcher.state.run.steps.find((one) => one.id === id).approval.message, `May ${id}?`);
      await decide(server, runId, id, { decision: 'approve' });
    }
    await watched;
    assert.deepEqual(watcher.told.map(({ type }) => type).filter((type) => type.startsWith('RUN_')), ['RUN_STARTED', 'RUN_FINISHED']);
    assert.equal(watcher.state.run.status, 'completed');
  });

  test(`${version}: a stored plan is begun by its name`, async (t) => {
    const { server } = await serve(t);
    const stored = { plan: { name: 'stored', steps: [step('greet', 'echo', { text: '{{ inputs.message }}, {{ inputs.who }}' })] }, inputs: { who: 'you' } };
    await server.call('/api/projects/p/plans/greeting', { method: 'PUT', body: stored });
    const agent = agentOf(server, { initialMessages: [{ id: 'm', role: 'user', content: 'Hello' }] });
    const { result } = await agent.runAgent({ runId: 'r', forwardedProps: { template: 'greeting', inputs: { who: 'all' } } });
    assert.deepEqual(result.outputs.greet, { text: 'Hello, all' });
    await assert.rejects(agentOf(server).runAgent({ forwardedProps: { template: 'none' } }), ({ status, payload }) => status === 404 && /unknown_plan/.test(payload));
  });
}

for (const [version, ai] of Object.entries(AI)) {
  const automatic = { sendAutomaticallyWhen: ai.lastAssistantMessageIsCompleteWithApprovalResponses };
  const chatOf = (server, id, options = {}) => chat(ai, `${server.origin}/api/projects/p/chat`, { id, ...automatic, ...options });
  const asking = (one) => one.messages.at(-1)?.parts.filter(({ state }) => state === 'approval-requested').map(({ approval }) => approval.id) ?? [];
  const asks = (one, ...ids) => until(() => one.status === 'ready' && asking(one).join() === ids.join(), `${ids} ask, and not ${asking(one)} (${one.status} ${one.error})`);
  const isOver = (one) => until(() => ['ready', 'error'].includes(one.status) && one.messages.at(-1).parts.some(({ type, data }) => type === 'data-workflow' && data.finishedAt), 'it is over');

  test(`${version}: a tool asks to be approved, and the answer goes on in the same message`, async (t) => {
    const { server } = await serve(t);
    const one = chatOf(server, 'c');
    await one.sendMessage({ text: 'go' }, { body: { plan } });
    await asks(one, 'c/first/1');
    assert.equal(one.ends.at(-1).finishReason, 'tool-calls');
    assert.deepEqual(texts(one.messages.at(-1).parts), ['Before it all']);
    await one.addToolApprovalResponse({ id: 'c/first/1', approved: true });
    await asks(one, 'c/second/1');
    await one.addToolApprovalResponse({ id: 'c/second/1', approved: true, reason: 'it is fine' });
    await isOver(one);
    assert.deepEqual(one.messages.map(({ id, role }) => [id === 'c' ? 'c' : 'user', role]), [['user', 'user'], ['c', 'assistant']]);
    const { parts } = one.messages.at(-1);
    assert.deepEqual(texts(parts), ['Before it all', 'In between', 'After it all']);
    assert.equal(parts.find(({ toolCallId }) => toolCallId === 'c/second/1').output.payload.reason, 'it is fine');
    assert.ok(parts.filter(({ type }) => type === 'dynamic-tool').every(({ state }) => state === 'output-available'));

    // A page that is loaded anew has the same, but for what only the one that answered knows.
    const loaded = chatOf(server, 'c');
    await followChat(loaded);
    const shown = (all) => all.map((part) => (part.approval ? { ...part, approval: part.approval.id } : part));
    assert.deepEqual(shown(loaded.messages.at(-1).parts), shown(parts));
    assert.deepEqual((await server.call('/api/projects/p/workflows')).workflows.length, 1);
  });

  test(`${version}: a tool that is rejected is denied, and two that ask at once are answered together`, async (t) => {
    const { server } = await serve(t);
    const one = chatOf(server, 'c');
    await one.sendMessage({ text: 'go' }, { body: { plan: both } });
    await asks(one, 'c/one/1', 'c/two/1');
    await one.addToolApprovalResponse({ id: 'c/two/1', approved: false });
    assert.equal((await stepsOf(server, 'c')).two.status, 'waiting', 'nothing is sent before all are answered');
    await one.addToolApprovalResponse({ id: 'c/one/1', approved: true });
    await isOver(one);
    assert.deepEqual(texts(one.messages.at(-1).parts), ['One approve, two reject']);

    const no = chatOf(server, 'd');
    await no.sendMessage({ text: 'go' }, { body: { plan } });
    await asks(no, 'd/first/1');
    await no.addToolApprovalResponse({ id: 'd/first/1', approved: false, reason: 'not today' });
    await isOver(no);
    const part = no.messages.at(-1).parts.find(({ toolCallId }) => toolCallId === 'd/first/1');
    assert.deepEqual([part.state, part.approval.approved, part.approval.reason], ['output-denied', false, 'not today']);
    assert.equal(no.status, 'error');
    assert.match(no.error.message, /rejected by anonymous/);
    assert.deepEqual((await stepsOf(server, 'd')).first.decision.payload, { reason: 'not today' });
  });

  test(`${version}: a page that is loaded anew is asked again, and answers`, async (t) => {
    const { server } = await serve(t);
    const first = chatOf(server, 'c');
    await first.sendMessage({ text: 'go' }, { body: { plan } });
    await asks(first, 'c/first/1');
    const loaded = chatOf(server, 'c', { messages: structuredClone(first.messages) });
    await loaded.resumeStream();
    await asks(loaded, 'c/first/1');
    assert.deepEqual(loaded.messages, first.messages);
    await loaded.addToolApprovalResponse({ id: 'c/first/1', approved: true });
    await asks(loaded, 'c/second/1');
    // Someone has decided otherwise meanwhile: who comes too late is told so, and can go on.
    await first.addToolApprovalResponse({ id: 'c/first/1', approved: false });
    await until(() => first.status === 'error', 'it is refused');
    assert.match(first.error.message, /already_decided/);
    first.clearError();
    await first.resumeStream();
    await asks(first, 'c/second/1');
    assert.deepEqual(texts(first.messages.at(-1).parts), ['Before it all', 'In between']);
    // What was answered and is sent again, because its stream was lost, is what it was.
    await Promise.all([first, loaded].map((one) => one.addToolApprovalResponse({ id: 'c/second/1', approved: true })));
    await Promise.all([first, loaded].map(isOver));
    for (const one of [first, loaded]) assert.deepEqual(texts(one.messages.at(-1).parts), ['Before it all', 'In between', 'After it all']);
  });

  test(`${version}: a chat whose answer's stream is cut goes on with it, wherever that was`, async (t) => {
    const { server } = await serve(t);
    for (const after of [1, 2, 3, 4, 5, 7, 9, 12, 15]) {
      const id = `cut-${after}`;
      const cutter = await Cutter.before(t, server);
      const one = chat(ai, `${cutter.origin}/api/projects/p/chat`, { id, ...automatic });
      await one.sendMessage({ text: 'go' }, { body: { plan } });
      await asks(one, `${id}/first/1`);
      cutter.cuts = [after];
      await one.addToolApprovalResponse({ id: `${id}/first/1`, approved: true });
      await until(() => cutter.count > 0 && ['ready', 'error'].includes(one.status), 'it is cut');
      one.clearError();
      await one.resumeStream();
      await asks(one, `${id}/second/1`);
      assert.deepEqual(texts(one.messages.at(-1).parts), ['Before it all', 'In between'], `cut after ${after}`);
      await one.addToolApprovalResponse({ id: `${id}/second/1`, approved: true });
      await isOver(one);
      assert.deepEqual(texts(one.messages.at(-1).parts), ['Before it all', 'In between', 'After it all'], `cut after ${after}`);
    }
  });

  test(`${version}: what an approval must come with is in the body`, async (t) => {
    const { server } = await serve(t);
    const one = chatOf(server, 'c');
    await one.sendMessage({ text: 'go' }, { body: { plan: { name: 'asks', steps: [ask('much', { schema: SCHEMA })] } } });
    await asks(one, 'c/much/1');
    await one.addToolApprovalResponse({ id: 'c/much/1', approved: true });
    await until(() => one.status === 'error', 'it is refused');
    assert.match(one.error.message, /invalid_payload/);
    one.clearError();
    await one.resumeStream();
    await asks(one, 'c/much/1');
    await one.addToolApprovalResponse({ id: 'c/much/1', approved: true, options: { body: { payloads: { 'c/much/1': { n: 3 } } } } });
    await isOver(one);
    assert.deepEqual((await stepsOf(server, 'c')).much.decision.payload, { n: 3 });
  });

  test(`${version}: a stored plan is begun by its name`, async (t) => {
    const { server } = await serve(t);
    const stored = { plan: { name: 'stored', steps: [say('greet', '{{ inputs.message }}')] } };
    await server.call('/api/projects/p/plans/greeting', { method: 'PUT', body: stored });
    const one = chatOf(server, 'c');
    await one.sendMessage({ text: 'Hello' }, { body: { template: 'greeting' } });
    assert.deepEqual(texts(one.messages.at(-1).parts), ['Hello']);
  });
}
