#!/bin/sh
# A plain node:http server. Needs: node (Debian: apt-get install nodejs).
command -v node >/dev/null || { echo "node is not installed (apt-get install nodejs)" >&2; exit 77; }
[ "${1:-}" = check ] && exit 0
ulimit -n "$(ulimit -Hn)"
exec node --max-semi-space-size=64 "$(dirname "$0")/node.js"
