#!/bin/sh
# Publishes a message to everyone who follows a project: examples/publish.sh [PROJECT [TEXT]]
# The type is yours, in small letters; workflow_*, stream_* and connected* are the server's. With auth.mode = "jwt",
# set TOKEN to the output of `stepcast token --project PROJECT --sub me --scope publish`.
set -eu
url=${STEPCAST_URL:-http://127.0.0.1:8080} project=${1:-demo} text=${2:-hello from the shell}

# The text goes into the JSON with its quotes and backslashes escaped.
text=$(printf '%s' "$text" | tr '\n' ' ' | sed 's/[\\"]/\\&/g')
curl -sS --fail-with-body "$url/api/projects/$project/events" \
  -H "Content-Type: application/json" ${TOKEN:+-H "Authorization: Bearer $TOKEN"} \
  -d "{\"type\": \"note\", \"payload\": {\"text\": \"$text\"}}"
echo
