#!/usr/bin/env bash
# A stream that has nothing more to say is answered 204 when its client reconnects: an EventSource then stops (HTML, "server-sent
# events"). Around one that has stopped, reconnecting-eventsource 1.6.5 (npm) makes a new one, and asks again every few
# seconds without end; event-source-plus 0.1.15 (npm) goes on, too. eventsource 4.1.1 (npm) stops. requests-sse 0.5.3 and
# aiohttp-sse-client2 0.3.0 (PyPI) stop with an error: "wrong response status: 204".
#
# Seen: eventsource asks twice, the two others four times and go on.
# Exits 0 while it is so, 1 once it is not, 2 where it can't be tried.
set -euo pipefail
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && cd "$dir"
npm init -y >/dev/null && npm install --silent --no-audit --no-fund \
  eventsource@4.1.1 reconnecting-eventsource@1.6.5 event-source-plus@0.1.15 >/dev/null || exit 2
python3 -m venv v && v/bin/python -m pip install -q --disable-pip-version-check \
  requests==2.34.2 requests-sse==0.5.3 aiohttp==3.14.5 aiohttp-sse-client2==0.3.0 || exit 2
cat > server.mjs <<'JS'
// One event for the first request of each path, and 204 for the others. `/count/x` says how many `/x` has had.
import { createServer } from 'node:http';

const requests = new Map();
const server = createServer((request, response) => {
  const path = request.url.split('?')[0];
  const asked = /^\/count(.*)/.exec(path);
  if (asked) return response.end(`${requests.get(asked[1]) ?? 0}`);
  requests.set(path, (requests.get(path) ?? 0) + 1);
  if (requests.get(path) > 1) return response.writeHead(204).end();
  response.writeHead(200, { 'Content-Type': 'text/event-stream' }).end('retry: 300\nid: 1\ndata: done\n\n');
}).listen(0, '127.0.0.1', () => console.log(server.address().port));
JS
cat > probe.mjs <<'JS'
import { EventSource } from 'eventsource';
import { EventSourcePlus } from 'event-source-plus';
import { createRequire } from 'node:module';
import { setTimeout as later } from 'node:timers/promises';

globalThis.EventSource = EventSource; // what it reconnects
const { default: Reconnecting } = createRequire(import.meta.url)('reconnecting-eventsource');
const base = process.argv[2];
const count = async (name) => Number(await (await fetch(`${base}/count/${name}`)).text());
const kinds = {
  eventsource: (url) => new EventSource(url),
  'reconnecting-eventsource': (url) => new Reconnecting(url),
  'event-source-plus': (url) => new EventSourcePlus(url).listen({ onMessage() {} }),
};
for (const [name, make] of Object.entries(kinds)) {
  make(`${base}/${name}`);
  // Those that stop are given as long as it takes for the others to ask four times, and twice as long.
  for (let left = 200; left > 0 && await count(name) < 4; left -= 1) await later(100);
  const asked = await count(name);
  console.log(`${name}: ${asked < 4 ? `stops after ${asked} requests` : 'goes on after 4 requests'}`);
}
process.exit(0);
JS
cat > probe.py <<'PYTHON'
import asyncio
import logging
import sys

import requests_sse
from aiohttp_sse_client2 import client

logging.disable()


def by_requests(url):
    with requests_sse.EventSource(url) as source:
        for _ in source:
            pass


async def by_aiohttp(url):
    async with client.EventSource(url) as source:
        async for _ in source:
            pass


for name, follow in {"requests-sse": by_requests, "aiohttp-sse-client2": lambda url: asyncio.run(by_aiohttp(url))}.items():
    try:
        follow(f"{sys.argv[1]}/{name}")
        print(f"{name}: stops")
    except Exception as error:
        print(f"{name}: {type(error).__name__}, {'204' if '204' in str(error) else error}")
PYTHON
exec 3< <(exec node server.mjs)
server=$!
trap 'kill $server; rm -rf "$dir"' EXIT
read -r port <&3
base="http://127.0.0.1:$port"
{ timeout 120 node probe.mjs "$base" && timeout 60 v/bin/python probe.py "$base"; } > seen || { cat seen; exit 1; }
cat seen
diff -q seen - >/dev/null <<'SEEN' || exit 1
eventsource: stops after 2 requests
reconnecting-eventsource: goes on after 4 requests
event-source-plus: goes on after 4 requests
requests-sse: InvalidStatusCodeError, 204
aiohttp-sse-client2: ConnectionAbortedError, 204
SEEN
