#!/bin/sh
# Plain requests with oha: GET /healthz, POST an event (publish), POST a plan (submit).
#
#   loadtest/oha.sh [URL]          http://127.0.0.1:8080 where none is named
#
# Needs: oha (cargo install oha), and a server that runs without tokens and without bounds on what one client may do:
#   stepcast serve --auth none --data none --limits-publish-rate 1000000000
#   submit besides: runs wait in a queue of limits.queued_runs; what is beyond it is answered 429, which oha shows.
# With tokens: TOKEN=... (stepcast token --project load --sub me --ttl 1h --scope "publish run").
# SECONDS_EACH and CONNECTIONS change how long and how many (5, 64).
set -eu
command -v oha >/dev/null || { echo "oha is not installed (cargo install oha)" >&2; exit 77; }
url=${1:-http://127.0.0.1:8080}
for_s=${SECONDS_EACH:-5}
connections=${CONNECTIONS:-64}
token=${TOKEN:-none}
event='{"type":"load","payload":{"text":"0123456789012345678901234567890123456789012345678901234567890123456789"}}'
plan='{"name":"load","steps":[{"id":"a","tool":"echo"},{"id":"b","tool":"echo","dependencies":["a"]},{"id":"c","tool":"echo","dependencies":["b"]}]}'

run() { # what, arguments of oha
    echo "== $1"; shift
    oha --no-tui -z "${for_s}s" -c "$connections" -H "Authorization: Bearer $token" "$@"
}
run "GET /healthz" "$url/healthz"
run "POST events (publish)" -m POST -T application/json -d "$event" "$url/api/projects/load/events"
run "POST workflows (submit)" -m POST -T application/json -d "$plan" "$url/api/projects/load/workflows"
