// The examples that need nothing but Node: node --test
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { test } from 'node:test';
import { PROGRAM, ROOT, Server, temporary, until } from './program.mjs';

const why = existsSync(PROGRAM) ? false : `there is no program at ${PROGRAM}: cargo build`;
if (why && process.env.CI) throw new Error(why);

test('eventsource.mjs survives a reconnect that nobody answered, and shows numbers as they were written', { skip: why, timeout: 60_000 }, async (t) => {
  const data = temporary();
  const flags = ['--auth', 'none', '--sse-retry', '100ms'];
  let server = await Server.start({ data, flags });
  const { port, origin } = server;
  const example = spawn(process.execPath, ['--experimental-eventsource', 'examples/eventsource.mjs', `${origin}/api/sse/projects/p`], { cwd: ROOT });
  t.after(() => example.kill());
  let out = '';
  let err = '';
  let status;
  example.stdout.on('data', (text) => { out += text; });
  example.stderr.on('data', (text) => { err += text; });
  example.on('exit', (code) => { status = code; });
  const says = async (text) => {
    await until(() => out.includes(text) || status !== undefined, text);
    assert.ok(out.includes(text), `it ended with ${status}: ${out}${err}`);
  };
  const publish = (n) => server.call('/api/projects/p/events', { body: `{"type": "note", "payload": {"n": ${n}, "m": 2.0}}` });
  await says('connected');
  await publish('9007199254740993');
  await says('note {"n":9007199254740993,"m":2.0}');
  await server.kill();
  // The first time the stream is lost, the second time nobody answers.
  await until(() => err.split('trying again').length > 2 || status !== undefined, 'a reconnect is refused');
  server = await Server.start({ data, port, flags });
  await publish(2);
  await says('note {"n":2,"m":2.0}');
  assert.equal(out.split('note ').length, 3, out);
  await server.kill('SIGTERM');
});
