#!/usr/bin/env bash
# To a server that it does not know yet, Java's java.net.http.HttpClient (OpenJDK 17) offers HTTP/2 with its first request,
# whatever that is: `Connection: Upgrade, HTTP2-Settings`, `Upgrade: h2c`. A server may ignore that. uvicorn 0.54.0 with httptools
# 0.9.0 (PyPI; what `pip install uvicorn[standard]` brings) does, logs a warning, and calls the application with an empty body: of
# a POST of 7 bytes none arrives. uvicorn with h11 0.16.0, and Node's server, have the body, and so has uvicorn where the client asks
# for HTTP/1.1 (`version(HttpClient.Version.HTTP_1_1)`).
#
# Seen: `got 0 bytes` for httptools and HTTP_2, `got 7 bytes` for all others, each with 200.
# Exits 0 while it is so, 1 once it is not, 2 where it can't be tried.
set -euo pipefail
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && cd "$dir"
command -v javac >/dev/null || { echo "needs a JDK 17 or newer, such as Debian's openjdk-17-jdk-headless"; exit 2; }
python3 -m venv v && v/bin/python -m pip install -q --disable-pip-version-check uvicorn==0.54.0 httptools==0.9.0 h11==0.16.0 || exit 2
cat > Probe.java <<'JAVA'
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;

class Probe {
  public static void main(String[] args) throws Exception {
    HttpRequest call = HttpRequest.newBuilder(URI.create(args[1])).POST(HttpRequest.BodyPublishers.ofString("{\"a\":1}")).build();
    for (HttpClient.Version version : HttpClient.Version.values()) {
      HttpClient client = HttpClient.newBuilder().version(version).build();
      HttpResponse<String> answer = client.send(call, HttpResponse.BodyHandlers.ofString());
      System.out.println(args[0] + ", " + version + ": " + answer.statusCode() + " " + answer.body());
    }
    System.exit(0);
  }
}
JAVA
javac Probe.java || exit 2
cat > app.py <<'PYTHON'
import asyncio
import sys

import uvicorn


async def app(scope, receive, send):
    """Answers with the length of the body."""
    length, more = 0, True
    while more:
        message = await receive()
        length += len(message.get("body", b""))
        more = message.get("more_body", False)
    text = f"got {length} bytes".encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", str(len(text)).encode())]})
    await send({"type": "http.response.body", "body": text})


async def main():
    server = uvicorn.Server(uvicorn.Config(app, port=0, http=sys.argv[1], lifespan="off", log_level="error"))
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.05)
    print(server.servers[0].sockets[0].getsockname()[1], flush=True)
    await serving


asyncio.run(main())
PYTHON
cat > node.mjs <<'JS'
import { createServer } from 'node:http';

const server = createServer((request, response) => {
  let length = 0;
  request.on('data', (piece) => { length += piece.length; }).on('end', () => response.end(`got ${length} bytes`));
}).listen(0, '127.0.0.1', () => console.log(server.address().port));
JS
asked() {
  local name=$1 server port
  shift
  exec 3< <(exec "$@")
  server=$!
  trap 'kill $server; rm -rf "$dir"' EXIT
  read -r port <&3
  timeout 60 java -cp . Probe "$name" "http://127.0.0.1:$port/" 2>&1
  kill $server
  trap 'rm -rf "$dir"' EXIT
}
{ asked node node node.mjs; asked uvicorn-h11 v/bin/python app.py h11; asked uvicorn-httptools v/bin/python app.py httptools; } > seen || { cat seen; exit 1; }
cat seen
diff -q seen - >/dev/null <<'SEEN' || exit 1
node, HTTP_1_1: 200 got 7 bytes
node, HTTP_2: 200 got 7 bytes
uvicorn-h11, HTTP_1_1: 200 got 7 bytes
uvicorn-h11, HTTP_2: 200 got 7 bytes
uvicorn-httptools, HTTP_1_1: 200 got 7 bytes
uvicorn-httptools, HTTP_2: 200 got 0 bytes
SEEN
