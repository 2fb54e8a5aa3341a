// Runs of every kind: plans, and the tools and the backend that they call. Knows no format.
import { writeFileSync } from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { temporary, until } from '../browser/program.mjs';

const step = (id, tool, more = {}) => ({ id, tool, inputs: {}, ...more });
/** Its inputs come back, a little later. */
const echo = (id, inputs, more = {}) => step(id, 'slow-echo', { inputs, ...more });
const after = (...dependencies) => ({ dependencies });

/** What is said with pauses between the words: the live output of a step. */
const say = (id, text, more = {}) => step(id, 'say', { inputs: { text }, ...more });

/** Behind how many blocks streams are cut. */
const CUTS = [...Array.from({ length: 14 }, (_, at) => at + 1), 17, 20, 24, 30, 38, 50, 65, 85];

/** A plan for each way a run can take, what status it ends with, what is done to it meanwhile, and where its streams are cut. */
export const GOLDEN = {
  success: {
    status: 'completed',
    plan: {
      steps: [
        echo('fetch', { url: 'https://example.com/a', apiKey: 'k-1', n: 1.5 }, { title: 'Fetch the page', description: 'All of it' }),
        echo('other', { list: [null, true, '😀 \u2028 end'] }),
        echo('join', { left: '{{ steps.fetch.output.url }}' }, after('fetch', 'other')),
      ],
    },
  },
  'streamed text': {
    status: 'completed',
    plan: {
      steps: [
        say('one', 'The quick brown fox jumps over the lazy dog'),
        say('two', 'Ünïcödé and 😀 and\nnew lines'),
        step('print', 'print', { inputs: { lines: 3 } }),
        say('three', 'The end', after('one', 'two')),
      ],
    },
  },
  failure: {
    status: 'failed',
    plan: { steps: [say('talk', 'going to fail'), step('break', 'fail', { inputs: { message: 'it broke' }, ...after('talk') }), echo('later', {}, after('break'))] },
  },
  cancel: {
    status: 'cancelled',
    plan: { steps: [say('talk', 'word '.repeat(200)), step('wait', 'sleep', { inputs: { seconds: 30 } }), echo('later', {}, after('talk'))] },
    async meanwhile(server, project, runId) {
      await until(async () => (await events(server, project, runId)).filter(({ type }) => type === 'workflow_step_output').length > 2, 'it talks');
      await server.call(`/api/projects/${project}/workflows/${runId}/cancel`, { method: 'POST' });
    },
  },
  retries: {
    status: 'completed',
    plan: { steps: [step('flaky', 'flaky', { inputs: { until: 3 }, retryPolicy: { maxRetries: 3, initialDelay: 1 } }), echo('later', {}, after('flaky'))] },
  },
  'retries that fail': {
    status: 'failed',
    plan: { onFailure: 'continue', steps: [step('flaky', 'flaky', { inputs: { until: 9 }, retryPolicy: { maxRetries: 1, initialDelay: 1 } }), echo('other', {}), echo('later', {}, after('flaky'))] },
  },
  conditions: {
    status: 'completed',
    plan: {
      steps: [
        echo('start', { go: false }),
        echo('never', {}, { ...after('start'), conditional: 'steps.start.output.go' }),
        step('broken', 'fail', { inputs: { message: 'no matter' }, continueOnFailure: true, ...after('start') }),
        echo('end', { x: 1 }, after('never', 'broken')),
      ],
    },
  },
  'a hundred steps': {
    status: 'completed',
    cuts: [1, 4, 20, 77, 150],
    plan: { steps: Array.from({ length: 100 }, (_, at) => step(`s${at}`, 'delay', { inputs: { ms: 20 }, ...(at < 20 ? {} : after(`s${at - 20}`)) })) },
  },
  'large outputs': {
    status: 'completed',
    plan: { steps: [echo('some', { text: 'x'.repeat(10_000) }), step('much', 'much', after('some')), echo('nothing', {}, { inputs: {}, ...after('some') })] },
  },
  timeout: {
    status: 'failed',
    plan: { timeout: 300, steps: [say('talk', 'word '.repeat(200)), echo('later', {}, after('talk'))] },
  },
};
for (const [name, golden] of Object.entries(GOLDEN)) {
  golden.plan.name = name;
  golden.cuts ??= CUTS;
}

