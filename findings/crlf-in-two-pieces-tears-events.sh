#!/usr/bin/env bash
# A line of an event stream may end with CR LF, and a network may deliver the CR in one piece and the LF in the next.
# extended-eventsource 2.1.0 (npm) takes the LF for a line end of its own, an empty line: one event with two lines of data
# becomes several, some of them empty, and its type is on an empty one. requests-sse 0.5.3 (PyPI, on requests 2.34.2) tears the
# event, too, and loses its type. eventsource 4.1.1 (npm) and httpx-sse 0.4.3 (PyPI) see the one event.
#
# Seen: `[["sum","1\n2"]]` by the last two; `[["sum",""],["message","1"],["message","2"],["message",""],["message",""]]` by
# extended-eventsource (pieces that the network joins are torn less), `[["message","1"],["message","2"]]` by requests-sse.
# Exits 0 while it is so, 1 once it is not, 2 where it can't be tried.
set -euo pipefail
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && cd "$dir"
npm init -y >/dev/null && npm install --silent --no-audit --no-fund extended-eventsource@2.1.0 eventsource@4.1.1 >/dev/null || exit 2
python3 -m venv v && v/bin/python -m pip install -q --disable-pip-version-check \
  requests==2.34.2 requests-sse==0.5.3 httpx==0.28.1 httpx-sse==0.4.3 || exit 2
cat > server.mjs <<'JS'
// Each piece is a chunk of its own, sent 100 ms behind the one before.
import { createServer } from 'node:http';
import { setTimeout as later } from 'node:timers/promises';

const PIECES = ['event: sum\r', '\ndata: 1\r', '\ndata: 2\r', '\n\r', '\n', 'event: end\ndata: -\n\n'];
const server = createServer(async (request, response) => {
  response.socket.setNoDelay(true);
  response.writeHead(200, { 'Content-Type': 'text/event-stream' });
  for (const piece of PIECES) {
    response.write(piece);
    await later(100);
  }
}).listen(0, '127.0.0.1', () => console.log(server.address().port));
JS
cat > probe.mjs <<'JS'
import { EventSource as Extended } from 'extended-eventsource';
import { EventSource } from 'eventsource';

console.info = console.warn = console.error = () => {};
for (const [name, Source] of Object.entries({ eventsource: EventSource, 'extended-eventsource': Extended })) {
  const source = new Source(process.argv[2]);
  const seen = [];
  await new Promise((resolve) => {
    for (const type of ['sum', 'message']) source.addEventListener(type, (event) => seen.push([type, event.data]));
    source.addEventListener('end', resolve);
  });
  source.close();
  console.log(`${name}: ${JSON.stringify(seen)}`);
}
process.exit(0);
JS
cat > probe.py <<'PYTHON'
import json
import sys

import httpx
import httpx_sse
import requests_sse


def by_httpx(url):
    with httpx.Client() as client, httpx_sse.connect_sse(client, "GET", url) as source:
        yield from ((event.event, event.data) for event in source.iter_sse())


def by_requests(url):
    with requests_sse.EventSource(url) as source:
        yield from ((event.type, event.data) for event in source)


for name, events in ("httpx-sse", by_httpx), ("requests-sse", by_requests):
    seen = []
    for type, data in events(sys.argv[1]):
        if data == "-":
            break
        seen.append([type, data])
    print(f"{name}: {json.dumps(seen, separators=(',', ':'))}", flush=True)
PYTHON
exec 3< <(exec node server.mjs)
server=$!
trap 'kill $server; rm -rf "$dir"' EXIT
read -r port <&3
{ timeout 60 node probe.mjs "http://127.0.0.1:$port/" && timeout 60 v/bin/python probe.py "http://127.0.0.1:$port/"; } > seen || { cat seen; exit 1; }
cat seen
one='[["sum","1\n2"]]'
[ "$(grep -cF ": $one" seen)" = 2 ] && ! grep -E '^(extended-eventsource|requests-sse): ' seen | grep -qF "$one"
