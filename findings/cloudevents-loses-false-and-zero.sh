#!/usr/bin/env bash
# An event in CloudEvents' JSON format whose `data` is `false`, `0` or `""` has no data once cloudevents 10.0.0 (npm) has read
# it with HTTP.toEvent, and none when it is written again. And an event without `time`, which is optional, gets the reader's own,
# another one each time it is read. cloudevents 2.2.0 (PyPI, cloudevents.v1.http) keeps `false` and `0`.
#
# Seen: the lines below; `time: made up` for each.
# Exits 0 while it is so, 1 once it is not, 2 where it can't be tried.
set -euo pipefail
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && cd "$dir"
npm init -y >/dev/null && npm install --silent --no-audit --no-fund cloudevents@10.0.0 >/dev/null 2>&1 || exit 2
python3 -m venv v && v/bin/python -m pip install -q --disable-pip-version-check cloudevents==2.2.0 || exit 2
cat > probe.mjs <<'JS'
import { HTTP } from 'cloudevents';

const headers = { 'content-type': 'application/cloudevents+json' };
for (const data of [true, 1, false, 0, '']) {
  const body = JSON.stringify({ specversion: '1.0', id: '1', source: '/sensors/1', type: 'door.open', data });
  const event = HTTP.toEvent({ headers, body });
  const again = JSON.parse(HTTP.structured(event).body);
  const kept = (one) => ('data' in one ? JSON.stringify(one.data) : 'nothing');
  console.log(`npm: ${JSON.stringify(data)} becomes ${JSON.stringify(event.data) ?? 'nothing'}, then ${kept(again)}; time: ${event.time ? 'made up' : 'none'}`);
}
JS
cat > probe.py <<'PYTHON'
import json

from cloudevents.v1.http import from_http

for data in False, 0:
    body = {"specversion": "1.0", "id": "1", "source": "/sensors/1", "type": "door.open", "data": data}
    event = from_http({"content-type": "application/cloudevents+json"}, json.dumps(body))
    print(f"PyPI: {json.dumps(data)} becomes {json.dumps(event.data)}")
PYTHON
{ node probe.mjs && v/bin/python -W ignore probe.py; } > seen || { cat seen; exit 1; }
cat seen
diff -q seen - >/dev/null <<'SEEN' || exit 1
npm: true becomes true, then true; time: made up
npm: 1 becomes 1, then 1; time: made up
npm: false becomes nothing, then nothing; time: made up
npm: 0 becomes nothing, then nothing; time: made up
npm: "" becomes nothing, then nothing; time: made up
PyPI: false becomes false
PyPI: 0 becomes 0
SEEN
