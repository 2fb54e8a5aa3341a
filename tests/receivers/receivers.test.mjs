// What the libraries that receivers use make of events and webhooks, as they are.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { copyFileSync, existsSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { CloudEvent, HTTP } from 'cloudevents';
import { Webhook } from 'standardwebhooks';
import { PROGRAM, ROOT, Server, temporary, until } from '../browser/program.mjs';

const SECRET = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw';
const OTHER = 'whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA';
const retryPolicy = { maxRetries: 1, initialDelay: 1 };
const PLAN = {
  name: 'all of it', onFailure: 'continue',
  steps: [
    { id: 'fine', tool: 'echo', inputs: { text: 'ä\u2028"' } },
    { id: 'bad', tool: 'fail', inputs: { message: 'no luck' }, retryPolicy },
    { id: 'after', tool: 'echo', inputs: {}, dependencies: ['bad'] },
  ],
};

test('there is a program', () => assert.ok(existsSync(PROGRAM), `there is no program at ${PROGRAM}: cargo build`));

/** A server that has one webhook, which ends with the test. */
async function serve(t, url, secret = JSON.stringify(SECRET)) {
  const config = path.join(temporary(), 'stepcast.toml');
  writeFileSync(config, `[[webhooks]]\nname = "w"\nurl = "${url}"\nsecret = ${secret}\n`);
  const server = await Server.start({ config });
  t.after(() => server.kill());
  return server;
}

/** Plays a receiver: what came, as it came. */
async function receive(t) {
  const got = [];
  const server = createServer(async (request, response) => {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    got.push({ headers: request.headers, body: Buffer.concat(chunks).toString() });
    response.writeHead(204).end();
  }).listen(0, '127.0.0.1');
  await new Promise((resolve) => server.on('listening', resolve));
  t.after(() => server.close());
  return { got, url: `http://127.0.0.1:${server.address().port}/hook` };
}

function assertValid(event) {
  assert.ok(event instanceof CloudEvent);
  assert.equal(event.validate(), true, event.toString());
}

test('every event of a run is a CloudEvent', async (t) => {
  const server = await serve(t, 'http://127.0.0.1:9/');
  const { runId } = await server.submit('p', PLAN);
  await server.end('p', runId);
  const events = `/api/projects/p/workflows/${runId}/events`;
  const messages = (await server.call(events)).events;
  const answer = await fetch(server.origin + events, { headers: { accept: 'application/cloudevents-batch+json' } });
  const batch = HTTP.toEvent({ headers: Object.fromEntries(answer.headers), body: await answer.text() });
  assert.equal(batch.length, messages.length);
  const sequences = batch.map((event) => event.sequence);
  assert.deepEqual(sequences, [...sequences].sort(), 'the order of the texts is that of the messages');
  for (const [index, event] of batch.entries()) {
    assertValid(event);
    const { id, payload } = messages[index];
    assert.deepEqual([event.id, event.data, event.source], [id, payload, `/projects/p/runs/${runId}`]);
    assert.equal(event.subject, payload.stepId);
  }
});

test('a webhook is taken by who checks its signature', async (t) => {
  const receiver = await receive(t);
  const server = await serve(t, receiver.url, JSON.stringify([OTHER, SECRET]));
  const { runId } = await server.submit('p', PLAN);
  await until(() => receiver.got.length === 1, 'the event has come');
  const { headers, body } = receiver.got[0];
  for (const secret of [SECRET, OTHER]) assert.equal(new Webhook(secret).verify(body, headers).data.runId, runId);
  assert.throws(() => new Webhook('whsec_BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB').verify(body, headers));
  assert.throws(() => new Webhook(SECRET).verify(body.replace('no luck', 'luck'), headers));
  const event = HTTP.toEvent({ headers, body });
  assertValid(event);
  assert.deepEqual([event.type, event.id], ['io.serverlessworkflow.workflow.faulted.v1', headers['webhook-id']]);
});

test('the example receiver takes what is sent, each once', async (t) => {
  // Next to what it needs.
  const example = fileURLToPath(new URL('.receiver.mjs', import.meta.url));
  copyFileSync(path.join(ROOT, 'examples/webhooks/receiver.mjs'), example);
  const receiver = spawn(process.execPath, [example], { env: { ...process.env, WEBHOOK_SECRET: SECRET, PORT: '0' } });
  t.after(() => receiver.kill());
  let said = '';
  receiver.stdout.on('data', (text) => { said += text; });
  await until(() => said.includes('listening on'), 'it listens');
  const url = `http://127.0.0.1:${/listening on (\d+)/.exec(said)[1]}/`;
  const forged = await fetch(url, { method: 'POST', body: '{}', headers: { 'webhook-id': 'x', 'webhook-timestamp': '1', 'webhook-signature': 'v1,x' } });
  assert.equal(forged.status, 401);
  const server = await serve(t, url);
  const { runId } = await server.submit('p', PLAN);
  await until(() => said.includes('faulted'), 'the event is told');
  assert.match(said, new RegExp(`^io\\.serverlessworkflow\\.workflow\\.faulted\\.v1 ${runId} `, 'm'));
});
