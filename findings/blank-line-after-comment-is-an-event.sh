#!/usr/bin/env bash
# A heartbeat of a comment and a blank line (":\n\n") is valid and says nothing: a block without data dispatches no event.
# httpx-sse 0.4.3 (once an id was seen), @microsoft/fetch-event-source 2.0.1 and extended-eventsource 2.1.0 yield an event
# with empty data for each. A heartbeat of the comment alone (":\n") yields none with any of them.
#
# Exits 0 while it is so, 1 once it is not, 2 where it can't be tried.
set -euo pipefail
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && cd "$dir"
npm init -y >/dev/null && npm install --silent --no-audit --no-fund \
  @microsoft/fetch-event-source@2.0.1 extended-eventsource@2.1.0 >/dev/null || exit 2
python3 -m venv v && v/bin/python -m pip install -q --disable-pip-version-check httpx==0.28.1 httpx-sse==0.4.3 || exit 2
cat > probe.py <<'END'
import sys
import httpx, httpx_sse
with httpx.Client() as client, httpx_sse.connect_sse(client, "GET", sys.argv[1]) as source:
    print("\n".join(event.data or "(empty)" for event in source.iter_sse()))
END
cat > probe.mjs <<'END'
import { execFile } from 'node:child_process';
import http from 'node:http';
import { promisify } from 'node:util';
import fetchEventSource from '@microsoft/fetch-event-source';
import { EventSource } from 'extended-eventsource';

globalThis.window = globalThis;
globalThis.document = { addEventListener() {}, removeEventListener() {} };
const print = console.log;
console.log = console.info = console.warn = console.error = () => {}; // extended-eventsource tells there that a stream has ended

const server = http.createServer((request, response) => {
  response.writeHead(200, { 'Content-Type': 'text/event-stream' });
  const heartbeat = request.url === '/two' ? ':\n\n' : ':\n';
  response.end(`id: 1\ndata: a\n\n${heartbeat}${heartbeat}id: 2\ndata: b\n\n`);
}).listen(0, '127.0.0.1');
await new Promise((resolve) => server.on('listening', resolve));

const clients = {
  'httpx-sse': async (url) => (await promisify(execFile)('v/bin/python', ['probe.py', url])).stdout.trim().split('\n'),
  'fetch-event-source': async (url) => {
    const events = [];
    await fetchEventSource.fetchEventSource(url, { openWhenHidden: true, onmessage: ({ data }) => events.push(data || '(empty)') });
    return events;
  },
  'extended-eventsource': (url) => new Promise((resolve) => {
    const events = [];
    const source = new EventSource(url);
    source.onmessage = ({ data }) => events.push(data || '(empty)');
    source.onerror = () => { source.close(); resolve(events); };
  }),
};
let changed = false;
for (const [name, events] of Object.entries(clients)) {
  for (const [path, expected] of [['two', 'a (empty) (empty) b'], ['one', 'a b']]) {
    const seen = (await events(`http://127.0.0.1:${server.address().port}/${path}`)).join(' ');
    print(`${name}, heartbeats of ${path} line${path === 'two' ? 's' : ''}: ${seen}`);
    changed ||= seen !== expected;
  }
}
process.exit(changed ? 1 : 0);
END
node probe.mjs
