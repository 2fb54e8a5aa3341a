#!/bin/sh
# nginx with nchan. Needs: apt-get install nginx libnginx-mod-nchan (the service that this starts can be stopped).
module=/usr/lib/nginx/modules/ngx_nchan_module.so
PATH=$PATH:/usr/sbin
command -v nginx >/dev/null && [ -e "$module" ] || {
    echo "nginx with nchan is not installed (apt-get install nginx libnginx-mod-nchan)" >&2; exit 77; }
[ "${1:-}" = check ] && exit 0
ulimit -n "$(ulimit -Hn)"
directory=$(mktemp -d)
# What is left of it is removed when nginx has opened its files.
(sleep 5; rm -rf "$directory") >/dev/null 2>&1 &
ping=
[ "${HEARTBEAT_S:-0}" != 0 ] && ping="nchan_eventsource_ping_interval $HEARTBEAT_S;"
cat > "$directory/nginx.conf" <<CONF
load_module $module;
daemon off;
# One process, as for all others here; what is measured is the worker.
master_process off;
pid $directory/nginx.pid;
error_log stderr error;
worker_rlimit_nofile $(ulimit -Hn);
events { worker_connections 19500; multi_accept on; use epoll; }
http {
    access_log off;
    tcp_nodelay on;
    keepalive_requests 1000000000;
    keepalive_timeout 3600s;
    client_body_buffer_size 64k;
    client_body_in_single_buffer on;
    client_body_temp_path $directory/body;
    proxy_temp_path $directory/proxy;
    fastcgi_temp_path $directory/fastcgi;
    uwsgi_temp_path $directory/uwsgi;
    scgi_temp_path $directory/scgi;
    nchan_shared_memory_size 512M;
    nchan_message_buffer_length 1000;
    nchan_message_timeout 1h;
    server {
        listen 127.0.0.1:$PORT backlog=4096;
        location = /healthz { default_type application/json; return 200 '{"status":"ok"}'; }
        location ~ ^/api/sse/projects/([^/]+)\$ {
            nchan_subscriber eventsource;
            nchan_channel_id \$1;
            nchan_subscriber_first_message newest;
            nchan_subscriber_timeout 0;
            $ping
        }
        location ~ ^/api/projects/([^/]+)/events\$ {
            nchan_publisher http;
            nchan_channel_id \$1;
        }
    }
}
CONF
exec nginx -p "$directory" -c "$directory/nginx.conf"
