#!/usr/bin/env node
// An agent that sends a newsletter, as a plan that people can watch and decide on:
//
//   1. it proposes a plan, which waits for an approval in the page (--approve: it approves itself);
//   2. meanwhile it changes the plan twice, one of them because of what a step has found out;
//   3. approved, the plan writes to 50 readers;
//   4. publishing fails, and the agent goes on from there with another site: nobody is written to twice.
//
//   stepcast serve --config examples/agent/stepcast.toml
//   node examples/agent/agent.mjs [--approve] [--server URL] [--project ID] [--session ID]
//
// The server may be killed and started again at any moment: every call has a key of its own and is made until it is
// answered, and the stream goes on behind the last message that came. Started again with the same --session, the agent goes
// on with the same run. Where the server asks for a token, STEPCAST_TOKEN is one with the scopes run, subscribe and, to
// approve, approve. Nothing but Node 20 is needed, and no model: what one would decide is in `notice`.
import { randomUUID } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import { parseArgs } from 'node:util';

const USAGE = 'node examples/agent/agent.mjs [--approve] [--server URL] [--project ID] [--session ID]';
const options = readOptions();
const authorization = process.env.STEPCAST_TOKEN && { authorization: `Bearer ${process.env.STEPCAST_TOKEN}` };
const workflows = `/api/projects/${options.project}/workflows`;

/** How long a server that does not answer is left alone, in milliseconds. */
const PAUSE = 200;

/** How often the agent goes on from a failure before it gives up. */
const RETRIES_MAX = 5;

const PLAN = {
  name: 'Newsletter',
  description: 'Writes to all readers once someone has agreed, and publishes the issue',
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
            note: { type: 'string', maxLength: 1000, description: 'Is kept with the decision' },
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

/** The first change: the readers are to be checked before anyone is written to. */
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

/** Makes a call until it is answered. Twice the same key is one call: the second answer is the first. */
async function call(method, path, body, key) {
  for (let tries = 0; ; tries++) {
    try {
      const headers = { 'content-type': 'application/json', ...authorization, ...(key && { 'idempotency-key': key }) };
      const answer = await fetch(options.server + path, { method, headers, body: body && JSON.stringify(body) });
      const said = await answer.json();
      if (answer.status !== 429 && answer.status !== 503) return { status: answer.status, said };
    } catch {
      // Nobody answered, or only half of an answer came.
    }
    if (tries === 0) console.log(`${options.server} does not answer to ${method} ${path}; it is asked again`);
    await pause(PAUSE);
  }
}

/** The same, where only success will do. */
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

/** All messages of a run from its first to its last, each once, over however many connections. */
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
      // A connection that is lost is opened again; anything else is this program's own mistake.
      if (!['TypeError', 'AbortError'].includes(error.name)) throw error;
    }
    await pause(PAUSE);
  }
}

/** A run as its messages tell it. */
class Run {
  constructor(id) {
    Object.assign(this, { id, path: `${workflows}/${id}`, steps: new Map(), stream: messages(id) });
  }

  /** Takes messages until something is so, or the run has ended. */
  async until(isSo) {
    while (!this.end && !isSo()) {
      const { value, done } = await this.stream.next();
      if (done) break;
      this.take(value);
    }
  }

  take({ type, payload }) {
    if (type === 'workflow_progress') this.steps.set(payload.stepId, payload);
    if (type === 'workflow_progress' && payload.status === 'completed') console.log(`  ${payload.stepTitle}: ${payload.reused ? 'kept' : 'done'}`);
    if (type === 'workflow_plan_changed') console.log(`  the plan is at revision ${payload.revision}: ${payload.added.join()} added`);
    if (type === 'workflow_completed' || type === 'workflow_failed') this.end = { type, ...payload };
  }

  status(step) {
    return this.steps.get(step)?.status;
  }

  /** What a step has found out, once it has; undefined where the run ended before. */
  async output(step) {
    await this.until(() => this.status(step) === 'completed');
    return this.steps.get(step)?.output;
  }
}

const link = (run, step) => `${options.server}/#/p/${options.project}/r/${run.id}${step ? `/s/${step}` : ''}`;

/**
 * Adds `id` to the plan of a run that goes on. Where someone else has changed the plan meanwhile, it is read anew; where it is
 * too late, the plan stays as it is.
 */
async function change(run, id, what) {
  for (;;) {
    const { revision, steps } = await need('GET', run.path);
    // The answer to an earlier try may have been lost.
    if (steps.some((step) => step.id === id)) return;
    const { status, said } = await call('PATCH', `${run.path}/plan`, { expectedRevision: revision, ...what }, `${run.id}-${id}-${revision}`);
    if (status < 300) return;
    if (status !== 409) throw new Error(`the plan can't be changed: ${said.detail} ${JSON.stringify(said.issues ?? '')}`);
    const now = await need('GET', run.path);
    if (now.revision === revision) return console.log(`it is too late to add ${id}: ${said.detail}`);
  }
}

/** What is decided of a step that waits; someone else may have been faster. */
async function approve(run, step) {
  const { status, said } = await call('POST', `${run.path}/steps/${step}/decision`, { decision: 'approve', payload: { greeting: 'Hello' } }, `${run.id}-${step}`);
  if (status >= 300 && status !== 409) throw new Error(`it can't be approved: ${said.detail}`);
}

/** Where a model would think: it looks at what the first steps have found out, and changes the plan. */
async function notice(run) {
  const collected = await run.output('collect');
  if (collected) await change(run, 'check', check(collected));
  const checked = await run.output('check');
  if (checked?.doubtful > 0) await change(run, 'announce', announce(checked));
}

/**
 * A crash may have ended the announcement while it was made. Nobody knows whether everyone was told, so it is not made again:
 * the plan that goes on has a note in its place.
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
    console.log(`waits for your decision: ${link(run, 'ask')}`);
    if (options.approve) await approve(run, 'ask');
  }
  for (let retries = 1; ; retries++) {
    await run.until(() => false);
    if (run.end.type === 'workflow_completed') return console.log(`completed: ${link(run)}`);
    console.log(`failed: ${run.end.error}`);
    if (run.status('ask') === 'failed' || run.end.reason === 'cancelled' || retries > RETRIES_MAX) process.exit(1);
    const next = await need('POST', `${run.path}/retry`, { inputs: { site: 'secondary' }, ...(await withoutRepeats(run)) }, `${run.id}-retry`);
    run = new Run(next.runId);
    console.log(`goes on with another site: ${link(run)}`);
  }
}

await main();
