#!/bin/sh
# Plain requests with wrk: GET /healthz, POST an event (publish), POST a plan (submit).
#
#   loadtest/wrk.sh [URL]          http://127.0.0.1:8080 where none is named
#
# Needs: wrk (apt-get install wrk), and a server that runs without tokens and without bounds on what one client may do:
#   stepcast serve --auth none --data none --limits-publish-rate 1000000000
#   submit besides: runs wait in a queue of limits.queued_runs; what is beyond it is answered 429, which wrk counts as
#   "Non-2xx or 3xx responses".
# With tokens: TOKEN=... (stepcast token --project load --sub me --ttl 1h --scope "publish run").
# SECONDS_EACH and CONNECTIONS change how long and how many (5, 64).
set -eu
command -v wrk >/dev/null || { echo "wrk is not installed (apt-get install wrk)" >&2; exit 77; }
url=${1:-http://127.0.0.1:8080}
script=$(mktemp)
trap 'rm -f "$script"' EXIT
event='{"type":"load","payload":{"text":"0123456789012345678901234567890123456789012345678901234567890123456789"}}'
plan='{"name":"load","steps":[{"id":"a","tool":"echo"},{"id":"b","tool":"echo","dependencies":["a"]},{"id":"c","tool":"echo","dependencies":["b"]}]}'

run() { # what, method, path, body
    echo "== $1"
    {
        echo "wrk.method = \"$2\""
        echo "wrk.headers[\"Authorization\"] = \"Bearer ${TOKEN:-none}\""
        [ -z "$4" ] || { echo 'wrk.headers["Content-Type"] = "application/json"'; echo "wrk.body = [[$4]]"; }
    } > "$script"
    wrk -t1 -c"${CONNECTIONS:-64}" -d"${SECONDS_EACH:-5}s" --latency -s "$script" "$url$3"
}
run "GET /healthz" GET /healthz ""
run "POST events (publish)" POST /api/projects/load/events "$event"
run "POST workflows (submit)" POST /api/projects/load/workflows "$plan"
