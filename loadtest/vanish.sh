#!/usr/bin/env bash
# Clients that vanish without a word, as behind a cable that is pulled: how long does the server keep their streams?
# It needs root, for a network namespace of its own. The server: target/release/stepcast, or the first argument.
set -euo pipefail
cd "$(dirname "$0")/.."

server=${1:-target/release/stepcast}
space=stepcast-vanish
here=198.18.77.1
there=198.18.77.2
clients=5

if [ "$(id -u)" != 0 ] || ! command -v ip curl >/dev/null || ! ip netns add "$space" 2>/dev/null; then
  echo "root, ip and curl are needed, and a kernel with network namespaces"
  exit 77
fi

started=()
clean() {
  kill "${started[@]}" 2>/dev/null || true
  ip netns del "$space" || true
  ip link del stepcast-here 2>/dev/null || true
}
trap clean EXIT

ip link add stepcast-here type veth peer name stepcast-there netns "$space"
ip addr add "$here/30" dev stepcast-here
ip link set stepcast-here up
ip netns exec "$space" ip addr add "$there/30" dev stepcast-there
ip netns exec "$space" ip link set stepcast-there up

streams() { curl -s "http://$here:$1/metrics" | sed -n 's/^stepcast_streams //p'; }

# Waits until the server at port $1 has $2 streams; at most $3 seconds.
wait_for() {
  local begun=$SECONDS
  until [ "$(streams "$1")" = "$2" ]; do
    [ $((SECONDS - begun)) -le "$3" ] || { echo "port $1: $(streams "$1") streams, not $2, after $3 s"; return 1; }
    sleep 0.5
  done
}

# With heartbeats something is always on its way; without, only the kernel's probes tell.
declare -A heartbeat=([18771]=5s [18772]=1h)
for port in "${!heartbeat[@]}"; do
  "$server" serve --auth none --insecure --data none --listen "$here:$port" --sse-heartbeat "${heartbeat[$port]}" 2>/dev/null &
  started+=($!)
done
for port in "${!heartbeat[@]}"; do
  for _ in $(seq 50); do curl -s "http://$here:$port/healthz" >/dev/null && break || sleep 0.1; done
  for _ in $(seq "$clients"); do
    ip netns exec "$space" curl -sN "http://$here:$port/api/sse/projects/p" >/dev/null &
    started+=($!)
  done
  wait_for "$port" "$clients" 10
done

ip netns exec "$space" ip link set stepcast-there down
vanished=$SECONDS
# The server's own end stays up, so that nothing but silence tells it.
for port in 18771 18772; do
  wait_for "$port" 0 150
  echo "heartbeat ${heartbeat[$port]}: $clients streams are gone within $((SECONDS - vanished)) s"
done
