// What a stream is to the clients that people use, as they are: no test here knows what is sent, only what a client tells.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CLIENTS, Client, Server, WAYS, address, each, missing, publish, tap, temporary } from './world.mjs';

const SILENT = ['--auth', 'none', '--sse-heartbeat', '1h'];
const BACK_SOON = [...SILENT, '--sse-retry', '150ms'];

test('all that is needed is there', (t) => {
  const lacks = missing();
  if (process.env.CI) assert.deepEqual(lacks, []);
  else if (lacks.length > 0) t.skip(lacks.join('; '));
});

/** A server that ends with the test. */
async function serve(t, flags, options = {}) {
  const server = await Server.start({ flags, ...options });
  t.after(() => server.kill());
  return server;
}

/** Every client, following; each is on the stream when this returns. */
async function follow(t, url, names = CLIENTS) {
  const clients = names.map((name) => new Client(t, name, url));
  await each(clients, 'it is connected', (client) => client.has('connected'));
  return clients;
}

for (const way of WAYS) {
  test(`the last event before a silence is not held back, ${way}`, async (t) => {
    const server = await serve(t, SILENT);
    const clients = await follow(t, await address(t, server, way));
    const notes = ['a', 'b'.repeat(500), 'ä'.repeat(4_000), 'd'.repeat(100_000), 'e\u2028f\u0085g'];
    for (const [count, note] of notes.entries()) {
      await publish(server, note);
      await each(clients, `note ${count + 1} of ${note.length} characters is there`, (client) => client.notes.length > count);
    }
    for (const client of clients) assert.deepEqual(client.notes, notes, client.name);
  });

  test(`heartbeats are no events, ${way}`, async (t) => {
    const server = await serve(t, ['--auth', 'none', '--sse-heartbeat', '50ms']);
    const url = await address(t, server, way);
    const taps = await Promise.all(CLIENTS.map(() => tap(t, url)));
    const clients = CLIENTS.map((name, index) => new Client(t, name, taps[index].url));
    const heartbeats = (client) => taps[clients.indexOf(client)].sent.match(/^:.*$/gm)?.length ?? 0;
    await each(clients, 'it has been sent heartbeats', (client) => heartbeats(client) >= 5);
    await publish(server, 'a');
    await each(clients, 'the note is there', (client) => client.notes.length === 1);
    const empty = clients.map(({ name, messages }) => [name, messages.filter((message) => message === null).length]);
    assert.deepEqual(empty.filter(([, count]) => count > 0), [], 'events made of nothing, by client');
    for (const { name, messages } of clients) assert.deepEqual(messages.map(({ type }) => type), ['connected', 'note'], name);
  });

  test(`over restarts each message comes once and in order, ${way}`, async (t) => {
    const data = temporary();
    let server = await serve(t, BACK_SOON, { data });
    const clients = await follow(t, await address(t, server, way));
    for (const [signal, ...notes] of [['SIGTERM', 'a', 'b'], ['SIGKILL', 'c', 'd']]) {
      await publish(server, ...notes);
      await each(clients, 'the notes are there', (client) => client.notes.at(-1) === notes.at(-1));
      // Each finds its stream ended, and then nobody there.
      const before = new Map(clients.map((client) => [client, client.all('over').length]));
      await server.kill(signal);
      await each(clients, 'it has tried in vain', (client) => client.all('over').length >= before.get(client) + 2);
      server = await serve(t, BACK_SOON, { data, port: server.port });
      await publish(server, `after ${signal}`);
      await each(clients, 'it is back', (client) => client.notes.at(-1) === `after ${signal}`);
    }
    await publish(server, 'e');
    await each(clients, 'the last note is there', (client) => client.notes.at(-1) === 'e');
    for (const client of clients) {
      assert.deepEqual(client.notes, ['a', 'b', 'after SIGTERM', 'c', 'd', 'after SIGKILL', 'e'], client.name);
      assert.ok(!client.has('stream_reset'), client.name);
    }
  });

  test(`the stream of one run ends for good, ${way}`, async (t) => {
    const server = await serve(t, BACK_SOON);
    const { runId } = await server.submit('p', { name: 'n', steps: [{ id: 'a', tool: 'echo', inputs: {} }] });
    const url = await address(t, server, way, `/api/sse/projects/p?runId=${runId}`);
    const clients = CLIENTS.map((name) => new Client(t, name, url));
    // It comes back once, with the last id, and is told that there is no more.
    await each(clients, 'it has ended', (client) => client.all('end').length === 1);
    for (const client of clients) {
      const types = client.messages.map((message) => message?.type);
      assert.deepEqual([types[0], types.at(-1)], ['connected', 'workflow_completed'], client.name);
      assert.equal(types.filter((type) => type === 'workflow_started').length, 1, client.name);
      assert.equal(client.all('end')[0].status, 204, client.name);
      assert.ok(client.all('over').every(({ clean }) => clean !== false), `${client.said}: an end that the server means is no error`);
    }
  });
}

