#!/usr/bin/env bash
# `application/cloudevents+json;charset=utf-8` and `application/cloudevents+json; charset=UTF-8` are one media type, which case
# and optional white space do not change. cloudevents 10.0.0 (npm) compares the header as text: HTTP.toEvent takes
# `application/cloudevents+json` and `application/cloudevents+json; charset=utf-8`, and throws for each other spelling.
# cloudevents 2.2.0 (PyPI, cloudevents.v1.http) takes all of them.
#
# Seen: 2 of 4 spellings are taken by the first, 4 by the second.
# Exits 0 while it is so, 1 once it is not, 2 where it can't be tried.
set -euo pipefail
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && cd "$dir"
npm init -y >/dev/null && npm install --silent --no-audit --no-fund cloudevents@10.0.0 >/dev/null 2>&1 || exit 2
python3 -m venv v && v/bin/python -m pip install -q --disable-pip-version-check cloudevents==2.2.0 || exit 2
cat > types <<'TYPES'
application/cloudevents+json
application/cloudevents+json; charset=utf-8
application/cloudevents+json;charset=utf-8
application/cloudevents+json; charset=UTF-8
TYPES
cat > probe.mjs <<'JS'
import { readFileSync } from 'node:fs';
import { HTTP } from 'cloudevents';

const body = JSON.stringify({ specversion: '1.0', id: '1', source: '/sensors/1', type: 'door.open' });
for (const type of readFileSync('types', 'utf8').trim().split('\n')) {
  let said = 'taken';
  try {
    HTTP.toEvent({ headers: { 'content-type': type }, body });
  } catch (error) {
    said = error.message.split(' application/')[0];
  }
  console.log(`npm: ${type}: ${said}`);
}
JS
cat > probe.py <<'PYTHON'
import json

from cloudevents.v1.http import from_http

body = json.dumps({"specversion": "1.0", "id": "1", "source": "/sensors/1", "type": "door.open"})
for type in open("types").read().splitlines():
    from_http({"content-type": type}, body)
    print(f"PyPI: {type}: taken")
PYTHON
{ node probe.mjs && v/bin/python -W ignore probe.py; } > seen || { cat seen; exit 1; }
cat seen
diff -q seen - >/dev/null <<'SEEN' || exit 1
npm: application/cloudevents+json: taken
npm: application/cloudevents+json; charset=utf-8: taken
npm: application/cloudevents+json;charset=utf-8: invalid content type
npm: application/cloudevents+json; charset=UTF-8: invalid content type
PyPI: application/cloudevents+json: taken
PyPI: application/cloudevents+json; charset=utf-8: taken
PyPI: application/cloudevents+json;charset=utf-8: taken
PyPI: application/cloudevents+json; charset=UTF-8: taken
SEEN
