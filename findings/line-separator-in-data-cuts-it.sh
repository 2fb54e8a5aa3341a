#!/usr/bin/env bash
# Lines of an event stream end with CR, LF or both, and with nothing else: U+2028, U+2029 and U+0085 are characters like any
# other, and JSON may hold them as they are. @server-sent-stream/web 1.0.3 cuts an event's data at U+2028 and says nothing.
# requests 2.34.2 takes U+2028, U+2029 and U+0085 for line ends in iter_lines(decode_unicode=True), also with the encoding set
# to UTF-8; iter_lines() without it gives the line whole.
#
# Exits 0 while it is so, 1 once it is not, 2 where it can't be tried.
set -euo pipefail
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && cd "$dir"
npm init -y >/dev/null && npm install --silent --no-audit --no-fund @server-sent-stream/web@1.0.3 >/dev/null || exit 2
python3 -m venv v && v/bin/python -m pip install -q --disable-pip-version-check requests==2.34.2 || exit 2
cat > probe.py <<'END'
import json, sys
import requests
for decode in (True, False):
    answer = requests.get(sys.argv[1], stream=True)
    answer.encoding = "utf-8"
    lines = [line if decode else line.decode() for line in answer.iter_lines(decode_unicode=decode)]
    print(json.dumps(lines))
END
cat > probe.mjs <<'END'
import { execFile } from 'node:child_process';
import http from 'node:http';
import { promisify } from 'node:util';
import EventSourceStream from '@server-sent-stream/web';

const DATA = JSON.stringify({ text: 'a\u2028b\u2029c\u0085d' });
const server = http.createServer((request, response) => {
  response.writeHead(200, { 'Content-Type': 'text/event-stream' });
  response.end(`data: ${DATA}\n\n`);
}).listen(0, '127.0.0.1');
await new Promise((resolve) => server.on('listening', resolve));
const url = `http://127.0.0.1:${server.address().port}/`;
const shown = (text) => JSON.stringify(text).replace(/[\u2028\u2029\u0085]/g, (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, '0')}`);

const stream = (await fetch(url)).body.pipeThrough(new EventSourceStream());
const { value: { data } } = await stream.getReader().read();
console.log(`sent:                    ${shown(DATA)}`);
console.log(`@server-sent-stream/web: ${shown(data)}`);
const { stdout } = await promisify(execFile)('v/bin/python', ['probe.py', url]);
const [decoded, plain] = stdout.trim().split('\n').map((line) => JSON.parse(line));
console.log(`iter_lines, decoded:     ${shown(decoded)}`);
console.log(`iter_lines:              ${shown(plain)}`);
process.exit(data === '{"text":"a' && decoded.length > 2 && plain[0] === `data: ${DATA}` ? 0 : 1);
END
node probe.mjs
