#!/usr/bin/env bash
# event-source-plus 0.1.15 reads `retry:` and does not wait: after a stream that ended it asks again at once, as often as it
# can. A server that sends `retry: 1000` with one event and ends each stream is asked hundreds of times in two seconds, where
# eventsource 3.0.7 asks it twice or three times.
#
# Exits 0 while it is so, 1 once it is not, 2 where it can't be tried.
set -euo pipefail
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && cd "$dir"
npm init -y >/dev/null && npm install --silent --no-audit --no-fund event-source-plus@0.1.15 eventsource@3.0.7 >/dev/null || exit 2
cat > probe.mjs <<'END'
import http from 'node:http';
import { EventSourcePlus } from 'event-source-plus';
import { EventSource } from 'eventsource';

const asked = {};
const server = http.createServer((request, response) => {
  asked[request.url] = (asked[request.url] ?? 0) + 1;
  response.writeHead(200, { 'Content-Type': 'text/event-stream' });
  response.end(`retry: 1000\nid: ${asked[request.url]}\ndata: a\n\n`);
}).listen(0, '127.0.0.1');
await new Promise((resolve) => server.on('listening', resolve));
const url = (name) => `http://127.0.0.1:${server.address().port}/${name}`;

const controller = new EventSourcePlus(url('event-source-plus')).listen({
  onMessage() {
    if (asked['/event-source-plus'] >= 500) controller.abort(); // enough is seen
  },
});
const source = new EventSource(url('eventsource'));
await new Promise((resolve) => setTimeout(resolve, 2000));
controller.abort();
source.close();
console.log('asked within 2 s, with retry: 1000:', asked);
process.exit(asked['/event-source-plus'] >= 20 && asked['/eventsource'] <= 3 ? 0 : 1);
END
node probe.mjs
