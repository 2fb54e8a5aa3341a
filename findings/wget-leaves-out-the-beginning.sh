#!/usr/bin/env bash
# Where a connection ends in the middle of an answer, wget 1.21.3 (Debian's package wget) asks again, for the bytes behind those
# that it has: `Range: bytes=N-`. A stream of events has no such bytes, and a server answers 200 with a stream that begins anew.
# wget then leaves out the first N bytes of it, without a word, though they are others than those that it had.
#
# Seen: the events `1` and `2` of the first stream, and of `3` to `8` in the second `5` to `8` alone; exit code 0.
# Exits 0 while it is so, 1 once it is not, 2 where it can't be tried.
set -euo pipefail
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && cd "$dir"
command -v wget >/dev/null || { echo "needs wget"; exit 2; }
cat > server.mjs <<'JS'
import { createServer } from 'node:http';

const events = (...numbers) => numbers.map((n) => `data: ${n}\n\n`).join('');
let requests = 0;
const server = createServer((request, response) => {
  requests += 1;
  console.log(`request ${requests}: Range ${request.headers.range ?? 'none'}`);
  response.writeHead(200, { 'Content-Type': 'text/event-stream' });
  // The first stream is cut off, the second ends as streams do.
  if (requests > 1) response.end(events(3, 4, 5, 6, 7, 8));
  else response.write(events(1, 2), () => setTimeout(() => response.destroy(), 200));
}).listen(0, '127.0.0.1', () => console.log(server.address().port));
JS
exec 3< <(exec node server.mjs)
server=$!
trap 'kill $server; rm -rf "$dir"' EXIT
read -r port <&3
wget --version | sed -n 1p
timeout 60 wget --quiet --output-document=- "http://127.0.0.1:$port/" > events || exit 1
kill $server; trap 'rm -rf "$dir"' EXIT
{ cat <&3; grep -o '[0-9]' events | paste -sd' '; } | tee seen
diff -q seen - >/dev/null <<'SEEN' || exit 1
request 1: Range none
request 2: Range bytes=18-
1 2 5 6 7 8
SEEN
