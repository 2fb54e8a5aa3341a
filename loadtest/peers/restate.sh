#!/bin/sh
# restate-server with a service of three steps on node. Needs: node 20 or later and npm, which brings both from its
# registry (the server's binary is in its package) when the table is made. It keeps what runs do on disk, as by default.
# The SDK is 1.14: with 1.17.2 on node 20 a call is begun and never answered.
here=$(cd "$(dirname "$0")" && pwd)/restate
modules=$here/node_modules/@restatedev
command -v npm >/dev/null || { echo "node and npm are not installed (apt-get install npm)" >&2; exit 77; }
if [ "${1:-}" = check ]; then
    [ -d "$modules/restate-server" ] && [ -d "$modules/restate-sdk" ] ||
        npm install --prefix "$here" --no-package-lock --no-audit --no-fund --ignore-scripts >/dev/null 2>&1
    binary=$(ls "$modules"/restate-server-*/bin/restate-server 2>/dev/null | head -n 1)
    [ -n "$binary" ] && "$binary" --version >/dev/null 2>&1 ||
        { echo "restate-server could not be installed, or does not run here" >&2; exit 77; }
    exit 0
fi
binary=$(ls "$modules"/restate-server-*/bin/restate-server | head -n 1)
ulimit -n "$(ulimit -Hn)"
directory=$(mktemp -d)
# Ports that are likely free: behind the one that is.
ADMIN_PORT=$((PORT > 60000 ? PORT - 2000 : PORT + 1)) SERVICE_PORT=$((PORT > 60000 ? PORT - 1999 : PORT + 2))
node_port=$((PORT > 60000 ? PORT - 1998 : PORT + 3))
export ADMIN_PORT SERVICE_PORT
# What is left of the data goes when the server has.
(server=$$; while kill -0 "$server" 2>/dev/null; do sleep 1; done; rm -rf "$directory") >/dev/null 2>&1 &
node "$here/service.js" >/dev/null &
export RESTATE_INGRESS__BIND_ADDRESS="127.0.0.1:$PORT" RESTATE_ADMIN__BIND_ADDRESS="127.0.0.1:$ADMIN_PORT"
export RESTATE_BIND_ADDRESS="127.0.0.1:$node_port" RESTATE_ADVERTISED_ADDRESS="http://127.0.0.1:$node_port"
export RESTATE_LISTEN_MODE=tcp RESTATE_BASE_DIR="$directory" RESTATE_DISABLE_TELEMETRY=true RESTATE_LOG_FILTER=error
exec "$binary" --no-logo
