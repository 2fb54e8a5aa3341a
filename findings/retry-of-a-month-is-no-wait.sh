#!/usr/bin/env bash
# `retry: 2592000000` asks a client to wait for 30 days. Clients that give the number to setTimeout as it is wait for one
# millisecond, since a timer of JavaScript has 31 bits: eventsource 4.1.1, undici 7.30.2, launchdarkly-eventsource 2.2.0,
# eventsource-client 1.2.0 and @microsoft/fetch-event-source 2.0.1 ask again at once, and go on to. With
# `retry: 2000000000`, which is 23 days, each of them waits.
#
# Seen, within 4 s: 10 requests of each client with the first number (the tenth is kept open), 1 with the second.
# Exits 0 while it is so, 1 once it is not, 2 where it can't be tried.
set -euo pipefail
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && cd "$dir"
npm init -y >/dev/null && npm install --silent --no-audit --no-fund eventsource@4.1.1 undici@7.30.2 \
  launchdarkly-eventsource@2.2.0 eventsource-client@1.2.0 @microsoft/fetch-event-source@2.0.1 >/dev/null || exit 2
cat > probe.mjs <<'JS'
import http from 'node:http';
import { EventSource } from 'eventsource';
import { EventSource as OfUndici } from 'undici';
import { EventSource as OfLaunchDarkly } from 'launchdarkly-eventsource';
import { createEventSource } from 'eventsource-client';
import { fetchEventSource } from '@microsoft/fetch-event-source';

const ENOUGH = 10;
const asked = {};
const server = http.createServer((request, response) => {
  const count = asked[request.url] = (asked[request.url] ?? 0) + 1;
  response.writeHead(200, { 'Content-Type': 'text/event-stream' });
  response.write(`retry: ${request.url.split('/')[2]}\ndata: a\n\n`);
  if (count < ENOUGH) response.end(); // else the stream stays open: enough is seen
}).listen(0, '127.0.0.1');
await new Promise((resolve) => server.on('listening', resolve));

// What fetch-event-source asks of a page.
globalThis.document = { hidden: false, addEventListener() {}, removeEventListener() {} };
globalThis.window = { setTimeout, clearTimeout, fetch };
process.on('warning', () => {});

const clients = {
  eventsource: (url) => new EventSource(url),
  undici: (url) => new OfUndici(url),
  'launchdarkly-eventsource': (url) => { new OfLaunchDarkly(url).onerror = () => {}; },
  'eventsource-client': (url) => createEventSource({ url }),
  'fetch-event-source': (url) => { fetchEventSource(url, { fetch, onclose() { throw new Error('ask again'); } }); },
};
const [month, days] = ['2592000000', '2000000000'];
for (const [name, open] of Object.entries(clients)) {
  for (const retry of [month, days]) open(`http://127.0.0.1:${server.address().port}/${name}/${retry}`);
}
await new Promise((resolve) => setTimeout(resolve, 4000));
let same = true;
for (const name of Object.keys(clients)) {
  const [first, second] = [month, days].map((retry) => asked[`/${name}/${retry}`]);
  console.log(`${name}: retry: ${month}: ${first} requests, retry: ${days}: ${second}`);
  same &&= first === ENOUGH && second === 1;
}
process.exit(same ? 0 : 1);
JS
node --no-warnings probe.mjs
