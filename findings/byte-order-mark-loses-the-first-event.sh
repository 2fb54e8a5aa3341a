#!/usr/bin/env bash
# A stream may begin with a byte order mark, which is not part of its first line. Of the Python clients sseclient-py 1.9.0,
# requests-sse 0.5.3, httpx-sse 0.4.3, aiohttp-sse-client2 0.3.0 and launchdarkly-eventsource 1.7.4 each takes it for the
# beginning of a field's name and loses the first event without a word.
#
# Exits 0 while it is so, 1 once it is not, 2 where it can't be tried.
set -euo pipefail
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && cd "$dir"
python3 -m venv v && v/bin/python -m pip install -q --disable-pip-version-check requests==2.34.2 sseclient-py==1.9.0 \
  requests-sse==0.5.3 httpx==0.28.1 httpx-sse==0.4.3 aiohttp==3.14.5 aiohttp-sse-client2==0.3.0 launchdarkly-eventsource==1.7.4 || exit 2
cat > probe.py <<'END'
import asyncio, http.server, sys, threading
import aiohttp_sse_client2.client, httpx, httpx_sse, ld_eventsource, requests, requests_sse, sseclient


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        mark = "\ufeff" if self.path == "/mark" else ""
        body = f"{mark}data: first\n\ndata: second\n\n".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


def by_sseclient(url):
    return sseclient.SSEClient(requests.get(url, stream=True)).events()


def by_requests_sse(url):
    with requests_sse.EventSource(url) as source:
        yield from source


def by_httpx_sse(url):
    with httpx.Client() as client, httpx_sse.connect_sse(client, "GET", url) as source:
        yield from source.iter_sse()


def by_launchdarkly(url):
    with ld_eventsource.SSEClient(url) as client:
        yield from client.events


def by_aiohttp(url):
    async def follow():
        seen = []
        async with aiohttp_sse_client2.client.EventSource(url) as source:
            async for event in source:
                seen.append(event)
                if event.data == "second":
                    return seen
    return asyncio.run(follow())


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
changed = False
for name, client in [("sseclient-py", by_sseclient), ("requests-sse", by_requests_sse), ("httpx-sse", by_httpx_sse),
                     ("aiohttp-sse-client2", by_aiohttp), ("launchdarkly-eventsource", by_launchdarkly)]:
    for path, expected in [("plain", ["first", "second"]), ("mark", ["second"])]:
        seen = []
        for event in client(f"http://127.0.0.1:{server.server_port}/{path}"):
            seen.append(event.data)
            if event.data == "second":
                break
        print(f"{name}, {'with' if path == 'mark' else 'without'} a byte order mark: {' '.join(seen)}")
        changed |= seen != expected
sys.exit(changed)
END
v/bin/python probe.py
