#!/usr/bin/env bash
# A cluster on this machine: PostgreSQL in a temporary directory, three nodes behind nginx, and a plan that runs
# repeatedly. Ctrl-C removes everything.
#
#   examples/cluster/cluster.sh [PORT]
#
# nginx listens on 127.0.0.1 at PORT (8080), the nodes at the next three ports, PostgreSQL at the fourth. Needs PostgreSQL
# (13 or newer), nginx and curl (Debian: apt-get install postgresql nginx curl), and a Rust toolchain, unless STEPCAST is set
# to a program that was built with --features postgres.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=examples/cluster
port=${1:-8080}
nodes=3
engine=$((port + nodes + 1))
export PATH="$PATH:/usr/sbin"

# If PostgreSQL is not in PATH: the newest version that Debian installed.
postgres_bin() {
  if command -v postgres > /dev/null && command -v initdb > /dev/null; then
    dirname "$(command -v initdb)"
  else
    printf '%s\n' /usr/lib/postgresql/*/bin | sort -Vr | head -n 1
  fi
}

bin=$(postgres_bin)
for program in "$bin/initdb" "$bin/postgres" nginx curl; do
  command -v "$program" > /dev/null || { echo "$program is needed: apt-get install postgresql nginx curl" >&2; exit 1; }
done
if [ -z "${STEPCAST:-}" ]; then
  cargo build --release --features postgres
  STEPCAST=${CARGO_TARGET_DIR:-target}/release/stepcast
fi

dir=$(mktemp -d "${TMPDIR:-/tmp}/stepcast-cluster.XXXXXX")
chmod 755 "$dir"
declare -a started=()
leave() {
  trap '' INT TERM
  trap - EXIT
  # The nodes first: at their end they still need their database.
  for ((n = ${#started[@]} - 1; n >= 0; n--)); do
    kill -INT "${started[n]}" 2> /dev/null && wait "${started[n]}" 2> /dev/null
  done
  rm -rf "$dir"
}
trap leave EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# start NAME COMMAND...: starts it in the background with its own log, and in its own session, so that Ctrl-C only reaches this script.
start() {
  local name=$1
  shift
  setsid "$@" > "$dir/$name.log" 2>&1 &
  started+=($!)
}

# wait_for WHAT COMMAND...: repeats the command until it succeeds.
wait_for() {
  local what=$1 tries
  shift
  for ((tries = 0; tries < 300; tries++)); do
    "$@" > /dev/null 2>&1 && return 0
    sleep 0.1
  done
  echo "timed out waiting for $what" >&2
  tail -n 20 "$dir"/*.log >&2
  exit 1
}

# PostgreSQL refuses to run as root. Then it runs as the user that Debian creates for it.
as_postgres=()
if [ "$(id -u)" = 0 ]; then
  as_postgres=(setpriv --reuid=postgres --regid=postgres --clear-groups)
  mkdir "$dir/engine" && chown postgres "$dir/engine"
else
  mkdir "$dir/engine"
fi
(cd / && "${as_postgres[@]}" "$bin/initdb" -D "$dir/engine/data" --auth=trust --encoding=UTF8 --locale=C --username=postgres) \
  > "$dir/initdb.log"
start postgres "${as_postgres[@]}" "$bin/postgres" -D "$dir/engine/data" -c listen_addresses=127.0.0.1 -c port="$engine" \
  -c unix_socket_directories=''
wait_for PostgreSQL grep -q ready "$dir/engine/data/postmaster.pid"

servers=
for ((n = 1; n <= nodes; n++)); do
  NODE=node$n start "node$n" "$STEPCAST" serve --config "$here/stepcast.toml" --listen "127.0.0.1:$((port + n))" \
    --data "postgres://postgres@127.0.0.1:$engine/postgres"
  servers+=" -e s/node$n:8080/127.0.0.1:$((port + n))/"
done
for ((n = 1; n <= nodes; n++)); do
  wait_for "node $n" curl -fsS "http://127.0.0.1:$((port + n))/readyz"
done

# shellcheck disable=SC2086 # One expression per word.
sed $servers -e "s/listen 80;/listen 127.0.0.1:$port;/" "$here/nginx.conf" > "$dir/nginx.conf"
temporary=
for kind in client_body proxy fastcgi uwsgi scgi; do
  temporary+="${kind}_temp_path $dir/$kind; "
done
sed -i "s#^http {#http { access_log off; $temporary#" "$dir/nginx.conf"
start nginx nginx -p "$dir" -c "$dir/nginx.conf" -e stderr -g "daemon off; pid $dir/nginx.pid; error_log stderr warn;"
url=http://127.0.0.1:$port
wait_for nginx curl -fsS "$url/readyz"

cat << SAID

Three nodes at 127.0.0.1:$((port + 1)) to $((port + nodes)), behind nginx: open $url/#/p/demo to watch. In another terminal:

  curl -N $url/api/sse/projects/demo
  $STEPCAST watch demo --url $url
  kill -9 ${started[1]}                 # node 1: its runs continue on another node within 7 seconds; its streams reconnect at once

A plan runs repeatedly in the project "demo" until you press Ctrl-C. The logs of the nodes are in $dir.

SAID

# The same idempotency key until there is a response, so that it is one run, whichever node accepts it.
for ((n = 1; ; n++)); do
  until curl -fsS -o /dev/null "$url/api/projects/demo/workflows" -H 'Content-Type: application/json' \
    -H "Idempotency-Key: $n-$$" -d @"$here/plan.json"; do
    sleep 1
  done
  sleep 12
done
