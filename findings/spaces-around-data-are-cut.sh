#!/usr/bin/env bash
# Of the value of a `data:` line a client takes away one space behind the colon, and no more. event-source-plus 0.1.15 (npm)
# cuts all spaces at both ends, and aiohttp-sse-client2 0.3.0 (PyPI) those at the beginning. So a stream of words, as
# language models send them, comes out without the spaces between. eventsource 4.1.1 (npm) and httpx-sse 0.4.3 (PyPI) keep them.
#
# Seen: `one two three` by the last two, `onetwothree` by event-source-plus, `one twothree` by aiohttp-sse-client2.
# Exits 0 while it is so, 1 once it is not, 2 where it can't be tried.
set -euo pipefail
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && cd "$dir"
npm init -y >/dev/null && npm install --silent --no-audit --no-fund event-source-plus@0.1.15 eventsource@4.1.1 >/dev/null || exit 2
python3 -m venv v && v/bin/python -m pip install -q --disable-pip-version-check \
  aiohttp-sse-client2==0.3.0 httpx==0.28.1 httpx-sse==0.4.3 || exit 2
cat > server.mjs <<'JS'
import { createServer } from 'node:http';

const server = createServer((request, response) => {
  response.writeHead(200, { 'Content-Type': 'text/event-stream' });
  response.write('data: one \n\ndata: two\n\ndata:  three\n\ndata: .\n\n');
}).listen(0, '127.0.0.1', () => console.log(server.address().port));
JS
cat > probe.mjs <<'JS'
import { EventSourcePlus } from 'event-source-plus';
import { EventSource } from 'eventsource';

const url = process.argv[2];
const clients = {
  eventsource: (take) => { new EventSource(url).onmessage = take; },
  'event-source-plus': (take) => { new EventSourcePlus(url).listen({ onMessage: take }); },
};
for (const [name, open] of Object.entries(clients)) {
  let text = '';
  await new Promise((resolve) => open(({ data }) => (data === '.' ? resolve() : text += data)));
  console.log(`${name}: ${text}`);
}
process.exit(0);
JS
cat > probe.py <<'PYTHON'
import asyncio
import sys

import httpx
import httpx_sse
from aiohttp_sse_client2.client import EventSource

url = sys.argv[1]


async def by_httpx(take):
    async with httpx.AsyncClient() as client, httpx_sse.aconnect_sse(client, "GET", url) as source:
        async for event in source.aiter_sse():
            if not take(event.data):
                return


async def by_aiohttp(take):
    async with EventSource(url) as source:
        async for event in source:
            if not take(event.data):
                return


for name, client in ("httpx-sse", by_httpx), ("aiohttp-sse-client2", by_aiohttp):
    words = []
    asyncio.run(client(lambda data: data != "." and (words.append(data) or True)))
    print(f"{name}: {''.join(words)}")
PYTHON
exec 3< <(exec node server.mjs)
server=$!
trap 'kill $server; rm -rf "$dir"' EXIT
read -r port <&3
{ timeout 60 node probe.mjs "http://127.0.0.1:$port/" && timeout 60 v/bin/python probe.py "http://127.0.0.1:$port/"; } > seen || { cat seen; exit 1; }
cat seen
diff -q seen - >/dev/null <<'SEEN' || exit 1
eventsource: one two three
event-source-plus: onetwothree
httpx-sse: one two three
aiohttp-sse-client2: one twothree
SEEN
