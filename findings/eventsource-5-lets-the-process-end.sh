#!/usr/bin/env bash
# The timer with which eventsource 5.1.5 waits to reconnect does not keep Node alive. A program that does nothing but follow a
# stream ends at the first interruption, with exit code 0 and nothing said, in the middle of the wait that `retry:` asked for.
# With eventsource 3.0.7 the same program reconnects. On Node 22.23.3, as eventsource 5 wants 22.12 or later.
#
# Exits 0 while it is so, 1 once it is not, 2 where it can't be tried.
set -euo pipefail
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && cd "$dir"
npm init -y >/dev/null && npm install --silent --no-audit --no-fund \
  node@22.23.3 eventsource3@npm:eventsource@3.0.7 eventsource5@npm:eventsource@5.1.5 >/dev/null 2>&1 || exit 2
cat > follow.mjs <<'END'
const [name, url] = process.argv.slice(2);
const { EventSource } = await import(name);
const source = new EventSource(url);
source.onmessage = ({ data }) => {
  console.log(data);
  if (data === 'second') source.close();
};
END
cat > probe.mjs <<'END'
import { spawn } from 'node:child_process';
import http from 'node:http';

// The first stream ends after its event; a second one is there for whoever comes back.
const asked = {};
const server = http.createServer((request, response) => {
  asked[request.url] = (asked[request.url] ?? 0) + 1;
  response.writeHead(200, { 'Content-Type': 'text/event-stream' });
  response.end(`retry: 300\ndata: ${asked[request.url] === 1 ? 'first' : 'second'}\n\n`);
}).listen(0, '127.0.0.1');
await new Promise((resolve) => server.on('listening', resolve));

const seen = {};
for (const name of ['eventsource3', 'eventsource5']) {
  const child = spawn(process.execPath, ['follow.mjs', name, `http://127.0.0.1:${server.address().port}/${name}`]);
  let out = '';
  child.stdout.on('data', (text) => { out += text; });
  const code = await new Promise((resolve) => child.on('close', resolve));
  seen[name] = out.trim().split('\n').join(' ');
  console.log(`${name}: asked ${asked[`/${name}`]} times, saw "${seen[name]}", exit code ${code}`);
}
process.exit(seen.eventsource3 === 'first second' && seen.eventsource5 === 'first' ? 0 : 1);
END
node_modules/.bin/node probe.mjs
