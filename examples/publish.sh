#!/bin/sh
# Publishes a message to everyone who follows a project: examples/publish.sh [PROJECT [TEXT]]
# Choose any type in lower case, except workflow_*, stream_* and connected*, which are reserved. With auth.mode = "jwt",
# set TOKEN to the output of `stepcast token --project PROJECT --sub me --scope publish`.
set -eu
url=${STEPCAST_URL:-http://127.0.0.1:8080} project=${1:-demo} text=${2:-hello from the shell}

# Quotes and backslashes of the text are escaped for JSON.
text=$(printf '%s' "$text" | tr '\n' ' ' | sed 's/[\\"]/\\&/g')
curl -sS --fail-with-body "$url/api/projects/$project/events" \
  -H "Content-Type: application/json" ${TOKEN:+-H "Authorization: Bearer $TOKEN"} \
  -d "{\"type\": \"note\", \"payload\": {\"text\": \"$text\"}}"
echo
