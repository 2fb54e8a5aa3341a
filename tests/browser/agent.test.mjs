// The example agent, and a person who approves its plan on the page; with the server killed again and again: node --test
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { browserTest, context, open, silent } from './bench.mjs';
import { ROOT, Server, temporary, until } from './program.mjs';

/** Starts the agent. What it prints is in `said`; `status` is set when it ends. */
function begin(server, ...args) {
  const agent = { said: '', process: spawn(process.execPath, ['examples/agent/agent.mjs', '--server', server.origin, '--session', 'letter', ...args], { cwd: ROOT }) };
  agent.process.on('exit', (status) => { agent.status = status; });
  for (const stream of [agent.process.stdout, agent.process.stderr]) stream.on('data', (text) => { agent.said += text; });
  agent.says = (text, ms) => until(() => {
    if (agent.status !== undefined && !agent.said.includes(text)) throw new Error(`it ended with ${agent.status}: ${agent.said}`);
    return agent.said.includes(text);
  }, `it says ${text}`, ms);
  return agent;
}

const options = (data) => ({ config: 'examples/agent/stepcast.toml', data, env: { AGENT_LEDGER: path.join(data, 'ledger') } });
/** What was really done: run, step and attempt. */
const ledger = (data) => readFileSync(path.join(data, 'ledger'), 'utf8').trim().split('\n').map((line) => line.split(' '));

/** Whatever happened: 50 letters, one announcement at most, and published once it could be. */
async function judge(own, data, agent, kills = 0) {
  const runs = [...agent.said.matchAll(/\/r\/([^/\s]+)/g)].map(([, id]) => id);
  const last = await own.call(`/api/projects/agent/workflows/${runs.at(-1)}`);
  assert.deepEqual([last.status, last.retryOf !== undefined], ['completed', true]);
  const send = last.steps.find(({ id }) => id === 'send');
  assert.deepEqual(send.output.map(({ sentTo }) => sentTo), Array.from({ length: 50 }, (_, n) => `reader-${n + 1}`));
  const first = await own.call('/api/projects/agent/workflows/letter');
  assert.deepEqual([first.revision, ['check', 'announce'].every((id) => first.steps.some((step) => step.id === id))], [3, true]);
  const calls = ledger(data);
  const counts = new Map();
  for (const [run, step] of calls) counts.set(`${run} ${step}`, (counts.get(`${run} ${step}`) ?? 0) + 1);
  assert.deepEqual([...counts].filter(([, count]) => count > kills + 1), [], 'only a kill makes anything run again');
  assert.ok(calls.filter(([, step]) => step === 'announce').length <= 1, 'what must not run twice does not');
}

browserTest('the agent changes its plan, is approved on the page, and goes on from its failure', async () => {
  const data = temporary();
  const own = await Server.start(options(data));
  const agent = begin(own);
  await agent.says('waiting for your decision');
  const [, hash] = /decision: \S+?\/(#\S+)/.exec(agent.said);
  const page = await open(await context(), hash, own.origin);
  await page.getByText('Shall the newsletter be sent to 50 readers?').first().waitFor();
  await page.getByLabel('Greeting').selectOption('Dear reader');
  await page.getByRole('button', { name: 'Approve', exact: true }).click();
  await agent.says('continues with another site', 30_000);
  await agent.says('completed:', 30_000);
  await judge(own, data, agent);
  const first = await own.call('/api/projects/agent/workflows/letter');
  assert.equal(first.steps.find(({ id }) => id === 'ask').output.payload.greeting, 'Dear reader');
  assert.equal(ledger(data).filter(([, step]) => step.startsWith('send[')).length, 50, 'each letter was written once');
  silent();
  await own.kill('SIGTERM');
});

browserTest('the agent comes to its end though the server is killed at every turn', async () => {
  const data = temporary();
  let own = await Server.start(options(data));
  const { port } = own;
  const agent = begin(own, '--approve');
  const moments = ['proposed:', 'revision 2', 'waiting for your decision', 'continues with another site'];
  for (const what of moments) {
    await agent.says(what, 30_000);
    await own.kill();
    own = await Server.start({ ...options(data), port });
  }
  await agent.says('completed:', 30_000);
  await judge(own, data, agent, moments.length);
  await own.kill('SIGTERM');
});
