#!/usr/bin/env bash
# A proxy that compresses an answer changes its strong `ETag: "v1"`: nginx 1.22.1 and HAProxy 2.6.12 make it a weak one, `W/"v1"`,
# and Apache 2.4.71 another one, `"v1-gzip"`. They do not change it back in `If-Match`: who reads a document through them and writes
# it with `If-Match: ` and the tag that came with it is refused with 412 for ever, by a server that compares as RFC 9110 says.
# `If-None-Match` is not changed back either; a weak tag is as good there, but Apache's is never known. Caddy 2.6.2 leaves tags alone.
# (Debian 12's packages nginx, haproxy, apache2, caddy.)
#
# Exits 0 while it is so, 1 once it is not, 2 where it can't be tried.
set -euo pipefail
PATH=$PATH:/usr/sbin
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && cd "$dir"
for program in nginx haproxy apache2 caddy curl node; do
  command -v "$program" >/dev/null || { echo "needs Debian's packages nginx, haproxy, apache2 and caddy, curl and Node"; exit 2; }
done
cat > server.mjs <<'JS'
// A document with the tag "v1", and an answer that tells the conditions that came.
import { createServer } from 'node:http';

const server = createServer((request, response) => {
  request.resume();
  const { 'if-match': match, 'if-none-match': noneMatch } = request.headers;
  if (request.method !== 'GET') return response.end(match ?? noneMatch ?? 'none');
  response.writeHead(200, { ETag: '"v1"', 'Content-Type': 'application/json' }).end(JSON.stringify('x'.repeat(4000)));
}).listen(0, '127.0.0.1', () => console.log(server.address().port));
JS
cat > free.mjs <<'JS'
import { createServer } from 'node:net';

const server = createServer().listen(0, '127.0.0.1', () => { console.log(server.address().port); server.close(); });
JS
exec 3< <(exec node server.mjs)
started=$!
trap 'kill $started 2>/dev/null; rm -rf "$dir"' EXIT
read -r server <&3
for proxy in nginx haproxy apache caddy; do declare "$proxy=$(node free.mjs)"; done
mkdir n
cat > nginx.conf <<NGINX
daemon off; pid $dir/n/pid; error_log stderr;
events {}
http {
  access_log off; client_body_temp_path $dir/n/1; proxy_temp_path $dir/n/2;
  fastcgi_temp_path $dir/n/3; uwsgi_temp_path $dir/n/4; scgi_temp_path $dir/n/5;
  gzip on; gzip_proxied any; gzip_types application/json;
  server { listen 127.0.0.1:$nginx; location / { proxy_pass http://127.0.0.1:$server; proxy_http_version 1.1; } }
}
NGINX
cat > haproxy.cfg <<HAPROXY
defaults
  mode http
  timeout connect 5s
  timeout client 30s
  timeout server 30s
listen all
  bind 127.0.0.1:$haproxy
  compression algo gzip
  compression type application/json
  server one 127.0.0.1:$server
HAPROXY
{
  echo "ServerRoot /usr/lib/apache2"
  for module in mpm_event authz_core proxy proxy_http filter deflate; do echo "LoadModule ${module}_module modules/mod_$module.so"; done
  [ "$(id -u)" != 0 ] || printf 'User nobody\nGroup nogroup\n'
  cat <<APACHE
ServerName localhost
Listen 127.0.0.1:$apache
PidFile $dir/apache.pid
DefaultRuntimeDir $dir
ErrorLog $dir/apache.log
AddOutputFilterByType DEFLATE application/json
ProxyPass / http://127.0.0.1:$server/
APACHE
} > apache.conf
cat > Caddyfile <<CADDY
{
	admin off
}
http://127.0.0.1:$caddy {
	encode gzip
	reverse_proxy 127.0.0.1:$server
}
CADDY
nginx -p "$dir/n" -c "$dir/nginx.conf" 2>nginx.log & started+=" $!"
haproxy -f haproxy.cfg >haproxy.log 2>&1 & started+=" $!"
apache2 -f "$dir/apache.conf" -DFOREGROUND >apache.out 2>&1 & started+=" $!"
HOME=$dir XDG_DATA_HOME=$dir XDG_CONFIG_HOME=$dir caddy run --adapter caddyfile --config Caddyfile >caddy.log 2>&1 & started+=" $!"
for proxy in nginx haproxy apache caddy; do
  url="http://127.0.0.1:${!proxy}/"
  curl -sf --retry 50 --retry-connrefused --retry-delay 1 --max-time 60 -o /dev/null "$url" || { cat -- *.log; exit 2; }
  tag=$(curl -sf --compressed -D - -o /dev/null "$url" | tr -d '\r' | sed -n 's/^etag: //Ip')
  echo "$proxy: ETag $tag, If-Match $(curl -sf -X PUT -H "If-Match: $tag" "$url"), If-None-Match $(curl -sf -X PUT -H "If-None-Match: $tag" "$url")"
done > seen
nginx -v 2>&1; haproxy -v | sed -n 1p; apache2 -v | sed -n 1p; caddy version
cat seen
diff -q seen - >/dev/null <<'SEEN' || exit 1
nginx: ETag W/"v1", If-Match W/"v1", If-None-Match W/"v1"
haproxy: ETag W/"v1", If-Match W/"v1", If-None-Match W/"v1"
apache: ETag "v1-gzip", If-Match "v1-gzip", If-None-Match "v1-gzip"
caddy: ETag "v1", If-Match "v1", If-None-Match "v1"
SEEN
