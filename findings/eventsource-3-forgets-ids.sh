#!/usr/bin/env bash
# By the standard the last id stays until another one comes: an event without `id:` has the id of the one before as its
# `lastEventId`, and an `id:` in a block without data counts when the client reconnects. eventsource 3.0.7 gives such an event
# an empty `lastEventId`, and reconnects with the id before the one in the block without data; launchdarkly-eventsource 2.2.0
# and eventsource-client 1.2.0 do the latter, too. eventsource 5.1.5 does neither.
#
# Exits 0 while it is so, 1 once it is not, 2 where it can't be tried.
set -euo pipefail
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && cd "$dir"
npm init -y >/dev/null && npm install --silent --no-audit --no-fund launchdarkly-eventsource@2.2.0 eventsource-client@1.2.0 \
  eventsource3@npm:eventsource@3.0.7 eventsource5@npm:eventsource@5.1.5 >/dev/null 2>&1 || exit 2
cat > probe.mjs <<'END'
import http from 'node:http';
import { createRequire } from 'node:module';
import { createEventSource } from 'eventsource-client';
import { EventSource as EventSource3 } from 'eventsource3';
import { EventSource as EventSource5 } from 'eventsource5';

const { EventSource: LaunchDarkly } = createRequire(import.meta.url)('launchdarkly-eventsource');
let reconnected;
const server = http.createServer((request, response) => {
  const last = request.headers['last-event-id'];
  if (last) reconnected(last);
  response.writeHead(last ? 204 : 200, { 'Content-Type': 'text/event-stream' });
  response.end(last ? undefined : 'retry: 100\nid: 1\ndata: a\n\ndata: b\n\nid: 2\n\n');
}).listen(0, '127.0.0.1');
await new Promise((resolve) => server.on('listening', resolve));
const url = `http://127.0.0.1:${server.address().port}/`;

const eventSource = (EventSource) => (see) => {
  const source = new EventSource(url);
  source.onmessage = ({ data, lastEventId }) => see(data, lastEventId);
  source.onerror = () => {};
  return source;
};
const clients = {
  'eventsource 3': [eventSource(EventSource3), '', '1'],
  'eventsource 5': [eventSource(EventSource5), '1', '2'],
  'launchdarkly-eventsource': [eventSource(LaunchDarkly), '1', '1'],
  // It has no lastEventId of this kind, only the event's own id.
  'eventsource-client': [(see) => createEventSource({ url, onMessage: ({ data, id }) => see(data, id) }), undefined, '1'],
};
let changed = false;
for (const [name, [follow, expectedOfB, expectedLast]] of Object.entries(clients)) {
  let ofB;
  let source;
  const last = await new Promise((resolve) => {
    reconnected = resolve;
    source = follow((data, id) => { if (data === 'b') ofB = id; });
  });
  source.close();
  console.log(`${name}: the event without an id has lastEventId ${JSON.stringify(ofB)}; reconnects with Last-Event-ID ${last}, after id 2`);
  changed ||= ofB !== expectedOfB || last !== expectedLast;
}
process.exit(changed ? 1 : 0);
END
node probe.mjs
