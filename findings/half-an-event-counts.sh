#!/usr/bin/env bash
# A stream can end in the middle of an event, as where a server is stopped. An event counts once its empty line is there; the
# rest is to be discarded. sseclient-py 1.9.0 (PyPI) and @langchain/langgraph-sdk 1.15.0 (npm; its SSEDecoder) hand it out: of
# `data: 1234` that is cut off behind `12`, the program gets the number 12, as an event with an id of its own, from which it
# resumes: the whole event never comes. httpx-sse 0.4.3 (PyPI), langgraph-sdk 0.4.14 (PyPI), and eventsource-parser 3.1.1 (npm)
# discard it.
#
# Seen: `[[1, "1"], [12, "2"]]` by the first two, `[[1, "1"]]` by the others.
# Exits 0 while it is so, 1 once it is not, 2 where it can't be tried.
set -euo pipefail
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && cd "$dir"
npm init -y >/dev/null && npm install --silent --no-audit --no-fund @langchain/langgraph-sdk@1.15.0 eventsource-parser@3.1.1 >/dev/null || exit 2
python3 -m venv v && v/bin/python -m pip install -q --disable-pip-version-check \
  sseclient-py==1.9.0 httpx==0.28.1 httpx-sse==0.4.3 langgraph-sdk==0.4.14 || exit 2
printf 'id: 1\ndata: 1\n\nid: 2\ndata: 12' > stream # and 34, and an empty line
cat > probe.mjs <<'JS'
import { readFileSync } from 'node:fs';
import { BytesLineDecoder, SSEDecoder } from '@langchain/langgraph-sdk/utils';
import { EventSourceParserStream } from 'eventsource-parser/stream';

const body = () => new Response(readFileSync('stream')).body;
const streams = {
  'langgraph-sdk (npm)': body().pipeThrough(new BytesLineDecoder()).pipeThrough(new SSEDecoder()),
  'eventsource-parser': body().pipeThrough(new TextDecoderStream()).pipeThrough(new EventSourceParserStream()),
};
for (const [name, events] of Object.entries(streams)) {
  const seen = [];
  for await (const { data, id } of events) seen.push(`[${data}, "${id}"]`);
  console.log(`${name}: [${seen.join(', ')}]`);
}
JS
cat > probe.py <<'PYTHON'
import json

import httpx
import httpx_sse
import sseclient
from langgraph_sdk.sse import BytesLineDecoder, SSEDecoder

stream = open("stream", "rb").read()


def by_httpx():
    response = httpx.Response(200, headers={"Content-Type": "text/event-stream"}, content=stream)
    return httpx_sse.EventSource(response).iter_sse()


def by_langgraph():
    lines, events = BytesLineDecoder(), SSEDecoder()
    return filter(None, map(events.decode, [*lines.decode(stream), *lines.flush()]))


for name, events in {
    "sseclient-py": sseclient.SSEClient(iter([stream])).events(),
    "httpx-sse": by_httpx(),
    "langgraph-sdk (PyPI)": by_langgraph(),
}.items():
    print(f"{name}: {json.dumps([[int(event.data), event.id] for event in events])}")
PYTHON
{ node probe.mjs && v/bin/python probe.py; } > seen || { cat seen; exit 1; }
cat seen
diff -q seen - >/dev/null <<'SEEN' || exit 1
langgraph-sdk (npm): [[1, "1"], [12, "2"]]
eventsource-parser: [[1, "1"]]
sseclient-py: [[1, "1"], [12, "2"]]
httpx-sse: [[1, "1"]]
langgraph-sdk (PyPI): [[1, "1"]]
SEEN