test('a client comes back after the time that it was told', async (t) => {
  // These make nothing of it: `requests` and curl leave it to who uses them.
  const names = CLIENTS.filter((name) => !['requests', 'curl'].includes(name));
  const data = temporary();
  let server = await serve(t, BACK_SOON, { data });
  const taps = await Promise.all(names.map(() => tap(t, `${server.origin}/api/sse/projects/p`)));
  const clients = names.map((name, index) => new Client(t, name, taps[index].url));
  // On every connection: requests-sse forgets it with each.
  for (const round of ['first', 'second']) {
    await each(clients, `it is connected for the ${round} time`, (client) => client.messages.filter((message) => message?.type === 'connected').length === (round === 'first' ? 1 : 2));
    const before = clients.map((client) => client.all('wait').length);
    await server.kill('SIGTERM');
    // What it was told last, and by how much it takes that times.
    const told = taps.map(({ sent }) => Number(sent.match(/^retry: ?(\d+)$/gm).at(-1).match(/\d+/)[0]));
    const factor = (name) => (name === 'requests-sse' ? 2 : 1);
    await each(clients, 'it waits as long as it was told', (client) => {
      const index = clients.indexOf(client);
      return client.all('wait').slice(before[index]).some(({ ms }) => ms === told[index] * factor(client.name));
    });
    server = await serve(t, BACK_SOON, { data, port: server.port });
  }
});

test('a client that does not take 204 for an end costs an answer each time', async (t) => {
  const server = await serve(t, SILENT);
  const { runId } = await server.submit('p', { name: 'n', steps: [{ id: 'a', tool: 'echo', inputs: {} }] });
  const stream = `${server.origin}/api/sse/projects/p?runId=${runId}`;
  const first = new Client(t, 'fetch-event-source alone', stream);
  await each([first], 'it takes the end for the end', (client) => client.all('end').length === 1);
  const last = first.all('event').at(-1).id;
  const late = new Client(t, 'fetch-event-source alone', `${stream}&lastEventId=${last}`);
  await each([late], 'it has asked three times', (client) => client.all('over').length >= 3);
  assert.deepEqual([late.messages, late.all('end'), await server.metric('stepcast_streams')], [[], [], 0]);
});

test('a server that is busy ends nobody', async (t) => {
  const server = await serve(t, [...BACK_SOON, '--limits-connections', '2']);
  const holding = new AbortController();
  const held = await Promise.all([1, 2].map(() => fetch(`${server.origin}/api/sse/projects/p`, { signal: holding.signal })));
  assert.deepEqual(held.map(({ status }) => status), [200, 200]);
  for (const name of CLIENTS) {
    const client = new Client(t, name, `${server.origin}/api/sse/projects/p`);
    await each([client], 'it has been put off', () => client.messages.some((message) => message?.payload.reason === 'busy'));
    await each([client], 'it will come back', () => client.all('over').length >= 1);
    assert.equal(client.all('end').length, 0, client.said);
  }
  holding.abort();
});

test('a server that lost its data says so, and each goes on from there', async (t) => {
  let server = await serve(t, BACK_SOON);
  const clients = await follow(t, `${server.origin}/api/sse/projects/p`);
  await publish(server, 'a');
  await each(clients, 'the note is there', (client) => client.notes.length === 1);
  await server.kill();
  const data = temporary();
  server = await serve(t, BACK_SOON, { data, port: server.port });
  await each(clients, 'it is told', (client) => client.has('stream_reset'));
  // It is on the new server's stream now, and comes back to it without another reset.
  await publish(server, 'b');
  await each(clients, 'the note is there', (client) => client.notes.length === 2);
  await server.kill();
  server = await serve(t, BACK_SOON, { data, port: server.port });
  await publish(server, 'c');
  await each(clients, 'it is back', (client) => client.notes.length === 3);
  for (const client of clients) {
    assert.deepEqual(client.notes, ['a', 'b', 'c'], client.name);
    const resets = client.messages.filter((message) => message?.type === 'stream_reset');
    assert.deepEqual(resets.map(({ payload }) => payload.reason), ['unknown_id'], client.name);
  }
});
