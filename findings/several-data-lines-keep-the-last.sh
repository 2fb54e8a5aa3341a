#!/usr/bin/env bash
# An event may have several `data:` lines: its data is all of them, joined by line feeds. event-source-plus 0.1.15 and
# @sentool/fetch-event-source 0.6.0 keep the last line only and say nothing; eventsource-parser 4.1.3 joins them.
#
# Exits 0 while it is so, 1 once it is not, 2 where it can't be tried.
set -euo pipefail
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && cd "$dir"
npm init -y >/dev/null && npm install --silent --no-audit --no-fund \
  event-source-plus@0.1.15 @sentool/fetch-event-source@0.6.0 eventsource-parser@4.1.3 >/dev/null || exit 2
cat > probe.mjs <<'END'
import http from 'node:http';
import { createRequire } from 'node:module';
import { EventSourcePlus } from 'event-source-plus';
import { createParser } from 'eventsource-parser';

const { fetchEventSource } = createRequire(import.meta.url)('@sentool/fetch-event-source');
const STREAM = 'data: {\ndata: "a": 1\ndata: }\n\n';
const server = http.createServer((request, response) => {
  response.writeHead(200, { 'Content-Type': 'text/event-stream' });
  response.end(STREAM);
}).listen(0, '127.0.0.1');
await new Promise((resolve) => server.on('listening', resolve));
const url = `http://127.0.0.1:${server.address().port}/`;

const seen = {
  'event-source-plus': await new Promise((resolve) => {
    const controller = new EventSourcePlus(url).listen({ onMessage({ data }) { controller.abort(); resolve(data); } });
  }),
  '@sentool/fetch-event-source': await new Promise((resolve) => {
    fetchEventSource(url, { parseJson: false, onmessage: ({ data }) => resolve(data) });
  }),
  'eventsource-parser': await new Promise((resolve) => {
    createParser({ onEvent: ({ data }) => resolve(data) }).feed(STREAM);
  }),
};
for (const [name, data] of Object.entries(seen)) console.log(`${name}: ${JSON.stringify(data)}`);
const [plus, sentool, parser] = Object.values(seen);
process.exit(plus === '}' && sentool === '}' && parser === '{\n"a": 1\n}' ? 0 : 1);
END
node probe.mjs
