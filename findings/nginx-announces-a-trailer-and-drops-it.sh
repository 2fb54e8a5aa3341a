#!/usr/bin/env bash
# An answer in chunks may end with trailers, named before in its header `Trailer`. nginx 1.22.1 (Debian 12) passes that header
# on from the server behind it, and not the trailer: a client is told to expect what never comes. caddy 2.6.2 (Debian 12) passes both.
#
# Seen: `announced: X-Checksum, came: nothing` through nginx, `came: abc` through caddy.
# Exits 0 while it is so, 1 once it is not, 2 where it can't be tried.
set -euo pipefail
PATH=$PATH:/usr/sbin
command -v nginx caddy >/dev/null || { echo "needs Debian's packages nginx and caddy"; exit 2; }
dir=$(mktemp -d) && cd "$dir"
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true; wait; rm -rf "$dir"' EXIT
cat > server.mjs <<'JS'
// Prints its port, and two more that are free just now.
import { createServer } from 'node:http';
import { createServer as createListener } from 'node:net';

const server = createServer((request, response) => {
  response.writeHead(200, { 'Content-Type': 'text/plain', Trailer: 'X-Checksum' });
  response.write('text');
  response.addTrailers({ 'X-Checksum': 'abc' });
  response.end();
}).listen(0, '127.0.0.1', async () => {
  const listeners = [1, 2].map(() => createListener().listen(0, '127.0.0.1'));
  await Promise.all(listeners.map((one) => new Promise((resolve) => one.on('listening', resolve))));
  const ports = [server, ...listeners].map((one) => one.address().port);
  await Promise.all(listeners.map((one) => new Promise((resolve) => one.close(resolve))));
  console.log(ports.join(' '));
});
JS
exec 3< <(exec node server.mjs)
pids+=($!)
read -r server nginx caddy <&3
cat > nginx.conf <<CONF
daemon off; pid $dir/pid; error_log stderr;
events {}
http {
  access_log off;
  client_body_temp_path $dir/b; proxy_temp_path $dir/p; fastcgi_temp_path $dir/f; uwsgi_temp_path $dir/u; scgi_temp_path $dir/s;
  server { listen 127.0.0.1:$nginx; location / { proxy_pass http://127.0.0.1:$server; proxy_http_version 1.1; } }
}
CONF
printf '{\n  admin off\n  auto_https off\n}\nhttp://127.0.0.1:%s {\n  reverse_proxy 127.0.0.1:%s\n}\n' "$caddy" "$server" > Caddyfile
nginx -e stderr -c "$dir/nginx.conf" 2>nginx.log & pids+=($!)
HOME=$dir caddy run --config Caddyfile --adapter caddyfile 2>caddy.log & pids+=($!)
cat > probe.mjs <<'JS'
import { get } from 'node:http';
import { setTimeout as later } from 'node:timers/promises';

const ask = (port) => new Promise((resolve, reject) => {
  get({ port, host: '127.0.0.1', headers: { TE: 'trailers' } }, (answer) => {
    answer.resume().on('end', () => resolve(answer));
  }).on('error', reject);
});
async function once(port) {
  for (let tries = 0; ; tries += 1) {
    try {
      return await ask(port);
    } catch (error) {
      if (tries === 100) throw error;
      await later(100); // the proxy is not there yet
    }
  }
}
for (const [at, name] of ['without a proxy', 'nginx', 'caddy'].entries()) {
  const { headers, trailers } = await once(process.argv[2 + at]);
  console.log(`${name}: announced: ${headers.trailer}, came: ${trailers['x-checksum'] ?? 'nothing'}`);
}
JS
nginx -v 2>&1 && caddy version
node probe.mjs "$server" "$nginx" "$caddy" > seen || { cat seen; exit 2; }
cat seen
diff -q seen - >/dev/null <<'SEEN' || exit 1
without a proxy: announced: X-Checksum, came: abc
nginx: announced: X-Checksum, came: nothing
caddy: announced: X-Checksum, came: abc
SEEN
