#!/bin/sh
# DBOS on SQLite, behind Python's own HTTP server. Needs: Python 3.10 or later with venv; pip brings DBOS when the table
# is made (Debian: apt-get install python3-venv).
here=$(cd "$(dirname "$0")" && pwd)/dbos
python=$here/venv/bin/python
command -v python3 >/dev/null || { echo "python3 is not installed (apt-get install python3-venv)" >&2; exit 77; }
if [ "${1:-}" = check ]; then
    "$python" -c 'import dbos' 2>/dev/null || {
        python3 -m venv "$here/venv" && "$here/venv/bin/pip" install --quiet --requirement "$here/requirements.txt"
    } >/dev/null 2>&1
    "$python" -c 'import dbos' 2>/dev/null || { echo "DBOS could not be installed" >&2; exit 77; }
    exit 0
fi
ulimit -n "$(ulimit -Hn)"
DIRECTORY=$(mktemp -d)
export DIRECTORY
# What is left of the data goes when the server has.
(server=$$; while kill -0 "$server" 2>/dev/null; do sleep 1; done; rm -rf "$DIRECTORY") >/dev/null 2>&1 &
exec "$python" "$here/service.py"
