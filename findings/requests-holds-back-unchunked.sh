#!/usr/bin/env bash
# requests 2.34.2 reads an answer that ends with its connection in blocks (iter_lines: 512 bytes, iter_content as
# sseclient-py uses it: 128), and gives nothing on before a block is full. So the last event before a silence is held back
# until later bytes push it out: with plain iter_lines, with sseclient-py 1.9.0 and with requests-sse 0.5.3. The same events
# in chunks (Transfer-Encoding: chunked) are there at once.
#
# Exits 0 while it is so, 1 once it is not, 2 where it can't be tried.
set -euo pipefail
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && cd "$dir"
python3 -m venv v && v/bin/python -m pip install -q --disable-pip-version-check \
  requests==2.34.2 urllib3==2.8.0 sseclient-py==1.9.0 requests-sse==0.5.3 || exit 2
cat > probe.py <<'END'
import socket, sys, threading
import requests, requests_sse, sseclient

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"


class Server:
    """Sends one event, and the second one only when the client has the first, or after a second of silence."""

    def __init__(self, chunked):
        self.chunked, self.seen, self.in_time = chunked, threading.Event(), None
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = "http://127.0.0.1:%d/" % self.socket.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        client, _ = self.socket.accept()
        while not client.recv(65536).endswith(b"\r\n\r\n"):
            pass
        client.sendall(HEAD + (b"Transfer-Encoding: chunked\r\n\r\n" if self.chunked else b"Connection: close\r\n\r\n"))
        self.send(client, b"data: first\n\n")
        self.in_time = self.seen.wait(1)
        self.send(client, b"data: second\n\n")
        client.sendall(b"0\r\n\r\n" if self.chunked else b"")
        client.close()

    def send(self, client, event):
        client.sendall(b"%x\r\n%s\r\n" % (len(event), event) if self.chunked else event)


def iter_lines(url):
    for line in requests.get(url, stream=True).iter_lines():
        if line.startswith(b"data: "):
            yield line[6:].decode()


def by_sseclient(url):
    for event in sseclient.SSEClient(requests.get(url, stream=True)).events():
        yield event.data


def by_requests_sse(url):
    with requests_sse.EventSource(url) as source:
        for event in source:
            yield event.data


changed = False
for name, client in [("iter_lines", iter_lines), ("sseclient-py", by_sseclient), ("requests-sse", by_requests_sse)]:
    for chunked in (False, True):
        server = Server(chunked)
        for data in client(server.url):
            if data == "first":
                server.seen.set()
            if data == "second":
                break
        told = "at once" if server.in_time else "held back until the second was sent"
        print(f"{name}, {'chunked' if chunked else 'until the connection ends'}: the first event is {told}")
        changed |= server.in_time != chunked
sys.exit(changed)
END
v/bin/python probe.py
