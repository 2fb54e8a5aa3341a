#!/usr/bin/env bash
# http-proxy 1.18.1 (npm), also in http-proxy-middleware 2.0.9, which webpack-dev-server 5 uses, does not end its request to the
# server when the client of it leaves in the middle of the answer (on Node 20). Each reload of a page leaves a stream of
# events open at the server, until the proxy is stopped. http-proxy-3 1.23.3 (in Vite since 7.1), httpxy 0.5.6 and
# http-proxy-middleware 3.0.11 end it.
#
# Seen: 3 streams open after 3 clients have left, by the first two; 0 by the others.
# Exits 0 while it is so, 1 once it is not, 2 where it can't be tried.
set -euo pipefail
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && cd "$dir"
npm init -y >/dev/null && npm install --silent --no-audit --no-fund http-proxy@1.18.1 http-proxy-3@1.23.3 httpxy@0.5.6 \
  middleware2@npm:http-proxy-middleware@2.0.9 middleware3@npm:http-proxy-middleware@3.0.11 >/dev/null || exit 2
cat > probe.mjs <<'JS'
import { once } from 'node:events';
import { createServer, get } from 'node:http';
import { setTimeout as later } from 'node:timers/promises';
import httpProxy from 'http-proxy';
import httpProxy3 from 'http-proxy-3';
import { createProxyServer } from 'httpxy';
import middleware2 from 'middleware2';
import middleware3 from 'middleware3';

const listening = async (server) => {
  await once(server.listen(0, '127.0.0.1'), 'listening');
  return server.address().port;
};
let open = 0;
const events = createServer((request, response) => {
  open += 1;
  response.on('close', () => { open -= 1; });
  response.writeHead(200, { 'Content-Type': 'text/event-stream' }).write('data: 1\n\n');
});
const target = `http://127.0.0.1:${await listening(events)}`;
const calm = (proxy) => proxy.on('error', () => {});
const web = (proxy) => (request, response) => proxy.web(request, response)?.catch?.(() => {});
const handlers = {
  'http-proxy': web(calm(httpProxy.createProxyServer({ target }))),
  'http-proxy-middleware 2': middleware2.createProxyMiddleware({ target, logLevel: 'silent' }),
  'http-proxy-3': web(calm(httpProxy3.createProxyServer({ target }))),
  httpxy: web(calm(createProxyServer({ target }))),
  'http-proxy-middleware 3': middleware3.createProxyMiddleware({ target }),
};
const left = [];
for (const [name, handler] of Object.entries(handlers)) {
  const port = await listening(createServer((request, response) => handler(request, response, () => response.writeHead(404).end())));
  const before = open;
  for (let n = 0; n < 3; n += 1) {
    const client = get({ host: '127.0.0.1', port, path: '/stream', agent: false });
    client.on('error', () => {});
    const [response] = await once(client, 'response');
    response.on('error', () => {});
    await once(response, 'data');
    client.destroy();
  }
  // Those that end theirs do so at once; they are given ten seconds.
  for (let waits = 100; waits > 0 && open > before; waits -= 1) await later(100);
  console.log(`${name}: ${open - before} streams open after 3 clients have left`);
}
process.exit(0);
JS
timeout 120 node probe.mjs > seen 2> errors || { cat seen errors; exit 1; }
cat seen
diff -q seen - >/dev/null <<'SEEN' || exit 1
http-proxy: 3 streams open after 3 clients have left
http-proxy-middleware 2: 3 streams open after 3 clients have left
http-proxy-3: 0 streams open after 3 clients have left
httpxy: 0 streams open after 3 clients have left
http-proxy-middleware 3: 0 streams open after 3 clients have left
SEEN
