#!/usr/bin/env bash
# `params` of httpx 0.28.1 (PyPI) do not join the query that a URL has, they replace it: `get("/stream?ticket=T",
# params={"snapshot": 0})` asks for `/stream?snapshot=0`. So do `params` of a Client, for each URL of its requests, and an empty
# `params={}`. requests 2.34.2 and aiohttp 3.14.5 append theirs.
#
# Seen: `snapshot=0` by httpx, `ticket=T&snapshot=0` by the others.
# Exits 0 while it is so, 1 once it is not, 2 where it can't be tried.
set -euo pipefail
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && cd "$dir"
python3 -m venv v && v/bin/python -m pip install -q --disable-pip-version-check \
  httpx==0.28.1 requests==2.34.2 aiohttp==3.14.5 || exit 2
cat > probe.py <<'PYTHON'
import asyncio
import http.server
import threading

import aiohttp
import httpx
import requests


class Echo(http.server.BaseHTTPRequestHandler):
    """Answers with the query of the request."""

    def do_GET(self):
        query = self.path.partition("?")[2].encode() or b"(none)"
        self.send_response(200)
        self.send_header("Content-Length", str(len(query)))
        self.end_headers()
        self.wfile.write(query)

    def log_message(self, *_):
        pass


async def by_aiohttp(url, params):
    async with aiohttp.ClientSession() as session, session.get(url, params=params) as answer:
        return await answer.text()


def by_httpx_client(url, params):
    with httpx.Client(params=params) as client:
        return client.get(url).text


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}/stream?ticket=T"
for name, get in {
    "httpx.get": lambda params: httpx.get(url, params=params).text,
    "httpx.Client": lambda params: by_httpx_client(url, params),
    "requests.get": lambda params: requests.get(url, params=params).text,
    "aiohttp": lambda params: asyncio.run(by_aiohttp(url, params)),
}.items():
    print(f"{name}: {get({'snapshot': 0})}, with no params: {get({})}")
PYTHON
timeout 60 v/bin/python probe.py > seen || { cat seen; exit 1; }
cat seen
diff -q seen - >/dev/null <<'SEEN' || exit 1
httpx.get: snapshot=0, with no params: (none)
httpx.Client: snapshot=0, with no params: ticket=T
requests.get: ticket=T&snapshot=0, with no params: ticket=T
aiohttp: ticket=T&snapshot=0, with no params: ticket=T
SEEN
