#!/usr/bin/env node
// An agent that sends a newsletter as a plan, which people can watch and approve:
//
//   1. it submits a plan, which waits for an approval in the dashboard (--approve: it approves it itself);
//   2. meanwhile it changes the plan twice, once because of a step's result;
//   3. once approved, the plan writes to 50 readers;
//   4. publishing fails, and the agent retries the run with another site: nobody is written to twice.
//
//   stepcast serve --config examples/agent/stepcast.toml
//   node examples/agent/agent.mjs [--approve] [--server URL] [--project ID] [--session ID]
//
// The server may be killed and restarted at any time: every call has an idempotency key and is repeated until there is a
// response, and the stream resumes after the last message. When the agent is started again with the same --session, it
// continues with the same run. If the server requires a token, set STEPCAST_TOKEN to one with the scopes run, subscribe and,
// for --approve, approve. It only needs Node 20 and no model: the function `notice` stands for the model's decisions.
import { randomUUID } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import { parseArgs } from 'node:util';

const USAGE = 'node examples/agent/agent.mjs [--approve] [--server URL] [--project ID] [--session ID]';
const options = readOptions();
const authorization = process.env.STEPCAST_TOKEN && { authorization: `Bearer ${process.env.STEPCAST_TOKEN}` };
const workflows = `/api/projects/${options.project}/workflows`;

/** The pause before a call is repeated, in milliseconds. */
const PAUSE = 200;

/** How many times the agent retries a failed run before it gives up. */
const RETRIES_MAX = 5;

const PLAN = {
  name: 'Newsletter',
  description: 'Writes to all readers after an approval, and publishes the issue',
  scheduling: 'eager',
  inputs: { site: 'primary' },
  steps: [
    { id: 'collect', title: 'Collect the readers', tool: 'collect' },
    {
      id: 'ask', title: 'Ask whether to send', tool: 'approval', dependencies: ['collect'],
      inputs: {
        message: 'Shall the newsletter be sent to 50 readers?',
        schema: {
          type: 'object', required: ['greeting'],
          properties: {
            greeting: { type: 'string', enum: ['Dear reader', 'Hello'], default: 'Hello', description: 'How each letter begins' },
            note: { type: 'string', maxLength: 1000, description: 'Stored with the decision' },
          },
        },
      },
    },
    {
      id: 'send', title: 'Write to each reader', tool: 'send', dependencies: ['collect', 'ask'],
      forEach: '{{ steps.collect.output.readers }}', as: 'reader', maxConcurrent: 10, inputs: { reader: '{{ reader }}' },
    },
    { id: 'publish', title: 'Publish the issue', tool: 'publish', dependencies: ['send'], inputs: { site: '{{ inputs.site }}' } },
  ],
};

/** The first change: check the readers before anyone is written to. */
const check = ({ readers }) => ({
  add: [{ id: 'check', title: 'Check the readers', tool: 'check', dependencies: ['collect'], inputs: { count: readers.length } }],
  replace: [{ ...PLAN.steps[2], dependencies: ['collect', 'check', 'ask'] }],
});

/** The second one: where readers are doubtful, it is announced that not all may have got a letter. */
const announce = ({ doubtful }) => ({
  add: [{ id: 'announce', title: `Announce it, for ${doubtful} may not get it`, tool: 'announce', dependencies: ['send'], continueOnFailure: true }],
  replace: [{ ...PLAN.steps[3], dependencies: ['send', 'announce'] }],
});

function readOptions() {
  const text = (value) => ({ type: 'string', default: value });
  try {
    return parseArgs({
      options: {
        server: text('http://127.0.0.1:8080'),
        project: text('agent'),
        session: text(`letter-${randomUUID().slice(0, 8)}`),
        approve: { type: 'boolean', default: false },
      },
    }).values;
  } catch (error) {
    console.error(`${error.message}\n${USAGE}`);
    process.exit(2);
  }
}

/** Repeats a call until there is a response. With a key, repeated calls have the effect of one. */
async function call(method, path, body, key) {
  for (let tries = 0; ; tries++) {
    try {
      const headers = { 'content-type': 'application/json', ...authorization, ...(key && { 'idempotency-key': key }) };
      const answer = await fetch(options.server + path, { method, headers, body: body && JSON.stringify(body) });
      const said = await answer.json();
      if (answer.status !== 429 && answer.status !== 503) return { status: answer.status, said };
    } catch {
      // There was no response, or an incomplete one.
    }
    if (tries === 0) console.log(`${options.server} is not responding to ${method} ${path}; trying again`);
    await pause(PAUSE);
  }
}

/** The same, but throws unless the call succeeds. */
async function need(...request) {
  const { status, said } = await call(...request);
  if (status >= 300) throw new Error(`${request[0]} ${request[1]}: ${status} ${said.detail} ${JSON.stringify(said.issues ?? '')}`);
  return said;
}

/** The events of a stream: `{id, data}`. */
async function* events(body) {
  let rest = '';
  let event = {};
  for await (const text of body.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + text).split('\n');
    rest = lines.pop();
    for (const line of lines) {
      if (line === '' && event.data) yield event;
      if (line === '') event = {};
      const [, name, value] = /^(id|data): ?(.*)$/.exec(line) ?? [];
      if (name) event[name] = value;
    }
  }
}