/** The plan, begun by a step that waits until the toolbox opens this gate. */
export function gated(plan, gate) {
  const steps = plan.steps.map((one) => (one.dependencies ? one : { ...one, dependencies: ['gate'] }));
  return { ...plan, steps: [step('gate', 'gate', { inputs: { gate } }), ...steps] };
}

/** A run's messages, as they are kept. */
export async function events(server, project, runId) {
  const all = [];
  for (let after = ''; ;) {
    const page = await server.call(`/api/projects/${project}/workflows/${runId}/events?limit=1000${after && `&after=${after}`}`);
    all.push(...page.events);
    if (!page.next) return all;
    after = page.next;
  }
}

/** A configuration with the tools, and the backend that they ask, which ends with the test. */
export async function toolbox(t) {
  const gates = new Map();
  const gate = (name) => {
    if (!gates.has(name)) gates.set(name, Promise.withResolvers ? Promise.withResolvers() : resolvers());
    return gates.get(name);
  };
  const backend = http.createServer((request, response) => answer(request, response, gate)).listen(0, '127.0.0.1');
  await new Promise((resolve) => backend.on('listening', resolve));
  t.after(() => {
    backend.close();
    backend.closeAllConnections();
  });
  const config = path.join(temporary(), 'stepcast.toml');
  writeFileSync(config, tools(backend.address().port));
  return { config, open: (name) => gate(name).resolve() };
}

function resolvers() {
  const made = {};
  made.promise = new Promise((resolve, reject) => Object.assign(made, { resolve, reject }));
  return made;
}

const tools = (port) => `
[tools.say]
kind = "http"
method = "POST"
url = "http://127.0.0.1:${port}/say"
stream_text = "event.word"
usage = "event.usage"

[tools.slow-echo]
kind = "http"
method = "POST"
url = "http://127.0.0.1:${port}/echo"

[tools.gate]
kind = "http"
method = "POST"
url = "http://127.0.0.1:${port}/gate"

[tools.print]
kind = "command"
argv = ["sh", "-c", 'i=0; while [ $i -lt "$1" ]; do i=$((i + 1)); echo "line $i"; echo "note $i" >&2; sleep 0.05; done', "print", "{{ inputs.lines }}"]

[tools.flaky]
kind = "command"
argv = ["sh", "-c", 'echo "attempt $STEPCAST_ATTEMPT"; [ "$STEPCAST_ATTEMPT" -ge "$1" ] || { echo "not yet" >&2; exit 1; }', "flaky", "{{ inputs.until }}"]

[tools.sleep]
kind = "command"
argv = ["sleep", "{{ inputs.seconds }}"]

[tools.much]
kind = "command"
argv = ["awk", 'BEGIN { for (i = 1; i <= 4000; i++) printf "line %05d of much\\n", i }']
`;

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function answer(request, response, gate) {
  let body = '';
  for await (const piece of request.setEncoding('utf8')) body += piece;
  const inputs = JSON.parse(body);
  if (request.url === '/say') return stream(inputs.text, response);
  await (request.url === '/gate' ? gate(inputs.gate).promise : pause(20));
  response.writeHead(200, { 'content-type': 'application/json' }).end(body);
}

/** Word by word, as language models do; what they used comes last. */
async function stream(text, response) {
  response.writeHead(200, { 'content-type': 'text/event-stream' });
  const words = text.split(/(?<= )/);
  for (const word of words) {
    if (response.destroyed) return;
    response.write(`data: ${JSON.stringify({ word })}\n\n`);
    await pause(20);
  }
  const usage = { prompt_tokens: 3, completion_tokens: words.length, total_tokens: 3 + words.length };
  response.end(`data: ${JSON.stringify({ model: 'm', usage })}\n\ndata: [DONE]\n\n`);
}