/** All messages of a run from its first to its last, each exactly once, across reconnects. */
async function* messages(runId) {
  for (let lastEventId = '', seen = 0; ;) {
    const headers = { accept: 'text/event-stream', ...authorization, ...(lastEventId && { 'last-event-id': lastEventId }) };
    const answer = await fetch(`${options.server}/api/sse/projects/${options.project}?runId=${runId}`, { headers }).catch(() => undefined);
    if (answer?.status === 204) return;
    if (answer && !answer.ok && answer.status < 500) throw new Error(`the stream of ${runId} was refused: ${answer.status}`);
    try {
      for await (const { id, data } of answer?.ok ? events(answer.body) : []) {
        const message = JSON.parse(data);
        if (id) lastEventId = id;
        if (!id || message.type === 'connected') continue;
        if (message.seq <= seen) throw new Error(`message ${message.seq} came after ${seen}`);
        seen = message.seq;
        yield message;
        if (message.type === 'workflow_completed' || message.type === 'workflow_failed') return;
      }
    } catch (error) {
      // A lost connection is opened again; any other error is a bug in this program.
      if (!['TypeError', 'AbortError'].includes(error.name)) throw error;
    }
    await pause(PAUSE);
  }
}

/** The state of a run, according to its messages. */
class Run {
  constructor(id) {
    Object.assign(this, { id, path: `${workflows}/${id}`, steps: new Map(), stream: messages(id) });
  }

  /** Reads messages until a condition is true, or the run has ended. */
  async until(isSo) {
    while (!this.end && !isSo()) {
      const { value, done } = await this.stream.next();
      if (done) break;
      this.take(value);
    }
  }

  take({ type, payload }) {
    if (type === 'workflow_progress') this.steps.set(payload.stepId, payload);
    if (type === 'workflow_progress' && payload.status === 'completed') console.log(`  ${payload.stepTitle}: ${payload.reused ? 'reused' : 'done'}`);
    if (type === 'workflow_plan_changed') console.log(`  the plan is at revision ${payload.revision}: ${payload.added.join()} added`);
    if (type === 'workflow_completed' || type === 'workflow_failed') this.end = { type, ...payload };
  }

  status(step) {
    return this.steps.get(step)?.status;
  }

  /** The output of a step, once it has one; undefined if the run ended before. */
  async output(step) {
    await this.until(() => this.status(step) === 'completed');
    return this.steps.get(step)?.output;
  }
}

const link = (run, step) => `${options.server}/#/p/${options.project}/r/${run.id}${step ? `/s/${step}` : ''}`;

/**
 * Adds `id` to the plan of an active run. If someone else has changed the plan in the meantime, it is read again; if it is too
 * late, the plan stays unchanged.
 */
async function change(run, id, what) {
  for (;;) {
    const { revision, steps } = await need('GET', run.path);
    // The response to an earlier attempt may have been lost.
    if (steps.some((step) => step.id === id)) return;
    const { status, said } = await call('PATCH', `${run.path}/plan`, { expectedRevision: revision, ...what }, `${run.id}-${id}-${revision}`);
    if (status < 300) return;
    if (status !== 409) throw new Error(`the plan can't be changed: ${said.detail} ${JSON.stringify(said.issues ?? '')}`);
    const now = await need('GET', run.path);
    if (now.revision === revision) return console.log(`it is too late to add ${id}: ${said.detail}`);
  }
}

/** Approves a waiting step; someone else may have decided before. */
async function approve(run, step) {
  const { status, said } = await call('POST', `${run.path}/steps/${step}/decision`, { decision: 'approve', payload: { greeting: 'Hello' } }, `${run.id}-${step}`);
  if (status >= 300 && status !== 409) throw new Error(`it can't be approved: ${said.detail}`);
}

/** The place of a model: looks at the results of the first steps, and changes the plan. */
async function notice(run) {
  const collected = await run.output('collect');
  if (collected) await change(run, 'check', check(collected));
  const checked = await run.output('check');
  if (checked?.doubtful > 0) await change(run, 'announce', announce(checked));
}

/**
 * A crash may have interrupted the announcement. It is unknown whether everyone was told, so it is not repeated: the plan of the
 * retry has a note in its place.
 */
async function withoutRepeats(run) {
  if (run.status('announce') !== 'failed') return {};
  const { plan } = await need('GET', `${run.path}/plan`);
  const note = { tool: 'echo', title: 'Announced, or not', inputs: { text: 'a crash came in between' } };
  return { plan: { ...plan, steps: plan.steps.map((step) => step.id === 'announce' ? { ...step, ...note } : step) } };
}

async function main() {
  const { runId } = await need('POST', workflows, { plan: PLAN, runId: options.session }, options.session);
  let run = new Run(runId);
  console.log(`proposed: ${link(run)}`);
  await notice(run);
  await run.until(() => run.status('ask') === 'waiting');
  if (run.status('ask') === 'waiting') {
    console.log(`waiting for your decision: ${link(run, 'ask')}`);
    if (options.approve) await approve(run, 'ask');
  }
  for (let retries = 1; ; retries++) {
    await run.until(() => false);
    if (run.end.type === 'workflow_completed') return console.log(`completed: ${link(run)}`);
    console.log(`failed: ${run.end.error}`);
    if (run.status('ask') === 'failed' || run.end.reason === 'cancelled' || retries > RETRIES_MAX) process.exit(1);
    const next = await need('POST', `${run.path}/retry`, { inputs: { site: 'secondary' }, ...(await withoutRepeats(run)) }, `${run.id}-retry`);
    run = new Run(next.runId);
    console.log(`continues with another site: ${link(run)}`);
  }
}

await main();
